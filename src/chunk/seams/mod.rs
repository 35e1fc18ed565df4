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
#[cfg(test)]
mod tests;

pub use file::{ChunkEnd, ReadAt, chunk_file};
use rayon::prelude::*;

use super::certify::LiveSet;
use super::finder::{Finder, Span};
use super::hits::HitLog;
use super::profile::{Profile, Warmth};
use super::replay::Replay;
use super::rule::Passes;
use super::scan::WINDOW;

/// How many bytes before its begin a segment's span must hold, if the file has them.
pub const WARM_UP: usize = WINDOW;

/// How far a worker scans at a time before it looks whether it has certified.
const BLOCK: u64 = 32 << 10;

/// How many candidates of a restarting profile are looked at byte by byte in one segment before the worker gives up on
/// certifying it, in minimum chunks: ordinary data takes two to six, one in a hundred segments 8 to 34.
const EARLY_CANDIDATES_IN_MIN: u64 = 40;

/// No more than so many for profiles of large chunks: about a tenth of a second.
const EARLY_CANDIDATES_MAX: u64 = 2 << 20;

/// What one worker found out about its segment.
#[derive(Debug, Clone)]
pub struct SegmentCuts {
    start: u64,
    end: u64,
    /// Whether the file ends with it.
    last: bool,
    certified: Option<u64>,
    hits: HitLog,
    cuts: Vec<u64>,
}

impl SegmentCuts {
    /// Of a segment that was not looked at yet.
    #[must_use]
    pub fn empty() -> Self {
        Self { start: 0, end: 0, last: false, certified: None, hits: HitLog::new(0), cuts: Vec::new() }
    }

    /// Offset of the segment's first byte.
    #[must_use]
    pub const fn start(&self) -> u64 {
        self.start
    }

    /// Offset past its last byte.
    #[must_use]
    pub const fn end(&self) -> u64 {
        self.end
    }

    /// The certified cut: `start()` or past it. The first segment's is 0, where the file begins.
    #[must_use]
    pub const fn certified(&self) -> Option<u64> {
        self.certified
    }

    /// The cuts after the certified one and before the segment's end; at a file's end, that too. None if nothing was
    /// certified.
    #[must_use]
    pub fn cuts(&self) -> &[u64] {
        &self.cuts
    }

    /// The hits recorded for replay: those before the certified cut, and a little more.
    #[must_use]
    pub const fn hits(&self) -> &HitLog {
        &self.hits
    }

    /// The bytes of memory that this holds on to, apart from its own size.
    #[must_use]
    pub fn memory_bytes(&self) -> usize {
        self.hits.packed_bytes() + self.cuts.capacity() * size_of::<u64>()
    }
}

/// Chunks the segment that begins at `start` and ends with the span, as far as can be known from its bytes alone.
///
/// The span begins [`WARM_UP`] bytes before `start`, or earlier, or with the file. `on_chunk` gets the offset and the
/// bytes of each chunk that begins at or after the certified cut and ends in this segment, in file order.
pub fn scan_segment(finder: &Finder, span: &Span<'_>, start: u64, mut on_chunk: impl FnMut(u64, &[u8])) -> SegmentCuts {
    let mut hits = HitLog::new(start);
    let (certified, scanned_to) =
        if start == 0 { (Some(0), 0) } else { Certifier::new(finder, span, start).run(&mut hits) };
    hits.finish();
    let mut cuts = Vec::new();
    if let Some(mut at) = certified {
        let mut emit = |from: u64, to: u64| {
            on_chunk(from, span.slice(from, to));
            cuts.push(to);
        };
        // What was scanned past the certified cut, to the end of the block, is known from its hits.
        let mut replay = SpanReplay::new(finder, span, &hits, (span.end(), span.is_last()));
        while let Some(cut) = replay.next_cut(at, start, scanned_to) {
            emit(at, cut);
            at = cut;
        }
        while at < span.end() {
            let Some(cut) = finder.next_cut(span, at, scanned_to) else { break };
            emit(at, cut);
            at = cut;
        }
    }
    SegmentCuts { start, end: span.end(), last: span.is_last(), certified, hits, cuts }
}

/// Sweeps the live set over a segment, block by block.
struct Certifier<'a> {
    finder: &'a Finder,
    span: &'a Span<'a>,
    start: u64,
    live: LiveSet,
    /// Positions from here on tell nothing: in a restarting profile, whether a file's last position is tested depends on
    /// where its last chunk began.
    end: u64,
    early_left: u64,
}

impl<'a> Certifier<'a> {
    fn new(finder: &'a Finder, span: &'a Span<'a>, start: u64) -> Self {
        let sizes = finder.profile().sizes();
        let restarting = finder.profile().warmth() == Warmth::Restarting;
        Self {
            finder,
            span,
            start,
            live: LiveSet::with_full_from(start, sizes, finder.full_from()),
            end: span.end() - u64::from(restarting && span.is_last() && span.end() > start),
            early_left: (EARLY_CANDIDATES_IN_MIN * sizes.min()).min(EARLY_CANDIDATES_MAX),
        }
    }

