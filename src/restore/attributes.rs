//! In which order is metadata set, and what is done where it cannot be?
//!
//! Owner, extended attributes, mode, access control lists, times. A change of owner clears set-id bits and file
//! capabilities, so it comes first; a mode without write permission would forbid attributes, an access control list
//! carries the mode's group bits, and everything moves the times.
//!
//! Owners are restored by number, and only root can: another user keeps what is restored, which is no news and no
//! warning. But set-id bits are left out where the owner they speak for is not the file's, and that is one.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{
    AtFlags, CWD, Gid, Mode, Timespec, Timestamps, UTIME_OMIT, Uid, XattrFlags, chmodat, chownat, fchmod, fchown,
    fgetxattr, fremovexattr, fsetxattr, futimens, lsetxattr, removexattr, setxattr, utimensat,
};
use rustix::io::{self, Errno};

use super::beneath::Newborn;
use crate::error::Error;
use crate::format::entry::{Entry, EntryKind, Xattr};
use crate::format::spelling::spelled;

/// What could not be set on something that was restored; empty where all is as it was.
pub type Warnings = Vec<Error>;

const SET_UID: u32 = 0o4000;
const SET_GID: u32 = 0o2000;
const ACL_ACCESS: &[u8] = b"system.posix_acl_access";
const ACL_DEFAULT: &[u8] = b"system.posix_acl_default";
const ACLS: [&[u8]; 2] = [ACL_ACCESS, ACL_DEFAULT];

/// Sets all metadata of something open.
pub(super) fn apply(fd: BorrowedFd<'_>, entry: &Entry, newborn: Newborn, shown: &dyn Fn() -> PathBuf) -> Warnings {
    let mut report = Report { shown, warnings: Vec::new() };
    let owned = own(entry, newborn, &mut report, |uid, gid| fchown(fd, uid, gid));
    if newborn.has_acl {
        for name in ACLS {
            // Neither list may be there; only a present one has to go.
            let _ = fremovexattr(fd, name);
        }
    }
    let set = |xattr: &Xattr| fsetxattr(fd, xattr.name.as_slice(), &xattr.value, XattrFlags::empty());
    set_xattrs(entry, false, &mut report, set);
    let mode = permitted(entry, owned, &mut report);
    report.note("set the mode of", fchmod(fd, mode));
    set_xattrs(entry, true, &mut report, set);
    report.note("set the times of", futimens(fd, &times(entry)));
    report.warnings
}

/// Sets all metadata of a symbolic link just made at `name`; a link has no mode of its own.
pub(super) fn apply_to_link(at: BorrowedFd<'_>, name: &[u8], entry: &Entry, shown: &dyn Fn() -> PathBuf) -> Warnings {
    let mut report = Report { shown, warnings: Vec::new() };
    match newborn_at(at, name) {
        Ok(newborn) => {
            own(entry, newborn, &mut report, |uid, gid| chownat(at, name, uid, gid, AtFlags::SYMLINK_NOFOLLOW));
        }
        Err(errno) => report.note("read", Err(errno)),
    }
    let path = through_proc(at, Some(name));
    set_xattrs(entry, false, &mut report, |xattr| {
        lsetxattr(&path, xattr.name.as_slice(), &xattr.value, XattrFlags::empty())
    });
    report.note("set the times of", utimensat(at, name, &times(entry), AtFlags::SYMLINK_NOFOLLOW));
    report.warnings
}

/// Sets all metadata of a pipe, socket or device, given as a descriptor opened with `O_PATH`: opening one of these in
/// earnest may wait for ever or set a machine going. The descriptor's `/proc` name leads to it and nowhere else.
pub(super) fn apply_to_node(node: BorrowedFd<'_>, entry: &Entry, shown: &dyn Fn() -> PathBuf) -> Warnings {
    let mut report = Report { shown, warnings: Vec::new() };
    let path = through_proc(node, None);
    let owned = match newborn_at(node, b"") {
        Ok(newborn) => own(entry, newborn, &mut report, |uid, gid| chownat(node, c"", uid, gid, AtFlags::EMPTY_PATH)),
        Err(errno) => {
            report.note("read", Err(errno));
            Owned { uid: false, gid: false }
        }
    };
    // One inherited from the directory, if any.
    let _ = removexattr(&path, ACL_ACCESS);
    let set = |xattr: &Xattr| setxattr(&path, xattr.name.as_slice(), &xattr.value, XattrFlags::empty());
    set_xattrs(entry, false, &mut report, set);
    let mode = permitted(entry, owned, &mut report);
    report.note("set the mode of", chmodat(CWD, &path, mode, AtFlags::empty()));
    set_xattrs(entry, true, &mut report, set);
    report.note("set the times of", utimensat(CWD, &path, &times(entry), AtFlags::empty()));
    report.warnings
}

