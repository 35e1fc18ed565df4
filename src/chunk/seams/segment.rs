//! What can one worker know of its segment, from the segment's bytes alone? A certified cut, the hits before it, and all
//! cuts after it.
//!
//! **Invariant:** the bytes may come in pieces; what is found does not depend on where they are split, and no position is
//! scanned twice.

use crate::chunk::certify::LiveSet;
use crate::chunk::finder::{Finder, Span};
use crate::chunk::hits::{HitLog, Hits};
use crate::chunk::profile::Warmth;
use crate::chunk::replay::Replay;
use crate::chunk::rule::Passes;
use crate::chunk::scan::WINDOW;

/// How far a worker scans at a time before it looks whether it has certified.
pub(super) const BLOCK: u64 = 32 << 10;

/// How many candidates of a restarting profile are looked at byte by byte in one segment before the worker gives up on
/// certifying it, in minimum chunks: ordinary data takes two to six, one in a hundred segments 8 to 34.
const EARLY_CANDIDATES_IN_MIN: u64 = 40;

/// Runs of the live set's queue that are passed over in the time that a candidate takes.
const RUNS_IN_CANDIDATE: u64 = 64;

/// Upper bound for profiles of large chunks: about a tenth of a second.
const EARLY_CANDIDATES_MAX: u64 = 2 << 20;

/// What one worker found out about its segment.
#[derive(Debug, Clone)]
pub struct SegmentCuts {
    pub(super) start: u64,
    pub(super) end: u64,
    /// Whether the file ends with it.
    pub(super) last: bool,
    pub(super) certified: Option<u64>,
    pub(super) hits: HitLog,
    pub(super) cuts: Vec<u64>,
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
    #[cfg(test)]
    #[must_use]
    pub fn memory_bytes(&self) -> usize {
        self.hits.packed_bytes() + self.cuts.capacity() * size_of::<u64>()
    }
}

/// Chunks the segment that begins at `start` and ends with the span, as far as can be known from its bytes alone.
///
/// The span begins [`WARM_UP`](super::WARM_UP) bytes before `start`, or earlier, or with the file. `on_chunk` gets the
/// offset and the bytes of each chunk that begins at or after the certified cut and ends in this segment, in file order.
pub fn scan_segment(finder: &Finder, span: &Span<'_>, start: u64, on_chunk: impl FnMut(u64, &[u8])) -> SegmentCuts {
    let mut scanner = SegmentScanner::new(finder, start);
    scanner.advance(span, on_chunk);
    scanner.finish()
}

/// [`scan_segment`] for bytes that come in pieces, so that each is worked on while it is warm.
#[derive(Debug)]
pub struct SegmentScanner<'a> {
    finder: &'a Finder,
    /// Until a cut is certified.
    certifier: Certifier,
    found: SegmentCuts,
    /// The last known cut: the certified one or one after it.
    at: Option<u64>,
    /// Hits are known up to here.
    scanned_to: u64,
}

impl<'a> SegmentScanner<'a> {
    /// For the segment that begins at `start`. Where the file begins is a cut.
    #[must_use]
    pub fn new(finder: &'a Finder, start: u64) -> Self {
        let certified = (start == 0).then_some(0);
        let hits = HitLog::new(start);
        Self {
            finder,
            certifier: Certifier::new(finder, start),
            found: SegmentCuts { start, end: start, last: false, certified, hits, cuts: Vec::new() },
            at: certified,
            scanned_to: start,
        }
    }

    /// The bytes before this offset are not looked at again.
    #[must_use]
    pub fn keep_from(&self) -> u64 {
        self.at.unwrap_or(self.scanned_to.saturating_sub(WINDOW as u64))
    }

    /// Takes the bytes of the segment so far: from [`keep_from`](Self::keep_from) or earlier, to further than last time.
    /// Calls `on_chunk` as [`scan_segment`] does.
    pub fn advance(&mut self, span: &Span<'_>, mut on_chunk: impl FnMut(u64, &[u8])) {
        let (finder, start) = (self.finder, self.found.start);
        (self.found.end, self.found.last) = (span.end(), span.is_last());
        let mut emit = |from: u64, to: u64, cuts: &mut Vec<u64>| {
            on_chunk(from, span.slice(from, to));
            cuts.push(to);
        };
        if self.at.is_none() {
            let certified;
            (certified, self.scanned_to) = self.certifier.run(finder, span, self.scanned_to, &mut self.found.hits);
            let Some(mut at) = certified else { return };
            self.found.certified = Some(at);
            self.found.hits.finish();
            // What was scanned past the certified cut, to the end of the block, is known from its hits.
            let mut replay = SpanReplay::new(finder, span, &self.found.hits, (span.end(), span.is_last()));
            while let Some(cut) = replay.next_cut(at, start, self.scanned_to) {
                emit(at, cut, &mut self.found.cuts);
                at = cut;
            }
            self.at = Some(at);
        }
        while let Some(at) = self.at.filter(|at| *at < span.end()) {
            let Some(cut) = finder.next_cut(span, at, self.scanned_to) else { break };
            emit(at, cut, &mut self.found.cuts);
            self.at = Some(cut);
        }
        self.scanned_to = span.end();
    }

    /// What was found. The segment ends where the bytes did.
    #[must_use]
    pub fn finish(mut self) -> SegmentCuts {
        self.found.hits.finish();
        self.found
    }
}

