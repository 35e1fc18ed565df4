//! The records that the writers of one bucket coordinate by, and the keys of everything in a bucket.
//!
//! ```text
//! store.json   instance                             made once, by put-if-absent
//! packs/xx/<id>.<slot>-<count>.pack                 objects: the id, and the lease and the count that make the key unique
//! recipes/<id>.<slot>-<count>.arrow
//! snapshots/<id>.<slot>-<count>.arrow
//! leases/<g>/<lane>/<n>    ends/<g>/<lane>/<n>      slots; n counts from 0 without a gap
//! gc/<g>/{condemned,delete,done}
//! quarantine/<key with dots for slashes>
//! ```
//!
//! `<slot>` is `<g>-<lane>-<n>`, the lease under which the object was written. Names of objects come from their contents,
//! so two writers can make one name; no two ever make one key, and a key that was deleted is never made again.
//!
//! A record is decided by the first put of its key and never changes:
//!
//! ```text
//! offset  size  field
//!      0     8  magic: F5 `seambk` 0A
//!      8     4  version: 1
//!     12     4  kind: 1 lease, 2 closed, 3 commit, 4 revoked, 5 condemned, 6 delete, 7 done
//!     16    16  nonce of the process that wrote it, so that a writer knows its own record again
//!     32    32  lease: zero; closed: BLAKE3 of gc/<g+1>/condemned; otherwise zero
//!     64     4  count a of objects; lease: length of the text
//!     68     4  count b of keys
//!     72        lease: text for messages. Otherwise a objects of 62 bytes, then b keys of 54
//!   last    32  BLAKE3 of all before it
//!
//! key     1 kind (1 pack, 2 recipes file, 3 snapshot)  32 id  8 generation  1 lane  8 slot number  4 count
//! object  a key, then 8 bytes: its size in bytes
//! ```
//!
//! A commit lists the objects written under its lease (snapshots only those that it makes visible), and the keys that it
//! removes. `condemned` and `delete` list keys. `done` lists all objects that are left: the ledger of its generation.
//!
//! This format may still change: no store in a bucket outlives its process yet.

use super::bytes::{array_at, u32_at, u64_at};
use super::id::{PackId, RecipesFileId, SnapshotId};
use super::name::ObjectName;
use super::parse_error::ParseError;

const MAGIC: [u8; 8] = *b"\xf5seambk\n";
const VERSION: u32 = 1;
const HEADER_BYTES: usize = 72;
const HASH_BYTES: usize = 32;
const KEY_BYTES: usize = 54;
const OBJECT_BYTES: usize = KEY_BYTES + 8;

/// The longest record that is read, in bytes: a ledger of four million objects.
pub const RECORD_BYTES_MAX: u64 = 256 << 20;

/// Lanes of leases in a generation. Writers spread over them, so that they seldom compete for one slot.
pub const LANES: u8 = 16;

/// Sixteen random bytes.
pub type Nonce = [u8; 16];

/// A slot for a lease. It says which generation its holder belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Slot {
    /// The generation.
    pub generation: u64,
    /// The lane, below [`LANES`].
    pub lane: u8,
    /// The number in the lane, from 0.
    pub number: u64,
}

impl Slot {
    /// The key of the lease.
    #[must_use]
    pub fn lease(&self) -> String {
        format!("leases/{}/{}/{}", self.generation, self.lane, self.number)
    }

    /// The key of the record that ends the lease.
    #[must_use]
    pub fn end(&self) -> String {
        format!("ends/{}/{}/{}", self.generation, self.lane, self.number)
    }
}

/// The key of an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ObjectKey {
    /// The object's name: a pack, a recipes file or a snapshot.
    pub name: ObjectName,
    /// The lease under which it was written.
    pub slot: Slot,
    /// Which of the objects of that lease it is.
    pub count: u32,
}

impl ObjectKey {
    /// The key's text.
    #[must_use]
    pub fn text(&self) -> String {
        let path = self.name.path();
        let (stem, end) = path.rsplit_once('.').unwrap_or((&path, ""));
        let Slot { generation, lane, number } = self.slot;
        format!("{stem}.{generation}-{lane}-{number}-{}.{end}", self.count)
    }

