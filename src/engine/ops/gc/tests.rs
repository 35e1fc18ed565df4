//! gc in one process, step by step: what it frees, what it spares, and that it can stop anywhere.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use crate::testing::folder::Files;
use crate::testing::random::noise;
use crate::testing::shelf::Shelf;
use std::path::PathBuf;
use std::sync::Arc;

use super::*;
use crate::format::id::PendingDeletesId;
use crate::format::name::ObjectKind;
use crate::testing::disk::{Fault, FaultyDisk, Op};
use crate::testing::store::{Killed, Kind, Place, on_every_backend};
use rustix::io::Errno;

fn dry() -> GcRequest {
    GcRequest { dry_run: true, ..GcRequest::default() }
}

fn no_wait() -> GcRequest {
    GcRequest { no_wait: true, ..GcRequest::default() }
}

/// Two trees that share a part, each in a snapshot; and what they hold.
fn two_trees(shelf: &Shelf) -> [(SnapshotId, &'static str, Files); 2] {
    let shared = noise(1, 200_000);
    shelf.write("one/shared", &shared);
    shelf.write("one/own", &noise(2, 900_000));
    shelf.write("one/small", b"in one chunk");
    shelf.write("two/shared", &shared);
    shelf.write("two/own", &noise(3, 300_000));
    shelf.write("two/tiny", b"of two");
    ["one", "two"].map(|name| (shelf.add(name), name, shelf.source(name)))
}

fn what_a_removed_snapshot_alone_held_is_freed_as_the_dry_run_says(kind: Kind) {
    for max_waste in [0.0, 0.2, 0.9, 1.0] {
        let shelf = Shelf::on(kind);
        let [(one, ..), (two, name, files)] = two_trees(&shelf);
        let nothing = shelf.gc(&GcRequest::default());
        assert_eq!((nothing.freed_bytes(), nothing.packs, nothing.snapshots), (0, 0, 2));

        let before = shelf.stored();
        let foretold = shelf.store().rehearse_remove(&[one.to_hex()], max_waste, &Control::default()).unwrap();
        shelf.remove(one);
        let said = shelf.gc(&GcRequest { max_waste, ..dry() });
        assert_eq!(shelf.stored(), before);
        let report = shelf.gc(&GcRequest { max_waste, ..GcRequest::default() });
        assert_eq!(format!("{said:?}"), format!("{report:?}"));
        assert_eq!(format!("{:?}", foretold.gc.unwrap()), format!("{report:?}"));
        assert_eq!(shelf.stored(), before - report.freed_bytes());
        // The pack of the first add is a fifth needed: copied, unless so much waste is fine.
        let is_rewritten = max_waste < 0.8;
        assert_eq!((report.packs, report.new_packs), if is_rewritten { (1, 1) } else { (0, 0) });
        assert_eq!(report.waste_bytes > 800_000, !is_rewritten);
        assert!(!is_rewritten || report.freed_bytes() > 850_000, "{report:?}");
        shelf.assert_whole(two, name, &files);
        let again = shelf.gc(&GcRequest { max_waste, ..GcRequest::default() });
        assert_eq!((again.freed_bytes(), again.packs, again.recipes_files), (0, 0, 0));
        assert_eq!(shelf.count(ObjectKind::PendingDeletes), 0);

        shelf.remove(two);
        let report = shelf.gc(&GcRequest { max_waste, ..GcRequest::default() });
        assert_eq!((shelf.count(ObjectKind::Pack), shelf.count(ObjectKind::Recipes)), (0, 0), "{report:?}");
    }
}

#[test]
fn an_add_neither_relies_on_what_is_pending_deletion_nor_gives_its_name_again() {
    let shelf = Shelf::new();
    let [(one, name, files), (two, ..)] = two_trees(&shelf);
    shelf.remove(one);
    shelf.remove(two);
    let store = shelf.store();
    // Somebody is adding, so that gc stops in the middle.
    let lease = store.coordination().begin().unwrap();
    let report = shelf.gc(&no_wait());
    assert_eq!((report.pending_deletes, report.leases, report.packs), (4, 1, 0), "2 packs, 2 recipes files");
    let pending_deletes = store.pending_deletes().unwrap();
    assert_eq!(pending_deletes.len(), 4);
    // The very same again: the same packs and recipes, by the hash of what is in them.
    let again = shelf.add(name);
    // Now gc goes on, having asked the snapshots just before this one was there.
    for pack in &pending_deletes.packs {
        store.storage().delete(&ObjectName::Pack(*pack)).unwrap();
    }
    for recipes in &pending_deletes.recipes {
        store.storage().delete(&ObjectName::Recipes(*recipes)).unwrap();
    }
    shelf.assert_whole(again, name, &files);
    drop(lease);
    let report = shelf.gc(&GcRequest::default());
    assert_eq!((report.packs, report.snapshots), (0, 1));
    shelf.assert_whole(again, name, &files);
}

#[test]
fn a_row_of_the_parent_is_not_taken_over_where_what_it_needs_is_pending_deletion() {
    let shelf = Shelf::new();
    shelf.write("tree/large", &noise(1, 300_000));
    shelf.write("tree/small", b"small");
    // Older than the clock's grain, at least: a park may end early.
    std::thread::sleep(Duration::from_millis(30));
    let parent = shelf.add("tree");
    let files = shelf.source("tree");
    let store = shelf.store();
    // A gc that marked before the parent was there has announced for deletion what an earlier add left, which the parent then used.
    let mut pending_deletes = PendingDeletes::default();
    for object in [ObjectKind::Pack, ObjectKind::Recipes].map(|kind| store.storage().list(kind).unwrap()).concat() {
        pending_deletes.insert(object.name);
    }
    let bytes = pending_deletes.encode();
    let record = ObjectName::PendingDeletes(PendingDeletesId::of(&bytes));
    store.storage().put_if_absent(&record, &bytes).unwrap();
    let child = shelf.add("tree");
    // The parent is removed; then gc asks the snapshots that are there, before the child is.
    shelf.remove(parent);
    for pack in &pending_deletes.packs {
        store.storage().delete(&ObjectName::Pack(*pack)).unwrap();
    }
    for recipes in &pending_deletes.recipes {
        store.storage().delete(&ObjectName::Recipes(*recipes)).unwrap();
    }
    shelf.assert_whole(child, "tree", &files);
}

#[test]
fn what_an_add_came_to_need_is_spared() {
    let shelf = Shelf::new();
    let [(one, name, files), (two, ..)] = two_trees(&shelf);
    shelf.remove(one);
    shelf.remove(two);
    let store = shelf.store();
    let lease = store.coordination().begin().unwrap();
    assert!(shelf.gc(&no_wait()).pending_deletes > 0);
    // An add that began before the record was written does not see it.
    let records = store.storage().list(ObjectKind::PendingDeletes).unwrap();
    let record = crate::storage::coordination::read_pending_deletes(store.storage(), &records[0]).unwrap();
    store.storage().delete(&records[0].name).unwrap();
    let again = shelf.add(name);
    store.storage().put_if_absent(&records[0].name, &record.encode()).unwrap();
    drop(lease);
    let said = shelf.gc(&dry());
    let report = shelf.gc(&GcRequest::default());
    assert!(report.spared > 0, "{report:?}");
    assert_eq!(format!("{said:?}"), format!("{report:?}"));
    shelf.assert_whole(again, name, &files);
}

fn a_dry_run_reckons_with_what_is_pending_deletion_already(kind: Kind) {
    let shelf = Shelf::on(kind);
    let [(one, name, files), (two, ..)] = two_trees(&shelf);
    shelf.remove(one);
    shelf.remove(two);
    let lease = shelf.store().coordination().begin().unwrap();
    let retrying = shelf.place.open_patient();
    let waiting = retrying.gc(&no_wait(), &Control::default(), &|_| {}).unwrap();
    assert_eq!((waiting.pending_deletes, waiting.leases), (4, 1));
    // Stored a second time, with a chunk more than the pack pending deletion has: by itself the worse copy.
    let again = shelf.add(name);
    drop(lease);
    let said = shelf.gc(&dry());
    let before = shelf.stored();
    let report = shelf.gc(&GcRequest::default());
    assert_eq!(format!("{said:?}"), format!("{report:?}"));
    // The third recipes file has a recipe more than the one pending deletion, too: that is one of three, and more than is wasted.
    assert_eq!((report.packs, report.recipes_files, report.new_packs), (2, 3, 0));
    assert_eq!(shelf.stored(), before - report.freed_bytes());
    shelf.assert_whole(again, name, &files);
}

#[test]
fn one_gc_at_a_time() {
    let shelf = Shelf::new();
    let exclusive_lock = shelf.store().coordination().collect().unwrap();
    let refused = shelf.store().gc(&GcRequest::default(), &Control::default(), &|_| {}).unwrap_err();
    assert!(matches!(refused, Error::Locked { .. }), "{refused:?}");
    shelf.gc(&dry());
    drop(exclusive_lock);
    shelf.gc(&GcRequest::default());
}

fn nothing_is_deleted_where_it_cannot_be_told_what_a_snapshot_needs(kind: Kind) {
    let shelf = Shelf::on(kind);
    let [(one, ..), (two, name, files)] = two_trees(&shelf);
    shelf.remove(one);
    let stored = shelf.stored();
    let damage = |kind| -> (PathBuf, Vec<u8>) {
        let object = shelf.store().storage().list(kind).unwrap()[0];
        let path = shelf.place.path_of(&object.name);
        let whole = shelf.place.read(&path).unwrap();
        let mut bytes = whole.clone();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        shelf.place.write(&path, &bytes);
        (path, whole)
    };
    let (path, whole) = damage(ObjectKind::Snapshot);
    let refused = shelf.store().gc(&GcRequest::default(), &Control::default(), &|_| {}).unwrap_err();
    assert!(matches!(refused, Error::Damaged { .. }), "{refused:?}");
    assert_eq!(shelf.stored(), stored);
    shelf.place.write(&path, &whole);
    shelf.gc(&GcRequest::default());
    shelf.assert_whole(two, name, &files);
}

fn a_pack_that_cannot_be_read_is_left_as_it_is(kind: Kind) {
    let shelf = Shelf::on(kind);
    let [(one, ..), (two, name, files)] = two_trees(&shelf);
    shelf.remove(one);
    let largest = shelf.store().storage().list(ObjectKind::Pack).unwrap().into_iter().max_by_key(|pack| pack.bytes);
    let path = shelf.place.path_of(&largest.unwrap().name);
    let whole = shelf.place.read(&path).unwrap();
    // Its directory; then all of its frames.
    for range in [whole.len() - 100..whole.len() - 90, 20..whole.len() - 60_000] {
        let mut bytes = whole.clone();
        bytes[range].iter_mut().for_each(|byte| *byte ^= 0x55);
        shelf.place.write(&path, &bytes);
        let report = shelf.gc(&GcRequest::default());
        assert_eq!(report.damaged.len(), 1, "{report:?}");
        assert!(shelf.place.read(&path).unwrap() == bytes);
    }
    shelf.place.write(&path, &whole);
    shelf.assert_whole(two, name, &files);
    assert!(shelf.gc(&GcRequest::default()).freed_bytes() > 800_000);
    shelf.assert_whole(two, name, &files);
}

#[test]
fn a_record_that_cannot_be_read_stops_adds_and_the_next_gc_clears_it() {
    let shelf = Shelf::new();
    let [(one, name, files), _] = two_trees(&shelf);
    let record = PendingDeletes { packs: [crate::format::id::PackId([1; 32])].into(), ..PendingDeletes::default() };
    let store = shelf.store();
    let wrong = ObjectName::PendingDeletes(PendingDeletesId([9; 32]));
    store.storage().put_if_absent(&wrong, &record.encode()).unwrap();
    assert!(matches!(shelf.add_to(&store, name), Err(Error::Damaged { .. })));
    assert_eq!(shelf.gc(&GcRequest::default()).damaged.len(), 1);
    assert_eq!(shelf.count(ObjectKind::PendingDeletes), 0);
    shelf.add(name);
    shelf.assert_whole(one, name, &files);
}

fn a_gc_stopped_after_any_operation_harms_nothing_and_the_next_one_ends_it(kind: Kind) {
    let with_record = stopped_after_any_operation(kind, 20, Place::killed_after);
    assert!(with_record > 5, "{with_record} with something announced");
}

#[test]
fn a_gc_on_a_full_disk_stopped_after_any_operation_harms_nothing_and_the_next_one_ends_it() {
    for errno in [Errno::NOSPC, Errno::DQUOT] {
        let killed = |place: &Place, stops| {
            let disk = FaultyDisk::killed_after(stops).full(errno);
            let Place::Folder(root) = place else { panic!("{place:?}") };
            (Store::open_on(Arc::new(disk.clone()), root), Killed::Disk(disk))
        };
        let with_record = stopped_after_any_operation(Kind::Folder, 5, killed);
        assert_eq!(with_record, 0, "there is no room for a record");
    }
}

/// Stops a gc after each of its operations, at least this many; returns after how many something was announced.
fn stopped_after_any_operation(
    kind: Kind,
    at_least: usize,
    killed: impl Fn(&Place, usize) -> (Result<Store>, Killed),
) -> usize {
    let mut shelf = Shelf::on(kind);
    let [(one, ..), (two, name, files)] = two_trees(&shelf);
    shelf.write("third/own", &noise(7, 100_000));
    let third = shelf.add("third");
    shelf.remove(one);
    shelf.remove(third);
    // As it is now, to begin anew from for each operation.
    let kept_in = tempfile::tempdir().unwrap();
    let kept = shelf.place.copy(kept_in.path());
    let ended = shelf.gc(&GcRequest::default());
    let stored = shelf.stored();
    assert!(ended.packs >= 2 && ended.new_packs == 1 && ended.new_recipes_files + ended.recipes_files > 0, "{ended:?}");
    let mut stops = 0;
    let mut with_record = 0;
    loop {
        if let Place::Folder(root) = &shelf.place {
            std::fs::remove_dir_all(root).unwrap();
        }
        shelf.place = kept.copy(shelf.folder.path());
        let (store, killed) = killed(&shelf.place, stops);
        let result = store.and_then(|store| store.gc(&GcRequest::default(), &Control::default(), &|_| {}));
        if !killed.came_to_it() {
            assert!(result.unwrap().packs > 0);
            break;
        }
        stops += 1;
        shelf.assert_whole(two, name, &files);
        with_record += usize::from(!shelf.store().pending_deletes().unwrap().is_empty());
        // An add that begins now may find a record, or half of what it lists gone.
        let again = shelf.add("one");
        shelf.assert_whole(again, "one", &shelf.source("one"));
        shelf.remove(again);
        shelf.gc(&GcRequest::default());
        shelf.assert_whole(two, name, &files);
        assert!(shelf.store().pending_deletes().unwrap().is_empty());
        assert_eq!(shelf.stored(), stored, "after operation {stops}");
    }
    assert!(stops > at_least, "{stops} stops");
    with_record
}

#[test]
fn where_there_are_no_locks_a_gc_refuses_and_says_why() {
    let shelf = Shelf::new();
    shelf.write("tree/file", &noise(1, 100_000));
    let id = shelf.add("tree");
    let disk = FaultyDisk::unsynced();
    disk.fault(Fault::Fails(Errno::OPNOTSUPP), 0, |op| op == Op::Hold);
    shelf.remove(id);
    let Place::Folder(root) = &shelf.place else { panic!("{:?}", shelf.place) };
    let store = Store::open_on(Arc::new(disk), root).unwrap();
    let refused = store.gc(&GcRequest::default(), &Control::default(), &|_| {}).unwrap_err();
    assert!(refused.hint().is_some_and(|hint| hint.contains("this file system has no locks")), "{refused:?}");
    assert_eq!(shelf.count(ObjectKind::Pack), 1);
}

on_every_backend!(
    what_a_removed_snapshot_alone_held_is_freed_as_the_dry_run_says,
    a_dry_run_reckons_with_what_is_pending_deletion_already,
    nothing_is_deleted_where_it_cannot_be_told_what_a_snapshot_needs,
    a_pack_that_cannot_be_read_is_left_as_it_is,
    a_gc_stopped_after_any_operation_harms_nothing_and_the_next_one_ends_it,
);
