//! Do the parallel cuts of these bytes equal the serial ones? Checked here, not believed: the library side of
//! `store check-align`.
//!
//! The serial cuts are those of [`rule`], byte by byte. Against them stand the scanned serial cuts, the streamed ones,
//! and the parallel ones for many segment counts and lists of random seek points. For each seam the report says whether
//! its segment certified, how far from the seek point, and how much later the simpler tests of [`low`](super::low) would
//! have.

use std::ops::AddAssign;

use rayon::prelude::*;
use serde::Serialize;

use super::adversarial::split_mix;
use super::certify::LiveSet;
use super::finder::{Finder, Span};
use super::low::{OneGap, TwoGaps};
use super::profile::{Profile, Warmth};
use super::rule;
use super::seams::{SegmentCuts, Stitcher, scan_segment, spans_at};
use super::stream::Chunker;

/// What to check.
#[derive(Debug, Clone)]
pub struct Check {
    /// Split into these numbers of equal segments.
    pub segment_counts: Vec<usize>,
    /// And at this many lists of random seek points.
    pub random_lists: usize,
    /// The seed of the random seek points.
    pub seed: u64,
}

impl Default for Check {
    fn default() -> Self {
        Self { segment_counts: vec![2, 3, 4, 7, 16, 64], random_lists: 4, seed: 1 }
    }
}

/// How far past a seek point the simpler tests are followed, in longest chunks.
const FOLLOWED_CHUNKS: u64 = 64;

/// How many cuts are shown on each side of the first difference.
const SHOWN: usize = 4;

/// The outcome for one input and profile.
#[derive(Debug, Clone, Serialize)]
pub struct Report {
    /// The profile's name.
    pub profile: String,
    /// The length of the input.
    pub bytes: u64,
    /// Chunks of the serial chunking.
    pub chunks: u64,
    /// Lists of segments that were tried.
    pub lists: u64,
    /// What the seams of all lists together came to.
    pub seams: Seams,
    /// The first difference; none if everything is identical.
    pub difference: Option<Difference>,
    /// The serial cut points.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub cuts: Vec<u64>,
}

/// What seams came to. Distances are from the seek point, in bytes.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Seams {
    /// Segments but the first of each list.
    pub segments: u64,
    /// Segments with a certified cut.
    pub certified: u64,
    /// Segments that were replayed whole.
    pub replayed: u64,
    /// The most memory that a segment's recorded hits took, in bytes.
    pub hits_bytes_max: u64,
    /// Distances to where the live set certifies first, whether or not its segment reaches that far. For restarting
    /// profiles, to the segments' certified cuts.
    pub live_set: Distances,
    /// Distances to where the one-gap test certifies first. Not for restarting profiles.
    pub one_gap: Distances,
    /// Distances to where Low's two-gap test certifies first. Not for restarting profiles.
    pub two_gaps: Distances,
}

/// Distances that were measured, and how often there was none to measure.
///
/// Serialised as their number, the [`Summary`], and the number of those that never were.
#[derive(Debug, Clone, Default)]
pub struct Distances {
    /// Each distance, unordered.
    pub all: Vec<u64>,
    /// How many times nothing certified in the segment, or within 64 longest chunks of the seek point.
    pub never: u64,
}

impl Distances {
    fn add(&mut self, distance: Option<u64>) {
        match distance {
            Some(distance) => self.all.push(distance),
            None => self.never += 1,
        }
    }

    /// The mean, the 99th percentile and the worst, if there is any.
    #[must_use]
    pub fn summary(&self) -> Option<Summary> {
        let mut sorted = self.all.clone();
        sorted.sort_unstable();
        let worst = *sorted.last()?;
        let p99 = *sorted.get((sorted.len() * 99).div_ceil(100) - 1)?;
        let mean = sorted.iter().map(|d| u128::from(*d)).sum::<u128>() / sorted.len() as u128;
        Some(Summary { mean: mean as u64, p99, worst })
    }
}

impl Serialize for Distances {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        #[derive(Serialize)]
        struct Summed {
            certified: u64,
            never: u64,
            #[serde(flatten)]
            summary: Option<Summary>,
        }
        Summed { certified: self.all.len() as u64, never: self.never, summary: self.summary() }.serialize(serializer)
    }
}

