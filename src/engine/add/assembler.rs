//! What do the results make? Takes them in the order of the walk: seams are closed, archives put together; chunks go to the
//! sink and rows to the committer.
//!
//! A file among small ones that turned out to be large is the *inner* file: it is handed out when its place has come, and
//! its results are taken before anything that follows it.

use std::sync::Arc;
use std::vec::IntoIter;

use crossbeam_channel::Sender;

use super::archive::{ArchiveAssembler, Assembled};
use super::file_assembler::FileAssembler;
use super::fresh::Handed;
use super::order::Order;
use super::report::Problem;
use super::sink::Sink;
use super::source::Big;
use super::task::{
    ArchiveDone, BatchDone, Block, Ending, FreshChunk, Group, Problems, Row, RowContent, SegmentDone, TaskNumber,
    TaskResult,
};
use super::worker::WorkerContext;
use crate::error::Result;
use crate::format::entry::Entry;

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
    archive: Option<ArchiveAssembler>,
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

impl<'a, 's> Assembler<'a, 's> {
    pub(super) fn new(context: &'a WorkerContext<'a, 's>, rows: Sender<Vec<Row>>) -> Self {
        Self {
            context,
            rows,
            outer: Order::default(),
            inner: Order::default(),
            inner_file: None,
            batch: None,
            files: Vec::new(),
            archive: None,
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
            if let Some(inner) = &self.inner_file {
                if let Some(result) = self.inner.next() {
                    self.take(result, sink)?;
                    self.inner.advance();
                } else if matches!(inner, Inner::Over) && self.inner.open() == 0 {
                    self.inner_file = None;
                } else {
                    return Ok(());
                }
            } else if let Some(batch) = self.batch.take() {
                self.take_groups(batch, sink)?;
                if self.batch.is_none() {
                    self.outer.advance();
                    sink.taken((self.outer.taken(), self.inner.taken()));
                }
            } else if let Some(result) = self.outer.next() {
                self.take(result, sink)?;
                if self.batch.is_none() {
                    self.outer.advance();
                    sink.taken((self.outer.taken(), self.inner.taken()));
                }
            } else {
                return Ok(());
            }
        }
    }

    fn take(&mut self, result: TaskResult, sink: &mut Sink<'a, 's>) -> Result<()> {
        match result {
            TaskResult::Batch(BatchDone { block, fresh, groups }) => {
                let batch = OpenBatch { block, fresh, taken: 0, groups: groups.into_iter() };
                self.take_groups(batch, sink)
            }
            TaskResult::Segment(segment) => self.take_segment(*segment, sink),
            TaskResult::Archive(archive) => self.take_archive(*archive, sink),
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
        if let Some(archive) = &mut self.archive {
            return archive.take_segment(segment, self.context, sink);
        }
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

    fn take_archive(&mut self, mut done: ArchiveDone, sink: &mut Sink<'a, 's>) -> Result<()> {
        let mut assembler = match self.archive.take() {
            Some(assembler) => assembler,
            None => ArchiveAssembler::new(done.form, self.context.finder.clone())?,
        };
        assembler.take(&mut done, sink)?;
        match done.ending.take() {
            None => self.archive = Some(assembler),
            Some(ending) => {
                let row = self.end_archive(assembler, &done, ending, sink)?;
                self.send(row.into_iter().collect());
            }
        }
        Ok(())
    }

    fn end_archive(
        &self,
        mut assembler: ArchiveAssembler,
        done: &ArchiveDone,
        ending: Ending,
        sink: &mut Sink<'a, 's>,
    ) -> Result<Option<Row>> {
        let problem = match (assembler.take_failure(), ending.findings()) {
            (Some(error), _) => done.origin.skipped(error),
            (None, Some((findings, cut))) => {
                let assembled = assembler.end(findings, cut, sink)?;
                match done.origin.entry(assembled.size, assembled.shrank, &self.context.metadata) {
                    Ok((entry, problems)) => return Ok(Some(self.archive_row(entry, assembled, problems, done))),
                    Err(problem) => problem,
                }
            }
            (None, None) => match ending {
                Ending::Opaque(error) => {
                    let what = format!("cannot be unpacked to its end ({error}); kept as the file that it is");
                    Problem::kept(done.origin.path(), what)
                }
                Ending::Failed(error) | Ending::Cut(_, error) => done.origin.skipped(error),
                Ending::Whole(_) => return Ok(None),
            },
        };
        Ok(Some(Row::Problem(problem)))
    }

    fn archive_row(&self, mut entry: Entry, assembled: Assembled, mut problems: Problems, done: &ArchiveDone) -> Row {
        // By the size that is in the file, not that of what is in it.
        let package = self.context.labeller.candidate(&entry);
        let package = package.filter(|package| package.is_one(&done.origin.head()));
        let (pieces, form) = assembled.keep_in(&mut entry, &mut problems);
        self.context.label_archive(&mut entry, package);
        Row::Entry { entry: Box::new(entry), content: RowContent::Pieces(pieces, Some(form)), problems }
    }

    fn send(&self, rows: Vec<Row>) {
        if !rows.is_empty() {
            // The committer is gone only if the add has failed already.
            let _ = self.rows.send(rows);
        }
    }
}
