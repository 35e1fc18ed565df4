//! Big files and streams: any worker reads, cuts and hashes a segment; the seams are closed in order.
//!
//! A segment is [`SEGMENT_BYTES`] of one extent of data, read with a warm-up: the bytes before it that a hash window
//! reaches back to. Holes between extents are known from the file system and never read; an extent is chunked as if it
//! were a file of its own, so a hole is always a boundary.

use std::collections::VecDeque;
use std::io;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use super::batch::Problems;
use super::budget::MemoryPermit;
use super::pool::{Buffer, Pool};
use super::report::Problem;
use super::sink::{Lane, Sink};
use super::stream::{Stream, StreamSegment};
use crate::chunk::finder::{Finder, Span};
use crate::chunk::seams::{SegmentCuts, SegmentScanner, Stitcher, WARM_UP, scan_segment};
use crate::error::{Error, Result};
use crate::format::entry::{Content, Entry};
use crate::format::id::ChunkId;
use crate::format::recipe::Piece;
use crate::ingest::{HEAD_BYTES, Metadata, OpenFile, WalkedEntry};

/// How much one worker reads and cuts at a time.
pub(super) const SEGMENT_BYTES: usize = 8 << 20;

/// How much of it is read before it is scanned: it stays in a core's own cache until it is hashed.
const PIECE_BYTES: usize = 512 << 10;

/// Where a big file's bytes come from.
#[derive(Debug)]
pub(super) enum Origin {
    File { found: Box<WalkedEntry>, file: OpenFile },
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
    /// What is left of each extent of data, ascending.
    File(VecDeque<Extent>),
    Stream(Box<Stream>),
}

/// The rest of an extent.
#[derive(Debug)]
struct Extent {
    start: u64,
    rest: Range<u64>,
}

/// A part of a file, to be read and cut by a worker.
#[derive(Debug)]
pub(super) struct Segment {
    origin: Arc<Origin>,
    /// Where its extent begins in the file.
    extent_start: u64,
    /// Where it lies in the file.
    range: Range<u64>,
    /// Its bytes with their warm-up, where they had to be read in order.
    bytes: Option<Buffer>,
    /// Whether its extent ends with it.
    ends_extent: bool,
    /// Whether the file ends with it.
    is_last: bool,
    held: Option<MemoryPermit>,
}

/// A segment, read, cut and hashed.
#[derive(Debug)]
pub(super) struct SegmentDone {
    origin: Arc<Origin>,
    extent_start: u64,
    range: Range<u64>,
    found: io::Result<Scanned>,
    is_last: bool,
    _held: Option<MemoryPermit>,
}

#[derive(Debug)]
struct Scanned {
    /// The warm-up, then the segment, then what is left from another use.
    buffer: Buffer,
    /// How many bytes of it are meant.
    filled: usize,
    warm_up: usize,
    /// Whether the extent ends here.
    is_end: bool,
    cuts: SegmentCuts,
    /// The chunks that end at `cuts.cuts()`.
    ids: Vec<ChunkId>,
}

impl Segments {
    /// All of a big file.
    ///
    /// # Errors
    /// What the system answers.
    pub(super) fn of_origin(origin: &Arc<Origin>) -> io::Result<Self> {
        let Origin::File { file, .. } = &**origin else { return Err(io::ErrorKind::Unsupported.into()) };
        let extents = file.extents().map(|rest| rest.map(|rest| Extent { start: rest.start, rest }));
        let extents = extents.collect::<io::Result<_>>()?;
        Ok(Self { origin: Arc::clone(origin), parts: Parts::File(extents), begun: false })
    }

    /// A part of a big file, cut as if it were a file of its own.
    pub(super) fn of_extent(origin: &Arc<Origin>, extent: Range<u64>) -> Self {
        let extents = VecDeque::from([Extent { start: extent.start, rest: extent }]);
        Self { origin: Arc::clone(origin), parts: Parts::File(extents), begun: false }
    }

    /// What is read in order, front to back.
    pub(super) fn of_stream(origin: Arc<Origin>, stream: Stream) -> Self {
        Self { origin, parts: Parts::Stream(Box::new(stream)), begun: false }
    }

    pub(super) fn origin(&self) -> Arc<Origin> {
        Arc::clone(&self.origin)
    }

