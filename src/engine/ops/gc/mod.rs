//! When may a pack be deleted, while others add to the store and read from it? When no snapshot needs it, and none can
//! come to.
//!
//! A snapshot that is there is easily asked what it needs ([`mark`]). One that is still being made is not: its add may
//! have found a chunk in a pack that no snapshot reaches, and be about to name it. Nobody is locked out for that, and no
//! clock is asked. Instead:
//!
//! ```text
//! add                                          gc, one at a time (gc.lock)
//! A1  take a lease                             G1  mark; copy what is needed out of nearly dead packs
//! A2  read the pending-delete lists            G2  write, durably, a pending-delete list
//! A3  list packs, recipes files, snapshots     G3  list the leases, wait until each has ended
//! A4  add; rely on nothing that is listed      G4  mark again; delete what is listed and still not needed
//! A5  the snapshot is durable: commit          G5  remove the record
//! A6  the lease ends
//! ```
//!
//! Why nothing is deleted that a snapshot needs (invariant 3):
//!
//! 1. Take any add and any record. If A2 comes after G2, the add sees the record, unless it was removed by then, and then
//!    all that it listed was deleted or spared before A3. If A2 comes before G2, so does A1, and G3 finds the lease.
//! 2. An add that saw the record relies on nothing it lists: neither on a chunk, which it stores again, nor on a recipe,
//!    nor on a row of its parent snapshot, whose contents it checks ([`ChunkIndex::keeps`](crate::engine::ChunkIndex)), for the parent
//!    may have been removed meanwhile. Nor does it give a new object a *name* that is listed, though names come from
//!    contents: deleting goes by name ([`PendingDeletes::filler`], `PackWriter::finish_unlike`).
//! 3. An add that did not see it has ended before G4, which asks all snapshots there are by then.
//! 4. What an add relies on besides is not listed. To be deleted it must be listed by a later record, for which G3 finds
//!    this add's lease.
//!
//! And after a crash, of gc at any point: there is a record or none. Without one, at most new packs were written, which
//! hold what others hold. With one, the next gc goes on at G3, with all leases there are. The deletes are durable before
//! the record goes. A snapshot that somebody removed a moment ago counts as removed only once that is durable
//! ([`settle_snapshots`](crate::storage::LocalStorage::settle_snapshots)), or it might be back with its packs gone.
//! Leases and `gc.lock` are locks of the kernel: they end with their process.
//!
//! On a full disk there is no room for the record. Then G2 to G5 become: lock `store.json` exclusively, see that there is no
//! lease; G4; release. Every add shares that lock from before A1 until after A6, so
//!
//! 5. an add that began before has ended before G4, as in 3; one that begins later gets the lock when G4 is over, so its A3
//!    lists nothing that G4 deleted. A crash in between releases the lock: what was deleted by then was needed by nobody.
//!
//! Readers take no lease. One whose pack is gone looks its chunk up again: it is elsewhere, unless the snapshot itself
//! was removed. The model of all this, and what it catches, is in `proofs/`.

pub(in crate::engine) mod assign;
mod dry_run;
pub(in crate::engine) mod mark;
pub(in crate::engine) mod rewrite;
#[cfg(test)]
pub(in crate::engine) mod tests;

use std::collections::BTreeSet;
use std::time::Duration;

use self::assign::{Container, IDS_MAX};
use self::dry_run::DryRunStorage;
use self::mark::{Marked, Marking, snapshots_in};
use self::rewrite::{rewrite_packs, rewrite_recipes};
use crate::engine::Store;
use crate::engine::store::control::Control;
use crate::error::{Error, Result};
use crate::format::id::SnapshotId;
use crate::format::name::ObjectName;
use crate::format::pending_deletes::{PENDING_DELETES_MAX, PendingDeletes};
use crate::storage::coordination::{Collection, Pending};
use crate::storage::{Holder, Storage};

