//! The index against a model of it.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

mod damage;
mod processes;

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;

use proptest::prelude::*;

use super::keyspace::{BATCH_ENTRIES, State};
use super::run::Source;
use super::*;
use crate::format::directory::ChunkEntry;

/// The packs and recipes files of a store, as far as the index can tell.
#[derive(Default)]
struct Store {
    packs: BTreeMap<PackId, Arc<Directory>>,
    files: BTreeMap<RecipesFileId, Vec<(RecipeId, RecipeRow)>>,
    loads: Cell<u64>,
}

impl Store {
    fn load_directory(&self, pack: &PackId) -> Result<Arc<Directory>> {
        self.loads.set(self.loads.get() + 1);
        self.packs.get(pack).cloned().ok_or_else(|| Error::not_found(format!("pack {pack}")))
    }

    fn load_recipes(&self, file: &RecipesFileId) -> Result<Vec<(RecipeId, RecipeRow)>> {
        self.files.get(file).cloned().ok_or_else(|| Error::not_found(format!("recipes file {file}")))
    }

    fn add(&mut self, number: u64, chunks: impl IntoIterator<Item = ChunkId>) -> PackId {
        let pack = PackId(bytes(1 << 40 | number));
        self.packs.insert(pack, directory(chunks));
        pack
    }

    fn reconcile(&self, index: &Index) -> Result<Reconciled> {
        let packs: Vec<_> = self.packs.keys().copied().collect();
        let files: Vec<_> = self.files.keys().copied().collect();
        index.reconcile(&packs, &files, &|pack| self.load_directory(pack), &|file| self.load_recipes(file))
    }

    fn find(&self, index: &Index, id: &ChunkId) -> Option<Location> {
        index.find(id, &|pack| self.load_directory(pack)).unwrap()
    }

    /// Fails unless every chunk and recipe is found where it is, and strangers are not.
    fn check(&self, index: &Index) -> Result<()> {
        for (pack, directory) in &self.packs {
            for chunk in &directory.chunks {
                let found = index.find(&chunk.id, &|pack| self.load_directory(pack))?.expect("a chunk is not found");
                assert_eq!(found.directory.chunks[found.chunk as usize].id, chunk.id);
                assert!(self.packs[&found.pack].chunks.iter().any(|c| c.id == chunk.id), "{pack:?}");
            }
        }
        for (file, recipes) in &self.files {
            for (id, row) in recipes {
                assert!(index.find_recipe(id)?.contains(&(*file, *row)));
            }
        }
        for stranger in 0..1000 {
            let id = ChunkId(bytes(1 << 50 | stranger));
            assert!(index.find(&id, &|pack| self.load_directory(pack))?.is_none());
        }
        Ok(())
    }
}

fn bytes(number: u64) -> [u8; 32] {
    *blake3::hash(&number.to_le_bytes()).as_bytes()
}

fn chunk(number: u64) -> ChunkId {
    ChunkId(bytes(number))
}

fn recipe(number: u64) -> RecipeId {
    RecipeId(bytes(1 << 41 | number))
}

fn directory(chunks: impl IntoIterator<Item = ChunkId>) -> Arc<Directory> {
    let chunks = chunks.into_iter().map(|id| ChunkEntry { id, length: 1 }).collect();
    Arc::new(Directory { frames: Vec::new(), chunks })
}

/// An index that is kept in a folder, which need not be there.
fn kept(folder: &Path) -> IndexOptions {
    IndexOptions {
        folder: Some(folder.to_owned()),
        scratch: std::env::temp_dir(),
        keep: true,
        ..IndexOptions::default()
    }
}

/// The index in a folder, brought up to date with the store.
fn open_added(folder: &Path, store: &Store) -> Index {
    let index = Index::open(&kept(folder));
    store.reconcile(&index).unwrap();
    index
}

/// Bytes of all files in a folder.
fn bytes_of(folder: &Path) -> u64 {
    let files = std::fs::read_dir(folder).into_iter().flatten();
    files.map(|file| file.unwrap().metadata().unwrap().len()).sum()
}

/// The names in a folder that end like this, sorted.
fn names(folder: &Path, end: &str) -> Vec<String> {
    let names = std::fs::read_dir(folder).into_iter().flatten();
    let mut names: Vec<_> = names.map(|file| file.unwrap().file_name().into_string().unwrap()).collect();
    names.retain(|name| name.ends_with(end));
    names.sort();
    names
}

