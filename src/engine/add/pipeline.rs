//! What comes next? Hands out tasks in the order of the walk, takes results back in that order, and commits.

mod archives;
mod tasks;

use std::collections::{BTreeMap, HashSet};
use std::iter::Peekable;
use std::time::Instant;

use crossbeam_channel::{Receiver, Sender};

use super::archive::{ArchiveAssembler, SmallArchive, TarSplitter};
use super::batch::{BatchDone, Outcome};
use super::budget::MemoryBudget;
use super::packer::ToPack;
use super::parent::Parent;
use super::report::Problem;
use super::rows::Rows;
use super::segment::{FileAssembler, SegmentDone, Segments};
use super::sink::{Lane, Sink};
use super::worker::{RawFrame, Task, TaskResult, WorkerContext};
use super::writer_source::WriterSource;
use super::{AddReport, AddRequest, AddTotals, Event};
use crate::catalog::recipe::RecipesWriter;
use crate::catalog::snapshot::{Snapshot, SnapshotInfo};
use crate::engine::Store;
use crate::engine::chunk_index::ChunkIndex;
use crate::engine::commit::{self, PacksDurable};
use crate::engine::control::Control;
use crate::engine::gc::filler;
use crate::engine::labels::Labeller;
use crate::error::{Error, Result};
use crate::format::entry::{Content, Entry, EntryKind, EntryPath};
use crate::format::id::{ChunkId, RecipeId};
use crate::format::label::Labels;
use crate::format::recipe::{Piece, recipe_id};
use crate::format::spelling::quoted;
use crate::ingest::{HEAD_BYTES, Walk, made_now, standard_input};
use crate::storage::Session;

/// Files up to this size are read whole, many to a task; bigger ones are cut in segments.
pub(super) const SMALL_FILE_BYTES_MAX: u64 = 4 << 20;
/// The most tasks that are out, for each worker: enough that none waits, and so few that buffers are used again
/// while they are in the processor's cache.
const JOBS_PER_WORKER_MAX: u64 = 8;
/// No more frames are on their way to a pack while an archive is unpacked on the coordinating thread.
const FRAMES_AHEAD_MAX: u64 = 64;

/// The state of an add. See the module above for the picture.
#[derive(Debug)]
pub(super) struct AddPipeline<'a, 's> {
    session: &'a dyn Session,
    chunk_index: &'a ChunkIndex<'s>,
    control: &'a Control,
    request: &'a AddRequest,
    labeller: Labeller,
    context: &'a WorkerContext,
    budget: MemoryBudget,
    tasks: Sender<(u64, Task)>,
    to_pack: Sender<ToPack>,
    events: Receiver<Event>,

    walk: Peekable<Walk>,
    given: Option<WriterSource>,
    parent: Option<Parent<'a, 's>>,
    /// Standard input, if it is to be added and was not begun.
    stdin: Option<Entry>,
    /// What is being handed out bit by bit.
    big: Option<Big>,

    next_task: u64,
    next_done: u64,
    done: BTreeMap<u64, TaskResult>,
    /// Big files of which some segments are in: of those on disk one, of those that a [`Writer`] is given several.
    ///
    /// [`Writer`]: super::Writer
    assembling: Vec<FileAssembler>,
    /// The archive whose parts are being taken back.
    archive: Option<ArchiveAssembler>,

    sink: Sink<'a, 's>,
    rows: Rows,
    info: SnapshotInfo,
    recipes: RecipesWriter,
    /// Recipes of this add that are not in the index yet.
    fresh_recipes: HashSet<RecipeId>,
    totals: AddTotals,
    /// Problems and notes, in the order of the walk.
    problems: Vec<Problem>,
    written_frames: u64,
    begun: Instant,
}

/// Something large, handed out bit by bit.
#[derive(Debug)]
enum Big {
    File(Segments),
    Archive(Box<TarSplitter>),
}

/// What an add works with.
#[derive(Debug)]
pub(super) struct Setting<'a, 's> {
    pub(super) store: &'a Store,
    pub(super) session: &'a dyn Session,
    pub(super) chunk_index: &'a ChunkIndex<'s>,
    pub(super) parent: Option<&'a Snapshot<'s>>,
    /// What the snapshot will say of itself, but for its figures.
    pub(super) info: SnapshotInfo,
    pub(super) request: &'a AddRequest,
    pub(super) labeller: Labeller,
    pub(super) control: &'a Control,
    pub(super) context: &'a WorkerContext,
    pub(super) budget: MemoryBudget,
    /// What comes from a [`super::Writer`]; then nothing comes from disk.
    pub(super) given: Option<WriterSource>,
}

