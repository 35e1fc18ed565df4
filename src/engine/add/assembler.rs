//! What do the results make? Takes them in the order of the walk: seams are closed, archives put together; chunks go to the
//! sink and rows to the committer.
//!
//! A file among small ones that turned out to be large is the *inner* file: it is handed out when its place has come, and
//! its results are taken before anything that follows it.

use std::sync::Arc;
use std::vec::IntoIter;

use crossbeam_channel::Sender;

use super::archive::ArchiveAssembler;
use super::file_assembler::FileAssembler;
use super::fresh::Handed;
use super::order::Order;
use super::sink::{Sink, TakeChunks};
use super::source::Big;
use super::task::{
    ArchiveStretch, BatchDone, Block, FreshChunk, Group, Row, RowContent, SegmentDone, TakenChunks, TaskNumber,
    TaskResult, Urgent,
};
use super::worker::WorkerContext;
use crate::error::Result;

/// Takes results in order.
#[derive(Debug)]
pub(super) struct Assembler<'a, 's> {
    context: &'a WorkerContext<'a, 's>,
    rows: Sender<Vec<Row>>,
    outer: Order,
    inner: Order,
    /// The inner file, until all of it is handed out; then whether some of it is not taken yet.
    inner_file: Option<Inner>,
    /// The batch that is being taken, while there is an inner file in it.
    batch: Option<OpenBatch>,
    /// Big files of which some segments are in: of those on disk one, of those that a [`Writer`] is given several.
    ///
    /// [`Writer`]: super::Writer
    files: Vec<FileAssembler>,
    /// The archive whose parts are being taken.
    archive: Option<OpenArchive>,
    urgent: Sender<Urgent<'a, 's>>,
}

/// An archive that is put together by workers, while nothing else is taken.
#[derive(Debug)]
struct OpenArchive {
    is_inner: bool,
    /// What is known of it, if it has begun and no worker has it.
    assembler: Option<Box<ArchiveAssembler>>,
    /// Whether a worker has it.
    is_out: bool,
    /// Results that it is to be given.
    waiting: Vec<TaskResult>,
    /// Whether the last of them was its last.
    has_all: bool,
}

#[derive(Debug)]
enum Inner {
    HandedOut(Big),
    Over,
}

/// The rest of a batch.
#[derive(Debug)]
struct OpenBatch {
    block: Arc<Block>,
    fresh: Vec<FreshChunk>,
    taken: usize,
    groups: IntoIter<Group>,
}

impl OpenArchive {
    /// Gathers the results whose turn it is, and sends them to a worker unless one is at work.
    fn gather(&mut self, order: &mut Order, urgent: &Sender<Urgent<'_, '_>>) {
        while !self.has_all
            && let Some(result) = order.next()
        {
            self.has_all = matches!(&result, TaskResult::Archive(done) if done.ending.is_some());
            self.waiting.push(result);
        }
        if !self.is_out && !self.waiting.is_empty() {
            self.is_out = true;
            // The workers are gone only if the add has failed already.
            let _ = urgent.send(Urgent::Assemble(self.assembler.take(), std::mem::take(&mut self.waiting)));
        }
    }
}

impl<'a, 's> Assembler<'a, 's> {
    pub(super) fn new(
        context: &'a WorkerContext<'a, 's>,
        rows: Sender<Vec<Row>>,
        urgent: Sender<Urgent<'a, 's>>,
    ) -> Self {
        Self {
            context,
            rows,
            outer: Order::default(),
            inner: Order::default(),
            inner_file: None,
            batch: None,
            files: Vec::new(),
            archive: None,
            urgent,
        }
    }

    /// The number of the next task of the source.
    pub(super) fn hand_out(&mut self) -> TaskNumber {
        TaskNumber { is_inner: false, sequence: self.outer.hand_out() }
    }

    /// The number of the next task of the inner file.
    pub(super) fn hand_out_inner(&mut self) -> TaskNumber {
        TaskNumber { is_inner: true, sequence: self.inner.hand_out() }
    }

    /// The inner file, if there is one of which more is to be handed out.
    pub(super) fn inner_file(&mut self) -> Option<&mut Big> {
        match &mut self.inner_file {
            Some(Inner::HandedOut(big)) => Some(big),
            Some(Inner::Over) | None => None,
        }
    }

    /// All of the inner file was handed out.
    pub(super) fn end_inner(&mut self) {
        self.inner_file = Some(Inner::Over);
    }

    /// Tasks of the source whose results are not taken yet.
    pub(super) fn open(&self) -> u64 {
        self.outer.open()
    }

    /// Tasks of the inner file whose results are not taken yet.
    pub(super) fn open_inner(&self) -> u64 {
        self.inner.open()
    }

    /// How far tasks were handed out.
    pub(super) fn handed(&self) -> Handed {
        (self.outer.handed(), self.inner.handed())
    }

    /// Takes a result, and all others whose turn it is then.
    ///
    /// # Errors
    /// The index cannot be asked, or the table of an archive cannot be made.
    pub(super) fn put(&mut self, number: TaskNumber, result: TaskResult, sink: &mut Sink<'a, 's>) -> Result<()> {
        let order = if number.is_inner { &mut self.inner } else { &mut self.outer };
        order.put(number.sequence, result);
        self.take_all(sink)
    }

