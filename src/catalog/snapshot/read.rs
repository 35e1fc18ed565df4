//! How is a snapshot read? Whole once, for its hash; then batch by batch, as rows are asked for.

use std::sync::{Arc, Mutex, PoisonError};

use super::info::SnapshotInfo;
use crate::catalog::columns::{EntryBatch, KEY_INFO, KEY_INFO_CHECK, Names, Table, TableFile, Trust};
use crate::error::{Error, Result};
use crate::format::entry::{Entry, EntryPath};
use crate::format::id::{CatalogHasher, SnapshotId};
use crate::format::name::ObjectName;
use crate::storage::Storage;

/// Reads what a snapshot says of itself, from the end of its file alone.
///
/// # Errors
/// [`Error::NotFound`] where there is none; [`Error::Damaged`] where it is no snapshot, or this part of it is damaged.
pub fn read_info(storage: &dyn Storage, id: SnapshotId) -> Result<SnapshotInfo> {
    info_of(&TableFile::open(storage, ObjectName::Snapshot(id), Table::Snapshot, Trust::Footer)?)
}

pub(super) fn info_of(table: &TableFile<'_>) -> Result<SnapshotInfo> {
    let value = |key| table.metadata().get(key).map(String::as_str).unwrap_or_default();
    SnapshotInfo::from_json(value(KEY_INFO), value(KEY_INFO_CHECK))
        .map_err(|what| Error::damaged_whole(table.name().path(), what))
}

/// An open snapshot.
///
/// ```
/// # use seamstore::{Control, Store, entry::*, report::*, request::*};
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let store = Store::in_memory(Settings::default())?;
/// # let writer = store.writer(WriterOptions::default().threads(1))?;
/// # writer.add_bytes(writer.entry("notes/first.txt", EntryKind::File)?, b"found again".to_vec())?;
/// # let added = writer.finish()?;
/// # let control = Control::default();
/// let snapshot = store.snapshot(&Selector::Latest)?;
/// let paths: Vec<_> = snapshot.entries().map(|entry| Ok(entry?.path)).collect::<seamstore::Result<_>>()?;
/// assert_eq!(paths, [EntryPath::new("notes")?, EntryPath::new("notes/first.txt")?]);
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct Snapshot<'s> {
    id: SnapshotId,
    table: TableFile<'s>,
    names: Names,
    info: SnapshotInfo,
    /// The first path of each batch, as far as it was asked for.
    firsts: Mutex<Vec<Option<EntryPath>>>,
    last: Mutex<Option<(usize, Arc<EntryBatch>)>>,
}

impl<'s> Snapshot<'s> {
    /// Opens a snapshot: all its bytes are read and compared with the hash that is its name.
    ///
    /// # Errors
    /// [`Error::NotFound`] where there is none; [`Error::Damaged`] where its bytes are not those that were written.
    pub(crate) fn open(storage: &'s dyn Storage, id: SnapshotId) -> Result<Self> {
        let trust = Trust::Whole(CatalogHasher::snapshot, id.0);
        let table = TableFile::open(storage, ObjectName::Snapshot(id), Table::Snapshot, trust)?;
        let names = Names::new(&table.dictionaries()?, table.label_keys());
        let names = names.map_err(|what| Error::damaged_whole(table.name().path(), format!("dictionaries: {what}")))?;
        let info = info_of(&table)?;
        let firsts = Mutex::new(vec![None; table.batch_count()]);
        Ok(Self { id, table, names, info, firsts, last: Mutex::new(None) })
    }

    /// Its id.
    #[must_use]
    pub fn id(&self) -> SnapshotId {
        self.id
    }

    /// What it says of itself.
    #[must_use]
    pub fn info(&self) -> &SnapshotInfo {
        &self.info
    }

    /// The keys of labels that its entries may have, ascending.
    #[must_use]
    pub fn label_keys(&self) -> &[Arc<str>] {
        self.table.label_keys()
    }

    /// How many entries it says it has.
    #[must_use]
    pub fn len(&self) -> u64 {
        self.info.counts.entries
    }

    /// Whether it says it has no entries.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The entry at a path.
    ///
    /// # Errors
    /// [`Error::Damaged`] if rows that were intact when the snapshot was opened are not any more; [`Error::Io`].
    pub fn find(&self, path: &EntryPath) -> Result<Option<Entry>> {
        let place = self.lower_bound(path)?;
        match self.rows_from(place).next().transpose()? {
            Some(entry) if entry.path == *path => Ok(Some(entry)),
            _ => Ok(None),
        }
    }

