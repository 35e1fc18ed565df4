//! Who adds to a store, what may be deleted, and when does a snapshot become visible?
//!
//! Objects alone ([`super::Storage`]) cannot say. A gc deletes what no snapshot needs, and an add that is still running may
//! come to need it. So a store is changed in a [`Session`], and collected in a [`Collection`]:
//!
//! ```text
//! session                                              collection
//! 1  begin: take a lease, then read what is announced  1  mark; copy what is needed out of nearly dead packs
//! 2  write objects; rely on nothing announced          2  announce: write, durably, what is to be deleted
//! 3  commit: the snapshot is visible                   3  wait for every session that may not know of it
//! 4  drop: the lease ends                              4  mark again; delete what is still not needed
//! ```
//!
//! Invariant: an object that a visible snapshot needs is not deleted, however sessions and collections interleave, and
//! wherever one of them stops. [`crate::engine::ops::gc`] has the proof for a folder (leases are locked files), and
//! [`super::bucket`] the one for a bucket (leases are slots, and every end of one is decided once).

use std::fmt::Debug;

use super::{Holder, Listed, Storage};
use crate::error::{Error, Result};
use crate::format::id::{PendingDeletesId, SnapshotId};
use crate::format::name::ObjectName;
use crate::format::pending_deletes::{PENDING_DELETES_BYTES_MAX, PendingDeletes};

/// Decides who may rely on what, for one store.
pub trait Coordination: Send + Sync + Debug {
    /// Takes a lease, then reads what is announced, in this order.
    ///
    /// # Errors
    /// [`crate::Error::ReadOnly`] for a store that cannot be changed; [`crate::Error::Damaged`] for an announcement that
    /// cannot be read: nothing may be relied on then; the storage's.
    fn begin(&self) -> Result<Box<dyn Session>>;

    /// As [`Self::begin`], for a repair: no collection deletes anything meanwhile, and objects may be replaced, set aside
    /// and deleted.
    ///
    /// # Errors
    /// As [`Self::begin`]; [`crate::Error::Locked`] while a gc is at work.
    fn begin_repair(&self) -> Result<Box<dyn Session>>;

    /// Makes these snapshots invisible, durably. What only they reached is freed by the next collection.
    ///
    /// # Errors
    /// As [`Self::begin`]; the storage's. Each snapshot is visible or not then.
    fn remove(&self, snapshots: &[SnapshotId]) -> Result<()>;

    /// What is announced and not deleted yet.
    ///
    /// # Errors
    /// The storage's.
    fn pending(&self) -> Result<Pending>;

    /// Begins a collection. One that another process left unfinished is carried on: see [`Collection::pending`].
    ///
    /// # Errors
    /// [`crate::Error::ReadOnly`]; [`crate::Error::Locked`] where another gc is at work and this one cannot help it; the
    /// storage's.
    fn collect(&self) -> Result<Box<dyn Collection>>;

    /// Removes a store that this process made just now, if it holds nothing and nobody changes it; says whether it did.
    ///
    /// # Errors
    /// The storage's.
    fn unmake(&self) -> Result<bool> {
        Ok(false)
    }
}

/// What a gc announced and did not delete yet.
#[derive(Debug, Default)]
pub struct Pending {
    /// The objects.
    pub pending_deletes: PendingDeletes,
    /// Announcements that cannot be read, and why.
    pub unreadable: Vec<(ObjectName, Error)>,
}

impl Pending {
    /// All that is announced.
    ///
    /// # Errors
    /// [`Error::Damaged`] if some of it cannot be read: what it lists cannot be known.
    pub fn known(self) -> Result<PendingDeletes> {
        self.unreadable.into_iter().next().map_or(Ok(self.pending_deletes), |(_, error)| Err(error))
    }
}

/// Reads a pending-delete list that was listed.
///
/// # Errors
/// [`Error::Damaged`] if it is not what was written; the storage's.
pub(crate) fn read_pending_deletes(storage: &dyn Storage, listed: &Listed) -> Result<PendingDeletes> {
    let name = listed.name;
    if listed.bytes > PENDING_DELETES_BYTES_MAX {
        let what = format!("expected at most {PENDING_DELETES_BYTES_MAX} bytes, found {}", listed.bytes);
        return Err(Error::damaged_whole(name.path(), what));
    }
    let mut bytes = vec![0; listed.bytes as usize];
    storage.read_at(&name, 0, &mut bytes)?;
    let found = ObjectName::PendingDeletes(PendingDeletesId::of(&bytes));
    if found != name {
        let what = format!("expected bytes that hash to its name, found {found}; `store gc` removes it");
        return Err(Error::damaged_whole(name.path(), what));
    }
    PendingDeletes::parse(&bytes).map_err(|flaw| flaw.in_object(&name, 0))
}

/// A change of a store, under a lease. Dropped, the lease ends; what was written and not committed is found again by the
/// next session or deleted by the next collection.
pub trait Session: Send + Debug {
    /// Where this session reads and writes objects. A snapshot that is written here is visible to others only once it is
    /// committed (in a folder: as soon as it is written).
    fn storage(&self) -> &dyn Storage;

    /// What was announced when the session began. The session relies on none of it and gives no object one of these names.
    fn pending(&self) -> &PendingDeletes;

    /// Makes everything that was written here part of the store, and these snapshots visible, durably and in one step. It
    /// is called once, and all objects that the snapshots need are durable before.
    ///
    /// # Errors
    /// [`crate::Error::Revoked`] if a gc ended the lease: then no snapshot became visible, and none will.
    fn commit(&self, snapshots: &[SnapshotId]) -> Result<()>;
}

/// A gc at work. Dropped, it stops where it is, and the next one carries on.
pub trait Collection: Debug {
    /// Where to mark from: every snapshot that is visible, and every one that was committed by a session that was waited
    /// for.
    fn storage(&self) -> &dyn Storage;

    /// What is announced and not deleted yet, `None` if nothing was announced.
    fn pending(&self) -> Option<&PendingDeletes>;

    /// Announcements of an earlier gc that cannot be read. Nothing is deleted by them, and they are withdrawn.
    fn take_unreadable(&mut self) -> Vec<(ObjectName, Error)> {
        Vec::new()
    }

    /// Prepares to copy what is needed out of objects that are to go.
    ///
    /// # Errors
    /// As [`Coordination::begin`].
    fn begin_copies(&mut self) -> Result<()> {
        Ok(())
    }

    /// Where to copy it, once that was prepared.
    fn copies(&self) -> &dyn Storage;

    /// Announces that these objects will be deleted, durably, and makes the copies part of the store. [`Self::pending`] says
    /// what is announced then: if another gc was faster, what it announced; and in a bucket also what no record lists.
    ///
    /// Where there is no room to announce anything, the collection waits until no session is at work, and keeps others from
    /// beginning; unless it is not to wait.
    ///
    /// # Errors
    /// The storage's. Nothing is announced then, or this.
    fn announce(&mut self, pending_deletes: &PendingDeletes, is_to_wait: bool) -> Result<()>;

    /// The sessions that may not know of the announcement and have not ended. To be asked until the list is empty.
    ///
    /// # Errors
    /// The storage's.
    fn waits_for(&mut self) -> Result<Vec<Holder>>;

    /// Deletes these, in this order, of what is announced, and withdraws the announcement; says what else was deleted that
    /// no record listed. To be called once no session is waited for.
    ///
    /// # Errors
    /// The storage's. The next collection carries on then.
    fn carry_out(&mut self, delete: &[ObjectName]) -> Result<Vec<Listed>>;
}
