//! Damaged stores, repaired: nothing that could be had is lost, and what was lost comes back by adding again.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use super::snapshots::SALVAGED_TAG;
use super::*;
use crate::format::name::ObjectKind;
use crate::pack::reader::read_directory;
use crate::testing::random::TestRng;
use crate::testing::store::{Key, Kind, TestStore, hash_of, on_every_backend};

const REQUEST: RepairRequest = RepairRequest { depth: Depth::Stored, dry_run: false, threads: 2 };

fn repair(store_under_test: &TestStore) -> RepairReport {
    store_under_test.open().repair(&REQUEST, &Control::default()).unwrap()
}

/// What is lost for good when snapshots are: the files in them are no longer known of.
fn is_listed(store_under_test: &TestStore, key: &Key) -> bool {
    store_under_test.open().snapshot_ids().unwrap().contains(&key.0)
}

fn nothing_that_could_be_had_is_lost_and_adding_again_heals(kind: Kind) {
    let whole = TestStore::new(kind);
    let mut healed = 0;
    for seed in 0..30 {
        let store_under_test = whole.copy(seed % 2 == 0);
        let damaged = store_under_test.damage(&mut TestRng(seed));
        let story = format!("seed {seed}: {damaged:?}");
        let before = store_under_test.readable();
        let bytes_before = store_under_test.bytes();

        let dry =
            store_under_test.open().repair(&RepairRequest { dry_run: true, ..REQUEST }, &Control::default()).unwrap();
        let mut bytes_after = store_under_test.bytes();
        let mut expected = bytes_before.clone();
        // An index may have come to be by reading.
        bytes_after.retain(|path, _| !path.starts_with("index"));
        expected.retain(|path, _| !path.starts_with("index"));
        assert_eq!(hash_of(&expected), hash_of(&bytes_after), "{story}");

        let report = repair(&store_under_test);
        assert_eq!(report.damages, dry.damages, "{story}");
        assert_eq!(report.packs.len(), dry.packs.len(), "{story}");
        let after = store_under_test.readable();
        assert!(after.is_superset(&before), "{story}");
        // No damage is left, and what is said to be lost is.
        let verified = store_under_test.verify(Depth::Full);
        assert_eq!(verified.damages, [], "{story}");
        assert_eq!(verified.lost, report.lost, "{story}");
        let lost = report.lost.iter().map(|file| (file.snapshot, file.path.clone()));
        // A salvaged snapshot is a new one, of which nothing is expected.
        let lost: BTreeSet<Key> = lost.filter(|key| store_under_test.files.contains_key(key)).collect();
        let unreadable = store_under_test
            .files
            .keys()
            .filter(|key| is_listed(&store_under_test, key) && !after.contains(*key))
            .cloned()
            .collect();
        assert_eq!(lost, unreadable, "{story}");
        // Every damaged file is kept as it was.
        for (object, _) in damaged.iter().filter(|(_, is_there)| **is_there) {
            let kept = store_under_test.bytes().into_iter().filter(|(path, _)| path.starts_with("quarantine"));
            assert!(kept.into_iter().any(|(_, bytes)| bytes == bytes_before[object]), "{story}");
        }
        assert_eq!(repair(&store_under_test).damages, [], "{story}");

        store_under_test.add_again();
        let expected: BTreeSet<Key> =
            store_under_test.files.keys().filter(|key| is_listed(&store_under_test, key)).cloned().collect();
        healed += expected.len() - after.len();
        assert_eq!(store_under_test.readable(), expected, "{story}");
        let healed_store = store_under_test.verify(Depth::Full);
        let is_known = |file: &LostFile| store_under_test.files.contains_key(&(file.snapshot, file.path.clone()));
        assert!(healed_store.damages.is_empty() && !healed_store.lost.iter().any(is_known), "{story}");
    }
    assert!(healed > 20, "{healed} files were healed");
}

/// The pack of the first tree, its path, and where its frames end.
fn first_pack(store_under_test: &TestStore) -> (ObjectName, u64) {
    let store = store_under_test.open();
    let mut listed = store.storage().list(ObjectKind::Pack).unwrap();
    listed.sort();
    let ObjectName::Pack(pack) = listed[0].name else { panic!("{listed:?}") };
    (listed[0].name, read_directory(store.storage(), pack).unwrap().frames_end())
}

/// What is read of an object, which may lie elsewhere since it was repaired.
fn stored_bytes(store_under_test: &TestStore, name: &ObjectName) -> Vec<u8> {
    let store = store_under_test.open();
    let mut bytes = vec![0; store.storage().size(name).unwrap() as usize];
    store.storage().read_at(name, 0, &mut bytes).unwrap();
    bytes
}

