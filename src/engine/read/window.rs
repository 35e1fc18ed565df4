//! What is restored in one go? Some files, their frames decoded once and their bytes written block by block.
//!
//! A file is given its metadata and closed when its last byte is written; a file that cannot be had whole is removed and
//! named, and the rest goes on.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU32};

use super::fetch::fetch_groups;
use super::layout::{ChunkPart, Layout};
use super::plan::Plan;
use super::report::GetReport;
use super::schedule::{BLOCK_BYTES, Block, Bounds, Schedule};
use super::turns::Turns;
use super::writer::{FileWriter, Gate, Waiting};
use crate::engine::store::chunk_index::ChunkIndex;
use crate::engine::store::control::Control;
use crate::error::{Error, Result};
use crate::format::entry::{Entry, EntryPath};
use crate::restore::{Destination, FileTarget};

/// Space is set aside in advance for files from this size on.
const RESERVE_BYTES_MIN: u64 = 1 << 20;

/// Files to restore, and what of which frame goes into them.
#[derive(Default)]
pub(super) struct Window {
    files: Vec<FileState>,
    plan: Plan,
    /// How many of the files have their chunks in several frames, and so may be open at once.
    pub(super) scattered: usize,
    /// What the window occupies in memory, about.
    pub(super) memory_bytes: usize,
}

/// Where windows are restored to, and with what.
#[derive(Clone, Copy)]
pub(super) struct RestoreContext<'a, 's> {
    pub(super) chunk_index: &'a ChunkIndex<'s>,
    pub(super) destination: &'a Destination,
    pub(super) control: &'a Control,
    pub(super) threads: usize,
    /// What may wait in memory for other frames.
    pub(super) bounds: Bounds,
}

/// A file of a window.
pub(super) struct FileState {
    pub(super) path: EntryPath,
    pub(super) entry: Entry,
    /// Whether it has holes, so that space is not set aside and the length is set.
    holes: bool,
    /// How many blocks it has, and how many of them are not done.
    pub(super) blocks: u32,
    pub(super) remaining: AtomicU32,
    pub(super) failed: AtomicBool,
    /// Set if several threads may have something for it.
    pub(super) gate: Option<Box<Gate>>,
}

impl Window {
    /// Plans to restore a file that lies so.
    ///
    /// # Errors
    /// A chunk is not to be found; the window is then as it was.
    pub(super) fn push(
        &mut self,
        chunk_index: &ChunkIndex<'_>,
        path: EntryPath,
        mut entry: Entry,
        layout: &Layout,
    ) -> Result<()> {
        let before = self.plan.segments.len();
        let destination = self.files.len() as u32;
        let mut parts = layout.parts(0..layout.bytes()).flat_map(in_blocks);
        if let Err(error) = parts.try_for_each(|part| self.plan.want_part(chunk_index, &part, destination, part.offset))
        {
            self.plan.segments.truncate(before);
            return Err(error);
        }
        let segments = self.plan.segments.get(before..).unwrap_or_default();
        let is_scattered = segments.windows(2).any(|w| matches!(w, [a, b] if a.frame != b.frame));
        self.scattered += usize::from(is_scattered);
        // Where it was is of no use any more.
        entry.path = EntryPath::default();
        self.memory_bytes += size_of::<FileState>() + path.as_bytes().len() + size_of_val(segments) + BLOCK_STATE_BYTES;
        self.files.push(FileState {
            path,
            holes: layout.has_holes(),
            blocks: 0,
            remaining: AtomicU32::new(0),
            failed: AtomicBool::new(false),
            gate: None,
            entry,
        });
        Ok(())
    }

