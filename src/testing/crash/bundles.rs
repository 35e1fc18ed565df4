//! Power that is lost, or a disk that fails, while a bundle is written, appended to, or taken over.
//!
//! What was acknowledged is there and whole; a bundle that is there is whole, whatever it is a generation of; and the same
//! command succeeds afterwards.

use std::path::Path;
use std::sync::Arc;

use rustix::io::Errno;

use super::recording::{Operation, RecordingDisk};
use super::replay::{Image, Unsynced};
use super::stage::{Due, Promise, Stage, Step, assert_whole, open};
use crate::engine::Store;
use crate::engine::ops::bundle::BundleExport;
use crate::engine::store::control::Control;
use crate::error::Error;
use crate::format::id::SnapshotId;
use crate::storage::disk::Disk;
use crate::testing::disk::{Fault, FaultyDisk, Op};

const BUNDLE: &str = "all.bundle";

fn export(disk: Arc<dyn Disk>, folder: &Path) -> crate::Result<u64> {
    let store = open(Arc::clone(&disk), &folder.join("store"))?;
    let report = store.export_bundle_on(disk, &BundleExport::default(), &folder.join(BUNDLE), &Control::default())?;
    Ok(report.generation)
}

fn unsynced() -> Arc<dyn Disk> {
    Arc::new(FaultyDisk::unsynced())
}

/// A disk after each operation from `from` on, in several ways.
fn after_each(operations: &[Operation], from: usize, seeds: u64, mut look: impl FnMut(&Image, usize, &str)) {
    for prefix in from..=operations.len() {
        let some = (0..seeds).map(|seed| Unsynced::Some(seed << 32 | prefix as u64));
        for unsynced in [Unsynced::Kept, Unsynced::Lost].into_iter().chain(some) {
            let (image, _) = Image::after(&operations[..prefix], unsynced);
            let last = operations[..prefix].last().map_or("nothing", |operation| operation.what.as_str());
            look(&image, prefix, &format!("{prefix} operations, the last: {last}; {unsynced:?}"));
        }
    }
}

#[test]
fn power_lost_while_a_bundle_is_written_and_appended_to() {
    let stage = Stage::new();
    let disk = RecordingDisk::new(&stage.recorded());
    let mut promises: Vec<Promise> = Vec::new();
    stage.play(&disk, &[Step::Init, Step::Add(0)], &mut promises);
    let from = disk.len();
    let on: Arc<dyn Disk> = Arc::new(disk.clone());
    assert_eq!(export(Arc::clone(&on), &stage.recorded()).unwrap(), 1);
    let first = disk.len();
    stage.play(&disk, &[Step::Add(1)], &mut promises);
    assert_eq!(export(on, &stage.recorded()).unwrap(), 2);
    let operations = disk.operations();
    assert!(first - from >= 6, "{} operations", first - from);
    let due = |at: usize| Due::after(&promises, at);
    let (mut absent, mut older) = (0, 0);
    after_each(&operations, from, 6, |image, at, case| {
        let folder = tempfile::tempdir().unwrap();
        image.make(folder.path());
        let path = folder.path().join(BUNDLE);
        let acknowledged = match at {
            at if at >= operations.len() => due(at),
            at if at >= first => due(from),
            _ => Due::default(),
        };
        if path.exists() {
            let bundle = Store::open(&path).unwrap_or_else(|e| panic!("{case}: {e:?}"));
            stage.compare_all(&bundle, &acknowledged, &folder.path().join("copies"), case);
            older += usize::from(!bundle.bundle_flaws().is_empty());
        } else {
            assert!(acknowledged.snapshots.is_empty(), "{case}: it is gone");
            absent += 1;
        }
        // And it goes on.
        export(unsynced(), folder.path()).unwrap_or_else(|e| panic!("{case}: {e:?}"));
        let bundle = Store::open(&path).unwrap();
        assert_whole(&bundle, case);
        stage.compare_all(&bundle, &due(at), &folder.path().join("copies"), case);
        let left = std::fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().file_name());
        let left: Vec<_> = left.filter(|name| name.to_string_lossy().ends_with(".tmp")).collect();
        assert!(left.is_empty(), "{case}: {left:?}");
    });
    assert!(absent > 10 && older > 10, "{absent} without a bundle, {older} with a torn end");
}

