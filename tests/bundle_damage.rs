//! Bundles that are cut off, changed, added to, and made to harm. Invariants 4 and 5.
//!
//! Whatever happened to one: what comes out of it is right, or is said to be lost; an older generation is there as long
//! as its bytes are; and any one changed byte is found, and costs no more than the object it is in.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use seamstore::entry::{PackId, SnapshotId};
use seamstore::internals::catalog::objects::{decode_objects, encode_objects};
use seamstore::internals::format::bundle::{BundleId, ObjectPlace};
use seamstore::internals::format::name::{ObjectKind, ObjectName};
use seamstore::internals::storage;
use seamstore::internals::storage::bundle::{BundleFile, BundleWriter, find};
use seamstore::internals::storage::disk::SystemDisk;
use seamstore::report::VerifyReport;
use seamstore::request::{AddRequest, BundleExport, Depth, GetRequest, Selector, VerifyRequest};
use seamstore::{Control, Error, Store};

use crate::every_byte::make_store;
use crate::support::{noise, tree_fingerprint};

/// A store of two snapshots, a bundle of the first, and the same with the second appended.
struct Case {
    folder: tempfile::TempDir,
    expected: BTreeMap<PathBuf, String>,
    first: SnapshotId,
    one: Vec<u8>,
    both: Vec<u8>,
}

impl Case {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let expected = make_store(folder.path());
        let store = Store::open(&folder.path().join("store")).unwrap();
        let first = store.snapshot_ids().unwrap()[0];
        let bundle = folder.path().join("all.bundle");
        let export = || store.export_bundle(&BundleExport::default(), &bundle, &Control::default()).unwrap();
        export();
        let one = std::fs::read(&bundle).unwrap();
        std::fs::create_dir(folder.path().join("more")).unwrap();
        std::fs::write(folder.path().join("more/file"), noise(7, 5_000)).unwrap();
        let request = AddRequest::default().paths(vec![folder.path().join("more")]).memory_bytes(64 << 20).threads(1);
        store.add(&request, &Control::default()).unwrap();
        export();
        let both = std::fs::read(&bundle).unwrap();
        assert!(both.starts_with(&one));
        Self { folder, expected, first, one, both }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn open(&self, bytes: &[u8]) -> Result<Store, Error> {
        std::fs::write(self.path("x.bundle"), bytes).unwrap();
        Store::open(&self.path("x.bundle"))
    }

    /// Fails unless the tree of the first snapshot comes out right, or what does not is said not to. Whether it is whole.
    fn get(&self, store: &Store, story: &str) -> bool {
        let request = GetRequest::default()
            .path(self.path("tree"))
            .snapshot(Selector::Id(self.first.to_hex()))
            .memory_bytes(64 << 20)
            .threads(1);
        let out = self.path("out");
        let is_whole = match store.get(&request, &out, &Control::default()) {
            Ok(report) => report.losses.is_empty(),
            Err(Error::Damaged { .. } | Error::NotFound { .. } | Error::FormatVersion { .. }) => false,
            Err(error) => panic!("{story}: {error}"),
        };
        let found = if out.exists() { tree_fingerprint(&out) } else { BTreeMap::new() };
        for (path, line) in &found {
            assert_eq!(Some(line), self.expected.get(path), "{story}: {path:?} came out wrong");
        }
        assert!(!is_whole || found.len() == self.expected.len(), "{story}: something is missing");
        if out.exists() {
            std::fs::remove_dir_all(out).unwrap();
        }
        is_whole
    }

    /// Where the objects of a bundle are.
    fn places(&self, bytes: &[u8]) -> Vec<ObjectPlace> {
        std::fs::write(self.path("y.bundle"), bytes).unwrap();
        let file = BundleFile::open(&SystemDisk::PRIVATE, &self.path("y.bundle")).unwrap();
        decode_objects(find(&file).unwrap().index.unwrap()).unwrap()
    }

    /// The end of the index of a bundle whose last footer is its end.
    fn index_end(bytes: &[u8]) -> usize {
        bytes.len() - 128
    }
}

fn verify(store: &Store, depth: Depth) -> VerifyReport {
    store.verify(&VerifyRequest::default().depth(depth).threads(1), &Control::default()).unwrap()
}

