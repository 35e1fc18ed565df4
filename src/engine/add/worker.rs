//! Read, cut, hash, look up, copy, compress: what worker threads do for an add. Any worker takes any task; order is made
//! elsewhere.

use crossbeam_channel::{Receiver, Sender};

use super::archive::{Archives, assemble};
use super::budget::{MemoryBudget, MemoryPermit};
use super::pool::Pool;
use super::task::{Copy, Event, NewFrame, Task, TaskNumber, TaskResult, ToPack, Urgent};
use crate::chunk::finder::Finder;
use crate::engine::store::chunk_index::ChunkIndex;
use crate::engine::store::labels::Labeller;
use crate::error::Result;
use crate::format::entry::Entry;
use crate::ingest::{Metadata, Package};
use crate::pack::frame::{FrameEncoder, FrameSettings};

impl Task {
    /// Bytes that it will hold in memory; those of a batch are counted when it is made.
    pub(super) fn weight(&self) -> usize {
        match self {
            Self::Batch(_) => 0,
            Self::Segment(segment) => segment.weight(),
            Self::Archive(batch) => batch.weight(),
        }
    }

    pub(super) fn holding(self, held: MemoryPermit) -> Self {
        match self {
            Self::Batch(batch) => Self::Batch(batch),
            Self::Segment(segment) => Self::Segment(segment.holding(held)),
            Self::Archive(batch) => Self::Archive(batch.holding(held)),
        }
    }

    fn run(self, context: &WorkerContext<'_, '_>) -> Result<TaskResult> {
        Ok(match self {
            Self::Batch(batch) => TaskResult::Batch(batch.run(context)?),
            Self::Segment(segment) => TaskResult::Segment(Box::new(segment.run(context)?)),
            Self::Archive(batch) => TaskResult::Archive(Box::new(batch.run(context)?)),
        })
    }
}

/// The queues a worker takes from and gives to.
#[derive(Debug, Clone)]
pub(super) struct Queues<'a, 's> {
    pub(super) tasks: Receiver<(TaskNumber, Task)>,
    pub(super) urgent: Receiver<Urgent<'a, 's>>,
    pub(super) to_pack: Sender<ToPack>,
    pub(super) events: Sender<Event<'a, 's>>,
}

/// What workers share.
#[derive(Debug)]
pub(super) struct WorkerContext<'a, 's> {
    pub(super) chunk_index: &'a ChunkIndex<'s>,
    pub(super) labeller: &'a Labeller,
    pub(super) finder: Finder,
    pub(super) metadata: Metadata,
    pub(super) frames: FrameSettings,
    pub(super) archives: Archives,
    /// Whether files are read even if they seem unchanged.
    pub(super) rereads: bool,
    pub(super) pools: Pools,
    pub(super) budget: MemoryBudget,
}

/// Buffers by what they hold, so that none grows to what another kind needs.
#[derive(Debug, Clone, Default)]
pub(super) struct Pools {
    pub(super) segments: Pool,
    pub(super) stretches: Pool,
    /// Chunks of a frame, and frames as they are stored.
    pub(super) frames: Pool,
    pub(super) encoded: Pool,
    pub(super) small: Pool,
}

impl WorkerContext<'_, '_> {
    /// Labels a file by what package it is, if that is asked for and it is one.
    pub(super) fn detect(&self, entry: &mut Entry, head: &[u8]) {
        if let Some(package) = self.labeller.candidate(entry).filter(|package| package.is_one(head)) {
            entry.labels = self.labeller.labels_of(&entry.path, Some(package), &entry.labels);
        }
    }

    /// Gives an entry its labels; `head` are the first bytes of a file that may be a package.
    pub(super) fn label(&self, entry: &mut Entry, head: Option<&[u8]>) {
        if let Some(head) = head {
            self.detect(entry, head);
        }
        entry.labels = self.labeller.labels_of(&entry.path, None, &entry.labels);
    }

