//! The operations on a file system that local storage is made of, each alone, so that a test can put a recording or a
//! failing disk under it.
//!
//! [`SystemDisk`] is the real one. What is here decides nothing: order, names and what to do about errors are
//! [`super::local`]'s.

use std::ffi::OsString;
use std::fmt::Debug;
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Write};
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::Path;
use std::sync::Arc;

use rustix::fs::{Advice, CWD, OFlags, RenameFlags};

/// A file system.
pub trait Disk: Send + Sync + Debug {
    /// Makes a file that was not there, to write to.
    fn create(&self, path: &Path) -> io::Result<Box<dyn WriteFile>>;

    /// Opens a file that is changed in place, and makes it if it is not there: for caches, never for objects.
    fn open_to_change(&self, path: &Path) -> io::Result<Box<dyn ChangeFile>>;

    /// Opens a file to read from.
    fn open(&self, path: &Path) -> io::Result<Arc<dyn ReadFile>>;

    /// Makes one directory.
    fn make_dir(&self, path: &Path) -> io::Result<()>;

    /// Gives a file a new name, if nothing has that name: [`io::ErrorKind::AlreadyExists`] otherwise.
    fn rename_new(&self, from: &Path, to: &Path) -> io::Result<()>;

    /// Gives a file a new name, in one step also where another file has it, which loses it.
    fn rename_over(&self, from: &Path, to: &Path) -> io::Result<()>;

    /// Gives a file a second name, if nothing has that name: [`io::ErrorKind::AlreadyExists`] otherwise.
    fn link_new(&self, from: &Path, to: &Path) -> io::Result<()>;

    /// Removes a file's name.
    fn remove(&self, path: &Path) -> io::Result<()>;

    /// Makes the names in a directory durable.
    fn sync_dir(&self, path: &Path) -> io::Result<()>;

    /// The names in a directory.
    fn names(&self, path: &Path) -> io::Result<Vec<OsString>>;

    /// Bytes in a regular file; `None` for anything else.
    fn file_bytes(&self, path: &Path) -> io::Result<Option<u64>>;

    /// Whether the path is a directory.
    fn is_dir(&self, path: &Path) -> io::Result<bool>;

    /// Removes a file unless a living process holds its lock; says whether it did.
    fn remove_unlocked(&self, path: &Path) -> io::Result<bool>;

    /// Takes the lock of a file that is made if it is not there, and never removed; until what comes back is dropped or
    /// the process ends. `None` if somebody else has it. An error where there are no locks.
    fn hold(&self, path: &Path) -> io::Result<Option<Box<dyn Held>>> {
        SystemDisk.hold(path)
    }
}

/// A lock that is held.
pub trait Held: Send + Sync + Debug {}

impl Held for File {}

/// A file being written.
pub trait WriteFile: Send + Debug {
    /// Appends some of the bytes, says how many.
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize>;

    /// Makes the bytes durable.
    fn sync(&mut self) -> io::Result<()>;

    /// Takes the file's lock, until the file is closed or its process ends. Says whether the file, once locked, still
    /// has a name: a sweep may have been faster.
    fn lock(&mut self) -> io::Result<bool>;

    /// Suggests that the bytes from `offset` on be taken to the disk soon.
    fn start_writeback(&mut self, offset: u64, bytes: u64);
}

/// A file that is changed in place.
pub trait ChangeFile: Send + Sync + Debug {
    /// Writes all of the bytes at an offset.
    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()>;

    /// Makes the file this long; what is new reads as zeros.
    fn set_len(&self, bytes: u64) -> io::Result<()>;

    /// Makes the bytes, and their number, durable.
    fn sync(&self) -> io::Result<()>;

    /// Suggests that the bytes from `offset` on be taken to the disk soon.
    fn start_writeback(&self, _offset: u64, _bytes: u64) {}

    /// The file itself, to be locked, looked at and read.
    fn file(&self) -> &File;
}

/// A file being read, by any number of threads.
pub trait ReadFile: Send + Sync + Debug {
    /// Reads some bytes at an offset, says how many; 0 at the end.
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<usize>;

    /// Length in bytes of a regular file that belongs to the user of this process; `None` for any other file.
    fn own_bytes(&self) -> io::Result<Option<u64>>;
}

/// The operating system's file system.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemDisk;

impl Disk for SystemDisk {
    fn create(&self, path: &Path) -> io::Result<Box<dyn WriteFile>> {
        Ok(Box::new(OpenOptions::new().write(true).create_new(true).open(path)?))
    }

    fn open_to_change(&self, path: &Path) -> io::Result<Box<dyn ChangeFile>> {
        Ok(Box::new(OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path)?))
    }

    fn open(&self, path: &Path) -> io::Result<Arc<dyn ReadFile>> {
        Ok(Arc::new(open_to_read(path)?))
    }

    fn make_dir(&self, path: &Path) -> io::Result<()> {
        fs::create_dir(path)
    }

    fn rename_new(&self, from: &Path, to: &Path) -> io::Result<()> {
        match rustix::fs::renameat_with(CWD, from, CWD, to, RenameFlags::NOREPLACE) {
            // Some network and FUSE file systems know no flags.
            Err(rustix::io::Errno::INVAL | rustix::io::Errno::NOSYS | rustix::io::Errno::OPNOTSUPP) => {
                fs::hard_link(from, to)?;
                fs::remove_file(from)
            }
            renamed => Ok(renamed?),
        }
    }

    fn rename_over(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(from, to)
    }

    fn link_new(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::hard_link(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        fs::remove_file(path)
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        File::open(path)?.sync_all()?;
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
            // Where locks are not to be had, writers could not take one either: nothing is known to be stale.
            Err(TryLockError::WouldBlock | TryLockError::Error(_)) => return Ok(false),
        }
        fs::remove_file(path)?;
        Ok(true)
    }

    fn hold(&self, path: &Path) -> io::Result<Option<Box<dyn Held>>> {
        let file = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path)?;
        match file.try_lock() {
            Ok(()) => Ok(Some(Box::new(file))),
            Err(TryLockError::WouldBlock) => Ok(None),
            Err(TryLockError::Error(error)) => Err(error),
        }
    }
}

/// Opens a file without waiting: a pipe in a file's place would otherwise be waited on for ever.
fn open_to_read(path: &Path) -> io::Result<File> {
    OpenOptions::new().read(true).custom_flags(OFlags::NONBLOCK.bits() as i32).open(path)
}

impl WriteFile for File {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        Write::write(self, bytes)
    }

    fn sync(&mut self) -> io::Result<()> {
        self.sync_all()
    }

    fn lock(&mut self) -> io::Result<bool> {
        match self.try_lock() {
            Ok(()) => Ok(self.metadata()?.nlink() > 0),
            Err(TryLockError::WouldBlock) => Ok(false),
            // A file system without locks: work without. Sweeping leaves such files alone.
            Err(TryLockError::Error(_)) => Ok(true),
        }
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
        let is_own = metadata.is_file() && metadata.uid() == rustix::process::geteuid().as_raw();
        Ok(is_own.then_some(metadata.len()))
    }
}
