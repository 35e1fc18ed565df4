//! However bytes are read: a gc may move them while they are read, and of several copies one may be damaged.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fmt::Debug;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use super::half_needed;
use crate::engine::add::AddRequest;
use crate::engine::ops::bundle::BundleExport;
use crate::engine::ops::export::ExportRequest;
use crate::engine::ops::gc::GcRequest;
use crate::engine::ops::verify::{Depth, VerifyRequest};
use crate::engine::read::get::GetRequest;
use crate::engine::read::reader::ReaderOptions;
use crate::engine::store::control::Control;
use crate::engine::store::snapshots::Selector;
use crate::engine::{Settings, Store};
use crate::error::{Error, Result};
use crate::format::id::{PackId, SnapshotId};
use crate::format::label::LabelFilter;
use crate::format::name::{ObjectKind, ObjectName};
use crate::pack::frame::{Codec, FrameSettings};
use crate::pack::reader::read_directory;
use crate::storage::disk::{ChangeFile, Disk, HeldLock, ReadFile, SystemDisk, WriteFile};
use crate::testing::folder::{Files, files_in};
use crate::testing::random::noise;
use crate::testing::shelf::Shelf;

/// What is read: the files of a snapshot below a path, and where there is room.
struct Wanted<'a> {
    store: &'a Store,
    snapshot: SnapshotId,
    /// The paths of the files, as they were added, below their tree.
    files: &'a Files,
    tree: PathBuf,
    room: &'a Path,
}

impl Wanted<'_> {
    fn selector(&self) -> Selector {
        Selector::Id(self.snapshot.to_hex())
    }

    fn request(&self, path: &Path) -> GetRequest {
        GetRequest { path: path.to_owned(), snapshot: self.selector(), threads: 2, ..GetRequest::default() }
    }

    fn export(&self) -> ExportRequest {
        let labels = LabelFilter::default();
        ExportRequest { path: self.tree.clone(), snapshot: self.selector(), threads: 2, labels }
    }

    fn each_file(&self, read: impl Fn(&Path) -> Result<Vec<u8>>) -> Result<Files> {
        self.files.keys().map(|path| Ok((path.clone(), read(&self.tree.join(path))?))).collect()
    }

    fn reader(&self, options: ReaderOptions) -> Result<Files> {
        let reader = self.store.reader_with(&self.selector(), options)?;
        self.each_file(|path| reader.read(path))
    }
}

