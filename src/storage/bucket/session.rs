//! A lease in a bucket: W1 to W4.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::history::{History, View, end_of, last_where};
use super::objects::{BucketStorage, Scope, Writing};
use super::records::{Decided, parse, unexpected};
use crate::error::{Error, Result};
use crate::format::bucket::{LANES, Nonce, Record, Slot, StoredObject, gc_key};
use crate::format::id::SnapshotId;
use crate::format::name::ObjectName;
use crate::format::pending_deletes::PendingDeletes;
use crate::storage::coordination::Session;
use crate::storage::holder::this_process;
use crate::storage::random_bytes;

/// A lease that is held.
#[derive(Debug)]
pub(super) struct BucketSession {
    history: Arc<History>,
    nonce: Nonce,
    writing: Arc<Writing>,
    storage: BucketStorage,
    pending: PendingDeletes,
    /// Whether it was tried to end the lease: then nothing else is put in the place of what was.
    ended: AtomicBool,
}

impl BucketSession {
    /// Takes a lease of the newest generation, at least of this one, then reads what may be relied on.
    pub(super) fn begin(history: &Arc<History>, at_least: u64) -> Result<Self> {
        let nonce: Nonce = random_bytes()?;
        let [lane, ..] = nonce;
        let lane = lane % LANES;
        let lease = Record::Lease(this_process());
        let mut generation = history.done()?;
        while generation < at_least {
            generation += 1;
            announced(history, generation)?;
        }
        let slot = loop {
            match take_slot(history, generation, lane, &lease, &nonce)? {
                Taken::Slot(slot) => break slot,
                Taken::Closed(hash) => {
                    generation += 1;
                    let bytes = announced(history, generation)?;
                    if blake3::hash(&bytes).as_bytes() != &hash {
                        let what = "expected the announcement that the closed lane names, found another";
                        return Err(Error::damaged_whole(gc_key(generation, "condemned"), what));
                    }
                }
            }
        };
        let writing = Arc::new(Writing::new(slot));
        let scope = Scope::Session(generation);
        let storage = BucketStorage::scoped(Arc::clone(history), scope, Some(Arc::clone(&writing)));
        let mut session = Self {
            history: Arc::clone(history),
            nonce,
            writing,
            storage,
            pending: PendingDeletes::default(),
            ended: AtomicBool::new(false),
        };
        session.pending = session.storage.refresh()?.pending_deletes();
        Ok(session)
    }

    pub(super) fn generation(&self) -> u64 {
        self.writing.slot.generation
    }

    /// Removes snapshots when it is committed.
    pub(super) fn remove(&self, view: &View, snapshots: &[SnapshotId]) -> Result<()> {
        let keys = snapshots.iter().flat_map(|id| view.keys(&ObjectName::Snapshot(*id)));
        self.writing.written().removed.extend(keys);
        Ok(())
    }

    /// The record that ends the lease, with these snapshots of those that were written.
    fn end(&self, is_visible: impl Fn(&ObjectName) -> bool) -> Record {
        let written = self.writing.written();
        // What was written and taken back is in no ledger: the next gc finds its key.
        let is_kept = |object: &&StoredObject| {
            !written.removed.contains(&object.key)
                && (object.key.name.snapshot().is_none() || is_visible(&object.key.name))
        };
        let objects = written.objects.iter().filter(is_kept).copied().collect();
        Record::Commit { objects, removed: written.removed.iter().copied().collect() }
    }

    fn decide(&self, record: &Record) -> Result<()> {
        self.ended.store(true, Ordering::Relaxed);
        let slot = self.writing.slot;
        match self.history.records.decide(&slot.end(), record, &self.nonce)? {
            Decided::Ours => Ok(()),
            Decided::Theirs(other) => {
                end_of(&slot, other)?;
                Err(Error::Revoked { lease: self.history.records.describe(&slot.lease()) })
            }
        }
    }
}

impl Session for BucketSession {
    fn storage(&self) -> &dyn crate::storage::Storage {
        &self.storage
    }

    fn pending(&self) -> &PendingDeletes {
        &self.pending
    }

    fn commit(&self, snapshots: &[SnapshotId]) -> Result<()> {
        self.decide(&self.end(|name| name.snapshot().is_some_and(|id| snapshots.contains(&id))))
    }
}

impl Drop for BucketSession {
    /// What was written without a commit is kept for the next session; if nothing was, the session revokes itself. If
    /// neither can be said, a gc revokes it.
    fn drop(&mut self) {
        if self.ended.load(Ordering::Relaxed) {
            return;
        }
        let is_empty = self.writing.written().objects.is_empty();
        self.writing.written().removed.clear();
        let _ = self.decide(&if is_empty { Record::Revoked } else { self.end(|_| false) });
    }
}

enum Taken {
    Slot(Slot),
    Closed([u8; 32]),
}

/// W1: takes the first free slot of a lane. The next one is tried only when a record was read in this one.
fn take_slot(history: &History, generation: u64, lane: u8, lease: &Record, nonce: &Nonce) -> Result<Taken> {
    let slot = |number| Slot { generation, lane, number };
    let records = &history.records;
    let is_taken = |number: u64| records.exists(&slot(number - 1).lease());
    let mut number = last_where(0, &is_taken)?;
    // The last of them may be where the lane was closed.
    number = number.saturating_sub(1);
    loop {
        match records.decide(&slot(number).lease(), lease, nonce)? {
            Decided::Ours => return Ok(Taken::Slot(slot(number))),
            Decided::Theirs(Record::Lease(_)) => number += 1,
            Decided::Theirs(Record::Closed(hash)) => return Ok(Taken::Closed(hash)),
            Decided::Theirs(other) => return Err(unexpected(&slot(number).lease(), &other)),
        }
    }
}

/// What was announced in a generation: nobody enters it without.
fn announced(history: &History, generation: u64) -> Result<Vec<u8>> {
    let key = gc_key(generation, "condemned");
    let bytes = history.records.must_get(&key)?;
    match parse(&key, &bytes)? {
        Record::PendingDeletes(_) => Ok(bytes),
        other => Err(unexpected(&key, &other)),
    }
}
