//! How are masks inside the low 32 bits scanned? With 16 lanes of 32 bits: no bit of a hash ever moves down, so the high
//! half of the table, and all but the last 32 bytes, cannot reach such a mask.

use std::arch::x86_64::*;
use std::mem::MaybeUninit;
use std::sync::Arc;

use super::tiles::{Lanes, Tiles};
use super::vector::{GROUPS_MAX, Indices, Planes, Rows, STRIDE, TileHits, Vbmi, choose, load_halves, shuffle_control};
use crate::chunk::scan::{Masks, Table};

const LANES: usize = 16;
const WINDOW: usize = 32;
const GROUP: usize = 16;

/// Bytes of a row in one column, and columns of a stride.
const COLUMN: usize = 4;
const COLUMNS: usize = STRIDE / COLUMN;

/// 16 lanes of 32 bits.
#[derive(Clone, Debug)]
pub(in crate::chunk::scan) struct Lanes32 {
    vbmi: Vbmi,
    planes: Arc<Planes<16>>,
    strict: Limit,
    loose: Limit,
}

/// A hash passes the mask when its low 32 bits are less than this.
#[derive(Copy, Clone, Debug)]
struct Limit(u32);

impl Limit {
    /// For a run of top bits of the low 32.
    fn of(mask: u64) -> Option<Self> {
        let low = u32::try_from(mask).ok()?;
        let run = low != 0 && low.leading_ones() + low.trailing_zeros() == u32::BITS;
        run.then(|| Self(1 << low.trailing_zeros()))
    }
}

impl Tiles<Lanes32> {
    /// `None` when the masks are not runs of top bits of the low 32.
    pub(in crate::chunk::scan) fn new(vbmi: Vbmi, masks: Masks, table: &'static Table) -> Option<Self> {
        let (strict, loose) = (Limit::of(masks.strict())?, Limit::of(masks.loose())?);
        Some(Self::with_lanes(Lanes32 { vbmi, planes: Planes::new(table), strict, loose }, masks, table))
    }
}

impl Lanes for Lanes32 {
    const LANES: usize = LANES;
    const WINDOW: usize = WINDOW;
    const GROUP: usize = GROUP;

    #[inline]
    fn scan(&self, tile: &[u8], before: u64, loose: u16, found: &mut TileHits) -> u16 {
        let _: Vbmi = self.vbmi;
        // SAFETY: the `Vbmi` at hand proves that the CPU has the features that `scan` names.
        unsafe { scan(&self.planes, tile, before as u32, [self.strict, self.loose], loose, found) }
    }
}

#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vbmi,avx512vbmi2")]
fn scan(
    planes: &Planes<16>,
    tile: &[u8],
    before: u32,
    [strict, loose]: [Limit; 2],
    loose_lanes: u16,
    found: &mut TileHits,
) -> u16 {
    let rows = Rows::new(tile);
    assert!((WINDOW / STRIDE..=GROUPS_MAX * GROUP / STRIDE).contains(&rows.strides));
    let limits = _mm512_mask_set1_epi32(_mm512_set1_epi32(strict.0 as i32), loose_lanes, loose.0 as i32);
    let most = _mm512_set1_epi32(-1);
    let weave = Weave::new();
    let step = |hash: &mut __m512i, value| *hash = _mm512_add_epi32(_mm512_add_epi32(*hash, *hash), value);
    let mut lanes_of = [0; GROUPS_MAX];
    let mut hash = _mm512_setzero_si512();

    // The hashes of the first window, begun at zero.
    let mut kept = [MaybeUninit::<__m512i>::uninit(); WINDOW];
    let first = columns(&rows, 0);
    for (column, kept) in first.iter().zip(kept.as_chunks_mut::<COLUMN>().0) {
        for (value, kept) in weave.values(planes, *column).into_iter().zip(kept) {
            step(&mut hash, value);
            kept.write(hash);
        }
    }
    for stride in WINDOW / STRIDE..rows.strides {
        let columns = columns(&rows, stride);
        for (part, columns) in columns.as_chunks::<{ GROUP / COLUMN }>().0.iter().enumerate() {
            let group = stride * (STRIDE / GROUP) + part;
            found.keep(group, hash);
            let mut least = most;
            for column in columns {
                for value in weave.values(planes, *column) {
                    step(&mut hash, value);
                    least = _mm512_min_epu32(least, hash);
                }
            }
            lanes_of[group] = _mm512_cmplt_epu32_mask(least, limits);
        }
    }

    // What every lane should have begun with is what the lane before it ended with.
    let mut carried = _mm512_alignr_epi32::<15>(hash, _mm512_set1_epi32(before as i32));
    found.last = (_mm_extract_epi32::<3>(_mm512_extracti32x4_epi32::<3>(hash)) as u32).into();
    hash = carried;
    for (group, kept) in kept.as_chunks::<GROUP>().0.iter().enumerate() {
        found.keep(group, hash);
        let mut least = most;
        for kept in kept {
            carried = _mm512_add_epi32(carried, carried);
            // SAFETY: the first stride, which is a window, wrote all of `kept`.
            hash = _mm512_add_epi32(carried, unsafe { kept.assume_init() });
            least = _mm512_min_epu32(least, hash);
        }
        lanes_of[group] = _mm512_cmplt_epu32_mask(least, limits);
    }
    found.tell(&lanes_of)
}

