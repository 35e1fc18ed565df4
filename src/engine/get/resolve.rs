//! Which entry of which snapshot does the user mean?

use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use super::archive::{Named, OpenArchive, layout_of};
use crate::catalog::snapshot::Snapshot;
use crate::engine::labels::filtered;
use crate::engine::layout::Layout;
use crate::engine::{Locator, Store};
use crate::error::{Error, Result};
use crate::format::entry::{Content, Entry, EntryKind, EntryPath};
use crate::format::id::{RecipeId, SnapshotId};
use crate::format::label::{LabelFilter, Labels};

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
    /// The archive that the entry is a member of, or all members.
    pub(super) inside: Option<Inside>,
}

/// A place in an archive.
#[derive(Debug)]
pub(super) struct Inside {
    pub(super) archive: OpenArchive,
    /// The archive's own path.
    pub(super) base: EntryPath,
    /// The members at the place and below it, in path order.
    pub(super) named: Vec<Named>,
    /// The archive's labels, which are those of all that is in it.
    pub(super) labels: Labels,
}

impl Inside {
    /// What is at a path in an archive. `None` if there is nothing.
    fn find(
        locator: &Locator<'_>,
        id: RecipeId,
        (base, labels): (EntryPath, Labels),
        path: &EntryPath,
    ) -> Result<Option<Self>> {
        let archive = OpenArchive::open(locator, id)?;
        let mut named = archive.named()?;
        named.retain(|named| named.path.is_within(path));
        Ok((path.is_root() || !named.is_empty()).then_some(Self { archive, base, named, labels }))
    }
}

/// An entry, and where its bytes are if it is a file in an archive.
pub(in crate::engine) struct Item {
    pub(in crate::engine) entry: Entry,
    pub(in crate::engine) member: Option<Result<Layout>>,
}

impl AsRef<Entry> for Item {
    fn as_ref(&self) -> &Entry {
        &self.entry
    }
}

impl Item {
    /// Where the bytes of the file are that the entry is.
    pub(in crate::engine) fn layout(
        member: Option<Result<Layout>>,
        entry: &Entry,
        locator: &Locator<'_>,
    ) -> Result<Layout> {
        member.unwrap_or_else(|| layout_of(locator, entry.content, entry.size))
    }
}

impl Found<'_> {
    /// As [`Found::entries`], but only those that have the labels and what leads to them, with what it takes to read
    /// them.
    pub(in crate::engine) fn items<'f>(
        &'f self,
        filter: &'f LabelFilter,
    ) -> Result<Box<dyn Iterator<Item = Result<Item>> + 'f>> {
        match &self.inside {
            None => {
                let entries = self.snapshot.within(&self.path)?;
                let items = entries.map(|entry| entry.map(|entry| Item { entry, member: None }));
                Ok(Box::new(filtered(items, filter)))
            }
            Some(Inside { archive, base, named, labels }) => {
                let items = named.iter().map(|named| {
                    let entry = Entry { labels: labels.clone(), ..archive.entry(base, named)? };
                    let member = (entry.kind == EntryKind::File).then(|| archive.member_layout(named.row));
                    Ok(Item { entry, member })
                });
                Ok(Box::new(filtered(items, filter)))
            }
        }
    }

    /// The entry and all below it, in path order. Members of an archive have paths below the archive's.
    ///
    /// # Errors
    /// [`Error::Damaged`] if the snapshot is; the entries themselves say so of the rest.
    pub fn entries(&self) -> Result<Box<dyn Iterator<Item = Result<Entry>> + '_>> {
        match &self.inside {
            None => Ok(Box::new(self.snapshot.within(&self.path)?)),
            Some(Inside { archive, base, named, labels }) => Ok(Box::new(
                named
                    .iter()
                    .map(|named| archive.entry(base, named).map(|entry| Entry { labels: labels.clone(), ..entry })),
            )),
        }
    }
}

impl Store {
    /// Opens the snapshot that is selected and has `path`.
    ///
    /// # Errors
    /// [`Error::NotFound`], with the nearest names; [`Error::Damaged`] if a snapshot that may have it cannot be read.
    pub fn resolve(&self, path: &Path, selector: &Selector) -> Result<Found<'_>> {
        let wanted = EntryPath::from_given(path);
        // With a slash at its end, the path of an archive stands for what is in it.
        let is_folder = path.as_os_str().as_bytes().ends_with(b"/");
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
            if let Some(inside) = self.place_in(&snapshot, &wanted, is_folder)? {
                return Ok(Found { snapshot, path: wanted, inside });
            }
            newest.get_or_insert(snapshot);
        }
        let near = newest.map_or(Ok(Vec::new()), |snapshot| near_names(&snapshot, &wanted))?;
        Err(Error::NotFound { what: format!("path {wanted:?}"), near })
    }

    /// Whether a snapshot has a path, and if so, in which archive it is, if it is in one.
    fn place_in(&self, snapshot: &Snapshot<'_>, wanted: &EntryPath, is_folder: bool) -> Result<Option<Option<Inside>>> {
        let is_there = wanted.is_root() || snapshot.within(wanted)?.next().is_some();
        if is_there && !is_folder {
            return Ok(Some(None));
        }
        let mut above = Some(wanted.clone());
        while let Some(path) = above.take() {
            match snapshot.find(&path)?.map(|entry| (entry.content, entry.labels)) {
                Some((Content::Archive(id, _), labels)) => {
                    let inner = wanted.below(&path).unwrap_or_default();
                    return Ok(Inside::find(&self.locator()?, id, (path, labels), &inner)?.map(Some));
                }
                Some(_) => break,
                None => above = path.parent(),
            }
        }
        Ok(is_there.then_some(None))
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
