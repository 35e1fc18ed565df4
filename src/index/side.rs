//! Which owners (packs, recipes files) may have an id, by all that is known now: what is in the runs, what is on its way
//! there, and what is still collected for the next one.
//!
//! Invariant: an owner is listed in the tables by the same change that puts its entries into the runs, so one that is
//! listed is covered, and one that is not is added again when it is next seen.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use super::filter::Shape;
use super::run::{self, Entry, Place, Run, RunInfo};
use super::table::{Change, Listing, View};
use crate::error::Result;

/// As many entries are collected before they become a run: as many as a hash map of 2^17 places takes before it grows.
pub(super) const BATCH_ENTRIES: usize = 7 << 14;

/// So many runs of about a size are merged.
const RUNS_PER_LEVEL: usize = 4;

/// Runs below this many entries are of one size: rewriting them takes no time worth saving.
const LEVEL_ENTRIES: u64 = 4096;

/// What is not in a run yet.
#[derive(Debug)]
struct Pending<P> {
    /// The first entry of each prefix.
    first: HashMap<u64, (u32, P)>,
    /// Further ones.
    more: BTreeMap<(u64, u32), P>,
}

impl<P> Default for Pending<P> {
    fn default() -> Self {
        Self { first: HashMap::new(), more: BTreeMap::new() }
    }
}

impl<P: Place> Pending<P> {
    fn len(&self) -> usize {
        self.first.len() + self.more.len()
    }

    fn insert(&mut self, entry: Entry<P>) {
        let value = (entry.owner, entry.place);
        let first = *self.first.entry(entry.prefix).or_insert(value);
        if first.0 != entry.owner {
            self.more.entry((entry.prefix, entry.owner)).or_insert(entry.place);
        }
    }

    fn has(&self, prefix: u64) -> bool {
        self.first.contains_key(&prefix)
    }

    fn find(&self, prefix: u64, found: &mut Vec<(u32, P)>) {
        let Some(first) = self.first.get(&prefix) else { return };
        found.push(*first);
        if !self.more.is_empty() {
            let more = self.more.range((prefix, 0)..=(prefix, u32::MAX));
            found.extend(more.map(|((_, owner), place)| (*owner, *place)));
        }
    }

    fn sorted(&self) -> Vec<Entry<P>> {
        let first = self.first.iter().map(|(prefix, (owner, place))| (*prefix, *owner, *place));
        let more = self.more.iter().map(|((prefix, owner), place)| (*prefix, *owner, *place));
        let mut all: Vec<_> = first.chain(more).map(|(prefix, owner, place)| Entry { prefix, owner, place }).collect();
        all.sort_unstable_by_key(|entry| (entry.prefix, entry.owner));
        all
    }
}

#[derive(Debug, Clone, Copy)]
struct Owner {
    id: [u8; 32],
    entries: u32,
}

/// One of the two maps of the index, as far as it is in memory.
#[derive(Debug)]
pub(super) struct SideState<P> {
    owners: HashMap<u32, Owner>,
    numbers: HashMap<[u8; 32], u32>,
    next_owner: u32,
    pending: Pending<P>,
    /// What a flush is just writing.
    flushing: Arc<Pending<P>>,
    runs: Vec<Arc<Run<P>>>,
    /// Owners that the tables do not list yet.
    unlisted: Vec<u32>,
    /// Owners that the tables list still.
    gone: Vec<u32>,
}

/// Where an entry may be.
#[derive(Debug, Clone, Copy)]
pub(super) struct Hints {
    pending: bool,
    /// A bit for each run, by its position.
    runs: u64,
}

impl Hints {
    /// Runs are few; those past the last bit share it.
    fn bit(position: usize) -> u64 {
        1 << position.min(63)
    }
}

/// A set of owners: asked for every entry of a merge.
#[derive(Debug, Default)]
struct Live(Vec<u64>);

impl Live {
    fn of(owners: impl Iterator<Item = u32>) -> Self {
        let mut live = Self::default();
        for owner in owners {
            let word = owner as usize / 64;
            if live.0.len() <= word {
                live.0.resize(word + 1, 0);
            }
            if let Some(word) = live.0.get_mut(word) {
                *word |= 1 << (owner % 64);
            }
        }
        live
    }

    fn contains(&self, owner: u32) -> bool {
        self.0.get(owner as usize / 64).is_some_and(|word| word >> (owner % 64) & 1 == 1)
    }
}

/// What a flush has to do.
#[derive(Debug)]
pub(super) struct Flush<P> {
    batch: Arc<Pending<P>>,
    listed: Vec<(u32, [u8; 32], u32)>,
    gone: Vec<u32>,
    next_owner: u32,
    live: Live,
    live_entries: u64,
    merged: Vec<Arc<Run<P>>>,
    number: u32,
}

