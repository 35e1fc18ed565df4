//! How does a snapshot go? It alone is deleted, durably: what only it reached is freed by the next [`Store::gc`].
//!
//! Invariant 3, its order: first the snapshot, then recipes, then packs. An add that has the snapshot for its parent is
//! not harmed: its lease keeps what the snapshot reached (see [`crate::engine::ops::gc`]).

use std::collections::BTreeSet;

use crate::engine::Store;
use crate::engine::ops::gc::{GcReport, GcRequest};
use crate::engine::store::control::Control;
use crate::error::Result;
use crate::format::id::SnapshotId;
use crate::format::name::ObjectName;

/// What `rm` did, or in a dry run would do.
///
/// ```
/// # use seamstore::{Control, Store, entry::*, report::*, request::*};
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let store = Store::in_memory(Settings::default())?;
/// # let writer = store.writer(WriterOptions::default().threads(1))?;
/// # writer.add_bytes(writer.entry("notes/first.txt", EntryKind::File)?, b"found again".to_vec())?;
/// # let added = writer.finish()?;
/// # let control = Control::default();
/// let id = store.snapshots()?[0].id;
/// assert_eq!(store.remove(&[id.to_hex()])?.snapshots.len(), 1);
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Default)]
#[non_exhaustive]
pub struct RmReport {
    /// The snapshots that were removed.
    pub snapshots: BTreeSet<SnapshotId>,
    /// Bytes of the snapshots' own files.
    pub bytes: u64,
    /// In a dry run: what the next gc would free.
    pub gc: Option<GcReport>,
}

impl Store {
    /// Removes the snapshots whose ids begin with these digits; all of them, or if one is not there, none.
    ///
    /// # Errors
    /// [`crate::Error::NotFound`] or [`crate::Error::Usage`] for digits that no or several ids begin with; the storage's.
    pub fn remove(&self, prefixes: &[String]) -> Result<RmReport> {
        self.check_writable()?;
        let report = self.removal(prefixes)?;
        self.coordination().remove(&report.snapshots.iter().copied().collect::<Vec<_>>())?;
        Ok(report)
    }

    /// What [`Store::remove`] would do, and what a gc after it would free.
    ///
    /// # Errors
    /// As [`Store::remove`] and [`Store::gc`].
    pub(crate) fn rehearse_remove(&self, prefixes: &[String], max_waste: f64, control: &Control) -> Result<RmReport> {
        let report = self.removal(prefixes)?;
        let without = report.snapshots.clone();
        let request = GcRequest { dry_run: true, max_waste, no_wait: true, without };
        let gc = self.gc(&request, control, &|_| {})?;
        Ok(RmReport { gc: Some(gc), ..report })
    }

    fn removal(&self, prefixes: &[String]) -> Result<RmReport> {
        let mut report = RmReport::default();
        for prefix in prefixes {
            let id = self.snapshot_by_prefix(prefix)?;
            if report.snapshots.insert(id) {
                report.bytes += self.storage().size(&ObjectName::Snapshot(id))?;
            }
        }
        Ok(report)
    }
}
