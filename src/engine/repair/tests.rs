//! Damaged stores, repaired: nothing that could be had is lost, and what was lost comes back by adding again.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;

use super::*;
use crate::engine::trial::{Key, Numbers, Trial, hash_of};
use crate::format::name::ObjectKind;
use crate::pack::reader::read_directory;
use crate::storage::faulty::FaultyDisk;
use crate::storage::{LocalStorage, Storage};

const REQUEST: RepairRequest = RepairRequest { depth: Depth::Stored, dry_run: false, threads: 2 };

fn repair(trial: &Trial) -> RepairReport {
    trial.open().repair(&REQUEST, &Control::default()).unwrap()
}

/// What is lost for good when snapshots are: the files in them are no longer known of.
fn told(trial: &Trial, key: &Key) -> bool {
    trial.open().snapshot_ids().unwrap().contains(&key.0)
}

#[test]
fn nothing_that_could_be_had_is_lost_and_adding_again_heals() {
    let whole = Trial::new();
    let mut healed = 0;
    for seed in 0..30 {
        let trial = whole.copy(seed % 2 == 0);
        let damaged = trial.damage(&mut Numbers(seed));
        let story = format!("seed {seed}: {damaged:?}");
        let before = trial.readable();
        let bytes_before = trial.bytes();

        let dry = trial.open().repair(&RepairRequest { dry_run: true, ..REQUEST }, &Control::default()).unwrap();
        let mut bytes_after = trial.bytes();
        let mut expected = bytes_before.clone();
        // An index may have come to be by reading.
        bytes_after.retain(|path, _| !path.starts_with("index"));
        expected.retain(|path, _| !path.starts_with("index"));
        assert_eq!(hash_of(&expected), hash_of(&bytes_after), "{story}");

        let report = repair(&trial);
        assert_eq!(report.damages, dry.damages, "{story}");
        assert_eq!(report.packs.len(), dry.packs.len(), "{story}");
        let after = trial.readable();
        assert!(after.is_superset(&before), "{story}");
        // No damage is left, and what is said to be lost is.
        let verified = trial.verify(Depth::Full);
        assert_eq!(verified.damages, [], "{story}");
        assert_eq!(verified.lost, report.lost, "{story}");
        let lost = report.lost.iter().map(|file| (file.snapshot, file.path.clone()));
        // A salvaged snapshot is a new one, of which nothing is expected.
        let lost: BTreeSet<Key> = lost.filter(|key| trial.files.contains_key(key)).collect();
        let unreadable = trial.files.keys().filter(|key| told(&trial, key) && !after.contains(*key)).cloned().collect();
        assert_eq!(lost, unreadable, "{story}");
        // Every damaged file is kept as it was.
        for (object, _) in damaged.iter().filter(|(_, is_there)| **is_there) {
            let kept = trial.bytes().into_iter().filter(|(path, _)| path.starts_with("quarantine"));
            assert!(kept.into_iter().any(|(_, bytes)| bytes == bytes_before[object]), "{story}");
        }
        assert_eq!(repair(&trial).damages, [], "{story}");

        trial.add_again();
        let expected: BTreeSet<Key> = trial.files.keys().filter(|key| told(&trial, key)).cloned().collect();
        healed += expected.len() - after.len();
        assert_eq!(trial.readable(), expected, "{story}");
        let healed_store = trial.verify(Depth::Full);
        let is_known = |file: &LostFile| trial.files.contains_key(&(file.snapshot, file.path.clone()));
        assert!(healed_store.damages.is_empty() && !healed_store.lost.iter().any(is_known), "{story}");
    }
    assert!(healed > 20, "{healed} files were healed");
}

/// The pack of the first tree, its path, and where its frames end.
fn first_pack(trial: &Trial) -> (std::path::PathBuf, u64) {
    let storage = LocalStorage::open(trial.root()).unwrap();
    let mut listed = storage.list(ObjectKind::Pack).unwrap();
    listed.sort();
    let ObjectName::Pack(pack) = listed[0].name else { panic!("{listed:?}") };
    (trial.root().join(listed[0].name.path()), read_directory(&storage, pack).unwrap().frames_end())
}

#[test]
fn a_pack_that_lost_its_directory_is_made_again_as_it_was() {
    let whole = Trial::new();
    let (pack, frames_end) = first_pack(&whole);
    let original = std::fs::read(&pack).unwrap();
    for keep in [frames_end as usize, frames_end as usize + 5, original.len() - 1, original.len()] {
        let trial = whole.copy(false);
        let path = trial.root().join(pack.strip_prefix(whole.root()).unwrap());
        let mut bytes = original[..keep].to_vec();
        if keep == original.len() {
            // Only the header: frames and directory are as they were.
            bytes[3] ^= 1;
        }
        std::fs::write(&path, bytes).unwrap();
        let report = repair(&trial);
        assert!(report.is_whole(), "{keep}: {report:?}");
        assert_eq!(report.packs[0].successor, Some(report.packs[0].pack));
        assert!(std::fs::read(&path).unwrap() == original, "{keep}");
        assert_eq!(trial.readable().len(), trial.files.len());
    }
}

#[test]
fn a_pack_that_was_cut_off_keeps_its_first_frames() {
    let trial = Trial::new();
    let (pack, frames_end) = first_pack(&trial);
    let bytes = std::fs::read(&pack).unwrap();
    std::fs::write(&pack, &bytes[..frames_end as usize * 2 / 3]).unwrap();
    let report = repair(&trial);
    let [repaired] = report.packs.as_slice() else { panic!("{report:?}") };
    assert!(repaired.frames > 0 && repaired.chunks > 0 && repaired.successor.is_some_and(|id| id != repaired.pack));
    assert!(repaired.lost_chunks.is_none() && !repaired.lost.is_empty());
    assert!(report.lost_files > 0 && !pack.exists());
    trial.add_again();
    assert_eq!(trial.readable().len(), trial.files.len());
}