impl<P: Place> SideState<P> {
    /// What the tables list. A database of so many bytes bounds how large a run can be.
    pub(super) fn load(listing: Listing, view: &View, database_bytes: u64) -> Result<Self> {
        let mut state = Self {
            owners: HashMap::with_capacity(listing.owners.len()),
            numbers: HashMap::with_capacity(listing.owners.len()),
            next_owner: listing.next_owner,
            pending: Pending::default(),
            flushing: Arc::default(),
            runs: Vec::new(),
            unlisted: Vec::new(),
            gone: Vec::new(),
        };
        for (number, id, entries) in listing.owners {
            state.next_owner = state.next_owner.max(number.saturating_add(1));
            state.owners.insert(number, Owner { id, entries });
            state.numbers.insert(id, number);
        }
        for info in listing.runs {
            if info.planned.max(info.filter.bytes()) > database_bytes || info.entries > info.planned {
                return Err(view.nonsense(format!("{info:?} in {database_bytes} bytes")));
            }
            state.runs.push(Arc::new(Run::new(info, view.run(P::SIDE, info.number)?, None)));
        }
        Ok(state)
    }

    /// Whether this owner is covered.
    pub(super) fn knows(&self, id: &[u8; 32]) -> bool {
        self.numbers.contains_key(id)
    }

    /// The ids of all owners.
    pub(super) fn owners(&self) -> impl Iterator<Item = &[u8; 32]> {
        self.numbers.keys()
    }

    /// Covers an owner, with its (prefix, place) pairs. False if it was covered already.
    pub(super) fn add(&mut self, id: [u8; 32], entries: impl ExactSizeIterator<Item = (u64, P)>) -> bool {
        // Numbers last for 2^32 additions: 250 PB of full packs.
        if self.knows(&id) || self.next_owner == u32::MAX {
            return false;
        }
        let owner = self.next_owner;
        self.next_owner += 1;
        self.owners.insert(owner, Owner { id, entries: u32::try_from(entries.len()).unwrap_or(u32::MAX) });
        self.numbers.insert(id, owner);
        self.unlisted.push(owner);
        for (prefix, place) in entries {
            self.pending.insert(Entry { prefix, owner, place });
        }
        true
    }

    /// Covers an owner no more. False if it was not covered.
    pub(super) fn remove(&mut self, id: &[u8; 32]) -> bool {
        let Some(number) = self.numbers.remove(id) else { return false };
        self.owners.remove(&number);
        self.gone.push(number);
        true
    }

    /// Where an entry with this prefix may be, by what is in memory; `None` if there is none.
    ///
    /// # Errors
    /// When a page of a filter that was not needed before cannot be read.
    #[inline]
    pub(super) fn hints(&self, prefix: u64) -> Result<Option<Hints>> {
        let mut hints = Hints { pending: self.pending.has(prefix) || self.flushing.has(prefix), runs: 0 };
        for (position, run) in self.runs.iter().enumerate() {
            if run.may_contain(prefix)? {
                hints.runs |= Hints::bit(position);
            }
        }
        Ok((hints.pending || hints.runs != 0).then_some(hints))
    }

    /// Appends the (owner, place) of all entries with this prefix to `found`, the latest first. The hints must be for
    /// this prefix, and taken since the last change.
    pub(super) fn find(&self, prefix: u64, hints: Hints, found: &mut Vec<(u32, P)>) -> Result<()> {
        if hints.pending {
            self.pending.find(prefix, found);
            self.flushing.find(prefix, found);
        }
        for (position, run) in self.runs.iter().enumerate() {
            if hints.runs & Hints::bit(position) != 0 {
                run.find(prefix, found)?;
            }
        }
        Ok(())
    }

    /// The id of an owner, if it is still covered.
    pub(super) fn id(&self, owner: u32) -> Option<[u8; 32]> {
        self.owners.get(&owner).map(|owner| owner.id)
    }

    /// Whether enough was collected for a run.
    pub(super) fn is_full(&self) -> bool {
        self.pending.len() >= BATCH_ENTRIES
    }

    /// Takes what was collected, if there is anything to write. It stays findable.
    pub(super) fn begin_flush(&mut self) -> Option<Flush<P>> {
        if self.pending.len() == 0 && self.unlisted.is_empty() && self.gone.is_empty() {
            return None;
        }
        self.flushing = Arc::new(std::mem::take(&mut self.pending));
        let unlisted = std::mem::take(&mut self.unlisted).into_iter();
        let listed = unlisted.filter_map(|number| {
            let owner = self.owners.get(&number)?;
            Some((number, owner.id, owner.entries))
        });
        Some(Flush {
            batch: Arc::clone(&self.flushing),
            listed: listed.collect(),
            gone: std::mem::take(&mut self.gone),
            next_owner: self.next_owner,
            live: Live::of(self.owners.keys().copied()),
            live_entries: self.live_entries(),
            merged: self.runs_to_merge(self.flushing.len() as u64),
            number: self.runs.iter().map(|run| run.info.number + 1).max().unwrap_or(0),
        })
    }

