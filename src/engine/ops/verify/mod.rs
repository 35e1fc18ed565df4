//! Is everything in the store that it says is in it, and if not, which files of which snapshots have lost what?
//!
//! ```text
//! packs        headers, directories, trailers; every frame's bytes; every chunk's     (how far: [`Depth`])
//! catalog      every recipes file and snapshot against its name, every recipe against its id
//! condemned/   what an interrupted gc is yet to delete: the record against its name
//! references   every chunk that a recipe or a snapshot names, every recipe that a snapshot names
//! ```
//!
//! Invariants: the index has no say, because it is a cache that may be wrong; what is found whole can be had by `get`;
//! a chunk is lost only if no pack has it intact; nothing is written. Memory is bounded but for what is damaged: a
//! buffer for each thread, one directory or batch for each thread, and tables of chunks and recipes that are made in
//! parts where all would not fit ([`table`]).
//!
//! Objects that are removed while this runs, by a `gc` for example, are no damage. Snapshots are listed first, and what
//! they need was there before they were; if files seem lost and something that was listed has gone, all is looked at
//! again.

mod packs;
mod references;
mod table;
#[cfg(test)]
mod tests;

use std::sync::{Mutex, PoisonError};

use self::packs::PackFindings;
use crate::engine::Store;
use crate::engine::store::control::Control;
use crate::error::{Error, Result};
use crate::format::entry::EntryPath;
use crate::format::id::{PackId, RecipesFileId, SnapshotId};
use crate::format::name::{ObjectKind, ObjectName};
use crate::storage::bundle::BundleFlaw;
use crate::storage::coordination::read_pending_deletes;
use crate::storage::{Listed, Storage};

/// How many lost files are listed; the rest are counted.
pub const LOST_FILES_MAX: usize = 100_000;

/// How much of a store is read.
///
/// ```
/// # use seamstore::{Control, Store, entry::*, report::*, request::*};
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let store = Store::in_memory(Settings::default())?;
/// # let writer = store.writer(WriterOptions::default().threads(1))?;
/// # writer.add_bytes(writer.entry("notes/first.txt", EntryKind::File)?, b"found again".to_vec())?;
/// # let added = writer.finish()?;
/// # let control = Control::default();
/// let report = store.verify(&VerifyRequest::default().depth(Depth::Full), &control)?;
/// for damage in &report.damages {
///     eprintln!("{}: {}", damage.object.path(), damage.what);
/// }
/// for file in &report.lost {
///     eprintln!("{:?} of {} has lost {} bytes", file.path, file.snapshot, file.lost_bytes);
/// }
/// assert!(report.is_whole());
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
#[non_exhaustive]
pub enum Depth {
    /// Everything but frames: sizes, headers, directories with their checksums, recipes, snapshots, and that all that
    /// is named is there. Some 4 % of a store's bytes.
    Quick,
    /// Every byte, frames against the checksums that their packs' names stand for. Finds whatever disks do.
    #[default]
    Stored,
    /// Every chunk decoded and compared with its id. Finds what a faulty or hostile writer does, too.
    Full,
}

impl Depth {
    /// Its name in reports.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Quick => "quick",
            Self::Stored => "stored",
            Self::Full => "full",
        }
    }
}

/// What to verify, and how.
///
/// ```
/// # use seamstore::{Control, Store, entry::*, report::*, request::*};
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let store = Store::in_memory(Settings::default())?;
/// # let writer = store.writer(WriterOptions::default().threads(1))?;
/// # writer.add_bytes(writer.entry("notes/first.txt", EntryKind::File)?, b"found again".to_vec())?;
/// # let added = writer.finish()?;
/// # let control = Control::default();
/// let report = store.verify(&VerifyRequest::default().depth(Depth::Full), &control)?;
/// for damage in &report.damages {
///     eprintln!("{}: {}", damage.object.path(), damage.what);
/// }
/// for file in &report.lost {
///     eprintln!("{:?} of {} has lost {} bytes", file.path, file.snapshot, file.lost_bytes);
/// }
/// assert!(report.is_whole());
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, Copy)]
pub struct VerifyRequest {
    pub(crate) depth: Depth,
    pub(crate) threads: usize,
}

/// Every stored byte, with a thread for each processor.
impl Default for VerifyRequest {
    fn default() -> Self {
        Self { depth: Depth::default(), threads: crate::engine::store::processors() }
    }
}

