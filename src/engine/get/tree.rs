//! How does a tree come out? Directories first, then bytes by frame, links, and the directories' metadata last.
//!
//! Entries are taken in windows, so that memory does not grow with the tree: within a window every frame is decoded
//! once. A file is given its metadata and closed when its last byte is written; a file that cannot be had whole is
//! removed and named, and the rest goes on.

use std::collections::HashMap;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use super::fetch::{Deliver, bytes_of, fetch};
use super::plan::{Plan, Want};
use super::{GetReport, Loss};
use crate::engine::control::Control;
use crate::engine::locate::Locator;
use crate::error::{Error, Result, chain};
use crate::format::entry::{Entry, EntryKind, EntryPath};
use crate::format::recipe::Piece;
use crate::restore::{Destination, FileTarget, Warnings};

/// A window is full with this many chunks: about 50 bytes of plan each.
const WINDOW_CHUNKS: usize = 1 << 20;
/// At most this many files of a window can be open at once, because their chunks lie in several frames.
const WINDOW_SCATTERED_FILES: usize = 400;
/// Space is set aside in advance for files from this size on.
const RESERVE_BYTES_MIN: u64 = 1 << 20;

/// A restore in progress.
pub(super) struct TreeRestore<'a, 's> {
    locator: &'a Locator<'s>,
    destination: Destination,
    control: &'a Control,
    threads: usize,
    directories: Vec<(EntryPath, Entry)>,
    /// The first path of each file that has several: by device and inode.
    linked: HashMap<(u64, u64), EntryPath>,
    links: Vec<(EntryPath, EntryPath)>,
    window: Window,
    report: GetReport,
}

#[derive(Default)]
struct Window {
    files: Vec<FileState>,
    plan: Plan,
    scattered: usize,
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
    /// The open file, between its first and its last want.
    target: Mutex<Option<FileTarget>>,
}

impl<'a, 's> TreeRestore<'a, 's> {
    pub(super) fn new(
        locator: &'a Locator<'s>,
        destination: Destination,
        control: &'a Control,
        threads: usize,
    ) -> Self {
        Self {
            locator,
            destination,
            control,
            threads,
            directories: Vec::new(),
            linked: HashMap::new(),
            links: Vec::new(),
            window: Window::default(),
            report: GetReport::default(),
        }
    }

    /// Restores entries, whose paths are relative to the destination; a directory comes before what is in it.
    pub(super) fn run(mut self, entries: impl Iterator<Item = Result<(EntryPath, Entry)>>) -> Result<GetReport> {
        for next in entries {
            let (path, entry) = next?;
            self.take(path, entry)?;
            if self.window.plan.wants.len() >= WINDOW_CHUNKS || self.window.scattered >= WINDOW_SCATTERED_FILES {
                self.flush()?;
            }
            if self.control.is_stopped() {
                return Err(self.interrupted());
            }
        }
        self.flush()?;
        if self.control.is_stopped() {
            return Err(self.interrupted());
        }
        for (first, path) in std::mem::take(&mut self.links) {
            let made = self.destination.make_hard_link(&first, &path);
            self.note_made(&path, made)?;
        }
        while let Some((path, entry)) = self.directories.pop() {
            match self.destination.finish_directory(&path, &entry) {
                Ok(warnings) => self.warn(warnings),
                Err(error) => self.report.warnings.push(chain(&error)),
            }
        }
        Ok(self.report)
    }

