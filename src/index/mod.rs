//! Where is a chunk, or a recipe, in the store?
//!
//! The index maps a chunk id to its pack and its ordinal there, and a recipe id to its row in a recipes file. It is a
//! cache, a folder of immutable files ([`run`]): whatever happens to them, what they lack is added again from pack directories
//! and recipes files ([`Index::reconcile`]). Invariant: an answer is never wrong. A chunk is in a pack only if that pack's own
//! directory says so, with the whole id.
//!
//! A look-up asks, in this order:
//!
//! 1. the directory of the pack hit last ([`cache`]): neighbours follow each other;
//! 2. what was added and is in no run yet ([`side`]), and the filters of the runs ([`filter`]): an id that is new ends
//!    here;
//! 3. the directories of a few packs hit lately: versions of the same data lie in several;
//! 4. the runs themselves: one page;
//! 5. the directory of the pack they name, from the cache or from the store.
//!
//! Several processes can have it open at once, and none waits ([`files`]). Each sees what was there when it opened the
//! index and what it adds; what it adds becomes a new file, which the next to open the index finds beside those of the others.
//!
//! Memory: filters as far as they were needed (about 1.5 bytes per chunk), the ids of packs and recipes files (some 120
//! bytes each), the directories that are kept (64 MiB), and up to 4 MB of what was added and is not written yet.

mod cache;
mod files;
mod filter;
mod merge;
mod run;
mod side;
#[cfg(test)]
mod tests;

use std::collections::HashSet;
use std::path::PathBuf;
use std::sync::{Arc, PoisonError};

use crate::error::{Error, Result};
use crate::format::directory::Directory;
use crate::format::id::{ChunkId, PackId, RecipeId, RecipesFileId};
use crate::format::name::ObjectName;
use crate::storage::disk::{Disk, SystemDisk};
use cache::{Directories, Known};
use files::Files;
use merge::Failure;
use run::Place;
pub use run::StoreKey;
use side::{Damage, Side, State};

/// How an index is opened.
#[derive(Debug, Clone)]
pub struct IndexOptions {
    /// The folder its files are in; `None` where there can be none.
    pub folder: Option<PathBuf>,
    /// Which store it is of: files of another are not read.
    pub store: StoreKey,
    /// Whether what is added is kept in the folder. Otherwise it ends with the process.
    pub keep: bool,
    /// Where files without a name are made for what is not kept.
    pub scratch: PathBuf,
    /// Bytes of pack directories kept in memory.
    pub directory_cache_bytes: usize,
    /// The disk the folder is on.
    pub disk: Arc<dyn Disk>,
}

