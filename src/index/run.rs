//! How are a great many (id, place) pairs kept so that adding one costs little and finding one costs one read?
//!
//! As sorted *runs* that are never changed: a full buffer of new entries becomes a run, and several runs of a size are
//! merged into a greater one, so an entry is rewritten a few times in its life and always in long sweeps. (Ids are
//! uniform: in a B-tree of single entries nearly every new one would rewrite a page of its own.) A run is cut into
//! *buckets* by the id's highest bits, about as many as fill a page of the table, so the bucket of an id is arithmetic
//! and a look-up is one page. A filter in front of it keeps most look-ups away.
//!
//! An entry holds the first 8 bytes of the id, no more: who asks gets the owners (packs, recipes files) that may have
//! it, and looks there. So a clash of prefixes, or a stale entry, costs time and never gives a wrong answer.
//!
//! ```text
//! offset  size   entry, one after the other in a bucket, ascending by (prefix, owner)
//! 0          8   prefix: the first 8 bytes of the id as a big-endian number, stored little-endian
//! 8          4   owner: the number of a pack or recipes file
//! 12         P   place: nothing for a chunk; batch (4), row (4) for a recipe
//! ```

use std::cmp::Reverse;
use std::collections::binary_heap::{BinaryHeap, PeekMut};
use std::sync::Arc;

use super::filter::{Filter, FilterWriter, Shape};
use super::table::{Change, Page, RunTable, Side};
use crate::error::Result;

/// Entries of 12 bytes in a bucket, on average: fills a 4096-byte page to nine tenths, so few buckets need two.
const BUCKET_BYTES: u64 = 3600;

/// What an entry says besides its owner.
pub(super) trait Place: Copy + Ord + std::fmt::Debug + Send + Sync + 'static {
    /// Which of the two maps has entries like this.
    const SIDE: Side;
    /// Bytes it takes on disk.
    const BYTES: usize;
    /// Appends those bytes.
    fn put(self, out: &mut Vec<u8>);
    /// Reads them back; `bytes` has `BYTES`.
    fn get(bytes: &[u8]) -> Self;
}

/// One pair.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Entry<P> {
    pub(super) prefix: u64,
    pub(super) owner: u32,
    pub(super) place: P,
}

impl<P: Place> Entry<P> {
    const BYTES: usize = 12 + P::BYTES;

    fn put(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.prefix.to_le_bytes());
        out.extend_from_slice(&self.owner.to_le_bytes());
        self.place.put(out);
    }

    fn get(bytes: &[u8]) -> Option<Self> {
        let (prefix, rest) = bytes.split_first_chunk()?;
        let (owner, place) = rest.split_first_chunk()?;
        Some(Self { prefix: u64::from_le_bytes(*prefix), owner: u32::from_le_bytes(*owner), place: P::get(place) })
    }
}

/// What the table says of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct RunInfo {
    /// Its number, which no other run ever has.
    pub(super) number: u32,
    /// How many entries it was shaped for: at least as many as it has.
    pub(super) planned: u64,
    /// How many it has.
    pub(super) entries: u64,
    /// The shape of its filter.
    pub(super) filter: Shape,
}

impl RunInfo {
    /// Bytes it takes in the database, about.
    pub(super) fn bytes<P: Place>(&self) -> u64 {
        u64::from(self.buckets::<P>()) * 4096 + self.filter.bytes()
    }

    fn buckets<P: Place>(&self) -> u32 {
        let per_bucket = BUCKET_BYTES / Entry::<P>::BYTES as u64;
        u32::try_from(self.planned.div_ceil(per_bucket)).unwrap_or(u32::MAX).max(1)
    }
}

fn bucket_of(prefix: u64, buckets: u32) -> u32 {
    ((u128::from(prefix) * u128::from(buckets)) >> 64) as u32
}

/// A run, open to be asked.
#[derive(Debug)]
pub(super) struct Run<P> {
    pub(super) info: RunInfo,
    buckets: u32,
    table: RunTable,
    pub(super) filter: Arc<Filter>,
    place: std::marker::PhantomData<P>,
}

impl<P: Place> Run<P> {
    /// Opens a run; `filter` is its filter where it was open before.
    pub(super) fn new(info: RunInfo, table: RunTable, filter: Option<Arc<Filter>>) -> Self {
        let filter = filter.unwrap_or_else(|| Arc::new(Filter::new(info.filter)));
        Self { info, buckets: info.buckets::<P>(), table, filter, place: std::marker::PhantomData }
    }

