//! Storage in memory and on disk behave alike; on disk, nothing half made is ever seen or left.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

mod failing;

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::sync::Barrier;

use super::*;
use crate::format::id::{PackId, RecipesFileId, SnapshotId};

fn pack(n: u8) -> ObjectName {
    ObjectName::Pack(PackId([n; 32]))
}

fn both(test: impl Fn(&dyn Storage)) {
    test(&MemoryStorage::new());
    let folder = tempfile::tempdir().unwrap();
    test(&LocalStorage::create(folder.path().join("a/b")).unwrap());
}

fn read(storage: &dyn Storage, name: &ObjectName) -> Result<Vec<u8>> {
    let mut bytes = vec![0; storage.size(name)? as usize];
    storage.read_at(name, 0, &mut bytes)?;
    Ok(bytes)
}

fn files_below(folder: &Path) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(next) = folders.pop() {
        for entry in fs::read_dir(next).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else {
                found.insert(path.strip_prefix(folder).unwrap().to_str().unwrap().to_owned());
            }
        }
    }
    found
}

#[test]
fn what_is_put_reads_back_and_is_never_replaced() {
    both(|storage| {
        let names = [
            ObjectName::Config,
            pack(1),
            ObjectName::Recipes(RecipesFileId([2; 32])),
            ObjectName::Snapshot(SnapshotId([3; 32])),
        ];
        for name in names {
            assert!(matches!(read(storage, &name), Err(Error::NotFound { .. })));
            assert_eq!(storage.put_if_absent(&name, b"first").unwrap(), Put::Created);
            assert_eq!(storage.put_if_absent(&name, b"second, longer").unwrap(), Put::Present);
            let mut writer = storage.writer().unwrap();
            writer.write(b"third").unwrap();
            assert_eq!(writer.finish(&name).unwrap(), Put::Present);
            assert_eq!(read(storage, &name).unwrap(), b"first");
            assert!(storage.describe(&name).contains(&name.path()));
        }
    });
}

#[test]
fn an_object_is_nowhere_until_it_is_finished() {
    both(|storage| {
        let mut writer = storage.writer().unwrap();
        writer.write(b"ab").unwrap();
        writer.write(b"").unwrap();
        assert_eq!(storage.list(ObjectKind::Pack).unwrap(), []);
        // More than any buffer, so that some of it is on its way.
        writer.write(&vec![b'c'; 3 << 20]).unwrap();
        writer.write(b"d").unwrap();
        assert_eq!(storage.list(ObjectKind::Pack).unwrap(), []);
        assert_eq!(writer.finish(&pack(1)).unwrap(), Put::Created);
        let expected = [b"ab".to_vec(), vec![b'c'; 3 << 20], b"d".to_vec()].concat();
        assert!(read(storage, &pack(1)).unwrap() == expected);
    });
}

#[test]
fn reads_are_of_exactly_what_was_asked_for() {
    both(|storage| {
        storage.put_if_absent(&pack(1), b"0123456789").unwrap();
        let at = |offset, count| {
            let mut buffer = vec![0; count];
            storage.read_at(&pack(1), offset, &mut buffer).map(|()| buffer)
        };
        assert_eq!(at(3, 4).unwrap(), b"3456");
        assert_eq!(at(0, 10).unwrap(), b"0123456789");
        assert_eq!(at(10, 0).unwrap(), b"");
        for (offset, count, ends) in [(3, 8, 10), (10, 1, 10), (11, 1, 11), (u64::MAX, 1, u64::MAX)] {
            match at(offset, count) {
                Err(Error::Damaged { file, offset: found, .. }) => {
                    assert_eq!((file, found), (pack(1).path(), Some(ends)), "{offset} {count}");
                }
                // The system takes no offset beyond the largest file.
                Err(Error::Io { .. }) => assert_eq!(offset, u64::MAX),
                other => panic!("{offset} {count}: {other:?}"),
            }
        }
    });
}

