//! Snapshot rows as columns: an [`Entry`] a row.
//!
//! `chunk_id` and `recipe_id` tell where a file's bytes are; at most one is set, and neither for a file without bytes.
//! So a join of a snapshot with recipes files by `recipe_id` finds the chunks. `archive` says that the recipe is that of
//! an archive; snapshots from before there were archives do not have it.

use std::sync::Arc;

use arrow_array::builder::{ArrayBuilder, BinaryBuilder, FixedSizeBinaryBuilder, Int32Builder, StringBuilder};
use arrow_array::{
    Array, ArrayRef, BinaryArray, FixedSizeBinaryArray, Int8Array, Int32Array, ListArray, RecordBatch, StringArray,
    StructArray, TimestampNanosecondArray, UInt16Array, UInt32Array, UInt64Array,
};
use arrow_buffer::{OffsetBuffer, ScalarBuffer};
use arrow_schema::{ArrowError, DataType, Field, Fields};

use super::dictionary::{StringDictionary, words};
use super::labels::{LabelBatch, LabelNames, LabelRows};
use super::{Table, column, id_at, id_type, time_type};
use crate::format::archive_form::ArchiveForm;
use crate::format::entry::{Content, Entry, EntryKind, EntryPath, Identity, PATH_BYTES_MAX, Xattr};
use crate::format::id::{ChunkId, RecipeId};
use crate::format::label::Labels;
use crate::spelling::quoted;

/// The words of the `kind` column; a kind's place is its key.
pub(super) const KINDS: [(&str, EntryKind); 7] = [
    ("file", EntryKind::File),
    ("directory", EntryKind::Directory),
    ("symlink", EntryKind::Symlink),
    ("fifo", EntryKind::Fifo),
    ("char device", EntryKind::CharDevice),
    ("block device", EntryKind::BlockDevice),
    ("socket", EntryKind::Socket),
];

/// No more of a path stands in a message.
const SHOWN_BYTES_MAX: usize = 4096;

pub(super) fn xattr_fields() -> Fields {
    vec![Field::new("name", DataType::Binary, false), Field::new("value", DataType::Binary, false)].into()
}

pub(super) fn xattr_field() -> Arc<Field> {
    Arc::new(Field::new("item", DataType::Struct(xattr_fields()), false))
}

pub(super) fn fields() -> Fields {
    vec![
        Field::new("path", DataType::Binary, false),
        Field::new("kind", words(DataType::Int8), false),
        Field::new("mode", DataType::UInt16, false),
        Field::new("uid", DataType::UInt32, false),
        Field::new("gid", DataType::UInt32, false),
        Field::new("user", words(DataType::Int32), true),
        Field::new("group", words(DataType::Int32), true),
        Field::new("mtime", time_type(), false),
        Field::new("size", DataType::UInt64, false),
        Field::new("chunk_id", id_type(), true),
        Field::new("recipe_id", id_type(), true),
        Field::new("link_target", DataType::Binary, true),
        Field::new("rdev", DataType::UInt64, false),
        Field::new("device", DataType::UInt64, false),
        Field::new("inode", DataType::UInt64, false),
        Field::new("links", DataType::UInt64, false),
        Field::new("ctime", time_type(), false),
        Field::new("xattrs", DataType::List(xattr_field()), false),
        Field::new("archive", DataType::Utf8, true),
    ]
    .into()
}

/// How many columns the first snapshots had.
pub(super) const FIRST_COLUMNS: usize = 18;

/// Rows gathered for the next batch.
#[derive(Debug, Default)]
pub(in crate::catalog) struct EntryRows {
    users: StringDictionary,
    groups: StringDictionary,
    labels: LabelRows,
    columns: Columns,
}

#[derive(Debug)]
struct Columns {
    path: BinaryBuilder,
    kind: Vec<i8>,
    mode: Vec<u16>,
    uid: Vec<u32>,
    gid: Vec<u32>,
    user: Int32Builder,
    group: Int32Builder,
    mtime: Vec<i64>,
    size: Vec<u64>,
    chunk_id: FixedSizeBinaryBuilder,
    recipe_id: FixedSizeBinaryBuilder,
    link_target: BinaryBuilder,
    rdev: Vec<u64>,
    device: Vec<u64>,
    inode: Vec<u64>,
    links: Vec<u64>,
    ctime: Vec<i64>,
    xattr_ends: Vec<i32>,
    xattr_names: BinaryBuilder,
    xattr_values: BinaryBuilder,
    archive: StringBuilder,
}

