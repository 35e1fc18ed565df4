//! What did the add do? Counts for the summary, and by name all that is not in the snapshot as it should be.

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Serialize;

use crate::engine::UnreadableSnapshot;
use crate::error::Error;
use crate::format::entry::{Entry, EntryKind};
use crate::format::id::SnapshotId;
use crate::ingest::{Changed, Notice, WalkedEntry, has_vanished};

/// Something that an add could not keep as it is.
///
/// ```
/// # use seamstore::{Control, Store, entry::*, report::*, request::*};
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let store = Store::in_memory(Settings::default())?;
/// # let writer = store.writer(WriterOptions::default().threads(1))?;
/// # writer.add_bytes(writer.entry("notes/first.txt", EntryKind::File)?, b"found again".to_vec())?;
/// # let added = writer.finish()?;
/// # let control = Control::default();
/// // `added` is what `Writer::finish` or `Store::add` returned.
/// assert_eq!((added.totals.files, added.totals.new_bytes), (1, 11));
/// assert!(added.snapshot.is_some() && added.clock.is_none());
/// for problem in &added.problems {
///     eprintln!("{} {}", problem.path.display(), problem.sentence());
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Problem {
    /// Where it is on disk.
    pub path: PathBuf,
    /// What happened, in words.
    pub what: String,
    /// Whether it is in the snapshot all the same, as it was read.
    pub kept: bool,
    /// Whether nothing is lost by it, so that it is a note.
    is_note: bool,
}

impl Problem {
    /// What happened and what became of it, to follow the path.
    #[must_use]
    pub fn sentence(&self) -> String {
        if self.kept || self.is_note { self.what.clone() } else { format!("was left out: {}", self.what) }
    }

    pub(super) fn skipped(path: &Path, error: &Error) -> Self {
        Self { path: path.to_owned(), what: crate::error::chain(error), kept: false, is_note: false }
    }

    /// An entry that the walk found and that could not be read. If it is not there any more, that is no loss, unless it
    /// was given by name.
    pub(super) fn unread(found: &WalkedEntry, error: &Error) -> Self {
        if has_vanished(error) && !found.is_root() {
            return Self::noted(&found.disk, Notice::Vanished);
        }
        Self::skipped(&found.disk, error)
    }

    pub(super) fn noted(path: &Path, notice: Notice) -> Self {
        let (what, kept) = match notice {
            Notice::Vanished => ("was removed after it was listed and before it was read", false),
            Notice::ListedTwice => ("is listed more than once by its directory; kept once", true),
        };
        Self { path: path.to_owned(), what: what.to_owned(), kept, is_note: true }
    }

    pub(super) fn incomplete(path: &Path, error: &Error) -> Self {
        Self::kept(path, crate::error::chain(error))
    }

    /// Something about a file that is kept all the same.
    pub(super) fn kept(path: &Path, what: String) -> Self {
        Self { path: path.to_owned(), what, kept: true, is_note: false }
    }

    /// Parts what was met into notes, each once, and problems.
    pub(super) fn part(met: Vec<Self>) -> (Vec<Self>, Vec<Self>) {
        let (mut notes, problems): (Vec<_>, Vec<_>) = met.into_iter().partition(|problem| problem.is_note);
        // A directory that vanished is noted by the walk and by the worker that completes its row.
        notes.dedup();
        (notes, problems)
    }

    pub(super) fn changed(path: &Path, change: Changed) -> Self {
        let what = match change {
            Changed::Grew => "grew while it was read; kept as far as it was read",
            Changed::Shrank => "shrank while it was read; kept as far as it could be read",
            Changed::Modified => "was modified while it was read; kept as it was read",
            Changed::EndsEarly => "ends before the size that its file system states; kept as far as it could be read",
            Changed::HasMore => "has more bytes than its file system states; kept as far as it was read",
        };
        Self::kept(path, what.to_owned())
    }
}

