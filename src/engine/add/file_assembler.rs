//! How do segments become a file again? In order: the seams are closed, and chunks and holes become pieces.

use std::io;
use std::sync::Arc;

use super::origin::Origin;
use super::report::Problem;
use super::sink::TakeChunks;
use super::task::{Block, Lane, Problems, SegmentDone};
use super::worker::WorkerContext;
use crate::chunk::seams::{Stitcher, WARM_UP};
use crate::error::Result;
use crate::format::entry::Entry;
use crate::format::id::ChunkId;
use crate::format::recipe::Piece;
use crate::ingest::{HEAD_BYTES, Metadata};

/// Puts a file together from its segments, which come in order.
#[derive(Debug)]
pub(super) struct FileAssembler {
    origin: Arc<Origin>,
    pieces: Vec<Piece>,
    /// The extent at hand: where it begins in the file, and its seams.
    extent_start: u64,
    stitcher: Stitcher,
    /// How far the file is known.
    end: u64,
    /// The bytes after the last cut.
    open: Vec<u8>,
    /// The last bytes of the last segment: the next one's warm-up, unless the file changed in between.
    tail: Vec<u8>,
    /// The file's first bytes, unless it begins with a hole.
    head: Vec<u8>,
    /// Why the rest is not read: the file cannot be, or has ended early.
    failed: Option<io::Error>,
    shrank: bool,
}

impl FileAssembler {
    pub(super) fn new(origin: Arc<Origin>, context: &WorkerContext<'_, '_>) -> Self {
        Self {
            origin,
            stitcher: Stitcher::new(context.finder.clone()),
            pieces: Vec::new(),
            extent_start: 0,
            end: 0,
            open: Vec::new(),
            tail: Vec::new(),
            head: Vec::new(),
            failed: None,
            shrank: false,
        }
    }

    /// Whether this is the file that a segment is of.
    pub(super) fn is_of(&self, segment: &SegmentDone) -> bool {
        Arc::ptr_eq(&self.origin, &segment.origin)
    }

    /// The first bytes, once all segments are there.
    pub(super) fn take_head(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.head)
    }

    /// Takes the next segment.
    pub(super) fn push(
        &mut self,
        segment: SegmentDone,
        context: &WorkerContext<'_, '_>,
        sink: &mut impl TakeChunks,
    ) -> Result<()> {
        if self.failed.is_some() || self.shrank {
            return Ok(());
        }
        let mut scanned = match segment.found {
            Ok(scanned) => scanned,
            Err(error) => {
                self.failed = Some(error);
                return Ok(());
            }
        };
        if segment.range.start == 0 {
            self.head = scanned.buffer.get(..scanned.filled.min(HEAD_BYTES)).unwrap_or_default().to_vec();
        }
        if segment.range.start == segment.extent_start {
            if segment.range.start > self.end {
                self.pieces.push(Piece { id: ChunkId::HOLE, end: segment.range.start });
            }
            self.extent_start = segment.extent_start;
            self.end = segment.range.start;
            self.stitcher = Stitcher::new(context.finder.clone());
            self.tail.clear();
        }
        let start = segment.range.start - segment.extent_start;
        let known = scanned.filled - scanned.warm_up;
        self.shrank = (known as u64) < segment.range.end - segment.range.start;
        if known == 0 && start > 0 && scanned.warm_up < self.tail.len() {
            // The file now ends before this segment: what is open is its last chunk.
            return self.take_rest(sink);
        }
        if scanned.buffer.get(..scanned.warm_up) != Some(self.tail.as_slice()) {
            // The file was written to between two reads. Cuts must be those of the bytes that are kept.
            if let Some(warm_up) = scanned.buffer.get_mut(..self.tail.len()) {
                warm_up.copy_from_slice(&self.tail);
            }
            scanned.scan_again(start, context)?;
        }
        let span = scanned.span(start);
        let mut seam = Vec::new();
        let mut at = self.stitcher.last_cut();
        self.stitcher.push(&scanned.cuts, &span, &mut seam);
        for cut in seam {
            // Begins before this segment, or was not hashed because nothing was certified.
            let rest = span.slice(at.max(start), cut);
            let id = if self.open.is_empty() {
                take_chunk(sink, rest)?
            } else {
                self.open.extend_from_slice(rest);
                let id = take_chunk(sink, &self.open)?;
                self.open.clear();
                id
            };
            self.pieces.push(Piece { id, end: self.extent_start + cut });
            at = cut;
        }
        for (cut, id) in scanned.cuts.cuts().iter().zip(&scanned.ids) {
            self.pieces.push(Piece { id: *id, end: self.extent_start + cut });
            at = *cut;
        }
        self.open.extend_from_slice(span.slice(at.max(start), span.end()));
        self.end = self.extent_start + span.end();
        self.tail.clear();
        self.tail.extend_from_slice(span.slice(span.end().saturating_sub(WARM_UP as u64).max(span.base()), span.end()));
        if !scanned.fresh.is_empty() {
            let block = Arc::new(Block { bytes: scanned.buffer, _held: segment.held });
            sink.take(&block, &scanned.fresh);
        }
        Ok(())
    }

    /// Ends the extent where its last segment ended.
    fn take_rest(&mut self, sink: &mut impl TakeChunks) -> Result<()> {
        if !self.open.is_empty() {
            let id = take_chunk(sink, &self.open)?;
            self.open.clear();
            self.pieces.push(Piece { id, end: self.end });
        }
        Ok(())
    }

    /// The file as it was read: its entry without content, its pieces, and what is to be said of it.
    pub(super) fn finish(mut self, metadata: &Metadata) -> Result<(Entry, Vec<Piece>, Problems), Problem> {
        if let Some(error) = self.failed {
            return Err(self.origin.skipped(error));
        }
        if let Origin::File { file, .. } = &*self.origin
            && !self.shrank
            && self.end < file.stat().size
        {
            self.end = file.stat().size;
            self.pieces.push(Piece { id: ChunkId::HOLE, end: self.end });
        }
        let (entry, problems) = self.origin.entry(self.end, self.shrank, metadata)?;
        Ok((entry, self.pieces, problems))
    }

    /// For the extent that a segment is the first of.
    pub(super) fn of_extent(first: &SegmentDone, context: &WorkerContext<'_, '_>) -> Self {
        Self { end: first.extent_start, extent_start: first.extent_start, ..Self::new(first.origin(), context) }
    }

    /// The extent as it was read.
    pub(super) fn into_extent(self) -> Extracted {
        let start = self.extent_start;
        let piece = |piece: &Piece| Piece { id: piece.id, end: piece.end.saturating_sub(start) };
        Extracted { pieces: self.pieces.iter().map(piece).collect(), shrank: self.shrank, failed: self.failed }
    }
}

/// An extent, all of whose chunks were taken.
#[derive(Debug)]
pub(super) struct Extracted {
    /// Its pieces, their ends counted from its beginning.
    pub(super) pieces: Vec<Piece>,
    /// Whether the file ended before it did.
    pub(super) shrank: bool,
    /// Why it could not be read.
    pub(super) failed: Option<io::Error>,
}

/// Takes a chunk that no worker has hashed.
fn take_chunk(sink: &mut impl TakeChunks, chunk: &[u8]) -> Result<ChunkId> {
    let id = ChunkId::of(chunk);
    sink.take_bytes(&id, chunk, Lane::Contents)?;
    Ok(id)
}
