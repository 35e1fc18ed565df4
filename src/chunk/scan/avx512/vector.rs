//! What do the lanes of all widths share? Loads and stores, the lookup, the scratch of a tile, and the proof of the CPU.

use std::arch::asm;
use std::arch::x86_64::*;
use std::mem::MaybeUninit;
use std::sync::Arc;

use crate::chunk::scan::Table;

/// Most groups of a row; tiles are no longer than this allows.
pub(super) const GROUPS_MAX: usize = 32;

/// Bytes of a row that are transposed at once.
pub(super) const STRIDE: usize = 32;

/// A proof that this CPU has every instruction set that a kernel here names. Only [`Vbmi::new`] makes one.
#[derive(Copy, Clone, Debug)]
pub(in crate::chunk::scan) struct Vbmi(());

impl Vbmi {
    pub(in crate::chunk::scan) fn new() -> Option<Self> {
        let all = is_x86_feature_detected!("avx512f")
            && is_x86_feature_detected!("avx512bw")
            && is_x86_feature_detected!("avx512vl")
            && is_x86_feature_detected!("avx512dq")
            && is_x86_feature_detected!("avx512vbmi")
            && is_x86_feature_detected!("avx512vbmi2");
        all.then_some(Self(()))
    }
}

/// What one tile showed, and its scratch.
pub(in crate::chunk::scan) struct TileHits {
    /// For each lane that is suspect the groups in which it is, a bit each; of other lanes it says nothing.
    pub(super) suspects: [u32; 16],
    /// The hash after the tile's last byte.
    pub(super) last: u64,
    /// For each group the hashes that the lanes had before it; not set from the start, for that takes its time.
    before: [MaybeUninit<[u8; 64]>; GROUPS_MAX],
    /// Which of them were set, a bit each.
    set: u32,
}

impl TileHits {
    #[inline]
    pub(super) fn new() -> Self {
        Self { suspects: [0; 16], last: 0, before: [const { MaybeUninit::uninit() }; GROUPS_MAX], set: 0 }
    }

    /// Keeps the hashes that the lanes have before a group.
    #[inline]
    #[target_feature(enable = "avx512f")]
    pub(super) fn keep(&mut self, group: usize, hashes: __m512i) {
        let before = &mut self.before[group];
        // SAFETY: the reference promises 64 writable bytes; the instruction asks for no alignment.
        unsafe { _mm512_storeu_si512(before.as_mut_ptr().cast(), hashes) };
        self.set |= 1 << group;
    }

    /// The hash that `lane`, of this many, had before `group`.
    #[inline]
    pub(super) fn before(&self, group: usize, lane: usize, lanes: usize) -> u64 {
        assert!(self.set >> group & 1 == 1);
        // SAFETY: `keep` alone sets this bit, after it wrote all bytes of the group's entry.
        let hashes = unsafe { self.before[group].assume_init_ref() };
        let len = hashes.len() / lanes;
        let mut hash = [0; 8];
        hash[..len].copy_from_slice(&hashes[lane * len..(lane + 1) * len]);
        u64::from_le_bytes(hash)
    }

    /// Turns the suspect lanes of each group into the suspect groups of each lane; returns the lanes that have any.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw")]
    pub(super) fn tell(&mut self, lanes_of: &[u16; GROUPS_MAX]) -> u16 {
        let all = lanes_of.iter().fold(0, |all, lanes| all | lanes);
        if all != 0 {
            // SAFETY: an array of 32 u16 is 64 readable bytes; the instruction asks for no alignment.
            let lanes_of = unsafe { _mm512_loadu_si512(lanes_of.as_ptr().cast()) };
            for lane in bits(all.into()) {
                self.suspects[lane] = _mm512_test_epi16_mask(lanes_of, _mm512_set1_epi16(1 << lane));
            }
        }
        all
    }
}

/// A tile as its rows: `LANES` of equal length, of which a kernel takes a stride at a time.
pub(super) struct Rows<'a, const LANES: usize> {
    tile: &'a [u8],
    pub(super) strides: usize,
}

impl<'a, const LANES: usize> Rows<'a, LANES> {
    #[inline]
    pub(super) fn new(tile: &'a [u8]) -> Self {
        let strides = tile.len() / (LANES * STRIDE);
        assert!(tile.len() == LANES * STRIDE * strides);
        Self { tile, strides }
    }

