//! Everything that may happen to the index's file: shared, replaced, damaged, cut short, no room for it.

use std::fs::OpenOptions;
use std::os::unix::fs::FileExt;

use super::*;

#[test]
fn an_index_that_is_dropped_leaves_the_file_as_it_was() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("index.redb");
    let mut store = store(3, 100);
    let index = Index::open(&path, &options()).unwrap();
    store.reconcile(&index).unwrap();
    index.close().unwrap();
    let before = std::fs::read(&path).unwrap();
    store.add(77, (9000..9100).map(chunk));
    let index = Index::open(&path, &options()).unwrap();
    assert_eq!(store.reconcile(&index).unwrap().added, 1);
    store.check(&index).unwrap();
    drop(index);
    assert_eq!(std::fs::read(&path).unwrap(), before);
    // And one that changed nothing writes nothing.
    store.packs.remove(&PackId(bytes(1 << 40 | 77)));
    let index = Index::open(&path, &options()).unwrap();
    store.reconcile(&index).unwrap();
    assert_eq!(index.close().unwrap(), Kept::Yes);
    assert_eq!(std::fs::read(&path).unwrap(), before);
}

#[test]
fn several_have_it_open_and_the_first_to_close_keeps_its_work() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("index.redb");
    let mut store = store(3, 100);
    let first = Index::open(&path, &options()).unwrap();
    store.reconcile(&first).unwrap();
    first.close().unwrap();

    let (a, b) = (Index::open(&path, &options()).unwrap(), Index::open(&path, &options()).unwrap());
    assert!(a.was_found() && b.was_found());
    let pack = store.add(50, (5000..5100).map(chunk));
    a.add_pack(pack, Arc::clone(&store.packs[&pack])).unwrap();
    let pack = store.add(51, (5050..5200).map(chunk));
    b.add_pack(pack, Arc::clone(&store.packs[&pack])).unwrap();
    assert!(store.find(&a, &chunk(5150)).is_none(), "what others do is seen when it is opened the next time");
    let reader = Index::open(&path, &options()).unwrap();
    assert_eq!(a.close().unwrap(), Kept::Yes, "a new file takes the place of the one that others read");
    assert!(store.find(&b, &chunk(5150)).is_some());
    assert!(store.find(&b, &chunk(5000)).is_none());
    assert_eq!(b.close().unwrap(), Kept::No);

    let index = Index::open(&path, &options()).unwrap();
    assert_eq!(store.reconcile(&index).unwrap().added, 1, "the pack that the second could not keep");
    store.check(&index).unwrap();
    assert_eq!(index.close().unwrap(), Kept::Yes, "nobody else has the new file open");
    assert_eq!(store.reconcile(&reader).unwrap().added, 2);
    store.check(&reader).unwrap();
    assert_eq!(reader.close().unwrap(), Kept::No);
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);

    // A file that was replaced, or made, meanwhile is left alone.
    let old = Index::open(&path, &options()).unwrap();
    old.remove_pack(&pack);
    std::fs::rename(&path, folder.path().join("elsewhere")).unwrap();
    let new = Index::open(&path, &options()).unwrap();
    let late = Index::open(&path, &options()).unwrap();
    store.reconcile(&new).unwrap();
    store.reconcile(&late).unwrap();
    assert_eq!(new.close().unwrap(), Kept::Yes);
    assert_eq!((old.close().unwrap(), late.close().unwrap()), (Kept::No, Kept::No));
    store.check(&Index::open(&path, &options()).unwrap()).unwrap();
}

#[test]
fn a_store_that_may_not_be_written_is_still_indexed() {
    use std::os::unix::fs::PermissionsExt;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("index.redb");
    let mut store = store(3, 100);
    let index = Index::open(&path, &options()).unwrap();
    store.reconcile(&index).unwrap();
    index.close().unwrap();
    let before = std::fs::read(&path).unwrap();
    std::fs::set_permissions(&path, PermissionsExt::from_mode(0o400)).unwrap();
    std::fs::set_permissions(folder.path(), PermissionsExt::from_mode(0o500)).unwrap();
    store.add(50, (5000..5100).map(chunk));
    let index = Index::open(&path, &options()).unwrap();
    assert!(index.was_found());
    assert_eq!(store.reconcile(&index).unwrap().added, 1);
    store.check(&index).unwrap();
    let kept = index.close().unwrap();
    // Root may write whatever the permissions say.
    if kept == Kept::No {
        assert_eq!(std::fs::read(&path).unwrap(), before);
    }
    std::fs::set_permissions(folder.path(), PermissionsExt::from_mode(0o700)).unwrap();
}

