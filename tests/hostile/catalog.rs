//! Recipes files and snapshots: any bytes, any rows, lying buffers.

use seamstore::Error;
use seamstore::entry::{ChunkId, EntryPath, RecipesFileId, SnapshotId};
use seamstore::internals::catalog::recipe::{KeptRecipes, RecipesFile};
use seamstore::internals::catalog::snapshot::{SalvagedRows, read_info};
use seamstore::internals::format::name::ObjectName;
use seamstore::internals::format::recipe::{Piece, recipe_id};
use seamstore::internals::storage::MemoryStorage;
use seamstore::internals::{open_snapshot, parent_cursor};

use super::arrow::{RecipeRow, Row, Words, recipes_file, snapshot_file};
use super::script::{Script, noise_at};

fn is_damage(error: &Error) -> bool {
    matches!(error, Error::Damaged { .. } | Error::FormatVersion { .. })
}

fn id(seed: usize) -> [u8; 32] {
    std::array::from_fn(|n| noise_at(seed as u64, n as u64) as u8)
}

/// The target of recipes files.
pub fn recipes(input: &[u8]) {
    let mut script = Script::new(input);
    if script.byte() == 255 {
        return check_recipes(script.rest(), false);
    }
    let mut honest = true;
    let batches: Vec<Vec<RecipeRow>> = (0..=script.below(3)).map(|_| recipe_rows(&mut script, &mut honest)).collect();
    let compressed = script.byte() & 1 == 1;
    let mut bytes = recipes_file(&batches, compressed);
    let before = bytes.clone();
    script.damage(&mut bytes);
    check_recipes(&bytes, honest && bytes == before);
}

fn recipe_rows(script: &mut Script<'_>, honest: &mut bool) -> Vec<RecipeRow> {
    (0..script.below(6))
        .map(|_| {
            let mut end = 0_u64;
            let count = 1 + if script.lies() { script.below(3000) } else { script.below(5) };
            let step = script.pick(&[4096, 1, 1 << 20, 1 << 40]);
            let pieces: Vec<Piece> = (0..count)
                .map(|n| {
                    end = end.saturating_add(step + n as u64 % 3);
                    let chunk = script.below(7);
                    let id = if chunk == 6 { ChunkId::HOLE } else { ChunkId(id(chunk)) };
                    Piece { id, end }
                })
                .collect();
            let mut row = RecipeRow { id: recipe_id(&pieces).0, size: end, pieces };
            if script.lies() {
                *honest = false;
                row.size = script.number(row.size);
                let at = script.below(row.pieces.len());
                row.pieces[at].end = script.number(row.pieces[at].end);
                if script.byte() & 1 == 1 {
                    row.id = recipe_id(&row.pieces).0;
                }
            }
            row
        })
        .collect()
}

/// What is read hashes to its id, ascends and comes in the rows that were announced.
fn check_recipes(bytes: &[u8], honest: bool) {
    let storage = MemoryStorage::new();
    let id = RecipesFileId::of(bytes);
    storage.overwrite(&ObjectName::Recipes(id), bytes.to_vec());
    let file = match RecipesFile::open(&storage, id) {
        Ok(file) => file,
        Err(error) => return assert!(is_damage(&error) && !honest, "{error}"),
    };
    let verified = RecipesFile::verify(&storage, id);
    assert!(verified.is_ok(), "{verified:?}");
    let ids = file.ids();
    let mut seen = Vec::new();
    let read = file.for_each(|place, id, pieces| {
        assert_eq!(recipe_id(&pieces), id);
        let ends: Vec<u64> = std::iter::once(0).chain(pieces.iter().map(|piece| piece.end)).collect();
        assert!(ends.windows(2).all(|pair| pair[0] < pair[1]));
        seen.push((id, place));
        Ok(())
    });
    assert!(read.is_ok() || is_damage(read.as_ref().unwrap_err()), "{read:?}");
    assert!(!honest || read.is_ok() && ids.is_ok());
    if let Ok(ids) = ids {
        assert!(ids.starts_with(&seen));
        let kept = KeptRecipes::default();
        for (id, place) in ids.iter().take(20) {
            let once = file.read(*place).ok().map(|(id, pieces)| (id, pieces.len()));
            assert!(once.is_none_or(|(found, _)| found == *id));
            assert_eq!(kept.read(&file, *place).ok().map(|(id, pieces)| (id, pieces.len())), once);
        }
    }
}

