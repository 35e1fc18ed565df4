use super::recipes::pieces;
use super::rows::strange_entries;
use super::{Shelf, TestRng, recipes, snapshots};
use crate::catalog::recipe::{RecipesFile, RecipesWriter};
use crate::catalog::snapshot::{Snapshot, SnapshotInfo, SnapshotWriter, read_info};
use crate::error::{Error, Result};
use crate::format::id::{RecipesFileId, SnapshotId};
use crate::format::name::ObjectName;
use crate::format::recipe::recipe_id;
use crate::storage::Storage;

/// How many random changes are tried.
const CASES: usize = 20_000;

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

fn hostile_snapshot(bad: Vec<u8>) -> bool {
    let shelf = Shelf::default();
    let id = SnapshotId::of(&bad);
    shelf.put(ObjectName::Snapshot(id), bad);
    match use_snapshot(&shelf, id) {
        Ok(()) => true,
        Err(error) if is_damage(&error) => false,
        Err(error) => panic!("{error}"),
    }
}

fn uncompressed_snapshot() -> Vec<u8> {
    let shelf = Shelf::default();
    let mut writer = SnapshotWriter::begin(shelf.writer().unwrap()).unwrap().uncompressed();
    strange_entries().iter().for_each(|e| writer.push(e).unwrap());
    let id = writer.finish(SnapshotInfo::default()).unwrap().id;
    shelf.bytes(ObjectName::Snapshot(id))
}

#[test]
fn a_hostile_snapshot_that_hashes_to_its_name_is_refused_or_read_but_never_a_panic() {
    let shelf = Shelf::default();
    let id = snapshots::write(&shelf, &strange_entries()).id;
    for good in [shelf.bytes(ObjectName::Snapshot(id)), uncompressed_snapshot()] {
        let read = changed(&good).filter(|bad| hostile_snapshot(bad.clone())).count();
        // A changed time or name is not noticed, nor the schema in front, which only readers of streams take.
        assert!(read < good.len() * 5 / 2, "{read} of {}", good.len() * 5);
    }
}

#[test]
fn a_hostile_snapshot_changed_in_several_places_is_never_a_panic() {
    changed_in_several_places(&uncompressed_snapshot(), |bad| {
        hostile_snapshot(bad);
    });
}

#[test]
fn hostile_recipes_changed_in_several_places_are_never_a_panic() {
    let shelf = Shelf::default();
    let mut numbers = TestRng(8);
    let mut writer = RecipesWriter::begin(shelf.writer().unwrap()).unwrap().uncompressed();
    for n in [3, 1, 20] {
        let pieces = pieces(&mut numbers, n);
        writer.push(recipe_id(&pieces), &pieces).unwrap();
    }
    let good = shelf.bytes(ObjectName::Recipes(writer.finish(&shelf).unwrap().unwrap().id));
    changed_in_several_places(&good, |bad| {
        let shelf = Shelf::default();
        let id = RecipesFileId::of(&bad);
        shelf.put(ObjectName::Recipes(id), bad);
        assert!(use_recipes(&shelf, id).err().as_ref().is_none_or(is_damage));
    });
}

fn changed_in_several_places(good: &[u8], mut each: impl FnMut(Vec<u8>)) {
    let mut numbers = TestRng(9);
    for _ in 0..CASES {
        let mut bad = good.to_vec();
        for _ in 0..1 + numbers.below(6) {
            let at = usize::try_from(numbers.below(bad.len() as u64)).unwrap();
            // What lengths and offsets are sensitive to: small numbers, all ones, the largest and the least.
            let values = [0u64, 1, u64::MAX, 1 << 31, 1 << 63, numbers.next(), numbers.below(64)];
            let value = values[usize::try_from(numbers.below(7)).unwrap()].to_le_bytes();
            let count = [1, 4, 8][usize::try_from(numbers.below(3)).unwrap()];
            bad[at..].iter_mut().zip(&value[..count]).for_each(|(to, from)| *to = *from);
        }
        each(bad);
    }
}

#[test]
fn recipes_changed_anywhere_are_damaged_or_unchanged() {
    let shelf = Shelf::default();
    let mut numbers = TestRng(8);
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
