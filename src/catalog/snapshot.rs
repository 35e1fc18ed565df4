//! What was in a tree at a time? Snapshots: one row per entry in path order, and what is known of the whole.
//!
//! Invariants: rows ascend strictly by [`EntryPath`], so a path is a binary search, what is below a directory is one
//! stretch, and a walk of a tree meets its parent snapshot's rows in order; every byte is checked against the
//! snapshot's id before any row is believed; and even so each row's values are checked, since a hostile snapshot
//! hashes to its name like any other.

mod info;
mod read;
mod salvage;

pub use info::{Counts, Root, SnapshotInfo};
pub use read::{Entries, ParentCursor, Snapshot, read_info};
pub use salvage::SalvagedRows;

use std::sync::Arc;

use super::columns::{EntryRows, KEY_INFO, KEY_INFO_CHECK, RecordBatch, Table, TableWriter, check_entry, check_keys};
use crate::error::{Error, Result};
use crate::format::entry::{Entry, EntryKind, EntryPath};
use crate::format::id::{CatalogHasher, SnapshotId};
use crate::format::name::ObjectName;
use crate::storage::ObjectWriter;

/// A batch is written once it has this many rows, or this many bytes of paths, targets and attributes.
const BATCH_ROWS: usize = 8 << 10;
const BATCH_TEXT_BYTES: usize = 4 << 20;
/// A row with more bytes of path, target and attributes is refused. (Linux: 4 KiB, 4 KiB, 64 KiB and the path again.)
const ROW_TEXT_BYTES_MAX: usize = 32 << 20;
/// Up to this much of a snapshot is held in memory, so that its totals and dictionaries can also stand at its front:
/// some 300,000 rows.
const HOLD_BYTES_MAX: usize = 16 << 20;

/// A snapshot that was written.
#[derive(Debug, Clone, PartialEq)]
pub struct WrittenSnapshot {
    /// Its id.
    pub id: SnapshotId,
    /// Its size in bytes.
    pub bytes: u64,
    /// What it says of itself, counts filled in.
    pub info: SnapshotInfo,
}

/// Writes a snapshot. Memory is bounded whatever the number of rows.
#[derive(Debug)]
pub struct SnapshotWriter {
    table: TableWriter,
    rows: EntryRows,
    text_bytes: usize,
    last: Option<EntryPath>,
    counts: Counts,
}

impl SnapshotWriter {
    /// Begins a snapshot.
    pub fn begin(writer: Box<dyn ObjectWriter>) -> Result<Self> {
        Self::begin_holding(writer, HOLD_BYTES_MAX)
    }

    pub(super) fn begin_holding(writer: Box<dyn ObjectWriter>, hold_bytes_max: usize) -> Result<Self> {
        let table = TableWriter::begin(Table::Snapshot, writer, CatalogHasher::snapshot(), hold_bytes_max)?;
        Ok(Self { table, rows: EntryRows::default(), text_bytes: 0, last: None, counts: Counts::default() })
    }

    /// Lets rows, of which there are none yet, have labels of these keys, which ascend.
    ///
    /// # Errors
    /// [`Error::Usage`] for more keys than a snapshot can have.
    pub fn with_labels(mut self, keys: Vec<Arc<str>>) -> Result<Self> {
        check_keys(&keys).map_err(Error::Usage)?;
        self.table = self.table.with_labels(&keys);
        self.rows = EntryRows::with_labels(keys);
        Ok(self)
    }

    #[cfg(test)]
    pub(super) fn uncompressed(mut self) -> Self {
        self.table = self.table.uncompressed();
        self
    }

