//! How are a segment's hits kept until its seam is replayed? Packed: two bytes for a hit of ordinary data, and never
//! more than a quarter byte per position scanned.
//!
//! A log is a row of entries, each a LEB128 number `distance << 2 | kind`, `distance` counted from the entry before:
//!
//! | kind | means |
//! | --- | --- |
//! | 1, 2, 3 | a hit there: bit 0 says it is strict, bit 1 that it is loose |
//! | 0 | a block of [`BLOCK`] positions begins there; [`BLOCK`]`/ 4` bytes follow, two bits for each position, lowest first |
//!
//! Positions are taken in blocks of [`BLOCK`]; whichever form is shorter is written. So a log takes at most
//! `BLOCK / 4 + 5` bytes for [`BLOCK`] positions, and is read front to back, once.

use super::rule::Passes;

/// Positions per block.
const BLOCK: u64 = 4096;

/// Bytes of a block's bits.
const BLOCK_BYTES: usize = (BLOCK / 4) as usize;

const STRICT: u8 = 1;
const LOOSE: u8 = 2;

/// The hits of a range of positions, ascending, packed.
#[derive(Debug, Clone, Default)]
pub struct HitLog {
    from: u64,
    bytes: Vec<u8>,
    /// The position the next entry's distance is counted from.
    last: u64,
    /// Where the open block begins; its hits are in `open`.
    block: u64,
    open: Vec<(u64, u8)>,
}

impl HitLog {
    /// An empty log of positions from `from` on.
    #[must_use]
    pub fn new(from: u64) -> Self {
        Self { from, last: from, block: from, ..Self::default() }
    }

    /// Adds a hit: past all before it.
    pub fn push(&mut self, at: u64, passes: Passes) {
        if at - self.block >= BLOCK {
            self.close_block();
            self.block = at - (at - self.block) % BLOCK;
        }
        let kind = (u8::from(passes.strict) * STRICT) | (u8::from(passes.loose) * LOOSE);
        self.open.push((at, kind));
    }

    /// Packs what is still open. To be called before reading, and when no more hits come.
    pub fn finish(&mut self) {
        self.close_block();
        self.open.shrink_to_fit();
        self.bytes.shrink_to_fit();
    }

    /// How much memory the packed hits take, in bytes.
    #[must_use]
    pub fn packed_bytes(&self) -> usize {
        self.bytes.len()
    }

    /// The hits, ascending.
    #[must_use]
    pub fn iter(&self) -> Hits<'_> {
        Hits { bytes: &self.bytes, last: self.from, bits: &[], bits_from: 0, bits_read: 0 }
    }

    fn close_block(&mut self) {
        let (bytes_before, last_before) = (self.bytes.len(), self.last);
        for &(at, kind) in &self.open {
            put_number(&mut self.bytes, (at - self.last) << 2 | u64::from(kind));
            self.last = at;
            if self.bytes.len() - bytes_before > BLOCK_BYTES {
                self.bytes.truncate(bytes_before);
                self.last = last_before;
                self.put_bits();
                break;
            }
        }
        self.open.clear();
    }

    fn put_bits(&mut self) {
        let mut bits = [0u8; BLOCK_BYTES];
        for &(at, kind) in &self.open {
            let place = at - self.block;
            if let Some(byte) = bits.get_mut((place / 4) as usize) {
                *byte |= kind << (place % 4 * 2);
            }
        }
        put_number(&mut self.bytes, (self.block - self.last.min(self.block)) << 2);
        self.bytes.extend_from_slice(&bits);
        self.last = self.block + BLOCK;
    }
}

/// Reads a [`HitLog`] front to back.
#[derive(Debug, Clone)]
pub struct Hits<'a> {
    bytes: &'a [u8],
    last: u64,
    /// What is left of a block's bits.
    bits: &'a [u8],
    /// The first position of `bits`.
    bits_from: u64,
    /// Positions of `bits` below this one are read.
    bits_read: u64,
}

