//! What is in an archive? Its table: an Arrow IPC file, a row for each member, in archive order.
//!
//! The table is no object of its own but a part of the archive's stored stream, so its bytes were checked against the ids of
//! chunks before they come here; even so, each value is checked, since its writer may have meant harm.

use std::sync::{Arc, Mutex, PoisonError};

use super::columns::{MemberBatch, MemberNames, MemberRows, Table, TableFile, TableWriter, Trust};
use crate::error::{Error, Result};
use crate::format::archive::{Member, MemberKind};
use crate::format::id::{CatalogHasher, RecipeId, RecipesFileId};
use crate::format::name::ObjectName;
use crate::storage::{MemoryStorage, ObjectWriter, Put};

/// A batch is written once it has this many rows, or this many bytes of names, maps and attributes.
const BATCH_ROWS: usize = 8 << 10;
const BATCH_TEXT_BYTES: usize = 4 << 20;

/// Writes a table of members into memory.
#[derive(Debug)]
pub struct MembersWriter {
    table: TableWriter,
    rows: MemberRows,
    text_bytes: usize,
    count: u64,
    written: Sheet,
}

impl MembersWriter {
    /// Begins a table.
    ///
    /// # Errors
    /// The codec cannot be set up.
    pub fn begin() -> Result<Self> {
        let written = Sheet::default();
        let table = TableWriter::begin(Table::Members, Box::new(written.clone()), CatalogHasher::recipes(), 0)?;
        Ok(Self { table, rows: MemberRows::default(), text_bytes: 0, count: 0, written })
    }

    /// Appends a member.
    ///
    /// # Errors
    /// The table cannot be encoded.
    pub fn push(&mut self, member: &Member) -> Result<()> {
        let xattr_bytes: usize = member.xattrs.iter().map(|xattr| xattr.name.len() + xattr.value.len()).sum();
        let text_bytes = member.path.len() + member.link_target.len() + xattr_bytes + 16 * member.sparse.len();
        if self.rows.rows() >= BATCH_ROWS || self.text_bytes + text_bytes > BATCH_TEXT_BYTES {
            self.flush()?;
        }
        self.rows.push(member).map_err(encoding)?;
        self.text_bytes += text_bytes;
        self.count += 1;
        Ok(())
    }

    /// How many members were pushed.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.count
    }

    /// The bytes of the table.
    ///
    /// # Errors
    /// As [`Self::push`].
    pub fn finish(mut self) -> Result<Vec<u8>> {
        self.flush()?;
        self.table.finish(Vec::new(), self.rows.dictionaries())?;
        Ok(std::mem::take(&mut *self.written.lock()))
    }

    fn flush(&mut self) -> Result<()> {
        if self.rows.rows() == 0 {
            return Ok(());
        }
        self.text_bytes = 0;
        let batch = self.rows.take().map_err(encoding)?;
        self.table.write(&batch)
    }
}

fn encoding(error: impl std::error::Error + Send + Sync + 'static) -> Error {
    Error::io("encode", "a table of members", std::io::Error::other(error))
}

/// Bytes that are written, to be taken when all are there.
#[derive(Debug, Clone, Default)]
pub(super) struct Sheet {
    bytes: Arc<Mutex<Vec<u8>>>,
}

impl Sheet {
    pub(super) fn lock(&self) -> std::sync::MutexGuard<'_, Vec<u8>> {
        self.bytes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl ObjectWriter for Sheet {
    fn write(&mut self, bytes: &[u8]) -> Result<()> {
        self.lock().extend_from_slice(bytes);
        Ok(())
    }

    fn finish(self: Box<Self>, _: &ObjectName) -> Result<Put> {
        Ok(Put::Created)
    }

    fn replace(self: Box<Self>, _: &ObjectName) -> Result<()> {
        Ok(())
    }
}

/// The members of an archive, as columns in memory.
#[derive(Debug)]
pub struct Members {
    names: MemberNames,
    batches: Vec<MemberBatch>,
    /// The row at which each batch begins, and where the last one ends.
    starts: Vec<usize>,
    archive: RecipeId,
}

impl Members {
    /// Reads a table.
    ///
    /// # Errors
    /// [`Error::Damaged`] if the bytes are not such a table.
    pub fn read(archive: RecipeId, bytes: Vec<u8>) -> Result<Self> {
        let damaged = |what: String| damaged(&archive, what);
        // The name is never seen.
        let name = ObjectName::Recipes(RecipesFileId(archive.0));
        let storage = MemoryStorage::new();
        storage.overwrite(&name, bytes);
        let read = || -> Result<Self> {
            let table = TableFile::open(&storage, name, Table::Members, Trust::Footer)?;
            let names = MemberNames::new(&table.dictionaries()?).map_err(damaged)?;
            let mut batches = Vec::new();
            let mut starts = vec![0];
            let mut rows = 0;
            for batch in 0..table.batch_count() {
                let batch = MemberBatch::new(&table.batch(batch, None)?).map_err(damaged)?;
                rows += batch.rows();
                starts.push(rows);
                batches.push(batch);
            }
            Ok(Self { names, batches, starts, archive })
        };
        read().map_err(|error| match error {
            Error::Damaged { offset, what, .. } => Error::Damaged { file: table_of(&archive), offset, what },
            other => other,
        })
    }

