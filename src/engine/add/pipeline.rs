//! In which order does everything happen? The loop of the coordinating thread, around
//! **source** → (workers) → **assembler** → **sink**, and the end: the committer's catalog, and the commit.
//!
//! Everything that decides what is stored and where happens here, in the order of the walk, so a store comes out the same,
//! byte for byte, however many workers there are. What it takes is a few nanoseconds a chunk: workers have read, cut,
//! hashed and looked up before, and copy and compress afterwards.

use std::time::Instant;

use crossbeam_channel::{Receiver, Sender};

use super::assembler::Assembler;
use super::budget::MemoryBudget;
use super::committer::Catalog;
use super::report::{AddReport, Problem};
use super::sink::{Sink, SinkTotals};
use super::source::{Next, Source};
use super::task::{Event, Task, TaskNumber, ToPack};
use super::{AddTotals, stopped_early};
use crate::catalog::snapshot::SnapshotInfo;
use crate::engine::store::chunk_index::ChunkIndex;
use crate::engine::store::commit::{self, PacksDurable};
use crate::engine::store::control::Control;
use crate::engine::store::labels::Labeller;
use crate::error::{Error, Result};
use crate::format::entry::{Entry, EntryKind, EntryPath};
use crate::format::label::Labels;
use crate::format::recipe::recipe_id;
use crate::ingest::made_now;
use crate::storage::Session;

/// The most tasks that are out, for each worker: enough that none waits, and so few that buffers are used again
/// while they are in the processor's cache.
const TASKS_PER_WORKER_MAX: u64 = 5;
/// Nor are more frames on their way to a pack, for each worker and in all: where packs are written more slowly than frames
/// are filled, reading on would only hold memory.
const FRAMES_PER_WORKER_MAX: u64 = 8;
const FRAMES_MIN: u64 = 16;

/// The coordinating thread.
#[derive(Debug)]
pub(super) struct AddPipeline<'a, 's> {
    pub(super) source: Source<'a, 's>,
    pub(super) assembler: Assembler<'a, 's>,
    pub(super) sink: Sink<'a, 's>,
    pub(super) queues: PipelineQueues<'a, 's>,
    pub(super) limits: Limits,
    pub(super) control: &'a Control,
}

/// The pipeline's ends of the queues.
#[derive(Debug)]
pub(super) struct PipelineQueues<'a, 's> {
    pub(super) tasks: Sender<(TaskNumber, Task)>,
    pub(super) to_pack: Sender<ToPack>,
    pub(super) events: Receiver<Event<'a, 's>>,
}

/// How much may be on its way.
#[derive(Debug)]
pub(super) struct Limits {
    budget: MemoryBudget,
    /// What an inner file may hold besides: the rest may be held by what comes after it.
    inner_budget: MemoryBudget,
    tasks_max: u64,
    frames_max: u64,
    /// Frames that are in their packs.
    written_frames: u64,
}

/// What a snapshot is committed with.
#[derive(Debug)]
pub(super) struct Commit<'a, 's> {
    pub(super) session: &'a dyn Session,
    pub(super) chunk_index: &'a ChunkIndex<'s>,
    pub(super) control: &'a Control,
    pub(super) labeller: &'a Labeller,
    /// What the snapshot will say of itself, but for its figures.
    pub(super) info: SnapshotInfo,
    pub(super) begun: Instant,
}

impl Limits {
    pub(super) fn new(budget: MemoryBudget, memory_bytes: usize, threads: usize) -> Self {
        let inner_budget = MemoryBudget::new(memory_bytes / INNER_SHARE);
        let tasks_max = TASKS_PER_WORKER_MAX * threads as u64;
        let frames_max = FRAMES_MIN.max(FRAMES_PER_WORKER_MAX * threads as u64);
        Self { budget, inner_budget, tasks_max, frames_max, written_frames: 0 }
    }
}

/// An inner file may hold this part of the memory.
const INNER_SHARE: usize = 8;