    /// The key of this text, if it is one of an object.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let (rest, end) = text.rsplit_once('.')?;
        let (stem, numbers) = rest.rsplit_once('.')?;
        let name = ObjectName::from_path(&format!("{stem}.{end}"))?;
        let mut numbers = numbers.split('-');
        let generation = numbers.next()?.parse().ok()?;
        let lane = numbers.next()?.parse().ok()?;
        let number = numbers.next()?.parse().ok()?;
        let count = numbers.next()?.parse().ok()?;
        let key = Self { name, slot: Slot { generation, lane, number }, count };
        (key.text() == text).then_some(key)
    }

    fn encode(&self, bytes: &mut Vec<u8>) {
        let (kind, id) = match self.name {
            ObjectName::Pack(id) => (1, id.0),
            ObjectName::Recipes(id) => (2, id.0),
            ObjectName::Snapshot(id) => (3, id.0),
            // Neither is ever written under a lease.
            ObjectName::Config | ObjectName::PendingDeletes(_) => (0, [0; 32]),
        };
        bytes.push(kind);
        bytes.extend_from_slice(&id);
        bytes.extend_from_slice(&self.slot.generation.to_le_bytes());
        bytes.push(self.slot.lane);
        bytes.extend_from_slice(&self.slot.number.to_le_bytes());
        bytes.extend_from_slice(&self.count.to_le_bytes());
    }

    fn decode(bytes: &[u8], at: usize) -> Result<Self, ParseError> {
        let short = || ParseError::new(at, "expected a key, found the end of the record");
        let id: [u8; 32] = array_at(bytes, at + 1).ok_or_else(short)?;
        let name = match bytes.get(at).ok_or_else(short)? {
            1 => ObjectName::Pack(PackId(id)),
            2 => ObjectName::Recipes(RecipesFileId(id)),
            3 => ObjectName::Snapshot(SnapshotId(id)),
            kind => return Err(ParseError::new(at, format!("expected a kind of object from 1 to 3, found {kind}"))),
        };
        let generation = u64_at(bytes, at + 33).ok_or_else(short)?;
        let lane = *bytes.get(at + 41).ok_or_else(short)?;
        let number = u64_at(bytes, at + 42).ok_or_else(short)?;
        let count = u32_at(bytes, at + 50).ok_or_else(short)?;
        if lane >= LANES {
            return Err(ParseError::new(at + 41, format!("expected a lane below {LANES}, found {lane}")));
        }
        Ok(Self { name, slot: Slot { generation, lane, number }, count })
    }
}

/// An object that a record lists.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct StoredObject {
    /// Its key.
    pub key: ObjectKey,
    /// Its size in bytes.
    pub bytes: u64,
}

/// What a record says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Record {
    /// A lease, with a text for messages: who holds it.
    Lease(String),
    /// In a lease's place: no further lease is taken in this lane. The hash of what the gc announced.
    Closed([u8; 32]),
    /// A lease ended: its objects are part of the store, and these keys no longer are.
    Commit {
        /// Objects that were written under the lease.
        objects: Vec<StoredObject>,
        /// Keys that it removes.
        removed: Vec<ObjectKey>,
    },
    /// A lease ended without any effect.
    Revoked,
    /// What gc is about to delete, unless a snapshot turns out to need it.
    PendingDeletes(Vec<ObjectKey>),
    /// What gc deletes.
    Delete(Vec<ObjectKey>),
    /// The objects that are left after that.
    Done(Vec<StoredObject>),
}

impl Record {
    /// The record's bytes.
    #[must_use]
    pub fn encode(&self, nonce: &Nonce) -> Vec<u8> {
        let none = (0, [0; 32], "", [].as_slice(), [].as_slice());
        let (kind, hash, text, objects, keys) = match self {
            Self::Lease(text) => (1, [0; 32], text.as_str(), none.3, none.4),
            Self::Closed(hash) => (2, *hash, "", none.3, none.4),
            Self::Commit { objects, removed } => (3, [0; 32], "", objects.as_slice(), removed.as_slice()),
            Self::Revoked => (4, [0; 32], "", none.3, none.4),
            Self::PendingDeletes(keys) => (5, [0; 32], "", none.3, keys.as_slice()),
            Self::Delete(keys) => (6, [0; 32], "", none.3, keys.as_slice()),
            Self::Done(objects) => (7, [0; 32], "", objects.as_slice(), none.4),
        };
        let rest = text.len() + OBJECT_BYTES * objects.len() + KEY_BYTES * keys.len();
        let mut bytes = Vec::with_capacity(HEADER_BYTES + rest + HASH_BYTES);
        bytes.extend_from_slice(&MAGIC);
        bytes.extend_from_slice(&VERSION.to_le_bytes());
        bytes.extend_from_slice(&u32::to_le_bytes(kind));
        bytes.extend_from_slice(nonce);
        bytes.extend_from_slice(&hash);
        bytes.extend_from_slice(&((text.len() + objects.len()) as u32).to_le_bytes());
        bytes.extend_from_slice(&(keys.len() as u32).to_le_bytes());
        bytes.extend_from_slice(text.as_bytes());
        for object in objects {
            object.key.encode(&mut bytes);
            bytes.extend_from_slice(&object.bytes.to_le_bytes());
        }
        keys.iter().for_each(|key| key.encode(&mut bytes));
        let hash = blake3::hash(&bytes);
        bytes.extend_from_slice(hash.as_bytes());
        bytes
    }