fn store(packs: u64, chunks: u64) -> Store {
    let mut store = Store::default();
    for pack in 0..packs {
        store.add(pack, (pack * chunks..(pack + 1) * chunks).map(chunk));
        let file = RecipesFileId(bytes(1 << 42 | pack));
        let row = |i| (recipe(pack * 100 + i), RecipeRow { batch: (i / 10) as u32, row: (i % 10) as u32 });
        store.files.insert(file, (0..100).map(row).collect());
    }
    store
}

#[test]
fn what_is_added_is_found_at_once_and_after_opening_again() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("index");
    let mut store = store(20, 300);
    let index = Index::open(&kept(&path));
    assert_eq!(index.statistics().runs, 0);
    for (pack, directory) in &store.packs {
        index.add_pack(*pack, Arc::clone(directory)).unwrap();
    }
    for (file, recipes) in &store.files {
        index.add_recipes(*file, recipes).unwrap();
    }
    store.check(&index).unwrap();
    assert_eq!(index.close(), Kept::Yes);

    let index = Index::open(&kept(&path));
    assert_eq!(index.statistics().runs, 2);
    let done = store.reconcile(&index).unwrap();
    assert_eq!((done.added, done.dropped), (0, 0));
    let counts = index.statistics();
    assert_eq!((counts.packs, counts.chunks, counts.recipes_files, counts.recipes), (20, 6000, 20, 2000));
    store.check(&index).unwrap();

    // A pack that is gone is not answered with, even from the caches.
    let (gone, directory) = store.packs.pop_first().unwrap();
    let in_gone = directory.chunks[0].id;
    assert_eq!(store.find(&index, &store.packs.first_key_value().unwrap().1.chunks[0].id.clone()).unwrap().chunk, 0);
    assert_eq!(store.reconcile(&index).unwrap().dropped, 1);
    assert!(store.find(&index, &in_gone).is_none());
    assert!(!index.remove_pack(&gone));
    index.close();
    let index = Index::open(&kept(&path));
    assert_eq!(store.reconcile(&index).unwrap().dropped, 1, "files are not changed for what is gone");
    assert_eq!(index.statistics().packs, 19);
    assert!(store.find(&index, &in_gone).is_none());
}

#[test]
fn deleting_the_files_costs_time_never_data() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("index");
    let store = store(5, 100);
    for _ in 0..2 {
        let index = Index::open(&kept(&path));
        assert_eq!(index.statistics().runs, 0);
        assert_eq!(store.reconcile(&index).unwrap().added, 10);
        store.check(&index).unwrap();
        assert_eq!(index.close(), Kept::Yes);
        std::fs::remove_dir_all(&path).unwrap();
    }
    // Nothing else is left behind.
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
}

#[test]
fn a_pack_that_cannot_be_read_is_reported_and_the_rest_is_found() {
    let folder = tempfile::tempdir().unwrap();
    let mut store = store(3, 100);
    store.files.clear();
    let index = Index::open(&kept(&folder.path().join("index")));
    let packs: Vec<_> = store.packs.keys().copied().collect();
    let bad = packs[1];
    let lost = store.packs.remove(&bad).unwrap();
    let load = |pack: &PackId| store.load_directory(pack);
    let done = index.reconcile(&packs, &[], &load, &|_| Ok(Vec::new())).unwrap();
    assert_eq!((done.added, done.unreadable.len()), (2, 1));
    assert_eq!(done.unreadable[0].0, ObjectName::Pack(bad));
    store.check(&index).unwrap();
    assert!(store.find(&index, &lost.chunks[0].id).is_none());

    // A pack that is known, but can be read no more: an error, unless the chunk is elsewhere too.
    let other = directory([lost.chunks[0].id]);
    let small = Index::open(&IndexOptions { directory_cache_bytes: 0, ..IndexOptions::default() });
    small.add_pack(bad, Arc::clone(&lost)).unwrap();
    small.add_pack(packs[0], Arc::clone(&store.packs[&packs[0]])).unwrap();
    assert!(matches!(small.find(&lost.chunks[0].id, &load), Err(Error::NotFound { .. })));
    assert!(small.find(&store.packs[&packs[0]].chunks[0].id, &load).unwrap().is_some());
    let twin = store.add(60, other.chunks.iter().map(|c| c.id));
    small.add_pack(twin, other).unwrap();
    let found = small.find(&lost.chunks[0].id, &|pack| store.load_directory(pack)).unwrap().unwrap();
    assert_eq!(found.pack, twin);
}

