//! Which sources (packs, recipes files) may have an id, by all that is known now: the runs, the batch that is being
//! written as one, and what is collected for the next.
//!
//! Invariant: a source that is known has all its entries in a run, in the batch or in the collection. One that is not
//! known is added again when the store is next listed.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use super::filter::Shape;
use super::merge::{MergeInput, Plan};
use super::run::{Entry, Run, Source, StoreKey, Value};

/// Entries that are collected before they become a run: as many as a hash map of 2^17 slots takes before it grows.
pub(super) const BATCH_ENTRIES: usize = 7 << 14;

/// This many runs of about one size are merged.
const RUNS_PER_LEVEL: usize = 4;

/// Runs of fewer entries count as one size: rewriting them takes no time worth saving.
const LEVEL_ENTRIES: u64 = 4096;

/// What is not in a run yet.
#[derive(Debug)]
struct Pending<V> {
    /// The first entry of each prefix.
    first: HashMap<u64, (u32, V)>,
    /// Further ones, which are rare.
    more: HashMap<u64, Vec<(u32, V)>>,
    entries: usize,
}

impl<V> Default for Pending<V> {
    fn default() -> Self {
        Self { first: HashMap::new(), more: HashMap::new(), entries: 0 }
    }
}

impl<V: Value> Pending<V> {
    fn insert(&mut self, prefix: u64, pair: (u32, V)) {
        let first = *self.first.entry(prefix).or_insert_with(|| {
            self.entries += 1;
            pair
        });
        if first != pair {
            self.entries += 1;
            self.more.entry(prefix).or_default().push(pair);
        }
    }

    fn has(&self, prefix: u64) -> bool {
        self.first.contains_key(&prefix)
    }

    fn find(&self, prefix: u64, found: &mut Vec<(u32, V)>) {
        let Some(first) = self.first.get(&prefix) else { return };
        found.push(*first);
        found.extend(self.more.get(&prefix).into_iter().flatten());
    }

    fn sorted(&self) -> Vec<Entry<V>> {
        let more = self.more.iter().flat_map(|(prefix, pairs)| pairs.iter().map(move |pair| (prefix, pair)));
        let entry =
            |(prefix, (source, value)): (&u64, &(u32, V))| Entry { prefix: *prefix, source: *source, value: *value };
        let mut all: Vec<_> = self.first.iter().chain(more).map(entry).collect();
        all.sort_unstable_by_key(|entry| entry.prefix);
        all
    }
}

/// A run, and what its sources are here.
#[derive(Debug)]
pub(super) struct OpenRun<V> {
    pub(super) run: Run<V>,
    /// The name of its file; `None` if it has none and ends with this process.
    pub(super) name: Option<String>,
    /// Whether this process found it, and did not write it.
    found: bool,
    /// The number of each of its sources.
    numbers: Vec<u32>,
}

/// One of the two maps of the index.
#[derive(Debug)]
pub(super) struct Keyspace<V> {
    state: RwLock<State<V>>,
    /// Held while a run is written.
    pub(super) writing: Mutex<()>,
    /// Runs that cannot be used. They stay until what they cover can be added again.
    suspects: Mutex<Vec<Arc<OpenRun<V>>>>,
}

