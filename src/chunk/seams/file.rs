//! How is one big file chunked, and each chunk hashed, by many workers that read it as they go?
//!
//! 1. The workers take segments: read one piece by piece, scan it, and work on each chunk while it is warm.
//! 2. The stitcher replays the seams, which takes next to no time.
//! 3. The workers read the seam chunks once more and work on them. Ordinary data has one or two in a hundred; of data
//!    that never certifies it is all, and still done by all workers.
//!
//! Memory: a piece and a longest chunk for each worker, what the work returns, and the recorded hits.

use std::io;
use std::os::unix::fs::FileExt;

use rayon::prelude::*;

use super::{SegmentCuts, SegmentScanner, Stitcher, WARM_UP};
use crate::chunk::finder::{Finder, Span};
use crate::chunk::profile::Profile;

/// The longest segment, in bytes: long enough that seams do not matter.
const SEGMENT_BYTES_MAX: u64 = 16 << 20;

/// The shortest, for small files; but no shorter than eight longest chunks.
const SEGMENT_BYTES_MIN: u64 = 1 << 20;

/// Segments for each worker of a small file, so that they end at about the same time.
const SEGMENTS_PER_WORKER: u64 = 4;

/// How much is read at a time, in bytes: with a chunk's begin it stays in a core's own cache while it is worked on.
const PIECE_BYTES: usize = 512 << 10;

/// Bytes that can be read from any offset by many at once.
pub trait ReadAt: Sync {
    /// Fills the buffer with the bytes from `offset` on.
    ///
    /// # Errors
    /// What reading returned; [`io::ErrorKind::UnexpectedEof`] if there are not as many.
    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()>;
}

impl ReadAt for std::fs::File {
    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        FileExt::read_exact_at(self, buffer, offset)
    }
}

impl ReadAt for [u8] {
    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        let from = usize::try_from(offset).unwrap_or(usize::MAX);
        let bytes = self.get(from..).and_then(|rest| rest.get(..buffer.len()));
        buffer.copy_from_slice(bytes.ok_or(io::ErrorKind::UnexpectedEof)?);
        Ok(())
    }
}

/// A chunk of a file: where it ends, and what the work on its bytes returned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ChunkEnd<T> {
    /// Its cut point.
    pub end: u64,
    /// What was made of its bytes.
    pub made: T,
}

/// Chunks the first `length` bytes of `source` with the workers of the current rayon pool and calls `work` on the bytes
/// of each chunk, in any order. The chunks come back in file order; their ends are the serial cuts.
///
/// # Errors
/// The first error of reading.
pub fn chunk_file<T: Send>(
    source: &(impl ReadAt + ?Sized),
    length: u64,
    profile: &Profile,
    work: impl Fn(&[u8]) -> T + Sync,
) -> io::Result<Vec<ChunkEnd<T>>> {
    let finder = Finder::new(*profile);
    let segment_bytes = segment_bytes(length, profile);
    let segments = length.div_ceil(segment_bytes).max(1);
    let scanned: Vec<(SegmentCuts, Vec<T>)> = (0..segments)
        .into_par_iter()
        .map_init(Vec::new, |buffer, index| {
            let start = index * segment_bytes;
            scan_pieces(source, &finder, start, length.min(start + segment_bytes), length, buffer, &work)
        })
        .collect::<io::Result<_>>()?;

    let (mut chunks, mut seams) = (Vec::new(), Vec::new());
    let mut stitcher = Stitcher::new(finder);
    let (mut seam, mut buffer) = (Vec::new(), Vec::new());
    for (segment, made) in scanned {
        let mut from = stitcher.last_cut();
        let mut span = Span::new(&[], segment.start(), false);
        if stitcher.needs_bytes() {
            let base = segment.start().saturating_sub(WARM_UP as u64);
            let end = segment.certified().map_or(segment.end(), |cut| segment.end().min(cut + 1));
            span = Span::new(read(source, &mut buffer, base, end)?, base, false);
        }
        stitcher.push(&segment, &span, &mut seam);
        for end in seam.drain(..) {
            seams.push(from..end);
            chunks.push((end, None));
            from = end;
        }
        chunks.extend(segment.cuts().iter().copied().zip(made.into_iter().map(Some)));
    }

    let mut of_seams = seams
        .into_par_iter()
        .map_init(Vec::new, |buffer, seam| read(source, buffer, seam.start, seam.end).map(&work))
        .collect::<io::Result<Vec<T>>>()?
        .into_iter();
    Ok(chunks
        .into_iter()
        // There is one for each chunk that has none yet.
        .filter_map(|(end, made)| made.or_else(|| of_seams.next()).map(|made| ChunkEnd { end, made }))
        .collect())
}

/// Reads a segment in pieces small enough to stay warm, and chunks each before the next is read.
fn scan_pieces<T>(
    source: &(impl ReadAt + ?Sized),
    finder: &Finder,
    start: u64,
    end: u64,
    length: u64,
    buffer: &mut Vec<u8>,
    work: impl Fn(&[u8]) -> T,
) -> io::Result<(SegmentCuts, Vec<T>)> {
    let max = finder.profile().max_bytes();
    let piece = PIECE_BYTES.max(max);
    buffer.resize(piece + max + WARM_UP, 0);
    let mut scanner = SegmentScanner::new(finder, start);
    let mut made = Vec::new();
    // The buffer holds the bytes from `base` to `at`.
    let mut base = start.saturating_sub(WARM_UP as u64);
    let mut at = base;
    while at < end {
        let (keep, kept) = ((scanner.keep_from().max(base) - base) as usize, (at - base) as usize);
        buffer.copy_within(keep..kept, 0);
        base += keep as u64;
        let filled = kept - keep;
        let count = piece.min((end - at) as usize);
        let room = buffer.get_mut(filled..filled + count).ok_or(io::ErrorKind::OutOfMemory)?;
        source.read_exact_at(room, at)?;
        at += count as u64;
        let span = Span::new(buffer.get(..filled + count).unwrap_or_default(), base, at == length);
        scanner.advance(&span, |_, chunk| made.push(work(chunk)));
    }
    Ok((scanner.finish(), made))
}

/// The bytes from `from` to `to`, in the buffer.
fn read<'a>(source: &(impl ReadAt + ?Sized), buffer: &'a mut Vec<u8>, from: u64, to: u64) -> io::Result<&'a [u8]> {
    // At most a segment or a chunk.
    let length = usize::try_from(to - from).map_err(|_| io::ErrorKind::OutOfMemory)?;
    if buffer.len() < length {
        buffer.resize(length, 0);
    }
    let bytes = buffer.get_mut(..length).unwrap_or_default();
    source.read_exact_at(bytes, from)?;
    Ok(bytes)
}

fn segment_bytes(length: u64, profile: &Profile) -> u64 {
    let least = SEGMENT_BYTES_MIN.max(8 * profile.max_bytes() as u64).min(SEGMENT_BYTES_MAX);
    let wanted = length / (SEGMENTS_PER_WORKER * rayon::current_num_threads() as u64);
    wanted.clamp(least, SEGMENT_BYTES_MAX)
}
