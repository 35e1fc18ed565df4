//! A store in one file: how do its objects lie there one behind the other, and how are they found again?
//!
//! ```text
//! offset  size  field
//!      0    64  header
//!     64     …  records: each a head (64), its bytes, zeros up to a multiple of 64
//!      …   128  footer, behind each index
//! ```
//! A *generation* is what one export wrote: objects, then an index of all objects there are by then, then a footer that
//! says where the index is. An export into a bundle that is there appends a generation; nothing that is there is changed.
//!
//! Numbers are little-endian. The header:
//!
//! ```text
//!      0     8  magic: F5 "seambn" 0A
//!      8     4  format version
//!     12     4  zero
//!     16    16  bundle id: random
//!     32    16  checksum of the 32 bytes before
//!     48    16  zero
//! ```
//!
//! A head, at byte h of the file:
//!
//! ```text
//!      0     4  magic: F5 "SB" 31
//!      4     4  kind: 0 store.json, 1 pack, 2 recipes file, 3 snapshot, 4 index
//!      8     8  bytes b of the record, without head and zeros
//!     16    32  id of the object; zeros for store.json; of an index the BLAKE3 of its bytes
//!     48    16  checksum of the bundle id (16), h (8) and the 48 bytes before
//! ```
//!
//! The footer, at byte f of the file:
//!
//! ```text
//!      0    16  bundle id
//!     16     8  generation: 1 for the first
//!     24     8  where the head of the index begins
//!     32     8  bytes of the index; the record it is ends at f
//!     40    32  BLAKE3 of the index
//!     72     8  objects in the index
//!     80     8  f
//!     88     4  format version
//!     92     4  zero
//!     96    16  checksum of the 96 bytes before
//!    112     8  zero
//!    120     8  magic: "seambnd" F5
//! ```
//!
//! Heads and footers are bound to their bundle and their place in it, so none that lies in the bytes of an object is taken
//! for one, be it a bundle that was added to the store. Records are a multiple of 64 bytes apart: an Arrow file in the
//! bundle can be mapped where it is.

use super::FORMAT_VERSION;
use super::bytes::{array_at, u32_at, u64_at};
use super::id::{PackId, RecipesFileId, SnapshotId, checksum};
use super::name::ObjectName;
use super::parse_error::ParseError;

/// Bytes of a bundle before its first record.
pub const BUNDLE_HEADER_BYTES: u64 = 64;
/// Bytes of a record's head.
pub const HEAD_BYTES: u64 = 64;
/// Bytes of a footer.
pub const FOOTER_BYTES: u64 = 128;
/// Everything begins at a multiple of this.
const ALIGNMENT: u64 = 64;
/// No index is longer, in bytes: some ten million objects.
pub const INDEX_BYTES_MAX: u64 = 1 << 30;

const HEADER_MAGIC: [u8; 8] = *b"\xf5seambn\n";
const HEAD_MAGIC: [u8; 4] = *b"\xf5SB1";
const FOOTER_MAGIC: [u8; 8] = *b"seambnd\xf5";

/// A bundle's random name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BundleId(pub [u8; 16]);

/// The first multiple of the alignment at or after an offset; `None` past the end of all numbers.
#[must_use]
pub fn aligned(offset: u64) -> Option<u64> {
    offset.checked_next_multiple_of(ALIGNMENT)
}

/// Whether a file that begins so means to be a bundle, damaged or not.
#[must_use]
pub fn has_magic(bytes: &[u8]) -> bool {
    array_at(bytes, 0) == Some(HEADER_MAGIC)
}

/// How a bundle begins.
#[must_use]
pub fn header(id: BundleId) -> [u8; BUNDLE_HEADER_BYTES as usize] {
    let mut bytes = [0; BUNDLE_HEADER_BYTES as usize];
    bytes[..8].copy_from_slice(&HEADER_MAGIC);
    bytes[8..12].copy_from_slice(&FORMAT_VERSION.to_le_bytes());
    bytes[16..32].copy_from_slice(&id.0);
    let sum = checksum(&[&bytes[..32]]);
    bytes[32..48].copy_from_slice(&sum);
    bytes
}

/// Reads the front of a bundle.
///
/// # Errors
/// Any bytes that [`header`] does not make.
pub fn parse_header(bytes: &[u8]) -> Result<BundleId, ParseError> {
    let id = array_at(bytes, 16).map(BundleId);
    match (id, bytes.get(..BUNDLE_HEADER_BYTES as usize)) {
        (Some(id), Some(found)) => {
            let expected = header(id);
            match expected.iter().zip(found).position(|(a, b)| a != b) {
                None => Ok(id),
                Some(at) => Err(ParseError::new(at, "expected the header of a bundle, found other bytes")),
            }
        }
        _ => Err(ParseError::new(bytes.len(), format!("expected 64 bytes of header, found {}", bytes.len()))),
    }
}

/// What a record is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Record {
    /// An object of the store.
    Object(ObjectName),
    /// A list of objects, with the BLAKE3 of its bytes.
    Index([u8; 32]),
}

