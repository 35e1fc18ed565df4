//! How do chunks become a frame, and a frame chunks?
//!
//! A frame is compressed as a whole: neighbours in one window are what makes small chunks cheap. It is stored raw
//! where compression does not gain, and shuffled ([`super::filter`]) where that gains. Each worker thread owns one encoder or decoder, which keep their contexts and
//! buffers from frame to frame.

use std::io;

use super::codec::{Compressor, Decompressor, Effort};
use super::filter::{plane_ends, shuffle, unshuffle};
use super::probe::{Look, Probe};
use crate::error::{Error, Result};
use crate::format::frame::{FRAME_CHUNKS_MAX, FrameHeader, FrameView, append_frame};
use crate::format::id::PackId;
use crate::format::name::ObjectName;
use crate::format::{CHUNK_BYTES_MAX, FRAME_RAW_BYTES_MAX};

pub use crate::format::frame::{Codec, Filter};

/// How frames are made: part of a store's settings. Reading needs none of it, every frame says how it was made.
///
/// ```
/// # use seamstore::{Control, Store, entry::*, report::*, request::*};
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let settings = Settings::default().frames(FrameSettings::new(Codec::Lz4, 0, 64 << 10)?);
/// let store = Store::in_memory(settings)?;
/// assert_eq!(store.settings().frames.codec(), Codec::Lz4);
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FrameSettings {
    codec: Codec,
    level: i32,
    frame_bytes: usize,
}

impl Default for FrameSettings {
    /// zstd level 2 in frames of 1 MiB: of source text a tenth faster and 1 % smaller than level 3 in 256 KiB.
    fn default() -> Self {
        Self { codec: Codec::Zstd, level: 2, frame_bytes: 1 << 20 }
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
    compressor: Compressor,
    codec: Codec,
    probe: Probe,
    payload: Vec<u8>,
    sample: Vec<u8>,
    shuffled: Vec<u8>,
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
        let compressor = Compressor::new(settings.codec, settings.level)
            .map_err(|e| Error::io("set up a codec for", "a frame", e))?;
        let probe = Probe::new();
        let (payload, sample, shuffled) = (Vec::new(), Vec::new(), Vec::new());
        Ok(Self { compressor, codec: settings.codec, probe, payload, sample, shuffled })
    }

    /// Appends to `out` the frame of the chunks that lie one after another in `raw`, `lengths` bytes each. The same
    /// chunks and settings give the same frame, whatever was encoded before.
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
        match self.compress(raw).map_err(|e| Error::io("compress", "a frame", e))? {
            Some(filter) if gains(raw.len(), self.payload.len()) => {
                append_frame(self.codec, filter, lengths, raw_bytes, &self.payload, out);
            }
            _ => append_frame(Codec::None, Filter::None, lengths, raw_bytes, raw, out),
        }
        Ok(())
    }

    /// Leaves the compressed bytes in `self.payload` and says how they were filtered, or that there are none to have.
    fn compress(&mut self, raw: &[u8]) -> io::Result<Option<Filter>> {
        if self.codec == Codec::None {
            return Ok(None);
        }
        match self.probe.look(raw) {
            Look::Numbers(filter) => {
                if let Some(trial) = self.try_filter(filter, raw)? {
                    return self.compress_numbers(filter, trial, raw).map(Some);
                }
            }
            Look::Noise if self.codec == Codec::Zstd => {
                self.compressor.compress(raw, Effort::Skim, &mut self.payload)?;
                if !gains(raw.len(), self.payload.len()) {
                    return Ok(None);
                }
            }
            Look::Noise | Look::Plain => {}
        }
        self.compressor.compress(raw, Effort::Level, &mut self.payload)?;
        Ok(Some(Filter::None))
    }

    /// Compresses what a trial said gains from that filter, and says what filter it took in the end.
    fn compress_numbers(&mut self, filter: Filter, trial: Trial, raw: &[u8]) -> io::Result<Filter> {
        shuffle(filter, raw, &mut self.shuffled);
        let ends = plane_ends(filter, raw.len());
        self.compressor.compress_parts(&self.shuffled, ends, trial.effort, &mut self.payload)?;
        if trial.plain_bytes.is_some_and(|plain_bytes| gains(plain_bytes, self.payload.len())) {
            return Ok(filter);
        }
        // Without the filter it may be less after all.
        self.compressor.compress(raw, Effort::Level, &mut self.shuffled)?;
        if self.payload.len() <= self.shuffled.len() {
            return Ok(filter);
        }
        std::mem::swap(&mut self.payload, &mut self.shuffled);
        Ok(Filter::None)
    }

    /// Compresses a sample of `raw` with the filter and without, and says with what effort the filter gains most, if
    /// it does.
    fn try_filter(&mut self, filter: Filter, raw: &[u8]) -> io::Result<Option<Trial>> {
        self.sample.clear();
        // Whole elements, and the same phase in all pieces.
        let piece_bytes = (raw.len() / 16).clamp(TRIAL_BYTES_MIN, TRIAL_BYTES_MAX) / TRIAL_PIECES / 8 * 8;
        let step = raw.len() / TRIAL_PIECES / 8 * 8;
        for begin in (0..TRIAL_PIECES).map(|n| n * step) {
            self.sample.extend_from_slice(raw.get(begin..begin + piece_bytes).unwrap_or_default());
        }
        shuffle(filter, &self.sample, &mut self.shuffled);
        let plain = self.tried(Filter::None, Effort::Level)?;
        let by_level = self.tried(filter, Effort::Level)?;
        let by_entropy = match self.codec {
            Codec::Zstd => self.tried(filter, Effort::Entropy)?,
            Codec::Lz4 | Codec::None => by_level,
        };
        if !gains(plain, by_level.min(by_entropy)) {
            return Ok(None);
        }
        let effort = if by_entropy < by_level { Effort::Entropy } else { Effort::Level };
        // What repeats may do so at distances that the sample does not have.
        let repeats = match self.codec {
            Codec::Zstd => gains(self.tried(Filter::None, Effort::Entropy)?, plain),
            Codec::Lz4 | Codec::None => true,
        };
        let plain_bytes = (!repeats).then_some(plain * raw.len() / self.sample.len().max(1));
        Ok(Some(Trial { effort, plain_bytes }))
    }

    /// How many bytes the sample takes, plain or filtered.
    fn tried(&mut self, filter: Filter, effort: Effort) -> io::Result<usize> {
        let bytes = if filter == Filter::None { &self.sample } else { &self.shuffled };
        let ends = plane_ends(filter, bytes.len());
        self.compressor.compress_parts(bytes, ends, effort, &mut self.payload)?;
        Ok(self.payload.len().min(bytes.len()))
    }
}

