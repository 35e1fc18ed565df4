//! The columns that rows of a snapshot and rows of an archive's members share: name, kind, mode, owner, time, size, link
//! target, device number and extended attributes.

use std::ops::Range;
use std::sync::Arc;

use arrow_array::builder::{ArrayBuilder, BinaryBuilder, Int32Builder};
use arrow_array::{
    Array, ArrayRef, BinaryArray, Int8Array, Int32Array, ListArray, RecordBatch, StringArray, StructArray,
    TimestampNanosecondArray, UInt16Array, UInt32Array, UInt64Array,
};
use arrow_buffer::{OffsetBuffer, ScalarBuffer};
use arrow_schema::{ArrowError, DataType, Field, Fields};

use super::dictionary::{StringDictionary, words};
use super::{column, time_type};
use crate::format::entry::{EntryKind, Xattr};

/// The words of the `kind` column of a snapshot; a kind's place is its key.
pub(super) const KINDS: [(&str, EntryKind); 7] = [
    ("file", EntryKind::File),
    ("directory", EntryKind::Directory),
    ("symlink", EntryKind::Symlink),
    ("fifo", EntryKind::Fifo),
    ("char device", EntryKind::CharDevice),
    ("block device", EntryKind::BlockDevice),
    ("socket", EntryKind::Socket),
];

/// How many columns of [`first_fields`] come first in both tables.
pub(super) const FIRST_FIELDS: usize = 9;

pub(super) fn first_fields() -> [Field; FIRST_FIELDS] {
    [
        Field::new("path", DataType::Binary, false),
        Field::new("kind", words(DataType::Int8), false),
        Field::new("mode", DataType::UInt16, false),
        Field::new("uid", DataType::UInt32, false),
        Field::new("gid", DataType::UInt32, false),
        Field::new("user", words(DataType::Int32), true),
        Field::new("group", words(DataType::Int32), true),
        Field::new("mtime", time_type(), false),
        Field::new("size", DataType::UInt64, false),
    ]
}

pub(super) fn link_field() -> Field {
    Field::new("link_target", DataType::Binary, true)
}

pub(super) fn rdev_field() -> Field {
    Field::new("rdev", DataType::UInt64, false)
}

pub(super) fn xattrs_field() -> Field {
    Field::new("xattrs", DataType::List(xattr_field()), false)
}

fn xattr_fields() -> Fields {
    vec![Field::new("name", DataType::Binary, false), Field::new("value", DataType::Binary, false)].into()
}

fn xattr_field() -> Arc<Field> {
    Arc::new(Field::new("item", DataType::Struct(xattr_fields()), false))
}

/// A row's values in these columns; of one that is read, with what the keys of its dictionary columns stand for.
#[derive(Debug)]
pub(super) struct CommonRow<K, Bytes, Word, Xattrs> {
    pub(super) path: Bytes,
    pub(super) kind: K,
    pub(super) mode: u32,
    pub(super) uid: u32,
    pub(super) gid: u32,
    pub(super) user: Option<Word>,
    pub(super) group: Option<Word>,
    pub(super) mtime_ns: i64,
    pub(super) size: u64,
    pub(super) link_target: Bytes,
    pub(super) rdev: u64,
    pub(super) xattrs: Xattrs,
}

/// A row to be written. Its kind is a key.
pub(super) type RowToWrite<'a> = CommonRow<i8, &'a [u8], &'a str, &'a [Xattr]>;
/// A row that was read.
pub(super) type RowRead<'a, K> = CommonRow<K, &'a [u8], Arc<str>, Vec<Xattr>>;

/// Rows gathered for the next batch.
#[derive(Debug, Default)]
pub(super) struct CommonRows {
    users: StringDictionary,
    groups: StringDictionary,
    columns: Columns,
}

#[derive(Debug, Default)]
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
    link_target: BinaryBuilder,
    rdev: Vec<u64>,
    xattr_ends: Vec<i32>,
    xattr_names: BinaryBuilder,
    xattr_values: BinaryBuilder,
}

/// The columns of a batch.
pub(super) struct CommonColumns {
    /// As [`first_fields`].
    pub(super) first: [ArrayRef; FIRST_FIELDS],
    pub(super) link_target: ArrayRef,
    pub(super) rdev: ArrayRef,
    pub(super) xattrs: ArrayRef,
}

impl CommonRows {
    pub(super) fn rows(&self) -> usize {
        self.columns.size.len()
    }