    /// Whether there may be an entry with this prefix.
    #[inline]
    pub(super) fn may_contain(&self, prefix: u64) -> Result<bool> {
        self.filter.may_contain(prefix, |page| self.table.filter_page(page))
    }

    /// Appends the (owner, place) of every entry with this prefix to `found`, whatever the filter says.
    pub(super) fn find(&self, prefix: u64, found: &mut Vec<(u32, P)>) -> Result<()> {
        let Some(page) = self.table.bucket(bucket_of(prefix, self.buckets))? else { return Ok(()) };
        let bytes = page.bytes();
        let entry = |i: usize| bytes.get(i * Entry::<P>::BYTES..).and_then(Entry::<P>::get);
        let (mut low, mut high) = (0, bytes.len() / Entry::<P>::BYTES);
        while low < high {
            let middle = low.midpoint(high);
            if entry(middle).is_some_and(|entry| entry.prefix < prefix) {
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        while let Some(entry) = entry(low).filter(|entry| entry.prefix == prefix) {
            found.push((entry.owner, entry.place));
            low += 1;
        }
        Ok(())
    }
}

/// Reads a run front to back.
struct Sweep<'a, P> {
    run: &'a Run<P>,
    bucket: u32,
    page: Option<Page>,
    offset: usize,
}

impl<P: Place> Sweep<'_, P> {
    fn next(&mut self) -> Result<Option<Entry<P>>> {
        loop {
            if let Some(page) = &self.page {
                if let Some(entry) = page.bytes().get(self.offset..).and_then(Entry::get) {
                    self.offset += Entry::<P>::BYTES;
                    return Ok(Some(entry));
                }
                self.page = None;
            }
            if self.bucket == self.run.buckets {
                return Ok(None);
            }
            self.page = self.run.table.bucket(self.bucket)?;
            self.bucket += 1;
            self.offset = 0;
        }
    }
}

/// Merges runs and a sorted batch into the new run `info`, without the entries of owners that are gone. Returns it with
/// the entries it has.
pub(super) fn merge<P: Place>(
    change: &Change,
    mut info: RunInfo,
    runs: &[Arc<Run<P>>],
    batch: &[Entry<P>],
    is_live: &dyn Fn(u32) -> bool,
) -> Result<RunInfo> {
    let buckets = info.buckets::<P>();
    change.write_run(P::SIDE, info.number, |writer| {
        let mut filter = FilterWriter::new(info.filter);
        let mut bucket = 0;
        let mut bytes = Vec::with_capacity(2 * BUCKET_BYTES as usize);
        let mut last: Option<(u64, u32)> = None;
        sweep_all(runs, batch, &mut |entry: Entry<P>| {
            let key = (entry.prefix, entry.owner);
            if last == Some(key) || !is_live(entry.owner) {
                return Ok(());
            }
            last = Some(key);
            let its = bucket_of(entry.prefix, buckets);
            if its != bucket {
                if !bytes.is_empty() {
                    writer.bucket(bucket, &bytes)?;
                }
                bytes.clear();
                bucket = its;
            }
            entry.put(&mut bytes);
            info.entries += 1;
            filter.insert(entry.prefix, &mut |page, bytes| writer.filter_page(page, bytes))
        })?;
        if !bytes.is_empty() {
            writer.bucket(bucket, &bytes)?;
        }
        filter.finish(&mut |page, bytes| writer.filter_page(page, bytes))
    })?;
    change.put_run(P::SIDE, &info)?;
    for run in runs {
        change.remove_run(P::SIDE, run.info.number)?;
    }
    Ok(info)
}

/// All entries in ascending order.
fn sweep_all<P: Place>(
    runs: &[Arc<Run<P>>],
    batch: &[Entry<P>],
    take: &mut dyn FnMut(Entry<P>) -> Result<()>,
) -> Result<()> {
    let mut sweeps: Vec<_> = runs.iter().map(|run| Sweep { run, bucket: 0, page: None, offset: 0 }).collect();
    let mut batch = batch.iter().copied();
    let batch_source = sweeps.len();
    let mut next = |source: usize| match sweeps.get_mut(source) {
        Some(sweep) => sweep.next(),
        None => Ok(batch.next()),
    };
    let mut heap = BinaryHeap::with_capacity(batch_source + 1);
    for source in 0..=batch_source {
        if let Some(entry) = next(source)? {
            heap.push(Reverse((entry, source)));
        }
    }
    while let Some(mut top) = heap.peek_mut() {
        let Reverse((entry, source)) = *top;
        match next(source)? {
            Some(following) => *top = Reverse((following, source)),
            None => {
                PeekMut::pop(top);
            }
        }
        take(entry)?;
    }
    Ok(())
}
