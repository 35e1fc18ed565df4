//! Reads frames, decodes them, and compares every chunk with its id before anybody sees it (invariant 4).
//!
//! ```text
//! for each frame that is wanted, in the order of the plan, on several threads:
//!     read and decode what is wanted of it        all of it only if something is wrong
//!     deliver the parts of chunks that have their ids
//!     for each other chunk:                       its pack is gone, cannot be read, or is damaged
//!         deliver it from another pack that has it, or report why the first one failed
//! ```
//!
//! A pack may be gone since the plan was made: gc has moved what was needed of it. A chunk may lie in several packs: two adds
//! stored it at once. No pack is asked twice for one chunk, so this ends.

use std::collections::HashSet;
use std::ops::Range;
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use super::cache::FrameCache;
use super::frame::{BufferPool, FrameBytes, FrameReader};
use super::plan::{FrameNumbers, FrameRef, Frames, Plan, ReadSegment};
use super::turns::Turns;
use crate::engine::store::chunk_index::ChunkIndex;
use crate::error::{Error, Result, chain, same_error};
use crate::format::directory::ChunkPlace;
use crate::format::entry::EntryPath;
use crate::format::id::{ChunkId, PackId};
use crate::index::Location;
use crate::storage::Storage;

/// Receives what was planned.
pub(super) trait FrameSink {
    /// Takes segments of one frame whose bytes were checked. An error ends the whole fetch.
    fn deliver(&self, segments: &[ReadSegment], frame: &Arc<FrameBytes>) -> Result<()>;

    /// Takes a segment whose bytes are damaged or cannot be read, wherever they are.
    fn fail(&self, segment: &ReadSegment, why: &Error) -> Result<()>;
}

/// Has the index, or opens it when it is asked for: most reads need none.
pub(super) trait HasIndex<'s>: Sync {
    fn chunk_index(&self) -> Result<&ChunkIndex<'s>>;
}

impl<'s> HasIndex<'s> for ChunkIndex<'s> {
    fn chunk_index(&self) -> Result<&Self> {
        Ok(self)
    }
}

/// What ends a whole fetch for a segment that cannot be had: damage, or what the system answered, which is no damage.
/// `path` is whose bytes they are.
pub(super) fn ended_by(why: &Error, path: Option<&EntryPath>) -> Error {
    let needed = path.map(|path| format!("; {path:?} needs it")).unwrap_or_default();
    match why {
        Error::Damaged { file, offset, what } => {
            Error::Damaged { file: file.clone(), offset: *offset, what: format!("{what}{needed}") }
        }
        Error::Io { action, path, source } => Error::io(action, path, same_error(source)),
        other => Error::damaged_whole("a pack", format!("{}{needed}", chain(other))),
    }
}

/// The bytes of a segment in its decoded frame.
pub(super) fn bytes_of<'a>(segment: &ReadSegment, frame: &'a FrameBytes) -> &'a [u8] {
    frame.get(segment.part()).unwrap_or_default()
}

/// Fetches everything in the plan, each frame once.
pub(super) fn fetch(
    chunk_index: &ChunkIndex<'_>,
    plan: &mut Plan,
    threads: usize,
    is_stopped: &(dyn Fn() -> bool + Sync),
    sink: &(dyn FrameSink + Sync),
) -> Result<()> {
    let groups = plan.by_frame(u64::from);
    let turns = Turns::even(groups.len(), threads);
    fetch_groups(chunk_index, plan, &groups, &turns, threads, is_stopped, sink)
}

/// Fetches what these groups of segments want of one frame each, in the order of the turns.
pub(super) fn fetch_groups(
    chunk_index: &ChunkIndex<'_>,
    plan: &Plan,
    groups: &[Range<usize>],
    turns: &Turns,
    threads: usize,
    is_stopped: &(dyn Fn() -> bool + Sync),
    sink: &(dyn FrameSink + Sync),
) -> Result<()> {
    let ended = AtomicBool::new(false);
    let first_error = Mutex::new(None);
    let pool = Arc::new(BufferPool::default());
    let work = || -> Result<()> {
        let source = Source { storage: chunk_index.storage(), index: chunk_index, cache: None };
        let mut fetcher = Fetcher::new(source, FrameReader::new(Some(Arc::clone(&pool)))?);
        while let Some(turn) = turns.take() {
            if ended.load(Ordering::Relaxed) || is_stopped() {
                break;
            }
            for group in groups.get(turn.frames()).unwrap_or_default() {
                fetcher.serve(plan.frames(), plan.segments.get(group.clone()).unwrap_or_default(), sink)?;
            }
        }
        Ok(())
    };
    let run = || {
        if let Err(error) = work() {
            ended.store(true, Ordering::Relaxed);
            first_error.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(error);
        }
    };
    let threads = threads.clamp(1, turns.len().max(1));
    std::thread::scope(|scope| {
        for _ in 1..threads {
            scope.spawn(run);
        }
        run();
    });
    match first_error.into_inner().unwrap_or_else(PoisonError::into_inner) {
        Some(error) => Err(error),
        None => Ok(()),
    }
}