/// A few numbers for many distances, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Summary {
    /// The mean.
    pub mean: u64,
    /// 99 of 100 are at most this.
    pub p99: u64,
    /// The largest.
    pub worst: u64,
}

impl AddAssign<&Self> for Seams {
    fn add_assign(&mut self, other: &Self) {
        self.segments += other.segments;
        self.certified += other.certified;
        self.replayed += other.replayed;
        self.hits_bytes_max = self.hits_bytes_max.max(other.hits_bytes_max);
        for (mine, others) in [
            (&mut self.live_set, &other.live_set),
            (&mut self.one_gap, &other.one_gap),
            (&mut self.two_gaps, &other.two_gaps),
        ] {
            mine.all.extend_from_slice(&others.all);
            mine.never += others.never;
        }
    }
}

/// Where two chunkings part.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Difference {
    /// The way that went wrong: `scanned`, `streamed` or `parallel`.
    pub way: String,
    /// The seek points it went wrong with.
    pub seeks: Vec<usize>,
    /// The number of cuts that agree before the first that does not.
    pub agreeing: usize,
    /// The serial cuts around the difference.
    pub serial: Vec<u64>,
    /// The other's.
    pub other: Vec<u64>,
}

/// Checks one input under one profile. With workers of the current rayon pool.
#[must_use]
pub fn check(data: &[u8], profile: &Profile, check: &Check) -> Report {
    let serial = rule::cut_points(data, profile);
    let mut report = Report {
        profile: profile.name(),
        bytes: data.len() as u64,
        chunks: serial.len() as u64,
        lists: 0,
        seams: Seams::default(),
        difference: None,
        cuts: Vec::new(),
    };
    let differs = |way: &str, seeks: &[usize], other: &[u64]| first_difference(way, seeks, &serial, other);
    // Reading from memory does not fail; were it to, the empty list would differ.
    let streamed = || Chunker::new(Ragged(data, 1), profile).cut_points().unwrap_or_default();
    report.difference =
        differs("scanned", &[], &super::cut_points(data, profile)).or_else(|| differs("streamed", &[], &streamed()));
    let finder = Finder::new(*profile);
    for seeks in seek_lists(data.len(), check) {
        let (cuts, seams) = parallel(data, &finder, &seeks);
        report.lists += 1;
        report.seams += &seams;
        report.difference = report.difference.take().or_else(|| differs("parallel", &seeks, &cuts));
    }
    report.cuts = serial;
    report
}

/// The lists of seek points to try.
fn seek_lists(length: usize, check: &Check) -> Vec<Vec<usize>> {
    let mut state = check.seed;
    let equal = check.segment_counts.iter().map(|count| {
        let count = (*count).clamp(1, length.max(1));
        (1..count).map(|i| (length as u128 * i as u128 / count as u128) as usize).collect()
    });
    let mut lists: Vec<Vec<usize>> = equal.collect();
    for _ in 0..check.random_lists {
        let count = 1 + split_mix(&mut state) % 16;
        lists.push((0..count).map(|_| (split_mix(&mut state) % (length.max(1) as u64)) as usize).collect());
    }
    lists
}

/// The stitched cuts, and what the seams came to.
fn parallel(data: &[u8], finder: &Finder, seeks: &[usize]) -> (Vec<u64>, Seams) {
    let spans = spans_at(data, seeks);
    let scanned: Vec<(SegmentCuts, Option<[Option<u64>; 3]>)> = spans
        .par_iter()
        .map(|(start, span)| (scan_segment(finder, span, *start, |_, _| {}), follow(finder, data, *start)))
        .collect();
    let mut stitcher = Stitcher::new(finder.clone());
    let (mut cuts, mut seams) = (Vec::new(), Seams::default());
    for ((segment, followed), (start, span)) in scanned.iter().zip(&spans) {
        stitcher.push(segment, span, &mut cuts);
        cuts.extend_from_slice(segment.cuts());
        if *start == 0 {
            continue;
        }
        let distance = segment.certified().map(|cut| cut - start);
        seams.segments += 1;
        seams.certified += u64::from(distance.is_some());
        seams.replayed += u64::from(distance.is_none());
        seams.hits_bytes_max = seams.hits_bytes_max.max(segment.hits().packed_bytes() as u64);
        match followed {
            Some([live, one, two]) => {
                seams.live_set.add(*live);
                seams.one_gap.add(*one);
                seams.two_gaps.add(*two);
            }
            None => seams.live_set.add(distance),
        }
    }
    (cuts, seams)
}

