//! Small files, many to a task, so that system calls and not hand-overs between threads set the pace.
//!
//! A worker does all that can be done of a small file out of order: its row is complete, its recipe has its id, and the
//! chunks that the index does not have are listed.

use std::io;
use std::ops::Range;
use std::sync::Arc;

use super::archive::{Guess, Small, read_small};
use super::cutter::{Cutter, content_of, recipe_of};
use super::report::Problem;
use super::task::{Batch, BatchDone, Block, Group, Item, Later, Problems, Row, RowContent};
use super::worker::WorkerContext;
use crate::error::{Error, Result};
use crate::format::entry::{Content, Entry, EntryKind};
use crate::format::id::ChunkId;
use crate::format::recipe::Piece;
use crate::ingest::{Changed, Completed, HEAD_BYTES, OpenFile, Package, WalkedEntry};

/// A file that says it is small may grow while it is read, or say nothing true; beyond this many bytes more, the rest of
/// one that grew is left and reported, and one that did not is read as a stream.
const GROWTH_BYTES_MAX: usize = 1 << 20;

/// What came of an [`Item`].
enum Outcome {
    Row(Row),
    Later(Later),
}

impl Batch {
    /// # Errors
    /// What ends the add: the index cannot be asked. A file that cannot be read is named in its row.
    pub(super) fn run(mut self, context: &WorkerContext<'_, '_>) -> Result<BatchDone> {
        // What the files should have.
        let is_read = self.items.iter().any(|item| matches!(item, Item::Read(_) | Item::InMemory(..)));
        let room = if is_read { self.held.bytes() } else { 0 };
        let mut reader =
            BatchReader { cutter: Cutter::new(context, context.pools.small.take_with_room(room)), unpacked_bytes: 0 };
        let mut groups = Vec::new();
        let mut rows = Vec::with_capacity(self.items.len());
        for item in self.items {
            match reader.run(item)? {
                Outcome::Row(row) => rows.push(row),
                Outcome::Later(later) => {
                    let (rows, fresh_end) = (std::mem::take(&mut rows), reader.cutter.fresh.len());
                    groups.push(Group { rows, fresh_end, later: Some(later) });
                }
            }
        }
        let BatchReader { cutter: Cutter { bytes, fresh, .. }, unpacked_bytes } = reader;
        groups.push(Group { rows, fresh_end: fresh.len(), later: None });
        self.held.grow(unpacked_bytes);
        Ok(BatchDone { block: Arc::new(Block { bytes, _held: Some(self.held) }), fresh, groups })
    }
}

impl BatchDone {
    /// In the place of a file that could not even be opened.
    pub(super) fn of_problem(problem: Problem) -> Self {
        let groups = vec![Group { rows: vec![Row::Problem(problem)], fresh_end: 0, later: None }];
        Self { block: Arc::default(), fresh: Vec::new(), groups }
    }
}

/// What went wrong with a file.
enum Failure {
    /// It cannot be read: the others can.
    File(Error),
    /// The add cannot go on.
    Add(Error),
}

/// Reads the items of a batch.
struct BatchReader<'c, 'a, 's> {
    /// The bytes of all files of the batch, one after the other, holes left out.
    cutter: Cutter<'c, 'a, 's>,
    /// Bytes of them that were unpacked.
    unpacked_bytes: usize,
}

