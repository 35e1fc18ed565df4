//! Small files, many to a job, so that system calls and not hand-overs between threads set the pace.

use std::io;

use super::budget::Held;
use super::report::Problem;
use crate::chunk::Profile;
use crate::error::Error;
use crate::format::entry::{Content, Entry, EntryKind};
use crate::format::id::ChunkId;
use crate::ingest::file::{Change, OpenFile};
use crate::ingest::metadata;
use crate::ingest::walk::Found;

/// A file that says it is small may grow while it is read; beyond this many bytes more, the rest is left and reported.
const GROWTH_BYTES_MAX: usize = 1 << 20;

/// Some entries, in snapshot order.
#[derive(Debug)]
pub(super) struct Batch {
    pub(super) items: Vec<Item>,
    pub(super) held: Held,
}

/// One entry of a batch.
#[derive(Debug)]
pub(super) enum Item {
    /// Known already, from the parent snapshot.
    Row(Box<Entry>),
    /// To be completed, and read if it is a file.
    Read(Box<Found>),
    /// Not to be had.
    Failed(Problem),
}

/// A [`Batch`], read and cut.
#[derive(Debug)]
pub(super) struct BatchDone {
    pub(super) outcomes: Vec<Outcome>,
    /// The bytes of all files of the batch, one after the other, holes left out.
    pub(super) data: Vec<u8>,
    pub(super) held: Held,
}

/// What came of an [`Item`].
#[derive(Debug)]
pub(super) enum Outcome {
    /// A row that needs nothing more.
    Row(Box<Entry>),
    /// A file that was read: its content is to be filled in.
    File { entry: Box<Entry>, cuts: Vec<Cut>, problem: Option<Problem> },
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
    pub(super) fn run(self, profile: &Profile) -> BatchDone {
        let mut data = Vec::new();
        let outcomes = self
            .items
            .into_iter()
            .map(|item| match item {
                Item::Row(entry) => Outcome::Row(entry),
                Item::Failed(problem) => Outcome::Skipped(problem),
                Item::Read(found) => read(&found, profile, &mut data),
            })
            .collect();
        BatchDone { outcomes, data, held: self.held }
    }
}

fn read(found: &Found, profile: &Profile, data: &mut Vec<u8>) -> Outcome {
    let mut entry = match metadata::complete(found) {
        Ok(entry) => Box::new(entry),
        Err(error) => return Outcome::Skipped(Problem::skipped(&found.disk(), error)),
    };
    if entry.kind != EntryKind::File {
        return Outcome::Row(entry);
    }
    let begin = data.len();
    match read_file(found, profile, data) {
        Ok((cuts, change)) => {
            entry.size = cuts.iter().map(|cut| cut.length).sum();
            entry.content = Content::Empty;
            let problem = change.map(|change| Problem::changed(&found.disk(), change));
            Outcome::File { entry, cuts, problem }
        }
        Err(error) => {
            data.truncate(begin);
            Outcome::Skipped(Problem::skipped(&found.disk(), error))
        }
    }
}

fn read_file(found: &Found, profile: &Profile, data: &mut Vec<u8>) -> Result<(Vec<Cut>, Option<Change>), Error> {
    let file = OpenFile::open(found)?;
    let failed = |source: io::Error| Error::io("read", found.disk(), source);
    let mut cuts = Vec::new();
    let mut at = 0;
    for extent in file.extents()? {
        if extent.start > at {
            cuts.push(Cut { id: ChunkId::HOLE, start: data.len(), length: extent.start - at });
        }
        let last = extent.end == file.size();
        let begin = data.len();
        let wanted = usize::try_from(extent.end - extent.start).unwrap_or(usize::MAX);
        // One byte more than the file should have: a short answer then says that this is its end.
        let mut room = wanted + usize::from(last);
        loop {
            let filled = data.len();
            data.resize(filled + room, 0);
            let free = data.get_mut(filled..).unwrap_or_default();
            let offset = extent.start + (filled - begin) as u64;
            let read = file.read_at(offset, free).map_err(failed)?;
            data.truncate(filled + read);
            let grown = (data.len() - begin).saturating_sub(wanted);
            if read < room || !last || grown >= GROWTH_BYTES_MAX {
                break;
            }
            room = GROWTH_BYTES_MAX - grown;
        }
        let bytes = data.get(begin..).unwrap_or_default();
        at = extent.start + bytes.len() as u64;
        cut_and_hash(bytes, begin, profile, &mut cuts);
        if at < extent.end {
            return Ok((cuts, Some(Change::Shrank)));
        }
    }
    if at < file.size() {
        cuts.push(Cut { id: ChunkId::HOLE, start: data.len(), length: file.size() - at });
    }
    Ok((cuts, file.changed_since_open().map_err(failed)?))
}

/// Cuts `bytes`, which begin at `begin` of the batch's data, and hashes each chunk while it is warm.
fn cut_and_hash(bytes: &[u8], begin: usize, profile: &Profile, cuts: &mut Vec<Cut>) {
    let mut start = 0;
    while start < bytes.len() {
        let end = profile.next_cut(bytes, start);
        let chunk = bytes.get(start..end).unwrap_or_default();
        cuts.push(Cut { id: ChunkId::of(chunk), start: begin + start, length: chunk.len() as u64 });
        start = end;
    }
}