#[test]
fn every_changed_byte_of_a_bundle_is_found_and_costs_no_more_than_its_object() {
    let case = Case::new();
    let objects: Vec<(ObjectName, Range<usize>)> = case
        .places(&case.both)
        .iter()
        .map(|place| (place.name, place.offset as usize..(place.offset + place.bytes) as usize))
        .collect();
    let mut counts = [0; 3];
    for at in 0..case.both.len() {
        let object = objects.iter().find(|(_, range)| range.contains(&at)).map(|(name, _)| *name);
        // Every byte of objects is changed elsewhere (`every_byte`); here, some.
        if object.is_some_and(|name| name != ObjectName::Config) && at % 16 != 0 {
            continue;
        }
        let mask = if at % 9 == 8 { 0xff } else { 1 << (at % 9) };
        let story = format!("byte {at} of {object:?} changed by {mask:#04x}");
        let mut bytes = case.both.clone();
        bytes[at] ^= mask;
        let store = match case.open(&bytes) {
            Ok(store) => store,
            Err(Error::Damaged { .. } | Error::FormatVersion { .. }) => {
                assert_eq!(object, Some(ObjectName::Config), "{story}");
                counts[0] += 1;
                continue;
            }
            Err(error) => panic!("{story}: {error}"),
        };
        let report = verify(&store, Depth::Stored);
        match object {
            Some(name) => {
                assert!(report.damages.iter().any(|damage| damage.object == name), "{story}: {report:?}");
                assert_eq!(report.bundle_damages, [], "{story}");
                assert_ne!(verify(&store, Depth::Full).bundle_damages, [], "{story}");
                case.get(&store, &story);
                counts[1] += 1;
            }
            None => {
                assert_eq!((report.damages.len(), report.lost_files, report.snapshots), (0, 0, 2), "{story}");
                let near =
                    report.bundle_damages.iter().any(|flaw| flaw.offset <= at as u64 || at < 64 && flaw.offset < 64);
                assert!(near, "{story}: {report:?}");
                assert!(at % 7 != 0 || case.get(&store, &story), "{story}");
                counts[2] += 1;
            }
        }
    }
    assert!(counts[0] > 150 && counts[1] > 500 && counts[2] > 2_000, "{counts:?}");
    let whole = case.open(&case.both).unwrap();
    assert!(verify(&whole, Depth::Full).is_whole() && whole.bundle_flaws().is_empty());
}

#[test]
fn a_bundle_that_is_cut_off_anywhere_is_refused_or_is_its_last_whole_generation() {
    let case = Case::new();
    let store = Store::open(&case.path("store")).unwrap();
    let export = || store.export_bundle(&BundleExport::default(), &case.path("x.bundle"), &Control::default());
    for length in 0..=case.both.len() {
        let cut = &case.both[..length];
        let generation =
            if length >= Case::index_end(&case.both) { 2 } else { u64::from(length >= Case::index_end(&case.one)) };
        let story = format!("{length} bytes, generation {generation}");
        let is_end = length == case.one.len() || length == case.both.len();
        match case.open(cut) {
            Ok(opened) => {
                assert_eq!(opened.snapshot_ids().unwrap().len() as u64, generation, "{story}");
                assert_eq!(opened.bundle_flaws().is_empty(), is_end, "{story}");
                if length % 251 == 0 || is_end || generation == 2 && length % 16 == 0 {
                    assert!(case.get(&opened, &story), "{story}");
                    let report = verify(&opened, Depth::Full);
                    assert_eq!((report.damages.len(), report.bundle_damages.is_empty()), (0, is_end), "{story}");
                    // The next export cuts off what is torn and goes on.
                    let said = export().unwrap();
                    let is_done = length == case.both.len();
                    assert_eq!(said.generation, if is_done { 2 } else { generation + 1 }, "{story}");
                    let again = Store::open(&case.path("x.bundle")).unwrap();
                    assert!(verify(&again, Depth::Full).is_whole() && again.bundle_flaws().is_empty(), "{story}");
                    assert_eq!(again.snapshot_ids().unwrap().len(), 2, "{story}");
                }
            }
            Err(Error::BundleDamaged { .. } | Error::NotAStore { .. }) => {
                assert_eq!(generation, 0, "{story}");
                if length % 251 == 0 {
                    export().unwrap_err();
                    assert!(std::fs::read(case.path("x.bundle")).unwrap() == cut, "{story}");
                }
            }
            Err(error) => panic!("{story}: {error}"),
        }
    }
}