impl<'a, 's> AddPipeline<'a, 's> {
    /// Adds everything. Returns once every chunk is durable and all rows are taken.
    pub(super) fn run(mut self) -> Result<(PacksDurable, Catalog, SinkTotals)> {
        loop {
            if self.control.is_stopped() {
                return Err(self.interrupted());
            }
            while let Ok(event) = self.queues.events.try_recv() {
                self.handle(event)?;
            }
            if self.hand_out_inner()? {
                continue;
            }
            match self.hand_out()? {
                Handed::Some => continue,
                Handed::Over if self.assembler.open() == 0 => return self.end(),
                Handed::Over | Handed::None => {}
            }
            // Either there is room for no more or all tasks are out: wait until one comes back, or something is given.
            let has_room = self.has_room();
            if let Some(event) = self.source.wait(&self.queues.events, has_room)? {
                self.handle(event)?;
            }
        }
    }

    fn has_room(&self) -> bool {
        !self.limits.budget.is_spent()
            && self.assembler.open() < self.limits.tasks_max
            && self.frames_ahead() <= self.limits.frames_max
    }

    /// Frames that are full and not in their packs yet.
    fn frames_ahead(&self) -> u64 {
        self.sink.closed() - self.limits.written_frames
    }

    /// Hands out the next task.
    fn hand_out(&mut self) -> Result<Handed> {
        if !self.has_room() {
            return Ok(Handed::None);
        }
        match self.source.next()? {
            Next::Task(task) => {
                let number = self.assembler.hand_out();
                self.send(number, task, false);
                Ok(Handed::Some)
            }
            Next::Done(result) => {
                let number = self.assembler.hand_out();
                self.assembler.put(number, result, &mut self.sink)?;
                Ok(Handed::Some)
            }
            Next::Wait => Ok(Handed::None),
            Next::Over => Ok(Handed::Over),
        }
    }

    /// Hands out the next task of the inner file, for which everything else waits.
    fn hand_out_inner(&mut self) -> Result<bool> {
        let Limits { inner_budget, tasks_max, frames_max, .. } = &self.limits;
        if self.assembler.open_inner() >= *tasks_max || inner_budget.is_spent() || self.frames_ahead() > *frames_max {
            return Ok(false);
        }
        let (context, urgent) = self.source.tools();
        let Some(big) = self.assembler.inner_file() else { return Ok(false) };
        match big.next(context, self.control, urgent, true)? {
            Next::Task(task) => {
                let number = self.assembler.hand_out_inner();
                self.send(number, task, true);
            }
            Next::Done(result) => {
                let number = self.assembler.hand_out_inner();
                self.assembler.put(number, result, &mut self.sink)?;
            }
            Next::Wait => return Ok(false),
            Next::Over => {
                self.assembler.end_inner();
                self.assembler.take_all(&mut self.sink)?;
            }
        }
        Ok(true)
    }

    fn send(&self, number: TaskNumber, task: Task, is_inner: bool) {
        let budget = if is_inner { &self.limits.inner_budget } else { &self.limits.budget };
        let held = budget.hold(task.weight());
        // The workers are gone only if the add has failed already; the failure is among the events.
        let _ = self.queues.tasks.send((number, task.holding(held)));
    }

    fn handle(&mut self, event: Event<'a, 's>) -> Result<()> {
        match event {
            Event::TaskResult(number, result) => return self.assembler.put(number, result, &mut self.sink),
            Event::Walked(walker, planned) => self.source.walked(walker, planned),
            Event::Split { splitter, tasks, is_inner: false } => self.source.split(splitter, tasks),
            Event::Split { splitter, tasks, is_inner: true } => {
                if let Some(big) = self.assembler.inner_file() {
                    big.split(splitter, tasks);
                }
            }
            Event::Assembled(stretch) => return self.assembler.assembled(stretch, &mut self.sink),
            Event::Packed(pack) => self.sink.packed(pack, self.assembler.handed()),
            Event::Written => self.limits.written_frames += 1,
            Event::Fatal(error) => return Err(error),
            // There may be room now.
            Event::Copied => {}
            // Asked for at the end.
            Event::Flushed(_) | Event::Catalog(_) => {}
        }
        Ok(())
    }

