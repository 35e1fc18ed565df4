//! With which parameters is a file chunked? A profile: sizes, masks and table under one name.
//!
//! A profile is part of a store's identity: its [name](Profile::name) stands in `store.json`, and two profiles with the
//! same name give the same cuts in every version of this format.
//!
//! **Invariants:** `64 <= min <= normal <= max <= `[`CHUNK_BYTES_MAX`]; both masks have a bit. So every tested window of a
//! gear profile lies inside its chunk, and no chunk breaks the bound that readers of a store rely on.

use std::fmt;
use std::str::FromStr;

use fastcdc::v2020::{self, Normalization};

use super::scan::{Table, WINDOW};
use crate::format::CHUNK_BYTES_MAX;

/// The three lengths of the rule, in bytes: `min <= normal <= max`, `1 <= min`.
///
/// On their own they serve the parts of the rule that speak of hits and not of bytes, with tiny numbers in tests.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Sizes {
    min: u32,
    normal: u32,
    max: u32,
}

impl Sizes {
    /// `None` unless `1 <= min <= normal <= max`.
    #[must_use]
    pub const fn new(min: u32, normal: u32, max: u32) -> Option<Self> {
        if 1 <= min && min <= normal && normal <= max { Some(Self { min, normal, max }) } else { None }
    }

    /// No chunk but the last is shorter.
    #[must_use]
    pub const fn min(self) -> u64 {
        self.min as u64
    }

    /// From this length on a loose hit ends a chunk; a strict hit does so from the minimum on.
    #[must_use]
    pub const fn normal(self) -> u64 {
        self.normal as u64
    }

    /// No chunk is longer.
    #[must_use]
    pub const fn max(self) -> u64 {
        self.max as u64
    }
}

/// When the hash begins, and which byte a hit belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Warmth {
    /// Every tested window is full; the byte that completes a hit is the chunk's last. A hit is a matter of the bytes
    /// alone.
    Full,
    /// As the `fastcdc` crate does it: the hash begins at zero at the chunk's minimum, and the byte that completes a hit
    /// is the next chunk's first. The first [`WINDOW`]` - 1` tested positions depend on where the chunk began.
    Restarting,
}

/// A validated chunking rule.
///
/// ```
/// use seamstore::chunk::Profile;
/// let profile: Profile = "gear-65536".parse()?;
/// assert_eq!(profile, Profile::gear_with_average(65_536)?);
/// assert_eq!((profile.min_bytes(), profile.max_bytes()), (32 << 10, 256 << 10));
/// # Ok::<(), seamstore::chunk::BadProfile>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Profile {
    family: Family,
    sizes: Sizes,
    strict: u64,
    loose: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Family {
    Gear { average: u32 },
    Xet,
    FastCdc { level: u8 },
}

/// The average of the `default` profile.
const GEAR_AVERAGE: u32 = 16 << 10;

/// Parameters, or a name, that make no profile.
///
/// ```
/// use seamstore::chunk::{BadProfile, Profile};
/// assert_eq!(Profile::gear_with_average(5000), Err(BadProfile::GearAverage(5000)));
/// ```
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BadProfile {
    /// The average of a gear profile.
    #[error("the average chunk must be a power of two from 4096 to 1048576 bytes, not {0}")]
    GearAverage(u32),
    /// A size of a fastcdc profile.
    #[error("the {what} of a fastcdc profile must be an even number from {least} to {most} bytes, not {found}")]
    FastCdcSize {
        /// Which one.
        what: &'static str,
        /// The least that is allowed.
        least: u32,
        /// The most that is allowed.
        most: u32,
        /// What was given.
        found: u32,
    },
    /// The sizes of a fastcdc profile are out of order.
    #[error("a fastcdc profile needs minimum <= average <= maximum, not {min}, {average}, {max}")]
    FastCdcOrder {
        /// The minimum given.
        min: u32,
        /// The average given.
        average: u32,
        /// The maximum given.
        max: u32,
    },
    /// The level of a fastcdc profile.
    #[error("the level of a fastcdc profile is 0, 1, 2 or 3, not {0}")]
    FastCdcLevel(u8),
    /// No profile has this name.
    #[error(
        "no chunking profile is named {0:?}; there are default, gear-AVERAGE, xet, fastcdc-AVERAGE-LEVEL \
         and fastcdc-MIN-AVERAGE-MAX-LEVEL"
    )]
    Name(String),
}