    /// All entries in order, one batch in memory at a time. After an error there are no more.
    #[must_use]
    pub fn entries(&self) -> Entries<'_, 's> {
        self.rows_from(RowPosition::default())
    }

    /// The entry at a path, if there is one, and all below it, in order.
    ///
    /// # Errors
    /// As [`Snapshot::find`].
    pub fn within(&self, path: &EntryPath) -> Result<Entries<'_, 's>> {
        let mut entries = self.rows_from(self.lower_bound(path)?);
        entries.within = Some(path.clone());
        Ok(entries)
    }

    /// A cursor for looking up paths that come in order.
    #[must_use]
    pub(crate) fn parent_cursor(&self) -> ParentCursor<'_, 's> {
        ParentCursor { snapshot: self, place: RowPosition::default(), batch: None }
    }

    fn rows_from(&self, place: RowPosition) -> Entries<'_, 's> {
        Entries { snapshot: self, place, batch: None, last: None, within: None, done: false }
    }

    fn batch(&self, batch: usize) -> Result<Arc<EntryBatch>> {
        if let Some((at, kept)) = &*self.last.lock().unwrap_or_else(PoisonError::into_inner)
            && *at == batch
        {
            return Ok(Arc::clone(kept));
        }
        let columns = self.table.batch(batch, None)?;
        let read = EntryBatch::new(&columns, self.table.label_keys().len())
            .map_err(|what| self.table.damaged_batch(batch, what))?;
        let read = Arc::new(read);
        *self.last.lock().unwrap_or_else(PoisonError::into_inner) = Some((batch, Arc::clone(&read)));
        Ok(read)
    }

    fn first_path(&self, batch: usize) -> Result<EntryPath> {
        let known = |firsts: &Vec<Option<EntryPath>>| firsts.get(batch).cloned().flatten();
        if let Some(path) = known(&self.firsts.lock().unwrap_or_else(PoisonError::into_inner)) {
            return Ok(path);
        }
        let paths = self.table.batch(batch, Some(&[0]))?;
        let path = EntryBatch::first_path(&paths).map_err(|what| self.table.damaged_batch(batch, what))?;
        if let Some(slot) = self.firsts.lock().unwrap_or_else(PoisonError::into_inner).get_mut(batch) {
            *slot = Some(path.clone());
        }
        Ok(path)
    }

    /// The place of the first row at or after a path.
    fn lower_bound(&self, path: &EntryPath) -> Result<RowPosition> {
        // The last batch that begins at or before the path.
        let (mut low, mut high) = (0, self.table.batch_count());
        while high - low > 1 {
            let middle = low + (high - low) / 2;
            if self.first_path(middle)? <= *path { low = middle } else { high = middle }
        }
        if self.table.batch_count() == 0 {
            return Ok(RowPosition::default());
        }
        let rows = self.batch(low)?;
        let row = self.row_in(low, &rows, 0, path)?;
        Ok(RowPosition { batch: low, row })
    }

    /// The first row from `from` on, in a batch, at or after a path; the number of rows if there is none.
    fn row_in(&self, batch: usize, rows: &EntryBatch, from: usize, path: &EntryPath) -> Result<usize> {
        let (mut low, mut high) = (from, rows.rows());
        while low < high {
            let middle = low + (high - low) / 2;
            let at = rows.path(middle).map_err(|what| self.table.damaged_batch(batch, what))?;
            if at < *path { low = middle + 1 } else { high = middle }
        }
        Ok(low)
    }
}

/// A row of a snapshot; it may be one past the end of its batch.
#[derive(Debug, Clone, Copy, Default)]
struct RowPosition {
    batch: usize,
    row: usize,
}

/// Entries of a snapshot, in order.
///
/// ```
/// # use seamstore::{Control, Store, entry::*, report::*, request::*};
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let store = Store::in_memory(Settings::default())?;
/// # let writer = store.writer(WriterOptions::default().threads(1))?;
/// # writer.add_bytes(writer.entry("notes/first.txt", EntryKind::File)?, b"found again".to_vec())?;
/// # let added = writer.finish()?;
/// # let control = Control::default();
/// let snapshot = store.snapshot(&Selector::Latest)?;
/// let mut bytes = 0;
/// for entry in snapshot.entries() {
///     bytes += entry?.size;
/// }
/// assert_eq!(bytes, 11);
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct Entries<'a, 's> {
    snapshot: &'a Snapshot<'s>,
    place: RowPosition,
    batch: Option<Arc<EntryBatch>>,
    last: Option<EntryPath>,
    within: Option<EntryPath>,
    done: bool,
}