impl Default for IndexOptions {
    fn default() -> Self {
        Self {
            folder: None,
            store: StoreKey::default(),
            keep: false,
            scratch: std::env::temp_dir(),
            directory_cache_bytes: 64 << 20,
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
    /// It is in the folder, or there was nothing to add.
    Yes,
    /// The folder cannot be written, or the index was opened not to change it: the next to open the index reads the
    /// directories again.
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
    /// Bytes of the files they are in.
    pub file_bytes: u64,
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
    const KIND: u8 = 0;
    const EXTENSION: &'static str = ".chunks";
    const BYTES: usize = 0;

    fn put(self, _: &mut Vec<u8>) {}

    fn get(_: &[u8]) -> Self {}
}

impl Place for RecipeRow {
    const KIND: u8 = 1;
    const EXTENSION: &'static str = ".recipes";
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
    files: Files,
    chunks: Side<()>,
    recipes: Side<RecipeRow>,
    directories: Directories,
}

impl Index {
    /// Opens the index. Where it does not exist, or where its files cannot be used, it knows what
    /// [`Index::reconcile`] adds. Nothing that a file says is believed but which packs and recipes files to look into.
    #[must_use]
    pub fn open(options: &IndexOptions) -> Self {
        let disk = Arc::clone(&options.disk);
        let files = Files::new(options.folder.as_deref(), &options.scratch, options.store, disk, options.keep);
        files.sweep();
        let chunks = Side::new(files.runs(), &mut |name| files.remove(name));
        let recipes = Side::new(files.runs(), &mut |name| files.remove(name));
        Self { files, chunks, recipes, directories: Directories::new(options.directory_cache_bytes) }
    }

    /// Makes the index agree with what is in the store: adds what it does not know, drops what is not there. Takes
    /// about a microsecond for each pack and file that is known. The store must be listed after the index is opened, or
    /// what another process added in between counts as gone.
    ///
    /// # Errors
    /// [`Error::Index`] if a file of the index turns out to be damaged: call it again. A pack or file that cannot be
    /// loaded is no error: see [`Reconciled::unreadable`].
    pub fn reconcile(
        &self,
        packs: &[PackId],
        recipes_files: &[RecipesFileId],
        load_directory: LoadDirectory<'_>,
        load_recipes: LoadRecipes<'_>,
    ) -> Result<Reconciled> {
        self.chunks.drop_suspects(&|name| self.files.remove(name));
        self.recipes.drop_suspects(&|name| self.files.remove(name));
        let mut done = Reconciled::default();
        let (unknown_packs, gone_packs) = difference(&self.chunks.read(), packs.iter().map(|pack| &pack.0));
        let (unknown_files, gone_files) = difference(&self.recipes.read(), recipes_files.iter().map(|file| &file.0));
        for pack in gone_packs {
            done.dropped += u64::from(self.remove_pack(&PackId(pack)));
        }
        for file in gone_files {
            done.dropped += u64::from(self.recipes.write().remove(&file));
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

    /// Makes what other processes wrote be dropped at the next [`Index::reconcile`], which then adds it again from the
    /// store. A file that was forged can leave out what it says it has, and nothing else shows that. Says whether there
    /// was such a file.
    pub fn distrust(&self) -> bool {
        // Both, in any case.
        self.chunks.suspect_found() | self.recipes.suspect_found()
    }

    /// Adds a pack: its chunks are found from now on. Does nothing if it is known.
    ///
    /// # Errors
    /// [`Error::Index`] if a file of the index turns out to be damaged. The pack was added: reconcile.
    pub fn add_pack(&self, pack: PackId, directory: Arc<Directory>) -> Result<()> {
        self.add_entries(pack, &directory)?;
        self.directories.insert(pack, directory);
        Ok(())
    }

    fn add_entries(&self, pack: PackId, directory: &Directory) -> Result<()> {
        let entries = directory.chunks.iter().map(|chunk| (prefix(&chunk.id.0), ()));
        let is_full = self.chunks.write().add(pack.0, entries);
        if is_full { self.flush(&self.chunks) } else { Ok(()) }
    }

    /// Forgets a pack: nothing is found in it from now on. Says whether it was known.
    pub fn remove_pack(&self, pack: &PackId) -> bool {
        self.directories.remove(pack);
        self.chunks.write().remove(&pack.0)
    }

    /// Adds the recipes of a file. Does nothing if it is known.
    ///
    /// # Errors
    /// As [`Index::add_pack`].
    pub fn add_recipes(&self, file: RecipesFileId, recipes: &[(RecipeId, RecipeRow)]) -> Result<()> {
        let is_full = self.recipes.write().add(file.0, recipes.iter().map(|(id, row)| (prefix(&id.0), *row)));
        if is_full { self.flush(&self.recipes) } else { Ok(()) }
    }

    /// Where a chunk is; `None` if no pack that is known has it. Of several packs, one whose directory is in memory.
    ///
    /// # Errors
    /// [`Error::Index`] if a file of the index turns out to be damaged: reconcile, and ask again. The error of `load`, if
    /// it failed for a pack that may have the chunk and no other has it.
    pub fn find(&self, id: &ChunkId, load: LoadDirectory<'_>) -> Result<Option<Location>> {
        let found = self.find_known(id, load)?;
        Ok(found.map(|(known, chunk)| Location { pack: known.pack, directory: Arc::clone(&known.directory), chunk }))
    }

    /// All places where a chunk is. Packs whose directories cannot be loaded are left out.
    ///
    /// # Errors
    /// [`Error::Index`] if a file of the index turns out to be damaged: reconcile, and ask again.
    pub fn find_all(&self, id: &ChunkId, load: LoadDirectory<'_>) -> Result<Vec<Location>> {
        let (key, prefix) = (self.directories.key(id), prefix(&id.0));
        let candidates = {
            let state = self.chunks.read();
            let hints = state.hints(prefix).map_err(|damage| self.damaged(&self.chunks, damage))?;
            let found = hints.map_or(Ok(Vec::new()), |hints| state.find(prefix, hints));
            found.map_err(|damage| self.damaged(&self.chunks, damage))?
        };
        let mut packs: Vec<PackId> = candidates.into_iter().map(|(pack, ())| PackId(pack)).collect();
        packs.dedup();
        let known = packs.iter().filter_map(|pack| {
            self.directories.get(pack).or_else(|| load(pack).ok().map(|loaded| self.directories.insert(*pack, loaded)))
        });
        Ok(known
            .filter_map(|known| {
                let chunk = known.find(key, id)?;
                Some(Location { pack: known.pack, directory: Arc::clone(&known.directory), chunk })
            })
            .collect())
    }

    /// As [`Index::find`]: which pack has a chunk.
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
        let prefix = prefix(&id.0);
        let candidates = {
            let state = self.chunks.read();
            let Some(hints) = state.hints(prefix).map_err(|damage| self.damaged(&self.chunks, damage))? else {
                return Ok(None);
            };
            if let Some(found) = self.directories.find_recent(key, id) {
                return Ok(Some(found));
            }
            state.find(prefix, hints).map_err(|damage| self.damaged(&self.chunks, damage))?
        };
        let mut found = None;
        let mut loads = Vec::new();
        for pack in candidates.into_iter().map(|(pack, ())| PackId(pack)) {
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

    /// The rows that may hold a recipe: nearly always one, if it is in a file that is known. Who reads a row compares
    /// its id.
    ///
    /// # Errors
    /// [`Error::Index`] if a file of the index turns out to be damaged: reconcile, and ask again.
    pub fn find_recipe(&self, id: &RecipeId) -> Result<Vec<(RecipesFileId, RecipeRow)>> {
        let prefix = prefix(&id.0);
        let state = self.recipes.read();
        let found = match state.hints(prefix) {
            Ok(Some(hints)) => state.find(prefix, hints),
            found => found.map(|_| Vec::new()),
        };
        let found = found.map_err(|damage| self.damaged(&self.recipes, damage))?;
        Ok(found.into_iter().map(|(file, row)| (RecipesFileId(file), row)).collect())
    }

    /// Notes that a run cannot be used. It is dropped when the index is next reconciled: not before, or what it covers
    /// would not be found until then.
    fn damaged<P: Place>(&self, side: &Side<P>, (run, why): Damage<P>) -> Error {
        let name = side.suspect(run);
        Error::Index { path: self.files.describe(name.as_deref()), why }
    }

    /// Writes what was collected as a run. Others can look things up meanwhile.
    fn flush<P: Place>(&self, side: &Side<P>) -> Result<()> {
        let _writing = side.writing.lock().unwrap_or_else(PoisonError::into_inner);
        let may_merge = self.files.mergeable();
        let Some(mut batch) = side.write().begin(&may_merge) else { return Ok(()) };
        let mut outcome = Ok(());
        let written = loop {
            match self.files.write(&batch) {
                Ok(written) => break written,
                Err(Failure::Source(position, why)) => {
                    for run in batch.merged.iter().skip(position).take(1) {
                        outcome = Err(self.damaged(side, (Arc::clone(run), why.clone())));
                    }
                }
                Err(Failure::Output(e)) if batch.merged.is_empty() => {
                    let path = self.files.describe(None);
                    return Err(Error::Index { path, why: e.to_string() });
                }
                Err(Failure::Output(_)) => {}
            }
            // Without merging, nothing but the output is left to fail.
            batch.merged.clear();
        };
        let name = written.as_ref().and_then(|(_, name, _)| name.clone());
        side.write().finish(&batch, written);
        // What is not in the folder yet takes the place of nothing that is.
        let is_replaced = name.is_some() || self.files.is_kept();
        for run in batch.merged.iter().filter(|_| is_replaced) {
            run.name.iter().for_each(|name| self.files.remove(name));
        }
        outcome
    }

    /// How big it is.
    #[must_use]
    pub fn statistics(&self) -> IndexStatistics {
        let (chunks, recipes) = (self.chunks.read().counts(), self.recipes.read().counts());
        IndexStatistics {
            packs: chunks.owners,
            chunks: chunks.entries,
            recipes_files: recipes.owners,
            recipes: recipes.entries,
            runs: chunks.runs + recipes.runs,
            file_bytes: chunks.bytes + recipes.bytes,
            filter_bytes: chunks.filter_bytes + recipes.filter_bytes,
            loaded_filter_bytes: chunks.loaded_filter_bytes + recipes.loaded_filter_bytes,
            directory_cache_bytes: self.directories.bytes() as u64,
        }
    }

    /// Ends the work on the index and keeps what was added, if it can be kept. Nothing depends on that. An index that is
    /// dropped instead keeps what was written so far.
    pub fn close(self) -> Kept {
        if !self.files.is_kept() {
            return Kept::No;
        }
        let written = [self.flush(&self.chunks), self.flush(&self.recipes)];
        if written.iter().all(Result::is_ok) && self.files.is_kept() { Kept::Yes } else { Kept::No }
    }
}

/// The first 8 bytes of an id.
fn prefix(id: &[u8; 32]) -> u64 {
    id.first_chunk().map_or(0, |bytes| u64::from_be_bytes(*bytes))
}

/// What of the listed is not known, and what of the known is not listed.
fn difference<'a, P: Place>(
    state: &State<P>,
    listed: impl ExactSizeIterator<Item = &'a [u8; 32]> + Clone,
) -> (Vec<[u8; 32]>, Vec<[u8; 32]>) {
    let unknown: Vec<[u8; 32]> = listed.clone().filter(|id| !state.knows(id)).copied().collect();
    if listed.len() - unknown.len() == state.owners().len() {
        return (unknown, Vec::new());
    }
    let listed: HashSet<&[u8; 32]> = listed.collect();
    (unknown, state.owners().filter(|id| !listed.contains(id)).copied().collect())
}
