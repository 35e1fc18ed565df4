//! Where do the gear hash's hits lie? The one question, answered by several kernels with the same answer.
//!
//! The gear hash of `data[..c]` is `h = (h << 1) + TABLE[byte]` on wrapping `u64`, begun at zero before `data[0]`.
//! Each step shifts one bit out, so from `c = 64` on only the last [`WINDOW`] bytes count. The end offset `c` is a
//! **hit** when the hash passes a mask, `hash & mask == 0`; the byte that completes the hash lies just before `c`.
//!
//! **Ranges** are half-open over end offsets, everywhere: `c` is tested if and only if `from <= c < to`, and `c` exists
//! for `1 <= c <= data.len()`. Parts of a range outside of that are empty, never an error. For `c < WINDOW` the window
//! is short (it begins at `data[0]`), so a caller that scans the middle of a file passes a slice that begins at least
//! [`WINDOW`] bytes before the first end offset it asks for.
//!
//! **Invariant:** every kernel reports exactly the hits of [`scalar`], which is the definition, for every slice, range,
//! mask and table. One suite in `tests.rs` holds all of them to it.
//!
//! | kernel | fits | how |
//! | --- | --- | --- |
//! | [`Kernel::Avx512`] | masks inside the low 32 bits | 16 lanes of 32 bits |
//! | | other masks | 8 lanes of 64 bits |
//! | [`Kernel::Gearhash`] | every mask | the `gearhash` crate: four lanes with AVX2, else SSE4.2 or NEON |
//! | [`Kernel::Scalar`] | every mask | a byte at a time |
//!
//! All of them take any table. [`Scanner::new`] takes the first of them that the CPU can run; `cargo bench --bench scan`
//! compares them.

#[cfg(target_arch = "x86_64")]
#[expect(unsafe_code, clippy::indexing_slicing, reason = "vector instructions over arrays of fixed length")]
mod avx512;
mod gear;
mod scalar;
#[cfg(test)]
mod tests;

use std::fmt;

use gear::Gear;
use scalar::Scalar;

/// How many bytes the gear hash reaches back: an end offset of at least this many has a full window.
pub const WINDOW: usize = 64;

/// The environment variable that forces a kernel.
pub const KERNEL_VARIABLE: &str = "SEAMSTORE_KERNEL";

/// A gear table: what each byte value adds to the hash.
pub type Table = [u64; 256];

/// Which masks a hit passes.
#[derive(Copy, Clone, PartialEq, Eq, Debug, PartialOrd, Ord, Hash)]
pub enum HitKind {
    /// Passes the strict mask, and so the loose one.
    Strict,
    /// Passes the loose mask only.
    Loose,
}

/// An end offset whose gear hash passes a mask.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub struct Hit {
    /// One past the byte that completed the hash.
    pub end: usize,
    /// The strictest mask it passes.
    pub kind: HitKind,
}

/// Two masks over the gear hash; a hash passes one when it has none of its bits.
///
/// The strict mask has every bit of the loose one, so a strict hit is always a loose hit. They are equal for chunking
/// that has no normal size.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub struct Masks {
    strict: u64,
    loose: u64,
}

/// Masks that no hash could be tested against as [`Masks`] promises.
#[derive(Copy, Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum BadMasks {
    /// A strict hit must be a loose hit.
    #[error("the strict mask {strict:#018x} lacks bits of the loose mask {loose:#018x}")]
    StrictLacksLoose {
        /// The strict mask given.
        strict: u64,
        /// The loose mask given.
        loose: u64,
    },
    /// An empty mask would make every position a hit.
    #[error("the loose mask is empty")]
    Empty,
}

impl Masks {
    /// Refuses a strict mask that lacks a bit of the loose one, and an empty loose mask.
    pub const fn new(strict: u64, loose: u64) -> Result<Self, BadMasks> {
        if loose == 0 {
            return Err(BadMasks::Empty);
        }
        if strict & loose != loose {
            return Err(BadMasks::StrictLacksLoose { strict, loose });
        }
        Ok(Self { strict, loose })
    }

    /// The mask with more bits.
    pub const fn strict(self) -> u64 {
        self.strict
    }

