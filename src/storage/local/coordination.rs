//! Sessions and collections in a folder: leases are locked files, an announcement is a record below `condemned/`, and one gc
//! works at a time (`gc.lock`). The protocol and why it loses nothing: [`crate::engine::ops::gc`].

use std::fs;
use std::path::PathBuf;

use super::LocalStorage;
use super::lease::{Alone, ExclusiveLock, Lease};
use crate::error::{Error, Result};
use crate::format::id::{PendingDeletesId, SnapshotId};
use crate::format::name::{ObjectKind, ObjectName};
use crate::format::pending_deletes::PendingDeletes;
use crate::storage::coordination::{Collection, Coordination, Pending, Session, read_pending_deletes};
use crate::storage::{Holder, Listed, Storage};

impl Coordination for LocalStorage {
    /// A1, A2.
    fn begin(&self) -> Result<Box<dyn Session>> {
        let lease = self.lease()?;
        let pending = Coordination::pending(self)?.known()?;
        Ok(Box::new(LocalSession { storage: self.clone(), pending, _held: Held::Lease(lease) }))
    }

    /// Also makes durable what earlier processes did: a repair does not look again at what an earlier one mended.
    fn begin_repair(&self) -> Result<Box<dyn Session>> {
        // Where there are no locks there is no gc either.
        let exclusive_lock = match self.exclusive_lock() {
            Err(Error::Io { source, .. }) if source.kind() == std::io::ErrorKind::Unsupported => None,
            exclusive_lock => Some(exclusive_lock?),
        };
        self.settle_all()?;
        let _held = Held::ExclusiveLock(exclusive_lock);
        Ok(Box::new(LocalSession { storage: self.clone(), pending: PendingDeletes::default(), _held }))
    }

    fn remove(&self, snapshots: &[SnapshotId]) -> Result<()> {
        snapshots.iter().try_for_each(|id| self.delete(&ObjectName::Snapshot(*id)))
    }

    fn pending(&self) -> Result<Pending> {
        Ok(self.records()?.1)
    }

    fn collect(&self) -> Result<Box<dyn Collection>> {
        let exclusive_lock = self.exclusive_lock()?;
        // Those of processes that are gone are removed by looking at them.
        let _ = self.leases();
        let (records, Pending { pending_deletes, unreadable }) = self.records()?;
        let (storage, waits) = (self.clone(), Waits::Begin);
        Ok(Box::new(LocalCollection {
            storage,
            records,
            pending_deletes,
            unreadable,
            waits,
            alone: None,
            _exclusive_lock: exclusive_lock,
        }))
    }

    fn unmake(&self) -> Result<bool> {
        // A process that has opened it by now and is about to add waits for this, and then finds no store.
        let Some(_alone) = self.alone()? else { return Ok(false) };
        for kind in [ObjectKind::Pack, ObjectKind::Recipes, ObjectKind::Snapshot, ObjectKind::PendingDeletes] {
            if !self.list(kind)?.is_empty() {
                return Ok(false);
            }
        }
        let root = self.root();
        // What is not empty is not this store's.
        for name in FOLDERS {
            let path = root.join(name);
            let below = fs::read_dir(&path).into_iter().flatten().flatten();
            below.for_each(|entry| drop(fs::remove_dir(entry.path())));
            let _ = fs::remove_dir(path);
        }
        // Last: until then it is a store without anything in it.
        Ok(fs::remove_file(root.join(ObjectName::Config.path())).is_ok())
    }
}

/// The directories below a store's root that this program makes.
const FOLDERS: [&str; 7] = ["tmp", "index", "leases", "packs", "recipes", "snapshots", "condemned"];

impl LocalStorage {
    /// The records of what is announced, and what they say.
    fn records(&self) -> Result<(Vec<ObjectName>, Pending)> {
        let mut records = Vec::new();
        let mut pending = Pending::default();
        for listed in self.list(ObjectKind::PendingDeletes)? {
            match read_pending_deletes(self, &listed) {
                Ok(pending_deletes) => {
                    pending.pending_deletes.packs.extend(pending_deletes.packs);
                    pending.pending_deletes.recipes.extend(pending_deletes.recipes);
                }
                // Carried out since it was listed: what it listed is deleted, or there to stay.
                Err(Error::NotFound { .. }) => continue,
                Err(error @ Error::Damaged { .. }) => pending.unreadable.push((listed.name, error)),
                Err(error) => return Err(error),
            }
            records.push(listed.name);
        }
        Ok((records, pending))
    }
}