/// A batch is begun, and its run cannot be written: it stays, and what is collected later is found beside it.
#[test]
fn what_could_not_be_written_is_still_found() {
    let keyspace = Keyspace::<()>::new(Vec::new(), &|_| ());
    let mut state = keyspace.write();
    assert!(!state.add([1; 32], [(7, ()), (8, ())].into_iter()));
    assert!(state.begin(&|_| true).is_some());
    assert!(state.begin(&|_| true).is_none(), "there is nothing new");
    state.add([2; 32], [(7, ())].into_iter());
    assert_eq!(state.find(7).unwrap(), [([1; 32], ()), ([2; 32], ())]);
    assert!(state.drop_suspects().is_empty());
    assert!(state.knows(&[1; 32]) && state.may_contain(8).unwrap() && !state.may_contain(9).unwrap());
    assert!(state.remove(&[1; 32]));
    assert_eq!(state.find(7).unwrap(), [([2; 32], ())]);
    assert_eq!(state.find(8).unwrap(), []);
}

/// Two runs that list one pack with different numbers of entries, as only a forged one does.
#[test]
fn sources_that_are_listed_with_different_numbers_are_counted_once() {
    let mut state = State::<()>::default();
    state.learn(&Source { id: [1; 32], entries: 5 });
    state.learn(&Source { id: [1; 32], entries: 1000 });
    assert_eq!(state.counts().entries, 5);
    assert!(state.remove(&[1; 32]));
    assert_eq!(state.counts().entries, 0);
}

#[test]
fn prefixes_that_clash_give_no_wrong_answer() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("index");
    let clash = |number: u64| {
        let mut id = bytes(number);
        id[..8].copy_from_slice(&7u64.to_be_bytes());
        ChunkId(id)
    };
    let mut store = Store::default();
    for pack in 0..20 {
        store.add(pack, (pack * 50..pack * 50 + 50).map(clash));
    }
    let index = Index::open(&kept(&path));
    store.reconcile(&index).unwrap();
    store.check(&index).unwrap();
    assert!(store.find(&index, &clash(1000)).is_none());
    index.close();
    let index = Index::open(&kept(&path));
    store.check(&index).unwrap();
    assert!(store.find(&index, &clash(1000)).is_none());
    let row = RecipeRow { batch: 1, row: 2 };
    let recipes: Vec<_> = (0..5).map(|i| (RecipeId(clash(i).0), RecipeRow { row: i as u32, ..row })).collect();
    let files: Vec<_> = (0..5).map(|i| RecipesFileId(bytes(i))).collect();
    for (file, recipe) in files.iter().zip(&recipes) {
        index.add_recipes(*file, std::slice::from_ref(recipe)).unwrap();
    }
    assert_eq!(index.find_recipe(&recipes[0].0).unwrap().len(), 5);
}

#[test]
fn neighbours_are_found_with_one_load() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("index");
    let store = store(20, 1000);
    let index = Index::open(&kept(&path));
    store.reconcile(&index).unwrap();
    store.loads.set(0);
    for (pack, directory) in &store.packs {
        for (ordinal, chunk) in directory.chunks.iter().enumerate() {
            let found = store.find(&index, &chunk.id).unwrap();
            assert_eq!((found.pack, found.chunk as usize), (*pack, ordinal));
        }
    }
    assert_eq!(store.loads.get(), 20);
    for stranger in 0..10_000 {
        assert!(store.find(&index, &chunk(1 << 30 | stranger)).is_none());
    }
    assert_eq!(store.loads.get(), 20, "a chunk that is new loads nothing");
    let bytes = index.statistics().directory_cache_bytes;
    assert!((20 * 1000 * 36..20 * 1000 * 60).contains(&bytes), "{bytes}");

    // With room for three directories no more are held, whatever is asked.
    let small = IndexOptions { directory_cache_bytes: 200_000, ..kept(&path) };
    let index = Index::open(&small);
    store.reconcile(&index).unwrap();
    for round in 0..3 {
        for directory in store.packs.values() {
            assert!(store.find(&index, &directory.chunks[round].id).is_some());
            assert!(index.statistics().directory_cache_bytes <= 200_000);
        }
    }
}