/// How gc goes about it.
///
/// ```
/// # use seamstore::{Control, Store, entry::*, report::*, request::*};
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let store = Store::in_memory(Settings::default())?;
/// # let writer = store.writer(WriterOptions::default().threads(1))?;
/// # writer.add_bytes(writer.entry("notes/first.txt", EntryKind::File)?, b"found again".to_vec())?;
/// # let added = writer.finish()?;
/// # let control = Control::default();
/// let request = GcRequest::default().dry_run(true).max_waste(0.0);
/// let report = store.gc(&request, &control, &|holders: &[Holder]| {
///     for holder in holders {
///         eprintln!("waiting for process {:?} of {:?}", holder.process, holder.host);
///     }
/// })?;
/// assert_eq!((report.snapshots, report.freed_bytes()), (1, 0));
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct GcRequest {
    pub(crate) dry_run: bool,
    pub(crate) max_waste: f64,
    pub(crate) no_wait: bool,
    pub(crate) without: BTreeSet<SnapshotId>,
}

impl GcRequest {
    /// Change nothing, say what would be freed.
    #[must_use]
    pub fn dry_run(mut self, dry_run: bool) -> Self {
        self.dry_run = dry_run;
        self
    }

    /// Rewrite packs and recipes files of which more than this share is needed by nobody: 0 to 1.
    #[must_use]
    pub fn max_waste(mut self, max_waste: f64) -> Self {
        self.max_waste = max_waste;
        self
    }

    /// Where adds are running, do not wait for their end: the next gc deletes what was announced.
    #[must_use]
    pub fn no_wait(mut self, no_wait: bool) -> Self {
        self.no_wait = no_wait;
        self
    }

    /// Snapshots that count as removed already; for dry runs.
    #[must_use]
    pub fn without(mut self, without: BTreeSet<SnapshotId>) -> Self {
        self.without = without;
        self
    }
}

impl Default for GcRequest {
    fn default() -> Self {
        Self { dry_run: false, max_waste: 0.2, no_wait: false, without: BTreeSet::new() }
    }
}

/// What gc did, or in a dry run would do.
///
/// ```
/// # use seamstore::{Control, Store, entry::*, report::*, request::*};
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let store = Store::in_memory(Settings::default())?;
/// # let writer = store.writer(WriterOptions::default().threads(1))?;
/// # writer.add_bytes(writer.entry("notes/first.txt", EntryKind::File)?, b"found again".to_vec())?;
/// # let added = writer.finish()?;
/// # let control = Control::default();
/// let request = GcRequest::default().dry_run(true).max_waste(0.0);
/// let report = store.gc(&request, &control, &|holders: &[Holder]| {
///     for holder in holders {
///         eprintln!("waiting for process {:?} of {:?}", holder.process, holder.host);
///     }
/// })?;
/// assert_eq!((report.snapshots, report.freed_bytes()), (1, 0));
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Default)]
#[non_exhaustive]
pub struct GcReport {
    /// Snapshots whose contents were kept.
    pub snapshots: u64,
    /// Packs deleted, and their bytes.
    pub packs: u64,
    /// See `packs`.
    pub pack_bytes: u64,
    /// Packs written, with what was needed of some that were deleted, and their bytes.
    pub new_packs: u64,
    /// See `new_packs`.
    pub new_pack_bytes: u64,
    /// Recipes files deleted, and their bytes.
    pub recipes_files: u64,
    /// See `recipes_files`.
    pub recipes_bytes: u64,
    /// Recipes files written, with what was needed of some that were deleted, and their bytes.
    pub new_recipes_files: u64,
    /// See `new_recipes_files`.
    pub new_recipes_bytes: u64,
    /// Objects that were announced for deletion and then spared: an add that ran meanwhile relies on them.
    pub spared: u64,
    /// Objects that are pending deletion and wait for the end of adds; only without waiting.
    pub pending_deletes: u64,
    /// The adds they wait for.
    pub leases: u64,
    /// Bytes of chunks that nobody needs, in packs that were kept because they are few there.
    pub waste_bytes: u64,
    /// Chunks that snapshots need and no pack has that can be read.
    pub lost_chunks: u64,
    /// Packs and recipes files that were kept as they are because they are damaged, and how.
    pub damaged: Vec<(ObjectName, String)>,
}

