//! For tests: a bucket that loses answers, delivers late and twice, and shows what is stale; and a process that is killed.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::random::TestRng;
use crate::storage::bucket::{Bucket, MemoryBucket};

/// What can go wrong with an operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum BucketFault {
    /// It did not happen, and an error says so (503).
    Refused,
    /// It happened, and an error was the answer.
    AnswerLost,
    /// An error was the answer, and it happens later.
    Late,
    /// It happens now, and once more later.
    Twice,
    /// A put-if-absent is answered "it exists", and nothing landed (409).
    NothingLanded,
    /// What is there is answered as missing.
    Stale,
}

#[derive(Debug, Clone)]
enum Change {
    Put(String, Arc<[u8]>),
    PutIfAbsent(String, Arc<[u8]>),
    Delete(String),
}

/// A fault that meets operations on keys that contain a text.
#[derive(Debug)]
struct Planned {
    action: &'static str,
    key: String,
    fault: BucketFault,
    times: usize,
}

#[derive(Debug, Default)]
struct State {
    random: TestRng,
    /// How many of a thousand operations meet a fault.
    faults_per_thousand: u64,
    /// What is there is seen at once, as by clusters that are consistent.
    consistent: bool,
    left: Option<usize>,
    operations: usize,
    changes: usize,
    planned: Vec<Planned>,
    late: Vec<Change>,
    deleted: Vec<(String, u64)>,
    met: BTreeMap<BucketFault, usize>,
}

/// One process's way to a bucket. Clones are the same way.
#[derive(Debug, Clone)]
pub(crate) struct FaultyBucket {
    inner: MemoryBucket,
    state: Arc<Mutex<State>>,
}

impl FaultyBucket {
    /// A way on which only what is planned goes wrong.
    pub(crate) fn new(inner: &MemoryBucket) -> Self {
        Self { inner: inner.clone(), state: Arc::default() }
    }

    /// A way on which this many of a thousand operations fail.
    pub(crate) fn seeded(inner: &MemoryBucket, seed: u64, faults_per_thousand: u64) -> Self {
        let bucket = Self::new(inner);
        {
            let mut state = bucket.state();
            (state.random, state.faults_per_thousand) = (TestRng(seed), faults_per_thousand);
        }
        bucket
    }

    /// As [`Self::seeded`], of a cluster that shows at once what is there.
    pub(crate) fn seeded_consistent(inner: &MemoryBucket, seed: u64, faults_per_thousand: u64) -> Self {
        let bucket = Self::seeded(inner, seed, faults_per_thousand);
        bucket.state().consistent = true;
        bucket
    }

    /// The process is killed after this many changes: nothing is done any more.
    pub(crate) fn killed_after(inner: &MemoryBucket, changes: usize) -> Self {
        let bucket = Self::new(inner);
        bucket.state().left = Some(changes);
        bucket
    }

    pub(crate) fn kill(&self) {
        self.state().left = Some(0);
    }

    /// Whether it came to the end that was set.
    pub(crate) fn was_killed(&self) -> bool {
        self.state().left == Some(0)
    }

    /// The next operations of this kind on keys that contain this text meet a fault.
    pub(crate) fn plan(&self, action: &'static str, key: &str, fault: BucketFault, times: usize) {
        self.state().planned.push(Planned { action, key: key.to_owned(), fault, times });
    }

    pub(crate) fn met(&self) -> BTreeMap<BucketFault, usize> {
        self.state().met.clone()
    }

