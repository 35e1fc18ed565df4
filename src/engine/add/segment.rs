//! What does a worker do with a part of a big file or stream? Reads, cuts, hashes and looks up what it can know of it.
//!
//! A segment is [`SEGMENT_BYTES`] of one extent of data, read with a warm-up: the bytes before it that a hash window
//! reaches back to. The seams between segments are closed in order ([`super::file_assembler`]).

use std::io;
use std::ops::Range;
use std::sync::Arc;

use super::budget::MemoryPermit;
use super::cutter::note_fresh;
use super::origin::Origin;
use super::pool::Buffer;
use super::stream::StreamSegment;
use super::task::{FreshChunk, Lane, Segment, SegmentDone};
use super::worker::WorkerContext;
use crate::chunk::finder::{Finder, Span};
use crate::chunk::seams::{SegmentCuts, SegmentScanner, WARM_UP, scan_segment};
use crate::error::Result;
use crate::format::id::ChunkId;
use crate::ingest::OpenFile;

/// How much one worker reads and cuts at a time.
pub(super) const SEGMENT_BYTES: usize = 8 << 20;

/// How much of it is read before it is scanned: it stays in a core's own cache until it is hashed.
const PIECE_BYTES: usize = 512 << 10;

/// What a worker knows of a segment.
#[derive(Debug)]
pub(super) struct Scanned {
    /// The warm-up, then the segment, then what is left from another use.
    pub(super) buffer: Buffer,
    /// Bytes of it that count.
    pub(super) filled: usize,
    pub(super) warm_up: usize,
    /// Whether the extent ends here.
    is_end: bool,
    pub(super) cuts: SegmentCuts,
    /// The chunks that end at `cuts.cuts()`.
    pub(super) ids: Vec<ChunkId>,
    /// Those of them that the index does not have.
    pub(super) fresh: Vec<FreshChunk>,
}

impl Segment {
    /// A part of a stream that somebody else reads, warm-up first.
    pub(super) fn of_part(origin: &Arc<Origin>, part: StreamSegment) -> Self {
        Self::of_bytes(origin, 0, part.range, part.bytes, part.is_last)
    }

    /// A segment that was read already, with its warm-up.
    pub(super) fn of_bytes(
        origin: &Arc<Origin>,
        extent_start: u64,
        range: Range<u64>,
        bytes: Buffer,
        is_last: bool,
    ) -> Self {
        let (origin, bytes) = (Arc::clone(origin), Some(bytes));
        Self { origin, extent_start, range, bytes, ends_extent: is_last, is_last, held: None }
    }

    /// How many bytes it will hold in memory.
    pub(super) fn weight(&self) -> usize {
        usize::try_from(self.range.end - self.range.start).unwrap_or(SEGMENT_BYTES)
    }

    pub(super) fn holding(self, held: MemoryPermit) -> Self {
        Self { held: Some(held), ..self }
    }

    pub(super) fn run(self, context: &WorkerContext<'_, '_>) -> Result<SegmentDone> {
        let finder = &context.finder;
        let Self { origin, extent_start, range, bytes, ends_extent, is_last, held } = self;
        // The warm-up lies in the same extent: there, a hash begins anew.
        let warm_up = usize::try_from(range.start - extent_start).unwrap_or(WARM_UP).min(WARM_UP);
        let wanted = usize::try_from(range.end - range.start).unwrap_or(SEGMENT_BYTES) + warm_up;
        let start = range.start - extent_start;
        let is_read = bytes.is_some();
        let mut scanned = Scanned {
            buffer: bytes.unwrap_or_else(|| context.pools.segments.take()),
            filled: wanted,
            warm_up,
            is_end: ends_extent,
            cuts: SegmentCuts::empty(),
            ids: Vec::new(),
            fresh: Vec::new(),
        };
        let read = match &*origin {
            Origin::File { file, .. } if !is_read => {
                scanned.read_and_scan(file, range.start - warm_up as u64, finder, start)
            }
            _ => {
                scanned.scan(finder, start);
                Ok(())
            }
        };
        let found = match read {
            Ok(()) => {
                scanned.look_up(start, context)?;
                Ok(scanned)
            }
            Err(error) => Err(error),
        };
        Ok(SegmentDone { origin, extent_start, range, found, is_last, held })
    }
}

impl Scanned {
    /// Reads the file from `offset` on, piece by piece, and finds and hashes chunks in each while it is warm. `start` is
    /// where the segment begins in its extent.
    fn read_and_scan(&mut self, file: &OpenFile, offset: u64, finder: &Finder, start: u64) -> io::Result<()> {
        let (wanted, ends_extent) = (self.filled, self.is_end);
        if self.buffer.len() < wanted {
            self.buffer.resize(wanted, 0);
        }
        let mut scanner = SegmentScanner::new(finder, start);
        let mut ids = Vec::new();
        self.filled = 0;
        loop {
            let to = wanted.min(self.filled + PIECE_BYTES);
            let room = self.buffer.get_mut(self.filled..to).unwrap_or_default();
            let asked = room.len();
            let read = file.read_at(offset + self.filled as u64, room)?;
            self.filled += read;
            // Fewer if the file ends early, perhaps before the segment begins.
            let is_last = read < asked || self.filled == wanted;
            self.warm_up = self.warm_up.min(self.filled);
            self.is_end = read < asked || is_last && ends_extent;
            scanner.advance(&self.span(start), |_, chunk| ids.push(ChunkId::of(chunk)));
            if is_last {
                break;
            }
        }
        (self.cuts, self.ids) = (scanner.finish(), ids);
        Ok(())
    }

    /// Cuts and looks up once more, because the warm-up was not what it is now.
    pub(super) fn scan_again(&mut self, start: u64, context: &WorkerContext<'_, '_>) -> Result<()> {
        self.scan(&context.finder, start);
        self.look_up(start, context)
    }

    /// Asks the index for the chunks that were found.
    fn look_up(&mut self, start: u64, context: &WorkerContext<'_, '_>) -> Result<()> {
        self.fresh.clear();
        let Some(mut at) = self.cuts.certified() else { return Ok(()) };
        let base = start - self.warm_up as u64;
        for (cut, id) in self.cuts.cuts().iter().zip(&self.ids) {
            // The buffer holds all of them.
            let place = (at - base) as usize..(cut - base) as usize;
            note_fresh(context.chunk_index, &mut self.fresh, *id, place, Lane::Contents)?;
            at = *cut;
        }
        Ok(())
    }

    /// Finds and hashes chunks; `start` is where the segment begins in its extent.
    fn scan(&mut self, finder: &Finder, start: u64) {
        let mut ids = std::mem::take(&mut self.ids);
        ids.clear();
        let span = self.span(start);
        self.cuts = scan_segment(finder, &span, start, |_, chunk| ids.push(ChunkId::of(chunk)));
        self.ids = ids;
    }

    pub(super) fn span(&self, start: u64) -> Span<'_> {
        let bytes = self.buffer.get(..self.filled).unwrap_or_default();
        Span::new(bytes, start - self.warm_up as u64, self.is_end)
    }
}

impl SegmentDone {
    pub(super) fn origin(&self) -> Arc<Origin> {
        Arc::clone(&self.origin)
    }

    pub(super) fn is_last(&self) -> bool {
        self.is_last
    }

    /// In the place of what is left of a stream that cannot be read.
    pub(super) fn of_failed(origin: Arc<Origin>, error: io::Error) -> Self {
        Self { origin, extent_start: 0, range: 0..0, found: Err(error), is_last: true, held: None }
    }
}
