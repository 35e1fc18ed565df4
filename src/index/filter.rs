//! Which ids are certainly not in a run, without asking the disk?
//!
//! A blocked Bloom filter: an id's prefix picks one block of 64 bytes (a cache line) and six bits in it. With 12 bits an
//! entry about one absent id in 200 passes, with 16 one in 700. The block is picked by the prefix's highest bits, so a run, which is
//! sorted, fills its filter front to back: it is written in one pass, with no more memory than a page.
//!
//! A filter never changes once its run is written. Its pages are read when first needed, so opening an index costs
//! nothing for them, and a small job touches few. Invariant: an entry of the run always passes.

use std::sync::OnceLock;

use crate::error::Result;

/// Bits an entry of the greatest run: that one sets what filters take in memory.
const BITS_PER_ENTRY: u64 = 12;

/// Bits an entry of a run that is small beside the others. All runs are asked for an id that is new, so each should let
/// few pass, and here it costs little.
const BITS_PER_ENTRY_SMALL: u64 = 16;

const BLOCK_WORDS: usize = 8;
const BLOCK_BITS: u64 = 64 * BLOCK_WORDS as u64;
const PROBES: u32 = 6;

/// Blocks of a page: 16 KiB as the table lays it out, with its own few bytes.
const PAGE_BLOCKS: u64 = 255;

/// One cache line.
#[derive(Debug, Clone, Copy, Default)]
#[repr(align(64))]
struct Block([u64; BLOCK_WORDS]);

/// Where an id is in a filter.
#[derive(Debug, Clone, Copy)]
struct Place {
    page: u64,
    block: usize,
    bits: u64,
}

/// The shape of a filter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Shape {
    /// How many blocks it has.
    pub(super) blocks: u64,
}

impl Shape {
    /// The shape for a run of so many entries among so many in all runs.
    pub(super) fn for_entries(entries: u64, all: u64) -> Self {
        let bits = if entries < all / 3 { BITS_PER_ENTRY_SMALL } else { BITS_PER_ENTRY };
        Self { blocks: entries.saturating_mul(bits).div_ceil(BLOCK_BITS).max(1) }
    }

    /// Bytes it takes.
    pub(super) fn bytes(self) -> u64 {
        self.blocks.saturating_mul(size_of::<Block>() as u64)
    }

    fn pages(self) -> u64 {
        self.blocks.div_ceil(PAGE_BLOCKS)
    }

    fn place(self, prefix: u64) -> Place {
        let block = ((u128::from(prefix) * u128::from(self.blocks)) >> 64) as u64;
        // The highest bits picked the block; the multiplication brings the others up.
        let bits = (prefix ^ (prefix >> 29)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        Place { page: block / PAGE_BLOCKS, block: (block % PAGE_BLOCKS) as usize, bits }
    }

    fn blocks_in(self, page: u64) -> usize {
        self.blocks.saturating_sub(page * PAGE_BLOCKS).min(PAGE_BLOCKS) as usize
    }
}

/// The word and the bit in it for each probe: nine bits of `bits` each.
fn probes(bits: u64) -> impl Iterator<Item = (usize, u64)> {
    (0..PROBES).map(move |probe| {
        let bit = bits >> (10 + 9 * probe);
        ((bit >> 6) as usize % BLOCK_WORDS, 1 << (bit & 63))
    })
}

/// Makes the pages of a filter from ascending prefixes.
#[derive(Debug)]
pub(super) struct FilterWriter {
    shape: Shape,
    page: u64,
    blocks: Vec<Block>,
}

impl FilterWriter {
    pub(super) fn new(shape: Shape) -> Self {
        Self { shape, page: 0, blocks: vec![Block::default(); shape.blocks_in(0)] }
    }

    /// Takes the next prefix; hands the pages that are done to `emit`.
    pub(super) fn insert(&mut self, prefix: u64, emit: &mut dyn FnMut(u32, &[u8]) -> Result<()>) -> Result<()> {
        let place = self.shape.place(prefix);
        while self.page < place.page {
            self.emit(emit)?;
        }
        if let Some(block) = self.blocks.get_mut(place.block) {
            for (word, bit) in probes(place.bits) {
                if let Some(word) = block.0.get_mut(word) {
                    *word |= bit;
                }
            }
        }
        Ok(())
    }

    /// Hands the rest to `emit`.
    pub(super) fn finish(mut self, emit: &mut dyn FnMut(u32, &[u8]) -> Result<()>) -> Result<()> {
        while self.page < self.shape.pages() {
            self.emit(emit)?;
        }
        Ok(())
    }

