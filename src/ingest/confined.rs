//! How is an entry opened so that no symbolic link below its root is followed?
//!
//! The fast way names an entry by its whole path and then compares device and inode with what the walk saw. Where these
//! differ (the file was replaced, or its file system has no stable inode numbers), the entry is opened from its root on,
//! part by part, without following a link: what is found there is what a walk would find there now.

use std::ffi::OsStr;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use rustix::fs::{Mode, OFlags, fstat, openat};
use rustix::io::{self, Errno};

use super::longpath::LongPath;
use super::stat::Stat;

/// A directory on the way.
const ON_THE_WAY: OFlags = OFlags::PATH.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

/// A place on disk, and how much of its path is the root that the user chose.
#[derive(Debug, Clone, Copy)]
pub(super) struct Place<'a> {
    pub(super) disk: &'a Path,
    pub(super) root_bytes: usize,
}

impl Place<'_> {
    pub(super) fn is_root(self) -> bool {
        self.disk.as_os_str().len() == self.root_bytes
    }

    /// Opens the entry. Symbolic links on the way to the root are followed, because the user chose the root; one below
    /// it, or in its place, is an error.
    pub(super) fn open(self, flags: OFlags) -> io::Result<OwnedFd> {
        let flags = flags | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        if self.is_root() {
            return LongPath::new(self.disk)?.open(flags);
        }
        let (root, below) = self.disk.as_os_str().as_bytes().split_at_checked(self.root_bytes).ok_or(Errno::INVAL)?;
        let mut directory = LongPath::new(Path::new(OsStr::from_bytes(root)))?.open(ON_THE_WAY)?;
        let mut parts = below.split(|byte| *byte == b'/').filter(|part| !part.is_empty()).peekable();
        while let Some(part) = parts.next() {
            let flags = if parts.peek().is_some() { ON_THE_WAY } else { flags };
            directory = io::retry_on_intr(|| openat(&directory, part, flags, Mode::empty()))?;
        }
        Ok(directory)
    }
}

/// Whether the file system gives an open file another inode number each time it is asked, as some in user space do.
pub(super) fn has_unstable_inode(fd: &OwnedFd) -> bool {
    let look = || fstat(fd).ok().and_then(|stat| Stat::from_system(&stat));
    look().zip(look()).is_some_and(|(one, other)| !one.is_same_file(&other))
}
