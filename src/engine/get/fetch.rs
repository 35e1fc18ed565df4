//! Reads frames, decodes them, and checks every chunk before anybody sees it (invariant 4). In parallel, in pack order.
//!
//! A pack may be gone since the plan was made: gc has moved what was needed of it. Its chunks are then looked up again.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use super::plan::{Plan, Want};
use crate::engine::frames::{FrameReader, is_chunk, read_stored};
use crate::engine::locate::Locator;
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
pub(super) trait Deliver: Sync {
    /// Takes wants whose bytes were checked. An error ends the whole fetch.
    fn deliver(&self, wants: &[Want], frame: &[u8]) -> Result<()>;

    /// Takes a want whose bytes are damaged or cannot be read.
    fn fail(&self, want: &Want, why: &Error) -> Result<()>;
}

/// What ends a whole fetch for a want that cannot be had: damage, or what the system answered, which is no damage.
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

/// The bytes of a want in its decoded frame.
pub(super) fn bytes_of<'a>(want: &Want, frame: &'a [u8]) -> &'a [u8] {
    let start = want.start as usize;
    frame.get(start..start + want.length as usize).unwrap_or_default()
}

/// Fetches everything in the plan.
pub(super) fn fetch(
    locator: &Locator<'_>,
    plan: &mut Plan,
    threads: usize,
    is_stopped: &(dyn Fn() -> bool + Sync),
    receiver: &dyn Deliver,
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
        let mut worker = match Worker::new(locator, plan, Vec::new()) {
            Ok(worker) => worker,
            Err(error) => return Err(error),
        };
        while !ended.load(Ordering::Relaxed) && !is_stopped() {
            let run = runs.get(next.fetch_add(1, Ordering::Relaxed));
            let Some(run) = run else { break };
            run.iter().try_for_each(|group| worker.serve(group, receiver))?;
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
    locator: &'a Locator<'s>,
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
    fn new(locator: &'a Locator<'s>, plan: &'a Plan, gone: Vec<PackId>) -> Result<Self> {
        Ok(Self {
            locator,
            storage: locator.storage(),
            plan,
            gone,
            reader: FrameReader::new()?,
            checked: HashMap::new(),
        })
    }

    fn serve(&mut self, group: &Range<usize>, receiver: &dyn Deliver) -> Result<()> {
        let wants = self.plan.wants.get(group.clone()).unwrap_or_default();
        let Some(first) = wants.first() else { return Ok(()) };
        if let Err(error) = self.decode(first) {
            let pack = self.plan.packs.get(first.pack as usize).map(|(pack, _)| *pack);
            if let Some(pack) = pack.filter(|pack| matches!(error, Error::NotFound { .. }) && !self.gone.contains(pack))
            {
                return self.serve_moved(pack, wants, receiver);
            }
            return wants.iter().try_for_each(|want| receiver.fail(want, &error));
        }
        self.checked.clear();
        let mut good = true;
        for want in wants {
            good &= self.is_good(want);
        }
        if good {
            return receiver.deliver(wants, self.reader.raw());
        }
        for want in wants {
            if self.is_good(want) {
                receiver.deliver(std::slice::from_ref(want), self.reader.raw())?;
            } else {
                receiver.fail(want, &self.damaged(want))?;
            }
        }
        Ok(())
    }

    /// Serves wants whose pack is gone, from where their chunks are by now.
    fn serve_moved(&self, gone: PackId, wants: &[Want], receiver: &dyn Deliver) -> Result<()> {
        let mut moved = Plan::default();
        for want in wants {
            match self.look_up_again(want) {
                Ok((location, place, part)) => moved.want(&location, place, part, want.receiver, want.offset),
                Err(error) => receiver.fail(want, &error)?,
            }
        }
        let groups = moved.by_frame();
        let gone = self.gone.iter().copied().chain([gone]).collect();
        let mut worker = Worker::new(self.locator, &moved, gone)?;
        groups.iter().try_for_each(|group| worker.serve(group, receiver))
    }

    fn look_up_again(&self, want: &Want) -> Result<(Location, ChunkPlace, Range<u32>)> {
        let unplanned = || Error::Internal("a planned chunk is not in its pack's directory".to_owned());
        let (pack, _) = self.plan.packs.get(want.pack as usize).ok_or_else(unplanned)?;
        let (id, range) = self.place_of(want).ok_or_else(unplanned)?;
        self.locator.vanished(pack)?;
        let (location, place) = self.locator.locate(&id, range.len() as u64)?;
        let start = want.start.checked_sub(range.start as u32).ok_or_else(unplanned)?;
        Ok((location, place, start..start + want.length))
    }

    /// Reads and decodes a want's frame.
    fn decode(&mut self, want: &Want) -> Result<()> {
        let missing = || Error::Internal("a planned frame is not in its pack's directory".to_owned());
        let (pack, directory) = self.plan.packs.get(want.pack as usize).ok_or_else(missing)?;
        let frame = directory.frames.get(want.frame as usize).ok_or_else(missing)?;
        let read =
            |buffer: &mut Vec<u8>| read_stored(self.storage, pack, frame.offset, frame.stored_bytes as usize, buffer);
        self.reader.frame(pack, frame.offset, read)?;
        Ok(())
    }

    /// Whether the chunk of a want hashes to its id.
    fn is_good(&mut self, want: &Want) -> bool {
        if let Some(good) = self.checked.get(&want.chunk) {
            return *good;
        }
        let good = self
            .place_of(want)
            .is_some_and(|(id, range)| self.reader.raw().get(range).is_some_and(|bytes| is_chunk(&id, bytes)));
        self.checked.insert(want.chunk, good);
        good
    }

    fn place_of(&self, want: &Want) -> Option<(ChunkId, Range<usize>)> {
        let (_, directory) = self.plan.packs.get(want.pack as usize)?;
        let place = directory.place(want.chunk)?;
        let id = directory.chunks.get(want.chunk as usize)?.id;
        let start = place.start as usize;
        Some((id, start..start + place.length as usize))
    }

    fn damaged(&self, want: &Want) -> Error {
        let places = self.plan.packs.get(want.pack as usize).and_then(|(pack, directory)| {
            let frame = directory.frames.get(want.frame as usize)?;
            Some((pack, frame.offset, self.place_of(want)?.0))
        });
        match places {
            Some((pack, offset, id)) => self.reader.damaged(self.storage, pack, offset, &id),
            None => Error::Internal("a planned chunk is not in its pack's directory".to_owned()),
        }
    }
}
