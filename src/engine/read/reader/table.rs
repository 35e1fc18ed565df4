//! Which chunks is the file at a path made of, and where do they lie? In memory, so that a read asks nobody.
//!
//! Per file: its path's bytes, 16 bytes of row, 5 to 11 of hash table; per chunk 48 bytes, per frame 24. A file of one
//! chunk in a frame of two costs some 90 bytes and its path. Paths are compared whole: two with one hash stay distinct.
//!
//! Invariant: what is in the table was in the snapshot, its recipes and its packs' directories, all of them checked
//! when the table was made.

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::ops::Range;

use crate::engine::ChunkIndex;
use crate::engine::read::archive::OpenArchive;
use crate::engine::read::plan::{FrameNumbers, FrameRef, Frames, ReadSegment};
use crate::error::{Error, Result};
use crate::format::entry::{Content, Entry, EntryKind, EntryPath};
use crate::format::id::{ChunkId, RecipeId};
use crate::format::recipe::Piece;

/// The files of the table whose chunks are not in it but looked up at each read: larger ones, whose reads cost far more
/// than the look-up.
const TABLED_FILE_BYTES_MAX: u64 = 4 << 20;

const EMPTY: u32 = u32::MAX;
const NO_FRAME: u32 = u32::MAX;

/// A stretch of a file: a chunk or a hole.
#[derive(Debug, Clone, Copy)]
struct ChunkRef {
    id: ChunkId,
    /// Where it ends in the file, exclusive.
    end: u64,
    /// Its frame, by its place among the table's; [`NO_FRAME`] for a hole.
    frame: u32,
    /// Where it begins in the decoded frame.
    start: u32,
}

/// A file: the part of the path's text and of the chunks that ends here begins where the row before ends.
#[derive(Debug, Clone, Copy, Default)]
struct Row {
    path_end: usize,
    chunks_end: usize,
}

/// What is known of a file's content without looking anything up.
pub(super) enum Known<'a> {
    /// Its chunks.
    Chunks(Chunks<'a>),
    /// Where it comes from, and its size: look it up.
    Source(Source, u64),
}

/// Where a file comes from whose chunks are not in the table.
#[derive(Debug, Clone, Copy)]
pub(super) enum Source {
    /// A content.
    Content(Content),
    /// A member of an archive, by its row.
    Member(RecipeId, usize),
}

/// A file's chunks.
#[derive(Debug, Clone, Copy)]
pub(super) struct Chunks<'a> {
    chunks: &'a [ChunkRef],
}

impl<'a> Chunks<'a> {
    pub(super) fn size(&self) -> u64 {
        self.chunks.last().map_or(0, |chunk| chunk.end)
    }

    /// The parts of chunks that make up `range`, which is within the file; holes are left out.
    pub(super) fn segments(self, range: Range<u64>, destination: u32) -> impl Iterator<Item = ReadSegment> + use<'a> {
        let first = self.chunks.partition_point(|chunk| chunk.end <= range.start);
        let mut start = first.checked_sub(1).and_then(|n| self.chunks.get(n)).map_or(0, |chunk| chunk.end);
        let rest = self.chunks.get(first..).unwrap_or_default().iter();
        rest.map_while(move |chunk| {
            let begin = std::mem::replace(&mut start, chunk.end);
            (begin < range.end).then(|| {
                // Parts of a chunk are within its length, which is a u32; of a hole nothing is wanted.
                let (from, to) = (range.start.max(begin), range.end.min(chunk.end));
                (chunk.frame != NO_FRAME).then(|| ReadSegment {
                    id: chunk.id,
                    frame: chunk.frame,
                    start: chunk.start,
                    length: (chunk.end - begin) as u32,
                    part_start: (from - begin) as u32,
                    part_bytes: (to - from) as u32,
                    destination,
                    offset: from - range.start,
                })
            })
        })
        .flatten()
    }
}

/// All files of a snapshot.
#[derive(Debug)]
pub(super) struct Table {
    text: Vec<u8>,
    rows: Vec<Row>,
    /// Rows by the hash of their path, in the first free place from there on.
    slots: Vec<u32>,
    hasher: RandomState,
    frames: Frames,
    chunks: Vec<ChunkRef>,
    /// The files whose chunks are not here, with their sizes.
    sources: HashMap<u32, (Source, u64)>,
}