/// A way to read files; what comes out is the same each time.
type Way = fn(&Wanted<'_>) -> Result<Files>;

fn a_tree(wanted: &Wanted<'_>) -> Result<Files> {
    let output = wanted.room.join("tree");
    let report = wanted.store.get(&wanted.request(&wanted.tree), &output, &Control::default())?;
    match report.losses.first() {
        None => Ok(files_in(&output)),
        Some(loss) => Err(Error::damaged("reported", 0, loss.what.clone())),
    }
}

fn streams(wanted: &Wanted<'_>) -> Result<Files> {
    wanted.each_file(|path| {
        let mut bytes = Vec::new();
        wanted.store.read(&wanted.request(path), None, &mut bytes, Path::new("memory"), &Control::default())?;
        Ok(bytes)
    })
}

fn ranges(wanted: &Wanted<'_>) -> Result<Files> {
    wanted.each_file(|path| {
        let mut bytes = Vec::new();
        for range in [0..10, 10..30_001, 30_001..u64::MAX] {
            let request = wanted.request(path);
            wanted.store.read(&request, Some(range), &mut bytes, Path::new("memory"), &Control::default())?;
        }
        Ok(bytes)
    })
}

fn reads_with_all_in_the_table(wanted: &Wanted<'_>) -> Result<Files> {
    wanted.reader(ReaderOptions::default())
}

fn reads_with_nothing_in_the_table(wanted: &Wanted<'_>) -> Result<Files> {
    wanted.reader(ReaderOptions { table_bytes: 0, ..ReaderOptions::default() })
}

fn reads_with_frames_kept(wanted: &Wanted<'_>) -> Result<Files> {
    wanted.reader(ReaderOptions { cache_bytes: 8 << 20, ..ReaderOptions::default() })
}

fn many_at_once(wanted: &Wanted<'_>) -> Result<Files> {
    let reader = wanted.store.reader(&wanted.selector())?;
    let paths: Vec<PathBuf> = wanted.files.keys().map(|path| wanted.tree.join(path)).collect();
    wanted.files.keys().cloned().zip(reader.read_many(&paths)).map(|(path, read)| Ok((path, read?))).collect()
}

fn a_tar(wanted: &Wanted<'_>) -> Result<Files> {
    let mut tar = Vec::new();
    wanted.store.export_tar(&wanted.export(), &mut tar, Path::new("memory"), &Control::default())?;
    Ok(BTreeMap::from([(PathBuf::from("tar"), tar)]))
}

fn arrays(wanted: &Wanted<'_>) -> Result<Files> {
    let output = wanted.room.join("arrays");
    wanted.store.export_arrays(&wanted.export(), &output, &Control::default())?;
    Ok(files_in(&output))
}

#[cfg(feature = "hdf5")]
fn hdf5(wanted: &Wanted<'_>) -> Result<Files> {
    use crate::engine::ops::export::{Hdf5Layout, Hdf5Options};
    let mut found = Files::new();
    for (layout, compress) in [
        (Hdf5Layout::Compact, None),
        (Hdf5Layout::Sha1, None),
        (Hdf5Layout::Shredder, None),
        (Hdf5Layout::Shredder, Some(1)),
    ] {
        let output = wanted.room.join(format!("{}-{compress:?}.h5", layout.word()));
        let options = Hdf5Options { layout, compress, overwrite: false };
        wanted.store.export_hdf5(&wanted.export(), &options, &output, &Control::default())?;
        found.insert(PathBuf::from(output.file_name().unwrap()), std::fs::read(output).unwrap());
    }
    Ok(found)
}

const WAYS: &[(&str, Way)] = &[
    ("a tree", a_tree),
    ("streams", streams),
    ("ranges", ranges),
    ("reads with all in the table", reads_with_all_in_the_table),
    ("reads with nothing in the table", reads_with_nothing_in_the_table),
    ("reads with frames kept", reads_with_frames_kept),
    ("many at once", many_at_once),
    ("a tar", a_tar),
    ("arrays", arrays),
    #[cfg(feature = "hdf5")]
    ("hdf5", hdf5),
];

/// A bundle, whose store gives the tree. It is exported under a lease, for which gc waits.
fn a_bundle(wanted: &Wanted<'_>) -> Result<Files> {
    let file = wanted.room.join("all.bundle");
    wanted.store.export_bundle(&BundleExport::default(), &file, &Control::default())?;
    let Wanted { snapshot, files, room, .. } = *wanted;
    a_tree(&Wanted { store: &Store::open(&file)?, snapshot, files, tree: wanted.tree.clone(), room })
}

/// All ways, those that no gc disturbs among them.
fn all_ways() -> Vec<(&'static str, Way)> {
    WAYS.iter().copied().chain([("a bundle", a_bundle as Way)]).collect()
}

/// Reads the tree `kept` of a shelf in one way.
fn read(shelf: &Shelf, store: &Store, snapshot: SnapshotId, way: Way) -> Result<Files> {
    let room = tempfile::tempdir().unwrap();
    let (files, tree) = (shelf.source("kept"), shelf.folder.path().join("kept"));
    way(&Wanted { store, snapshot, files: &files, tree, room: room.path() })
}

/// Something that happens at one of the reads of packs.
struct Hook {
    reads: Mutex<usize>,
    at: usize,
    happens: Mutex<Option<Box<dyn FnOnce() + Send>>>,
}

impl Debug for Hook {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Hook")
    }
}

/// A disk on which something happens meanwhile, and whose files cannot be read any more when they have lost their names, as
/// in an object store.
#[derive(Debug, Clone)]
struct HookedDisk(Arc<Hook>);

#[derive(Debug)]
struct HookedFile {
    hook: Arc<Hook>,
    path: PathBuf,
    file: Arc<dyn ReadFile>,
}

impl ReadFile for HookedFile {
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        let happens = {
            let mut reads = self.hook.reads.lock().unwrap();
            *reads += 1;
            if *reads == self.hook.at { self.hook.happens.lock().unwrap().take() } else { None }
        };
        happens.into_iter().for_each(|happens| happens());
        if !self.path.exists() {
            return Err(io::ErrorKind::NotFound.into());
        }
        self.file.read_at(offset, buffer)
    }

    fn own_bytes(&self) -> io::Result<Option<u64>> {
        self.file.own_bytes()
    }
}