    /// Entries of all owners.
    fn live_entries(&self) -> u64 {
        self.owners.values().map(|owner| u64::from(owner.entries)).sum()
    }

    /// The runs that a new one with so many entries is merged with.
    fn runs_to_merge(&self, new_entries: u64) -> Vec<Arc<Run<P>>> {
        let held: u64 = self.runs.iter().map(|run| run.info.entries).sum();
        if held > 2 * self.live_entries() + LEVEL_ENTRIES {
            return self.runs.clone();
        }
        let level = |entries: u64| (entries / LEVEL_ENTRIES).max(1).ilog2() / RUNS_PER_LEVEL.ilog2();
        let mut entries = new_entries;
        let mut merged: Vec<Arc<Run<P>>> = Vec::new();
        let mut rest = self.runs.clone();
        loop {
            let its_level = level(entries);
            let (same, others): (Vec<_>, Vec<_>) =
                rest.into_iter().partition(|run| level(run.info.entries) <= its_level);
            let enough = if its_level == 0 { 1 } else { RUNS_PER_LEVEL - 1 };
            if same.len() < enough {
                return merged;
            }
            entries += same.iter().map(|run| run.info.entries).sum::<u64>();
            merged.extend(same);
            rest = others;
        }
    }

    /// Ends a flush: `written` is the new run.
    pub(super) fn finish_flush(
        &mut self,
        flush: Option<&Flush<P>>,
        written: Option<RunInfo>,
        view: &View,
    ) -> Result<()> {
        let merged = flush.map(|flush| flush.merged.as_slice()).unwrap_or_default();
        let mut runs = Vec::with_capacity(self.runs.len() + 1);
        // Latest first. All are opened anew: one that was open longer would keep what was freed since from being reused.
        if let Some(info) = written {
            runs.push(Arc::new(Run::new(info, view.run(P::SIDE, info.number)?, None)));
        }
        for run in &self.runs {
            if !merged.iter().any(|merged| merged.info.number == run.info.number) {
                let table = view.run(P::SIDE, run.info.number)?;
                runs.push(Arc::new(Run::new(run.info, table, Some(Arc::clone(&run.filter)))));
            }
        }
        self.runs = runs;
        self.flushing = Arc::default();
        Ok(())
    }

    /// What there is of it.
    pub(super) fn counts(&self) -> Counts {
        Counts {
            owners: self.owners.len() as u64,
            entries: self.live_entries(),
            runs: self.runs.len() as u64,
            bytes: self.runs.iter().map(|run| run.info.bytes::<P>()).sum(),
            filter_bytes: self.runs.iter().map(|run| run.filter.bytes()).sum(),
            loaded_filter_bytes: self.runs.iter().map(|run| run.filter.loaded_bytes()).sum(),
        }
    }
}

/// What there is of a side: owners, entries of owners, runs, bytes of runs in the database, bytes of filters in memory
/// when all was read, and as far as it was.
#[derive(Debug, Clone, Copy)]
pub(super) struct Counts {
    pub(super) owners: u64,
    pub(super) entries: u64,
    pub(super) runs: u64,
    pub(super) bytes: u64,
    pub(super) filter_bytes: u64,
    pub(super) loaded_filter_bytes: u64,
}

impl<P: Place> Flush<P> {
    /// Writes it all into `change`; returns the new run.
    pub(super) fn write(&self, change: &Change) -> Result<Option<RunInfo>> {
        change.put_owners(P::SIDE, &self.listed, self.next_owner)?;
        change.remove_owners(P::SIDE, &self.gone)?;
        let batch = self.batch.sorted();
        if batch.is_empty() && self.merged.is_empty() {
            return Ok(None);
        }
        let is_live = |owner| self.live.contains(owner);
        let held = self.merged.iter().map(|run| run.info.entries).sum::<u64>() + batch.len() as u64;
        // Entries of owners that are gone are left out, so there can be no more than those of the others.
        let planned = held.min(self.live_entries);
        let filter = Shape::for_entries(planned, self.live_entries);
        let info = RunInfo { number: self.number, planned, entries: 0, filter };
        run::merge(change, info, &self.merged, &batch, &is_live).map(Some)
    }
}
