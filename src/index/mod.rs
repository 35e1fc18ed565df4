//! Where is a chunk, or a recipe, in the store?
//!
//! The index maps a chunk id to its pack and its ordinal there, and a recipe id to its row in a recipes file. It is a
//! cache, `index.redb`: whatever becomes of it, it is made again from pack directories and recipes files
//! ([`Index::reconcile`]). Invariant: an answer is never wrong. A chunk is said to be in a pack only if that pack's own
//! directory says so, with the whole id.
//!
//! A look-up asks, in this order:
//!
//! 1. the directory of the pack hit last ([`cache`]): neighbours follow each other;
//! 2. what was added and is not yet written ([`side`]), and the filters of the runs ([`filter`]): an id that is new ends
//!    here;
//! 3. the directories of a few packs hit lately: versions of the same data lie in several;
//! 4. the runs themselves, in redb ([`run`], [`table`]): one page;
//! 5. the directory of the pack they name, from the cache or from the store.
//!
//! Several processes can have it open at once ([`layers`]): each sees it as it was when it opened it, and what the first
//! to close it adds is kept; the others' is found again by whoever opens it next.

mod cache;
mod filter;
mod layers;
mod run;
mod side;
mod table;
#[cfg(test)]
mod tests;

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use crate::error::{Error, Result};
use crate::format::directory::Directory;
use crate::format::id::{ChunkId, PackId, RecipeId, RecipesFileId};
use crate::format::name::ObjectName;
use crate::storage::disk::{Disk, SystemDisk};
use cache::{Directories, Known};
use layers::{Layers, Persisted};
use run::Place;
use side::SideState;
use table::{Side, Tables};

/// So much of the file, and half of what is needed, may be free before it is written anew without.
const SPARE_BYTES: u64 = 4 << 20;

/// Bytes of pages in memory while it is.
const COPY_CACHE_BYTES: usize = 4 << 20;

/// Removes what a process that is gone left of an index it was writing to take the place of the one at `path`; says
/// whether there was something.
///
/// # Errors
/// What the system says, also where there is nothing.
pub(crate) fn sweep(path: &Path, disk: &dyn Disk) -> std::io::Result<bool> {
    disk.remove_unlocked(&layers::beside(path))
}

/// How an index is opened.
#[derive(Debug, Clone)]
pub struct IndexOptions {
    /// Start from nothing, and replace what is there: for `repair`, and after an [`Error::Index`].
    pub fresh: bool,
    /// Bytes of pack directories kept in memory.
    pub directory_cache_bytes: usize,
    /// Bytes of the database's pages kept in memory.
    pub table_cache_bytes: usize,
    /// Keep what is not in the file yet in memory, not in a temporary file: for where a disk is full.
    pub in_memory: bool,
    /// What the file is written to.
    pub disk: Arc<dyn Disk>,
}

impl Default for IndexOptions {
    fn default() -> Self {
        Self {
            fresh: false,
            directory_cache_bytes: 64 << 20,
            table_cache_bytes: 32 << 20,
            in_memory: false,
            disk: Arc::new(SystemDisk::PRIVATE),
        }
    }
}

/// Where a chunk is.
#[derive(Debug, Clone)]
pub struct Location {
    /// The pack.
    pub pack: PackId,
    /// The pack's directory.
    pub directory: Arc<Directory>,
    /// The chunk's ordinal there.
    pub chunk: u32,
}

/// Where a recipe is in its recipes file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RecipeRow {
    /// The ordinal of its record batch in the file.
    pub batch: u32,
    /// The ordinal of its row in the batch.
    pub row: u32,
}

/// What [`Index::reconcile`] did.
#[derive(Debug, Default)]
pub struct Reconciled {
    /// Packs and recipes files that it did not know.
    pub added: u64,
    /// Packs and recipes files that are no longer there.
    pub dropped: u64,
    /// What could not be read, and why: nothing in it is found.
    pub unreadable: Vec<(ObjectName, Error)>,
}

/// Whether [`Index::close`] kept what was added.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kept {
    /// It is in the file, or there was nothing to add.
    Yes,
    /// Others changed the file meanwhile, or it may not be written: the next to open it finds out again.
    No,
}