impl VerifyRequest {
    /// How much is read.
    #[must_use]
    pub fn depth(mut self, depth: Depth) -> Self {
        self.depth = depth;
        self
    }

    /// Worker threads; at least 1.
    #[must_use]
    pub fn threads(mut self, threads: usize) -> Self {
        self.threads = threads;
        self
    }
}

/// A stretch of an object that is not what was written.
///
/// ```
/// # use seamstore::{Control, Store, entry::*, report::*, request::*};
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let store = Store::in_memory(Settings::default())?;
/// # let writer = store.writer(WriterOptions::default().threads(1))?;
/// # writer.add_bytes(writer.entry("notes/first.txt", EntryKind::File)?, b"found again".to_vec())?;
/// # let added = writer.finish()?;
/// # let control = Control::default();
/// let report = store.verify(&VerifyRequest::default().depth(Depth::Full), &control)?;
/// for damage in &report.damages {
///     eprintln!("{}: {}", damage.object.path(), damage.what);
/// }
/// for file in &report.lost {
///     eprintln!("{:?} of {} has lost {} bytes", file.path, file.snapshot, file.lost_bytes);
/// }
/// assert!(report.is_whole());
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Damage {
    /// Which object.
    pub object: ObjectName,
    /// Where in it, in bytes from its start; `None` where no place is to blame.
    pub offset: Option<u64>,
    /// How many bytes cannot be relied on from there; 0 where that is not known.
    pub bytes: u64,
    /// How many chunks are among them; 0 where that is not known.
    pub chunks: u64,
    /// What was expected and what was found.
    pub what: String,
}

impl Damage {
    /// Where the bytes end that cannot be relied on.
    fn end(&self) -> Option<u64> {
        self.offset.map(|offset| offset.saturating_add(self.bytes))
    }
}

/// A file that cannot be had whole.
///
/// ```
/// # use seamstore::{Control, Store, entry::*, report::*, request::*};
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let store = Store::in_memory(Settings::default())?;
/// # let writer = store.writer(WriterOptions::default().threads(1))?;
/// # writer.add_bytes(writer.entry("notes/first.txt", EntryKind::File)?, b"found again".to_vec())?;
/// # let added = writer.finish()?;
/// # let control = Control::default();
/// let report = store.verify(&VerifyRequest::default().depth(Depth::Full), &control)?;
/// for damage in &report.damages {
///     eprintln!("{}: {}", damage.object.path(), damage.what);
/// }
/// for file in &report.lost {
///     eprintln!("{:?} of {} has lost {} bytes", file.path, file.snapshot, file.lost_bytes);
/// }
/// assert!(report.is_whole());
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct LostFile {
    /// The snapshot.
    pub snapshot: SnapshotId,
    /// Its path there.
    pub path: EntryPath,
    /// Its bytes.
    pub size: u64,
    /// How many of them are lost.
    pub lost_bytes: u64,
    /// The damage to blame, by its place in [`VerifyReport::damages`]: the first, if there are several. `None` if what
    /// it needs is nowhere.
    pub damage: Option<usize>,
    /// What is lost.
    pub what: String,
}

/// What was looked at, and what was found.
///
/// ```
/// # use seamstore::{Control, Store, entry::*, report::*, request::*};
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let store = Store::in_memory(Settings::default())?;
/// # let writer = store.writer(WriterOptions::default().threads(1))?;
/// # writer.add_bytes(writer.entry("notes/first.txt", EntryKind::File)?, b"found again".to_vec())?;
/// # let added = writer.finish()?;
/// # let control = Control::default();
/// let report = store.verify(&VerifyRequest::default().depth(Depth::Full), &control)?;
/// for damage in &report.damages {
///     eprintln!("{}: {}", damage.object.path(), damage.what);
/// }
/// for file in &report.lost {
///     eprintln!("{:?} of {} has lost {} bytes", file.path, file.snapshot, file.lost_bytes);
/// }
/// assert!(report.is_whole());
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct VerifyReport {
    /// Packs looked at.
    pub packs: u64,
    /// Frames in them.
    pub frames: u64,
    /// Chunks in them.
    pub chunks: u64,
    /// Recipes files looked at.
    pub recipes_files: u64,
    /// Recipes in them that can be read.
    pub recipes: u64,
    /// Snapshots looked at.
    pub snapshots: u64,
    /// Files in them.
    pub files: u64,
    /// The bytes of these files.
    pub logical_bytes: u64,
    /// Bytes of objects that were read and compared with a hash.
    pub read_bytes: u64,
    /// What is damaged, by object and offset.
    pub damages: Vec<Damage>,
    /// Of a bundle: what else is damaged in its file, by offset.
    pub bundle_damages: Vec<BundleFlaw>,
    /// Files that cannot be had whole, by snapshot and path: at most 100,000 of them.
    pub lost: Vec<LostFile>,
    /// How many there are in all.
    pub lost_files: u64,
    /// How many bytes they have lost together.
    pub lost_bytes: u64,
    /// Snapshots that cannot be read: their files are not among the lost ones, because nobody knows them.
    pub lost_snapshots: Vec<SnapshotId>,
}