    fn take(&mut self, path: EntryPath, entry: Entry) -> Result<()> {
        let first_name = (entry.kind != EntryKind::Directory && entry.identity.links > 1)
            .then_some((entry.identity.device, entry.identity.inode));
        if let Some(identity) = first_name {
            if let Some(first) = self.linked.get(&identity) {
                self.links.push((first.clone(), path));
                self.report.others += 1;
                return Ok(());
            }
            self.linked.insert(identity, path.clone());
        }
        match entry.kind {
            EntryKind::Directory => {
                match self.destination.make_directory(&path) {
                    // Without the destination itself there is nothing to go on with.
                    Err(error) if path.is_root() => return Err(error),
                    Err(error) => return self.note_made(&path, Err(error)),
                    Ok(()) => {}
                }
                self.report.directories += 1;
                self.control.count(1, 0);
                self.directories.push((path, entry));
                Ok(())
            }
            EntryKind::File => self.take_file(path, entry),
            kind => {
                let made = if kind == EntryKind::Symlink {
                    self.destination.make_symlink(&path, &entry)
                } else {
                    self.destination.make_node(&path, &entry)
                };
                self.control.count(1, 0);
                match made {
                    Ok(warnings) => {
                        self.report.others += 1;
                        self.warn(warnings);
                        Ok(())
                    }
                    Err(error) => self.note_made(&path, Err(error)),
                }
            }
        }
    }

    /// An entry that cannot be made is a loss; a destination that is in the way, or full, ends the restore.
    fn note_made(&mut self, path: &EntryPath, made: Result<()>) -> Result<()> {
        match made {
            Err(error @ Error::Io { .. }) if !is_out_of_space(&error) => {
                self.report.losses.push(Loss { path: path.clone(), what: chain(&error), damaged: false });
                Ok(())
            }
            made => made,
        }
    }

    fn warn(&mut self, warnings: Warnings) {
        self.report.warnings.extend(warnings.iter().map(|warning| chain(warning)));
    }

    fn take_file(&mut self, path: EntryPath, entry: Entry) -> Result<()> {
        let pieces = match self.locator.pieces_of(&entry) {
            Ok(pieces) => pieces,
            Err(error) => return self.lose(path, &error),
        };
        let before = self.window.plan.wants.len();
        let receiver = self.window.files.len() as u32;
        if let Err(error) = plan_pieces(self.locator, &mut self.window.plan, &pieces, receiver) {
            self.window.plan.wants.truncate(before);
            return self.lose(path, &error);
        }
        let wants = self.window.plan.wants.get(before..).unwrap_or_default();
        let is_scattered = wants.windows(2).any(|w| match w {
            [a, b] => (a.pack, a.frame) != (b.pack, b.frame),
            _ => false,
        });
        self.window.scattered += usize::from(is_scattered);
        let state = FileState {
            path,
            holes: pieces.iter().any(Piece::is_hole),
            remaining: AtomicU32::new(wants.len() as u32),
            failed: AtomicBool::new(false),
            target: Mutex::new(None),
            entry,
        };
        if wants.is_empty() {
            let made = state.open(&self.destination);
            return match made.and_then(|target| self.destination.finish_file(target, &state.entry)) {
                Ok(warnings) => {
                    self.report.count_file(&state.entry);
                    self.control.count(1, state.entry.size);
                    self.warn(warnings);
                    Ok(())
                }
                Err(error) => self.note_made(&state.path, Err(error)),
            };
        }
        self.window.files.push(state);
        Ok(())
    }

    fn lose(&mut self, path: EntryPath, error: &Error) -> Result<()> {
        self.report.losses.push(Loss { path, what: chain(error), damaged: true });
        Ok(())
    }

    /// Fetches and writes everything in the window.
    fn flush(&mut self) -> Result<()> {
        let mut window = std::mem::take(&mut self.window);
        let writer = Writer {
            files: &window.files,
            destination: &self.destination,
            control: self.control,
            outcome: Mutex::default(),
        };
        let is_stopped = || self.control.is_stopped();
        let fetched = fetch(self.locator, &mut window.plan, self.threads, &is_stopped, &writer);
        let outcome = writer.outcome.into_inner().unwrap_or_else(PoisonError::into_inner);
        self.report.merge(outcome);
        for file in &window.files {
            // What is still open was not finished: an error or the user stopped the fetch.
            if let Some(target) = file.target.lock().unwrap_or_else(PoisonError::into_inner).take() {
                drop(target);
                self.destination.remove_partial(&file.path)?;
            }
        }
        fetched
    }

