//! The index fails in the middle of the work.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use super::*;
use crate::engine::gc::tests::{Shelf, noise};

/// What an add or a get has begun is not ended by a cache.
#[test]
fn an_index_that_is_damaged_while_it_is_open_is_made_again() {
    let shelf = Shelf::new();
    shelf.write("big", &noise(9, 8_000_000));
    let id = shelf.add("big");
    let store = shelf.store();
    let path = store.caches().directory().unwrap().join(INDEX_FILE);
    // Nothing is kept in memory, so that the damage is met.
    let options = IndexOptions { table_cache_bytes: 0, directory_cache_bytes: 0, ..IndexOptions::default() };
    let open = || Locator::open_with(store.caches(), store.storage(), &options, Condemned::default()).unwrap();
    let (locator, other) = (open(), open());
    let file = std::fs::File::options().write(true).open(&path).unwrap();
    let bytes = std::fs::read(&path).unwrap();
    let damaged: Vec<u8> = bytes[4096..].iter().map(|byte| byte ^ 0x55).collect();
    std::os::unix::fs::FileExt::write_all_at(&file, &damaged, 4096).unwrap();
    let mut noticed = 0;
    let packs: Vec<PackId> = listed(store.storage(), ObjectKind::Pack, ObjectName::pack).unwrap();
    for pack in packs {
        for chunk in &read_directory(store.storage(), pack).unwrap().chunks {
            let asked = other.index().pack_of(&chunk.id, &|pack| other.load_directory(pack));
            noticed += usize::from(matches!(asked, Err(Error::Index { .. })));
            assert!(locator.contains(&chunk.id).unwrap());
        }
    }
    assert!(noticed > 0, "nobody would have noticed");
    drop(other);
    locator.close().unwrap();
    shelf.assert_whole(id, "big", &shelf.source("big"));
}
