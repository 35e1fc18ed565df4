//! Add, get, rm, stats, streams and bundles on every kind of backend.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use std::path::{Path, PathBuf};

use crate::engine::add::WriterOptions;
use crate::engine::ops::bundle::BundleExport;
use crate::engine::ops::gc::GcRequest;
use crate::engine::ops::verify::{Depth, VerifyRequest};
use crate::engine::read::get::GetRequest;
use crate::engine::store::control::Control;
use crate::engine::store::snapshots::Selector;
use crate::engine::{Settings, Store};
use crate::error::Error;
use crate::format::entry::EntryKind;
use crate::format::id::SnapshotId;
use crate::format::name::ObjectKind;
use crate::storage::Backend;
use crate::storage::CacheDirectory;
use crate::storage::bucket::{BucketOptions, MemoryBucket};
use crate::testing::random::noise;
use crate::testing::shelf::Shelf;
use crate::testing::store::{Kind, TestStore, on_every_backend};
use std::sync::Arc;

fn shelf_with_trees(kind: Kind) -> (Shelf, [SnapshotId; 2]) {
    let shelf = Shelf::on(kind);
    let shared = noise(1, 150_000);
    shelf.write("one/shared", &shared);
    shelf.write("one/own", &noise(2, 200_000));
    shelf.write("one/empty", b"");
    shelf.write("two/shared", &shared);
    shelf.write("two/small", b"one chunk");
    let ids = ["one", "two"].map(|name| shelf.add(name));
    (shelf, ids)
}

fn assert_whole_store(store: &Store) {
    let report = store.verify(&VerifyRequest { depth: Depth::Full, threads: 2 }, &Control::default()).unwrap();
    assert!(report.is_whole() && report.lost_snapshots.is_empty(), "{report:?}");
}

fn what_is_added_comes_out_again_and_is_stored_once(kind: Kind) {
    let (shelf, ids) = shelf_with_trees(kind);
    for (id, name) in ids.into_iter().zip(["one", "two"]) {
        shelf.assert_whole(id, name, &shelf.source(name));
    }
    let store = shelf.store();
    let stats = store.chunk_index().unwrap().statistics();
    // Again: everything is found, and every file is taken over from the parent.
    let again = shelf.add("one");
    assert_ne!(again, ids[0]);
    assert_eq!(store.chunk_index().unwrap().statistics().chunks, stats.chunks);
    shelf.assert_whole(again, "one", &shelf.source("one"));
    let found: Vec<SnapshotId> = store.snapshots().unwrap().iter().map(|summary| summary.id).collect();
    assert_eq!(found, [again, ids[1], ids[0]], "the newest first");
    assert_whole_store(&store);
}

fn a_removed_snapshot_is_gone_and_the_others_are_whole(kind: Kind) {
    let (shelf, [one, two]) = shelf_with_trees(kind);
    let store = shelf.store();
    assert!(matches!(store.remove(&["ffff".to_owned()]), Err(Error::NotFound { .. })));
    shelf.remove(one);
    assert_eq!(store.snapshot_ids().unwrap(), [two]);
    shelf.gc(&GcRequest { max_waste: 0.0, ..GcRequest::default() });
    shelf.assert_whole(two, "two", &shelf.source("two"));
    assert_whole_store(&store);
}

fn a_stopped_add_makes_no_snapshot_and_what_it_packed_is_found_by_the_next(kind: Kind) {
    let shelf = Shelf::on(kind);
    let store = shelf.store();
    let control = std::sync::Arc::new(Control::default());
    let options = WriterOptions { threads: 2, control: std::sync::Arc::clone(&control), ..WriterOptions::default() };
    let writer = store.writer(options.clone()).unwrap();
    let bytes = noise(5, 600_000);
    writer.add(writer.entry("file", EntryKind::File).unwrap(), bytes.as_slice()).unwrap();
    control.stop();
    assert!(matches!(writer.finish(), Err(Error::Interrupted { .. })));
    assert!(store.snapshot_ids().unwrap().is_empty());
    let writer = store.writer(WriterOptions { control: std::sync::Arc::default(), ..options }).unwrap();
    writer.add(writer.entry("file", EntryKind::File).unwrap(), bytes.as_slice()).unwrap();
    let report = writer.finish().unwrap();
    assert_eq!(store.snapshot_ids().unwrap(), [report.snapshot.unwrap()]);
    assert_whole_store(&store);
}

fn a_writer_s_entries_come_out_by_ranges_and_by_a_reader(kind: Kind) {
    let shelf = Shelf::on(kind);
    let store = shelf.store();
    let writer = store.writer(WriterOptions { threads: 2, ..WriterOptions::default() }).unwrap();
    let bytes = noise(9, 300_000);
    for n in (0..20).rev() {
        let entry = writer.entry(format!("parts/{n:02}"), EntryKind::File).unwrap();
        writer.add_bytes(entry, bytes[n * 1000..n * 10_000].to_vec()).unwrap();
    }
    writer.finish().unwrap();
    let request = GetRequest { path: PathBuf::from("parts/19"), ..GetRequest::default() };
    let mut part = Vec::new();
    store.read(&request, Some(500..70_000), &mut part, Path::new("memory"), &Control::default()).unwrap();
    assert!(part == bytes[19_500..89_000]);
    let reader = store.reader(&Selector::Latest).unwrap();
    assert_eq!(reader.len(), 20);
    let stats = store.dedup_stats(&Control::default()).unwrap();
    assert!(stats.stored_bytes > 100_000);
}

