//! Stitched = serial with numbers small enough to try everything, and what the parallel way costs.

#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use super::segment::BLOCK;
use super::*;
use crate::chunk::certify::certify;
use crate::chunk::finder::counting;
use crate::chunk::hits::HitLog;
use crate::chunk::profile::Sizes;
use crate::chunk::replay::Replay;
use crate::chunk::rule;
use crate::testing::patterns::{self, KINDS, Pattern};
use crate::testing::random::TestRng;

/// [`cut_points_parallel_at`] over abstract hits: the sweep, the replay and the seam loop are the program's; a worker's
/// own chunks come from the rule.
fn stitched(pattern: &Pattern, sizes: Sizes, seeks: &[u64]) -> Vec<u64> {
    let n = pattern.length();
    let mut bounds: Vec<u64> = seeks.iter().copied().filter(|seek| *seek < n).chain([0]).collect();
    bounds.sort_unstable();
    bounds.dedup();
    let ends: Vec<u64> = bounds.iter().skip(1).copied().chain([n]).collect();
    let (mut cuts, mut at) = (Vec::new(), 0);
    for (start, end) in bounds.into_iter().zip(ends) {
        let certified = if start == 0 {
            Some(0)
        } else {
            certify(start, end, sizes, pattern.hits(start, end)).filter(|cut| *cut >= start)
        };
        // The worker records no hit past the certified cut.
        let recorded = pattern.hits(start, certified.map_or(end, |cut| cut + 1));
        let mut replay = Replay::new(recorded, sizes);
        at = replay_seam(at, certified, end, &mut cuts, |at, to| replay.next_cut(at, to, to));
        if certified.is_some() {
            while let Some(cut) =
                Some(rule::next_cut_of_hits(at, sizes, n, |at| pattern.at(at))).filter(|cut| *cut < end)
            {
                cuts.push(cut);
                at = cut;
            }
        }
    }
    if at < n {
        cuts.push(n);
    }
    cuts
}

/// Every pattern of `length` positions over the first `kinds` kinds of hit.
fn every_pattern(length: u32, kinds: usize, mut each: impl FnMut(&Pattern)) {
    for number in 0..(kinds as u64).pow(length) {
        let digit = |place: u32| KINDS[(number / (kinds as u64).pow(place)) as usize % kinds];
        each(&Pattern::new((0..length).map(digit).collect()));
    }
}

fn every_sizes(max: u32, mut each: impl FnMut(Sizes)) {
    for max in 1..=max {
        for normal in 1..=max {
            for min in 1..=normal {
                each(Sizes::new(min, normal, max).unwrap());
            }
        }
    }
}

/// Checks every single seek point, or every pair; returns the number of cases.
fn check(pattern: &Pattern, sizes: Sizes, pairs: bool) -> u64 {
    let serial = rule::cut_points_of_hits(sizes, pattern.length(), |at| pattern.at(at));
    let mut cases = 0;
    for seek in 1..pattern.length() {
        for second in if pairs { seek + 1..pattern.length() } else { seek..seek + 1 } {
            assert_eq!(stitched(pattern, sizes, &[seek, second]), serial, "{sizes:?} {pattern:?} {seek} {second}");
            cases += 1;
        }
    }
    cases
}

/// Hits that are both strict and loose: `normal` means nothing, so it is the minimum.
fn exhaust_one_kind(length: u32, max: u32) -> u64 {
    let mut cases = 0;
    every_sizes(max, |sizes| {
        if sizes.min() == sizes.normal() {
            every_pattern(length, 2, |pattern| {
                // KINDS[1] is loose only, but with min = normal that is all a hit needs to be.
                cases += check(pattern, sizes, false);
            });
        }
    });
    cases
}