impl VerifyReport {
    /// Whether nothing is damaged and nothing is lost.
    #[must_use]
    pub fn is_whole(&self) -> bool {
        self.damages.is_empty() && self.bundle_damages.is_empty() && self.lost_files == 0
    }
}

impl Store {
    /// Looks for damage, and for what is lost by it.
    ///
    /// # Errors
    /// Damage is no error: see [`VerifyReport`]. [`Error::Interrupted`] if `control` was stopped; an I/O error if the
    /// store cannot be listed, or this process may not read it.
    pub fn verify(&self, request: &VerifyRequest, control: &Control) -> Result<VerifyReport> {
        let threads = rayon::ThreadPoolBuilder::new().num_threads(request.threads.max(1)).build();
        let threads = threads.map_err(|e| Error::io("start threads for", self.location(), std::io::Error::other(e)))?;
        threads.install(|| {
            let mut before = None;
            loop {
                let findings = find(self.storage(), request.depth, control)?;
                // Others removed what was being looked at: what seems lost may be needed by nobody, or be elsewhere.
                if findings.vanished && findings.report.lost_files > 0 {
                    let now = Some(self.object_names()?);
                    if now != before {
                        before = now;
                        continue;
                    }
                }
                let bundle = self.backend.as_bundle().map(|bundle| bundle.check(request.depth == Depth::Full));
                return Ok(VerifyReport { bundle_damages: bundle.transpose()?.unwrap_or_default(), ..findings.report });
            }
        })
    }

    /// How many objects and bytes a verification of this depth will read.
    ///
    /// # Errors
    /// The store cannot be listed.
    pub(crate) fn measure_verify(&self, depth: Depth) -> Result<(u64, u64)> {
        let listing = Listing::of(self.storage())?;
        let pack_bytes = if depth == Depth::Quick { 0 } else { listing.packs.iter().map(|(_, bytes)| *bytes).sum() };
        let catalog: u64 =
            listing.recipes.iter().map(|(_, b)| *b).chain(listing.snapshots.iter().map(|(_, b)| *b)).sum();
        let pending_deletes: u64 = listing.pending_deletes.iter().map(|record| record.bytes).sum();
        let objects =
            listing.packs.len() + listing.recipes.len() + listing.snapshots.len() + listing.pending_deletes.len();
        Ok((objects as u64, pack_bytes + catalog + pending_deletes))
    }
}

/// What is in a store, with sizes, each in the order of ids.
#[derive(Debug)]
struct Listing {
    snapshots: Vec<(SnapshotId, u64)>,
    recipes: Vec<(RecipesFileId, u64)>,
    packs: Vec<(PackId, u64)>,
    pending_deletes: Vec<Listed>,
}

impl Listing {
    /// Snapshots first: whatever they need was there before they were.
    fn of(storage: &dyn Storage) -> Result<Self> {
        let snapshots = Self::ids(storage, ObjectKind::Snapshot, ObjectName::snapshot)?;
        let recipes = Self::ids(storage, ObjectKind::Recipes, ObjectName::recipes)?;
        let packs = Self::ids(storage, ObjectKind::Pack, ObjectName::pack)?;
        let pending_deletes = storage.list(ObjectKind::PendingDeletes)?;
        Ok(Self { snapshots, recipes, packs, pending_deletes })
    }