    /// Appends an entry.
    ///
    /// # Errors
    /// [`Error::Refused`] for an entry that does not come after the one before, or says what no entry says (bytes in a
    /// directory, a symbolic link without target, attributes out of order), or has a label whose key was
    /// not given to [`Self::with_labels`]. The snapshot can go on without it.
    pub fn push(&mut self, entry: &Entry) -> Result<()> {
        let refuse = |why: String| Error::Refused { path: entry.path.as_path().to_owned(), why };
        if let Some(last) = self.last.as_ref().filter(|last| **last >= entry.path) {
            return Err(refuse(format!("it comes after {last:?}, the rows of a snapshot ascend")));
        }
        let text_bytes = Self::check(entry)?;
        if self.rows.rows() >= BATCH_ROWS || self.text_bytes + text_bytes > BATCH_TEXT_BYTES {
            let batch = self.take_batch()?;
            self.table.write_beside(batch)?;
        }
        let labels = self.rows.words_of(&entry.labels).map_err(refuse)?;
        self.rows.push(entry, &labels).map_err(|e| Error::io("encode", "snapshot", std::io::Error::other(e)))?;
        self.text_bytes += text_bytes;
        self.counts.add(entry);
        match &mut self.last {
            Some(last) => last.clone_from(&entry.path),
            None => self.last = Some(entry.path.clone()),
        }
        Ok(())
    }

    /// Whether a snapshot can hold an entry, wherever it comes in it; says how many bytes of path, target and attributes it
    /// has.
    ///
    /// # Errors
    /// As [`Self::push`].
    pub fn check(entry: &Entry) -> Result<usize> {
        let refuse = |why: String| Error::Refused { path: entry.path.as_path().to_owned(), why };
        check_entry(entry).map_err(refuse)?;
        let xattr_bytes: usize = entry.xattrs.iter().map(|x| x.name.len() + x.value.len()).sum();
        let text_bytes = entry.path.as_bytes().len() + entry.link_target.len() + xattr_bytes;
        if text_bytes > ROW_TEXT_BYTES_MAX {
            return Err(refuse(format!("{text_bytes} bytes of path, target and attributes are too many")));
        }
        Ok(text_bytes)
    }

    /// Makes the snapshot durable and visible: the commit. `info.counts` and `info.label_keys` are replaced by what was
    /// pushed.
    pub fn finish(self, info: SnapshotInfo) -> Result<WrittenSnapshot> {
        let (writer, written) = self.end(info)?;
        writer.finish(&ObjectName::Snapshot(written.id))?;
        Ok(written)
    }

    /// As [`Self::finish`], in place of a damaged snapshot of the same id.
    pub fn replace(self, info: SnapshotInfo) -> Result<WrittenSnapshot> {
        let (writer, written) = self.end(info)?;
        writer.replace(&ObjectName::Snapshot(written.id))?;
        Ok(written)
    }

    fn end(mut self, mut info: SnapshotInfo) -> Result<(Box<dyn ObjectWriter>, WrittenSnapshot)> {
        if self.rows.rows() > 0 {
            let batch = self.take_batch()?;
            self.table.write(&batch)?;
        }
        info.counts = self.counts;
        info.label_keys = self.rows.label_keys().iter().map(|key| key.to_string()).collect();
        let json = info.to_json()?;
        let check = info::check_of(&json);
        let metadata = vec![(KEY_INFO.to_owned(), json), (KEY_INFO_CHECK.to_owned(), check)];
        let (writer, hash, bytes) = self.table.finish(metadata, self.rows.dictionaries())?;
        Ok((writer, WrittenSnapshot { id: SnapshotId(hash), bytes, info }))
    }

    /// The rows gathered so far; none are left.
    fn take_batch(&mut self) -> Result<RecordBatch> {
        self.text_bytes = 0;
        self.rows.take().map_err(|e| Error::io("encode", "snapshot", std::io::Error::other(e)))
    }
}

impl Counts {
    fn add(&mut self, entry: &Entry) {
        self.entries += 1;
        match entry.kind {
            EntryKind::File => self.files += 1,
            EntryKind::Directory => self.directories += 1,
            _ => self.others += 1,
        }
        self.logical_bytes = self.logical_bytes.saturating_add(entry.size);
    }
}
