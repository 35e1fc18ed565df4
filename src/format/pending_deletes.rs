//! What is gc about to delete? The record that every add reads before it trusts what is stored.
//!
//! It is named by the hash of all its bytes, so whatever bears the name says what was written. Counts come first, so
//! that a reader knows how long it must be before it believes anything else.
//!
//! ```text
//! offset  size  field
//!      0     8  magic: F5 `seamgc` 0A
//!      8     4  format version: 1
//!     12     4  pack count p
//!     16     4  recipes file count r; p + r is at most 1,048,576
//!     20     4  zero
//!     24   32p  pack ids, strictly ascending
//! 24+32p   32r  recipes file ids, strictly ascending
//! ```

use std::collections::BTreeSet;

use super::FORMAT_VERSION;
use super::bytes::{array_at, u32_at};
use super::id::{ChunkId, PackId, PendingDeletesId, RecipesFileId};
use super::name::ObjectName;
use super::parse_error::ParseError;
use super::recipe::Piece;

const MAGIC: [u8; 8] = *b"\xf5seamgc\n";
const HEADER_BYTES: usize = 24;

/// No record lists more; gc deletes what is left over the next time.
pub const PENDING_DELETES_MAX: usize = 1 << 20;

/// No record is longer, in bytes.
pub const PENDING_DELETES_BYTES_MAX: u64 = (HEADER_BYTES + 32 * PENDING_DELETES_MAX) as u64;

/// Packs and recipes files that are to be deleted unless a snapshot turns out to need them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PendingDeletes {
    /// The packs.
    pub packs: BTreeSet<PackId>,
    /// The recipes files.
    pub recipes: BTreeSet<RecipesFileId>,
}

impl PendingDeletes {
    /// How many objects are listed.
    #[must_use]
    pub fn len(&self) -> usize {
        self.packs.len() + self.recipes.len()
    }

    /// Whether nothing is listed.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether an object is listed.
    #[must_use]
    pub fn contains(&self, name: ObjectName) -> bool {
        match name {
            ObjectName::Pack(id) => self.packs.contains(&id),
            ObjectName::Recipes(id) => self.recipes.contains(&id),
            ObjectName::Config | ObjectName::Snapshot(_) | ObjectName::PendingDeletes(_) => false,
        }
    }

    /// Lists a pack or a recipes file; nothing else is ever pending deletion.
    pub fn insert(&mut self, name: ObjectName) {
        match name {
            ObjectName::Pack(id) => drop(self.packs.insert(id)),
            ObjectName::Recipes(id) => drop(self.recipes.insert(id)),
            ObjectName::Config | ObjectName::Snapshot(_) | ObjectName::PendingDeletes(_) => {}
        }
    }

    /// The piece of a recipe that nothing else names, for a recipes file that must not get the name of one that is
    /// pending deletion; `None` if no recipes file is. It is made from the record, which cannot list a file made from it.
    #[must_use]
    pub fn filler(&self) -> Option<Piece> {
        if self.recipes.is_empty() {
            return None;
        }
        let [a, b, c, d, e, f, ..] = PendingDeletesId::of(&self.encode()).0;
        Some(Piece { id: ChunkId::HOLE, end: u64::from_le_bytes([a, b, c, d, e, f, 1, 0]) })
    }

