//! How do 512-bit vectors find hits? Lanes far apart run the gear recursion side by side; scalar code has the last word.
//!
//! A **tile** is a run of bytes cut into as many equal rows as a vector has lanes. Lane `s` hashes row `s`, so one
//! vector step hashes one byte of every row. In pseudo-code, for rows of [`lane32`]:
//!
//! ```text
//! for each 64 bytes of the rows:
//!     columns = transpose(rows' 64 bytes)             vector k holds bytes 4k..4k+4 of every row
//!     for each column:
//!         planes = look the column's 64 bytes up      plane p holds byte p of each table value
//!         for t in weave(planes):                     t holds the table value of one byte of every row
//!             h = 2h + t;  least = min(least, h)
//!     after each group of bytes: suspects = lanes with least < limit
//! ```
//!
//! *A hit is one comparison*, because the masks are runs of top bits: `hash & mask == 0` is `hash < limit`. So it
//! suffices to keep the least hash of a **group** of bytes, and a lane whose least is below the limit has a hit there.
//! Which byte it was, and of which kind, the scalar definition finds from the hash that the lane had before the group.
//!
//! *No warming up.* A row's hash should begin with the window of bytes before the row. Instead every lane begins at
//! zero, and the hashes of its first window are kept; at the end of the tile lane `s - 1` holds exactly what lane `s`
//! should have begun with, `c`, and hashes are linear: the true hash after `k` bytes is the kept one plus `c << k`.
//! That costs three operations a byte, where warming up would cost the whole lookup again.
//!
//! *Looking up* is what bounds the speed. 256 entries are four `vpermb` of 64 for each byte of the value, on the one
//! port that can permute, merged by two bits of the index. Weaving the planes together is therefore left to blends
//! and funnel shifts on the other port. Departures that were measured and lost on Sapphire Rapids (raw column loop;
//! this one 7.9 GB/s, `gearhash` 3.1): `vpermi2b` 6.9, weaving by byte shuffles 5.7, by shifts and `vpternlog` 7.4,
//! gathers 5.9, gathers for every other column 7.9.

pub(super) mod lane32;

use std::arch::asm;
use std::arch::x86_64::*;
use std::mem::MaybeUninit;
use std::ops::ControlFlow;
use std::sync::Arc;

use super::scalar::Scalar;
use super::{Hit, Masks, Scan, Table};

/// Bytes of a row that a vector takes at once.
const BLOCK: usize = 64;

/// Most groups of a row; tiles are no longer than this allows.
const GROUPS_MAX: usize = 32;

/// Most lanes of a vector.
const LANES_MAX: usize = 16;

/// What a tile costs beside its bytes, in bytes.
const TILE_PRICE: usize = 150;

/// Stretches shorter than this are cheaper to step through than to lay a tile over.
const STEP_THROUGH: usize = 256;

/// A proof that this CPU has every instruction set the kernels name. Only [`Vbmi::new`] makes one.
#[derive(Copy, Clone, Debug)]
pub(super) struct Vbmi(());

impl Vbmi {
    pub(super) fn new() -> Option<Self> {
        let all = is_x86_feature_detected!("avx512f")
            && is_x86_feature_detected!("avx512bw")
            && is_x86_feature_detected!("avx512vl")
            && is_x86_feature_detected!("avx512dq")
            && is_x86_feature_detected!("avx512vbmi")
            && is_x86_feature_detected!("avx512vbmi2");
        all.then_some(Self(()))
    }
}

/// What one tile showed.
#[repr(align(64))]
pub(super) struct Found {
    /// For each lane the groups of its row that have a hit by the limit of the lane, a bit each.
    suspects: [u32; LANES_MAX],
    /// For each group the hashes that the lanes had before it, as the kernel lays them out.
    before: [MaybeUninit<[u8; 64]>; GROUPS_MAX],
    /// The hash after the tile's last byte.
    last: u64,
}

/// Lanes of one width: what differs between the kernels.
pub(super) trait Lanes {
    /// Lanes of a vector, which is rows of a tile.
    const LANES: usize;
    /// Bytes of a group.
    const GROUP: usize;
    /// How many bytes the hash reaches back at this width.
    const WINDOW: usize;

    /// Scans a tile: `LANES` rows of equal length, one after the other. `before` is the hash before its first byte.
    /// Lanes in `loose` have the loose mask's limit, the others that of the strict one. Returns all suspects as one.
    fn scan(&self, tile: &[[u8; BLOCK]], before: u64, loose: u16, found: &mut Found) -> u16;

    /// The hash that `lane` had before `group`.
    fn before(found: &Found, group: usize, lane: usize) -> u64;
}

/// A kernel of such lanes, with the tiling and the last word that all widths share.
#[derive(Clone, Debug)]
pub(super) struct Tiles<L> {
    lanes: L,
    masks: Masks,
    scalar: Scalar,
}

impl<L: Lanes> Tiles<L> {
    /// The least tile: one block in every lane.
    const TILE_MIN: usize = L::LANES * BLOCK;
    const TILE_MAX: usize = L::LANES * L::GROUP * GROUPS_MAX;

    fn of(lanes: L, masks: Masks, table: &'static Table) -> Self {
        Self { lanes, masks, scalar: Scalar::new(masks, table) }
    }