/// Where frames come from.
#[derive(Clone, Copy)]
pub(super) struct Source<'a, 's> {
    pub(super) storage: &'a dyn Storage,
    pub(super) index: &'a dyn HasIndex<'s>,
    /// Keeps decoded frames for later.
    pub(super) cache: Option<&'a FrameCache>,
}

/// Segments that one pack could not serve.
struct Unserved {
    segments: Vec<ReadSegment>,
    why: Rc<Error>,
    /// The packs that were asked, the last one last.
    tried: Vec<PackId>,
}

/// Serves one frame after the other; one for each thread.
pub(super) struct Fetcher<'a, 's> {
    source: Source<'a, 's>,
    reader: FrameReader,
    /// The chunks of the frame at hand that were compared with their ids.
    compared: HashSet<(u32, ChunkId)>,
}

impl<'a, 's> Fetcher<'a, 's> {
    pub(super) fn new(source: Source<'a, 's>, reader: FrameReader) -> Self {
        Self { source, reader, compared: HashSet::new() }
    }

    pub(super) fn into_reader(self) -> FrameReader {
        self.reader
    }

    /// Delivers segments that are planned to come from one frame.
    ///
    /// # Errors
    /// Those of the sink; [`Error::Internal`] if the plan does not have the frame.
    pub(super) fn serve(
        &mut self,
        frames: &Frames,
        segments: &[ReadSegment],
        sink: &(impl FrameSink + ?Sized),
    ) -> Result<()> {
        let Some(first) = segments.first() else { return Ok(()) };
        let unplanned = || Error::Internal("a planned frame is in no pack".to_owned());
        let (pack, frame) = frames.get(first.frame).ok_or_else(unplanned)?;
        let mut unserved = Vec::new();
        self.serve_copy(&pack, &frame, segments, sink, &mut |segments, why| {
            unserved.push(Unserved { segments: segments.to_vec(), why, tried: vec![pack] });
        })?;
        while let Some(next) = unserved.pop() {
            self.serve_elsewhere(next, sink, &mut unserved)?;
        }
        Ok(())
    }

    /// Delivers what is right in one frame, and hands what is not to `unserved`.
    fn serve_copy(
        &mut self,
        pack: &PackId,
        frame: &FrameRef,
        segments: &[ReadSegment],
        sink: &(impl FrameSink + ?Sized),
        unserved: &mut dyn FnMut(&[ReadSegment], Rc<Error>),
    ) -> Result<()> {
        let Source { storage, cache, .. } = self.source;
        if let Some(kept) = cache.and_then(|cache| cache.get(pack, frame.offset))
            && are_chunks(&mut self.compared, segments, &kept)
        {
            return sink.deliver(segments, &kept);
        }
        let wanted = span(segments);
        let is_whole = cache.is_some() || wanted.len() >= frame.raw_bytes as usize;
        let read = match is_whole {
            true => self.reader.read_whole(storage, pack, frame),
            false => self.reader.read_part(storage, pack, frame, wanted),
        };
        if let Err(error) = read {
            unserved(segments, Rc::new(error));
            return Ok(());
        }
        if are_chunks(&mut self.compared, segments, self.reader.decoded()) {
            if let Some(cache) = cache {
                cache.put(pack, frame.offset, self.reader.decoded());
            }
            return sink.deliver(segments, self.reader.decoded());
        }
        if !is_whole && let Err(error) = self.reader.read_whole(storage, pack, frame) {
            unserved(segments, Rc::new(error));
            return Ok(());
        }
        for of_chunk in by_chunk(&mut segments.to_vec()) {
            let Some(first) = of_chunk.first() else { continue };
            if are_chunks(&mut self.compared, of_chunk, self.reader.decoded()) {
                sink.deliver(of_chunk, self.reader.decoded())?;
            } else {
                unserved(of_chunk, Rc::new(self.reader.damaged(storage, pack, frame.offset, &first.id)));
            }
        }
        Ok(())
    }