/// Passes everything but `open` on.
macro_rules! passed_on {
    ($(fn $name:ident(&self, $($argument:ident: $kind:ty),*) -> $answer:ty;)*) => {
        impl Disk for HookedDisk {
            fn open(&self, path: &Path) -> io::Result<Arc<dyn ReadFile>> {
                let file = SystemDisk::PRIVATE.open(path)?;
                if path.extension().is_none_or(|extension| extension != "pack") {
                    return Ok(file);
                }
                Ok(Arc::new(HookedFile { hook: Arc::clone(&self.0), path: path.to_owned(), file }))
            }

            $(fn $name(&self, $($argument: $kind),*) -> $answer { SystemDisk::PRIVATE.$name($($argument),*) })*
        }
    };
}

passed_on! {
    fn create(&self, path: &Path) -> io::Result<Box<dyn WriteFile>>;
    fn open_to_change(&self, path: &Path) -> io::Result<Box<dyn ChangeFile>>;
    fn make_dir(&self, path: &Path) -> io::Result<()>;
    fn rename_new(&self, from: &Path, to: &Path) -> io::Result<()>;
    fn rename_over(&self, from: &Path, to: &Path) -> io::Result<()>;
    fn link_new(&self, from: &Path, to: &Path) -> io::Result<()>;
    fn remove(&self, path: &Path) -> io::Result<()>;
    fn sync_dir(&self, path: &Path) -> io::Result<()>;
    fn names(&self, path: &Path) -> io::Result<Vec<OsString>>;
    fn file_bytes(&self, path: &Path) -> io::Result<Option<u64>>;
    fn is_dir(&self, path: &Path) -> io::Result<bool>;
    fn remove_unlocked(&self, path: &Path) -> io::Result<bool>;
    fn hold(&self, path: &Path) -> io::Result<Option<Box<dyn HeldLock>>>;
    fn hold_existing(&self, path: &Path) -> io::Result<Option<Box<dyn HeldLock>>>;
    fn share(&self, path: &Path) -> io::Result<Option<Box<dyn HeldLock>>>;
}

#[test]
fn a_gc_that_moves_packs_costs_no_read_that_runs_whatever_its_kind() {
    for (name, way) in WAYS {
        for at in [2, 12, 40] {
            let shelf = Arc::new(Shelf::new());
            let (both, kept) = half_needed(&shelf);
            let expected = read(&shelf, &shelf.store(), kept, *way).unwrap();
            let collected = Arc::new(Mutex::new(false));
            let (others, did) = (Arc::clone(&shelf), Arc::clone(&collected));
            let gc = move || {
                others.remove(both);
                let done = others.gc(&GcRequest { max_waste: 0.0, ..GcRequest::default() });
                assert!(done.packs > 0 && done.new_packs > 0, "{done:?}");
                *did.lock().unwrap() = true;
            };
            let hook = Hook { reads: Mutex::default(), at, happens: Mutex::new(Some(Box::new(gc))) };
            let disk = HookedDisk(Arc::new(hook));
            let store = Store::open_on(Arc::new(disk), &shelf.folder.path().join("store")).unwrap();
            let found = read(&shelf, &store, kept, *way);
            assert!(found.is_ok_and(|found| found == expected), "{name}, gc at read {at}");
            assert!(*collected.lock().unwrap(), "{name} takes fewer than {at} reads of packs");
        }
    }
}

#[test]
fn a_reader_that_is_open_while_gc_moves_packs_reads_on() {
    for table_bytes in [0, 1 << 20] {
        let shelf = Shelf::new();
        let (both, kept) = half_needed(&shelf);
        let store = shelf.store();
        let options = ReaderOptions { table_bytes, ..ReaderOptions::default() };
        let reader = store.reader_with(&Selector::Id(kept.to_hex()), options).unwrap();
        shelf.remove(both);
        shelf.gc(&GcRequest { max_waste: 0.0, ..GcRequest::default() });
        store.storage().close_files();
        let paths: Vec<PathBuf> = (0..12).map(|n| shelf.folder.path().join(format!("kept/{n:02}"))).collect();
        for (n, many) in reader.read_many(&paths).into_iter().enumerate() {
            assert!(many.unwrap() == noise(n as u64, 60_000));
            assert!(reader.read(&paths[n]).unwrap() == noise(n as u64, 60_000));
        }
        shelf.remove(kept);
        shelf.gc(&GcRequest::default());
        store.storage().close_files();
        let error = reader.read(&paths[0]).unwrap_err();
        assert_eq!(error.to_string(), format!("snapshot {kept} was removed while it was being read"));
    }
}

