//! Small files that claim much: refused before anything is allocated.

use super::rows::{file, path};
use super::{Shelf, TestRng, recipes};
use crate::catalog::columns::{RECIPE_PIECES_MAX, RecipeRows, Table, TableWriter};
use crate::catalog::recipe::RecipesFile;
use crate::catalog::snapshot::{Snapshot, SnapshotInfo, SnapshotWriter};
use crate::error::Error;
use crate::format::entry::{Entry, PATH_BYTES_MAX};
use crate::format::id::{CatalogHasher, ChunkId, RecipesFileId};
use crate::format::name::ObjectName;
use crate::format::recipe::{Piece, recipe_id};
use crate::storage::Storage;

/// A file of batches of any recipes, true or not.
fn file_of(shelf: &Shelf, batches: &[Vec<Vec<Piece>>]) -> RecipesFileId {
    let mut table = TableWriter::begin(Table::Recipes, shelf.writer().unwrap(), CatalogHasher::recipes(), 0).unwrap();
    for batch in batches {
        let mut rows = RecipeRows::default();
        batch.iter().for_each(|pieces| assert!(rows.push(&recipe_id(pieces), pieces)));
        table.write(&rows.take().unwrap()).unwrap();
    }
    let (writer, hash, _) = table.finish(Vec::new(), Vec::new()).unwrap();
    writer.finish(&ObjectName::Recipes(RecipesFileId(hash))).unwrap();
    RecipesFileId(hash)
}

/// One chunk again and again, each time `step` bytes on.
fn repeated(count: u64, step: u64) -> Vec<Piece> {
    (1..=count).map(|n| Piece { id: ChunkId([7; 32]), end: n * step }).collect()
}

#[test]
fn a_recipe_that_is_long_and_true_is_read_however_well_it_shrinks() {
    let shelf = Shelf::default();
    let pieces = repeated(1 << 20, 64 << 10);
    let written = recipes::write(&shelf, std::slice::from_ref(&pieces)).unwrap();
    // 42 MB of pieces.
    assert!(written.bytes < 6 << 20, "{}", written.bytes);
    let file = RecipesFile::open(&shelf, written.id).unwrap();
    assert!(file.read(written.places[0].1).unwrap().1 == pieces);
}

#[test]
fn a_batch_that_is_none_of_those_that_are_written_is_refused_unread() {
    let long = RECIPE_PIECES_MAX as u64 + 1;
    let bombs = [
        ("ends that do not ascend", vec![repeated(1 << 20, 0)]),
        ("more chunks than are written together", vec![repeated(long, 1), repeated(1, 1)]),
        ("more recipes than are written together", vec![repeated(1, 1); 8193]),
    ];
    for (what, batch) in bombs {
        let shelf = Shelf::default();
        let id = file_of(&shelf, &[batch]);
        assert!(shelf.size(&ObjectName::Recipes(id)).unwrap() < 1 << 20, "{what}");
        let file = RecipesFile::open(&shelf, id).unwrap();
        for read in [file.batch(0).map(|_| ()), file.ids().map(|_| ())] {
            assert!(matches!(read, Err(Error::Damaged { .. })), "{what}: {read:?}");
        }
    }
}

#[test]
fn ends_do_not_shrink_by_much() {
    // The bound on what a long recipe may claim: no list of ascending ends comes near it, at the level they are written.
    let mut numbers = TestRng(5);
    let steps: Vec<Box<dyn Fn(u64) -> u64>> = vec![
        Box::new(|n| n * (64 << 10)),
        Box::new(|n| n * (128 << 10)),
        Box::new(|n| n * (4 << 20)),
        Box::new(|n| n * 4096),
        Box::new(|n| n),
        Box::new(|n| n << 24),
        Box::new(|n| n << 32),
        Box::new(|n| n * 255),
        Box::new(|n| n * 257),
        Box::new(|n| n * 65_537),
        Box::new(|n| (n / 2) * (192 << 10) + (n % 2) * (64 << 10)),
        Box::new(|n| n * 0x0101_0101),
    ];
    let mut worst = 0;
    for step in &steps {
        let ends: Vec<u8> = (1..=300_000).flat_map(|n| step(n).to_le_bytes()).collect();
        let stored = zstd::bulk::compress(&ends, 9).unwrap().len();
        worst = worst.max(ends.len() / stored);
    }
    assert!(worst < 32, "{worst}");
    // A real one, of chunks of many lengths.
    let ends: Vec<u8> = recipes::pieces(&mut numbers, 300_000).iter().flat_map(|p| p.end.to_le_bytes()).collect();
    assert!(ends.len() / zstd::bulk::compress(&ends, 9).unwrap().len() < 8);
}

#[test]
fn a_message_named_twice_is_refused() {
    let shelf = Shelf::default();
    let id = file_of(&shelf, &[vec![repeated(2, 1)], vec![repeated(3, 1)]]);
    let name = ObjectName::Recipes(id);
    let mut bytes = shelf.bytes(name);
    let blocks: Vec<usize> = (bytes.len().saturating_sub(1000)..bytes.len() - 24)
        .filter(|at| {
            let field = |skip: usize| u64::from_le_bytes(bytes[at + skip..at + skip + 8].try_into().unwrap());
            // Offset, bytes of the header, bytes of the body: blocks of the footer, which lie one after the other.
            let [offset, header, body] = [0, 8, 16].map(field);
            (100..2000).contains(&header) && body < 2000 && (300..bytes.len() as u64 - header - body).contains(&offset)
        })
        .collect();
    let second = *blocks.iter().find(|at| blocks.contains(&(*at - 24))).unwrap();
    bytes.copy_within(second - 24..second, second);
    shelf.put(name, bytes);
    let opened = RecipesFile::open(&shelf, id);
    assert!(matches!(&opened, Err(Error::Damaged { what, .. }) if what.contains("overlaps")), "{opened:?}");
}

#[test]
fn of_more_names_of_owners_than_fit_the_rest_is_left_out() {
    let shelf = Shelf::default();
    let mut writer = SnapshotWriter::begin(shelf.writer().unwrap()).unwrap();
    for n in 0..20 {
        let user = format!("{n:02}{}", "x".repeat(1 << 20));
        writer.push(&Entry { user: Some(user.into()), ..file(format!("{n:02}"), 1) }).unwrap();
    }
    let id = writer.finish(SnapshotInfo::default()).unwrap().id;
    let snapshot = Snapshot::open(&shelf, id).unwrap();
    let named: Vec<bool> = snapshot.entries().map(|entry| entry.unwrap().user.is_some()).collect();
    assert_eq!(named, [vec![true; 15], vec![false; 5]].concat());
}

#[test]
fn a_path_that_would_take_the_square_of_its_length_is_refused() {
    let shelf = Shelf::default();
    let mut writer = SnapshotWriter::begin(shelf.writer().unwrap()).unwrap();
    let entry = |bytes: usize| Entry { path: path("a/".repeat(bytes / 2) + "b"), ..file("", 1) };
    writer.push(&entry(PATH_BYTES_MAX - 2)).unwrap();
    let refused = writer.push(&entry(PATH_BYTES_MAX));
    assert!(matches!(refused, Err(Error::Refused { .. })), "{refused:?}");
}
