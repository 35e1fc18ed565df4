//! In which order does an add become durable? This module is the order, and why it loses nothing.
//!
//! ```text
//! 1  packs       each: bytes synced, named, its directory synced      `packer`, one at a time, as they fill
//! 2  chunks      packs that others made and this add relies on:       [`chunks`]
//!                their directories synced
//! 3  recipes     the same as for a pack; the directory synced also    [`recipes`]
//!                where a recipe of another add is relied on
//! 4  snapshot    the same as for a pack; then the session commits:    [`snapshot`]
//!                in a folder the snapshot's name is the commit
//! ```
//!
//! Each step takes what the step before gives and nothing else gives, so no other order compiles.
//!
//! What is used of the disk (the storage of a folder keeps it): bytes that were synced stay; a name in a directory that
//! was synced stays; a name never shows bytes that were not synced first, because a file is synced before it is named and
//! never written to afterwards. Directories between the root and an object are synced, parent first, before the object
//! is named. A sync that fails ends the add: no later one is trusted in its place (invariant 9).
//!
//! *Invariant 1: what a recipe names is durable.* A chunk that a recipe of this add names was either new, then it is in
//! a pack of step 1; or it was found, then its pack was visible. Visible is not durable: the add that made it may have
//! been killed between the name and the sync of the directory, or be between the two now. Step 2 syncs that directory.
//! Step 3 begins after both. A crash before it leaves packs that nothing names: the next add finds and uses them
//! (invariant 7).
//!
//! *Invariant 2: what a snapshot names is durable.* A content is one chunk (as above), or a recipe: new, then step 3
//! wrote it; or found, then step 3 synced its name, and its chunks were looked up all the same when its file was read.
//! Or its row was taken from the parent without reading the file: then a snapshot was visible that names it, and that
//! snapshot was named only after its own steps 1 to 3. Step 4 begins after that. A crash before it leaves recipes that
//! nothing names; a crash between its name and its sync leaves the snapshot whole or not at all, and nothing has acknowledged it.
//!
//! *An acknowledged snapshot stays.* Nothing is acknowledged before step 4 returns. What it reaches is immutable, and is
//! deleted by nobody while the snapshot is there (invariant 3).
//!
//! Not in this order is the index: it is a cache, written after the commit, and whatever a crash makes of it is known by
//! checksums and made again (invariant 6).

use super::chunk_index::ChunkIndex;
use crate::catalog::recipe::RecipesWriter;
use crate::catalog::snapshot::{SnapshotInfo, SnapshotWriter, WrittenSnapshot};
use crate::error::Result;
use crate::storage::Session;

/// All packs of this add are durable.
#[derive(Debug)]
pub(in crate::engine) struct PacksDurable(());

impl PacksDurable {
    /// Only for the packer to say, once every pack that was begun is finished.
    pub(in crate::engine) fn said_by_packer() -> Self {
        Self(())
    }
}

/// All chunks that recipes of this add may name are durable.
#[derive(Debug)]
pub(in crate::engine) struct ChunksDurable(());

/// All recipes that the snapshot may name are durable.
#[derive(Debug)]
pub(in crate::engine) struct RecipesDurable(());

/// Step 2: makes durable the names of the packs in which chunks were found.
pub(in crate::engine) fn chunks(_: PacksDurable, chunk_index: &ChunkIndex<'_>) -> Result<ChunksDurable> {
    chunk_index.settle_packs()?;
    Ok(ChunksDurable(()))
}

/// Step 3: writes the recipes file, if there are new recipes, and makes durable the names of files in which recipes
/// were found. Also says how many bytes were written.
pub(in crate::engine) fn recipes(
    _: ChunksDurable,
    recipes: RecipesWriter,
    chunk_index: &ChunkIndex<'_>,
) -> Result<(RecipesDurable, u64)> {
    let written = recipes.finish(chunk_index.storage())?;
    chunk_index.settle_recipes()?;
    let Some(written) = written else { return Ok((RecipesDurable(()), 0)) };
    chunk_index.add_recipes(written.id, &written.places)?;
    Ok((RecipesDurable(()), written.bytes))
}

/// Step 4: the commit.
pub(in crate::engine) fn snapshot(
    _: RecipesDurable,
    rows: SnapshotWriter,
    info: SnapshotInfo,
    session: &dyn Session,
) -> Result<WrittenSnapshot> {
    let written = rows.finish(info)?;
    session.commit(&[written.id])?;
    Ok(written)
}