/// Whether something open has an access control list.
pub(super) fn has_acl(fd: BorrowedFd<'_>) -> bool {
    let has = |name: &[u8]| match fgetxattr(fd, name, &mut [0_u8; 1][..]) {
        Ok(_) | Err(Errno::RANGE) => true,
        Err(_) => false,
    };
    ACLS.iter().any(|name| has(name))
}

/// Collects what could not be set.
struct Report<'a> {
    shown: &'a dyn Fn() -> PathBuf,
    warnings: Warnings,
}

impl Report<'_> {
    fn note(&mut self, action: &'static str, result: io::Result<()>) {
        if let Err(errno) = result {
            self.warnings.push(Error::io(action, (self.shown)(), errno));
        }
    }
}

/// Whether user and group came out as recorded.
#[derive(Clone, Copy)]
struct Owned {
    uid: bool,
    gid: bool,
}

/// Sets the owner where it differs, and says what came of it.
fn own(
    entry: &Entry,
    newborn: Newborn,
    report: &mut Report<'_>,
    chown: impl Fn(Option<Uid>, Option<Gid>) -> io::Result<()>,
) -> Owned {
    // The highest number means "unchanged" to the system: nobody has it.
    let uid = (entry.uid != newborn.uid && entry.uid != u32::MAX).then(|| Uid::from_raw(entry.uid));
    let gid = (entry.gid != newborn.gid && entry.gid != u32::MAX).then(|| Gid::from_raw(entry.gid));
    if uid.is_none() && gid.is_none() {
        return Owned { uid: entry.uid == newborn.uid, gid: entry.gid == newborn.gid };
    }
    if rustix::process::geteuid().is_root() {
        let result = chown(uid, gid);
        let done = result.is_ok();
        report.note("set the owner of", result);
        return Owned { uid: uid.is_none() || done, gid: gid.is_none() || done };
    }
    // Not root: a group one belongs to can be given, all else quietly stays one's own.
    Owned { uid: uid.is_none(), gid: gid.is_none() || chown(None, gid).is_ok() }
}

/// The mode to set: without set-id bits that would speak for somebody else.
fn permitted(entry: &Entry, owned: Owned, report: &mut Report<'_>) -> Mode {
    let mut dropped = 0;
    if entry.kind != EntryKind::Directory {
        dropped |= if owned.uid { 0 } else { entry.mode & SET_UID };
        dropped |= if owned.gid { 0 } else { entry.mode & SET_GID };
    }
    if dropped != 0 {
        let why = "its set-user-ID or set-group-ID bit was left out, because its owner could not be restored".into();
        report.warnings.push(Error::Refused { path: (report.shown)(), why });
    }
    Mode::from_raw_mode(entry.mode & 0o7777 & !dropped)
}

fn set_xattrs(entry: &Entry, acls: bool, report: &mut Report<'_>, set: impl Fn(&Xattr) -> io::Result<()>) {
    for xattr in entry.xattrs.iter().filter(|xattr| ACLS.contains(&xattr.name.as_slice()) == acls) {
        if let Err(errno) = set(xattr) {
            let source = std::io::Error::from(errno);
            let named = format!("{}: {source}", spelled(&xattr.name));
            let source = std::io::Error::new(source.kind(), named);
            report.warnings.push(Error::io("set an extended attribute of", (report.shown)(), source));
        }
    }
}

/// The recorded modification time; the access time stays what it is.
fn times(entry: &Entry) -> Timestamps {
    Timestamps {
        last_access: Timespec { tv_sec: 0, tv_nsec: UTIME_OMIT },
        last_modification: Timespec {
            tv_sec: entry.mtime_ns.div_euclid(1_000_000_000),
            tv_nsec: entry.mtime_ns.rem_euclid(1_000_000_000),
        },
    }
}

/// The owner something has, given as a name in a directory or, with an empty name, as a descriptor.
fn newborn_at(at: BorrowedFd<'_>, name: &[u8]) -> io::Result<Newborn> {
    let flags = if name.is_empty() { AtFlags::EMPTY_PATH } else { AtFlags::SYMLINK_NOFOLLOW };
    let stat = rustix::fs::statat(at, name, flags)?;
    Ok(Newborn { uid: stat.st_uid, gid: stat.st_gid, has_acl: false })
}

/// A path to something open, or to a name in an open directory, for calls that take paths only.
fn through_proc(fd: BorrowedFd<'_>, name: Option<&[u8]>) -> PathBuf {
    use std::os::unix::ffi::OsStrExt;
    let path = Path::new("/proc/self/fd").join(fd.as_fd().as_raw_fd().to_string());
    name.map_or_else(|| path.clone(), |name| path.join(std::ffi::OsStr::from_bytes(name)))
}
