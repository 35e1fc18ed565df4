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
//! 2. what was added and is in no run yet ([`keyspace`]), and the filters of the runs ([`filter`]): an id that is new ends
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
mod keyspace;
mod merge;
mod run;
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
use cache::Directories;
use files::Files;
use keyspace::{Damage, Keyspace};
use merge::Failure;
pub use run::StoreKey;
use run::Value;

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
///
/// ```
/// # use seamstore::{Control, Store, entry::*, report::*, request::*};
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let store = Store::in_memory(Settings::default())?;
/// # let writer = store.writer(WriterOptions::default().threads(1))?;
/// # writer.add_bytes(writer.entry("notes/first.txt", EntryKind::File)?, b"found again".to_vec())?;
/// # let added = writer.finish()?;
/// # let control = Control::default();
/// let rebuilt = store.rebuild_index()?;
/// assert_eq!((rebuilt.statistics.chunks, rebuilt.unreadable.len()), (1, 0));
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
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
    /// Bytes of filters in memory: of those that were needed.
    pub filter_bytes: u64,
    /// Bytes of pack directories in memory.
    pub directory_cache_bytes: u64,
}

/// Reads a pack's directory from the store.
pub type LoadDirectory<'a> = &'a dyn Fn(&PackId) -> Result<Arc<Directory>>;

/// Reads which recipes are in a recipes file, and where.
pub type LoadRecipes<'a> = &'a dyn Fn(&RecipesFileId) -> Result<Vec<(RecipeId, RecipeRow)>>;

impl Value for () {
    const KIND: u8 = 0;
    const EXTENSION: &'static str = ".chunks";
    const BYTES: usize = 0;

    fn put(self, _: &mut Vec<u8>) {}

    fn get(_: &[u8]) -> Self {}
}

impl Value for RecipeRow {
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
    chunks: Keyspace<()>,
    recipes: Keyspace<RecipeRow>,
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
        let chunks = Keyspace::new(files.runs(), &|name| files.remove(name));
        let recipes = Keyspace::new(files.runs(), &|name| files.remove(name));
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
        let mut done = Reconciled::default();
        for pack in self.settle(&self.chunks, packs.iter().map(|pack| &pack.0), &mut done).into_iter().map(PackId) {
            match load_directory(&pack) {
                Ok(directory) => {
                    self.add_entries(pack, &directory)?;
                    done.added += 1;
                }
                Err(e) => done.unreadable.push((ObjectName::Pack(pack), e)),
            }
        }
        let files = recipes_files.iter().map(|file| &file.0);
        for file in self.settle(&self.recipes, files, &mut done).into_iter().map(RecipesFileId) {
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

    /// Forgets what is not listed; returns what is listed and not known.
    fn settle<'a, V: Value>(
        &self,
        keyspace: &Keyspace<V>,
        listed: impl ExactSizeIterator<Item = &'a [u8; 32]> + Clone,
        done: &mut Reconciled,
    ) -> Vec<[u8; 32]> {
        let mut state = keyspace.write();
        state.drop_suspects().iter().for_each(|name| self.files.remove(name));
        let unknown: Vec<[u8; 32]> = listed.clone().filter(|id| !state.knows(id)).copied().collect();
        if listed.len() - unknown.len() < state.sources().len() {
            let listed: HashSet<&[u8; 32]> = listed.collect();
            let gone: Vec<[u8; 32]> = state.sources().filter(|id| !listed.contains(id)).copied().collect();
            for id in &gone {
                state.remove(id);
                self.directories.remove(&PackId(*id));
            }
            done.dropped += gone.len() as u64;
        }
        unknown
    }

