//! What is a hit, by definition? One gear step and one test per byte; every other kernel is measured against this.
//!
//! Also the tool the others reach for at the edges: to warm a hash up, and to find the exact place and kind of a hit
//! inside the few bytes where a vector saw one.

use super::{Hit, HitKind, Masks, Scan, Table, WINDOW};

/// Works for every mask and table.
#[derive(Copy, Clone, Debug)]
pub(super) struct Scalar {
    masks: Masks,
    table: &'static Table,
}

impl Scalar {
    pub(super) fn new(masks: Masks, table: &'static Table) -> Self {
        Self { masks, table }
    }

    /// One gear step.
    #[inline]
    #[expect(clippy::indexing_slicing, reason = "the table has an entry for every u8")]
    fn step(&self, hash: u64, byte: u8) -> u64 {
        (hash << 1).wrapping_add(self.table[usize::from(byte)])
    }

    /// The hash of `data[..end]`, as far as its last `window` bytes make it: all of it for [`WINDOW`] of them, its low
    /// 32 bits for 32.
    #[inline]
    pub(super) fn warm(&self, data: &[u8], end: usize, window: usize) -> u64 {
        let window = data.get(end.saturating_sub(window)..end).unwrap_or_default();
        window.iter().fold(0, |hash, &byte| self.step(hash, byte))
    }

    /// Moves `hash` from that of `data[..from - 1]` to that of `data[..to - 1]`.
    #[cfg_attr(not(target_arch = "x86_64"), expect(dead_code, reason = "for the vector kernels"))]
    #[inline]
    pub(super) fn skip(&self, hash: &mut u64, data: &[u8], from: usize, to: usize) {
        *hash = bytes_of(data, from, to).iter().fold(*hash, |hash, &byte| self.step(hash, byte));
    }

    /// [`Scan::hits`] with `hash` being that of `data[..from - 1]` before and of `data[..to - 1]` after.
    #[inline]
    pub(super) fn hits_from(&self, hash: &mut u64, data: &[u8], from: usize, to: usize, mut on_hit: impl FnMut(Hit)) {
        for (end, &byte) in (from..to).zip(bytes_of(data, from, to)) {
            *hash = self.step(*hash, byte);
            if let Some(kind) = self.masks.kind(*hash) {
                on_hit(Hit { end, kind });
            }
        }
    }

    /// [`Self::hits_from`] for at most 32 ends, where a hit is more likely than not: tests all without a branch first.
    #[cfg_attr(not(target_arch = "x86_64"), expect(dead_code, reason = "for the vector kernels"))]
    #[inline]
    pub(super) fn hits_among(&self, mut hash: u64, data: &[u8], from: usize, to: usize, mut on_hit: impl FnMut(Hit)) {
        let (mut strict, mut loose) = (0_u32, 0_u32);
        for (place, &byte) in bytes_of(data, from, to).iter().enumerate() {
            hash = self.step(hash, byte);
            loose |= u32::from(hash & self.masks.loose() == 0) << place;
            strict |= u32::from(hash & self.masks.strict() == 0) << place;
        }
        while loose != 0 {
            let place = loose.trailing_zeros();
            let kind = if strict >> place & 1 == 1 { HitKind::Strict } else { HitKind::Loose };
            on_hit(Hit { end: from + place as usize, kind });
            loose &= loose - 1;
        }
    }

    /// The least end of `from..to` whose hash passes `mask`, with `hash` being that of `data[..from - 1]` before and
    /// that of the last byte looked at after.
    #[inline]
    pub(super) fn first_from(&self, hash: &mut u64, data: &[u8], from: usize, to: usize, mask: u64) -> Option<usize> {
        (from..to).zip(bytes_of(data, from, to)).find_map(|(end, &byte)| {
            *hash = self.step(*hash, byte);
            (*hash & mask == 0).then_some(end)
        })
    }
}

/// The bytes that complete the hashes of `from..to`.
#[inline]
pub(super) fn bytes_of(data: &[u8], from: usize, to: usize) -> &[u8] {
    data.get(from - 1..to - 1).unwrap_or_default()
}

impl Scan for Scalar {
    fn hits(&self, data: &[u8], from: usize, to: usize, on_hit: impl FnMut(Hit)) {
        let mut hash = self.warm(data, from - 1, WINDOW);
        self.hits_from(&mut hash, data, from, to, on_hit);
    }

    fn first_cut(&self, data: &[u8], strict_from: usize, loose_from: usize, to: usize) -> Option<usize> {
        let mut hash = self.warm(data, strict_from - 1, WINDOW);
        self.first_from(&mut hash, data, strict_from, loose_from, self.masks.strict())
            .or_else(|| self.first_from(&mut hash, data, loose_from, to, self.masks.loose()))
    }
}
