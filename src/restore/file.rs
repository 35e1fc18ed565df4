//! How are the bytes of one file put in place, in any order and from any thread?

use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;
use std::sync::Arc;

use rustix::fs::{FallocateFlags, fallocate, fstatvfs, ftruncate};
use rustix::io::{Errno, pwrite, retry_on_intr};

use super::beneath::Directory;
use crate::error::{Error, Result};
use crate::format::entry::EntryPath;

/// A file being restored: its owner's alone until [`Destination::finish_file`](super::Destination::finish_file).
#[derive(Debug)]
pub struct FileTarget {
    pub(super) fd: OwnedFd,
    /// The directory it was made in.
    pub(super) parent: Arc<Directory>,
    pub(super) path: EntryPath,
    /// Its whole path, for messages.
    pub(super) shown: Arc<PathBuf>,
}

impl FileTarget {
    /// Its path in the destination.
    #[must_use]
    pub fn path(&self) -> &EntryPath {
        &self.path
    }

    /// Writes all of `bytes` at `offset`. What is never written reads as zeros and takes no space.
    ///
    /// # Errors
    /// [`Error::Io`]; a full disk has the kind [`std::io::ErrorKind::StorageFull`].
    pub fn write_at(&self, offset: u64, bytes: &[u8]) -> Result<()> {
        let mut done = 0;
        while let Some(rest) = bytes.get(done..).filter(|rest| !rest.is_empty()) {
            let at = offset.checked_add(done as u64).ok_or_else(|| self.error("write", Errno::FBIG))?;
            match retry_on_intr(|| pwrite(&self.fd, rest, at)) {
                Ok(0) => return Err(self.error("write", Errno::IO)),
                Ok(written) => done += written,
                Err(errno) => return Err(self.error("write", errno)),
            }
        }
        Ok(())
    }

    /// Gives the file its length: a hole where it is longer than what was written.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn set_len(&self, bytes: u64) -> Result<()> {
        retry_on_intr(|| ftruncate(&self.fd, bytes)).map_err(|errno| self.error("set the length of", errno))
    }

    /// Sets space aside, so that a full disk is known before the work is done. Not for files with holes.
    ///
    /// # Errors
    /// [`Error::Io`] if there is not enough; a file system that cannot do this is fine.
    pub fn reserve(&self, bytes: u64) -> Result<()> {
        if bytes == 0 {
            return Ok(());
        }
        // Asked for more than there is, some file systems fill the disk up before they say so. A snapshot can ask for any
        // number of terabytes.
        if fstatvfs(&self.fd).is_ok_and(|disk| bytes > disk.f_bfree.saturating_mul(disk.f_frsize)) {
            return Err(self.error("set space aside for", Errno::NOSPC));
        }
        match retry_on_intr(|| fallocate(&self.fd, FallocateFlags::KEEP_SIZE, 0, bytes)) {
            Err(Errno::OPNOTSUPP | Errno::NOSYS | Errno::INVAL) | Ok(()) => Ok(()),
            Err(errno) => Err(self.error("set space aside for", errno)),
        }
    }

    pub(super) fn error(&self, action: &'static str, errno: Errno) -> Error {
        Error::io(action, self.whole(), errno)
    }

    pub(super) fn whole(&self) -> PathBuf {
        super::destination::shown_below(&self.shown, &self.path)
    }
}

impl AsFd for FileTarget {
    fn as_fd(&self) -> std::os::fd::BorrowedFd<'_> {
        self.fd.as_fd()
    }
}
