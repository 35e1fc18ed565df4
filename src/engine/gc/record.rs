//! What is announced, and names that nothing announced has.

use crate::engine::Store;
use crate::error::Result;
use crate::format::condemned::Condemned;
use crate::format::id::{ChunkId, CondemnedId};
use crate::format::recipe::Piece;

impl Store {
    /// What is announced and not deleted yet.
    ///
    /// # Errors
    /// [`crate::Error::Damaged`] for a record that is not what was written: what it lists cannot be known.
    pub(in crate::engine) fn condemned(&self) -> Result<Condemned> {
        self.coordination().pending()?.known()
    }
}

/// The piece of a recipe that nothing else names, for a recipes file that must not be given the name of a condemned
/// one; `None` where no recipes file is condemned. It is made from the record, which cannot list a file made from it.
pub(in crate::engine) fn filler(condemned: &Condemned) -> Option<Piece> {
    if condemned.recipes.is_empty() {
        return None;
    }
    let [a, b, c, d, e, f, ..] = CondemnedId::of(&condemned.encode()).0;
    Some(Piece { id: ChunkId::HOLE, end: u64::from_le_bytes([a, b, c, d, e, f, 1, 0]) })
}
