//! What local storage asks of a disk, in which order, and what it makes of a disk that fails.

use rustix::io::Errno;

use std::sync::Arc;

use super::*;
use crate::testing::disk::{Fault, FaultyDisk, Op};

fn storage_on(disk: &FaultyDisk, folder: &Path) -> LocalStorage {
    let storage = LocalStorage::open_on(Arc::new(disk.clone()), folder.to_owned()).unwrap();
    disk.take_asked();
    storage
}

#[test]
fn an_object_is_synced_before_it_is_named_and_its_folders_after() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path();
    let disk = FaultyDisk::default();
    let storage = storage_on(&disk, root);
    storage.put_if_absent(&pack(0xab), b"bytes").unwrap();
    let path = pack(0xab).path();
    let named = format!("rename to {path}");
    let expected = ["mkdir tmp", "create tmp/*", "write tmp/*", "sync tmp/*"];
    let folders = ["mkdir packs", "sync folder ", "mkdir packs/ab", "sync folder packs"];
    let last = [named.as_str(), "sync folder packs/ab"];
    assert_eq!(disk.take_lines(root), [&expected[..], &folders, &last].concat());

    // Found present: its name may not be durable yet, so the folder is synced all the same. The folders' own names are.
    storage.put_if_absent(&pack(0xab), b"bytes").unwrap();
    let present = [&expected[..], &last, &["remove tmp/*"]].concat();
    assert_eq!(disk.take_lines(root), present);

    // Another process cannot know whether they are.
    storage_on(&disk, root).put_if_absent(&pack(0xab), b"bytes").unwrap();
    let present = [&expected[..], &folders, &last, &["remove tmp/*"]].concat();
    assert_eq!(disk.take_lines(root), present);

    storage.delete(&pack(0xab)).unwrap();
    assert_eq!(disk.take_lines(root), [format!("remove {path}"), "sync folder packs/ab".to_owned()]);
}

#[test]
fn whichever_operation_fails_an_object_is_whole_or_absent_and_can_be_put_again() {
    for errno in [Errno::IO, Errno::NOSPC] {
        for n in 0.. {
            let folder = tempfile::tempdir().unwrap();
            let disk = FaultyDisk::default();
            let storage = storage_on(&disk, folder.path());
            disk.fault(Fault::Fails(errno), n, Op::any);
            let result = storage.put_if_absent(&pack(1), b"bytes");
            let struck = disk.struck();
            match &result {
                Ok(put) => assert_eq!(*put, Put::Created),
                Err(Error::Io { source, .. }) => assert_eq!(source.raw_os_error(), Some(errno.raw_os_error())),
                Err(other) => panic!("operation {n}: {other:?}"),
            }
            assert_eq!(result.is_ok(), struck.is_none(), "operation {n}: {struck:?}");
            let fine = LocalStorage::open(folder.path()).unwrap();
            if !fine.list(ObjectKind::Pack).unwrap().is_empty() {
                assert_eq!(read(&fine, &pack(1)).unwrap(), b"bytes");
            }
            assert!(files_below(folder.path()).iter().all(|path| !path.starts_with("tmp/")), "operation {n}");
            fine.put_if_absent(&pack(1), b"bytes").unwrap();
            assert_eq!(read(&fine, &pack(1)).unwrap(), b"bytes");
            if struck.is_none() {
                break;
            }
        }
    }
}

#[test]
fn after_a_failed_sync_of_a_folder_a_storage_takes_no_more_writes() {
    let folder = tempfile::tempdir().unwrap();
    // The third folder that is synced is the one the object is in.
    let disk = FaultyDisk::default();
    let storage = storage_on(&disk, folder.path());
    disk.fault(Fault::Fails(Errno::IO), 2, |op| op == Op::SyncDir);
    storage.put_if_absent(&pack(1), b"one").unwrap_err();
    assert!(disk.struck().unwrap().path.ends_with("packs/01"));
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
    for failing in [Op::Write, Op::Sync] {
        let disk = FaultyDisk::default();
        let storage = storage_on(&disk, folder.path());
        disk.fault(Fault::Fails(Errno::IO), 0, if failing == Op::Write { Op::moves_bytes } else { Op::is_sync });
        let mut writer = storage.writer().unwrap();
        let wrote = writer.write(&vec![1; 1 << 20]);
        assert_eq!(wrote.is_err(), failing == Op::Write);
        if failing == Op::Write {
            assert!(writer.write(b"more").is_err() || writer.write(&vec![1; 1 << 20]).is_err());
        }
        writer.finish(&pack(1)).unwrap_err();
        assert_eq!(disk.struck().unwrap().op, failing);
        assert_eq!(files_below(folder.path()), BTreeSet::new());
        // Nor is a sync that failed tried again.
        assert!(disk.take_asked().iter().filter(|asked| asked.op.is_sync()).count() <= 1);
    }
}

#[test]
fn short_and_interrupted_writes_are_carried_on() {
    let folder = tempfile::tempdir().unwrap();
    let storage = storage_on(&FaultyDisk::stuttering(), folder.path());
    storage.put_if_absent(&pack(1), b"every byte of it").unwrap();
    assert_eq!(read(&storage, &pack(1)).unwrap(), b"every byte of it");
}

#[test]
fn with_too_many_files_open_those_kept_for_reading_are_closed() {
    let folder = tempfile::tempdir().unwrap();
    let fine = LocalStorage::open(folder.path()).unwrap();
    fine.put_if_absent(&pack(1), b"one").unwrap();
    fine.put_if_absent(&pack(2), b"two").unwrap();
    let disk = FaultyDisk::default();
    let storage = storage_on(&disk, folder.path());
    disk.fault(Fault::Fails(Errno::MFILE), 1, |op| op == Op::Open);
    let mut buffer = [0; 3];
    for (n, expected) in [(1, b"one"), (1, b"one"), (2, b"two"), (1, b"one")] {
        storage.read_at(&pack(n), 0, &mut buffer).unwrap();
        assert_eq!(&buffer, expected);
    }
    // The third read fails to open, closes the first file, and opens; the fourth opens the first file again.
    let opened: Vec<_> = disk.take_asked().into_iter().filter(|asked| asked.op == Op::Open).collect();
    let expected = [1, 2, 2, 1].map(|n| folder.path().join(pack(n).path()));
    assert!(opened.iter().map(|asked| &asked.path).eq(&expected), "{opened:?}");
}
