//! What is announced, and names that nothing announced has.

use crate::engine::Store;
use crate::error::Result;
use crate::format::id::{ChunkId, PendingDeletesId};
use crate::format::pending_deletes::PendingDeletes;
use crate::format::recipe::Piece;

impl Store {
    /// What is announced and not deleted yet.
    ///
    /// # Errors
    /// [`crate::Error::Damaged`] for a record that is not what was written: what it lists cannot be known.
    pub(in crate::engine) fn pending_deletes(&self) -> Result<PendingDeletes> {
        self.coordination().pending()?.known()
    }
}

/// The piece of a recipe that nothing else names, for a recipes file that must not be given the name of one
/// pending deletion; `None` where none is. It is made from the record, which cannot list a file made from it.
pub(in crate::engine) fn filler(pending_deletes: &PendingDeletes) -> Option<Piece> {
    if pending_deletes.recipes.is_empty() {
        return None;
    }
    let [a, b, c, d, e, f, ..] = PendingDeletesId::of(&pending_deletes.encode()).0;
    Some(Piece { id: ChunkId::HOLE, end: u64::from_le_bytes([a, b, c, d, e, f, 1, 0]) })
}
