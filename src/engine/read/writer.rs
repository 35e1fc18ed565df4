//! How do the bytes of a window's files get in place? In whole blocks, by one thread at a time for each file.
//!
//! Bytes of a block that come early wait in the frames they came in, or as copies, until the block is complete
//! ([`super::schedule`]); then they are written in one call for each stretch without a hole. The thread that completes a
//! block writes it, unless another is just writing to that file: that one takes it over, and this one goes on with the next
//! frame.

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use super::fetch::{FrameSink, bytes_of};
use super::frame::FrameBytes;
use super::plan::ReadSegment;
use super::report::{GetReport, Loss};
use super::schedule::{Block, Schedule};
use super::window::{FileState, ends_restore, is_damage};
use crate::engine::store::control::Control;
use crate::error::{Error, Result, chain};
use crate::restore::{Destination, FileTarget};

/// How many complete blocks of a file wait for the thread that writes to it, before others wait for it too.
const QUEUE_MAX: usize = 4;

/// Bytes that go to one place in a file.
#[derive(Debug)]
struct Piece {
    offset: u64,
    bytes: Arc<FrameBytes>,
    /// Where in the frame they begin, and how many there are.
    start: u32,
    length: u32,
}

impl Piece {
    fn bytes(&self) -> &[u8] {
        self.bytes.get(self.start as usize..self.start as usize + self.length as usize).unwrap_or_default()
    }

    fn end(&self) -> u64 {
        self.offset + u64::from(self.length)
    }
}

/// A block whose bytes come.
#[derive(Debug)]
pub(super) struct Waiting {
    pieces: Vec<Piece>,
    /// Segments that are yet to come.
    remaining: u32,
}

/// What is to be written to a file, and whether it is the last of a block.
#[derive(Debug)]
struct Batch {
    pieces: Vec<Piece>,
    ends_block: bool,
}

/// Lets one thread at a time write to a file.
#[derive(Debug, Default)]
pub(super) struct Gate {
    state: Mutex<GateState>,
    /// A batch of the queue was taken.
    taken: Condvar,
}

#[derive(Debug, Default)]
struct GateState {
    /// The open file, between its first and its last block, while nobody writes to it.
    target: Option<FileTarget>,
    is_writing: bool,
    queue: VecDeque<Batch>,
}

impl Gate {
    fn lock(&self) -> MutexGuard<'_, GateState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The file, if it is open.
    pub(super) fn take(&self) -> Option<FileTarget> {
        self.lock().target.take()
    }
}

/// Writes what a fetch delivers.
pub(super) struct FileWriter<'a> {
    files: &'a [FileState],
    schedule: &'a Schedule,
    waiting: Vec<Mutex<Waiting>>,
    destination: &'a Destination,
    control: &'a Control,
    outcome: Mutex<GetReport>,
}

impl<'a> FileWriter<'a> {
    pub(super) fn new(
        files: &'a [FileState],
        schedule: &'a Schedule,
        destination: &'a Destination,
        control: &'a Control,
    ) -> Self {
        let waiting = |block: &Block| Mutex::new(Waiting { pieces: Vec::new(), remaining: block.segments });
        let waiting = schedule.blocks.iter().map(waiting).collect();
        Self { files, schedule, waiting, destination, control, outcome: Mutex::default() }
    }

    pub(super) fn into_report(self) -> GetReport {
        self.outcome.into_inner().unwrap_or_else(PoisonError::into_inner)
    }

    fn note(&self, change: impl FnOnce(&mut GetReport)) {
        change(&mut self.outcome.lock().unwrap_or_else(PoisonError::into_inner));
    }

