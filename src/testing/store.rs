//! For tests: places to keep a store in, of every kind; a small store of three snapshots, copies of it to be damaged, and
//! what can still be read of them.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use super::random::TestRng;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use super::folder::files_in;
use crate::engine::add::AddRequest;
use crate::engine::ops::verify::{Depth, VerifyReport, VerifyRequest};
use crate::engine::read::get::GetRequest;
use crate::engine::store::control::Control;
use crate::engine::store::snapshots::Selector;
use crate::engine::{Settings, Store};
use crate::error::Result;
use crate::format::bucket::ObjectKey;
use crate::format::entry::EntryPath;
use crate::format::id::{ChunkId, SnapshotId};
use crate::format::name::ObjectName;
use crate::pack::frame::{Codec, FrameSettings};
use crate::storage::bucket::{Bucket, BucketOptions, MemoryBucket};
use crate::storage::{Backend, CacheDirectory};
use crate::testing::bucket::FaultyBucket;
use crate::testing::disk::FaultyDisk;

/// Runs tests that take a [`Kind`] on every kind of backend: `in_a_folder::name` and `in_a_bucket::name`.
macro_rules! on_every_backend {
    ($($name:ident),* $(,)?) => {
        mod in_a_folder {
            $(#[test] fn $name() { super::$name(crate::testing::store::Kind::Folder) })*
        }
        mod in_a_bucket {
            $(#[test] fn $name() { super::$name(crate::testing::store::Kind::Bucket) })*
        }
    };
}
pub(crate) use on_every_backend;

/// A kind of backend.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Folder,
    Bucket,
}

/// Where a store is kept.
#[derive(Debug, Clone)]
pub(crate) enum Place {
    Folder(PathBuf),
    Bucket(MemoryBucket),
}

/// A gc waits for nobody who is gone: in a bucket it cannot know, and revokes.
const IMPATIENT: BucketOptions = BucketOptions { revoke_after: std::time::Duration::ZERO };

/// What an operation met that was to be the last of its process.
pub(crate) enum Killed {
    Disk(FaultyDisk),
    Bucket(FaultyBucket),
}

impl Killed {
    /// Whether it came to that.
    pub(crate) fn came_to_it(&self) -> bool {
        match self {
            Self::Disk(disk) => disk.struck().is_some(),
            Self::Bucket(bucket) => bucket.was_killed(),
        }
    }
}

impl Place {
    /// A place where nothing is. A folder is made in `around`.
    pub(crate) fn new(kind: Kind, around: &Path) -> Self {
        match kind {
            Kind::Folder => Self::Folder(around.join("store")),
            Kind::Bucket => Self::Bucket(MemoryBucket::new()),
        }
    }

    pub(crate) fn init(&self, settings: Settings) -> Store {
        match self {
            Self::Folder(root) => Store::init(root, settings).unwrap(),
            Self::Bucket(bucket) => {
                Store::init_with(backend(bucket.clone()), CacheDirectory::none(), settings).unwrap()
            }
        }
    }

    pub(crate) fn open(&self) -> Store {
        match self {
            Self::Folder(root) => Store::open(root).unwrap(),
            Self::Bucket(bucket) => Store::open_with(backend(bucket.clone()), CacheDirectory::none()).unwrap(),
        }
    }

    /// As a process that waits for the sessions of others, however long.
    pub(crate) fn open_patient(&self) -> Store {
        match self {
            Self::Folder(_) => self.open(),
            Self::Bucket(bucket) => {
                let backend = Backend::bucket(std::sync::Arc::new(bucket.clone()), BucketOptions::default());
                Store::open_with(backend, CacheDirectory::none()).unwrap()
            }
        }
    }

    /// As a process that is killed after this many changes.
    pub(crate) fn killed_after(&self, changes: usize) -> (Result<Store>, Killed) {
        match self {
            Self::Folder(root) => {
                let disk = FaultyDisk::killed_after(changes);
                (Store::open_on(std::sync::Arc::new(disk.clone()), root), Killed::Disk(disk))
            }
            Self::Bucket(bucket) => {
                let bucket = FaultyBucket::killed_after(bucket, changes);
                (Store::open_with(backend(bucket.clone()), CacheDirectory::none()), Killed::Bucket(bucket))
            }
        }
    }

    /// Mends `store.json`.
    pub(crate) fn mend_config(&self, dry_run: bool) -> Result<Option<String>> {
        match self {
            Self::Folder(root) => Store::mend_config(root, dry_run),
            Self::Bucket(bucket) => Store::mend_config_of(&backend(bucket.clone()), dry_run),
        }
    }

    /// A second one with the same in it. A folder is made in `around`.
    pub(crate) fn copy(&self, around: &Path) -> Self {
        match self {
            Self::Folder(_) => {
                let copy = Self::new(Kind::Folder, around);
                self.bytes().iter().for_each(|(path, bytes)| copy.write(path, bytes));
                copy
            }
            Self::Bucket(bucket) => Self::Bucket(bucket.fork()),
        }
    }

    /// All that is there, by its path.
    pub(crate) fn bytes(&self) -> BTreeMap<PathBuf, Vec<u8>> {
        match self {
            Self::Folder(root) => files_in(root),
            Self::Bucket(bucket) => {
                bucket.contents().into_iter().map(|(key, bytes)| (PathBuf::from(key), bytes.to_vec())).collect()
            }
        }
    }

    pub(crate) fn read(&self, path: &Path) -> Option<Vec<u8>> {
        match self {
            Self::Folder(root) => std::fs::read(root.join(path)).ok(),
            Self::Bucket(bucket) => bucket.get(path.to_str().unwrap(), u64::MAX).unwrap(),
        }
    }

    pub(crate) fn write(&self, path: &Path, bytes: &[u8]) {
        match self {
            Self::Folder(root) => {
                let to = root.join(path);
                std::fs::create_dir_all(to.parent().unwrap()).unwrap();
                // Not into what a quarantine may have a second name of.
                let _ = std::fs::remove_file(&to);
                std::fs::write(to, bytes).unwrap();
            }
            Self::Bucket(bucket) => bucket.put(path.to_str().unwrap(), bytes).unwrap(),
        }
    }

    pub(crate) fn remove(&self, path: &Path) {
        match self {
            Self::Folder(root) => std::fs::remove_file(root.join(path)).unwrap(),
            Self::Bucket(bucket) => bucket.delete(path.to_str().unwrap()).unwrap(),
        }
    }

    /// The object that lies at a path.
    pub(crate) fn name_of(&self, path: &Path) -> Option<ObjectName> {
        let path = path.to_str()?;
        match self {
            Self::Folder(_) => ObjectName::from_path(path),
            Self::Bucket(_) => ObjectKey::parse(path).map(|key| key.name),
        }
    }

    /// Where an object lies.
    pub(crate) fn path_of(&self, name: &ObjectName) -> PathBuf {
        self.bytes().into_keys().find(|path| self.name_of(path) == Some(*name)).unwrap()
    }
}

fn backend(bucket: impl Bucket + 'static) -> Backend {
    Backend::bucket(std::sync::Arc::new(bucket), IMPATIENT)
}

/// A file of a snapshot.
pub(crate) type Key = (SnapshotId, EntryPath);

/// A store, gone when dropped.
pub(crate) struct TestStore {
    /// HeldLock until the store is gone.
    _folder: tempfile::TempDir,
    pub(crate) place: Place,
    trees: PathBuf,
    /// What every file of every snapshot has in it.
    pub(crate) files: BTreeMap<Key, Vec<u8>>,
}

impl TestStore {
    /// Three trees, a snapshot of each. The second shares content with the first, the third with none.
    pub(crate) fn new(kind: Kind) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let (trees, place) = (folder.path().join("trees"), Place::new(kind, folder.path()));
        let mut store_under_test = Self { _folder: folder, place, trees, files: BTreeMap::new() };
        let settings = Settings {
            profile: "gear-4096".parse().unwrap(),
            frames: FrameSettings::new(Codec::Zstd, 1, 16 << 10).unwrap(),
        };
        let store = store_under_test.place.init(settings);
        let mut numbers = TestRng(1);
        let mut contents: Vec<Vec<u8>> = Vec::new();
        for tree in ["a", "b", "c"] {
            let folder = store_under_test.trees.join(tree);
            std::fs::create_dir_all(folder.join("below")).unwrap();
            for n in 0..6 {
                let length = [0, 700, 3_000, 20_000, 40_000, 60_000][n];
                let new: Vec<u8> = (0..length).map(|_| numbers.next() as u8 & 0x3f).collect();
                // Of the second tree every other file is as in the first.
                let content = if tree == "b" && n % 2 == 1 { contents[n].clone() } else { new };
                std::fs::write(folder.join(format!("below/{n}")), &content).unwrap();
                contents.push(content);
            }
            let report = store.add(&store_under_test.request(tree), &Control::default()).unwrap();
            for (n, content) in contents.iter().rev().take(6).rev().enumerate() {
                let path = EntryPath::from_given(&folder.join(format!("below/{n}")));
                store_under_test.files.insert((report.snapshot.unwrap(), path), content.clone());
            }
        }
        store_under_test
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
    pub(crate) fn copy(&self, with_index: bool) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let place = self.place.copy(folder.path());
        if !with_index {
            let index = place.bytes().into_keys().filter(|path| path.starts_with("index"));
            index.for_each(|path| place.remove(&path));
        }
        Self { _folder: folder, place, trees: self.trees.clone(), files: self.files.clone() }
    }

    /// Every file of the store, by its path below the root.
    pub(crate) fn bytes(&self) -> BTreeMap<PathBuf, Vec<u8>> {
        self.place.bytes()
    }

    /// The paths of packs, recipes files and snapshots, in their order.
    pub(crate) fn objects(&self) -> Vec<PathBuf> {
        let is_object =
            |path: &PathBuf| ["packs", "recipes", "snapshots"].iter().any(|folder| path.starts_with(folder));
        self.bytes().into_keys().filter(is_object).collect()
    }

    pub(crate) fn open(&self) -> Store {
        self.place.open()
    }

    pub(crate) fn verify(&self, depth: Depth) -> VerifyReport {
        self.open().verify(&VerifyRequest { depth, threads: 2 }, &Control::default()).unwrap()
    }

    /// Adds the original trees once more.
    pub(crate) fn add_again(&self) {
        for tree in ["a", "b", "c"] {
            let report = self.open().add(&self.request(tree), &Control::default()).unwrap();
            assert_eq!(report.problems, []);
        }
    }

    /// Which files come out. That they come out right, or not at all, is checked on the way (invariant 4).
    pub(crate) fn readable(&self) -> BTreeSet<Key> {
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
    pub(crate) fn damage(&self, numbers: &mut TestRng) -> BTreeMap<PathBuf, bool> {
        let mut objects = self.objects();
        let mut damaged = BTreeMap::new();
        for _ in 0..=numbers.index(3) {
            let object = objects.swap_remove(numbers.index(objects.len()));
            let mut bytes = self.place.read(&object).unwrap();
            let at = numbers.index(bytes.len());
            let kind = numbers.index(8);
            match kind {
                0 => bytes.truncate(at),
                1 => bytes[at..].fill(0),
                2 => bytes.splice(at..at, *b"more").for_each(drop),
                _ => bytes[at] ^= 1 << numbers.index(8),
            }
            if kind == 7 {
                self.place.remove(&object);
            } else {
                self.place.write(&object, &bytes);
            }
            damaged.insert(object, kind != 7);
        }
        damaged
    }
}

/// The bytes' hash, to compare folders by.
pub(crate) fn hash_of(files: &BTreeMap<PathBuf, Vec<u8>>) -> BTreeMap<&Path, ChunkId> {
    files.iter().map(|(path, bytes)| (path.as_path(), ChunkId::of(bytes))).collect()
}
