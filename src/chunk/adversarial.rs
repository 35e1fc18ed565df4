//! Which inputs are hard for parallel chunking? Generated here, for the tests and for `store check-align --adversarial`.
//!
//! Each is made for a profile, so that its hits lie where a wrong program would go wrong: nowhere, everywhere, just
//! after a cut, and at gaps around the bounds of the certification tests.

use super::finder::{Finder, Span};
use super::profile::{Profile, Warmth};
use super::scan::WINDOW;

/// One hard input.
#[derive(Debug, Clone)]
pub struct Input {
    /// What is hard about it.
    pub name: String,
    /// Its bytes.
    pub bytes: Vec<u8>,
}

/// About this many longest chunks in each input.
const CHUNKS: usize = 10;

/// No input is made longer than this for the sake of [`CHUNKS`], in bytes.
const BYTES_MAX: usize = 4 << 20;

/// Bytes before a planted hit that complete its window.
const PLANT: usize = WINDOW;

/// The hard inputs for a profile: the same on every machine.
#[must_use]
pub fn inputs(profile: &Profile) -> Vec<Input> {
    let max = profile.max_bytes();
    let length = (CHUNKS * max).clamp(max + 1, BYTES_MAX.max(3 * max));
    let mut inputs = Vec::new();
    let mut add = |name: String, bytes: Vec<u8>| inputs.push(Input { name, bytes });

    add("empty".into(), Vec::new());
    add("one byte".into(), vec![0x5a]);
    let min = profile.min_bytes();
    for short in [63, 64, 65, min - 1, min, min + 1, min + 2, max - 1, max, max + 1] {
        add(format!("random, {short} bytes"), random(1, short));
    }
    add("random".into(), random(2, length));
    add("random, odd length".into(), random(3, length - 1 + length % 2));
    for value in (0..=u8::MAX).step_by(if length > 1 << 20 { 51 } else { 5 }) {
        add(format!("constant {value}"), vec![value; (3 * max + 77).min(length)]);
    }
    for period in [2, 3, 5, 7, 13, 31, 64, 100, 1000] {
        add(format!("period {period}"), cycle(&random(4, period), length));
    }
    let Some(hit) = hit_window(profile) else { return inputs };
    add("hits as dense as they get".into(), cycle(&densest_period(profile), length));
    for offset in [1usize, 2, 31, 32, 33, 47, 62, 63] {
        // Zeros are cut at the maximum; a hit so near after a forced cut lies inside the skipped minimum of the serial
        // chunking, and in reach of workers that began elsewhere.
        let places = (1..).map(|i| i * max + offset).take_while(|at| *at < length);
        add(format!("zeros, a hit {offset} after each forced cut"), planted(&hit, length, places));
    }
    let normal = profile.normal_bytes();
    for (what, gap) in [
        ("min-1", min - 1),
        ("min", min),
        ("min+1", min + 1),
        ("normal-1", normal - 1),
        ("normal", normal),
        ("max-normal+1", (max - normal + 1).max(PLANT)),
        ("max-min", (max - min).max(PLANT)),
        ("max-min+1", (max - min + 1).max(PLANT)),
        ("max-min+2", (max - min + 2).max(PLANT)),
        ("max-1", max - 1),
        ("max", max),
        ("max+1", max + 1),
        ("(max-min)/2", ((max - min) / 2).max(PLANT)),
    ] {
        let places = (1..).map(|i| i * gap.max(PLANT)).take_while(|at| *at < length);
        add(format!("zeros, hits {what} apart"), planted(&hit, length, places));
    }
    let mut islands = vec![0; length];
    for (at, piece) in random(5, length / 8).chunks(997).enumerate() {
        let begin = at * 8 * 997;
        islands.iter_mut().skip(begin).zip(piece).for_each(|(to, from)| *to = *from);
    }
    add("islands of random bytes in zeros".into(), islands);
    let mut half = random(6, length / 2);
    half.resize(length, 0);
    add("random, then zeros".into(), half.clone());
    half.reverse();
    add("zeros, then random".into(), half);
    inputs
}

/// SplitMix64 from a seed, little-endian.
#[must_use]
pub fn random(seed: u64, length: usize) -> Vec<u8> {
    let mut state = seed;
    let mut bytes = Vec::with_capacity(length + 8);
    while bytes.len() < length {
        bytes.extend_from_slice(&split_mix(&mut state).to_le_bytes());
    }
    bytes.truncate(length);
    bytes
}

/// The next number of SplitMix64.
pub fn split_mix(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
    let mut z = *state;
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

fn cycle(period: &[u8], length: usize) -> Vec<u8> {
    period.iter().copied().cycle().take(length).collect()
}

/// A window that is a strict and loose hit, whatever comes before it: the position it cuts at is its end, or in a
/// restarting profile its last byte.
#[must_use]
pub fn hit_window(profile: &Profile) -> Option<Vec<u8>> {
    let finder = Finder::new(*profile);
    let lag = usize::from(profile.warmth() == Warmth::Restarting);
    (0..64).find_map(|seed| {
        let bytes = random(1000 + seed, 1 << 20);
        let span = Span::whole(&bytes);
        let mut found = None;
        finder.hits(&span, 2 * WINDOW as u64, span.end() - 2, |at, passes| {
            if found.is_none() && passes.strict && passes.loose {
                found = Some(at as usize);
            }
        });
        let end = found? + lag;
        bytes.get(end - WINDOW..end).map(<[u8]>::to_vec)
    })
}

/// Zeros with the window planted so that it ends at each of these places.
fn planted(hit: &[u8], length: usize, places: impl Iterator<Item = usize>) -> Vec<u8> {
    let mut bytes = vec![0; length];
    for end in places {
        if let Some(window) = end.checked_sub(hit.len()).and_then(|begin| bytes.get_mut(begin..end)) {
            window.copy_from_slice(hit);
        }
    }
    bytes
}

/// Of many short random periods, the one whose repetition has the most hits.
fn densest_period(profile: &Profile) -> Vec<u8> {
    let finder = Finder::new(*profile);
    let hits_of = |period: &[u8]| {
        let bytes = cycle(period, 1024);
        let mut hits = 0usize;
        finder.hits(&Span::whole(&bytes), WINDOW as u64, 1000, |_, _| hits += 1);
        hits
    };
    (0..20_000u64)
        .map(|seed| random(seed, 2 + (seed % 12) as usize))
        .max_by_key(|period| hits_of(period))
        .unwrap_or_else(|| vec![0])
}
