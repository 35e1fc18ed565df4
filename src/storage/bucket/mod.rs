//! A store in a bucket: objects that many machines write, with no lock and no clock between them.
//!
//! A bucket puts, gets, deletes, and puts if absent; a listing is a hint. A put whose answer was lost may have happened, may
//! happen later, and may happen twice; so may a delete. The protocol rests on keys that are *decided once*, by put-if-absent,
//! and on keys of objects that are made once and never again. Keys and records: [`crate::format::bucket`].
//!
//! ```text
//! W1  put-if-absent the first free slot leases/g/lane/n; where it says CLOSED, go to g+1 with gc/(g+1)/condemned in hand
//! W2  read what there is: the ledger of g, or while gc/g/done is missing that of g-1 and its ends, less what is pending deletion
//! W3  put packs, recipes files, then the snapshot: no record lists them yet
//! W4  put-if-absent ends/g/lane/n = COMMIT[objects, removed keys]: the commit
//!
//! G1  mark from ledger(g) and the ends of g; copy, in a session of g that ends before G2
//! G2  put-if-absent gc/(g+1)/condemned; only if gc/g is done
//! G3  in each lane of g put-if-absent CLOSED at the first free slot; wait for the end of each slot below, or revoke it:
//!     put-if-absent ends/g/lane/n = REVOKED
//! G4  mark from ledger(g) and all ends of g, each by GET; put-if-absent gc/(g+1)/delete = condemned - needed
//! G5  delete these keys
//! G6  after all acknowledgements put-if-absent gc/(g+1)/done = ledger(g+1)
//! ```
//!
//! Why no visible snapshot S loses anything:
//!
//! 1. Its slot is of generation g. Then its end was decided before G4, which spares what S needs; had it been REVOKED, S
//!    would not be visible, however late its puts arrive.
//! 2. Its slot is of generation g+1. Then its writer had `condemned` in hand when it took the slot. Without `done` it relied
//!    on nothing listed; with `done` on nothing that the new ledger does not list.
//! 3. A key that was deleted is never made again, so a delete that arrives late deletes nothing that is there.
//! 4. `condemned`, `delete` and `done` are decided once; rivals adopt them.
//! 5. A session relies on objects that the ledger or an end of its own generation or an earlier one lists, never on a
//!    listing, so what it relies on is in every later ledger until a gc that waited for it deletes it.
//! 6. A snapshot is removed by a session of its own generation or a later one, or the next ledger would list it again.
//!
//! Slots of a lane have no gap, or G3 would close below one: n+1 is tried only when somebody's record was read at n.

mod collect;
mod history;
mod memory;
mod objects;
mod records;
mod session;
#[cfg(test)]
mod tests;

use std::fmt::Debug;
use std::io;
use std::sync::Arc;
use std::time::Duration;

pub use self::memory::MemoryBucket;
pub use self::objects::BucketStorage;

use self::collect::BucketCollection;
use self::history::History;
use self::records::Records;
use self::session::BucketSession;
use super::coordination::{Collection, Coordination, Pending, Session};
use crate::error::Result;
use crate::format::id::SnapshotId;
use crate::format::name::ObjectName;

/// The key of sixteen random bytes that tell this bucket from a copy that was made of another.
pub(crate) const INSTANCE: &str = "instance";

/// What an object store does, with its faults.
///
/// An error says nothing about whether the operation happened, or will.
pub trait Bucket: Send + Sync + Debug {
    /// Where it is: an address, for messages, and for telling its caches from those of another bucket.
    fn location(&self) -> String;

    /// Puts an object.
    fn put(&self, key: &str, bytes: &[u8]) -> io::Result<()>;

    /// Puts an object unless the key exists; says whether it did.
    fn put_if_absent(&self, key: &str, bytes: &[u8]) -> io::Result<bool>;

    /// All bytes of an object, `None` if it does not exist. An error if there are more than `bytes_max`.
    fn get(&self, key: &str, bytes_max: u64) -> io::Result<Option<Vec<u8>>>;

    /// Reads bytes at an offset and says how many, fewer only where the object ends; `None` if there is no such object.
    fn read_at(&self, key: &str, offset: u64, buffer: &mut [u8]) -> io::Result<Option<usize>>;

    /// An object's size in bytes, `None` if it does not exist.
    fn size(&self, key: &str) -> io::Result<Option<u64>>;

    /// Keys that begin with this and their sizes. A hint: some may be missing, and some be deleted.
    fn list(&self, prefix: &str) -> io::Result<Vec<(String, u64)>>;

    /// Copies an object within the bucket; says whether it was there.
    fn copy(&self, from: &str, to: &str) -> io::Result<bool>;

    /// Deletes an object. Deleting what is not there is fine.
    fn delete(&self, key: &str) -> io::Result<()>;

    /// Waits before an operation is tried again for the `attempt`-th time.
    fn pause(&self, attempt: u32) {
        std::thread::sleep(Duration::from_millis(50) * 2_u32.pow(attempt.min(8)));
    }
}

/// How the writers of a bucket treat each other. Nothing that is stored depends on it.
#[derive(Debug, Clone, Copy)]
pub struct BucketOptions {
    /// A lease that a gc has waited for this long is revoked: its holder is taken for dead. Revoking is always safe; a
    /// holder that lives fails with [`crate::Error::Revoked`] and is started again.
    pub revoke_after: Duration,
}

impl Default for BucketOptions {
    fn default() -> Self {
        Self { revoke_after: Duration::from_secs(24 * 60 * 60) }
    }
}

/// The sessions and collections of a store in a bucket.
#[derive(Debug)]
pub struct BucketCoordination {
    history: Arc<History>,
    options: BucketOptions,
}

/// Storage and coordination of a store in a bucket.
#[must_use]
pub fn open(bucket: Arc<dyn Bucket>, options: BucketOptions) -> (BucketStorage, BucketCoordination) {
    let history = Arc::new(History::new(Records::new(bucket)));
    (BucketStorage::reading(Arc::clone(&history)), BucketCoordination { history, options })
}

impl Coordination for BucketCoordination {
    fn begin(&self) -> Result<Box<dyn Session>> {
        Ok(Box::new(BucketSession::begin(&self.history, 0)?))
    }

    /// A session keeps every collection from deleting anything.
    fn begin_repair(&self) -> Result<Box<dyn Session>> {
        self.begin()
    }

    fn remove(&self, snapshots: &[SnapshotId]) -> Result<()> {
        let mut generation = 0;
        loop {
            let session = BucketSession::begin(&self.history, generation)?;
            // Their keys, whatever generation they are of.
            let view = self.history.newest_with(snapshots)?;
            let keys = snapshots.iter().flat_map(|id| view.keys(&ObjectName::Snapshot(*id)));
            let newest = keys.map(|key| key.slot.generation).max().unwrap_or_default();
            if newest <= session.generation() {
                session.remove(&view, snapshots)?;
                return session.commit(&[]);
            }
            generation = newest;
        }
    }

    fn pending(&self) -> Result<Pending> {
        let pending_deletes = self.history.newest()?.pending_deletes();
        Ok(Pending { pending_deletes, unreadable: Vec::new() })
    }

    fn collect(&self) -> Result<Box<dyn Collection>> {
        Ok(Box::new(BucketCollection::begin(&self.history, self.options)?))
    }
}