impl Default for Columns {
    fn default() -> Self {
        Self {
            path: BinaryBuilder::new(),
            kind: Vec::new(),
            mode: Vec::new(),
            uid: Vec::new(),
            gid: Vec::new(),
            user: Int32Builder::new(),
            group: Int32Builder::new(),
            mtime: Vec::new(),
            size: Vec::new(),
            chunk_id: FixedSizeBinaryBuilder::new(32),
            recipe_id: FixedSizeBinaryBuilder::new(32),
            link_target: BinaryBuilder::new(),
            rdev: Vec::new(),
            device: Vec::new(),
            inode: Vec::new(),
            links: Vec::new(),
            ctime: Vec::new(),
            xattr_ends: Vec::new(),
            xattr_names: BinaryBuilder::new(),
            xattr_values: BinaryBuilder::new(),
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
        self.columns.size.len()
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
        let full = || ArrowError::InvalidArgumentError("the batch is full".into());
        let c = &mut self.columns;
        let user = entry.user.as_ref().and_then(|word| self.users.key(word));
        let group = entry.group.as_ref().and_then(|word| self.groups.key(word));
        let xattr_end = c.xattr_names.len().saturating_add(entry.xattrs.len());
        let xattr_end = i32::try_from(xattr_end).map_err(|_| full())?;
        c.path.append_value(entry.path.as_bytes());
        c.kind.push(entry.kind as i8);
        c.mode.push((entry.mode & 0o7777) as u16);
        c.uid.push(entry.uid);
        c.gid.push(entry.gid);
        c.user.append_option(user);
        c.group.append_option(group);
        c.mtime.push(entry.mtime_ns);
        c.size.push(entry.size);
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
        c.link_target.append_option((!entry.link_target.is_empty()).then_some(&entry.link_target));
        c.rdev.push(entry.rdev);
        c.device.push(entry.identity.device);
        c.inode.push(entry.identity.inode);
        c.links.push(entry.identity.links);
        c.ctime.push(entry.identity.ctime_ns);
        c.xattr_ends.push(xattr_end);
        for xattr in &entry.xattrs {
            c.xattr_names.append_value(&xattr.name);
            c.xattr_values.append_value(&xattr.value);
        }
        self.labels.push(labels);
        Ok(())
    }

    /// The gathered rows as a batch; none are left.
    pub(in crate::catalog) fn take(&mut self) -> Result<RecordBatch, ArrowError> {
        let mut c = std::mem::take(&mut self.columns);
        let time = |v: Vec<i64>| -> ArrayRef { Arc::new(TimestampNanosecondArray::from(v).with_timezone("UTC")) };
        let xattrs: Vec<ArrayRef> = vec![Arc::new(c.xattr_names.finish()), Arc::new(c.xattr_values.finish())];
        let xattrs = StructArray::try_new(xattr_fields(), xattrs, None)?;
        let lists = OffsetBuffer::new(ScalarBuffer::from_iter(std::iter::once(0).chain(c.xattr_ends)));
        let columns: Vec<ArrayRef> = vec![
            Arc::new(c.path.finish()),
            Arc::new(Int8Array::from(c.kind)),
            Arc::new(UInt16Array::from(c.mode)),
            Arc::new(UInt32Array::from(c.uid)),
            Arc::new(UInt32Array::from(c.gid)),
            Arc::new(c.user.finish()),
            Arc::new(c.group.finish()),
            time(c.mtime),
            Arc::new(UInt64Array::from(c.size)),
            Arc::new(c.chunk_id.finish()),
            Arc::new(c.recipe_id.finish()),
            Arc::new(c.link_target.finish()),
            Arc::new(UInt64Array::from(c.rdev)),
            Arc::new(UInt64Array::from(c.device)),
            Arc::new(UInt64Array::from(c.inode)),
            Arc::new(UInt64Array::from(c.links)),
            time(c.ctime),
            Arc::new(ListArray::try_new(xattr_field(), lists, Arc::new(xattrs), None)?),
            Arc::new(c.archive.finish()),
        ];
        let columns = columns.into_iter().chain(self.labels.take()).collect();
        RecordBatch::try_new(Arc::new(Table::Snapshot.stored_schema(self.labels.keys())), columns)
    }

    /// All values of the dictionary columns, in the order of columns.
    pub(in crate::catalog) fn dictionaries(&self) -> Vec<ArrayRef> {
        let kinds = StringArray::from_iter_values(KINDS.iter().map(|(word, _)| word));
        let fixed: [ArrayRef; 3] = [Arc::new(kinds), self.users.values(), self.groups.values()];
        fixed.into_iter().chain(self.labels.dictionaries()).collect()
    }
}

/// What the keys of a snapshot's dictionary columns stand for.
#[derive(Debug, Default)]
pub(in crate::catalog) struct Names {
    kinds: Vec<EntryKind>,
    users: Vec<Arc<str>>,
    groups: Vec<Arc<str>>,
    labels: LabelNames,
}

impl Names {
    /// Of the dictionaries of a snapshot that has labels of these keys.
    pub(in crate::catalog) fn new(dictionaries: &[StringArray], label_keys: &[Arc<str>]) -> Result<Self, String> {
        let [kinds, users, groups, labels @ ..] = dictionaries else {
            return Err(format!("{} dictionaries, not 3", dictionaries.len()));
        };
        let labels = LabelNames::new(label_keys, labels)?;
        let kind_of = |word: Option<&str>| {
            let word = word.unwrap_or_default();
            let known = KINDS.iter().find(|(name, _)| *name == word);
            known.map(|(_, kind)| *kind).ok_or_else(|| format!("{word:?} is no kind of entry"))
        };
        let all = |words: &StringArray| words.iter().map(|w| Arc::from(w.unwrap_or_default())).collect();
        let kinds = kinds.iter().map(kind_of).collect::<Result<_, _>>()?;
        Ok(Self { kinds, users: all(users), groups: all(groups), labels })
    }
}

/// A decoded batch of rows.
#[derive(Debug)]
pub(in crate::catalog) struct EntryBatch {
    path: BinaryArray,
    kind: Int8Array,
    mode: UInt16Array,
    uid: UInt32Array,
    gid: UInt32Array,
    user: Int32Array,
    group: Int32Array,
    mtime: TimestampNanosecondArray,
    size: UInt64Array,
    chunk_id: FixedSizeBinaryArray,
    recipe_id: FixedSizeBinaryArray,
    link_target: BinaryArray,
    rdev: UInt64Array,
    device: UInt64Array,
    inode: UInt64Array,
    links: UInt64Array,
    ctime: TimestampNanosecondArray,
    xattrs: OffsetBuffer<i32>,
    xattr_names: BinaryArray,
    xattr_values: BinaryArray,
    archive: Option<StringArray>,
    labels: LabelBatch,
}

impl EntryBatch {
    /// A batch of a snapshot that has labels of `label_count` keys.
    pub(in crate::catalog) fn new(batch: &RecordBatch, label_count: usize) -> Result<Self, String> {
        let xattrs: ListArray = column(batch, 17)?;
        let pairs = xattrs.values().as_any().downcast_ref::<StructArray>().ok_or("xattrs are no structs")?;
        let part = |place: usize| {
            let part = pairs.columns().get(place).and_then(|c| c.as_any().downcast_ref::<BinaryArray>());
            part.cloned().ok_or("xattrs are of another type")
        };
        let batch = Self {
            path: column(batch, 0)?,
            kind: column(batch, 1)?,
            mode: column(batch, 2)?,
            uid: column(batch, 3)?,
            gid: column(batch, 4)?,
            user: column(batch, 5)?,
            group: column(batch, 6)?,
            mtime: column(batch, 7)?,
            size: column(batch, 8)?,
            chunk_id: column(batch, 9)?,
            recipe_id: column(batch, 10)?,
            link_target: column(batch, 11)?,
            rdev: column(batch, 12)?,
            device: column(batch, 13)?,
            inode: column(batch, 14)?,
            links: column(batch, 15)?,
            ctime: column(batch, 16)?,
            xattrs: xattrs.offsets().clone(),
            xattr_names: part(0)?,
            xattr_values: part(1)?,
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
        self.path.len()
    }

    pub(in crate::catalog) fn path(&self, row: usize) -> Result<EntryPath, String> {
        entry_path(&self.path, row)
    }

    /// A row, every value checked.
    pub(in crate::catalog) fn entry(&self, row: usize, names: &Names) -> Result<Entry, String> {
        let path = self.path(row)?;
        let bad = |what: String| format!("row {row}, {}: {what}", shown(path.as_bytes()));
        let kind_key = self.kind.values().get(row).copied().unwrap_or(-1);
        let kind = usize::try_from(kind_key).ok().and_then(|k| names.kinds.get(k)).copied();
        let kind = kind.ok_or_else(|| bad(format!("kind {kind_key} has no name")))?;
        let mode = u32::from(self.mode.values().get(row).copied().unwrap_or_default());
        if mode > 0o7777 {
            return Err(bad(format!("mode {mode:o} has more than permission bits")));
        }
        let size = number(&self.size, row);
        let content = match (set_id(&self.chunk_id, row), set_id(&self.recipe_id, row)) {
            (None, None) => Content::Empty,
            (Some(id), None) => Content::Chunk(ChunkId(id)),
            (None, Some(id)) => match self.archive_form(row).map_err(&bad)? {
                Some(form) => Content::Archive(RecipeId(id), form),
                None => Content::Recipe(RecipeId(id)),
            },
            (Some(_), Some(_)) => return Err(bad("it has both a chunk and a recipe".into())),
        };
        let link_target = if self.link_target.is_valid(row) { self.link_target.value(row) } else { &[] };
        let entry = Entry {
            kind,
            mode,
            uid: self.uid.values().get(row).copied().unwrap_or_default(),
            gid: self.gid.values().get(row).copied().unwrap_or_default(),
            user: name(&self.user, row, &names.users).map_err(&bad)?,
            group: name(&self.group, row, &names.groups).map_err(&bad)?,
            mtime_ns: self.mtime.values().get(row).copied().unwrap_or_default(),
            size,
            content,
            link_target: link_target.to_vec(),
            rdev: number(&self.rdev, row),
            identity: Identity {
                device: number(&self.device, row),
                inode: number(&self.inode, row),
                links: number(&self.links, row),
                ctime_ns: self.ctime.values().get(row).copied().unwrap_or_default(),
            },
            xattrs: self.xattrs(row).map_err(&bad)?,
            labels: self.labels.labels(row, &names.labels).map_err(&bad)?,
            path: path.clone(),
        };
        check_entry(&entry).map_err(&bad)?;
        Ok(entry)
    }

    fn archive_form(&self, row: usize) -> Result<Option<ArchiveForm>, String> {
        let Some(word) = self.archive.as_ref().filter(|words| words.is_valid(row)).map(|words| words.value(row)) else {
            return Ok(None);
        };
        ArchiveForm::of_word(word).map(Some).ok_or_else(|| format!("{word:?} is no form of an archive"))
    }

    fn xattrs(&self, row: usize) -> Result<Vec<Xattr>, String> {
        let bound = |at: usize| self.xattrs.get(at).and_then(|end| usize::try_from(*end).ok());
        let (Some(from), Some(to)) = (bound(row), bound(row + 1)) else {
            return Err("it has no list of attributes".into());
        };
        if to > self.xattr_names.len().min(self.xattr_values.len()) {
            return Err("its list of attributes passes the end of the batch".into());
        }
        let xattr =
            |at| Xattr { name: self.xattr_names.value(at).to_vec(), value: self.xattr_values.value(at).to_vec() };
        Ok((from..to).map(xattr).collect())
    }
}

/// What every row keeps to, whoever wrote it: bytes belong to files, targets to links, device numbers to devices.
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

pub(super) fn number(column: &UInt64Array, row: usize) -> u64 {
    column.values().get(row).copied().unwrap_or_default()
}

fn set_id(column: &FixedSizeBinaryArray, row: usize) -> Option<[u8; 32]> {
    id_at(column, row).filter(|_| column.is_valid(row))
}

pub(super) fn name(column: &Int32Array, row: usize, names: &[Arc<str>]) -> Result<Option<Arc<str>>, String> {
    if row >= column.len() || column.is_null(row) {
        return Ok(None);
    }
    let key = column.value(row);
    let name = usize::try_from(key).ok().and_then(|k| names.get(k));
    name.cloned().map(Some).ok_or_else(|| format!("owner {key} has no name"))
}
