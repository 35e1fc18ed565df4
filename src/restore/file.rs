//! How are the bytes of one file put in place, in any order and from any thread?

use std::io::IoSlice;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::{FallocateFlags, fallocate, fstatfs, ftruncate};
use rustix::io::{Errno, pwrite, pwritev, retry_on_intr};

use super::confined::Directory;
use crate::error::{Error, Result};
use crate::format::entry::EntryPath;

/// A file of more than this many times the size of its file system is not begun, even if the file system compresses.
const COMPRESSION_MAX: u64 = 64;

/// The system takes this many stretches of memory in one write (`IOV_MAX`).
const SLICES_MAX: usize = 1024;

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

    /// Writes all of these at `offset`, one behind the other, in as few calls as may be.
    ///
    /// # Errors
    /// As [`FileTarget::write_at`].
    pub fn write_all_at(&self, offset: u64, parts: &[&[u8]]) -> Result<()> {
        let mut slices: Vec<IoSlice<'_>> = parts.iter().map(|part| IoSlice::new(part)).collect();
        let (mut rest, mut at) = (slices.as_mut_slice(), offset);
        loop {
            // Empty ones would make a write of nothing look like one that failed.
            IoSlice::advance_slices(&mut rest, 0);
            let Some(next) = rest.get(..rest.len().min(SLICES_MAX)).filter(|next| !next.is_empty()) else {
                return Ok(());
            };
            let written = match retry_on_intr(|| pwritev(&self.fd, next, at)) {
                Ok(0) => return Err(self.error("write", Errno::IO)),
                Ok(written) => written,
                Err(errno) => return Err(self.error("write", errno)),
            };
            IoSlice::advance_slices(&mut rest, written);
            at = at.checked_add(written as u64).ok_or_else(|| self.error("write", Errno::FBIG))?;
        }
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
    /// Where the file system counts its free space reliably and has less than this, nothing is set aside: asked for more
    /// than there is, some fill the disk up before they fail, and a snapshot can ask for any number of terabytes.
    /// Elsewhere free space says little: RAM disks and some FUSE file systems report none at all, and those that compress
    /// hold more than they have. There a reservation is tried, and only a write tells that there is no room; but a file
    /// of many times their whole size is not begun.
    ///
    /// # Errors
    /// [`Error::Io`] if there is not enough; a file system that cannot do this is fine.
    pub fn reserve(&self, bytes: u64) -> Result<()> {
        if bytes == 0 {
            return Ok(());
        }
        let failed = |errno| Err(self.error("set space aside for", errno));
        let Ok(disk) = fstatfs(&self.fd) else { return Ok(()) };
        let is_reliable = is_reliable(disk.f_type as u64) && disk.f_blocks > 0;
        let block_bytes = u64::try_from(disk.f_bsize).unwrap_or_default();
        if bytes > disk.f_bfree.saturating_mul(block_bytes) {
            let most = disk.f_blocks.saturating_mul(block_bytes).saturating_mul(COMPRESSION_MAX);
            let is_hopeless = is_reliable || disk.f_blocks > 0 && bytes > most;
            return if is_hopeless { failed(Errno::NOSPC) } else { Ok(()) };
        }
        match retry_on_intr(|| fallocate(&self.fd, FallocateFlags::KEEP_SIZE, 0, bytes)) {
            Err(errno) if is_reliable && !matches!(errno, Errno::OPNOTSUPP | Errno::NOSYS | Errno::INVAL) => {
                failed(errno)
            }
            _ => Ok(()),
        }
    }

    pub(super) fn error(&self, action: &'static str, errno: Errno) -> Error {
        Error::io(action, self.whole(), errno)
    }

    pub(super) fn whole(&self) -> PathBuf {
        shown_below(&self.shown, &self.path)
    }
}

/// Whether a file system, by its magic number in `statfs`, neither compresses nor shares blocks by itself, so that a file
/// takes the space that its bytes do.
fn is_reliable(magic: u64) -> bool {
    const EXT: u64 = 0xEF53;
    const XFS: u64 = 0x5846_5342;
    const TMPFS: u64 = 0x0102_1994;
    const FAT: u64 = 0x4D44;
    const EXFAT: u64 = 0x2011_BAB0;
    // It reports what the file system beneath it does.
    const OVERLAY: u64 = 0x794C_7630;
    matches!(magic, EXT | XFS | TMPFS | FAT | EXFAT | OVERLAY)
}

impl AsFd for FileTarget {
    fn as_fd(&self) -> std::os::fd::BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// A path below another, for messages.
pub(super) fn shown_below(shown: &Path, path: &EntryPath) -> PathBuf {
    if path.is_root() { shown.to_owned() } else { shown.join(path.as_path()) }
}