    /// What is late arrives.
    pub(crate) fn deliver(&self) {
        let late = std::mem::take(&mut self.state().late);
        late.into_iter().for_each(|change| self.apply(change).map(drop).unwrap());
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn apply(&self, change: Change) -> io::Result<bool> {
        match change {
            Change::Put(key, bytes) => self.inner.put(&key, &bytes).map(|()| true),
            Change::PutIfAbsent(key, bytes) => self.inner.put_if_absent(&key, &bytes),
            Change::Delete(key) => {
                if let Some(bytes) = self.inner.size(&key)? {
                    self.state().deleted.push((key.clone(), bytes));
                }
                self.inner.delete(&key).map(|()| true)
            }
        }
    }

    /// The fault that an operation meets. Late changes may arrive before it.
    fn meet(&self, action: &'static str, key: &str, is_change: bool) -> io::Result<Option<BucketFault>> {
        let arriving = {
            let mut state = self.state();
            state.operations += 1;
            match state.left {
                Some(0) => return Err(io::Error::new(io::ErrorKind::PermissionDenied, "killed")),
                Some(left) if is_change => state.left = Some(left - 1),
                _ => {}
            }
            state.changes += usize::from(is_change);
            let arrives = !state.late.is_empty() && state.faults_per_thousand > 0 && state.random.below(8) == 0;
            arrives.then(|| {
                let bound = state.late.len() as u64;
                let place = state.random.below(bound) as usize;
                state.late.swap_remove(place)
            })
        };
        if let Some(change) = arriving {
            self.apply(change)?;
        }
        let mut state = self.state();
        let planned = state.planned.iter_mut().find(|of| of.times > 0 && of.action == action && key.contains(&of.key));
        let fault = if let Some(planned) = planned {
            planned.times -= 1;
            Some(planned.fault)
        } else if state.faults_per_thousand > 0 && state.random.below(1000) < state.faults_per_thousand {
            use BucketFault::{AnswerLost, Late, NothingLanded, Refused, Stale, Twice};
            let faults: &[BucketFault] = match action {
                "put" | "delete" => &[Refused, AnswerLost, Late, Twice],
                "put if absent" => &[Refused, AnswerLost, Late, Twice, NothingLanded],
                _ if state.consistent => &[Refused],
                _ => &[Refused, Stale],
            };
            let place = state.random.below(faults.len() as u64) as usize;
            faults.get(place).copied()
        } else {
            None
        };
        if let Some(fault) = fault {
            *state.met.entry(fault).or_default() += 1;
        }
        Ok(fault)
    }

    fn change(&self, action: &'static str, key: &str, change: Change) -> io::Result<bool> {
        let failed = || Err(io::Error::new(io::ErrorKind::TimedOut, "no answer"));
        match self.meet(action, key, true)? {
            None => self.apply(change),
            Some(BucketFault::Refused | BucketFault::Stale) => failed(),
            Some(BucketFault::AnswerLost) => self.apply(change).and_then(|_| failed()),
            Some(BucketFault::Late) => {
                self.state().late.push(change);
                failed()
            }
            Some(BucketFault::Twice) => {
                self.state().late.push(change.clone());
                self.apply(change)
            }
            Some(BucketFault::NothingLanded) => Ok(false),
        }
    }

    /// Whether a read is answered as if the object were missing.
    fn is_stale(&self, action: &'static str, key: &str) -> io::Result<bool> {
        match self.meet(action, key, false)? {
            None => Ok(false),
            Some(BucketFault::Stale) => Ok(true),
            Some(_) => Err(io::Error::new(io::ErrorKind::TimedOut, "no answer")),
        }
    }
}

impl Bucket for FaultyBucket {
    fn location(&self) -> String {
        self.inner.location()
    }
    fn put(&self, key: &str, bytes: &[u8]) -> io::Result<()> {
        self.change("put", key, Change::Put(key.to_owned(), bytes.into())).map(drop)
    }
    fn put_if_absent(&self, key: &str, bytes: &[u8]) -> io::Result<bool> {
        self.change("put if absent", key, Change::PutIfAbsent(key.to_owned(), bytes.into()))
    }
    fn get(&self, key: &str, bytes_max: u64) -> io::Result<Option<Vec<u8>>> {
        if self.is_stale("get", key)? { Ok(None) } else { self.inner.get(key, bytes_max) }
    }
    fn read_at(&self, key: &str, offset: u64, buffer: &mut [u8]) -> io::Result<Option<usize>> {
        // An object that was acknowledged is read: only records are asked for before they are known to be there.
        if self.is_stale("read", key)? {
            return Err(io::Error::new(io::ErrorKind::TimedOut, "no answer"));
        }
        self.inner.read_at(key, offset, buffer)
    }
    fn size(&self, key: &str) -> io::Result<Option<u64>> {
        let is_record = !["packs/", "recipes/", "snapshots/"].iter().any(|folder| key.starts_with(folder));
        match self.is_stale("size", key)? {
            true if is_record => Ok(None),
            true => Err(io::Error::new(io::ErrorKind::TimedOut, "no answer")),
            false => self.inner.size(key),
        }
    }
    fn list(&self, prefix: &str) -> io::Result<Vec<(String, u64)>> {
        let is_stale = self.is_stale("list", prefix)?;
        let mut listed = self.inner.list(prefix)?;
        if is_stale {
            let mut state = self.state();
            listed.retain(|_| state.random.below(3) > 0);
            listed.extend(state.deleted.iter().filter(|(key, _)| key.starts_with(prefix)).cloned());
        }
        Ok(listed)
    }
    fn copy(&self, from: &str, to: &str) -> io::Result<bool> {
        self.meet("copy", from, true)?;
        self.inner.copy(from, to)
    }
    fn delete(&self, key: &str) -> io::Result<()> {
        self.change("delete", key, Change::Delete(key.to_owned())).map(drop)
    }
    fn pause(&self, _: u32) {}
}
