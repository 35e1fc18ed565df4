//! How does the operating system's file system do what [`Disk`] asks? And what does it do where that file system is a small
//! one: without hard links, without `RENAME_NOREPLACE`, without files that have no name, without synced directories?
//!
//! | wanted | without it |
//! | --- | --- |
//! | `O_TMPFILE`: a file that is locked before it has a name | a name that no sweep looks at (`.new`), locked, renamed |
//! | `renameat2(RENAME_NOREPLACE)` | `link` and `unlink`; without hard links a look and a `rename`, under the lock of the directory |
//! | `fsync` of a directory | `syncfs` of its file system |

use std::ffi::OsString;
use std::fs::{self, DirBuilder, File, OpenOptions, Permissions, TryLockError};
use std::io::{self, Write};
use std::os::fd::AsRawFd;
use std::os::unix::fs::{DirBuilderExt, FileExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::Path;
use std::sync::Arc;

use rustix::fs::{Advice, AtFlags, CWD, OFlags, RenameFlags};
use rustix::io::Errno;

use super::{ChangeFile, Disk, HeldLock, ReadFile, WriteFile};

/// The operating system's file system.
///
/// What it makes is its owner's alone (files 0600, directories 0700), or open to the group and to others as far as the
/// store's directory is.
#[derive(Debug, Clone, Copy)]
pub struct SystemDisk {
    /// Permission bits of group and others.
    others: u32,
}

impl SystemDisk {
    /// What it makes only its owner can read.
    pub const PRIVATE: Self = Self { others: 0 };

    /// What it makes can be read and written by those who can read and write in this directory, whatever the umask is;
    /// [`Self::PRIVATE`] if there is no such directory.
    #[must_use]
    pub fn like(directory: &Path) -> Self {
        let others = fs::metadata(directory).ok().filter(fs::Metadata::is_dir).map_or(0, |found| found.mode() & 0o077);
        Self { others }
    }

    /// To make a file, or to open one.
    fn options(self) -> OpenOptions {
        let mut options = OpenOptions::new();
        options.write(true).mode(0o600 | (self.others & 0o066));
        options
    }

    /// Gives a new file or directory the permissions that the umask took from it.
    fn open_up(self, made: &File) {
        if self.others == 0 {
            return;
        }
        // A file system without permissions, or a file of another user: its owner has decided.
        let Ok(found) = made.metadata() else { return };
        let wanted = if found.is_dir() { self.others } else { self.others & 0o066 };
        if found.mode() & wanted != wanted {
            let _ = made.set_permissions(Permissions::from_mode((found.mode() & 0o7777) | wanted));
        }
    }

    /// A locked file that had no name before it has this one.
    fn create_nameless(self, path: &Path) -> io::Result<File> {
        let flags = OFlags::TMPFILE.bits().cast_signed();
        let file = self.options().custom_flags(flags).open(folder_of(path))?;
        lock_new(&file)?;
        self.open_up(&file);
        let nameless = format!("/proc/self/fd/{}", file.as_raw_fd());
        rustix::fs::linkat(CWD, nameless, CWD, path, AtFlags::SYMLINK_FOLLOW)?;
        Ok(file)
    }

    /// A locked file that had a name before that nobody looks for. A process that is killed in between leaves an empty
    /// file of that name, which stays.
    fn create_aside(self, path: &Path) -> io::Result<File> {
        let aside = path.with_extension("new");
        let file = self.options().create_new(true).open(&aside)?;
        let locked = lock_new(&file).and_then(|()| {
            self.open_up(&file);
            self.rename_new(&aside, path)
        });
        if locked.is_err() {
            let _ = fs::remove_file(&aside);
        }
        locked.map(|()| file)
    }
}

impl Disk for SystemDisk {
    fn create(&self, path: &Path) -> io::Result<Box<dyn WriteFile>> {
        // Whatever keeps the first from working, the second says what there is to say.
        let file = self.create_nameless(path).or_else(|_| self.create_aside(path))?;
        Ok(Box::new(file))
    }

    fn open_to_change(&self, path: &Path) -> io::Result<Box<dyn ChangeFile>> {
        let file = self.options().read(true).create(true).truncate(false).open(path)?;
        self.open_up(&file);
        Ok(Box::new(file))
    }

    fn open(&self, path: &Path) -> io::Result<Arc<dyn ReadFile>> {
        Ok(Arc::new(open_to_read(path)?))
    }

    fn make_dir(&self, path: &Path) -> io::Result<()> {
        DirBuilder::new().mode(0o700 | self.others).create(path)?;
        if self.others != 0 {
            self.open_up(&File::open(path)?);
        }
        Ok(())
    }

    fn rename_new(&self, from: &Path, to: &Path) -> io::Result<()> {
        match rustix::fs::renameat_with(CWD, from, CWD, to, RenameFlags::NOREPLACE) {
            // Some network and FUSE file systems know no flags.
            Err(Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP) => {}
            renamed => return Ok(renamed?),
        }
        match fs::hard_link(from, to) {
            Ok(()) => fs::remove_file(from),
            Err(e) if has_no_links(&e) => rename_unless_taken(from, to),
            Err(e) => Err(e),
        }
    }

    fn rename_over(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(from, to)
    }

    fn link_new(&self, from: &Path, to: &Path) -> io::Result<()> {
        match fs::hard_link(from, to) {
            Err(e) if has_no_links(&e) => Err(io::ErrorKind::Unsupported.into()),
            linked => linked,
        }
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        fs::remove_file(path)
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        let directory = File::open(path)?;
        match directory.sync_all() {
            Err(e) if is_unsupported(&e) => match rustix::fs::syncfs(&directory).map_err(io::Error::from) {
                // Nothing more can be asked of this file system.
                Err(e) if is_unsupported(&e) => {}
                synced => synced?,
            },
            synced => synced?,
        }
        // XFS says that a directory is synced even if it has given up meanwhile, after an error of its log, say, and
        // its last names are lost. But from then on it opens nothing.
        File::open(path).map(drop)
    }

    fn names(&self, path: &Path) -> io::Result<Vec<OsString>> {
        fs::read_dir(path)?.map(|entry| Ok(entry?.file_name())).collect()
    }

    fn file_bytes(&self, path: &Path) -> io::Result<Option<u64>> {
        let metadata = fs::metadata(path)?;
        Ok(metadata.is_file().then_some(metadata.len()))
    }

    fn is_dir(&self, path: &Path) -> io::Result<bool> {
        Ok(fs::metadata(path)?.is_dir())
    }

    fn remove_unlocked(&self, path: &Path) -> io::Result<bool> {
        let file = open_to_read(path)?;
        match file.try_lock() {
            Ok(()) => {}
            // Where there are no locks, writers have none either: nothing is known to be stale.
            Err(TryLockError::WouldBlock | TryLockError::Error(_)) => return Ok(false),
        }
        fs::remove_file(path)?;
        Ok(true)
    }

    fn hold(&self, path: &Path) -> io::Result<Option<Box<dyn HeldLock>>> {
        let file = self.options().read(true).create(true).truncate(false).open(path)?;
        self.open_up(&file);
        exclusive(file)
    }

    fn hold_existing(&self, path: &Path) -> io::Result<Option<Box<dyn HeldLock>>> {
        exclusive(self.options().read(true).open(path)?)
    }

    fn share(&self, path: &Path) -> io::Result<Option<Box<dyn HeldLock>>> {
        loop {
            let file = open_to_read(path)?;
            match file.lock_shared() {
                Ok(()) => {}
                Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
                Err(e) if has_no_locks(&e) => return Ok(None),
                Err(e) => return Err(e),
            }
            // A file that was replaced or removed while this process waited says nothing; what has its name now does.
            if file.metadata()?.nlink() > 0 {
                return Ok(Some(Box::new(HeldFile(file))));
            }
        }
    }
}

/// The directory that a path is in.
fn folder_of(path: &Path) -> &Path {
    path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// Opens a file without waiting: a pipe in a file's place would otherwise be waited on for ever.
fn open_to_read(path: &Path) -> io::Result<File> {
    OpenOptions::new().read(true).custom_flags(OFlags::NONBLOCK.bits().cast_signed()).open(path)
}

/// Locks a file that nobody else knows of.
fn lock_new(file: &File) -> io::Result<()> {
    match file.try_lock() {
        // A file system without locks: work without. Sweeping leaves such files alone.
        Ok(()) | Err(TryLockError::Error(_)) => Ok(()),
        Err(TryLockError::WouldBlock) => Err(io::ErrorKind::WouldBlock.into()),
    }
}

/// A locked file. Dropping it unlocks the file, which closing alone does not: a child that this process forks has the
/// file, and with it the lock, until it executes its program.
#[derive(Debug)]
struct HeldFile(File);

impl HeldLock for HeldFile {}

impl Drop for HeldFile {
    fn drop(&mut self) {
        // If this fails, closing the file ends the lock.
        let _ = self.0.unlock();
    }
}

fn exclusive(file: File) -> io::Result<Option<Box<dyn HeldLock>>> {
    match file.try_lock() {
        Ok(()) => Ok(Some(Box::new(HeldFile(file)))),
        Err(TryLockError::WouldBlock) => Ok(None),
        Err(TryLockError::Error(error)) if has_no_locks(&error) => {
            Err(io::Error::new(io::ErrorKind::Unsupported, error))
        }
        Err(TryLockError::Error(error)) => Err(error),
    }
}

/// Gives a file a new name where the file system cannot refuse a taken one by itself. Every process that does so holds the
/// directory's lock meanwhile, so no two of them give the same name. Where there are no locks either, two that do so at
/// the same moment both succeed, and the later file is there: an object's name says what its bytes are.
fn rename_unless_taken(from: &Path, to: &Path) -> io::Result<()> {
    let folder = File::open(folder_of(to))?;
    let _ = folder.lock();
    match fs::symlink_metadata(to) {
        Ok(_) => Err(io::ErrorKind::AlreadyExists.into()),
        Err(e) if e.kind() == io::ErrorKind::NotFound => fs::rename(from, to),
        Err(e) => Err(e),
    }
}

fn is_one_of(error: &io::Error, errnos: &[Errno]) -> bool {
    errnos.iter().any(|errno| error.raw_os_error() == Some(errno.raw_os_error()))
}

fn has_no_links(error: &io::Error) -> bool {
    is_one_of(error, &[Errno::PERM, Errno::OPNOTSUPP, Errno::NOSYS, Errno::MLINK, Errno::XDEV])
}

fn has_no_locks(error: &io::Error) -> bool {
    is_one_of(error, &[Errno::OPNOTSUPP, Errno::NOSYS, Errno::INVAL, Errno::NOLCK])
}

/// Whether the file system has no such sync. Anything else is a sync that failed.
fn is_unsupported(error: &io::Error) -> bool {
    is_one_of(error, &[Errno::INVAL, Errno::OPNOTSUPP, Errno::NOSYS, Errno::NOTTY, Errno::BADF])
}

impl WriteFile for File {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        Write::write(self, bytes)
    }

    fn sync(&mut self) -> io::Result<()> {
        self.sync_all()
    }

    fn start_writeback(&mut self, offset: u64, bytes: u64) {
        start_writeback(self, offset, bytes);
    }
}

/// On Linux this begins to write dirty pages and waits for nothing. It is a hint: its failure means nothing.
fn start_writeback(file: &File, offset: u64, bytes: u64) {
    let _ = rustix::fs::fadvise(file, offset, std::num::NonZeroU64::new(bytes), Advice::DontNeed);
}

impl ChangeFile for File {
    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.write_all_at(bytes, offset)
    }

    fn set_len(&self, bytes: u64) -> io::Result<()> {
        self.set_len(bytes)
    }

    fn sync(&self) -> io::Result<()> {
        self.sync_data()
    }

    fn start_writeback(&self, offset: u64, bytes: u64) {
        start_writeback(self, offset, bytes);
    }

    fn file(&self) -> &File {
        self
    }
}