fn a_bundle_of_it_is_read_and_taken_over_by_every_other_store(kind: Kind) {
    let (shelf, ids) = shelf_with_trees(kind);
    let folder = tempfile::tempdir().unwrap();
    let bundle = folder.path().join("all.bundle");
    shelf.store().export_bundle(&BundleExport::default(), &bundle, &Control::default()).unwrap();
    for target in [Kind::Folder, Kind::Bucket] {
        let other = Shelf::on(target);
        let report = other.store().import_from(&bundle, &Control::default()).unwrap();
        assert_eq!((report.new_snapshots, report.damaged.len()), (2, 0));
        assert_whole_store(&other.store());
        assert_eq!(other.store().snapshot_ids().unwrap().len(), 2);
        let again = other.store().import_from(&bundle, &Control::default()).unwrap();
        assert_eq!((again.added_bytes, again.new_snapshots), (0, 0));
        // Removed, collected and taken over once more: the same names again.
        ids.iter().for_each(|id| other.remove(*id));
        other.gc(&GcRequest::default());
        assert_eq!(other.store().storage().list(ObjectKind::Pack).unwrap(), []);
        other.store().import_from(&bundle, &Control::default()).unwrap();
        other.gc(&GcRequest::default());
        assert_whole_store(&other.store());
        assert_eq!(other.store().snapshot_ids().unwrap().len(), 2);
    }
}

fn an_index_is_made_again(kind: Kind) {
    let store_under_test = TestStore::new(kind);
    let store = store_under_test.open();
    let rebuilt = store.rebuild_index().unwrap();
    assert!(rebuilt.unreadable.is_empty() && rebuilt.statistics.chunks > 10, "{rebuilt:?}");
    assert_eq!(store_under_test.readable().len(), store_under_test.files.len());
}

on_every_backend!(
    what_is_added_comes_out_again_and_is_stored_once,
    a_removed_snapshot_is_gone_and_the_others_are_whole,
    a_stopped_add_makes_no_snapshot_and_what_it_packed_is_found_by_the_next,
    a_writer_s_entries_come_out_by_ranges_and_by_a_reader,
    a_bundle_of_it_is_read_and_taken_over_by_every_other_store,
    an_index_is_made_again,
);

/// A bucket that was copied has the same store id, and other contents from then on.
#[test]
fn two_stores_of_one_id_never_share_a_cache() {
    let caches = tempfile::tempdir().unwrap();
    let tree = tempfile::tempdir().unwrap();
    let bucket = MemoryBucket::new();
    let backend = |bucket: &MemoryBucket| Backend::bucket(Arc::new(bucket.clone()), BucketOptions::default());
    let below = || CacheDirectory::below(caches.path());
    let add = |store: &Store, seed: u64| {
        std::fs::write(tree.path().join("file"), noise(seed, 100_000)).unwrap();
        let request = crate::engine::add::AddRequest {
            paths: vec![tree.path().to_owned()],
            ..crate::engine::add::AddRequest::default()
        };
        store.add(&request, &Control::default()).unwrap();
    };
    let store = Store::init_with(backend(&bucket), below(), Settings::default()).unwrap();
    add(&store, 1);
    let copied = bucket.fork();
    let copy = Store::open_with(backend(&copied), below()).unwrap();
    assert_eq!(copy.id(), store.id());
    assert_ne!(copy.caches().directory(), store.caches().directory());
    add(&store, 2);
    add(&copy, 3);
    add(&copy, 2);
    assert_whole_store(&store);
    assert_whole_store(&copy);
    // Opened again it finds its own.
    let again = Store::open_with(backend(&bucket), below()).unwrap();
    assert_eq!(again.caches().directory(), store.caches().directory());
    assert!(again.caches().directory().is_some_and(|directory| directory.is_dir()));
}

#[test]
fn a_folder_has_its_caches_inside_unless_it_is_told_otherwise() {
    let folder = tempfile::tempdir().unwrap();
    let (root, caches) = (folder.path().join("store"), folder.path().join("caches"));
    drop(Store::init(&root, Settings::default()).unwrap());
    let backend = Backend::folder(crate::storage::LocalStorage::open(&root).unwrap());
    let store = Store::open_with(backend, CacheDirectory::below(&caches)).unwrap();
    std::fs::write(folder.path().join("file"), noise(1, 100_000)).unwrap();
    let request = crate::engine::add::AddRequest {
        paths: vec![folder.path().to_owned()],
        ..crate::engine::add::AddRequest::default()
    };
    let report = store.add(&request, &Control::default()).unwrap();
    // Neither the store nor its caches are in it.
    assert_eq!(report.totals.files, 1);
    assert!(!root.join("index").exists());
    let own = store.caches().directory().unwrap();
    assert!(own.starts_with(&caches) && std::fs::read_dir(own).unwrap().count() > 0);
    assert_whole_store(&store);
}