/// An add, an import, an export or a repair.
#[derive(Debug)]
struct LocalSession {
    storage: LocalStorage,
    pending: PendingDeletes,
    _held: Held,
}

/// What keeps a gc from deleting while a session lasts.
#[derive(Debug)]
#[expect(dead_code, reason = "held until it is dropped")]
enum Held {
    /// Of whatever adds: a gc waits for it.
    Lease(Lease),
    /// Of a repair: no gc begins. `None` where there are no locks, and so no gc.
    ExclusiveLock(Option<ExclusiveLock>),
}

impl Session for LocalSession {
    fn storage(&self) -> &dyn Storage {
        &self.storage
    }

    fn pending(&self) -> &PendingDeletes {
        &self.pending
    }

    /// Each change was visible and durable as soon as it was made.
    fn commit(&self, _: &[SnapshotId]) -> Result<()> {
        Ok(())
    }
}

/// Which leases are waited for.
#[derive(Debug)]
enum Waits {
    /// Those that there are when it is asked for the first time.
    Begin,
    /// These, of which there are fewer and fewer.
    For(Vec<PathBuf>),
    /// All: the disk is full, so nothing is announced, and no lease may be held or taken.
    Alone,
}

/// A gc at work.
#[derive(Debug)]
struct LocalCollection {
    storage: LocalStorage,
    records: Vec<ObjectName>,
    pending_deletes: PendingDeletes,
    unreadable: Vec<(ObjectName, Error)>,
    waits: Waits,
    alone: Option<Alone>,
    _exclusive_lock: ExclusiveLock,
}

impl Collection for LocalCollection {
    fn storage(&self) -> &dyn Storage {
        &self.storage
    }

    fn pending(&self) -> Option<&PendingDeletes> {
        let is_pending = !self.records.is_empty() || !self.pending_deletes.is_empty();
        is_pending.then_some(&self.pending_deletes)
    }

    fn take_unreadable(&mut self) -> Vec<(ObjectName, Error)> {
        std::mem::take(&mut self.unreadable)
    }

    fn copies(&self) -> &dyn Storage {
        &self.storage
    }

    fn announce(&mut self, pending_deletes: &PendingDeletes, is_to_wait: bool) -> Result<()> {
        if pending_deletes.is_empty() {
            return Ok(());
        }
        let bytes = pending_deletes.encode();
        let record = ObjectName::PendingDeletes(PendingDeletesId::of(&bytes));
        self.waits = match self.storage.put_if_absent(&record, &bytes) {
            Ok(_) => {
                self.records.push(record);
                Waits::Begin
            }
            // There is no room for the record.
            Err(error) if error.is_out_of_space() => {
                self.alone = self.storage.alone()?;
                if self.alone.is_none() && !is_to_wait {
                    return Err(error);
                }
                Waits::Alone
            }
            Err(error) => return Err(error),
        };
        self.pending_deletes = pending_deletes.clone();
        Ok(())
    }

    fn waits_for(&mut self) -> Result<Vec<Holder>> {
        if let Waits::Alone = self.waits {
            if self.alone.is_none() {
                self.alone = self.storage.alone()?;
            }
            if self.alone.is_some() {
                return Ok(Vec::new());
            }
            let leases = self.storage.leases()?;
            let config = || vec![Holder::unknown(self.storage.describe(&ObjectName::Config).into())];
            // A session may be about to take its lease, or about to end.
            return Ok(if leases.is_empty() { config() } else { self.holders(&leases) });
        }
        let mut held = Vec::new();
        match std::mem::replace(&mut self.waits, Waits::Begin) {
            Waits::For(leases) => {
                for lease in leases {
                    if self.storage.is_held(&lease)? {
                        held.push(lease);
                    }
                }
            }
            _ => held = self.storage.leases()?,
        }
        let holders = self.holders(&held);
        self.waits = Waits::For(held);
        Ok(holders)
    }

    fn carry_out(&mut self, delete: &[ObjectName]) -> Result<Vec<Listed>> {
        self.storage.settle_snapshots()?;
        delete.iter().try_for_each(|name| self.storage.delete(name))?;
        self.records.iter().try_for_each(|record| self.storage.delete(record))?;
        self.records.clear();
        (self.pending_deletes, self.alone, self.waits) = (PendingDeletes::default(), None, Waits::Begin);
        Ok(Vec::new())
    }
}

impl LocalCollection {
    fn holders(&self, leases: &[PathBuf]) -> Vec<Holder> {
        leases.iter().map(|lease| self.storage.holder(lease)).collect()
    }
}
