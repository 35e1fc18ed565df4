//! What all tests of this module need, and the tests of reading files; walks and metadata have their own.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::print_stdout)]

mod files;
mod metadata;
mod walks;

use std::path::Path;

use super::{Notice, Root, Walk, WalkOptions, Walked, WalkedEntry};
use crate::error::Error;
use crate::format::entry::EntryPath;

fn path(bytes: impl AsRef<[u8]>) -> EntryPath {
    EntryPath::new(bytes.as_ref()).unwrap()
}

fn root(disk: &Path, at: &str) -> Root {
    Root { disk: disk.to_owned(), path: path(at) }
}

/// Walks one directory, and says what was noted on the way, by name.
fn notices(walk: impl Iterator<Item = Walked>) -> Vec<(String, Notice)> {
    let noted = walk.filter_map(|walked| match walked {
        Walked::Noted { disk, notice, .. } => Some((disk.file_name()?.to_string_lossy().into_owned(), notice)),
        _ => None,
    });
    noted.collect()
}

/// Walks one directory, stored at the root.
fn walk(disk: &Path) -> (Vec<WalkedEntry>, Vec<(EntryPath, Error)>) {
    split(Walk::new(vec![root(disk, "")], WalkOptions::default()).unwrap())
}

fn split(walk: impl Iterator<Item = Walked>) -> (Vec<WalkedEntry>, Vec<(EntryPath, Error)>) {
    let (mut found, mut failed) = (Vec::new(), Vec::new());
    for walked in walk {
        match walked {
            Walked::Entry(entry) => found.push(entry),
            Walked::Failed { path, error } => failed.push((path, error)),
            Walked::Noted { .. } => {}
        }
    }
    (found, failed)
}

/// The single entry a walk of `disk` itself finds.
fn find(disk: &Path) -> WalkedEntry {
    let (mut found, failed) = split(Walk::new(vec![root(disk, "it")], WalkOptions::default()).unwrap());
    assert!(failed.is_empty(), "{failed:?}");
    found.swap_remove(0)
}

fn kind_of(error: &Error) -> std::io::ErrorKind {
    match error {
        Error::Io { source, .. } => source.kind(),
        other => panic!("{other:?}"),
    }
}

fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}
