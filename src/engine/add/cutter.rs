//! Where are the chunks of these bytes, and does the store have them? What every worker does with what it has read.

use std::ops::Range;

use super::pool::Buffer;
use super::task::{FreshChunk, Lane, RowContent};
use super::worker::WorkerContext;
use crate::chunk::finder::Span;
use crate::engine::store::chunk_index::ChunkIndex;
use crate::error::Result;
use crate::format::entry::Content;
use crate::format::id::{ChunkId, RecipeId};
use crate::format::recipe::{Piece, recipe_id};

/// The bytes of a task, and those of their chunks that the index does not have.
#[derive(Debug)]
pub(super) struct Cutter<'c, 'a, 's> {
    pub(super) context: &'c WorkerContext<'a, 's>,
    pub(super) bytes: Buffer,
    pub(super) fresh: Vec<FreshChunk>,
}

/// How much of a task is done, to go back to.
#[derive(Debug, Clone, Copy)]
pub(super) struct Mark {
    pub(super) bytes: usize,
    fresh: usize,
}

impl<'c, 'a, 's> Cutter<'c, 'a, 's> {
    /// With bytes that were read already.
    pub(super) fn new(context: &'c WorkerContext<'a, 's>, bytes: Buffer) -> Self {
        Self { context, bytes, fresh: Vec::new() }
    }

    /// Cuts the bytes at a place as if they were a file, and hashes each chunk while it is warm. Pieces are appended.
    pub(super) fn cut(&mut self, place: Range<usize>, pieces: &mut Vec<Piece>) -> Result<()> {
        let span = Span::whole(self.bytes.get(place.clone()).unwrap_or_default());
        let before = end_of(pieces);
        let mut start = 0;
        while start < span.end() {
            // A whole file always tells where a chunk ends.
            let end = self.context.finder.next_cut(&span, start, start).unwrap_or(span.end());
            let id = ChunkId::of(span.slice(start, end));
            pieces.push(Piece { id, end: before + end });
            let chunk = place.start + start as usize..place.start + end as usize;
            note_fresh(self.context.chunk_index, &mut self.fresh, id, chunk, Lane::Contents)?;
            start = end;
        }
        Ok(())
    }

    pub(super) fn mark(&self) -> Mark {
        Mark { bytes: self.bytes.len(), fresh: self.fresh.len() }
    }

    /// Forgets what was done since.
    pub(super) fn go_back(&mut self, mark: Mark) {
        self.bytes.truncate(mark.bytes);
        self.fresh.truncate(mark.fresh);
    }
}

/// Notes a chunk unless the index has it.
pub(super) fn note_fresh(
    chunk_index: &ChunkIndex<'_>,
    fresh: &mut Vec<FreshChunk>,
    id: ChunkId,
    place: Range<usize>,
    lane: Lane,
) -> Result<()> {
    if !chunk_index.contains(&id)? {
        // A task's bytes are far fewer than 4 GiB.
        fresh.push(FreshChunk { id, start: place.start as u32, length: place.len() as u32, lane });
    }
    Ok(())
}

/// The content that pieces are, and what is still to be done for it.
pub(super) fn content_of(pieces: Vec<Piece>, chunk_index: &ChunkIndex<'_>) -> Result<(Content, RowContent)> {
    match pieces.as_slice() {
        [] => Ok((Content::Empty, RowContent::Known)),
        [piece] if !piece.is_hole() => Ok((Content::Chunk(piece.id), RowContent::Known)),
        _ => recipe_of(pieces, chunk_index).map(|(id, rest)| (Content::Recipe(id), rest)),
    }
}

/// The recipe that pieces are, and what is still to be done for it.
pub(super) fn recipe_of(pieces: Vec<Piece>, chunk_index: &ChunkIndex<'_>) -> Result<(RecipeId, RowContent)> {
    let id = recipe_id(&pieces);
    let is_known = chunk_index.has_recipe(&id)?;
    Ok((id, if is_known { RowContent::Known } else { RowContent::New(id, pieces) }))
}

pub(super) fn end_of(pieces: &[Piece]) -> u64 {
    pieces.last().map_or(0, |piece| piece.end)
}
