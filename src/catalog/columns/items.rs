//! What is in an export to arrays? An Arrow IPC file with a row for each entry, in path order, that readers map as it is:
//! nothing in it is compressed.
//!
//! It is for other programs: nothing here is ever read back. Types are those of snapshots, so that the two can be joined;
//! labels are plain words, for a table that is written in one go does not know them all beforehand.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow_array::builder::{BinaryBuilder, FixedSizeBinaryBuilder, StringBuilder, UInt64Builder};
use arrow_array::types::Int8Type;
use arrow_array::{
    ArrayRef, DictionaryArray, Int8Array, RecordBatch, StringArray, TimestampNanosecondArray, UInt16Array,
};
use arrow_ipc::writer::FileWriter;
use arrow_schema::{ArrowError, DataType, Field, Fields, Schema};

use super::common::KINDS;
use super::dictionary::words;
use super::{KEY_OBJECT, KEY_VERSION, id_type, labels, time_type};
use crate::error::{Error, Result};
use crate::format::entry::{Entry, EntryPath};

/// A batch is written once it has this many rows.
const BATCH_ROWS: usize = 8 << 10;
/// … or this many bytes of paths and targets.
const BATCH_TEXT_BYTES: usize = 16 << 20;

/// What a further name of a file is called; the kinds of entries come before it.
const HARD_LINK: &str = "hardlink";

/// A row: an entry, and what of it is in the arrays.
#[derive(Debug, Clone, Copy)]
pub struct ItemRow<'a> {
    /// The entry.
    pub entry: &'a Entry,
    /// The number of its item, where that begins in the payload, and its hash. None for what is no file.
    pub item: Option<(u64, u64, [u8; 32])>,
    /// The name whose item it shares, if it is a further name of a file.
    pub first_name: Option<&'a EntryPath>,
}

/// A table of items being written.
pub struct ItemTable<W: Write> {
    path: PathBuf,
    writer: FileWriter<W>,
    keys: Vec<Arc<str>>,
    columns: Columns,
    text_bytes: usize,
}

impl<W: Write> std::fmt::Debug for ItemTable<W> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ItemTable").field("path", &self.path).finish_non_exhaustive()
    }
}

#[derive(Debug)]
struct Columns {
    path: BinaryBuilder,
    kind: Vec<i8>,
    item: UInt64Builder,
    offset: UInt64Builder,
    length: UInt64Builder,
    hash: FixedSizeBinaryBuilder,
    mode: Vec<u16>,
    mtime: Vec<i64>,
    link_target: BinaryBuilder,
    labels: Vec<StringBuilder>,
}

impl Columns {
    fn new(labels: usize) -> Self {
        Self {
            path: BinaryBuilder::new(),
            kind: Vec::new(),
            item: UInt64Builder::new(),
            offset: UInt64Builder::new(),
            length: UInt64Builder::new(),
            hash: FixedSizeBinaryBuilder::new(32),
            mode: Vec::new(),
            mtime: Vec::new(),
            link_target: BinaryBuilder::new(),
            labels: (0..labels).map(|_| StringBuilder::new()).collect(),
        }
    }
}

fn fields(keys: &[Arc<str>]) -> Fields {
    let fixed = [
        Field::new("path", DataType::Binary, false),
        Field::new("kind", words(DataType::Int8), false),
        Field::new("item", DataType::UInt64, true),
        Field::new("offset", DataType::UInt64, true),
        Field::new("length", DataType::UInt64, true),
        Field::new("hash", id_type(), true),
        Field::new("mode", DataType::UInt16, false),
        Field::new("mtime", time_type(), false),
        Field::new("link_target", DataType::Binary, true),
    ];
    fixed.into_iter().chain(keys.iter().map(|key| labels::field(key).with_data_type(DataType::Utf8))).collect()
}

