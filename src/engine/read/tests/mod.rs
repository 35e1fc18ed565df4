//! Reading while gc deletes: what was planned is gone, and is found elsewhere.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

mod copies;

use super::report::GetReport;
use super::resolve::Item;
use super::schedule::Bounds;
use super::tree::{Limits, Placed, TreeRestore};
use super::window::RestoreContext;
use crate::engine::ops::gc::GcRequest;
use crate::engine::store::control::Control;
use crate::engine::store::snapshots::Selector;
use crate::error::Result;
use crate::format::id::SnapshotId;
use crate::restore::Destination;
use crate::testing::folder::files_in;
use crate::testing::random::noise;
use crate::testing::shelf::Shelf;
use crate::testing::store::{Kind, on_every_backend};

/// Twelve files that a second tree has too, with others between them; so each pack is half needed by the second alone.
fn half_needed(shelf: &Shelf) -> (SnapshotId, SnapshotId) {
    for n in 0..12 {
        let kept = noise(n, 60_000);
        shelf.write(&format!("both/{n:02}/kept"), &kept);
        shelf.write(&format!("both/{n:02}/dropped"), &noise(100 + n, 60_000));
        shelf.write(&format!("kept/{n:02}"), &kept);
    }
    (shelf.add("both"), shelf.add("kept"))
}

fn restore(shelf: &Shelf, snapshot: SnapshotId, meanwhile: impl Fn(usize)) -> Result<GetReport> {
    let store = shelf.store();
    let control = Control::default();
    let path = shelf.folder.path().join("kept");
    let found = store.resolve(&path, &Selector::Id(snapshot.to_hex())).unwrap();
    let chunk_index = store.chunk_index().unwrap();
    let output = shelf.folder.path().join("copy");
    let destination = Destination::create(&output, false).unwrap();
    let bounds = Bounds { frame_bytes: 100_000, copied_bytes: 50_000 };
    let place =
        RestoreContext { chunk_index: &chunk_index, destination: &destination, control: &control, threads: 2, bounds };
    // Some files to a window, so that there is something planned, and something yet to be planned.
    let restore = TreeRestore::new(place, Limits { window_bytes: 3_000, open_files: 100 });
    let root = found.path.clone();
    let entries = found.snapshot.within(&root)?;
    restore.run(entries.enumerate().map(|(n, entry)| {
        meanwhile(n);
        // A file that is open could be read on though it is gone.
        store.storage().close_files();
        entry.map(|entry| Placed {
            path: entry.path.below(&root).unwrap(),
            item: Item { entry, member: None },
            instead_of_link: None,
        })
    }))
}

fn chunks_that_gc_moves_are_found_again(kind: Kind) {
    // Before anything is planned, and at every file.
    for at in 0..12 {
        let shelf = Shelf::on(kind);
        let (both, kept) = half_needed(&shelf);
        let collect = |n| {
            if n == at {
                shelf.remove(both);
                let done = shelf.gc(&GcRequest { max_waste: 0.0, ..GcRequest::default() });
                assert!(
                    done.packs > 0 && done.new_packs > 0 && done.new_recipes_files + done.recipes_files > 0,
                    "{done:?}"
                );
            }
        };
        let report = restore(&shelf, kept, collect).unwrap();
        assert_eq!((report.files, report.losses), (12, Vec::new()), "gc at {at}");
        assert!(files_in(&shelf.folder.path().join("copy")) == shelf.source("kept"));
    }
}

fn a_snapshot_that_is_gone_is_not_called_damaged(kind: Kind) {
    let shelf = Shelf::on(kind);
    let (both, kept) = half_needed(&shelf);
    let report = restore(&shelf, kept, |n| {
        if n == 6 {
            shelf.remove(both);
            shelf.remove(kept);
            shelf.gc(&GcRequest::default());
        }
    });
    let is_whole = report.as_ref().is_ok_and(|report| report.losses.is_empty());
    assert!(!is_whole, "{report:?}");
    let said = shelf.store().unless_removed(kept, report).unwrap_err();
    assert_eq!(said.to_string(), format!("snapshot {kept} was removed while it was being read"));
}

on_every_backend!(chunks_that_gc_moves_are_found_again, a_snapshot_that_is_gone_is_not_called_damaged,);
