//! Members of an archive as columns: a [`Member`] a row, in archive order.

use std::sync::Arc;

use arrow_array::builder::{ArrayBuilder, BinaryBuilder, Int32Builder};
use arrow_array::{
    Array, ArrayRef, BinaryArray, Int8Array, Int32Array, ListArray, RecordBatch, StringArray, StructArray,
    TimestampNanosecondArray, UInt16Array, UInt32Array, UInt64Array,
};
use arrow_buffer::{OffsetBuffer, ScalarBuffer};
use arrow_schema::{ArrowError, DataType, Field, Fields};

use super::dictionary::{StringDictionary, words};
use super::entries::{KINDS, name, number, xattr_field, xattr_fields};
use super::{Table, column, time_type};
use crate::format::archive::{Member, MemberKind, SparseRun};
use crate::format::entry::Xattr;

/// The words of the `kind` column beyond those of a snapshot.
const MORE_KINDS: [(&str, MemberKind); 2] = [("hard link", MemberKind::HardLink), ("other", MemberKind::Other)];

/// The words of the `kind` column; a kind's place is its key.
fn kinds() -> impl Iterator<Item = (&'static str, MemberKind)> {
    KINDS.into_iter().map(|(word, kind)| (word, MemberKind::Entry(kind))).chain(MORE_KINDS)
}

fn run_fields() -> Fields {
    vec![Field::new("offset", DataType::UInt64, false), Field::new("length", DataType::UInt64, false)].into()
}

fn run_field() -> Arc<Field> {
    Arc::new(Field::new("item", DataType::Struct(run_fields()), false))
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
        Field::new("skeleton_bytes", DataType::UInt64, false),
        Field::new("content_bytes", DataType::UInt64, false),
        Field::new("missing_bytes", DataType::UInt64, false),
        Field::new("link_target", DataType::Binary, true),
        Field::new("rdev", DataType::UInt64, false),
        Field::new("sparse", DataType::List(run_field()), false),
        Field::new("xattrs", DataType::List(xattr_field()), false),
    ]
    .into()
}

/// Rows gathered for the next batch.
#[derive(Debug, Default)]
pub(in crate::catalog) struct MemberRows {
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
    skeleton_bytes: Vec<u64>,
    content_bytes: Vec<u64>,
    missing_bytes: Vec<u64>,
    link_target: BinaryBuilder,
    rdev: Vec<u64>,
    run_ends: Vec<i32>,
    run_offsets: Vec<u64>,
    run_lengths: Vec<u64>,
    xattr_ends: Vec<i32>,
    xattr_names: BinaryBuilder,
    xattr_values: BinaryBuilder,
}

impl MemberRows {
    pub(in crate::catalog) fn rows(&self) -> usize {
        self.columns.size.len()
    }

    /// Appends a row. The caller bounds the batch.
    pub(in crate::catalog) fn push(&mut self, member: &Member) -> Result<(), ArrowError> {
        let full = || ArrowError::InvalidArgumentError("the batch is full".into());
        let c = &mut self.columns;
        let user = member.user.as_ref().and_then(|word| self.users.key(word));
        let group = member.group.as_ref().and_then(|word| self.groups.key(word));
        c.path.append_value(&member.path);
        c.kind.push(kinds().zip(0..).find(|((_, kind), _)| *kind == member.kind).map_or(0, |(_, key)| key));
        c.mode.push((member.mode & 0o7777) as u16);
        c.uid.push(member.uid);
        c.gid.push(member.gid);
        c.user.append_option(user);
        c.group.append_option(group);
        c.mtime.push(member.mtime_ns);
        c.size.push(member.size);
        c.skeleton_bytes.push(member.skeleton_bytes);
        c.content_bytes.push(member.content_bytes);
        c.missing_bytes.push(member.missing_bytes);
        c.link_target.append_option((!member.link_target.is_empty()).then_some(&member.link_target));
        c.rdev.push(member.rdev);
        for run in &member.sparse {
            c.run_offsets.push(run.offset);
            c.run_lengths.push(run.length);
        }
        c.run_ends.push(i32::try_from(c.run_offsets.len()).map_err(|_| full())?);
        for xattr in &member.xattrs {
            c.xattr_names.append_value(&xattr.name);
            c.xattr_values.append_value(&xattr.value);
        }
        c.xattr_ends.push(i32::try_from(c.xattr_names.len()).map_err(|_| full())?);
        Ok(())
    }

