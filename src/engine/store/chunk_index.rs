//! Where is this chunk, and what is in this recipe? The index, kept true to the packs and recipes that are there.
//!
//! Invariant 6: the index is a cache. What it does not know of the store is added when it is opened, and what turns out to
//! be damaged in the middle of the work is made again. No answer rests on it alone: a chunk is where its pack's directory
//! says, a recipe is what hashes to its id, and what a reader does not find is lost only if an index that was made
//! from the store itself does not have it.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use crate::catalog::recipe::{KeptRecipes, RecipePlace, RecipesFile};
use crate::error::{Error, Result};
use crate::format::directory::{ChunkPlace, Directory};
use crate::format::entry::{Content, Entry};
use crate::format::id::{ChunkId, PackId, RecipeId, RecipesFileId};
use crate::format::name::{ObjectKind, ObjectName};
use crate::format::pending_deletes::PendingDeletes;
use crate::format::recipe::Piece;
use crate::index::{Index, IndexOptions, IndexStatistics, Location, RecipeRow, Reconciled};
use crate::pack::reader::read_directory;
use crate::storage::Storage;

use super::Store;

#[cfg(test)]
mod tests;

/// The name of the index, a folder below a store's root.
pub(in crate::engine) const INDEX_FOLDER: &str = "index";

/// The file in which earlier versions had the index, and the one that took its place.
pub(in crate::engine) const OLD_INDEX_FILES: [&str; 2] = ["index.redb", "index.redb.new"];

/// An index has fewer files than this that can turn out to be damaged.
const DAMAGES_MAX: usize = 1024;

impl Store {
    /// How the index is opened, and where it is: the one place that decides it.
    pub(in crate::engine) fn index_options(&self, keep: bool) -> IndexOptions {
        let folder = self.caches().directory().map(|directory| directory.join(INDEX_FOLDER));
        IndexOptions {
            folder,
            store: blake3::hash(self.id().as_bytes()).as_bytes().first_chunk().copied().unwrap_or_default(),
            keep,
            scratch: self.caches().temporary().to_owned(),
            disk: Arc::clone(self.caches().disk()),
            ..IndexOptions::default()
        }
    }
}

/// Finds chunks and recipes. Shared between threads.
#[derive(Debug)]
pub struct ChunkIndex<'s> {
    index: Index,
    storage: &'s dyn Storage,
    /// Recipes files that were opened: there are few, and each keeps its footer only.
    recipes_files: Mutex<HashMap<RecipesFileId, Arc<RecipesFile<'s>>>>,
    kept_recipes: KeptRecipes,
    /// What was added to the index when it was opened.
    reconciled: Reconciled,
    /// Objects that are pending deletion: nothing is found in them.
    pending_deletes: PendingDeletes,
    /// Held while the index is brought up to date for a reader.
    refreshing: Mutex<()>,
    /// Packs in which chunks were found that the asker may come to rely on: one for each directory that packs are in.
    relied: [OnceLock<PackId>; 256],
    /// A recipes file in which a recipe was found, likewise.
    relied_recipes: OnceLock<RecipesFileId>,
}

impl<'s> ChunkIndex<'s> {
    /// Opens the index to read from a store, and brings it up to date. What it lacks is not kept.
    ///
    /// # Errors
    /// The store cannot be listed.
    pub fn open(store: &'s Store) -> Result<Self> {
        Self::open_with(store.storage(), &store.index_options(false), PendingDeletes::default())
    }

    /// Opens the index to add to a store, and brings it up to date: as if what is pending deletion were not there, because an add
    /// may not rely on it.
    ///
    /// # Errors
    /// As [`ChunkIndex::open`].
    pub(in crate::engine) fn open_without(
        store: &Store,
        storage: &'s dyn Storage,
        pending_deletes: PendingDeletes,
    ) -> Result<Self> {
        Self::open_with(storage, &store.index_options(true), pending_deletes)
    }

    /// Makes the index again from packs and recipes files, whatever is there of it.
    ///
    /// # Errors
    /// As [`ChunkIndex::open`].
    pub fn rebuild(store: &'s Store) -> Result<Self> {
        let mut chunk_index = Self::opened(store.storage(), &store.index_options(true), PendingDeletes::default());
        chunk_index.index.distrust();
        chunk_index.reconciled = chunk_index.reconcile()?;
        Ok(chunk_index)
    }

    fn open_with(storage: &'s dyn Storage, options: &IndexOptions, pending_deletes: PendingDeletes) -> Result<Self> {
        let mut chunk_index = Self::opened(storage, options, pending_deletes);
        chunk_index.reconciled = chunk_index.reconcile()?;
        Ok(chunk_index)
    }

