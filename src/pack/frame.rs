//! How do chunks become a frame, and a frame chunks? Compression, and the only place that knows the codecs.
//!
//! A frame is compressed as a whole: neighbours in one window are what makes small chunks cheap. It is stored raw
//! where compression does not gain. Each worker thread owns one encoder or decoder, which keep their contexts and
//! buffers from frame to frame.

use std::io;

use crate::error::{Error, Result};
use crate::format::frame::{FRAME_CHUNKS_MAX, FrameView, append_frame};
use crate::format::id::PackId;
use crate::format::name::ObjectName;
use crate::format::{CHUNK_BYTES_MAX, FRAME_RAW_BYTES_MAX};

pub use crate::format::frame::Codec;

/// How frames are made: part of a store's settings. Reading needs none of it, every frame says how it was made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FrameSettings {
    codec: Codec,
    level: i32,
    frame_bytes: usize,
}

impl Default for FrameSettings {
    /// zstd level 3 in frames of 256 KiB.
    fn default() -> Self {
        Self { codec: Codec::Zstd, level: 3, frame_bytes: 256 << 10 }
    }
}

impl FrameSettings {
    /// The least that the bytes of a frame may be set to.
    pub const FRAME_BYTES_MIN: usize = 16 << 10;
    /// The most that the bytes of a frame may be set to.
    pub const FRAME_BYTES_MAX: usize = 4 << 20;
    /// The levels a codec may be given: those of zstd but the ultra ones, whose memory is out of proportion.
    pub const LEVELS: std::ops::RangeInclusive<i32> = -7..=19;

    /// Settings within their bounds. The level means something to zstd only; 0 is zstd's name for its default, 3.
    ///
    /// # Errors
    /// [`Error::Usage`] that names the bound.
    pub fn new(codec: Codec, level: i32, frame_bytes: usize) -> Result<Self> {
        if !Self::LEVELS.contains(&level) {
            return Err(Error::Usage(format!("a compression level is -7 to 19, not {level}")));
        }
        if !(Self::FRAME_BYTES_MIN..=Self::FRAME_BYTES_MAX).contains(&frame_bytes) {
            return Err(Error::Usage(format!("a frame holds 16 KiB to 4 MiB, not {frame_bytes} bytes")));
        }
        Ok(Self { codec, level, frame_bytes })
    }

    /// How frames are compressed.
    #[must_use]
    pub fn codec(&self) -> Codec {
        self.codec
    }

    /// How hard zstd tries.
    #[must_use]
    pub fn level(&self) -> i32 {
        self.level
    }

    /// How many bytes of chunks a frame holds at most, unless one chunk alone is longer.
    #[must_use]
    pub fn frame_bytes(&self) -> usize {
        self.frame_bytes
    }

    /// Whether a frame with these chunks takes another of `next_bytes`. It does as long as it then holds no more than
    /// [`FrameSettings::frame_bytes`]; its first chunk may be of any length and is still within the format's bounds.
    #[must_use]
    pub fn takes(&self, raw_bytes: usize, chunk_count: usize, next_bytes: usize) -> bool {
        chunk_count == 0 || (raw_bytes + next_bytes <= self.frame_bytes && chunk_count < FRAME_CHUNKS_MAX)
    }
}

const _: () = assert!(FrameSettings::FRAME_BYTES_MAX + CHUNK_BYTES_MAX <= FRAME_RAW_BYTES_MAX);

/// Makes frames; one for each thread that does.
pub struct FrameEncoder {
    codec: Codec,
    zstd: Option<zstd::bulk::Compressor<'static>>,
    payload: Vec<u8>,
}

impl std::fmt::Debug for FrameEncoder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("FrameEncoder").field("codec", &self.codec).finish_non_exhaustive()
    }
}

impl FrameEncoder {
    /// An encoder with these settings.
    ///
    /// # Errors
    /// The codec has no memory for its context.
    pub fn new(settings: FrameSettings) -> Result<Self> {
        let zstd = match settings.codec {
            Codec::Zstd => Some(zstd_context(settings.level).map_err(|e| Error::io("set up zstd for", "a frame", e))?),
            Codec::Lz4 | Codec::None => None,
        };
        Ok(Self { codec: settings.codec, zstd, payload: Vec::new() })
    }

