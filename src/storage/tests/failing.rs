//! A disk whose every operation fails in turn, and one that writes down what it is asked to do.

use std::ffi::OsString;
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use super::super::disk::{ChangeFile, Disk, ReadFile, SystemDisk, WriteFile};
use super::*;

/// Passes all on to the system, writes it down, and fails one operation.
#[derive(Debug, Clone, Default)]
struct TestDisk {
    log: Arc<Mutex<Vec<String>>>,
    root: PathBuf,
    /// The ordinal of the operation that fails, and how.
    failing: Option<(usize, i32)>,
    /// Every write takes one byte and is interrupted before it does.
    stutters: bool,
    /// This many files are swept away between their creation and their lock.
    sweeps: Arc<AtomicUsize>,
}

const EIO: i32 = 5;
const ENOSPC: i32 = 28;

impl TestDisk {
    /// Writes an operation down; says whether it is the one that fails.
    fn note(&self, operation: &str, path: &Path) -> io::Result<()> {
        let mut log = self.log.lock().unwrap();
        let path = path.strip_prefix(&self.root).unwrap_or(path).display().to_string();
        let path = if path.starts_with("tmp/") { "tmp/*".to_owned() } else { path };
        log.push(format!("{operation} {path}"));
        match self.failing {
            Some((n, errno)) if n + 1 == log.len() => Err(io::Error::from_raw_os_error(errno)),
            _ => Ok(()),
        }
    }
}

impl Disk for TestDisk {
    fn create(&self, path: &Path) -> io::Result<Box<dyn WriteFile>> {
        self.note("create", path)?;
        let file = SystemDisk.create(path)?;
        Ok(Box::new(TestFile { disk: self.clone(), path: path.to_owned(), file, interrupted: false }))
    }
    fn open_to_change(&self, path: &Path) -> io::Result<Box<dyn ChangeFile>> {
        self.note("open to change", path)?;
        SystemDisk.open_to_change(path)
    }
    fn open(&self, path: &Path) -> io::Result<Arc<dyn ReadFile>> {
        self.note("open", path)?;
        SystemDisk.open(path)
    }
    fn make_dir(&self, path: &Path) -> io::Result<()> {
        self.note("mkdir", path)?;
        SystemDisk.make_dir(path)
    }
    fn rename_new(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.note("rename to", to)?;
        SystemDisk.rename_new(from, to)
    }
    fn rename_over(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.note("replace", to)?;
        SystemDisk.rename_over(from, to)
    }
    fn link_new(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.note("link as", to)?;
        SystemDisk.link_new(from, to)
    }
    fn remove(&self, path: &Path) -> io::Result<()> {
        self.note("remove", path)?;
        SystemDisk.remove(path)
    }
    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        self.note("sync folder", path)?;
        SystemDisk.sync_dir(path)
    }
    fn names(&self, path: &Path) -> io::Result<Vec<OsString>> {
        self.note("list", path)?;
        SystemDisk.names(path)
    }
    fn file_bytes(&self, path: &Path) -> io::Result<Option<u64>> {
        self.note("inspect", path)?;
        SystemDisk.file_bytes(path)
    }
    fn is_dir(&self, path: &Path) -> io::Result<bool> {
        SystemDisk.is_dir(path)
    }
    fn remove_unlocked(&self, path: &Path) -> io::Result<bool> {
        self.note("sweep", path)?;
        SystemDisk.remove_unlocked(path)
    }
}

#[derive(Debug)]
struct TestFile {
    disk: TestDisk,
    path: PathBuf,
    file: Box<dyn WriteFile>,
    interrupted: bool,
}