    fn opened(storage: &'s dyn Storage, options: &IndexOptions, pending_deletes: PendingDeletes) -> Self {
        Self {
            index: Index::open(options),
            storage,
            recipes_files: Mutex::default(),
            kept_recipes: KeptRecipes::default(),
            reconciled: Reconciled::default(),
            pending_deletes,
            refreshing: Mutex::default(),
            relied: [const { OnceLock::new() }; 256],
            relied_recipes: OnceLock::new(),
        }
    }

    /// Asks the index. If a file of it turns out to be damaged, what it had is added again, and the index is asked again.
    fn ask_index<T>(&self, question: impl Fn(&Index) -> Result<T>) -> Result<T> {
        for _ in 0..DAMAGES_MAX {
            match question(&self.index) {
                Err(Error::Index { .. }) => self.refresh()?,
                answer => return answer,
            }
        }
        question(&self.index)
    }

    /// Makes the index agree with what is there. What vanishes between the listing and the look at it was deleted, not
    /// damaged.
    fn reconcile(&self) -> Result<Reconciled> {
        let (storage, pending_deletes) = (self.storage, &self.pending_deletes);
        let packs: Vec<PackId> =
            listed(storage, ObjectKind::Pack, |name| name.pack().filter(|_| !pending_deletes.contains(name)))?;
        let recipes: Vec<RecipesFileId> =
            listed(storage, ObjectKind::Recipes, |name| name.recipes().filter(|_| !pending_deletes.contains(name)))?;
        let load_recipes = |file: &RecipesFileId| self.load_recipe_rows(*file);
        let add = || self.index.reconcile(&packs, &recipes, &|pack| self.load_directory(pack), &load_recipes);
        let mut done = add();
        for _ in 0..DAMAGES_MAX {
            // A file of the index is damaged: once more, without it.
            if !matches!(done, Err(Error::Index { .. })) {
                break;
            }
            done = add();
        }
        let mut done = done?;
        done.unreadable.retain(|(_, error)| !matches!(error, Error::NotFound { .. }));
        Ok(done)
    }

    /// Looks again at what is there: gc may have moved chunks since, or a file of the index be damaged.
    ///
    /// # Errors
    /// As [`ChunkIndex::open`].
    fn refresh(&self) -> Result<()> {
        let _refreshing = self.refreshing.lock().unwrap_or_else(PoisonError::into_inner);
        self.reconcile().map(|_| ())
    }

    /// Makes the index anew from the store, unless that was done: what other processes wrote does not have what is asked
    /// for, and it may have been forged.
    fn doubt(&self) -> Result<()> {
        let _refreshing = self.refreshing.lock().unwrap_or_else(PoisonError::into_inner);
        if self.index.distrust() { self.reconcile().map(|_| ()) } else { Ok(()) }
    }

    /// Notes that a pack is gone and what was needed of it is elsewhere. To be called before a chunk of it is looked up again.
    ///
    /// # Errors
    /// As [`ChunkIndex::open`].
    pub(in crate::engine) fn vanished(&self, pack: &PackId) -> Result<()> {
        // Others that miss it wait until the index is up to date.
        let _refreshing = self.refreshing.lock().unwrap_or_else(PoisonError::into_inner);
        if self.index.remove_pack(pack) { self.reconcile().map(|_| ()) } else { Ok(()) }
    }

    /// Asks for what must be there. Asks again for as long as the index names an object that is gone, each time another
    /// one: gcs may delete objects as fast as this process looks them up. Also asks once more if nothing is found, because
    /// the index may have been asked while it was brought up to date, or may not be true.
    fn ask<T>(&self, question: impl Fn() -> Result<Option<T>>) -> Result<Option<T>> {
        let mut gone = BTreeSet::new();
        loop {
            match question() {
                Err(Error::NotFound { what, near }) => {
                    if !gone.insert(what.clone()) {
                        return Err(Error::NotFound { what, near });
                    }
                    self.refresh()?;
                }
                Ok(None) => break,
                answer => return answer,
            }
        }
        self.doubt()?;
        question()
    }

    /// The pending deletes: objects that gc announced and may delete.
    pub(in crate::engine) fn pending_deletes(&self) -> &PendingDeletes {
        &self.pending_deletes
    }

    /// Whether all that a content consists of is there to stay. A row of an older snapshot may be taken over only then:
    /// that snapshot may have been removed, and what it alone reached be pending deletion.
    pub(in crate::engine) fn keeps(&self, content: Content, size: u64) -> Result<bool> {
        if self.pending_deletes.is_empty() {
            return Ok(true);
        }
        self.has_all(content, size)
    }