impl Default for Profile {
    /// Chunks of 16 KiB on average: 8, 14, 64 KiB; strict hits need 15 bits, loose ones 11.
    fn default() -> Self {
        Self::gear(GEAR_AVERAGE)
    }
}

impl Profile {
    /// The default profile scaled to another average: all sizes in proportion, one mask bit more per doubling.
    ///
    /// # Errors
    /// [`BadProfile::GearAverage`] unless `average` is a power of two from 4 KiB to 1 MiB.
    pub fn gear_with_average(average: u32) -> Result<Self, BadProfile> {
        if average.is_power_of_two() && (4 << 10..=1 << 20).contains(&average) {
            Ok(Self::gear(average))
        } else {
            Err(BadProfile::GearAverage(average))
        }
    }

    /// `average` is a power of two from 4 KiB to 1 MiB.
    const fn gear(average: u32) -> Self {
        // 12 for 4 KiB, 20 for 1 MiB. Both masks end at bit 31: a 32-byte window that fits 32-bit lanes.
        let doublings = average.trailing_zeros();
        Self {
            family: Family::Gear { average },
            sizes: Sizes { min: average / 2, normal: average / 8 * 7, max: average * 4 },
            strict: bits_below_32(doublings + 1),
            loose: bits_below_32(doublings - 3),
        }
    }

    /// The chunks of Hugging Face Xet: 8 KiB to 128 KiB, 64 KiB on average, the top 16 bits of the hash.
    #[must_use]
    pub const fn xet() -> Self {
        const TOP_16: u64 = 0xFFFF << 48;
        let sizes = Sizes { min: 8 << 10, normal: 8 << 10, max: 128 << 10 };
        Self { family: Family::Xet, sizes, strict: TOP_16, loose: TOP_16 }
    }

    /// The chunks of the `fastcdc` crate, `v2020`, with no seed, at normalization level 0 to 3.
    ///
    /// # Errors
    /// [`BadProfile`] where the crate has no meaning for the parameters: each size within the crate's bounds and even
    /// (it tests positions in pairs), in order, and the maximum at most 4 MiB, this format's bound.
    pub fn fastcdc(min: u32, average: u32, max: u32, level: u8) -> Result<Self, BadProfile> {
        let even_within = |what, found: u32, least: usize, most: usize| {
            let (least, most) = (least as u32, most as u32);
            if found.is_multiple_of(2) && (least..=most).contains(&found) {
                Ok(())
            } else {
                Err(BadProfile::FastCdcSize { what, least, most, found })
            }
        };
        even_within("minimum", min, v2020::MINIMUM_MIN, v2020::MINIMUM_MAX)?;
        even_within("average", average, v2020::AVERAGE_MIN, v2020::AVERAGE_MAX)?;
        even_within("maximum", max, v2020::MAXIMUM_MIN, v2020::MAXIMUM_MAX.min(CHUNK_BYTES_MAX))?;
        let sizes = Sizes::new(min, average, max).ok_or(BadProfile::FastCdcOrder { min, average, max })?;
        let normalization = match level {
            0 => Normalization::Level0,
            1 => Normalization::Level1,
            2 => Normalization::Level2,
            3 => Normalization::Level3,
            _ => return Err(BadProfile::FastCdcLevel(level)),
        };
        let (strict, loose) = v2020::select_masks(average as usize, normalization);
        Ok(Self { family: Family::FastCdc { level }, sizes, strict, loose })
    }

    /// [`fastcdc`](Self::fastcdc) with a quarter of the average as minimum and four times the average as maximum.
    ///
    /// # Errors
    /// As [`fastcdc`](Self::fastcdc).
    pub fn fastcdc_with_average(average: u32, level: u8) -> Result<Self, BadProfile> {
        Self::fastcdc(average / 4, average, average.saturating_mul(4), level)
    }

