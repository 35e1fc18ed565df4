//! Reads frames, decodes them, and checks every chunk before anybody sees it (invariant 4). In parallel, in pack order.
//!
//! A pack may be gone since the plan was made: gc has moved what was needed of it. Its chunks are then looked up again.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use super::plan::{Plan, ReadSegment};
use crate::engine::chunk_index::ChunkIndex;
use crate::engine::read::frame::{FrameReader, is_chunk, read_stored};
use crate::error::{Error, Result, chain, same_error};
use crate::format::directory::ChunkPlace;
use crate::format::entry::EntryPath;
use crate::format::id::{ChunkId, PackId};
use crate::index::Location;
use crate::storage::Storage;

/// A worker takes up to this many frames at a time …
const RUN_FRAMES_MAX: usize = 16;
/// … but so few that there are at least this many turns for each.
const RUNS_PER_WORKER_MIN: usize = 8;

/// Receives what was planned. Called from several threads at once, once for each frame.
pub(super) trait FrameSink: Sync {
    /// Takes segments whose bytes were checked. An error ends the whole fetch.
    fn deliver(&self, segments: &[ReadSegment], frame: &[u8]) -> Result<()>;

    /// Takes a segment whose bytes are damaged or cannot be read.
    fn fail(&self, segment: &ReadSegment, why: &Error) -> Result<()>;
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
pub(super) fn bytes_of<'a>(segment: &ReadSegment, frame: &'a [u8]) -> &'a [u8] {
    let start = segment.start as usize;
    frame.get(start..start + segment.length as usize).unwrap_or_default()
}

/// Fetches everything in the plan.
pub(super) fn fetch(
    chunk_index: &ChunkIndex<'_>,
    plan: &mut Plan,
    threads: usize,
    is_stopped: &(dyn Fn() -> bool + Sync),
    destination: &dyn FrameSink,
) -> Result<()> {
    let groups = plan.by_frame();
    let plan = &*plan;
    // Neighbouring frames hold files of one directory: two workers in it would wait for each other.
    let run_frames = (groups.len() / (threads.max(1) * RUNS_PER_WORKER_MIN)).clamp(1, RUN_FRAMES_MAX);
    let runs: Vec<&[Range<usize>]> = groups.chunks(run_frames).collect();
    let next = AtomicUsize::new(0);
    let ended = AtomicBool::new(false);
    let first_error = Mutex::new(None);
    let work = || {
        let mut worker = match Worker::new(chunk_index, plan, Vec::new()) {
            Ok(worker) => worker,
            Err(error) => return Err(error),
        };
        while !ended.load(Ordering::Relaxed) && !is_stopped() {
            let run = runs.get(next.fetch_add(1, Ordering::Relaxed));
            let Some(run) = run else { break };
            run.iter().try_for_each(|group| worker.serve(group, destination))?;
        }
        Ok(())
    };
    let run = || {
        if let Err(error) = work() {
            ended.store(true, Ordering::Relaxed);
            first_error.lock().unwrap_or_else(std::sync::PoisonError::into_inner).get_or_insert(error);
        }
    };
    let threads = threads.clamp(1, runs.len().max(1));
    std::thread::scope(|scope| {
        for _ in 1..threads {
            scope.spawn(run);
        }
        run();
    });
    match first_error.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner) {
        Some(error) => Err(error),
        None => Ok(()),
    }
}

struct Worker<'a, 's> {
    chunk_index: &'a ChunkIndex<'s>,
    storage: &'a dyn Storage,
    plan: &'a Plan,
    /// The packs in which the plan's chunks were looked up before, and which were gone. Each time a gc deletes a pack, the
    /// next look-up finds another one: a pack that is gone for the second time is lost.
    gone: Vec<PackId>,
    reader: FrameReader,
    /// Whether chunks of the frame at hand hash to their ids, by ordinal.
    checked: HashMap<u32, bool>,
}

impl<'a, 's> Worker<'a, 's> {
    fn new(chunk_index: &'a ChunkIndex<'s>, plan: &'a Plan, gone: Vec<PackId>) -> Result<Self> {
        Ok(Self {
            chunk_index,
            storage: chunk_index.storage(),
            plan,
            gone,
            reader: FrameReader::new()?,
            checked: HashMap::new(),
        })
    }

