//! Which entries lie under the roots, in the order of a snapshot?
//!
//! Depth first, the names of each directory sorted by their bytes: that is the order of [`EntryPath`]. One `lstat` an
//! entry. The descent is a list on the heap, and only its deepest directories stay open; a directory that was closed on
//! the way down is opened again on the way up as `..` of its child and compared with what it was, so a walk of any depth
//! needs few descriptors and no path longer than a name.

use std::collections::VecDeque;
use std::ffi::OsStr;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

use rustix::fs::{Mode, OFlags, RawDir, fstat, openat};
use rustix::io::{self, Errno};

use super::confined::{Place, has_unstable_inode};
use super::longpath::{LongPath, stat_beneath};
use super::roots::{Root, merge_roots};
use super::stat::Stat;
use crate::error::{Error, Result};
use crate::format::entry::{EntryKind, EntryPath};

/// How many directories a walk keeps open at once.
const OPEN_DIRECTORIES_MAX: usize = 16;

/// Bytes of directory listing asked for at once.
const LISTING_BYTES: usize = 64 << 10;

const DIRECTORY: OFlags =
    OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::NONBLOCK).union(OFlags::CLOEXEC);

/// What a walk passes over.
#[derive(Debug, Clone, Default)]
pub struct WalkOptions {
    /// Directories left out with all that is in them, as (device, inode): the store's own.
    pub skip: Vec<(u64, u64)>,
}

/// One entry a walk met.
#[derive(Debug, Clone)]
pub struct WalkedEntry {
    /// Its path in the snapshot.
    pub path: EntryPath,
    /// Where it is; may be longer than the system takes in one call.
    pub disk: PathBuf,
    /// What it was when the walk met it.
    pub stat: Stat,
    /// How many bytes of `disk` are the root under which it was found.
    pub(super) root_bytes: usize,
}

impl WalkedEntry {
    /// Whether it is a root itself.
    #[must_use]
    pub fn is_root(&self) -> bool {
        self.place().is_root()
    }

    pub(super) fn place(&self) -> Place<'_> {
        Place { disk: &self.disk, root_bytes: self.root_bytes }
    }
}

/// One step of a walk.
#[derive(Debug)]
pub enum Walked {
    /// An entry.
    Entry(WalkedEntry),
    /// An entry that could not be looked at, or a directory (already reported as an entry) that could not be listed to its end.
    Failed {
        /// Its path in the snapshot.
        path: EntryPath,
        /// Why; names the place on disk.
        error: Error,
    },
    /// Something to know, by which nothing is lost.
    Noted {
        /// The path in the snapshot at which the walk is.
        path: EntryPath,
        /// Which place on disk it is about.
        disk: PathBuf,
        /// What it is.
        notice: Notice,
    },
}

/// Something about an entry to know, by which nothing is lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Notice {
    /// It was listed, and removed before the walk looked at it.
    Vanished,
    /// Its directory lists it more than once.
    ListedTwice,
}

/// An iterator over all entries under some roots.
#[derive(Debug)]
pub struct Walk {
    roots: std::vec::IntoIter<Root>,
    options: WalkOptions,
    /// The directories from the current root down to where the walk is.
    levels: Vec<Level>,
    /// A directory that was handed out and is to be entered next.
    entering: Option<WalkedEntry>,
    /// What is to be handed out before the walk goes on.
    pending: VecDeque<Walked>,
    listing: Vec<u8>,
}

#[derive(Debug)]
struct Level {
    /// Open at the last level, and at those close above it.
    fd: Option<OwnedFd>,
    directory: WalkedEntry,
    names: std::vec::IntoIter<Box<[u8]>>,
}

impl Walk {
    /// Plans a walk. Roots may come in any order, twice, or one inside the other. A root that does not exist comes out
    /// as [`Walked::Failed`]; one that is a symbolic link is found as that.
    ///
    /// # Errors
    /// [`Error::Usage`] if two different places would get the same path.
    pub fn new(roots: Vec<Root>, options: WalkOptions) -> Result<Self> {
        Ok(Self {
            roots: merge_roots(roots)?.into_iter(),
            options,
            levels: Vec::new(),
            entering: None,
            pending: VecDeque::new(),
            listing: Vec::with_capacity(LISTING_BYTES),
        })
    }

    /// Opens and lists a directory that was just handed out.
    fn enter(&mut self, directory: WalkedEntry) {
        let opened = match self.levels.last() {
            Some(Level { fd: Some(parent), .. }) => {
                io::retry_on_intr(|| openat(parent, directory.path.name(), DIRECTORY, Mode::empty()))
            }
            _ => LongPath::new(&directory.disk).and_then(|long_path| long_path.open(DIRECTORY)),
        };
        let fd = match opened {
            Ok(fd) => fd,
            Err(Errno::NOENT | Errno::STALE) if !directory.is_root() => {
                let WalkedEntry { path, disk, .. } = directory;
                return self.pending.push_back(Walked::Noted { path, disk, notice: Notice::Vanished });
            }
            Err(errno) => return self.fail(directory.path, Error::io("list", directory.disk, errno)),
        };
        let mut names = Vec::new();
        if let Err(errno) = list(&fd, &mut self.listing, &mut names) {
            self.fail(directory.path.clone(), Error::io("list", &directory.disk, errno));
        }
        names.sort_unstable();
        if names.windows(2).any(|pair| pair.first() == pair.last()) {
            self.drop_repeated(&directory, &mut names);
        }
        self.levels.push(Level { fd: Some(fd), directory, names: names.into_iter() });
        let far = self.levels.len().checked_sub(OPEN_DIRECTORIES_MAX + 1);
        if let Some(level) = far.and_then(|far| self.levels.get_mut(far)) {
            level.fd = None;
        }
    }