#[test]
fn many_batches_stay_few_runs_and_little_memory() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("index");
    let per_pack = 4000;
    let packs = 6 * BATCH_ENTRIES as u64 / per_pack + 3;
    let store = store(packs, per_pack);
    let index = Index::open(&kept(&path));
    store.reconcile(&index).unwrap();
    index.close();
    let index = Index::open(&kept(&path));
    assert_eq!(index.statistics().filter_bytes, 0, "opening reads no filter");
    for (pack, directory) in &store.packs {
        for ordinal in [0, 1777, 3999] {
            let found = store.find(&index, &directory.chunks[ordinal].id).unwrap();
            assert_eq!((found.pack, found.chunk as usize), (*pack, ordinal));
        }
    }
    let counts = index.statistics();
    assert_eq!(counts.chunks, packs * per_pack);
    assert!(counts.runs <= 8, "{counts:?}");
    assert!(counts.filter_bytes as f64 <= 1.8 * (counts.chunks + counts.recipes) as f64 + 1024.0, "{counts:?}");
    assert!(counts.file_bytes as f64 <= 14.2 * counts.chunks as f64 + 22.2 * counts.recipes as f64, "{counts:?}");
    assert_eq!(counts.file_bytes, bytes_of(&path), "nothing but the runs is in the folder");

    // Packs that are gone leave the runs in time.
    for pack in store.packs.keys().skip(5) {
        assert!(index.remove_pack(pack));
    }
    index.close();
    let index = Index::open(&kept(&path));
    let counts = index.statistics();
    assert_eq!((counts.packs, counts.chunks), (5, 5 * per_pack));
    assert!(counts.filter_bytes < 100_000, "{counts:?}");
    for (position, (pack, directory)) in store.packs.iter().enumerate() {
        let found = index.find(&directory.chunks[99].id, &|pack| store.load_directory(pack)).unwrap();
        assert_eq!(found.map(|found| found.pack), (position < 5).then_some(*pack));
    }
}

#[test]
fn threads_look_up_while_another_adds() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("index");
    let store = store(120, 4000);
    let packs: Vec<_> = store.packs.iter().map(|(pack, directory)| (*pack, Arc::clone(directory))).collect();
    let by_pack: HashMap<_, _> = packs.iter().cloned().collect();
    let index = Index::open(&IndexOptions { directory_cache_bytes: 1 << 20, ..kept(&path) });
    let added = std::sync::atomic::AtomicUsize::new(0);
    let load = |pack: &PackId| Ok(Arc::clone(&by_pack[pack]));
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for (pack, directory) in &packs {
                index.add_pack(*pack, Arc::clone(directory)).unwrap();
                added.fetch_add(1, Ordering::Release);
            }
        });
        for thread in 0..2usize {
            let (index, added, packs, load) = (&index, &added, &packs, &load);
            scope.spawn(move || {
                let mut at = thread;
                while added.load(Ordering::Acquire) < packs.len() {
                    let known = added.load(Ordering::Acquire);
                    if known > 0 {
                        let (pack, directory) = &packs[at % known];
                        let found = index.find(&directory.chunks[at % 4000].id, load).unwrap().unwrap();
                        assert_eq!(found.pack, *pack);
                    }
                    at = at.wrapping_mul(31).wrapping_add(7) % 1_000_003;
                }
            });
        }
    });
    assert_eq!(index.close(), Kept::Yes);
}

#[test]
fn many_small_additions_do_not_pile_up() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("index");
    let mut store = Store::default();
    for round in 0..150 {
        let index = Index::open(&kept(&path));
        store.add(round, (round * 300..round * 300 + 300).map(chunk));
        assert_eq!(store.reconcile(&index).unwrap().added, 1);
        assert_eq!(index.close(), Kept::Yes);
    }
    let index = Index::open(&kept(&path));
    store.check(&index).unwrap();
    assert!(index.statistics().runs < 12);
    let bytes = bytes_of(&path);
    assert!(bytes < 150 * 300 * 15, "{bytes}");
}

