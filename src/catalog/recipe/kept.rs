//! Which batches of recipes are decoded already? The last ones that were read, of any file.
//!
//! A batch is decompressed to get at one recipe, and its neighbours are asked for next. A tree of two versions reads from
//! a few batches in turn, so several are kept; bounded in number and bytes, however many files there are.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

use super::{RecipePlace, Recipes, RecipesFile};
use crate::error::Result;
use crate::format::id::RecipeId;
use crate::format::name::ObjectName;
use crate::format::recipe::Piece;

/// At most this many batches are kept …
const BATCHES_MAX: usize = 32;
/// … and, but for the last one read, at most this many bytes of them.
const BYTES_MAX: usize = 32 << 20;

/// Decoded batches, the last one used in front. Shared by threads.
#[derive(Debug, Default)]
pub struct KeptRecipes {
    batches: Mutex<VecDeque<Arc<Recipes>>>,
}

impl KeptRecipes {
    /// A recipe: its id and its pieces, which hash to that id.
    ///
    /// # Errors
    /// As [`RecipesFile::read`].
    pub fn read(&self, file: &RecipesFile<'_>, place: RecipePlace) -> Result<(RecipeId, Vec<Piece>)> {
        self.batch(file, place.batch)?.recipe(place.row)
    }

    fn batch(&self, file: &RecipesFile<'_>, batch: u32) -> Result<Arc<Recipes>> {
        let name = file.table.name();
        if let Some(kept) = self.take_front(name, batch) {
            return Ok(kept);
        }
        // Not under the lock: other threads go on with what is kept.
        let read = Arc::new(file.batch(batch)?);
        let mut batches = self.batches.lock().unwrap_or_else(PoisonError::into_inner);
        batches.push_front(Arc::clone(&read));
        let mut bytes = 0;
        let within = |batch: &Arc<Recipes>| {
            bytes += batch.columns.memory_bytes();
            bytes <= BYTES_MAX
        };
        let count = batches.iter().take(BATCHES_MAX).map(within).take_while(|within| *within).count();
        batches.truncate(count.max(1));
        Ok(read)
    }

    /// The batch, if it is kept, which is then in front.
    fn take_front(&self, file: ObjectName, batch: u32) -> Option<Arc<Recipes>> {
        let mut batches = self.batches.lock().unwrap_or_else(PoisonError::into_inner);
        let at = batches.iter().position(|kept| kept.file == file && kept.batch == batch)?;
        let kept = batches.remove(at)?;
        batches.push_front(Arc::clone(&kept));
        Some(kept)
    }
}
