//! How is the `gearhash` crate driven? It finds the next match of one mask from a warm state, for any mask and table.
//!
//! Its vector loop pays a warm-up per call, so hits every few bytes would cost a warm-up each. A hit that follows
//! another closely is therefore taken as a sign of more, and the bytes after it are stepped through one at a time.

use gearhash::Hasher;

use super::scalar::{Scalar, bytes_of};
use super::{Hit, Masks, Scan, Table, WINDOW};

/// Two hits nearer than this make the stretch after them dense; it is as long again.
const DENSE: usize = 256;

/// Works for every mask and table; the crate chooses AVX2, SSE4.2 or NEON by itself.
#[derive(Clone, Debug)]
pub(super) struct Gear {
    masks: Masks,
    table: &'static Table,
    scalar: Scalar,
}

impl Gear {
    pub(super) fn new(masks: Masks, table: &'static Table) -> Self {
        Self { masks, table, scalar: Scalar::new(masks, table) }
    }

    /// A hasher that has seen `data[..end]`.
    fn warm(&self, data: &[u8], end: usize) -> Hasher<'static> {
        let mut hasher = Hasher::new(self.table);
        hasher.set_hash(self.scalar.warm(data, end, WINDOW));
        hasher
    }
}

/// The least end of `from..to` that passes `mask`; `hasher` has seen `data[..from - 1]`.
fn next(hasher: &mut Hasher<'_>, data: &[u8], from: usize, to: usize, mask: u64) -> Option<usize> {
    hasher.next_match(bytes_of(data, from, to), mask).map(|taken| from - 1 + taken)
}

impl Scan for Gear {
    fn hits(&self, data: &[u8], mut from: usize, to: usize, mut on_hit: impl FnMut(Hit)) {
        let mut hasher = self.warm(data, from - 1);
        while let Some(end) = next(&mut hasher, data, from, to, self.masks.loose()) {
            if let Some(kind) = self.masks.kind(hasher.get_hash()) {
                on_hit(Hit { end, kind });
            }
            let near = end - from < DENSE;
            from = end + 1;
            let mut dense = near;
            while dense && from < to {
                let stop = to.min(from + DENSE);
                let mut hash = hasher.get_hash();
                dense = false;
                self.scalar.hits_from(&mut hash, data, from, stop, |hit| {
                    dense = true;
                    on_hit(hit);
                });
                hasher.set_hash(hash);
                from = stop;
            }
        }
    }

    fn first_cut(&self, data: &[u8], strict_from: usize, loose_from: usize, to: usize) -> Option<usize> {
        let mut hasher = self.warm(data, strict_from - 1);
        next(&mut hasher, data, strict_from, loose_from, self.masks.strict())
            .or_else(|| next(&mut hasher, data, loose_from, to, self.masks.loose()))
    }
}
