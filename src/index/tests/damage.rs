//! Files of the index that are damaged, cut short, of something else, or forged.

use std::os::unix::fs::FileExt;

use super::*;

/// A folder with the index of a store, and the store.
fn indexed(packs: u64, chunks: u64) -> (tempfile::TempDir, PathBuf, Store) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("index");
    let store = store(packs, chunks);
    assert_eq!(open_added(&path, &store).close(), Kept::Yes);
    (folder, path, store)
}

/// Damages a page of each file whose name ends so.
fn damage_files(folder: &Path, end: &str) {
    for name in names(folder, end) {
        let file = std::fs::OpenOptions::new().write(true).open(folder.join(name)).unwrap();
        file.write_all_at(&[0x55; 64], 100).unwrap();
    }
}

/// Fails unless an index that is opened again knows the whole store, and its files are whole.
fn assert_whole(folder: &Path, store: &Store) {
    let index = Index::open(&kept(folder));
    assert_eq!(store.reconcile(&index).unwrap().added, 0);
    assert_eq!(check_all(store, &index, "opened again"), 0);
}

/// Asks for everything, and reconciles as often as the index says that a file is damaged. Says how often that was.
fn check_all(store: &Store, index: &Index, case: &str) -> usize {
    for damages in 0..10 {
        match store.check(index) {
            Ok(()) => return damages,
            Err(Error::Index { .. }) => {}
            Err(e) => panic!("{case}: {e}"),
        }
        while let Err(e) = store.reconcile(index) {
            assert!(matches!(e, Error::Index { .. }), "{case}: {e}");
        }
    }
    panic!("{case}: damage without end");
}

/// Changes each byte of the tables and every 31st of the rest, one at a time, before and while the index is open.
#[test]
fn a_flipped_byte_is_never_believed() {
    let (_folder, path, store) = indexed(4, 150);
    // Nothing is kept in memory, so what is damaged while the index is open is met too.
    let options = IndexOptions { directory_cache_bytes: 0, keep: false, ..kept(&path) };
    let (mut refused, mut noticed) = (0, 0);
    for name in names(&path, "") {
        let file = std::fs::OpenOptions::new().read(true).write(true).open(path.join(&name)).unwrap();
        let length = file.metadata().unwrap().len();
        let tables = length - 96 - 4 * 36 - 4;
        for offset in (0..tables).step_by(31).chain(tables..length) {
            let case = format!("{name}, byte {offset} of {length}");
            let before = Index::open(&options);
            store.reconcile(&before).unwrap();
            let mut byte = [0];
            file.read_exact_at(&mut byte, offset).unwrap();
            file.write_all_at(&[byte[0] ^ 0x41], offset).unwrap();
            noticed += check_all(&store, &before, &case);
            let index = Index::open(&options);
            refused += usize::from(index.statistics().runs == 1);
            store.reconcile(&index).unwrap();
            noticed += check_all(&store, &index, &case);
            file.write_all_at(&byte, offset).unwrap();
        }
    }
    assert!(refused == 2 * (96 + 4 * 36 + 4), "{refused}");
    assert!(noticed > 500, "{noticed}");
}

/// A damaged file that is met by a process that may write is gone when it ends, and what it had is there.
#[test]
fn a_damaged_file_is_replaced_while_the_index_is_open() {
    let (_folder, path, store) = indexed(4, 150);
    let names_before = names(&path, "");
    damage_files(&path, "");
    let index = open_added(&path, &store);
    assert!(check_all(&store, &index, "damaged") >= 2);
    assert_eq!(index.close(), Kept::Yes);
    assert_whole(&path, &store);
    assert!(names(&path, "").iter().all(|name| !names_before.contains(name)));
}

/// One that is met only when it is to be merged: nothing that was being added is lost.
#[test]
fn a_damaged_file_is_not_merged() {
    let (_folder, path, mut store) = indexed(4, 150);
    damage_files(&path, ".chunks");
    let index = Index::open(&kept(&path));
    let pack = store.add(50, (50_000..50_100).map(chunk));
    index.add_pack(pack, Arc::clone(&store.packs[&pack])).unwrap();
    assert_eq!(index.close(), Kept::No);
    let index = open_added(&path, &store);
    check_all(&store, &index, "after");
    assert_eq!(index.close(), Kept::Yes);
    assert_whole(&path, &store);
}

