//! From which cut on does a worker know the serial chunking, though it began in the middle of a file?
//!
//! A worker that starts at `seek` cannot know the last cut before it, only that it is one of the `max` positions before
//! `seek`. The **live set** holds every position that could be the last cut so far, and every hit moves it on:
//!
//! ```text
//! live = { seek-max, ..., seek-1 }
//! at each position x, ascending, each b of live becomes x if the rule cuts there:
//!     x = b+max,  or x is a strict hit and b+min <= x < b+normal,  or x is a loose hit and b+normal <= x
//! if live = {c}: c is certified
//! ```
//!
//! *Sound*: a certified position is a cut of every chunking that has a cut in the `max` bytes before `seek`, so of the
//! serial one. *Complete*: while the set holds two positions, there are two pasts under which the chunking differs so
//! far, so nothing could certify earlier from the same hits. (`proofs/` has both as theorems.)
//!
//! The program never visits a position without a hit. The set is a queue of runs, ascending: a hit pulls from the front
//! (the oldest candidates are the ripe ones) and appends itself at the back; a forced cut takes the front and puts it,
//! `max` further, at the back. So a hit costs O(1) amortised, however dense hits are.
//!
//! **Restarting hashes.** Where the hash begins at the chunk's minimum ([`Warmth::Restarting`](super::profile::Warmth)),
//! full-window hits count from `min + WINDOW - 1` on only. Before that each candidate has hits of its own; the caller
//! finds them and hands them in one by one ([`LiveSet::early_hit`]).

use std::collections::VecDeque;

use super::profile::Sizes;
use super::rule::Passes;

/// A run of candidates, both ends included.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Run {
    pub(super) first: u64,
    pub(super) last: u64,
}

/// Every position that could be the last serial cut, given the hits so far.
#[derive(Debug, Clone)]
pub struct LiveSet {
    sizes: Sizes,
    /// The least length at which a full-window hit ends a chunk.
    full_from: u64,
    /// Ascending, not touching each other, none empty.
    runs: VecDeque<Run>,
}

impl LiveSet {
    /// All positions that could be the last cut before `seek`, which is at least 1.
    #[must_use]
    pub fn new(seek: u64, sizes: Sizes) -> Self {
        Self::with_full_from(seek, sizes, sizes.min())
    }

    /// The same where full-window hits count from `full_from` on.
    pub(super) fn with_full_from(seek: u64, sizes: Sizes, full_from: u64) -> Self {
        let all = Run { first: seek.saturating_sub(sizes.max()), last: seek.saturating_sub(1) };
        Self { sizes, full_from, runs: VecDeque::from([all]) }
    }

    /// The certified cut, if there is one.
    #[must_use]
    pub fn certified(&self) -> Option<u64> {
        match (self.runs.front(), self.runs.len()) {
            (Some(run), 1) if run.first == run.last => Some(run.first),
            _ => None,
        }
    }

    /// Makes the forced cuts before `at`. Calls ascend: no hit before `at` may follow.
    pub fn settle(&mut self, at: u64) {
        let max = self.sizes.max();
        let Some(newest) = self.runs.back().map(|run| run.last) else { return };
        // A long stretch without hits turns every candidate round by the same number of forced cuts.
        let turns = at.saturating_sub(1).saturating_sub(newest) / max;
        if turns > 0 {
            for run in &mut self.runs {
                run.first += turns * max;
                run.last += turns * max;
            }
        }
        while let Some(front) = self.runs.front_mut().filter(|run| run.first + max < at) {
            let ripe = Run { first: front.first, last: front.last.min(at - 1 - max) };
            self.drop_from_front(ripe.last);
            self.append(Run { first: ripe.first + max, last: ripe.last + max });
        }
    }

    /// Takes a hit. The forced cuts before it are [settled](Self::settle).
    pub fn hit(&mut self, at: u64, passes: Passes) {
        let normal = self.sizes.normal().max(self.full_from);
        let ripe_to = if passes.strict { self.full_from } else { normal };
        let Some(last) = at.checked_sub(ripe_to) else { return };
        if passes.loose {
            if self.runs.front().is_some_and(|run| run.first <= last) {
                self.drop_from_front(last);
                self.append(Run { first: at, last: at });
            }
        } else if passes.strict {
            // Strict but not loose, which only masks that do not nest can give: candidates past the normal size stay.
            let first = (at + 1).saturating_sub(self.sizes.normal());
            if first <= last {
                self.pull(Run { first, last }, at);
            }
            // The oldest candidate is forced to this very position, and may meet there what was pulled.
            self.settle(at + 1);
        }
    }

    /// Takes a hit at `at` that counts for the candidate `state` alone, if it still is one.
    pub(super) fn early_hit(&mut self, at: u64, state: u64) {
        self.pull(Run { first: state, last: state }, at);
    }

