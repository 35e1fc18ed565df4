use super::recipes::pieces;
use super::rows::strange_entries;
use super::{Numbers, Shelf, recipes, snapshots};
use crate::catalog::recipe::RecipesFile;
use crate::catalog::snapshot::{Snapshot, read_info};
use crate::error::{Error, Result};
use crate::format::id::{RecipesFileId, SnapshotId};
use crate::format::name::ObjectName;

fn use_snapshot(shelf: &Shelf, id: SnapshotId) -> Result<()> {
    let snapshot = Snapshot::open(shelf, id)?;
    snapshot.entries().try_for_each(|e| e.map(|_| ()))
}

fn use_recipes(shelf: &Shelf, id: RecipesFileId) -> Result<()> {
    let file = RecipesFile::open(shelf, id)?;
    file.ids()?;
    file.for_each(|_, _, _| Ok(()))
}

fn is_damage(error: &Error) -> bool {
    matches!(error, Error::Damaged { .. } | Error::FormatVersion { .. })
}

/// All single-bit and some whole-byte changes, and all truncations.
fn changed(good: &[u8]) -> impl Iterator<Item = Vec<u8>> + '_ {
    let flips = (0..good.len()).flat_map(move |at| {
        [1u8, 0x10, 0x80, 0xff].map(|mask| {
            let mut bad = good.to_vec();
            bad[at] ^= mask;
            bad
        })
    });
    flips.chain((0..good.len()).map(move |end| good[..end].to_vec()))
}

#[test]
fn a_snapshot_changed_anywhere_is_damaged() {
    let shelf = Shelf::default();
    let id = snapshots::write(&shelf, &strange_entries()).id;
    let name = ObjectName::Snapshot(id);
    for bad in changed(&shelf.bytes(name)) {
        shelf.put(name, bad);
        let error = use_snapshot(&shelf, id).unwrap_err();
        assert!(is_damage(&error), "{error}");
        // The footer alone may be whole; what it says is then true.
        if let Ok(info) = read_info(&shelf, id) {
            assert_eq!(info.counts.entries, strange_entries().len() as u64);
        }
    }
}

#[test]
fn a_hostile_snapshot_that_hashes_to_its_name_is_refused_or_read_but_never_a_panic() {
    let shelf = Shelf::default();
    let id = snapshots::write(&shelf, &strange_entries()).id;
    let good = shelf.bytes(ObjectName::Snapshot(id));
    let (mut refused, mut read) = (0, 0);
    for bad in changed(&good) {
        let id = SnapshotId::of(&bad);
        shelf.put(ObjectName::Snapshot(id), bad);
        match use_snapshot(&shelf, id) {
            Ok(()) => read += 1,
            Err(error) if is_damage(&error) => refused += 1,
            Err(error) => panic!("{error}"),
        }
        shelf.objects.lock().unwrap().clear();
    }
    assert!(refused > read, "{refused} refused, {read} read");
}

#[test]
fn recipes_changed_anywhere_are_damaged_or_unchanged() {
    let shelf = Shelf::default();
    let mut numbers = Numbers(8);
    let list: Vec<_> = [3, 1, 20].map(|n| pieces(&mut numbers, n)).to_vec();
    let id = recipes::write(&shelf, &list).unwrap().id;
    let name = ObjectName::Recipes(id);
    for bad in changed(&shelf.bytes(name)) {
        shelf.put(name, bad);
        assert!(is_damage(&RecipesFile::verify(&shelf, id).unwrap_err()));
        // What is read despite it was checked against its id: it is what was written, under the name it was written.
        let mut seen = Vec::new();
        let read = RecipesFile::open(&shelf, id).and_then(|f| {
            f.for_each(|_, _, pieces| {
                seen.push(pieces);
                Ok(())
            })
        });
        assert!(read.is_ok() || is_damage(&read.unwrap_err()));
        assert!(seen.iter().all(|pieces| list.contains(pieces)));
        let _ = use_recipes(&shelf, id);
    }
}