    /// Appends to `out` the frame of the chunks that lie one after another in `raw`, `lengths` bytes each.
    ///
    /// # Errors
    /// [`Error::Usage`] if no frame may hold these chunks: see [`FrameSettings::takes`]. The codec failed.
    pub fn encode(&mut self, raw: &[u8], lengths: &[u32], out: &mut Vec<u8>) -> Result<()> {
        let sum: u64 = lengths.iter().map(|length| u64::from(*length)).sum();
        let chunk_ok = |length: &u32| (1..=CHUNK_BYTES_MAX as u32).contains(length);
        if sum != raw.len() as u64
            || raw.len() > FRAME_RAW_BYTES_MAX
            || !(1..=FRAME_CHUNKS_MAX).contains(&lengths.len())
            || !lengths.iter().all(chunk_ok)
        {
            let what = format!("{} chunks of {sum} bytes in {} bytes make no frame", lengths.len(), raw.len());
            return Err(Error::Usage(what));
        }
        let raw_bytes = raw.len() as u32;
        if self.compress(raw).map_err(|e| Error::io("compress", "a frame", e))? && gains(raw.len(), self.payload.len())
        {
            append_frame(self.codec, lengths, raw_bytes, &self.payload, out);
        } else {
            append_frame(Codec::None, lengths, raw_bytes, raw, out);
        }
        Ok(())
    }

    /// Leaves the compressed bytes in `self.payload`, or says that there are none to have.
    fn compress(&mut self, raw: &[u8]) -> io::Result<bool> {
        self.payload.clear();
        match (self.codec, &mut self.zstd) {
            (Codec::Zstd, Some(context)) => {
                self.payload.reserve(zstd::zstd_safe::compress_bound(raw.len()));
                context.compress_to_buffer(raw, &mut self.payload)?;
            }
            (Codec::Lz4, _) => {
                self.payload.resize(lz4_flex::block::get_maximum_output_size(raw.len()), 0);
                let written = lz4_flex::block::compress_into(raw, &mut self.payload).map_err(io::Error::other)?;
                self.payload.truncate(written);
            }
            (Codec::Zstd | Codec::None, _) => return Ok(false),
        }
        Ok(true)
    }
}

/// Whether a payload of that size is worth decoding each time it is read: it must save more than one byte in 32.
/// Frames either compress or do not (of 400 frames of emoji images 94 % grow, the rest shrink by a quarter and more),
/// so this asks 0.02 % of space there, none of text or numbers, and spares the decoder frames that hardly shrink.
fn gains(raw_bytes: usize, payload_bytes: usize) -> bool {
    payload_bytes + raw_bytes / 32 < raw_bytes
}

fn zstd_context(level: i32) -> io::Result<zstd::bulk::Compressor<'static>> {
    let mut context = zstd::bulk::Compressor::new(level)?;
    // The frame's own checksum covers the payload, chunk ids cover what comes out of it.
    context.set_parameter(zstd::zstd_safe::CParameter::ChecksumFlag(false))?;
    Ok(context)
}

/// The room in which a decoder gets to `end`: the sequence that passes it has to fit, and one block's literals, which
/// are decoded first.
fn front_room(end: usize, raw_bytes: usize) -> usize {
    const SEQUENCE_BYTES: usize = 1 << 10;
    const LITERALS_SHARE: usize = 3;
    (end + SEQUENCE_BYTES).max(raw_bytes.min(128 << 10) / LITERALS_SHARE)
}

/// Reads frames; one for each thread that does.
pub struct FrameDecoder {
    zstd: zstd::bulk::Decompressor<'static>,
    /// Whether the frame's checksum is compared.
    checks: bool,
}

impl std::fmt::Debug for FrameDecoder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("FrameDecoder").finish_non_exhaustive()
    }
}

