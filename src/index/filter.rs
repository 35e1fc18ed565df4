//! Which ids are certainly not in a run, without reading its entries?
//!
//! A blocked Bloom filter: the prefix of an id selects one block of 64 bytes (a cache line) and six bits in it. With 12
//! bits per entry about one absent id in 200 passes, with 16 one in 700. The highest bits of the prefix select the block, so a
//! run, which is sorted, fills its filter front to back. 255 blocks and the entries that belong to them form a *group*,
//! which is the unit in which a run is written and its filter is read.
//!
//! Invariant: an entry of the run always passes.

/// Bits per entry of the largest run, which determines the memory that filters take.
const BITS_PER_ENTRY: u64 = 12;

/// Bits per entry of a run that is small beside the others. A look-up of a new id asks all runs, so each should let
/// few pass, and here this costs little.
const BITS_PER_ENTRY_SMALL: u64 = 16;

const BLOCK_WORDS: usize = 8;
pub(super) const BLOCK_BYTES: usize = 8 * BLOCK_WORDS;
const BLOCK_BITS: u64 = 8 * BLOCK_BYTES as u64;
const PROBES: u32 = 6;

/// Blocks of a group: with the group's fences they take about 16 KiB.
const GROUP_BLOCKS: u64 = 255;

/// One cache line.
#[derive(Debug, Clone, Copy, Default)]
#[repr(align(64))]
pub(super) struct Block([u64; BLOCK_WORDS]);

/// Where the bits of an id are in a filter.
#[derive(Debug, Clone, Copy)]
pub(super) struct Position {
    pub(super) group: usize,
    block: usize,
    bits: u64,
}

/// The shape of a run's filter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Shape {
    /// Number of blocks, at least 1.
    pub(super) blocks: u64,
}

impl Shape {
    /// The shape for a run of `entries` entries, where all runs together have `all`.
    pub(super) fn for_entries(entries: u64, all: u64) -> Self {
        let bits = if entries < all / 3 { BITS_PER_ENTRY_SMALL } else { BITS_PER_ENTRY };
        Self { blocks: entries.saturating_mul(bits).div_ceil(BLOCK_BITS).max(1) }
    }

    pub(super) fn groups(self) -> u64 {
        self.blocks.div_ceil(GROUP_BLOCKS)
    }

    /// Number of blocks in a group: 255, fewer in the last one.
    pub(super) fn blocks_in(self, group: usize) -> usize {
        self.blocks.saturating_sub((group as u64).saturating_mul(GROUP_BLOCKS)).min(GROUP_BLOCKS) as usize
    }

    #[inline]
    pub(super) fn position(self, prefix: u64) -> Position {
        let block = ((u128::from(prefix) * u128::from(self.blocks)) >> 64) as u64;
        // The highest bits selected the block; the multiplication brings the others up.
        let bits = (prefix ^ (prefix >> 29)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        Position { group: (block / GROUP_BLOCKS) as usize, block: (block % GROUP_BLOCKS) as usize, bits }
    }
}

/// The word and the bit in it for each probe: nine bits of `bits` each.
fn probes(bits: u64) -> impl Iterator<Item = (usize, u64)> {
    (0..PROBES).map(move |probe| {
        let bit = bits >> (10 + 9 * probe);
        ((bit >> 6) as usize % BLOCK_WORDS, 1 << (bit & 63))
    })
}

/// The filter of one group.
#[derive(Debug, Default)]
pub(super) struct GroupFilter(Vec<Block>);

impl GroupFilter {
    /// An empty one.
    pub(super) fn new(blocks: usize) -> Self {
        Self(vec![Block::default(); blocks])
    }

    pub(super) fn insert(&mut self, position: Position) {
        let Some(block) = self.0.get_mut(position.block) else { return };
        for (word, bit) in probes(position.bits) {
            if let Some(word) = block.0.get_mut(word) {
                *word |= bit;
            }
        }
    }

    /// Whether an entry with this prefix may be in the run.
    #[inline]
    pub(super) fn may_contain(&self, position: Position) -> bool {
        let Some(block) = self.0.get(position.block) else { return true };
        // All six bits are looked at, so that there is one branch, which nearly always goes the same way: the processor
        // then fetches the blocks of several runs at once.
        let missing = probes(position.bits)
            .fold(0, |missing, (word, bit)| missing | block.0.get(word).map_or(0, |word| !word & bit));
        missing == 0
    }

    pub(super) fn put(&self, out: &mut Vec<u8>) {
        out.extend(self.0.iter().flat_map(|block| block.0).flat_map(u64::to_le_bytes));
    }

    pub(super) fn get(bytes: &[u8]) -> Self {
        let block = |bytes: &[u8; BLOCK_BYTES]| {
            let mut block = Block::default();
            for (word, bytes) in block.0.iter_mut().zip(bytes.as_chunks::<8>().0) {
                *word = u64::from_le_bytes(*bytes);
            }
            block
        };
        Self(bytes.as_chunks::<BLOCK_BYTES>().0.iter().map(block).collect())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing)]

    use super::*;

    fn prefixes(seed: u64, count: u64) -> impl Iterator<Item = u64> {
        (0..count).map(move |n| {
            let mut z = (seed << 40 | n).wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
            z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            z ^ (z >> 31)
        })
    }

    #[test]
    fn what_is_in_passes_and_few_strangers_do() {
        // Entries of the run and of all runs, and the number of strangers of 100,000 that may pass.
        for (count, all, most) in [
            (1, 1, 700),
            (40, 40, 700),
            (50, 51, 700),
            (1000, 1000, 700),
            (200_000, 400_000, 650),
            (200_000, 1_000_000, 200),
        ] {
            let shape = Shape::for_entries(count, all);
            let mut groups: Vec<_> =
                (0..shape.groups() as usize).map(|group| GroupFilter::new(shape.blocks_in(group))).collect();
            assert_eq!(groups.iter().map(|group| group.0.len() as u64).sum::<u64>(), shape.blocks);
            for prefix in prefixes(1, count) {
                let position = shape.position(prefix);
                groups[position.group].insert(position);
            }
            let groups: Vec<_> = groups
                .iter()
                .map(|group| {
                    let mut bytes = Vec::new();
                    group.put(&mut bytes);
                    GroupFilter::get(&bytes)
                })
                .collect();
            let ask = |prefix: u64| {
                let position = shape.position(prefix);
                groups[position.group].may_contain(position)
            };
            assert!(prefixes(1, count).all(ask), "{count}");
            let passed = prefixes(2, 100_000).filter(|prefix| ask(*prefix)).count();
            assert!(passed < most, "{count}: {passed} of 100000 strangers pass");
            assert!(shape.blocks * BLOCK_BYTES as u64 <= 2 * count + 64);
        }
    }
}
