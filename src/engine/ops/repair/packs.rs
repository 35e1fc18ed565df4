//! A damaged pack: its intact frames become a new pack, and it goes to the quarantine.

use super::retrying::RetryingStorage;
use crate::error::{Error, Result};
use crate::format::id::PackId;
use crate::format::name::ObjectName;
use crate::pack::{Lost, PackWriter, salvage};
use crate::storage::Storage;

/// What became of a damaged pack.
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
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct RepairedPack {
    /// The pack.
    pub pack: PackId,
    /// The pack that has its intact frames now; the same id if none was lost, `None` if all were.
    pub successor: Option<PackId>,
    /// How many frames were saved.
    pub frames: u64,
    /// How many chunks were.
    pub chunks: u64,
    /// The stretches of it that hold nothing intact.
    pub lost: Vec<Lost>,
    /// How many chunks were lost; `None` if its directory was.
    pub lost_chunks: Option<u64>,
}

/// Repairs a pack; says where the damaged one is now. A dry run reads all the same.
pub(super) fn repair(storage: &dyn Storage, pack: PackId, dry_run: bool) -> Result<(RepairedPack, Option<String>)> {
    let name = ObjectName::Pack(pack);
    if let Err(Error::Damaged { .. }) = storage.size(&name) {
        // Records list it, and it is not there.
        if !dry_run {
            storage.delete(&name)?;
        }
        let (lost, lost_chunks) = (Vec::new(), None);
        return Ok((RepairedPack { pack, successor: None, frames: 0, chunks: 0, lost, lost_chunks }, None));
    }
    let mut writer = if dry_run { None } else { Some(PackWriter::begin(storage)?) };
    let found = salvage(&RetryingStorage(storage), pack, &mut |frame| match &mut writer {
        Some(writer) => writer.push_frame(frame.encoded, frame.ids, frame.lengths),
        None => Ok(()),
    })?;
    let writer = writer.filter(|writer| !writer.is_empty());
    let repaired = RepairedPack {
        pack,
        successor: writer.as_ref().map(PackWriter::id),
        frames: found.frames,
        chunks: found.chunks,
        lost: found.lost,
        lost_chunks: found.lost_chunks.map(|chunks| chunks.len() as u64),
    };
    if dry_run {
        return Ok((repaired, None));
    }
    let aside = if repaired.successor == Some(pack) {
        // It can only be kept before it is replaced.
        let aside = storage.set_aside(&name)?;
        writer.map(PackWriter::replace).transpose()?;
        aside
    } else {
        writer.map(PackWriter::replace).transpose()?;
        let aside = storage.set_aside(&name)?;
        storage.delete(&name)?;
        aside
    };
    Ok((repaired, aside))
}
