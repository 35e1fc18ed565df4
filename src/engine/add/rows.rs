//! In which order do rows reach the snapshot? In its own, whatever order entries came in.
//!
//! From disk they come in order, and are written as they come. From a [`Writer`] they come in any order: they are
//! gathered, and every [`RUN_ROWS`] of them become a *run*: sorted, and written to a file without a name as a snapshot is
//! (some 50 bytes a row). At the end the runs are merged, a batch of each in memory. Then two entries with one path are found, and an entry below one that is no
//! directory; directories that nobody gave but that lead to something are made.
//!
//! [`Writer`]: super::Writer

use std::cmp::Reverse;
use std::collections::{BTreeSet, BinaryHeap};
use std::sync::Arc;

use crate::catalog::snapshot::{Snapshot, SnapshotInfo, SnapshotWriter};
use crate::error::{Error, Result};
use crate::format::entry::{Entry, EntryKind, EntryPath};
use crate::format::id::SnapshotId;
use crate::storage::{CacheDirectory, ScratchStorage, Storage};

/// Rows in memory as they are before they become a run: some 20 MB.
const RUN_ROWS: usize = 64 << 10;
/// They become one earlier if they have this many bytes of paths, targets and attributes.
const RUN_TEXT_BYTES: usize = 16 << 20;

/// Rows on their way to a snapshot.
#[derive(Debug)]
pub(super) enum Rows {
    Ascending(Box<SnapshotWriter>),
    InAnyOrder(Sorter),
}

impl Rows {
    /// Rows that ascend, with labels of these keys.
    pub(super) fn ascending(storage: &dyn Storage, label_keys: &[Arc<str>]) -> Result<Self> {
        let writer = SnapshotWriter::begin(storage.writer()?)?.with_labels(label_keys.to_vec())?;
        Ok(Self::Ascending(Box::new(writer)))
    }

    /// Rows in any order, with labels of these keys and of any others.
    ///
    /// What is too much for memory goes to `caches`.
    pub(super) fn in_any_order(caches: &CacheDirectory, label_keys: &[Arc<str>]) -> Self {
        let (rows, ids) = (Vec::new(), Vec::new());
        let (caches, label_keys) = (caches.clone(), label_keys.iter().cloned().collect());
        Self::InAnyOrder(Sorter { rows, text_bytes: 0, caches, runs: None, ids, label_keys })
    }

    /// Appends a row.
    ///
    /// # Errors
    /// [`Error::Refused`] for an entry that no snapshot can hold; the others can go on without it.
    pub(super) fn push(&mut self, entry: &Entry) -> Result<()> {
        match self {
            Self::Ascending(writer) => writer.push(entry),
            Self::InAnyOrder(sorter) => sorter.push(entry),
        }
    }

    /// The snapshot with all rows in it. `make` makes the directories that are missing.
    ///
    /// # Errors
    /// [`Error::Refused`] names an entry that was given twice, or is below something that is no directory.
    pub(super) fn finish(
        self,
        storage: &dyn Storage,
        make: &mut dyn FnMut(EntryPath) -> Entry,
    ) -> Result<SnapshotWriter> {
        match self {
            Self::Ascending(writer) => Ok(*writer),
            Self::InAnyOrder(sorter) => sorter.finish(storage, make),
        }
    }
}

/// Puts rows in order.
#[derive(Debug)]
pub(super) struct Sorter {
    rows: Vec<Entry>,
    text_bytes: usize,
    caches: CacheDirectory,
    runs: Option<ScratchStorage>,
    ids: Vec<SnapshotId>,
    label_keys: BTreeSet<Arc<str>>,
}

impl Sorter {
    fn push(&mut self, entry: &Entry) -> Result<()> {
        self.text_bytes += SnapshotWriter::check(entry)?;
        for label in &entry.labels {
            if !self.label_keys.contains(label.key()) {
                self.label_keys.insert(label.key().into());
            }
        }
        self.rows.push(entry.clone());
        if self.rows.len() >= RUN_ROWS || self.text_bytes >= RUN_TEXT_BYTES {
            self.end_run()?;
        }
        Ok(())
    }

    /// The rows that are gathered, in order; none are left.
    fn take_sorted(&mut self) -> Result<Vec<Entry>> {
        self.text_bytes = 0;
        let mut rows = std::mem::take(&mut self.rows);
        rows.sort_unstable_by(|a, b| a.path.cmp(&b.path));
        match rows.windows(2).find_map(|pair| pair.first().zip(pair.last()).filter(|(a, b)| a.path == b.path)) {
            Some((entry, _)) => Err(given_twice(entry)),
            None => Ok(rows),
        }
    }

