//! How are masks inside the low 32 bits scanned? With 16 lanes of 32 bits: a bit of the hash never moves down, so the
//! high half of the table and all but the last 32 bytes cannot reach them.

use std::arch::x86_64::*;
use std::mem::MaybeUninit;
use std::sync::Arc;

use super::{BLOCK, Found, GROUPS_MAX, Indices, Lanes, Planes, Tiles, Vbmi, bits, groups_of, shuffle_control, store};
use crate::chunk::scan::{Masks, Table};

const LANES: usize = 16;
const GROUP: usize = 16;
const WINDOW: usize = 32;

/// Bytes of a row that are transposed at once.
const STRIDE: usize = 32;

/// Bytes of a row in one column, and columns of a block.
const COLUMN: usize = 4;

/// 16 lanes of 32 bits.
#[derive(Clone, Debug)]
pub(in crate::chunk::scan) struct Lanes32 {
    vbmi: Vbmi,
    planes: Arc<Planes<16>>,
    strict: Limit,
    loose: Limit,
}

/// A hash passes the mask when it is less than this.
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
        Some(Self::of(Lanes32 { vbmi, planes: Planes::new(table), strict, loose }, masks, table))
    }
}

impl Lanes for Lanes32 {
    const LANES: usize = LANES;
    const GROUP: usize = GROUP;
    const WINDOW: usize = WINDOW;

    fn scan(&self, tile: &[[u8; BLOCK]], before: u64, loose: u16, found: &mut Found) -> u16 {
        let Self { vbmi: Vbmi(()), planes, strict, loose: limit } = self;
        // SAFETY: the `Vbmi` that this value holds proves that the CPU has the features that `scan` names.
        unsafe { scan(planes, tile, before as u32, [*strict, *limit], loose, found) }
    }

    fn before(found: &Found, group: usize, lane: usize) -> u64 {
        // SAFETY: `scan` has written the hashes before every group of the tile, and `group` is one of them: whoever asks
        // has its index from the bits that `scan` returned.
        let hashes = unsafe { found.before[group].assume_init_ref() };
        u32::from_le_bytes(hashes.as_chunks().0[lane]).into()
    }
}

#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vbmi,avx512vbmi2")]
fn scan(
    planes: &Planes<16>,
    tile: &[[u8; BLOCK]],
    before: u32,
    [strict, loose]: [Limit; 2],
    loose_lanes: u16,
    found: &mut Found,
) -> u16 {
    let blocks = tile.len() / LANES;
    assert!(tile.len() == LANES * blocks && (1..=GROUPS_MAX * GROUP / BLOCK).contains(&blocks));
    let limits = _mm512_mask_set1_epi32(_mm512_set1_epi32(strict.0 as i32), loose_lanes, loose.0 as i32);
    let most = _mm512_set1_epi32(-1);
    let weave = Weave::new();
    let mut suspects = [0; GROUPS_MAX];
    let mut all = 0;
    let mut hash = _mm512_setzero_si512();

    // The hashes of the first window, begun at zero.
    let mut kept = [const { MaybeUninit::<__m512i>::uninit() }; WINDOW];
    let (tile, row) = (tile.as_flattened(), tile.len() / LANES * BLOCK);
    let step = |hash: &mut __m512i, value| {
        *hash = _mm512_add_epi32(_mm512_add_epi32(*hash, *hash), value);
    };
    for (column, kept) in transposed(tile, row, 0).into_iter().zip(kept.as_chunks_mut::<COLUMN>().0) {
        for (value, kept) in weave.values(planes, column).into_iter().zip(kept) {
            step(&mut hash, value);
            kept.write(hash);
        }
    }
    let mut place = WINDOW / GROUP;
    for stride in 1..row / STRIDE {
        let columns = transposed(tile, row, stride);
        for group in columns.as_chunks::<{ GROUP / COLUMN }>().0 {
            store(&mut found.before[place], hash);
            let mut least = most;
            for column in group {
                for value in weave.values(planes, *column) {
                    step(&mut hash, value);
                    least = _mm512_min_epu32(least, hash);
                }
            }
            suspects[place] = _mm512_cmplt_epu32_mask(least, limits);
            all |= suspects[place];
            place += 1;
        }
    }

    // Every lane's true beginning is the lane before it; rows are at least a window long.
    let mut carried = _mm512_alignr_epi32::<15>(hash, _mm512_set1_epi32(before as i32));
    found.last = (_mm_extract_epi32::<3>(_mm512_extracti32x4_epi32::<3>(hash)) as u32).into();
    hash = carried;
    for place in 0..WINDOW / GROUP {
        store(&mut found.before[place], hash);
        let mut least = most;
        for kept in &kept[place * GROUP..(place + 1) * GROUP] {
            carried = _mm512_add_epi32(carried, carried);
            // SAFETY: the first block wrote all of `kept`: it is a block long at least, and a block is two windows.
            hash = _mm512_add_epi32(carried, unsafe { kept.assume_init() });
            least = _mm512_min_epu32(least, hash);
        }
        suspects[place] = _mm512_cmplt_epu32_mask(least, limits);
        all |= suspects[place];
    }
    for lane in bits(all.into()) {
        found.suspects[lane] = groups_of(lane, &suspects);
    }
    all
}

