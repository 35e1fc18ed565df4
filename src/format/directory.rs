//! What a pack holds and where: its directory, in bytes and parsed.
//!
//! Only what cannot be derived is written: frames lie one after another from the pack header on, so their offsets
//! follow from their lengths; their raw bytes follow from their chunks. The checksum of every frame is in the
//! directory, and the pack is named by a hash of the directory, so a pack's name stands for all its bytes.
//!
//! ```text
//! offset  size  field
//!      0     4  frame count f
//!      4     4  chunk count c
//!      8   24f  frames:  stored bytes (4), chunk count (4), the frame's checksum (16)
//!  8+24f   36c  chunks:  id (32), length (4); in the order of the frames
//! ```

use super::bytes::{array_at, u32_at};
use super::frame::{FRAME_CHUNKS_MAX, FRAME_HEADER_BYTES, FRAME_STORED_BYTES_MAX, hex};
use super::id::ChunkId;
use super::parse_error::ParseError;
use super::{CHUNK_BYTES_MAX, FRAME_RAW_BYTES_MAX};

/// Where the first frame of a pack begins: behind the pack's header.
pub const FIRST_FRAME_OFFSET: u64 = 16;

/// Bytes of a directory before its frames.
pub const DIRECTORY_HEADER_BYTES: usize = 8;
/// Bytes of a directory for each frame.
pub const FRAME_ENTRY_BYTES: usize = 24;
/// Bytes of a directory for each chunk.
pub const CHUNK_ENTRY_BYTES: usize = 36;

/// No directory is longer: seven million chunks, where a pack of default settings has some ten thousand.
pub const DIRECTORY_BYTES_MAX: usize = 256 << 20;

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
    /// The checksum in the frame's header, over all the rest of the frame.
    pub checksum: [u8; 16],
}

impl FrameEntry {
    /// The ordinals of its chunks.
    #[must_use]
    pub fn chunks(&self) -> std::ops::Range<u32> {
        self.first_chunk..self.first_chunk.saturating_add(self.chunk_count)
    }

    /// Where the frame ends in the pack, exclusive, in bytes.
    #[must_use]
    pub fn end(&self) -> u64 {
        self.offset.saturating_add(u64::from(self.stored_bytes))
    }
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

impl Directory {
    /// Appends a frame that follows the last one in the pack.
    ///
    /// The caller has a frame within the bounds of [`super::frame`]; one that is not is refused when it is read.
    pub fn push(&mut self, stored_bytes: u32, checksum: [u8; 16], chunks: impl IntoIterator<Item = ChunkEntry>) {
        let first = self.chunks.len();
        self.chunks.extend(chunks);
        let added = self.chunks.get(first..).unwrap_or_default();
        self.frames.push(FrameEntry {
            offset: self.frames_end(),
            stored_bytes,
            raw_bytes: added.iter().map(|chunk| chunk.length).sum(),
            first_chunk: first as u32,
            chunk_count: added.len() as u32,
            checksum,
        });
    }

    /// Where the last frame ends in the pack, and the directory begins, in bytes.
    #[must_use]
    pub fn frames_end(&self) -> u64 {
        self.frames.last().map_or(FIRST_FRAME_OFFSET, FrameEntry::end)
    }

    /// Bytes of this directory when encoded.
    #[must_use]
    pub fn encoded_bytes(&self) -> usize {
        DIRECTORY_HEADER_BYTES + FRAME_ENTRY_BYTES * self.frames.len() + CHUNK_ENTRY_BYTES * self.chunks.len()
    }

    /// The ordinal of the frame that holds a chunk; `None` if there are not that many chunks.
    #[must_use]
    pub fn frame_of(&self, chunk: u32) -> Option<u32> {
        let after = self.frames.partition_point(|frame| frame.first_chunk <= chunk);
        let frame = after.checked_sub(1)?;
        self.frames.get(frame)?.chunks().contains(&chunk).then_some(frame as u32)
    }

    /// Where a chunk lies; `None` if there are not that many chunks.
    #[must_use]
    pub fn place(&self, chunk: u32) -> Option<ChunkPlace> {
        let frame = self.frame_of(chunk)?;
        let first = self.frames.get(frame as usize)?.first_chunk;
        let before = self.chunks.get(first as usize..chunk as usize)?;
        let length = self.chunks.get(chunk as usize)?.length;
        Some(ChunkPlace { frame, start: before.iter().map(|entry| entry.length).sum(), length })
    }

    /// The chunks of a frame of this directory, in order.
    #[must_use]
    pub fn chunks_of(&self, frame: &FrameEntry) -> &[ChunkEntry] {
        let range = frame.chunks();
        self.chunks.get(range.start as usize..range.end as usize).unwrap_or_default()
    }

    /// The directory in bytes.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(self.encoded_bytes());
        out.extend_from_slice(&(self.frames.len() as u32).to_le_bytes());
        out.extend_from_slice(&(self.chunks.len() as u32).to_le_bytes());
        for frame in &self.frames {
            out.extend_from_slice(&frame.stored_bytes.to_le_bytes());
            out.extend_from_slice(&frame.chunk_count.to_le_bytes());
            out.extend_from_slice(&frame.checksum);
        }
        for chunk in &self.chunks {
            out.extend_from_slice(chunk.id.as_bytes());
            out.extend_from_slice(&chunk.length.to_le_bytes());
        }
        out
    }

