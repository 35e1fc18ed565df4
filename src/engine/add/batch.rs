//! Small files, many to a task, so that system calls and not hand-overs between threads set the pace.

use std::io;
use std::ops::Range;

use super::archive::{Guess, Small, SmallArchive, read_small};
use super::budget::MemoryPermit;
use super::pool::Buffer;
use super::report::Problem;
use super::worker::WorkerContext;
use crate::chunk::finder::{Finder, Span};
use crate::error::{Error, Result};
use crate::format::entry::{Entry, EntryKind};
use crate::format::id::ChunkId;
use crate::ingest::{Changed, Completed, OpenFile, Package, WalkedEntry};

/// A file that says it is small may grow while it is read, or say nothing true; beyond this many bytes more, the rest of
/// one that grew is left and reported, and one that did not is read as a stream.
const GROWTH_BYTES_MAX: usize = 1 << 20;

/// What is to be said of one entry.
pub(super) type Problems = Vec<Problem>;

/// Some entries, in snapshot order.
#[derive(Debug)]
pub(super) struct Batch {
    pub(super) items: Vec<Item>,
    pub(super) held: MemoryPermit,
}

/// One entry of a batch.
#[derive(Debug)]
pub(super) enum Item {
    /// Known already, from the parent snapshot.
    Row(Box<Entry>),
    /// To be completed, and read if it is a file.
    Read(Box<WalkedEntry>),
    /// A file and its bytes.
    InMemory(Box<Entry>, Buffer),
    /// Not to be had.
    Failed(Problem),
}

/// A [`Batch`], read and cut.
#[derive(Debug)]
pub(super) struct BatchDone {
    pub(super) outcomes: Vec<Outcome>,
    /// The bytes of all files of the batch, one after the other, holes left out.
    pub(super) data: Buffer,
    pub(super) _held: MemoryPermit,
}

/// What came of an [`Item`].
#[derive(Debug)]
pub(super) enum Outcome {
    /// A row that needs nothing more.
    Row(Box<Entry>, Problems),
    /// A file that was read: its content is to be filled in.
    File { entry: Box<Entry>, cuts: Vec<Cut>, problems: Problems },
    /// An archive that was read.
    Archive { entry: Box<Entry>, archive: Box<SmallArchive>, package: Option<Package>, problems: Problems },
    /// A compressed archive that is too large to be read at once.
    Unpack(Box<WalkedEntry>),
    /// A file whose file system does not know its size, too large to be read at once.
    Unsized(Box<WalkedEntry>),
    /// Left out of the snapshot.
    Skipped(Problem),
}

/// A chunk or hole of a file that was read.
#[derive(Debug, Clone, Copy)]
pub(super) struct Cut {
    /// The chunk, or [`ChunkId::HOLE`].
    pub(super) id: ChunkId,
    /// Where it begins in the batch's data; for a hole, where it would.
    pub(super) start: usize,
    /// Its bytes in the file.
    pub(super) length: u64,
}

impl Batch {
    pub(super) fn run(mut self, context: &WorkerContext) -> BatchDone {
        let mut data = context.small.take_empty();
        let mut unpacked_bytes = 0;
        let outcomes = self
            .items
            .into_iter()
            .map(|item| match item {
                Item::Row(entry) => Outcome::Row(entry, Problems::new()),
                Item::Failed(problem) => Outcome::Skipped(problem),
                Item::Read(found) => read(*found, context, &mut data, &mut unpacked_bytes),
                Item::InMemory(entry, bytes) => take_given(entry, &bytes, &context.finder, &mut data),
            })
            .collect();
        self.held.grow(unpacked_bytes);
        BatchDone { outcomes, data, _held: self.held }
    }
}

fn read(found: WalkedEntry, context: &WorkerContext, data: &mut Vec<u8>, unpacked_bytes: &mut usize) -> Outcome {
    let begin = data.len();
    let outcome = if found.stat.kind == EntryKind::File {
        read_file(&found, context, data, unpacked_bytes)
    } else {
        context.metadata.complete(&found).map(|Completed { entry, lost }| {
            let problems = lost.iter().map(|error| Problem::incomplete(&found.disk, error)).collect();
            Outcome::Row(Box::new(entry), problems)
        })
    };
    match outcome {
        Ok(later @ (Outcome::Unpack(_) | Outcome::Unsized(_))) => {
            data.truncate(begin);
            later
        }
        Ok(outcome) => outcome,
        Err(error) => {
            data.truncate(begin);
            Outcome::Skipped(Problem::unread(&found, &error))
        }
    }
}