    /// The mask with fewer bits.
    pub const fn loose(self) -> u64 {
        self.loose
    }

    /// What kind of hit this hash is, if it is one.
    #[inline]
    pub const fn kind(self, hash: u64) -> Option<HitKind> {
        if hash & self.loose != 0 {
            None
        } else if hash & self.strict != 0 {
            Some(HitKind::Loose)
        } else {
            Some(HitKind::Strict)
        }
    }
}

/// The ways to scan. All report the same hits.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub enum Kernel {
    /// A byte at a time: the definition.
    Scalar,
    /// The `gearhash` crate.
    Gearhash,
    /// 16 or 8 lanes with AVX-512 VBMI.
    Avx512,
}

/// A forced kernel that cannot be had.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum KernelUnavailable {
    /// No kernel has this name.
    #[error("{KERNEL_VARIABLE} is {name:?}; a kernel is one of scalar, gearhash, avx512")]
    Unknown {
        /// The name asked for.
        name: String,
    },
    /// This machine cannot run it.
    #[error("this CPU cannot run the {kernel} kernel")]
    Cpu {
        /// The kernel asked for.
        kernel: Kernel,
    },
}

impl Kernel {
    /// Every kernel, slowest first.
    pub const ALL: [Self; 3] = [Self::Scalar, Self::Gearhash, Self::Avx512];

    /// Its name, as [`KERNEL_VARIABLE`] takes it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Scalar => "scalar",
            Self::Gearhash => "gearhash",
            Self::Avx512 => "avx512",
        }
    }

    /// The kernel that [`KERNEL_VARIABLE`] forces; `None` when it is unset or empty. An unknown name, and a kernel
    /// this CPU lacks, are errors.
    pub fn from_env() -> Result<Option<Self>, KernelUnavailable> {
        match std::env::var_os(KERNEL_VARIABLE) {
            None => Ok(None),
            Some(name) if name.is_empty() => Ok(None),
            Some(name) => Self::from_name(&name.to_string_lossy()).map(Some),
        }
    }

    fn from_name(name: &str) -> Result<Self, KernelUnavailable> {
        let kernel = Self::ALL
            .into_iter()
            .find(|kernel| kernel.name() == name)
            .ok_or_else(|| KernelUnavailable::Unknown { name: name.into() })?;
        if !kernel.is_available() {
            return Err(KernelUnavailable::Cpu { kernel });
        }
        Ok(kernel)
    }

    /// Whether this CPU can run it.
    pub fn is_available(self) -> bool {
        match self {
            Self::Scalar | Self::Gearhash => true,
            #[cfg(target_arch = "x86_64")]
            Self::Avx512 => avx512::Vbmi::new().is_some(),
            #[cfg(not(target_arch = "x86_64"))]
            Self::Avx512 => false,
        }
    }
}

impl fmt::Display for Kernel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// What a kernel does. Its callers have already cut the ranges to `1..=data.len()`.
trait Scan {
    /// Every hit of `from..to`, ascending.
    fn hits(&self, data: &[u8], from: usize, to: usize, on_hit: impl FnMut(Hit));

    /// The least strict hit of `strict_from..loose_from`, else the least loose hit of `loose_from..to`.
    /// `strict_from <= loose_from <= to`.
    fn first_cut(&self, data: &[u8], strict_from: usize, loose_from: usize, to: usize) -> Option<usize>;
}

/// Scans bytes for hits of two masks under one table.
#[derive(Clone, Debug)]
pub struct Scanner {
    engine: Engine,
}

#[derive(Clone, Debug)]
enum Engine {
    Scalar(Scalar),
    Gear(Gear),
    #[cfg(target_arch = "x86_64")]
    Lanes32(avx512::Tiles<avx512::Lanes32>),
    #[cfg(target_arch = "x86_64")]
    Lanes64(avx512::Tiles<avx512::Lanes64>),
}

