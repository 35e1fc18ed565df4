//! Is this chunk new? If so, into the frame with it. The one place of an add where dedup is decided, in stream order.

use std::collections::HashSet;
use std::sync::Arc;

use crossbeam_channel::Sender;

use super::budget::{MemoryBudget, MemoryPermit};
use super::packer::FinishedPack;
use super::pool::{Buffer, Pool};
use super::worker::RawFrame;
use crate::engine::chunk_index::ChunkIndex;
use crate::error::Result;
use crate::format::id::ChunkId;
use crate::pack::frame::FrameSettings;

/// Which frames a chunk goes into: what is alike shrinks best beside its like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Lane {
    /// With the bytes of files.
    Contents = 0,
    /// With the headers of archives.
    Skeleton = 1,
}

/// Takes chunks in stream order, drops the known ones, groups the new ones into frames.
#[derive(Debug)]
pub(super) struct Sink<'a, 's> {
    chunk_index: &'a ChunkIndex<'s>,
    frames: Sender<RawFrame>,
    budget: MemoryBudget,
    settings: FrameSettings,
    pool: Pool,
    /// The open frame of each lane.
    open: [Option<OpenFrame>; 2],
    /// The place in the stream of the next frame to be sent.
    next_sequence: u64,
    /// New chunks of this add whose packs are not in the index yet: bounded by the packs being written.
    fresh: HashSet<ChunkId>,
    pub(super) new_bytes: u64,
    pub(super) new_chunks: u64,
    pub(super) pack_bytes: u64,
    pub(super) packs: u64,
}

#[derive(Debug)]
struct OpenFrame {
    bytes: Buffer,
    ids: Vec<ChunkId>,
    lengths: Vec<u32>,
    held: MemoryPermit,
}

impl<'a, 's> Sink<'a, 's> {
    pub(super) fn new(
        chunk_index: &'a ChunkIndex<'s>,
        frames: Sender<RawFrame>,
        budget: MemoryBudget,
        settings: FrameSettings,
        pool: Pool,
    ) -> Self {
        Self {
            chunk_index,
            frames,
            budget,
            settings,
            pool,
            open: [None, None],
            next_sequence: 0,
            fresh: HashSet::new(),
            new_bytes: 0,
            new_chunks: 0,
            pack_bytes: 0,
            packs: 0,
        }
    }

    /// Takes the next chunk of the stream.
    pub(super) fn take(&mut self, id: &ChunkId, chunk: &[u8], lane: Lane) -> Result<()> {
        if self.fresh.contains(id) || self.chunk_index.contains(id)? {
            return Ok(());
        }
        self.fresh.insert(*id);
        self.new_bytes += chunk.len() as u64;
        self.new_chunks += 1;
        let takes = |frame: &OpenFrame| self.settings.takes(frame.bytes.len(), frame.ids.len(), chunk.len());
        let [contents, skeleton] = &mut self.open;
        let open = if lane == Lane::Contents { contents } else { skeleton };
        if let Some(full) = open.take_if(|frame| !takes(frame)) {
            send(&self.frames, &mut self.next_sequence, full);
        }
        let frame = open.get_or_insert_with(|| OpenFrame {
            bytes: self.pool.take_empty(),
            ids: Vec::new(),
            lengths: Vec::new(),
            held: self.budget.hold(self.settings.frame_bytes()),
        });
        frame.bytes.extend_from_slice(chunk);
        frame.ids.push(*id);
        // A chunk is at most CHUNK_BYTES_MAX long.
        frame.lengths.push(chunk.len() as u32);
        Ok(())
    }

    /// How many frames were sent.
    pub(super) fn sent(&self) -> u64 {
        self.next_sequence
    }

    /// Ends the frames that are open; says how many frames were sent in all.
    pub(super) fn flush(&mut self) -> u64 {
        for frame in self.open.iter_mut().filter_map(Option::take) {
            send(&self.frames, &mut self.next_sequence, frame);
        }
        self.next_sequence
    }

    /// A pack is durable: from now on the index answers for its chunks.
    pub(super) fn packed(&mut self, pack: FinishedPack) -> Result<()> {
        for chunk in &pack.directory.chunks {
            self.fresh.remove(&chunk.id);
        }
        self.pack_bytes += pack.bytes;
        self.packs += 1;
        self.chunk_index.add_pack(pack.id, Arc::clone(&pack.directory))
    }
}

fn send(frames: &Sender<RawFrame>, next_sequence: &mut u64, frame: OpenFrame) {
    let OpenFrame { bytes, ids, lengths, held } = frame;
    let sequence = *next_sequence;
    *next_sequence += 1;
    // The workers are gone only if the add has failed already.
    let _ = frames.send(RawFrame { sequence, bytes, ids, lengths, held });
}
