//! A reader gives what [`Store::read`] gives, and fails where it fails.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use std::collections::BTreeMap;
use std::io::{Seek, SeekFrom, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use super::*;
use crate::engine::Settings;
use crate::engine::add::AddRequest;
use crate::engine::read::get::GetRequest;
use crate::engine::store::control::Control;
use crate::format::id::ChunkId;
use crate::format::name::ObjectKind;
use crate::pack::frame::{Codec, FrameSettings};
use crate::pack::reader::read_directory;
use crate::testing::random::{TestRng, noise};

/// A folder with a tree and a store beside it.
struct Sandbox {
    folder: tempfile::TempDir,
}

impl Sandbox {
    fn new() -> Self {
        Self { folder: tempfile::tempdir().unwrap() }
    }

    fn path(&self, name: impl AsRef<Path>) -> PathBuf {
        self.folder.path().join(name)
    }

    fn write(&self, name: &str, bytes: &[u8]) {
        let path = self.path("tree").join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, bytes).unwrap();
    }

    fn store(&self, codec: Codec, frame_bytes: usize) -> Store {
        let frames = FrameSettings::new(codec, 3, frame_bytes).unwrap();
        let settings = Settings { frames, ..Settings::default() };
        let store = Store::open_or_init(&self.path("store"), settings).unwrap();
        self.add(&store);
        store
    }

    fn add(&self, store: &Store) {
        let request =
            AddRequest { paths: vec![self.path("tree")], memory_bytes: 64 << 20, threads: 2, ..AddRequest::default() };
        store.add(&request, &Control::default()).unwrap();
    }

    /// The files of the tree: as given, with their bytes.
    fn files(&self) -> BTreeMap<PathBuf, Vec<u8>> {
        let mut files = BTreeMap::new();
        let mut folders = vec![self.path("tree")];
        while let Some(folder) = folders.pop() {
            for entry in std::fs::read_dir(folder).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() {
                    folders.push(path);
                } else if path.is_file() {
                    let bytes = std::fs::read(&path).unwrap();
                    files.insert(path, bytes);
                }
            }
        }
        files
    }
}

/// Lines that compress, and repeat themselves near and far.
fn text(seed: u64, length: usize) -> Vec<u8> {
    let mut state = TestRng(seed);
    let mut text = Vec::new();
    while text.len() < length {
        let (name, number) = (state.next() % 700, state.next() % 90);
        text.extend(format!("static int field_{name} = {number};\n").bytes());
    }
    text.truncate(length);
    text
}

/// Files of all kinds: empty, small, of many chunks, noise and text, twice the same, with holes.
fn fill(bench: &Sandbox) {
    bench.write("empty", b"");
    bench.write("one byte", b"x");
    for n in 0..60 {
        bench.write(&format!("small/{n}"), &text(n, 300 + 131 * n as usize));
    }
    for n in 0..12 {
        bench.write(&format!("images/{n}"), &noise(1000 + n, 5_000 + 700 * n as usize));
    }
    // What is in front of a run cannot be decoded without it.
    bench.write("runs/a", &text(90, 3_000));
    bench.write("runs/b", &[b'x'; 7_000]);
    bench.write("large text", &text(100, 700_000));
    bench.write("large noise", &noise(200, 900_000));
    let twice = noise(300, 90_000);
    bench.write("twice", &[&twice[..], &text(301, 50_000), &twice[..], &twice[..]].concat());
    bench.write("copy of a small one", &text(7, 300 + 131 * 7));
    let mut sparse = std::fs::File::create(bench.path("tree/sparse")).unwrap();
    sparse.set_len(5_000_000).unwrap();
    sparse.write_all(&text(400, 20_000)).unwrap();
    sparse.seek(SeekFrom::Start(2_000_000)).unwrap();
    sparse.write_all(&noise(401, 100_000)).unwrap();
    std::fs::File::create(bench.path("tree/only a hole")).unwrap().set_len(300_000).unwrap();
}

fn read_of(store: &Store, path: &Path, range: Option<Range<u64>>) -> Result<Vec<u8>> {
    let request = GetRequest {
        path: path.to_owned(),
        snapshot: Selector::Latest,
        memory_bytes: 64 << 20,
        threads: 1,
        ..GetRequest::default()
    };
    let mut bytes = Vec::new();
    store.read(&request, range, &mut bytes, Path::new("memory"), &Control::default())?;
    Ok(bytes)
}

/// All ways there are to read: with all in the table, with nothing in it, and with frames kept.
fn readers(store: &Store) -> [Reader<'_>; 3] {
    let options = ReaderOptions::default();
    [options, ReaderOptions { table_bytes: 0, ..options }, ReaderOptions { cache_bytes: 8 << 20, ..options }]
        .map(|options| store.reader_with(&Selector::Latest, options).unwrap())
}

