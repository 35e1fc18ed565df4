//! What are the bytes of a regular file, and did it hold still while they were read?
//!
//! A file is opened only if it is the one the walk saw: a symbolic link, a pipe or another file that took its place is
//! reported, never read. All reading is by offset, so threads share one open file.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::buffer::spare_capacity;
use rustix::fs::{Advice, OFlags, fadvise, fstat};
use rustix::io::{Errno, pread, retry_on_intr};

use super::extents::{Extents, HOLE_BYTES_MIN};
use super::longpath::Near;
use super::stat::Stat;
use super::walk::Found;
use crate::error::{Error, Result};

/// From this size on the system is told that a file is read front to back; a smaller one it reads ahead whole anyway.
const ADVISE_BYTES_MIN: u64 = 256 << 10;

/// A regular file, open for reading.
#[derive(Debug)]
pub struct OpenFile {
    fd: OwnedFd,
    disk: PathBuf,
    stat: Stat,
}

/// How a file changed while it was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Changed {
    /// It is longer than when it was opened.
    Grew,
    /// It is shorter than when it was opened.
    Shrank,
    /// Its length is the same, its modification or change time is not.
    Modified,
}

impl OpenFile {
    /// Opens what the walk found, leaving its access time alone where the system lets us.
    ///
    /// # Errors
    /// [`Error::Io`] if it vanished, may not be read, or is not the regular file the walk saw.
    pub fn open(found: &Found) -> Result<Self> {
        let (fd, stat) = open_same(found).map_err(|source| Error::io("read", &found.disk, source))?;
        if stat.size >= ADVISE_BYTES_MIN {
            // Advice: a file system that takes none is read all the same.
            let _ = fadvise(&fd, 0, None, Advice::Sequential);
        }
        Ok(Self { fd, disk: found.disk.clone(), stat })
    }

    /// What the system said of it when it was opened.
    #[must_use]
    pub fn stat(&self) -> Stat {
        self.stat
    }

    /// Where it was found.
    #[must_use]
    pub fn disk(&self) -> &Path {
        &self.disk
    }

    /// Fills `buffer` from `offset`; fewer bytes than asked for means the file ended there.
    ///
    /// # Errors
    /// What the system answers, a bad disk for instance.
    pub fn read_at(&self, offset: u64, buffer: &mut [u8]) -> std::io::Result<usize> {
        let mut filled = 0;
        while let Some(rest) = buffer.get_mut(filled..).filter(|rest| !rest.is_empty()) {
            let at = offset.saturating_add(filled as u64);
            let asked = rest.len();
            let read = retry_on_intr(|| pread(&self.fd, &mut *rest, at))?;
            filled += read;
            if read == 0 || read < asked && self.is_end(offset, filled) {
                break;
            }
        }
        Ok(filled)
    }

    /// The first bytes, `bytes` of them at most.
    ///
    /// # Errors
    /// As [`OpenFile::read_at`].
    pub fn head(&self, bytes: usize) -> std::io::Result<Vec<u8>> {
        let mut head = vec![0; bytes];
        let read = self.read_at(0, &mut head)?;
        head.truncate(read);
        Ok(head)
    }

    /// Appends up to `room` bytes from `offset` on to `data`; fewer means the file ended there. Where they reach to the
    /// file's end, memory is not set to anything before it is read into.
    ///
    /// # Errors
    /// As [`OpenFile::read_at`].
    pub fn append_at(&self, offset: u64, room: usize, data: &mut Vec<u8>) -> std::io::Result<usize> {
        let begin = data.len();
        if offset.saturating_add(room as u64) < self.stat.size {
            // There is more behind it than is wanted, and the way below takes what it gets.
            data.resize(begin + room, 0);
            let filled = self.read_at(offset, data.get_mut(begin..).unwrap_or_default())?;
            data.truncate(begin + filled);
            return Ok(filled);
        }
        data.reserve(room);
        let mut filled = 0;
        while filled < room {
            let at = offset.saturating_add(filled as u64);
            // Into all the capacity there is: a file that has grown is cut off below.
            let read = retry_on_intr(|| pread(&self.fd, spare_capacity(data), at))?;
            filled = data.len() - begin;
            if read == 0 || filled < room && self.is_end(offset, filled) {
                break;
            }
        }
        data.truncate(begin + room);
        Ok(filled.min(room))
    }

    /// Whether a short read ended just where the file did: to be told so once more is not worth a call for every small
    /// file.
    fn is_end(&self, offset: u64, filled: usize) -> bool {
        offset.saturating_add(filled as u64) == self.stat.size
    }

    /// The parts of the file that hold data, ascending and apart, within the size it had when it was opened. What lies
    /// between them are holes of at least [`HOLE_BYTES_MIN`], which read as zeros. A file without holes, or on a file
    /// system that knows none, is one part; an empty file has none.
    #[must_use]
    pub fn extents(&self) -> Extents<'_> {
        let may_have_holes = self.stat.size > HOLE_BYTES_MIN && self.stat.allocated_bytes < self.stat.size;
        Extents::new(self.fd.as_fd(), self.stat.size, may_have_holes)
    }

    /// Whether the file is still what it was when it was opened.
    ///
    /// # Errors
    /// What the system answers; network file systems forget open files.
    pub fn changed_since_open(&self) -> std::io::Result<Option<Changed>> {
        let now = Stat::from_system(&fstat(&self.fd)?).ok_or(Errno::OPNOTSUPP)?;
        let is_same_time = now.mtime_ns == self.stat.mtime_ns && now.identity.ctime_ns == self.stat.identity.ctime_ns;
        Ok(match now.size.cmp(&self.stat.size) {
            std::cmp::Ordering::Greater => Some(Changed::Grew),
            std::cmp::Ordering::Less => Some(Changed::Shrank),
            std::cmp::Ordering::Equal if !is_same_time => Some(Changed::Modified),
            std::cmp::Ordering::Equal => None,
        })
    }
}

impl AsFd for OpenFile {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// Opens a file and makes sure that it is the one the walk saw.
fn open_same(found: &Found) -> std::io::Result<(OwnedFd, Stat)> {
    // Not to wait where a pipe took the file's place.
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY;
    let near = Near::new(&found.disk)?;
    let opened = match near.open(flags | OFlags::NOATIME) {
        // Only a file's owner may read it without leaving a trace.
        Err(Errno::PERM) => near.open(flags),
        opened => opened,
    };
    let fd = match opened {
        // A symbolic link, or a socket or a device without a driver.
        Err(Errno::LOOP | Errno::NXIO | Errno::NODEV) => return Err(replaced()),
        opened => opened?,
    };
    let stat = Stat::from_system(&fstat(&fd)?).ok_or(Errno::OPNOTSUPP)?;
    if stat.kind == found.stat.kind && stat.is_same_file(&found.stat) { Ok((fd, stat)) } else { Err(replaced()) }
}

/// What is said of an entry that is no longer the one the walk saw.
pub(super) fn replaced() -> std::io::Error {
    std::io::Error::other("it was replaced while it was read")
}