impl Engine {
    #[cfg(target_arch = "x86_64")]
    fn avx512(masks: Masks, table: &'static Table) -> Option<Self> {
        let vbmi = avx512::Vbmi::new()?;
        let lanes_32 = avx512::Tiles::<avx512::Lanes32>::new(vbmi, masks, table).map(Self::Lanes32);
        Some(lanes_32.unwrap_or_else(|| Self::Lanes64(avx512::Tiles::<avx512::Lanes64>::new(vbmi, masks, table))))
    }

    #[cfg(not(target_arch = "x86_64"))]
    fn avx512(_: Masks, _: &'static Table) -> Option<Self> {
        None
    }
}

/// Calls one method of whichever engine it is; not a trait object, because `hits` is generic over its callback.
macro_rules! with_engine {
    ($engine:expr, $name:ident => $call:expr) => {
        match $engine {
            Engine::Scalar($name) => $call,
            Engine::Gear($name) => $call,
            #[cfg(target_arch = "x86_64")]
            Engine::Lanes32($name) => $call,
            #[cfg(target_arch = "x86_64")]
            Engine::Lanes64($name) => $call,
        }
    };
}

impl Scanner {
    /// The kernel that [`KERNEL_VARIABLE`] forces if it can be had, else the best of this CPU for these masks. A
    /// program that wants to report a bad value asks [`Kernel::from_env`] first.
    pub fn new(masks: Masks, table: &'static Table) -> Self {
        let forced = Kernel::from_env().ok().flatten();
        forced
            .and_then(|kernel| Self::with_kernel(masks, table, kernel).ok())
            .or_else(|| Self::with_kernel(masks, table, Kernel::Avx512).ok())
            .unwrap_or_else(|| Self { engine: Engine::Gear(Gear::new(masks, table)) })
    }

    /// Scans with this kernel and no other.
    pub fn with_kernel(masks: Masks, table: &'static Table, kernel: Kernel) -> Result<Self, KernelUnavailable> {
        let engine = match kernel {
            Kernel::Scalar => Some(Engine::Scalar(Scalar::new(masks, table))),
            Kernel::Gearhash => Some(Engine::Gear(Gear::new(masks, table))),
            Kernel::Avx512 => Engine::avx512(masks, table),
        };
        engine.map(|engine| Self { engine }).ok_or(KernelUnavailable::Cpu { kernel })
    }

    /// The kernel in use.
    #[cfg(any(test, feature = "internals"))]
    pub fn kernel(&self) -> Kernel {
        match &self.engine {
            Engine::Scalar(_) => Kernel::Scalar,
            Engine::Gear(_) => Kernel::Gearhash,
            #[cfg(target_arch = "x86_64")]
            Engine::Lanes32(_) | Engine::Lanes64(_) => Kernel::Avx512,
        }
    }

    /// Calls `on_hit` for every hit with `from <= end < to`, in ascending order. No two calls have the same end.
    pub fn hits(&self, data: &[u8], from: usize, to: usize, on_hit: impl FnMut(Hit)) {
        let (from, to) = (from.max(1), to.min(data.len().saturating_add(1)));
        if from < to {
            with_engine!(&self.engine, engine => engine.hits(data, from, to, on_hit));
        }
    }

    /// The least strict hit `c` with `from <= c < to`.
    pub fn first_strict(&self, data: &[u8], from: usize, to: usize) -> Option<usize> {
        self.first_cut(data, from, to, to)
    }

    /// The least hit of either kind with `from <= c < to`.
    pub fn first_loose(&self, data: &[u8], from: usize, to: usize) -> Option<usize> {
        self.first_cut(data, from, from, to)
    }

    /// The least `c` that is a strict hit with `strict_from <= c < loose_from`, or a hit of either kind with
    /// `loose_from <= c < to`: where a chunk ends whose minimum, normal and maximum ends these are, unless at its
    /// maximum or the end of the file. One pass over the bytes.
    pub fn first_cut(&self, data: &[u8], strict_from: usize, loose_from: usize, to: usize) -> Option<usize> {
        let strict_from = strict_from.max(1);
        let to = to.min(data.len().saturating_add(1));
        if strict_from >= to {
            return None;
        }
        let loose_from = loose_from.clamp(strict_from, to);
        with_engine!(&self.engine, engine => engine.first_cut(data, strict_from, loose_from, to))
    }
}
