//! A damaged recipes file: recipes that hash to their ids become a new file, and it goes to the quarantine.

use super::retrying::RetryingStorage;
use crate::catalog::recipe::{RecipesFile, RecipesWriter};
use crate::error::{Error, Result};
use crate::format::id::RecipesFileId;
use crate::format::name::ObjectName;
use crate::storage::Storage;

/// What became of a damaged recipes file.
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
pub struct RepairedRecipes {
    /// The file.
    pub file: RecipesFileId,
    /// The file that has its recipes now; the same id if none was lost, `None` if all were.
    pub successor: Option<RecipesFileId>,
    /// How many recipes were saved.
    pub recipes: u64,
    /// What could not be read, and why.
    pub lost: Vec<String>,
}

/// Repairs a recipes file; says where the damaged one is now.
pub(super) fn repair(
    storage: &dyn Storage,
    file: RecipesFileId,
    dry_run: bool,
) -> Result<(RepairedRecipes, Option<String>)> {
    let mut writer = RecipesWriter::begin(storage.writer()?)?;
    let mut repaired = RepairedRecipes { file, successor: None, recipes: 0, lost: Vec::new() };
    let retrying = RetryingStorage(storage);
    match RecipesFile::open(&retrying, file) {
        Ok(old) => save(&old, &mut writer, &mut repaired.lost)?,
        Err(error) => lose(&mut repaired.lost, error)?,
    }
    repaired.recipes = writer.len() as u64;
    let name = ObjectName::Recipes(file);
    if dry_run {
        return Ok((repaired, None));
    }
    // Its name is known only when it is written, and may be that of the damaged one, which it then replaces.
    let aside = storage.set_aside(&name)?;
    repaired.successor = writer.finish(storage)?.map(|written| written.id);
    if repaired.successor != Some(file) {
        storage.delete(&name)?;
    }
    Ok((repaired, aside))
}

/// Takes over every recipe that can be read.
fn save(old: &RecipesFile<'_>, writer: &mut RecipesWriter, lost: &mut Vec<String>) -> Result<()> {
    for batch in 0..old.batch_count() {
        let recipes = match old.batch(batch) {
            Ok(recipes) => recipes,
            Err(error) => {
                lose(lost, error)?;
                continue;
            }
        };
        for row in 0..recipes.count() {
            match recipes.recipe(row) {
                Ok((id, pieces)) => writer.push(id, &pieces)?,
                Err(error) => lose(lost, error)?,
            }
        }
    }
    Ok(())
}

/// Notes what cannot be read because it is damaged; any other reason ends the repair.
fn lose(lost: &mut Vec<String>, error: Error) -> Result<()> {
    match error {
        Error::Damaged { offset: Some(offset), what, .. } => lost.push(format!("at byte {offset}: {what}")),
        Error::Damaged { offset: None, what, .. } => lost.push(what),
        Error::FormatVersion { .. } => lost.push(error.to_string()),
        Error::Io { ref source, .. } if crate::engine::ops::verify::is_unreadable(source) => {
            lost.push(crate::error::chain(&error));
        }
        error => return Err(error),
    }
    Ok(())
}
