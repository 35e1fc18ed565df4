//! What has been decided, and what a store therefore consists of.
//!
//! Invariant: everything here was read from records that never change. An answer that is stale is an older state of the
//! store; it never shows what was not committed.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::records::{Records, parse, unexpected};
use crate::error::{Error, Result};
use crate::format::bucket::{LANES, ObjectKey, Record, Slot, StoredObject, gc_key};
use crate::format::id::SnapshotId;
use crate::format::name::ObjectName;
use crate::format::pending_deletes::PendingDeletes;

/// How often the newest state is read to find a snapshot in it.
const LOOKS_MAX: u32 = 5;

/// How a lease ended.
#[derive(Debug, Clone)]
pub(super) enum End {
    Commit { objects: Arc<[StoredObject]>, removed: Arc<[ObjectKey]> },
    Revoked,
}

/// The slots of a lane, as far as they were read.
#[derive(Debug, Default, Clone)]
pub(super) struct Lane {
    /// What each holder said of itself, and how its lease ended; `None` while that is not decided.
    pub(super) slots: Vec<(String, Option<End>)>,
    /// Whether the lane is closed behind the last of them.
    pub(super) closed: bool,
}

/// What a store consists of, at some time.
#[derive(Debug, Default)]
pub(super) struct View {
    /// All objects, by key.
    pub(super) objects: BTreeMap<ObjectKey, u64>,
    /// Keys that a commit removed: they are in no later ledger.
    pub(super) removed: BTreeSet<ObjectKey>,
    /// Keys that are announced, and not deleted as far as is known.
    pub(super) pending_deletes: BTreeSet<ObjectKey>,
    /// Ends that were decided since the ledger.
    pub(super) ends: usize,
}

impl View {
    /// The keys of an object, the one to read first.
    pub(super) fn keys(&self, name: &ObjectName) -> Vec<ObjectKey> {
        let (first, last) = (Slot { generation: 0, lane: 0, number: 0 }, u64::MAX);
        let last = Slot { generation: last, lane: u8::MAX, number: last };
        let range = ObjectKey { name: *name, slot: first, count: 0 }..=ObjectKey { name: *name, slot: last, count: !0 };
        let mut keys: Vec<ObjectKey> = self.objects.range(range).map(|(key, _)| *key).collect();
        // Those that stay, then those written last: they took the place of others.
        keys.sort_by_key(|key| (self.pending_deletes.contains(key), std::cmp::Reverse(*key)));
        keys
    }

    /// The names of what is announced.
    pub(super) fn pending_deletes(&self) -> PendingDeletes {
        let mut names = PendingDeletes::default();
        self.pending_deletes.iter().for_each(|key| names.insert(key.name));
        names
    }

    fn take(&mut self, end: &End) {
        self.ends += 1;
        if let End::Commit { objects, removed } = end {
            self.objects.extend(objects.iter().map(|object| (object.key, object.bytes)));
            self.removed.extend(removed.iter().copied());
        }
    }

    /// Takes away what was removed, once all ends were taken.
    fn settle(&mut self) {
        self.objects.retain(|key, _| !self.removed.contains(key));
    }
}

#[derive(Debug, Default)]
struct Known {
    /// The newest generation that is done, and its ledger.
    ledger: (u64, Arc<[StoredObject]>),
    /// Lanes of it and of the next.
    lanes: BTreeMap<(u64, u8), Lane>,
}

/// The records of a bucket, read and kept.
#[derive(Debug)]
pub(super) struct History {
    pub(super) records: Records,
    known: Mutex<Known>,
}