    /// Gives the entry of an archive, whose size is set, its labels.
    pub(super) fn label_archive(&self, entry: &mut Entry, package: Option<Package>) {
        if self.labeller.candidate(entry).is_some() {
            entry.labels = self.labeller.labels_of(&entry.path, package, &entry.labels);
        }
        self.label(entry, None);
    }
}

/// Works until both queues close. What is urgent comes first: it frees memory, and later stages wait for it.
pub(super) fn run<'a, 's>(context: &WorkerContext<'a, 's>, queues: &Queues<'a, 's>) {
    let encoder = match FrameEncoder::new(context.frames) {
        Ok(encoder) => encoder,
        Err(error) => {
            let _ = queues.events.send(Event::Fatal(error));
            return;
        }
    };
    let mut worker = Worker { context, queues, encoder };
    let mut tasks = queues.tasks.clone();
    let mut urgent = queues.urgent.clone();
    let (mut tasks_open, mut urgent_open) = (true, true);
    while tasks_open || urgent_open {
        let outcome = if let Ok(first) = urgent.try_recv() {
            worker.run_urgent(first)
        } else {
            crossbeam_channel::select! {
                recv(urgent) -> first => match first {
                    Ok(first) => worker.run_urgent(first),
                    Err(_) => { urgent_open = false; urgent = crossbeam_channel::never(); Ok(()) }
                },
                recv(tasks) -> task => match task {
                    Ok((number, task)) => worker.run_task(number, task),
                    Err(_) => { tasks_open = false; tasks = crossbeam_channel::never(); Ok(()) }
                },
            }
        };
        if let Err(error) = outcome {
            let _ = queues.events.send(Event::Fatal(error));
        }
    }
}

struct Worker<'w, 'a, 's> {
    context: &'w WorkerContext<'a, 's>,
    queues: &'w Queues<'a, 's>,
    encoder: FrameEncoder,
}

impl<'a, 's> Worker<'_, 'a, 's> {
    fn run_task(&mut self, number: TaskNumber, task: Task) -> Result<()> {
        let done = task.run(self.context)?;
        self.send(Event::TaskResult(number, done));
        Ok(())
    }

    fn run_urgent(&mut self, urgent: Urgent<'a, 's>) -> Result<()> {
        match urgent {
            Urgent::Copy(copy) => self.copy(copy),
            Urgent::Encode(frame) => self.encode(frame),
            Urgent::Walk(mut walker) => {
                let (planned, is_over) = walker.walk(self.context)?;
                self.send(Event::Walked((!is_over).then_some(walker), planned));
                Ok(())
            }
            Urgent::Split(mut splitter, is_inner) => {
                let (tasks, is_over) = splitter.split(self.context);
                self.send(Event::Split { splitter: (!is_over).then_some(splitter), tasks, is_inner });
                Ok(())
            }
            Urgent::Assemble(assembler, results) => {
                self.send(Event::Assembled(assemble(assembler, results, self.context)?));
                Ok(())
            }
        }
    }

    /// Copies chunks into frames, and compresses the frames that are complete then.
    fn copy(&mut self, Copy { block, parts }: Copy) -> Result<()> {
        let copied = |part: &super::task::CopyPart| {
            part.frame.copy(part.at, block.bytes.get(part.from.clone()).unwrap_or_default())
        };
        let complete: Vec<NewFrame> = parts.iter().filter_map(copied).collect();
        drop((block, parts));
        // The coordinating thread may be waiting for room.
        self.send(Event::Copied);
        complete.into_iter().try_for_each(|frame| self.encode(frame))
    }

    fn encode(&mut self, mut frame: NewFrame) -> Result<()> {
        let mut encoded = self.context.pools.encoded.take_empty();
        self.encoder.encode(&frame.bytes, &frame.lengths, &mut encoded)?;
        frame.bytes = encoded;
        // The packer is gone only if the add has failed already.
        let _ = self.queues.to_pack.send(ToPack::Frame(frame));
        Ok(())
    }

    fn send(&self, event: Event<'a, 's>) {
        // Nobody listens any more only if the add has failed already.
        let _ = self.queues.events.send(event);
    }
}
