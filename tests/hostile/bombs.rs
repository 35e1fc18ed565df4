//! Small stores that ask for more than there is: memory, space, paths. Each costs little and says why it is refused.

use std::path::Path;

use seamstore::entry::{ChunkId, RecipesFileId, SnapshotId};
use seamstore::internals::format::config::StoreConfig;
use seamstore::internals::format::name::ObjectName;
use seamstore::internals::format::recipe::{Piece, recipe_id};
use seamstore::internals::pack::frame::{Codec, FrameEncoder, FrameSettings};
use seamstore::report::GetReport;
use seamstore::request::{GetRequest, Selector};
use seamstore::{Control, Error, Store};

use super::arrow::{RecipeRow, Row, Words, recipes_file, snapshot_file};
use super::pack::forge;
use super::script::Script;

/// A store of one pack with one chunk of 4 MiB of zeros, and the files given.
fn store(root: &Path, recipes: &[Vec<Piece>], rows: &[Row]) -> Store {
    let config = StoreConfig::new("0f".repeat(16), "default".into(), 256 << 10, "zstd".into(), 3);
    let zeros = vec![0; 4 << 20];
    let mut frame = Vec::new();
    let settings = FrameSettings::new(Codec::Zstd, 3, 256 << 10).unwrap();
    FrameEncoder::new(settings).unwrap().encode(&zeros, &[4 << 20], &mut frame).unwrap();
    let pack = forge(&mut Script::new(&[]), &[(frame, vec![(ChunkId::of(&zeros), 4 << 20)])]);
    let recipe = |pieces: &Vec<Piece>| RecipeRow {
        id: recipe_id(pieces).0,
        size: pieces.last().map_or(0, |piece| piece.end),
        pieces: pieces.clone(),
    };
    let recipes = recipes_file(&[recipes.iter().map(recipe).collect()], true);
    let snapshot = snapshot_file(&[rows.to_vec()], &Words::default(), true);
    for (name, bytes) in [
        (ObjectName::Config, config.to_bytes()),
        (ObjectName::Pack(pack.id), pack.bytes),
        (ObjectName::Recipes(RecipesFileId::of(&recipes)), recipes),
        (ObjectName::Snapshot(SnapshotId::of(&snapshot)), snapshot),
    ] {
        let path = root.join(name.path());
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, bytes).unwrap();
    }
    Store::open(root).unwrap()
}

fn file(path: &str, pieces: &[Piece]) -> Row {
    let size = pieces.last().map_or(0, |piece| piece.end);
    Row { path: path.into(), mode: 0o644, size, recipe: Some(recipe_id(pieces).0), ..Row::default() }
}

fn get(store: &Store, to: &Path) -> Result<GetReport, Error> {
    let request = GetRequest::default().snapshot(Selector::Latest).threads(2).memory_bytes(32 << 20);
    store.get(&request, to, &Control::default())
}

#[test]
fn a_file_larger_than_the_disk_is_refused_before_a_byte_of_it_is_written() {
    let folder = super::folder();
    // Elsewhere it would be tried, and would fill the disk: ext4, XFS, tmpfs, overlays.
    let magic = rustix::fs::statfs(folder.path()).unwrap().f_type as u64;
    if ![0xEF53, 0x5846_5342, 0x0102_1994, 0x794C_7630].contains(&magic) {
        crate::support::skipped("the free space of this file system says little");
        return;
    }
    // A terabyte and more, of one chunk.
    let zeros = ChunkId::of(&vec![0; 4 << 20]);
    let pieces: Vec<Piece> = (1..=300_000).map(|n| Piece { id: zeros, end: n << 22 }).collect();
    let store = store(&folder.path().join("store"), std::slice::from_ref(&pieces), &[file("big", &pieces)]);
    let error = get(&store, &folder.path().join("out")).unwrap_err();
    let full = matches!(&error, Error::Io { source, .. } if source.kind() == std::io::ErrorKind::StorageFull);
    assert!(full, "{error}");
    assert!(!folder.path().join("out/big").exists());
}

