//! A gc in a bucket: G1 to G6.
//!
//! Every step is decided once, by one key. A gc that finds a step decided adopts what it says, so any number of them may be
//! at work, and any of them may stop anywhere.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Instant;

use super::BucketOptions;
use super::history::{End, History, Lane, View, end_of};
use super::objects::{BucketStorage, Scope};
use super::records::{Decided, Records, parse, unexpected};
use super::session::BucketSession;
use crate::error::{Error, Result};
use crate::format::bucket::{LANES, Nonce, ObjectKey, Record, Slot, StoredObject, gc_key};
use crate::format::name::ObjectName;
use crate::format::pending_deletes::{PENDING_DELETES_MAX, PendingDeletes};
use crate::storage::coordination::{Collection, Session};
use crate::storage::{Holder, Listed, Storage, random_bytes};

/// A generation with more ends than this is closed though nothing is to be deleted: every reader reads them all.
const ENDS_MAX: usize = 256;

/// What is announced.
#[derive(Debug)]
struct Announced {
    keys: BTreeSet<ObjectKey>,
    hash: [u8; 32],
    names: PendingDeletes,
}

/// A gc at work in a bucket.
#[derive(Debug)]
pub(super) struct BucketCollection {
    history: Arc<History>,
    options: BucketOptions,
    nonce: Nonce,
    /// The newest generation that is done.
    generation: u64,
    storage: BucketStorage,
    copying: Option<BucketSession>,
    announced: Option<Announced>,
    /// Since when it waits.
    waiting_since: Option<Instant>,
}

impl BucketCollection {
    pub(super) fn begin(history: &Arc<History>, options: BucketOptions) -> Result<Self> {
        let generation = history.done()?;
        let mut collection = Self {
            history: Arc::clone(history),
            options,
            nonce: random_bytes()?,
            generation,
            storage: BucketStorage::scoped(Arc::clone(history), Scope::Collection(generation), None),
            copying: None,
            announced: None,
            waiting_since: None,
        };
        if let Some(record) = collection.records().get(&collection.key("condemned"))? {
            collection.adopt(record)?;
        }
        Ok(collection)
    }

    fn records(&self) -> &Records {
        &self.history.records
    }

    /// The key of a record of the generation that this gc makes.
    fn key(&self, what: &str) -> String {
        gc_key(self.generation + 1, what)
    }

    fn adopt(&mut self, record: Record) -> Result<()> {
        let Record::PendingDeletes(keys) = &record else { return Err(unexpected(&self.key("condemned"), &record)) };
        let mut names = PendingDeletes::default();
        keys.iter().for_each(|key| names.insert(key.name));
        // The hash is of the bytes that are there, no matter who wrote them.
        let bytes = self.records().must_get(&self.key("condemned"))?;
        let hash = *blake3::hash(&bytes).as_bytes();
        self.announced = Some(Announced { keys: keys.iter().copied().collect(), hash, names });
        Ok(())
    }

    /// What is to go of what these names and the listings say: objects, copies that are not read, and what no record lists.
    fn keys_to_announce(&self, pending_deletes: &PendingDeletes, view: &View) -> Result<BTreeSet<ObjectKey>> {
        let mut keys: BTreeSet<ObjectKey> = view.removed.clone();
        for key in view.objects.keys() {
            let is_read = view.keys(&key.name).first() == Some(key);
            if pending_deletes.contains(key.name) || !is_read {
                keys.insert(*key);
            }
        }
        for prefix in ["packs/", "recipes/", "snapshots/"] {
            let listed = self.records().retry("list", prefix, |bucket| bucket.list(prefix))?;
            let unknown = listed.iter().filter_map(|(text, _)| ObjectKey::parse(text));
            let is_old = |key: &ObjectKey| key.slot.generation <= self.generation && !view.objects.contains_key(key);
            keys.extend(unknown.filter(is_old));
        }
        while keys.len() > PENDING_DELETES_MAX {
            keys.pop_last();
        }
        Ok(keys)
    }

    /// G3 for one lane: closes it, so that its last slot is known.
    fn close(&self, lane: u8, known: Lane, hash: [u8; 32]) -> Result<Lane> {
        let mut lane_read = known;
        while !lane_read.closed {
            let slot = Slot { generation: self.generation, lane, number: lane_read.slots.len() as u64 };
            match self.records().decide(&slot.lease(), &Record::Closed(hash), &self.nonce)? {
                Decided::Ours | Decided::Theirs(Record::Closed(_)) => lane_read.closed = true,
                Decided::Theirs(Record::Lease(holder)) => lane_read.slots.push((holder, None)),
                Decided::Theirs(other) => return Err(unexpected(&slot.lease(), &other)),
            }
        }
        Ok(lane_read)
    }

    /// What the ledger and all ends say, each of which is decided by now. An answer that one of them does not exist is stale.
    fn decided(&self, hash: [u8; 32]) -> Result<View> {
        for (lane, read) in (0..LANES).zip(self.history.lanes(self.generation)?) {
            let mut read = self.close(lane, read, hash)?;
            for (number, (_, end)) in read.slots.iter_mut().enumerate().filter(|(_, (_, end))| end.is_none()) {
                let slot = Slot { generation: self.generation, lane, number: number as u64 };
                let record = parse(&slot.end(), &self.records().must_get(&slot.end())?)?;
                *end = Some(end_of(&slot, record)?);
            }
            self.history.keep(self.generation, lane, read);
        }
        self.history.for_collection(self.generation)
    }
}