impl FrameDecoder {
    /// A decoder; it takes frames of any codec.
    ///
    /// # Errors
    /// The codec has no memory for its context.
    pub fn new() -> Result<Self> {
        let zstd = zstd::bulk::Decompressor::new().map_err(|e| Error::io("set up zstd for", "a frame", e))?;
        Ok(Self { zstd, checks: true })
    }

    /// A decoder that leaves the frame's checksum alone: for those who compare each chunk with its id, as everyone must
    /// who hands chunks on (invariant 4). Memory is bounded as ever.
    ///
    /// # Errors
    /// As [`FrameDecoder::new`].
    pub fn for_checked_chunks() -> Result<Self> {
        Ok(Self { checks: false, ..Self::new()? })
    }

    /// Replaces `out` by the first `end` bytes at least of the chunks of `frame`, where that is less work than all of
    /// them; by all of them otherwise. For those who compare with chunk ids: what is in `out` is not said to be right,
    /// and if it is not, [`FrameDecoder::decode`] tells why or does better.
    ///
    /// A zstd frame of one block cannot be taken in part, but its decoder stops where it has no more room. It has then
    /// written all sequences before that, and says that there was too little room.
    ///
    /// # Errors
    /// [`Error::Damaged`] as [`FrameDecoder::decode`], but for what lies after `end`.
    pub fn decode_front(
        &mut self,
        frame: &[u8],
        pack: &PackId,
        offset: u64,
        end: usize,
        out: &mut Vec<u8>,
    ) -> Result<()> {
        let view = FrameView::parse(frame).map_err(|flaw| flaw.in_object(&ObjectName::Pack(*pack), offset))?;
        let raw_bytes = view.header().raw_bytes as usize;
        let room = front_room(end, raw_bytes);
        if view.header().codec != Codec::Zstd || room >= raw_bytes {
            return self.decode(frame, pack, offset, out).map(|_| ());
        }
        out.resize(room, 0);
        // That there is too little room is no news.
        let _ = self.zstd.decompress_to_buffer(view.payload(), out.as_mut_slice());
        Ok(())
    }

    /// Replaces `out` by the chunks of `frame`, one after another. What comes back tells their lengths.
    ///
    /// `pack` and `offset` say where the frame was read, for errors. Memory is bounded by the raw bytes in the frame's
    /// header, themselves at most [`FRAME_RAW_BYTES_MAX`], whatever the payload wants to decode to.
    ///
    /// # Errors
    /// [`Error::Damaged`] if the frame's layout, checksum or decoded size is not what it must be; `out` is then of no
    /// use.
    pub fn decode<'a>(
        &mut self,
        frame: &'a [u8],
        pack: &PackId,
        offset: u64,
        out: &mut Vec<u8>,
    ) -> Result<FrameView<'a>> {
        let flawed = |flaw: crate::format::flaw::Flaw| flaw.in_object(&ObjectName::Pack(*pack), offset);
        let view = FrameView::parse(frame).map_err(flawed)?;
        if self.checks {
            view.check().map_err(flawed)?;
        }
        let raw_bytes = view.header().raw_bytes as usize;
        out.clear();
        let decoded: Result<usize, String> = match view.header().codec {
            Codec::None => {
                out.extend_from_slice(view.payload());
                Ok(out.len())
            }
            Codec::Zstd => {
                out.reserve(raw_bytes);
                self.zstd.decompress_to_buffer(view.payload(), out).map_err(|e| e.to_string())
            }
            Codec::Lz4 => {
                out.resize(raw_bytes, 0);
                lz4_flex::block::decompress_into(view.payload(), out).map_err(|e| e.to_string())
            }
        };
        let found = match decoded {
            Ok(bytes) if bytes == raw_bytes => return Ok(view),
            Ok(bytes) => format!("{bytes} bytes"),
            Err(why) => why,
        };
        let codec = view.header().codec;
        let what = format!("expected a {codec} payload of {raw_bytes} bytes, found: {found}");
        Err(Error::damaged(ObjectName::Pack(*pack).path(), offset, what))
    }
}