/// What an add did.
///
/// ```
/// # use seamstore::{Control, Store, entry::*, report::*, request::*};
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let store = Store::in_memory(Settings::default())?;
/// # let writer = store.writer(WriterOptions::default().threads(1))?;
/// # writer.add_bytes(writer.entry("notes/first.txt", EntryKind::File)?, b"found again".to_vec())?;
/// # let added = writer.finish()?;
/// # let control = Control::default();
/// // `added` is what `Writer::finish` or `Store::add` returned.
/// assert_eq!((added.totals.files, added.totals.new_bytes), (1, 11));
/// assert!(added.snapshot.is_some() && added.clock.is_none());
/// for problem in &added.problems {
///     eprintln!("{} {}", problem.path.display(), problem.sentence());
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub struct AddReport {
    /// The new snapshot.
    pub snapshot: Option<SnapshotId>,
    /// The figures.
    pub totals: AddTotals,
    /// How long it took.
    pub duration: Duration,
    /// What is missing from the snapshot, or in it with a reservation.
    pub problems: Vec<Problem>,
    /// What else was met, and costs the snapshot nothing: entries that were removed before they were read.
    pub notes: Vec<Problem>,
    /// Set if a snapshot lies in the future: its clock was ahead, or this one is behind.
    pub clock: Option<ClockBehind>,
    /// Snapshots that cannot be read and were not considered as the parent.
    pub unreadable: Vec<UnreadableSnapshot>,
}

/// A snapshot that is later than the clock.
///
/// ```
/// # use seamstore::{Control, Store, entry::*, report::*, request::*};
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let store = Store::in_memory(Settings::default())?;
/// # let writer = store.writer(WriterOptions::default().threads(1))?;
/// # writer.add_bytes(writer.entry("notes/first.txt", EntryKind::File)?, b"found again".to_vec())?;
/// # let added = writer.finish()?;
/// # let control = Control::default();
/// // `added` is what `Writer::finish` or `Store::add` returned.
/// assert_eq!((added.totals.files, added.totals.new_bytes), (1, 11));
/// assert!(added.snapshot.is_some() && added.clock.is_none());
/// for problem in &added.problems {
///     eprintln!("{} {}", problem.path.display(), problem.sentence());
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct ClockBehind {
    /// The snapshot, of several the latest.
    pub snapshot: SnapshotId,
    /// When it says that it was made.
    pub time_ns: i64,
}

impl AddTotals {
    pub(super) fn count(&mut self, entry: &Entry) {
        match entry.kind {
            EntryKind::File => self.files += 1,
            EntryKind::Directory => self.directories += 1,
            _ => self.others += 1,
        }
        self.logical_bytes = self.logical_bytes.saturating_add(entry.size);
    }
}

/// Counts of one add.
///
/// ```
/// # use seamstore::{Control, Store, entry::*, report::*, request::*};
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let store = Store::in_memory(Settings::default())?;
/// # let writer = store.writer(WriterOptions::default().threads(1))?;
/// # writer.add_bytes(writer.entry("notes/first.txt", EntryKind::File)?, b"found again".to_vec())?;
/// # let added = writer.finish()?;
/// # let control = Control::default();
/// // `added` is what `Writer::finish` or `Store::add` returned.
/// assert_eq!((added.totals.files, added.totals.new_bytes), (1, 11));
/// assert!(added.snapshot.is_some() && added.clock.is_none());
/// for problem in &added.problems {
///     eprintln!("{} {}", problem.path.display(), problem.sentence());
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct AddTotals {
    /// Regular files in the snapshot.
    pub files: u64,
    /// Directories in the snapshot.
    pub directories: u64,
    /// Entries of other kinds.
    pub others: u64,
    /// Files taken over from the parent snapshot without reading them.
    pub unchanged_files: u64,
    /// Bytes of all files in the snapshot.
    pub logical_bytes: u64,
    /// Bytes of chunks that the store did not have.
    pub new_bytes: u64,
    /// Chunks that the store did not have.
    pub new_chunks: u64,
    /// Bytes that the store grew by: packs and catalog.
    pub stored_bytes: u64,
}
