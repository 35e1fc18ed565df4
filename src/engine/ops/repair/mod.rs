//! What can be saved of a damaged store, and how does what is lost come back?
//!
//! ```text
//! verify       which objects are damaged
//! packs        intact frames go into a new pack       then the damaged one goes to the quarantine
//! recipes      recipes that can be read, likewise
//! snapshots    rows that can be read, likewise, marked as unproved unless they make the same file again
//! store.json   if one byte was changed, its checksum tells which       ([`Store::mend_config`])
//! index        made again: it claims no chunk any more that is lost
//! verify       which files still lose bytes
//! ```
//!
//! After it nothing that is in the store is damaged, but something may be missing. As no pack claims the missing chunks
//! any more, adding the original files again stores them, and every snapshot that needs them is whole again.
//!
//! Invariants: what was saved is durable before what it was saved from loses its name, and that keeps its bytes in
//! `quarantine/` until the user deletes them; where both have the same name (only the end of a pack was damaged, say),
//! one takes the place of the other in one step. So an interruption at any moment costs nothing, and repairing again
//! goes on; what the one before did is made durable first, for what it mended is not looked at again.

mod config;
mod packs;
mod recipes;
mod retrying;
mod snapshots;
#[cfg(test)]
mod tests;

use std::collections::BTreeSet;

pub use self::packs::RepairedPack;
pub use self::recipes::RepairedRecipes;
pub use self::snapshots::RepairedSnapshot;
use crate::engine::ops::verify::{Damage, Depth, LostFile, VerifyRequest};
use crate::engine::store::control::Control;
use crate::engine::{RebuiltIndex, Store};
use crate::error::{Error, Result};
use crate::format::id::SnapshotId;
use crate::format::name::ObjectName;
use crate::storage::Storage;

/// How to repair.
///
/// ```
/// # use seamstore::{Control, Store, entry::*, report::*, request::*};
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let store = Store::in_memory(Settings::default())?;
/// # let writer = store.writer(WriterOptions::default().threads(1))?;
/// # writer.add_bytes(writer.entry("notes/first.txt", EntryKind::File)?, b"found again".to_vec())?;
/// # let added = writer.finish()?;
/// # let control = Control::default();
/// let report = store.repair(&RepairRequest::default().dry_run(true), &control)?;
/// for pack in &report.packs {
///     eprintln!("{}: {} chunks are intact", pack.pack, pack.chunks);
/// }
/// assert!(report.is_whole() && report.recipes.is_empty() && report.snapshots.is_empty());
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, Copy)]
pub struct RepairRequest {
    pub(crate) depth: Depth,
    pub(crate) dry_run: bool,
    pub(crate) threads: usize,
}

/// Damage of every kind that reading each stored byte finds, with a thread for each processor.
impl Default for RepairRequest {
    fn default() -> Self {
        let VerifyRequest { depth, threads } = VerifyRequest::default();
        Self { depth, dry_run: false, threads }
    }
}

impl RepairRequest {
    /// How damage is looked for. [`Depth::Quick`] does not see damaged frames.
    #[must_use]
    pub fn depth(mut self, depth: Depth) -> Self {
        self.depth = depth;
        self
    }

    /// Change nothing, say what would be done.
    #[must_use]
    pub fn dry_run(mut self, dry_run: bool) -> Self {
        self.dry_run = dry_run;
        self
    }

    /// Worker threads of verifying; at least 1.
    #[must_use]
    pub fn threads(mut self, threads: usize) -> Self {
        self.threads = threads;
        self
    }
}

/// What was done.
///
/// ```
/// # use seamstore::{Control, Store, entry::*, report::*, request::*};
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let store = Store::in_memory(Settings::default())?;
/// # let writer = store.writer(WriterOptions::default().threads(1))?;
/// # writer.add_bytes(writer.entry("notes/first.txt", EntryKind::File)?, b"found again".to_vec())?;
/// # let added = writer.finish()?;
/// # let control = Control::default();
/// let report = store.repair(&RepairRequest::default().dry_run(true), &control)?;
/// for pack in &report.packs {
///     eprintln!("{}: {} chunks are intact", pack.pack, pack.chunks);
/// }
/// assert!(report.is_whole() && report.recipes.is_empty() && report.snapshots.is_empty());
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Default)]
#[non_exhaustive]
pub struct RepairReport {
    /// What was damaged.
    pub damages: Vec<Damage>,
    /// Packs that were made anew.
    pub packs: Vec<RepairedPack>,
    /// Recipes files that were made anew.
    pub recipes: Vec<RepairedRecipes>,
    /// Snapshots that were made anew, or dropped.
    pub snapshots: Vec<RepairedSnapshot>,
    /// Where the damaged objects are now, below the store's location.
    pub quarantined: Vec<String>,
    /// The index that was made; `None` if nothing was changed.
    pub index: Option<RebuiltIndex>,
    /// Files that lose bytes even so, some of them.
    pub lost: Vec<LostFile>,
    /// How many there are.
    pub lost_files: u64,
    /// How many bytes they lose.
    pub lost_bytes: u64,
}