#[test]
fn an_end_that_never_came_to_the_disk_is_passed_over() {
    let case = Case::new();
    let mut tails: Vec<Vec<u8>> = vec![
        vec![0; 10_000],
        noise(3, 10_000),
        case.both.clone(),
        case.one[case.one.len() - 128..].to_vec(),
        case.both[case.one.len()..].to_vec(),
    ];
    // The length came, some of the bytes did not: of objects, of the index, or of the footer, each of which is written
    // when all before it is on the disk.
    let appended = &case.both[case.one.len()..];
    std::fs::write(case.path("y.bundle"), &case.both).unwrap();
    let found = find(&BundleFile::open(&SystemDisk::PRIVATE, &case.path("y.bundle")).unwrap()).unwrap();
    let index_at = found.index_at as usize - case.one.len();
    let stages = [0..index_at, index_at..appended.len() - 128, appended.len() - 128..appended.len()];
    for seed in 0..60 {
        let (stage, lost) = (&stages[seed % 3], noise(seed as u64, appended.len()));
        let sector = if seed % 2 == 0 { 512 } else { 64 };
        let keep = |at: usize| at < stage.start || at < stage.end && lost[at / sector] & 1 == 0;
        tails.push(appended.iter().enumerate().map(|(at, byte)| if keep(at) { *byte } else { 0 }).collect());
    }
    for (number, tail) in tails.iter().enumerate() {
        let story = format!("tail {number}");
        // Behind the first generation, and behind both.
        for (front, least) in [(&case.one, 1), (&case.both, 2)] {
            let store = case.open(&[front.as_slice(), tail].concat()).unwrap_or_else(|e| panic!("{story}: {e}"));
            let snapshots = store.snapshot_ids().unwrap();
            // With a whole index, the second is the second.
            let most = if tail.starts_with(&appended[..stages[1].end]) { 2 } else { least };
            assert!((least..=most).contains(&snapshots.len()), "{story}: {snapshots:?}");
            assert!(verify(&store, Depth::Full).damages.is_empty(), "{story}");
            assert!(number % 8 != 0 || case.get(&store, &story), "{story}");
        }
    }
}

#[test]
fn two_changed_bytes_are_never_a_wrong_one() {
    let case = Case::new();
    let random = noise(11, 4 * 800);
    let mut opened = 0;
    for (number, pair) in random.chunks(4).enumerate() {
        let mut bytes = case.both.clone();
        // One in the last index or footer, or both anywhere.
        let end = bytes.len();
        let anywhere = |a: u8, b: u8| usize::from(u16::from_be_bytes([a, b])) * end / 65_536;
        let second = if number % 2 == 0 { end - 1 - usize::from(pair[2]) } else { anywhere(pair[2], pair[3]) };
        let first = anywhere(pair[0], pair[1]);
        bytes[first] ^= 1 << (pair[3] % 8);
        bytes[second] ^= 1 << (pair[1] % 8);
        let story = format!("bytes {first} and {second}");
        match case.open(&bytes) {
            Ok(store) => {
                let is_changed = bytes != case.both;
                assert_eq!(verify(&store, Depth::Stored).is_whole(), !is_changed, "{story}");
                if store.snapshot_ids().unwrap().contains(&case.first) {
                    case.get(&store, &story);
                }
                opened += 1;
            }
            Err(Error::BundleDamaged { .. } | Error::NotAStore { .. } | Error::Damaged { .. }) => {}
            Err(error) => panic!("{story}: {error}"),
        }
    }
    assert!(opened > 400, "{opened}");
}

#[test]
fn nothing_is_cut_off_that_may_be_a_generation() {
    let case = Case::new();
    let store = Store::open(&case.path("store")).unwrap();
    let place = case.places(&case.one)[1];
    // A head of the first generation is damaged, so that there is no way from the front; and the end is torn.
    let mut bytes = [case.both.as_slice(), &[1; 1000]].concat();
    bytes[place.offset as usize - 10] ^= 1;
    assert!(matches!(case.open(&bytes), Err(Error::BundleDamaged { .. })));
    // As before, but of the second: the first is found.
    let second = case.places(&case.both).into_iter().find(|place| place.offset as usize > case.one.len()).unwrap();
    let mut bytes = [case.both.as_slice(), &[1; 1000]].concat();
    bytes[second.offset as usize - 10] ^= 1;
    let opened = case.open(&bytes).unwrap();
    assert_eq!(opened.snapshot_ids().unwrap(), [case.first]);
    let refused = store.export_bundle(&BundleExport::default(), &case.path("x.bundle"), &Control::default());
    let Err(Error::BundleDamaged { what, .. }) = refused else { panic!("{refused:?}") };
    assert!(what.contains("another generation behind"), "{what}");
    assert!(std::fs::read(case.path("x.bundle")).unwrap() == bytes);
}