    /// The next segment; `None` after the last. There is at least one, even if the file is all hole.
    pub(super) fn next(&mut self, pool: &Pool, is_stopped: &dyn Fn() -> bool) -> Result<Option<Segment>> {
        let first = !std::mem::replace(&mut self.begun, true);
        let origin = &self.origin;
        let segment = |extent_start, range, bytes, ends_extent, is_last| Segment {
            origin: Arc::clone(origin),
            extent_start,
            range,
            bytes,
            ends_extent,
            is_last,
            held: None,
        };
        match &mut self.parts {
            Parts::File(extents) => {
                let Some(extent) = extents.front_mut() else {
                    return Ok(first.then(|| segment(0, 0..0, None, true, true)));
                };
                let (extent_start, start) = (extent.start, extent.rest.start);
                let end = extent.rest.end.min(start + SEGMENT_BYTES as u64);
                extent.rest.start = end;
                let ends_extent = extent.rest.is_empty();
                if ends_extent {
                    extents.pop_front();
                }
                Ok(Some(segment(extent_start, start..end, None, ends_extent, extents.is_empty())))
            }
            Parts::Stream(stream) => {
                let next = stream.next(pool, is_stopped)?;
                Ok(next.map(|part| segment(0, part.range, Some(part.bytes), part.is_last, part.is_last)))
            }
        }
    }
}

impl Origin {
    /// Opens a big file.
    pub(super) fn open(found: WalkedEntry) -> Result<Arc<Self>, Problem> {
        let file = OpenFile::open(&found).map_err(|error| Problem::unread(&found, &error))?;
        Ok(Arc::new(Self::File { found: Box::new(found), file }))
    }

    /// The entry of a file that was read so far, without its content, and what is to be said of it.
    pub(super) fn entry(&self, end: u64, shrank: bool, metadata: &Metadata) -> Result<(Entry, Problems), Problem> {
        let (found, file) = match self {
            Self::Stream { entry } => return Ok((Entry { size: end, ..(**entry).clone() }, Problems::new())),
            Self::File { found, file } => (found, file),
        };
        // What was unpacked may be shorter than the file. Nothing was read behind its size.
        let read_to = if shrank { 0 } else { end.max(file.stat().size) };
        let changed = file.difference(read_to, shrank).map_err(|error| self.skipped(error))?;
        let completed = metadata.complete_open(found, file);
        let mut problems: Problems =
            completed.lost.iter().map(|error| Problem::incomplete(&found.disk, error)).collect();
        problems.extend(changed.map(|changed| Problem::changed(&found.disk, changed)));
        Ok((Entry { size: end, content: Content::Empty, ..completed.entry }, problems))
    }

    /// A file's first bytes; none of what is no file, or cannot be read.
    pub(super) fn head(&self) -> Vec<u8> {
        match self {
            Self::Stream { .. } => Vec::new(),
            Self::File { file, .. } => file.head(HEAD_BYTES).unwrap_or_default(),
        }
    }

    /// What is said of a file that could not be read.
    pub(super) fn skipped(&self, error: io::Error) -> Problem {
        Problem::skipped(self.path(), &Error::io("read", self.path(), error))
    }

    /// Where it is, or what it is called.
    pub(super) fn path(&self) -> &Path {
        match self {
            Self::Stream { entry } => entry.path.as_path(),
            Self::File { found, .. } => &found.disk,
        }
    }
}

impl Segment {
    /// A part of a stream that somebody else reads, warm-up first.
    pub(super) fn of_part(origin: &Arc<Origin>, part: StreamSegment) -> Self {
        Self::of_bytes(origin, 0, part.range, part.bytes, part.is_last)
    }

    /// A segment that was read already, with its warm-up.
    pub(super) fn of_bytes(
        origin: &Arc<Origin>,
        extent_start: u64,
        range: Range<u64>,
        bytes: Buffer,
        is_last: bool,
    ) -> Self {
        let (origin, bytes) = (Arc::clone(origin), Some(bytes));
        Self { origin, extent_start, range, bytes, ends_extent: is_last, is_last, held: None }
    }

    /// How many bytes it will hold in memory.
    pub(super) fn weight(&self) -> usize {
        usize::try_from(self.range.end - self.range.start).unwrap_or(SEGMENT_BYTES)
    }

    pub(super) fn holding(self, held: MemoryPermit) -> Self {
        Self { held: Some(held), ..self }
    }

    pub(super) fn run(self, finder: &Finder, pool: &Pool) -> SegmentDone {
        let Self { origin, extent_start, range, bytes, ends_extent, is_last, held } = self;
        // The warm-up lies in the same extent: there, a hash begins anew.
        let warm_up = usize::try_from(range.start - extent_start).unwrap_or(WARM_UP).min(WARM_UP);
        let wanted = usize::try_from(range.end - range.start).unwrap_or(SEGMENT_BYTES) + warm_up;
        let start = range.start - extent_start;
        let is_read = bytes.is_some();
        let mut scanned = Scanned {
            buffer: bytes.unwrap_or_else(|| pool.take()),
            filled: wanted,
            warm_up,
            is_end: ends_extent,
            cuts: SegmentCuts::empty(),
            ids: Vec::new(),
        };
        let found = match &*origin {
            Origin::File { file, .. } if !is_read => {
                let offset = range.start - warm_up as u64;
                scanned.read_and_scan(file, offset, finder, start).map(|()| scanned)
            }
            _ => {
                scanned.scan(finder, start);
                Ok(scanned)
            }
        };
        SegmentDone { origin, extent_start, range, found, is_last, _held: held }
    }
}

