//! Which sources (packs, recipes files) may have an id, by all that is known now: the runs, the batches that are not
//! written, and the one that is being collected?
//!
//! Invariant: a source that is known has all its entries in a run or in a batch. One that is not known is added again when
//! the store is next listed.

use std::collections::{HashMap, HashSet, hash_map};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use super::filter::Shape;
use super::merge::{MergeInput, Plan};
use super::run::{Entry, Run, Source, StoreKey, Value};
use crate::storage::disk::ReadFile;

/// Entries that are collected before they become a run: as many as a hash map of 2^17 slots takes before it grows.
pub(super) const BATCH_ENTRIES: usize = 7 << 14;

/// This many runs of about one size are merged.
const RUNS_PER_LEVEL: usize = 4;

/// Runs of fewer entries count as one size: rewriting them takes no time worth saving.
const LEVEL_ENTRIES: u64 = 4096;

/// What is in no run.
#[derive(Debug)]
pub(super) struct Batch<V> {
    sources: Vec<Source>,
    /// The first (source, value) of each prefix.
    first: HashMap<u64, (u32, V)>,
    /// Further ones, which are rare.
    more: HashMap<u64, Vec<(u32, V)>>,
    entries: usize,
}

impl<V> Default for Batch<V> {
    fn default() -> Self {
        Self { sources: Vec::new(), first: HashMap::new(), more: HashMap::new(), entries: 0 }
    }
}

impl<V: Value> Batch<V> {
    fn add(&mut self, source: Source, entries: impl Iterator<Item = (u64, V)>) {
        let number = self.sources.len() as u32;
        self.sources.push(source);
        for (prefix, value) in entries {
            let pair = (number, value);
            let first = *self.first.entry(prefix).or_insert_with(|| {
                self.entries += 1;
                pair
            });
            if first != pair {
                self.entries += 1;
                self.more.entry(prefix).or_default().push(pair);
            }
        }
    }

    fn find(&self, prefix: u64, found: &mut Vec<(u32, V)>) {
        let Some(first) = self.first.get(&prefix) else { return };
        found.push(*first);
        found.extend(self.more.get(&prefix).into_iter().flatten());
    }

    pub(super) fn sorted(&self) -> Vec<Entry<V>> {
        let more = self.more.iter().flat_map(|(prefix, pairs)| pairs.iter().map(move |pair| (prefix, pair)));
        let entry =
            |(prefix, (source, value)): (&u64, &(u32, V))| Entry { prefix: *prefix, source: *source, value: *value };
        let mut all: Vec<_> = self.first.iter().chain(more).map(entry).collect();
        all.sort_unstable_by_key(|entry| entry.prefix);
        all
    }
}

/// A run that can be asked.
#[derive(Debug)]
pub(super) struct OpenRun<V> {
    pub(super) run: Run<V>,
    pub(super) sources: Vec<Source>,
    /// The name of its file; `None` if it has none and ends with this process.
    pub(super) name: Option<String>,
    /// Whether another process wrote it, or a part of it.
    pub(super) found: bool,
    /// Whether it cannot be used. It stays until what it covers can be added again.
    suspect: AtomicBool,
}

impl<V: Value> OpenRun<V> {
    /// Opens a run of this store.
    ///
    /// # Errors
    /// Why the file cannot be used.
    pub(super) fn open(
        file: Arc<dyn ReadFile>,
        bytes: u64,
        store: &StoreKey,
        name: Option<String>,
    ) -> Result<Self, String> {
        let (run, sources) = Run::open(file, bytes, store)?;
        Ok(Self { run, sources, name, found: false, suspect: AtomicBool::new(false) })
    }

    /// Notes that it cannot be used.
    pub(super) fn damaged(&self, why: String) -> Damage {
        self.suspect.store(true, Ordering::Relaxed);
        Damage { name: self.name.clone(), why }
    }
}

/// Runs that can be asked.
pub(super) type Runs<V> = Vec<Arc<OpenRun<V>>>;

/// Why a run cannot be used, and its name.
#[derive(Debug)]
pub(super) struct Damage {
    pub(super) name: Option<String>,
    pub(super) why: String,
}

/// One of the two maps of the index.
#[derive(Debug)]
pub(super) struct Keyspace<V> {
    state: RwLock<State<V>>,
    /// Held while a run is written.
    pub(super) writing: Mutex<()>,
}

/// What is known.
#[derive(Debug)]
pub(super) struct State<V> {
    /// The sources that are known, and the number of entries of each.
    known: HashMap<[u8; 32], u32>,
    known_entries: u64,
    /// What is collected.
    pending: Batch<V>,
    /// What is being written, and what could not be.
    unwritten: Vec<Arc<Batch<V>>>,
    runs: Runs<V>,
}

impl<V> Default for State<V> {
    fn default() -> Self {
        Self {
            known: HashMap::new(),
            known_entries: 0,
            pending: Batch::default(),
            unwritten: Vec::new(),
            runs: Vec::new(),
        }
    }
}