    /// Takes all results whose turn it is.
    ///
    /// # Errors
    /// As [`Self::put`].
    pub(super) fn take_all(&mut self, sink: &mut Sink<'a, 's>) -> Result<()> {
        loop {
            if let Some(archive) = &mut self.archive {
                let order = if archive.is_inner { &mut self.inner } else { &mut self.outer };
                archive.gather(order, &self.urgent);
                return Ok(());
            }
            if let Some(inner) = &self.inner_file {
                if let Some(result) = self.inner.next() {
                    self.take(result, true, sink)?;
                } else if matches!(inner, Inner::Over) && self.inner.open() == 0 {
                    self.inner_file = None;
                } else {
                    return Ok(());
                }
            } else if let Some(batch) = self.batch.take() {
                self.take_groups(batch, sink)?;
                self.batch_taken(sink);
            } else if let Some(result) = self.outer.next() {
                self.take(result, false, sink)?;
            } else {
                return Ok(());
            }
        }
    }

    fn take(&mut self, result: TaskResult, is_inner: bool, sink: &mut Sink<'a, 's>) -> Result<()> {
        match result {
            TaskResult::Batch(BatchDone { block, fresh, groups }) => {
                let batch = OpenBatch { block, fresh, taken: 0, groups: groups.into_iter() };
                self.take_groups(batch, sink)?;
                self.batch_taken(sink);
            }
            TaskResult::Segment(segment) => {
                self.take_segment(*segment, sink)?;
                self.taken(is_inner, 1, sink);
            }
            TaskResult::Archive(first) => {
                let has_all = first.ending.is_some();
                let waiting = vec![TaskResult::Archive(first)];
                self.archive = Some(OpenArchive { is_inner, assembler: None, is_out: false, waiting, has_all });
            }
        }
        Ok(())
    }

    /// Takes what a worker has put together of an archive, and all results whose turn it is then.
    ///
    /// # Errors
    /// As [`Self::put`].
    pub(super) fn assembled(&mut self, stretch: ArchiveStretch, sink: &mut Sink<'a, 's>) -> Result<()> {
        let ArchiveStretch { assembler, results, chunks, row } = stretch;
        for TakenChunks { block, fresh } in chunks {
            sink.take(&block, &fresh);
        }
        self.send(row.into_iter().collect());
        if let Some(archive) = &mut self.archive {
            let (is_inner, is_over) = (archive.is_inner, archive.has_all && archive.waiting.is_empty());
            (archive.assembler, archive.is_out) = (assembler, false);
            if is_over {
                self.archive = None;
            }
            self.taken(is_inner, results, sink);
        }
        self.take_all(sink)
    }

    /// Notes that results were taken.
    fn taken(&mut self, is_inner: bool, results: u64, sink: &mut Sink<'a, 's>) {
        if is_inner { &mut self.inner } else { &mut self.outer }.taken_more(results);
        sink.taken((self.outer.taken(), self.inner.taken()));
    }

    /// Notes that a batch was taken, unless there is an inner file in it.
    fn batch_taken(&mut self, sink: &mut Sink<'a, 's>) {
        if self.batch.is_none() {
            self.taken(false, 1, sink);
        }
    }

    /// Takes what comes before the next inner file.
    fn take_groups(&mut self, mut batch: OpenBatch, sink: &mut Sink<'a, 's>) -> Result<()> {
        while let Some(Group { rows, fresh_end, later }) = batch.groups.next() {
            sink.take(&batch.block, batch.fresh.get(batch.taken..fresh_end).unwrap_or_default());
            batch.taken = fresh_end;
            self.send(rows);
            match later.map(|later| Big::of_later(later, self.context)) {
                None => {}
                Some(Ok(big)) => {
                    self.inner_file = Some(Inner::HandedOut(big));
                    self.batch = Some(batch);
                    return Ok(());
                }
                Some(Err(problem)) => self.send(vec![Row::Problem(problem)]),
            }
        }
        Ok(())
    }

    fn take_segment(&mut self, segment: SegmentDone, sink: &mut Sink<'a, 's>) -> Result<()> {
        let mut file = match self.files.iter().position(|file| file.is_of(&segment)) {
            Some(place) => self.files.swap_remove(place),
            None => FileAssembler::new(segment.origin(), self.context),
        };
        let last = segment.is_last();
        file.push(segment, self.context, sink)?;
        if !last {
            self.files.push(file);
            return Ok(());
        }
        let head = file.take_head();
        let row = match file.finish(&self.context.metadata) {
            Ok((mut entry, pieces, problems)) => {
                self.context.label(&mut entry, Some(&head));
                Row::Entry { entry: Box::new(entry), content: RowContent::Pieces(pieces, None), problems }
            }
            Err(problem) => Row::Problem(problem),
        };
        self.send(vec![row]);
        Ok(())
    }

    fn send(&self, rows: Vec<Row>) {
        if !rows.is_empty() {
            // The committer is gone only if the add has failed already.
            let _ = self.rows.send(rows);
        }
    }
}