/// What is known.
#[derive(Debug)]
pub(super) struct State<V> {
    /// All sources there ever were in this process, by number, and whether they still count.
    sources: Vec<(Source, bool)>,
    /// Those that count.
    numbers: HashMap<[u8; 32], u32>,
    live_entries: u64,
    pending: Pending<V>,
    /// What is being written.
    writing: Arc<Pending<V>>,
    runs: Vec<Arc<OpenRun<V>>>,
    /// Sources that are in no run.
    unwritten: Vec<u32>,
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

/// A run that turned out to be unusable, and why.
pub(super) type Damage<V> = (Arc<OpenRun<V>>, String);

/// What a new run is made of.
#[derive(Debug)]
pub(super) struct Batch<V> {
    pending: Arc<Pending<V>>,
    sources: Vec<(Source, bool)>,
    unwritten: Vec<u32>,
    live_entries: u64,
    pub(super) merged: Vec<Arc<OpenRun<V>>>,
}

impl<V: Value> Keyspace<V> {
    /// The map of these runs; `unneeded` gets the names of those that cover nothing that a larger one does not.
    pub(super) fn new(mut runs: Vec<(String, Run<V>, Vec<Source>)>, unneeded: &mut dyn FnMut(&str)) -> Self {
        let mut state = State {
            sources: Vec::new(),
            numbers: HashMap::new(),
            live_entries: 0,
            pending: Pending::default(),
            writing: Arc::default(),
            runs: Vec::new(),
            unwritten: Vec::new(),
        };
        // All processes have one order. So of two runs of the same sources none takes the one and others the other.
        runs.sort_unstable_by(|a, b| (b.1.entries, &b.0).cmp(&(a.1.entries, &a.0)));
        for (name, run, sources) in runs {
            let known = state.numbers.len();
            let numbers: Vec<u32> = sources.iter().map(|source| state.number(*source)).collect();
            if state.numbers.len() > known {
                state.runs.push(Arc::new(OpenRun { run, name: Some(name), found: true, numbers }));
            } else {
                unneeded(&name);
            }
        }
        Self { state: RwLock::new(state), writing: Mutex::default(), suspects: Mutex::default() }
    }

    pub(super) fn read(&self) -> RwLockReadGuard<'_, State<V>> {
        self.state.read().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn write(&self) -> RwLockWriteGuard<'_, State<V>> {
        self.state.write().unwrap_or_else(PoisonError::into_inner)
    }

    fn suspects(&self) -> MutexGuard<'_, Vec<Arc<OpenRun<V>>>> {
        self.suspects.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes that a run cannot be used; returns its name.
    pub(super) fn suspect(&self, run: Arc<OpenRun<V>>) -> Option<String> {
        let name = run.name.clone();
        self.suspects().push(run);
        name
    }

    /// Suspects all runs that other processes wrote; says whether there are any.
    pub(super) fn suspect_found(&self) -> bool {
        let state = self.read();
        let found: Vec<_> = state.runs.iter().filter(|run| run.found).cloned().collect();
        let any = !found.is_empty();
        self.suspects().extend(found);
        any
    }

    /// Does without the runs that are suspected. What only they cover is unknown from now on.
    pub(super) fn drop_suspects(&self, drop: &dyn Fn(&str)) {
        let suspects = std::mem::take(&mut *self.suspects());
        if suspects.is_empty() {
            return;
        }
        let mut state = self.write();
        state.runs.retain(|run| !suspects.iter().any(|suspect| Arc::ptr_eq(run, suspect)));
        let mut covered = vec![false; state.sources.len()];
        let written = state.runs.iter().flat_map(|run| &run.numbers);
        for number in written.chain(&state.unwritten) {
            if let Some(covered) = covered.get_mut(*number as usize) {
                *covered = true;
            }
        }
        for run in &suspects {
            for number in &run.numbers {
                if covered.get(*number as usize) == Some(&false) {
                    state.forget(*number);
                }
            }
            run.name.iter().for_each(|name| drop(name));
        }
    }
}

impl<V: Value> State<V> {
    /// The number of a source, which counts from now on.
    fn number(&mut self, source: Source) -> u32 {
        // Numbers last for 2^32 additions: 250 PB of full packs.
        let next = u32::try_from(self.sources.len()).unwrap_or(u32::MAX);
        let number = *self.numbers.entry(source.id).or_insert(next);
        if number == next {
            self.sources.push((source, true));
            self.live_entries += u64::from(source.entries);
        }
        number
    }

    fn forget(&mut self, number: u32) {
        if let Some((source, live @ true)) = self.sources.get_mut(number as usize) {
            *live = false;
            self.live_entries -= u64::from(source.entries);
            self.numbers.remove(&source.id);
        }
    }

    /// Whether this source is known.
    pub(super) fn knows(&self, id: &[u8; 32]) -> bool {
        self.numbers.contains_key(id)
    }