    /// Calls `visit` with every stretch of `from..to` that may have a hit, loose ones only from `loose_from` on, and
    /// with the hash before its first byte. Stretches ascend and do not overlap. Ends early if `visit` breaks.
    ///
    /// `tile_len` gives the bytes that the tile should take whose first end offset it is told.
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
        let mut found =
            Found { suspects: [0; LANES_MAX], before: [const { MaybeUninit::uninit() }; GROUPS_MAX], last: 0 };
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
            let (tile, _) = data.get(first - 1..first - 1 + len).unwrap_or_default().as_chunks();
            let loose = lanes_reaching(loose_from, first, row);
            let all = self.lanes.scan(tile, hash, loose, &mut found);
            for lane in bits(all.into()) {
                for group in bits(found.suspects.get(lane).copied().unwrap_or(0)) {
                    let start = first + lane * row + group * L::GROUP;
                    let end = start + L::GROUP;
                    if end > wanted {
                        let mut before = L::before(&found, group, lane);
                        self.scalar.skip(&mut before, data, start, wanted.max(start));
                        visit(before, wanted.max(start), end)?;
                    }
                }
            }
            hash = found.last;
            first += len;
            wanted = wanted.max(first);
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

/// The numbers of the bits that are set, ascending.
#[inline]
fn bits(mut set: u32) -> impl Iterator<Item = usize> {
    std::iter::from_fn(move || {
        let lowest = (set != 0).then(|| set.trailing_zeros() as usize);
        set &= set.wrapping_sub(1);
        lowest
    })
}

/// How long a tile should be that looks for the first hit of a mask: longer ones scan more behind the hit for nothing,
/// shorter ones pay a tile's fixed price more often, about that of [`TILE_PRICE`] bytes. The sum is least at the
/// geometric mean of the price and twice the mean distance of hits.
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
        let strict_len = tile_len_for(self.masks.strict()).clamp(Self::TILE_MIN, Self::TILE_MAX);
        let loose_len = tile_len_for(self.masks.loose()).clamp(Self::TILE_MIN, Self::TILE_MAX);
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

/// The byte planes of a gear table: `0.[4 * p + q]` holds byte `p` of the entries `64 * q..64 * (q + 1)`.
#[derive(Clone, Debug)]
#[repr(align(64))]
struct Planes<const VECTORS: usize>([[u8; 64]; VECTORS]);

impl<const VECTORS: usize> Planes<VECTORS> {
    fn new(table: &Table) -> Arc<Self> {
        let mut planes = Self([[0; 64]; VECTORS]);
        for (vector, bytes) in planes.0.iter_mut().enumerate() {
            let entries = table.iter().skip(vector % 4 * 64);
            for (byte, entry) in bytes.iter_mut().zip(entries) {
                *byte = (entry >> (vector / 4 * 8)) as u8;
            }
        }
        Arc::new(planes)
    }
}

/// A column's bytes as table indices: looks up any plane.
struct Indices {
    bytes: __m512i,
    bit_6: __mmask64,
    bit_7: __mmask64,
}

impl Indices {
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw")]
    fn new(bytes: __m512i) -> Self {
        Self { bytes, bit_6: _mm512_test_epi8_mask(bytes, _mm512_set1_epi8(0x40)), bit_7: top_bits(bytes) }
    }

    /// `vpermb` takes the low six bits of an index; the other two choose among the quarters by merging over.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512vbmi")]
    fn look_up(&self, [q0, q1, q2, q3]: [&[u8; 64]; 4]) -> __m512i {
        let plane = _mm512_permutexvar_epi8(self.bytes, load(q0));
        let plane = _mm512_mask_permutexvar_epi8(plane, self.bit_6, self.bytes, load(q1));
        let plane = _mm512_mask_permutexvar_epi8(plane, self.bit_7, self.bytes, load(q2));
        _mm512_mask_permutexvar_epi8(plane, self.bit_7 & self.bit_6, self.bytes, load(q3))
    }
}

/// The top bit of every byte. What `_mm512_movepi8_mask` says; but the compiler turns that into comparisons, and those
/// need the port that permutes, which is the one that bounds the kernels.
#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
fn top_bits(bytes: __m512i) -> __mmask64 {
    let bits;
    // SAFETY: the instruction is in `avx512bw`, which the caller has; it touches the two registers and nothing else.
    unsafe {
        asm!("vpmovb2m {}, {}", out(kreg) bits, in(zmm_reg) bytes, options(pure, nomem, nostack, preserves_flags));
    }
    bits
}

#[inline]
#[target_feature(enable = "avx512f")]
fn load(bytes: &[u8; 64]) -> __m512i {
    // SAFETY: the reference promises 64 readable bytes; the instruction asks for no alignment.
    unsafe { _mm512_loadu_si512(bytes.as_ptr().cast()) }
}

#[inline]
#[target_feature(enable = "avx512f")]
fn store(bytes: &mut MaybeUninit<[u8; 64]>, vector: __m512i) {
    // SAFETY: the reference promises 64 writable bytes; the instruction asks for no alignment.
    unsafe { _mm512_storeu_si512(bytes.as_mut_ptr().cast(), vector) }
}

/// Of lanes by group, the groups that have this lane, a bit each.
#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
fn groups_of(lane: usize, lanes: &[u16; GROUPS_MAX]) -> u32 {
    // SAFETY: an array of 32 u16 is 64 readable bytes; the instruction asks for no alignment.
    let lanes = unsafe { _mm512_loadu_si512(lanes.as_ptr().cast()) };
    _mm512_test_epi16_mask(lanes, _mm512_set1_epi16(1 << lane))
}

/// A shuffle control for bytes: the same 16 indices in every 128-bit part.
#[inline]
#[target_feature(enable = "avx512f")]
fn shuffle_control(index: impl Fn(u8) -> u8) -> __m512i {
    let mut bytes = [0; 64];
    for (place, byte) in (0..64).zip(&mut bytes) {
        *byte = index(place % 16);
    }
    load(&bytes)
}
