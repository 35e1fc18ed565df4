//! Which frames are needed, and what of each goes where? So that each is read and decoded once.
//!
//! Invariant: what is planned was in the directory of the pack that it names.

use std::collections::HashMap;
use std::ops::Range;

use super::layout::ChunkPart;
use crate::engine::store::chunk_index::ChunkIndex;
use crate::error::{Error, Result};
use crate::format::directory::ChunkPlace;
use crate::format::frame::FRAME_HEADER_BYTES;
use crate::format::id::{ChunkId, PackId};
use crate::index::Location;

/// Where a frame is.
#[derive(Debug, Clone, Copy)]
pub(super) struct FrameRef {
    /// Its pack, by its place in [`Frames`].
    pack: u32,
    pub(super) stored_bytes: u32,
    pub(super) offset: u64,
    /// Bytes when it is decoded.
    pub(super) raw_bytes: u32,
    chunk_count: u32,
}

impl FrameRef {
    /// Where in the pack its chunks lie as they are, if they do: a compressed payload is always the shorter one.
    pub(super) fn raw_at(&self) -> Option<u64> {
        let header_bytes = FRAME_HEADER_BYTES as u64 + 4 * u64::from(self.chunk_count);
        let is_raw = u64::from(self.stored_bytes) == header_bytes + u64::from(self.raw_bytes);
        is_raw.then(|| self.offset.saturating_add(header_bytes))
    }
}

/// Frames by number, with their packs.
#[derive(Debug, Default)]
pub(super) struct Frames {
    packs: Vec<PackId>,
    frames: Vec<FrameRef>,
}

impl Frames {
    /// A frame and its pack.
    pub(super) fn get(&self, number: u32) -> Option<(PackId, FrameRef)> {
        let frame = self.frames.get(number as usize)?;
        Some((*self.packs.get(frame.pack as usize)?, *frame))
    }

    pub(super) fn len(&self) -> usize {
        self.frames.len()
    }

    /// Bytes of memory in use.
    pub(super) fn memory_bytes(&self) -> usize {
        self.packs.capacity() * size_of::<PackId>() + self.frames.capacity() * size_of::<FrameRef>()
    }

    pub(super) fn shrink_to_fit(&mut self) {
        self.packs.shrink_to_fit();
        self.frames.shrink_to_fit();
    }
}

#[cfg(test)]
impl Frames {
    /// Frames of these lengths in one pack.
    pub(super) fn of(raw_bytes: &[u32]) -> Self {
        let frame =
            |raw_bytes: &u32| FrameRef { pack: 0, stored_bytes: 9, offset: 0, raw_bytes: *raw_bytes, chunk_count: 1 };
        Self { packs: vec![PackId([0; 32])], frames: raw_bytes.iter().map(frame).collect() }
    }
}

/// Gives frames their numbers, in the order in which they are first needed.
#[derive(Debug, Default)]
pub(super) struct FrameNumbers {
    pub(super) frames: Frames,
    packs: HashMap<PackId, u32>,
    known: HashMap<(u32, u32), u32>,
    /// The frame that was needed last: neighbours follow each other.
    latest: Option<(PackId, u32, u32)>,
}

impl FrameNumbers {
    /// The number of the frame in which a chunk lies.
    ///
    /// # Errors
    /// [`Error::Internal`] if its pack's directory does not have it.
    pub(super) fn number(&mut self, location: &Location, place: &ChunkPlace) -> Result<u32> {
        if let Some((pack, ordinal, number)) = self.latest
            && (pack, ordinal) == (location.pack, place.frame)
        {
            return Ok(number);
        }
        let lost = || Error::Internal(format!("pack {} has no frame {}", location.pack, place.frame));
        let Self { frames: Frames { packs, frames }, .. } = self;
        let pack = *self.packs.entry(location.pack).or_insert_with(|| {
            packs.push(location.pack);
            (packs.len() - 1) as u32
        });
        let number = match self.known.get(&(pack, place.frame)) {
            Some(number) => *number,
            None => {
                let entry = location.directory.frames.get(place.frame as usize).ok_or_else(lost)?;
                let number = u32::try_from(frames.len()).map_err(|_| lost())?;
                frames.push(FrameRef {
                    pack,
                    stored_bytes: entry.stored_bytes,
                    offset: entry.offset,
                    raw_bytes: entry.raw_bytes,
                    chunk_count: entry.chunk_count,
                });
                self.known.insert((pack, place.frame), number);
                number
            }
        };
        self.latest = Some((location.pack, place.frame, number));
        Ok(number)
    }
}