    /// Takes segments of one block; `None` of a frame that could not be read.
    fn take(&self, segments: &[ReadSegment], frame: Option<&Arc<FrameBytes>>, copies: &mut Copies) -> Result<()> {
        let Some(first) = segments.first() else { return Ok(()) };
        let number = first.destination as usize;
        let (Some(block), Some(waiting)) = (self.schedule.blocks.get(number), self.waiting.get(number)) else {
            return Ok(());
        };
        let Some(file) = self.files.get(block.file as usize) else { return Ok(()) };
        let mut waiting = waiting.lock().unwrap_or_else(PoisonError::into_inner);
        waiting.remaining -= (segments.len() as u32).min(waiting.remaining);
        let ends_block = waiting.remaining == 0;
        if let (Some(frame), false) = (frame, file.failed.load(Ordering::Relaxed)) {
            let is_copied = !ends_block && self.schedule.is_copied(block, first.frame);
            match is_copied {
                true => copies.pieces(segments, frame, &mut waiting.pieces),
                false => keep_pieces(segments, frame, &mut waiting.pieces),
            }
        }
        if !ends_block && block.due.is_some() {
            return Ok(());
        }
        let pieces = std::mem::take(&mut waiting.pieces);
        drop(waiting);
        let batch = Batch { pieces, ends_block };
        match &file.gate {
            Some(gate) => self.write_or_queue(file, gate, batch),
            // Nobody else has anything of it.
            None => self.write_only(file, batch),
        }
    }

    /// Makes a file of one block.
    fn write_only(&self, file: &FileState, mut batch: Batch) -> Result<()> {
        let mut target = None;
        let written = self.write(file, &mut target, &mut batch);
        if written.is_err() {
            if target.take().is_some() {
                // Why it could not be written matters more.
                let _ = self.destination.remove_partial(&file.path);
            }
            return written;
        }
        self.end_block(file, target)
    }

    /// Writes a batch, and what others queue meanwhile; or leaves it to the thread that is writing to the file.
    fn write_or_queue(&self, file: &FileState, gate: &Gate, batch: Batch) -> Result<()> {
        let mut state = gate.lock();
        while state.is_writing && state.queue.len() >= QUEUE_MAX {
            state = gate.taken.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        state.queue.push_back(batch);
        if state.is_writing {
            return Ok(());
        }
        state.is_writing = true;
        let mut target = state.target.take();
        while let Some(mut batch) = state.queue.pop_front() {
            drop(state);
            gate.taken.notify_all();
            let written = self.write(file, &mut target, &mut batch);
            let ended = written.and_then(|()| {
                let is_last = batch.ends_block && file.remaining.load(Ordering::Relaxed) == 1;
                match batch.ends_block {
                    true => self.end_block(file, if is_last { target.take() } else { None }),
                    false => Ok(()),
                }
            });
            state = gate.lock();
            if let Err(error) = ended {
                // The fetch ends: what is queued is not written.
                state.queue.clear();
                (state.target, state.is_writing) = (target, false);
                drop(state);
                gate.taken.notify_all();
                return Err(error);
            }
        }
        (state.target, state.is_writing) = (target, false);
        Ok(())
    }

    /// Writes pieces, unless the file has failed. Opens it if it is not open.
    fn write(&self, file: &FileState, target: &mut Option<FileTarget>, batch: &mut Batch) -> Result<()> {
        let has_all = !file.failed.load(Ordering::Relaxed);
        if !has_all || batch.pieces.is_empty() && !batch.ends_block {
            return Ok(());
        }
        let opened = match target {
            Some(open) => Ok(open),
            None => file.open(self.destination).map(|open| target.insert(open)),
        };
        match opened.and_then(|open| self.write_pieces(open, &mut batch.pieces)) {
            // This file cannot be restored here; others may.
            Err(error) if !ends_restore(&error, self.destination, &file.path) => {
                file.failed.store(true, Ordering::Relaxed);
                let loss = Loss { path: file.path.clone(), what: chain(&error), damaged: false };
                self.note(|report| report.losses.push(loss));
                Ok(())
            }
            written => written,
        }
    }

    /// Writes pieces, each stretch that they make at once.
    fn write_pieces(&self, open: &FileTarget, pieces: &mut [Piece]) -> Result<()> {
        pieces.sort_unstable_by_key(|piece| piece.offset);
        for stretch in pieces.chunk_by(|a, b| a.end() == b.offset) {
            let (Some(first), Some(last)) = (stretch.first(), stretch.last()) else { continue };
            match stretch {
                [only] => open.write_at(only.offset, only.bytes())?,
                _ => {
                    let parts: Vec<&[u8]> = stretch.iter().map(Piece::bytes).collect();
                    open.write_all_at(first.offset, &parts)?;
                }
            }
            self.control.count(0, last.end() - first.offset);
        }
        Ok(())
    }

    /// A block is done; with the last one the file is finished, or removed if it is not whole. `target` is then the file.
    fn end_block(&self, file: &FileState, target: Option<FileTarget>) -> Result<()> {
        if file.remaining.fetch_sub(1, Ordering::AcqRel) > 1 {
            return Ok(());
        }
        self.control.count(1, 0);
        match target {
            Some(open) if file.failed.load(Ordering::Relaxed) => {
                drop(open);
                match self.destination.remove_partial(&file.path) {
                    Err(error) if !ends_restore(&error, self.destination, &file.path) => {
                        self.note(|report| report.warnings.push(chain(&error)));
                        Ok(())
                    }
                    removed => removed,
                }
            }
            Some(open) => {
                let warnings = self.destination.finish_file(open, &file.entry)?;
                self.note(|report| {
                    report.count_file(&file.entry);
                    report.warnings.extend(warnings.iter().map(|warning| chain(warning)));
                });
                Ok(())
            }
            None => Ok(()),
        }
    }

    /// Makes a file of nothing but holes: it has nothing to wait for.
    pub(super) fn make_empty(&self, file: &FileState) -> Result<()> {
        self.write_only(file, Batch { pieces: Vec::new(), ends_block: true })
    }
}

impl FrameSink for FileWriter<'_> {
    fn deliver(&self, segments: &[ReadSegment], frame: &Arc<FrameBytes>) -> Result<()> {
        let mut copies = Copies::default();
        let mut blocks = segments.chunk_by(|a, b| a.destination == b.destination);
        blocks.try_for_each(|block| self.take(block, Some(frame), &mut copies))
    }