/// Flips every so many-th byte of the file, one at a time: the index is right, or says that it is not.
#[test]
fn a_flipped_byte_is_never_believed() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("index.redb");
    let store = store(4, 150);
    let index = Index::open(&path, &options()).unwrap();
    store.reconcile(&index).unwrap();
    index.close().unwrap();
    let file = OpenOptions::new().read(true).write(true).open(&path).unwrap();
    let length = file.metadata().unwrap().len();
    let (mut whole, mut refused, mut noticed) = (0, 0, 0);
    // Nothing is kept in memory, so what is damaged while the index is open is noticed too.
    let options = || IndexOptions { table_cache_bytes: 0, directory_cache_bytes: 0, ..options() };
    let all = std::fs::read(&path).unwrap();
    let mut offset = 0;
    while offset < length {
        let before = Index::open(&path, &options()).unwrap();
        let mut byte = [0];
        file.read_exact_at(&mut byte, offset).unwrap();
        file.write_all_at(&[byte[0] ^ 0x41], offset).unwrap();
        match store.check(&before) {
            Ok(()) => whole += 1,
            Err(Error::Index { .. }) => noticed += 1,
            Err(e) => panic!("byte {offset}: {e}"),
        }
        drop(before);
        let index = Index::open(&path, &options()).unwrap();
        if !index.was_found() {
            refused += 1;
        }
        match store.reconcile(&index).and_then(|_| store.check(&index)) {
            Ok(()) => whole += 1,
            Err(Error::Index { .. }) => {
                noticed += 1;
                drop(index);
                let index = Index::open(&path, &IndexOptions { fresh: true, ..options() }).unwrap();
                store.reconcile(&index).unwrap();
                store.check(&index).unwrap();
            }
            Err(e) => panic!("byte {offset}: {e}"),
        }
        file.write_all_at(&byte, offset).unwrap();
        // Every byte of the header, and a prime's stride through the rest. Holes are not read.
        offset += if offset < 64 { 1 } else { 509 };
        let near = |offset: u64| &all[offset as usize..(offset as usize + 4096).min(all.len())];
        while offset < length && near(offset).iter().all(|byte| *byte == 0) {
            offset += 4096;
        }
    }
    assert!(whole > 0 && refused >= 40 && noticed > 0, "{whole} whole, {refused} refused, {noticed} noticed");
}

/// Lets every so many-th write fail: an error, never a panic, and the file is as it was.
#[test]
fn a_full_disk_is_an_error_and_the_file_stays_as_it_was() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("index.redb");
    let mut store = store(4, 3000);
    let index = Index::open(&path, &options()).unwrap();
    store.reconcile(&index).unwrap();
    index.close().unwrap();
    let before = std::fs::read(&path).unwrap();
    store.add(50, (50_000..53_000).map(chunk));
    let (mut failed, mut left) = (0, 0);
    loop {
        let index = Index::open(&path, &options()).unwrap();
        index.layers.writes_left.store(left, Ordering::Relaxed);
        let tried = store.reconcile(&index).and_then(|_| index.flush()).and_then(|()| index.close());
        match tried {
            // Done; or only the close of the database, which says nothing, could have failed.
            Ok(kept) => {
                assert_eq!(kept, Kept::Yes);
                break;
            }
            Err(Error::Io { .. } | Error::Index { .. }) => failed += 1,
            Err(e) => panic!("after {left} writes: {e}"),
        }
        assert!(std::fs::read(&path).unwrap() == before, "after {left} writes");
        left += 1;
    }
    assert!(failed > 10, "{failed}");
    store.check(&Index::open(&path, &options()).unwrap()).unwrap();
}

/// A file cut short, empty, or of something else is as none.
#[test]
fn a_file_that_is_no_index_is_replaced() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("index.redb");
    let store = store(2, 100);
    let index = Index::open(&path, &options()).unwrap();
    store.reconcile(&index).unwrap();
    index.close().unwrap();
    let good = std::fs::read(&path).unwrap();
    let mut version = good.clone();
    version[..8].copy_from_slice(b"SEAMIDX0");
    let cases = [Vec::new(), good[..good.len() - 1].to_vec(), good[..4096].to_vec(), vec![0; 20_000], version];
    for (number, case) in cases.iter().enumerate() {
        std::fs::write(&path, case).unwrap();
        let index = Index::open(&path, &options()).unwrap();
        assert!(!index.was_found(), "{number}");
        store.reconcile(&index).unwrap();
        store.check(&index).unwrap();
        assert_eq!(index.close().unwrap(), Kept::Yes, "{number}");
        let index = Index::open(&path, &options()).unwrap();
        assert!(index.was_found(), "{number}");
        store.check(&index).unwrap();
    }
}