/// The pipeline's ends of the queues.
#[derive(Debug)]
pub(super) struct Ends {
    pub(super) tasks: Sender<(u64, Task)>,
    pub(super) frames: Sender<RawFrame>,
    pub(super) to_pack: Sender<ToPack>,
    pub(super) events: Receiver<Event>,
}

impl<'a, 's> AddPipeline<'a, 's> {
    /// Looks at what is to be added; nothing is read yet.
    pub(super) fn new(setting: Setting<'a, 's>, ends: Ends) -> Result<Self> {
        let Setting { store, session, chunk_index, parent, info, request, labeller, control, context, budget, given } =
            setting;
        let Ends { tasks, frames, to_pack, events } = ends;
        let walk = super::walk(store, &request.paths)?.peekable();
        let stdin = request
            .stdin_name
            .as_deref()
            .map(|name| match EntryPath::from_given(name) {
                path if path.is_root() => Err(Error::Usage(format!("{} is not a name for a file", quoted(name)))),
                path => Ok(standard_input(path)),
            })
            .transpose()?;
        let parent = parent.map(|parent| Parent::new(parent, info.time_ns));
        let sink = Sink::new(chunk_index, frames, budget.clone(), store.settings().frames, context.small.clone());
        let rows = match &given {
            None => Rows::ascending(session.storage(), labeller.keys())?,
            Some(_) => Rows::in_any_order(store.caches(), labeller.keys()),
        };
        let recipes = RecipesWriter::begin(session.storage().writer()?)?;
        Ok(Self {
            session,
            chunk_index,
            control,
            request,
            labeller,
            context,
            budget,
            tasks,
            to_pack,
            events,
            walk,
            given,
            parent,
            stdin,
            big: None,
            next_task: 0,
            next_done: 0,
            done: BTreeMap::new(),
            assembling: Vec::new(),
            archive: None,
            sink,
            rows,
            info,
            recipes,
            fresh_recipes: HashSet::new(),
            totals: AddTotals::default(),
            problems: Vec::new(),
            written_frames: 0,
            begun: Instant::now(),
        })
    }

    /// Adds everything and commits.
    pub(super) fn run(mut self) -> Result<AddReport> {
        loop {
            if self.control.is_stopped() {
                return Err(self.interrupted());
            }
            while let Ok(event) = self.events.try_recv() {
                self.handle(event)?;
            }
            if self.has_room() && self.begin_task()? {
                continue;
            }
            if self.next_done == self.next_task && self.is_exhausted() {
                return self.commit();
            }
            // Either there is room for no more or all tasks are out: wait until one comes back, or something is given.
            let has_room = self.has_room();
            match self.given.as_mut().filter(|_| has_room) {
                None => {
                    let event = self.events.recv().map_err(|_| stopped_early())?;
                    self.handle(event)?;
                }
                Some(given) => {
                    if let Some(event) = given.wait(&self.events)? {
                        self.handle(event)?;
                    }
                }
            }
        }
    }

    fn has_room(&self) -> bool {
        let tasks_max = JOBS_PER_WORKER_MAX * self.request.threads.max(1) as u64;
        !self.budget.is_spent() && self.next_task - self.next_done < tasks_max
    }

    fn is_exhausted(&mut self) -> bool {
        let is_given_all = self.given.as_ref().is_none_or(WriterSource::has_ended);
        self.big.is_none() && self.stdin.is_none() && self.walk.peek().is_none() && is_given_all
    }

    // ---- taking back -------------------------------------------------------------------------------------------

    fn handle(&mut self, event: Event) -> Result<()> {
        match event {
            Event::TaskResult(sequence, done) => {
                self.done.insert(sequence, done);
                self.take_done()
            }
            Event::Packed(pack) => self.sink.packed(pack),
            Event::Fatal(error) => Err(error),
            Event::Written => {
                self.written_frames += 1;
                Ok(())
            }
            Event::Flushed(_) => Ok(()),
        }
    }

