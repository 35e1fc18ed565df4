//! Which chunks is a content made of? Recipes files: recipe id → pieces, by batch and row.
//!
//! Invariant: a recipe that leaves here hashes to its recipe id, and its ends ascend strictly.

mod kept;

pub use kept::KeptRecipes;

use super::columns::{
    ITEMS_MAX, RECIPE_PIECES_MAX, RECIPE_ROWS_MAX, RecipeBatch, RecipeRows, Table, TableFile, TableWriter, Trust,
};
use crate::error::{Error, Result};
use crate::format::id::{CatalogHasher, RecipeId, RecipesFileId};
use crate::format::name::ObjectName;
use crate::format::recipe::Piece;
use crate::storage::{ObjectWriter, Storage};

/// A batch is written once it has this many pieces or rows. It is what is read for one recipe: 8 MiB where files are
/// large, some 100 KiB where they have a few chunks each. Two versions of a file of gigabytes share a batch, so that
/// the ids they share can be stored once.
const BATCH_PIECES: usize = RECIPE_PIECES_MAX;
const BATCH_ROWS: usize = RECIPE_ROWS_MAX;

/// Where a recipe is in its file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RecipePlace {
    /// Which record batch, counted from 0.
    pub batch: u32,
    /// Which row of it, counted from 0.
    pub row: u32,
}

/// A recipes file that was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WrittenRecipes {
    /// Its id.
    pub id: RecipesFileId,
    /// Its size in bytes.
    pub bytes: u64,
    /// Its recipes and where they are, in the order they were pushed.
    pub places: Vec<(RecipeId, RecipePlace)>,
}

/// Writes a recipes file. Memory: one batch, and 40 bytes a recipe.
#[derive(Debug)]
pub struct RecipesWriter {
    table: TableWriter,
    rows: RecipeRows,
    places: Vec<(RecipeId, RecipePlace)>,
}

impl RecipesWriter {
    /// Begins a file; nothing is written before the first batch is full.
    pub fn begin(writer: Box<dyn ObjectWriter>) -> Result<Self> {
        let table = TableWriter::begin(Table::Recipes, writer, CatalogHasher::recipes(), 0)?;
        Ok(Self { table, rows: RecipeRows::default(), places: Vec::new() })
    }

    #[cfg(test)]
    pub(super) fn uncompressed(mut self) -> Self {
        self.table = self.table.uncompressed();
        self
    }

    /// How many recipes were pushed.
    #[must_use]
    pub fn len(&self) -> usize {
        self.places.len()
    }

    /// Whether no recipe was pushed yet.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.places.is_empty()
    }

    /// Appends a recipe: `id` is that of `pieces`. The caller pushes each recipe once.
    ///
    /// # Errors
    /// [`Error::Usage`] for a recipe of more than 2²⁶ pieces; what the writer answers.
    pub fn push(&mut self, id: RecipeId, pieces: &[Piece]) -> Result<()> {
        if self.rows.pieces().saturating_add(pieces.len()) > BATCH_PIECES || self.rows.rows() >= BATCH_ROWS {
            self.flush()?;
        }
        let place =
            RecipePlace { batch: place_number(self.table.batch_count())?, row: place_number(self.rows.rows())? };
        if !self.rows.push(&id, pieces) {
            let pieces = pieces.len();
            return Err(Error::Usage(format!(
                "a file of {pieces} chunks is too long to list ({ITEMS_MAX} at most): use larger chunks"
            )));
        }
        self.places.push((id, place));
        Ok(())
    }

    /// Makes the file durable and visible. `None`, and nothing written, if no recipe was pushed. A damaged file of the
    /// same recipes in `storage` is replaced.
    pub fn finish(mut self, storage: &dyn Storage) -> Result<Option<WrittenRecipes>> {
        if self.places.is_empty() {
            return Ok(None);
        }
        self.flush()?;
        let (writer, hash, bytes) = self.table.finish(Vec::new(), Vec::new())?;
        let id = RecipesFileId(hash);
        match RecipesFile::verify(storage, id) {
            Ok(()) | Err(Error::NotFound { .. }) => writer.finish(&ObjectName::Recipes(id)).map(|_| ())?,
            Err(_) => writer.replace(&ObjectName::Recipes(id))?,
        }
        Ok(Some(WrittenRecipes { id, bytes, places: self.places }))
    }

    /// Encodes what was pushed and is not encoded yet, which takes a while and need not wait until all is pushed.
    ///
    /// # Errors
    /// What the writer answers.
    pub fn flush(&mut self) -> Result<()> {
        if self.rows.rows() == 0 {
            return Ok(());
        }
        let batch = self.rows.take().map_err(|e| Error::io("encode", "recipes", std::io::Error::other(e)))?;
        self.table.write(&batch)
    }
}