#[test]
fn every_file_is_as_it_was_added() {
    for (codec, frame_bytes) in
        [(Codec::Zstd, 16 << 10), (Codec::Zstd, 256 << 10), (Codec::Lz4, 64 << 10), (Codec::None, 16 << 10)]
    {
        let bench = Sandbox::new();
        fill(&bench);
        let store = bench.store(codec, frame_bytes);
        let files = bench.files();
        for reader in readers(&store) {
            assert_eq!(reader.len(), files.len());
            for (path, bytes) in &files {
                assert!(reader.read(path).unwrap() == *bytes, "{path:?}, {codec} frames of {frame_bytes}");
                assert_eq!(reader.size(path), Some(bytes.len() as u64));
            }
            let given: Vec<&PathBuf> = files.keys().chain(files.keys().rev()).collect();
            for (path, found) in given.iter().zip(reader.read_many(&given)) {
                assert!(found.unwrap() == files[*path], "{path:?} of many, {codec} frames of {frame_bytes}");
            }
        }
    }
}

#[test]
fn paths_are_as_stored_or_as_given() {
    let bench = Sandbox::new();
    bench.write("a/b", b"found");
    let store = bench.store(Codec::Zstd, 16 << 10);
    let reader = store.reader(&Selector::NewestWithPath).unwrap();
    let paths: Vec<&Path> = reader.paths().collect();
    assert_eq!(paths.len(), 1);
    assert_eq!(reader.read(paths[0]).unwrap(), b"found");
    assert_eq!(reader.read(bench.path("tree/./a/../a//b")).unwrap(), b"found");
    assert_eq!(reader.snapshot(), store.snapshot_ids().unwrap()[0]);
}

#[test]
fn ranges_across_chunks_and_holes() {
    let bench = Sandbox::new();
    fill(&bench);
    let store = bench.store(Codec::Zstd, 16 << 10);
    let mut state = TestRng(5);
    let files = bench.files();
    for reader in readers(&store) {
        for name in ["sparse", "twice", "large text", "small/20", "images/3", "only a hole", "empty"] {
            let path = bench.path("tree").join(name);
            let bytes = &files[&path];
            let size = bytes.len() as u64;
            // At the edges of what was written around holes, at the file's end and past it, and anywhere.
            let edges = [0, 1, 19_999, 20_000, 20_001, 1_999_999, 2_000_000, 2_100_000, size - size.min(1), size];
            let random_ones: Vec<u64> = (0..20).map(|_| state.next() % (size + 10)).collect();
            let bounds: Vec<u64> = edges.into_iter().chain([size + 7, u64::MAX]).chain(random_ones).collect();
            for pair in bounds.windows(2).chain(bounds[4..].chunks(2)) {
                let range = pair[0].min(pair[1])..pair[0].max(pair[1]);
                let clipped = range.start.min(size) as usize..range.end.min(size) as usize;
                let found = reader.read_range(&path, range.clone()).unwrap();
                assert!(found == bytes[clipped], "{name} {range:?}");
                assert!(found == read_of(&store, &path, Some(range)).unwrap());
            }
            let backwards = Range { start: 10, end: 3 };
            assert_eq!(reader.read_range(&path, backwards).unwrap(), b"");
        }
    }
}

#[test]
fn a_read_into_old_memory_leaves_nothing_of_it() {
    let bench = Sandbox::new();
    fill(&bench);
    let store = bench.store(Codec::Zstd, 16 << 10);
    let reader = store.reader(&Selector::Latest).unwrap();
    let mut bytes = vec![0xaa; 6_000_000];
    reader.read_into(bench.path("tree/sparse"), .., &mut bytes).unwrap();
    assert!(bytes == std::fs::read(bench.path("tree/sparse")).unwrap());
    reader.read_into(bench.path("tree/one byte"), ..=0, &mut bytes).unwrap();
    assert_eq!(bytes, b"x");
}

#[test]
fn many_threads_at_one_reader() {
    let bench = Sandbox::new();
    fill(&bench);
    let store = bench.store(Codec::Zstd, 16 << 10);
    let files: Vec<_> = bench.files().into_iter().collect();
    for reader in readers(&store) {
        std::thread::scope(|scope| {
            for thread in 0..8 {
                let (reader, files) = (&reader, &files);
                scope.spawn(move || {
                    let mut state = TestRng(thread);
                    for _ in 0..200 {
                        let (path, bytes) = &files[state.next() as usize % files.len()];
                        let start = state.next() as usize % (bytes.len() + 1);
                        let end = start + state.next() as usize % (bytes.len() - start + 1);
                        let found = reader.read_range(path, start as u64..end as u64).unwrap();
                        assert!(found == bytes[start..end], "{path:?} {start}..{end}");
                    }
                });
            }
        });
        // One for each thread that read at once, no more.
        assert!(reader.lock_idle().len() <= 8);
    }
}