    /// Takes all results whose turn it is.
    fn take_done(&mut self) -> Result<()> {
        while let Some(done) = self.done.remove(&self.next_done) {
            self.next_done += 1;
            match done {
                TaskResult::Batch(batch) => self.take_batch(batch)?,
                TaskResult::Segment(segment) => self.take_segment(*segment)?,
                TaskResult::Archive(archive) => self.take_archive(*archive)?,
            }
        }
        Ok(())
    }

    fn take_batch(&mut self, batch: BatchDone) -> Result<()> {
        for outcome in batch.outcomes {
            match outcome {
                Outcome::Row(mut entry, problems) => {
                    self.problems.extend(problems);
                    self.push_row(&mut entry)?;
                }
                Outcome::Skipped(problem) => self.problems.push(problem),
                Outcome::File { mut entry, cuts, problems } => {
                    let mut pieces = Vec::with_capacity(cuts.len());
                    let mut end = 0;
                    if let Some(first) = cuts.first().filter(|cut| cut.id != ChunkId::HOLE) {
                        let head = batch.data.get(first.start..).unwrap_or_default();
                        let head_bytes = HEAD_BYTES.min(usize::try_from(entry.size).unwrap_or(HEAD_BYTES));
                        self.detect(&mut entry, head.get(..head_bytes).unwrap_or(head));
                    }
                    for cut in cuts {
                        end += cut.length;
                        let piece = Piece { id: cut.id, end };
                        if !piece.is_hole() {
                            // A chunk's length is that of its bytes in `data`.
                            let range = cut.start..cut.start + cut.length as usize;
                            self.sink.take(&cut.id, batch.data.get(range).unwrap_or_default(), Lane::Contents)?;
                        }
                        pieces.push(piece);
                    }
                    entry.content = self.keep_content(&pieces)?;
                    self.problems.extend(problems);
                    self.push_row(&mut entry)?;
                }
                Outcome::Archive { entry, archive, package, problems } => {
                    self.problems.extend(problems);
                    let SmallArchive { form, parts, findings, original } = *archive;
                    let mut assembler = ArchiveAssembler::new(form, self.context.finder.clone())?;
                    assembler.take_parts(parts, &batch.data, &mut self.sink)?;
                    assembler.take_original(&original, &batch.data, &mut self.sink)?;
                    let assembled = assembler.finish(&findings, None, &mut self.sink)?;
                    self.keep_archive(*entry, assembled, package)?;
                }
                Outcome::Unpack(found) => self.unpack(*found)?,
                Outcome::Unsized(found) => self.read_unsized(*found)?,
            }
        }
        Ok(())
    }

    fn take_segment(&mut self, segment: SegmentDone) -> Result<()> {
        if let Some(archive) = &mut self.archive {
            return archive.take_segment(segment, &mut self.sink);
        }
        let mut assembling = match self.assembling.iter().position(|assembling| assembling.is_of(&segment)) {
            Some(place) => self.assembling.swap_remove(place),
            None => FileAssembler::new(segment.origin(), self.context.finder.clone()),
        };
        let last = segment.is_last();
        assembling.push(segment, &mut self.sink)?;
        if !last {
            self.assembling.push(assembling);
            return Ok(());
        }
        let head = assembling.take_head();
        match assembling.finish(&self.context.metadata) {
            Ok((mut entry, pieces, problems)) => {
                self.detect(&mut entry, &head);
                entry.content = self.keep_content(&pieces)?;
                self.problems.extend(problems);
                self.push_row(&mut entry)
            }
            Err(problem) => {
                self.problems.push(problem);
                Ok(())
            }
        }
    }

    /// Makes sure that the content given by these pieces can be found again, and says how.
    fn keep_content(&mut self, pieces: &[Piece]) -> Result<Content> {
        match pieces {
            [] => Ok(Content::Empty),
            [piece] if !piece.is_hole() => Ok(Content::Chunk(piece.id)),
            _ => self.keep_recipe(pieces).map(Content::Recipe),
        }
    }

    /// Makes sure that the recipe of these pieces can be found again.
    fn keep_recipe(&mut self, pieces: &[Piece]) -> Result<RecipeId> {
        let id = recipe_id(pieces);
        if !self.fresh_recipes.contains(&id) && !self.chunk_index.has_recipe(&id)? {
            self.recipes.push(id, pieces)?;
            self.fresh_recipes.insert(id);
        }
        Ok(id)
    }