impl WriteFile for TestFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.disk.note("write", &self.path)?;
        self.interrupted = self.disk.stutters && !self.interrupted;
        if self.interrupted {
            return Err(io::ErrorKind::Interrupted.into());
        }
        self.file.write(if self.disk.stutters { &bytes[..1] } else { bytes })
    }
    fn sync(&mut self) -> io::Result<()> {
        self.disk.note("sync", &self.path)?;
        self.file.sync()
    }
    fn lock(&mut self) -> io::Result<bool> {
        let left = self.disk.sweeps.load(Ordering::Relaxed);
        if left > 0 {
            self.disk.sweeps.store(left - 1, Ordering::Relaxed);
            assert!(SystemDisk.remove_unlocked(&self.path)?);
        }
        self.file.lock()
    }
    fn start_writeback(&mut self, _offset: u64, _bytes: u64) {}
}

fn storage_on(disk: &TestDisk) -> LocalStorage {
    LocalStorage::open_on(Arc::new(disk.clone()), disk.root.clone()).unwrap()
}

#[test]
fn an_object_is_synced_before_it_is_named_and_its_folders_after() {
    let folder = tempfile::tempdir().unwrap();
    let disk = TestDisk { root: folder.path().to_owned(), ..TestDisk::default() };
    let storage = storage_on(&disk);
    storage.put_if_absent(&pack(0xab), b"bytes").unwrap();
    let path = pack(0xab).path();
    let named = format!("rename to {path}");
    let expected = ["mkdir tmp", "create tmp/*", "write tmp/*", "sync tmp/*"];
    let folders = ["mkdir packs", "sync folder ", "mkdir packs/ab", "sync folder packs"];
    let last = [named.as_str(), "sync folder packs/ab"];
    assert_eq!(*disk.log.lock().unwrap(), [&expected[..], &folders, &last].concat());

    // Found present: its name may not be durable yet, so the folder is synced all the same. The folders' own names are.
    disk.log.lock().unwrap().clear();
    storage.put_if_absent(&pack(0xab), b"bytes").unwrap();
    let present = [&expected[..], &last, &["remove tmp/*"]].concat();
    assert_eq!(*disk.log.lock().unwrap(), present);

    // Another process cannot know whether they are.
    disk.log.lock().unwrap().clear();
    storage_on(&disk).put_if_absent(&pack(0xab), b"bytes").unwrap();
    let present = [&expected[..], &folders, &last, &["remove tmp/*"]].concat();
    assert_eq!(*disk.log.lock().unwrap(), present);

    disk.log.lock().unwrap().clear();
    storage.delete(&pack(0xab)).unwrap();
    assert_eq!(*disk.log.lock().unwrap(), [format!("remove {path}"), "sync folder packs/ab".to_owned()]);
}

#[test]
fn whichever_operation_fails_an_object_is_whole_or_absent_and_can_be_put_again() {
    for errno in [EIO, ENOSPC] {
        for n in 0.. {
            let folder = tempfile::tempdir().unwrap();
            let disk = TestDisk { root: folder.path().to_owned(), failing: Some((n, errno)), ..TestDisk::default() };
            let storage = storage_on(&disk);
            let result = storage.put_if_absent(&pack(1), b"bytes");
            let ran_through = disk.log.lock().unwrap().len() <= n;
            match &result {
                Ok(put) => assert_eq!(*put, Put::Created),
                Err(Error::Io { source, .. }) => assert_eq!(source.raw_os_error(), Some(errno)),
                Err(other) => panic!("operation {n}: {other:?}"),
            }
            assert_eq!(result.is_ok(), ran_through, "operation {n}: {:?}", disk.log.lock().unwrap().get(n));
            let fine = LocalStorage::open(folder.path()).unwrap();
            if !fine.list(ObjectKind::Pack).unwrap().is_empty() {
                assert_eq!(read(&fine, &pack(1)).unwrap(), b"bytes");
            }
            assert!(files_below(folder.path()).iter().all(|path| !path.starts_with("tmp/")), "operation {n}");
            fine.put_if_absent(&pack(1), b"bytes").unwrap();
            assert_eq!(read(&fine, &pack(1)).unwrap(), b"bytes");
            if ran_through {
                break;
            }
        }
    }
}