/// How big an index is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct IndexStatistics {
    /// Packs.
    pub packs: u64,
    /// Chunks of all packs; one that is in two packs counts twice.
    pub chunks: u64,
    /// Recipes files.
    pub recipes_files: u64,
    /// Recipes of all files.
    pub recipes: u64,
    /// Sorted runs that a look-up may have to ask.
    pub runs: u64,
    /// Bytes of the database, holes included.
    pub database_bytes: u64,
    /// Bytes the filters take in memory when all of them were needed.
    pub filter_bytes: u64,
    /// Bytes they take now.
    pub loaded_filter_bytes: u64,
    /// Bytes of pack directories in memory.
    pub directory_cache_bytes: u64,
}

/// Reads a pack's directory from the store.
pub type LoadDirectory<'a> = &'a dyn Fn(&PackId) -> Result<Arc<Directory>>;

/// Reads which recipes are in a recipes file, and where.
pub type LoadRecipes<'a> = &'a dyn Fn(&RecipesFileId) -> Result<Vec<(RecipeId, RecipeRow)>>;

impl Place for () {
    const SIDE: Side = Side::Chunks;
    const BYTES: usize = 0;

    fn put(self, _: &mut Vec<u8>) {}

    fn get(_: &[u8]) -> Self {}
}

impl Place for RecipeRow {
    const SIDE: Side = Side::Recipes;
    const BYTES: usize = 8;

    fn put(self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.batch.to_le_bytes());
        out.extend_from_slice(&self.row.to_le_bytes());
    }

    fn get(bytes: &[u8]) -> Self {
        let number = |at: usize| bytes.get(at..).and_then(<[u8]>::first_chunk).map_or(0, |b| u32::from_le_bytes(*b));
        Self { batch: number(0), row: number(4) }
    }
}

/// The open index. All its methods can be called from several threads at once.
#[derive(Debug)]
pub struct Index {
    path: PathBuf,
    layers: Arc<Layers>,
    /// Held while the tables are written.
    tables: Mutex<Tables>,
    state: RwLock<State>,
    directories: Directories,
    changed: AtomicBool,
}

#[derive(Debug)]
struct State {
    chunks: SideState<()>,
    recipes: SideState<RecipeRow>,
}

impl Index {
    /// Opens the index at `path`. Where there is none, or one that is damaged, of another version, or cannot be looked
    /// at, it starts empty: it knows what [`Index::reconcile`] tells it. The file is not written before
    /// [`Index::close`].
    ///
    /// # Errors
    /// [`Error::Io`] when no temporary file can be made or written.
    pub fn open(path: &Path, options: &IndexOptions) -> Result<Self> {
        if !options.fresh {
            match Self::open_layers(path, options, false) {
                Err(Error::Index { .. }) => {}
                opened => return opened,
            }
        }
        Self::open_layers(path, options, true)
    }

    fn open_layers(path: &Path, options: &IndexOptions, fresh: bool) -> Result<Self> {
        let layers = if options.in_memory { Layers::open_in_memory(path, fresh) } else { Layers::open(path, fresh) };
        let layers = layers.map_err(|e| Error::io("create a temporary file beside", path, e))?;
        let layers = Arc::new(layers.on_disk(Arc::clone(&options.disk)));
        let tables = Tables::open(Arc::clone(&layers), path, options.table_cache_bytes)?;
        let view = tables.view()?;
        let state = State {
            chunks: SideState::load(view.listing(Side::Chunks)?, &view, layers.len())?,
            recipes: SideState::load(view.listing(Side::Recipes)?, &view, layers.len())?,
        };
        Ok(Self {
            path: path.to_owned(),
            layers,
            tables: Mutex::new(tables),
            state: RwLock::new(state),
            directories: Directories::new(options.directory_cache_bytes),
            changed: AtomicBool::new(false),
        })
    }

    /// Whether there was a file to start from.
    #[must_use]
    pub fn was_found(&self) -> bool {
        self.layers.has_base()
    }