impl<V: Value> Keyspace<V> {
    /// The map of these runs; `unneeded` gets the names of those that cover nothing that a larger one does not.
    pub(super) fn new(mut runs: Vec<OpenRun<V>>, unneeded: &dyn Fn(&str)) -> Self {
        let mut state = State::default();
        // All processes have one order. So of two runs of the same sources none takes the one and others the other.
        runs.sort_unstable_by(|a, b| (b.run.entries, &b.name).cmp(&(a.run.entries, &a.name)));
        for run in runs {
            let before = state.known.len();
            run.sources.iter().for_each(|source| state.learn(source));
            if state.known.len() > before {
                state.runs.push(Arc::new(run));
            } else {
                run.name.iter().for_each(|name| unneeded(name));
            }
        }
        Self { state: RwLock::new(state), writing: Mutex::default() }
    }

    pub(super) fn read(&self) -> RwLockReadGuard<'_, State<V>> {
        self.state.read().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn write(&self) -> RwLockWriteGuard<'_, State<V>> {
        self.state.write().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<V: Value> State<V> {
    pub(super) fn learn(&mut self, source: &Source) {
        // Of a file that was forged, two runs may say different numbers: the first counts.
        if let hash_map::Entry::Vacant(place) = self.known.entry(source.id) {
            place.insert(source.entries);
            self.known_entries += u64::from(source.entries);
        }
    }

    /// Whether this source is known.
    pub(super) fn knows(&self, id: &[u8; 32]) -> bool {
        self.known.contains_key(id)
    }

    /// The ids of all sources that are known.
    pub(super) fn sources(&self) -> impl ExactSizeIterator<Item = &[u8; 32]> {
        self.known.keys()
    }

    /// Adds a source with its (prefix, value) pairs, unless it is known. Says whether enough is collected for a run.
    pub(super) fn add(&mut self, id: [u8; 32], entries: impl ExactSizeIterator<Item = (u64, V)>) -> bool {
        if !self.knows(&id) {
            let source = Source { id, entries: u32::try_from(entries.len()).unwrap_or(u32::MAX) };
            self.learn(&source);
            self.pending.add(source, entries);
        }
        self.pending.entries >= BATCH_ENTRIES
    }

    /// Forgets a source; says whether it was known. Its entries stay, and count again if it is added again: they are the
    /// same, because an id stands for a content.
    pub(super) fn remove(&mut self, id: &[u8; 32]) -> bool {
        let entries = self.known.remove(id);
        self.known_entries -= u64::from(entries.unwrap_or_default());
        entries.is_some()
    }

    /// Suspects all runs that other processes wrote; says whether there are any.
    pub(super) fn suspect_found(&self) -> bool {
        let found = self.runs.iter().filter(|run| run.found);
        found.inspect(|run| run.suspect.store(true, Ordering::Relaxed)).count() > 0
    }

    /// Drops the runs that are suspected, and returns their names. What only they cover is unknown from now on.
    pub(super) fn drop_suspects(&mut self) -> Vec<String> {
        let is_suspect = |run: &Arc<OpenRun<V>>| run.suspect.load(Ordering::Relaxed);
        let (suspects, runs): (Vec<_>, Vec<_>) = std::mem::take(&mut self.runs).into_iter().partition(is_suspect);
        self.runs = runs;
        if suspects.is_empty() {
            return Vec::new();
        }
        let mut uncovered: HashSet<[u8; 32]> =
            suspects.iter().flat_map(|run| &run.sources).map(|source| source.id).collect();
        let written = self.runs.iter().flat_map(|run| &run.sources);
        for source in written.chain(self.batches().flat_map(|batch| &batch.sources)) {
            uncovered.remove(&source.id);
        }
        for source in &uncovered {
            self.remove(source);
        }
        suspects.iter().filter_map(|run| run.name.clone()).collect()
    }

    fn batches(&self) -> impl Iterator<Item = &Batch<V>> {
        std::iter::once(&self.pending).chain(self.unwritten.iter().map(|batch| &**batch))
    }

    /// Whether there may be an entry with this prefix, by what is in memory.
    ///
    /// # Errors
    /// A part of a filter that was not needed before cannot be read.
    #[inline]
    pub(super) fn may_contain(&self, prefix: u64) -> Result<bool, Damage> {
        let mut may_contain = self.batches().any(|batch| batch.first.contains_key(&prefix));
        // All are asked, without a branch: the processor then fetches the blocks of several filters at once.
        for run in &self.runs {
            may_contain |= run.run.may_contain(prefix).map_err(|why| run.damaged(why))?;
        }
        Ok(may_contain)
    }

    /// The source and the value of every entry with this prefix whose source is known, each once.
    ///
    /// # Errors
    /// A run cannot be read.
    pub(super) fn find(&self, prefix: u64) -> Result<Vec<([u8; 32], V)>, Damage> {
        let (mut found, mut pairs) = (Vec::new(), Vec::new());
        let mut take = |sources: &[Source], pairs: &mut Vec<(u32, V)>| {
            for (number, value) in pairs.drain(..) {
                let source = sources.get(number as usize).filter(|source| self.knows(&source.id));
                found.extend(source.map(|source| (source.id, value)));
            }
        };
        for batch in self.batches() {
            batch.find(prefix, &mut pairs);
            take(&batch.sources, &mut pairs);
        }
        for run in &self.runs {
            run.run.find(prefix, &mut pairs).map_err(|why| run.damaged(why))?;
            take(&run.sources, &mut pairs);
        }
        found.sort_unstable();
        found.dedup();
        Ok(found)
    }

    /// Takes what was collected, which stays findable, and the runs to merge it with; `None` if there is nothing to write.
    pub(super) fn begin(&mut self, may_merge: &dyn Fn(&OpenRun<V>) -> bool) -> Option<(Arc<Batch<V>>, Runs<V>)> {
        let merged = self.runs_to_merge(may_merge);
        if self.pending.sources.is_empty() && merged.is_empty() {
            return None;
        }
        let batch = Arc::new(std::mem::take(&mut self.pending));
        self.unwritten.push(Arc::clone(&batch));
        Some((batch, merged))
    }

    /// The runs that a new one is merged with.
    fn runs_to_merge(&self, may_merge: &dyn Fn(&OpenRun<V>) -> bool) -> Runs<V> {
        let mut rest: Vec<_> = self.runs.iter().filter(|run| may_merge(run)).cloned().collect();
        let held: u64 = rest.iter().map(|run| run.run.entries).sum();
        if held > 2 * self.known_entries + LEVEL_ENTRIES {
            return rest;
        }
        let mut merged = Vec::new();
        if self.pending.sources.is_empty() {
            return merged;
        }
        let level = |entries: u64| (entries / LEVEL_ENTRIES).max(1).ilog2() / RUNS_PER_LEVEL.ilog2();
        let mut entries = self.pending.entries as u64;
        loop {
            let its_level = level(entries);
            let (same, others): (Vec<_>, Vec<_>) =
                rest.into_iter().partition(|run| level(run.run.entries) <= its_level);
            let enough = if its_level == 0 { 1 } else { RUNS_PER_LEVEL - 1 };
            if same.len() < enough {
                return merged;
            }
            entries += same.iter().map(|run| run.run.entries).sum::<u64>();
            merged.extend(same);
            rest = others;
        }
    }

    /// What the run of a batch, with its sorted entries, and of what is merged with it will have. Each source is taken from one of them, because
    /// each that lists it has all its entries.
    pub(super) fn plan<'r>(
        &self,
        batch: &Batch<V>,
        mut entries: Vec<Entry<V>>,
        merged: &'r [Arc<OpenRun<V>>],
    ) -> Plan<'r, V> {
        let (mut sources, mut taken) = (Vec::new(), HashSet::new());
        let mut number = |source: &Source| {
            let is_taken = self.knows(&source.id) && taken.insert(source.id);
            is_taken.then(|| {
                sources.push(*source);
                sources.len() as u32 - 1
            })
        };
        let numbers: Vec<Option<u32>> = batch.sources.iter().map(&mut number).collect();
        entries.retain_mut(|entry| {
            let number = numbers.get(entry.source as usize).copied().flatten();
            number.inspect(|number| entry.source = *number).is_some()
        });
        let held = merged.iter().map(|run| run.run.entries).sum::<u64>() + entries.len() as u64;
        let inputs = merged
            .iter()
            .map(|run| MergeInput { run: &run.run, sources: run.sources.iter().map(&mut number).collect() });
        let inputs = inputs.collect();
        // Entries of sources that are gone are left out, so there can be no more than those of the others.
        Plan { shape: Shape::for_entries(held.min(self.known_entries), self.known_entries), sources, inputs, entries }
    }

    /// Ends what [`State::begin`] began. `written` is the new run; `None` where nothing of it counts any more.
    pub(super) fn finish(&mut self, batch: &Arc<Batch<V>>, merged: &[Arc<OpenRun<V>>], written: Option<OpenRun<V>>) {
        self.runs.retain(|run| !merged.iter().any(|merged| Arc::ptr_eq(run, merged)));
        self.unwritten.retain(|unwritten| !Arc::ptr_eq(unwritten, batch));
        self.runs.extend(written.map(Arc::new));
    }

    /// What there is.
    pub(super) fn counts(&self) -> Counts {
        Counts {
            sources: self.known.len() as u64,
            entries: self.known_entries,
            runs: self.runs.len() as u64,
            bytes: self.runs.iter().map(|run| run.run.bytes).sum(),
            filter_bytes: self.runs.iter().map(|run| run.run.filter_memory()).sum(),
        }
    }
}

/// What there is of a map: sources, their entries, runs, bytes of their files, bytes of filters in memory.
#[derive(Debug, Clone, Copy)]
pub(super) struct Counts {
    pub(super) sources: u64,
    pub(super) entries: u64,
    pub(super) runs: u64,
    pub(super) bytes: u64,
    pub(super) filter_bytes: u64,
}
