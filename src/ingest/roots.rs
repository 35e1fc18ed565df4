//! Which of the given places are walked, so that every entry path has one place on disk?
//!
//! Roots come sorted and disjoint: a root that another one contains is left to that one, if it really is what a walk of
//! the other would meet there. Two places that would be stored under one path are refused.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use super::longpath::LongPath;
use crate::error::{Error, Result};
use crate::format::entry::{EntryKind, EntryPath};
use crate::spelling::quoted;

/// Where a walk begins, and what that place is called in the snapshot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Root {
    /// The place on disk.
    pub disk: PathBuf,
    /// Its path in the snapshot.
    pub path: EntryPath,
}

/// Sorts roots and merges nested and equal ones.
pub(super) fn merge_roots(mut roots: Vec<Root>) -> Result<Vec<Root>> {
    roots.sort_by(|a, b| a.path.cmp(&b.path).then_with(|| a.disk.cmp(&b.disk)));
    let mut kept: Vec<Root> = Vec::with_capacity(roots.len());
    for root in roots {
        // The kept ones are disjoint and below them all is contiguous: only the last can contain this one.
        let container = kept.last().and_then(|outer| Some((outer, root.path.below(&outer.path)?)));
        match container {
            None => kept.push(root),
            Some((outer, below)) => {
                if !walk_meets(&outer.disk, &below, &root.disk) {
                    return Err(Error::Usage(format!(
                        "{} and {} would both be stored at {}; add them one after the other",
                        quoted(&on_disk_below(&outer.disk, &below)),
                        quoted(&root.disk),
                        quoted(&root.path),
                    )));
                }
            }
        }
    }
    Ok(kept)
}

/// Whether a walk of `outer` meets, at `below`, what is at `disk`.
fn walk_meets(outer: &Path, below: &EntryPath, disk: &Path) -> bool {
    if below.is_root() && outer == disk {
        return true;
    }
    // A link on the way would be stored as a link: the walk does not get past it.
    let mut place = outer.to_owned();
    let mut parts = below.as_bytes().split(|b| *b == b'/').filter(|part| !part.is_empty()).peekable();
    while let Some(part) = parts.next() {
        let is_directory = LongPath::new(&place)
            .and_then(|long_path| long_path.stat())
            .is_ok_and(|stat| stat.kind == EntryKind::Directory);
        if !is_directory {
            return false;
        }
        place.push(OsStr::from_bytes(part));
        if parts.peek().is_none() && place == disk {
            return true;
        }
    }
    let look = |path: &Path| LongPath::new(path).and_then(|long_path| long_path.stat());
    match (look(&place), look(disk)) {
        (Ok(met), Ok(given)) => met.is_same_file(&given),
        _ => false,
    }
}

fn on_disk_below(outer: &Path, below: &EntryPath) -> PathBuf {
    if below.is_root() { outer.to_owned() } else { outer.join(below.as_path()) }
}
