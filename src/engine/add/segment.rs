//! Big files and streams: read in segments by any worker, put together again in order.
//!
//! A segment is [`SEGMENT_BYTES`] of one extent of data. Holes between extents are known from the file system and never
//! read; an extent is chunked as if it were a file of its own, so a hole is always a boundary.

use std::collections::VecDeque;
use std::io;
use std::ops::Range;
use std::os::fd::AsFd;
use std::sync::Arc;

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::batch::Problems;
use super::budget::Held;
use super::report::Problem;
use super::sink::Sink;
use crate::chunk::finder::{Finder, Span};
use crate::error::{Error, Result};
use crate::format::entry::{Content, Entry, EntryPath};
use crate::format::id::ChunkId;
use crate::format::recipe::Piece;
use crate::ingest::{Changed, Found, Metadata, OpenFile};

/// How much one worker reads and cuts at a time.
pub(super) const SEGMENT_BYTES: usize = 8 << 20;

/// Where a big file's bytes come from.
#[derive(Debug)]
pub(super) enum Origin {
    File { found: Found, file: OpenFile },
    Stream { entry: Box<Entry> },
}

/// Hands out a file's segments, first to last.
#[derive(Debug)]
pub(super) struct Segments {
    origin: Arc<Origin>,
    parts: Parts,
    begun: bool,
}

#[derive(Debug)]
enum Parts {
    /// Extents of data not handed out yet, ascending.
    File(VecDeque<Range<u64>>),
    /// Standard input, and how far it was read; `ended` when there is no more.
    Stream { input: Stream, at: u64, ended: bool },
}

/// A part of a file to be read by a worker.
#[derive(Debug)]
pub(super) struct Segment {
    origin: Arc<Origin>,
    /// Where it lies in the file.
    range: Range<u64>,
    /// Its bytes, where they had to be read in order.
    bytes: Option<Vec<u8>>,
    /// Whether its extent ends with it.
    ends_extent: bool,
    /// Whether the file ends with it.
    is_last: bool,
    held: Option<Held>,
}

/// A segment, read.
#[derive(Debug)]
pub(super) struct SegmentDone {
    origin: Arc<Origin>,
    range: Range<u64>,
    bytes: io::Result<Vec<u8>>,
    ends_extent: bool,
    is_last: bool,
    _held: Option<Held>,
}

impl Segments {
    /// Opens a big file.
    pub(super) fn of_file(found: Found) -> Result<Self> {
        let file = OpenFile::open(&found)?;
        let extents: io::Result<VecDeque<_>> = file.extents().collect();
        let extents = extents.map_err(|source| Error::io("read", &found.disk, source))?;
        let origin = Arc::new(Origin::File { found, file });
        Ok(Self { origin, parts: Parts::File(extents), begun: false })
    }

    pub(super) fn of_stream(input: Stream) -> Self {
        let origin = Arc::new(Origin::Stream { entry: Box::new(input.entry.clone()) });
        Self { origin, parts: Parts::Stream { input, at: 0, ended: false }, begun: false }
    }

    /// The next segment; `None` after the last. There is at least one, even if the file is all hole.
    pub(super) fn next(&mut self, is_stopped: &dyn Fn() -> bool) -> Result<Option<Segment>> {
        let first = !std::mem::replace(&mut self.begun, true);
        let segment = |range: Range<u64>, bytes, ends_extent, is_last| Segment {
            origin: Arc::clone(&self.origin),
            range,
            bytes,
            ends_extent,
            is_last,
            held: None,
        };
        match &mut self.parts {
            Parts::File(extents) => {
                let Some(extent) = extents.pop_front() else {
                    return Ok(first.then(|| segment(0..0, None, true, true)));
                };
                let end = extent.end.min(extent.start + SEGMENT_BYTES as u64);
                if end < extent.end {
                    extents.push_front(end..extent.end);
                }
                let is_last = extents.is_empty();
                Ok(Some(segment(extent.start..end, None, end == extent.end, is_last)))
            }
            Parts::Stream { ended: true, .. } => Ok(None),
            Parts::Stream { input, at, ended } => {
                let bytes = input.read(is_stopped)?;
                *ended = bytes.len() < SEGMENT_BYTES;
                let range = *at..*at + bytes.len() as u64;
                *at = range.end;
                Ok(Some(segment(range, Some(bytes), *ended, *ended)))
            }
        }
    }
}

impl Segment {
    /// How many bytes it will hold in memory.
    pub(super) fn weight(&self) -> usize {
        usize::try_from(self.range.end - self.range.start).unwrap_or(SEGMENT_BYTES)
    }

    pub(super) fn holding(self, held: Held) -> Self {
        Self { held: Some(held), ..self }
    }

    pub(super) fn run(self) -> SegmentDone {
        let Self { origin, range, bytes, ends_extent, is_last, held } = self;
        let bytes = match (bytes, &*origin) {
            (Some(bytes), _) => Ok(bytes),
            (None, Origin::Stream { .. }) => Ok(Vec::new()),
            (None, Origin::File { file, .. }) => read(file, &range),
        };
        SegmentDone { origin, range, bytes, ends_extent, is_last, _held: held }
    }
}

/// Reads a range; short if the file ends early.
fn read(file: &OpenFile, range: &Range<u64>) -> io::Result<Vec<u8>> {
    let mut bytes = vec![0; usize::try_from(range.end - range.start).unwrap_or(SEGMENT_BYTES)];
    let filled = file.read_at(range.start, &mut bytes)?;
    bytes.truncate(filled);
    Ok(bytes)
}

