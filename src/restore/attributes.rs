//! In which order is metadata set, and what is done where it cannot be?
//!
//! Owner, extended attributes, mode, access control lists, times. A change of owner clears set-id bits and file
//! capabilities, so it comes first; a mode without write permission would forbid attributes, an access control list
//! carries the mode's group bits, and everything moves the times.
//!
//! Owners are restored by number, and only root can: another user keeps what is restored, which is no news and no
//! warning. But set-id bits are left out where the owner they speak for is not the file's, and that is one. What the
//! file system accepted and did not keep is one too (`kept.rs`).

use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{
    AtFlags, CWD, Gid, Mode, Stat, Timestamps, Uid, XattrFlags, chmodat, chownat, fchmod, fchown, fremovexattr,
    fsetxattr, fstat, futimens, lsetxattr, removexattr, setxattr, statat, utimensat,
};
use rustix::io;

use super::defaults::{ACL_ACCESS, ACLS, InodeDefaults};
use super::kept::{Kept, Set, timestamps};
use crate::error::Error;
use crate::format::entry::{Entry, EntryKind, Xattr};
use crate::spelling::spelled;

/// What could not be set on something that was restored; empty where all is as it was.
pub type Warnings = Vec<Error>;

const SET_UID: u32 = 0o4000;
const SET_GID: u32 = 0o2000;

/// Where metadata is set, and what is known of it.
#[derive(Clone, Copy)]
pub(super) struct Setting<'a> {
    pub(super) entry: &'a Entry,
    pub(super) kept: &'a Kept,
    pub(super) shown: &'a dyn Fn() -> PathBuf,
}

/// Sets all metadata of something open.
pub(super) fn apply(fd: BorrowedFd<'_>, setting: Setting<'_>, defaults: InodeDefaults) -> Warnings {
    let mut report = Report::new(setting);
    let entry = setting.entry;
    let owned = own(defaults, &mut report, |uid, gid| fchown(fd, uid, gid));
    if defaults.has_acl {
        for name in ACLS {
            // Neither list may be there; only a present one has to go.
            let _ = fremovexattr(fd, name);
        }
    }
    let set = |xattr: &Xattr| fsetxattr(fd, xattr.name.as_slice(), &xattr.value, XattrFlags::empty());
    set_xattrs(entry, false, &mut report, set);
    let mode = permitted(entry, owned, &mut report);
    report.set_mode(mode, |mode| fchmod(fd, mode));
    set_xattrs(entry, true, &mut report, set);
    report.set_times(defaults.device, |times| futimens(fd, times), || fstat(fd));
    report.finish(defaults.device, || fstat(fd))
}

/// Sets all metadata of a symbolic link just made at `name`; a link has no mode of its own.
pub(super) fn apply_to_link(at: BorrowedFd<'_>, name: &[u8], setting: Setting<'_>) -> Warnings {
    let mut report = Report::new(setting);
    let path = through_proc(at, Some(name));
    let set_own_xattrs = |report: &mut Report<'_>| {
        set_xattrs(setting.entry, false, report, |xattr| {
            lsetxattr(&path, xattr.name.as_slice(), &xattr.value, XattrFlags::empty())
        });
    };
    let set_times = |times: &Timestamps| utimensat(at, name, times, AtFlags::SYMLINK_NOFOLLOW);
    match defaults_at(at, name) {
        Ok(defaults) => {
            own(defaults, &mut report, |uid, gid| chownat(at, name, uid, gid, AtFlags::SYMLINK_NOFOLLOW));
            set_own_xattrs(&mut report);
            let stat = || statat(at, name, AtFlags::SYMLINK_NOFOLLOW);
            report.set_times(defaults.device, set_times, stat);
            report.finish(defaults.device, stat)
        }
        Err(errno) => {
            report.note("read", Err(errno));
            set_own_xattrs(&mut report);
            report.note("set the times of", set_times(&timestamps(setting.entry.mtime_ns, false)));
            report.warnings
        }
    }
}

/// Sets all metadata of a pipe, socket or device, given as a descriptor opened with `O_PATH`: opening one of these in
/// earnest may wait for ever or set a machine going. The descriptor's `/proc` name leads to it and nowhere else.
pub(super) fn apply_to_node(node: BorrowedFd<'_>, setting: Setting<'_>, defaults: InodeDefaults) -> Warnings {
    let mut report = Report::new(setting);
    let entry = setting.entry;
    let path = through_proc(node, None);
    let owned = own(defaults, &mut report, |uid, gid| chownat(node, c"", uid, gid, AtFlags::EMPTY_PATH));
    // One inherited from the directory, if any.
    let _ = removexattr(&path, ACL_ACCESS);
    let set = |xattr: &Xattr| setxattr(&path, xattr.name.as_slice(), &xattr.value, XattrFlags::empty());
    set_xattrs(entry, false, &mut report, set);
    let mode = permitted(entry, owned, &mut report);
    report.set_mode(mode, |mode| chmodat(CWD, &path, mode, AtFlags::empty()));
    set_xattrs(entry, true, &mut report, set);
    let set_times = |times: &Timestamps| utimensat(CWD, &path, times, AtFlags::empty());
    report.set_times(defaults.device, set_times, || fstat(node));
    report.finish(defaults.device, || fstat(node))
}

