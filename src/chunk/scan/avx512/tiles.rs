//! Where do tiles lie, and which of their suspects are hits? The part of the kernels that no vector touches.

use std::ops::ControlFlow;

use super::vector::{GROUPS_MAX, TileHits, bits};
use crate::chunk::scan::scalar::Scalar;
use crate::chunk::scan::{Hit, Masks, Scan, Table};

/// Stretches shorter than this are cheaper to step through than to lay a tile over.
const STEP_THROUGH: usize = 256;

/// A tile is dense when more than this part of its groups have hits; then this many bytes after it are stepped through.
/// Without it, data that hits every four bytes took two and a half times as long as with scalar code alone.
const DENSE: usize = 4;
const STEP_THROUGH_DENSE: usize = 32 << 10;

/// What a tile costs beside its bytes, in bytes: flat from 80 to 200 when measured.
const TILE_PRICE: usize = 120;

/// What a kernel scans tiles with: lanes of one width.
pub(in crate::chunk::scan) trait Lanes {
    /// Lanes of a vector, which is rows of a tile.
    const LANES: usize;
    /// How many bytes the hash reaches back at this width.
    const WINDOW: usize;
    /// Bytes of a group; a window is some of them.
    const GROUP: usize;

    /// Scans a tile: `LANES` rows of equal length, one after the other, a multiple of `WINDOW` and at most
    /// [`GROUPS_MAX`] groups long. `before` is the hash before its first byte. Lanes in `loose` look for loose hits,
    /// the others for strict ones. Returns the lanes that are suspect in any group.
    fn scan(&self, tile: &[u8], before: u64, loose: u16, found: &mut TileHits) -> u16;
}

/// A kernel with such lanes.
#[derive(Clone, Debug)]
pub(in crate::chunk::scan) struct Tiles<L> {
    lanes: L,
    masks: Masks,
    scalar: Scalar,
}

impl<L: Lanes> Tiles<L> {
    /// Tiles are multiples of this: one window in every row.
    const TILE_MIN: usize = L::LANES * L::WINDOW;
    const TILE_MAX: usize = L::LANES * L::GROUP * GROUPS_MAX;

    pub(super) fn with_lanes(lanes: L, masks: Masks, table: &'static Table) -> Self {
        Self { lanes, masks, scalar: Scalar::new(masks, table) }
    }

    /// Calls `visit` with every stretch of `from..to` that may have a hit, loose ones only from `loose_from` on, and
    /// with the hash before its first byte. Stretches ascend and do not overlap. Ends early if `visit` breaks.
    ///
    /// `tile_len` maps the first end offset of a tile to the tile's length in bytes.
    #[inline]
    fn suspects<B>(
        &self,
        data: &[u8],
        from: usize,
        loose_from: usize,
        to: usize,
        tile_len: impl Fn(usize) -> usize,
        mut visit: impl FnMut(u64, usize, usize) -> ControlFlow<B>,
    ) -> ControlFlow<B> {
        let mut found = TileHits::new();
        // The next end offset that is wanted, the first that the next tile takes, and the hash before it.
        let mut wanted = from;
        let (mut first, mut hash) = self.begin(data, from, from.saturating_sub(L::WINDOW));
        while wanted < to {
            let mut len = tile_len(first).min(to - first) / Self::TILE_MIN * Self::TILE_MIN;
            if len == 0 {
                if to - wanted < STEP_THROUGH || to <= Self::TILE_MIN {
                    self.scalar.skip(&mut hash, data, first, wanted);
                    return visit(hash, wanted, to);
                }
                // One last tile that ends where the range does, over bytes that were seen already.
                (first, hash) = self.begin(data, wanted, to - Self::TILE_MIN);
                len = Self::TILE_MIN;
            }
            let row = len / L::LANES;
            let tile = data.get(first - 1..first - 1 + len).unwrap_or_default();
            let loose = lanes_reaching(loose_from, first, row);
            let all = self.lanes.scan(tile, hash, loose, &mut found);
            let mut stretches = 0;
            for lane in bits(all.into()) {
                for group in bits(found.suspects[lane]) {
                    let start = first + lane * row + group * L::GROUP;
                    let end = start + L::GROUP;
                    if end > wanted {
                        let mut before = found.before(group, lane, L::LANES);
                        self.scalar.skip(&mut before, data, start, wanted.max(start));
                        visit(before, wanted.max(start), end)?;
                        stretches += 1;
                    }
                }
            }
            hash = found.last;
            first += len;
            wanted = wanted.max(first);
            if stretches * L::GROUP > len / DENSE && wanted < to {
                // What lies ahead is likely as dense, and scalar code goes through that faster without us.
                let stop = to.min(wanted + STEP_THROUGH_DENSE);
                visit(hash, wanted, stop)?;
                (first, hash) = self.begin(data, stop, stop.saturating_sub(L::WINDOW));
                wanted = stop;
            }
        }
        ControlFlow::Continue(())
    }