/// Of a snapshot whose batches are as they were, every row comes back; it is marked, and no parent of later adds.
#[test]
fn a_snapshot_with_damage_in_its_rows_gives_what_can_be_read() {
    let trial = Trial::new();
    let path = trial.objects().into_iter().find(|path| path.starts_with("snapshots")).unwrap();
    let (id, original) = (path.file_stem().unwrap().to_str().unwrap().to_owned(), trial.bytes()[&path].clone());
    let (mut salvaged, mut whole) = (0, 0);
    for at in (0..original.len()).step_by(89) {
        let trial = trial.copy(true);
        let mut bytes = original.clone();
        bytes[at] ^= 4;
        std::fs::write(trial.root().join(&path), bytes).unwrap();
        let report = repair(&trial);
        let [snapshot] = report.snapshots.as_slice() else { panic!("byte {at}: {report:?}") };
        assert_eq!(snapshot.id.to_hex(), id);
        let Some(successor) = snapshot.successor else { continue };
        if snapshot.is_whole() {
            whole += 1;
            assert!(std::fs::read(trial.root().join(&path)).unwrap() == original, "byte {at}");
            continue;
        }
        salvaged += 1;
        let store = trial.open();
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

#[test]
fn a_damaged_record_of_gc_is_moved_away_and_keeps_nobody_from_adding() {
    let trial = Trial::new();
    let path = trial.root().join(format!("condemned/{}.list", "ab".repeat(32)));
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(&path, b"not a record").unwrap();
    let verified = trial.verify(Depth::Quick);
    assert_eq!((verified.damages.len(), verified.lost_files), (1, 0));
    let sole = LocalStorage::open(trial.root()).unwrap().sole().unwrap();
    assert!(matches!(trial.open().repair(&REQUEST, &Control::default()), Err(Error::Locked { .. })));
    drop(sole);
    let report = repair(&trial);
    assert!(report.is_whole() && report.quarantined.len() == 1, "{report:?}");
    assert!(!path.exists() && trial.verify(Depth::Full).is_whole());
    trial.add_again();
}

#[test]
fn a_configuration_of_which_one_byte_was_changed_is_what_it_was() {
    let trial = Trial::new();
    let path = trial.root().join("store.json");
    let original = std::fs::read(&path).unwrap();
    assert_eq!(Store::mend_config(&trial.root(), false).unwrap(), None);
    for at in [0, original.len() / 2] {
        let mut bytes = original.clone();
        bytes[at] ^= 0x11;
        std::fs::write(&path, &bytes).unwrap();
        assert_eq!(Store::mend_config(&trial.root(), true).unwrap(), None);
        assert!(std::fs::read(&path).unwrap() == bytes, "a dry run changes nothing");
        let aside = Store::mend_config(&trial.root(), false).unwrap().unwrap();
        assert!(std::fs::read(&path).unwrap() == original, "byte {at}");
        assert!(std::fs::read(trial.root().join(aside)).unwrap() == bytes);
        std::fs::remove_file(&path).unwrap();
        std::fs::write(&path, &original).unwrap();
    }
    let mut bytes = original.clone();
    bytes[40] ^= 1;
    bytes[50] ^= 1;
    std::fs::write(&path, &bytes).unwrap();
    assert!(matches!(Store::mend_config(&trial.root(), false), Err(Error::Damaged { .. })));
    assert!(std::fs::read(&path).unwrap() == bytes);
}

/// A damaged frame in one pack, a lost end of another, a recipes file and a snapshot.
fn much_damage(trial: &Trial) {
    let objects = trial.objects();
    let of = |folder: &str| objects.iter().filter(|path| path.starts_with(folder)).collect::<Vec<_>>();
    let change = |path: &Path, change: &dyn Fn(&mut Vec<u8>)| {
        let path = trial.root().join(path);
        let mut bytes = std::fs::read(&path).unwrap();
        change(&mut bytes);
        std::fs::write(path, bytes).unwrap();
    };
    change(of("packs")[0], &|bytes| bytes[200] ^= 1);
    change(of("packs")[1], &|bytes| bytes.truncate(bytes.len() - 1));
    change(of("recipes")[0], &|bytes| bytes[2] ^= 1);
    // Names of packs and recipes files come from their contents; those of snapshots from the time, too.
    let (snapshot, _) = trial.files.keys().find(|(_, path)| path.as_path().ends_with("trees/a/below/1")).unwrap();
    change(ObjectName::Snapshot(*snapshot).path().as_ref(), &|bytes| bytes.truncate(bytes.len() / 2));
}

#[test]
fn a_repair_that_is_cut_short_anywhere_costs_nothing_and_is_gone_on_with() {
    let whole = Trial::new();
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
        let trial = damaged.copy(false);
        let opened = trial.open();
        let disk = FaultyDisk::killed_after(operations);
        let storage = LocalStorage::open_on(Arc::new(disk.clone()), trial.root()).unwrap();
        let store = Store { medium: storage.into(), ..opened };
        let ended = store.repair(&REQUEST, &Control::default());
        drop(store);
        assert!(trial.readable().is_superset(&before), "ended at operation {operations}");
        repair(&trial);
        assert_eq!((trial.readable(), trial.verify(Depth::Full)), expected, "ended at operation {operations}");
        if disk.struck().is_none() {
            ended.unwrap();
            break;
        }
        operations += 1;
    }
    assert!(operations >= 30, "only {operations} operations");
}