    /// Labels a file by what package it is, if that is asked for and it is one.
    fn detect(&self, entry: &mut Entry, head: &[u8]) {
        if let Some(package) = self.labeller.candidate(entry).filter(|package| package.is_one(head)) {
            entry.labels = self.labeller.labels_of(&entry.path, Some(package), &entry.labels);
        }
    }

    /// Labels an entry and adds its row.
    fn push_row(&mut self, entry: &mut Entry) -> Result<()> {
        entry.labels = self.labeller.labels_of(&entry.path, None, &entry.labels);
        match self.rows.push(entry) {
            Ok(()) => {}
            // A row that no snapshot can hold is left out; the rest goes on.
            Err(error @ Error::Refused { .. }) => {
                self.problems.push(Problem::skipped(entry.path.as_path(), &error));
                return Ok(());
            }
            Err(error) => return Err(error),
        }
        self.totals.count(entry);
        self.control.count(1, entry.size);
        Ok(())
    }

    // ---- committing --------------------------------------------------------------------------------------------

    /// In the order that [`commit`] proves: invariants 1 and 2.
    fn commit(mut self) -> Result<AddReport> {
        // While the workers compress the last frames.
        self.recipes.flush()?;
        let packs = self.flush()?;
        let chunks = commit::chunks(packs, self.chunk_index)?;
        let now = made_now(EntryPath::default(), EntryKind::Directory);
        let rows = self.rows.finish(self.chunk_index.storage(), &mut |path| {
            let mut entry = Entry { path, ..now.clone() };
            entry.labels = self.labeller.labels_of(&entry.path, None, &Labels::default());
            self.totals.count(&entry);
            self.control.count(1, 0);
            entry
        })?;
        if let Some(filler) = filler(self.chunk_index.pending_deletes()).filter(|_| !self.recipes.is_empty()) {
            // A file of the same recipes may be pending deletion: this one must have a name of its own.
            self.recipes.push(recipe_id(&[filler]), &[filler])?;
        }
        let (recipes, recipes_bytes) = commit::recipes(chunks, self.recipes, self.chunk_index)?;
        let (notes, problems) = Problem::part(self.problems);
        let stored_bytes = self.sink.pack_bytes + recipes_bytes;
        self.totals.new_bytes = self.sink.new_bytes;
        self.totals.new_chunks = self.sink.new_chunks;
        self.totals.stored_bytes = stored_bytes;
        let info = SnapshotInfo {
            took_ms: self.begun.elapsed().as_millis().try_into().unwrap_or(u64::MAX),
            skipped: problems.len() as u64,
            new_bytes: self.totals.new_bytes,
            new_chunks: self.totals.new_chunks,
            stored_bytes: self.sink.pack_bytes,
            ..self.info
        };
        let snapshot = commit::snapshot(recipes, rows, info, self.session)?;
        self.totals.stored_bytes += snapshot.bytes;
        Ok(AddReport { snapshot: Some(snapshot.id), totals: self.totals, problems, notes, ..AddReport::default() })
    }

    /// Returns when every chunk taken so far is durable and in the index.
    fn flush(&mut self) -> Result<PacksDurable> {
        let before = self.sink.flush();
        // If the packer is gone, the reason is among the events.
        let _ = self.to_pack.send(ToPack::Flush { before });
        loop {
            match self.events.recv().map_err(|_| stopped_early())? {
                Event::Flushed(durable) => return Ok(durable),
                Event::TaskResult(..) => {}
                event => self.handle(event)?,
            }
        }
    }

    /// Keeps what was packed so far, for the next add to reuse, and makes no snapshot.
    fn interrupted(&mut self) -> Error {
        let kept = self.flush();
        match kept {
            Ok(_) => Error::Interrupted {
                kept: format!(
                    "no snapshot was made; {} new chunks ({} bytes in {} packs) are kept, and the next add reuses them",
                    self.sink.new_chunks, self.sink.new_bytes, self.sink.packs
                ),
            },
            Err(error) => error,
        }
    }
}

/// All senders of events hang up only after a failure that was sent before.
fn stopped_early() -> Error {
    Error::Internal("the add's worker threads stopped early".to_owned())
}
