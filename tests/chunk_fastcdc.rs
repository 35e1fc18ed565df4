//! The fastcdc profiles are bit-identical to the crate.

#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use fastcdc::v2020::{FastCDC, Normalization};
use proptest::prelude::*;
use seamstore::internals::chunk::{Profile, cut_points, rule};

use crate::chunk_cuts::mixed_bytes;
use crate::chunk_data::split_mix;

const LEVELS: [Normalization; 4] =
    [Normalization::Level0, Normalization::Level1, Normalization::Level2, Normalization::Level3];

fn crate_cuts(bytes: &[u8], sizes: (u32, u32, u32), level: u8) -> Vec<u64> {
    let (min, average, max) = (sizes.0 as usize, sizes.1 as usize, sizes.2 as usize);
    FastCDC::with_level(bytes, min, average, max, LEVELS[usize::from(level)])
        .map(|chunk| (chunk.offset + chunk.length) as u64)
        .collect()
}

#[test]
fn the_profile_cuts_where_the_crate_does_at_every_level_and_average() {
    let bytes = split_mix(11, 5_000_001);
    for log2 in 8..=20 {
        for level in 0..4 {
            let average = 1 << log2;
            let profile = Profile::fastcdc_with_average(average, level).unwrap();
            let expected = crate_cuts(&bytes, (average / 4, average, average * 4), level);
            assert_eq!(cut_points(&bytes, &profile), expected, "{profile}");
        }
    }
}

#[test]
fn averages_between_powers_of_two_and_masks_that_do_not_nest_agree_as_well() {
    let bytes = split_mix(12, 1_000_000);
    let mut apart = 0;
    for average in [258, 700, 1448, 3000, 23_170, 46_342, 92_682, 131_072] {
        for level in 0..4 {
            let profile = Profile::fastcdc(64, average, 4 * average, level).unwrap();
            apart += u32::from(profile.strict_mask() & profile.loose_mask() != profile.loose_mask());
            let expected = crate_cuts(&bytes, (64, average, 4 * average), level);
            assert_eq!(cut_points(&bytes, &profile), expected, "{profile}");
            assert_eq!(rule::cut_points(&bytes, &profile), expected, "{profile}");
        }
    }
    assert!(apart > 0, "no profile here has masks that do not nest");
}

#[test]
fn every_file_length_agrees_up_to_the_maximum_and_past_it() {
    let bytes = split_mix(13, 2100);
    for level in 0..4 {
        let profile = Profile::fastcdc(64, 256, 1024, level).unwrap();
        for length in 0..bytes.len() {
            let bytes = &bytes[..length];
            assert_eq!(cut_points(bytes, &profile), crate_cuts(bytes, (64, 256, 1024), level), "{level} {length}");
        }
    }
}

proptest! {
    #[test]
    fn any_bytes_agree(bytes in mixed_bytes(), level in 0u8..4, min in 32u32..200, span in 0u32..400, rest in 0u32..900) {
        let (min, average) = (2 * min, (2 * min + 2 * span).max(256));
        let max = (average + 2 * rest).max(1024);
        let profile = Profile::fastcdc(min, average, max, level).unwrap();
        let expected = crate_cuts(&bytes, (min, average, max), level);
        prop_assert_eq!(cut_points(&bytes, &profile), expected.clone());
        prop_assert_eq!(rule::cut_points(&bytes, &profile), expected);
    }
}