impl SegmentDone {
    pub(super) fn origin(&self) -> Arc<Origin> {
        Arc::clone(&self.origin)
    }

    pub(super) fn is_last(&self) -> bool {
        self.is_last
    }
}

/// Puts a file together from its segments, which come in order.
#[derive(Debug)]
pub(super) struct Assembling {
    origin: Arc<Origin>,
    finder: Finder,
    pieces: Vec<Piece>,
    /// Bytes of the chunk that is not complete, and where it begins in the file.
    open: Vec<u8>,
    start: u64,
    /// Why the rest is not read: the file cannot be, or has ended early.
    failed: Option<io::Error>,
    shrank: bool,
}

impl Assembling {
    pub(super) fn new(origin: Arc<Origin>, finder: Finder) -> Self {
        Self { origin, finder, pieces: Vec::new(), open: Vec::new(), start: 0, failed: None, shrank: false }
    }

    /// Takes the next segment.
    pub(super) fn push(&mut self, segment: SegmentDone, sink: &mut Sink<'_, '_>) -> Result<()> {
        if self.failed.is_some() || self.shrank {
            return Ok(());
        }
        let bytes = match segment.bytes {
            Ok(bytes) => bytes,
            Err(error) => {
                self.failed = Some(error);
                return Ok(());
            }
        };
        if self.open.is_empty() && segment.range.start > self.start {
            self.pieces.push(Piece { id: ChunkId::HOLE, end: segment.range.start });
            self.start = segment.range.start;
        }
        self.shrank = (bytes.len() as u64) < segment.range.end - segment.range.start;
        let known = self.start + self.open.len() as u64;
        self.open.extend_from_slice(&bytes);
        let span = Span::new(&self.open, self.start, segment.ends_extent || self.shrank);
        let (mut at, mut from) = (self.start, known);
        while at < span.end() {
            let Some(end) = self.finder.next_cut(&span, at, from.max(at)) else { break };
            let chunk = span.slice(at, end);
            let id = ChunkId::of(chunk);
            sink.take(&id, chunk)?;
            self.pieces.push(Piece { id, end });
            at = end;
            from = end;
        }
        let done = usize::try_from(at - self.start).unwrap_or(usize::MAX);
        self.open.drain(..done.min(self.open.len()));
        self.start = at;
        Ok(())
    }

    /// The file as it was read: its entry without content, its pieces, and what is to be said of it.
    pub(super) fn finish(mut self, metadata: &Metadata) -> Result<(Entry, Vec<Piece>, Problems), Problem> {
        let (found, file) = match &*self.origin {
            Origin::Stream { entry } => {
                let entry = Entry { size: self.start, ..(**entry).clone() };
                return Ok((entry, self.pieces, Problems::new()));
            }
            Origin::File { found, file } => (found, file),
        };
        let skipped = |error: io::Error| Problem::skipped(&found.disk, &Error::io("read", &found.disk, error));
        if let Some(error) = self.failed {
            return Err(skipped(error));
        }
        let changed = match file.changed_since_open() {
            _ if self.shrank => Some(Changed::Shrank),
            Ok(changed) => changed,
            Err(error) => return Err(skipped(error)),
        };
        if !self.shrank && self.start < file.stat().size {
            self.start = file.stat().size;
            self.pieces.push(Piece { id: ChunkId::HOLE, end: self.start });
        }
        let completed = metadata.complete_open(found, file);
        let mut problems: Problems =
            completed.lost.iter().map(|error| Problem::incomplete(&found.disk, error)).collect();
        problems.extend(changed.map(|changed| Problem::changed(&found.disk, changed)));
        let entry = Entry { size: self.start, content: Content::Empty, ..completed.entry };
        Ok((entry, self.pieces, problems))
    }
}

/// Standard input on its way into the store.
#[derive(Debug)]
pub(super) struct Stream {
    entry: Entry,
    input: io::Stdin,
}

impl Stream {
    pub(super) fn new(entry: Entry) -> Self {
        Self { entry, input: io::stdin() }
    }

    pub(super) fn path(&self) -> &EntryPath {
        &self.entry.path
    }

    /// The next segment's bytes; fewer than [`SEGMENT_BYTES`] at the end only.
    fn read(&mut self, is_stopped: &dyn Fn() -> bool) -> Result<Vec<u8>> {
        let failed = |source: io::Error| Error::io("read", "standard input", source);
        let mut bytes = vec![0; SEGMENT_BYTES];
        let mut filled = 0;
        let patience = Timespec { tv_sec: 0, tv_nsec: 100_000_000 };
        while let Some(free) = bytes.get_mut(filled..).filter(|free| !free.is_empty()) {
            if is_stopped() {
                break;
            }
            let input = self.input.as_fd();
            match poll(&mut [PollFd::new(&input, PollFlags::IN)], Some(&patience)) {
                // Nothing yet: look whether to stop, then wait on.
                Ok(0) | Err(rustix::io::Errno::INTR) => continue,
                Ok(_) => {}
                Err(errno) => return Err(failed(errno.into())),
            }
            match rustix::io::read(input, free) {
                Ok(0) => break,
                Ok(read) => filled += read,
                Err(rustix::io::Errno::INTR | rustix::io::Errno::AGAIN) => {}
                Err(errno) => return Err(failed(errno.into())),
            }
        }
        bytes.truncate(filled);
        Ok(bytes)
    }
}
