//! How is a path of any length named to the system, which takes 4095 bytes at a time?
//!
//! A deep tree has paths longer than `PATH_MAX`. [`LongPath`] opens as many directories on the way as it takes for the rest
//! to be short; for all ordinary paths it opens none. Symbolic links on the way are followed, as the system would: the
//! roots of a walk are the user's to choose, and below them the caller compares device and inode with what it saw.

use std::ffi::OsStr;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, Mode, OFlags, openat, statat};
use rustix::io;

use super::stat::Stat;

/// The longest path handed to the system, in bytes; `PATH_MAX` is 4096 with the closing NUL.
const PATH_BYTES_MAX: usize = 4095;

/// A path, as a directory and the short rest below it.
pub(super) struct LongPath<'a> {
    directory: Option<OwnedFd>,
    rest: &'a OsStr,
}

impl<'a> LongPath<'a> {
    /// Goes along `path` as far as needed.
    pub(super) fn new(path: &'a Path) -> io::Result<Self> {
        let mut long_path = Self { directory: None, rest: path.as_os_str() };
        while long_path.rest.len() > PATH_BYTES_MAX {
            let bytes = long_path.rest.as_bytes();
            let head = bytes.get(..PATH_BYTES_MAX).unwrap_or(bytes);
            // A single part of more than 4095 bytes exists on no file system.
            let cut = head.iter().rposition(|b| *b == b'/').filter(|cut| *cut > 0).ok_or(io::Errno::NAMETOOLONG)?;
            let (head, rest) = bytes.split_at(cut);
            let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
            long_path.directory = Some(openat(long_path.at(), head, flags, Mode::empty())?);
            let skipped = rest.iter().take_while(|b| **b == b'/').count();
            long_path.rest = OsStr::from_bytes(rest.get(skipped..).unwrap_or_default());
        }
        Ok(long_path)
    }

    /// The directory the rest is relative to.
    pub(super) fn at(&self) -> BorrowedFd<'_> {
        self.directory.as_ref().map_or(CWD, AsFd::as_fd)
    }

    /// What is left of the path below [`LongPath::at`].
    pub(super) fn rest(&self) -> &'a OsStr {
        self.rest
    }

    /// A path for system calls that take no directory; it reaches a long path through `/proc`.
    pub(super) fn whole(&self) -> PathBuf {
        match &self.directory {
            None => PathBuf::from(self.rest),
            Some(fd) => Path::new("/proc/self/fd").join(fd.as_raw_fd().to_string()).join(self.rest),
        }
    }

    /// Opens it.
    pub(super) fn open(&self, flags: OFlags) -> io::Result<OwnedFd> {
        io::retry_on_intr(|| openat(self.at(), self.rest, flags | OFlags::CLOEXEC, Mode::empty()))
    }

    /// Looks at it without following a link at its end.
    pub(super) fn stat(&self) -> io::Result<Stat> {
        stat_beneath(self.at(), self.rest)
    }
}

/// Looks at an entry of a directory without following it.
pub(super) fn stat_beneath<P: rustix::path::Arg>(directory: BorrowedFd<'_>, name: P) -> io::Result<Stat> {
    let stat = statat(directory, name, AtFlags::SYMLINK_NOFOLLOW)?;
    Stat::from_system(&stat).ok_or(io::Errno::OPNOTSUPP)
}
