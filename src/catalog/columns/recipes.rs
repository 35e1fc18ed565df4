//! Recipes as columns: `recipe_id`, `size`, `chunks: List<Struct<id, end>>`.

use std::sync::Arc;

use arrow_array::{Array, ArrayRef, FixedSizeBinaryArray, ListArray, RecordBatch, StructArray, UInt64Array};
use arrow_buffer::{Buffer, OffsetBuffer, ScalarBuffer};
use arrow_schema::{ArrowError, DataType, Field, Fields};

use super::{ITEMS_MAX, Table, column, id_at, id_type};
use crate::format::id::{ChunkId, RecipeId};
use crate::format::recipe::{Piece, recipe_id};

fn piece_fields() -> Fields {
    vec![Field::new("id", id_type(), false), Field::new("end", DataType::UInt64, false)].into()
}

fn piece_field() -> Arc<Field> {
    Arc::new(Field::new("item", DataType::Struct(piece_fields()), false))
}

pub(super) fn fields() -> Fields {
    vec![
        Field::new("recipe_id", id_type(), false),
        Field::new("size", DataType::UInt64, false),
        Field::new("chunks", DataType::List(piece_field()), false),
    ]
    .into()
}

/// Recipes gathered for the next batch.
#[derive(Debug, Default)]
pub(in crate::catalog) struct RecipeRows {
    ids: Vec<u8>,
    sizes: Vec<u64>,
    ends_of_lists: Vec<i32>,
    piece_ids: Vec<u8>,
    piece_ends: Vec<u64>,
}

impl RecipeRows {
    pub(in crate::catalog) fn rows(&self) -> usize {
        self.sizes.len()
    }

    pub(in crate::catalog) fn pieces(&self) -> usize {
        self.piece_ends.len()
    }

    /// Appends a row; `false` if the batch has no room for it.
    pub(in crate::catalog) fn push(&mut self, id: &RecipeId, pieces: &[Piece]) -> bool {
        let end = self.pieces().saturating_add(pieces.len());
        let Some(end_of_list) = i32::try_from(end).ok().filter(|_| end <= ITEMS_MAX) else {
            return false;
        };
        self.ids.extend_from_slice(id.as_bytes());
        self.sizes.push(pieces.last().map_or(0, |p| p.end));
        self.ends_of_lists.push(end_of_list);
        for piece in pieces {
            self.piece_ids.extend_from_slice(piece.id.as_bytes());
            self.piece_ends.push(piece.end);
        }
        true
    }

    /// The gathered rows as a batch; none are left.
    pub(in crate::catalog) fn take(&mut self) -> Result<RecordBatch, ArrowError> {
        let rows = std::mem::take(self);
        let lists = std::iter::once(0).chain(rows.ends_of_lists);
        let piece_ids = FixedSizeBinaryArray::try_new(32, Buffer::from_vec(rows.piece_ids), None)?;
        let pieces: Vec<ArrayRef> = vec![Arc::new(piece_ids), Arc::new(UInt64Array::from(rows.piece_ends))];
        let pieces = StructArray::try_new(piece_fields(), pieces, None)?;
        let lists = OffsetBuffer::new(ScalarBuffer::from_iter(lists));
        let columns: Vec<ArrayRef> = vec![
            Arc::new(FixedSizeBinaryArray::try_new(32, Buffer::from_vec(rows.ids), None)?),
            Arc::new(UInt64Array::from(rows.sizes)),
            Arc::new(ListArray::try_new(piece_field(), lists, Arc::new(pieces), None)?),
        ];
        RecordBatch::try_new(Arc::new(Table::Recipes.stored_schema(&[])), columns)
    }
}

/// A decoded batch of recipes.
#[derive(Debug)]
pub(in crate::catalog) struct RecipeBatch {
    ids: FixedSizeBinaryArray,
    sizes: UInt64Array,
    lists: OffsetBuffer<i32>,
    piece_ids: FixedSizeBinaryArray,
    piece_ends: UInt64Array,
}

impl RecipeBatch {
    pub(in crate::catalog) fn new(batch: &RecordBatch) -> Result<Self, String> {
        let chunks: ListArray = column(batch, 2)?;
        let pieces = chunks.values().as_any().downcast_ref::<StructArray>().ok_or("chunks are no structs")?;
        let piece = |place: usize| pieces.columns().get(place).ok_or("a chunk has too few fields");
        Ok(Self {
            ids: column(batch, 0)?,
            sizes: column(batch, 1)?,
            lists: chunks.offsets().clone(),
            piece_ids: piece(0)?.as_any().downcast_ref().cloned().ok_or("chunk ids are of another type")?,
            piece_ends: piece(1)?.as_any().downcast_ref().cloned().ok_or("chunk ends are of another type")?,
        })
    }

    /// The ids of a batch of which only that column was read.
    pub(in crate::catalog) fn ids(ids_only: &RecordBatch) -> Result<Vec<RecipeId>, String> {
        let ids: FixedSizeBinaryArray = column(ids_only, 0)?;
        Ok((0..ids.len()).filter_map(|row| id_at(&ids, row)).map(RecipeId).collect())
    }

    pub(in crate::catalog) fn rows(&self) -> usize {
        self.ids.len()
    }

    /// What it occupies in memory, about.
    pub(in crate::catalog) fn memory_bytes(&self) -> usize {
        let columns: [&dyn Array; 4] = [&self.ids, &self.sizes, &self.piece_ids, &self.piece_ends];
        columns.iter().map(|column| column.to_data().get_slice_memory_size().unwrap_or_default()).sum::<usize>()
            + std::mem::size_of_val(&*self.lists)
    }

    /// The id in a row, as the file says it.
    pub(in crate::catalog) fn id(&self, row: usize) -> Option<RecipeId> {
        id_at(&self.ids, row).map(RecipeId)
    }

    /// A row, checked: ends ascend to the size, and the pieces hash to the id.
    pub(in crate::catalog) fn recipe(&self, row: usize) -> Result<(RecipeId, Vec<Piece>), String> {
        let id = self.id(row).ok_or_else(|| format!("there is no row {row}, only {}", self.rows()))?;
        let bound = |at: usize| self.lists.get(at).and_then(|end| usize::try_from(*end).ok());
        let (Some(from), Some(to)) = (bound(row), bound(row + 1)) else {
            return Err(format!("row {row} has no list of chunks"));
        };
        let mut pieces = Vec::with_capacity(to.saturating_sub(from).min(self.piece_ids.len()));
        let mut start = 0;
        for at in from..to {
            let (Some(id), Some(end)) = (id_at(&self.piece_ids, at), self.piece_ends.values().get(at).copied()) else {
                return Err(format!("the list of row {row} passes the end of the batch"));
            };
            if end <= start {
                return Err(format!("row {row}: chunk {} ends at {end}, the one before at {start}", at - from));
            }
            start = end;
            pieces.push(Piece { id: ChunkId(id), end });
        }
        let size = self.sizes.values().get(row).copied().unwrap_or_default();
        if size != start {
            return Err(format!("row {row} has size {size}, its chunks end at {start}"));
        }
        let found = recipe_id(&pieces);
        if found != id {
            return Err(format!("row {row} is called {id}, its chunks make {found}"));
        }
        Ok((id, pieces))
    }
}