/// A part of one chunk, and where it goes.
#[derive(Debug, Clone, Copy)]
pub(super) struct ReadSegment {
    pub(super) id: ChunkId,
    /// The frame, by its number in the plan.
    pub(super) frame: u32,
    /// Where the chunk begins in the decoded frame.
    pub(super) start: u32,
    /// Bytes of the chunk.
    pub(super) length: u32,
    /// Where in the chunk the part begins.
    pub(super) part_start: u32,
    /// Bytes of the part.
    pub(super) part_bytes: u32,
    /// Which destination it goes to: what that is, its planner knows.
    pub(super) destination: u32,
    /// Where it goes there.
    pub(super) offset: u64,
}

impl ReadSegment {
    /// The part in the decoded frame.
    pub(super) fn part(&self) -> Range<usize> {
        let start = self.start as usize + self.part_start as usize;
        start..start + self.part_bytes as usize
    }

    /// The chunk in the decoded frame.
    pub(super) fn chunk(&self) -> Range<usize> {
        let start = self.start as usize;
        start..start + self.length as usize
    }

    /// Where the part ends in its destination.
    pub(super) fn end(&self) -> u64 {
        self.offset + u64::from(self.part_bytes)
    }

    /// Whether another part follows this one, in the frame and in the destination.
    pub(super) fn is_followed_by(&self, next: &Self) -> bool {
        self.part().end == next.part().start && self.end() == next.offset
    }
}

/// What to read, frame by frame.
#[derive(Debug, Default)]
pub(super) struct Plan {
    pub(super) numbers: FrameNumbers,
    pub(super) segments: Vec<ReadSegment>,
    /// The chunks used last, the latest first: the parts of an archive go to and fro between two.
    latest: [Option<LocatedChunk>; 2],
}

/// Where a chunk is: see [`ReadSegment`].
#[derive(Debug, Clone, Copy)]
struct LocatedChunk {
    id: ChunkId,
    frame: u32,
    start: u32,
    length: u32,
}

impl Plan {
    /// Plans to deliver a part of a file to `destination`, at `offset`.
    ///
    /// # Errors
    /// [`Error::Damaged`] if its chunk is not to be found.
    pub(super) fn want_part(
        &mut self,
        chunk_index: &ChunkIndex<'_>,
        part: &ChunkPart,
        destination: u32,
        offset: u64,
    ) -> Result<()> {
        let LocatedChunk { id, frame, start, length } = self.locate(chunk_index, &part.id, part.chunk_bytes)?;
        self.segments.push(ReadSegment {
            id,
            frame,
            start,
            length,
            part_start: part.within.start,
            part_bytes: part.within.end - part.within.start,
            destination,
            offset,
        });
        Ok(())
    }

    fn locate(&mut self, chunk_index: &ChunkIndex<'_>, id: &ChunkId, bytes: u64) -> Result<LocatedChunk> {
        let [latest, before] = &mut self.latest;
        let is_it = |known: &LocatedChunk| known.id == *id && u64::from(known.length) == bytes;
        if before.as_ref().is_some_and(is_it) {
            std::mem::swap(latest, before);
        }
        if let Some(known) = latest.filter(is_it) {
            return Ok(known);
        }
        let (location, place) = chunk_index.locate(id, bytes)?;
        let frame = self.numbers.number(&location, &place)?;
        let located = LocatedChunk { id: *id, frame, start: place.start, length: place.length };
        (*latest, *before) = (Some(located), *latest);
        Ok(located)
    }

    pub(super) fn frames(&self) -> &Frames {
        &self.numbers.frames
    }

    /// Sorts the segments by the position that their frame has, within a frame by destination and offset. Reports which
    /// segments each frame serves.
    pub(super) fn by_frame(&mut self, position: impl Fn(u32) -> u64) -> Vec<Range<usize>> {
        self.segments.sort_unstable_by_key(|segment| (position(segment.frame), segment.destination, segment.offset));
        let mut groups = Vec::new();
        let mut start = 0;
        for same in self.segments.chunk_by(|a, b| a.frame == b.frame) {
            groups.push(start..start + same.len());
            start += same.len();
        }
        groups
    }
}
