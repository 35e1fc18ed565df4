//! What is added, which operations there are, and what must be true of a store after a crash.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::recording::RecordingDisk;
use super::replay::Image;
use crate::engine::add::AddRequest;
use crate::engine::ops::gc::{GcReport, GcRequest};
use crate::engine::ops::repair::{RepairReport, RepairRequest};
use crate::engine::ops::verify::{Depth, VerifyRequest};
use crate::engine::read::get::GetRequest;
use crate::engine::store::control::Control;
use crate::engine::store::snapshots::Selector;
use crate::engine::{Settings, SnapshotSummary, Store};
use crate::error::{Error, Result};
use crate::format::id::SnapshotId;
use crate::format::name::{ObjectKind, ObjectName};
use crate::pack::frame::{Codec, FrameSettings};
use crate::storage::disk::Disk;
use crate::testing::disk::FaultyDisk;
use crate::testing::random::TestRng;

/// Length at which packs end, in bytes, so that an add makes several.
pub(super) const PACK_BYTES: u64 = 30_000;
const MEMORY_BYTES: usize = 32 << 20;
/// Trees that can be added, and the one that is added after a crash.
const TREES: usize = 4;
pub(super) const NEXT: usize = TREES - 1;

/// One operation on a store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Step {
    /// Makes the store, or opens it if it is there.
    Init,
    /// Adds a tree.
    Add(usize),
    /// `repair --index`.
    RebuildIndex,
    /// Removes all snapshots of a tree.
    Remove(usize),
    /// A gc while somebody adds, that does not wait: it announces what it would delete, and the next one deletes.
    Announce,
    /// A gc that rewrites whatever has waste.
    Collect,
    /// Bytes change on the disk: such as can be mended without a loss.
    Damage,
    /// What was damaged is mended.
    Repair,
}

/// What is acknowledged from some point of a recording on.
#[derive(Debug, Clone, Copy)]
pub(super) struct Promise {
    /// After this number of operations.
    pub(super) from: usize,
    what: What,
}

#[derive(Debug, Clone, Copy)]
enum What {
    /// The store is there.
    Store,
    /// The snapshot is there.
    Kept(SnapshotId),
    /// It may be there or not: its removal has begun.
    Going(SnapshotId),
    /// It is not there.
    Gone(SnapshotId),
    /// Something is damaged.
    Damaged,
    /// Nothing is, any more.
    Mended,
}

/// What must be there.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub(super) struct Due {
    pub(super) store: bool,
    pub(super) damaged: bool,
    pub(super) snapshots: BTreeSet<SnapshotId>,
    pub(super) gone: BTreeSet<SnapshotId>,
}

impl Due {
    /// After this number of operations.
    pub(super) fn after(promises: &[Promise], operations: usize) -> Self {
        let mut due = Self::default();
        for promise in promises.iter().filter(|promise| promise.from <= operations) {
            match promise.what {
                What::Store => due.store = true,
                What::Kept(id) => drop(due.snapshots.insert(id)),
                What::Going(id) => drop(due.snapshots.remove(&id)),
                What::Gone(id) => drop(due.gone.insert(id)),
                What::Damaged => due.damaged = true,
                What::Mended => due.damaged = false,
            }
        }
        due
    }
}

/// A tree as it must come back: bytes of files, targets of links, `None` for directories.
pub(super) type TreeFingerprint = BTreeMap<PathBuf, Option<Vec<u8>>>;

/// Trees to add, and a folder for the disk that is recorded.
#[derive(Debug)]
pub(super) struct Stage {
    folder: tempfile::TempDir,
    fingerprints: Vec<TreeFingerprint>,
}

