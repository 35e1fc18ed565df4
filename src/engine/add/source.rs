//! What is to be done next? Hands out tasks in the order of the snapshot: of the walk, of standard input, or of what a
//! [`Writer`] is given. Big files and archives are handed out bit by bit.
//!
//! [`Writer`]: super::Writer

use std::collections::VecDeque;
use std::sync::Arc;

use crossbeam_channel::{Receiver, Sender};

use super::archive::TarSplitter;
use super::origin::Origin;
use super::report::Problem;
use super::segments::Segments;
use super::stream::{StopReader, Stream, UNSIZED_BYTES_MAX};
use super::task::{Batch, BatchDone, Event, Later, Planned, SegmentDone, Task, TaskResult, Urgent};
use super::walker::Walker;
use super::worker::WorkerContext;
use super::writer_source::{SourceStep, WriterSource};
use super::{BATCH_BYTES, BATCH_ITEMS, ITEM_BYTES};
use crate::engine::store::control::Control;
use crate::error::{Error, Result};
use crate::format::entry::Entry;
use crate::ingest::WalkedEntry;

/// What is next.
#[derive(Debug)]
pub(super) enum Next {
    /// For a worker.
    Task(Task),
    /// Done already.
    Done(TaskResult),
    /// Not known yet: an event or a writer will tell.
    Wait,
    /// Nothing: that was all.
    Over,
}

/// Hands out tasks.
#[derive(Debug)]
pub(super) struct Source<'a, 's> {
    context: &'a WorkerContext<'a, 's>,
    control: &'a Control,
    urgent: Sender<Urgent<'a, 's>>,
    walk: Ahead<Box<Walker<'a, 's>>, Planned>,
    /// What comes from a writer; then nothing comes from disk.
    given: Option<WriterSource>,
    /// Standard input, if it is to be added and was not begun.
    stdin: Option<Entry>,
    /// What is being handed out bit by bit.
    big: Option<Big>,
}

impl<'a, 's> Source<'a, 's> {
    pub(super) fn new(
        context: &'a WorkerContext<'a, 's>,
        control: &'a Control,
        urgent: Sender<Urgent<'a, 's>>,
        from: Given<'a, 's>,
    ) -> Self {
        let Given { walker, stdin, writer } = from;
        let walk = Ahead { resting: walker.map(Box::new), is_out: false, ready: VecDeque::new() };
        Self { context, control, urgent, walk, given: writer, stdin, big: None }
    }

    /// What is next, in order.
    ///
    /// # Errors
    /// Standard input cannot be read; the writer was dropped.
    pub(super) fn next(&mut self) -> Result<Next> {
        loop {
            if let Some(big) = &mut self.big {
                match big.next(self.context, self.control, &self.urgent, false)? {
                    Next::Over => self.big = None,
                    next => return Ok(next),
                }
                continue;
            }
            if self.given.is_some() {
                return self.next_given();
            }
            // What comes after something large is looked at when that was handed out, and not long before it is read.
            let is_large_next = matches!(self.walk.ready.back(), Some(Planned::Big(_) | Planned::Stdin));
            let planned = self.walk.take(!is_large_next, |walker| drop(self.urgent.send(Urgent::Walk(walker))));
            return Ok(match planned {
                Some(Planned::Batch(items, bytes)) => {
                    Next::Task(Task::Batch(Batch { items, held: self.context.budget.hold(bytes) }))
                }
                Some(Planned::Done(batch)) => Next::Done(TaskResult::Batch(batch)),
                Some(Planned::Stdin) => {
                    self.big = self.stdin.take().map(|entry| self.begin_stdin(entry)).transpose()?;
                    continue;
                }
                Some(Planned::Big(found)) => match Big::of_file(*found, self.context) {
                    Ok(big) => {
                        self.big = Some(big);
                        continue;
                    }
                    Err(problem) => Next::Done(TaskResult::Batch(BatchDone::of_problem(problem))),
                },
                None if self.walk.is_out => Next::Wait,
                None => Next::Over,
            });
        }
    }

    /// What an inner file is handed out with.
    pub(super) fn tools(&self) -> (&'a WorkerContext<'a, 's>, &Sender<Urgent<'a, 's>>) {
        (self.context, &self.urgent)
    }

    /// Takes back what a worker stepped through.
    pub(super) fn walked(&mut self, walker: Option<Box<Walker<'a, 's>>>, planned: Vec<Planned>) {
        self.walk.put_back(walker, planned);
    }

    /// Takes back an archive.
    pub(super) fn split(&mut self, splitter: Option<Box<TarSplitter>>, tasks: Vec<Task>) {
        if let Some(big) = &mut self.big {
            big.split(splitter, tasks);
        }
    }

    /// Waits for an event, and for what a writer is given, if there is room for it. `None` if it is time to look around.
    ///
    /// # Errors
    /// The writer was dropped; all that send events are gone.
    pub(super) fn wait(&mut self, events: &Receiver<Event<'a, 's>>, has_room: bool) -> Result<Option<Event<'a, 's>>> {
        match self.given.as_mut().filter(|_| has_room) {
            Some(given) => given.wait(events),
            None => events.recv().map(Some).map_err(|_| super::stopped_early()),
        }
    }

    fn begin_stdin(&self, entry: Entry) -> Result<Big> {
        let origin = Origin::Stream { entry: Box::new(entry) };
        if !self.context.archives.stdin_is_tar {
            return Ok(Big::File(Segments::of_stream(Arc::new(origin), Stream::of_stdin())));
        }
        let reader = Box::new(StopReader::new(self.control.stop_flag()));
        let splitter =
            TarSplitter::of_stream(origin, reader).map_err(|source| Error::io("read", "standard input", source))?;
        Ok(Big::of_archive(splitter))
    }

