//! What do simpler tests than the live set certify, and how much later? Two, kept for comparison; the product does not
//! rest on them.
//!
//! Both look at consecutive hits only. Let `need` be the length from which a hit ends a chunk: `min` for a strict one,
//! `normal` for a loose one (`min` for both in profiles without a normal size).
//!
//! - **One gap** ([`OneGap`]): consecutive hits `c1 < c2` with `need(c2) <= c2 - c1 <= max - need(c1) + 1` make `c2` a
//!   cut of every chunking that has a cut at or before `c1`. Both bounds are tight (`proofs/Gaps.v`).
//! - **Two gaps** ([`TwoGaps`]): Low's condition (Y. Low, *Parallel Chunking*, Hugging Face) asks this of two gaps in a
//!   row, with the narrower bounds `need < gap <= max - need`, and no hit hidden between.
//!
//! They speak of hits that depend on bytes alone, so not of the restarting profiles.

use super::profile::Sizes;
use super::rule::Passes;

/// The one-gap test over hits, ascending.
#[derive(Debug, Clone)]
pub struct OneGap {
    sizes: Sizes,
    /// The hit before, and its `need`.
    before: Option<(u64, u64)>,
}

impl OneGap {
    /// No hit seen yet.
    #[must_use]
    pub const fn new(sizes: Sizes) -> Self {
        Self { sizes, before: None }
    }

    /// Takes the next hit, of masks that nest; true if it is certified.
    pub fn hit(&mut self, at: u64, passes: Passes) -> bool {
        let need = need(self.sizes, passes);
        self.before.replace((at, need)).is_some_and(|(before, need_before)| {
            need <= at - before && at - before <= self.sizes.max() - need_before + 1
        })
    }
}

/// Low's two-gap test over hits, ascending.
#[derive(Debug, Clone)]
pub struct TwoGaps {
    sizes: Sizes,
    before: Option<(u64, u64)>,
    /// Whether the gap before was good.
    good: bool,
}

impl TwoGaps {
    /// No hit seen yet.
    #[must_use]
    pub const fn new(sizes: Sizes) -> Self {
        Self { sizes, before: None, good: false }
    }

    /// Takes the next hit, of masks that nest; true if it is certified.
    pub fn hit(&mut self, at: u64, passes: Passes) -> bool {
        let need = need(self.sizes, passes);
        let good = self
            .before
            .replace((at, need))
            .is_some_and(|(before, need_before)| need < at - before && at - before <= self.sizes.max() - need_before);
        std::mem::replace(&mut self.good, good) && good
    }
}

/// The length from which this hit ends a chunk.
fn need(sizes: Sizes, passes: Passes) -> u64 {
    if passes.strict { sizes.min() } else { sizes.normal() }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing)]
    use super::*;
    use crate::chunk::certify::certify;
    use crate::chunk::rule;
    use crate::testing::patterns::{self, KINDS, Pattern};

    fn first(mut test: impl FnMut(u64, Passes) -> bool, hits: impl Iterator<Item = (u64, Passes)>) -> Option<u64> {
        hits.into_iter().find(|(at, passes)| test(*at, *passes)).map(|(at, _)| at)
    }

    /// Whether `cut` is a cut of every chunking with a last cut in the `max` bytes before `seek`.
    fn is_certain(pattern: &Pattern, sizes: Sizes, seek: u64, cut: u64) -> bool {
        (seek.saturating_sub(sizes.max())..seek).all(|mut at| {
            // Hits before the seek point are no part of these pasts.
            let passes = |x| if x < seek { KINDS[0] } else { pattern.at(x) };
            while at < cut {
                at = rule::next_cut_of_hits(at, sizes, u64::MAX, passes).max(at + 1);
            }
            at == cut
        })
    }

    #[test]
    fn both_are_sound_and_neither_is_before_the_live_set() {
        let mut found = [0u32; 2];
        patterns::random(4, 60_000, |sizes, pattern, random| {
            if (0..pattern.length()).any(|at| pattern.at(at) == KINDS[3]) {
                return;
            }
            let seek = 1 + random.below(pattern.length());
            let hits = || pattern.hits(seek, pattern.length());
            let live = certify(seek, pattern.length(), sizes, hits());
            let (mut one, mut two) = (OneGap::new(sizes), TwoGaps::new(sizes));
            let one = first(|at, passes| one.hit(at, passes), hits());
            let two = first(|at, passes| two.hit(at, passes), hits());
            for (index, cut) in [one, two].into_iter().enumerate() {
                let Some(cut) = cut else { continue };
                found[index] += 1;
                assert!(is_certain(pattern, sizes, seek, cut), "{sizes:?} {pattern:?} {seek} {cut}");
                assert!(live.unwrap() <= cut, "{sizes:?} {pattern:?} {seek} {cut} {live:?}");
            }
            assert!(two.is_none_or(|two| one.unwrap() <= two));
        });
        assert!(found[0] > found[1] && found[1] > 1000, "{found:?}");
    }

    #[test]
    fn the_bounds_of_one_gap_are_tight() {
        let sizes = Sizes::new(8, 8, 32).unwrap();
        let hit = |gap: u64| {
            let mut test = OneGap::new(sizes);
            test.hit(100, KINDS[2]);
            test.hit(100 + gap, KINDS[2])
        };
        assert!(!hit(7) && hit(8) && hit(25) && !hit(26));
        // One step outside there is a chunking with a cut before the first hit and none at the second.
        for (gap, certain) in [(7, false), (8, true), (25, true), (26, false)] {
            let mut passes = vec![KINDS[0]; 200];
            passes[100] = KINDS[2];
            passes[100 + gap as usize] = KINDS[2];
            assert_eq!(is_certain(&Pattern::new(passes), sizes, 100, 100 + gap), certain, "{gap}");
        }
    }
}
