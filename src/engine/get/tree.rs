//! How does a tree come out? Directories first, then bytes by frame, links, and the directories' metadata last.
//!
//! Entries are taken in windows, so that memory does not grow with the tree: within a window every frame is decoded
//! once. While one window is restored, the next is planned.

use std::collections::HashMap;

use crossbeam_channel::{Sender, bounded};

use super::resolve::Item;
use super::window::{Window, Workplace, is_out_of_space};
use super::{GetReport, Loss};
use crate::engine::layout::Layout;
use crate::error::{Error, Result, chain};
use crate::format::entry::{Content, Entry, EntryKind, EntryPath};
use crate::restore::Warnings;

/// What windows may be made of.
#[derive(Debug, Clone, Copy)]
pub(super) struct Limits {
    /// A window is full when it occupies this much memory. Two are in memory at once.
    pub(super) window_bytes: usize,
    /// At most this many files of a window can be open at once, because their chunks lie in several frames.
    pub(super) open_files: usize,
}

/// An entry, and where it goes.
pub(super) struct Placed {
    /// Its path, relative to the destination.
    pub(super) path: EntryPath,
    pub(super) item: Item,
}

/// What names of one file have in common.
#[derive(Debug, PartialEq, Eq, Hash)]
struct Linked {
    device: u64,
    inode: u64,
    kind: EntryKind,
    size: u64,
    content: Content,
    rdev: u64,
    target: Vec<u8>,
}

/// A restore in progress.
pub(super) struct TreeRestore<'a, 's> {
    place: Workplace<'a, 's>,
    limits: Limits,
    directories: Vec<(EntryPath, Entry)>,
    /// The first path of each file that has several: by device and inode, and by what makes it the same file, for
    /// somebody may have written a file between the reading of its names, or made the rows up.
    linked: HashMap<Linked, EntryPath>,
    links: Vec<(EntryPath, EntryPath)>,
    window: Window,
    report: GetReport,
}

impl<'a, 's> TreeRestore<'a, 's> {
    pub(super) fn new(place: Workplace<'a, 's>, limits: Limits) -> Self {
        Self {
            place,
            limits,
            directories: Vec::new(),
            linked: HashMap::new(),
            links: Vec::new(),
            window: Window::default(),
            report: GetReport::default(),
        }
    }

    /// Restores entries, whose paths are relative to the destination; a directory comes before what is in it.
    pub(super) fn run(mut self, entries: impl Iterator<Item = Result<Placed>>) -> Result<GetReport> {
        let place = self.place;
        let (windows, for_restore) = bounded::<Window>(0);
        let (planned, restored) = std::thread::scope(|scope| {
            let restoring = scope.spawn(move || {
                let mut report = GetReport::default();
                for window in for_restore {
                    report.merge(window.restore(place)?);
                }
                Ok(report)
            });
            let planned = self.plan(entries, &windows);
            drop(windows);
            let restored = restoring.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
            (planned, restored)
        });
        self.report.merge(restored?);
        planned?;
        if place.control.is_stopped() {
            return Err(self.interrupted());
        }
        for (first, path) in std::mem::take(&mut self.links) {
            let made = place.destination.make_hard_link(&first, &path);
            self.report.others += u64::from(made.is_ok());
            self.note_made(&path, made)?;
        }
        while let Some((path, entry)) = self.directories.pop() {
            match place.destination.finish_directory(&path, &entry) {
                Ok(warnings) => self.warn(warnings),
                Err(error) => self.report.warnings.push(chain(&error)),
            }
        }
        Ok(self.report)
    }

    /// Makes what has no bytes, and hands the rest on in windows.
    fn plan(&mut self, entries: impl Iterator<Item = Result<Placed>>, windows: &Sender<Window>) -> Result<()> {
        for next in entries {
            self.take(next?)?;
            let is_full =
                self.window.memory_bytes >= self.limits.window_bytes || self.window.scattered >= self.limits.open_files;
            // A window that nobody takes: the restore has failed, and says why itself.
            if self.place.control.is_stopped() || is_full && windows.send(std::mem::take(&mut self.window)).is_err() {
                return Ok(());
            }
        }
        let _ = windows.send(std::mem::take(&mut self.window));
        Ok(())
    }

    fn take(&mut self, placed: Placed) -> Result<()> {
        let Placed { path, item: Item { entry, member } } = placed;
        let first_name = (entry.kind != EntryKind::Directory && entry.identity.links > 1).then_some(Linked {
            device: entry.identity.device,
            inode: entry.identity.inode,
            kind: entry.kind,
            size: entry.size,
            content: entry.content,
            rdev: entry.rdev,
            target: entry.link_target.clone(),
        });
        if let Some(identity) = first_name {
            if let Some(first) = self.linked.get(&identity) {
                self.links.push((first.clone(), path));
                return Ok(());
            }
            self.linked.insert(identity, path.clone());
        }
        match entry.kind {
            EntryKind::Directory => {
                match self.place.destination.make_directory(&path) {
                    // Without the destination itself there is nothing to go on with.
                    Err(error) if path.is_root() => return Err(error),
                    Err(error) => return self.note_made(&path, Err(error)),
                    Ok(()) => {}
                }
                self.report.directories += 1;
                self.place.control.count(1, 0);
                self.directories.push((path, entry));
                Ok(())
            }
            EntryKind::File => self.take_file(path, entry, member),
            kind => {
                let made = if kind == EntryKind::Symlink {
                    self.place.destination.make_symlink(&path, &entry)
                } else {
                    self.place.destination.make_node(&path, &entry)
                };
                self.place.control.count(1, 0);
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

    fn take_file(&mut self, path: EntryPath, entry: Entry, member: Option<Result<Layout>>) -> Result<()> {
        let layout = match Item::layout(member, &entry, self.place.locator) {
            Ok(layout) => layout,
            Err(error) => return self.lose(path, &error),
        };
        let outcome = self.window.push(self.place.locator, path.clone(), entry, &layout);
        outcome.or_else(|error| self.lose(path, &error))
    }

    fn lose(&mut self, path: EntryPath, error: &Error) -> Result<()> {
        let damaged = !matches!(error, Error::Usage(_) | Error::NotInArchive(_));
        self.report.losses.push(Loss { path, what: chain(error), damaged });
        Ok(())
    }

    fn interrupted(&mut self) -> Error {
        let GetReport { files, bytes, .. } = self.report;
        Error::Interrupted { kept: format!("{files} files ({bytes} bytes) were restored whole and are kept") }
    }
}
