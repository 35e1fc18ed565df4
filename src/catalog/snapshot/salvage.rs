//! What can still be had of a snapshot whose bytes are not those that were written?
//!
//! Rows of batches that decode, one by one, in order. Invariant: nothing proves them. They are entries by their form, their
//! paths ascend, and what they say of a content is proved when that is read; but a name or a mode may be wrong. Unless
//! the rows, written again, make the very file that the name stands for: then they are what was written.

use super::read::info_of;
use super::{SnapshotInfo, SnapshotWriter};
use crate::catalog::columns::{EntryBatch, Names, Table, TableFile, Trust};
use crate::error::{Error, Result};
use crate::format::entry::{Entry, EntryPath};
use crate::format::id::SnapshotId;
use crate::format::name::ObjectName;
use crate::storage::{NullWriter, ObjectWriter, Storage};

/// What came out of a damaged snapshot.
#[derive(Debug)]
pub struct SalvagedRows<'s> {
    table: TableFile<'s>,
    names: Names,
    info: SnapshotInfo,
}

impl<'s> SalvagedRows<'s> {
    /// Opens a snapshot by its footer, whatever its hash.
    ///
    /// # Errors
    /// [`Error::Damaged`] if footer, dictionaries or totals are: then nothing can be had of it.
    pub fn open(storage: &'s dyn Storage, id: SnapshotId) -> Result<Self> {
        let table = TableFile::open(storage, ObjectName::Snapshot(id), Table::Snapshot, Trust::Footer)?;
        let names = Names::new(&table.dictionaries()?, table.label_keys());
        let names = names.map_err(|what| Error::damaged_whole(table.name().path(), format!("dictionaries: {what}")))?;
        let info = info_of(&table)?;
        Ok(Self { table, names, info })
    }

    /// What it says of itself; this has a checksum of its own.
    #[must_use]
    pub fn info(&self) -> &SnapshotInfo {
        &self.info
    }

    /// Begins a snapshot of the same columns.
    ///
    /// # Errors
    /// What the writer answers.
    pub fn begin(&self, writer: Box<dyn ObjectWriter>) -> Result<SnapshotWriter> {
        SnapshotWriter::begin(writer)?.with_labels(self.table.label_keys().to_vec())
    }

    /// Hands on every row that can be had, in order; says how many.
    ///
    /// # Errors
    /// What `take` returns; the storage's, if it is not the bytes that are to blame.
    pub fn for_each(&self, take: &mut dyn FnMut(&Entry) -> Result<()>) -> Result<u64> {
        let mut last: Option<EntryPath> = None;
        let mut count = 0;
        for batch in 0..self.table.batch_count() {
            let Ok(columns) = self.table.batch(batch, None) else { continue };
            let Ok(rows) = EntryBatch::new(&columns, self.table.label_keys().len()) else { continue };
            for row in 0..rows.rows() {
                let Ok(entry) = rows.entry(row, &self.names) else { continue };
                if last.as_ref().is_some_and(|last| *last >= entry.path) {
                    continue;
                }
                take(&entry)?;
                count += 1;
                last = Some(entry.path);
            }
        }
        Ok(count)
    }

    /// The id of the snapshot that the rows make when they are written as they are.
    ///
    /// # Errors
    /// As [`Self::for_each`].
    pub fn id(&self) -> Result<SnapshotId> {
        let mut writer = self.begin(Box::new(NullWriter))?;
        self.for_each(&mut |entry| match writer.push(entry) {
            Err(Error::Refused { .. }) => Ok(()),
            pushed => pushed,
        })?;
        Ok(writer.finish(self.info.clone())?.id)
    }
}
