//! The generator of all tests: SplitMix64, so that a seed gives the same numbers on every machine.

/// Numbers from a seed.
#[derive(Debug, Clone, Default)]
pub(crate) struct TestRng(pub(crate) u64);

#[allow(dead_code, reason = "each crate that includes this file uses a part of it")]
impl TestRng {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Less than `bound`, which is not 0.
    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }

    /// An index into `length` items; there is at least one.
    pub(crate) fn index(&mut self, length: usize) -> usize {
        (self.next() % length as u64) as usize
    }

    /// An id.
    pub(crate) fn id(&mut self) -> [u8; 32] {
        let mut id = [0; 32];
        id.chunks_mut(8).for_each(|word| word.copy_from_slice(&self.next().to_le_bytes()));
        id
    }

    /// Bytes that no codec shrinks.
    pub(crate) fn bytes(&mut self, length: usize) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(length + 8);
        while bytes.len() < length {
            bytes.extend_from_slice(&self.next().to_le_bytes());
        }
        bytes.truncate(length);
        bytes
    }
}

/// Bytes that no codec shrinks, from a seed.
#[allow(dead_code, reason = "each crate that includes this file uses a part of it")]
pub(crate) fn noise(seed: u64, length: usize) -> Vec<u8> {
    TestRng(seed).bytes(length)
}