    /// Reads the directory that `bytes` are, all of them. What it allocates is proportional to `bytes`, whatever the
    /// counts in them claim.
    ///
    /// # Errors
    /// The first thing that breaks the layout or a bound.
    pub fn parse(bytes: &[u8]) -> Result<Self, ParseError> {
        let cut_off = || ParseError::new(0, format!("a directory has at least 8 bytes, found {}", bytes.len()));
        let frame_count = u32_at(bytes, 0).ok_or_else(cut_off)? as usize;
        let chunk_count = u32_at(bytes, 4).ok_or_else(cut_off)? as usize;
        let body = bytes.get(DIRECTORY_HEADER_BYTES..).unwrap_or_default();
        let claimed = FRAME_ENTRY_BYTES as u128 * frame_count as u128 + CHUNK_ENTRY_BYTES as u128 * chunk_count as u128;
        let (Some((frames, chunks)), true) =
            (body.split_at_checked(FRAME_ENTRY_BYTES.saturating_mul(frame_count)), claimed == body.len() as u128)
        else {
            let what = format!(
                "{frame_count} frames and {chunk_count} chunks take {claimed} bytes, found {} bytes",
                body.len()
            );
            return Err(ParseError::new(0, what));
        };
        let chunks_at = DIRECTORY_HEADER_BYTES + frames.len();
        let chunks = parse_chunks(chunks).map_err(|flaw| flaw.moved(chunks_at as u64))?;
        let frames = parse_frames(frames, &chunks).map_err(|flaw| flaw.moved(DIRECTORY_HEADER_BYTES as u64))?;
        Ok(Self { frames, chunks })
    }
}

fn parse_chunks(bytes: &[u8]) -> Result<Vec<ChunkEntry>, ParseError> {
    let (entries, _) = bytes.as_chunks::<CHUNK_ENTRY_BYTES>();
    let mut chunks = Vec::with_capacity(entries.len());
    for (n, entry) in entries.iter().enumerate() {
        let at = n * CHUNK_ENTRY_BYTES;
        let cut_off = || ParseError::new(at, "a chunk entry is cut off");
        let id = ChunkId(array_at(entry, 0).ok_or_else(cut_off)?);
        let length = u32_at(entry, 32).ok_or_else(cut_off)?;
        if id == ChunkId::HOLE {
            return Err(ParseError::new(at, "expected a chunk id, found zeros"));
        }
        if !(1..=CHUNK_BYTES_MAX as u32).contains(&length) {
            let what = format!("expected a chunk length of 1 to {CHUNK_BYTES_MAX}, found {length}");
            return Err(ParseError::new(at + 32, what));
        }
        chunks.push(ChunkEntry { id, length });
    }
    Ok(chunks)
}

fn parse_frames(bytes: &[u8], chunks: &[ChunkEntry]) -> Result<Vec<FrameEntry>, ParseError> {
    let (entries, _) = bytes.as_chunks::<FRAME_ENTRY_BYTES>();
    let mut frames = Vec::with_capacity(entries.len());
    let mut offset = FIRST_FRAME_OFFSET;
    let mut rest = chunks;
    for (n, entry) in entries.iter().enumerate() {
        let at = n * FRAME_ENTRY_BYTES;
        let cut_off = || ParseError::new(at, "a frame entry is cut off");
        let stored_bytes = u32_at(entry, 0).ok_or_else(cut_off)?;
        let chunk_count = u32_at(entry, 4).ok_or_else(cut_off)?;
        let checksum: [u8; 16] = array_at(entry, 8).ok_or_else(cut_off)?;
        if !(1..=FRAME_CHUNKS_MAX as u32).contains(&chunk_count) {
            let what = format!("expected a frame of 1 to {FRAME_CHUNKS_MAX} chunks, found {chunk_count}");
            return Err(ParseError::new(at + 4, what));
        }
        let Some((own, after)) = rest.split_at_checked(chunk_count as usize) else {
            let what = format!("a frame claims {chunk_count} chunks, {} are left", rest.len());
            return Err(ParseError::new(at + 4, what));
        };
        let raw_bytes: u64 = own.iter().map(|chunk| u64::from(chunk.length)).sum();
        if raw_bytes > FRAME_RAW_BYTES_MAX as u64 {
            let what = format!("expected at most {FRAME_RAW_BYTES_MAX} bytes of chunks in a frame, found {raw_bytes}");
            return Err(ParseError::new(at + 4, what));
        }
        let least = FRAME_HEADER_BYTES + 4 * own.len() + 1;
        let most = (FRAME_HEADER_BYTES + 4 * own.len()) as u64 + raw_bytes;
        if !(least as u64..=most).contains(&u64::from(stored_bytes)) {
            let what = format!("expected a frame of {least} to {most} bytes, found {stored_bytes}");
            return Err(ParseError::new(at, what));
        }
        let first_chunk = (chunks.len() - rest.len()) as u32;
        let raw_bytes = raw_bytes as u32;
        frames.push(FrameEntry { offset, stored_bytes, raw_bytes, first_chunk, chunk_count, checksum });
        offset += u64::from(stored_bytes);
        rest = after;
    }
    if !rest.is_empty() {
        return Err(ParseError::new(0, format!("{} chunks are in no frame", rest.len())));
    }
    Ok(frames)
}

impl std::fmt::Display for FrameEntry {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "frame at {} of {} bytes, checksum {}", self.offset, self.stored_bytes, hex(&self.checksum))
    }
}

const _: () = assert!(FRAME_STORED_BYTES_MAX <= u32::MAX as usize);
