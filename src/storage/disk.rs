//! The operations on a file system that local storage is made of, each alone, so that a test can put a recording or a
//! failing disk under it.
//!
//! [`SystemDisk`] is the real one. What is here decides nothing: order, names and what to do about errors are
//! [`super::local`]'s.

mod system;

use std::ffi::OsString;
use std::fmt::Debug;
use std::fs::File;
use std::io;
use std::path::Path;
use std::sync::Arc;

pub use self::system::SystemDisk;
pub(crate) use self::system::is_trusted;

/// A file system.
pub trait Disk: Send + Sync + Debug {
    /// Makes a file that was not there, to write to. The file is locked from the moment that it has this name until it is
    /// closed or its process ends. Where there are no locks, it is made without one.
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

    /// Removes a file unless a living process holds its lock; says whether it did. A file of [`Disk::create`] is never
    /// removed while its maker is writing it, however the two are timed.
    fn remove_unlocked(&self, path: &Path) -> io::Result<bool>;

    /// Locks a file exclusively, until the returned value is dropped or the process ends. The file is created if it does
    /// not exist. `None` if another process holds a lock on it; an error where there are no locks.
    fn hold(&self, path: &Path) -> io::Result<Option<Box<dyn HeldLock>>>;

    /// Locks an existing file exclusively, as [`Disk::hold`] does. The file is not created.
    fn hold_existing(&self, path: &Path) -> io::Result<Option<Box<dyn HeldLock>>>;

    /// Locks an existing file shared with others, and waits while another process holds it exclusively. `None` where there
    /// are no locks.
    fn share(&self, path: &Path) -> io::Result<Option<Box<dyn HeldLock>>>;
}

/// A lock that is held.
pub trait HeldLock: Send + Sync + Debug {}

/// A file being written.
pub trait WriteFile: Send + Debug {
    /// Appends some of the bytes, says how many.
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize>;

    /// Makes the bytes durable.
    fn sync(&mut self) -> io::Result<()>;

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

    /// Length in bytes of a regular file that belongs to the user of this process or to root; `None` for any other file.
    fn own_bytes(&self) -> io::Result<Option<u64>>;
}

/// Appends all of the bytes to a file.
pub(crate) fn write_all(file: &mut dyn WriteFile, mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        match file.write(bytes) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(count) => bytes = bytes.get(count..).unwrap_or_default(),
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
    Ok(())
}
