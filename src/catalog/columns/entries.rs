//! Snapshot rows as columns: an [`Entry`] a row.
//!
//! `chunk_id` and `recipe_id` tell where a file's bytes are; at most one is set, and neither for a file without bytes.
//! So a join of a snapshot with recipes files by `recipe_id` finds the chunks. `archive` says that the recipe is that of
//! an archive; snapshots from before there were archives do not have it.

use std::sync::Arc;

use arrow_array::builder::{FixedSizeBinaryBuilder, StringBuilder};
use arrow_array::{
    Array, ArrayRef, BinaryArray, FixedSizeBinaryArray, RecordBatch, StringArray, TimestampNanosecondArray, UInt64Array,
};
use arrow_schema::{ArrowError, DataType, Field, Fields};

use super::common::{
    CommonBatch, CommonColumns, CommonNames, CommonRow, CommonRows, KINDS, first_fields, link_field, number,
    rdev_field, time, xattrs_field,
};
use super::labels::{LabelBatch, LabelNames, LabelRows};
use super::{Table, column, id_at, id_type, time_type};
use crate::format::archive_form::ArchiveForm;
use crate::format::entry::{Content, Entry, EntryKind, EntryPath, Identity, PATH_BYTES_MAX};
use crate::format::id::{ChunkId, RecipeId};
use crate::format::label::Labels;
use crate::spelling::quoted;

/// No more of a path stands in a message.
const SHOWN_BYTES_MAX: usize = 4096;

pub(super) fn fields() -> Fields {
    let number = |name| Field::new(name, DataType::UInt64, false);
    let more = [
        Field::new("chunk_id", id_type(), true),
        Field::new("recipe_id", id_type(), true),
        link_field(),
        rdev_field(),
        number("device"),
        number("inode"),
        number("links"),
        Field::new("ctime", time_type(), false),
        xattrs_field(),
        Field::new("archive", DataType::Utf8, true),
    ];
    first_fields().into_iter().chain(more).collect()
}

/// How many columns the first snapshots had.
pub(super) const FIRST_COLUMNS: usize = 18;

/// Rows gathered for the next batch.
#[derive(Debug, Default)]
pub(in crate::catalog) struct EntryRows {
    common: CommonRows,
    labels: LabelRows,
    columns: Columns,
}

#[derive(Debug)]
struct Columns {
    chunk_id: FixedSizeBinaryBuilder,
    recipe_id: FixedSizeBinaryBuilder,
    device: Vec<u64>,
    inode: Vec<u64>,
    links: Vec<u64>,
    ctime: Vec<i64>,
    archive: StringBuilder,
}

impl Default for Columns {
    fn default() -> Self {
        Self {
            chunk_id: FixedSizeBinaryBuilder::new(32),
            recipe_id: FixedSizeBinaryBuilder::new(32),
            device: Vec::new(),
            inode: Vec::new(),
            links: Vec::new(),
            ctime: Vec::new(),
            archive: StringBuilder::new(),
        }
    }
}

impl EntryRows {
    /// Rows that may have labels of these keys, which ascend.
    pub(in crate::catalog) fn with_labels(keys: Vec<Arc<str>>) -> Self {
        Self { labels: LabelRows::new(keys), ..Self::default() }
    }

    /// The keys of labels that rows may have.
    pub(in crate::catalog) fn label_keys(&self) -> &[Arc<str>] {
        self.labels.keys()
    }

    pub(in crate::catalog) fn rows(&self) -> usize {
        self.common.rows()
    }

    /// What [`Self::push`] is to be given for an entry of these labels.
    ///
    /// # Errors
    /// Why there is no room for them.
    pub(in crate::catalog) fn words_of(&mut self, labels: &Labels) -> Result<Vec<Option<i32>>, String> {
        self.labels.words_of(labels)
    }

    /// Appends a row. The caller bounds the batch and has checked the entry.
    pub(in crate::catalog) fn push(&mut self, entry: &Entry, labels: &[Option<i32>]) -> Result<(), ArrowError> {
        self.common.push(&CommonRow {
            path: entry.path.as_bytes(),
            kind: entry.kind as i8,
            mode: entry.mode,
            uid: entry.uid,
            gid: entry.gid,
            user: entry.user.as_deref(),
            group: entry.group.as_deref(),
            mtime_ns: entry.mtime_ns,
            size: entry.size,
            link_target: &entry.link_target,
            rdev: entry.rdev,
            xattrs: &entry.xattrs,
        })?;
        let c = &mut self.columns;
        match &entry.content {
            Content::Chunk(id) => c.chunk_id.append_value(id.as_bytes())?,
            _ => c.chunk_id.append_null(),
        }
        match &entry.content {
            Content::Recipe(id) | Content::Archive(id, _) => c.recipe_id.append_value(id.as_bytes())?,
            _ => c.recipe_id.append_null(),
        }
        c.archive.append_option(match &entry.content {
            Content::Archive(_, form) => Some(form.word()),
            _ => None,
        });
        c.device.push(entry.identity.device);
        c.inode.push(entry.identity.inode);
        c.links.push(entry.identity.links);
        c.ctime.push(entry.identity.ctime_ns);
        self.labels.push(labels);
        Ok(())
    }