    /// Fetches and writes everything in the window.
    pub(super) fn restore(mut self, context: RestoreContext<'_, '_>) -> Result<GetReport> {
        let RestoreContext { chunk_index, destination, control, threads, bounds } = context;
        let Plan { numbers, segments, .. } = &mut self.plan;
        let schedule = Schedule::new(segments, &numbers.frames, bounds);
        for block in &schedule.blocks {
            if let Some(file) = self.files.get_mut(block.file as usize) {
                file.blocks += 1;
                if file.blocks > 1 || block.due.is_none() {
                    file.gate.get_or_insert_default();
                }
            }
        }
        self.files.iter_mut().for_each(|file| file.remaining = AtomicU32::new(file.blocks.max(1)));
        let groups = self.plan.by_frame(|frame| schedule.position(frame));
        let runs = schedule.turns(&self.plan.segments, &groups, Turns::length(groups.len(), threads));
        let turns = Turns::new(runs, threads);
        let writer = FileWriter::new(&self.files, &schedule, destination, control);
        let made = self.files.iter().filter(|file| file.blocks == 0).try_for_each(|file| writer.make_empty(file));
        let is_stopped = || control.is_stopped();
        let mut fetched =
            made.and_then(|()| fetch_groups(chunk_index, &self.plan, &groups, &turns, threads, &is_stopped, &writer));
        let report = writer.into_report();
        for file in &self.files {
            // What is still open was not finished: an error or the user stopped the fetch.
            if let Some(target) = file.gate.as_ref().and_then(|gate| gate.take()) {
                drop(target);
                let removed = destination.remove_partial(&file.path);
                // Why the fetch ended matters more.
                fetched = fetched.and(removed);
            }
        }
        fetched.map(|()| report)
    }
}

/// What a block takes in memory, about, beside its segments.
const BLOCK_STATE_BYTES: usize = size_of::<Block>() + size_of::<Mutex<Waiting>>();

/// A part of a file, in parts that lie in one block each.
fn in_blocks(part: ChunkPart) -> impl Iterator<Item = ChunkPart> {
    let mut rest = Some(part);
    std::iter::from_fn(move || {
        let part = rest.take()?;
        let room = BLOCK_BYTES - part.offset % BLOCK_BYTES;
        if u64::from(part.within.end - part.within.start) <= room {
            return Some(part);
        }
        // Less than the part has, which is a u32.
        let middle = part.within.start + room as u32;
        rest = Some(ChunkPart { within: middle..part.within.end, offset: part.offset + room, ..part.clone() });
        Some(ChunkPart { within: part.within.start..middle, ..part })
    })
}

impl FileState {
    /// Makes the file.
    pub(super) fn open(&self, destination: &Destination) -> Result<FileTarget> {
        let target = destination.make_file(&self.path)?;
        let prepared = if self.holes {
            target.set_len(self.entry.size)
        } else if self.entry.size >= RESERVE_BYTES_MIN {
            target.reserve(self.entry.size)
        } else {
            Ok(())
        };
        if let Err(error) = prepared {
            drop(target);
            // Why it could not be prepared matters more.
            let _ = destination.remove_partial(&self.path);
            return Err(error);
        }
        Ok(target)
    }
}

/// Whether bytes cannot be restored because the store has lost them.
pub(super) fn is_damage(why: &Error) -> bool {
    !matches!(
        why,
        Error::Io { .. }
            | Error::Usage(_)
            | Error::Internal(_)
            | Error::Exists { .. }
            | Error::InTheWay { .. }
            | Error::NotKept { .. }
            | Error::NotInArchive(_)
            | Error::Index { .. }
            | Error::Locked { .. }
            | Error::Removed { .. }
            | Error::Interrupted { .. }
    )
}

/// Whether an error at one path ends the whole restore: it is the result itself that cannot be made, or nothing more can
/// be written, because the disk is full or the destination is gone. Anything else costs that path only.
pub(super) fn ends_restore(error: &Error, destination: &Destination, path: &EntryPath) -> bool {
    use std::io::ErrorKind::{QuotaExceeded, StorageFull};
    if path.is_root() {
        return true;
    }
    match error {
        Error::Io { source, .. } => matches!(source.kind(), StorageFull | QuotaExceeded) || destination.is_lost(),
        Error::Exists { .. } | Error::InTheWay { .. } | Error::Refused { .. } => false,
        _ => true,
    }
}