    fn ids<T: Ord>(
        storage: &dyn Storage,
        kind: ObjectKind,
        id: impl Fn(ObjectName) -> Option<T>,
    ) -> Result<Vec<(T, u64)>> {
        let listed = storage.list(kind)?.into_iter();
        let mut ids: Vec<(T, u64)> = listed.filter_map(|object| Some((id(object.name)?, object.bytes))).collect();
        ids.sort_unstable();
        Ok(ids)
    }
}

/// What one look at everything gives.
struct Findings {
    report: VerifyReport,
    /// Something that was listed is no longer there.
    vanished: bool,
}

fn find(storage: &dyn Storage, depth: Depth, control: &Control) -> Result<Findings> {
    let listing = Listing::of(storage)?;
    let shared = Shared::new(control);
    let packs = packs::check(storage, &listing.packs, depth, &shared)?;
    let catalog = references::check_recipes_files(storage, &listing.recipes, &shared)?;
    let mut report = VerifyReport {
        packs: listing.packs.len() as u64,
        frames: packs.frames,
        chunks: packs.chunks,
        recipes_files: listing.recipes.len() as u64,
        snapshots: listing.snapshots.len() as u64,
        ..VerifyReport::default()
    };
    references::check(storage, &listing, &packs, catalog, &shared, &mut report)?;
    for listed in &listing.pending_deletes {
        if let Err(error) = read_pending_deletes(storage, listed) {
            report.damages.extend(shared.judge(listed.name, error));
        }
        shared.count(1, listed.bytes);
    }
    shared.end(())?;
    report.read_bytes = shared.read_bytes();
    let PackFindings { damages, .. } = packs;
    let catalog_damages = std::mem::replace(&mut report.damages, damages);
    report.damages.extend(catalog_damages);
    Ok(Findings { report, vanished: shared.has_vanished() })
}

/// What all threads share: whether to go on, and what went wrong.
struct Shared<'c> {
    control: &'c Control,
    state: Mutex<SharedState>,
}

#[derive(Default)]
struct SharedState {
    failure: Option<Error>,
    vanished: bool,
    read_bytes: u64,
}

impl<'c> Shared<'c> {
    fn new(control: &'c Control) -> Self {
        Self { control, state: Mutex::default() }
    }

    fn state(&self) -> std::sync::MutexGuard<'_, SharedState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether there is no point in going on.
    fn is_over(&self) -> bool {
        self.control.is_stopped() || self.state().failure.is_some()
    }

    /// Counts objects and bytes that were read and checked.
    fn count(&self, objects: u64, bytes: u64) {
        self.control.count(objects, bytes);
        self.state().read_bytes += bytes;
    }

    fn read_bytes(&self) -> u64 {
        self.state().read_bytes
    }

    fn has_vanished(&self) -> bool {
        self.state().vanished
    }

    /// What an error says of the object that was read: `None` if it is no damage but a reason to end, or the object is
    /// gone. Both are noted.
    fn judge(&self, object: ObjectName, error: Error) -> Option<Damage> {
        let plain = |what| Damage { object, offset: None, bytes: 0, chunks: 0, what };
        match error {
            Error::NotFound { .. } => {
                self.state().vanished = true;
                None
            }
            Error::Damaged { offset, what, .. } => Some(Damage { offset, ..plain(what) }),
            Error::FormatVersion { .. } | Error::Refused { .. } => Some(plain(error.to_string())),
            Error::Io { ref source, .. } if is_unreadable(source) => Some(plain(crate::error::chain(&error))),
            error => {
                self.state().failure.get_or_insert(error);
                None
            }
        }
    }

    /// The end of a phase.
    fn end<T>(&self, found: T) -> Result<T> {
        if let Some(failure) = self.state().failure.take() {
            return Err(failure);
        }
        if self.control.is_stopped() {
            return Err(Error::Interrupted {
                kept: "nothing was changed, and not everything was looked at".to_owned(),
            });
        }
        Ok(found)
    }
}

/// Whether it is the bytes that cannot be had, and not this process that may not or cannot read.
pub(in crate::engine) fn is_unreadable(error: &std::io::Error) -> bool {
    use rustix::io::Errno;
    let ours = [Errno::ACCESS, Errno::PERM, Errno::MFILE, Errno::NFILE, Errno::NOMEM, Errno::INTR];
    error.raw_os_error().is_none_or(|code| ours.iter().all(|errno| errno.raw_os_error() != code))
}