    /// Appends a row. The caller bounds the batch.
    pub(super) fn push(&mut self, row: &RowToWrite<'_>) -> Result<(), ArrowError> {
        let c = &mut self.columns;
        let user = row.user.and_then(|word| self.users.key(word));
        let group = row.group.and_then(|word| self.groups.key(word));
        let xattr_end = list_end(c.xattr_names.len(), row.xattrs.len())?;
        c.path.append_value(row.path);
        c.kind.push(row.kind);
        c.mode.push((row.mode & 0o7777) as u16);
        c.uid.push(row.uid);
        c.gid.push(row.gid);
        c.user.append_option(user);
        c.group.append_option(group);
        c.mtime.push(row.mtime_ns);
        c.size.push(row.size);
        c.link_target.append_option((!row.link_target.is_empty()).then_some(row.link_target));
        c.rdev.push(row.rdev);
        c.xattr_ends.push(xattr_end);
        for xattr in row.xattrs {
            c.xattr_names.append_value(&xattr.name);
            c.xattr_values.append_value(&xattr.value);
        }
        Ok(())
    }

    /// The gathered rows as columns; none are left.
    pub(super) fn take(&mut self) -> Result<CommonColumns, ArrowError> {
        let mut c = std::mem::take(&mut self.columns);
        let xattrs: Vec<ArrayRef> = vec![Arc::new(c.xattr_names.finish()), Arc::new(c.xattr_values.finish())];
        Ok(CommonColumns {
            first: [
                Arc::new(c.path.finish()),
                Arc::new(Int8Array::from(c.kind)),
                Arc::new(UInt16Array::from(c.mode)),
                Arc::new(UInt32Array::from(c.uid)),
                Arc::new(UInt32Array::from(c.gid)),
                Arc::new(c.user.finish()),
                Arc::new(c.group.finish()),
                time(c.mtime),
                Arc::new(UInt64Array::from(c.size)),
            ],
            link_target: Arc::new(c.link_target.finish()),
            rdev: Arc::new(UInt64Array::from(c.rdev)),
            xattrs: list_of(xattr_field(), xattr_fields(), xattrs, c.xattr_ends)?,
        })
    }

    /// The words of these kinds, of users and of groups.
    pub(super) fn dictionaries<'a>(&self, kinds: impl Iterator<Item = &'a str>) -> [ArrayRef; 3] {
        [Arc::new(StringArray::from_iter_values(kinds)), self.users.values(), self.groups.values()]
    }
}

/// Times as a column.
pub(super) fn time(times_ns: Vec<i64>) -> ArrayRef {
    Arc::new(TimestampNanosecondArray::from(times_ns).with_timezone("UTC"))
}

/// Where a list ends whose items follow the earlier ones.
pub(super) fn list_end(items: usize, more: usize) -> Result<i32, ArrowError> {
    let end = i32::try_from(items.saturating_add(more));
    end.map_err(|_| ArrowError::InvalidArgumentError("the batch is full".into()))
}

/// Lists of structs as a column.
pub(super) fn list_of(
    field: Arc<Field>,
    fields: Fields,
    columns: Vec<ArrayRef>,
    ends: Vec<i32>,
) -> Result<ArrayRef, ArrowError> {
    let ends = OffsetBuffer::new(ScalarBuffer::from_iter(std::iter::once(0).chain(ends)));
    let items = StructArray::try_new(fields, columns, None)?;
    Ok(Arc::new(ListArray::try_new(field, ends, Arc::new(items), None)?))
}

/// What the keys of the dictionary columns stand for.
#[derive(Debug)]
pub(super) struct CommonNames<K> {
    pub(super) kinds: Vec<K>,
    users: Vec<Arc<str>>,
    groups: Vec<Arc<str>>,
}

impl<K> Default for CommonNames<K> {
    fn default() -> Self {
        Self { kinds: Vec::new(), users: Vec::new(), groups: Vec::new() }
    }
}

impl<K: Copy> CommonNames<K> {
    /// Of the dictionaries as [`CommonRows::dictionaries`] gives them.
    pub(super) fn new(
        [kinds, users, groups]: [&StringArray; 3],
        kind_of: impl Fn(&str) -> Option<K>,
    ) -> Result<Self, String> {
        let kind = |word: Option<&str>| {
            let word = word.unwrap_or_default();
            kind_of(word).ok_or_else(|| format!("{word:?} is not a kind"))
        };
        let all = |words: &StringArray| words.iter().map(|word| Arc::from(word.unwrap_or_default())).collect();
        Ok(Self { kinds: kinds.iter().map(kind).collect::<Result<_, _>>()?, users: all(users), groups: all(groups) })
    }
}

