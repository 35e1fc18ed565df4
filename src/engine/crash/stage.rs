//! What is added, which operations there are, and what must be true of a store after a crash.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::recording::RecordingDisk;
use super::replay::{Image, Random};
use crate::engine::add::AddRequest;
use crate::engine::control::Control;
use crate::engine::get::{GetRequest, Selector};
use crate::engine::{Settings, Store};
use crate::error::{Error, Result};
use crate::format::id::SnapshotId;
use crate::pack::frame::{Codec, FrameSettings};
use crate::storage::disk::{ChangeFile, Disk, ReadFile, SystemDisk, WriteFile};

/// Packs are ended at so many bytes, so that an add makes several.
const PACK_BYTES: u64 = 30_000;
const MEMORY_BYTES: usize = 32 << 20;
/// Trees that can be added, and the one that is added after a crash.
const TREES: usize = 4;
const NEXT: usize = TREES - 1;

/// One operation on a store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Step {
    /// Makes the store, or opens it if it is there.
    Init,
    /// Adds a tree.
    Add(usize),
    /// `repair --index`.
    RebuildIndex,
}

/// What is acknowledged from some point of a recording on.
#[derive(Debug, Clone, Copy)]
pub(super) struct Promise {
    /// After so many operations.
    pub(super) from: usize,
    what: What,
}

#[derive(Debug, Clone, Copy)]
enum What {
    /// The store is there.
    Store,
    /// The snapshot is there.
    Kept(SnapshotId),
}

/// What must be there.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub(super) struct Due {
    store: bool,
    pub(super) snapshots: BTreeSet<SnapshotId>,
}

impl Due {
    /// After so many operations.
    pub(super) fn after(promises: &[Promise], operations: usize) -> Self {
        let mut due = Self::default();
        for promise in promises.iter().filter(|promise| promise.from <= operations) {
            match promise.what {
                What::Store => due.store = true,
                What::Kept(id) => {
                    due.snapshots.insert(id);
                }
            }
        }
        due
    }
}

/// A tree as it must come back: bytes of files, targets of links, `None` for directories.
type Picture = BTreeMap<PathBuf, Option<Vec<u8>>>;

/// Trees to add, and a folder for the disk that is recorded.
#[derive(Debug)]
pub(super) struct Stage {
    folder: tempfile::TempDir,
    pictures: Vec<Picture>,
}