#[test]
fn a_hole_of_a_petabyte_takes_no_space_and_no_memory() {
    let folder = super::folder();
    let pieces = [Piece { id: ChunkId::HOLE, end: 1 << 50 }];
    let store = store(&folder.path().join("store"), &[pieces.to_vec()], &[file("hole", &pieces)]);
    let out = folder.path().join("out");
    let report = get(&store, &out).unwrap();
    match report.losses.as_slice() {
        [] => {
            use std::os::unix::fs::MetadataExt;
            let made = std::fs::metadata(out.join("hole")).unwrap();
            assert!(made.len() == 1 << 50 && made.blocks() < 100);
        }
        // A file system that has no files of that size.
        [loss] => assert!(!loss.damaged && !out.join("hole").exists(), "{loss:?}"),
        more => panic!("{more:?}"),
    }
    let reader = store.reader(&Selector::Latest).unwrap();
    assert!(matches!(reader.read("hole"), Err(Error::Usage(_))));
    assert!(reader.read_many(&["hole"]).pop().unwrap().is_err());
    assert_eq!(reader.read_range("hole", 1 << 49..(1 << 49) + 3).unwrap(), [0, 0, 0]);
}

#[test]
fn a_path_of_megabytes_is_refused() {
    let folder = super::folder();
    let row = Row { kind: 1, mode: 0o755, ..Row::default() };
    let path = [&b"a/".repeat(1 << 20)[..], b"b"].concat();
    let store = store(&folder.path().join("store"), &[], &[Row { path, ..row }]);
    let error = get(&store, &folder.path().join("out")).unwrap_err();
    assert!(matches!(error, Error::Damaged { .. }) && error.to_string().len() < 9000, "{error:.300}");
}

#[test]
fn names_of_one_file_that_differ_are_files_of_their_own() {
    let folder = super::folder();
    let contents = [1, 2].map(|n| [Piece { id: ChunkId::HOLE, end: n << 20 }]);
    let rows: Vec<Row> = ["a", "b", "c"]
        .iter()
        .zip([&contents[0], &contents[0], &contents[1]])
        .map(|(path, pieces)| Row { identity: (7, 3), ..file(path, pieces) })
        .collect();
    let store = store(&folder.path().join("store"), &contents.map(|pieces| pieces.to_vec()), &rows);
    let out = folder.path().join("out");
    let report = get(&store, &out).unwrap();
    assert!(report.losses.is_empty(), "{report:?}");
    let sizes = ["a", "b", "c"].map(|name| std::fs::metadata(out.join(name)).unwrap().len());
    assert_eq!(sizes, [1 << 20, 1 << 20, 2 << 20]);
}

#[test]
fn a_frame_shorter_than_its_directory_says_has_no_chunk_of_no_bytes() {
    let folder = super::folder();
    let root = folder.path().join("store");
    let none = ChunkId::of(b"");
    let pieces = [Piece { id: none, end: 5 }, Piece { id: ChunkId::HOLE, end: 9 }];
    let store = store(&root, &[pieces.to_vec()], &[file("f", &pieces)]);
    let mut frame = Vec::new();
    FrameEncoder::new(FrameSettings::default()).unwrap().encode(b"abc", &[3], &mut frame).unwrap();
    frame.truncate(36 + 4 + 3);
    // The directory allows 5 bytes of chunk for a frame of 3: its payload might be compressed.
    let pack = forge(&mut Script::new(&[]), &[(frame, vec![(none, 5)])]);
    let path = root.join(ObjectName::Pack(pack.id).path());
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(path, pack.bytes).unwrap();
    let reader = store.reader(&Selector::Latest).unwrap();
    let read = reader.read("f");
    assert!(matches!(read, Err(Error::Damaged { .. })), "{read:?}");
    assert_eq!(get(&store, &folder.path().join("out")).unwrap().files, 0);
}