/// A bundle of these objects whose index is what `forge` makes of the right one.
fn forged(path: &Path, store: &Store, forge: &dyn Fn(&mut Vec<ObjectPlace>) -> Option<Vec<u8>>) {
    let _ = std::fs::remove_file(path);
    let storage = storage(store);
    let mut writer = BundleWriter::create(Arc::new(SystemDisk::PRIVATE), path, BundleId([5; 16])).unwrap();
    let kinds = [ObjectKind::Pack, ObjectKind::Recipes, ObjectKind::Snapshot];
    let listed = kinds.into_iter().flat_map(|kind| storage.list(kind).unwrap());
    for name in std::iter::once(ObjectName::Config).chain(listed.map(|object| object.name)) {
        let mut bytes = vec![0; storage.size(&name).unwrap() as usize];
        storage.read_at(&name, 0, &mut bytes).unwrap();
        writer.put(name, bytes.len() as u64, |take| take(&bytes)).unwrap();
    }
    let mut places = writer.places().to_vec();
    let index = forge(&mut places).unwrap_or_else(|| encode_objects(&places).unwrap());
    writer.commit(&index).unwrap();
}

#[test]
fn a_forged_index_is_refused_before_anything_rests_on_it() {
    let case = Case::new();
    let store = Store::open(&case.path("store")).unwrap();
    let path = case.path("forged.bundle");
    forged(&path, &store, &|_| None);
    assert!(verify(&Store::open(&path).unwrap(), Depth::Full).is_whole());
    type Forge = fn(&mut Vec<ObjectPlace>) -> Option<Vec<u8>>;
    let forges: [(&str, Forge); 11] = [
        ("no Arrow file", |_| Some(b"nonsense".to_vec())),
        ("empty", |_| Some(Vec::new())),
        ("a length past everything", |places| {
            places[1].bytes = u64::MAX;
            None
        }),
        ("a length past the file", |places| {
            places[1].bytes = 1 << 40;
            None
        }),
        ("an offset past the file", |places| {
            places[1].offset = 1 << 40;
            None
        }),
        ("an offset that wraps", |places| {
            places[1].offset = u64::MAX - 63;
            None
        }),
        ("an offset in the header", |places| {
            places[1].offset = 0;
            None
        }),
        ("an offset between two multiples", |places| {
            places[1].offset += 1;
            None
        }),
        ("objects on top of each other", |places| {
            places[1].offset = places[2].offset;
            None
        }),
        ("an object twice", |places| {
            places[1].name = places[2].name;
            None
        }),
        ("an object that reaches into the next", |places| {
            places[1].bytes += 64;
            None
        }),
    ];
    for (what, forge) in forges {
        forged(&path, &store, &forge);
        let refused = Store::open(&path);
        assert!(matches!(refused, Err(Error::BundleDamaged { .. })), "{what}: {refused:?}");
    }
    // Objects that are not there, or are others than their names say, are missed as in any store.
    forged(&path, &store, &|places| {
        places.remove(0);
        None
    });
    let refused = Store::open(&path);
    assert!(matches!(refused, Err(Error::NotAStore { .. })), "{refused:?}");
    let pack = |n: u8| ObjectName::Pack(PackId([n; 32]));
    forged(&path, &store, &|places| {
        places[1].name = pack(1);
        None
    });
    let opened = Store::open(&path).unwrap();
    let report = verify(&opened, Depth::Stored);
    assert!(report.damages.iter().any(|damage| damage.object == pack(1)) && report.lost_files > 0, "{report:?}");
    assert!(report.bundle_damages.iter().any(|flaw| flaw.what.contains("head")), "{report:?}");
    // Nothing of it gets into a store.
    let imported = Store::import_bundle(&case.path("copy"), &path, &Control::default());
    let damaged = imported.unwrap().damaged;
    assert!(damaged.iter().any(|(name, _)| *name == pack(1)), "{damaged:?}");
    let copy = Store::open(&case.path("copy")).unwrap();
    // Of the two snapshots one needs it.
    assert!(copy.snapshot_ids().unwrap().len() < 2 && verify(&copy, Depth::Full).is_whole());
}