    /// The certified cut, if there is one, and the position up to which every hit is in `hits`.
    fn run(mut self, hits: &mut HitLog) -> (Option<u64>, u64) {
        let (finder, span) = (self.finder, self.span);
        let restarting = finder.profile().warmth() == Warmth::Restarting;
        // A candidate that comes up within a block has no early positions in the same block.
        let block = if restarting { BLOCK.min(finder.profile().sizes().min()) } else { BLOCK };
        let (mut from, mut certified) = (self.start, None);
        let mut in_block: Vec<(u64, Passes)> = Vec::new();
        while from < span.end() && certified.is_none() {
            let to = span.end().min(from + block);
            if restarting && self.early_left > 0 {
                let early = self.early_hits(from, to.min(self.end));
                in_block.clear();
                finder.hits(span, from, to, |at, passes| {
                    hits.push(at, passes);
                    in_block.push((at, passes));
                });
                certified = self.sweep(&in_block, &early);
            } else {
                finder.hits(span, from, to, |at, passes| {
                    hits.push(at, passes);
                    if certified.is_none() && !restarting {
                        certified = self.hit(at, passes);
                    }
                });
            }
            from = to;
        }
        if certified.is_none() && (!restarting || self.early_left > 0) {
            self.live.settle(self.end);
            certified = self.certified();
        }
        (certified, from)
    }

    /// A cut before the segment is no use to it, so it is not taken for certified.
    fn certified(&self) -> Option<u64> {
        self.live.certified().filter(|cut| *cut >= self.start)
    }

    fn hit(&mut self, at: u64, passes: Passes) -> Option<u64> {
        self.live.settle(at);
        self.certified().or_else(|| {
            self.live.hit(at, passes);
            self.certified()
        })
    }

    /// The first early hit at `from..to` of each candidate that has early positions there, ascending. Gives up for good
    /// when this has become too much work.
    fn early_hits(&mut self, from: u64, to: u64) -> Vec<(u64, u64)> {
        self.live.settle(from);
        let sizes = self.finder.profile().sizes();
        let first_ripe = (from + 1).saturating_sub(self.finder.full_from());
        let mut early = Vec::new();
        for run in self.live.runs() {
            let first = run.first.max(first_ripe);
            for state in first..=run.last.min(to.saturating_sub(sizes.min() + 1)) {
                self.early_left = self.early_left.saturating_sub(1);
                if self.early_left == 0 {
                    return Vec::new();
                }
                early.extend(self.finder.first_early(self.span, state, from, to).map(|at| (at, state)));
            }
        }
        early.sort_unstable();
        early
    }

    /// Sweeps one block of a restarting profile, its two kinds of hits merged.
    fn sweep(&mut self, hits: &[(u64, Passes)], early: &[(u64, u64)]) -> Option<u64> {
        if self.early_left == 0 {
            return None;
        }
        let end = self.end;
        let mut early = early.iter().copied().peekable();
        let mut certified = None;
        for &(at, passes) in hits.iter().filter(|(at, _)| *at < end) {
            while let Some((at, state)) = early.next_if(|(early_at, _)| *early_at <= at) {
                certified = certified.or_else(|| self.early_hit(at, state));
            }
            certified = certified.or_else(|| self.hit(at, passes));
        }
        for (at, state) in early {
            certified = certified.or_else(|| self.early_hit(at, state));
        }
        certified
    }

    fn early_hit(&mut self, at: u64, state: u64) -> Option<u64> {
        self.live.settle(at);
        self.certified().or_else(|| {
            self.live.early_hit(at, state);
            self.certified()
        })
    }
}

/// Replays one segment's hits, early positions tested on its bytes.
struct SpanReplay<'a> {
    finder: &'a Finder,
    span: &'a Span<'a>,
    /// Where the segment ends, and whether the file does.
    end: (u64, bool),
    replay: Replay<super::hits::Hits<'a>>,
}

impl<'a> SpanReplay<'a> {
    fn new(finder: &'a Finder, span: &'a Span<'a>, hits: &'a HitLog, end: (u64, bool)) -> Self {
        let sizes = finder.profile().sizes();
        Self { finder, span, end, replay: Replay::with_full_from(hits.iter(), sizes, finder.full_from()) }
    }

    /// The end of the chunk that begins at `start`, if it lies in `from..to`; it does not lie before `from`.
    fn next_cut(&mut self, start: u64, from: u64, to: u64) -> Option<u64> {
        let tested_to = self.finder.tested_to(start, self.end.0, self.end.1).min(to);
        self.finder
            .first_early(self.span, start, from, tested_to)
            .or_else(|| self.replay.next_cut(start, to, tested_to))
    }
}

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
