//! What is a cut point? The rule itself, byte by byte; everything else in `chunk` is measured against this file.
//!
//! A chunk that begins at `b` in a file of `n` bytes ends at the least `c` such that
//!
//! ```text
//! b+min    <= c < b+normal  and c is a strict hit, or
//! b+normal <= c < b+max     and c is a loose hit,  or
//! c = b+max, or c = n.
//! ```
//!
//! What a hit is depends on the [`Warmth`] of the profile.
//!
//! *Full*: `c` is a hit when the gear hash of the [`WINDOW`] bytes before `c` has none of the mask's bits. As
//! `min >= WINDOW`, the window lies inside the chunk, and whether `c` is a hit does not depend on `b`.
//!
//! *Restarting*: `c` is a hit when the gear hash of the bytes from `b+min` to `c` **inclusive** passes. Where `n - b` is
//! odd, `n - 1` is not tested: the `fastcdc` crate tests positions in pairs and leaves the odd one out.

#[cfg(test)]
use super::profile::Sizes;
use super::profile::{Profile, Warmth};
use super::scan::WINDOW;

/// The end of the chunk of `data` that begins at `start`; `data.len()` if `start` is not before it.
#[must_use]
pub fn next_cut(data: &[u8], start: usize, profile: &Profile) -> usize {
    let rest = data.get(start..).unwrap_or_default();
    let (min, normal, max) = (profile.min_bytes(), profile.normal_bytes(), profile.max_bytes());
    let end = rest.len().min(max);
    let passes = |hash: u64, length: usize| {
        let mask = if length < normal { profile.strict_mask() } else { profile.loose_mask() };
        hash & mask == 0
    };
    let table = profile.table();
    let mut hash = 0u64;
    let (warm_from, tested_to, trigger_bytes) = match profile.warmth() {
        Warmth::Full => (min - WINDOW, end, 1),
        Warmth::Restarting if end == rest.len() => (min, end - end % 2, 0),
        Warmth::Restarting => (min, end, 0),
    };
    for (at, byte) in rest.iter().enumerate().take(end).skip(warm_from) {
        hash = (hash << 1).wrapping_add(table.get(usize::from(*byte)).copied().unwrap_or_default());
        let length = at + trigger_bytes;
        if min <= length && length < tested_to && passes(hash, length) {
            return start + length;
        }
    }
    start + end
}

/// All cut points of a file: ascending, the last is its length; none for an empty file.
#[must_use]
pub fn cut_points(data: &[u8], profile: &Profile) -> Vec<u64> {
    let mut cuts = Vec::new();
    let mut at = 0;
    while at < data.len() {
        at = next_cut(data, at, profile);
        cuts.push(at as u64);
    }
    cuts
}

/// Which masks the hash at a position passes, the bytes being left out of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Passes {
    /// It passes the strict mask.
    pub strict: bool,
    /// It passes the loose mask.
    pub loose: bool,
}

/// The same rule over an abstract set of hits: the end of the chunk that begins at `start` in a file of `n` bytes.
#[cfg(test)]
#[must_use]
pub fn next_cut_of_hits(start: u64, sizes: Sizes, n: u64, passes: impl Fn(u64) -> Passes) -> u64 {
    let end = n.min(start + sizes.max());
    for cut in start + sizes.min()..end {
        let at = passes(cut);
        if if cut < start + sizes.normal() { at.strict } else { at.loose } {
            return cut;
        }
    }
    end
}

/// All cut points over an abstract set of hits.
#[cfg(test)]
#[must_use]
pub fn cut_points_of_hits(sizes: Sizes, n: u64, passes: impl Fn(u64) -> Passes) -> Vec<u64> {
    let mut cuts = Vec::new();
    let mut at = 0;
    while at < n {
        at = next_cut_of_hits(at, sizes, n, &passes);
        cuts.push(at);
    }
    cuts
}