fn take_given(mut entry: Box<Entry>, bytes: &[u8], finder: &Finder, data: &mut Vec<u8>) -> Outcome {
    let mut cuts = Vec::new();
    cut_and_hash(bytes, data.len(), finder, &mut cuts);
    data.extend_from_slice(bytes);
    entry.size = bytes.len() as u64;
    Outcome::File { entry, cuts, problems: Problems::new() }
}

/// Reads a file, unless it is one that cannot be read at once.
fn read_file(
    found: &WalkedEntry,
    context: &WorkerContext,
    data: &mut Vec<u8>,
    unpacked_bytes: &mut usize,
) -> Result<Outcome> {
    let failed = |source: io::Error| Error::io("read", &found.disk, source);
    let file = OpenFile::open(found)?;
    let Completed { mut entry, lost } = context.metadata.complete_open(found, &file);
    let mut problems: Problems = lost.iter().map(|error| Problem::incomplete(&found.disk, error)).collect();
    let size = file.stat().size;
    let mut cuts = Vec::new();
    let mut at = 0;
    let mut is_short = false;
    let mut extents = file.extents().peekable();
    // An empty file is asked for bytes too: some that claim to be empty are not.
    let nothing = extents.peek().is_none().then_some(Ok(0..0));
    for extent in nothing.into_iter().chain(extents) {
        let extent = extent.map_err(failed)?;
        if extent.start > at {
            cuts.push(Cut { id: ChunkId::HOLE, start: data.len(), length: extent.start - at });
        }
        let begin = data.len();
        let met_end = read_extent(&file, &extent, data).map_err(failed)?;
        if !met_end && file.changed_since_open().map_err(failed)? != Some(Changed::Grew) {
            return Ok(Outcome::Unsized(Box::new(found.clone())));
        }
        let bytes = data.get(begin..).unwrap_or_default();
        at = extent.start + bytes.len() as u64;
        let guess = if extent.start == 0 && context.archives.recognise { Guess::of(bytes) } else { None };
        // An archive with holes is rare, and kept as the file that it is.
        if let Some(guess) = guess.filter(|_| extent.end == size) {
            let place = begin..data.len();
            // What is in a compressed one is put behind it.
            let package = Package::by_name(found.path.name()).filter(|package| package.is_one(bytes));
            match read_small(guess, context.archives, data, place, unpacked_bytes, &context.finder) {
                Small::Archive(archive) => {
                    let changed = file.difference(at, true).map_err(failed)?;
                    problems.extend(changed.map(|changed| Problem::changed(&found.disk, changed)));
                    let (entry, archive) = (Box::new(entry), Box::new(archive));
                    return Ok(Outcome::Archive { entry, archive, package, problems });
                }
                Small::Large => return Ok(Outcome::Unpack(Box::new(found.clone()))),
                Small::Other => {}
            }
        }
        let bytes = data.get(begin..).unwrap_or_default();
        cut_and_hash(bytes, begin, &context.finder, &mut cuts);
        is_short = at < extent.end;
        if is_short {
            break;
        }
    }
    if at < size && !is_short {
        cuts.push(Cut { id: ChunkId::HOLE, start: data.len(), length: size - at });
        at = size;
    }
    let changed = file.difference(at, true).map_err(failed)?;
    problems.extend(changed.map(|changed| Problem::changed(&found.disk, changed)));
    entry.size = at;
    Ok(Outcome::File { entry: Box::new(entry), cuts, problems })
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

/// Cuts `bytes`, which begin at `begin` of the batch's data, and hashes each chunk while it is warm.
pub(super) fn cut_and_hash(bytes: &[u8], begin: usize, finder: &Finder, cuts: &mut Vec<Cut>) {
    let span = Span::whole(bytes);
    let mut start = 0;
    while start < span.end() {
        // A whole file always tells where a chunk ends.
        let end = finder.next_cut(&span, start, start).unwrap_or(span.end());
        let chunk = span.slice(start, end);
        cuts.push(Cut { id: ChunkId::of(chunk), start: begin + start as usize, length: end - start });
        start = end;
    }
}