impl Table {
    /// The row of the file at a path.
    pub(super) fn find(&self, path: &[u8]) -> Option<u32> {
        let mask = self.slots.len().checked_sub(1)?;
        let mut at = self.hasher.hash_one(path) as usize & mask;
        loop {
            // A quarter of the places at least are free, so this ends.
            let row = *self.slots.get(at)?;
            if row == EMPTY {
                return None;
            }
            if self.path(row) == path {
                return Some(row);
            }
            at = (at + 1) & mask;
        }
    }

    pub(super) fn path(&self, row: u32) -> &[u8] {
        let (before, own) = self.ends(row);
        self.text.get(before.path_end..own.path_end).unwrap_or_default()
    }

    pub(super) fn len(&self) -> usize {
        self.rows.len()
    }

    /// What a file is made of.
    pub(super) fn content(&self, row: u32) -> Known<'_> {
        let (before, own) = self.ends(row);
        let chunks = self.chunks.get(before.chunks_end..own.chunks_end).unwrap_or_default();
        if chunks.is_empty()
            && let Some((source, size)) = self.sources.get(&row)
        {
            return Known::Source(*source, *size);
        }
        Known::Chunks(Chunks { chunks })
    }

    /// The frames that chunks are in.
    pub(super) fn frames(&self) -> &Frames {
        &self.frames
    }

    /// Whether there are files whose chunks are not here.
    pub(super) fn is_whole(&self) -> bool {
        self.sources.is_empty()
    }

    /// Bytes of memory in use.
    pub(super) fn memory_bytes(&self) -> usize {
        self.text.capacity()
            + self.rows.capacity() * size_of::<Row>()
            + self.slots.capacity() * size_of::<u32>()
            + self.frames.memory_bytes()
            + self.chunks.capacity() * size_of::<ChunkRef>()
            + self.sources.capacity() * size_of::<(u32, Source, u64)>()
    }

    fn ends(&self, row: u32) -> (Row, Row) {
        let row = row as usize;
        let before = row.checked_sub(1).and_then(|before| self.rows.get(before)).copied().unwrap_or_default();
        (before, self.rows.get(row).copied().unwrap_or_default())
    }
}

/// Makes a [`Table`], file by file.
#[derive(Debug, Default)]
pub(super) struct TableBuilder {
    text: Vec<u8>,
    rows: Vec<Row>,
    numbers: FrameNumbers,
    chunks: Vec<ChunkRef>,
    sources: HashMap<u32, (Source, u64)>,
    chunk_bytes_max: usize,
}

impl TableBuilder {
    /// A table that spends no more than about `chunk_bytes_max` on chunks and frames.
    pub(super) fn new(chunk_bytes_max: usize) -> Self {
        Self { chunk_bytes_max, ..Self::default() }
    }

    /// Takes a file, and if it is an archive its members. What of it cannot be found now is looked up, and reported, when it
    /// is read.
    pub(super) fn push(&mut self, chunk_index: &ChunkIndex<'_>, entry: &Entry) -> Result<()> {
        let (content, size) = (entry.content, entry.size);
        if let Content::Archive(id, _) = content {
            self.push_row(&entry.path, Some((Source::Content(content), size)))?;
            return self.push_members(chunk_index, id, &entry.path);
        }
        let is_tabled = size <= TABLED_FILE_BYTES_MAX
            && self.has_room()
            && chunk_index.pieces_of(entry).is_ok_and(|pieces| self.push_pieces(chunk_index, &pieces));
        self.push_row(&entry.path, (!is_tabled).then_some((Source::Content(content), size)))
    }

    fn push_members(&mut self, chunk_index: &ChunkIndex<'_>, id: RecipeId, base: &EntryPath) -> Result<()> {
        // What is wrong with an archive is reported when it is read.
        let Ok(archive) = OpenArchive::open(chunk_index, id) else { return Ok(()) };
        let Ok(named) = archive.named() else { return Ok(()) };
        for named in &named {
            let Ok(entry) = archive.entry(base, named) else { continue };
            if entry.kind != EntryKind::File || named.path.is_root() {
                continue;
            }
            let pieces = if entry.size <= TABLED_FILE_BYTES_MAX && self.has_room() {
                archive.member_pieces(named.row).ok().flatten()
            } else {
                None
            };
            let is_tabled = pieces.is_some_and(|pieces| self.push_pieces(chunk_index, &pieces));
            let source = Source::Member(id, named.row);
            self.push_row(&entry.path, (!is_tabled).then_some((source, entry.size)))?;
        }
        Ok(())
    }