impl ReadFile for File {
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        FileExt::read_at(self, buffer, offset)
    }

    fn own_bytes(&self) -> io::Result<Option<u64>> {
        let metadata = self.metadata()?;
        let is_own = metadata.is_file() && is_trusted(metadata.uid());
        Ok(is_own.then_some(metadata.len()))
    }
}

/// Whether a file of this user may be believed: it is this process's own, or root's, who can change anything anyway.
pub(crate) fn is_trusted(uid: u32) -> bool {
    uid == 0 || uid == rustix::process::geteuid().as_raw()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::sync::Barrier;
    use std::sync::atomic::{AtomicBool, Ordering};

    use super::*;

    /// Makes files while another thread sweeps all that it finds unlocked: none may be taken.
    fn assert_never_swept(create: impl Fn(&Path) -> io::Result<File>) {
        let folder = tempfile::tempdir().unwrap();
        let done = AtomicBool::new(false);
        std::thread::scope(|scope| {
            let sweeper = scope.spawn(|| {
                let mut looked = 0_u64;
                while !done.load(Ordering::Relaxed) {
                    for name in SystemDisk::PRIVATE.names(folder.path()).unwrap() {
                        let path = folder.path().join(name);
                        if path.extension().is_some_and(|end| end == "tmp") {
                            looked += 1;
                            let _ = SystemDisk::PRIVATE.remove_unlocked(&path);
                        }
                    }
                }
                looked
            });
            for n in 0..2000 {
                let path = folder.path().join(format!("{n}.tmp"));
                let file = create(&path).unwrap();
                let named = fs::remove_file(&path);
                if named.is_err() || file.metadata().unwrap().nlink() > 0 {
                    done.store(true, Ordering::Relaxed);
                    panic!("file {n} was swept away from its maker");
                }
            }
            done.store(true, Ordering::Relaxed);
            sweeper.join().unwrap();
        });
    }

    #[test]
    fn a_file_is_locked_before_a_sweep_can_see_it() {
        assert_never_swept(|path| SystemDisk::PRIVATE.create_nameless(path));
    }

    #[test]
    fn a_file_is_locked_before_a_sweep_can_see_it_also_where_every_file_has_a_name() {
        assert_never_swept(|path| SystemDisk::PRIVATE.create_aside(path));
    }

    #[test]
    fn of_many_that_give_a_name_at_once_one_does_where_the_file_system_cannot_refuse() {
        let folder = tempfile::tempdir().unwrap();
        for round in 0..50 {
            let to = folder.path().join(format!("{round}"));
            let barrier = Barrier::new(4);
            let given = std::thread::scope(|scope| {
                let threads: Vec<_> = (0..4)
                    .map(|n| {
                        let from = folder.path().join(format!("{round}-{n}"));
                        fs::write(&from, n.to_string()).unwrap();
                        let (barrier, to) = (&barrier, &to);
                        scope.spawn(move || {
                            barrier.wait();
                            let given = rename_unless_taken(&from, to);
                            given.as_ref().map_or_else(|e| assert_eq!(e.kind(), io::ErrorKind::AlreadyExists), |()| ());
                            (n, given.is_ok())
                        })
                    })
                    .collect();
                threads.into_iter().map(|thread| thread.join().unwrap()).filter(|(_, given)| *given).collect::<Vec<_>>()
            });
            let &[(winner, _)] = &given[..] else { panic!("{given:?} in round {round}") };
            assert_eq!(fs::read_to_string(&to).unwrap(), winner.to_string(), "in round {round}");
        }
    }

    #[test]
    fn a_disk_makes_what_is_as_open_as_its_directory() {
        let folder = tempfile::tempdir().unwrap();
        for (mode, file_mode) in [(0o700, 0o600), (0o2770, 0o660), (0o755, 0o644)] {
            let root = folder.path().join(format!("{mode:o}"));
            fs::create_dir(&root).unwrap();
            fs::set_permissions(&root, Permissions::from_mode(mode)).unwrap();
            let disk = SystemDisk::like(&root);
            let at = |name: &str| root.join(name);
            disk.make_dir(&at("directory")).unwrap();
            drop(disk.create(&at("directory/new")).unwrap());
            drop(disk.create_aside(&at("directory/aside")).unwrap());
            drop(disk.open_to_change(&at("cache")).unwrap());
            drop(disk.hold(&at("lock")).unwrap());
            let mode_of = |name: &str| at(name).metadata().unwrap().mode() & 0o7777;
            assert_eq!(mode_of("directory"), mode);
            for name in ["directory/new", "directory/aside", "cache", "lock"] {
                assert_eq!(mode_of(name), file_mode, "{name} in {mode:o}");
            }
        }
        assert_eq!(SystemDisk::like(&folder.path().join("absent")).others, 0);
        let file = folder.path().join("file");
        fs::write(&file, b"").unwrap();
        assert_eq!(SystemDisk::like(&file).others, 0);
    }

    #[test]
    fn a_lock_ends_with_its_holder_while_a_forked_child_still_has_the_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("gc.lock");
        let file = File::create(&path).unwrap();
        // What a child has between fork and exec.
        let inherited = file.try_clone().unwrap();
        drop(exclusive(file).unwrap().unwrap());
        assert!(SystemDisk::PRIVATE.hold(&path).unwrap().is_some());
        drop(inherited);
    }
}
