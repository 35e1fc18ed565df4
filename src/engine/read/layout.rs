//! What of which chunk lies where in a file? For a file that is not just its chunks one after the other.
//!
//! Invariant: runs follow each other without a gap, and each lies within its chunk.

use std::ops::Range;

use crate::format::id::ChunkId;
use crate::format::recipe::Piece;

/// A part of one chunk, or a hole.
#[derive(Debug, Clone, Copy)]
struct LayoutRun {
    id: ChunkId,
    /// Bytes of the whole chunk.
    chunk_bytes: u64,
    /// Where in the chunk the run begins.
    start: u64,
    /// Where it ends in the file.
    end: u64,
}

/// A file, run by run.
#[derive(Debug, Default)]
pub(in crate::engine) struct Layout {
    runs: Vec<LayoutRun>,
}

/// A part of a file that lies in one chunk.
#[derive(Debug, Clone)]
pub(in crate::engine) struct ChunkPart {
    /// The chunk.
    pub(in crate::engine) id: ChunkId,
    /// Its bytes.
    pub(in crate::engine) chunk_bytes: u64,
    /// Which of them are meant.
    pub(in crate::engine) within: Range<u32>,
    /// Where they go in the file.
    pub(in crate::engine) offset: u64,
}

impl Layout {
    /// All of a content that is its pieces.
    pub(in crate::engine) fn of_pieces(pieces: &[Piece]) -> Self {
        let mut layout = Self::default();
        layout.push(pieces, 0..pieces.last().map_or(0, |piece| piece.end));
        layout
    }

    /// Bytes of the file.
    pub(in crate::engine) fn bytes(&self) -> u64 {
        self.runs.last().map_or(0, |run| run.end)
    }

    /// How many stretches it is made of.
    pub(in crate::engine) fn runs(&self) -> usize {
        self.runs.len()
    }

    /// Whether there are holes.
    pub(in crate::engine) fn has_holes(&self) -> bool {
        self.runs.iter().any(|run| run.id == ChunkId::HOLE)
    }

    /// The chunk that the file is, if it is one and nothing else.
    pub(in crate::engine) fn only_chunk(&self) -> Option<ChunkId> {
        match self.runs.as_slice() {
            [LayoutRun { id, chunk_bytes, start: 0, end }] if chunk_bytes == end && *id != ChunkId::HOLE => Some(*id),
            _ => None,
        }
    }

    /// Appends a range of the stream that these pieces are. What lies past its end is left out.
    pub(in crate::engine) fn push(&mut self, pieces: &[Piece], range: Range<u64>) {
        let first = pieces.partition_point(|piece| piece.end <= range.start);
        let mut start = first.checked_sub(1).and_then(|n| pieces.get(n)).map_or(0, |piece| piece.end);
        for piece in pieces.get(first..).unwrap_or_default() {
            if start >= range.end {
                break;
            }
            let (from, to) = (start.max(range.start), piece.end.min(range.end));
            let end = self.bytes() + (to - from);
            self.runs.push(LayoutRun { id: piece.id, chunk_bytes: piece.end - start, start: from - start, end });
            start = piece.end;
        }
    }

    /// Appends bytes that read as zero.
    pub(in crate::engine) fn push_hole(&mut self, bytes: u64) {
        if bytes > 0 {
            let end = self.bytes().saturating_add(bytes);
            self.runs.push(LayoutRun { id: ChunkId::HOLE, chunk_bytes: bytes, start: 0, end });
        }
    }

    /// The parts of chunks that make up a range of the file, in order; holes are left out.
    pub(in crate::engine) fn parts(&self, range: Range<u64>) -> impl Iterator<Item = ChunkPart> {
        let first = self.runs.partition_point(|run| run.end <= range.start);
        let mut begin = first.checked_sub(1).and_then(|n| self.runs.get(n)).map_or(0, |run| run.end);
        let rest = self.runs.get(first..).unwrap_or_default().iter();
        let parts = rest.map_while(move |run| {
            let start = std::mem::replace(&mut begin, run.end);
            (start < range.end).then(|| {
                let (from, to) = (start.max(range.start), run.end.min(range.end));
                let within = run.start + (from - start)..run.start + (to - start);
                // Of a chunk, whose length is a u32.
                let within = within.start as u32..within.end as u32;
                let part = ChunkPart { id: run.id, chunk_bytes: run.chunk_bytes, within, offset: from };
                (run.id != ChunkId::HOLE).then_some(part)
            })
        });
        parts.flatten()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing)]

    use super::*;

    /// Chunks of lengths 10, 20, 30, which differ in their first byte.
    fn pieces() -> Vec<Piece> {
        [(1, 10), (2, 30), (3, 60)].map(|(id, end)| Piece { id: ChunkId([id; 32]), end }).to_vec()
    }

    fn parts_of(layout: &Layout, range: Range<u64>) -> Vec<(u8, u64, Range<u32>, u64)> {
        layout.parts(range).map(|part| (part.id.0[0], part.chunk_bytes, part.within, part.offset)).collect()
    }

    #[test]
    fn a_content_is_its_pieces() {
        let layout = Layout::of_pieces(&pieces());
        assert_eq!(layout.bytes(), 60);
        assert_eq!(parts_of(&layout, 0..60), [(1, 10, 0..10, 0), (2, 20, 0..20, 10), (3, 30, 0..30, 30)]);
        assert_eq!(parts_of(&layout, 5..31), [(1, 10, 5..10, 5), (2, 20, 0..20, 10), (3, 30, 0..1, 30)]);
        assert_eq!(parts_of(&layout, 10..10), []);
        assert_eq!(parts_of(&layout, 60..70), []);
        assert_eq!(layout.only_chunk(), None);
        assert_eq!(Layout::of_pieces(&pieces()[..1]).only_chunk(), Some(ChunkId([1; 32])));
        for part in [0..9, 1..10, 9..11] {
            let mut layout = Layout::default();
            layout.push(&pieces(), part);
            assert_eq!(layout.only_chunk(), None);
        }
    }

    #[test]
    fn ranges_and_holes_are_put_one_after_the_other() {
        let mut layout = Layout::default();
        layout.push(&pieces(), 25..35);
        layout.push_hole(100);
        layout.push_hole(0);
        layout.push(&pieces(), 0..2);
        layout.push(&pieces(), 59..99);
        assert_eq!(layout.bytes(), 113);
        assert!(layout.has_holes());
        assert_eq!(layout.only_chunk(), None);
        let all = [(2, 20, 15..20, 0), (3, 30, 0..5, 5), (1, 10, 0..2, 110), (3, 30, 29..30, 112)];
        assert_eq!(parts_of(&layout, 0..113), all);
        assert_eq!(parts_of(&layout, 7..111), [(3, 30, 2..5, 7), (1, 10, 0..1, 110)]);
    }
}