    /// The gathered rows as a batch; none are left.
    pub(in crate::catalog) fn take(&mut self) -> Result<RecordBatch, ArrowError> {
        let CommonColumns { first, link_target, rdev, xattrs } = self.common.take()?;
        let mut c = std::mem::take(&mut self.columns);
        let more: [ArrayRef; 10] = [
            Arc::new(c.chunk_id.finish()),
            Arc::new(c.recipe_id.finish()),
            link_target,
            rdev,
            Arc::new(UInt64Array::from(c.device)),
            Arc::new(UInt64Array::from(c.inode)),
            Arc::new(UInt64Array::from(c.links)),
            time(c.ctime),
            xattrs,
            Arc::new(c.archive.finish()),
        ];
        let columns = first.into_iter().chain(more).chain(self.labels.take()).collect();
        RecordBatch::try_new(Arc::new(Table::Snapshot.stored_schema(self.labels.keys())), columns)
    }

    /// All values of the dictionary columns, in the order of columns.
    pub(in crate::catalog) fn dictionaries(&self) -> Vec<ArrayRef> {
        let fixed = self.common.dictionaries(KINDS.iter().map(|(word, _)| *word));
        fixed.into_iter().chain(self.labels.dictionaries()).collect()
    }
}

/// What the keys of a snapshot's dictionary columns stand for.
#[derive(Debug, Default)]
pub(in crate::catalog) struct Names {
    common: CommonNames<EntryKind>,
    labels: LabelNames,
}

impl Names {
    /// Of the dictionaries of a snapshot that has labels of these keys.
    pub(in crate::catalog) fn new(dictionaries: &[StringArray], label_keys: &[Arc<str>]) -> Result<Self, String> {
        let [kinds, users, groups, labels @ ..] = dictionaries else {
            return Err(format!("{} dictionaries, not 3", dictionaries.len()));
        };
        let kind_of = |word: &str| KINDS.iter().find(|(known, _)| *known == word).map(|(_, kind)| *kind);
        let labels = LabelNames::new(label_keys, labels)?;
        Ok(Self { common: CommonNames::new([kinds, users, groups], kind_of)?, labels })
    }
}

/// A decoded batch of rows.
#[derive(Debug)]
pub(in crate::catalog) struct EntryBatch {
    common: CommonBatch,
    chunk_id: FixedSizeBinaryArray,
    recipe_id: FixedSizeBinaryArray,
    device: UInt64Array,
    inode: UInt64Array,
    links: UInt64Array,
    ctime: TimestampNanosecondArray,
    archive: Option<StringArray>,
    labels: LabelBatch,
}

impl EntryBatch {
    /// A batch of a snapshot that has labels of `label_count` keys.
    pub(in crate::catalog) fn new(batch: &RecordBatch, label_count: usize) -> Result<Self, String> {
        let batch = Self {
            common: CommonBatch::new(batch, [11, 12, 17])?,
            chunk_id: column(batch, 9)?,
            recipe_id: column(batch, 10)?,
            device: column(batch, 13)?,
            inode: column(batch, 14)?,
            links: column(batch, 15)?,
            ctime: column(batch, 16)?,
            archive: match batch.num_columns().saturating_sub(label_count) {
                FIRST_COLUMNS => None,
                _ => Some(column(batch, FIRST_COLUMNS)?),
            },
            labels: LabelBatch::new(batch, label_count)?,
        };
        batch.check_order()?;
        Ok(batch)
    }

    /// The first path of a batch of which only the path column was read.
    pub(in crate::catalog) fn first_path(paths_only: &RecordBatch) -> Result<EntryPath, String> {
        let paths: BinaryArray = column(paths_only, 0)?;
        entry_path(&paths, 0)
    }

    fn check_order(&self) -> Result<(), String> {
        let mut before: Option<EntryPath> = None;
        for row in 0..self.rows() {
            let path = self.path(row)?;
            if before.as_ref().is_some_and(|b| *b >= path) {
                return Err(format!("row {row}: {path:?} comes after {before:?}"));
            }
            before = Some(path);
        }
        Ok(())
    }