    /// The three lengths.
    #[must_use]
    pub(crate) const fn sizes(&self) -> Sizes {
        self.sizes
    }

    /// No chunk but a file's last is shorter; in bytes, at least 64.
    #[must_use]
    pub const fn min_bytes(&self) -> usize {
        self.sizes.min as usize
    }

    /// From this length on loose hits end a chunk; in bytes.
    #[must_use]
    pub(crate) const fn normal_bytes(&self) -> usize {
        self.sizes.normal as usize
    }

    /// No chunk is longer; in bytes, at most 4 MiB.
    #[must_use]
    pub const fn max_bytes(&self) -> usize {
        self.sizes.max as usize
    }

    /// About the mean length of chunks of random data, in bytes: the number in the profile's name.
    #[must_use]
    pub const fn average_bytes(&self) -> usize {
        match self.family {
            Family::Gear { average } => average as usize,
            Family::Xet => 64 << 10,
            Family::FastCdc { .. } => self.sizes.normal as usize,
        }
    }

    /// A strict hit has none of these bits. For some fastcdc profiles this is no superset of the loose mask.
    #[must_use]
    pub const fn strict_mask(&self) -> u64 {
        self.strict
    }

    /// A loose hit has none of these bits.
    #[must_use]
    pub const fn loose_mask(&self) -> u64 {
        self.loose
    }

    /// When the hash begins, and which byte a hit belongs to.
    #[must_use]
    pub(crate) const fn warmth(&self) -> Warmth {
        match self.family {
            Family::Gear { .. } | Family::Xet => Warmth::Full,
            Family::FastCdc { .. } => Warmth::Restarting,
        }
    }

    /// What each byte adds to the hash.
    #[must_use]
    pub(crate) fn table(&self) -> &'static Table {
        match self.family {
            Family::Gear { .. } | Family::Xet => &gearhash::DEFAULT_TABLE,
            Family::FastCdc { .. } => fastcdc_table(),
        }
    }

    /// The profile in words, as `store.json` and the command line have it: `default`, `gear-65536`, `xet`,
    /// `fastcdc-16384-2`, or `fastcdc-MIN-AVERAGE-MAX-LEVEL` where minimum and maximum are not the usual ones.
    /// [`FromStr`] reads it back.
    #[must_use]
    pub fn name(&self) -> String {
        self.to_string()
    }

    /// One of each kind: what tests, benches and the checker go through.
    #[must_use]
    pub(crate) fn samples() -> Vec<Self> {
        let names = [
            "default",
            "gear-4096",
            "gear-65536",
            "gear-1048576",
            "xet",
            "fastcdc-16384-0",
            "fastcdc-16384-1",
            "fastcdc-16384-2",
            "fastcdc-16384-3",
            "fastcdc-64-256-1024-1",
            "fastcdc-2048-32768-65536-1",
        ];
        names.iter().filter_map(|name| name.parse().ok()).collect()
    }
}

/// `count` bits, the highest of them bit 31.
const fn bits_below_32(count: u32) -> u64 {
    (u32::MAX << (32 - count)) as u64
}

/// The crate's own table. It lends out a slice of 256 for seed 0; were it ever to lend another length, the empty table
/// that stands in would fail every test of equality with the crate.
fn fastcdc_table() -> &'static Table {
    use std::borrow::Cow;
    static NONE: Table = [0; 256];
    match v2020::get_gear_with_seed(0).0 {
        Cow::Borrowed(table) => table.try_into().unwrap_or(&NONE),
        Cow::Owned(_) => &NONE,
    }
}

impl fmt::Display for Profile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Sizes { min, normal, max } = self.sizes;
        match self.family {
            Family::Gear { average: GEAR_AVERAGE } => f.write_str("default"),
            Family::Gear { average } => write!(f, "gear-{average}"),
            Family::Xet => f.write_str("xet"),
            Family::FastCdc { level } if Self::fastcdc_with_average(normal, level).as_ref() == Ok(self) => {
                write!(f, "fastcdc-{normal}-{level}")
            }
            Family::FastCdc { level } => write!(f, "fastcdc-{min}-{normal}-{max}-{level}"),
        }
    }
}

