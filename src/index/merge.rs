//! How does a run come to be? Sorted inputs in, one sorted file out, front to back.
//!
//! Memory: for each input some 300 KiB, and for the output one group's filter and its pages.

use std::cmp::Reverse;
use std::collections::binary_heap::{BinaryHeap, PeekMut};
use std::io::{self, Write};

use super::filter::{GroupFilter, Shape};
use super::run::{Entry, Footer, PAGE_BYTES, RUN_BYTES_MAX, Run, SEAL_BYTES, Source, StoreKey, Sweep, Value, seal};

/// Bytes that are gathered before they are written.
const BUFFER_BYTES: usize = 256 << 10;

/// Entries of one prefix that are compared with each other. Of more, which only a forged run has, some may stay twice.
const SAME_PREFIX_MAX: usize = 4096;

/// A run to be merged, and what its sources are in the new one: `u32::MAX` for those that are gone.
#[derive(Debug)]
pub(super) struct MergeInput<'r, V> {
    pub(super) run: &'r Run<V>,
    pub(super) sources: Vec<u32>,
}

/// Why a run was not written.
#[derive(Debug)]
pub(super) enum Failure {
    /// A input cannot be used, the one at this position, and why.
    Input(usize, String),
    /// The new file cannot be written.
    Output(io::Error),
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Self::Output(error)
    }
}

/// What a new run is made of.
#[derive(Debug)]
pub(super) struct Plan<'r, V> {
    pub(super) store: StoreKey,
    pub(super) tag: u64,
    pub(super) shape: Shape,
    /// All sources of the new run.
    pub(super) sources: Vec<Source>,
    pub(super) inputs: Vec<MergeInput<'r, V>>,
    /// New entries, sorted.
    pub(super) batch: &'r [Entry<V>],
}

impl<V: Value> Plan<'_, V> {
    /// Writes the run.
    ///
    /// # Errors
    /// A input is damaged, or the output fails: what was written is then of no use.
    pub(super) fn write(&self, out: &mut dyn Write) -> Result<(), Failure> {
        let mut writer = RunWriter::new(out, self.shape, self.tag);
        // Entries of one prefix are gathered, because inputs number sources differently.
        let mut same: Vec<Entry<V>> = Vec::new();
        self.merged(&mut |entry| {
            if same.first().is_some_and(|first| first.prefix != entry.prefix) || same.len() >= SAME_PREFIX_MAX {
                writer.put_all(&mut same)?;
            }
            same.push(entry);
            Ok(())
        })?;
        writer.put_all(&mut same)?;
        Ok(writer.finish(V::KIND, self.store, &self.sources)?)
    }

    /// All entries, ascending by prefix.
    fn merged(&self, take: &mut dyn FnMut(Entry<V>) -> io::Result<()>) -> Result<(), Failure> {
        let mut sweeps: Vec<_> = self.inputs.iter().map(|input| (Sweep::new(input.run), &input.sources)).collect();
        let mut batch = self.batch.iter().copied();
        let mut next = |input: usize| match sweeps.get_mut(input) {
            Some((sweep, sources)) => sweep
                .next(&|source| sources.get(source as usize).copied().filter(|source| *source != u32::MAX))
                .map_err(|why| Failure::Input(input, why)),
            None => Ok(batch.next()),
        };
        let mut heap = BinaryHeap::with_capacity(self.inputs.len() + 1);
        for input in 0..=self.inputs.len() {
            if let Some(entry) = next(input)? {
                heap.push(Reverse((entry, input)));
            }
        }
        while let Some(mut top) = heap.peek_mut() {
            let Reverse((entry, input)) = *top;
            match next(input)? {
                Some(following) => *top = Reverse((following, input)),
                None => {
                    PeekMut::pop(top);
                }
            }
            take(entry)?;
        }
        Ok(())
    }
}

/// Writes a run from its entries in ascending order.
struct RunWriter<'o> {
    out: &'o mut dyn Write,
    shape: Shape,
    tag: u64,
    /// Where `buffer` begins in the file.
    offset: u64,
    buffer: Vec<u8>,
    /// Where the entry page begins in `buffer`.
    page: usize,
    filter: GroupFilter,
    fences: Vec<u64>,
    group_entries: u32,
    /// The number of entries of each group that is done.
    groups: Vec<u32>,
    entries: u64,
}

impl<'o> RunWriter<'o> {
    fn new(out: &'o mut dyn Write, shape: Shape, tag: u64) -> Self {
        Self {
            out,
            shape,
            tag,
            offset: 0,
            buffer: Vec::with_capacity(BUFFER_BYTES + PAGE_BYTES),
            page: 0,
            filter: GroupFilter::new(shape.blocks_in(0)),
            fences: Vec::new(),
            group_entries: 0,
            groups: Vec::new(),
            entries: 0,
        }
    }

    /// Appends these entries, which have one prefix, each once, and empties the list.
    fn put_all<V: Value>(&mut self, same: &mut Vec<Entry<V>>) -> io::Result<()> {
        if same.len() > 1 {
            same.sort_unstable();
            same.dedup();
        }
        for entry in same.drain(..) {
            self.put(&entry)?;
        }
        Ok(())
    }

    fn put<V: Value>(&mut self, entry: &Entry<V>) -> io::Result<()> {
        let position = self.shape.position(entry.prefix);
        while self.groups.len() < position.group {
            self.end_group()?;
        }
        if self.page == self.buffer.len() {
            self.fences.push(entry.prefix);
        }
        entry.put(&mut self.buffer);
        self.filter.insert(position);
        self.group_entries = self.group_entries.checked_add(1).ok_or(io::ErrorKind::FileTooLarge)?;
        if self.buffer.len() - self.page == PAGE_BYTES - SEAL_BYTES {
            self.end_page()?;
        }
        Ok(())
    }

    /// Ends the page that was begun, if one was.
    fn end_page(&mut self) -> io::Result<()> {
        if self.page < self.buffer.len() {
            seal(&mut self.buffer, self.page, self.tag, self.offset + self.page as u64);
        }
        if self.buffer.len() >= BUFFER_BYTES {
            self.flush()?;
        }
        self.page = self.buffer.len();
        Ok(())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.write_all(&self.buffer)?;
        self.offset += self.buffer.len() as u64;
        self.buffer.clear();
        if self.offset > RUN_BYTES_MAX { Err(io::ErrorKind::FileTooLarge.into()) } else { Ok(()) }
    }

    fn end_group(&mut self) -> io::Result<()> {
        self.end_page()?;
        self.filter.put(&mut self.buffer);
        self.buffer.extend(self.fences.drain(..).flat_map(u64::to_le_bytes));
        self.end_page()?;
        self.groups.push(self.group_entries);
        self.entries += u64::from(std::mem::take(&mut self.group_entries));
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
        let sources = u32::try_from(sources.len()).map_err(|_| io::ErrorKind::FileTooLarge)?;
        let footer = Footer { kind, sources, store, tag: self.tag, entries: self.entries, shape: self.shape };
        footer.put(&mut self.buffer);
        self.flush()
    }
}