/// A stage with a store of two snapshots and a bundle of it.
fn with_bundle() -> (Stage, Vec<SnapshotId>) {
    let stage = Stage::new();
    let disk = RecordingDisk::new(&stage.recorded());
    stage.play(&disk, &[Step::Init, Step::Add(0), Step::Add(1)], &mut Vec::new());
    export(unsynced(), &stage.recorded()).unwrap();
    let ids = Store::open(&stage.recorded().join(BUNDLE)).unwrap().snapshot_ids().unwrap();
    assert_eq!(ids.len(), 2);
    (stage, ids)
}

#[test]
fn power_lost_while_a_bundle_is_taken_over() {
    let (stage, ids) = with_bundle();
    let bundle = stage.recorded().join(BUNDLE);
    let target = tempfile::tempdir().unwrap();
    let disk = RecordingDisk::new(target.path());
    let import = |disk: Arc<dyn Disk>, folder: &Path| {
        Store::import_bundle_on(disk, &folder.join("store"), &bundle, &Control::default())
    };
    import(Arc::new(disk.clone()), target.path()).unwrap();
    let operations = disk.operations();
    assert!(operations.len() > 30, "{}", operations.len());
    let mut all = Due::default();
    all.snapshots.extend(ids);
    after_each(&operations, 0, 2, |image, at, case| {
        let folder = tempfile::tempdir().unwrap();
        image.make(folder.path());
        let (root, copies) = (folder.path().join("store"), folder.path().join("copies"));
        let due = if at == operations.len() { all.clone() } else { Due::default() };
        match open(unsynced(), &root) {
            Ok(store) => stage.compare_all(&store, &due, &copies, case),
            Err(Error::NotAStore { .. }) => assert!(due.snapshots.is_empty(), "{case}"),
            Err(error) => panic!("{case}: {error:?}"),
        }
        import(unsynced(), folder.path()).unwrap_or_else(|e| panic!("{case}: {e:?}"));
        let store = open(unsynced(), &root).unwrap();
        assert_whole(&store, case);
        stage.compare_all(&store, &all, &copies, case);
    });
}

#[test]
fn whichever_operation_of_an_export_or_import_fails() {
    let (stage, ids) = with_bundle();
    let mut all = Due::default();
    all.snapshots.extend(ids);
    type Among = fn(Op) -> bool;
    let faults: [(Fault, Among); 3] = [
        (Fault::Fails(Errno::IO), Op::any),
        (Fault::Fails(Errno::NOSPC), Op::takes_space),
        (Fault::Short, Op::moves_bytes),
    ];
    // To write one, to append to one, to take one over.
    for what in ["new", "append", "import"] {
        for (fault, among) in faults {
            for well in 0.. {
                let case = format!("{what}: {fault:?} after {well}");
                let folder = tempfile::tempdir().unwrap();
                let (bundle, store) = (folder.path().join(BUNDLE), folder.path().join("store"));
                if what != "new" {
                    std::fs::copy(stage.recorded().join(BUNDLE), &bundle).unwrap();
                }
                if what != "import" {
                    crate::testing::folder::copy_tree(&stage.recorded().join("store"), &store);
                }
                if what == "append" {
                    stage.add(&open(unsynced(), &store).unwrap(), 2).unwrap();
                }
                let run = |disk: FaultyDisk| match what {
                    "import" => Store::import_bundle_on(Arc::new(disk), &store, &bundle, &Control::default()).map(drop),
                    _ => export(Arc::new(disk), folder.path()).map(drop),
                };
                let disk = FaultyDisk::unsynced();
                disk.fault(fault, well, among);
                let result = run(disk.clone());
                let Some(asked) = disk.struck() else {
                    result.unwrap_or_else(|e| panic!("{case}: {e:?}"));
                    break;
                };
                let case = format!("{case}: {asked:?}");
                assert!(fault != Fault::Short || result.is_ok(), "{case}: {result:?}");
                let copies = folder.path().join("copies");
                if what == "append" {
                    let before = Store::open(&bundle).unwrap_or_else(|e| panic!("{case}: {e:?}"));
                    stage.compare_all(&before, &all, &copies, &case);
                }
                run(FaultyDisk::unsynced()).unwrap_or_else(|e| panic!("{case}: again: {e:?}"));
                let after = if what == "import" { &store } else { &bundle };
                let after = Store::open(after).unwrap();
                assert_whole(&after, &case);
                stage.compare_all(&after, &all, &copies, &case);
            }
        }
    }
}