/// An open recipes file.
#[derive(Debug)]
pub struct RecipesFile<'s> {
    table: TableFile<'s>,
}

impl<'s> RecipesFile<'s> {
    /// Opens a recipes file; only its footer is read. Each recipe is checked against its id when it is read.
    ///
    /// # Errors
    /// [`Error::NotFound`] where there is none, [`Error::Damaged`] where it is no recipes file.
    pub fn open(storage: &'s dyn Storage, id: RecipesFileId) -> Result<Self> {
        let table = TableFile::open(storage, ObjectName::Recipes(id), Table::Recipes, Trust::Footer)?;
        Ok(Self { table })
    }

    /// Reads all of a recipes file and compares with the hash that is its name.
    pub fn verify(storage: &dyn Storage, id: RecipesFileId) -> Result<()> {
        let trust = Trust::Whole(CatalogHasher::recipes, id.0);
        TableFile::open(storage, ObjectName::Recipes(id), Table::Recipes, trust).map(|_| ())
    }

    /// The file's name in the store.
    #[must_use]
    pub fn name(&self) -> ObjectName {
        self.table.name()
    }

    /// How many batches there are.
    #[must_use]
    pub fn batch_count(&self) -> u32 {
        u32::try_from(self.table.batch_count()).unwrap_or(u32::MAX)
    }

    /// A recipe: its id and its pieces, which hash to that id. All of its batch is decoded for it: to read many, see
    /// [`KeptRecipes`].
    ///
    /// # Errors
    /// [`Error::Damaged`] if there is no such place, or what is there is not a recipe.
    #[cfg(any(test, feature = "internals"))]
    pub fn read(&self, place: RecipePlace) -> Result<(RecipeId, Vec<Piece>)> {
        self.batch(place.batch)?.recipe(place.row)
    }

    /// One batch, decoded afresh.
    pub fn batch(&self, batch: u32) -> Result<Recipes> {
        let columns = self.table.batch(batch as usize, None)?;
        let columns = RecipeBatch::new(&columns).map_err(|what| self.table.damaged_batch(batch as usize, what))?;
        Ok(Recipes { columns, file: self.table.name(), batch, offset: self.table.batch_offset(batch as usize) })
    }

    /// Calls `each` with every recipe and its place, in order, one batch in memory at a time.
    pub fn for_each(&self, mut each: impl FnMut(RecipePlace, RecipeId, Vec<Piece>) -> Result<()>) -> Result<()> {
        for batch in 0..self.batch_count() {
            let recipes = self.batch(batch)?;
            for row in 0..recipes.count() {
                let (id, pieces) = recipes.recipe(row)?;
                each(RecipePlace { batch, row }, id, pieces)?;
            }
        }
        Ok(())
    }

    /// All recipe ids, as the file says them, and their places: what rebuilds an index. Lists of chunks are not read.
    pub fn ids(&self) -> Result<Vec<(RecipeId, RecipePlace)>> {
        let mut ids = Vec::new();
        for batch in 0..self.batch_count() {
            let columns = self.table.batch(batch as usize, Some(&[0]))?;
            let found = RecipeBatch::ids(&columns).map_err(|what| self.table.damaged_batch(batch as usize, what))?;
            for (row, id) in (0..).zip(found) {
                ids.push((id, RecipePlace { batch, row }));
            }
        }
        Ok(ids)
    }
}

/// One decoded batch of recipes.
#[derive(Debug)]
pub struct Recipes {
    columns: RecipeBatch,
    file: ObjectName,
    batch: u32,
    /// Where the batch begins in the file.
    offset: Option<u64>,
}

impl Recipes {
    /// How many recipes there are.
    #[must_use]
    pub fn count(&self) -> u32 {
        u32::try_from(self.columns.rows()).unwrap_or(u32::MAX)
    }

    /// The recipe in a row: its id and its pieces, which hash to that id.
    pub fn recipe(&self, row: u32) -> Result<(RecipeId, Vec<Piece>)> {
        self.columns.recipe(row as usize).map_err(|what| {
            let what = format!("record batch {}: {what}", self.batch);
            Error::Damaged { file: self.file.path(), offset: self.offset, what }
        })
    }
}

fn place_number(n: usize) -> Result<u32> {
    u32::try_from(n).map_err(|e| Error::io("encode", "recipes", std::io::Error::other(e)))
}