impl Stage {
    pub(super) fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("disk")).unwrap();
        let noise = |seed: u64, bytes: usize| {
            let mut random = Random(seed);
            (0..bytes).map(|_| random.below(256) as u8).collect::<Vec<u8>>()
        };
        let text = "what is written twice is stored once\n".repeat(400);
        for tree in 0..TREES {
            let root = folder.path().join(format!("tree {tree}"));
            fs::create_dir_all(root.join("below/empty")).unwrap();
            let seed = tree as u64;
            let write = |name: &str, bytes: &[u8]| fs::write(root.join(name), bytes).unwrap();
            // The same in all of them: one chunk, several chunks, text; of its own, and shared with a part that is not.
            write("small", b"a file of one chunk");
            write("shared", &noise(100, 25_000));
            write("text", text.as_bytes());
            write("below/own", &noise(200 + seed, 45_000));
            write("below/mixed", &[noise(300, 20_000), noise(400 + seed, 15_000)].concat());
            // Shared with the tree before and after.
            write("below/neighbour", &noise(500 + seed / 2, 22_000));
            write("none", b"");
            std::os::unix::fs::symlink("below/own", root.join("link")).unwrap();
        }
        let pictures = (0..TREES).map(|tree| picture(&folder.path().join(format!("tree {tree}")))).collect();
        Self { folder, pictures }
    }

    /// The folder whose disk is recorded.
    pub(super) fn recorded(&self) -> PathBuf {
        self.folder.path().join("disk")
    }

    fn tree(&self, tree: usize) -> PathBuf {
        self.folder.path().join(format!("tree {tree}"))
    }

    /// Does all steps; what they acknowledged, and after which operations.
    pub(super) fn play(&self, disk: &RecordingDisk, steps: &[Step]) -> Vec<Promise> {
        steps.iter().flat_map(|step| self.run(disk, *step).unwrap()).collect()
    }

    /// Does one step, as a process of its own.
    pub(super) fn run(&self, disk: &RecordingDisk, step: Step) -> Result<Vec<Promise>> {
        let root = self.recorded().join("store");
        let what = self.act(Arc::new(disk.clone()), &root, step)?;
        Ok(what.into_iter().map(|what| Promise { from: disk.len(), what }).collect())
    }

    fn act(&self, disk: Arc<dyn Disk>, root: &Path, step: Step) -> Result<Option<What>> {
        Ok(match step {
            Step::Init => {
                open_or_init(disk, root)?;
                Some(What::Store)
            }
            Step::Add(tree) => Some(What::Kept(self.add(&open(disk, root)?, tree)?)),
            Step::RebuildIndex => {
                let rebuilt = open(disk, root)?.rebuild_index()?;
                assert!(rebuilt.unreadable.is_empty(), "{:?}", rebuilt.unreadable);
                None
            }
        })
    }

    fn add(&self, store: &Store, tree: usize) -> Result<SnapshotId> {
        let request = AddRequest {
            paths: vec![self.tree(tree)],
            stdin_name: None,
            reread: false,
            memory_bytes: MEMORY_BYTES,
            threads: 1,
            tags: vec![tree.to_string()],
            archives: crate::engine::add::Archives::default(),
        };
        let report = store.add(&request, &Control::default())?;
        assert!(report.problems.is_empty(), "{:?}", report.problems);
        Ok(report.snapshot.unwrap())
    }

    /// Compares every snapshot there is with what was added.
    fn compare_all(&self, store: &Store, due: &Due, copies: &Path, case: &str) {
        let snapshots = store.snapshots().unwrap_or_else(|e| panic!("{case}: {e:?}"));
        let found: BTreeSet<SnapshotId> = snapshots.iter().map(|snapshot| snapshot.id).collect();
        assert!(due.snapshots.is_subset(&found), "{case}: acknowledged {due:?}, there are {found:?}");
        for snapshot in snapshots {
            let tree: usize = snapshot.info.tags[0].parse().unwrap();
            let request = GetRequest {
                path: self.tree(tree),
                snapshot: Selector::Id(snapshot.id.to_string()),
                overwrite: false,
                threads: 1,
                memory_bytes: MEMORY_BYTES,
            };
            let report = store.get(&request, copies, &Control::default()).unwrap_or_else(|e| panic!("{case}: {e:?}"));
            assert!(report.losses.is_empty(), "{case}: {:?}", report.losses);
            assert!(picture(copies) == self.pictures[tree], "{case}: tree {tree} came back as another");
            fs::remove_dir_all(copies).unwrap();
        }
    }
}

/// Whether a disk is as it must be: all that is due is there and whole, as is whatever else can be seen; no half written
/// file is taken for an object; the next add succeeds, and tidies up.
pub(super) fn examine(stage: &Stage, image: &Image, due: &Due, case: &str) {
    let folder = tempfile::tempdir().unwrap();
    image.make(folder.path());
    let (root, copies) = (folder.path().join("store"), folder.path().join("copies"));
    let disk: Arc<dyn Disk> = Arc::new(Unsynced);
    let store = if due.store { open(disk, &root) } else { open_or_init(disk, &root) };
    let store = store.unwrap_or_else(|e| panic!("{case}: {e:?}"));
    stage.compare_all(&store, due, &copies, case);
    let rebuilt = store.rebuild_index().unwrap_or_else(|e| panic!("{case}: {e:?}"));
    assert!(rebuilt.unreadable.is_empty(), "{case}: {:?}", rebuilt.unreadable);
    let next = stage.add(&store, NEXT).unwrap_or_else(|e| panic!("{case}: {e:?}"));
    let mut due = due.clone();
    due.snapshots.insert(next);
    stage.compare_all(&store, &due, &copies, case);
    let left: Vec<_> = fs::read_dir(root.join("tmp")).unwrap().collect();
    assert!(left.is_empty(), "{case}: {left:?}");
}