    /// The candidates, ascending.
    pub(super) fn runs(&self) -> impl ExactSizeIterator<Item = Run> + '_ {
        self.runs.iter().copied()
    }

    /// Removes the candidates up to `last`.
    fn drop_from_front(&mut self, last: u64) {
        while self.runs.front().is_some_and(|run| run.last <= last) {
            self.runs.pop_front();
        }
        if let Some(run) = self.runs.front_mut().filter(|run| run.first <= last) {
            run.first = last + 1;
        }
    }

    /// Adds candidates, none before the newest.
    fn append(&mut self, run: Run) {
        match self.runs.back_mut().filter(|back| run.first <= back.last + 1) {
            Some(back) => back.last = back.last.max(run.last),
            None => self.runs.push_back(run),
        }
    }

    /// Moves the candidates within `pulled` to `at`, wherever in the queue they are. Rare, so plain.
    fn pull(&mut self, pulled: Run, at: u64) {
        let mut left = VecDeque::with_capacity(self.runs.len() + 2);
        let mut any = false;
        for run in &self.runs {
            if run.last < pulled.first || pulled.last < run.first {
                left.push_back(*run);
                continue;
            }
            any = true;
            if run.first < pulled.first {
                left.push_back(Run { first: run.first, last: pulled.first - 1 });
            }
            if pulled.last < run.last {
                left.push_back(Run { first: pulled.last + 1, last: run.last });
            }
        }
        if any {
            self.runs = left;
            self.append(Run { first: at, last: at });
        }
    }
}

/// The first certified cut of a worker that starts at `seek` and sees these hits of `seek..end`, ascending.
#[cfg(test)]
#[must_use]
pub fn certify(seek: u64, end: u64, sizes: Sizes, hits: impl IntoIterator<Item = (u64, Passes)>) -> Option<u64> {
    let mut live = LiveSet::new(seek, sizes);
    for (at, passes) in hits {
        live.settle(at);
        if live.certified().is_some() {
            return live.certified();
        }
        live.hit(at, passes);
        if live.certified().is_some() {
            return live.certified();
        }
    }
    live.settle(end);
    live.certified()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::collections::BTreeSet;

    use super::*;
    use crate::testing::patterns::{self, Pattern};

    /// The specification: every candidate by itself, at every position.
    fn certify_by_sets(seek: u64, pattern: &Pattern, sizes: Sizes) -> Option<u64> {
        let mut live: BTreeSet<u64> = (seek.saturating_sub(sizes.max())..seek).collect();
        for at in seek..pattern.length() {
            let passes = pattern.at(at);
            live = live
                .into_iter()
                .map(|b| {
                    let length = at - b;
                    let hit = if length < sizes.normal() { passes.strict } else { passes.loose };
                    if length == sizes.max() || (length >= sizes.min() && hit) { at } else { b }
                })
                .collect();
            if live.len() == 1 {
                return live.first().copied();
            }
        }
        None
    }

    #[test]
    fn the_sweep_certifies_exactly_where_the_specification_does() {
        let (mut tried, mut certified) = (0u32, 0u32);
        patterns::random(1, 60_000, |sizes, pattern, random| {
            let seek = 1 + random.below(pattern.length());
            let found = certify(seek, pattern.length(), sizes, pattern.hits(seek, pattern.length()));
            // A certified candidate without a cut at or after the seek point (there is but one candidate before the
            // seek point) is known to the sweep before it saw a position.
            let expected = certify_by_sets(seek, pattern, sizes);
            if sizes.max().min(seek) > 1 {
                assert_eq!(found, expected, "{sizes:?} {pattern:?} {seek}");
            }
            tried += 1;
            certified += u32::from(found.is_some());
        });
        assert!(tried == 60_000 && certified > 10_000, "{certified} of {tried}");
    }

    #[test]
    fn a_long_stretch_without_hits_is_settled_at_once() {
        let sizes = Sizes::new(64, 64, 1024).unwrap();
        let mut live = LiveSet::new(1 << 20, sizes);
        live.hit((1 << 20) + 100, Passes { strict: true, loose: true });
        let before: u64 = live.runs().map(|run| run.last - run.first + 1).sum();
        live.settle(1 << 60);
        let after: u64 = live.runs().map(|run| run.last - run.first + 1).sum();
        assert_eq!(before, after, "forced cuts alone never merge candidates");
        assert!(live.runs().all(|run| run.first + 1024 >= 1 << 60 && run.last < 1 << 60));
    }

    #[test]
    fn the_queue_stays_short_however_dense_hits_are() {
        let sizes = Sizes::new(2048, 3584, 16_384).unwrap();
        let mut live = LiveSet::new(1 << 20, sizes);
        for at in (1 << 20..(1 << 20) + 200_000).step_by(2) {
            live.settle(at);
            live.hit(at, Passes { strict: at % 3 == 0, loose: true });
            assert!(live.runs().count() <= 16_384 / 2);
        }
    }
}