impl FromStr for Profile {
    type Err = BadProfile;

    fn from_str(name: &str) -> Result<Self, BadProfile> {
        let stranger = || BadProfile::Name(name.to_owned());
        let (family, rest) = name.split_once('-').unwrap_or((name, ""));
        let numbers = match rest {
            "" => Vec::new(),
            rest => rest.split('-').map(str::parse).collect::<Result<Vec<u32>, _>>().map_err(|_| stranger())?,
        };
        let level = |level: u32| u8::try_from(level).unwrap_or(u8::MAX);
        let profile = match (family, numbers.as_slice()) {
            ("default", []) => Self::default(),
            ("gear", &[average]) => Self::gear_with_average(average)?,
            ("xet", []) => Self::xet(),
            ("fastcdc", &[average, l]) => Self::fastcdc_with_average(average, level(l))?,
            ("fastcdc", &[min, average, max, l]) => Self::fastcdc(min, average, max, level(l))?,
            _ => return Err(stranger()),
        };
        // `default-` and `gear-+4096` parse as well, but a profile's name in a store is spelt one way or refused.
        let spelt = name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-') && !name.ends_with('-');
        if spelt { Ok(profile) } else { Err(stranger()) }
    }
}

const _: () = assert!(WINDOW as u32 <= Profile::gear(4 << 10).sizes.min && WINDOW <= v2020::MINIMUM_MIN);

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn the_default_profile_is_the_documented_one() {
        let profile = Profile::default();
        assert_eq!((profile.min_bytes(), profile.normal_bytes(), profile.max_bytes()), (8 << 10, 14 << 10, 64 << 10));
        let bits = |range: std::ops::RangeInclusive<u32>| range.map(|bit| 1u64 << bit).sum::<u64>();
        assert_eq!(profile.strict_mask(), bits(17..=31));
        assert_eq!(profile.loose_mask(), bits(21..=31));
    }

    #[test]
    fn a_doubling_of_the_average_adds_a_bit_to_each_mask_and_keeps_the_proportions() {
        for log2 in 12..=20 {
            let profile = Profile::gear_with_average(1 << log2).unwrap();
            assert_eq!(profile.strict_mask().count_ones(), log2 + 1);
            assert_eq!(profile.loose_mask().count_ones(), log2 - 3);
            assert_eq!(profile.min_bytes() * 8, profile.max_bytes());
            assert_eq!(profile.normal_bytes() * 32, profile.max_bytes() * 7);
            assert!(profile.max_bytes() <= CHUNK_BYTES_MAX);
        }
    }

    #[test]
    fn every_name_reads_back_and_strangers_do_not() {
        assert_eq!(Profile::samples().len(), 11);
        for profile in Profile::samples() {
            assert_eq!(profile.name().parse(), Ok(profile));
        }
        assert_eq!("gear-16384".parse(), Ok(Profile::default()));
        assert_eq!("fastcdc-4096-16384-65536-2".parse::<Profile>().unwrap().name(), "fastcdc-16384-2");
        for stranger in [
            "",
            "Default",
            "default-",
            "default-1",
            "gear",
            "gear-",
            "gear-+4096",
            "gear-5000",
            "gear-2048",
            "gear-2097152",
            "xet-1",
            "fastcdc",
            "fastcdc-16384",
            "fastcdc-16384-4",
            "fastcdc-16384-256",
            "fastcdc-65-256-1024-1",
            "fastcdc-512-256-1024-1",
            "fastcdc-62-256-1024-1",
            "fastcdc-2097152-1",
            "fastcdc-64-256-1024-1-1",
            " xet",
        ] {
            assert!(stranger.parse::<Profile>().is_err(), "{stranger:?}");
        }
    }

    #[test]
    fn the_fastcdc_table_is_the_crates() {
        assert_eq!(fastcdc_table()[0], 0x3b5d_3c7d_207e_37dc);
        assert_eq!(fastcdc_table()[255], 0xaabd_2b2a_4515_04e1);
    }
}