    /// The gathered rows as a batch; none are left.
    pub(in crate::catalog) fn take(&mut self) -> Result<RecordBatch, ArrowError> {
        let mut c = std::mem::take(&mut self.columns);
        let lists = |ends: Vec<i32>| OffsetBuffer::new(ScalarBuffer::from_iter(std::iter::once(0).chain(ends)));
        let runs: Vec<ArrayRef> =
            vec![Arc::new(UInt64Array::from(c.run_offsets)), Arc::new(UInt64Array::from(c.run_lengths))];
        let runs = StructArray::try_new(run_fields(), runs, None)?;
        let xattrs: Vec<ArrayRef> = vec![Arc::new(c.xattr_names.finish()), Arc::new(c.xattr_values.finish())];
        let xattrs = StructArray::try_new(xattr_fields(), xattrs, None)?;
        let columns: Vec<ArrayRef> = vec![
            Arc::new(c.path.finish()),
            Arc::new(Int8Array::from(c.kind)),
            Arc::new(UInt16Array::from(c.mode)),
            Arc::new(UInt32Array::from(c.uid)),
            Arc::new(UInt32Array::from(c.gid)),
            Arc::new(c.user.finish()),
            Arc::new(c.group.finish()),
            Arc::new(TimestampNanosecondArray::from(c.mtime).with_timezone("UTC")),
            Arc::new(UInt64Array::from(c.size)),
            Arc::new(UInt64Array::from(c.skeleton_bytes)),
            Arc::new(UInt64Array::from(c.content_bytes)),
            Arc::new(UInt64Array::from(c.missing_bytes)),
            Arc::new(c.link_target.finish()),
            Arc::new(UInt64Array::from(c.rdev)),
            Arc::new(ListArray::try_new(run_field(), lists(c.run_ends), Arc::new(runs), None)?),
            Arc::new(ListArray::try_new(xattr_field(), lists(c.xattr_ends), Arc::new(xattrs), None)?),
        ];
        RecordBatch::try_new(Arc::new(Table::Members.stored_schema(&[])), columns)
    }

    /// All values of the dictionary columns, in the order of columns.
    pub(in crate::catalog) fn dictionaries(&self) -> Vec<ArrayRef> {
        let kinds = StringArray::from_iter_values(kinds().map(|(word, _)| word));
        vec![Arc::new(kinds), self.users.values(), self.groups.values()]
    }
}

/// What the keys of the dictionary columns stand for.
#[derive(Debug, Default)]
pub(in crate::catalog) struct MemberNames {
    kinds: Vec<MemberKind>,
    users: Vec<Arc<str>>,
    groups: Vec<Arc<str>>,
}

impl MemberNames {
    pub(in crate::catalog) fn new(dictionaries: &[StringArray]) -> Result<Self, String> {
        let [kind_words, users, groups] = dictionaries else {
            return Err(format!("{} dictionaries, not 3", dictionaries.len()));
        };
        let kind_of = |word: Option<&str>| {
            let word = word.unwrap_or_default();
            let known = kinds().find(|(name, _)| *name == word);
            known.map(|(_, kind)| kind).ok_or_else(|| format!("{word:?} is no kind of member"))
        };
        let all = |words: &StringArray| words.iter().map(|w| Arc::from(w.unwrap_or_default())).collect();
        let kinds = kind_words.iter().map(kind_of).collect::<Result<_, _>>()?;
        Ok(Self { kinds, users: all(users), groups: all(groups) })
    }
}

/// A decoded batch of rows.
#[derive(Debug)]
pub(in crate::catalog) struct MemberBatch {
    path: BinaryArray,
    kind: Int8Array,
    mode: UInt16Array,
    uid: UInt32Array,
    gid: UInt32Array,
    user: Int32Array,
    group: Int32Array,
    mtime: TimestampNanosecondArray,
    size: UInt64Array,
    skeleton_bytes: UInt64Array,
    content_bytes: UInt64Array,
    missing_bytes: UInt64Array,
    link_target: BinaryArray,
    rdev: UInt64Array,
    runs: OffsetBuffer<i32>,
    run_offsets: UInt64Array,
    run_lengths: UInt64Array,
    xattrs: OffsetBuffer<i32>,
    xattr_names: BinaryArray,
    xattr_values: BinaryArray,
}