impl Scanned {
    /// Reads the file from `offset` on, piece by piece, and finds and hashes chunks in each while it is warm. `start` is
    /// where the segment begins in its extent.
    fn read_and_scan(&mut self, file: &OpenFile, offset: u64, finder: &Finder, start: u64) -> io::Result<()> {
        let (wanted, ends_extent) = (self.filled, self.is_end);
        if self.buffer.len() < wanted {
            self.buffer.resize(wanted, 0);
        }
        let mut scanner = SegmentScanner::new(finder, start);
        let mut ids = Vec::new();
        self.filled = 0;
        loop {
            let to = wanted.min(self.filled + PIECE_BYTES);
            let room = self.buffer.get_mut(self.filled..to).unwrap_or_default();
            let asked = room.len();
            let read = file.read_at(offset + self.filled as u64, room)?;
            self.filled += read;
            // Fewer if the file ends early, perhaps before the segment begins.
            let is_last = read < asked || self.filled == wanted;
            self.warm_up = self.warm_up.min(self.filled);
            self.is_end = read < asked || is_last && ends_extent;
            scanner.advance(&self.span(start), |_, chunk| ids.push(ChunkId::of(chunk)));
            if is_last {
                break;
            }
        }
        (self.cuts, self.ids) = (scanner.finish(), ids);
        Ok(())
    }

    /// Finds and hashes chunks; `start` is where the segment begins in its extent.
    fn scan(&mut self, finder: &Finder, start: u64) {
        let mut ids = std::mem::take(&mut self.ids);
        ids.clear();
        let span = self.span(start);
        self.cuts = scan_segment(finder, &span, start, |_, chunk| ids.push(ChunkId::of(chunk)));
        self.ids = ids;
    }

    fn span(&self, start: u64) -> Span<'_> {
        let bytes = self.buffer.get(..self.filled).unwrap_or_default();
        Span::new(bytes, start - self.warm_up as u64, self.is_end)
    }
}

impl SegmentDone {
    pub(super) fn origin(&self) -> Arc<Origin> {
        Arc::clone(&self.origin)
    }

    pub(super) fn is_last(&self) -> bool {
        self.is_last
    }

    /// In the place of what is left of a stream that cannot be read.
    pub(super) fn of_failed(origin: Arc<Origin>, error: io::Error) -> Self {
        Self { origin, extent_start: 0, range: 0..0, found: Err(error), is_last: true, _held: None }
    }
}

/// Puts a file together from its segments, which come in order.
#[derive(Debug)]
pub(super) struct FileAssembler {
    origin: Arc<Origin>,
    finder: Finder,
    pieces: Vec<Piece>,
    /// The extent at hand: where it begins in the file, and its seams.
    extent_start: u64,
    stitcher: Stitcher,
    /// How far the file is known.
    end: u64,
    /// The bytes after the last cut.
    open: Vec<u8>,
    /// The last bytes of the last segment: the next one's warm-up, unless the file changed in between.
    tail: Vec<u8>,
    /// The file's first bytes, unless it begins with a hole.
    head: Vec<u8>,
    /// Why the rest is not read: the file cannot be, or has ended early.
    failed: Option<io::Error>,
    shrank: bool,
}

impl FileAssembler {
    pub(super) fn new(origin: Arc<Origin>, finder: Finder) -> Self {
        Self {
            origin,
            stitcher: Stitcher::new(finder.clone()),
            finder,
            pieces: Vec::new(),
            extent_start: 0,
            end: 0,
            open: Vec::new(),
            tail: Vec::new(),
            head: Vec::new(),
            failed: None,
            shrank: false,
        }
    }

    /// Whether this is the file that a segment is of.
    pub(super) fn is_of(&self, segment: &SegmentDone) -> bool {
        Arc::ptr_eq(&self.origin, &segment.origin)
    }