impl Collection for BucketCollection {
    fn storage(&self) -> &dyn Storage {
        &self.storage
    }

    fn pending(&self) -> Option<&PendingDeletes> {
        self.announced.as_ref().map(|announced| &announced.names)
    }

    /// Takes a lease of this generation, which is ended before G3.
    fn begin_copies(&mut self) -> Result<()> {
        if self.copying.is_some() {
            return Ok(());
        }
        let session = BucketSession::begin(&self.history, self.generation)?;
        if session.generation() != self.generation {
            return Err(Error::Locked { path: self.records().describe(&self.key("condemned")).into() });
        }
        self.copying = Some(session);
        Ok(())
    }

    fn copies(&self) -> &dyn Storage {
        self.copying.as_ref().map_or(&self.storage as &dyn Storage, Session::storage)
    }

    fn announce(&mut self, pending_deletes: &PendingDeletes, _: bool) -> Result<()> {
        // Before G3, or this gc would wait for itself.
        if let Some(session) = self.copying.take() {
            session.commit(&[])?;
        }
        let view = self.history.for_collection(self.generation)?;
        let keys = self.keys_to_announce(pending_deletes, &view)?;
        if keys.is_empty() && view.ends < ENDS_MAX {
            return Ok(());
        }
        let record = Record::PendingDeletes(keys.into_iter().collect());
        let record = match self.records().decide(&self.key("condemned"), &record, &self.nonce)? {
            Decided::Ours => record,
            Decided::Theirs(theirs) => theirs,
        };
        self.adopt(record)
    }

    fn waits_for(&mut self) -> Result<Vec<Holder>> {
        let Some(hash) = self.announced.as_ref().map(|announced| announced.hash) else { return Ok(Vec::new()) };
        let since = *self.waiting_since.get_or_insert_with(Instant::now);
        let is_patient = since.elapsed() < self.options.revoke_after;
        let mut held = Vec::new();
        for (lane, read) in (0..LANES).zip(self.history.lanes(self.generation)?) {
            let mut read = self.close(lane, read, hash)?;
            for (number, (holder, end)) in read.slots.iter_mut().enumerate().filter(|(_, (_, end))| end.is_none()) {
                let slot = Slot { generation: self.generation, lane, number: number as u64 };
                *end = self.history.end(slot)?;
                if end.is_some() {
                    continue;
                }
                if is_patient {
                    held.push(Holder::parse(self.records().describe(&slot.lease()).as_ref(), holder.as_bytes()));
                    continue;
                }
                // If it committed meanwhile, that stands.
                *end = Some(match self.records().decide(&slot.end(), &Record::Revoked, &self.nonce)? {
                    Decided::Ours => End::Revoked,
                    Decided::Theirs(record) => end_of(&slot, record)?,
                });
            }
            // What is marked from next must show all of it.
            self.history.keep(self.generation, lane, read);
        }
        Ok(held)
    }

    fn carry_out(&mut self, delete: &[ObjectName]) -> Result<Vec<Listed>> {
        let Some(announced) = self.announced.take() else { return Ok(Vec::new()) };
        let view = self.decided(announced.hash)?;
        let delete: BTreeSet<&ObjectName> = delete.iter().collect();
        let stays = |key: &ObjectKey| view.objects.contains_key(key) && !announced.keys.contains(key);
        let goes = |key: &&ObjectKey| match view.objects.contains_key(*key) {
            // Written by a session that was revoked, or removed.
            false => true,
            true => {
                let is_copied = || view.keys(&key.name).iter().any(stays);
                key.name.snapshot().is_none() && (delete.contains(&key.name) || is_copied())
            }
        };
        let keys: Vec<ObjectKey> = announced.keys.iter().filter(goes).copied().collect();
        let record = Record::Delete(keys);
        let keys = match self.records().decide(&self.key("delete"), &record, &self.nonce)? {
            Decided::Ours => record,
            Decided::Theirs(theirs) => theirs,
        };
        let Record::Delete(keys) = keys else { return Err(unexpected(&self.key("delete"), &keys)) };
        // Recipes before the chunks they name.
        let (packs, others): (Vec<&ObjectKey>, Vec<&ObjectKey>) =
            keys.iter().partition(|key| key.name.pack().is_some());
        let mut unlisted = Vec::new();
        for key in others.into_iter().chain(packs) {
            let text = key.text();
            if !view.objects.contains_key(key)
                && let Some(bytes) = self.records().retry("inspect", &text, |bucket| bucket.size(&text))?
            {
                unlisted.push(Listed { name: key.name, bytes });
            }
            self.records().retry("remove", &text, |bucket| bucket.delete(&text))?;
        }
        let gone: BTreeSet<&ObjectKey> = keys.iter().collect();
        let left = view.objects.iter().filter(|(key, _)| !gone.contains(key));
        let ledger = left.map(|(key, bytes)| StoredObject { key: *key, bytes: *bytes }).collect();
        // A rival's is the same: it follows from what is decided.
        self.records().decide(&self.key("done"), &Record::Done(ledger), &self.nonce)?;
        self.generation += 1;
        self.waiting_since = None;
        let scope = Scope::Collection(self.generation);
        self.storage = BucketStorage::scoped(Arc::clone(&self.history), scope, None);
        Ok(unlisted)
    }
}