impl Stage {
    pub(super) fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("disk")).unwrap();
        let noise = |seed: u64, bytes: usize| {
            let mut random = TestRng(seed);
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
        let fingerprints =
            (0..TREES).map(|tree| tree_fingerprint(&folder.path().join(format!("tree {tree}")))).collect();
        Self { folder, fingerprints }
    }

    /// The folder whose disk is recorded.
    pub(super) fn recorded(&self) -> PathBuf {
        self.folder.path().join("disk")
    }

    fn tree(&self, tree: usize) -> PathBuf {
        self.folder.path().join(format!("tree {tree}"))
    }

    /// Does all steps; what they acknowledged, and after which operations.
    pub(super) fn play(&self, disk: &RecordingDisk, steps: &[Step], promises: &mut Vec<Promise>) {
        steps.iter().for_each(|step| self.run(disk, *step, promises).unwrap());
    }

    /// Does one step, as a process of its own.
    pub(super) fn run(&self, disk: &RecordingDisk, step: Step, promises: &mut Vec<Promise>) -> Result<()> {
        let root = self.recorded().join("store");
        // What a step takes back is not sure from its first operation on, what it gives is from its last.
        let begins = disk.len() + 1;
        let mut promise = |from, what| promises.push(Promise { from, what });
        let on = || -> Arc<dyn Disk> { Arc::new(disk.clone()) };
        match step {
            Step::Init => {
                open_or_init(on(), &root)?;
                promise(disk.len(), What::Store);
            }
            Step::Add(tree) => {
                let id = self.add(&open(on(), &root)?, tree)?;
                promise(disk.len(), What::Kept(id));
            }
            Step::Remove(tree) => {
                let store = open(on(), &root)?;
                let ids = self.snapshots_of(&store, tree);
                ids.iter().for_each(|id| promise(begins, What::Going(*id)));
                store.remove(&ids.iter().map(|id| id.to_hex()).collect::<Vec<_>>())?;
                ids.iter().for_each(|id| promise(disk.len(), What::Gone(*id)));
            }
            Step::Damage => {
                promise(begins, What::Damaged);
                damages(&open(on(), &root)?).iter().for_each(|(name, at)| disk.damage(&root.join(name.path()), *at));
            }
            Step::Repair => {
                self.act(&open(on(), &root)?, step)?;
                promise(disk.len(), What::Mended);
            }
            Step::RebuildIndex | Step::Announce | Step::Collect => self.act(&open(on(), &root)?, step)?,
        }
        Ok(())
    }

    /// Does one step that takes no argument and returns nothing.
    pub(super) fn act(&self, store: &Store, step: Step) -> Result<()> {
        match step {
            Step::RebuildIndex => {
                let rebuilt = store.rebuild_index()?;
                assert!(rebuilt.unreadable.is_empty(), "{:?}", rebuilt.unreadable);
            }
            Step::Announce => {
                let _adding = store.coordination().begin()?;
                let request = GcRequest { max_waste: 0.0, no_wait: true, ..GcRequest::default() };
                let report = store.gc(&request, &Control::default(), &|_| {})?;
                assert!(report.pending_deletes > 0 && report.packs == 0, "{report:?}");
            }
            Step::Collect => {
                let report = self.collect(store)?;
                assert!(report.damaged.is_empty() && report.lost_chunks == 0, "{report:?}");
            }
            Step::Repair => {
                let report = self.repair(store)?;
                assert!(report.is_whole(), "{report:?}");
            }
            Step::Init | Step::Add(_) | Step::Remove(_) | Step::Damage => unreachable!("{step:?}"),
        }
        Ok(())
    }

    /// A gc that rewrites whatever has waste.
    pub(super) fn collect(&self, store: &Store) -> Result<GcReport> {
        let request = GcRequest { max_waste: 0.0, ..GcRequest::default() };
        store.gc(&request, &Control::default(), &|_| {})
    }

    pub(super) fn repair(&self, store: &Store) -> Result<RepairReport> {
        store.repair(&RepairRequest { depth: Depth::Stored, dry_run: false, threads: 1 }, &Control::default())
    }

    /// Gets a tree out of a snapshot; what is said to be lost of it.
    pub(super) fn get(&self, store: &Store, id: SnapshotId, tree: usize, copies: &Path) -> Result<Vec<String>> {
        let request = GetRequest {
            path: self.tree(tree),
            snapshot: Selector::Id(id.to_string()),
            threads: 1,
            memory_bytes: MEMORY_BYTES,
            ..GetRequest::default()
        };
        let report = store.get(&request, copies, &Control::default())?;
        Ok(report.losses.into_iter().map(|loss| loss.what).collect())
    }

    /// A tree as it must come back.
    pub(super) fn tree_fingerprint(&self, tree: usize) -> &TreeFingerprint {
        &self.fingerprints[tree]
    }

    /// The snapshots of a tree.
    pub(super) fn snapshots_of(&self, store: &Store, tree: usize) -> Vec<SnapshotId> {
        let of_tree = |summary: &SnapshotSummary| summary.info.tags == [tree.to_string()];
        store.snapshots().unwrap().iter().filter(|summary| of_tree(summary)).map(|summary| summary.id).collect()
    }

    pub(super) fn add(&self, store: &Store, tree: usize) -> Result<SnapshotId> {
        let request = AddRequest {
            paths: vec![self.tree(tree)],
            memory_bytes: MEMORY_BYTES,
            threads: 1,
            tags: vec![tree.to_string()],
            ..AddRequest::default()
        };
        let report = store.add(&request, &Control::default())?;
        assert!(report.problems.is_empty(), "{:?}", report.problems);
        Ok(report.snapshot.unwrap())
    }

    /// Compares every snapshot there is with what was added.
    pub(super) fn compare_all(&self, store: &Store, due: &Due, copies: &Path, case: &str) {
        let snapshots = store.snapshots().unwrap_or_else(|e| panic!("{case}: {e:?}"));
        let found: BTreeSet<SnapshotId> = snapshots.iter().map(|snapshot| snapshot.id).collect();
        assert!(due.snapshots.is_subset(&found), "{case}: acknowledged {due:?}, there are {found:?}");
        assert!(due.gone.is_disjoint(&found), "{case}: removed {due:?}, there are {found:?}");
        for snapshot in snapshots {
            let tree: usize = snapshot.info.tags[0].parse().unwrap();
            let losses = self.get(store, snapshot.id, tree, copies).unwrap_or_else(|e| panic!("{case}: {e:?}"));
            assert!(losses.is_empty(), "{case}: {losses:?}");
            assert!(tree_fingerprint(copies) == self.fingerprints[tree], "{case}: tree {tree} came back as another");
            fs::remove_dir_all(copies).unwrap();
        }
    }
}