    fn serve(&mut self, group: &Range<usize>, destination: &dyn FrameSink) -> Result<()> {
        let segments = self.plan.segments.get(group.clone()).unwrap_or_default();
        let Some(first) = segments.first() else { return Ok(()) };
        if let Err(error) = self.decode(first) {
            let pack = self.plan.packs.get(first.pack as usize).map(|(pack, _)| *pack);
            if let Some(pack) = pack.filter(|pack| matches!(error, Error::NotFound { .. }) && !self.gone.contains(pack))
            {
                return self.serve_moved(pack, segments, destination);
            }
            return segments.iter().try_for_each(|segment| destination.fail(segment, &error));
        }
        self.checked.clear();
        let mut good = true;
        for segment in segments {
            good &= self.is_good(segment);
        }
        if good {
            return destination.deliver(segments, self.reader.raw());
        }
        for segment in segments {
            if self.is_good(segment) {
                destination.deliver(std::slice::from_ref(segment), self.reader.raw())?;
            } else {
                destination.fail(segment, &self.damaged(segment))?;
            }
        }
        Ok(())
    }

    /// Serves segments whose pack is gone, from where their chunks are by now.
    fn serve_moved(&self, gone: PackId, segments: &[ReadSegment], destination: &dyn FrameSink) -> Result<()> {
        let mut moved = Plan::default();
        for segment in segments {
            match self.look_up_again(segment) {
                Ok((location, place, part)) => {
                    moved.segment(&location, place, part, segment.destination, segment.offset)
                }
                Err(error) => destination.fail(segment, &error)?,
            }
        }
        let groups = moved.by_frame();
        let gone = self.gone.iter().copied().chain([gone]).collect();
        let mut worker = Worker::new(self.chunk_index, &moved, gone)?;
        groups.iter().try_for_each(|group| worker.serve(group, destination))
    }

    fn look_up_again(&self, segment: &ReadSegment) -> Result<(Location, ChunkPlace, Range<u32>)> {
        let unplanned = || Error::Internal("a planned chunk is not in its pack's directory".to_owned());
        let (pack, _) = self.plan.packs.get(segment.pack as usize).ok_or_else(unplanned)?;
        let (id, range) = self.place_of(segment).ok_or_else(unplanned)?;
        self.chunk_index.vanished(pack)?;
        let (location, place) = self.chunk_index.locate(&id, range.len() as u64)?;
        let start = segment.start.checked_sub(range.start as u32).ok_or_else(unplanned)?;
        Ok((location, place, start..start + segment.length))
    }

    /// Reads and decodes a segment's frame.
    fn decode(&mut self, segment: &ReadSegment) -> Result<()> {
        let missing = || Error::Internal("a planned frame is not in its pack's directory".to_owned());
        let (pack, directory) = self.plan.packs.get(segment.pack as usize).ok_or_else(missing)?;
        let frame = directory.frames.get(segment.frame as usize).ok_or_else(missing)?;
        let read =
            |buffer: &mut Vec<u8>| read_stored(self.storage, pack, frame.offset, frame.stored_bytes as usize, buffer);
        self.reader.frame(pack, frame.offset, read)?;
        Ok(())
    }

    /// Whether the chunk of a segment hashes to its id.
    fn is_good(&mut self, segment: &ReadSegment) -> bool {
        if let Some(good) = self.checked.get(&segment.chunk) {
            return *good;
        }
        let good = self
            .place_of(segment)
            .is_some_and(|(id, range)| self.reader.raw().get(range).is_some_and(|bytes| is_chunk(&id, bytes)));
        self.checked.insert(segment.chunk, good);
        good
    }

    fn place_of(&self, segment: &ReadSegment) -> Option<(ChunkId, Range<usize>)> {
        let (_, directory) = self.plan.packs.get(segment.pack as usize)?;
        let place = directory.place(segment.chunk)?;
        let id = directory.chunks.get(segment.chunk as usize)?.id;
        let start = place.start as usize;
        Some((id, start..start + place.length as usize))
    }

    fn damaged(&self, segment: &ReadSegment) -> Error {
        let places = self.plan.packs.get(segment.pack as usize).and_then(|(pack, directory)| {
            let frame = directory.frames.get(segment.frame as usize)?;
            Some((pack, frame.offset, self.place_of(segment)?.0))
        });
        match places {
            Some((pack, offset, id)) => self.reader.damaged(self.storage, pack, offset, &id),
            None => Error::Internal("a planned chunk is not in its pack's directory".to_owned()),
        }
    }
}
