//! How are bytes compressed and back? The only place that knows the codecs.
//!
//! Invariant: what is decompressed never takes more memory than its caller bounded it by.

use std::io;

use zstd::zstd_safe::zstd_sys::ZSTD_EndDirective::{ZSTD_e_end, ZSTD_e_flush};
use zstd::zstd_safe::{self, CCtx, CParameter, DCtx, InBuffer, OutBuffer, ResetDirective, Strategy};

use crate::format::frame::Codec;

/// What is looked for in bytes to compress them. To zstd only; lz4 always does the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Effort {
    /// What came before, as hard as the level says, and frequent bytes.
    Level,
    /// Little but frequent bytes. Planes of shuffled floats have no repetitions but those that come by chance, which
    /// cost more than they save: looking for none, zstd makes such frames 3 % smaller, and three times as fast.
    Entropy,
    /// Only repetitions, and passing over most bytes where there are few: for what looks like noise. Images take a
    /// third of the time.
    Skim,
}

/// Compresses with one codec; keeps contexts and buffers.
pub(super) enum Compressor {
    Zstd(ZstdContexts),
    Lz4,
    None,
}

impl Compressor {
    pub(super) fn new(codec: Codec, level: i32) -> io::Result<Self> {
        Ok(match codec {
            Codec::Zstd => Self::Zstd(ZstdContexts::new(level)?),
            Codec::Lz4 => Self::Lz4,
            Codec::None => Self::None,
        })
    }

    /// Replaces `out` by `bytes` compressed; codec none copies them.
    pub(super) fn compress(&mut self, bytes: &[u8], effort: Effort, out: &mut Vec<u8>) -> io::Result<()> {
        out.clear();
        match self {
            Self::Zstd(contexts) => {
                let context = contexts.of(effort);
                out.reserve(zstd_safe::compress_bound(bytes.len()));
                context.compress2(out, bytes).map_err(zstd_error)?;
            }
            Self::Lz4 => {
                out.resize(lz4_flex::block::get_maximum_output_size(bytes.len()), 0);
                let written = lz4_flex::block::compress_into(bytes, out).map_err(io::Error::other)?;
                out.truncate(written);
            }
            Self::None => out.extend_from_slice(bytes),
        }
        Ok(())
    }

    /// The same for bytes whose nature changes where `ends` say (the last is their length). With zstd, a block ends
    /// there too, so that each plane has its own statistics.
    pub(super) fn compress_parts(
        &mut self,
        bytes: &[u8],
        ends: impl Iterator<Item = usize>,
        effort: Effort,
        out: &mut Vec<u8>,
    ) -> io::Result<()> {
        let Self::Zstd(contexts) = self else {
            return self.compress(bytes, effort, out);
        };
        let context = contexts.of(effort);
        out.clear();
        // A block of its own for each part costs a few bytes of header more than one for many.
        out.reserve(zstd_safe::compress_bound(bytes.len()) + 256);
        context.reset(ResetDirective::SessionOnly).map_err(zstd_error)?;
        context.set_pledged_src_size(Some(bytes.len() as u64)).map_err(zstd_error)?;
        let mut output = OutBuffer::around(out);
        let mut begin = 0;
        for end in ends {
            let mut part = InBuffer::around(bytes.get(begin..end).unwrap_or_default());
            let directive = if end == bytes.len() { ZSTD_e_end } else { ZSTD_e_flush };
            if context.compress_stream2(&mut output, &mut part, directive).map_err(zstd_error)? != 0 {
                return Err(io::Error::other("zstd wrote more than its bound"));
            }
            begin = end;
        }
        Ok(())
    }
}

/// One for each effort.
pub(super) struct ZstdContexts {
    level: CCtx<'static>,
    entropy: CCtx<'static>,
    skim: CCtx<'static>,
}

impl ZstdContexts {
    fn new(level: i32) -> io::Result<Self> {
        Ok(Self {
            level: context(&[CParameter::CompressionLevel(level)])?,
            entropy: context(&[
                CParameter::CompressionLevel(1),
                CParameter::Strategy(Strategy::ZSTD_fast),
                CParameter::MinMatch(7),
                CParameter::HashLog(8),
            ])?,
            skim: context(&[CParameter::CompressionLevel(level.min(-1))])?,
        })
    }

    fn of(&mut self, effort: Effort) -> &mut CCtx<'static> {
        match effort {
            Effort::Level => &mut self.level,
            Effort::Entropy => &mut self.entropy,
            Effort::Skim => &mut self.skim,
        }
    }
}