    fn has_room(&self) -> bool {
        let used = self.chunks.len() * size_of::<ChunkRef>() + self.numbers.frames.len() * size_of::<FrameRef>();
        used < self.chunk_bytes_max
    }

    /// Finds the pieces of a file; reports whether all of them were found.
    fn push_pieces(&mut self, chunk_index: &ChunkIndex<'_>, pieces: &[Piece]) -> bool {
        let before = self.chunks.len();
        let mut start = 0;
        let is_found = pieces.iter().all(|piece| {
            let length = piece.end.saturating_sub(std::mem::replace(&mut start, piece.end));
            let found = self.locate(chunk_index, piece, length);
            found.is_ok_and(|(frame, start)| {
                self.chunks.push(ChunkRef { id: piece.id, end: piece.end, frame, start });
                true
            })
        });
        if !is_found {
            self.chunks.truncate(before);
        }
        is_found
    }

    /// The frame of a piece, and where the piece begins in it.
    fn locate(&mut self, chunk_index: &ChunkIndex<'_>, piece: &Piece, length: u64) -> Result<(u32, u32)> {
        if piece.is_hole() {
            return Ok((NO_FRAME, 0));
        }
        let (location, place) = chunk_index.locate(&piece.id, length)?;
        Ok((self.numbers.number(&location, &place)?, place.start))
    }

    fn push_row(&mut self, path: &EntryPath, source: Option<(Source, u64)>) -> Result<()> {
        let row = u32::try_from(self.rows.len()).ok().filter(|row| *row != EMPTY);
        let row = row.ok_or_else(|| Error::Usage("a reader takes at most 2^32 - 1 files".to_owned()))?;
        if let Some(source) = source {
            self.sources.insert(row, source);
        }
        self.text.extend_from_slice(path.as_bytes());
        self.rows.push(Row { path_end: self.text.len(), chunks_end: self.chunks.len() });
        Ok(())
    }

    pub(super) fn finish(self) -> Table {
        let Self { mut text, mut rows, numbers, mut chunks, sources, .. } = self;
        let mut frames = numbers.frames;
        text.shrink_to_fit();
        rows.shrink_to_fit();
        frames.shrink_to_fit();
        chunks.shrink_to_fit();
        let places = (rows.len() + rows.len() / 3 + 1).next_power_of_two();
        let slots = vec![EMPTY; places];
        let mut table = Table { text, rows, slots, hasher: RandomState::new(), frames, chunks, sources };
        for row in 0..table.rows.len() as u32 {
            let mut at = table.hasher.hash_one(table.path(row)) as usize & (places - 1);
            while let Some(slot) = table.slots.get_mut(at) {
                if *slot == EMPTY {
                    *slot = row;
                    break;
                }
                at = (at + 1) & (places - 1);
            }
        }
        table
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing)]

    use super::*;

    fn chunk(n: u8, end: u64, frame: u32) -> ChunkRef {
        ChunkRef { id: ChunkId([n; 32]), end, frame, start: 100 }
    }

    #[test]
    fn ranges_take_parts_of_chunks_and_leave_holes_out() {
        let chunks = [chunk(1, 10, 0), chunk(0, 30, NO_FRAME), chunk(2, 40, 0)];
        let chunks = Chunks { chunks: &chunks };
        let parts = |range| -> Vec<_> {
            let segments = chunks.segments(range, 0);
            segments.map(|w| (w.id.0[0], w.part_start, w.part_bytes, w.offset)).collect()
        };
        assert_eq!(parts(0..40), [(1, 0, 10, 0), (2, 0, 10, 30)]);
        assert_eq!(parts(9..31), [(1, 9, 1, 0), (2, 0, 1, 21)]);
        assert_eq!(parts(10..30), []);
        assert_eq!(parts(30..30), []);
        assert_eq!(parts(35..38), [(2, 5, 3, 0)]);
        assert_eq!(chunks.size(), 40);
    }

    #[test]
    fn every_path_is_found_and_no_other() {
        let mut builder = TableBuilder::new(0);
        let path = |n: u32| format!("folder/{}", n * n).into_bytes();
        for n in 0..1000 {
            builder.text.extend(path(n));
            builder.rows.push(Row { path_end: builder.text.len(), chunks_end: 0 });
        }
        let table = builder.finish();
        for n in 0..1000 {
            assert_eq!(table.find(&path(n)), Some(n));
        }
        assert_eq!(table.find(b"folder/2"), None);
        assert_eq!(table.find(b""), None);
        assert_eq!(TableBuilder::new(0).finish().find(b"a"), None);
    }
}