impl RepairReport {
    /// Whether every file of every snapshot that was there can be had whole.
    #[must_use]
    pub fn is_whole(&self) -> bool {
        self.lost_files == 0
            && self.snapshots.iter().all(RepairedSnapshot::is_whole)
            && self.index.as_ref().is_none_or(|index| index.unreadable.is_empty())
    }
}

impl Store {
    /// Saves what can be saved of what is damaged, moves the rest away, and makes the index again.
    ///
    /// # Errors
    /// The store cannot be read or written: what was done so far is as good as finished, and can be gone on with.
    /// [`Error::Interrupted`] likewise. [`Error::Locked`] while a gc is at work.
    pub fn repair(&self, request: &RepairRequest, control: &Control) -> Result<RepairReport> {
        self.check_writable()?;
        // No gc meanwhile, which might count on a pack that is moved away.
        let session = if request.dry_run { None } else { Some(self.coordination().begin_repair()?) };
        let verify = VerifyRequest { depth: request.depth, threads: request.threads };
        let before = self.verify(&verify, control)?;
        let mut report = RepairReport { damages: before.damages, ..RepairReport::default() };
        let objects: BTreeSet<ObjectName> = report.damages.iter().map(|damage| damage.object).collect();
        let Some(session) = session else {
            objects.into_iter().try_for_each(|name| repair_object(self.storage(), name, true, control, &mut report))?;
            (report.lost, report.lost_files, report.lost_bytes) = (before.lost, before.lost_files, before.lost_bytes);
            return Ok(report);
        };
        self.sweep();
        let storage = session.storage();
        let repaired =
            objects.into_iter().try_for_each(|name| repair_object(storage, name, false, control, &mut report));
        // What was done so far stays, also if something went wrong then.
        let made: Vec<SnapshotId> = report.snapshots.iter().filter_map(|snapshot| snapshot.successor).collect();
        session.commit(&made)?;
        repaired?;
        report.index = Some(self.rebuild_index()?);
        // Every frame was either intact a moment ago or written anew.
        let after = self.verify(&VerifyRequest { depth: Depth::Quick, ..verify }, control)?;
        (report.lost, report.lost_files, report.lost_bytes) = (after.lost, after.lost_files, after.lost_bytes);
        // What could be read a moment ago and cannot be now: it is named, and left for the next repair.
        let before = report.damages.len();
        report.lost.iter_mut().filter_map(|file| file.damage.as_mut()).for_each(|damage| *damage += before);
        report.damages.extend(after.damages);
        Ok(report)
    }
}

fn repair_object(
    storage: &dyn Storage,
    name: ObjectName,
    dry_run: bool,
    control: &Control,
    report: &mut RepairReport,
) -> Result<()> {
    if control.is_stopped() {
        let kept = format!("{} damaged objects were dealt with; the rest is as it was", report.quarantined.len());
        return Err(Error::Interrupted { kept });
    }
    match name {
        ObjectName::Pack(pack) => {
            let (repaired, aside) = packs::repair(storage, pack, dry_run)?;
            report.packs.push(repaired);
            report.quarantined.extend(aside);
        }
        ObjectName::Recipes(file) => {
            let (repaired, aside) = recipes::repair(storage, file, dry_run)?;
            report.recipes.push(repaired);
            report.quarantined.extend(aside);
        }
        ObjectName::Snapshot(id) => {
            let (repaired, aside) = snapshots::repair(storage, id, dry_run)?;
            report.snapshots.push(repaired);
            report.quarantined.extend(aside);
        }
        // What it announced stays, until the next gc announces it again.
        ObjectName::PendingDeletes(_) if !dry_run => {
            report.quarantined.extend(storage.set_aside(&name)?);
            storage.delete(&name)?;
        }
        // A store whose configuration is damaged is not open.
        _ => {}
    }
    Ok(())
}