    /// Reads a record.
    ///
    /// # Errors
    /// The flaw, if the bytes are not as [`Record::encode`] writes them.
    pub fn parse(bytes: &[u8]) -> Result<Self, ParseError> {
        let short = || ParseError::new(bytes.len(), "expected a record, found fewer bytes than any has");
        let end = bytes.len().checked_sub(HASH_BYTES).filter(|end| *end >= HEADER_BYTES).ok_or_else(short)?;
        let (body, hash) = bytes.split_at(end);
        if array_at(body, 0) != Some(MAGIC) {
            return Err(ParseError::new(0, "expected the magic of a record of a bucket, found something else"));
        }
        if blake3::hash(body).as_bytes().as_slice() != hash {
            return Err(ParseError::new(end, "expected the hash of the record, found another"));
        }
        let number = |at| u32_at(body, at).ok_or_else(short);
        if number(8)? != VERSION {
            return Err(ParseError::new(8, format!("expected version {VERSION}, found {}", number(8)?)));
        }
        let (kind, first, second) = (number(12)?, number(64)? as usize, number(68)? as usize);
        let unit = if kind == 1 { 1 } else { OBJECT_BYTES };
        if first.saturating_mul(unit).saturating_add(second.saturating_mul(KEY_BYTES)) != end - HEADER_BYTES {
            let what = format!("expected {first} and {second} entries, found {} bytes", end - HEADER_BYTES);
            return Err(ParseError::new(64, what));
        }
        let object = |ordinal: usize| -> Result<StoredObject, ParseError> {
            let at = HEADER_BYTES + ordinal * OBJECT_BYTES;
            let bytes = u64_at(body, at + KEY_BYTES).ok_or_else(short)?;
            Ok(StoredObject { key: ObjectKey::decode(body, at)?, bytes })
        };
        let objects = || (0..first).map(object).collect::<Result<Vec<_>, ParseError>>();
        let key = |ordinal: usize| ObjectKey::decode(body, HEADER_BYTES + first * unit + ordinal * KEY_BYTES);
        let keys = || (0..second).map(key).collect::<Result<Vec<_>, ParseError>>();
        Ok(match kind {
            1 => Self::Lease(String::from_utf8_lossy(body.get(HEADER_BYTES..).unwrap_or_default()).into_owned()),
            2 => Self::Closed(array_at(body, 32).ok_or_else(short)?),
            3 => Self::Commit { objects: objects()?, removed: keys()? },
            4 => Self::Revoked,
            5 => Self::PendingDeletes(keys()?),
            6 => Self::Delete(keys()?),
            7 => Self::Done(objects()?),
            _ => return Err(ParseError::new(12, format!("expected a kind of record from 1 to 7, found {kind}"))),
        })
    }
}

/// The key of one of a gc's records, `condemned`, `delete` or `done`, of a generation.
#[must_use]
pub fn gc_key(generation: u64, what: &str) -> String {
    format!("gc/{generation}/{what}")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing)]
    use super::*;

    fn key(n: u8) -> ObjectKey {
        let name = match n % 3 {
            0 => ObjectName::Pack(PackId([n; 32])),
            1 => ObjectName::Recipes(RecipesFileId([n; 32])),
            _ => ObjectName::Snapshot(SnapshotId([n; 32])),
        };
        ObjectKey { name, slot: Slot { generation: 7, lane: n % LANES, number: 300 }, count: u32::from(n) }
    }

    fn records() -> Vec<Record> {
        let keys: Vec<_> = (0..5).map(key).collect();
        let objects: Vec<_> = keys.iter().map(|key| StoredObject { key: *key, bytes: 1 << 40 }).collect();
        vec![
            Record::Lease("host 7, process 12".to_owned()),
            Record::Closed([9; 32]),
            Record::Commit { objects: objects.clone(), removed: keys.clone() },
            Record::Revoked,
            Record::PendingDeletes(keys.clone()),
            Record::Delete(keys),
            Record::Done(objects),
        ]
    }

    #[test]
    fn every_record_and_every_key_reads_back() {
        for record in records() {
            assert_eq!(Record::parse(&record.encode(&[3; 16])), Ok(record));
        }
        for key in (0..6).map(key) {
            assert_eq!(ObjectKey::parse(&key.text()), Some(key));
            let name = key.name.path();
            let parts: Vec<&str> = name.rsplitn(2, '.').collect();
            for stranger in [name.clone(), format!("{}.07-0-1-2.{}", parts[1], parts[0]), format!("x{}", key.text())] {
                assert_eq!(ObjectKey::parse(&stranger), None, "{stranger}");
            }
        }
    }

    #[test]
    fn any_bytes_are_a_record_of_a_bucket_or_refused() {
        for record in records() {
            let bytes = record.encode(&[3; 16]);
            assert!((0..bytes.len()).all(|end| Record::parse(&bytes[..end]).is_err()));
            for at in 0..bytes.len() {
                let mut flipped = bytes.clone();
                flipped[at] ^= 1;
                assert!(Record::parse(&flipped).is_err(), "byte {at} of {record:?}");
            }
            // A count that nothing backs, under a right hash.
            let mut claims = bytes[..bytes.len() - HASH_BYTES].to_vec();
            claims[64..72].fill(0xff);
            let hash = blake3::hash(&claims);
            claims.extend_from_slice(hash.as_bytes());
            assert!(Record::parse(&claims).is_err());
        }
    }
}
