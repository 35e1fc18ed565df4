//! Is this chunk new? If so, into which frame, and where in it? The one place of an add where that is decided, in the
//! order of the walk.
//!
//! A worker has asked the index already, and copies the bytes afterwards: what is decided here is one look into the set of
//! [chunks that this add took](super::fresh), and an offset.

use std::sync::Arc;

use crossbeam_channel::Sender;

use super::budget::{MemoryBudget, MemoryPermit};
use super::frame::{Closed, Frame};
use super::fresh::{FreshChunks, Handed};
use super::pool::Pool;
use super::task::{Block, Copy, CopyPart, FinishedPack, FreshChunk, Lane, Urgent};
use crate::engine::store::chunk_index::ChunkIndex;
use crate::error::Result;
use crate::format::id::ChunkId;
use crate::pack::frame::FrameSettings;

/// Takes chunks in stream order, drops the known ones, groups the new ones into frames.
#[derive(Debug)]
pub(super) struct Sink<'a, 's> {
    chunk_index: &'a ChunkIndex<'s>,
    urgent: Sender<Urgent<'a, 's>>,
    budget: MemoryBudget,
    settings: FrameSettings,
    pool: Pool,
    /// The open frame of each lane.
    open: [Option<OpenFrame>; 2],
    /// The place in the stream of the next frame.
    next_sequence: u64,
    fresh: FreshChunks,
    totals: SinkTotals,
}

/// Takes chunks in stream order, wherever that leads.
pub(super) trait TakeChunks {
    /// Takes chunks that lie in `block`, and that the index did not have when it was asked.
    fn take(&mut self, block: &Arc<Block>, chunks: &[FreshChunk]);
    /// Takes a chunk that nobody has looked up, from memory that does not last.
    ///
    /// # Errors
    /// The index cannot be asked.
    fn take_bytes(&mut self, id: &ChunkId, bytes: &[u8], lane: Lane) -> Result<()>;
}

/// What went into frames and packs so far.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct SinkTotals {
    pub(super) new_bytes: u64,
    pub(super) new_chunks: u64,
    pub(super) pack_bytes: u64,
    pub(super) packs: u64,
}

#[derive(Debug)]
struct OpenFrame {
    frame: Arc<Frame>,
    /// Length of the chunks so far.
    bytes: usize,
    ids: Vec<ChunkId>,
    lengths: Vec<u32>,
    held: MemoryPermit,
}

impl<'a, 's> Sink<'a, 's> {
    pub(super) fn new(
        chunk_index: &'a ChunkIndex<'s>,
        urgent: Sender<Urgent<'a, 's>>,
        budget: MemoryBudget,
        settings: FrameSettings,
        pool: Pool,
    ) -> Self {
        Self {
            chunk_index,
            urgent,
            budget,
            settings,
            pool,
            open: [None, None],
            next_sequence: 0,
            fresh: FreshChunks::default(),
            totals: SinkTotals::default(),
        }
    }

    /// Gives a new chunk its place: a frame, and the offset in it.
    fn place(&mut self, id: &ChunkId, length: u32, lane: Lane) -> (&Arc<Frame>, usize) {
        self.totals.new_bytes += u64::from(length);
        self.totals.new_chunks += 1;
        let settings = self.settings;
        let takes = |open: &OpenFrame| settings.takes(open.bytes, open.ids.len(), length as usize);
        let [contents, skeleton] = &mut self.open;
        let open = if lane == Lane::Contents { contents } else { skeleton };
        if let Some(full) = open.take_if(|open| !takes(open)) {
            close(&self.urgent, &mut self.next_sequence, full);
        }
        let open = open.get_or_insert_with(|| OpenFrame {
            frame: Frame::new(self.pool.take_with_room(settings.frame_bytes())),
            bytes: 0,
            ids: Vec::new(),
            lengths: Vec::new(),
            held: self.budget.hold(settings.frame_bytes()),
        });
        let at = open.bytes;
        open.bytes += length as usize;
        open.ids.push(*id);
        open.lengths.push(length);
        (&open.frame, at)
    }

    /// How many frames were closed.
    pub(super) fn closed(&self) -> u64 {
        self.next_sequence
    }

    /// Closes the frames that are open; says how many frames were closed in all.
    pub(super) fn flush(&mut self) -> u64 {
        for open in self.open.iter_mut().filter_map(Option::take) {
            close(&self.urgent, &mut self.next_sequence, open);
        }
        self.next_sequence
    }

    /// A pack is in the index; these tasks were handed out before.
    pub(super) fn packed(&mut self, pack: FinishedPack, handed: Handed) {
        self.totals.pack_bytes += pack.bytes;
        self.totals.packs += 1;
        self.fresh.indexed(pack.directory, handed);
    }

    /// The results of all tasks before these were taken.
    pub(super) fn taken(&mut self, taken: Handed) {
        self.fresh.taken(taken);
    }

    pub(super) fn totals(&self) -> SinkTotals {
        self.totals
    }

    fn send(&self, urgent: Urgent<'a, 's>) {
        // The workers are gone only if the add has failed already.
        let _ = self.urgent.send(urgent);
    }
}

impl TakeChunks for Sink<'_, '_> {
    fn take(&mut self, block: &Arc<Block>, chunks: &[FreshChunk]) {
        let mut parts: Vec<CopyPart> = Vec::new();
        for chunk in chunks {
            if !self.fresh.insert(&chunk.id) {
                continue;
            }
            let (frame, at) = self.place(&chunk.id, chunk.length, chunk.lane);
            let from = chunk.start as usize..chunk.start as usize + chunk.length as usize;
            match parts.last_mut() {
                Some(last) if last.from.end == from.start && last.follows(frame, at) => last.from.end = from.end,
                _ => parts.push(CopyPart { frame: Arc::clone(frame), at, from }),
            }
        }
        if !parts.is_empty() {
            self.send(Urgent::Copy(Copy { block: Arc::clone(block), parts }));
        }
    }

    fn take_bytes(&mut self, id: &ChunkId, bytes: &[u8], lane: Lane) -> Result<()> {
        if self.fresh.contains(id) || self.chunk_index.contains(id)? {
            return Ok(());
        }
        self.fresh.insert(id);
        // A chunk is at most CHUNK_BYTES_MAX long. The frame is still open, so it is not complete.
        let (frame, at) = self.place(id, bytes.len() as u32, lane);
        frame.copy(at, bytes);
        Ok(())
    }
}

impl CopyPart {
    /// Whether this place in this frame comes right after the part.
    fn follows(&self, frame: &Arc<Frame>, at: usize) -> bool {
        Arc::ptr_eq(&self.frame, frame) && self.at + self.from.len() == at
    }
}

fn close<'a, 's>(urgent: &Sender<Urgent<'a, 's>>, next_sequence: &mut u64, open: OpenFrame) {
    let OpenFrame { frame, bytes, ids, lengths, held } = open;
    let sequence = *next_sequence;
    *next_sequence += 1;
    if let Some(raw) = frame.close(Closed { sequence, bytes, ids, lengths, held }) {
        // The workers are gone only if the add has failed already.
        let _ = urgent.send(Urgent::Encode(raw));
    }
}
