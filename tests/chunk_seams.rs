//! Parallel chunking gives the serial cuts, whatever the bytes and wherever the segments begin.

#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use proptest::prelude::*;
use seamstore::chunk::{cut_points, cut_points_parallel};
use seamstore::internals::chunk::finder::Finder;
use seamstore::internals::chunk::seams::{Stitcher, cut_points_parallel_at, scan_segment, spans_at};
use seamstore::internals::sample_profiles;

use crate::chunk_cuts::{mixed_bytes, small_profile};
use crate::chunk_data::{split_mix, text};
use crate::support::random::TestRng;

#[test]
fn every_profile_at_many_segment_counts() {
    for profile in sample_profiles() {
        for bytes in [split_mix(31, 1_000_001), text(32, 1_000_000), vec![0; 300_000]] {
            let serial = cut_points(&bytes, &profile);
            for segments in [1, 2, 3, 7, 16, 64] {
                assert_eq!(cut_points_parallel(&bytes, &profile, segments), serial, "{profile} {segments}");
            }
        }
    }
}

#[test]
fn every_seek_point_of_a_short_file() {
    for name in ["fastcdc-64-256-1024-0", "fastcdc-64-256-1024-1", "fastcdc-64-256-1024-3", "fastcdc-128-1024-2048-1"] {
        let profile = name.parse().unwrap();
        for length in [3000, 3001] {
            let bytes = split_mix(33, length);
            let serial = cut_points(&bytes, &profile);
            for seek in (0..=length).step_by(3) {
                assert_eq!(cut_points_parallel_at(&bytes, &profile, &[seek]), serial, "{name} {seek}");
                let near = [seek, seek + 1, seek + 40, seek + 64, seek + 65, seek + 700];
                assert_eq!(cut_points_parallel_at(&bytes, &profile, &near), serial, "{name} {near:?}");
            }
        }
    }
}

#[test]
fn a_segment_at_every_byte_and_segments_past_the_end() {
    for profile in sample_profiles() {
        let bytes = split_mix(34, 400);
        let every: Vec<usize> = (0..1000).collect();
        assert_eq!(cut_points_parallel_at(&bytes, &profile, &every), cut_points(&bytes, &profile));
        assert_eq!(cut_points_parallel(&[], &profile, 7), [0u64; 0]);
        assert_eq!(cut_points_parallel(&[1], &profile, usize::MAX), [1]);
        assert_eq!(cut_points_parallel(&bytes, &profile, 0), cut_points(&bytes, &profile));
    }
}

#[test]
fn ordinary_data_certifies_soon_and_workers_hand_out_all_chunks_but_the_seams() {
    let bytes = split_mix(35, 8_000_000);
    for profile in sample_profiles().into_iter().filter(|profile| profile.average_bytes() <= 65_536) {
        let finder = Finder::new(profile);
        let serial = cut_points(&bytes, &profile);
        let seeks: Vec<usize> = (1..4).map(|i| i * 2_000_000).collect();
        let mut stitcher = Stitcher::new(finder.clone());
        let (mut handed_out, mut joined) = (Vec::new(), Vec::new());
        for (start, span) in spans_at(&bytes, &seeks) {
            let segment = scan_segment(&finder, &span, start, |offset, chunk| {
                assert_eq!(chunk, &bytes[offset as usize..offset as usize + chunk.len()]);
                handed_out.push(offset + chunk.len() as u64);
            });
            let certified = segment.certified().unwrap();
            assert!(certified - start <= 1_500_000, "{profile}: {certified} - {start}");
            assert!(serial.contains(&certified) || certified == 0);
            let mut seam = Vec::new();
            stitcher.push(&segment, &span, &mut seam);
            joined.extend(seam);
            joined.extend_from_slice(segment.cuts());
            assert_eq!(stitcher.last_cut(), *joined.last().unwrap());
        }
        assert_eq!(joined, serial, "{profile}");
        assert!(handed_out.iter().all(|cut| serial.contains(cut)));
        assert!(handed_out.len() * 10 > serial.len() * 5, "{profile}: {} of {}", handed_out.len(), serial.len());
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]
    #[test]
    fn any_bytes_any_seek_points(
        bytes in mixed_bytes(),
        profile in small_profile(),
        seeks in prop::collection::vec(0usize..40_000, 0..6),
        near in any::<u64>(),
    ) {
        let serial = cut_points(&bytes, &profile);
        // Some seek points right before, at and after cuts.
        let mut seeks = seeks;
        let mut state = TestRng(near);
        for _ in 0..3 {
            if let Some(cut) = serial.get((state.next() % 32) as usize) {
                seeks.push((*cut + state.next() % 140).saturating_sub(70) as usize);
            }
        }
        prop_assert_eq!(cut_points_parallel_at(&bytes, &profile, &seeks), serial);
    }
}