#[derive(Debug, Clone)]
enum Step {
    Add(u64, Vec<u64>),
    Remove(usize),
    Recipes(u64, Vec<u64>),
    RemoveRecipes(usize),
    Reopen,
    Delete,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let chunks = || prop::collection::vec(0..200u64, 0..40);
    let step = prop_oneof![
        4 => (0..1000u64, chunks()).prop_map(|(number, chunks)| Step::Add(number, chunks)),
        2 => any::<usize>().prop_map(Step::Remove),
        2 => (0..1000u64, chunks()).prop_map(|(number, chunks)| Step::Recipes(number, chunks)),
        1 => any::<usize>().prop_map(Step::RemoveRecipes),
        2 => Just(Step::Reopen),
        1 => Just(Step::Delete),
    ];
    prop::collection::vec(step, 1..30)
}

fn nth<K: Copy, V>(map: &BTreeMap<K, V>, n: usize) -> Option<K> {
    map.keys().nth(n.checked_rem(map.len())?).copied()
}

/// A number for a pack or recipes file of this content: its id stands for what is in it.
fn number_of(number: u64, content: &[u64]) -> u64 {
    let mix = |sum: u64, part: &u64| (sum ^ part).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(29);
    content.iter().fold(number + 1, mix) >> 25
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, rng_seed: prop::test_runner::RngSeed::Fixed(7), ..ProptestConfig::default() })]

    #[test]
    fn it_agrees_with_a_model(steps in steps()) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("index");
        let options = IndexOptions { directory_cache_bytes: 4000, ..kept(&path) };
        let store = RefCell::new(Store::default());
        let mut index = Index::open(&options);
        for step in steps {
            match step {
                Step::Add(number, chunks) => {
                    let number = number_of(number, &chunks);
                    let pack = store.borrow_mut().add(number, chunks.into_iter().map(chunk));
                    index.add_pack(pack, Arc::clone(&store.borrow().packs[&pack])).unwrap();
                }
                Step::Remove(n) => {
                    let pack = nth(&store.borrow().packs, n);
                    if let Some(pack) = pack {
                        store.borrow_mut().packs.remove(&pack);
                        prop_assert!(index.remove_pack(&pack));
                    }
                }
                Step::Recipes(number, recipes) => {
                    let mut recipes = recipes;
                    recipes.sort_unstable();
                    recipes.dedup();
                    let file = RecipesFileId(bytes(1 << 42 | number_of(number, &recipes)));
                    let rows = (0..).map(|i| RecipeRow { batch: i % 3, row: i });
                    let rows: Vec<_> = recipes.into_iter().map(recipe).zip(rows).collect();
                    index.add_recipes(file, &rows).unwrap();
                    store.borrow_mut().files.insert(file, rows);
                }
                Step::RemoveRecipes(n) => {
                    let file = nth(&store.borrow().files, n);
                    if let Some(file) = file {
                        store.borrow_mut().files.remove(&file);
                        prop_assert!(index.recipes.write().remove(&file.0));
                    }
                }
                Step::Reopen => {
                    prop_assert_eq!(index.close(), Kept::Yes);
                    index = Index::open(&options);
                    prop_assert_eq!(store.borrow().reconcile(&index).unwrap().added, 0);
                }
                Step::Delete => {
                    drop(index);
                    let _ = std::fs::remove_dir_all(&path);
                    index = Index::open(&options);
                    store.borrow().reconcile(&index).unwrap();
                }
            }
            let store = store.borrow();
            for number in 0..210 {
                let id = chunk(number);
                let has = |directory: &Directory| directory.chunks.iter().any(|c| c.id == id);
                match store.find(&index, &id) {
                    Some(found) => {
                        prop_assert!(has(&store.packs[&found.pack]));
                        prop_assert_eq!(found.directory.chunks[found.chunk as usize].id, id);
                    }
                    None => prop_assert!(!store.packs.values().any(|directory| has(directory))),
                }
                let rows = store.files.iter().flat_map(|(file, rows)| rows.iter().map(move |row| (file, row)));
                let mut expected: Vec<_> =
                    rows.filter(|(_, row)| row.0 == recipe(number)).map(|(file, row)| (*file, row.1)).collect();
                let mut found = index.find_recipe(&recipe(number)).unwrap();
                expected.sort_unstable();
                found.sort_unstable();
                prop_assert_eq!(found, expected);
            }
        }
    }
}