#[test]
fn after_a_failed_sync_of_a_folder_a_storage_takes_no_more_writes() {
    let folder = tempfile::tempdir().unwrap();
    let healthy = TestDisk { root: folder.path().to_owned(), ..TestDisk::default() };
    storage_on(&healthy).put_if_absent(&pack(1), b"one").unwrap();
    let last = healthy.log.lock().unwrap().len() - 1;
    fs::remove_file(folder.path().join(pack(1).path())).unwrap();
    let failing = TestDisk { failing: Some((last, EIO)), log: Arc::default(), ..healthy };
    let storage = storage_on(&failing);
    storage.put_if_absent(&pack(1), b"one").unwrap_err();
    assert!(failing.log.lock().unwrap()[last].starts_with("sync folder packs/"));
    for name in [pack(1), pack(2)] {
        let refused = storage.put_if_absent(&name, b"two").unwrap_err();
        assert!(matches!(refused, Error::Io { action: "sync", .. }), "{refused:?}");
        assert!(matches!(storage.delete(&name), Err(Error::Io { .. })));
    }
    // What is there can be read.
    assert_eq!(read(&storage, &pack(1)).unwrap(), b"one");
}

#[test]
fn a_failed_write_or_sync_is_never_finished() {
    let folder = tempfile::tempdir().unwrap();
    for n in [2, 3] {
        let disk = TestDisk { root: folder.path().to_owned(), failing: Some((n, EIO)), ..TestDisk::default() };
        let storage = storage_on(&disk);
        let mut writer = storage.writer().unwrap();
        let wrote = writer.write(&vec![1; 1 << 20]);
        assert_eq!(wrote.is_err(), n == 2);
        if n == 2 {
            assert!(writer.write(b"more").is_err() || writer.write(&vec![1; 1 << 20]).is_err());
        }
        writer.finish(&pack(1)).unwrap_err();
        assert_eq!(files_below(folder.path()), BTreeSet::new());
    }
}

#[test]
fn short_and_interrupted_writes_are_carried_on() {
    let folder = tempfile::tempdir().unwrap();
    let disk = TestDisk { root: folder.path().to_owned(), stutters: true, ..TestDisk::default() };
    let storage = storage_on(&disk);
    storage.put_if_absent(&pack(1), b"every byte of it").unwrap();
    assert_eq!(read(&storage, &pack(1)).unwrap(), b"every byte of it");
}

#[test]
fn a_writer_whose_file_was_swept_before_it_was_locked_takes_another() {
    let folder = tempfile::tempdir().unwrap();
    let disk = TestDisk { root: folder.path().to_owned(), ..TestDisk::default() };
    disk.sweeps.store(3, Ordering::Relaxed);
    let storage = storage_on(&disk);
    assert_eq!(storage.put_if_absent(&pack(1), b"bytes").unwrap(), Put::Created);
    assert_eq!(read(&storage, &pack(1)).unwrap(), b"bytes");
    disk.sweeps.store(usize::MAX, Ordering::Relaxed);
    assert!(matches!(storage.put_if_absent(&pack(2), b"bytes"), Err(Error::Io { .. })));
}

#[test]
fn with_too_many_files_open_those_kept_for_reading_are_closed() {
    const EMFILE: i32 = 24;
    let folder = tempfile::tempdir().unwrap();
    let fine = LocalStorage::open(folder.path()).unwrap();
    fine.put_if_absent(&pack(1), b"one").unwrap();
    fine.put_if_absent(&pack(2), b"two").unwrap();
    let disk = TestDisk { root: folder.path().to_owned(), failing: Some((1, EMFILE)), ..TestDisk::default() };
    let storage = storage_on(&disk);
    let mut buffer = [0; 3];
    for (n, expected) in [(1, b"one"), (1, b"one"), (2, b"two"), (1, b"one")] {
        storage.read_at(&pack(n), 0, &mut buffer).unwrap();
        assert_eq!(&buffer, expected);
    }
    // The third read fails to open, closes the first file, and opens; the fourth opens the first file again.
    let [one, two] = [1, 2].map(|n| format!("open {}", pack(n).path()));
    assert_eq!(*disk.log.lock().unwrap(), [one.clone(), two.clone(), two, one]);
}