impl Entries<'_, '_> {
    fn advance(&mut self) -> Result<Option<Entry>> {
        loop {
            let Some(rows) = &self.batch else {
                if self.place.batch >= self.snapshot.table.batch_count() {
                    return Ok(None);
                }
                self.batch = Some(self.snapshot.batch(self.place.batch)?);
                continue;
            };
            if self.place.row >= rows.rows() {
                self.place = RowPosition { batch: self.place.batch + 1, row: 0 };
                self.batch = None;
                continue;
            }
            let damaged = |what: String| self.snapshot.table.damaged_batch(self.place.batch, what);
            let entry = rows.entry(self.place.row, &self.snapshot.names).map_err(damaged)?;
            // Within a batch the order was checked when it was decoded.
            if self.place.row == 0 && self.last.as_ref().is_some_and(|last| *last >= entry.path) {
                return Err(damaged(format!("row 0: {:?} comes after {:?}", entry.path, self.last)));
            }
            self.place.row += 1;
            if self.within.as_ref().is_some_and(|ancestor| !entry.path.is_within(ancestor)) {
                return Ok(None);
            }
            self.last = Some(entry.path.clone());
            return Ok(Some(entry));
        }
    }
}

impl Iterator for Entries<'_, '_> {
    type Item = Result<Entry>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.done {
            return None;
        }
        let next = self.advance();
        self.done = !matches!(next, Ok(Some(_)));
        next.transpose()
    }
}

/// Looks up paths that come in order, as a walk of the same tree meets them: then each costs a step or two.
#[derive(Debug)]
pub struct ParentCursor<'a, 's> {
    snapshot: &'a Snapshot<'s>,
    place: RowPosition,
    batch: Option<Arc<EntryBatch>>,
}

impl ParentCursor<'_, '_> {
    /// The entry at `path`, if there is one. Paths may come in any order; ascending ones are fast.
    pub fn seek(&mut self, path: &EntryPath) -> Result<Option<Entry>> {
        for _ in 0..4 {
            match self.step(path)? {
                SeekStep::At(entry) => return Ok(Some(*entry)),
                SeekStep::Absent => return Ok(None),
                SeekStep::Before => {}
                SeekStep::Elsewhere => break,
            }
        }
        // It is not near: search, and go on from there.
        self.place = self.snapshot.lower_bound(path)?;
        self.batch = None;
        match self.step(path)? {
            SeekStep::At(entry) => Ok(Some(*entry)),
            _ => Ok(None),
        }
    }

    /// Compares with the row at the cursor, and moves on if that comes before `path`.
    fn step(&mut self, path: &EntryPath) -> Result<SeekStep> {
        let snapshot = self.snapshot;
        let damaged = |batch: usize| move |what: String| snapshot.table.damaged_batch(batch, what);
        let rows = match &self.batch {
            Some(rows) => Arc::clone(rows),
            None if self.place.batch < self.snapshot.table.batch_count() => self.snapshot.batch(self.place.batch)?,
            None => return Ok(SeekStep::Elsewhere),
        };
        let RowPosition { batch, row } = self.place;
        if row >= rows.rows() {
            let next = batch + 1;
            if next >= self.snapshot.table.batch_count() || self.snapshot.first_path(next)? > *path {
                self.batch = Some(rows);
                return Ok(SeekStep::Elsewhere);
            }
            self.place = RowPosition { batch: next, row: 0 };
            self.batch = None;
            return Ok(SeekStep::Before);
        }
        let at = rows.path(row).map_err(damaged(batch))?;
        let step = match at.cmp(path) {
            std::cmp::Ordering::Equal => {
                let entry = rows.entry(row, &self.snapshot.names).map_err(damaged(batch))?;
                SeekStep::At(Box::new(entry))
            }
            std::cmp::Ordering::Less => SeekStep::Before,
            std::cmp::Ordering::Greater if row == 0 || rows.path(row - 1).map_err(damaged(batch))? < *path => {
                SeekStep::Absent
            }
            std::cmp::Ordering::Greater => SeekStep::Elsewhere,
        };
        self.batch = Some(rows);
        if !matches!(step, SeekStep::Absent | SeekStep::Elsewhere) {
            self.place.row += 1;
        }
        Ok(step)
    }
}

enum SeekStep {
    /// The row is at the path.
    At(Box<Entry>),
    /// The row is after the path, and the one before it is before.
    Absent,
    /// The row is before the path.
    Before,
    /// The path is somewhere else.
    Elsewhere,
}
