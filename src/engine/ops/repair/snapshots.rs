//! A damaged snapshot: if its rows, written again, make the file that its name stands for, it is whole; else what can be
//! read of it becomes a snapshot that is marked so. The damaged file goes to the quarantine.

use super::retrying::RetryingStorage;
use crate::catalog::snapshot::{SalvagedRows, SnapshotInfo, SnapshotWriter, read_info};
use crate::engine::ops::verify::is_unreadable;
use crate::error::{Error, Result};
use crate::format::entry::Entry;
use crate::format::id::SnapshotId;
use crate::format::name::ObjectName;
use crate::storage::Storage;

/// The word that a snapshot is marked with if its rows could be read but not proved.
pub(super) const SALVAGED_TAG: &str = "salvaged";

/// What became of a damaged snapshot.
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
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct RepairedSnapshot {
    /// Which.
    pub id: SnapshotId,
    /// The snapshot that has its rows now; the same id if all of them are proved, `None` if nothing could be read.
    pub successor: Option<SnapshotId>,
    /// How many rows could be read.
    pub rows: u64,
    /// What it says of itself, if that can be read.
    pub info: Option<SnapshotInfo>,
}

impl RepairedSnapshot {
    /// Whether it is what it was.
    #[must_use]
    pub fn is_whole(&self) -> bool {
        self.successor == Some(self.id)
    }

    /// How many rows could not be read, if it tells how many there were.
    #[must_use]
    pub fn lost_rows(&self) -> Option<u64> {
        self.info.as_ref().map(|info| info.counts.entries.saturating_sub(self.rows))
    }
}

/// Repairs a snapshot; says where the damaged one is now. A dry run reads all the same.
pub(super) fn repair(
    storage: &dyn Storage,
    id: SnapshotId,
    dry_run: bool,
) -> Result<(RepairedSnapshot, Option<String>)> {
    let name = ObjectName::Snapshot(id);
    let mut repaired = RepairedSnapshot { id, successor: None, rows: 0, info: None };
    let retrying = RetryingStorage(storage);
    let rows = match SalvagedRows::open(&retrying, id) {
        Ok(rows) => rows,
        Err(error) if is_damage(&error) => {
            repaired.info = read_info(&retrying, id).ok();
            let aside = if dry_run { None } else { storage.set_aside(&name)? };
            if !dry_run {
                storage.delete(&name)?;
            }
            return Ok((repaired, aside));
        }
        Err(error) => return Err(error),
    };
    repaired.info = Some(rows.info().clone());
    repaired.rows = rows.for_each(&mut |_| Ok(()))?;
    if rows.id()? == id {
        repaired.successor = Some(id);
        if dry_run {
            return Ok((repaired, None));
        }
        let aside = storage.set_aside(&name)?;
        let mut writer = rows.begin(storage.writer()?)?;
        rows.for_each(&mut |entry| push(&mut writer, entry))?;
        writer.replace(rows.info().clone())?;
        return Ok((repaired, aside));
    }
    if dry_run {
        return Ok((repaired, None));
    }
    if repaired.rows > 0 {
        let mut writer = rows.begin(storage.writer()?)?;
        rows.for_each(&mut |entry| {
            let mut entry = entry.clone();
            // So that no add takes an unproved row over as that of an unchanged file.
            entry.identity.ctime_ns = 0;
            push(&mut writer, &entry)
        })?;
        let mut info = rows.info().clone();
        info.tags.push(SALVAGED_TAG.to_owned());
        info.skipped = info.skipped.saturating_add(repaired.lost_rows().unwrap_or_default());
        repaired.successor = Some(writer.finish(info)?.id);
    }
    let aside = storage.set_aside(&name)?;
    storage.delete(&name)?;
    Ok((repaired, aside))
}

/// Appends a row, unless no snapshot can have it.
fn push(writer: &mut SnapshotWriter, entry: &Entry) -> Result<()> {
    match writer.push(entry) {
        Err(Error::Refused { .. }) => Ok(()),
        pushed => pushed,
    }
}

fn is_damage(error: &Error) -> bool {
    match error {
        Error::Damaged { .. } | Error::FormatVersion { .. } => true,
        Error::Io { source, .. } => is_unreadable(source),
        _ => false,
    }
}