#[test]
fn listing_gives_each_kind_with_sizes_and_deleting_removes() {
    both(|storage| {
        for kind in [ObjectKind::Pack, ObjectKind::Recipes, ObjectKind::Snapshot] {
            assert_eq!(storage.list(kind).unwrap(), []);
        }
        storage.put_if_absent(&ObjectName::Config, b"{}").unwrap();
        for n in [1, 2, 0xab] {
            storage.put_if_absent(&pack(n), &vec![n; usize::from(n)]).unwrap();
        }
        let snapshot = ObjectName::Snapshot(SnapshotId([9; 32]));
        storage.put_if_absent(&snapshot, b"rows").unwrap();
        let packs = |storage: &dyn Storage| {
            let mut listed = storage.list(ObjectKind::Pack).unwrap();
            listed.sort();
            listed.iter().map(|listed| (listed.name, listed.bytes)).collect::<Vec<_>>()
        };
        assert_eq!(packs(storage), [(pack(1), 1), (pack(2), 2), (pack(0xab), 0xab)]);
        assert_eq!(storage.list(ObjectKind::Snapshot).unwrap(), [Listed { name: snapshot, bytes: 4 }]);
        assert_eq!(read(storage, &pack(2)).unwrap(), [2, 2]);
        storage.delete(&pack(2)).unwrap();
        storage.delete(&pack(2)).unwrap();
        assert_eq!(packs(storage), [(pack(1), 1), (pack(0xab), 0xab)]);
        assert!(matches!(read(storage, &pack(2)), Err(Error::NotFound { .. })));
        assert!(matches!(storage.read_at(&pack(2), 0, &mut [0]), Err(Error::NotFound { .. })));
        // A name that was freed can be given again, with other bytes.
        storage.put_if_absent(&pack(2), b"again").unwrap();
        assert_eq!(read(storage, &pack(2)).unwrap(), b"again");
    });
}

#[test]
fn of_many_that_put_one_object_at_once_one_makes_it() {
    both(|storage| {
        for round in 0..20 {
            let (threads, barrier) = (4, Barrier::new(4));
            let created = std::thread::scope(|scope| {
                let put = || {
                    barrier.wait();
                    let put = storage.put_if_absent(&pack(round), &[round; 1000]).unwrap();
                    // An object that is reported as present can be read.
                    assert_eq!(read(storage, &pack(round)).unwrap(), [round; 1000]);
                    put == Put::Created
                };
                let all: Vec<_> = (0..threads).map(|_| scope.spawn(put)).collect();
                all.into_iter().filter(|_| true).map(|thread| usize::from(thread.join().unwrap())).sum::<usize>()
            });
            assert_eq!(created, 1);
        }
    });
}

#[test]
fn nothing_temporary_is_left_by_writers_that_finish_find_or_give_up() {
    let folder = tempfile::tempdir().unwrap();
    let storage = LocalStorage::create(folder.path()).unwrap();
    storage.put_if_absent(&pack(1), b"x").unwrap();
    storage.put_if_absent(&pack(1), b"x").unwrap();
    let mut writer = storage.writer().unwrap();
    writer.write(&vec![0; 1 << 20]).unwrap();
    assert_eq!(files_below(&folder.path().join("tmp")).len(), 1);
    drop(writer);
    assert_eq!(files_below(folder.path()), BTreeSet::from([pack(1).path()]));
}

#[test]
fn a_sweep_takes_what_the_dead_left_and_nothing_else() {
    let folder = tempfile::tempdir().unwrap();
    let storage = LocalStorage::create(folder.path()).unwrap();
    assert_eq!(storage.sweep_temporaries().unwrap(), 0);
    let mut alive = storage.writer().unwrap();
    alive.write(b"alive").unwrap();
    // A process that died left its file and its lock went with it.
    fs::write(folder.path().join("tmp/1-0-0123456789abcdef.tmp"), b"half a pack").unwrap();
    fs::write(folder.path().join("tmp/a stranger"), b"").unwrap();
    fs::create_dir(folder.path().join("tmp/folder.tmp")).unwrap();
    let other = LocalStorage::open(folder.path()).unwrap();
    assert_eq!(other.sweep_temporaries().unwrap(), 1);
    assert_eq!(other.sweep_temporaries().unwrap(), 0);
    assert_eq!(alive.finish(&pack(1)).unwrap(), Put::Created);
    assert_eq!(read(&storage, &pack(1)).unwrap(), b"alive");
    assert_eq!(files_below(folder.path()), BTreeSet::from([pack(1).path(), "tmp/a stranger".to_owned()]));
}