    /// How many members there are.
    #[must_use]
    pub fn count(&self) -> usize {
        self.starts.last().copied().unwrap_or_default()
    }

    /// For each member the bytes of skeleton before its content, and of content.
    pub fn lengths(&self) -> impl Iterator<Item = (u64, u64)> {
        self.batches.iter().flat_map(MemberBatch::lengths)
    }

    /// Whether some members are further names of others.
    #[must_use]
    pub fn has_links(&self) -> bool {
        self.batches.iter().any(|batch| batch.has(MemberKind::HardLink, &self.names))
    }

    /// A member.
    ///
    /// # Errors
    /// [`Error::Damaged`] if there is no such row, or what it says is no member.
    pub fn get(&self, row: usize) -> Result<Member> {
        let batch = self.starts.partition_point(|start| *start <= row).saturating_sub(1);
        let start = self.starts.get(batch).copied().unwrap_or_default();
        let found = self.batches.get(batch).ok_or_else(|| format!("there is no member {row}"));
        found.and_then(|found| found.member(row - start, &self.names)).map_err(|what| damaged(&self.archive, what))
    }

    /// All members in order, each with its row.
    pub fn iter(&self) -> impl Iterator<Item = Result<(usize, Member)>> {
        (0..self.count()).map(|row| Ok((row, self.get(row)?)))
    }
}

/// How messages name the table of an archive. Offsets in it are from its own start.
fn table_of(archive: &RecipeId) -> String {
    format!("the table of archive {archive}")
}

fn damaged(archive: &RecipeId, what: String) -> Error {
    Error::damaged_whole(table_of(archive), what)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing)]

    use super::*;
    use crate::format::archive::SparseRun;
    use crate::format::entry::{EntryKind, Xattr};

    fn member(n: u64) -> Member {
        Member {
            path: format!("folder/{n}").into_bytes(),
            kind: if n.is_multiple_of(3) { MemberKind::HardLink } else { MemberKind::Entry(EntryKind::File) },
            mode: 0o644,
            uid: 1000,
            gid: u32::MAX,
            user: n.is_multiple_of(2).then(|| Arc::from("somebody")),
            group: None,
            mtime_ns: -1,
            size: n,
            skeleton_bytes: 512,
            content_bytes: n,
            missing_bytes: n % 5,
            link_target: if n.is_multiple_of(3) { b"\xfftarget".to_vec() } else { Vec::new() },
            rdev: 0,
            sparse: (0..n % 4).map(|at| SparseRun { offset: at * 10, length: at }).collect(),
            xattrs: (0..n % 2).map(|_| Xattr { name: b"user.a".to_vec(), value: vec![0, 1] }).collect(),
        }
    }

    #[test]
    fn members_are_read_back() {
        for count in [0, 1, 10, BATCH_ROWS as u64 + 7] {
            let mut writer = MembersWriter::begin().unwrap();
            (0..count).for_each(|n| writer.push(&member(n)).unwrap());
            assert_eq!(writer.count(), count);
            let members = Members::read(RecipeId([7; 32]), writer.finish().unwrap()).unwrap();
            assert_eq!(members.count() as u64, count);
            for found in members.iter() {
                let (row, found) = found.unwrap();
                assert_eq!(found, member(row as u64));
            }
            assert!(members.lengths().zip(0..).all(|(lengths, n)| lengths == (512, n)));
            assert!(members.get(count as usize).is_err());
        }
    }

    #[test]
    fn owners_beyond_those_a_dictionary_takes_are_kept_by_number() {
        let mut writer = MembersWriter::begin().unwrap();
        let user = |n: u64| format!("{n:016384}");
        for n in 0..1100 {
            writer.push(&Member { user: Some(user(n).into()), ..member(n) }).unwrap();
        }
        let members = Members::read(RecipeId([7; 32]), writer.finish().unwrap()).unwrap();
        assert_eq!(members.get(0).unwrap().user.as_deref(), Some(user(0).as_str()));
        assert_eq!((members.get(1099).unwrap().user, members.get(1099).unwrap().uid), (None, 1000));
    }

    #[test]
    fn damage_is_said_to_be_in_the_table() {
        let mut writer = MembersWriter::begin().unwrap();
        (0..100).for_each(|n| writer.push(&member(n)).unwrap());
        let bytes = writer.finish().unwrap();
        for at in (0..bytes.len()).step_by(7) {
            let mut bytes = bytes.clone();
            bytes[at] ^= 0x55;
            let read = Members::read(RecipeId([7; 32]), bytes);
            let read = read.and_then(|members| members.iter().try_for_each(|member| member.map(|_| ())));
            if let Err(error) = read {
                let said = crate::error::chain(&error);
                assert!(said.contains("archive 0707") || said.contains("format version"), "{said}");
            }
        }
        assert!(Members::read(RecipeId([7; 32]), bytes[..bytes.len() - 1].to_vec()).is_err());
    }
}
