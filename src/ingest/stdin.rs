//! What does a snapshot say of bytes that came through a pipe, or from a program, and of no file?

use std::time::{SystemTime, UNIX_EPOCH};

use super::owners::Owners;
use crate::format::entry::{Content, Entry, EntryKind, EntryPath, Identity};
use crate::format::label::Labels;

/// The entry for standard input: a file as this process would have made it just now. Size and content are the caller's
/// to fill in once the input has ended.
#[must_use]
pub fn standard_input(path: EntryPath) -> Entry {
    made_now(path, EntryKind::File)
}

/// An entry as this process would make it now: its owner, and the permissions that its mask leaves.
#[must_use]
pub fn made_now(path: EntryPath, kind: EntryKind) -> Entry {
    let mode = match kind {
        EntryKind::Symlink => 0o777,
        EntryKind::Directory => 0o777 & !umask(),
        _ => 0o644 & !umask(),
    };
    let uid = rustix::process::geteuid().as_raw();
    let gid = rustix::process::getegid().as_raw();
    let owners = Owners::of_system();
    let since_1970 = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Entry {
        path,
        kind,
        mode,
        uid,
        gid,
        user: owners.user(uid),
        group: owners.group(gid),
        mtime_ns: i64::try_from(since_1970.as_nanos()).unwrap_or(i64::MAX),
        size: 0,
        content: Content::Empty,
        link_target: Vec::new(),
        rdev: 0,
        identity: Identity::default(),
        xattrs: Vec::new(),
        labels: Labels::default(),
    }
}

/// The process's mask, read without setting it (`umask` sets it to read it, for all threads); 022 where it is unknown.
fn umask() -> u32 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("Umask:"));
    line.and_then(|octal| u32::from_str_radix(octal.trim(), 8).ok()).unwrap_or(0o022)
}