/// Sweeps the live set over a segment, block by block.
#[derive(Debug)]
struct Certifier {
    /// A cut before the segment, or before the bytes at hand, is of no use and not taken for certified. (No ordinary
    /// seek point knows of one: a candidate is left alone when a hit makes it the last cut.)
    floor: u64,
    live: LiveSet,
    restarting: bool,
    early_left: u64,
}

impl Certifier {
    fn new(finder: &Finder, start: u64) -> Self {
        let sizes = finder.profile().sizes();
        Self {
            floor: start,
            live: LiveSet::with_full_from(start, sizes, finder.full_from()),
            restarting: finder.profile().warmth() == Warmth::Restarting,
            early_left: (EARLY_CANDIDATES_IN_MIN * sizes.min()).min(EARLY_CANDIDATES_MAX),
        }
    }

    /// The certified cut, if there is one, and the position up to which every hit is in `hits`: from `from` on, which
    /// is where the last call came to, at most to the span's end.
    fn run(&mut self, finder: &Finder, span: &Span<'_>, mut from: u64, hits: &mut HitLog) -> (Option<u64>, u64) {
        // Whether a file's last position is tested in a restarting profile depends on where its last chunk began, so it
        // tells nothing.
        let end = span.end() - u64::from(self.restarting && span.is_last() && span.end() > from);
        // A candidate that comes up within a block has no early positions in the same block.
        let block = if self.restarting { BLOCK.min(finder.profile().sizes().min()) } else { BLOCK };
        self.floor = self.floor.max(span.base());
        let mut certified = None;
        let mut in_block: Vec<(u64, Passes)> = Vec::new();
        while from < span.end() && certified.is_none() {
            let to = span.end().min(from + block);
            if self.restarting && self.early_left > 0 {
                let early = self.early_hits(finder, span, from, to.min(end));
                in_block.clear();
                finder.hits(span, from, to, |at, passes| {
                    hits.push(at, passes);
                    in_block.extend((at < end).then_some((at, passes)));
                });
                certified = self.sweep(&in_block, &early);
            } else {
                finder.hits(span, from, to, |at, passes| {
                    hits.push(at, passes);
                    if certified.is_none() && !self.restarting {
                        certified = self.hit(at, passes);
                    }
                });
            }
            from = to;
        }
        (certified, from)
    }

    fn certified(&self) -> Option<u64> {
        self.live.certified().filter(|cut| *cut >= self.floor)
    }

    fn hit(&mut self, at: u64, passes: Passes) -> Option<u64> {
        self.live.settle(at);
        self.certified().or_else(|| {
            self.live.hit(at, passes);
            self.certified()
        })
    }

    /// One event of a restarting profile. It may go through the whole queue, so it counts as work.
    fn event(&mut self, at: u64, take: impl FnOnce(&mut LiveSet)) -> Option<u64> {
        self.early_left = self.early_left.saturating_sub(self.live.runs().len() as u64 / RUNS_IN_CANDIDATE);
        if self.early_left == 0 {
            return None;
        }
        self.live.settle(at);
        self.certified().or_else(|| {
            take(&mut self.live);
            self.certified()
        })
    }

    /// The first early hit at `from..to` of each candidate that has early positions there, ascending. Gives up for good
    /// when this has become too much work.
    fn early_hits(&mut self, finder: &Finder, span: &Span<'_>, from: u64, to: u64) -> Vec<(u64, u64)> {
        self.live.settle(from);
        let min = finder.profile().sizes().min();
        let first_ripe = (from + 1).saturating_sub(finder.full_from());
        let mut early = Vec::new();
        for run in self.live.runs() {
            let first = run.first.max(first_ripe);
            for state in first..=run.last.min(to.saturating_sub(min + 1)) {
                self.early_left = self.early_left.saturating_sub(1);
                if self.early_left == 0 {
                    return Vec::new();
                }
                early.extend(finder.first_early(span, state, from, to).map(|at| (at, state)));
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
        let mut early = early.iter().copied().peekable();
        let mut certified = None;
        for &(at, passes) in hits {
            while let Some((at, state)) = early.next_if(|(early_at, _)| *early_at <= at) {
                certified = certified.or_else(|| self.event(at, |live| live.early_hit(at, state)));
            }
            certified = certified.or_else(|| self.event(at, |live| live.hit(at, passes)));
        }
        for (at, state) in early {
            certified = certified.or_else(|| self.event(at, |live| live.early_hit(at, state)));
        }
        certified
    }
}

/// Replays one segment's hits, early positions tested on its bytes.
pub(super) struct SpanReplay<'a> {
    finder: &'a Finder,
    span: &'a Span<'a>,
    /// Where the segment ends, and whether the file does.
    end: (u64, bool),
    replay: Replay<Hits<'a>>,
}

impl<'a> SpanReplay<'a> {
    pub(super) fn new(finder: &'a Finder, span: &'a Span<'a>, hits: &'a HitLog, end: (u64, bool)) -> Self {
        let sizes = finder.profile().sizes();
        Self { finder, span, end, replay: Replay::with_full_from(hits.iter(), sizes, finder.full_from()) }
    }

    /// The end of the chunk that begins at `start`, if it lies in `from..to`; it does not lie before `from`.
    pub(super) fn next_cut(&mut self, start: u64, from: u64, to: u64) -> Option<u64> {
        let tested_to = self.finder.tested_to(start, self.end.0, self.end.1).min(to);
        self.finder
            .first_early(self.span, start, from, tested_to)
            .or_else(|| self.replay.next_cut(start, to, tested_to))
    }
}