    /// The ids of all sources.
    pub(super) fn sources(&self) -> impl ExactSizeIterator<Item = &[u8; 32]> {
        self.numbers.keys()
    }

    /// Adds a source with its (prefix, value) pairs, unless it is known. Says whether enough is collected for a run.
    pub(super) fn add(&mut self, id: [u8; 32], entries: impl ExactSizeIterator<Item = (u64, V)>) -> bool {
        if !self.knows(&id) {
            let source = self.number(Source { id, entries: u32::try_from(entries.len()).unwrap_or(u32::MAX) });
            self.unwritten.push(source);
            for (prefix, value) in entries {
                self.pending.insert(prefix, (source, value));
            }
        }
        self.pending.entries >= BATCH_ENTRIES
    }

    /// Forgets a source; says whether it was known.
    pub(super) fn remove(&mut self, id: &[u8; 32]) -> bool {
        let number = self.numbers.get(id).copied();
        number.inspect(|number| self.forget(*number)).is_some()
    }

    /// Where an entry with this prefix may be, by what is in memory; `None` if there is none.
    ///
    /// # Errors
    /// A part of a filter that was not needed before cannot be read.
    #[inline]
    pub(super) fn hints(&self, prefix: u64) -> Result<Option<Hints>, Damage<V>> {
        let mut hints = Hints { pending: self.pending.has(prefix) || self.writing.has(prefix), runs: 0 };
        for (position, run) in self.runs.iter().enumerate() {
            if run.run.may_contain(prefix).map_err(|why| (Arc::clone(run), why))? {
                hints.runs |= Hints::bit(position);
            }
        }
        Ok((hints.pending || hints.runs != 0).then_some(hints))
    }

    /// The id and the value of every entry with this prefix whose source is known, each once, the sources added last first.
    /// The hints must be for this prefix, and taken since the last change.
    ///
    /// # Errors
    /// A page of a run cannot be read.
    pub(super) fn find(&self, prefix: u64, hints: Hints) -> Result<Vec<([u8; 32], V)>, Damage<V>> {
        let mut found = Vec::new();
        if hints.pending {
            self.pending.find(prefix, &mut found);
            self.writing.find(prefix, &mut found);
        }
        for (position, run) in self.runs.iter().enumerate() {
            if hints.runs & Hints::bit(position) != 0 {
                let start = found.len();
                run.run.find(prefix, &mut found).map_err(|why| (Arc::clone(run), why))?;
                // What no source of the run is gets a number that no source has.
                let number = |local: u32| run.numbers.get(local as usize).copied().unwrap_or(u32::MAX);
                found.iter_mut().skip(start).for_each(|(source, _)| *source = number(*source));
            }
        }
        found.sort_unstable_by(|a, b| b.cmp(a));
        found.dedup();
        let known = |(number, value)| match self.sources.get(number as usize) {
            Some((source, true)) => Some((source.id, value)),
            _ => None,
        };
        Ok(found.into_iter().filter_map(known).collect())
    }

    /// Takes what was collected, and the runs that are to be merged with it, if there is anything to write. It stays
    /// findable.
    pub(super) fn begin(&mut self, may_merge: &dyn Fn(&OpenRun<V>) -> bool) -> Option<Batch<V>> {
        let merged = self.runs_to_merge(self.pending.entries as u64, may_merge);
        if self.unwritten.is_empty() && merged.is_empty() {
            return None;
        }
        self.writing = Arc::new(std::mem::take(&mut self.pending));
        Some(Batch {
            pending: Arc::clone(&self.writing),
            sources: self.sources.clone(),
            unwritten: std::mem::take(&mut self.unwritten),
            live_entries: self.live_entries,
            merged,
        })
    }