fn settings() -> Settings {
    let frames = FrameSettings::new(Codec::Zstd, 1, FrameSettings::FRAME_BYTES_MIN).unwrap();
    Settings { profile: "gear-4096".parse().unwrap(), frames }
}

fn open(disk: Arc<dyn Disk>, root: &Path) -> Result<Store> {
    Ok(Store { pack_bytes: PACK_BYTES, ..Store::open_on(disk, root)? })
}

fn open_or_init(disk: Arc<dyn Disk>, root: &Path) -> Result<Store> {
    match open(Arc::clone(&disk), root) {
        Err(Error::NotAStore { .. }) => Ok(Store { pack_bytes: PACK_BYTES, ..Store::init_on(disk, root, settings())? }),
        opened => opened,
    }
}

fn picture(root: &Path) -> Picture {
    let mut picture = Picture::new();
    let mut todo = vec![root.to_owned()];
    while let Some(folder) = todo.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let entry = entry.unwrap();
            let (path, kind) = (entry.path(), entry.file_type().unwrap());
            let content = if kind.is_dir() {
                todo.push(path.clone());
                None
            } else if kind.is_symlink() {
                Some(fs::read_link(&path).unwrap().into_os_string().into_encoded_bytes())
            } else {
                Some(fs::read(&path).unwrap())
            };
            picture.insert(path.strip_prefix(root).unwrap().to_owned(), content);
        }
    }
    picture
}

/// The system's disk, but nothing waits for it: these stores are looked at and thrown away.
#[derive(Debug)]
struct Unsynced;

#[derive(Debug)]
struct UnsyncedFile<F: ?Sized>(Box<F>);

impl Disk for Unsynced {
    fn create(&self, path: &Path) -> io::Result<Box<dyn WriteFile>> {
        Ok(Box::new(UnsyncedFile(SystemDisk.create(path)?)))
    }
    fn open_to_change(&self, path: &Path) -> io::Result<Box<dyn ChangeFile>> {
        Ok(Box::new(UnsyncedFile(SystemDisk.open_to_change(path)?)))
    }
    fn open(&self, path: &Path) -> io::Result<Arc<dyn ReadFile>> {
        SystemDisk.open(path)
    }
    fn make_dir(&self, path: &Path) -> io::Result<()> {
        SystemDisk.make_dir(path)
    }
    fn rename_new(&self, from: &Path, to: &Path) -> io::Result<()> {
        SystemDisk.rename_new(from, to)
    }
    fn rename_over(&self, from: &Path, to: &Path) -> io::Result<()> {
        SystemDisk.rename_over(from, to)
    }
    fn link_new(&self, from: &Path, to: &Path) -> io::Result<()> {
        SystemDisk.link_new(from, to)
    }
    fn remove(&self, path: &Path) -> io::Result<()> {
        SystemDisk.remove(path)
    }
    fn sync_dir(&self, _: &Path) -> io::Result<()> {
        Ok(())
    }
    fn names(&self, path: &Path) -> io::Result<Vec<OsString>> {
        SystemDisk.names(path)
    }
    fn file_bytes(&self, path: &Path) -> io::Result<Option<u64>> {
        SystemDisk.file_bytes(path)
    }
    fn is_dir(&self, path: &Path) -> io::Result<bool> {
        SystemDisk.is_dir(path)
    }
    fn remove_unlocked(&self, path: &Path) -> io::Result<bool> {
        SystemDisk.remove_unlocked(path)
    }
}

impl WriteFile for UnsyncedFile<dyn WriteFile> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.write(bytes)
    }
    fn sync(&mut self) -> io::Result<()> {
        Ok(())
    }
    fn lock(&mut self) -> io::Result<bool> {
        self.0.lock()
    }
    fn start_writeback(&mut self, _: u64, _: u64) {}
}

impl ChangeFile for UnsyncedFile<dyn ChangeFile> {
    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.0.write_at(bytes, offset)
    }
    fn set_len(&self, bytes: u64) -> io::Result<()> {
        self.0.set_len(bytes)
    }
    fn sync(&self) -> io::Result<()> {
        Ok(())
    }
    fn file(&self) -> &File {
        self.0.file()
    }
}