impl GcReport {
    /// What the store became smaller by.
    #[must_use]
    pub fn freed_bytes(&self) -> u64 {
        (self.pack_bytes + self.recipes_bytes).saturating_sub(self.new_pack_bytes + self.new_recipes_bytes)
    }

    fn count_deleted(&mut self, name: ObjectName, bytes: u64) {
        let (objects, sum) = match name {
            ObjectName::Pack(_) => (&mut self.packs, &mut self.pack_bytes),
            ObjectName::Recipes(_) => (&mut self.recipes_files, &mut self.recipes_bytes),
            _ => return,
        };
        *objects += 1;
        *sum += bytes;
    }
}

/// How often gc looks whether an add has ended. Nothing rests on it.
const LOOK_EVERY: Duration = Duration::from_millis(50);

impl Store {
    /// Frees what no snapshot needs. Others may add and read meanwhile. `waiting` is called with the adds that must end
    /// before the next step, once for each time that gc begins to wait.
    ///
    /// # Errors
    /// [`Error::Locked`] if another gc is at work; [`Error::Damaged`] if it is unknown what a snapshot needs: nothing
    /// is deleted then; [`Error::Interrupted`]; the storage's. After any of them, and after a crash, the next gc goes on.
    pub fn gc(&self, request: &GcRequest, control: &Control, waiting: &dyn Fn(&[Holder])) -> Result<GcReport> {
        if request.dry_run {
            return Collector::new(self, request, control).rehearse().map_err(deletes_nothing);
        }
        if !request.without.is_empty() {
            return Err(Error::Usage("only a dry run can take snapshots for removed".to_owned()));
        }
        // On a disk that has no room even for the file whose lock this takes, the index goes: it is a cache.
        let mut collection = match self.coordination().collect() {
            Err(error) if error.is_out_of_space() && self.drop_index() => {
                drop(error);
                self.coordination().collect()?
            }
            collection => collection?,
        };
        self.sweep();
        let collected = Collector::new(self, request, control).run(&mut *collection, waiting).map_err(deletes_nothing);
        drop(collection);
        // Without this, the next add would bring the index up to date.
        let _ = crate::engine::ChunkIndex::open_without(self, self.storage(), PendingDeletes::default())
            .map(crate::engine::ChunkIndex::close);
        collected
    }
}

/// Says of a snapshot that cannot be read why nothing is deleted.
fn deletes_nothing(error: Error) -> Error {
    match error {
        Error::Damaged { file, offset, what }
            if ObjectName::from_path(&file).and_then(ObjectName::snapshot).is_some() =>
        {
            let what = format!("{what}; gc deletes nothing while it is unknown what this snapshot needs");
            Error::Damaged { file, offset, what }
        }
        error => error,
    }
}

/// A gc at work.
struct Collector<'a> {
    store: &'a Store,
    request: &'a GcRequest,
    control: &'a Control,
    report: GcReport,
}

impl<'a> Collector<'a> {
    fn new(store: &'a Store, request: &'a GcRequest, control: &'a Control) -> Self {
        Self { store, request, control, report: GcReport::default() }
    }