fn context(parameters: &[CParameter]) -> io::Result<CCtx<'static>> {
    let mut context = CCtx::try_create().ok_or_else(|| io::Error::from(io::ErrorKind::OutOfMemory))?;
    // The frame's own checksum covers the payload, chunk ids cover what comes out of it.
    for parameter in parameters.iter().chain(&[CParameter::ChecksumFlag(false)]) {
        context.set_parameter(*parameter).map_err(zstd_error)?;
    }
    Ok(context)
}

fn zstd_error(code: usize) -> io::Error {
    io::Error::other(zstd_safe::get_error_name(code))
}

/// Decompresses with any codec.
pub(super) struct Decompressor {
    zstd: DCtx<'static>,
}

impl Decompressor {
    pub(super) fn new() -> io::Result<Self> {
        let zstd = DCtx::try_create().ok_or_else(|| io::Error::from(io::ErrorKind::OutOfMemory))?;
        Ok(Self { zstd })
    }

    /// Replaces `out` by what `payload` was made of, if that is at most `raw_bytes` long. Says how long it is, or what
    /// is wrong with it.
    pub(super) fn decompress(
        &mut self,
        codec: Codec,
        payload: &[u8],
        raw_bytes: usize,
        out: &mut Vec<u8>,
    ) -> Result<usize, String> {
        match codec {
            Codec::None => {
                out.clear();
                out.extend_from_slice(payload);
                Ok(out.len())
            }
            Codec::Zstd => {
                out.clear();
                out.reserve(raw_bytes);
                self.zstd.decompress(out, payload).map_err(|code| zstd_safe::get_error_name(code).to_owned())
            }
            Codec::Lz4 => {
                out.resize(raw_bytes, 0);
                lz4_flex::block::decompress_into(payload, out).map_err(|e| e.to_string())
            }
        }
    }

    /// Replaces `out` by the first `end` bytes, at least, of what [`Self::decompress`] gives, for those who can tell
    /// whether they are right. Says whether it tried.
    ///
    /// A zstd frame of one block cannot be taken in part, but its decoder stops where it has no more room. It has then
    /// written all sequences before that, and says that there was too little room.
    pub(super) fn decompress_front(
        &mut self,
        codec: Codec,
        payload: &[u8],
        raw_bytes: usize,
        end: usize,
        out: &mut Vec<u8>,
    ) -> bool {
        let room = front_room(end, raw_bytes);
        if codec != Codec::Zstd || room >= raw_bytes {
            return false;
        }
        out.resize(room, 0);
        // That there is too little room is no news.
        let _ = self.zstd.decompress(out.as_mut_slice(), payload);
        true
    }
}

/// The room in which a decoder gets to `end`: the sequence that passes it has to fit, and one block's literals, which
/// are decoded first. (Of pairs of kernel files of up to 9 KB, 0.5 % of the first ones need more room; with 256 bytes for
/// a sequence 1.2 %, with 1024 0.1 %, which does not pay for what it decodes more.)
fn front_room(end: usize, raw_bytes: usize) -> usize {
    const SEQUENCE_BYTES: usize = 512;
    const LITERALS_SHARE: usize = 3;
    end.saturating_add(SEQUENCE_BYTES).max(raw_bytes.min(128 << 10) / LITERALS_SHARE)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing)]

    use super::*;

    #[test]
    fn the_front_is_right_or_seen_to_be_wrong() {
        let lines: Vec<u8> =
            (0..900_u32).flat_map(|n| format!("line {} of many\n", n * n % 977).into_bytes()).collect();
        let noise = (0..3000_u32).map(|n| (n.wrapping_mul(0x9e37_79b9) >> 13) as u8 ^ (n >> 3) as u8);
        let then_a_run: Vec<u8> = noise.chain([b'x'; 20_000]).collect();
        let mut compressor = Compressor::new(Codec::Zstd, 3).unwrap();
        let mut decompressor = Decompressor::new().unwrap();
        let (mut payload, mut out) = (Vec::new(), Vec::new());
        for (raw, end, right) in [(&lines, 4000, true), (&lines, 7, true), (&then_a_run, 3000, false)] {
            compressor.compress(raw, Effort::Level, &mut payload).unwrap();
            out.clear();
            assert!(decompressor.decompress_front(Codec::Zstd, &payload, raw.len(), end, &mut out));
            assert!(out.len() < raw.len() && out.len() >= end);
            // The run is one sequence with the noise before it, and does not fit.
            assert_eq!(out[..end] == raw[..end], right, "up to {end}");
            // The decoder still works.
            assert_eq!(decompressor.decompress(Codec::Zstd, &payload, raw.len(), &mut out), Ok(raw.len()));
            assert!(out == *raw);
        }
        assert!(!decompressor.decompress_front(Codec::Zstd, &payload, 23_000, 22_900, &mut out), "near the end");
        assert!(!decompressor.decompress_front(Codec::Lz4, &payload, 23_000, 10, &mut out), "another codec");
    }
}