    /// Makes the index agree with what is in the store: adds what it does not know, drops what is not there. Takes
    /// about a microsecond for each pack and file that is known.
    ///
    /// # Errors
    /// [`Error::Index`] if the index is damaged. A pack or file that cannot be loaded is no error: see
    /// [`Reconciled::unreadable`].
    pub fn reconcile(
        &self,
        packs: &[PackId],
        recipes_files: &[RecipesFileId],
        load_directory: LoadDirectory<'_>,
        load_recipes: LoadRecipes<'_>,
    ) -> Result<Reconciled> {
        let mut done = Reconciled::default();
        let (unknown_packs, gone_packs, unknown_files, gone_files) = {
            let state = self.state.read().unwrap_or_else(PoisonError::into_inner);
            let (unknown_packs, gone_packs) = difference(&state.chunks, packs.iter().map(|pack| &pack.0));
            let (unknown_files, gone_files) = difference(&state.recipes, recipes_files.iter().map(|file| &file.0));
            (unknown_packs, gone_packs, unknown_files, gone_files)
        };
        for pack in gone_packs {
            done.dropped += u64::from(self.remove_pack(&PackId(pack)));
        }
        for file in gone_files {
            done.dropped += u64::from(self.remove_recipes(&RecipesFileId(file)));
        }
        for pack in unknown_packs.into_iter().map(PackId) {
            match load_directory(&pack) {
                Ok(directory) => {
                    self.add_entries(pack, &directory)?;
                    done.added += 1;
                }
                Err(e) => done.unreadable.push((ObjectName::Pack(pack), e)),
            }
        }
        for file in unknown_files.into_iter().map(RecipesFileId) {
            match load_recipes(&file) {
                Ok(recipes) => {
                    self.add_recipes(file, &recipes)?;
                    done.added += 1;
                }
                Err(e) => done.unreadable.push((ObjectName::Recipes(file), e)),
            }
        }
        Ok(done)
    }

    /// Adds a pack: its chunks are found from now on. Does nothing if it is known.
    ///
    /// # Errors
    /// [`Error::Index`] or [`Error::Io`] if the index cannot be written.
    pub fn add_pack(&self, pack: PackId, directory: Arc<Directory>) -> Result<()> {
        self.add_entries(pack, &directory)?;
        self.directories.insert(pack, directory);
        Ok(())
    }

    fn add_entries(&self, pack: PackId, directory: &Directory) -> Result<()> {
        let full = {
            let mut state = self.state.write().unwrap_or_else(PoisonError::into_inner);
            state.chunks.add(pack.0, directory.chunks.iter().map(|chunk| (prefix(&chunk.id.0), ())));
            state.chunks.is_full()
        };
        if full { self.flush() } else { Ok(()) }
    }

    /// Forgets a pack: nothing is found in it from now on. Says whether it was known.
    pub fn remove_pack(&self, pack: &PackId) -> bool {
        self.directories.remove(pack);
        self.state.write().unwrap_or_else(PoisonError::into_inner).chunks.remove(&pack.0)
    }

    /// Adds the recipes of a file. Does nothing if it is known.
    ///
    /// # Errors
    /// As [`Index::add_pack`].
    pub fn add_recipes(&self, file: RecipesFileId, recipes: &[(RecipeId, RecipeRow)]) -> Result<()> {
        let full = {
            let mut state = self.state.write().unwrap_or_else(PoisonError::into_inner);
            state.recipes.add(file.0, recipes.iter().map(|(id, row)| (prefix(&id.0), *row)));
            state.recipes.is_full()
        };
        if full { self.flush() } else { Ok(()) }
    }

    /// Forgets a recipes file. Says whether it was known.
    pub fn remove_recipes(&self, file: &RecipesFileId) -> bool {
        self.state.write().unwrap_or_else(PoisonError::into_inner).recipes.remove(&file.0)
    }