impl History {
    pub(super) fn new(records: Records) -> Self {
        Self { records, known: Mutex::default() }
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The newest generation that is done, as far as can be seen. Generation 0 is done from the beginning.
    pub(super) fn done(&self) -> Result<u64> {
        let known = self.known().ledger.0;
        let newest = last_where(known, &|generation| self.records.exists(&gc_key(generation, "done")))?;
        if newest > known {
            let ledger = self.ledger(newest)?;
            let mut known = self.known();
            if known.ledger.0 < newest {
                known.ledger = (newest, ledger);
                // A gc that a rival has overtaken still looks at the generation before.
                known.lanes.retain(|(generation, _), _| *generation + 1 >= newest);
            }
        }
        Ok(newest.max(self.known().ledger.0))
    }

    /// The ledger of a generation that is done.
    pub(super) fn ledger(&self, generation: u64) -> Result<Arc<[StoredObject]>> {
        if generation == 0 {
            return Ok(Arc::default());
        }
        {
            let known = self.known();
            if known.ledger.0 == generation {
                return Ok(Arc::clone(&known.ledger.1));
            }
        }
        let key = gc_key(generation, "done");
        match parse(&key, &self.records.must_get(&key)?)? {
            Record::Done(objects) => Ok(objects.into()),
            other => Err(unexpected(&key, &other)),
        }
    }

    /// The keys that a gc announced in a generation, if it did.
    pub(super) fn pending_deletes(&self, generation: u64) -> Result<Option<Vec<ObjectKey>>> {
        let key = gc_key(generation, "condemned");
        match self.records.get(&key)? {
            None => Ok(None),
            Some(Record::PendingDeletes(keys)) => Ok(Some(keys)),
            Some(other) => Err(unexpected(&key, &other)),
        }
    }

    /// The lanes of a generation, read as far as they go.
    pub(super) fn lanes(&self, generation: u64) -> Result<Vec<Lane>> {
        (0..LANES).map(|lane| self.lane(generation, lane)).collect()
    }

    fn lane(&self, generation: u64, lane: u8) -> Result<Lane> {
        let mut read = self.known().lanes.get(&(generation, lane)).cloned().unwrap_or_default();
        while !read.closed {
            let slot = Slot { generation, lane, number: read.slots.len() as u64 };
            match self.records.get(&slot.lease())? {
                None => break,
                Some(Record::Lease(holder)) => read.slots.push((holder, None)),
                Some(Record::Closed(_)) => read.closed = true,
                Some(other) => return Err(unexpected(&slot.lease(), &other)),
            }
        }
        for (number, (_, end)) in read.slots.iter_mut().enumerate().filter(|(_, (_, end))| end.is_none()) {
            *end = self.end(Slot { generation, lane, number: number as u64 })?;
        }
        let mut known = self.known();
        let kept = known.lanes.entry((generation, lane)).or_default();
        // Another thread may have read further.
        if kept.slots.len() <= read.slots.len() {
            *kept = read.clone();
        }
        Ok(read)
    }

    /// Keeps what is known for certain of a lane: of one that is closed and whose ends are all decided nothing is read again,
    /// so no stale answer can hide any of it.
    pub(super) fn keep(&self, generation: u64, lane: u8, read: Lane) {
        self.known().lanes.insert((generation, lane), read);
    }

    pub(super) fn end(&self, slot: Slot) -> Result<Option<End>> {
        self.records.get(&slot.end())?.map(|record| end_of(&slot, record)).transpose()
    }

    /// What a session of this generation may rely on: what is left of the generation before, less what is pending deletion, and
    /// what sessions of its own committed.
    pub(super) fn for_session(&self, generation: u64) -> Result<View> {
        let mut view = View::default();
        if self.done()? >= generation {
            view.objects.extend(self.ledger(generation)?.iter().map(|object| (object.key, object.bytes)));
        } else {
            let before = generation.saturating_sub(1);
            view.objects.extend(self.ledger(before)?.iter().map(|object| (object.key, object.bytes)));
            self.take_ends(&mut view, before)?;
            let key = gc_key(generation, "condemned");
            match parse(&key, &self.records.must_get(&key)?)? {
                Record::PendingDeletes(keys) => view.pending_deletes.extend(keys),
                other => return Err(unexpected(&key, &other)),
            }
        }
        self.take_ends(&mut view, generation)?;
        view.settle();
        Ok(view)
    }

    /// What the store consists of now.
    pub(super) fn newest(&self) -> Result<View> {
        let done = self.done()?;
        let mut view = View::default();
        view.objects.extend(self.ledger(done)?.iter().map(|object| (object.key, object.bytes)));
        self.take_ends(&mut view, done)?;
        if let Some(pending_deletes) = self.pending_deletes(done + 1)? {
            self.take_ends(&mut view, done + 1)?;
            view.pending_deletes.extend(pending_deletes);
            // A gc may have stopped between deleting and saying that it is done.
            let key = gc_key(done + 1, "delete");
            if let Some(Record::Delete(keys)) = self.records.get(&key)? {
                view.removed.extend(keys);
            }
        }
        view.settle();
        Ok(view)
    }

    /// As [`Self::newest`], of a state that has each of these snapshots, or a commit that removed it. A stale answer may hide
    /// both for a while.
    ///
    /// # Errors
    /// [`Error::NotFound`] if one stays hidden: it cannot be said to be removed.
    pub(super) fn newest_with(&self, snapshots: &[SnapshotId]) -> Result<View> {
        let mut attempt = 1;
        loop {
            let view = self.newest()?;
            let is_known =
                |name: &ObjectName| !view.keys(name).is_empty() || view.removed.iter().any(|key| key.name == *name);
            let mut names = snapshots.iter().map(|id| ObjectName::Snapshot(*id));
            let Some(hidden) = names.find(|name| !is_known(name)) else { return Ok(view) };
            if attempt >= LOOKS_MAX {
                return Err(Error::not_found(self.records.describe(&hidden.path())));
            }
            self.records.pause(attempt);
            attempt += 1;
        }
    }

    /// What is marked from: a ledger, and the ends of its generation.
    pub(super) fn for_collection(&self, generation: u64) -> Result<View> {
        let mut view = View::default();
        view.objects.extend(self.ledger(generation)?.iter().map(|object| (object.key, object.bytes)));
        self.take_ends(&mut view, generation)?;
        view.settle();
        Ok(view)
    }

    fn take_ends(&self, view: &mut View, generation: u64) -> Result<()> {
        let lanes = self.lanes(generation)?;
        lanes.iter().flat_map(|lane| &lane.slots).filter_map(|(_, end)| end.as_ref()).for_each(|end| view.take(end));
        Ok(())
    }
}

/// The end that a record is.
pub(super) fn end_of(slot: &Slot, record: Record) -> Result<End> {
    match record {
        Record::Commit { objects, removed } => Ok(End::Commit { objects: objects.into(), removed: removed.into() }),
        Record::Revoked => Ok(End::Revoked),
        other => Err(unexpected(&slot.end(), &other)),
    }
}

/// The last number that is there, of numbers without a gap of which `known` is there.
pub(super) fn last_where(known: u64, is_there: &dyn Fn(u64) -> Result<bool>) -> Result<u64> {
    let (mut low, mut step) = (known, 1);
    while is_there(low + step)? {
        low += step;
        step *= 2;
    }
    let mut high = low + step;
    while high - low > 1 {
        let middle = low + (high - low) / 2;
        if is_there(middle)? {
            low = middle;
        } else {
            high = middle;
        }
    }
    Ok(low)
}
