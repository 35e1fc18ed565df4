//! Every single byte of a store is changed in turn. Each change is found by `verify`, or by opening the store, and in no
//! case does `get` hand out a wrong byte or say that all is well when something is missing. Invariants 4 and 5.
//!
//! There is no harmless byte: packs, recipes files and snapshots are named by hashes that stand for all their bytes, and
//! `store.json` has one spelling only. What is not looked at is what nobody relies on: `index` is a cache (its own
//! tests flip its bytes), and what lies in `tmp` and `quarantine` is no object.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use std::collections::BTreeMap;
use std::os::unix::fs::{FileExt, symlink};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};

use seamstore::internals::pack::frame::{Codec, FrameSettings};
use seamstore::request::{AddRequest, Depth, GetRequest, Selector, Settings, VerifyRequest};
use seamstore::{Control, Error, Store};

use crate::support::{noise, tree_fingerprint};
use crate::system::files_below;

const THREADS: usize = 2;

/// A store of one snapshot of a tree: files of several chunks, of one, of none, and what is no file.
pub(crate) fn make_store(folder: &Path) -> BTreeMap<PathBuf, String> {
    let tree = folder.join("tree");
    std::fs::create_dir_all(tree.join("below")).unwrap();
    // Of few different bytes, so that it compresses, and frames are of both kinds.
    let text: Vec<u8> = noise(1, 12_000).iter().map(|byte| byte & 3).collect();
    std::fs::write(tree.join("below/text"), text).unwrap();
    std::fs::write(tree.join("noise"), noise(2, 3_000)).unwrap();
    std::fs::write(tree.join("empty"), b"").unwrap();
    std::fs::write(tree.join("small"), b"one chunk").unwrap();
    symlink("small", tree.join("link")).unwrap();
    let settings = Settings::default()
        .profile("gear-4096".parse().unwrap())
        .frames(FrameSettings::new(Codec::Zstd, 3, 16 << 10).unwrap());
    let store = Store::init(&folder.join("store"), settings).unwrap();
    let request = AddRequest::default().paths(vec![tree.clone()]).memory_bytes(64 << 20).threads(1);
    let report = store.add(&request, &Control::default()).unwrap();
    assert_eq!(report.problems, []);
    tree_fingerprint(&tree)
}

fn copy(from: &Path, to: &Path, with_index: bool) {
    for path in files_below(from) {
        let relative = path.strip_prefix(from).unwrap();
        if with_index || !relative.starts_with("index") {
            let to = to.join(relative);
            std::fs::create_dir_all(to.parent().unwrap()).unwrap();
            std::fs::copy(&path, to).unwrap();
        }
    }
}

/// What a change led to.
#[derive(Debug, Default)]
struct Counts {
    flips: AtomicUsize,
    /// The store does not open.
    refused: AtomicUsize,
    /// `verify` names the object.
    found: AtomicUsize,
    /// So does `verify --quick`.
    found_quickly: AtomicUsize,
    /// `get` restores everything all the same.
    restored: AtomicUsize,
}

struct Flipped<'a> {
    root: PathBuf,
    tree: &'a Path,
    expected: &'a BTreeMap<PathBuf, String>,
    counts: &'a Counts,
}