#[test]
fn every_pattern_every_size_every_seek_point() {
    let mut cases = exhaust_one_kind(12, 5);
    every_sizes(5, |sizes| every_pattern(8, 3, |pattern| cases += check(pattern, sizes, false)));
    every_sizes(3, |sizes| every_pattern(7, 4, |pattern| cases += check(pattern, sizes, true)));
    assert!(cases > 2_000_000, "{cases}");
}

#[test]
#[expect(clippy::print_stdout, reason = "the count is what the run is for")]
#[ignore = "minutes: cargo test --release exhaustive -- --ignored"]
fn exhaustive_every_pattern_up_to_length_18() {
    let mut cases = (1..=18).map(|length| exhaust_one_kind(length, 5)).sum::<u64>();
    every_sizes(5, |sizes| every_pattern(11, 3, |pattern| cases += check(pattern, sizes, false)));
    every_sizes(4, |sizes| every_pattern(8, 4, |pattern| cases += check(pattern, sizes, true)));
    println!("{cases} cases, 0 differences");
}

#[test]
fn random_patterns_with_many_seek_points() {
    patterns::random(2, 100_000, |sizes, pattern, random| {
        let serial = rule::cut_points_of_hits(sizes, pattern.length(), |at| pattern.at(at));
        let seeks: Vec<u64> = (0..random.below(6)).map(|_| 1 + random.below(pattern.length())).collect();
        assert_eq!(stitched(pattern, sizes, &seeks), serial, "{sizes:?} {pattern:?} {seeks:?}");
    });
}

fn random_bytes(seed: u64, length: usize) -> Vec<u8> {
    let mut random = TestRng(seed);
    (0..length.div_ceil(8)).flat_map(|_| random.next().to_le_bytes()).take(length).collect()
}

/// Bytes of a short period under which hits of the default table come every few bytes.
fn dense_bytes(profile: &Profile, length: usize) -> Vec<u8> {
    let finder = Finder::new(*profile);
    (0..)
        .map(|seed| random_bytes(seed, 2 + seed as usize % 30))
        .find_map(|period| {
            let bytes: Vec<u8> = period.iter().copied().cycle().take(length).collect();
            let mut hits = 0;
            finder.hits(&Span::whole(&bytes), 1000, 1500, |_, _| hits += 1);
            (hits > 10).then_some(bytes)
        })
        .unwrap()
}

#[test]
fn no_position_is_scanned_twice_and_none_in_the_skipped_minimum() {
    for profile in Profile::samples() {
        let min = profile.min_bytes() as u64;
        let dense: Profile = "gear-4096".parse().unwrap();
        for bytes in [random_bytes(3, 4_000_000), vec![0; 1_000_000], dense_bytes(&dense, 1_000_000)] {
            let finder = Finder::new(profile);
            let spans = spans_at(&bytes, &[bytes.len() / 3, bytes.len() / 2]);
            counting::take();
            let mut stitcher = Stitcher::new(finder.clone());
            let mut scanned_before = 0;
            for (start, span) in &spans {
                let segment = scan_segment(&finder, span, *start, |_, _| {});
                let ranges = counting::take();
                let mut total = 0;
                for range in ranges.iter().filter(|range| range.start < range.end) {
                    assert!(range.start >= scanned_before, "{profile}: {range:?} after {scanned_before}");
                    assert!(range.start >= *start, "{profile}: {range:?} before its segment {start}");
                    total += range.end - range.start;
                    scanned_before = range.end;
                }
                // Past the certified cut, and the rest of that block, each chunk saves its minimum.
                let chunks_after = segment.cuts().len() as u64;
                let saved = (chunks_after * min).saturating_sub(2 * BLOCK);
                assert!(total + saved <= span.end() - start + 1, "{profile}: {total} scanned, {saved} saved");
                // Segments whose first positions lie in front of this one's are scanned by none but this worker.
                scanned_before = scanned_before.min(span.end());
                let mut seam = Vec::new();
                stitcher.push(&segment, span, &mut seam);
                assert!(counting::take().is_empty(), "stitching scans nothing");
            }
        }
    }
}

