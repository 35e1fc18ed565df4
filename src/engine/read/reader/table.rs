//! Which chunks is the file at a path made of, and where do they lie? In memory, so that a read asks nobody.
//!
//! Per file: its path's bytes, 16 bytes of row, 5 to 11 of hash table; per chunk 48 bytes, per frame 24. A file of one
//! chunk in a frame of two costs some 90 bytes and its path. Paths are compared whole: two that hash alike are told apart.
//!
//! Invariant: what is in the table was in the snapshot, its recipes and its packs' directories, all of them checked
//! when the table was made.

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::ops::Range;

use crate::engine::ChunkIndex;
use crate::engine::read::archive::OpenArchive;
use crate::error::{Error, Result};
use crate::format::entry::{Content, Entry, EntryKind, EntryPath};
use crate::format::frame::FRAME_HEADER_BYTES;
use crate::format::id::{ChunkId, PackId, RecipeId};
use crate::format::recipe::Piece;

/// The files of the table whose chunks are not in it but looked up at each read: larger ones, whose reads cost far more
/// than the look-up.
const TABLED_FILE_BYTES_MAX: u64 = 4 << 20;

const EMPTY: u32 = u32::MAX;
const NO_FRAME: u32 = u32::MAX;

/// Where a frame is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct FrameRef {
    /// Its pack, by its place among the reader's packs.
    pub(super) pack: u32,
    pub(super) stored_bytes: u32,
    pub(super) offset: u64,
    chunk_count: u32,
    is_raw: bool,
}

impl FrameRef {
    /// Where in the pack its chunks lie as they are, if they do.
    pub(super) fn raw_at(&self) -> Option<u64> {
        let header_bytes = FRAME_HEADER_BYTES as u64 + 4 * u64::from(self.chunk_count);
        self.is_raw.then(|| self.offset.saturating_add(header_bytes))
    }
}

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

/// A part of a chunk that a read needs.
#[derive(Debug, Clone, Copy)]
pub(super) struct ReadSegment {
    pub(super) frame: FrameRef,
    pub(super) id: ChunkId,
    /// The chunk in the decoded frame.
    pub(super) start: u32,
    pub(super) length: u32,
    /// The part of it, from its beginning.
    pub(super) part_start: u32,
    pub(super) part_end: u32,
    /// Which of the files of a batch it is for.
    pub(super) destination: u32,
    /// Where it goes there.
    pub(super) at: u64,
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
    /// Its name: look it up.
    Name(Content, u64),
    /// How it is put together, and its size.
    Layout(Source, u64),
}

/// What has to be put together from more than its chunks one after the other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Source {
    /// An archive.
    Archive(Content),
    /// A member of an archive, by its row.
    Member(RecipeId, usize),
}

/// A file whose chunks are not in the table.
#[derive(Debug, Clone, Copy)]
enum Untabled {
    Content(Content, u64),
    Layout(Source, u64),
}

/// A file's chunks.
#[derive(Debug, Clone, Copy)]
pub(super) struct Chunks<'a> {
    frames: &'a [FrameRef],
    chunks: &'a [ChunkRef],
    /// Where the first of them begins in the file.
    start: u64,
}

impl<'a> Chunks<'a> {
    pub(super) fn size(&self) -> u64 {
        self.chunks.last().map_or(0, |chunk| chunk.end)
    }

