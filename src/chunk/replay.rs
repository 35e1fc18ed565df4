//! What are the cuts, given the hits and the true last cut? The rule once more, over recorded hits and without bytes.
//!
//! Hits are read front to back, each once: a hit that did not end this chunk lies before its end, and less than the
//! minimum past it does none end the next. A stretch without hits costs one step for each forced cut in it.

use std::iter::Peekable;

use super::profile::Sizes;
use super::rule::Passes;

/// Replays the rule over recorded hits.
#[derive(Debug)]
pub struct Replay<I: Iterator<Item = (u64, Passes)>> {
    hits: Peekable<I>,
    sizes: Sizes,
    /// The least length at which a recorded hit ends a chunk.
    full_from: u64,
}

impl<I: Iterator<Item = (u64, Passes)>> Replay<I> {
    /// Over these hits, ascending.
    #[cfg(test)]
    pub fn new(hits: I, sizes: Sizes) -> Self {
        Self::with_full_from(hits, sizes, sizes.min())
    }

    /// The same where recorded hits count from `full_from` on.
    pub(super) fn with_full_from(hits: I, sizes: Sizes, full_from: u64) -> Self {
        Self { hits: hits.peekable(), sizes, full_from }
    }

    /// The end of the chunk that begins at `start`, if it is less than `to`. Every hit up to `to` that lies past the
    /// chunk's minimum, and past the last cut that this returned, is among the recorded ones. `start` ascends.
    ///
    /// `tested_to`, at most `to`, ends the positions at which hits count.
    pub fn next_cut(&mut self, start: u64, to: u64, tested_to: u64) -> Option<u64> {
        let forced = start + self.sizes.max();
        let tested_to = tested_to.min(forced);
        while let Some((at, passes)) = self.hits.next_if(|(at, _)| *at < tested_to) {
            let length = at.saturating_sub(start);
            if length >= self.full_from && if length < self.sizes.normal() { passes.strict } else { passes.loose } {
                return Some(at);
            }
        }
        (forced < to).then_some(forced)
    }
}