impl<W: Write> ItemTable<W> {
    /// Begins a table; `path` is what the output is called in errors. Entries have labels of these keys.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn begin(output: W, path: &Path, keys: Vec<Arc<str>>) -> Result<Self> {
        let metadata = [(KEY_OBJECT.to_owned(), "items".to_owned()), (KEY_VERSION.to_owned(), "1".to_owned())];
        let schema = Schema::new_with_metadata(fields(&keys), metadata);
        let writer = FileWriter::try_new(output, &schema).map_err(|error| failed(path, error))?;
        let columns = Columns::new(keys.len());
        Ok(Self { path: path.to_owned(), writer, keys, columns, text_bytes: 0 })
    }

    /// Appends a row.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn push(&mut self, row: ItemRow<'_>) -> Result<()> {
        let ItemRow { entry, item, first_name } = row;
        let target = first_name.map_or(entry.link_target.as_slice(), EntryPath::as_bytes);
        self.text_bytes = self.text_bytes.saturating_add(entry.path.as_bytes().len()).saturating_add(target.len());
        let c = &mut self.columns;
        c.path.append_value(entry.path.as_bytes());
        c.kind.push(if first_name.is_some() { KINDS.len() as i8 } else { entry.kind as i8 });
        c.item.append_option(item.map(|(item, _, _)| item));
        c.offset.append_option(item.map(|(_, offset, _)| offset));
        c.length.append_option(item.map(|_| entry.size));
        match item {
            Some((_, _, hash)) => c.hash.append_value(hash).map_err(|error| failed(&self.path, error))?,
            None => c.hash.append_null(),
        }
        c.mode.push((entry.mode & 0o7777) as u16);
        c.mtime.push(entry.mtime_ns);
        c.link_target.append_option((!target.is_empty()).then_some(target));
        for (column, key) in c.labels.iter_mut().zip(&self.keys) {
            column.append_option(entry.labels.get(key));
        }
        let is_full = self.columns.kind.len() >= BATCH_ROWS || self.text_bytes >= BATCH_TEXT_BYTES;
        if is_full { self.flush() } else { Ok(()) }
    }

    /// Ends the table.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn finish(mut self) -> Result<W> {
        self.flush()?;
        self.writer.into_inner().map_err(|error| failed(&self.path, error))
    }

    fn flush(&mut self) -> Result<()> {
        let rows = std::mem::replace(&mut self.columns, Columns::new(self.keys.len()));
        self.text_bytes = 0;
        if rows.kind.is_empty() {
            return Ok(());
        }
        let written = batch(rows, &self.keys).and_then(|batch| self.writer.write(&batch));
        written.map_err(|error| failed(&self.path, error))
    }
}

fn batch(mut c: Columns, keys: &[Arc<str>]) -> Result<RecordBatch, ArrowError> {
    let kinds = StringArray::from_iter_values(KINDS.iter().map(|(word, _)| *word).chain([HARD_LINK]));
    let kind = DictionaryArray::<Int8Type>::try_new(Int8Array::from(c.kind), Arc::new(kinds))?;
    let columns: Vec<ArrayRef> = vec![
        Arc::new(c.path.finish()),
        Arc::new(kind),
        Arc::new(c.item.finish()),
        Arc::new(c.offset.finish()),
        Arc::new(c.length.finish()),
        Arc::new(c.hash.finish()),
        Arc::new(UInt16Array::from(c.mode)),
        Arc::new(TimestampNanosecondArray::from(c.mtime).with_timezone("UTC")),
        Arc::new(c.link_target.finish()),
    ];
    let labels = c.labels.iter_mut().map(|column| Arc::new(column.finish()) as ArrayRef);
    RecordBatch::try_new(Arc::new(Schema::new(fields(keys))), columns.into_iter().chain(labels).collect())
}

fn failed(path: &Path, error: ArrowError) -> Error {
    match error {
        ArrowError::IoError(_, source) => Error::io("write", path, source),
        error => Error::io("write", path, std::io::Error::other(error)),
    }
}
