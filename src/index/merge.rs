//! How does a run come to be? Sorted inputs in, one sorted file out, front to back.
//!
//! Memory: for each input a page, and for the output a buffer, one group's filter and its pages.

use std::cmp::Reverse;
use std::collections::binary_heap::{BinaryHeap, PeekMut};
use std::io;

use super::filter::{GroupFilter, Shape};
use super::run::{Entry, Footer, PAGE_BYTES, RUN_BYTES_MAX, Run, SEAL_BYTES, Source, StoreKey, Sweep, Value, seal};

/// Bytes that are gathered before they are written.
const BUFFER_BYTES: usize = 256 << 10;

/// A run to be merged, and what its sources are in the new one: `None` for those whose entries are not taken from it.
#[derive(Debug)]
pub(super) struct MergeInput<'r, V> {
    pub(super) run: &'r Run<V>,
    pub(super) sources: Vec<Option<u32>>,
}

/// Why a run was not written.
#[derive(Debug)]
pub(super) enum Failure {
    /// An input cannot be used, the one at this position, and why.
    Input(usize, String),
    /// The new file cannot be written.
    Output,
}

impl From<io::Error> for Failure {
    fn from(_: io::Error) -> Self {
        Self::Output
    }
}

/// What a new run is made of.
#[derive(Debug)]
pub(super) struct Plan<'r, V> {
    pub(super) shape: Shape,
    /// All sources of the new run.
    pub(super) sources: Vec<Source>,
    pub(super) inputs: Vec<MergeInput<'r, V>>,
    /// New entries, sorted.
    pub(super) entries: Vec<Entry<V>>,
}

/// Takes the bytes of a file, front to back.
pub(super) type Output<'o> = &'o mut dyn FnMut(&[u8]) -> io::Result<()>;

impl<V: Value> Plan<'_, V> {
    /// Writes the run.
    ///
    /// # Errors
    /// An input is damaged, or the output fails: what was written is then of no use.
    pub(super) fn write(&self, store: StoreKey, tag: u64, out: Output<'_>) -> Result<(), Failure> {
        let mut writer = RunWriter {
            out,
            shape: self.shape,
            tag,
            offset: 0,
            buffer: Vec::with_capacity(BUFFER_BYTES + 4 * PAGE_BYTES),
            page: Vec::with_capacity(PAGE_BYTES),
            filter: GroupFilter::new(self.shape.blocks_in(0)),
            fences: Vec::new(),
            group_entries: 0,
            groups: Vec::new(),
        };
        let mut sweeps: Vec<_> = self.inputs.iter().map(|input| Sweep::new(input.run, &input.sources)).collect();
        let mut entries = self.entries.iter().copied();
        let mut next = |input: usize| match sweeps.get_mut(input) {
            Some(sweep) => sweep.next().map_err(|why| Failure::Input(input, why)),
            None => Ok(entries.next()),
        };
        let mut heap = BinaryHeap::with_capacity(self.inputs.len() + 1);
        for input in 0..=self.inputs.len() {
            heap.extend(next(input)?.map(|entry| Reverse((entry, input))));
        }
        while let Some(mut top) = heap.peek_mut() {
            let Reverse((entry, input)) = *top;
            match next(input)? {
                Some(following) => *top = Reverse((following, input)),
                None => {
                    PeekMut::pop(top);
                }
            }
            writer.put(&entry)?;
        }
        Ok(writer.finish(V::KIND, store, &self.sources)?)
    }
}

/// Writes a run from its entries in ascending order.
struct RunWriter<'o> {
    out: Output<'o>,
    shape: Shape,
    tag: u64,
    /// Where the page begins in the file.
    offset: u64,
    /// Pages that are done and not written.
    buffer: Vec<u8>,
    page: Vec<u8>,
    filter: GroupFilter,
    /// The first prefix of each entry page of the group.
    fences: Vec<u64>,
    group_entries: u32,
    /// The number of entries of each group that is done.
    groups: Vec<u32>,
}

impl RunWriter<'_> {
    fn put<V: Value>(&mut self, entry: &Entry<V>) -> io::Result<()> {
        let position = self.shape.position(entry.prefix);
        while self.groups.len() < position.group {
            self.end_group()?;
        }
        if self.page.is_empty() {
            self.fences.push(entry.prefix);
        }
        entry.put(&mut self.page);
        self.filter.insert(position);
        self.group_entries = self.group_entries.checked_add(1).ok_or(io::ErrorKind::FileTooLarge)?;
        if self.page.len() == PAGE_BYTES - SEAL_BYTES { self.end_page() } else { Ok(()) }
    }

    /// Ends the page that was begun, if one was.
    fn end_page(&mut self) -> io::Result<()> {
        if !self.page.is_empty() {
            seal(&mut self.page, self.tag, self.offset);
            self.offset += self.page.len() as u64;
            self.buffer.append(&mut self.page);
        }
        if self.buffer.len() >= BUFFER_BYTES { self.flush() } else { Ok(()) }
    }

    fn flush(&mut self) -> io::Result<()> {
        if self.offset > RUN_BYTES_MAX {
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        (self.out)(&self.buffer)?;
        self.buffer.clear();
        Ok(())
    }

    fn end_group(&mut self) -> io::Result<()> {
        self.end_page()?;
        self.filter.put(&mut self.page);
        self.page.extend(self.fences.drain(..).flat_map(u64::to_le_bytes));
        self.end_page()?;
        self.groups.push(std::mem::take(&mut self.group_entries));
        self.filter = GroupFilter::new(self.shape.blocks_in(self.groups.len()));
        Ok(())
    }

    fn finish(mut self, kind: u8, store: StoreKey, sources: &[Source]) -> io::Result<()> {
        while (self.groups.len() as u64) < self.shape.groups() {
            self.end_group()?;
        }
        self.flush()?;
        self.buffer.extend(self.groups.iter().flat_map(|entries| entries.to_le_bytes()));
        for source in sources {
            self.buffer.extend_from_slice(&source.id);
            self.buffer.extend_from_slice(&source.entries.to_le_bytes());
        }
        let entries = self.groups.iter().map(|entries| u64::from(*entries)).sum();
        let sources = u32::try_from(sources.len()).map_err(|_| io::ErrorKind::FileTooLarge)?;
        Footer { kind, sources, store, tag: self.tag, entries, shape: self.shape }.put(&mut self.buffer);
        self.flush()
    }
}
