//! Bytes for the chunking tests: generated, the same for ever, and pinned here before anything is pinned on them.

#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use crate::support::random::{TestRng, noise};

/// `length` bytes of SplitMix64 from `seed`, little-endian.
pub(crate) fn split_mix(seed: u64, length: usize) -> Vec<u8> {
    noise(seed, length)
}

/// Text-like bytes: lines of few distinct words.
pub(crate) fn text(seed: u64, length: usize) -> Vec<u8> {
    const WORDS: [&str; 8] = ["static ", "int ", "return ", "\n\t", "if (", ") {\n", "0x00, ", "struct "];
    let mut state = TestRng(seed);
    let mut bytes = Vec::with_capacity(length + 8);
    while bytes.len() < length {
        bytes.extend_from_slice(WORDS[(state.next() % 8) as usize].as_bytes());
    }
    bytes.truncate(length);
    bytes
}

#[test]
fn the_generators_are_the_pinned_ones() {
    let bytes = split_mix(0, 1_000_000);
    assert_eq!((bytes[0], bytes[127], bytes[111_111]), (175, 132, 118));
    assert_eq!(&split_mix(1, 4), &[0xc1, 0x5c, 0x02, 0x89]);
    assert_eq!(&text(0, 16), b"struct if (struc");
}