/// One stride of every row; vector `k` holds the bytes `4k..4k + 4` of it for every row.
#[inline]
#[target_feature(enable = "avx512f")]
fn transposed(tile: &[u8], row: usize, stride: usize) -> [__m512i; STRIDE / COLUMN] {
    let mut a = [_mm512_setzero_si512(); 8];
    let mut b = a;
    for i in 0..4 {
        for half in 0..2 {
            // SAFETY: test
            unsafe {
                let first = tile.as_ptr().add((i + 8 * half) * row + stride * STRIDE);
                let second = first.add(4 * row);
                if stride.is_multiple_of(2) {
                    _mm_prefetch::<_MM_HINT_T0>(first.wrapping_add(tile.len()).cast());
                    _mm_prefetch::<_MM_HINT_T0>(second.wrapping_add(tile.len()).cast());
                }
                let low = _mm512_castsi256_si512(_mm256_loadu_si256(first.cast()));
                a[i + 4 * half] = _mm512_inserti64x4::<1>(low, _mm256_loadu_si256(second.cast()));
            }
        }
    }
    // Rows i, i + 8 of a vector: dwords of rows 0 to 3 (and 8 to 11) side by side, then of rows 4 to 7.
    for half in 0..2 {
        let [r0, r1, r2, r3] = [a[4 * half], a[4 * half + 1], a[4 * half + 2], a[4 * half + 3]];
        let (l01, h01) = (_mm512_unpacklo_epi32(r0, r1), _mm512_unpackhi_epi32(r0, r1));
        let (l23, h23) = (_mm512_unpacklo_epi32(r2, r3), _mm512_unpackhi_epi32(r2, r3));
        b[4 * half] = _mm512_unpacklo_epi64(l01, l23);
        b[4 * half + 1] = _mm512_unpackhi_epi64(l01, l23);
        b[4 * half + 2] = _mm512_unpacklo_epi64(h01, h23);
        b[4 * half + 3] = _mm512_unpackhi_epi64(h01, h23);
    }
    for k in 0..4 {
        a[k] = _mm512_shuffle_i32x4::<0x88>(b[k], b[4 + k]);
        a[4 + k] = _mm512_shuffle_i32x4::<0xdd>(b[k], b[4 + k]);
    }
    a
}

/// Turns four planes of four bytes per lane into four values per lane: a 4x4 byte transpose within each lane.
///
/// With the bytes of plane 1 swapped in pairs, of plane 2 swapped as pairs and of plane 3 reversed, every step of the
/// transpose is a blend or a funnel shift, neither of which needs the port that permutes.
struct Weave {
    swap_bytes: __m512i,
    reverse: __m512i,
    odd_bytes: __m512i,
    odd_words: __m512i,
}

impl Weave {
    #[inline]
    #[target_feature(enable = "avx512f")]
    fn new() -> Self {
        Self {
            swap_bytes: shuffle_control(|i| i ^ 1),
            reverse: shuffle_control(|i| i ^ 3),
            odd_bytes: _mm512_set1_epi32(0xFF00_FF00_u32 as i32),
            odd_words: _mm512_set1_epi32(0xFFFF_0000_u32 as i32),
        }
    }

    /// The table values of a column: the first for the first byte of every lane, and so on.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vbmi,avx512vbmi2")]
    fn values(&self, Planes(planes): &Planes<16>, column: __m512i) -> [__m512i; COLUMN] {
        let [p0, p1, p2, p3, rest @ ..] = planes.as_chunks::<4>().0 else { unreachable!() };
        debug_assert!(rest.is_empty());
        let indices = Indices::new(column);
        let plane_0 = indices.look_up(p0.each_ref());
        let plane_1 = _mm512_shuffle_epi8(indices.look_up(p1.each_ref()), self.swap_bytes);
        let plane_2 = _mm512_rol_epi32::<16>(indices.look_up(p2.each_ref()));
        let plane_3 = _mm512_shuffle_epi8(indices.look_up(p3.each_ref()), self.reverse);
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

/// The bits of `a` where `mask` has ones, those of `b` elsewhere. No blend by mask register: there are too few of them.
#[inline]
#[target_feature(enable = "avx512f")]
fn choose(mask: __m512i, a: __m512i, b: __m512i) -> __m512i {
    _mm512_ternarylogic_epi32::<0xCA>(mask, a, b)
}