    fn emit(&mut self, emit: &mut dyn FnMut(u32, &[u8]) -> Result<()>) -> Result<()> {
        let bytes: Vec<u8> = self.blocks.iter().flat_map(|block| block.0).flat_map(u64::to_le_bytes).collect();
        emit(self.page as u32, &bytes)?;
        self.page += 1;
        self.blocks.clear();
        self.blocks.resize(self.shape.blocks_in(self.page), Block::default());
        Ok(())
    }
}

/// A filter as it is asked: pages come when they are needed.
#[derive(Debug)]
pub(super) struct Filter {
    shape: Shape,
    pages: Box<[OnceLock<Box<[Block]>>]>,
}

impl Filter {
    pub(super) fn new(shape: Shape) -> Self {
        Self { shape, pages: (0..shape.pages()).map(|_| OnceLock::new()).collect() }
    }

    /// Whether an entry with this prefix may be in the run. `load` reads a page's bytes.
    ///
    /// # Errors
    /// Those of `load`. A page of another length than it should have lets everything pass.
    #[inline]
    pub(super) fn may_contain(&self, prefix: u64, load: impl FnOnce(u32) -> Result<Vec<u8>>) -> Result<bool> {
        let place = self.shape.place(prefix);
        let Some(cell) = self.pages.get(place.page as usize) else { return Ok(true) };
        let page = match cell.get() {
            Some(page) => page,
            None => {
                let page = parse(&load(place.page as u32)?);
                cell.get_or_init(|| page)
            }
        };
        let Some(block) = page.get(place.block) else { return Ok(true) };
        // All six are looked at, so that there is one branch, which nearly always goes the same way: the processor then
        // fetches the blocks of several runs at once.
        let missing = probes(place.bits)
            .fold(0, |missing, (word, bit)| missing | block.0.get(word).map_or(0, |word| !word & bit));
        Ok(missing == 0)
    }

    /// Bytes it takes when all of it was read.
    pub(super) fn bytes(&self) -> u64 {
        self.shape.bytes()
    }

    /// Bytes of it that were read so far.
    pub(super) fn loaded_bytes(&self) -> u64 {
        self.pages.iter().filter_map(OnceLock::get).map(|page| size_of_val::<[Block]>(page) as u64).sum()
    }
}

fn parse(bytes: &[u8]) -> Box<[Block]> {
    let blocks = bytes.as_chunks::<{ 8 * BLOCK_WORDS }>().0;
    let word = |bytes: &[u8; 8]| u64::from_le_bytes(*bytes);
    blocks
        .iter()
        .map(|block| {
            let mut words = [0; BLOCK_WORDS];
            for (out, bytes) in words.iter_mut().zip(block.as_chunks::<8>().0) {
                *out = word(bytes);
            }
            Block(words)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing)]

    use super::*;

    fn prefixes(seed: u64, count: u64) -> Vec<u64> {
        let mut state = seed;
        let mut all: Vec<u64> = (0..count)
            .map(|_| {
                state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
                let mut z = state;
                z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
                z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
                z ^ (z >> 31)
            })
            .collect();
        all.sort_unstable();
        all
    }

    #[test]
    fn what_is_in_passes_and_few_strangers_do() {
        // Entries of the run and of all runs, and how many strangers of 100,000 pass at most.
        for (count, all, most) in [
            (1, 1, 700),
            (40, 40, 700),
            (50, 51, 700),
            (1000, 1000, 700),
            (200_000, 400_000, 650),
            (200_000, 1_000_000, 200),
        ] {
            let shape = Shape::for_entries(count, all);
            let mut pages: Vec<Vec<u8>> = Vec::new();
            let mut emit = |number: u32, bytes: &[u8]| {
                assert_eq!(number as usize, pages.len());
                pages.push(bytes.to_vec());
                Ok(())
            };
            let mut writer = FilterWriter::new(shape);
            let inside = prefixes(1, count);
            for prefix in &inside {
                writer.insert(*prefix, &mut emit).unwrap();
            }
            writer.finish(&mut emit).unwrap();
            assert_eq!(pages.len() as u64, shape.pages());
            let filter = Filter::new(shape);
            assert_eq!(filter.loaded_bytes(), 0);
            let ask = |prefix: u64| filter.may_contain(prefix, |page| Ok(pages[page as usize].clone())).unwrap();
            assert!(inside.iter().all(|prefix| ask(*prefix)), "{count}");
            assert_eq!(filter.loaded_bytes(), filter.bytes(), "{count}");
            let strangers = prefixes(2, 100_000);
            let passed = strangers.iter().filter(|prefix| ask(**prefix)).count();
            assert!(passed < most, "{count}: {passed} of 100000 strangers pass");
            assert!(filter.bytes() <= 2 * count + 64);
        }
    }
}
