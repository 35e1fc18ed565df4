//! Which frames are needed, and what of each goes where? So that every frame is read and decoded once.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::Arc;

use crate::engine::chunk_index::ChunkIndex;
use crate::engine::read::layout::ChunkPart;
use crate::error::Result;
use crate::format::directory::{ChunkPlace, Directory};
use crate::format::id::PackId;
use crate::index::Location;

/// A stretch of one chunk, and where it goes.
#[derive(Debug, Clone, Copy)]
pub(super) struct ReadSegment {
    /// The pack, by its place in [`Plan::packs`].
    pub(super) pack: u32,
    /// The frame, by its ordinal in the pack.
    pub(super) frame: u32,
    /// The destination: whatever the planner counts.
    pub(super) destination: u32,
    /// The chunk, by its ordinal in the pack.
    pub(super) chunk: u32,
    /// Where the stretch begins in the decoded frame.
    pub(super) start: u32,
    /// Its bytes.
    pub(super) length: u32,
    /// Where it goes in the destination.
    pub(super) offset: u64,
}

impl ReadSegment {
    /// Whether another follows this one, in the frame and in the destination.
    pub(super) fn is_followed_by(&self, next: &Self) -> bool {
        self.start + self.length == next.start && self.offset + u64::from(self.length) == next.offset
    }

    /// Wants that follow each other, as one.
    pub(super) fn joined(segments: &[Self]) -> Option<Self> {
        let (first, last) = (segments.first()?, segments.last()?);
        Some(Self { length: last.start + last.length - first.start, ..*first })
    }
}

/// What to read, frame by frame.
#[derive(Debug, Default)]
pub(super) struct Plan {
    pub(super) packs: Vec<(PackId, Arc<Directory>)>,
    pack_places: HashMap<PackId, u32>,
    pub(super) segments: Vec<ReadSegment>,
}

impl Plan {
    /// Plans to deliver a part of a file to `destination`, at `offset`.
    ///
    /// # Errors
    /// [`Error::Damaged`](crate::Error::Damaged) if its chunk is not to be found.
    pub(super) fn want_part(
        &mut self,
        chunk_index: &ChunkIndex<'_>,
        part: &ChunkPart,
        destination: u32,
        offset: u64,
    ) -> Result<()> {
        let (location, place) = chunk_index.locate(&part.id, part.chunk_bytes)?;
        self.segment(&location, place, part.within.clone(), destination, offset);
        Ok(())
    }

    /// Plans to deliver the bytes `part` of the chunk at `location`, which lies at `place`.
    pub(super) fn segment(
        &mut self,
        location: &Location,
        place: ChunkPlace,
        part: Range<u32>,
        destination: u32,
        offset: u64,
    ) {
        let pack = *self.pack_places.entry(location.pack).or_insert_with(|| {
            self.packs.push((location.pack, Arc::clone(&location.directory)));
            // A plan is cut off long before it has 2^32 segments.
            (self.packs.len() - 1) as u32
        });
        self.segments.push(ReadSegment {
            pack,
            frame: place.frame,
            destination,
            chunk: location.chunk,
            start: place.start + part.start,
            length: part.end - part.start,
            offset,
        });
    }

    /// Sorts the segments by frame; within a frame by destination and offset. Says which segments each frame serves.
    pub(super) fn by_frame(&mut self) -> Vec<Range<usize>> {
        self.segments.sort_unstable_by_key(|w| (w.pack, w.frame, w.destination, w.offset));
        let mut groups = Vec::new();
        let mut start = 0;
        for same in self.segments.chunk_by(|a, b| (a.pack, a.frame) == (b.pack, b.frame)) {
            groups.push(start..start + same.len());
            start += same.len();
        }
        groups
    }
}