/// These columns of a decoded batch.
#[derive(Debug)]
pub(super) struct CommonBatch {
    pub(super) path: BinaryArray,
    pub(super) kind: Int8Array,
    mode: UInt16Array,
    uid: UInt32Array,
    gid: UInt32Array,
    user: Int32Array,
    group: Int32Array,
    mtime: TimestampNanosecondArray,
    size: UInt64Array,
    link_target: BinaryArray,
    rdev: UInt64Array,
    xattrs: OffsetBuffer<i32>,
    xattr_names: BinaryArray,
    xattr_values: BinaryArray,
}

impl CommonBatch {
    /// Of a batch with these columns at these places.
    pub(super) fn new(batch: &RecordBatch, [link_target, rdev, xattrs]: [usize; 3]) -> Result<Self, String> {
        let xattrs: ListArray = column(batch, xattrs)?;
        Ok(Self {
            path: column(batch, 0)?,
            kind: column(batch, 1)?,
            mode: column(batch, 2)?,
            uid: column(batch, 3)?,
            gid: column(batch, 4)?,
            user: column(batch, 5)?,
            group: column(batch, 6)?,
            mtime: column(batch, 7)?,
            size: column(batch, 8)?,
            link_target: column(batch, link_target)?,
            rdev: column(batch, rdev)?,
            xattrs: xattrs.offsets().clone(),
            xattr_names: part(&xattrs, 0)?,
            xattr_values: part(&xattrs, 1)?,
        })
    }

    pub(super) fn rows(&self) -> usize {
        self.path.len()
    }

    /// A row, its keys, mode and lists checked.
    pub(super) fn row<K: Copy>(&self, row: usize, names: &CommonNames<K>) -> Result<RowRead<'_, K>, String> {
        if row >= self.rows() {
            return Err(format!("there are {} only", self.rows()));
        }
        let kind_key = self.kind.values().get(row).copied().unwrap_or(-1);
        let kind = usize::try_from(kind_key).ok().and_then(|key| names.kinds.get(key)).copied();
        let kind = kind.ok_or_else(|| format!("kind {kind_key} has no name"))?;
        let mode = u32::from(self.mode.values().get(row).copied().unwrap_or_default());
        if mode > 0o7777 {
            return Err(format!("mode {mode:o} has more than permission bits"));
        }
        let xattrs = items_of(&self.xattrs, row, self.xattr_names.len().min(self.xattr_values.len()))?;
        let xattr =
            |at| Xattr { name: self.xattr_names.value(at).to_vec(), value: self.xattr_values.value(at).to_vec() };
        Ok(CommonRow {
            path: self.path.value(row),
            kind,
            mode,
            uid: self.uid.values().get(row).copied().unwrap_or_default(),
            gid: self.gid.values().get(row).copied().unwrap_or_default(),
            user: name(&self.user, row, &names.users)?,
            group: name(&self.group, row, &names.groups)?,
            mtime_ns: self.mtime.values().get(row).copied().unwrap_or_default(),
            size: number(&self.size, row),
            link_target: if self.link_target.is_valid(row) { self.link_target.value(row) } else { &[] },
            rdev: number(&self.rdev, row),
            xattrs: xattrs.map(xattr).collect(),
        })
    }
}

pub(super) fn number(column: &UInt64Array, row: usize) -> u64 {
    column.values().get(row).copied().unwrap_or_default()
}

fn name(column: &Int32Array, row: usize, names: &[Arc<str>]) -> Result<Option<Arc<str>>, String> {
    if row >= column.len() || column.is_null(row) {
        return Ok(None);
    }
    let key = column.value(row);
    let name = usize::try_from(key).ok().and_then(|key| names.get(key));
    name.cloned().map(Some).ok_or_else(|| format!("owner {key} has no name"))
}

/// A column of the structs in a list column.
pub(super) fn part<T: Array + Clone + 'static>(list: &ListArray, place: usize) -> Result<T, String> {
    let structs = list.values().as_any().downcast_ref::<StructArray>().ok_or("a list is not of structs")?;
    let part = structs.columns().get(place).and_then(|column| column.as_any().downcast_ref::<T>());
    part.cloned().ok_or_else(|| "a list is of another type".to_owned())
}

/// Where the items of a row's list are.
pub(super) fn items_of(ends: &OffsetBuffer<i32>, row: usize, items: usize) -> Result<Range<usize>, String> {
    let bound = |at: usize| ends.get(at).and_then(|end| usize::try_from(*end).ok());
    match (bound(row), bound(row + 1)) {
        (Some(from), Some(to)) if to <= items => Ok(from..to),
        _ => Err("a list passes the end of the batch".into()),
    }
}
