//! Members of an archive as columns: a [`Member`] a row, in archive order.

use std::sync::Arc;

use arrow_array::{ArrayRef, ListArray, RecordBatch, StringArray, UInt64Array};
use arrow_buffer::OffsetBuffer;
use arrow_schema::{ArrowError, DataType, Field, Fields};

use super::common::{
    CommonBatch, CommonColumns, CommonNames, CommonRow, CommonRows, KINDS, first_fields, items_of, link_field,
    list_end, list_of, number, part, rdev_field, xattrs_field,
};
use super::{Table, column};
use crate::format::archive::{Member, MemberKind, SparseRun};

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
    let bytes = ["skeleton_bytes", "content_bytes", "missing_bytes"];
    let bytes = bytes.map(|name| Field::new(name, DataType::UInt64, false));
    let sparse = Field::new("sparse", DataType::List(run_field()), false);
    first_fields().into_iter().chain(bytes).chain([link_field(), rdev_field(), sparse, xattrs_field()]).collect()
}

/// Rows gathered for the next batch.
#[derive(Debug, Default)]
pub(in crate::catalog) struct MemberRows {
    common: CommonRows,
    columns: Columns,
}

#[derive(Debug, Default)]
struct Columns {
    skeleton_bytes: Vec<u64>,
    content_bytes: Vec<u64>,
    missing_bytes: Vec<u64>,
    run_ends: Vec<i32>,
    run_offsets: Vec<u64>,
    run_lengths: Vec<u64>,
}

impl MemberRows {
    pub(in crate::catalog) fn rows(&self) -> usize {
        self.common.rows()
    }

    /// Appends a row. The caller bounds the batch.
    pub(in crate::catalog) fn push(&mut self, member: &Member) -> Result<(), ArrowError> {
        let c = &mut self.columns;
        let run_end = list_end(c.run_offsets.len(), member.sparse.len())?;
        self.common.push(&CommonRow {
            path: &member.path,
            kind: kinds().zip(0..).find(|((_, kind), _)| *kind == member.kind).map_or(0, |(_, key)| key),
            mode: member.mode,
            uid: member.uid,
            gid: member.gid,
            user: member.user.as_deref(),
            group: member.group.as_deref(),
            mtime_ns: member.mtime_ns,
            size: member.size,
            link_target: &member.link_target,
            rdev: member.rdev,
            xattrs: &member.xattrs,
        })?;
        c.skeleton_bytes.push(member.skeleton_bytes);
        c.content_bytes.push(member.content_bytes);
        c.missing_bytes.push(member.missing_bytes);
        c.run_ends.push(run_end);
        c.run_offsets.extend(member.sparse.iter().map(|run| run.offset));
        c.run_lengths.extend(member.sparse.iter().map(|run| run.length));
        Ok(())
    }

    /// The gathered rows as a batch; none are left.
    pub(in crate::catalog) fn take(&mut self) -> Result<RecordBatch, ArrowError> {
        let CommonColumns { first, link_target, rdev, xattrs } = self.common.take()?;
        let c = std::mem::take(&mut self.columns);
        let numbers = |numbers: Vec<u64>| -> ArrayRef { Arc::new(UInt64Array::from(numbers)) };
        let bytes = [c.skeleton_bytes, c.content_bytes, c.missing_bytes].map(numbers);
        let runs = list_of(run_field(), run_fields(), [c.run_offsets, c.run_lengths].map(numbers).into(), c.run_ends)?;
        let columns = first.into_iter().chain(bytes).chain([link_target, rdev, runs, xattrs]).collect();
        RecordBatch::try_new(Arc::new(Table::Members.stored_schema(&[])), columns)
    }

    /// All values of the dictionary columns, in the order of columns.
    pub(in crate::catalog) fn dictionaries(&self) -> Vec<ArrayRef> {
        self.common.dictionaries(kinds().map(|(word, _)| word)).into()
    }
}

/// What the keys of the dictionary columns stand for.
#[derive(Debug, Default)]
pub(in crate::catalog) struct MemberNames(CommonNames<MemberKind>);

impl MemberNames {
    pub(in crate::catalog) fn new(dictionaries: &[StringArray]) -> Result<Self, String> {
        let [kind_words, users, groups] = dictionaries else {
            return Err(format!("{} dictionaries, not 3", dictionaries.len()));
        };
        let kind_of = |word: &str| kinds().find(|(known, _)| *known == word).map(|(_, kind)| kind);
        CommonNames::new([kind_words, users, groups], kind_of).map(Self)
    }
}

/// A decoded batch of rows.
#[derive(Debug)]
pub(in crate::catalog) struct MemberBatch {
    common: CommonBatch,
    skeleton_bytes: UInt64Array,
    content_bytes: UInt64Array,
    missing_bytes: UInt64Array,
    runs: OffsetBuffer<i32>,
    run_offsets: UInt64Array,
    run_lengths: UInt64Array,
}

impl MemberBatch {
    pub(in crate::catalog) fn new(batch: &RecordBatch) -> Result<Self, String> {
        let sparse: ListArray = column(batch, 14)?;
        Ok(Self {
            common: CommonBatch::new(batch, [12, 13, 15])?,
            skeleton_bytes: column(batch, 9)?,
            content_bytes: column(batch, 10)?,
            missing_bytes: column(batch, 11)?,
            runs: sparse.offsets().clone(),
            run_offsets: part(&sparse, 0)?,
            run_lengths: part(&sparse, 1)?,
        })
    }

    pub(in crate::catalog) fn rows(&self) -> usize {
        self.common.rows()
    }

    /// Whether there is a member of a kind.
    pub(in crate::catalog) fn has(&self, kind: MemberKind, names: &MemberNames) -> bool {
        let keys: Vec<i8> =
            names.0.kinds.iter().zip(0..).filter(|(known, _)| **known == kind).map(|(_, key)| key).collect();
        self.common.kind.values().iter().any(|key| keys.contains(key))
    }

    /// Bytes of skeleton before the content in a row, and of content.
    pub(in crate::catalog) fn lengths(&self) -> impl Iterator<Item = (u64, u64)> {
        self.skeleton_bytes.values().iter().copied().zip(self.content_bytes.values().iter().copied())
    }

    /// A row, every value checked.
    pub(in crate::catalog) fn member(&self, row: usize, names: &MemberNames) -> Result<Member, String> {
        let bad = |what: String| format!("row {row}: {what}");
        let common = self.common.row(row, &names.0).map_err(bad)?;
        let runs = items_of(&self.runs, row, self.run_offsets.len().min(self.run_lengths.len())).map_err(bad)?;
        let run = |at| SparseRun { offset: number(&self.run_offsets, at), length: number(&self.run_lengths, at) };
        Ok(Member {
            path: common.path.to_vec(),
            kind: common.kind,
            mode: common.mode,
            uid: common.uid,
            gid: common.gid,
            user: common.user,
            group: common.group,
            mtime_ns: common.mtime_ns,
            size: common.size,
            skeleton_bytes: number(&self.skeleton_bytes, row),
            content_bytes: number(&self.content_bytes, row),
            missing_bytes: number(&self.missing_bytes, row),
            link_target: common.link_target.to_vec(),
            rdev: common.rdev,
            sparse: runs.map(run).collect(),
            xattrs: common.xattrs,
        })
    }
}
