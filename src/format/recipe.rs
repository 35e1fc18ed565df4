//! What a file's bytes are: the list of its chunks, in order.

use super::id::{ChunkId, RecipeHasher, RecipeId};

/// One chunk (or hole) of a file and where it ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Piece {
    /// The chunk, or [`ChunkId::HOLE`].
    pub id: ChunkId,
    /// The end of this piece in the file, exclusive, in bytes from the file's start.
    pub end: u64,
}

impl Piece {
    /// Whether this is a hole: bytes that read as zero and are stored nowhere.
    #[must_use]
    pub fn is_hole(&self) -> bool {
        self.id == ChunkId::HOLE
    }
}

/// The id of a content given as its pieces: ends must ascend strictly.
#[must_use]
pub fn recipe_id(pieces: &[Piece]) -> RecipeId {
    let mut hasher = RecipeHasher::default();
    let mut start = 0;
    for piece in pieces {
        hasher.push(&piece.id, piece.end.saturating_sub(start));
        start = piece.end;
    }
    hasher.finish()
}