impl Hits<'_> {
    /// The next hit of the open block.
    fn next_of_bits(&mut self) -> Option<(u64, u8)> {
        while let Some((&byte, rest)) = self.bits.split_first() {
            // Drop the pairs of this byte that are read, then find the next one that is set.
            let skipped = self.bits_read - self.bits_from;
            let left = if skipped < 4 { u32::from(byte) >> (2 * skipped) } else { 0 };
            if left != 0 {
                let at = self.bits_read + u64::from(left.trailing_zeros() / 2);
                self.bits_read = at + 1;
                return Some((at, byte >> (2 * (at - self.bits_from)) & 3));
            }
            self.bits = rest;
            self.bits_from += 4;
            self.bits_read = self.bits_from;
        }
        None
    }

    fn number(&mut self) -> Option<u64> {
        let (mut number, mut shift) = (0, 0);
        loop {
            let (&byte, rest) = self.bytes.split_first()?;
            self.bytes = rest;
            number |= u64::from(byte & 0x7f) << shift;
            shift += 7;
            if byte < 0x80 {
                return Some(number);
            }
        }
    }
}

impl Iterator for Hits<'_> {
    type Item = (u64, Passes);

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            if let Some((at, kind)) = self.next_of_bits() {
                return Some((at, Passes { strict: kind & STRICT != 0, loose: kind & LOOSE != 0 }));
            }
            let entry = self.number()?;
            self.last += entry >> 2;
            match (entry & 3) as u8 {
                0 => {
                    let (bits, rest) = self.bytes.split_at(BLOCK_BYTES.min(self.bytes.len()));
                    (self.bits, self.bytes) = (bits, rest);
                    (self.bits_from, self.bits_read) = (self.last, self.last);
                    self.last += BLOCK;
                }
                kind => return Some((self.last, Passes { strict: kind & STRICT != 0, loose: kind & LOOSE != 0 })),
            }
        }
    }
}

fn put_number(bytes: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        bytes.push(number as u8 | 0x80);
        number >>= 7;
    }
    bytes.push(number as u8);
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::testing::patterns::KINDS;
    use crate::testing::random::TestRng;

    #[test]
    fn what_goes_in_comes_out_at_every_density_and_takes_a_quarter_byte_at_most() {
        let mut random = TestRng(5);
        for one_in in [1, 2, 3, 4, 5, 8, 20, 100, 2048, 1 << 20] {
            for kinds in 1..=3 {
                for (from, length) in [(0u64, 100_000u64), (12_345_678_901, 3 * BLOCK), (77, 1), (5, BLOCK + 1)] {
                    let hits: Vec<(u64, Passes)> = (from..from + length)
                        .filter(|_| random.below(one_in) == 0)
                        .collect::<Vec<_>>()
                        .into_iter()
                        .map(|at| (at, *KINDS.get(1 + random.below(kinds) as usize).unwrap()))
                        .collect();
                    let mut log = HitLog::new(from);
                    hits.iter().for_each(|(at, passes)| log.push(*at, *passes));
                    log.finish();
                    assert!(log.iter().eq(hits.iter().copied()), "1 in {one_in}, {kinds} kinds, {from}+{length}");
                    let bound = length.div_ceil(BLOCK) as usize * (BLOCK_BYTES + 5);
                    assert!(log.packed_bytes() <= bound, "{} > {bound}", log.packed_bytes());
                }
            }
        }
    }

    #[test]
    fn ordinary_data_takes_two_bytes_a_hit_and_a_bare_stretch_nothing() {
        let mut log = HitLog::new(0);
        (0..1000).for_each(|i| log.push(i * 2048, KINDS[1]));
        log.finish();
        assert_eq!(log.packed_bytes(), 1 + 999 * 2);
        log.push(1 << 40, KINDS[2]);
        log.finish();
        assert!(log.packed_bytes() < 2010);
        assert_eq!(log.iter().last(), Some((1 << 40, KINDS[2])));
    }

    #[test]
    fn dense_and_bare_stretches_follow_each_other() {
        let mut log = HitLog::new(10);
        let hits: Vec<u64> = (10..9000).chain([20_000, 30_001]).chain(40_000..49_000).collect();
        hits.iter().for_each(|at| log.push(*at, KINDS[3]));
        log.finish();
        assert!(log.iter().map(|(at, _)| at).eq(hits));
    }
}