    /// Hands out what a writer was given, as far as it is there.
    fn next_given(&mut self) -> Result<Next> {
        let mut items = Vec::new();
        let mut bytes = 0;
        while items.len() < BATCH_ITEMS && bytes < BATCH_BYTES {
            let Some(given) = self.given.as_mut() else { break };
            match given.next(items.is_empty())? {
                None => break,
                Some(SourceStep::Item(item, item_bytes)) => {
                    bytes += item_bytes + ITEM_BYTES;
                    items.push(item);
                }
                Some(SourceStep::Segment(segment)) => return Ok(Next::Task(Task::Segment(segment))),
                Some(SourceStep::Broken(segment)) => return Ok(Next::Done(TaskResult::Segment(segment))),
            }
        }
        if !items.is_empty() {
            return Ok(Next::Task(Task::Batch(Batch { items, held: self.context.budget.hold(bytes) })));
        }
        let has_ended = self.given.as_ref().is_none_or(WriterSource::has_ended);
        Ok(if has_ended { Next::Over } else { Next::Wait })
    }
}

/// Where everything comes from.
#[derive(Debug)]
pub(super) struct Given<'a, 's> {
    pub(super) walker: Option<Walker<'a, 's>>,
    pub(super) stdin: Option<Entry>,
    pub(super) writer: Option<WriterSource>,
}

/// Serial work that workers do a stretch at a time, one stretch ahead of what is handed out.
#[derive(Debug)]
struct Ahead<S, T> {
    /// The state of the work, if no worker has it and it is not over.
    resting: Option<S>,
    /// Whether a worker has it.
    is_out: bool,
    ready: VecDeque<T>,
}

impl<S, T> Ahead<S, T> {
    /// The next thing, if it is there; sees to it that there will be more.
    fn take(&mut self, may_go_on: bool, send: impl FnOnce(S)) -> Option<T> {
        let next = self.ready.pop_front();
        if may_go_on
            && self.ready.len() <= READY_MIN
            && let Some(state) = self.resting.take()
        {
            // The workers are gone only if the add has failed already; the failure is among the events.
            self.is_out = true;
            send(state);
        }
        next
    }

    fn put_back(&mut self, state: Option<S>, ready: Vec<T>) {
        self.is_out = false;
        self.resting = state;
        self.ready.extend(ready);
    }
}

/// The next stretch is begun when no more than this is left of the last one.
const READY_MIN: usize = 4;

/// Something large, handed out bit by bit.
#[derive(Debug)]
pub(super) enum Big {
    File(Segments),
    Archive(ArchiveAhead),
}

/// An archive that is stepped through.
#[derive(Debug)]
pub(super) struct ArchiveAhead(Ahead<Box<TarSplitter>, Task>);

impl Big {
    /// Opens a big file, and looks whether it is an archive.
    pub(super) fn of_file(found: WalkedEntry, context: &WorkerContext<'_, '_>) -> Result<Self, Problem> {
        let origin = Origin::open(found)?;
        let splitter = TarSplitter::of_file(&origin, context.archives).map_err(|error| origin.skipped(error))?;
        Ok(match splitter {
            Some(splitter) => Self::of_archive(splitter),
            None => Self::File(Segments::of_origin(&origin).map_err(|error| origin.skipped(error))?),
        })
    }

    /// A file that was met among small files and turned out to be large.
    pub(super) fn of_later(later: Later, context: &WorkerContext<'_, '_>) -> Result<Self, Problem> {
        match later {
            Later::Archive(found) => Self::of_file(*found, context),
            Later::Unsized(found) => {
                let origin = Origin::open(*found)?;
                let stream = Stream::of_file(&origin, UNSIZED_BYTES_MAX);
                Ok(Self::File(Segments::of_stream(origin, stream)))
            }
        }
    }

    fn of_archive(splitter: TarSplitter) -> Self {
        let ahead = Ahead { resting: Some(Box::new(splitter)), is_out: false, ready: VecDeque::new() };
        Self::Archive(ArchiveAhead(ahead))
    }

    /// What of it comes next.
    ///
    /// # Errors
    /// Standard input cannot be read. A file that cannot be is a result.
    pub(super) fn next<'a, 's>(
        &mut self,
        context: &WorkerContext<'a, 's>,
        control: &Control,
        urgent: &Sender<Urgent<'a, 's>>,
        is_inner: bool,
    ) -> Result<Next> {
        match self {
            Self::File(segments) => match segments.next(&context.pools.segments, &|| control.is_stopped()) {
                Ok(next) => Ok(next.map_or(Next::Over, |segment| Next::Task(Task::Segment(segment)))),
                // Of a file on disk; the others are kept.
                Err(Error::Io { source, .. }) if matches!(*segments.origin(), Origin::File { .. }) => {
                    let failed = SegmentDone::of_failed(segments.origin(), source);
                    segments.end();
                    Ok(Next::Done(TaskResult::Segment(Box::new(failed))))
                }
                Err(error) => Err(error),
            },
            Self::Archive(ArchiveAhead(ahead)) => {
                let task = ahead.take(true, |splitter| drop(urgent.send(Urgent::Split(splitter, is_inner))));
                Ok(match task {
                    Some(task) => Next::Task(task),
                    None if ahead.is_out => Next::Wait,
                    None => Next::Over,
                })
            }
        }
    }

    /// Takes back an archive.
    pub(super) fn split(&mut self, splitter: Option<Box<TarSplitter>>, tasks: Vec<Task>) {
        if let Self::Archive(ArchiveAhead(ahead)) = self {
            ahead.put_back(splitter, tasks);
        }
    }
}