    /// The runs that a new one of `new_entries` entries is merged with.
    fn runs_to_merge(&self, new_entries: u64, may_merge: &dyn Fn(&OpenRun<V>) -> bool) -> Vec<Arc<OpenRun<V>>> {
        let mut rest: Vec<_> = self.runs.iter().filter(|run| may_merge(run)).cloned().collect();
        let held: u64 = rest.iter().map(|run| run.run.entries).sum();
        if held > 2 * self.live_entries + LEVEL_ENTRIES {
            return rest;
        }
        let mut merged = Vec::new();
        if self.unwritten.is_empty() {
            return merged;
        }
        let level = |entries: u64| (entries / LEVEL_ENTRIES).max(1).ilog2() / RUNS_PER_LEVEL.ilog2();
        let mut entries = new_entries;
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

    /// Ends what [`State::begin`] began. `written` is the new run: its name, and the numbers of its sources.
    pub(super) fn finish(&mut self, batch: &Batch<V>, written: Option<(Run<V>, Option<String>, Vec<u32>)>) {
        self.runs.retain(|run| !batch.merged.iter().any(|merged| Arc::ptr_eq(run, merged)));
        if let Some((run, name, numbers)) = written {
            self.runs.insert(0, Arc::new(OpenRun { run, name, found: false, numbers }));
        }
        self.writing = Arc::default();
    }

    /// What there is.
    pub(super) fn counts(&self) -> Counts {
        let mut counts = Counts { sources: self.numbers.len() as u64, entries: self.live_entries, ..Counts::default() };
        for run in &self.runs {
            let (all, loaded) = run.run.filter_memory();
            counts.runs += 1;
            counts.bytes += run.run.bytes;
            counts.filter_bytes += all;
            counts.loaded_filter_bytes += loaded;
        }
        counts
    }
}

/// What there is of a map: sources, their entries, runs, bytes of their files, bytes of filters in memory when all was
/// read, and as far as it was.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Counts {
    pub(super) sources: u64,
    pub(super) entries: u64,
    pub(super) runs: u64,
    pub(super) bytes: u64,
    pub(super) filter_bytes: u64,
    pub(super) loaded_filter_bytes: u64,
}

impl<V: Value> Batch<V> {
    /// Makes the run: `write` gets the plan of it and returns it. Returns it with the numbers of its sources; `None` if
    /// nothing of it counts any more.
    ///
    /// # Errors
    /// Those of `write`.
    pub(super) fn write<T, E>(
        &self,
        (store, tag): (StoreKey, u64),
        write: impl FnOnce(&Plan<'_, V>) -> Result<T, E>,
    ) -> Result<Option<(T, Vec<u32>)>, E> {
        let mut numbers: Vec<u32> = Vec::new();
        let mut sources: Vec<Source> = Vec::new();
        let mut local = vec![u32::MAX; self.sources.len()];
        for number in self.unwritten.iter().chain(self.merged.iter().flat_map(|run| &run.numbers)) {
            let renumbered = local.get_mut(*number as usize).filter(|local| **local == u32::MAX);
            if let (Some(renumbered), Some((source, true))) = (renumbered, self.sources.get(*number as usize)) {
                *renumbered = numbers.len() as u32;
                numbers.push(*number);
                sources.push(*source);
            }
        }
        if sources.is_empty() {
            return Ok(None);
        }
        let local = |number: u32| local.get(number as usize).copied().unwrap_or(u32::MAX);
        let mut batch = self.pending.sorted();
        batch.iter_mut().for_each(|entry| entry.source = local(entry.source));
        batch.retain(|entry| entry.source != u32::MAX);
        let renumbered = |run: &'_ Arc<OpenRun<V>>| run.numbers.iter().map(|number| local(*number)).collect();
        let held = self.merged.iter().map(|run| run.run.entries).sum::<u64>() + batch.len() as u64;
        // Entries of sources that are gone are left out, so there can be no more than those of the others.
        let shape = Shape::for_entries(held.min(self.live_entries), self.live_entries);
        let inputs = self.merged.iter().map(|run| MergeInput { run: &run.run, sources: renumbered(run) }).collect();
        let plan = Plan { store, tag, shape, sources, inputs, batch: &batch };
        Ok(Some((write(&plan)?, numbers)))
    }
}