    /// Where a chunk is; `None` if no pack that is known has it. Of several packs, one whose directory is in memory.
    ///
    /// # Errors
    /// [`Error::Index`] if the index is damaged: open a fresh one and reconcile it. What `load` said, if it failed for
    /// a pack that may have the chunk and no other has it.
    pub fn find(&self, id: &ChunkId, load: LoadDirectory<'_>) -> Result<Option<Location>> {
        let found = self.find_known(id, load)?;
        Ok(found.map(|(known, chunk)| Location { pack: known.pack, directory: Arc::clone(&known.directory), chunk }))
    }

    /// Where each of these chunks is: as [`Index::find`] for one after the other.
    ///
    /// # Errors
    /// As [`Index::find`].
    pub fn find_many(&self, ids: &[ChunkId], load: LoadDirectory<'_>) -> Result<Vec<Option<Location>>> {
        ids.iter().map(|id| self.find(id, load)).collect()
    }

    /// Whether a chunk is in a pack that is known.
    ///
    /// # Errors
    /// As [`Index::find`].
    pub fn contains(&self, id: &ChunkId, load: LoadDirectory<'_>) -> Result<bool> {
        Ok(self.find_known(id, load)?.is_some())
    }

    /// As [`Index::contains`]: which pack has it.
    ///
    /// # Errors
    /// As [`Index::find`].
    pub fn pack_of(&self, id: &ChunkId, load: LoadDirectory<'_>) -> Result<Option<PackId>> {
        Ok(self.find_known(id, load)?.map(|(known, _)| known.pack))
    }

    fn find_known(&self, id: &ChunkId, load: LoadDirectory<'_>) -> Result<Option<(Arc<Known>, u32)>> {
        let key = self.directories.key(id);
        if let Some(found) = self.directories.find_latest(key, id) {
            return Ok(Some(found));
        }
        let candidates: Vec<PackId> = {
            let state = self.state.read().unwrap_or_else(PoisonError::into_inner);
            let Some(hints) = state.chunks.hints(prefix(&id.0))? else { return Ok(None) };
            if let Some(found) = self.directories.find_recent(key, id) {
                return Ok(Some(found));
            }
            let mut owners = Vec::new();
            state.chunks.find(prefix(&id.0), hints, &mut owners)?;
            owners.into_iter().filter_map(|(owner, ())| state.chunks.id(owner)).map(PackId).collect()
        };
        let mut found = None;
        let mut loads = Vec::new();
        for pack in candidates {
            match self.directories.get(&pack) {
                Some(known) => found = found.or_else(|| known.find(key, id).map(|chunk| (known, chunk))),
                None => loads.push(pack),
            }
        }
        let mut failure = None;
        for pack in loads {
            if found.is_some() {
                break;
            }
            match load(&pack) {
                Ok(directory) => {
                    let known = self.directories.insert(pack, directory);
                    found = known.find(key, id).map(|chunk| (known, chunk));
                }
                Err(e) => failure = Some(e),
            }
        }
        match (found, failure) {
            (Some((known, chunk)), _) => {
                self.directories.hit(&known);
                Ok(Some((known, chunk)))
            }
            (None, Some(e)) => Err(e),
            (None, None) => Ok(None),
        }
    }

    /// The rows that may hold a recipe: nearly always one, if it is in a file that is known. Whoever reads a row
    /// compares its id.
    ///
    /// # Errors
    /// [`Error::Index`] if the index is damaged.
    pub fn find_recipe(&self, id: &RecipeId) -> Result<Vec<(RecipesFileId, RecipeRow)>> {
        let state = self.state.read().unwrap_or_else(PoisonError::into_inner);
        let Some(hints) = state.recipes.hints(prefix(&id.0))? else { return Ok(Vec::new()) };
        let mut found = Vec::new();
        state.recipes.find(prefix(&id.0), hints, &mut found)?;
        let known = found.into_iter().filter_map(|(owner, row)| Some((state.recipes.id(owner)?, row)));
        Ok(known.map(|(file, row)| (RecipesFileId(file), row)).collect())
    }

