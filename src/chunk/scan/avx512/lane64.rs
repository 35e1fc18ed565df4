//! How are all other masks scanned? With 8 lanes of 64 bits. Masks that are runs of top bits compare hashes to a limit;
//! any other mask is applied first, and a hit is a zero.

use std::arch::x86_64::*;
use std::mem::MaybeUninit;
use std::sync::Arc;

use super::tiles::{Lanes, Tiles};
use super::vector::{GROUPS_MAX, Indices, Planes, Rows, STRIDE, TileHits, Vbmi, choose, load_halves, shuffle_control};
use crate::chunk::scan::{Masks, Table, WINDOW};

const LANES: usize = 8;
const GROUP: usize = STRIDE;

/// Bytes of a row in one column, and columns of a stride.
const COLUMN: usize = 8;
const COLUMNS: usize = STRIDE / COLUMN;

/// 8 lanes of 64 bits.
#[derive(Clone, Debug)]
pub(in crate::chunk::scan) struct Lanes64 {
    vbmi: Vbmi,
    planes: Arc<Planes<32>>,
    masks: Masks,
    runs: bool,
}

impl Tiles<Lanes64> {
    pub(in crate::chunk::scan) fn new(vbmi: Vbmi, masks: Masks, table: &'static Table) -> Self {
        let runs = [masks.strict(), masks.loose()].iter().all(|mask| mask.leading_ones() == mask.count_ones());
        Self::with_lanes(Lanes64 { vbmi, planes: Planes::new(table), masks, runs }, masks, table)
    }
}

impl Lanes for Lanes64 {
    const LANES: usize = LANES;
    const WINDOW: usize = WINDOW;
    const GROUP: usize = GROUP;

    #[inline]
    fn scan(&self, tile: &[u8], before: u64, loose: u16, found: &mut TileHits) -> u16 {
        let _: Vbmi = self.vbmi;
        // SAFETY: the `Vbmi` at hand proves that the CPU has the features that `scan` names.
        unsafe {
            if self.runs {
                scan::<true>(&self.planes, tile, before, self.masks, loose as u8, found)
            } else {
                scan::<false>(&self.planes, tile, before, self.masks, loose as u8, found)
            }
        }
    }
}

/// `RUNS`: the masks are runs of top bits, and need not be applied.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vbmi,avx512vbmi2")]
fn scan<const RUNS: bool>(
    planes: &Planes<32>,
    tile: &[u8],
    before: u64,
    masks: Masks,
    loose_lanes: u8,
    found: &mut TileHits,
) -> u16 {
    let rows = Rows::new(tile);
    assert!((WINDOW / STRIDE..=GROUPS_MAX * GROUP / STRIDE).contains(&rows.strides));
    let masks = _mm512_mask_set1_epi64(_mm512_set1_epi64(masks.strict() as i64), loose_lanes, masks.loose() as i64);
    // The lowest bit of a run of top bits, `mask & -mask`, is what hashes that pass are less than.
    let zero = _mm512_setzero_si512();
    let limits = if RUNS { _mm512_and_si512(masks, _mm512_sub_epi64(zero, masks)) } else { _mm512_set1_epi64(1) };
    let most = _mm512_set1_epi64(-1);
    let weave = Weave::new();
    let step = |hash: &mut __m512i, value| *hash = _mm512_add_epi64(_mm512_add_epi64(*hash, *hash), value);
    let lesser = |least, hash| {
        let tested = if RUNS { hash } else { _mm512_and_si512(hash, masks) };
        _mm512_min_epu64(least, tested)
    };
    let mut lanes_of = [0; GROUPS_MAX];
    let mut hash = zero;

    // The hashes of the first window, begun at zero.
    let mut kept = [MaybeUninit::<__m512i>::uninit(); WINDOW];
    for (stride, kept) in kept.as_chunks_mut::<STRIDE>().0.iter_mut().enumerate() {
        for (column, kept) in columns(&rows, stride).into_iter().zip(kept.as_chunks_mut::<COLUMN>().0) {
            for (value, kept) in weave.values(planes, column).into_iter().zip(kept) {
                step(&mut hash, value);
                kept.write(hash);
            }
        }
    }
    for stride in WINDOW / STRIDE..rows.strides {
        let group = stride;
        found.keep(group, hash);
        let mut least = most;
        for column in columns(&rows, stride) {
            for value in weave.values(planes, column) {
                step(&mut hash, value);
                least = lesser(least, hash);
            }
        }
        lanes_of[group] = _mm512_cmplt_epu64_mask(least, limits).into();
    }

    // What every lane should have begun with is what the lane before it ended with.
    let mut carried = _mm512_alignr_epi64::<7>(hash, _mm512_set1_epi64(before as i64));
    found.last = _mm_extract_epi64::<1>(_mm512_extracti64x2_epi64::<3>(hash)) as u64;
    hash = carried;
    for (group, kept) in kept.as_chunks::<GROUP>().0.iter().enumerate() {
        found.keep(group, hash);
        let mut least = most;
        for kept in kept {
            carried = _mm512_add_epi64(carried, carried);
            // SAFETY: the first strides, a window together, wrote all of `kept`.
            hash = _mm512_add_epi64(carried, unsafe { kept.assume_init() });
            least = lesser(least, hash);
        }
        lanes_of[group] = _mm512_cmplt_epu64_mask(least, limits).into();
    }
    found.tell(&lanes_of)
}