/// What stands before a record's bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Head {
    /// What it is.
    pub record: Record,
    /// How many bytes it has.
    pub bytes: u64,
}

impl Head {
    /// The head at a byte of a bundle. The caller has no pending-delete list: that is of no use in a bundle.
    #[must_use]
    pub fn encode(&self, bundle: BundleId, at: u64) -> [u8; HEAD_BYTES as usize] {
        let (kind, id): (u32, [u8; 32]) = match self.record {
            Record::Object(ObjectName::Config) => (0, [0; 32]),
            Record::Object(ObjectName::Pack(id)) => (1, id.0),
            Record::Object(ObjectName::Recipes(id)) => (2, id.0),
            Record::Object(ObjectName::Snapshot(id)) => (3, id.0),
            Record::Index(hash) => (4, hash),
            Record::Object(ObjectName::PendingDeletes(id)) => (u32::MAX, id.0),
        };
        let mut bytes = [0; HEAD_BYTES as usize];
        bytes[..4].copy_from_slice(&HEAD_MAGIC);
        bytes[4..8].copy_from_slice(&kind.to_le_bytes());
        bytes[8..16].copy_from_slice(&self.bytes.to_le_bytes());
        bytes[16..48].copy_from_slice(&id);
        let sum = checksum(&[&bundle.0, &at.to_le_bytes(), &bytes[..48]]);
        bytes[48..].copy_from_slice(&sum);
        bytes
    }

    /// Reads the head at a byte of a bundle.
    ///
    /// # Errors
    /// Any bytes that are no head there.
    pub fn parse(bytes: &[u8], bundle: BundleId, at: u64) -> Result<Self, ParseError> {
        let none = |what: &str| ParseError::new(0, format!("expected the head of a record, found {what}"));
        let cut_off = || none("the end of the file");
        let front = bytes.get(..48).ok_or_else(cut_off)?;
        if array_at(front, 0) != Some(HEAD_MAGIC) {
            return Err(none("other bytes"));
        }
        let sum: [u8; 16] = array_at(bytes, 48).ok_or_else(cut_off)?;
        if sum != checksum(&[&bundle.0, &at.to_le_bytes(), front]) {
            return Err(none("one with a wrong checksum"));
        }
        let kind = u32_at(bytes, 4).ok_or_else(cut_off)?;
        let length = u64_at(bytes, 8).ok_or_else(cut_off)?;
        let id: [u8; 32] = array_at(bytes, 16).ok_or_else(cut_off)?;
        let record = match kind {
            0 if id == [0; 32] => Record::Object(ObjectName::Config),
            1 => Record::Object(ObjectName::Pack(PackId(id))),
            2 => Record::Object(ObjectName::Recipes(RecipesFileId(id))),
            3 => Record::Object(ObjectName::Snapshot(SnapshotId(id))),
            4 if length <= INDEX_BYTES_MAX => Record::Index(id),
            _ => return Err(none(&format!("one of kind {kind} with {length} bytes"))),
        };
        Ok(Self { record, bytes: length })
    }
}

/// Where an object's bytes are in a bundle.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ObjectPlace {
    /// The object.
    pub name: ObjectName,
    /// Where its first byte is in the file.
    pub offset: u64,
    /// Its bytes.
    pub bytes: u64,
    /// Their BLAKE3; `None` where the index is damaged and only heads are known.
    pub hash: Option<[u8; 32]>,
}

impl ObjectPlace {
    /// Where the next record begins. Of one that lies within a file there always is such a place.
    #[must_use]
    pub fn end(&self) -> u64 {
        self.offset.checked_add(self.bytes).and_then(aligned).unwrap_or(u64::MAX)
    }
}

/// The end of a generation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Footer {
    /// The bundle it is of.
    pub bundle: BundleId,
    /// How many generations there are with this one.
    pub generation: u64,
    /// Where the head of the index begins.
    pub index_at: u64,
    /// Bytes of the index.
    pub index_bytes: u64,
    /// Their BLAKE3.
    pub index_hash: [u8; 32],
    /// How many objects are in it.
    pub objects: u64,
}

impl Footer {
    /// The footer at a byte of its bundle.
    #[must_use]
    pub fn encode(&self, at: u64) -> [u8; FOOTER_BYTES as usize] {
        let mut bytes = [0; FOOTER_BYTES as usize];
        bytes[..16].copy_from_slice(&self.bundle.0);
        bytes[16..24].copy_from_slice(&self.generation.to_le_bytes());
        bytes[24..32].copy_from_slice(&self.index_at.to_le_bytes());
        bytes[32..40].copy_from_slice(&self.index_bytes.to_le_bytes());
        bytes[40..72].copy_from_slice(&self.index_hash);
        bytes[72..80].copy_from_slice(&self.objects.to_le_bytes());
        bytes[80..88].copy_from_slice(&at.to_le_bytes());
        bytes[88..92].copy_from_slice(&FORMAT_VERSION.to_le_bytes());
        let sum = checksum(&[&bytes[..96]]);
        bytes[96..112].copy_from_slice(&sum);
        bytes[120..].copy_from_slice(&FOOTER_MAGIC);
        bytes
    }