/// Whether a disk is as it must be: all that is due is there and whole, as is whatever else can be seen, and what was
/// removed is not; no half written file is taken for an object; the next add and the next gc succeed, and tidy up.
pub(super) fn examine(stage: &Stage, image: &Image, due: &Due, case: &str) {
    let folder = tempfile::tempdir().unwrap();
    image.make(folder.path());
    let (root, copies) = (folder.path().join("store"), folder.path().join("copies"));
    let disk: Arc<dyn Disk> = Arc::new(FaultyDisk::unsynced());
    let store = if due.store { open(disk, &root) } else { open_or_init(disk, &root) };
    let store = store.unwrap_or_else(|e| panic!("{case}: {e:?}"));
    let act = |step| stage.act(&store, step).unwrap_or_else(|e| panic!("{case}: {step:?}: {e:?}"));
    if due.damaged {
        act(Step::Repair);
    }
    assert_whole(&store, case);
    stage.compare_all(&store, due, &copies, case);
    act(Step::RebuildIndex);
    let next = stage.add(&store, NEXT).unwrap_or_else(|e| panic!("{case}: {e:?}"));
    act(Step::Collect);
    let mut due = due.clone();
    due.snapshots.insert(next);
    stage.compare_all(&store, &due, &copies, case);
    assert_whole(&store, case);
    assert_tidy(&root, case);
}

/// Fails unless nothing is damaged, by every byte that is stored and every chunk that is named.
pub(super) fn assert_whole(store: &Store, case: &str) {
    let request = VerifyRequest { depth: Depth::Full, threads: 1 };
    let report = store.verify(&request, &Control::default()).unwrap_or_else(|e| panic!("{case}: {e:?}"));
    assert!(report.is_whole() && report.lost_snapshots.is_empty(), "{case}: {report:?}");
}

/// Fails if something is left of what was being done.
pub(super) fn assert_tidy(root: &Path, case: &str) {
    for folder in ["tmp", "leases", "condemned"] {
        let left: Vec<_> = fs::read_dir(root.join(folder)).into_iter().flatten().collect();
        assert!(left.is_empty(), "{case}: {left:?}");
    }
}

/// Bytes of objects whose change costs nothing that cannot be made again: in the end of a pack, in the beginning of
/// another, of a recipes file and of a snapshot.
pub(super) fn damages(store: &Store) -> Vec<(ObjectName, i64)> {
    let names = |kind| -> Vec<ObjectName> {
        let mut names: Vec<_> = store.storage().list(kind).unwrap().iter().map(|listed| listed.name).collect();
        names.sort();
        names
    };
    let packs = names(ObjectKind::Pack);
    let first = |kind| names(kind).swap_remove(0);
    vec![(packs[0], -1), (packs[1], 3), (first(ObjectKind::Recipes), 2), (first(ObjectKind::Snapshot), 2)]
}

pub(super) fn settings() -> Settings {
    let frames = FrameSettings::new(Codec::Zstd, 1, FrameSettings::FRAME_BYTES_MIN).unwrap();
    Settings { profile: "gear-4096".parse().unwrap(), frames }
}

pub(super) fn open(disk: Arc<dyn Disk>, root: &Path) -> Result<Store> {
    Ok(Store::open_on(disk, root)?.with_pack_bytes(PACK_BYTES))
}

fn open_or_init(disk: Arc<dyn Disk>, root: &Path) -> Result<Store> {
    match open(Arc::clone(&disk), root) {
        Err(Error::NotAStore { .. }) => Ok(Store::init_on(disk, root, settings())?.with_pack_bytes(PACK_BYTES)),
        opened => opened,
    }
}

pub(super) fn tree_fingerprint(root: &Path) -> TreeFingerprint {
    let mut fingerprint = TreeFingerprint::new();
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
            fingerprint.insert(path.strip_prefix(root).unwrap().to_owned(), content);
        }
    }
    fingerprint
}