impl MemberBatch {
    pub(in crate::catalog) fn new(batch: &RecordBatch) -> Result<Self, String> {
        let (sparse, xattrs): (ListArray, ListArray) = (column(batch, 14)?, column(batch, 15)?);
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
            skeleton_bytes: column(batch, 9)?,
            content_bytes: column(batch, 10)?,
            missing_bytes: column(batch, 11)?,
            link_target: column(batch, 12)?,
            rdev: column(batch, 13)?,
            runs: sparse.offsets().clone(),
            run_offsets: part(&sparse, 0)?,
            run_lengths: part(&sparse, 1)?,
            xattrs: xattrs.offsets().clone(),
            xattr_names: part(&xattrs, 0)?,
            xattr_values: part(&xattrs, 1)?,
        })
    }

    pub(in crate::catalog) fn rows(&self) -> usize {
        self.path.len()
    }

    /// Whether there is a member of a kind.
    pub(in crate::catalog) fn has(&self, kind: MemberKind, names: &MemberNames) -> bool {
        let keys: Vec<i8> =
            names.kinds.iter().zip(0..).filter(|(known, _)| **known == kind).map(|(_, key)| key).collect();
        self.kind.values().iter().any(|key| keys.contains(key))
    }

    /// Bytes of skeleton before the content in a row, and of content.
    pub(in crate::catalog) fn lengths(&self) -> impl Iterator<Item = (u64, u64)> {
        self.skeleton_bytes.values().iter().copied().zip(self.content_bytes.values().iter().copied())
    }

    /// A row, every value checked.
    pub(in crate::catalog) fn member(&self, row: usize, names: &MemberNames) -> Result<Member, String> {
        let bad = |what: String| format!("row {row}: {what}");
        if row >= self.rows() {
            return Err(bad(format!("there are {} only", self.rows())));
        }
        let kind_key = self.kind.values().get(row).copied().unwrap_or(-1);
        let kind = usize::try_from(kind_key).ok().and_then(|k| names.kinds.get(k)).copied();
        let mode = u32::from(self.mode.values().get(row).copied().unwrap_or_default());
        if mode > 0o7777 {
            return Err(bad(format!("mode {mode:o} has more than permission bits")));
        }
        let link_target = if self.link_target.is_valid(row) { self.link_target.value(row) } else { &[] };
        let runs = list_of(&self.runs, row, self.run_offsets.len().min(self.run_lengths.len())).map_err(&bad)?;
        let xattrs = list_of(&self.xattrs, row, self.xattr_names.len().min(self.xattr_values.len())).map_err(&bad)?;
        let run = |at| SparseRun { offset: number(&self.run_offsets, at), length: number(&self.run_lengths, at) };
        let xattr =
            |at| Xattr { name: self.xattr_names.value(at).to_vec(), value: self.xattr_values.value(at).to_vec() };
        Ok(Member {
            path: self.path.value(row).to_vec(),
            kind: kind.ok_or_else(|| bad(format!("kind {kind_key} has no name")))?,
            mode,
            uid: self.uid.values().get(row).copied().unwrap_or_default(),
            gid: self.gid.values().get(row).copied().unwrap_or_default(),
            user: name(&self.user, row, &names.users).map_err(&bad)?,
            group: name(&self.group, row, &names.groups).map_err(&bad)?,
            mtime_ns: self.mtime.values().get(row).copied().unwrap_or_default(),
            size: number(&self.size, row),
            skeleton_bytes: number(&self.skeleton_bytes, row),
            content_bytes: number(&self.content_bytes, row),
            missing_bytes: number(&self.missing_bytes, row),
            link_target: link_target.to_vec(),
            rdev: number(&self.rdev, row),
            sparse: runs.map(run).collect(),
            xattrs: xattrs.map(xattr).collect(),
        })
    }
}

/// A part of the pairs in a list column.
fn part<T: Array + Clone + 'static>(list: &ListArray, place: usize) -> Result<T, String> {
    let pairs = list.values().as_any().downcast_ref::<StructArray>().ok_or("a list is not of pairs")?;
    let part = pairs.columns().get(place).and_then(|c| c.as_any().downcast_ref::<T>());
    part.cloned().ok_or_else(|| "a list is of another type".to_owned())
}

/// Where the items of a row's list are.
fn list_of(ends: &OffsetBuffer<i32>, row: usize, items: usize) -> Result<std::ops::Range<usize>, String> {
    let bound = |at: usize| ends.get(at).and_then(|end| usize::try_from(*end).ok());
    match (bound(row), bound(row + 1)) {
        (Some(from), Some(to)) if to <= items => Ok(from..to),
        _ => Err("a list passes the end of the batch".into()),
    }
}