    /// Whether all that a content consists of is there. Before anything that is to last names it, [`Self::settle_packs`];
    /// its recipe is for [`Self::has_recipe`].
    pub(in crate::engine) fn has_all(&self, content: Content, size: u64) -> Result<bool> {
        let pieces = match self.stored_pieces(content, size) {
            Err(Error::Damaged { .. } | Error::NotFound { .. }) => return Ok(false),
            pieces => pieces?,
        };
        for piece in pieces.iter().filter(|piece| !piece.is_hole()) {
            if !self.contains(&piece.id)? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// The packs and recipes files that could not be read when the index was opened, and why.
    pub fn take_unreadable(&mut self) -> Vec<(ObjectName, Error)> {
        std::mem::take(&mut self.reconciled.unreadable)
    }

    /// Where the store's objects are.
    pub(in crate::engine) fn storage(&self) -> &'s dyn Storage {
        self.storage
    }

    /// How big the index is.
    #[must_use]
    pub fn statistics(&self) -> IndexStatistics {
        self.index.statistics()
    }

    /// Whether a chunk is in the store. Before anything that is to last names it, [`Self::settle_packs`].
    pub(in crate::engine) fn contains(&self, id: &ChunkId) -> Result<bool> {
        match self.ask_index(|index| index.find(id, &|pack| self.load_directory(pack))) {
            // In a pack that cannot be read: it counts as new, and adding it again heals what lost it.
            Err(Error::Damaged { .. } | Error::NotFound { .. }) => Ok(false),
            found => Ok(found?.is_some_and(|Location { pack, .. }| {
                let [folder, ..] = pack.0;
                if let Some(relied) = self.relied.get(usize::from(folder)) {
                    let _ = relied.set(pack);
                }
                true
            })),
        }
    }

    /// Makes durable that the packs are there in which [`Self::contains`] found chunks.
    pub(in crate::engine) fn settle_packs(&self) -> Result<()> {
        self.relied.iter().filter_map(OnceLock::get).try_for_each(|pack| self.storage.settle(&ObjectName::Pack(*pack)))
    }

    /// Makes durable that the files are there in which [`Self::has_recipe`] found recipes.
    pub(in crate::engine) fn settle_recipes(&self) -> Result<()> {
        self.relied_recipes.get().map_or(Ok(()), |file| self.storage.settle(&ObjectName::Recipes(*file)))
    }

    /// Where a chunk of this length is.
    ///
    /// # Errors
    /// [`Error::Damaged`] if no pack has it, or it has another length.
    pub(in crate::engine) fn locate(&self, id: &ChunkId, length: u64) -> Result<(Location, ChunkPlace)> {
        let lost = |what: String| Error::damaged_whole("packs", what);
        let found = self.ask(|| self.ask_index(|index| index.find(id, &|pack| self.load_directory(pack))))?;
        let location = found.ok_or_else(|| lost(format!("chunk {id} is in no pack that can be read")))?;
        let place = location
            .directory
            .place(location.chunk)
            .ok_or_else(|| lost(format!("chunk {id} is not where the directory of pack {} says", location.pack)))?;
        if u64::from(place.length) != length {
            return Err(lost(format!("chunk {id} has {} bytes, its recipe says {length}", place.length)));
        }
        Ok((location, place))
    }

    /// Where a chunk of this length is beside these packs; `None` if no other has it, or none that can be read.
    ///
    /// # Errors
    /// As [`ChunkIndex::open`].
    pub(in crate::engine) fn other_copy(
        &self,
        id: &ChunkId,
        length: u64,
        tried: &[PackId],
    ) -> Result<Option<(Location, ChunkPlace)>> {
        let copies = self.ask_index(|index| index.find_all(id, &|pack| self.load_directory(pack)))?;
        let others = copies.into_iter().filter(|copy| !tried.contains(&copy.pack));
        let mut placed = others.filter_map(|copy| copy.directory.place(copy.chunk).map(|place| (copy, place)));
        Ok(placed.find(|(_, place)| u64::from(place.length) == length))
    }

    /// A new pack, durable already.
    pub(in crate::engine) fn add_pack(&self, id: PackId, directory: Arc<Directory>) -> Result<()> {
        self.ask_index(|index| index.add_pack(id, Arc::clone(&directory)))
    }

    /// A new recipes file, durable already.
    pub(in crate::engine) fn add_recipes(&self, file: RecipesFileId, rows: &[(RecipeId, RecipePlace)]) -> Result<()> {
        let rows = index_rows(rows);
        self.ask_index(|index| index.add_recipes(file, &rows))
    }

    /// Whether a recipe is in the store. Before anything that is to last names it, [`Self::settle_recipes`].
    pub(in crate::engine) fn has_recipe(&self, id: &RecipeId) -> Result<bool> {
        for (file, row) in self.ask_index(|index| index.find_recipe(id))? {
            // Nearly always one candidate, and nearly always the right one; a damaged file has no recipe.
            if self.read_recipe(file, row).is_ok_and(|(found, _)| found == *id) {
                let _ = self.relied_recipes.set(file);
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// The pieces of a file: ends ascend, the last is its size.
    ///
    /// # Errors
    /// [`Error::Damaged`] if its recipe is lost or is not what its id says.
    pub(in crate::engine) fn pieces_of(&self, entry: &Entry) -> Result<Vec<Piece>> {
        self.pieces_of_content(entry.content, entry.size)
    }

    /// The pieces of all that is kept of a content of this size.
    ///
    /// # Errors
    /// As [`ChunkIndex::pieces_of`].
    pub(in crate::engine) fn stored_pieces(&self, content: Content, size: u64) -> Result<Vec<Piece>> {
        match content {
            Content::Archive(id, _) => self.recipe(&id),
            _ => self.pieces_of_content(content, size),
        }
    }

    /// The pieces of a content of this size that is nothing but its pieces: not of an archive.
    ///
    /// # Errors
    /// As [`ChunkIndex::pieces_of`].
    pub(in crate::engine) fn pieces_of_content(&self, content: Content, size: u64) -> Result<Vec<Piece>> {
        let pieces = match content {
            Content::Empty => Vec::new(),
            Content::Chunk(id) => vec![Piece { id, end: size }],
            Content::Recipe(id) | Content::Archive(id, _) => self.recipe(&id)?,
        };
        let end = pieces.last().map_or(0, |piece| piece.end);
        if end != size {
            let what = format!("a file of {size} bytes is said to be {content:?}, which has {end} bytes");
            return Err(Error::damaged_whole("snapshots", what));
        }
        Ok(pieces)
    }

    /// The pieces of a recipe.
    pub(in crate::engine) fn recipe(&self, id: &RecipeId) -> Result<Vec<Piece>> {
        let lost = || Error::damaged_whole("recipes", format!("recipe {id} is in no file that can be read"));
        self.ask(|| self.recipe_as_known(id))?.ok_or_else(lost)
    }

    fn recipe_as_known(&self, id: &RecipeId) -> Result<Option<Vec<Piece>>> {
        let mut failure = None;
        for (file, row) in self.ask_index(|index| index.find_recipe(id))? {
            match self.read_recipe(file, row) {
                Ok((found, pieces)) if found == *id => return Ok(Some(pieces)),
                Ok(_) => {}
                Err(error) => failure = Some(error),
            }
        }
        failure.map_or(Ok(None), Err)
    }

    fn read_recipe(&self, file: RecipesFileId, row: RecipeRow) -> Result<(RecipeId, Vec<Piece>)> {
        let place = RecipePlace { batch: row.batch, row: row.row };
        self.kept_recipes.read(&*self.recipes_file(file)?, place)
    }

    fn recipes_file(&self, id: RecipesFileId) -> Result<Arc<RecipesFile<'s>>> {
        let mut files = self.recipes_files.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(file) = files.get(&id) {
            return Ok(Arc::clone(file));
        }
        let file = Arc::new(RecipesFile::open(self.storage, id)?);
        files.insert(id, Arc::clone(&file));
        Ok(file)
    }

    fn load_directory(&self, pack: &PackId) -> Result<Arc<Directory>> {
        read_directory(self.storage, *pack).map(Arc::new)
    }

    fn load_recipe_rows(&self, file: RecipesFileId) -> Result<Vec<(RecipeId, RecipeRow)>> {
        Ok(index_rows(&self.recipes_file(file)?.ids()?))
    }

    /// Keeps what was added to the index, if it can be kept: it is a cache, so nothing depends on it.
    pub(in crate::engine) fn close(self) {
        self.index.close();
    }
}

fn index_rows(rows: &[(RecipeId, RecipePlace)]) -> Vec<(RecipeId, RecipeRow)> {
    rows.iter().map(|(id, place)| (*id, RecipeRow { batch: place.batch, row: place.row })).collect()
}

/// The ids of all objects of a kind that `id` has one for, in no particular order.
pub(in crate::engine) fn listed<T, C: FromIterator<T>>(
    storage: &dyn Storage,
    kind: ObjectKind,
    id: impl Fn(ObjectName) -> Option<T>,
) -> Result<C> {
    Ok(storage.list(kind)?.into_iter().filter_map(|object| id(object.name)).collect())
}
