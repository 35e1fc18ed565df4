//! How does a tree come out? Directories first, then bytes by frame, links, and the directories' metadata last.
//!
//! Entries are taken in windows, so that memory does not grow with the tree: within a window every frame is decoded
//! once. While one window is restored, the next is planned.

use std::collections::HashMap;

use crossbeam_channel::{Sender, bounded};

use super::report::{GetReport, Loss};
use super::resolve::Item;
use super::window::{RestoreContext, Window, ends_restore, is_damage};
use crate::engine::read::layout::Layout;
use crate::error::{Error, Result, chain};
use crate::format::entry::{Content, Entry, EntryKind, EntryPath};
use crate::restore::Warnings;
use crate::spelling::quoted;

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
    /// Set if it would have been a hard link, and cannot be: which, and why not.
    pub(super) instead_of_link: Option<String>,
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
    place: RestoreContext<'a, 's>,
    limits: Limits,
    directories: Vec<(EntryPath, Entry)>,
    /// The first path of each file that has several: by device and inode, and by what makes it the same file, for
    /// somebody may have written a file between the reading of its names, or made the rows up.
    linked: HashMap<Linked, EntryPath>,
    links: Vec<Link>,
    /// The directories from the result down to the last entry that were made, the result itself left out.
    way: Vec<EntryPath>,
    /// A directory that could not be made: what is in it cannot either.
    blocked: Option<EntryPath>,
    window: Window,
    report: GetReport,
}

/// A further name of a file, and the file once more.
struct Link {
    first: EntryPath,
    placed: Placed,
}

impl<'a, 's> TreeRestore<'a, 's> {
    pub(super) fn new(place: RestoreContext<'a, 's>, limits: Limits) -> Self {
        Self {
            place,
            limits,
            directories: Vec::new(),
            linked: HashMap::new(),
            links: Vec::new(),
            way: Vec::new(),
            blocked: None,
            window: Window::default(),
            report: GetReport::default(),
        }
    }

    /// Restores entries, whose paths are relative to the destination; a directory comes before what is in it.
    pub(super) fn run(mut self, entries: impl Iterator<Item = Result<Placed>>) -> Result<GetReport> {
        let place = self.place;
        self.restore(entries)?;
        let alone = self.make_links()?;
        if !alone.is_empty() {
            self.restore(alone.into_iter().map(Ok))?;
        }
        while let Some((path, entry)) = self.directories.pop() {
            match place.destination.finish_directory(&path, &entry) {
                Ok(warnings) => self.warn(warnings),
                Err(error) => self.report.warnings.push(chain(&error)),
            }
        }
        let units = place.destination.rounded_times();
        self.report.notes.extend(units.into_iter().map(|unit| {
            format!("modification times were rounded: the file system they are on keeps them in units of {unit}")
        }));
        Ok(self.report)
    }

    fn restore(&mut self, entries: impl Iterator<Item = Result<Placed>>) -> Result<()> {
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
        if place.control.is_stopped() { Err(self.interrupted()) } else { Ok(()) }
    }