#[test]
fn a_damaged_frame_costs_the_files_in_it_and_no_others() {
    for codec in [Codec::Zstd, Codec::Lz4, Codec::None] {
        let bench = Sandbox::new();
        for n in 0..40 {
            bench.write(&format!("{n:02}"), &text(n, 5_000 + 10 * n as usize));
        }
        let store = bench.store(codec, 16 << 10);
        let files = bench.files();
        let damaged_readers = readers(&store);
        let packs = store.storage().list(ObjectKind::Pack).unwrap();
        let pack = packs[0].name.pack().unwrap();
        let directory = read_directory(store.storage(), pack).unwrap();
        assert!(directory.frames.len() > 8);
        let frame = directory.frames[3];
        let ids: Vec<_> = directory.chunks_of(&frame).iter().map(|chunk| chunk.id).collect();
        // In the last chunk of the frame if it is stored as it is; else in a payload of which all may depend on it.
        let at = frame.end() - 40;
        let path = store.storage().describe(&packs[0].name);
        let file = std::fs::OpenOptions::new().read(true).write(true).open(path).unwrap();
        let mut byte = [0];
        file.read_exact_at(&mut byte, at).unwrap();
        file.write_all_at(&[byte[0] ^ 0x10], at).unwrap();
        for reader in damaged_readers {
            let given: Vec<&PathBuf> = files.keys().collect();
            let mut lost = 0;
            for (path, many) in given.iter().zip(reader.read_many(&given)) {
                let alone = reader.read(path);
                assert_eq!(alone.is_ok(), many.is_ok(), "{path:?}");
                match alone {
                    Ok(bytes) => assert!(bytes == files[*path] && many.unwrap() == bytes, "{path:?}"),
                    Err(error) => {
                        lost += 1;
                        assert!(ids.contains(&ChunkId::of(&files[*path])), "{path:?} is in another frame");
                        for error in [error, many.unwrap_err()] {
                            let Error::Damaged { file, offset, what } = error else { panic!("{error:?}") };
                            assert!(file.contains(&pack.to_hex()), "{file}");
                            assert_eq!(offset, Some(frame.offset));
                            assert!(what.contains("expected a frame with checksum"), "{what}");
                        }
                    }
                }
            }
            match codec {
                Codec::None => assert_eq!(lost, 1, "the other chunks are as they were"),
                _ => assert!((1..=ids.len()).contains(&lost), "{lost} of {}", ids.len()),
            }
        }
    }
}

#[test]
fn a_pack_that_is_gone_costs_its_files_only() {
    let bench = Sandbox::new();
    bench.write("old", &noise(1, 9_000));
    let store = bench.store(Codec::Zstd, 16 << 10);
    let first = store.storage().list(ObjectKind::Pack).unwrap();
    bench.write("new", &noise(2, 9_000));
    bench.add(&store);
    store.storage().delete(&first[0].name).unwrap();
    let reader = store.reader(&Selector::Latest).unwrap();
    assert!(reader.read(bench.path("tree/new")).unwrap() == noise(2, 9_000));
    let error = reader.read(bench.path("tree/old")).unwrap_err();
    assert!(matches!(error, Error::Damaged { .. }), "{error:?}");
    assert_eq!(reader.size(bench.path("tree/old")), Some(9_000));
}

#[test]
fn a_missing_path_is_answered_with_near_ones() {
    let bench = Sandbox::new();
    fill(&bench);
    let store = bench.store(Codec::Zstd, 16 << 10);
    let reader = store.reader(&Selector::Latest).unwrap();
    let wrong = bench.path("tree/smal/20");
    let error = reader.read(&wrong).unwrap_err();
    let as_get = read_of(&store, &wrong, None).unwrap_err();
    assert!(error.hint().unwrap().contains("small/20"), "{error:?}");
    assert_eq!((error.to_string(), error.hint()), (as_get.to_string(), as_get.hint()));
    let many = reader.read_many(&[bench.path("tree/one byte"), wrong]);
    assert_eq!(many[0].as_ref().unwrap(), b"x");
    assert_eq!(many[1].as_ref().unwrap_err().hint(), as_get.hint());
    assert_eq!(reader.size(bench.path("tree/small")), None);
    let folder = reader.read(bench.path("tree/small")).unwrap_err();
    assert!(matches!(&folder, Error::Usage(what) if what.contains("is not a file")), "{folder:?}");
    let none = store.reader(&Selector::Id("0123".to_owned())).unwrap_err();
    assert!(matches!(none, Error::NotFound { .. }), "{none:?}");
}

#[test]
fn a_reader_keeps_to_its_snapshot() {
    let bench = Sandbox::new();
    bench.write("file", b"first");
    let store = bench.store(Codec::Zstd, 16 << 10);
    let first = store.reader(&Selector::Latest).unwrap();
    bench.write("file", b"second, and longer");
    bench.add(&store);
    let path = bench.path("tree/file");
    assert_eq!(first.read(&path).unwrap(), b"first");
    assert_eq!(store.reader(&Selector::Latest).unwrap().read(&path).unwrap(), b"second, and longer");
}

#[test]
fn kept_frames_stay_within_their_bound() {
    let bench = Sandbox::new();
    fill(&bench);
    let store = bench.store(Codec::Zstd, 16 << 10);
    let options = ReaderOptions { cache_bytes: 1 << 20, ..ReaderOptions::default() };
    let reader = store.reader_with(&Selector::Latest, options).unwrap();
    for _ in 0..2 {
        for path in bench.files().keys() {
            reader.read(path).unwrap();
        }
    }
    let kept = reader.cache.as_ref().unwrap().bytes();
    assert!((200_000..=1 << 20).contains(&kept), "{kept}");
}