    fn interrupted(&mut self) -> Error {
        let GetReport { files, bytes, .. } = self.report;
        Error::Interrupted { kept: format!("{files} files ({bytes} bytes) were restored whole and are kept") }
    }
}

/// Plans to deliver all pieces of a file.
pub(super) fn plan_pieces(locator: &Locator<'_>, plan: &mut Plan, pieces: &[Piece], receiver: u32) -> Result<()> {
    let mut start = 0;
    for piece in pieces {
        if !piece.is_hole() {
            let (location, place) = locator.locate(&piece.id, piece.end - start)?;
            plan.want(&location, place, 0..place.length, receiver, start);
        }
        start = piece.end;
    }
    Ok(())
}

fn is_out_of_space(error: &Error) -> bool {
    matches!(error, Error::Io { source, .. }
        if matches!(source.kind(), std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded))
}

impl FileState {
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
            destination.remove_partial(&self.path)?;
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

    /// Writes wants of one file; chunks that are neighbours in the frame and in the file go out in one write.
    fn write(&self, open: &FileTarget, wants: &[Want], frame: &[u8]) -> Result<()> {
        let are_neighbours =
            |a: &Want, b: &Want| a.start + a.length == b.start && a.offset + u64::from(a.length) == b.offset;
        for run in wants.chunk_by(are_neighbours) {
            let (Some(first), Some(last)) = (run.first(), run.last()) else { continue };
            let joined = Want { length: last.start + last.length - first.start, ..*first };
            open.write_at(joined.offset, bytes_of(&joined, frame))?;
            self.control.count(0, u64::from(joined.length));
        }
        Ok(())
    }

    /// Serves some wants of one file: writes them, unless the file has failed; finishes the file with its last.
    fn serve(&self, file: &FileState, wants: &[Want], frame: Option<&[u8]>) -> Result<()> {
        let mut target = file.target.lock().unwrap_or_else(PoisonError::into_inner);
        if frame.is_none() {
            file.failed.store(true, Ordering::Relaxed);
        }
        if let (Some(frame), false) = (frame, file.failed.load(Ordering::Relaxed)) {
            let written = match &mut *target {
                Some(open) => self.write(open, wants, frame),
                None => match file.open(self.destination) {
                    Ok(open) => self.write(target.insert(open), wants, frame),
                    Err(error) => Err(error),
                },
            };
            match written {
                // This file cannot be had here; others may.
                Err(error @ Error::Io { .. }) if !is_out_of_space(&error) => {
                    file.failed.store(true, Ordering::Relaxed);
                    let loss = Loss { path: file.path.clone(), what: chain(&error), damaged: false };
                    self.note(|report| report.losses.push(loss));
                }
                written => written?,
            }
        }
        let left = file.remaining.fetch_sub(wants.len() as u32, Ordering::AcqRel) - wants.len() as u32;
        if left > 0 {
            return Ok(());
        }
        self.control.count(1, 0);
        match target.take() {
            Some(open) if file.failed.load(Ordering::Relaxed) => {
                drop(open);
                self.destination.remove_partial(&file.path)
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

impl Deliver for Writer<'_> {
    fn deliver(&self, wants: &[Want], frame: &[u8]) -> Result<()> {
        wants.chunk_by(|a, b| a.receiver == b.receiver).try_for_each(|wants| {
            let file = wants.first().and_then(|want| self.files.get(want.receiver as usize));
            file.map_or(Ok(()), |file| self.serve(file, wants, Some(frame)))
        })
    }

    fn fail(&self, want: &Want, why: &Error) -> Result<()> {
        let Some(file) = self.files.get(want.receiver as usize) else { return Ok(()) };
        if !file.failed.swap(true, Ordering::Relaxed) {
            let damaged = matches!(why, Error::Damaged { .. } | Error::NotFound { .. });
            self.note(|report| report.losses.push(Loss { path: file.path.clone(), what: chain(why), damaged }));
        }
        self.serve(file, std::slice::from_ref(want), None)
    }
}