    /// Makes what other processes wrote be dropped at the next [`Index::reconcile`], which then adds it again from the
    /// store. A file that was forged can leave out what it says it has, and nothing else shows that. Says whether there
    /// was such a file.
    pub fn distrust(&self) -> bool {
        // Both, in any case.
        self.chunks.read().suspect_found() | self.recipes.read().suspect_found()
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
        let key = self.directories.key(id);
        if let Some(found) = self.directories.find_latest(key, id) {
            return Ok(Some(found));
        }
        let prefix = prefix(&id.0);
        let candidates = {
            let state = self.chunks.read();
            if !state.may_contain(prefix).map_err(|damage| self.damaged(damage))? {
                return Ok(None);
            }
            if let Some(found) = self.directories.find_recent(key, id) {
                return Ok(Some(found));
            }
            state.find(prefix).map_err(|damage| self.damaged(damage))?
        };
        let mut packs: Vec<PackId> = candidates.into_iter().map(|(pack, ())| PackId(pack)).collect();
        // Those whose directory is in memory first.
        packs.sort_by_cached_key(|pack| !self.directories.has(pack));
        let mut failure = None;
        for pack in packs {
            match self.directories.find_in(pack, key, id, load) {
                Ok(None) => {}
                Ok(found) => return Ok(found),
                Err(e) => failure = Some(e),
            }
        }
        failure.map_or(Ok(None), Err)
    }

    /// All places where a chunk is. Packs whose directories cannot be loaded are left out.
    ///
    /// # Errors
    /// [`Error::Index`] if a file of the index turns out to be damaged: reconcile, and ask again.
    pub fn find_all(&self, id: &ChunkId, load: LoadDirectory<'_>) -> Result<Vec<Location>> {
        let key = self.directories.key(id);
        let candidates = self.chunks.read().find(prefix(&id.0)).map_err(|damage| self.damaged(damage))?;
        let locate = |(pack, ())| self.directories.find_in(PackId(pack), key, id, load).ok().flatten();
        Ok(candidates.into_iter().filter_map(locate).collect())
    }

    /// The rows that may hold a recipe: nearly always one, if it is in a file that is known. Who reads a row compares
    /// its id.
    ///
    /// # Errors
    /// [`Error::Index`] if a file of the index turns out to be damaged: reconcile, and ask again.
    pub fn find_recipe(&self, id: &RecipeId) -> Result<Vec<(RecipesFileId, RecipeRow)>> {
        let found = self.recipes.read().find(prefix(&id.0)).map_err(|damage| self.damaged(damage))?;
        Ok(found.into_iter().map(|(file, row)| (RecipesFileId(file), row)).collect())
    }

    /// A run cannot be used. It is dropped when the index is next reconciled: not before, or what it covers would not be
    /// found until then.
    fn damaged(&self, Damage { name, why }: Damage) -> Error {
        Error::Index { path: self.files.describe(name.as_deref()), why }
    }

    /// Writes what was collected as a run. Others can look things up meanwhile.
    fn flush<V: Value>(&self, keyspace: &Keyspace<V>) -> Result<()> {
        let _writing = keyspace.writing.lock().unwrap_or_else(PoisonError::into_inner);
        let begun = keyspace.write().begin(&|run| self.files.may_merge(run));
        let Some((batch, mut merged)) = begun else { return Ok(()) };
        let mut outcome = Ok(());
        let written = loop {
            let entries = batch.sorted();
            let plan = keyspace.read().plan(&batch, entries, &merged);
            if plan.sources.is_empty() {
                break None;
            }
            match self.files.write(&plan) {
                Ok(mut run) => {
                    // What it has of a run that was found is no truer than that one.
                    run.found = merged.iter().any(|run| run.found);
                    break Some(run);
                }
                // The batch stays in memory.
                Err(Failure::Output) if merged.is_empty() => return outcome,
                Err(Failure::Output) => {}
                Err(Failure::Input(position, why)) => {
                    let damage = merged.get(position).map(|run| run.damaged(why));
                    outcome = damage.map_or(Ok(()), |damage| Err(self.damaged(damage)));
                }
            }
            // Without merging, nothing but the output is left to fail.
            merged.clear();
        };
        keyspace.write().finish(&batch, &merged, written);
        merged.iter().filter_map(|run| run.name.as_ref()).for_each(|name| self.files.remove(name));
        outcome
    }

    /// How big it is.
    #[must_use]
    pub fn statistics(&self) -> IndexStatistics {
        let (chunks, recipes) = (self.chunks.read().counts(), self.recipes.read().counts());
        IndexStatistics {
            packs: chunks.sources,
            chunks: chunks.entries,
            recipes_files: recipes.sources,
            recipes: recipes.entries,
            runs: chunks.runs + recipes.runs,
            file_bytes: chunks.bytes + recipes.bytes,
            filter_bytes: chunks.filter_bytes + recipes.filter_bytes,
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
