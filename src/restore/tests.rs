//! What all tests of this module need.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::print_stdout)]

mod confined;
mod metadata;
mod placing;

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use super::{Destination, Warnings};
use crate::error::{Error, Result};
use crate::format::entry::{Content, Entry, EntryKind, EntryPath, Identity, Xattr};

fn path(bytes: impl AsRef<[u8]>) -> EntryPath {
    EntryPath::new(bytes.as_ref()).unwrap()
}

/// An entry of this user, with nothing special about it.
fn entry(kind: EntryKind) -> Entry {
    Entry {
        path: EntryPath::default(),
        kind,
        mode: 0o755,
        uid: rustix::process::geteuid().as_raw(),
        gid: rustix::process::getegid().as_raw(),
        user: None,
        group: None,
        mtime_ns: 1_234_567_890_123_456_789,
        size: 0,
        content: Content::Empty,
        link_target: Vec::new(),
        rdev: 0,
        identity: Identity::default(),
        xattrs: Vec::new(),
        labels: crate::format::label::Labels::default(),
    }
}

fn link(target: impl AsRef<[u8]>) -> Entry {
    Entry { link_target: target.as_ref().to_vec(), ..entry(EntryKind::Symlink) }
}

/// A directory of the test's own, and a destination named `out` in it that holds nothing yet but is a directory.
fn out(overwrite: bool) -> (tempfile::TempDir, PathBuf, Destination) {
    let dir = tempfile::tempdir().unwrap();
    let at = dir.path().join("out");
    let destination = Destination::create(&at, overwrite).unwrap();
    destination.make_directory(&EntryPath::default()).unwrap();
    (dir, at, destination)
}

/// Restores a file as a caller would.
fn put(destination: &Destination, at: &str, bytes: &[u8], entry: &Entry) -> Result<Warnings> {
    let target = destination.make_file(&path(at))?;
    target.write_at(0, bytes)?;
    destination.finish_file(target, entry)
}

fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

fn mtime_ns(metadata: &fs::Metadata) -> i64 {
    metadata.mtime() * 1_000_000_000 + metadata.mtime_nsec()
}

fn mode(path: &Path) -> u32 {
    fs::symlink_metadata(path).unwrap().permissions().mode() & 0o7777
}
