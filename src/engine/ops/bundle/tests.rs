//! Taking a bundle over while gc is about to delete what it brings.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use std::collections::BTreeSet;

use super::BundleExport;
use crate::engine::Store;
use crate::engine::ops::gc::GcRequest;
use crate::engine::ops::verify::{Depth, VerifyRequest};
use crate::engine::store::control::Control;
use crate::format::id::PendingDeletesId;
use crate::format::name::{ObjectKind, ObjectName};
use crate::format::pending_deletes::PendingDeletes;
use crate::testing::random::noise;
use crate::testing::shelf::Shelf;

/// A store with a snapshot, which is in a bundle, too.
fn with_bundle() -> (Shelf, crate::format::id::SnapshotId, std::path::PathBuf, tempfile::TempDir) {
    let shelf = Shelf::new();
    for n in 0..6 {
        shelf.write(&format!("tree/{n}"), &noise(n + 1, 60_000));
    }
    shelf.write("tree/small", b"one chunk");
    let id = shelf.add("tree");
    let folder = tempfile::tempdir().unwrap();
    let bundle = folder.path().join("all.bundle");
    shelf.store().export_bundle(&BundleExport::default(), &bundle, &Control::default()).unwrap();
    (shelf, id, bundle, folder)
}

#[test]
fn what_is_pending_deletion_is_neither_relied_on_nor_named_again() {
    let (shelf, id, bundle, _folder) = with_bundle();
    let store = shelf.store();
    shelf.remove(id);
    // gc has announced everything for deletion and waits.
    let lease = store.coordination().begin().unwrap();
    assert!(shelf.gc(&GcRequest { no_wait: true, ..GcRequest::default() }).pending_deletes > 0);
    drop(lease);
    let pending_deletes: BTreeSet<ObjectName> = [ObjectKind::Pack, ObjectKind::Recipes]
        .into_iter()
        .flat_map(|kind| store.storage().list(kind).unwrap())
        .map(|object| object.name)
        .collect();
    let report = store.import_from(&bundle, &Control::default()).unwrap();
    assert!(report.packs > 0 && report.recipes_files > 0 && report.new_snapshots == 1, "{report:?}");
    // It deletes by name, whatever came meanwhile.
    for name in &pending_deletes {
        store.storage().delete(name).unwrap();
    }
    for record in store.storage().list(ObjectKind::PendingDeletes).unwrap() {
        store.storage().delete(&record.name).unwrap();
    }
    let request = VerifyRequest { depth: Depth::Full, threads: 1 };
    let report = store.verify(&request, &Control::default()).unwrap();
    assert!(report.is_whole(), "{report:?}");
    shelf.assert_whole(id, "tree", &shelf.source("tree"));
    // And again nothing is new.
    let again = store.import_from(&bundle, &Control::default()).unwrap();
    assert_eq!(again.added_bytes, 0);
}

#[test]
fn what_is_pending_deletion_is_exported_while_it_is_there() {
    let (shelf, id, _, folder) = with_bundle();
    let store = shelf.store();
    let all = PendingDeletes {
        packs: store.storage().list(ObjectKind::Pack).unwrap().iter().filter_map(|of| of.name.pack()).collect(),
        ..PendingDeletes::default()
    };
    let bytes = all.encode();
    store.storage().put_if_absent(&ObjectName::PendingDeletes(PendingDeletesId::of(&bytes)), &bytes).unwrap();
    let bundle = folder.path().join("more.bundle");
    store.export_bundle(&BundleExport::default(), &bundle, &Control::default()).unwrap();
    let opened = Store::open(&bundle).unwrap();
    assert_eq!(opened.snapshot_ids().unwrap(), [id]);
    assert!(opened.verify(&VerifyRequest { depth: Depth::Full, threads: 1 }, &Control::default()).unwrap().is_whole());
    // No record goes along.
    assert!(opened.storage().list(ObjectKind::PendingDeletes).unwrap().is_empty());
}