/// The target of snapshots.
pub fn snapshot(input: &[u8]) {
    let mut script = Script::new(input);
    if script.byte() == 255 {
        return check_snapshot(script.rest(), None);
    }
    let mut words = Words::default();
    let mut honest = true;
    if script.lies() {
        honest = false;
        let word = script.pick(&["", "file", "root", "a word of no kind"]);
        let place = script.below(9);
        if place < words.kinds.len() {
            words.kinds[place] = word.to_owned()
        } else {
            words.owners[place % 2] = word.to_owned()
        }
        words.kinds.truncate(1 + script.below(8));
    }
    let batches: Vec<Vec<Row>> = (0..=script.below(3)).map(|batch| rows(&mut script, batch, &mut honest)).collect();
    let rows = batches.iter().map(Vec::len).sum();
    let compressed = script.byte() & 1 == 1;
    let mut bytes = snapshot_file(&batches, &words, compressed);
    let before = bytes.clone();
    script.damage(&mut bytes);
    check_snapshot(&bytes, (honest && before == bytes).then_some(rows));
}

fn rows(script: &mut Script<'_>, batch: usize, honest: &mut bool) -> Vec<Row> {
    (0..=script.below(6))
        .map(|n| {
            let path = format!("folder {batch}/{n}").into_bytes();
            let mut row = Row { path, mode: 0o644, owner: Some(0), ..Row::default() };
            match script.byte() % 6 {
                0 => (row.size, row.chunk) = (5, Some(id(1))),
                1 => (row.size, row.recipe) = (1 << 40, Some(id(2))),
                2 => row.kind = 1,
                3 => (row.kind, row.target) = (2, Some(b"../elsewhere".to_vec())),
                4 => (row.kind, row.rdev) = (4, 0x103),
                _ => row.xattrs = vec![(b"user.a".to_vec(), b"1".to_vec()), (b"user.b".to_vec(), Vec::new())],
            }
            if script.lies() {
                *honest = false;
                lie(script, &mut row);
            }
            row
        })
        .collect()
}

/// Changes a row to what no entry says, perhaps.
pub(super) fn lie(script: &mut Script<'_>, row: &mut Row) {
    match script.byte() % 10 {
        0 => {
            row.path = script
                .pick(&[&b"/etc/passwd"[..], b"../up", b"a/../../b", b"a//b", b"", b".", b"a/", b"nul\0", b"z"])
                .to_vec()
        }
        1 => row.kind = script.byte() as i8 & 7,
        2 => row.mode = script.number32(0o7777) as u16,
        3 => row.size = script.number(row.size),
        4 => row.chunk = Some(id(3)),
        5 => row.recipe = Some(id(4)),
        6 => row.target = Some(b"/etc".to_vec()),
        7 => row.rdev = script.number(1),
        8 => row.xattrs = vec![(b"user.z".to_vec(), Vec::new()), (b"user.a".to_vec(), Vec::new())],
        _ => row.path = b"a/".repeat(script.below(60_000)),
    }
}

/// What is read are entries, in order, each found by its path. `rows` there are if nothing is wrong.
fn check_snapshot(bytes: &[u8], rows: Option<usize>) {
    let storage = MemoryStorage::new();
    let id = SnapshotId::of(bytes);
    storage.overwrite(&ObjectName::Snapshot(id), bytes.to_vec());
    let info = read_info(&storage, id);
    assert!(info.as_ref().err().is_none_or(is_damage));
    if let Ok(salvaged) = SalvagedRows::open(&storage, id) {
        salvaged.for_each(&mut |_| Ok(())).unwrap();
    }
    let snapshot = match open_snapshot(&storage, id) {
        Ok(snapshot) => snapshot,
        Err(error) => return assert!(is_damage(&error) && rows.is_none(), "{error}"),
    };
    let mut last: Option<EntryPath> = None;
    let mut entries = Vec::new();
    for entry in snapshot.entries() {
        match entry {
            Ok(entry) => {
                assert!(last.as_ref().is_none_or(|last| *last < entry.path));
                assert!(EntryPath::new(entry.path.as_bytes()).is_ok());
                last = Some(entry.path.clone());
                entries.push(entry);
            }
            Err(error) => return assert!(is_damage(&error) && rows.is_none(), "{error}"),
        }
    }
    assert!(rows.is_none_or(|rows| rows == entries.len()));
    let mut cursor = parent_cursor(&snapshot);
    for entry in entries.iter().take(30) {
        // Batches without rows, which nobody writes, may stand in the way of a search.
        for found in [snapshot.find(&entry.path), cursor.seek(&entry.path)] {
            match found {
                Ok(found) => assert_eq!(found.as_ref(), Some(entry)),
                Err(error) => assert!(is_damage(&error) && rows.is_none(), "{error}"),
            }
        }
    }
}
