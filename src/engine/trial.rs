//! For tests: a small store of three snapshots, copies of it to be damaged, and what can still be read of them.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use super::add::AddRequest;
use super::control::Control;
use super::get::{GetRequest, Selector};
use super::verify::{Depth, VerifyReport, VerifyRequest};
use super::{Settings, Store};
use crate::format::entry::EntryPath;
use crate::format::id::{ChunkId, SnapshotId};
use crate::pack::frame::{Codec, FrameSettings};

/// SplitMix64.
#[derive(Debug)]
pub(super) struct Numbers(pub(super) u64);

impl Numbers {
    pub(super) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub(super) fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound as u64) as usize
    }
}

/// A file of a snapshot.
pub(super) type Key = (SnapshotId, EntryPath);

/// A store in a folder of its own, gone when dropped.
pub(super) struct Trial {
    folder: tempfile::TempDir,
    trees: PathBuf,
    /// What every file of every snapshot has in it.
    pub(super) files: BTreeMap<Key, Vec<u8>>,
}

impl Trial {
    /// Three trees, a snapshot of each. The second shares content with the first, the third with none.
    pub(super) fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let trees = folder.path().join("trees");
        let mut trial = Self { folder, trees, files: BTreeMap::new() };
        let settings = Settings {
            profile: "gear-4096".parse().unwrap(),
            frames: FrameSettings::new(Codec::Zstd, 1, 16 << 10).unwrap(),
        };
        let store = Store::init(&trial.root(), settings).unwrap();
        let mut numbers = Numbers(1);
        let mut contents: Vec<Vec<u8>> = Vec::new();
        for tree in ["a", "b", "c"] {
            let folder = trial.trees.join(tree);
            std::fs::create_dir_all(folder.join("below")).unwrap();
            for n in 0..6 {
                let length = [0, 700, 3_000, 20_000, 40_000, 60_000][n];
                let new: Vec<u8> = (0..length).map(|_| numbers.next() as u8 & 0x3f).collect();
                // Of the second tree every other file is as in the first.
                let content = if tree == "b" && n % 2 == 1 { contents[n].clone() } else { new };
                std::fs::write(folder.join(format!("below/{n}")), &content).unwrap();
                contents.push(content);
            }
            let report = store.add(&trial.request(tree), &Control::default()).unwrap();
            for (n, content) in contents.iter().rev().take(6).rev().enumerate() {
                let path = EntryPath::from_given(&folder.join(format!("below/{n}")));
                trial.files.insert((report.snapshot.unwrap(), path), content.clone());
            }
        }
        trial
    }

    pub(super) fn root(&self) -> PathBuf {
        self.folder.path().join("store")
    }

    fn request(&self, tree: &str) -> AddRequest {
        AddRequest {
            paths: vec![self.trees.join(tree)],
            reread: true,
            memory_bytes: 64 << 20,
            threads: 2,
            ..AddRequest::default()
        }
    }

    /// Another store of the same bytes. The trees stay those of this one.
    pub(super) fn copy(&self, with_index: bool) -> Self {
        let copy = Self { folder: tempfile::tempdir().unwrap(), trees: self.trees.clone(), files: self.files.clone() };
        for (path, bytes) in self.bytes() {
            if with_index || !path.starts_with("index") {
                let to = copy.root().join(path);
                std::fs::create_dir_all(to.parent().unwrap()).unwrap();
                std::fs::write(to, bytes).unwrap();
            }
        }
        copy
    }

    /// Every file of the store, by its path below the root.
    pub(super) fn bytes(&self) -> BTreeMap<PathBuf, Vec<u8>> {
        let mut found = BTreeMap::new();
        let mut todo = vec![self.root()];
        while let Some(folder) = todo.pop() {
            for entry in std::fs::read_dir(folder).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() {
                    todo.push(path);
                } else {
                    let bytes = std::fs::read(&path).unwrap();
                    found.insert(path.strip_prefix(self.root()).unwrap().to_owned(), bytes);
                }
            }
        }
        found
    }

    /// The paths of packs, recipes files and snapshots, in their order.
    pub(super) fn objects(&self) -> Vec<PathBuf> {
        let is_object =
            |path: &PathBuf| ["packs", "recipes", "snapshots"].iter().any(|folder| path.starts_with(folder));
        self.bytes().into_keys().filter(is_object).collect()
    }

    pub(super) fn open(&self) -> Store {
        Store::open(&self.root()).unwrap()
    }

    pub(super) fn verify(&self, depth: Depth) -> VerifyReport {
        self.open().verify(&VerifyRequest { depth, threads: 2 }, &Control::default()).unwrap()
    }

    /// Adds the original trees once more.
    pub(super) fn add_again(&self) {
        for tree in ["a", "b", "c"] {
            let report = self.open().add(&self.request(tree), &Control::default()).unwrap();
            assert_eq!(report.problems, []);
        }
    }

    /// Which files come out. That they come out right, or not at all, is checked on the way (invariant 4).
    pub(super) fn readable(&self) -> BTreeSet<Key> {
        let store = self.open();
        let comes_out = |((snapshot, path), content): (&Key, &Vec<u8>)| {
            let request = GetRequest {
                path: path.as_path().to_owned(),
                snapshot: Selector::Id(snapshot.to_hex()),
                memory_bytes: 64 << 20,
                threads: 1,
                ..GetRequest::default()
            };
            let mut bytes = Vec::new();
            let read = store.read(&request, None, &mut bytes, "memory".as_ref(), &Control::default());
            assert!(content.starts_with(&bytes), "{path:?} came out wrong");
            assert!(read.is_err() || bytes == *content, "{path:?} is said to be whole");
            read.is_ok().then(|| (*snapshot, path.clone()))
        };
        self.files.iter().filter_map(comes_out).collect()
    }

    /// Damages one to three objects; says which, and whether each is still there.
    pub(super) fn damage(&self, numbers: &mut Numbers) -> BTreeMap<PathBuf, bool> {
        let mut objects = self.objects();
        let mut damaged = BTreeMap::new();
        for _ in 0..=numbers.below(3) {
            let object = objects.swap_remove(numbers.below(objects.len()));
            let path = self.root().join(&object);
            let mut bytes = std::fs::read(&path).unwrap();
            let at = numbers.below(bytes.len());
            let kind = numbers.below(8);
            match kind {
                0 => bytes.truncate(at),
                1 => bytes[at..].fill(0),
                2 => bytes.splice(at..at, *b"more").for_each(drop),
                _ => bytes[at] ^= 1 << numbers.below(8),
            }
            if kind == 7 {
                std::fs::remove_file(&path).unwrap();
            } else {
                std::fs::write(&path, bytes).unwrap();
            }
            damaged.insert(object, kind != 7);
        }
        damaged
    }
}

/// The bytes' hash, to compare folders by.
pub(super) fn hash_of(files: &BTreeMap<PathBuf, Vec<u8>>) -> BTreeMap<&Path, ChunkId> {
    files.iter().map(|(path, bytes)| (path.as_path(), ChunkId::of(bytes))).collect()
}