/// A file cut short, empty, of another store, version or kind counts for nothing, and goes when the index is next written.
#[test]
fn a_file_that_is_no_run_of_this_store_is_replaced() {
    let (folder, path, store) = indexed(2, 100);
    let good = std::fs::read(path.join(&names(&path, ".chunks")[0])).unwrap();
    let recipes = std::fs::read(path.join(&names(&path, ".recipes")[0])).unwrap();
    let other = folder.path().join("other");
    let index = Index::open(&IndexOptions { store: [1; 16], ..kept(&other) });
    store.reconcile(&index).unwrap();
    index.close();
    let foreign = std::fs::read(other.join(&names(&other, ".chunks")[0])).unwrap();
    let mut version = good.clone();
    let magic = version.len() - 96..version.len() - 88;
    version[magic].copy_from_slice(b"SEAMRUN0");
    let cases = [Vec::new(), good[1..].to_vec(), good[..96].to_vec(), vec![0; 20_000], version, foreign, recipes];
    for (number, case) in cases.iter().enumerate() {
        for name in names(&path, ".chunks") {
            std::fs::remove_file(path.join(name)).unwrap();
        }
        std::fs::write(path.join("0123456789abcdef.chunks"), case).unwrap();
        let reader = Index::open(&IndexOptions { keep: false, ..kept(&path) });
        assert_eq!(reader.statistics().packs, 0, "{number}");
        let index = Index::open(&kept(&path));
        assert_eq!(names(&path, ".chunks"), [""; 0], "{number}");
        store.reconcile(&index).unwrap();
        store.check(&index).unwrap();
        assert_eq!(index.close(), Kept::Yes, "{number}");
        let index = Index::open(&kept(&path));
        assert_eq!(index.statistics().packs, 2, "{number}");
        store.check(&index).unwrap();
    }
}

/// The index of a store in which every file says that it covers all, and has nothing of it.
fn lying() -> (tempfile::TempDir, PathBuf, Store) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("index");
    let store = store(3, 100);
    let mut liar = Store::default();
    for pack in store.packs.keys() {
        liar.packs.insert(*pack, directory([chunk(1 << 33)]));
    }
    for file in store.files.keys() {
        liar.files.insert(*file, Vec::new());
    }
    assert_eq!(open_added(&path, &liar).close(), Kept::Yes);
    (folder, path, store)
}

/// A run that says it has a pack and lacks its chunks: nothing tells that but the pack.
#[test]
fn what_other_processes_wrote_can_be_doubted() {
    let (_folder, path, store) = lying();
    let index = Index::open(&kept(&path));
    assert_eq!(store.reconcile(&index).unwrap().added, 0);
    let asked = chunk(7);
    assert!(store.find(&index, &asked).is_none(), "it was believed");
    assert!(store.find(&index, &chunk(1 << 33)).is_none(), "the directory has the last word");
    assert!(index.distrust());
    assert_eq!(store.reconcile(&index).unwrap().added, 6);
    store.check(&index).unwrap();
    assert!(!index.distrust(), "it is this process's own now");
    assert_eq!(index.close(), Kept::Yes);
    assert_whole(&path, &store);
}

/// What a process merged with such a run is as doubtful as that.
#[test]
fn what_was_merged_with_what_others_wrote_can_be_doubted() {
    let (_folder, path, mut store) = lying();
    let index = open_added(&path, &store);
    let pack = store.add(50, (5000..5100).map(chunk));
    index.add_pack(pack, Arc::clone(&store.packs[&pack])).unwrap();
    index.flush(&index.chunks).unwrap();
    assert_eq!(names(&path, ".chunks").len(), 1, "they are merged");
    assert!(store.find(&index, &chunk(5000)).is_some() && store.find(&index, &chunk(7)).is_none());
    assert!(index.distrust());
    assert_eq!(store.reconcile(&index).unwrap().added, 7);
    store.check(&index).unwrap();
    assert_eq!(index.close(), Kept::Yes);
    assert_whole(&path, &store);
}
