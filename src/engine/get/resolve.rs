//! Which entry of which snapshot does the user mean?

use std::path::Path;

use crate::catalog::snapshot::Snapshot;
use crate::engine::Store;
use crate::error::{Error, Result};
use crate::format::entry::EntryPath;
use crate::format::id::SnapshotId;

/// How many names near to a wrong one are offered.
const NEAR_NAMES: usize = 3;
/// How many entries are looked at for them.
const NEAR_SEARCH_MAX: usize = 1_000_000;

/// Which snapshot.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Selector {
    /// The newest one that has the path.
    #[default]
    NewestWithPath,
    /// The newest one.
    Latest,
    /// The one whose id begins with these hexadecimal digits.
    Id(String),
}

/// An entry that was asked for.
#[derive(Debug)]
pub struct Found<'s> {
    /// The snapshot.
    pub snapshot: Snapshot<'s>,
    /// The entry's path in it. The root of a snapshot need not have a row of its own.
    pub path: EntryPath,
}

impl Store {
    /// Opens the snapshot that is selected and has `path`.
    ///
    /// # Errors
    /// [`Error::NotFound`], with the nearest names; [`Error::Damaged`] if a snapshot that may have it cannot be read.
    pub fn resolve(&self, path: &Path, selector: &Selector) -> Result<Found<'_>> {
        let wanted = EntryPath::from_given(path);
        let ids: Vec<SnapshotId> = match selector {
            Selector::NewestWithPath => self.snapshots()?.iter().map(|summary| summary.id).collect(),
            Selector::Latest => self.snapshots()?.first().map(|summary| summary.id).into_iter().collect(),
            Selector::Id(prefix) => vec![self.snapshot_by_prefix(prefix)?],
        };
        if ids.is_empty() {
            return Err(Error::not_found("a snapshot: the store is empty, so anything"));
        }
        let mut newest = None;
        for id in ids {
            let snapshot = match Snapshot::open(self.storage(), id) {
                // Removed since it was listed.
                Err(Error::NotFound { .. }) if !matches!(selector, Selector::Id(_)) => continue,
                snapshot => snapshot?,
            };
            let has = wanted.is_root() || snapshot.within(&wanted)?.next().is_some();
            if has {
                return Ok(Found { snapshot, path: wanted });
            }
            newest.get_or_insert(snapshot);
        }
        let near = newest.map_or(Ok(Vec::new()), |snapshot| near_names(&snapshot, &wanted))?;
        Err(Error::NotFound { what: format!("path {wanted:?}"), near })
    }

    pub(in crate::engine) fn snapshot_by_prefix(&self, prefix: &str) -> Result<SnapshotId> {
        let matching: Vec<_> = self.snapshot_ids()?.into_iter().filter(|id| id.to_hex().starts_with(prefix)).collect();
        match matching.as_slice() {
            [id] => Ok(*id),
            [] => Err(Error::not_found(format!("snapshot {prefix:?}"))),
            many => Err(Error::Usage(format!(
                "{prefix:?} is the beginning of {} snapshot ids; give more digits",
                many.len()
            ))),
        }
    }
}

/// The paths of a snapshot that end like the one wanted, or else are spelled nearly like it.
fn near_names(snapshot: &Snapshot<'_>, wanted: &EntryPath) -> Result<Vec<String>> {
    let mut ranked: Vec<(usize, EntryPath)> = Vec::new();
    for entry in snapshot.entries().take(NEAR_SEARCH_MAX) {
        let path = entry?.path;
        let same_name = path.name() == wanted.name();
        let distance = if same_name { 0 } else { 1 + edits(path.as_bytes(), wanted.as_bytes()) };
        if same_name || distance <= 1 + wanted.as_bytes().len() / 3 {
            ranked.push((distance, path));
            ranked.sort();
            ranked.truncate(NEAR_NAMES);
        }
    }
    Ok(ranked.into_iter().map(|(_, path)| format!("{path:?}")).collect())
}

/// The Levenshtein distance, or a bound above any that matters where the lengths differ much.
fn edits(a: &[u8], b: &[u8]) -> usize {
    if a.len().abs_diff(b.len()) > b.len() / 3 {
        return usize::MAX / 2;
    }
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.iter().enumerate() {
        let mut diagonal = i;
        let mut left = i + 1;
        if let Some(first) = row.first_mut() {
            *first = left;
        }
        for (cell, y) in row.iter_mut().skip(1).zip(b) {
            let best = (*cell + 1).min(left + 1).min(diagonal + usize::from(x != y));
            diagonal = *cell;
            *cell = best;
            left = best;
        }
    }
    row.last().copied().unwrap_or_default()
}