    pub(in crate::catalog) fn rows(&self) -> usize {
        self.common.rows()
    }

    pub(in crate::catalog) fn path(&self, row: usize) -> Result<EntryPath, String> {
        entry_path(&self.common.path, row)
    }

    /// A row, every value checked.
    pub(in crate::catalog) fn entry(&self, row: usize, names: &Names) -> Result<Entry, String> {
        let path = self.path(row)?;
        let bad = |what: String| format!("row {row}, {}: {what}", shown(path.as_bytes()));
        let common = self.common.row(row, &names.common).map_err(bad)?;
        let content = match (set_id(&self.chunk_id, row), set_id(&self.recipe_id, row)) {
            (None, None) => Content::Empty,
            (Some(id), None) => Content::Chunk(ChunkId(id)),
            (None, Some(id)) => match self.archive_form(row).map_err(bad)? {
                Some(form) => Content::Archive(RecipeId(id), form),
                None => Content::Recipe(RecipeId(id)),
            },
            (Some(_), Some(_)) => return Err(bad("it has both a chunk and a recipe".into())),
        };
        let entry = Entry {
            kind: common.kind,
            mode: common.mode,
            uid: common.uid,
            gid: common.gid,
            user: common.user,
            group: common.group,
            mtime_ns: common.mtime_ns,
            size: common.size,
            content,
            link_target: common.link_target.to_vec(),
            rdev: common.rdev,
            identity: Identity {
                device: number(&self.device, row),
                inode: number(&self.inode, row),
                links: number(&self.links, row),
                ctime_ns: self.ctime.values().get(row).copied().unwrap_or_default(),
            },
            xattrs: common.xattrs,
            labels: self.labels.labels(row, &names.labels).map_err(bad)?,
            path: path.clone(),
        };
        check_entry(&entry).map_err(bad)?;
        Ok(entry)
    }

    fn archive_form(&self, row: usize) -> Result<Option<ArchiveForm>, String> {
        let Some(word) = self.archive.as_ref().filter(|words| words.is_valid(row)).map(|words| words.value(row)) else {
            return Ok(None);
        };
        ArchiveForm::of_word(word).map(Some).ok_or_else(|| format!("{word:?} is no form of an archive"))
    }
}

/// The rules of every row: bytes belong to files, targets to links, device numbers to devices.
pub(in crate::catalog) fn check_entry(entry: &Entry) -> Result<(), String> {
    let is_file = entry.kind == EntryKind::File;
    let is_device = matches!(entry.kind, EntryKind::CharDevice | EntryKind::BlockDevice);
    let has_bytes = entry.content != Content::Empty;
    if entry.path.as_bytes().len() > PATH_BYTES_MAX {
        return Err(format!("a path of {} bytes, more than {PATH_BYTES_MAX}", entry.path.as_bytes().len()));
    }
    if entry.mode > 0o7777 {
        return Err(format!("mode {:o} has more than permission bits", entry.mode));
    }
    if has_bytes != (entry.size > 0) || (entry.size > 0 && !is_file) {
        return Err(format!("{:?} of {} bytes with content {:?}", entry.kind, entry.size, entry.content));
    }
    if entry.link_target.is_empty() == (entry.kind == EntryKind::Symlink) || entry.link_target.contains(&0) {
        return Err(format!("{:?} with a link target of {} bytes", entry.kind, entry.link_target.len()));
    }
    if entry.rdev != 0 && !is_device {
        return Err(format!("{:?} with device number {}", entry.kind, entry.rdev));
    }
    let names_ascend = entry.xattrs.windows(2).all(|w| matches!(w, [a, b] if a.name < b.name));
    if !names_ascend || entry.xattrs.iter().any(|x| x.name.is_empty() || x.name.contains(&0)) {
        return Err("attribute names do not ascend, or one is no name".into());
    }
    Ok(())
}

fn entry_path(paths: &BinaryArray, row: usize) -> Result<EntryPath, String> {
    if row >= paths.len() {
        return Err(format!("there is no row {row}, only {}", paths.len()));
    }
    let bytes = paths.value(row);
    EntryPath::new(bytes).map_err(|e| format!("row {row}, {}: {e}", shown(bytes)))
}

/// A path in a message: not all of one of megabytes.
fn shown(path: &[u8]) -> String {
    match path.get(..SHOWN_BYTES_MAX) {
        Some(front) => format!("{}…", quoted(front)),
        None => quoted(path).to_string(),
    }
}

fn set_id(column: &FixedSizeBinaryArray, row: usize) -> Option<[u8; 32]> {
    id_at(column, row).filter(|_| column.is_valid(row))
}