#[test]
fn sweeps_never_take_a_file_from_a_writer() {
    let folder = tempfile::tempdir().unwrap();
    let storage = LocalStorage::create(folder.path()).unwrap();
    let done = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !done.load(std::sync::atomic::Ordering::Relaxed) {
                storage.sweep_temporaries().unwrap();
            }
        });
        let written: Result<Vec<Put>> = (0..100).map(|n| storage.put_if_absent(&pack(n), &[n])).collect();
        done.store(true, std::sync::atomic::Ordering::Relaxed);
        assert!(written.unwrap().iter().all(|put| *put == Put::Created));
    });
    assert_eq!(storage.list(ObjectKind::Pack).unwrap().len(), 100);
}

#[test]
fn listing_passes_over_strangers() {
    let folder = tempfile::tempdir().unwrap();
    let storage = LocalStorage::create(folder.path()).unwrap();
    storage.put_if_absent(&pack(0xab), b"pack").unwrap();
    let hex = PackId([0xcd; 32]).to_hex();
    for path in ["packs/xyz", "packs/ab/README", "packs/zz/x.pack", "recipes/x.arrow", "snapshots/.x"] {
        let path = folder.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, b"?").unwrap();
    }
    fs::write(folder.path().join(format!("packs/ab/{hex}.pack")), b"in the wrong folder").unwrap();
    fs::create_dir_all(folder.path().join(format!("packs/cd/{hex}.pack"))).unwrap();
    std::os::unix::fs::symlink("nowhere", folder.path().join(format!("recipes/{hex}.arrow"))).unwrap();
    let pipe = PackId([0xce; 32]).to_hex();
    let pipes = [folder.path().join(format!("packs/ce/{pipe}.pack")), folder.path().join("tmp/pipe.tmp")];
    for path in &pipes {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        let mode = rustix::fs::Mode::from(0o600);
        rustix::fs::mknodat(rustix::fs::CWD, path, rustix::fs::FileType::Fifo, mode, 0).unwrap();
    }
    use std::os::unix::ffi::OsStrExt;
    fs::write(folder.path().join("packs").join(std::ffi::OsStr::from_bytes(b"\xff\xfe")), b"").unwrap();
    assert_eq!(storage.list(ObjectKind::Pack).unwrap(), [Listed { name: pack(0xab), bytes: 4 }]);
    assert_eq!(storage.list(ObjectKind::Recipes).unwrap(), []);
    assert_eq!(storage.list(ObjectKind::Snapshot).unwrap(), []);
    // A directory or a pipe in an object's place is an error, not an object of some size, and not waited for.
    for name in [0xcd, 0xce].map(pack) {
        assert!(matches!(storage.size(&name), Err(Error::Io { .. })));
        assert!(matches!(storage.read_at(&name, 0, &mut [0]), Err(Error::Io { .. })));
    }
    assert_eq!(storage.sweep_temporaries().unwrap(), 1);
}

#[test]
fn more_objects_than_files_are_kept_open_are_read_and_seen_deleted() {
    let folder = tempfile::tempdir().unwrap();
    let storage = LocalStorage::create(folder.path()).unwrap();
    for n in 0..100 {
        storage.put_if_absent(&pack(n), &[n]).unwrap();
    }
    let open_files = || fs::read_dir("/proc/self/fd").unwrap().flatten().filter_map(|fd| fs::read_link(fd.path()).ok());
    for _ in 0..2 {
        for n in 0..100 {
            assert_eq!(read(&storage, &pack(n)).unwrap(), [n]);
        }
        let packs = open_files().filter(|path| path.starts_with(folder.path())).count();
        assert!((1..=24).contains(&packs), "{packs} files are open");
    }
    storage.delete(&pack(99)).unwrap();
    assert!(matches!(storage.read_at(&pack(99), 0, &mut [0]), Err(Error::NotFound { .. })));
}

#[test]
fn what_is_no_directory_is_no_store_and_opening_writes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("file");
    fs::write(&file, b"").unwrap();
    for path in [file.clone(), folder.path().join("absent")] {
        assert!(matches!(LocalStorage::open(&path), Err(Error::NotAStore { .. })), "{path:?}");
    }
    assert!(matches!(LocalStorage::create(&file), Err(Error::NotAStore { .. })));
    LocalStorage::create(file.join("below")).unwrap_err();
    let empty = folder.path().join("empty");
    fs::create_dir(&empty).unwrap();
    let storage = LocalStorage::open(&empty).unwrap();
    storage.list(ObjectKind::Pack).unwrap();
    storage.sweep_temporaries().unwrap();
    storage.delete(&pack(1)).unwrap();
    assert_eq!(fs::read_dir(&empty).unwrap().count(), 0);
}