#[test]
fn a_segment_in_pieces_is_the_same_segment() {
    let mut random = TestRng(8);
    for name in ["fastcdc-64-256-1024-0", "fastcdc-64-256-1024-2", "fastcdc-256-1024-2048-1", "gear-4096"] {
        let profile: Profile = name.parse().unwrap();
        let finder = Finder::new(profile);
        let max = profile.max_bytes() as u64;
        for round in 0..60 {
            let mut bytes = random_bytes(random.next(), (max * 8 + random.below(200)) as usize);
            if round % 3 == 0 {
                let zeros = random.below(4 * max) as usize;
                bytes[..zeros].fill(0);
            }
            let n = bytes.len() as u64;
            let start = random.below(2 * max);
            let base = start.saturating_sub(WARM_UP as u64);
            let whole = Span::new(&bytes[base as usize..], base, true);
            let mut chunks = Vec::new();
            let expected = scan_segment(&finder, &whole, start, |at, chunk| chunks.push((at, chunk.to_vec())));

            let mut scanner = SegmentScanner::new(&finder, start);
            let (mut at, mut chunks_of_pieces) = (start, Vec::new());
            counting::take();
            while at < n {
                let from = scanner.keep_from().max(base);
                at = n.min(at + 1 + random.below(if round % 2 == 0 { 200 } else { 2 * max }));
                let span = Span::new(&bytes[from as usize..at as usize], from, at == n);
                scanner.advance(&span, |at, chunk| chunks_of_pieces.push((at, chunk.to_vec())));
            }
            let found = scanner.finish();
            let mut scanned_before = 0;
            for range in counting::take().into_iter().filter(|range| range.start < range.end) {
                assert!(range.start >= scanned_before, "{name}: {range:?} scanned twice");
                scanned_before = range.end;
            }
            assert_eq!(found.certified, expected.certified, "{name} {start}");
            assert_eq!(found.cuts, expected.cuts, "{name} {start}");
            assert!(chunks_of_pieces == chunks, "{name} {start}");
            if let Some(certified) = found.certified {
                let before = |hits: &HitLog| hits.iter().take_while(|(at, _)| *at <= certified).collect::<Vec<_>>();
                assert_eq!(before(&found.hits), before(&expected.hits));
            } else {
                assert!(found.hits.iter().eq(expected.hits.iter()));
            }
        }
    }
}

#[test]
fn dense_hits_are_replayed_exactly_and_take_a_quarter_byte_a_position_at_most() {
    let profile: Profile = "gear-4096".parse().unwrap();
    let bytes = dense_bytes(&profile, 2_000_000);
    let finder = Finder::new(profile);
    let mut most = 0;
    for (start, span) in spans_at(&bytes, &[500_000, 1_000_000, 1_500_000]) {
        let segment = scan_segment(&finder, &span, start, |_, _| {});
        assert!(start == 0 || segment.certified().is_none(), "hits every few bytes never let candidates meet");
        most = most.max(segment.memory_bytes());
    }
    assert!((10_000..=500_000 / 4 + 700).contains(&most), "{most} bytes of hits for 500,000 positions");
    assert_eq!(cut_points_parallel(&bytes, &profile, 5), rule::cut_points(&bytes, &profile));
}

#[test]
fn a_gigabyte_of_nothing_is_replayed_in_steps_of_the_maximum() {
    // 2^40 positions without a hit: done in as many steps as there are forced cuts, or never.
    let sizes = Sizes::new(1 << 20, 1 << 21, 1 << 30).unwrap();
    let mut replay = Replay::new(std::iter::empty(), sizes);
    let mut cuts = Vec::new();
    let at = replay_seam(0, None, 1 << 40, &mut cuts, |at, to| replay.next_cut(at, to, to));
    assert_eq!((at, cuts.len()), ((1 << 40) - (1 << 30), 1023));
    assert_eq!(certify(5, 1 << 60, sizes, []), None);
}