fn a_pack_that_lost_its_directory_is_made_again_as_it_was(kind: Kind) {
    let whole = TestStore::new(kind);
    let (pack, frames_end) = first_pack(&whole);
    let path = whole.place.path_of(&pack);
    let original = whole.place.read(&path).unwrap();
    for keep in [frames_end as usize, frames_end as usize + 5, original.len() - 1, original.len()] {
        let store_under_test = whole.copy(false);
        let mut bytes = original[..keep].to_vec();
        if keep == original.len() {
            // Only the header: frames and directory are as they were.
            bytes[3] ^= 1;
        }
        store_under_test.place.write(&path, &bytes);
        let report = repair(&store_under_test);
        assert!(report.is_whole(), "{keep}: {report:?}");
        assert_eq!(report.packs[0].successor, Some(report.packs[0].pack));
        assert!(stored_bytes(&store_under_test, &pack) == original, "{keep}");
        assert_eq!(store_under_test.readable().len(), store_under_test.files.len());
    }
}

fn a_pack_that_was_cut_off_keeps_its_first_frames(kind: Kind) {
    let store_under_test = TestStore::new(kind);
    let (pack, frames_end) = first_pack(&store_under_test);
    let path = store_under_test.place.path_of(&pack);
    let bytes = store_under_test.place.read(&path).unwrap();
    store_under_test.place.write(&path, &bytes[..frames_end as usize * 2 / 3]);
    let report = repair(&store_under_test);
    let [repaired] = report.packs.as_slice() else { panic!("{report:?}") };
    assert!(repaired.frames > 0 && repaired.chunks > 0 && repaired.successor.is_some_and(|id| id != repaired.pack));
    assert!(repaired.lost_chunks.is_none() && !repaired.lost.is_empty());
    let packs = store_under_test.open().storage().list(ObjectKind::Pack).unwrap();
    assert!(report.lost_files > 0 && packs.iter().all(|listed| listed.name != pack));
    store_under_test.add_again();
    assert_eq!(store_under_test.readable().len(), store_under_test.files.len());
}

/// Of a snapshot whose batches are as they were, every row comes back; it is marked, and no parent of later adds.
fn a_snapshot_with_damage_in_its_rows_gives_what_can_be_read(kind: Kind) {
    let store_under_test = TestStore::new(kind);
    let path = store_under_test.objects().into_iter().find(|path| path.starts_with("snapshots")).unwrap();
    let (name, original) = (store_under_test.place.name_of(&path).unwrap(), store_under_test.bytes()[&path].clone());
    let id = name.snapshot().unwrap();
    let (mut salvaged, mut whole) = (0, 0);
    for at in (0..original.len()).step_by(89) {
        let store_under_test = store_under_test.copy(true);
        let mut bytes = original.clone();
        bytes[at] ^= 4;
        store_under_test.place.write(&path, &bytes);
        let report = repair(&store_under_test);
        let [snapshot] = report.snapshots.as_slice() else { panic!("byte {at}: {report:?}") };
        assert_eq!(snapshot.id, id);
        let Some(successor) = snapshot.successor else { continue };
        if snapshot.is_whole() {
            whole += 1;
            assert!(stored_bytes(&store_under_test, &name) == original, "byte {at}");
            continue;
        }
        salvaged += 1;
        let store = store_under_test.open();
        let all = store.snapshots().unwrap();
        let found = all.iter().find(|summary| summary.id == successor).unwrap();
        assert_eq!(found.info.tags, [SALVAGED_TAG]);
        assert_eq!(found.info.counts.entries, snapshot.rows);
        assert!(all.iter().all(|summary| summary.id != snapshot.id));
        // What is there comes out right, or not at all.
        for entry in crate::catalog::snapshot::Snapshot::open(store.storage(), successor).unwrap().entries() {
            assert_eq!(entry.unwrap().identity.ctime_ns, 0);
        }
    }
    assert!(salvaged >= 1 && whole >= 10, "{salvaged} salvaged, {whole} whole");
}

/// Only a folder has such records.
#[test]
fn a_damaged_record_of_gc_is_moved_away_and_keeps_nobody_from_adding() {
    let store_under_test = TestStore::new(Kind::Folder);
    let path = PathBuf::from(format!("condemned/{}.list", "ab".repeat(32)));
    store_under_test.place.write(&path, b"not a record");
    let verified = store_under_test.verify(Depth::Quick);
    assert_eq!((verified.damages.len(), verified.lost_files), (1, 0));
    let exclusive_lock = store_under_test.open().coordination().collect().unwrap();
    assert!(matches!(store_under_test.open().repair(&REQUEST, &Control::default()), Err(Error::Locked { .. })));
    drop(exclusive_lock);
    let report = repair(&store_under_test);
    assert!(report.is_whole() && report.quarantined.len() == 1, "{report:?}");
    assert!(store_under_test.place.read(&path).is_none() && store_under_test.verify(Depth::Full).is_whole());
    store_under_test.add_again();
}

