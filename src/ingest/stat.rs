//! What does the system say of one entry, in the units of a snapshot?
//!
//! Times are nanoseconds since 1970, saturated at the ends of `i64` (years 1677 and 2262); the size of anything but a
//! regular file is 0, as it is in a snapshot.

use std::os::unix::fs::{FileTypeExt, MetadataExt};

use rustix::fs::FileType;

use crate::format::entry::{EntryKind, Identity};

/// The result of one `lstat` or `fstat`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stat {
    /// What it is.
    pub kind: EntryKind,
    /// Permission bits with set-id and sticky bits.
    pub mode: u32,
    /// Numeric owner.
    pub uid: u32,
    /// Numeric group.
    pub gid: u32,
    /// Bytes in a regular file; 0 for anything else.
    pub size: u64,
    /// Bytes the file system has set aside for it; less than `size` where a file has holes (or is compressed).
    pub allocated_bytes: u64,
    /// Modification time in nanoseconds since 1970.
    pub mtime_ns: i64,
    /// Whether the system's modification time was outside of what `mtime_ns` can hold, so that `mtime_ns` is the nearest
    /// time that it can.
    pub is_mtime_saturated: bool,
    /// Device number of a device; 0 for anything else.
    pub rdev: u64,
    /// Device, inode, links and change time.
    pub identity: Identity,
}

impl Stat {
    /// Takes over what the system answered; `None` for a kind of file no snapshot knows.
    // The fields of `struct stat` differ in width from one architecture to the next.
    #[allow(clippy::unnecessary_cast, clippy::cast_lossless, reason = "needed on some architectures only")]
    pub(super) fn from_system(stat: &rustix::fs::Stat) -> Option<Self> {
        let kind = match FileType::from_raw_mode(stat.st_mode) {
            FileType::RegularFile => EntryKind::File,
            FileType::Directory => EntryKind::Directory,
            FileType::Symlink => EntryKind::Symlink,
            FileType::Fifo => EntryKind::Fifo,
            FileType::CharacterDevice => EntryKind::CharDevice,
            FileType::BlockDevice => EntryKind::BlockDevice,
            FileType::Socket => EntryKind::Socket,
            _ => return None,
        };
        let is_device = matches!(kind, EntryKind::CharDevice | EntryKind::BlockDevice);
        Some(Self {
            kind,
            mode: stat.st_mode & 0o7777,
            uid: stat.st_uid,
            gid: stat.st_gid,
            size: if kind == EntryKind::File { u64::try_from(stat.st_size).unwrap_or(0) } else { 0 },
            allocated_bytes: (stat.st_blocks as u64).saturating_mul(512),
            mtime_ns: saturated_ns(stat.st_mtime as i64, stat.st_mtime_nsec as i64),
            is_mtime_saturated: exact_ns(stat.st_mtime as i64, stat.st_mtime_nsec as i64).is_none(),
            rdev: if is_device { stat.st_rdev as u64 } else { 0 },
            identity: Identity {
                device: stat.st_dev as u64,
                inode: stat.st_ino as u64,
                links: stat.st_nlink as u64,
                ctime_ns: saturated_ns(stat.st_ctime as i64, stat.st_ctime_nsec as i64),
            },
        })
    }

    /// What the standard library knows of a file; `None` for a kind of file no snapshot knows.
    #[must_use]
    pub fn of(metadata: &std::fs::Metadata) -> Option<Self> {
        let kind = metadata.file_type();
        let kind = match () {
            () if kind.is_file() => EntryKind::File,
            () if kind.is_dir() => EntryKind::Directory,
            () if kind.is_symlink() => EntryKind::Symlink,
            () if kind.is_fifo() => EntryKind::Fifo,
            () if kind.is_char_device() => EntryKind::CharDevice,
            () if kind.is_block_device() => EntryKind::BlockDevice,
            () if kind.is_socket() => EntryKind::Socket,
            () => return None,
        };
        let is_device = matches!(kind, EntryKind::CharDevice | EntryKind::BlockDevice);
        Some(Self {
            kind,
            mode: metadata.mode() & 0o7777,
            uid: metadata.uid(),
            gid: metadata.gid(),
            size: if kind == EntryKind::File { metadata.size() } else { 0 },
            allocated_bytes: metadata.blocks().saturating_mul(512),
            mtime_ns: saturated_ns(metadata.mtime(), metadata.mtime_nsec()),
            is_mtime_saturated: exact_ns(metadata.mtime(), metadata.mtime_nsec()).is_none(),
            rdev: if is_device { metadata.rdev() } else { 0 },
            identity: Identity {
                device: metadata.dev(),
                inode: metadata.ino(),
                links: metadata.nlink(),
                ctime_ns: saturated_ns(metadata.ctime(), metadata.ctime_nsec()),
            },
        })
    }

    /// Whether both are of the same file on the same device.
    #[must_use]
    pub fn is_same_file(&self, other: &Self) -> bool {
        self.identity.device == other.identity.device && self.identity.inode == other.identity.inode
    }
}

/// Seconds and nanoseconds as one number; `None` before 1677 and after 2262.
fn exact_ns(seconds: i64, nanoseconds: i64) -> Option<i64> {
    // Wider on the way: the earliest second times 10^9 may lie below i64 while the sum does not.
    i64::try_from(i128::from(seconds) * 1_000_000_000 + i128::from(nanoseconds)).ok()
}

/// Seconds and nanoseconds as one number, saturated.
pub(super) fn saturated_ns(seconds: i64, nanoseconds: i64) -> i64 {
    exact_ns(seconds, nanoseconds).unwrap_or(if seconds < 0 { i64::MIN } else { i64::MAX })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_saturate_at_the_ends() {
        assert_eq!(saturated_ns(0, 0), 0);
        assert_eq!(saturated_ns(-1, 999_999_999), -1);
        assert_eq!(saturated_ns(9_223_372_036, 854_775_807), i64::MAX);
        assert_eq!(saturated_ns(9_223_372_036, 854_775_808), i64::MAX);
        assert_eq!(saturated_ns(-9_223_372_037, 145_224_192), i64::MIN);
        assert_eq!(saturated_ns(-9_223_372_037, 145_224_191), i64::MIN);
        assert_eq!(saturated_ns(i64::MIN, 0), i64::MIN);
        assert_eq!(saturated_ns(i64::MAX, 999_999_999), i64::MAX);
    }

    #[test]
    fn only_a_time_that_i64_cannot_hold_counts_as_saturated() {
        assert_eq!(exact_ns(9_223_372_036, 854_775_807), Some(i64::MAX));
        assert_eq!(exact_ns(9_223_372_036, 854_775_808), None);
        assert_eq!(exact_ns(-9_223_372_037, 145_224_192), Some(i64::MIN));
        assert_eq!(exact_ns(-9_223_372_037, 145_224_191), None);
    }
}
