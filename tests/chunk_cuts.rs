//! Cut points are format: each profile's are pinned here, and every way to find them finds the same.

#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use proptest::prelude::*;
use seamstore::internals::chunk::{Profile, cut_points, rule};
use seamstore::internals::sample_profiles;

use crate::chunk_data::{split_mix, text};

/// The cut points as text, long lists by their number and BLAKE3.
fn pinned(cuts: &[u64]) -> String {
    let list = cuts.iter().map(u64::to_string).collect::<Vec<_>>().join(" ");
    if cuts.len() <= 20 {
        list
    } else {
        format!("{} cuts {}", cuts.len(), &blake3::hash(list.as_bytes()).to_hex()[..16])
    }
}

#[test]
fn the_cut_points_of_every_profile_are_the_golden_ones() {
    let golden = include_str!("golden/cuts.txt");
    let mut found = String::new();
    for profile in sample_profiles() {
        for (name, bytes) in
            [("random", split_mix(0, 1_000_000)), ("text", text(0, 1_000_000)), ("zeros", vec![0; 300_001])]
        {
            let cuts = cut_points(&bytes, &profile);
            assert_eq!(cuts, rule::cut_points(&bytes, &profile), "{profile} {name}");
            found += &format!("{profile} {name}: {}\n", pinned(&cuts));
        }
    }
    assert_eq!(found, golden, "cut points are format: they never change under the same profile name");
}

#[test]
fn small_files_are_cut_by_the_rule_at_every_length() {
    for profile in sample_profiles() {
        let bytes = split_mix(3, profile.min_bytes() + 200);
        let edges = (0..200).chain(profile.min_bytes().saturating_sub(70)..profile.min_bytes() + 200);
        for length in edges {
            let bytes = &bytes[..length.min(bytes.len())];
            assert_eq!(cut_points(bytes, &profile), rule::cut_points(bytes, &profile), "{profile} {length}");
        }
    }
}

#[test]
fn every_constant_byte_is_cut_at_the_maximum() {
    for profile in sample_profiles().into_iter().filter(|p| !p.name().starts_with("fastcdc")) {
        for byte in 0..=255 {
            let max = profile.max_bytes();
            let bytes = vec![byte; 2 * max + 1];
            assert_eq!(cut_points(&bytes, &profile), [max as u64, 2 * max as u64, 2 * max as u64 + 1]);
        }
    }
}

/// Bytes of mixed kinds: random, of few values, repeated, constant.
pub(crate) fn mixed_bytes() -> impl Strategy<Value = Vec<u8>> {
    let piece = (0u8..4, any::<u64>(), 1usize..6000, 1usize..200).prop_map(|(kind, seed, length, period)| match kind {
        0 => split_mix(seed, length),
        1 => text(seed, length),
        2 => split_mix(seed, period).into_iter().cycle().take(length).collect(),
        _ => vec![seed as u8; length],
    });
    prop::collection::vec(piece, 0..8).prop_map(|pieces| pieces.concat())
}

/// Profiles with small chunks, so that a short file has many.
pub(crate) fn small_profile() -> impl Strategy<Value = Profile> {
    let names = [
        "gear-4096",
        "fastcdc-64-256-1024-0",
        "fastcdc-64-256-1024-1",
        "fastcdc-64-256-1024-2",
        "fastcdc-64-256-1024-3",
        "fastcdc-64-512-1024-3",
        "fastcdc-128-1024-2048-1",
    ];
    prop::sample::select(names.to_vec()).prop_map(|name| name.parse().unwrap())
}

proptest! {
    #[test]
    fn scanned_cuts_are_the_rules(bytes in mixed_bytes(), profile in small_profile()) {
        prop_assert_eq!(cut_points(&bytes, &profile), rule::cut_points(&bytes, &profile));
    }
}