    /// The parts of chunks that make up `range`, which is within the file; holes are left out.
    pub(super) fn segments(self, range: Range<u64>, destination: u32) -> impl Iterator<Item = ReadSegment> + use<'a> {
        let first = self.chunks.partition_point(|chunk| chunk.end <= range.start);
        let mut start = first.checked_sub(1).and_then(|n| self.chunks.get(n)).map_or(self.start, |chunk| chunk.end);
        let rest = self.chunks.get(first..).unwrap_or_default().iter();
        rest.map_while(move |chunk| {
            let begin = std::mem::replace(&mut start, chunk.end);
            (begin < range.end).then(|| {
                // Parts of a chunk are within its length, which is a u32; of a hole nothing is wanted.
                Some(ReadSegment {
                    frame: *self.frames.get(chunk.frame as usize)?,
                    id: chunk.id,
                    start: chunk.start,
                    length: (chunk.end - begin) as u32,
                    part_start: (range.start.max(begin) - begin) as u32,
                    part_end: (range.end.min(chunk.end) - begin) as u32,
                    destination,
                    at: begin.max(range.start) - range.start,
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
    frames: Vec<FrameRef>,
    chunks: Vec<ChunkRef>,
    /// The files whose chunks are not here.
    names: HashMap<u32, Untabled>,
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
            && let Some(name) = self.names.get(&row)
        {
            return match *name {
                Untabled::Content(content, size) => Known::Name(content, size),
                Untabled::Layout(source, size) => Known::Layout(source, size),
            };
        }
        Known::Chunks(Chunks { frames: &self.frames, chunks, start: 0 })
    }

    /// Whether there are files whose chunks are not here.
    pub(super) fn is_whole(&self) -> bool {
        self.names.is_empty()
    }

    /// Bytes of memory in use.
    pub(super) fn memory_bytes(&self) -> usize {
        self.text.capacity()
            + self.rows.capacity() * size_of::<Row>()
            + self.slots.capacity() * size_of::<u32>()
            + self.frames.capacity() * size_of::<FrameRef>()
            + self.chunks.capacity() * size_of::<ChunkRef>()
            + self.names.capacity() * size_of::<(u32, Untabled)>()
    }

    fn ends(&self, row: u32) -> (Row, Row) {
        let row = row as usize;
        let before = row.checked_sub(1).and_then(|before| self.rows.get(before)).copied().unwrap_or_default();
        (before, self.rows.get(row).copied().unwrap_or_default())
    }
}

/// Makes a [`Table`], file by file.
#[derive(Debug)]
pub(super) struct TableBuilder {
    table: Table,
    located: Located,
    chunk_bytes_max: usize,
}

impl TableBuilder {
    /// A table that spends no more than about `chunk_bytes_max` on chunks and frames.
    pub(super) fn new(chunk_bytes_max: usize) -> Self {
        let table = Table {
            text: Vec::new(),
            rows: Vec::new(),
            slots: Vec::new(),
            hasher: RandomState::new(),
            frames: Vec::new(),
            chunks: Vec::new(),
            names: HashMap::new(),
        };
        Self { table, located: Located::default(), chunk_bytes_max }
    }

    /// Takes a file, whose chunks are in packs of the list, which ascends, and if it is an archive its members. What of it
    /// cannot be found now is looked up, and said, when it is read.
    pub(super) fn push(&mut self, chunk_index: &ChunkIndex<'_>, packs: &[PackId], entry: &Entry) -> Result<()> {
        let (content, size) = (entry.content, entry.size);
        if let Content::Archive(id, _) = content {
            let source = Untabled::Layout(Source::Archive(content), size);
            self.push_row(&entry.path, Some(source))?;
            return self.push_members(chunk_index, packs, id, &entry.path);
        }
        let is_tabled = size <= TABLED_FILE_BYTES_MAX
            && self.has_room()
            && chunk_index.pieces_of(entry).is_ok_and(|pieces| self.located.push_file(chunk_index, packs, &pieces));
        self.push_row(&entry.path, (!is_tabled).then_some(Untabled::Content(content, size)))
    }

    fn push_members(
        &mut self,
        chunk_index: &ChunkIndex<'_>,
        packs: &[PackId],
        id: RecipeId,
        base: &EntryPath,
    ) -> Result<()> {
        // What is wrong with an archive is said when it is read.
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
            let is_tabled = pieces.is_some_and(|pieces| self.located.push_file(chunk_index, packs, &pieces));
            let source = Untabled::Layout(Source::Member(id, named.row), entry.size);
            self.push_row(&entry.path, (!is_tabled).then_some(source))?;
        }
        Ok(())
    }

    fn has_room(&self) -> bool {
        let used =
            self.located.chunks.len() * size_of::<ChunkRef>() + self.located.frames.len() * size_of::<FrameRef>();
        used < self.chunk_bytes_max
    }

    fn push_row(&mut self, path: &EntryPath, untabled: Option<Untabled>) -> Result<()> {
        let row = u32::try_from(self.table.rows.len()).ok().filter(|row| *row != EMPTY);
        let row = row.ok_or_else(|| Error::Usage("a reader takes at most 2^32 - 1 files".to_owned()))?;
        if let Some(untabled) = untabled {
            self.table.names.insert(row, untabled);
        }
        self.table.text.extend_from_slice(path.as_bytes());
        self.table.rows.push(Row { path_end: self.table.text.len(), chunks_end: self.located.chunks.len() });
        Ok(())
    }

    pub(super) fn finish(self) -> Table {
        let mut table = self.table;
        table.frames = self.located.frames;
        table.chunks = self.located.chunks;
        table.text.shrink_to_fit();
        table.rows.shrink_to_fit();
        table.frames.shrink_to_fit();
        table.chunks.shrink_to_fit();
        let places = (table.rows.len() + table.rows.len() / 3 + 1).next_power_of_two();
        table.slots = vec![EMPTY; places];
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

/// Chunks and their frames, as they are found.
#[derive(Debug, Default)]
pub(super) struct Located {
    /// Where the first chunk begins in its file, when there is one file only.
    start: u64,
    frames: Vec<FrameRef>,
    chunks: Vec<ChunkRef>,
    /// Frames by pack and ordinal there.
    known: HashMap<(u32, u32), u32>,
}

impl Located {
    /// For pieces of one file, of which the first begins at `start`.
    pub(super) fn new(start: u64) -> Self {
        Self { start, ..Self::default() }
    }

    /// Finds the pieces of a file; says whether all of them were found.
    fn push_file(&mut self, chunk_index: &ChunkIndex<'_>, packs: &[PackId], pieces: &[Piece]) -> bool {
        let before = self.chunks.len();
        let is_found = self.push(chunk_index, packs, pieces).is_ok();
        if !is_found {
            self.chunks.truncate(before);
        }
        is_found
    }

    /// Finds pieces that follow each other, in packs of the list, which ascends.
    pub(super) fn push(&mut self, chunk_index: &ChunkIndex<'_>, packs: &[PackId], pieces: &[Piece]) -> Result<()> {
        let mut start = self.start;
        for piece in pieces {
            let length = piece.end.saturating_sub(start);
            start = piece.end;
            if piece.is_hole() {
                self.chunks.push(ChunkRef { id: piece.id, end: piece.end, frame: NO_FRAME, start: 0 });
                continue;
            }
            let (location, place) = chunk_index.locate(&piece.id, length)?;
            let lost = || Error::Internal(format!("pack {} is not in the store", location.pack));
            let pack = pack_number(packs, &location.pack).ok_or_else(lost)?;
            let frame = match self.known.get(&(pack, place.frame)) {
                Some(frame) => *frame,
                None => {
                    let entry = location.directory.frames.get(place.frame as usize).ok_or_else(lost)?;
                    let raw_stored = FRAME_HEADER_BYTES as u64 + 4 * u64::from(entry.chunk_count);
                    let number = u32::try_from(self.frames.len()).ok().filter(|number| *number != NO_FRAME);
                    let number = number.ok_or_else(lost)?;
                    self.frames.push(FrameRef {
                        pack,
                        stored_bytes: entry.stored_bytes,
                        offset: entry.offset,
                        chunk_count: entry.chunk_count,
                        // A compressed payload is always the shorter one.
                        is_raw: u64::from(entry.stored_bytes) == raw_stored + u64::from(entry.raw_bytes),
                    });
                    self.known.insert((pack, place.frame), number);
                    number
                }
            };
            self.chunks.push(ChunkRef { id: piece.id, end: piece.end, frame, start: place.start });
        }
        Ok(())
    }

    pub(super) fn chunks(&self) -> Chunks<'_> {
        Chunks { frames: &self.frames, chunks: &self.chunks, start: self.start }
    }
}

/// A pack's place in a list that ascends.
fn pack_number(packs: &[PackId], pack: &PackId) -> Option<u32> {
    packs.binary_search(pack).ok().and_then(|place| u32::try_from(place).ok())
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
        let frame = FrameRef { pack: 0, stored_bytes: 9, offset: 64, chunk_count: 1, is_raw: false };
        let chunks = [chunk(1, 10, 0), chunk(0, 30, NO_FRAME), chunk(2, 40, 0)];
        let chunks = Chunks { frames: &[frame], chunks: &chunks, start: 0 };
        let parts = |range| -> Vec<_> {
            let segments = chunks.segments(range, 0);
            segments.map(|w| (w.id.0[0], w.part_start, w.part_end, w.at)).collect()
        };
        assert_eq!(parts(0..40), [(1, 0, 10, 0), (2, 0, 10, 30)]);
        assert_eq!(parts(9..31), [(1, 9, 10, 0), (2, 0, 1, 21)]);
        assert_eq!(parts(10..30), []);
        assert_eq!(parts(30..30), []);
        assert_eq!(parts(35..38), [(2, 5, 8, 0)]);
        assert_eq!(chunks.size(), 40);
    }

    #[test]
    fn every_path_is_found_and_no_other() {
        let mut builder = TableBuilder::new(0);
        let path = |n: u32| format!("folder/{}", n * n).into_bytes();
        for n in 0..1000 {
            builder.table.text.extend(path(n));
            builder.table.rows.push(Row { path_end: builder.table.text.len(), chunks_end: 0 });
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
