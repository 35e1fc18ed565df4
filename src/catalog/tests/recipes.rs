use proptest::prelude::*;

use super::{Shelf, TestRng};
use crate::Error;
use crate::catalog::recipe::{KeptRecipes, RecipePlace, RecipesFile, RecipesWriter, WrittenRecipes};
use crate::format::id::{ChunkId, RecipeId, RecipesFileId};
use crate::format::name::ObjectName;
use crate::format::recipe::{Piece, recipe_id};
use crate::storage::Storage;

pub(super) fn write(shelf: &Shelf, recipes: &[Vec<Piece>]) -> Option<WrittenRecipes> {
    let mut writer = RecipesWriter::begin(shelf.writer().unwrap()).unwrap();
    for pieces in recipes {
        writer.push(recipe_id(pieces), pieces).unwrap();
    }
    writer.finish(shelf).unwrap()
}

pub(super) fn pieces(numbers: &mut TestRng, n: u64) -> Vec<Piece> {
    let mut end = 0;
    (0..n)
        .map(|_| {
            end += 8192 + numbers.below(57_344);
            Piece { id: ChunkId(numbers.id()), end }
        })
        .collect()
}

#[test]
fn no_recipes_make_no_file() {
    let shelf = Shelf::default();
    assert!(write(&shelf, &[]).is_none());
    assert!(shelf.objects.lock().unwrap().is_empty());
}

#[test]
fn recipes_across_batches_read_back_in_any_order() {
    let shelf = Shelf::default();
    let mut numbers = TestRng(3);
    // Small ones, one larger than a batch, small ones, and more rows than a batch has.
    let mut lengths = vec![2; 100];
    lengths.extend([300_000, 3, 262_144, 1]);
    lengths.extend(vec![1; 9000]);
    let recipes: Vec<_> = lengths.iter().map(|n| pieces(&mut numbers, *n)).collect();
    let written = write(&shelf, &recipes).unwrap();
    assert_eq!(written.id, RecipesFileId::of(&shelf.bytes(ObjectName::Recipes(written.id))));
    assert_eq!(written.bytes, shelf.size(&ObjectName::Recipes(written.id)).unwrap());
    assert_eq!(written.places.len(), recipes.len());

    let file = RecipesFile::open(&shelf, written.id).unwrap();
    assert_eq!(file.ids().unwrap(), written.places);
    for at in (0..recipes.len()).rev().step_by(501) {
        let (id, place) = written.places[at];
        assert_eq!(file.read(place).unwrap(), (id, recipes[at].clone()));
    }
    let mut all = Vec::new();
    file.for_each(|place, id, pieces| {
        assert_eq!((id, place), written.places[all.len()]);
        all.push(pieces);
        Ok(())
    })
    .unwrap();
    assert_eq!(all, recipes);
    RecipesFile::verify(&shelf, written.id).unwrap();
    for nowhere in [RecipePlace { batch: 0, row: 1 << 30 }, RecipePlace { batch: file.batch_count(), row: 0 }] {
        assert!(matches!(file.read(nowhere), Err(Error::Damaged { .. })));
    }
}

fn written_as(pieces: &[Piece]) -> (RecipeId, Vec<Piece>) {
    (recipe_id(pieces), pieces.to_vec())
}

#[test]
fn one_recipe_is_read_without_the_others() {
    let shelf = Shelf::default();
    let mut numbers = TestRng(4);
    let recipes: Vec<_> = (0..40_000).map(|_| pieces(&mut numbers, 4)).collect();
    let written = write(&shelf, &recipes).unwrap();
    shelf.taken_read_bytes();
    let file = RecipesFile::open(&shelf, written.id).unwrap();
    file.read(written.places[11].1).unwrap();
    let first = shelf.taken_read_bytes();
    assert!(first * 4 < written.bytes, "{first} of {}", written.bytes);
}

