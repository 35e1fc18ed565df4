//! The index fails, or lies, in the middle of the work.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use super::*;
use crate::testing::random::noise;
use crate::testing::shelf::Shelf;

fn files_of(store: &Store) -> Vec<std::path::PathBuf> {
    let files = std::fs::read_dir(store.caches().directory().unwrap().join(INDEX_FOLDER)).unwrap();
    files.map(|file| file.unwrap().path()).collect()
}

fn chunks_of(store: &Store) -> Vec<ChunkId> {
    let packs: Vec<PackId> = listed(store.storage(), ObjectKind::Pack, ObjectName::pack).unwrap();
    let directory = |pack| read_directory(store.storage(), pack).unwrap().chunks;
    packs.into_iter().flat_map(directory).map(|chunk| chunk.id).collect()
}

/// What an add or a get has begun is not ended by a cache.
#[test]
fn an_index_that_is_damaged_while_it_is_open_is_made_again() {
    let shelf = Shelf::new();
    shelf.write("big", &noise(9, 8_000_000));
    let id = shelf.add("big");
    let store = shelf.store();
    // Nothing is kept in memory, so that the damage is met.
    let options = IndexOptions { directory_cache_bytes: 0, ..store.index_options(true) };
    let open = || ChunkIndex::open_with(store.storage(), &options, PendingDeletes::default()).unwrap();
    let (chunk_index, other) = (open(), open());
    for path in files_of(&store) {
        let file = std::fs::File::options().write(true).open(&path).unwrap();
        let damaged: Vec<u8> = std::fs::read(&path).unwrap().iter().map(|byte| byte ^ 0x55).collect();
        std::os::unix::fs::FileExt::write_all_at(&file, &damaged, 0).unwrap();
    }
    let mut noticed = 0;
    for chunk in chunks_of(&store) {
        let asked = other.index.find(&chunk, &|pack| other.load_directory(pack));
        noticed += usize::from(matches!(asked, Err(Error::Index { .. })));
        assert!(chunk_index.contains(&chunk).unwrap());
    }
    assert!(noticed > 0, "nobody would have noticed");
    drop(other);
    chunk_index.close();
    shelf.assert_whole(id, "big", &shelf.source("big"));
    // What was damaged was made again, and is right.
    let again = store.chunk_index().unwrap();
    assert_eq!((again.reconciled.added, again.statistics().runs), (1, 1), "the recipes were not asked for");
}

/// Its files say that they have all packs and recipes, and they have nothing: an add stores again what it does not find,
/// and what a reader does not find is looked for in the store itself.
#[test]
fn an_index_that_leaves_something_out_makes_nothing_lost() {
    let shelf = Shelf::new();
    shelf.write("big", &noise(9, 3_000_000));
    let id = shelf.add("big");
    let store = shelf.store();
    for path in files_of(&store) {
        std::fs::remove_file(path).unwrap();
    }
    let index = Index::open(&store.index_options(true));
    let packs: Vec<PackId> = listed(store.storage(), ObjectKind::Pack, ObjectName::pack).unwrap();
    let files: Vec<RecipesFileId> = listed(store.storage(), ObjectKind::Recipes, ObjectName::recipes).unwrap();
    index.reconcile(&packs, &files, &|_| Ok(Arc::default()), &|_| Ok(Vec::new())).unwrap();
    index.close();
    let chunk_index = store.chunk_index().unwrap();
    assert_eq!(chunk_index.reconciled.added, 0);
    let chunk = chunks_of(&store)[0];
    assert!(!chunk_index.contains(&chunk).unwrap(), "it was believed");
    shelf.assert_whole(id, "big", &shelf.source("big"));
    let (location, place) = chunk_index.locate(&chunk, u64::from(length_of(&store, &chunk))).unwrap();
    assert_eq!(location.directory.chunks[location.chunk as usize].id, chunk);
    assert_eq!(place.length, length_of(&store, &chunk));
    assert!(chunk_index.contains(&chunk).unwrap());
    // What is nowhere is said to be lost, however often it is asked for.
    for _ in 0..2 {
        assert!(matches!(chunk_index.locate(&ChunkId([7; 32]), 5), Err(Error::Damaged { .. })));
    }
}

fn length_of(store: &Store, id: &ChunkId) -> u32 {
    let packs: Vec<PackId> = listed(store.storage(), ObjectKind::Pack, ObjectName::pack).unwrap();
    let directory = |pack| read_directory(store.storage(), pack).unwrap().chunks;
    packs.into_iter().flat_map(directory).find(|chunk| chunk.id == *id).unwrap().length
}
