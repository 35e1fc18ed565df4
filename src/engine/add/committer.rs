//! What does the catalog get? Takes rows in the order of the walk, on a thread of its own: rows become columns of the
//! snapshot, new recipes go to the recipes file, and both are encoded while data are still read.
//!
//! Nothing becomes durable here: that is done when everything is there, in the order of [`super::super::commit`].

use std::collections::HashSet;

use crossbeam_channel::Receiver;

use super::AddTotals;
use super::cutter::{content_of, recipe_of};
use super::report::Problem;
use super::rows::Rows;
use super::task::{Row, RowContent};
use crate::catalog::recipe::RecipesWriter;
use crate::engine::store::chunk_index::ChunkIndex;
use crate::engine::store::control::Control;
use crate::error::{Error, Result};
use crate::format::entry::{Content, Entry, EntryKind};
use crate::format::id::RecipeId;
use crate::format::recipe::Piece;

/// Takes rows.
#[derive(Debug)]
pub(super) struct Committer<'a, 's> {
    chunk_index: &'a ChunkIndex<'s>,
    control: &'a Control,
    /// Recipes of this add, which the index does not have.
    fresh_recipes: HashSet<RecipeId>,
    catalog: Catalog,
}

/// All that the rows made.
#[derive(Debug)]
pub(super) struct Catalog {
    pub(super) rows: Rows,
    pub(super) recipes: RecipesWriter,
    /// Counts of entries.
    pub(super) totals: AddTotals,
    /// Problems and notes, in the order of the walk.
    pub(super) problems: Vec<Problem>,
}

impl<'a, 's> Committer<'a, 's> {
    pub(super) fn new(
        chunk_index: &'a ChunkIndex<'s>,
        control: &'a Control,
        rows: Rows,
        recipes: RecipesWriter,
    ) -> Self {
        let catalog = Catalog { rows, recipes, totals: AddTotals::default(), problems: Vec::new() };
        Self { chunk_index, control, fresh_recipes: HashSet::new(), catalog }
    }

    /// Takes all rows, until their queue closes.
    ///
    /// # Errors
    /// The catalog cannot be written, or the index cannot be asked.
    pub(super) fn run(mut self, queue: &Receiver<Vec<Row>>) -> Result<Catalog> {
        for rows in queue {
            rows.into_iter().try_for_each(|row| self.take(row))?;
        }
        // While the workers compress the last frames.
        self.catalog.recipes.flush()?;
        Ok(self.catalog)
    }

    fn take(&mut self, row: Row) -> Result<()> {
        let (mut entry, content) = match row {
            Row::Problem(problem) => {
                self.catalog.problems.push(problem);
                return Ok(());
            }
            Row::Entry { entry, content, problems } => {
                self.catalog.problems.extend(problems);
                (entry, content)
            }
        };
        let content = match content {
            RowContent::Pieces(pieces, None) => {
                let (content, rest) = content_of(pieces, self.chunk_index)?;
                entry.content = content;
                rest
            }
            RowContent::Pieces(pieces, Some(form)) => {
                let (recipe, rest) = recipe_of(pieces, self.chunk_index)?;
                entry.content = Content::Archive(recipe, form);
                rest
            }
            content => content,
        };
        match content {
            RowContent::New(id, pieces) => self.keep(id, &pieces)?,
            RowContent::Unchanged => self.catalog.totals.unchanged_files += u64::from(entry.kind == EntryKind::File),
            RowContent::Known | RowContent::Pieces(..) => {}
        }
        self.push(&entry)
    }

    /// Keeps a recipe that the index does not have.
    fn keep(&mut self, id: RecipeId, pieces: &[Piece]) -> Result<()> {
        if self.fresh_recipes.insert(id) { self.catalog.recipes.push(id, pieces) } else { Ok(()) }
    }

    fn push(&mut self, entry: &Entry) -> Result<()> {
        match self.catalog.rows.push(entry) {
            Ok(()) => {}
            // A row that no snapshot can hold is left out; the rest goes on.
            Err(error @ Error::Refused { .. }) => {
                self.catalog.problems.push(Problem::skipped(entry.path.as_path(), &error));
                return Ok(());
            }
            Err(error) => return Err(error),
        }
        self.catalog.totals.count(entry);
        self.control.count(1, entry.size);
        Ok(())
    }
}
