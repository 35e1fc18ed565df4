//! What are the bytes of a regular file, and did it hold still while they were read?
//!
//! A file is opened only if it is the one the walk saw, or the regular file that took its place meanwhile: a symbolic
//! link, on the way too, and a pipe or a device are reported, never read. All reading is by offset, so threads share one
//! open file.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::buffer::spare_capacity;
use rustix::fs::{Advice, OFlags, fadvise, fstat, fstatfs};
use rustix::io::{Errno, pread, retry_on_intr};

use super::extents::{Extents, HOLE_BYTES_MIN};
use super::longpath::LongPath;
use super::stat::Stat;
use super::walk::WalkedEntry;
use crate::error::{Error, Result};
use crate::format::entry::EntryKind;

/// From this size on the program advises the system that it reads a file front to back; a smaller one it reads ahead whole anyway.
const ADVISE_BYTES_MIN: u64 = 256 << 10;

/// File systems of files that the kernel makes when they are read (`linux/magic.h`): proc, sysfs, debugfs, tracefs,
/// securityfs, configfs, cgroup and cgroup2.
const GENERATED: [i128; 8] =
    [0x9fa0, 0x6265_6572, 0x6462_6720, 0x7472_6163, 0x7363_6673, 0x6265_6570, 0x0027_e0eb, 0x6367_7270];

/// A regular file, open for reading.
#[derive(Debug)]
pub struct OpenFile {
    fd: OwnedFd,
    stat: Stat,
}

/// How a file changed while it was read, or differs from what its file system says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Changed {
    /// It is longer than when it was opened.
    Grew,
    /// It is shorter than when it was opened.
    Shrank,
    /// Its length is the same, its modification or change time is not.
    Modified,
    /// It did not change, and ends before the size that its file system states.
    EndsEarly,
    /// It did not change, and has more bytes than were read, which are at least as many as its file system states.
    HasMore,
}

impl OpenFile {
    /// Opens what the walk found, leaving its access time alone where the system lets us.
    ///
    /// # Errors
    /// [`Error::Io`] if it vanished, may not be read, or is no regular file any more.
    pub fn open(found: &WalkedEntry) -> Result<Self> {
        let (fd, stat) = open_same(found).map_err(|source| Error::io("read", &found.disk, source))?;
        if stat.size >= ADVISE_BYTES_MIN {
            // Advice: a file system that takes none is read all the same.
            let _ = fadvise(&fd, 0, None, Advice::Sequential);
        }
        Ok(Self { fd, stat })
    }

    /// What the system said of it when it was opened.
    #[must_use]
    pub fn stat(&self) -> Stat {
        self.stat
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

    /// Whether a short read ended just where the file did: asking once more is not worth a call for every small file. The
    /// size of a file that takes no space may be made up, as in `/proc`.
    fn is_end(&self, offset: u64, filled: usize) -> bool {
        offset.saturating_add(filled as u64) == self.stat.size && self.stat.allocated_bytes > 0
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

    /// Whether the bytes up to `end` are all of a file that held still. `met_end` says that a read found the end there.
    ///
    /// # Errors
    /// As [`OpenFile::changed_since_open`].
    pub fn difference(&self, end: u64, met_end: bool) -> std::io::Result<Option<Changed>> {
        // A file of the greatest size cannot go on, and the system refuses an offset behind it.
        let has_more = !met_end && end < i64::MAX as u64 && self.read_at(end, &mut [0])? > 0;
        let changed = self.changed_since_open()?;
        if end >= self.stat.size {
            return Ok(changed.or(has_more.then_some(Changed::HasMore)));
        }
        Ok(match changed {
            None | Some(Changed::Modified) if self.is_generated() => None,
            None => Some(Changed::EndsEarly),
            Some(_) => Some(Changed::Shrank),
        })
    }

    /// Whether the kernel makes the file's bytes when they are read, so that its size and times mean nothing.
    fn is_generated(&self) -> bool {
        fstatfs(&self.fd).is_ok_and(|about| GENERATED.iter().any(|magic| i128::from(about.f_type) == *magic))
    }
}

impl AsFd for OpenFile {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// Opens a file and makes sure that it is the one the walk saw, or the one that a walk would find in its place now.
fn open_same(found: &WalkedEntry) -> std::io::Result<(OwnedFd, Stat)> {
    let long_path = LongPath::new(&found.disk)?;
    match open_file(|flags| long_path.open(flags)) {
        Ok(Some((fd, stat))) if stat.is_same_file(&found.stat) => return Ok((fd, stat)),
        // Another one, or the inode numbers of this file system are not stable.
        Ok(_) | Err(Errno::STALE) => {}
        Err(errno) => return Err(errno.into()),
    }
    match open_file(|flags| found.place().open(flags)) {
        Ok(Some(opened)) => Ok(opened),
        // A link on the way is no directory.
        Ok(None) | Err(Errno::NOTDIR) => Err(replaced()),
        Err(errno) => Err(errno.into()),
    }
}

/// Opens a regular file; `None` if it is something else.
fn open_file(open: impl Fn(OFlags) -> rustix::io::Result<OwnedFd>) -> rustix::io::Result<Option<(OwnedFd, Stat)>> {
    // Not to wait where a pipe took the file's place.
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY;
    let opened = match open(flags | OFlags::NOATIME) {
        // Only a file's owner may read it without leaving a trace.
        Err(Errno::PERM) => open(flags),
        opened => opened,
    };
    let fd = match opened {
        // A symbolic link, or a socket or a device without a driver.
        Err(Errno::LOOP | Errno::NXIO | Errno::NODEV) => return Ok(None),
        opened => opened?,
    };
    let stat = Stat::from_system(&fstat(&fd)?).ok_or(Errno::OPNOTSUPP)?;
    Ok((stat.kind == EntryKind::File).then_some((fd, stat)))
}

/// What is said of an entry that is no longer of the kind the walk saw.
pub(super) fn replaced() -> std::io::Error {
    std::io::Error::other("something of another kind took its place while it was read")
}