/// The result of a filter's trial.
struct Trial {
    effort: Effort,
    /// What the whole frame would take without the filter, if the sample tells that.
    plain_bytes: Option<usize>,
}

/// A filter is tried on a sixteenth of a frame, but no fewer and no more bytes than these, in this many pieces.
const TRIAL_PIECES: usize = 4;
const TRIAL_BYTES_MIN: usize = 4 << 10;
const TRIAL_BYTES_MAX: usize = 64 << 10;

/// Whether a payload of that size is worth decoding each time it is read: it must save more than one byte in 32.
/// Frames either compress or do not (of 400 frames of emoji images 94 % grow, the rest shrink by a quarter and more),
/// so this asks 0.02 % of space there, none of text or numbers, and spares the decoder frames that hardly shrink.
fn gains(raw_bytes: usize, payload_bytes: usize) -> bool {
    payload_bytes + raw_bytes / 32 < raw_bytes
}

/// Reads frames; one for each thread that does.
pub struct FrameDecoder {
    decompressor: Decompressor,
    shuffled: Vec<u8>,
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
        let decompressor = Decompressor::new().map_err(|e| Error::io("set up zstd for", "a frame", e))?;
        Ok(Self { decompressor, shuffled: Vec::new(), checks: true })
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
        let FrameHeader { codec, filter, raw_bytes, .. } = *view.header();
        let front = filter == Filter::None
            && self.decompressor.decompress_front(codec, view.payload(), raw_bytes as usize, end, out);
        if front { Ok(()) } else { self.decode(frame, pack, offset, out).map(|_| ()) }
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
        let flawed = |flaw: crate::format::parse_error::ParseError| flaw.in_object(&ObjectName::Pack(*pack), offset);
        let view = FrameView::parse(frame).map_err(flawed)?;
        if self.checks {
            view.check().map_err(flawed)?;
        }
        let raw_bytes = view.header().raw_bytes as usize;
        let FrameHeader { codec, filter, .. } = *view.header();
        let decoded = if filter == Filter::None {
            self.decompressor.decompress(codec, view.payload(), raw_bytes, out)
        } else {
            let decoded = self.decompressor.decompress(codec, view.payload(), raw_bytes, &mut self.shuffled);
            if decoded == Ok(raw_bytes) {
                unshuffle(filter, &self.shuffled, out);
            }
            decoded
        };
        let found = match decoded {
            Ok(bytes) if bytes == raw_bytes => return Ok(view),
            Ok(bytes) => format!("{bytes} bytes"),
            Err(why) => why,
        };
        let what = format!("expected a {codec} payload of {raw_bytes} bytes, found: {found}");
        Err(Error::damaged(ObjectName::Pack(*pack).path(), offset, what))
    }
}