    /// Keeps each name once, and says which ones came more often.
    fn drop_repeated(&mut self, directory: &WalkedEntry, names: &mut Vec<Box<[u8]>>) {
        let mut repeated: Vec<Box<[u8]>> = Vec::new();
        names.dedup_by(|later, kept| {
            let is_repeated = later == kept;
            if is_repeated && repeated.last() != Some(kept) {
                repeated.push(kept.clone());
            }
            is_repeated
        });
        let noted = repeated.iter().map(|name| Walked::Noted {
            path: directory.path.clone(),
            disk: directory.disk.join(OsStr::from_bytes(name)),
            notice: Notice::ListedTwice,
        });
        self.pending.extend(noted);
    }

    /// Leaves the last level and makes sure that the one above it is open.
    fn leave(&mut self) {
        let Some(left) = self.levels.pop() else { return };
        let Some(level) = self.levels.last_mut() else { return };
        if level.fd.is_some() {
            return;
        }
        let through_child = left.fd.and_then(|fd| openat(fd, c"..", DIRECTORY, Mode::empty()).ok());
        let directory = &level.directory;
        let same = |fd: &OwnedFd| {
            fstat(fd).is_ok_and(|stat| Stat::from_system(&stat).is_some_and(|now| now.is_same_file(&directory.stat)))
        };
        level.fd = through_child.filter(same).or_else(|| {
            // The child was moved meanwhile, or could not be entered.
            directory.place().open(DIRECTORY).ok().filter(|fd| same(fd) || has_unstable_inode(fd))
        });
        if level.fd.is_none() {
            let moved = std::io::Error::other("it was moved or replaced while it was read");
            let (path, error) = (directory.path.clone(), Error::io("list", &directory.disk, moved));
            level.names = Vec::new().into_iter();
            self.fail(path, error);
        }
    }

    /// Looks at the next name of the last level.
    fn visit(&mut self, name: &[u8]) -> Option<Walked> {
        let level = self.levels.last()?;
        let directory = &level.directory;
        let disk = directory.disk.join(OsStr::from_bytes(name));
        let path = match directory.path.join(name) {
            Ok(path) => path,
            Err(odd) => {
                let error = Error::io("store", disk, std::io::Error::other(odd));
                return Some(Walked::Failed { path: directory.path.clone(), error });
            }
        };
        let stat = match &level.fd {
            Some(fd) => stat_beneath(fd.as_fd(), name),
            None => Err(Errno::BADF),
        };
        let root_bytes = directory.root_bytes;
        self.met(path, disk, root_bytes, stat)
    }

    /// Decides what becomes of an entry.
    fn met(&mut self, path: EntryPath, disk: PathBuf, root_bytes: usize, stat: io::Result<Stat>) -> Option<Walked> {
        let stat = match stat {
            Ok(stat) => stat,
            Err(Errno::NOENT | Errno::STALE) if disk.as_os_str().len() > root_bytes => {
                return Some(Walked::Noted { path, disk, notice: Notice::Vanished });
            }
            Err(errno) => return Some(Walked::Failed { path, error: Error::io("read", disk, errno) }),
        };
        // Where inode numbers are not unique, a file may have that of the store.
        let is_directory = stat.kind == EntryKind::Directory;
        if is_directory && self.options.skip.contains(&(stat.identity.device, stat.identity.inode)) {
            return None;
        }
        let found = WalkedEntry { path, disk, stat, root_bytes };
        if is_directory {
            self.entering = Some(found.clone());
        }
        Some(Walked::Entry(found))
    }

    fn fail(&mut self, path: EntryPath, error: Error) {
        self.pending.push_back(Walked::Failed { path, error });
    }
}

impl Iterator for Walk {
    type Item = Walked;

    fn next(&mut self) -> Option<Walked> {
        loop {
            if let Some(directory) = self.entering.take() {
                self.enter(directory);
            }
            if let Some(pending) = self.pending.pop_front() {
                return Some(pending);
            }
            let step = match self.levels.last_mut() {
                Some(level) => match level.names.next() {
                    Some(name) => self.visit(&name),
                    None => {
                        self.leave();
                        None
                    }
                },
                None => {
                    let root = self.roots.next()?;
                    let stat = LongPath::new(&root.disk).and_then(|long_path| long_path.stat());
                    let root_bytes = root.disk.as_os_str().len();
                    self.met(root.path, root.disk, root_bytes, stat)
                }
            };
            if step.is_some() {
                return step;
            }
        }
    }
}

/// Reads the names in a directory; what was read before an error stays in `names`.
fn list(fd: &OwnedFd, buffer: &mut Vec<u8>, names: &mut Vec<Box<[u8]>>) -> io::Result<()> {
    let mut entries = RawDir::new(fd, buffer.spare_capacity_mut());
    while let Some(entry) = entries.next() {
        let entry = match entry {
            Ok(entry) => entry,
            Err(Errno::INTR) => continue,
            Err(errno) => return Err(errno),
        };
        let name = entry.file_name().to_bytes();
        if name != b"." && name != b".." {
            names.push(name.into());
        }
    }
    Ok(())
}