    fn fail(&self, segment: &ReadSegment, why: &Error) -> Result<()> {
        let block = self.schedule.blocks.get(segment.destination as usize);
        let Some(file) = block.and_then(|block| self.files.get(block.file as usize)) else { return Ok(()) };
        if !file.failed.swap(true, Ordering::Relaxed) {
            let damaged = is_damage(why);
            self.note(|report| report.losses.push(Loss { path: file.path.clone(), what: chain(why), damaged }));
        }
        self.take(std::slice::from_ref(segment), None, &mut Copies::default())
    }
}

/// Keeps the frame for the parts of it that are wanted; parts that are neighbours in it and in the file are one piece.
fn keep_pieces(segments: &[ReadSegment], frame: &Arc<FrameBytes>, pieces: &mut Vec<Piece>) {
    for stretch in segments.chunk_by(ReadSegment::is_followed_by) {
        let (Some(first), Some(last)) = (stretch.first(), stretch.last()) else { continue };
        let (start, length) = (first.part().start as u32, (last.end() - first.offset) as u32);
        pieces.push(Piece { offset: first.offset, bytes: Arc::clone(frame), start, length });
    }
}

/// Copies of this many bytes or more are shared by all who want the same.
const SHARED_BYTES_MIN: u32 = 4 << 10;

/// What was copied of a frame, by where it begins there and how many bytes there are.
#[derive(Debug, Default)]
struct Copies(HashMap<(usize, u32), Arc<FrameBytes>>);

impl Copies {
    /// Keeps copies of the parts that are wanted.
    fn pieces(&mut self, segments: &[ReadSegment], frame: &FrameBytes, pieces: &mut Vec<Piece>) {
        let (large, small): (Vec<ReadSegment>, Vec<ReadSegment>) =
            segments.iter().partition(|segment| segment.part_bytes >= SHARED_BYTES_MIN);
        for segment in large {
            let copy = self.0.entry((segment.part().start, segment.part_bytes));
            let copy = copy.or_insert_with(|| Arc::new(FrameBytes::of(bytes_of(&segment, frame).to_vec())));
            let (offset, length) = (segment.offset, segment.part_bytes);
            pieces.push(Piece { offset, bytes: Arc::clone(copy), start: 0, length });
        }
        let mut bytes = Vec::with_capacity(small.iter().map(|segment| segment.part_bytes as usize).sum());
        small.iter().for_each(|segment| bytes.extend_from_slice(bytes_of(segment, frame)));
        let bytes = Arc::new(FrameBytes::of(bytes));
        let mut start = 0;
        for segment in small {
            let (offset, length) = (segment.offset, segment.part_bytes);
            pieces.push(Piece { offset, bytes: Arc::clone(&bytes), start, length });
            start += length;
        }
    }
}