/// One stride of every row; column `k` holds the bytes `8k..8k + 8` of it for every row.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vbmi,avx512vbmi2")]
fn columns(rows: &Rows<'_, LANES>, stride: usize) -> [__m512i; COLUMNS] {
    // Rows 0 and 2, 1 and 3, 4 and 6, 5 and 7: the order in which the last step joins them.
    let mut parts = [_mm512_setzero_si512(); 4];
    for (i, part) in parts.iter_mut().enumerate() {
        let lane = i + i / 2 * 2;
        *part = load_halves(rows.part(lane, stride), rows.part(lane + 2, stride));
    }
    let [r02, r13, r46, r57] = parts;
    let (even_0123, odd_0123) = (_mm512_unpacklo_epi64(r02, r13), _mm512_unpackhi_epi64(r02, r13));
    let (even_4567, odd_4567) = (_mm512_unpacklo_epi64(r46, r57), _mm512_unpackhi_epi64(r46, r57));
    [
        _mm512_shuffle_i64x2::<0x88>(even_0123, even_4567),
        _mm512_shuffle_i64x2::<0x88>(odd_0123, odd_4567),
        _mm512_shuffle_i64x2::<0xDD>(even_0123, even_4567),
        _mm512_shuffle_i64x2::<0xDD>(odd_0123, odd_4567),
    ]
}

/// Turns eight planes of eight bytes per lane into eight values per lane: an 8x8 byte transpose within each lane.
///
/// With the bytes of plane `p` already permuted as byte `i` to place `i ^ p`, every step of the transpose is a blend or
/// a funnel shift.
struct Weave {
    permute: [__m512i; 8],
    odd_bytes: __m512i,
    odd_words: __m512i,
    odd_dwords: __m512i,
}

impl Weave {
    #[inline]
    #[target_feature(enable = "avx512f")]
    fn new() -> Self {
        let mut permute = [_mm512_setzero_si512(); 8];
        for (plane, permute) in (0..8).zip(&mut permute) {
            *permute = shuffle_control(|i| i ^ plane);
        }
        Self {
            permute,
            odd_bytes: _mm512_set1_epi16(0xFF00_u16 as i16),
            odd_words: _mm512_set1_epi32(0xFFFF_0000_u32 as i32),
            odd_dwords: _mm512_set1_epi64(0xFFFF_FFFF_0000_0000_u64 as i64),
        }
    }

    /// The table values of a column: the first for the first byte of every lane, and so on.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vbmi,avx512vbmi2")]
    fn values(&self, planes: &Planes<32>, column: __m512i) -> [__m512i; COLUMN] {
        let indices = Indices::new(column);
        let mut bytes = [_mm512_setzero_si512(); 8];
        for (plane, bytes) in bytes.iter_mut().enumerate() {
            let values = indices.look_up(planes, plane);
            *bytes = match plane {
                0 => values,
                2 => _mm512_rol_epi32::<16>(values),
                4 => _mm512_rol_epi64::<32>(values),
                _ => _mm512_shuffle_epi8(values, self.permute[plane]),
            };
        }
        // Of each pair of planes two vectors of words: those of the even and of the odd bytes.
        let mut words = bytes;
        for (words, [a, b]) in words.as_chunks_mut().0.iter_mut().zip(bytes.as_chunks().0) {
            *words = [choose(self.odd_bytes, *b, *a), _mm512_shldi_epi16::<8>(*b, *a)];
        }
        // Of each four planes four vectors of dwords: those of the bytes 0, 1, 2, 3 and 4 on.
        let mut dwords = words;
        for (dwords, [a, a_odd, b, b_odd]) in dwords.as_chunks_mut().0.iter_mut().zip(words.as_chunks().0) {
            *dwords = [
                choose(self.odd_words, *b, *a),
                choose(self.odd_words, *b_odd, *a_odd),
                _mm512_shldi_epi32::<16>(*b, *a),
                _mm512_shldi_epi32::<16>(*b_odd, *a_odd),
            ];
        }
        let mut values = dwords;
        for i in 0..4 {
            values[i] = choose(self.odd_dwords, dwords[4 + i], dwords[i]);
            values[4 + i] = _mm512_shldi_epi64::<32>(dwords[4 + i], dwords[i]);
        }
        values
    }
}