    /// Writes what was collected into the tables. Others can look things up meanwhile.
    fn flush(&self) -> Result<()> {
        let tables = self.tables.lock().unwrap_or_else(PoisonError::into_inner);
        let (chunks, recipes) = {
            let mut state = self.state.write().unwrap_or_else(PoisonError::into_inner);
            (state.chunks.begin_flush(), state.recipes.begin_flush())
        };
        if chunks.is_none() && recipes.is_none() {
            return Ok(());
        }
        let change = tables.change()?;
        let chunks_run = chunks.as_ref().map(|flush| flush.write(&change)).transpose()?.flatten();
        let recipes_run = recipes.as_ref().map(|flush| flush.write(&change)).transpose()?.flatten();
        change.commit()?;
        let view = tables.view()?;
        let mut state = self.state.write().unwrap_or_else(PoisonError::into_inner);
        state.chunks.finish_flush(chunks.as_ref(), chunks_run, &view)?;
        state.recipes.finish_flush(recipes.as_ref(), recipes_run, &view)?;
        self.changed.store(true, Ordering::Relaxed);
        Ok(())
    }

    /// How big it is.
    #[must_use]
    pub fn statistics(&self) -> IndexStatistics {
        let state = self.state.read().unwrap_or_else(PoisonError::into_inner);
        let (chunks, recipes) = (state.chunks.counts(), state.recipes.counts());
        IndexStatistics {
            packs: chunks.owners,
            chunks: chunks.entries,
            recipes_files: recipes.owners,
            recipes: recipes.entries,
            runs: chunks.runs + recipes.runs,
            database_bytes: self.layers.len(),
            filter_bytes: chunks.filter_bytes + recipes.filter_bytes,
            loaded_filter_bytes: chunks.loaded_filter_bytes + recipes.loaded_filter_bytes,
            directory_cache_bytes: self.directories.bytes() as u64,
        }
    }

    /// Ends the work on the index and keeps what was added in the file, if nobody else changed it since it was opened. An
    /// index that is dropped instead leaves the file as it was.
    ///
    /// # Errors
    /// [`Error::Index`] or [`Error::Io`] if it cannot be written: the file is then as it was, or marked as unusable.
    pub fn close(self) -> Result<Kept> {
        self.flush()?;
        let Self { path, mut layers, tables, state, changed, .. } = self;
        let state = state.into_inner().unwrap_or_else(PoisonError::into_inner);
        let mut tables = tables.into_inner().unwrap_or_else(PoisonError::into_inner);
        let needed = state.chunks.counts().bytes + state.recipes.counts().bytes;
        // Reading stops first, so that closing the database gives all free space back.
        drop(state);
        if !changed.into_inner() {
            return Ok(Kept::Yes);
        }
        let held = layers.disk_bytes().map_err(|e| Error::io("look at", &path, e))?;
        if held > needed + needed / 2 + SPARE_BYTES {
            let successor = layers.successor().map_err(|e| Error::io("create a temporary file beside", &path, e))?;
            let successor = Arc::new(successor);
            let copy = Tables::open(Arc::clone(&successor), &path, COPY_CACHE_BYTES)?;
            tables.copy_into(&copy)?;
            tables = copy;
            layers = successor;
        }
        drop(tables);
        match layers.persist().map_err(|e| Error::io("write", &path, e))? {
            Persisted::Yes => Ok(Kept::Yes),
            Persisted::No => Ok(Kept::No),
        }
    }
}

/// The first 8 bytes of an id.
fn prefix(id: &[u8; 32]) -> u64 {
    id.first_chunk().map_or(0, |bytes| u64::from_be_bytes(*bytes))
}

/// What of the listed is not known, and what of the known is not listed.
fn difference<'a, P: Place>(
    side: &SideState<P>,
    listed: impl ExactSizeIterator<Item = &'a [u8; 32]> + Clone,
) -> (Vec<[u8; 32]>, Vec<[u8; 32]>) {
    let unknown: Vec<[u8; 32]> = listed.clone().filter(|id| !side.knows(id)).copied().collect();
    let count = side.owners().count();
    if listed.len() - unknown.len() == count {
        return (unknown, Vec::new());
    }
    let listed: HashSet<&[u8; 32]> = listed.collect();
    (unknown, side.owners().filter(|id| !listed.contains(id)).copied().collect())
}
