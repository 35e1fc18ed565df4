//! How does a fuzzer, which knows bytes only, say something about a store? Its bytes are read as a script of choices.
//!
//! Zero is always the honest choice, and there are zeros past the end: a short script is a small lie in an honest store.

/// A script, read front to back.
pub(super) struct Script<'a>(&'a [u8]);

impl<'a> Script<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    /// What is left of it.
    pub(super) fn rest(&self) -> &'a [u8] {
        self.0
    }

    pub(super) fn byte(&mut self) -> u8 {
        let (first, rest) = self.0.split_first().unwrap_or((&0, &[]));
        self.0 = rest;
        *first
    }

    /// A number below `bound`, which is at most 65,536.
    pub(super) fn below(&mut self, bound: usize) -> usize {
        let low = usize::from(self.byte());
        let high = if bound > 256 { usize::from(self.byte()) } else { 0 };
        (high << 8 | low) % bound.max(1)
    }

    pub(super) fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.below(from.len())]
    }

    /// One choice in eight.
    pub(super) fn lies(&mut self) -> bool {
        self.byte() >= 224
    }

    pub(super) fn word(&mut self) -> u64 {
        u64::from_le_bytes(std::array::from_fn(|_| self.byte()))
    }

    /// The number that belongs there, mostly; or one that is wrong by one, or as large as numbers get.
    pub(super) fn number(&mut self, honest: u64) -> u64 {
        match self.byte() {
            0..=223 => honest,
            224..=226 => honest.wrapping_add(1),
            227..=229 => honest.wrapping_sub(1),
            230..=232 => 0,
            233..=235 => u64::MAX,
            236..=238 => u64::MAX >> 1,
            239..=241 => u64::from(u32::MAX),
            242..=243 => 1 << self.below(64),
            244..=246 => honest.wrapping_mul(1 << self.below(32)),
            247..=250 => u64::from(self.byte()),
            251..=253 => self.word() & 0xffff_ffff,
            254..=255 => self.word(),
        }
    }

    /// As [`Script::number`], of 32 bits.
    pub(super) fn number32(&mut self, honest: u64) -> u32 {
        self.number(honest) as u32
    }

    /// Bytes of a kind that the script names: text, zeros, noise, numbers with planes.
    pub(super) fn content(&mut self, length: usize) -> Vec<u8> {
        let (kind, seed) = (self.byte(), u64::from(self.byte()));
        match kind % 5 {
            0 => (0..length).map(|n| b"seam store of old"[(n + n / 97 + seed as usize) % 17]).collect(),
            1 => noise(seed, length),
            2 => vec![seed as u8; length],
            // Floats of 4 or 8 bytes that wander: the planes of their exponents repeat.
            3 => (0..).flat_map(|n| (1.0 + noise_at(seed, n) as f32 / 1e19).to_le_bytes()).take(length).collect(),
            _ => (0..).flat_map(|n| (3.0 + noise_at(seed, n) as f64 / 1e20).to_le_bytes()).take(length).collect(),
        }
    }

    /// Overwrites a few places of `bytes` with numbers that lengths and offsets are sensitive to. Places are counted
    /// from the end as often as from the front.
    pub(super) fn damage(&mut self, bytes: &mut [u8]) {
        let count = usize::from(self.byte()).saturating_sub(127).min(6);
        for _ in 0..count {
            let at = self.below(65_536.min(bytes.len()));
            let at = if self.byte() & 1 == 0 { at } else { bytes.len().saturating_sub(at + 1) };
            let width = self.pick(&[1, 4, 8, 2]);
            let old = bytes.get(at..).and_then(<[u8]>::first_chunk).map_or(0, |word| u64::from_le_bytes(*word));
            let mask = u64::MAX >> (64 - 8 * width);
            // Never the honest number: this is damage.
            let value = match self.byte() {
                0..=15 => old ^ 1 << self.below(8 * width),
                rest => Script(&[rest | 0xe0]).number(old & mask).wrapping_add(u64::from(rest & 0x1f)),
            };
            bytes[at..].iter_mut().zip(&value.to_le_bytes()[..width]).for_each(|(to, from)| *to = *from);
        }
    }
}

/// Bytes that no codec shrinks.
pub(super) fn noise(seed: u64, length: usize) -> Vec<u8> {
    (0..).flat_map(|n| noise_at(seed, n).to_le_bytes()).take(length).collect()
}

/// SplitMix64.
pub(super) fn noise_at(seed: u64, n: u64) -> u64 {
    let mut z = seed.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add((n + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15));
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}
