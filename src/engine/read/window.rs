//! What is restored in one go? Some files, their frames decoded once and their bytes written as the frames come.
//!
//! A file is given its metadata and closed when its last byte is written; a file that cannot be had whole is removed and
//! named, and the rest goes on.

use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Mutex, PoisonError, RwLock};

use super::fetch::{FrameSink, bytes_of, fetch};
use super::get::{GetReport, Loss};
use super::plan::{Plan, ReadSegment};
use crate::engine::chunk_index::ChunkIndex;
use crate::engine::control::Control;
use crate::engine::read::layout::Layout;
use crate::error::{Error, Result, chain};
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
}

/// A file of a window.
struct FileState {
    path: EntryPath,
    entry: Entry,
    /// Whether it has holes, so that space is not set aside and the length is set.
    holes: bool,
    /// Wants not served yet.
    remaining: AtomicU32,
    failed: AtomicBool,
    /// The open file, between its first and its last segment. Several threads write to it at once.
    target: RwLock<Option<FileTarget>>,
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
        entry: Entry,
        layout: &Layout,
    ) -> Result<()> {
        let before = self.plan.segments.len();
        let destination = self.files.len() as u32;
        if let Err(error) = plan_parts(chunk_index, &mut self.plan, layout, destination) {
            self.plan.segments.truncate(before);
            return Err(error);
        }
        let segments = self.plan.segments.get(before..).unwrap_or_default();
        let is_scattered = segments.windows(2).any(|w| match w {
            [a, b] => (a.pack, a.frame) != (b.pack, b.frame),
            _ => false,
        });
        self.scattered += usize::from(is_scattered);
        let held = size_of::<FileState>() + entry.path.as_bytes().len() + path.as_bytes().len();
        self.memory_bytes += held + size_of_val(segments);
        self.files.push(FileState {
            path,
            holes: layout.has_holes(),
            remaining: AtomicU32::new(segments.len() as u32),
            failed: AtomicBool::new(false),
            target: RwLock::new(None),
            entry,
        });
        Ok(())
    }

    /// Fetches and writes everything in the window.
    pub(super) fn restore(mut self, place: RestoreContext<'_, '_>) -> Result<GetReport> {
        let RestoreContext { chunk_index, destination, control, threads } = place;
        let writer = Writer { files: &self.files, destination, control, outcome: Mutex::default() };
        // Those of nothing but holes have nothing to wait for.
        let mut empty = self.files.iter().filter(|file| file.remaining.load(Ordering::Relaxed) == 0);
        let made = empty.try_for_each(|file| writer.serve(file, &[], Some(&[])));
        let mut fetched =
            made.and_then(|()| fetch(chunk_index, &mut self.plan, threads, &|| control.is_stopped(), &writer));
        let report = writer.outcome.into_inner().unwrap_or_else(PoisonError::into_inner);
        for file in &self.files {
            // What is still open was not finished: an error or the user stopped the fetch.
            if let Some(target) = file.target.write().unwrap_or_else(PoisonError::into_inner).take() {
                drop(target);
                let removed = destination.remove_partial(&file.path);
                // Why the fetch ended matters more.
                fetched = fetched.and(removed);
            }
        }
        fetched.map(|()| report)
    }
}

/// Plans to deliver all parts of a file.
fn plan_parts(chunk_index: &ChunkIndex<'_>, plan: &mut Plan, layout: &Layout, destination: u32) -> Result<()> {
    let mut parts = layout.parts(0..layout.bytes());
    parts.try_for_each(|part| plan.want_part(chunk_index, &part, destination, part.offset))
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

impl FileState {
    /// Opens the file, unless it is open.
    fn open_once(&self, destination: &Destination) -> Result<()> {
        if self.target.read().unwrap_or_else(PoisonError::into_inner).is_some() {
            return Ok(());
        }
        let mut target = self.target.write().unwrap_or_else(PoisonError::into_inner);
        if target.is_none() {
            *target = Some(self.open(destination)?);
        }
        Ok(())
    }

    fn open(&self, destination: &Destination) -> Result<FileTarget> {
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

/// Writes what the fetch delivers.
struct Writer<'a> {
    files: &'a [FileState],
    destination: &'a Destination,
    control: &'a Control,
    outcome: Mutex<GetReport>,
}

impl Writer<'_> {
    fn note(&self, change: impl FnOnce(&mut GetReport)) {
        change(&mut self.outcome.lock().unwrap_or_else(PoisonError::into_inner));
    }

    /// Writes segments of one file; chunks that are neighbours in the frame and in the file go out in one write.
    fn write(&self, open: &FileTarget, segments: &[ReadSegment], frame: &[u8]) -> Result<()> {
        for run in segments.chunk_by(ReadSegment::is_followed_by) {
            let Some(joined) = ReadSegment::joined(run) else { continue };
            open.write_at(joined.offset, bytes_of(&joined, frame))?;
            self.control.count(0, u64::from(joined.length));
        }
        Ok(())
    }

    /// Serves some segments of one file: writes them, unless the file has failed; finishes the file with its last.
    fn serve(&self, file: &FileState, segments: &[ReadSegment], frame: Option<&[u8]>) -> Result<()> {
        if frame.is_none() {
            file.failed.store(true, Ordering::Relaxed);
        }
        if let (Some(frame), false) = (frame, file.failed.load(Ordering::Relaxed)) {
            let written = file.open_once(self.destination).and_then(|()| {
                let target = file.target.read().unwrap_or_else(PoisonError::into_inner);
                target.as_ref().map_or(Ok(()), |open| self.write(open, segments, frame))
            });
            match written {
                // This file cannot be restored here; others may.
                Err(error) if !ends_restore(&error, self.destination, &file.path) => {
                    // Named once, though several threads meet it.
                    if !file.failed.swap(true, Ordering::Relaxed) {
                        let loss = Loss { path: file.path.clone(), what: chain(&error), damaged: false };
                        self.note(|report| report.losses.push(loss));
                    }
                }
                written => written?,
            }
        }
        let left = file.remaining.fetch_sub(segments.len() as u32, Ordering::AcqRel) - segments.len() as u32;
        if left > 0 {
            return Ok(());
        }
        self.control.count(1, 0);
        // Whoever else wrote to it has counted that before.
        let target = file.target.write().unwrap_or_else(PoisonError::into_inner).take();
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
}

impl FrameSink for Writer<'_> {
    fn deliver(&self, segments: &[ReadSegment], frame: &[u8]) -> Result<()> {
        segments.chunk_by(|a, b| a.destination == b.destination).try_for_each(|segments| {
            let file = segments.first().and_then(|segment| self.files.get(segment.destination as usize));
            file.map_or(Ok(()), |file| self.serve(file, segments, Some(frame)))
        })
    }

    fn fail(&self, segment: &ReadSegment, why: &Error) -> Result<()> {
        let Some(file) = self.files.get(segment.destination as usize) else { return Ok(()) };
        if !file.failed.swap(true, Ordering::Relaxed) {
            let damaged = is_damage(why);
            self.note(|report| report.losses.push(Loss { path: file.path.clone(), what: chain(why), damaged }));
        }
        self.serve(file, std::slice::from_ref(segment), None)
    }
}