/// One stride of every row; column `k` holds the bytes `4k..4k + 4` of it for every row.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vbmi,avx512vbmi2")]
fn columns(rows: &Rows<'_, LANES>, stride: usize) -> [__m512i; COLUMNS] {
    // Vector i holds rows i and i + 4, from i = 4 on rows i + 4 and i + 8: the order in which the last step joins them.
    let zero = _mm512_setzero_si512();
    let mut parts = [zero; COLUMNS];
    for (i, part) in parts.iter_mut().enumerate() {
        let lane = i + i / 4 * 4;
        *part = load_halves(rows.part(lane, stride), rows.part(lane + 4, stride));
    }
    // Dwords k and k + 4 of rows 0 to 7 in the vector k, of rows 8 to 15 in the vector k + 4.
    let mut dwords = [zero; COLUMNS];
    for (half, [r0, r1, r2, r3]) in parts.as_chunks::<4>().0.iter().enumerate() {
        let (low_01, high_01) = (_mm512_unpacklo_epi32(*r0, *r1), _mm512_unpackhi_epi32(*r0, *r1));
        let (low_23, high_23) = (_mm512_unpacklo_epi32(*r2, *r3), _mm512_unpackhi_epi32(*r2, *r3));
        dwords[4 * half] = _mm512_unpacklo_epi64(low_01, low_23);
        dwords[4 * half + 1] = _mm512_unpackhi_epi64(low_01, low_23);
        dwords[4 * half + 2] = _mm512_unpacklo_epi64(high_01, high_23);
        dwords[4 * half + 3] = _mm512_unpackhi_epi64(high_01, high_23);
    }
    let mut columns = [zero; COLUMNS];
    for k in 0..4 {
        columns[k] = _mm512_shuffle_i32x4::<0x88>(dwords[k], dwords[4 + k]);
        columns[4 + k] = _mm512_shuffle_i32x4::<0xDD>(dwords[k], dwords[4 + k]);
    }
    columns
}

/// Turns four planes of four bytes per lane into four values per lane: a 4x4 byte transpose within each lane.
///
/// With the bytes of plane `p` already permuted as byte `i` to place `i ^ p`, every step of the transpose is a blend or
/// a funnel shift.
struct Weave {
    swap: __m512i,
    reverse: __m512i,
    odd_bytes: __m512i,
    odd_words: __m512i,
}

impl Weave {
    #[inline]
    #[target_feature(enable = "avx512f")]
    fn new() -> Self {
        Self {
            swap: shuffle_control(|i| i ^ 1),
            reverse: shuffle_control(|i| i ^ 3),
            odd_bytes: _mm512_set1_epi16(0xFF00_u16 as i16),
            odd_words: _mm512_set1_epi32(0xFFFF_0000_u32 as i32),
        }
    }

    /// The table values of a column: the first for the first byte of every lane, and so on.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vbmi,avx512vbmi2")]
    fn values(&self, planes: &Planes<16>, column: __m512i) -> [__m512i; COLUMN] {
        let indices = Indices::new(column);
        let plane_0 = indices.look_up(planes, 0);
        let plane_1 = _mm512_shuffle_epi8(indices.look_up(planes, 1), self.swap);
        let plane_2 = _mm512_rol_epi32::<16>(indices.look_up(planes, 2));
        let plane_3 = _mm512_shuffle_epi8(indices.look_up(planes, 3), self.reverse);
        let even_low = choose(self.odd_bytes, plane_1, plane_0);
        let odd_low = _mm512_shldi_epi16::<8>(plane_1, plane_0);
        let even_high = choose(self.odd_bytes, plane_3, plane_2);
        let odd_high = _mm512_shldi_epi16::<8>(plane_3, plane_2);
        [
            choose(self.odd_words, even_high, even_low),
            choose(self.odd_words, odd_high, odd_low),
            _mm512_shldi_epi32::<16>(even_high, even_low),
            _mm512_shldi_epi32::<16>(odd_high, odd_low),
        ]
    }
}
