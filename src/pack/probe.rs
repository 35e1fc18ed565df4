//! Might a byte shuffle help a frame, or any codec? A probe that is cheap enough for every frame.
//!
//! The idea of the first question: in an array of numbers, which bytes are frequent depends on their place in an
//! element. So bytes of a small sample are counted by their place modulo 8, and it is asked how unlike the counts of
//! the two halves of all places are: even and odd places first (stride 2), then the halves of these (stride 4), and of
//! these (stride 8). Text, code, images and noise look alike at all places. Repetitions are not seen here, so a frame
//! that passes is tried for real on a sample ([`super::frame`]); all others went without for the price of the look,
//! three to five microseconds.
//!
//! ```text
//! for each byte value and each pair of places (k, k + stride/2 modulo stride):
//!     χ² += (a − b)² / (a + b)          a, b: how often the value was counted at either
//! saving(stride) = (χ² − degrees of freedom) / (2 n ln 2)
//! ```
//!
//! Twice the likelihood ratio of "two codes" against "one code" is χ² to the first order, so this is about the bits a
//! byte that a code for each half saves; without any difference χ² is on average its degrees of freedom (the values
//! seen, less one, in each pair), so the estimate has no bias however small the sample. Taking the difference of
//! estimated entropies instead has a bias of 0.1 bits for noise at stride 8, and needs logarithms.
//!
//! The second question is the same sum once more, of the counts at all places against equal ones.

use super::filter::Filter;

/// The fewest and the most bytes of a frame that are looked at.
const SAMPLE_BYTES: std::ops::RangeInclusive<usize> = 512..=2048;

/// Frames with fewer bytes are not filtered: a sample of them tells nothing.
const RAW_BYTES_MIN: usize = 4096;

/// The sample is taken in this many pieces, spread evenly.
const PIECES: usize = 16;

/// How many bits a byte a shuffle must seem to save to be tried: five standard deviations of the estimate for noise,
/// and three in the smallest sample.
const SAVING_MIN: f32 = 0.1;

/// How many of them must come from the last doubling of the stride.
const SAVING_MORE_MIN: f32 = 0.04;

/// Bytes that a code for frequent ones would save no more bits of than these look like noise. A frame is stored raw
/// if it does not save twice as many ([`super::frame`]), so what such a frame can gain is repetitions only.
const NOISE_MAX: f32 = 0.125;

/// The result of a probe.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Look {
    /// No two byte values differ much in how frequent they are.
    Noise,
    /// Nothing to gain from any shuffle.
    Plain,
    /// This shuffle is worth a try.
    Numbers(Filter),
}

/// Looks at frames.
pub(super) struct Probe {
    /// How often each byte value was seen at each place modulo 8.
    counts: Box<[[u16; 8]; 256]>,
}

impl Probe {
    pub(super) fn new() -> Self {
        Self { counts: Box::new([[0; 8]; 256]) }
    }

    /// Looks at a sample of a frame.
    pub(super) fn look(&mut self, raw: &[u8]) -> Look {
        if raw.len() < RAW_BYTES_MIN {
            return Look::Plain;
        }
        let sampled = self.count(raw);
        let Savings { code, by_2, by_4, by_8 } = self.savings(sampled);
        let saving_min = SAVING_MIN * (*SAMPLE_BYTES.end() as f32 / sampled.max(1) as f32).sqrt();
        let strides =
            [(Filter::Shuffle8, by_8, by_4 + by_2), (Filter::Shuffle4, by_4, by_2), (Filter::Shuffle2, by_2, 0.0)];
        match strides.into_iter().find(|(_, more, less)| *more > SAVING_MORE_MIN && more + less > saving_min) {
            Some((filter, ..)) => Look::Numbers(filter),
            None if code < NOISE_MAX => Look::Noise,
            None => Look::Plain,
        }
    }

    fn savings(&self, sampled: usize) -> Savings {
        // All pairs of all strides side by side, so that the divisions are vector ones: four of stride 8, two of
        // stride 4, one of stride 2.
        let mut surplus = [0.0_f32; 8];
        let mut squares = 0.0;
        for places in self.counts.iter().filter(|places| **places != [0; 8]) {
            let [a, b, c, d, e, f, g, h] = places.map(f32::from);
            let one = [a, b, c, d, a + e, b + f, a + c + e + g, 0.0];
            let other = [e, f, g, h, c + g, d + h, b + d + f + h, 0.0];
            let all: f32 = a + c + e + g + b + d + f + h;
            squares += all * all;
            for (surplus, (one, other)) in surplus.iter_mut().zip(one.iter().zip(&other)) {
                let (difference, seen) = (one - other, one + other);
                // Each value that a pair has seen is a degree of freedom. One that it has not adds nothing.
                *surplus += difference * difference / seen.max(1.0) - seen.min(1.0);
            }
        }
        let sampled = sampled.max(1) as f32;
        let bits = 1.0 / (2.0 * std::f32::consts::LN_2 * sampled);
        let [a, b, c, d, e, f, by_2, _] = surplus.map(|surplus| (surplus + 1.0) * bits);
        let code = (squares * 256.0 / sampled - sampled - 255.0) * bits;
        Savings { code, by_2, by_4: e + f, by_8: a + b + c + d }
    }

    /// Counts a sample, and says how many bytes it has.
    fn count(&mut self, raw: &[u8]) -> usize {
        *self.counts = [[0; 8]; 256];
        let sample_bytes = (raw.len() / 32).clamp(*SAMPLE_BYTES.start(), *SAMPLE_BYTES.end());
        // Whole elements, and the same phase in all pieces.
        let piece_bytes = sample_bytes / PIECES / 8 * 8;
        let step = raw.len() / PIECES / 8 * 8;
        let mut sampled = 0;
        for piece in (0..PIECES).filter_map(|n| raw.get(n * step..)?.get(..piece_bytes)) {
            for element in piece.as_chunks::<8>().0 {
                for (place, value) in element.iter().enumerate() {
                    if let Some(count) = self.counts.get_mut(usize::from(*value)).and_then(|at| at.get_mut(place)) {
                        *count += 1;
                    }
                }
            }
            sampled += piece.len();
        }
        sampled
    }
}

/// About how many bits a byte of a sample are saved.
struct Savings {
    /// By any code for frequent bytes, against none.
    code: f32,
    /// By one code for even and one for odd places, against one for all.
    by_2: f32,
    /// By four codes, against two.
    by_4: f32,
    /// By eight, against four.
    by_8: f32,
}