#[test]
fn neighbours_of_a_recipe_and_of_the_one_before_are_read_for_nothing() {
    let shelf = Shelf::default();
    let mut numbers = TestRng(14);
    let recipes: Vec<_> = (0..40_000).map(|_| pieces(&mut numbers, 4)).collect();
    let written = write(&shelf, &recipes).unwrap();
    let file = RecipesFile::open(&shelf, written.id).unwrap();
    let kept = KeptRecipes::default();
    let (near, far) = (11, 39_000);
    assert_ne!(written.places[near].1.batch, written.places[far].1.batch);
    for at in [near, far] {
        assert_eq!(kept.read(&file, written.places[at].1).unwrap(), written_as(&recipes[at]));
    }
    shelf.taken_read_bytes();
    for at in [near + 1, far + 1, near, far] {
        assert_eq!(kept.read(&file, written.places[at].1).unwrap(), written_as(&recipes[at]));
    }
    assert_eq!(shelf.taken_read_bytes(), 0);
}

#[test]
fn kept_recipes_are_bounded() {
    let shelf = Shelf::default();
    let mut numbers = TestRng(15);
    // Each batch about 10 MB.
    let recipes: Vec<_> = (0..8).map(|_| pieces(&mut numbers, 250_000)).collect();
    let written = write(&shelf, &recipes).unwrap();
    let file = RecipesFile::open(&shelf, written.id).unwrap();
    assert_eq!(file.batch_count(), 8);
    let kept = KeptRecipes::default();
    let read = |at: usize| kept.read(&file, written.places[at].1).unwrap();
    (0..8).for_each(|at| drop(read(at)));
    shelf.taken_read_bytes();
    read(7);
    read(6);
    assert_eq!(shelf.taken_read_bytes(), 0, "the last ones are kept");
    read(0);
    assert!(shelf.taken_read_bytes() > 0, "the first one is not");
}

#[test]
fn a_recipe_that_is_not_its_id_is_refused() {
    let shelf = Shelf::default();
    let mut numbers = TestRng(5);
    let good = pieces(&mut numbers, 3);
    let mut backwards = good.clone();
    backwards[1].end = backwards[0].end;
    let mut other = good.clone();
    other[2].id = ChunkId::HOLE;
    for (id, bad) in [(recipe_id(&good), &other), (recipe_id(&backwards), &backwards)] {
        let mut writer = RecipesWriter::begin(shelf.writer().unwrap()).unwrap();
        writer.push(id, bad).unwrap();
        let written = writer.finish(&shelf).unwrap().unwrap();
        let file = RecipesFile::open(&shelf, written.id).unwrap();
        let error = file.read(written.places[0].1).unwrap_err();
        assert!(matches!(error, Error::Damaged { .. }), "{error}");
    }
}

#[test]
fn recipes_take_36_bytes_a_piece() {
    let shelf = Shelf::default();
    let mut numbers = TestRng(6);
    let recipes: Vec<_> = (0..500).map(|n| pieces(&mut numbers, 2 + n % 400)).collect();
    let count: usize = recipes.iter().map(Vec::len).sum();
    let written = write(&shelf, &recipes).unwrap();
    let each = written.bytes as f64 / count as f64;
    assert!(each < 36.0, "{each}");
}

#[test]
fn versions_of_a_file_added_together_share_their_ids() {
    let shelf = Shelf::default();
    let mut numbers = TestRng(7);
    let old = pieces(&mut numbers, 80_000);
    let mut new = old.clone();
    for piece in new.iter_mut().skip(20_000).step_by(3) {
        piece.id = ChunkId(numbers.id());
    }
    let written = write(&shelf, &[old, new]).unwrap();
    let each = written.bytes as f64 / 160_000.0;
    assert!(each < 30.0, "{each}");
}

proptest! {
    #[test]
    fn what_is_written_is_read(lengths in prop::collection::vec(prop::collection::vec((any::<[u8; 32]>(), 1..u64::MAX / 64), 0..20), 1..20)) {
        let shelf = Shelf::default();
        let recipes: Vec<Vec<Piece>> = lengths.into_iter().map(|list| {
            let mut end = 0;
            list.into_iter().map(|(id, length)| { end += length; Piece { id: ChunkId(id), end } }).collect()
        }).collect();
        let written = write(&shelf, &recipes).unwrap();
        let file = RecipesFile::open(&shelf, written.id).unwrap();
        for ((id, place), pieces) in written.places.iter().zip(&recipes) {
            prop_assert_eq!(&file.read(*place).unwrap(), &(*id, pieces.clone()));
        }
    }
}
