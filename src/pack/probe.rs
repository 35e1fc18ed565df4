//! Might a byte shuffle help a frame? A look that is cheap enough to be had for every frame.
//!
//! The idea: count bytes of a small sample by their place modulo 8, and estimate how many bits a byte takes if all
//! places share one code, and if each place modulo 2, 4 or 8 has its own. Numbers need fewer bits apart; text, code,
//! images and noise do not. What repeats is not seen here, so a frame that passes is tried for real on a sample
//! ([`super::frame`]); all others went without for the price of the look, a few microseconds.

use std::sync::LazyLock;

use super::filter::Filter;

/// The most bytes of a frame that are looked at.
const SAMPLE_BYTES_MAX: usize = 4096;

/// Frames with fewer bytes are not filtered: a sample of them tells nothing.
const RAW_BYTES_MIN: usize = 4096;

/// The sample is taken in this many pieces, spread evenly.
const PIECES: usize = 16;

/// How many bits a byte a shuffle must seem to save over no shuffle to be tried.
const SAVING_MIN: f32 = 0.12;

/// How many bits a byte it must seem to save over a shuffle by less.
const SAVING_MORE_MIN: f32 = 0.04;

/// n · log2 n
static N_LOG_N: LazyLock<Vec<f32>> = LazyLock::new(|| {
    let n_log_n = |n: usize| if n < 2 { 0.0 } else { (n as f64 * (n as f64).log2()) as f32 };
    (0..=SAMPLE_BYTES_MAX).map(n_log_n).collect()
});

/// Looks at frames.
pub(super) struct Probe {
    /// How often each byte was seen, by its place modulo 8.
    counts: Box<[[u16; 8]; 256]>,
    n_log_n: &'static [f32],
}

impl Probe {
    pub(super) fn new() -> Self {
        Self { counts: Box::new([[0; 8]; 256]), n_log_n: &N_LOG_N }
    }

    /// The shuffle that is worth a try, or none.
    pub(super) fn guess(&mut self, raw: &[u8]) -> Filter {
        if raw.len() < RAW_BYTES_MIN {
            return Filter::None;
        }
        let [plain, shuffled @ ..] = self.bits(raw);
        let mut best = (Filter::None, plain - SAVING_MIN + SAVING_MORE_MIN);
        for (filter, bits) in [Filter::Shuffle2, Filter::Shuffle4, Filter::Shuffle8].into_iter().zip(shuffled) {
            if bits + SAVING_MORE_MIN < best.1 {
                best = (filter, bits);
            }
        }
        best.0
    }

    /// Estimated bits a byte with one code for all, and one for each place modulo 2, 4, 8.
    pub(super) fn bits(&mut self, raw: &[u8]) -> [f32; 4] {
        let sampled = self.count(raw);
        let log = |n: u16| self.n_log_n.get(usize::from(n)).copied().unwrap_or_default();
        let mut saved = [0.0_f32; 4];
        let mut seen = [0_u32; 4];
        for [a, b, c, d, e, f, g, h] in self.counts.iter() {
            let [ae, bf, cg, dh] = [a + e, b + f, c + g, d + h];
            let [aceg, bdfh] = [ae + cg, bf + dh];
            let all = aceg + bdfh;
            if all == 0 {
                continue;
            }
            for (n, places) in [&[all][..], &[aceg, bdfh], &[ae, bf, cg, dh], &[*a, *b, *c, *d, *e, *f, *g, *h]]
                .into_iter()
                .enumerate()
            {
                for count in places {
                    if let (Some(saved), Some(seen)) = (saved.get_mut(n), seen.get_mut(n)) {
                        *saved += log(*count);
                        *seen += u32::from(*count > 0);
                    }
                }
            }
        }
        std::array::from_fn(|n| {
            let places = 1_u32 << n;
            let each = (sampled >> n) as u16;
            let bits = places as f32 * log(each) - saved.get(n).copied().unwrap_or_default();
            // Few samples make a distribution look sharper than it is, more so if it is taken apart. This is Miller's
            // and Madow's correction of that (Miller, Note on the bias of information estimates, 1955).
            let unseen = seen.get(n).copied().unwrap_or_default().saturating_sub(places);
            (bits + unseen as f32 / (2.0 * std::f32::consts::LN_2)) / sampled.max(1) as f32
        })
    }

    /// Counts a sample, and says how many bytes it has.
    fn count(&mut self, raw: &[u8]) -> usize {
        *self.counts = [[0; 8]; 256];
        let piece_bytes = (raw.len() / 64).clamp(1024, SAMPLE_BYTES_MAX) / PIECES / 8 * 8;
        let step = raw.len() / PIECES / 8 * 8;
        let mut sampled = 0;
        for piece in (0..PIECES).filter_map(|n| raw.get(n * step..)?.get(..piece_bytes)) {
            for places in piece.as_chunks::<8>().0 {
                for (place, byte) in places.iter().enumerate() {
                    if let Some(count) = self.counts.get_mut(usize::from(*byte)).and_then(|row| row.get_mut(place)) {
                        *count += 1;
                    }
                }
            }
            sampled += piece.len();
        }
        sampled
    }
}