    /// The first bytes, once all segments are there.
    pub(super) fn take_head(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.head)
    }

    /// Takes the next segment.
    pub(super) fn push(&mut self, segment: SegmentDone, sink: &mut Sink<'_, '_>) -> Result<()> {
        if self.failed.is_some() || self.shrank {
            return Ok(());
        }
        let mut scanned = match segment.found {
            Ok(scanned) => scanned,
            Err(error) => {
                self.failed = Some(error);
                return Ok(());
            }
        };
        if segment.range.start == 0 {
            self.head = scanned.buffer.get(..scanned.filled.min(HEAD_BYTES)).unwrap_or_default().to_vec();
        }
        if segment.range.start == segment.extent_start {
            if segment.range.start > self.end {
                self.pieces.push(Piece { id: ChunkId::HOLE, end: segment.range.start });
            }
            self.extent_start = segment.extent_start;
            self.end = segment.range.start;
            self.stitcher = Stitcher::new(self.finder.clone());
            self.tail.clear();
        }
        let start = segment.range.start - segment.extent_start;
        let known = scanned.filled - scanned.warm_up;
        self.shrank = (known as u64) < segment.range.end - segment.range.start;
        if known == 0 && start > 0 && scanned.warm_up < self.tail.len() {
            // The file now ends before this segment: what is open is its last chunk.
            return self.take_rest(sink);
        }
        if scanned.buffer.get(..scanned.warm_up) != Some(self.tail.as_slice()) {
            // The file was written to between two reads. Cuts must be those of the bytes that are kept.
            if let Some(warm_up) = scanned.buffer.get_mut(..self.tail.len()) {
                warm_up.copy_from_slice(&self.tail);
            }
            scanned.scan(&self.finder, start);
        }
        let span = scanned.span(start);
        let mut seam = Vec::new();
        let mut at = self.stitcher.last_cut();
        self.stitcher.push(&scanned.cuts, &span, &mut seam);
        for cut in seam {
            // Begins before this segment, or was not hashed because nothing was certified.
            let rest = span.slice(at.max(start), cut);
            let id = if self.open.is_empty() {
                self.take_chunk(sink, None, rest)?
            } else {
                self.open.extend_from_slice(rest);
                let open = std::mem::take(&mut self.open);
                let id = self.take_chunk(sink, None, &open)?;
                self.open = open;
                self.open.clear();
                id
            };
            self.pieces.push(Piece { id, end: self.extent_start + cut });
            at = cut;
        }
        for (cut, id) in scanned.cuts.cuts().iter().zip(&scanned.ids) {
            let id = self.take_chunk(sink, Some(*id), span.slice(at, *cut))?;
            self.pieces.push(Piece { id, end: self.extent_start + cut });
            at = *cut;
        }
        self.open.extend_from_slice(span.slice(at.max(start), span.end()));
        self.end = self.extent_start + span.end();
        self.tail.clear();
        self.tail.extend_from_slice(span.slice(span.end().saturating_sub(WARM_UP as u64).max(span.base()), span.end()));
        Ok(())
    }

    fn take_chunk(&self, sink: &mut Sink<'_, '_>, id: Option<ChunkId>, chunk: &[u8]) -> Result<ChunkId> {
        let id = id.unwrap_or_else(|| ChunkId::of(chunk));
        sink.take(&id, chunk, Lane::Contents)?;
        Ok(id)
    }

    /// Ends the extent where its last segment ended.
    fn take_rest(&mut self, sink: &mut Sink<'_, '_>) -> Result<()> {
        if !self.open.is_empty() {
            let open = std::mem::take(&mut self.open);
            let id = self.take_chunk(sink, None, &open)?;
            self.pieces.push(Piece { id, end: self.end });
        }
        Ok(())
    }

    /// The file as it was read: its entry without content, its pieces, and what is to be said of it.
    pub(super) fn finish(mut self, metadata: &Metadata) -> Result<(Entry, Vec<Piece>, Problems), Problem> {
        if let Some(error) = self.failed {
            return Err(self.origin.skipped(error));
        }
        if let Origin::File { file, .. } = &*self.origin
            && !self.shrank
            && self.end < file.stat().size
        {
            self.end = file.stat().size;
            self.pieces.push(Piece { id: ChunkId::HOLE, end: self.end });
        }
        let (entry, problems) = self.origin.entry(self.end, self.shrank, metadata)?;
        Ok((entry, self.pieces, problems))
    }

    /// For the extent that a segment is the first of.
    pub(super) fn of_extent(first: &SegmentDone, finder: Finder) -> Self {
        Self { end: first.extent_start, extent_start: first.extent_start, ..Self::new(first.origin(), finder) }
    }

    /// The extent as it was read.
    pub(super) fn into_extent(self) -> Extracted {
        let start = self.extent_start;
        let piece = |piece: &Piece| Piece { id: piece.id, end: piece.end.saturating_sub(start) };
        Extracted { pieces: self.pieces.iter().map(piece).collect(), shrank: self.shrank, failed: self.failed }
    }
}

/// An extent, all of whose chunks were taken.
#[derive(Debug)]
pub(super) struct Extracted {
    /// Its pieces, their ends counted from its beginning.
    pub(super) pieces: Vec<Piece>,
    /// Whether the file ended before it did.
    pub(super) shrank: bool,
    /// Why it could not be read.
    pub(super) failed: Option<io::Error>,
}