/// A store that has every chunk in two packs, and the packs of each half.
fn doubled() -> (Shelf, SnapshotId, [Vec<PackId>; 2]) {
    let shelf = Shelf::new();
    for n in 0..12u64 {
        let lines = (0..3_000 * n).map(|line| format!("{} of {n}\n", line * line % 977)).collect::<String>();
        let bytes = if n % 3 == 0 { noise(n, 60_000) } else { lines.into_bytes() };
        shelf.write(&format!("kept/{n:02}"), &bytes);
    }
    let snapshot = shelf.add("kept");
    let packs = |store: &Store| -> Vec<PackId> {
        let listed = store.storage().list(ObjectKind::Pack).unwrap();
        listed.into_iter().filter_map(|object| object.name.pack()).collect()
    };
    let first = packs(&shelf.store());
    // Another store that cuts in the same way, with other frames.
    let frames = FrameSettings::new(Codec::Zstd, 1, 64 << 10).unwrap();
    let other = shelf.folder.path().join("other");
    let other = Store::init(&other, Settings { frames, profile: "gear-4096".parse().unwrap() }).unwrap();
    let request = AddRequest { paths: vec![shelf.folder.path().join("kept")], ..AddRequest::default() };
    other.add(&request, &Control::default()).unwrap();
    let second = packs(&other);
    for pack in &second {
        let name = ObjectName::Pack(*pack);
        let to = PathBuf::from(shelf.store().storage().describe(&name));
        std::fs::create_dir_all(to.parent().unwrap()).unwrap();
        std::fs::copy(other.storage().describe(&name), to).unwrap();
    }
    assert!(first.iter().all(|pack| !second.contains(pack)));
    (shelf, snapshot, [first, second])
}

/// Changes a byte in each frame of these packs.
fn damage(store: &Store, packs: &[PackId]) {
    for pack in packs {
        let directory = read_directory(store.storage(), *pack).unwrap();
        let path = store.storage().describe(&ObjectName::Pack(*pack));
        let mut bytes = std::fs::read(&path).unwrap();
        for frame in &directory.frames {
            bytes[frame.end() as usize - frame.stored_bytes as usize / 3] ^= 0x20;
        }
        std::fs::write(path, bytes).unwrap();
    }
}

#[test]
fn a_chunk_whose_copy_is_damaged_is_taken_from_another_pack_and_verify_names_the_damage() {
    for damaged in [0, 1] {
        let (shelf, snapshot, packs) = doubled();
        let expected: Vec<Files> =
            all_ways().iter().map(|(_, way)| read(&shelf, &shelf.store(), snapshot, *way).unwrap()).collect();
        damage(&shelf.store(), &packs[damaged]);
        for ((name, way), expected) in all_ways().iter().zip(&expected) {
            let found = read(&shelf, &shelf.store(), snapshot, *way);
            assert!(found.as_ref().is_ok_and(|found| found == expected), "{name}: {:?}", found.err());
        }
        let request = VerifyRequest { depth: Depth::Full, threads: 2 };
        let report = shelf.store().verify(&request, &Control::default()).unwrap();
        for pack in &packs[damaged] {
            assert!(report.damages.iter().any(|damage| damage.object == ObjectName::Pack(*pack)), "{report:?}");
        }
        assert!(
            report.damages.iter().all(|damage| packs[damaged].iter().any(|p| damage.object == ObjectName::Pack(*p)))
        );
    }
}

#[test]
fn where_all_copies_of_a_chunk_are_damaged_the_error_names_the_pack_and_the_frame() {
    let (shelf, snapshot, packs) = doubled();
    damage(&shelf.store(), &packs[0]);
    damage(&shelf.store(), &packs[1]);
    for (name, way) in all_ways() {
        let error = read(&shelf, &shelf.store(), snapshot, way).unwrap_err();
        let Error::Damaged { file, offset, what } = &error else { panic!("{name}: {error:?}") };
        let said = format!("{file} {offset:?} {what}");
        assert!(packs.iter().flatten().any(|pack| said.contains(&pack.to_hex())), "{name}: {said}");
        assert!(said.contains("expected a frame with checksum") && offset.is_some(), "{name}: {said}");
    }
}

#[test]
fn a_pack_that_is_lost_costs_nothing_that_another_has() {
    for lost in [0, 1] {
        let (shelf, snapshot, packs) = doubled();
        // The index knows both.
        let store = shelf.store();
        let reader = store.reader(&Selector::Id(snapshot.to_hex())).unwrap();
        for pack in &packs[lost] {
            store.storage().delete(&ObjectName::Pack(*pack)).unwrap();
        }
        store.storage().close_files();
        for (path, bytes) in shelf.source("kept") {
            assert!(reader.read(shelf.folder.path().join("kept").join(path)).unwrap() == bytes);
        }
    }
}