/// Collects what could not be set, and what was.
struct Report<'a> {
    setting: Setting<'a>,
    set: Set,
    warnings: Warnings,
}

impl<'a> Report<'a> {
    fn new(setting: Setting<'a>) -> Self {
        Self { setting, set: Set::default(), warnings: Vec::new() }
    }

    fn note(&mut self, action: &'static str, result: io::Result<()>) {
        if let Err(errno) = result {
            self.warnings.push(Error::io(action, (self.setting.shown)(), errno));
        }
    }

    fn set_mode(&mut self, mode: Mode, set: impl Fn(Mode) -> io::Result<()>) {
        let done = set(mode);
        // An access control list that is set afterwards changes the bits of the group.
        let Entry { kind, xattrs, .. } = self.setting.entry;
        let has_acl = xattrs.iter().any(|xattr| xattr.name == ACL_ACCESS);
        self.set.mode = (done.is_ok() && !has_acl).then_some((*kind, mode.as_raw_mode()));
        self.note("set the mode of", done);
    }

    fn set_times(
        &mut self,
        device: u64,
        set: impl Fn(&Timestamps) -> io::Result<()>,
        stat: impl Fn() -> io::Result<Stat>,
    ) {
        let mtime_ns = self.setting.entry.mtime_ns;
        let sets_access = self.setting.kept.try_times(device, &set, stat);
        let done = set(&timestamps(mtime_ns, sets_access));
        self.set.mtime_ns = done.is_ok().then_some(mtime_ns);
        self.note("set the times of", done);
    }

    /// Everything was set: reads back what the file system is not known to keep.
    fn finish(mut self, device: u64, stat: impl FnOnce() -> io::Result<Stat>) -> Warnings {
        let missing = self.setting.kept.missing(device, &self.set, stat);
        if !missing.is_empty() {
            let path = (self.setting.shown)();
            self.warnings.push(Error::NotKept { path, what: missing.join(", ") });
        }
        self.warnings
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
    defaults: InodeDefaults,
    report: &mut Report<'_>,
    chown: impl Fn(Option<Uid>, Option<Gid>) -> io::Result<()>,
) -> Owned {
    let entry = report.setting.entry;
    // The highest number means "unchanged" to the system: nobody has it.
    let uid = (entry.uid != defaults.uid && entry.uid != u32::MAX).then(|| Uid::from_raw(entry.uid));
    let gid = (entry.gid != defaults.gid && entry.gid != u32::MAX).then(|| Gid::from_raw(entry.gid));
    if uid.is_none() && gid.is_none() {
        return Owned { uid: entry.uid == defaults.uid, gid: entry.gid == defaults.gid };
    }
    if rustix::process::geteuid().is_root() {
        let result = chown(uid, gid);
        let done = result.is_ok();
        report.note("set the owner of", result);
        if done {
            (report.set.uid, report.set.gid) = (uid.map(Uid::as_raw), gid.map(Gid::as_raw));
        }
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
        report.warnings.push(Error::Refused { path: (report.setting.shown)(), why });
    }
    Mode::from_raw_mode(entry.mode & 0o7777 & !dropped)
}

fn set_xattrs(entry: &Entry, acls: bool, report: &mut Report<'_>, set: impl Fn(&Xattr) -> io::Result<()>) {
    for xattr in entry.xattrs.iter().filter(|xattr| ACLS.contains(&xattr.name.as_slice()) == acls) {
        if let Err(errno) = set(xattr) {
            let source = std::io::Error::from(errno);
            let named = format!("{}: {source}", spelled(&xattr.name));
            let source = std::io::Error::new(source.kind(), named);
            report.warnings.push(Error::io("set an extended attribute of", (report.setting.shown)(), source));
        }
    }
}

/// The owner that a name in a directory has.
fn defaults_at(at: BorrowedFd<'_>, name: &[u8]) -> io::Result<InodeDefaults> {
    Ok(InodeDefaults::of(&statat(at, name, AtFlags::SYMLINK_NOFOLLOW)?, false))
}

/// A path to something open, or to a name in an open directory, for calls that take paths only.
fn through_proc(fd: BorrowedFd<'_>, name: Option<&[u8]>) -> PathBuf {
    use std::os::unix::ffi::OsStrExt;
    let path = Path::new("/proc/self/fd").join(fd.as_fd().as_raw_fd().to_string());
    name.map_or_else(|| path.clone(), |name| path.join(std::ffi::OsStr::from_bytes(name)))
}