#[test]
fn a_snapshot_without_what_it_needs_is_not_taken_over() {
    let case = Case::new();
    let store = Store::open(&case.path("store")).unwrap();
    let path = case.path("forged.bundle");
    for missing in [ObjectKind::Pack, ObjectKind::Recipes] {
        forged(&path, &store, &|places| {
            places.retain(|place| place.name.kind() != Some(missing));
            None
        });
        let root = case.path(&format!("without {missing:?}"));
        let imported = Store::import_bundle(&root, &path, &Control::default());
        let damaged = imported.unwrap().damaged;
        assert!(damaged.iter().any(|(name, _)| name.snapshot() == Some(case.first)), "{damaged:?}");
        let copy = Store::open(&root).unwrap();
        assert!(copy.snapshot_ids().unwrap().is_empty());
        assert!(verify(&copy, Depth::Full).is_whole());
        // Where the store has it, it may be missing.
        Store::import_bundle(&root, &case.path("all.bundle"), &Control::default()).unwrap();
        assert_eq!(Store::import_bundle(&root, &path, &Control::default()).unwrap().added_bytes, 0);
    }
}

#[test]
fn what_is_whole_in_a_damaged_bundle_is_taken_over() {
    let case = Case::new();
    let path = case.path("x.bundle");
    for place in case.places(&case.both).iter().filter(|place| place.name != ObjectName::Config) {
        let mut bytes = case.both.clone();
        bytes[(place.offset + place.bytes / 2) as usize] ^= 1;
        std::fs::write(&path, &bytes).unwrap();
        let root = case.path(&place.name.path().replace('/', " "));
        let report = Store::import_bundle(&root, &path, &Control::default()).unwrap();
        assert!(report.damaged.iter().any(|(name, _)| *name == place.name), "{report:?}");
        let copy = Store::open(&root).unwrap();
        // Each of the two needs what it needs alone.
        assert_eq!(copy.snapshot_ids().unwrap().len(), 1, "{:?}: {report:?}", place.name);
        assert!(verify(&copy, Depth::Full).is_whole(), "{:?}", place.name);
        // The whole one makes it whole.
        let again = Store::import_bundle(&root, &case.path("all.bundle"), &Control::default()).unwrap();
        assert_eq!((again.new_snapshots, again.damaged), (1, Vec::new()));
        assert!(verify(&Store::open(&root).unwrap(), Depth::Full).is_whole());
    }
}

#[test]
fn damaged_objects_of_a_store_are_made_whole_by_a_bundle() {
    let case = Case::new();
    let root = case.path("store");
    let paths: BTreeSet<PathBuf> = case.places(&case.both).iter().map(|place| place.name.path().into()).collect();
    for path in paths.iter().filter(|path| *path != Path::new("store.json")) {
        let place = root.join(path);
        let whole = std::fs::read(&place).unwrap();
        // Cut off, so that what it holds is known to nobody.
        std::fs::write(&place, &whole[..whole.len() - 1]).unwrap();
        let _ = std::fs::remove_dir_all(root.join("index"));
        let report = Store::import_bundle(&root, &case.path("all.bundle"), &Control::default()).unwrap();
        assert_eq!(report.added_bytes, whole.len() as u64, "{path:?}");
        assert!(std::fs::read(&place).unwrap() == whole, "{path:?}");
        assert!(verify(&Store::open(&root).unwrap(), Depth::Full).is_whole(), "{path:?}");
    }
}

#[test]
fn one_appends_at_a_time_and_readers_are_not_disturbed() {
    let case = Case::new();
    let store = Store::open(&case.path("store")).unwrap();
    let path = case.path("x.bundle");
    let reading = case.open(&case.one).unwrap();
    let held = std::fs::File::open(&path).unwrap();
    held.lock().unwrap();
    let export = || store.export_bundle(&BundleExport::default(), &path, &Control::default());
    assert!(matches!(export(), Err(Error::Locked { .. })));
    drop(held);
    // What a killed export left beside it goes; what is not its own stays.
    let [dead, other] = [".seamstore-1-0123456789abcdef.bundle.tmp", ".seamstore-notes"].map(|name| case.path(name));
    std::fs::write(&dead, b"half").unwrap();
    std::fs::write(&other, b"notes").unwrap();
    assert_eq!(export().unwrap().generation, 2);
    let new = case.path("new.bundle");
    store.export_bundle(&BundleExport::default(), &new, &Control::default()).unwrap();
    assert!(!dead.exists() && other.exists());
    assert!(case.get(&reading, "opened before") && reading.snapshot_ids().unwrap() == [case.first]);
    // Stopped: it is as it was.
    let control = Control::default();
    control.stop();
    let stopped = store.export_bundle(&BundleExport::default(), &case.path("never.bundle"), &control);
    assert!(matches!(stopped, Err(Error::Interrupted { .. })), "{stopped:?}");
    assert!(!case.path("never.bundle").exists());
}