    /// Makes every chunk durable while the committer takes the last rows.
    fn end(self) -> Result<(PacksDurable, Catalog, SinkTotals)> {
        let Self { assembler, mut sink, queues, .. } = self;
        // The committer's queue closes.
        let handed = assembler.handed();
        drop(assembler);
        let before = sink.flush();
        // If the packer is gone, the reason is among the events.
        let _ = queues.to_pack.send(ToPack::Flush { before });
        let (mut durable, mut catalog) = (None, None);
        loop {
            match queues.events.recv().map_err(|_| stopped_early())? {
                Event::Packed(pack) => sink.packed(pack, handed),
                Event::Flushed(packs) => durable = Some(packs),
                Event::Catalog(all) => catalog = Some(*all),
                Event::Fatal(error) => return Err(error),
                _ => {}
            }
            match (durable.take(), catalog.take()) {
                (Some(durable), Some(catalog)) => return Ok((durable, catalog, sink.totals())),
                waiting => (durable, catalog) = waiting,
            }
        }
    }

    /// Keeps what was packed so far, for the next add to reuse, and makes no snapshot.
    fn interrupted(&mut self) -> Error {
        let before = self.sink.flush();
        let _ = self.queues.to_pack.send(ToPack::Flush { before });
        loop {
            match self.queues.events.recv() {
                Ok(Event::Flushed(_)) => break,
                Ok(Event::Packed(pack)) => self.sink.packed(pack, self.assembler.handed()),
                Ok(Event::Fatal(error)) => return error,
                Ok(_) => {}
                Err(_) => return stopped_early(),
            }
        }
        let SinkTotals { new_bytes, new_chunks, packs, .. } = self.sink.totals();
        Error::Interrupted {
            kept: format!(
                "no snapshot was made; {new_chunks} new chunks ({new_bytes} bytes in {packs} packs) are kept, and the next add reuses them"
            ),
        }
    }
}

/// What became of handing out.
enum Handed {
    Some,
    /// Nothing now.
    None,
    /// Nothing any more.
    Over,
}

impl Commit<'_, '_> {
    /// In the order that [`commit`] proves: invariants 1 and 2.
    pub(super) fn run(self, packs: PacksDurable, catalog: Catalog, sink: SinkTotals) -> Result<AddReport> {
        let Self { session, chunk_index, control, labeller, info, begun } = self;
        let Catalog { rows, mut recipes, mut totals, problems } = catalog;
        let chunks = commit::chunks(packs, chunk_index)?;
        let now = made_now(EntryPath::default(), EntryKind::Directory);
        let rows = rows.finish(chunk_index.storage(), &mut |path| {
            let mut entry = Entry { path, ..now.clone() };
            entry.labels = labeller.labels_of(&entry.path, None, &Labels::default());
            totals.count(&entry);
            control.count(1, 0);
            entry
        })?;
        if let Some(filler) = chunk_index.pending_deletes().filler().filter(|_| !recipes.is_empty()) {
            // A file of the same recipes may be about to be deleted: this one must have a name of its own.
            recipes.push(recipe_id(&[filler]), &[filler])?;
        }
        let (recipes, recipes_bytes) = commit::recipes(chunks, recipes, chunk_index)?;
        let (notes, problems) = Problem::part(problems);
        let SinkTotals { new_bytes, new_chunks, pack_bytes, .. } = sink;
        let info = SnapshotInfo {
            took_ms: begun.elapsed().as_millis().try_into().unwrap_or(u64::MAX),
            skipped: problems.len() as u64,
            new_bytes,
            new_chunks,
            stored_bytes: pack_bytes,
            ..info
        };
        let snapshot = commit::snapshot(recipes, rows, info, session)?;
        let stored_bytes = pack_bytes + recipes_bytes + snapshot.bytes;
        let totals = AddTotals { new_bytes, new_chunks, stored_bytes, ..totals };
        Ok(AddReport { snapshot: Some(snapshot.id), totals, problems, notes, ..AddReport::default() })
    }
}