impl Flipped<'_> {
    /// Looks at a store of which one byte of `object` is changed.
    fn look_at(&self, object: &Path, story: &str) {
        let add = |count: &AtomicUsize| count.fetch_add(1, Ordering::Relaxed);
        add(&self.counts.flips);
        let store = match Store::open(&self.root) {
            Ok(store) => store,
            Err(Error::Damaged { .. } | Error::FormatVersion { .. }) => {
                assert_eq!(object, Path::new("store.json"), "{story}");
                add(&self.counts.refused);
                return;
            }
            Err(error) => panic!("{story}: {error}"),
        };
        let control = Control::default();
        let verify = |depth| store.verify(&VerifyRequest::default().depth(depth).threads(1), &control).unwrap();
        let report = verify(Depth::Stored);
        let names_it = |damages: &[seamstore::report::Damage]| {
            damages.iter().any(|damage| Path::new(&damage.object.path()) == object)
        };
        assert!(names_it(&report.damages), "{story}: {:?}", report.damages);
        assert_eq!(report.damages.iter().filter(|damage| Path::new(&damage.object.path()) != object).count(), 0);
        add(&self.counts.found);
        let quick = verify(Depth::Quick);
        assert!(quick.damages.is_empty() || names_it(&quick.damages), "{story}: {:?}", quick.damages);
        self.counts.found_quickly.fetch_add(usize::from(!quick.damages.is_empty()), Ordering::Relaxed);

        let out = self.root.parent().unwrap().join("out");
        let request = GetRequest::default()
            .path(self.tree.to_owned())
            .snapshot(Selector::Latest)
            .memory_bytes(64 << 20)
            .threads(1);
        let restored = match store.get(&request, &out, &control) {
            Ok(report) => report.losses.is_empty(),
            Err(Error::Damaged { .. } | Error::NotFound { .. } | Error::FormatVersion { .. }) => false,
            Err(error) => panic!("{story}: {error}"),
        };
        let found = if out.exists() { tree_fingerprint(&out) } else { BTreeMap::new() };
        for (path, line) in &found {
            assert_eq!(Some(line), self.expected.get(path), "{story}: {path:?} came out wrong");
        }
        if restored {
            assert_eq!(found.len(), self.expected.len(), "{story}: something is missing");
            add(&self.counts.restored);
        }
        let is_lost = report.lost_files > 0 || !report.lost_snapshots.is_empty();
        assert_eq!(restored, !is_lost, "{story}: {report:?}");
        if out.exists() {
            std::fs::remove_dir_all(out).unwrap();
        }
    }
}

#[test]
fn every_changed_byte_is_found_and_none_is_handed_out() {
    let folder = tempfile::tempdir().unwrap();
    let expected = make_store(folder.path());
    let (original, tree) = (folder.path().join("store"), folder.path().join("tree"));
    let objects: Vec<PathBuf> = files_below(&original)
        .into_iter()
        .map(|path| path.strip_prefix(&original).unwrap().to_owned())
        .filter(|path| !path.starts_with("index"))
        .collect();
    assert_eq!(objects.len(), 4, "store.json, a pack, a recipes file, a snapshot: {objects:?}");
    let counts = Counts::default();
    std::thread::scope(|scope| {
        for thread in 0..THREADS {
            let (original, objects, folder) = (&original, &objects, folder.path());
            let (tree, expected, counts) = (&tree, &expected, &counts);
            scope.spawn(move || {
                let root = folder.join(format!("copy {thread}/store"));
                // One has an index that knows the store as it was, the other makes its own.
                copy(original, &root, thread == 0);
                let flipped = Flipped { root: root.clone(), tree, expected, counts };
                for object in objects {
                    let path = root.join(object);
                    let bytes = std::fs::read(&path).unwrap();
                    let file = std::fs::File::options().write(true).open(&path).unwrap();
                    for at in (thread..bytes.len()).step_by(THREADS) {
                        // One bit, or all: what is one byte to a number may be a letter to a name.
                        let mask = if at % 9 == 8 { 0xff } else { 1 << (at % 9) };
                        file.write_all_at(&[bytes[at] ^ mask], at as u64).unwrap();
                        flipped.look_at(object, &format!("{object:?}, byte {at}, changed by {mask:#04x}"));
                        file.write_all_at(&bytes[at..=at], at as u64).unwrap();
                    }
                }
            });
        }
    });
    let [flips, refused, found, quickly, restored] =
        [&counts.flips, &counts.refused, &counts.found, &counts.found_quickly, &counts.restored]
            .map(|count| count.load(Ordering::Relaxed));
    let bytes: usize = objects.iter().map(|object| std::fs::read(original.join(object)).unwrap().len()).sum();
    assert_eq!((flips, refused + found), (bytes, bytes));
    // Restored in spite of it: what stands in a pack before its first frame, and in parts of recipes files that are not
    // needed to read recipes.
    assert!(quickly < found && restored > 0 && restored * 4 < flips, "{counts:?}");
}