fn a_configuration_of_which_one_byte_was_changed_is_what_it_was(kind: Kind) {
    let store_under_test = TestStore::new(kind);
    let path = Path::new("store.json");
    let original = store_under_test.place.read(path).unwrap();
    assert_eq!(store_under_test.place.mend_config(false).unwrap(), None);
    for at in [0, original.len() / 2] {
        let mut bytes = original.clone();
        bytes[at] ^= 0x11;
        store_under_test.place.write(path, &bytes);
        assert_eq!(store_under_test.place.mend_config(true).unwrap(), None);
        assert!(store_under_test.place.read(path).unwrap() == bytes, "a dry run changes nothing");
        let aside = store_under_test.place.mend_config(false).unwrap().unwrap();
        assert!(store_under_test.place.read(path).unwrap() == original, "byte {at}");
        assert!(store_under_test.place.read(aside.as_ref()).unwrap() == bytes);
    }
    let mut bytes = original.clone();
    bytes[40] ^= 1;
    bytes[50] ^= 1;
    store_under_test.place.write(path, &bytes);
    assert!(matches!(store_under_test.place.mend_config(false), Err(Error::Damaged { .. })));
    assert!(store_under_test.place.read(path).unwrap() == bytes);
}

/// A damaged frame in one pack, a lost end of another, a recipes file and a snapshot.
fn much_damage(store_under_test: &TestStore) {
    let objects = store_under_test.objects();
    let of = |folder: &str| objects.iter().filter(|path| path.starts_with(folder)).collect::<Vec<_>>();
    let change = |path: &Path, change: &dyn Fn(&mut Vec<u8>)| {
        let mut bytes = store_under_test.place.read(path).unwrap();
        change(&mut bytes);
        store_under_test.place.write(path, &bytes);
    };
    change(of("packs")[0], &|bytes| bytes[200] ^= 1);
    change(of("packs")[1], &|bytes| bytes.truncate(bytes.len() - 1));
    change(of("recipes")[0], &|bytes| bytes[2] ^= 1);
    // Names of packs and recipes files come from their contents; those of snapshots from the time, too.
    let (snapshot, _) =
        store_under_test.files.keys().find(|(_, path)| path.as_path().ends_with("trees/a/below/1")).unwrap();
    change(&store_under_test.place.path_of(&ObjectName::Snapshot(*snapshot)), &|bytes| bytes.truncate(bytes.len() / 2));
}

fn a_repair_that_is_cut_short_anywhere_costs_nothing_and_is_gone_on_with(kind: Kind) {
    let whole = TestStore::new(kind);
    let damaged = whole.copy(false);
    much_damage(&damaged);
    let before = damaged.readable();
    let reference = damaged.copy(false);
    repair(&reference);
    let expected = (reference.readable(), reference.verify(Depth::Full));
    assert_eq!(expected.1.damages, []);
    assert!(before.is_subset(&expected.0) && before.len() < expected.0.len(), "{before:?}");
    let mut operations = 0;
    loop {
        let store_under_test = damaged.copy(false);
        let (store, killed) = store_under_test.place.killed_after(operations);
        let ended = store.and_then(|store| store.repair(&REQUEST, &Control::default()));
        assert!(store_under_test.readable().is_superset(&before), "ended at operation {operations}");
        repair(&store_under_test);
        assert_eq!(
            (store_under_test.readable(), store_under_test.verify(Depth::Full)),
            expected,
            "ended at operation {operations}"
        );
        if !killed.came_to_it() {
            ended.unwrap();
            break;
        }
        operations += 1;
    }
    let least = if kind == Kind::Folder { 30 } else { 10 };
    assert!(operations >= least, "only {operations} operations");
}

on_every_backend!(
    nothing_that_could_be_had_is_lost_and_adding_again_heals,
    a_pack_that_lost_its_directory_is_made_again_as_it_was,
    a_pack_that_was_cut_off_keeps_its_first_frames,
    a_snapshot_with_damage_in_its_rows_gives_what_can_be_read,
    a_configuration_of_which_one_byte_was_changed_is_what_it_was,
    a_repair_that_is_cut_short_anywhere_costs_nothing_and_is_gone_on_with,
);