    /// A stride of a row. Asks for what lies there in the next tile, too.
    #[inline]
    #[target_feature(enable = "avx512f")]
    pub(super) fn part(&self, lane: usize, stride: usize) -> &'a [u8; STRIDE] {
        assert!(lane < LANES && stride < self.strides);
        let place = (lane * self.strides + stride) * STRIDE;
        // SAFETY: `new` made sure that the tile has `LANES * strides * STRIDE` bytes, and the place is of the stride
        // number `lane * strides + stride < LANES * strides`. (Slicing would say the same; but then the compiler does
        // not see that one check serves all lanes, and the kernels lose a third of their speed.)
        let part: &[u8; STRIDE] = unsafe { &*self.tile.as_ptr().add(place).cast() };
        if stride.is_multiple_of(64 / STRIDE) {
            _mm_prefetch::<_MM_HINT_T0>(part.as_ptr().wrapping_add(self.tile.len()).cast());
        }
        part
    }
}

/// The byte planes of a gear table: `0[4 * p + q]` holds byte `p` of the entries `64 * q..64 * (q + 1)`.
#[derive(Clone, Debug)]
#[repr(align(64))]
pub(super) struct Planes<const VECTORS: usize>([[u8; 64]; VECTORS]);

impl<const VECTORS: usize> Planes<VECTORS> {
    pub(super) fn new(table: &Table) -> Arc<Self> {
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
pub(super) struct Indices {
    bytes: __m512i,
    bit_6: __mmask64,
    bit_7: __mmask64,
}

impl Indices {
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw")]
    pub(super) fn new(bytes: __m512i) -> Self {
        Self { bytes, bit_6: _mm512_test_epi8_mask(bytes, _mm512_set1_epi8(0x40)), bit_7: top_bits(bytes) }
    }

    /// `vpermb` takes the low six bits of an index; the other two choose among the quarters by merging over.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512vbmi")]
    pub(super) fn look_up<const VECTORS: usize>(&self, Planes(planes): &Planes<VECTORS>, plane: usize) -> __m512i {
        let first = 4 * plane;
        let values = _mm512_permutexvar_epi8(self.bytes, load(&planes[first]));
        let values = _mm512_mask_permutexvar_epi8(values, self.bit_6, self.bytes, load(&planes[first + 1]));
        let values = _mm512_mask_permutexvar_epi8(values, self.bit_7, self.bytes, load(&planes[first + 2]));
        _mm512_mask_permutexvar_epi8(values, self.bit_7 & self.bit_6, self.bytes, load(&planes[first + 3]))
    }
}

/// The top bit of every byte. What `_mm512_movepi8_mask` says; but from that the compiler sees that both index bits set
/// is one comparison, and comparisons need the port that permutes, where joining two masks does not.
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

/// The bits of `b` where `odd` has ones, those of `a` elsewhere.
#[inline]
#[target_feature(enable = "avx512f")]
pub(super) fn choose(odd: __m512i, b: __m512i, a: __m512i) -> __m512i {
    // Not a blend by mask register: there are too few of them.
    _mm512_ternarylogic_epi32::<0xCA>(odd, b, a)
}

#[inline]
#[target_feature(enable = "avx512f")]
pub(super) fn load(bytes: &[u8; 64]) -> __m512i {
    // SAFETY: the reference promises 64 readable bytes; the instruction asks for no alignment.
    unsafe { _mm512_loadu_si512(bytes.as_ptr().cast()) }
}

/// Half a vector from each.
#[inline]
#[target_feature(enable = "avx512f")]
pub(super) fn load_halves(low: &[u8; STRIDE], high: &[u8; STRIDE]) -> __m512i {
    // SAFETY: the references promise 32 readable bytes each; the instructions ask for no alignment.
    let (low, high) = unsafe { (_mm256_loadu_si256(low.as_ptr().cast()), _mm256_loadu_si256(high.as_ptr().cast())) };
    _mm512_inserti64x4::<1>(_mm512_castsi256_si512(low), high)
}

/// A shuffle control for bytes: the same 16 indices in every 128-bit part.
#[inline]
#[target_feature(enable = "avx512f")]
pub(super) fn shuffle_control(index: impl Fn(u8) -> u8) -> __m512i {
    let mut bytes = [0; 64];
    for (place, byte) in (0..64).zip(&mut bytes) {
        *byte = index(place % 16);
    }
    load(&bytes)
}

/// The numbers of the bits that are set, ascending.
#[inline]
pub(super) fn bits(mut set: u32) -> impl Iterator<Item = usize> {
    std::iter::from_fn(move || {
        let lowest = (set != 0).then(|| set.trailing_zeros() as usize);
        set &= set.wrapping_sub(1);
        lowest
    })
}