    fn end_run(&mut self) -> Result<()> {
        let rows = self.take_sorted()?;
        let runs = match &self.runs {
            Some(runs) => runs,
            None => self.runs.insert(self.caches.scratch()?),
        };
        let keys = self.label_keys.iter().cloned().collect();
        let mut writer = SnapshotWriter::begin(runs.writer()?)?.with_labels(keys)?;
        rows.iter().try_for_each(|entry| writer.push(entry))?;
        // With its number each has a name of its own.
        let number = self.ids.len();
        let info = SnapshotInfo { tags: vec![number.to_string()], ..SnapshotInfo::default() };
        self.ids.push(writer.finish(info)?.id);
        Ok(())
    }

    fn finish(mut self, storage: &dyn Storage, make: &mut dyn FnMut(EntryPath) -> Entry) -> Result<SnapshotWriter> {
        let rest = self.take_sorted()?;
        let keys = self.label_keys.iter().cloned().collect();
        let mut tree =
            Tree { writer: SnapshotWriter::begin(storage.writer()?)?.with_labels(keys)?, above: Vec::new(), make };
        let written = self.runs.iter().flat_map(|runs| self.ids.iter().map(move |id| Snapshot::open(runs, *id)));
        let runs = written.collect::<Result<Vec<_>>>()?;
        type Run<'r> = Box<dyn Iterator<Item = Result<Entry>> + 'r>;
        let mut runs: Vec<Run<'_>> = runs.iter().map(|run| Box::new(run.entries()) as Run<'_>).collect();
        runs.push(Box::new(rest.into_iter().map(Ok)));
        let mut heads: Vec<Option<Entry>> = Vec::new();
        let mut order = BinaryHeap::new();
        for (place, run) in runs.iter_mut().enumerate() {
            let head = run.next().transpose()?;
            order.extend(head.as_ref().map(|entry| Reverse((entry.path.clone(), place))));
            heads.push(head);
        }
        while let Some(Reverse((_, place))) = order.pop() {
            let (Some(head), Some(run)) = (heads.get_mut(place), runs.get_mut(place)) else { continue };
            let next = run.next().transpose()?;
            order.extend(next.as_ref().map(|entry| Reverse((entry.path.clone(), place))));
            if let Some(entry) = std::mem::replace(head, next) {
                tree.push(entry)?;
            }
        }
        Ok(tree.writer)
    }
}

/// A snapshot in the making, in which every directory that leads somewhere has a row.
struct Tree<'m> {
    writer: SnapshotWriter,
    /// What the last row is, and what is above it, but for the root.
    above: Vec<(EntryPath, EntryKind)>,
    make: &'m mut dyn FnMut(EntryPath) -> Entry,
}

impl Tree<'_> {
    /// Adds a row; rows come in order.
    fn push(&mut self, entry: Entry) -> Result<()> {
        let path = &entry.path;
        if path.is_root() && entry.kind != EntryKind::Directory {
            return Err(refused(&entry, "the root of a snapshot is a directory".to_owned()));
        }
        while self.above.last().is_some_and(|(above, _)| !path.is_within(above)) {
            self.above.pop();
        }
        match self.above.last() {
            Some((above, _)) if above == path => return Err(given_twice(&entry)),
            Some((above, kind)) if *kind != EntryKind::Directory => {
                return Err(refused(
                    &entry,
                    format!("{above:?}, above it, was given as something else than a directory"),
                ));
            }
            _ => {}
        }
        let known_bytes = self.above.last().map_or(0, |(above, _)| above.as_bytes().len());
        let mut missing: Vec<EntryPath> = Vec::new();
        let mut parent = path.parent();
        while let Some(path) = parent.filter(|path| path.as_bytes().len() > known_bytes) {
            parent = path.parent();
            missing.push(path);
        }
        for path in missing.into_iter().rev() {
            let made = (self.make)(path.clone());
            self.writer.push(&made)?;
            self.above.push((path, EntryKind::Directory));
        }
        self.writer.push(&entry)?;
        if !entry.path.is_root() {
            self.above.push((entry.path, entry.kind));
        }
        Ok(())
    }
}

fn refused(entry: &Entry, why: String) -> Error {
    Error::Refused { path: entry.path.as_path().to_owned(), why }
}

fn given_twice(entry: &Entry) -> Error {
    refused(entry, "it was given twice; a snapshot has one entry for each path".to_owned())
}