    /// Makes the further names of files. What cannot be a link is given back, to be restored as a file of its own: the
    /// file system has no links, or has them on this file no more, or the first name could not be restored.
    fn make_links(&mut self) -> Result<Vec<Placed>> {
        let lost: HashMap<EntryPath, bool> =
            self.report.losses.iter().map(|loss| (loss.path.clone(), loss.damaged)).collect();
        let mut alone = Vec::new();
        for Link { first, mut placed } in std::mem::take(&mut self.links) {
            if self.place.control.is_stopped() {
                return Err(self.interrupted());
            }
            let why = match lost.get(&first) {
                Some(true) => {
                    let what = format!("it is another name of {first:?}, whose stored data is damaged");
                    self.report.losses.push(Loss { path: placed.path, what, damaged: true });
                    continue;
                }
                Some(false) => format!("{first:?} was not restored"),
                None => match self.place.destination.make_hard_link(&first, &placed.path) {
                    Ok(()) => {
                        self.report.others += 1;
                        continue;
                    }
                    Err(error @ Error::Io { .. }) if !ends_restore(&error, self.place.destination, &placed.path) => {
                        chain(&error)
                    }
                    Err(error) => {
                        self.note_made(&placed.path, Err(error))?;
                        continue;
                    }
                },
            };
            // Not counted among names of one file again.
            placed.item.entry.identity.links = 1;
            placed.instead_of_link = Some(format!("a hard link to {first:?}: {why}"));
            alone.push(placed);
        }
        Ok(alone)
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
        if placed.instead_of_link.is_none() && !self.is_way_made(&placed.path)? {
            return Ok(());
        }
        let Placed { path, item: Item { entry, member }, instead_of_link } = placed;
        if let Some(link) = instead_of_link {
            let shown = self.place.destination.shown(&path);
            self.report.warnings.push(format!("{} is not {link}; it is restored as a file of its own", quoted(&shown)));
        }
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
                let item = Item { entry, member };
                let placed = Placed { path, item, instead_of_link: None };
                self.links.push(Link { first: first.clone(), placed });
                return Ok(());
            }
            self.linked.insert(identity, path.clone());
        }
        match entry.kind {
            EntryKind::Directory => {
                match self.place.destination.make_directory(&path) {
                    // Without the destination itself there is nothing to go on with.
                    Err(error) if path.is_root() => return Err(error),
                    Err(error) => {
                        self.blocked = Some(path.clone());
                        return self.note_made(&path, Err(error));
                    }
                    Ok(()) => {}
                }
                if !path.is_root() {
                    self.way.push(path.clone());
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

    /// Makes the directories on the way to an entry that have none of their own. `false` if one of them could not be made:
    /// then the entry is lost, and named.
    fn is_way_made(&mut self, path: &EntryPath) -> Result<bool> {
        if let Some(blocked) = self.blocked.take_if(|blocked| !path.is_within(blocked)) {
            drop(blocked);
        }
        if self.blocked.is_some() {
            self.lose_below(path.clone());
            return Ok(false);
        }
        while self.way.last().is_some_and(|last| !path.is_within(last)) {
            self.way.pop();
        }
        let bytes = path.as_bytes();
        let made = self.way.last().map_or(0, |last| last.as_bytes().len() + 1);
        let ends = bytes.iter().enumerate().skip(made).filter(|(_, byte)| **byte == b'/').map(|(end, _)| end);
        for end in ends {
            let Ok(above) = EntryPath::new(bytes.get(..end).unwrap_or_default()) else { break };
            if let Err(error) = self.place.destination.make_way(&above) {
                self.note_made(&above, Err(error))?;
                self.lose_below(path.clone());
                self.blocked = Some(above);
                return Ok(false);
            }
            self.way.push(above);
        }
        Ok(true)
    }

    fn lose_below(&mut self, path: EntryPath) {
        let what = "the directory it is in could not be restored".to_owned();
        self.report.losses.push(Loss { path, what, damaged: false });
    }

    /// An entry that cannot be made is a loss, unless the error ends the restore.
    fn note_made(&mut self, path: &EntryPath, made: Result<()>) -> Result<()> {
        match made {
            Err(error) if !ends_restore(&error, self.place.destination, path) => {
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
        let layout = match Item::layout(member, &entry, self.place.chunk_index) {
            Ok(layout) => layout,
            Err(error) => return self.lose(path, &error),
        };
        let outcome = self.window.push(self.place.chunk_index, path.clone(), entry, &layout);
        outcome.or_else(|error| self.lose(path, &error))
    }

    fn lose(&mut self, path: EntryPath, error: &Error) -> Result<()> {
        let damaged = is_damage(error);
        self.report.losses.push(Loss { path, what: chain(error), damaged });
        Ok(())
    }

    fn interrupted(&self) -> Error {
        let GetReport { files, bytes, .. } = self.report;
        Error::Interrupted { kept: format!("{files} files ({bytes} bytes) were restored whole and are kept") }
    }
}