    /// Reads the footer at a byte of a bundle. The index it tells of is a record that ends there.
    ///
    /// # Errors
    /// Any bytes that are no footer there.
    pub fn parse(bytes: &[u8], at: u64) -> Result<Self, ParseError> {
        let none = |what: &str| ParseError::new(0, format!("expected a footer, found {what}"));
        let cut_off = || none("the end of the file");
        let number = |offset| u64_at(bytes, offset).ok_or_else(cut_off);
        if array_at(bytes, 120) != Some(FOOTER_MAGIC) {
            return Err(none("other bytes"));
        }
        let footer = Self {
            bundle: BundleId(array_at(bytes, 0).ok_or_else(cut_off)?),
            generation: number(16)?,
            index_at: number(24)?,
            index_bytes: number(32)?,
            index_hash: array_at(bytes, 40).ok_or_else(cut_off)?,
            objects: number(72)?,
        };
        // One spelling only: all bytes but those of the fields follow from them.
        if bytes.get(..FOOTER_BYTES as usize) != Some(&footer.encode(at)) {
            return Err(none("one with a wrong checksum, of another version, or of another place"));
        }
        let end = footer.index_at.checked_add(HEAD_BYTES).and_then(|start| start.checked_add(footer.index_bytes));
        let fits = end.and_then(aligned) == Some(at)
            && footer.index_at >= BUNDLE_HEADER_BYTES
            && footer.index_at.is_multiple_of(ALIGNMENT)
            && footer.index_bytes <= INDEX_BYTES_MAX;
        if !fits {
            let what = format!("one of an index of {} bytes at {}, not before it", footer.index_bytes, footer.index_at);
            return Err(none(&what));
        }
        Ok(footer)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing)]
    use super::*;

    const BUNDLE: BundleId = BundleId([7; 16]);

    fn footer() -> Footer {
        Footer { bundle: BUNDLE, generation: 3, index_at: 640, index_bytes: 100, index_hash: [9; 32], objects: 5 }
    }

    #[test]
    fn reads_what_it_wrote() {
        assert_eq!(parse_header(&header(BUNDLE)), Ok(BUNDLE));
        let records = [
            Record::Object(ObjectName::Config),
            Record::Object(ObjectName::Pack(PackId([1; 32]))),
            Record::Object(ObjectName::Recipes(RecipesFileId([2; 32]))),
            Record::Object(ObjectName::Snapshot(SnapshotId([3; 32]))),
            Record::Index([4; 32]),
        ];
        for record in records {
            let head = Head { record, bytes: 1000 };
            assert_eq!(Head::parse(&head.encode(BUNDLE, 64), BUNDLE, 64), Ok(head));
        }
        assert_eq!(Footer::parse(&footer().encode(832), 832), Ok(footer()));
    }

    #[test]
    fn every_flipped_bit_and_every_missing_byte_is_noticed() {
        let head = Head { record: Record::Object(ObjectName::Pack(PackId([1; 32]))), bytes: 1000 };
        let (head, front, footer) = (head.encode(BUNDLE, 64), header(BUNDLE), footer().encode(832));
        type Parses<'a> = &'a dyn Fn(&[u8]) -> bool;
        let parsers: [(&[u8], Parses<'_>); 3] = [
            (&front, &|bytes| parse_header(bytes).is_ok()),
            (&head, &|bytes| Head::parse(bytes, BUNDLE, 64).is_ok()),
            (&footer, &|bytes| Footer::parse(bytes, 832).is_ok()),
        ];
        for (bytes, parses) in parsers {
            assert!(parses(bytes));
            for end in 0..bytes.len() {
                assert!(!parses(&bytes[..end]), "{end} bytes");
            }
            for bit in 0..bytes.len() * 8 {
                let mut flipped = bytes.to_vec();
                flipped[bit / 8] ^= 1 << (bit % 8);
                assert!(!parses(&flipped), "bit {bit}");
            }
        }
    }

    #[test]
    fn what_is_of_another_bundle_or_place_is_nothing() {
        let head = Head { record: Record::Object(ObjectName::Config), bytes: 10 };
        assert!(Head::parse(&head.encode(BUNDLE, 64), BUNDLE, 128).is_err());
        assert!(Head::parse(&head.encode(BUNDLE, 64), BundleId([8; 16]), 64).is_err());
        assert!(Footer::parse(&footer().encode(832), 896).is_err());
        // An index that does not end where the footer begins, or is longer than any.
        for forged in [
            Footer { index_at: 576, ..footer() },
            Footer { index_bytes: 10, ..footer() },
            Footer { index_at: u64::MAX - 10, ..footer() },
            Footer { index_bytes: u64::MAX, ..footer() },
        ] {
            assert!(Footer::parse(&forged.encode(832), 832).is_err(), "{forged:?}");
        }
    }
}