    fn marking<'b>(&self, storage: &'b dyn Storage, gone: &'b PendingDeletes, last: &'b PendingDeletes) -> Marking<'b>
    where
        'a: 'b,
    {
        let (control, without) = (self.control, &self.request.without);
        Marking { storage, control, without, gone, last, first: None, damaged: None, ids_max: IDS_MAX }
    }

    fn run(mut self, collection: &mut dyn Collection, waiting: &dyn Fn(&[Holder])) -> Result<GcReport> {
        let nothing = PendingDeletes::default();
        // Nothing is deleted by a record that cannot be read; it goes, and what is dead is found again.
        let unreadable = collection.take_unreadable();
        self.report.damaged.extend(unreadable.iter().map(|(name, error)| (*name, what_is_wrong(error))));
        // An earlier gc may have come as far as announcing.
        if !self.finish(collection, None, waiting)? {
            return Ok(self.report);
        }
        let damaged = self.report.damaged.len();
        loop {
            let freed = self.report.packs + self.report.recipes_files;
            self.report.damaged.truncate(damaged);
            let marked = self.marking(collection.storage(), &nothing, &nothing).mark()?;
            collection.begin_copies()?;
            let (pending_deletes, full) =
                self.announce(&marked, &nothing, collection.storage(), collection.copies())?;
            collection.announce(&pending_deletes, !self.request.no_wait)?;
            if collection.pending().is_none() {
                return match full {
                    Some(error) if freed == 0 => Err(error),
                    _ => Ok(self.report),
                };
            }
            if !self.finish(collection, Some((&marked, &pending_deletes)), waiting)? {
                return Ok(self.report);
            }
            // What was wholly dead is gone, so there may be room now for copies of what is left of nearly dead packs.
            if full.is_none() || self.report.packs + self.report.recipes_files == freed {
                return Ok(self.report);
            }
        }
    }

    fn check_stopped(&self) -> Result<()> {
        if self.control.is_stopped() {
            let kept = "nothing was deleted; the next gc deletes what is pending deletion".to_owned();
            return Err(Error::Interrupted { kept });
        }
        Ok(())
    }

    /// What a run would do if nobody else did anything.
    fn rehearse(mut self) -> Result<GcReport> {
        let nothing = PendingDeletes::default();
        let Pending { pending_deletes: pending, unreadable } = self.store.coordination().pending()?;
        self.report.damaged.extend(unreadable.iter().map(|(name, error)| (*name, what_is_wrong(error))));
        let storage = self.store.storage();
        let mut gone = PendingDeletes::default();
        if !pending.is_empty() {
            let marked = self.marking(storage, &nothing, &pending).mark()?;
            for container in listed_in(&marked, &pending) {
                if container.is_dead() {
                    gone.insert(container.name);
                    self.report.count_deleted(container.name, container.bytes);
                } else {
                    self.report.spared += 1;
                }
            }
        }
        let marked = self.marking(storage, &gone, &nothing).mark()?;
        let (pending_deletes, _) = self.announce(&marked, &gone, storage, &DryRunStorage(storage))?;
        listed_in(&marked, &pending_deletes)
            .for_each(|container| self.report.count_deleted(container.name, container.bytes));
        Ok(self.report)
    }

    /// What can go: what keeps nothing, and what keeps little, once that is written elsewhere. On a full disk, where
    /// that cannot be written, only the former; and the error.
    fn announce(
        &mut self,
        marked: &Marked,
        gone: &PendingDeletes,
        storage: &dyn Storage,
        target: &dyn Storage,
    ) -> Result<(PendingDeletes, Option<Error>)> {
        let mut pending_deletes = PendingDeletes::default();
        let all = || marked.recipes.iter().chain(&marked.packs);
        for container in all() {
            if container.is_dead() {
                pending_deletes.insert(container.name);
            } else if !container.readable {
                self.report.damaged.push((container.name, "it cannot be read, and is left as it is".to_owned()));
            }
        }
        let is_sparse = |container: &&Container| {
            !container.is_dead() && container.waste() as f64 > self.request.max_waste * container.weight as f64
        };
        let sparse = |of: &'_ [Container]| -> Vec<Container> { of.iter().filter(is_sparse).cloned().collect() };
        let (sparse_recipes, sparse_packs) = (sparse(&marked.recipes), sparse(&marked.packs));
        let nothing = PendingDeletes::default();
        let marking = self.marking(storage, gone, &nothing);
        let recipes = rewrite_recipes(&marking, &sparse_recipes.iter().collect::<Vec<_>>(), target)?;
        let packs = rewrite_packs(
            &marking,
            &sparse_packs.iter().collect::<Vec<_>>(),
            target,
            self.store.settings().frames,
            &pending_deletes.packs,
        )?;
        for name in recipes.from.iter().chain(&packs.from) {
            pending_deletes.insert(*name);
        }
        let report = &mut self.report;
        report.new_recipes_files += recipes.written;
        report.new_recipes_bytes += recipes.bytes;
        report.new_packs += packs.written;
        report.new_pack_bytes += packs.bytes;
        report.damaged.extend(packs.left.iter().map(|(name, error)| (*name, crate::error::chain(error))));
        while pending_deletes.len() > PENDING_DELETES_MAX {
            pending_deletes.packs.pop_last();
        }
        report.snapshots = marked.snapshots.len() as u64;
        report.lost_chunks = marked.lost_chunks;
        let kept = marked.packs.iter().filter(|container| !pending_deletes.contains(container.name));
        report.waste_bytes = kept.map(Container::waste).sum();
        Ok((pending_deletes, recipes.full.or(packs.full)))
    }

    /// Carries out what is announced, if anything is: waits for the end of all adds that may not know of it, and deletes it
    /// but for what is needed after all. `false` if adds must end first and it is not to wait for them. `known` is what the
    /// announcement came from, and what it was to be.
    fn finish(
        &mut self,
        collection: &mut dyn Collection,
        known: Option<(&Marked, &PendingDeletes)>,
        waiting: &dyn Fn(&[Holder]),
    ) -> Result<bool> {
        let Some(pending_deletes) = collection.pending().cloned() else { return Ok(true) };
        let mut held = collection.waits_for()?;
        if !held.is_empty() && self.request.no_wait {
            (self.report.pending_deletes, self.report.leases) = (pending_deletes.len() as u64, held.len() as u64);
            return Ok(false);
        }
        if !held.is_empty() {
            waiting(&held);
        }
        while !held.is_empty() {
            self.check_stopped()?;
            std::thread::park_timeout(LOOK_EVERY);
            held = collection.waits_for()?;
        }
        let nothing = PendingDeletes::default();
        let now = snapshots_in(collection.storage())?;
        // If no snapshot came since, what was marked still holds.
        let holds =
            |(marked, own): &(&Marked, &PendingDeletes)| **own == pending_deletes && now.is_subset(&marked.snapshots);
        let again;
        let (marked, is_new) = match known.filter(holds) {
            Some((marked, _)) => (marked, false),
            None => {
                again = self.marking(collection.storage(), &nothing, &pending_deletes).mark()?;
                (&again, true)
            }
        };
        // Recipes before the chunks they name.
        let (spared, dead): (Vec<&Container>, Vec<&Container>) =
            listed_in(marked, &pending_deletes).partition(|container| is_new && !container.is_dead());
        let names: Vec<ObjectName> = dead.iter().map(|container| container.name).collect();
        let unlisted = collection.carry_out(&names)?;
        self.report.spared += spared.len() as u64;
        dead.iter().for_each(|container| self.report.count_deleted(container.name, container.bytes));
        unlisted.iter().for_each(|object| self.report.count_deleted(object.name, object.bytes));
        Ok(true)
    }
}

/// What an error says of an object, without the object's name.
fn what_is_wrong(error: &Error) -> String {
    match error {
        Error::Damaged { what, .. } => what.clone(),
        error => crate::error::chain(error),
    }
}

/// What of it is pending deletion, recipes first.
fn listed_in<'m>(marked: &'m Marked, pending_deletes: &'m PendingDeletes) -> impl Iterator<Item = &'m Container> {
    marked.recipes.iter().chain(&marked.packs).filter(|container| pending_deletes.contains(container.name))
}
