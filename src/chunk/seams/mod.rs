//! How do many workers chunk one file, and get exactly the serial cuts? Each certifies a cut of its own, and the seams
//! are replayed.
//!
//! ```text
//!   file      |---- segment 0 ----|---- segment 1 ----|---- segment 2 ----|
//!   worker 1                       hhhhhhhhC--c--c--c-   h: scans and records every hit, until C is certified
//!   stitcher                  L~~s~~~~s~~~~C             ~: replays from the true last cut L over the hits: s, s, C
//! ```
//!
//! 1. [`scan_segment`], by any worker in any order: scans every hit from the segment's begin and sweeps the live set
//!    ([`certify`](super::certify)). From the certified cut on it chunks serially, skips the minimum after each cut and
//!    hands out each chunk while its bytes are warm.
//! 2. [`Stitcher::push`], in file order: from the true last cut so far it replays the recorded hits until it arrives at
//!    the certified cut. That it arrives is what *certified* means. It needs no hit past the certified cut, so the worker
//!    records none there. A segment that never certified (a run of zeros) is replayed whole.
//!
//! **Invariant:** the stitched cuts are those of [`rule`](super::rule) for every input and every choice of segments; no
//! position is tested twice by a scan. (Where a profile restarts its hash, the first 63 positions of each replayed chunk
//! are tested on the bytes, as they depend on where the chunk began.)

mod file;
mod segment;
#[cfg(test)]
mod tests;

pub use file::{ChunkEnd, ReadAt, chunk_file};
pub use segment::{SegmentCuts, SegmentScanner, scan_segment};

use rayon::prelude::*;

use super::finder::{Finder, Span};
use super::profile::{Profile, Warmth};
use super::scan::WINDOW;
use segment::SpanReplay;

/// How many bytes before its begin a segment's span must hold, if the file has them.
pub const WARM_UP: usize = WINDOW;

/// Joins what the workers found, in file order.
#[derive(Debug, Clone)]
pub struct Stitcher {
    finder: Finder,
    /// The true last cut so far.
    at: u64,
    /// Where the next segment must begin.
    end: u64,
}

impl Stitcher {
    /// For a file of which no segment was pushed yet.
    #[must_use]
    pub fn new(finder: Finder) -> Self {
        Self { finder, at: 0, end: 0 }
    }

    /// The last cut so far: the bytes from here on belong to a chunk that no pushed segment ends.
    #[must_use]
    pub const fn last_cut(&self) -> u64 {
        self.at
    }

    /// Takes the next segment; appends the **seam's** cuts to `seam`: those after the last cut so far, up to and with the
    /// certified one. These chunks no worker has seen whole. They are followed by
    /// [`segment.cuts()`](SegmentCuts::cuts), whose chunks its worker has handed out. Where nothing was certified, all
    /// cuts in the segment are seam cuts.
    ///
    /// Where the profile [needs them](Self::needs_bytes), `span` holds the bytes from [`WARM_UP`] before the segment up
    /// to its certified cut, or all of it where there is none. Otherwise it may be empty.
    ///
    /// # Panics
    /// If segments are pushed out of order. Never for any bytes.
    pub fn push(&mut self, segment: &SegmentCuts, span: &Span<'_>, seam: &mut Vec<u64>) {
        assert_eq!(segment.start, self.end, "segments are pushed in file order");
        let mut replay = SpanReplay::new(&self.finder, span, &segment.hits, (segment.end, segment.last));
        self.at =
            replay_seam(self.at, segment.certified, segment.end, seam, |at, to| replay.next_cut(at, segment.start, to));
        self.at = segment.cuts.last().copied().unwrap_or(self.at);
        self.end = segment.end;
        if segment.last && self.at < self.end {
            seam.push(self.end);
            self.at = self.end;
        }
    }

    /// Whether a replay looks at bytes: where the profile restarts its hash in each chunk.
    #[must_use]
    pub fn needs_bytes(&self) -> bool {
        self.finder.profile().warmth() == Warmth::Restarting
    }
}

/// Appends the cuts after `at`, up to and with the certified one, or to the segment's end where there is none. Returns
/// the last cut. `next_cut` says where the chunk that begins at its first argument ends, if before its second.
fn replay_seam(
    mut at: u64,
    certified: Option<u64>,
    end: u64,
    seam: &mut Vec<u64>,
    mut next_cut: impl FnMut(u64, u64) -> Option<u64>,
) -> u64 {
    let to = certified.map_or(end, |certified| certified + 1);
    while certified != Some(at) {
        let Some(cut) = next_cut(at, to) else { break };
        seam.push(cut);
        at = cut;
    }
    assert!(certified.is_none_or(|certified| at == certified), "a certified cut is a cut of the serial chunking");
    at
}

/// All cut points of a file, found by the workers of the current rayon pool in this many segments of equal length.
/// Equal to [`cut_points`](super::cut_points), whatever `segments` is.
#[must_use]
pub fn cut_points_parallel(data: &[u8], profile: &Profile, segments: usize) -> Vec<u64> {
    let segments = segments.clamp(1, data.len().max(1));
    let seeks: Vec<usize> =
        (1..segments).map(|i| (data.len() as u128 * i as u128 / segments as u128) as usize).collect();
    cut_points_parallel_at(data, profile, &seeks)
}

/// The same with a segment beginning at each of these offsets, in any order; those outside of the file are ignored.
#[must_use]
pub fn cut_points_parallel_at(data: &[u8], profile: &Profile, seeks: &[usize]) -> Vec<u64> {
    let finder = Finder::new(*profile);
    let spans = spans_at(data, seeks);
    let scanned: Vec<SegmentCuts> =
        spans.par_iter().map(|(start, span)| scan_segment(&finder, span, *start, |_, _| {})).collect();
    let mut cuts = Vec::with_capacity(data.len() / profile.average_bytes() + 1);
    let mut stitcher = Stitcher::new(finder);
    for (segment, (_, span)) in scanned.iter().zip(&spans) {
        stitcher.push(segment, span, &mut cuts);
        cuts.extend_from_slice(segment.cuts());
    }
    cuts
}

/// A file's segments at these seek points: where each begins, and its bytes with their warm-up.
#[must_use]
pub fn spans_at<'a>(data: &'a [u8], seeks: &[usize]) -> Vec<(u64, Span<'a>)> {
    let mut bounds: Vec<usize> = seeks.iter().copied().filter(|seek| (1..data.len()).contains(seek)).collect();
    bounds.push(0);
    bounds.sort_unstable();
    bounds.dedup();
    let ends = bounds.iter().skip(1).copied().chain([data.len()]);
    let segment = |(start, end): (usize, usize)| {
        let base = start.saturating_sub(WARM_UP);
        let span = Span::new(data.get(base..end).unwrap_or_default(), base as u64, end == data.len());
        (start as u64, span)
    };
    bounds.iter().copied().zip(ends).map(segment).collect()
}
