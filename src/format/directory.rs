//! What a pack holds and where: its directory, parsed.

use super::id::ChunkId;

/// One frame of a pack.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FrameEntry {
    /// Where the frame (its header) begins in the pack, in bytes.
    pub offset: u64,
    /// Bytes of the frame in the pack, header included.
    pub stored_bytes: u32,
    /// Bytes of its chunks together.
    pub raw_bytes: u32,
    /// The ordinal in the pack of its first chunk.
    pub first_chunk: u32,
    /// How many chunks it holds.
    pub chunk_count: u32,
}

/// One chunk of a pack.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ChunkEntry {
    /// Which chunk.
    pub id: ChunkId,
    /// Its length in bytes, at least 1.
    pub length: u32,
}

/// Where a chunk lies in its pack.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ChunkPlace {
    /// The ordinal of its frame in the pack.
    pub frame: u32,
    /// Where it begins in the decoded frame, in bytes.
    pub start: u32,
    /// Its length in bytes.
    pub length: u32,
}

/// A pack's directory. Invariant: frames tile the chunks in order, lengths and offsets are within bounds.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Directory {
    /// Frames by ascending offset.
    pub frames: Vec<FrameEntry>,
    /// Chunks in the order of their frames: the position in this list is the chunk's ordinal.
    pub chunks: Vec<ChunkEntry>,
}