/// How far from `start` the live set, the one-gap and the two-gap test certify, the segment's end ignored so that they
/// are compared on the same bytes.
fn follow(finder: &Finder, data: &[u8], start: u64) -> Option<[Option<u64>; 3]> {
    let sizes = finder.profile().sizes();
    if start == 0 || finder.profile().warmth() == Warmth::Restarting {
        return None;
    }
    let span = Span::whole(data);
    let end = span.end().min(start + FOLLOWED_CHUNKS * sizes.max());
    let (mut live, mut one, mut two) = (LiveSet::new(start, sizes), OneGap::new(sizes), TwoGaps::new(sizes));
    let mut found = [None; 3];
    let mut from = start;
    while from < end && found.iter().any(Option::is_none) {
        let to = end.min(from + sizes.max());
        finder.hits(&span, from, to, |at, passes| {
            if found.first() == Some(&None) {
                live.settle(at);
                live.hit(at, passes);
            }
            let now = [live.certified().is_some(), one.hit(at, passes), two.hit(at, passes)];
            for (found, now) in found.iter_mut().zip(now) {
                *found = found.or(now.then(|| at - start));
            }
        });
        from = to;
    }
    Some(found)
}

fn first_difference(way: &str, seeks: &[usize], serial: &[u64], other: &[u64]) -> Option<Difference> {
    if serial == other {
        return None;
    }
    let agreeing = serial.iter().zip(other).take_while(|(a, b)| a == b).count();
    let around = |cuts: &[u64]| {
        let from = agreeing.saturating_sub(SHOWN);
        cuts.iter().skip(from).take(agreeing - from + SHOWN).copied().collect()
    };
    Some(Difference {
        way: way.to_owned(),
        seeks: seeks.to_vec(),
        agreeing,
        serial: around(serial),
        other: around(other),
    })
}

/// Reads in pieces of many sizes.
struct Ragged<'a>(&'a [u8], u64);

impl std::io::Read for Ragged<'_> {
    fn read(&mut self, out: &mut [u8]) -> std::io::Result<usize> {
        let piece = 1 + (split_mix(&mut self.1) % (256 << 10)) as usize;
        let (now, later) = self.0.split_at(piece.min(out.len()).min(self.0.len()));
        out.get_mut(..now.len()).unwrap_or_default().copy_from_slice(now);
        self.0 = later;
        Ok(now.len())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::chunk::adversarial;

    #[test]
    fn hard_inputs_are_identical_under_every_profile() {
        // The program checks the larger profiles the same way: `store check-align --adversarial --profile all`.
        for name in ["gear-4096", "fastcdc-64-256-1024-1", "fastcdc-64-512-1024-3"] {
            let profile = name.parse().unwrap();
            let mut seams = Seams::default();
            let few = Check { segment_counts: vec![2, 16], random_lists: 1, seed: 1 };
            for input in adversarial::inputs(&profile) {
                let report = check(&input.bytes, &profile, &few);
                assert_eq!(report.difference, None, "{profile}: {}", input.name);
                seams += &report.seams;
            }
            // Both ways are taken, or the inputs are not hard.
            assert!(seams.certified > 10 && seams.replayed > 50, "{profile}: {seams:?}");
        }
    }

    #[test]
    fn a_difference_is_shown_with_what_is_around_it() {
        let serial: Vec<u64> = (1..20).collect();
        let mut other = serial.clone();
        other.remove(9);
        let difference = first_difference("parallel", &[5], &serial, &other).unwrap();
        assert_eq!(difference.agreeing, 9);
        assert_eq!(difference.serial, [6, 7, 8, 9, 10, 11, 12, 13]);
        assert_eq!(difference.other, [6, 7, 8, 9, 11, 12, 13, 14]);
        assert_eq!(first_difference("parallel", &[5], &serial, &serial), None);
        assert!(first_difference("parallel", &[], &[1, 2], &[1]).is_some());
    }

    #[test]
    fn distances_are_summed_up() {
        let distances = Distances { all: (1..=200).rev().collect(), never: 3 };
        assert_eq!(distances.summary(), Some(Summary { mean: 100, p99: 198, worst: 200 }));
        assert_eq!(Distances::default().summary(), None);
    }
}