impl BatchReader<'_, '_, '_> {
    fn run(&mut self, item: Item) -> Result<Outcome> {
        let context = self.cutter.context;
        let row = match item {
            Item::Unchanged(mut entry) => {
                context.label(&mut entry, None);
                Row::Entry { entry, content: RowContent::Unchanged, problems: Problems::new() }
            }
            Item::Row(mut entry) => {
                context.label(&mut entry, None);
                Row::Entry { entry, content: RowContent::Known, problems: Problems::new() }
            }
            Item::Failed(problem) => Row::Problem(problem),
            Item::Read(found) => return self.read(&found),
            Item::InMemory(entry, bytes) => {
                let begin = self.cutter.bytes.len();
                self.cutter.bytes.extend_from_slice(&bytes);
                drop(bytes);
                let place = begin..self.cutter.bytes.len();
                let mut pieces = Vec::new();
                self.cutter.cut(place.clone(), &mut pieces)?;
                let entry = Box::new(Entry { size: place.len() as u64, ..*entry });
                self.file(entry, pieces, begin, Problems::new())?
            }
        };
        Ok(Outcome::Row(row))
    }

    fn read(&mut self, found: &WalkedEntry) -> Result<Outcome> {
        let mark = self.cutter.mark();
        let context = self.cutter.context;
        let outcome = if found.stat.kind == EntryKind::File {
            self.read_file(found)
        } else {
            context.metadata.complete(found).map_err(Failure::File).map(|Completed { mut entry, lost }| {
                let problems = lost.iter().map(|error| Problem::incomplete(&found.disk, error)).collect();
                context.label(&mut entry, None);
                Outcome::Row(Row::Entry { entry: Box::new(entry), content: RowContent::Known, problems })
            })
        };
        match outcome {
            Ok(Outcome::Later(later)) => {
                self.cutter.go_back(mark);
                Ok(Outcome::Later(later))
            }
            Ok(outcome) => Ok(outcome),
            Err(Failure::Add(error)) => Err(error),
            Err(Failure::File(error)) => {
                self.cutter.go_back(mark);
                Ok(Outcome::Row(Row::Problem(Problem::unread(found, &error))))
            }
        }
    }

    /// Reads a file, unless it is one that cannot be read at once.
    fn read_file(&mut self, found: &WalkedEntry) -> Result<Outcome, Failure> {
        let context = self.cutter.context;
        let failed = |source: io::Error| Failure::File(Error::io("read", &found.disk, source));
        let file = OpenFile::open(found).map_err(Failure::File)?;
        let Completed { mut entry, lost } = context.metadata.complete_open(found, &file);
        let mut problems: Problems = lost.iter().map(|error| Problem::incomplete(&found.disk, error)).collect();
        let size = file.stat().size;
        let file_begin = self.cutter.bytes.len();
        let mut pieces = Vec::new();
        let mut at = 0;
        let mut is_short = false;
        let mut extents = file.extents().peekable();
        // An empty file is asked for bytes too: some that claim to be empty are not.
        let nothing = extents.peek().is_none().then_some(Ok(0..0));
        for extent in nothing.into_iter().chain(extents) {
            let extent = extent.map_err(failed)?;
            if extent.start > at {
                pieces.push(Piece { id: ChunkId::HOLE, end: extent.start });
            }
            let begin = self.cutter.bytes.len();
            let met_end = read_extent(&file, &extent, &mut self.cutter.bytes).map_err(failed)?;
            if !met_end && file.changed_since_open().map_err(failed)? != Some(Changed::Grew) {
                return Ok(Outcome::Later(Later::Unsized(Box::new(found.clone()))));
            }
            let place = begin..self.cutter.bytes.len();
            at = extent.start + place.len() as u64;
            let bytes = self.cutter.bytes.get(place.clone()).unwrap_or_default();
            let guess = if extent.start == 0 && context.archives.recognise { Guess::of(bytes) } else { None };
            // An archive with holes is rare, and kept as the file that it is.
            if let Some(guess) = guess.filter(|_| extent.end == size) {
                let package = Package::by_name(found.path.name()).filter(|package| package.is_one(bytes));
                match read_small(guess, &mut self.cutter, place.clone(), &mut self.unpacked_bytes)? {
                    Small::Archive(archive) => {
                        let changed = file.difference(at, true).map_err(failed)?;
                        problems.extend(changed.map(|changed| Problem::changed(&found.disk, changed)));
                        let (pieces, form) = archive.keep_in(&mut entry, &mut problems);
                        context.label_archive(&mut entry, package);
                        let (recipe, content) = recipe_of(pieces, context.chunk_index)?;
                        entry.content = Content::Archive(recipe, form);
                        return Ok(Outcome::Row(Row::Entry { entry: Box::new(entry), content, problems }));
                    }
                    Small::Large => return Ok(Outcome::Later(Later::Archive(Box::new(found.clone())))),
                    Small::Other => {}
                }
            }
            self.cutter.cut(place, &mut pieces)?;
            is_short = at < extent.end;
            if is_short {
                break;
            }
        }
        if at < size && !is_short {
            pieces.push(Piece { id: ChunkId::HOLE, end: size });
            at = size;
        }
        let changed = file.difference(at, true).map_err(failed)?;
        problems.extend(changed.map(|changed| Problem::changed(&found.disk, changed)));
        entry.size = at;
        Ok(Outcome::Row(self.file(Box::new(entry), pieces, file_begin, problems)?))
    }

    /// The row of a file, whose bytes begin at `begin`.
    fn file(&self, mut entry: Box<Entry>, pieces: Vec<Piece>, begin: usize, problems: Problems) -> Result<Row> {
        let context = self.cutter.context;
        let begins_with_data = pieces.first().is_some_and(|piece| !piece.is_hole());
        let head = begins_with_data.then(|| self.cutter.bytes.get(begin..).unwrap_or_default());
        let head_bytes = HEAD_BYTES.min(usize::try_from(entry.size).unwrap_or(HEAD_BYTES));
        context.label(&mut entry, head.map(|head| head.get(..head_bytes).unwrap_or(head)));
        let (content, rest) = content_of(pieces, context.chunk_index)?;
        entry.content = content;
        Ok(Row::Entry { entry, content: rest, problems })
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::Add(error)
    }
}

/// Appends the bytes of an extent, and at the file's end what is behind it, within bounds. `false` if there is more.
fn read_extent(file: &OpenFile, extent: &Range<u64>, data: &mut Vec<u8>) -> io::Result<bool> {
    let begin = data.len();
    let wanted = usize::try_from(extent.end - extent.start).unwrap_or(usize::MAX);
    let last = extent.end == file.stat().size;
    // One byte more than the file should have: a short answer then says that this is its end.
    let mut room = wanted + usize::from(last);
    loop {
        let offset = extent.start + (data.len() - begin) as u64;
        let read = file.append_at(offset, room, data)?;
        let grown = (data.len() - begin).saturating_sub(wanted);
        if read < room || !last {
            return Ok(true);
        }
        if grown >= GROWTH_BYTES_MAX {
            return Ok(false);
        }
        room = GROWTH_BYTES_MAX - grown;
    }
}
