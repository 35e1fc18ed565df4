//! What does a snapshot keep of an entry beyond what a walk sees?
//!
//! Link targets, extended attributes (POSIX ACLs are among them) and owner names. A link target that cannot be read
//! loses the entry; an attribute that cannot be read is reported and the entry kept.
//!
//! An entry whose change time, inode and size are as in the last snapshot has the same attributes too: setting one moves
//! the change time. So nothing here need be asked for unchanged entries.

use std::os::fd::AsFd;
use std::path::Path;

use rustix::fs::{fgetxattr, flistxattr, lgetxattr, llistxattr, readlinkat};
use rustix::io::{self, Errno};

use super::file::OpenFile;
use super::longpath::LongPath;
use super::owners::Owners;
use super::stat::Stat;
use super::walk::WalkedEntry;
use crate::error::{Error, Result};
use crate::format::entry::{Content, Entry, EntryKind, EntryPath, Xattr};
use crate::format::label::Labels;
use crate::spelling::spelled;

/// The longest list of names and the longest value the system knows, in bytes.
const XATTR_BYTES_MAX: usize = 64 << 10;

/// Makes entries; holds the owner names. One serves all threads.
#[derive(Debug, Clone)]
pub struct Metadata {
    owners: Owners,
}

/// An entry, and what could not be kept of it.
#[derive(Debug)]
pub struct Completed {
    /// The entry; its content is [`Content::Empty`] until the caller has stored the bytes.
    pub entry: Entry,
    /// Extended attributes that are missing from it, and a modification time that it has only the nearest of, each with
    /// its reason.
    pub lost: Vec<Error>,
}

impl Metadata {
    /// Reads the system's owner names.
    #[must_use]
    pub fn new() -> Self {
        Self { owners: Owners::of_system() }
    }

    /// The entry for anything a walk found.
    ///
    /// # Errors
    /// [`Error::Io`] if a link's target cannot be read or the entry vanished.
    pub fn complete(&self, found: &WalkedEntry) -> Result<Completed> {
        let long_path = LongPath::new(&found.disk).map_err(|errno| Error::io("read", &found.disk, errno))?;
        let link_target = match found.stat.kind {
            EntryKind::Symlink => readlinkat(long_path.at(), long_path.rest(), Vec::new())
                .map_err(|errno| match errno {
                    Errno::INVAL => Error::io("read", &found.disk, super::file::replaced()),
                    errno => Error::io("read", &found.disk, errno),
                })?
                .into_bytes(),
            _ => Vec::new(),
        };
        let whole = long_path.whole();
        let (xattrs, lost) = xattrs(|names| llistxattr(&whole, names), |name, value| lgetxattr(&whole, name, value));
        if let Some((_, gone)) = lost.iter().find(|(_, errno)| matches!(*errno, Errno::NOENT | Errno::STALE)) {
            return Err(Error::io("read", &found.disk, *gone));
        }
        Ok(self.entry(found, &found.stat, link_target, xattrs, lost))
    }

    /// The entry for an open file, as it was when it was opened.
    #[must_use]
    pub fn complete_open(&self, found: &WalkedEntry, file: &OpenFile) -> Completed {
        let fd = file.as_fd();
        let (xattrs, lost) = xattrs(|names| flistxattr(fd, names), |name, value| fgetxattr(fd, name, value));
        self.entry(found, &file.stat(), Vec::new(), xattrs, lost)
    }

    fn entry(
        &self,
        found: &WalkedEntry,
        stat: &Stat,
        link_target: Vec<u8>,
        xattrs: Vec<Xattr>,
        lost: Vec<(Vec<u8>, Errno)>,
    ) -> Completed {
        let lost = lost.into_iter().map(|(name, errno)| {
            let source = std::io::Error::from(errno);
            let named = format!("{}: {source}", spelled(&name));
            Error::io("read extended attributes of", &found.disk, std::io::Error::new(source.kind(), named))
        });
        let time = stat.is_mtime_saturated.then(|| saturated(&found.disk, stat.mtime_ns));
        Completed { lost: lost.chain(time).collect(), entry: self.with(found.path.clone(), stat, link_target, xattrs) }
    }

    /// The entry at a path, of which no more is known than what the system says of it at once.
    #[must_use]
    pub fn bare(&self, path: EntryPath, stat: &Stat) -> Entry {
        self.with(path, stat, Vec::new(), Vec::new())
    }

    fn with(&self, path: EntryPath, stat: &Stat, link_target: Vec<u8>, xattrs: Vec<Xattr>) -> Entry {
        Entry {
            path,
            kind: stat.kind,
            mode: stat.mode,
            uid: stat.uid,
            gid: stat.gid,
            user: self.owners.user(stat.uid),
            group: self.owners.group(stat.gid),
            mtime_ns: stat.mtime_ns,
            size: stat.size,
            content: Content::Empty,
            link_target,
            rdev: stat.rdev,
            identity: stat.identity,
            xattrs,
            labels: Labels::default(),
        }
    }
}

impl Default for Metadata {
    fn default() -> Self {
        Self::new()
    }
}

/// What is said of a modification time that an entry cannot hold.
fn saturated(disk: &Path, kept_ns: i64) -> Error {
    let which = if kept_ns < 0 { "before 1677-09-21, the first" } else { "after 2262-04-11, the last" };
    let why = format!("it lies {which} that format 1 can hold, and is kept as that; format 2 will keep it");
    Error::io("keep the modification time of", disk, std::io::Error::other(why))
}

/// Reads all extended attributes, ascending by name, and those that could not be read.
fn xattrs(
    list: impl Fn(&mut [u8]) -> io::Result<usize>,
    get: impl Fn(&[u8], &mut [u8]) -> io::Result<usize>,
) -> (Vec<Xattr>, Vec<(Vec<u8>, Errno)>) {
    let mut found = Vec::new();
    let mut lost = Vec::new();
    let names = match read_all(list) {
        Ok(names) => names,
        // File systems without attributes have none.
        Err(Errno::OPNOTSUPP | Errno::NOSYS) => return (found, lost),
        Err(errno) => return (found, vec![(b"(all)".to_vec(), errno)]),
    };
    for name in names.split(|b| *b == 0).filter(|name| !name.is_empty()) {
        match read_all(|value| get(name, value)) {
            Ok(value) => found.push(Xattr { name: name.to_vec(), value }),
            // Removed since it was listed.
            Err(Errno::NODATA) => {}
            Err(errno) => lost.push((name.to_vec(), errno)),
        }
    }
    found.sort_unstable_by(|a, b| a.name.cmp(&b.name));
    (found, lost)
}

/// Reads into a small buffer, and only where that is too short into one that holds all there can be.
fn read_all(read: impl Fn(&mut [u8]) -> io::Result<usize>) -> io::Result<Vec<u8>> {
    let mut small = [0; 256];
    match read(&mut small) {
        Ok(length) => return Ok(small.get(..length).unwrap_or_default().to_vec()),
        Err(Errno::RANGE) => {}
        Err(errno) => return Err(errno),
    }
    let mut large = vec![0; XATTR_BYTES_MAX];
    let length = read(&mut large)?;
    large.truncate(length);
    large.shrink_to_fit();
    Ok(large)
}
