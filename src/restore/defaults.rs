//! What does a file have right after it was created, before anything is set on it?

use std::os::fd::BorrowedFd;

use rustix::fs::{Stat, fgetxattr};
use rustix::io::Errno;

pub(super) const ACL_ACCESS: &[u8] = b"system.posix_acl_access";
const ACL_DEFAULT: &[u8] = b"system.posix_acl_default";
pub(super) const ACLS: [&[u8]; 2] = [ACL_ACCESS, ACL_DEFAULT];

/// What a new file has before anything was set on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct InodeDefaults {
    /// The file system's device number.
    pub(super) device: u64,
    /// The process's user.
    pub(super) uid: u32,
    /// The process's group, or the directory's.
    pub(super) gid: u32,
    /// Whether it inherited an access control list.
    pub(super) has_acl: bool,
}

impl InodeDefaults {
    pub(super) fn of(stat: &Stat, has_acl: bool) -> Self {
        Self { device: stat.st_dev, uid: stat.st_uid, gid: stat.st_gid, has_acl }
    }
}

/// Whether something open has an access control list.
pub(super) fn has_acl(fd: BorrowedFd<'_>) -> bool {
    let has = |name: &[u8]| match fgetxattr(fd, name, &mut [0_u8; 1][..]) {
        Ok(_) | Err(Errno::RANGE) => true,
        Err(_) => false,
    };
    ACLS.iter().any(|name| has(name))
}