    /// Where a tile begins that is to begin at `first`, and the hash before it. A tile that begins a window before the
    /// end offset that is `wanted` needs no hash: what it says of that window is not heeded.
    #[inline]
    fn begin(&self, data: &[u8], wanted: usize, first: usize) -> (usize, u64) {
        if first > 0 && first + L::WINDOW <= wanted {
            (first, 0)
        } else {
            let first = if first == 0 { wanted } else { first };
            (first, self.scalar.warm(data, first - 1, L::WINDOW))
        }
    }
}

/// The lanes whose row has an end offset of at least `loose_from`, the first row beginning with the end offset `first`.
fn lanes_reaching(loose_from: usize, first: usize, row: usize) -> u16 {
    // Lane s ends with the end offset first + (s + 1) * row - 1.
    let short = loose_from.saturating_sub(first) / row;
    u16::MAX.checked_shl(short.try_into().unwrap_or(u32::MAX)).unwrap_or(0)
}

/// How long a tile should be that looks for the first hit of a mask: longer ones scan more behind the hit for nothing,
/// shorter ones pay [`TILE_PRICE`] more often. The sum is least at the geometric mean of the price and twice the mean
/// distance of hits.
fn tile_len_for(mask: u64) -> usize {
    1_usize.checked_shl(mask.count_ones()).map_or(usize::MAX, |mean| mean.saturating_mul(2 * TILE_PRICE).isqrt())
}

impl<L: Lanes> Scan for Tiles<L> {
    fn hits(&self, data: &[u8], from: usize, to: usize, mut on_hit: impl FnMut(Hit)) {
        let done: ControlFlow<()> = self.suspects(
            data,
            from,
            from,
            to,
            |_| Self::TILE_MAX,
            |mut hash, from, to| {
                if to - from <= L::GROUP {
                    self.scalar.hits_among(hash, data, from, to, &mut on_hit);
                } else {
                    self.scalar.hits_from(&mut hash, data, from, to, &mut on_hit);
                }
                ControlFlow::Continue(())
            },
        );
        debug_assert!(done.is_continue());
    }

    fn first_cut(&self, data: &[u8], strict_from: usize, loose_from: usize, to: usize) -> Option<usize> {
        let round = |len: usize| len.min(Self::TILE_MAX).next_multiple_of(Self::TILE_MIN);
        let (strict_len, loose_len) =
            (round(tile_len_for(self.masks.strict())), round(tile_len_for(self.masks.loose())));
        let tile_len = |first: usize| match loose_from.checked_sub(first) {
            // No farther than the loose hits begin, for they are soon met.
            Some(strict) if strict > 0 => strict_len.min(strict.max(Self::TILE_MIN)).max(loose_len),
            _ => loose_len,
        };
        let cut = self.suspects(data, strict_from, loose_from, to, tile_len, |mut hash, from, to| {
            let loose_from = loose_from.clamp(from, to);
            let cut = self
                .scalar
                .first_from(&mut hash, data, from, loose_from, self.masks.strict())
                .or_else(|| self.scalar.first_from(&mut hash, data, loose_from, to, self.masks.loose()));
            cut.map_or(ControlFlow::Continue(()), ControlFlow::Break)
        });
        cut.break_value()
    }
}