    /// Delivers segments from other packs, or reports why they cannot be had. What those cannot serve either is added to
    /// `unserved`.
    fn serve_elsewhere(
        &mut self,
        Unserved { mut segments, why, tried }: Unserved,
        sink: &(impl FrameSink + ?Sized),
        unserved: &mut Vec<Unserved>,
    ) -> Result<()> {
        let mut numbers = FrameNumbers::default();
        let mut found: Vec<(u32, ReadSegment)> = Vec::new();
        for of_chunk in by_chunk(&mut segments) {
            let Some(ReadSegment { id, length, .. }) = of_chunk.first() else { continue };
            match self.locate_again(id, u64::from(*length), &why, &tried) {
                Ok(Some((location, place))) => {
                    let number = numbers.number(&location, &place)?;
                    // The frame stays the planned one: that is what sinks know.
                    found.extend(of_chunk.iter().map(|s| (number, ReadSegment { start: place.start, ..*s })));
                }
                Ok(None) => of_chunk.iter().try_for_each(|segment| sink.fail(segment, &why))?,
                Err(error) => of_chunk.iter().try_for_each(|segment| sink.fail(segment, &error))?,
            }
        }
        found.sort_unstable_by_key(|(number, segment)| (*number, segment.destination, segment.offset));
        for of_frame in found.chunk_by(|a, b| a.0 == b.0) {
            let Some((pack, frame)) = of_frame.first().and_then(|(number, _)| numbers.frames.get(*number)) else {
                continue;
            };
            let segments: Vec<ReadSegment> = of_frame.iter().map(|(_, segment)| *segment).collect();
            let tried: Vec<PackId> = tried.iter().copied().chain([pack]).collect();
            self.serve_copy(&pack, &frame, &segments, sink, &mut |segments, next_why| {
                // The first damage is reported; that a pack is gone is not damage.
                let why = if is_gone(&why) { next_why } else { Rc::clone(&why) };
                unserved.push(Unserved { segments: segments.to_vec(), why, tried: tried.clone() });
            })?;
        }
        Ok(())
    }

    /// Where a chunk is beside the packs that were tried.
    fn locate_again(
        &self,
        id: &ChunkId,
        length: u64,
        why: &Error,
        tried: &[PackId],
    ) -> Result<Option<(Location, ChunkPlace)>> {
        let is_gone = is_gone(why);
        let chunk_index = match self.source.index.chunk_index() {
            Ok(chunk_index) => chunk_index,
            Err(error) if is_gone => return Err(error),
            // The damage matters more.
            Err(_) => return Ok(None),
        };
        if let (true, Some(pack)) = (is_gone, tried.last()) {
            chunk_index.vanished(pack)?;
        }
        match chunk_index.other_copy(id, length, tried) {
            Ok(None) if is_gone => {
                let found = chunk_index.locate(id, length)?;
                Ok(Some(found).filter(|(location, _)| !tried.contains(&location.pack)))
            }
            Err(_) if !is_gone => Ok(None),
            found => found,
        }
    }
}

fn is_gone(why: &Error) -> bool {
    matches!(why, Error::NotFound { .. })
}

/// The stretch of the decoded frame in which all chunks of the segments lie.
fn span(segments: &[ReadSegment]) -> Range<usize> {
    let start = segments.iter().map(|segment| segment.chunk().start).min().unwrap_or_default();
    let end = segments.iter().map(|segment| segment.chunk().end).max().unwrap_or_default();
    start..end
}

/// Whether all segments are of chunks whose bytes hash to their ids. Each chunk is hashed once.
fn are_chunks(compared: &mut HashSet<(u32, ChunkId)>, segments: &[ReadSegment], frame: &FrameBytes) -> bool {
    // A frame may be shorter than its directory says: nothing is then wanted, not no bytes, whose hash is an id too.
    let is_chunk =
        |segment: &ReadSegment| frame.get(segment.chunk()).is_some_and(|bytes| ChunkId::of(bytes) == segment.id);
    if let [only] = segments {
        return is_chunk(only);
    }
    compared.clear();
    let mut latest = None;
    segments.iter().all(|segment| {
        let chunk = (segment.start, segment.id);
        let is_known = latest == Some(chunk) || !compared.insert(chunk);
        latest = Some(chunk);
        is_known || is_chunk(segment)
    })
}

/// Sorts segments by chunk.
fn by_chunk(segments: &mut [ReadSegment]) -> impl Iterator<Item = &[ReadSegment]> {
    segments.sort_unstable_by_key(|segment| (segment.start, segment.id, segment.destination, segment.offset));
    segments.chunk_by(|a, b| (a.start, a.id) == (b.start, b.id))
}