    /// The record's bytes. The caller lists at most [`PENDING_DELETES_MAX`] objects.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(HEADER_BYTES + 32 * self.len());
        bytes.extend_from_slice(&MAGIC);
        bytes.extend_from_slice(&FORMAT_VERSION.to_le_bytes());
        bytes.extend_from_slice(&(self.packs.len() as u32).to_le_bytes());
        bytes.extend_from_slice(&(self.recipes.len() as u32).to_le_bytes());
        bytes.extend_from_slice(&[0; 4]);
        self.packs.iter().for_each(|id| bytes.extend_from_slice(&id.0));
        self.recipes.iter().for_each(|id| bytes.extend_from_slice(&id.0));
        bytes
    }

    /// Reads a record's bytes.
    ///
    /// # Errors
    /// The flaw, if they are not as [`PendingDeletes::encode`] writes them.
    pub fn parse(bytes: &[u8]) -> Result<Self, ParseError> {
        let short =
            || ParseError::new(bytes.len(), format!("expected {HEADER_BYTES} bytes of header, found {}", bytes.len()));
        if array_at(bytes, 0) != Some(MAGIC) {
            return Err(ParseError::new(0, "expected the magic of a pending-delete list, found something else"));
        }
        let number = |at| u32_at(bytes, at).ok_or_else(short);
        if number(8)? != FORMAT_VERSION || number(20)? != 0 {
            return Err(ParseError::new(
                8,
                format!("expected version {FORMAT_VERSION} and zeros, found something else"),
            ));
        }
        let (packs, recipes) = (number(12)? as usize, number(16)? as usize);
        let expected =
            packs.checked_add(recipes).filter(|sum| *sum <= PENDING_DELETES_MAX).map(|sum| HEADER_BYTES + 32 * sum);
        if expected != Some(bytes.len()) {
            let what = format!("expected the bytes of {packs} and {recipes} ids, found {}", bytes.len());
            return Err(ParseError::new(12, what));
        }
        let ids = |first: usize, count: usize| -> Result<Vec<[u8; 32]>, ParseError> {
            let at = |ordinal: usize| HEADER_BYTES + 32 * (first + ordinal);
            let ids: Option<Vec<[u8; 32]>> = (0..count).map(|ordinal| array_at(bytes, at(ordinal))).collect();
            let ids = ids.ok_or_else(short)?;
            match ids.windows(2).position(|pair| pair.first() >= pair.last()) {
                Some(place) => Err(ParseError::new(at(place), "expected ids that ascend, found some that do not")),
                None => Ok(ids),
            }
        };
        Ok(Self {
            packs: ids(0, packs)?.into_iter().map(PackId).collect(),
            recipes: ids(packs, recipes)?.into_iter().map(RecipesFileId).collect(),
        })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing)]
    use super::*;

    fn sample() -> PendingDeletes {
        PendingDeletes {
            packs: [1, 2, 9].map(|n| PackId([n; 32])).into(),
            recipes: [3, 4].map(|n| RecipesFileId([n; 32])).into(),
        }
    }

    #[test]
    fn reads_what_it_wrote() {
        for pending_deletes in [PendingDeletes::default(), sample()] {
            assert_eq!(PendingDeletes::parse(&pending_deletes.encode()), Ok(pending_deletes));
        }
    }

    #[test]
    fn the_layout_is_the_one_described() {
        let bytes = sample().encode();
        assert_eq!(bytes.len(), 24 + 32 * 5);
        assert_eq!(&bytes[..24], b"\xf5seamgc\n\x01\0\0\0\x03\0\0\0\x02\0\0\0\0\0\0\0");
        assert_eq!(bytes[24 + 64..24 + 96], [9; 32]);
        assert_eq!(bytes[24 + 96..24 + 128], [3; 32]);
    }

    #[test]
    fn any_bytes_are_a_record_or_refused() {
        let bytes = sample().encode();
        for end in 0..bytes.len() {
            assert!(PendingDeletes::parse(&bytes[..end]).is_err(), "{end} bytes");
        }
        for at in 0..bytes.len() {
            for bit in 0..8 {
                let mut flipped = bytes.clone();
                flipped[at] ^= 1 << bit;
                // A flip that is still a record is found by the record's name.
                if let Ok(read) = PendingDeletes::parse(&flipped) {
                    assert_eq!(read.encode(), flipped);
                }
            }
        }
        let mut claims_much = bytes[..24].to_vec();
        claims_much[12..20].fill(0xff);
        assert!(PendingDeletes::parse(&claims_much).is_err());
    }
}
