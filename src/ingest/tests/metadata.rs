use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::symlink;

use rustix::fs::{XattrFlags, lsetxattr};

use super::*;
use crate::format::entry::{Content, EntryKind, Identity};
use crate::ingest::{Metadata, OpenFile, standard_input};
use crate::testing::skip::skipped;

#[test]
fn an_entry_says_what_the_system_said() {
    let dir = tempfile::tempdir().unwrap();
    let disk = dir.path().join("file");
    fs::write(&disk, b"12345").unwrap();
    let time = std::time::UNIX_EPOCH + std::time::Duration::new(1_700_000_000, 123_456_789);
    fs::File::options().append(true).open(&disk).unwrap().set_modified(time).unwrap();
    let found = find(&disk);
    let completed = Metadata::new().complete(&found).unwrap();
    assert!(completed.lost.is_empty(), "{:?}", completed.lost);
    let entry = completed.entry;
    assert_eq!((entry.path.clone(), entry.kind, entry.size), (path("it"), EntryKind::File, 5));
    assert_eq!(entry.mtime_ns, 1_700_000_000_123_456_789);
    assert_eq!((entry.mode, entry.identity, entry.content), (found.stat.mode, found.stat.identity, Content::Empty));
    assert_eq!(entry.uid, rustix::process::geteuid().as_raw());
    if is_root() {
        assert_eq!(entry.user.as_deref(), Some("root"));
    }
    // What is asked of the open file is the same.
    let file = OpenFile::open(&found).unwrap();
    assert_eq!(Metadata::new().complete_open(&found, &file).entry, entry);
}

#[test]
fn link_targets_are_bytes_and_may_lead_nowhere() {
    let dir = tempfile::tempdir().unwrap();
    let disk = dir.path().join("link");
    for target in [&b"../no\xff\nwhere"[..], &[b'x'; 4000]] {
        symlink(OsStr::from_bytes(target), &disk).unwrap();
        let entry = Metadata::new().complete(&find(&disk)).unwrap().entry;
        assert_eq!((entry.kind, entry.link_target.as_slice(), entry.size), (EntryKind::Symlink, target, 0));
        fs::remove_file(&disk).unwrap();
    }
}

#[test]
fn a_link_that_became_something_else_is_an_error() {
    let dir = tempfile::tempdir().unwrap();
    let disk = dir.path().join("link");
    symlink("target", &disk).unwrap();
    let found = find(&disk);
    fs::remove_file(&disk).unwrap();
    assert_eq!(kind_of(&Metadata::new().complete(&found).unwrap_err()), std::io::ErrorKind::NotFound);
    fs::write(&disk, b"").unwrap();
    let error = Metadata::new().complete(&found).unwrap_err();
    assert!(format!("{error:?}").contains("took its place"), "{error:?}");
}

#[test]
fn attributes_come_by_name_whatever_their_size() {
    let dir = tempfile::tempdir().unwrap();
    let disk = dir.path().join("file");
    fs::write(&disk, b"").unwrap();
    // Longer and shorter than the first buffer, empty, and exactly it. (ext4 lists short values first.)
    let values = [("user.c", vec![1; 1500]), ("user.z", vec![]), ("user.m", vec![0; 256]), ("user.b", vec![0xff; 3])];
    for (name, value) in &values {
        if let Err(errno) = lsetxattr(&disk, *name, value, XattrFlags::empty()) {
            skipped(&format!("no attributes here ({errno})"));
            return;
        }
    }
    let mut expected: Vec<_> = values.iter().map(|(name, value)| (name.as_bytes().to_vec(), value.clone())).collect();
    expected.sort();
    let found = find(&disk);
    let file = OpenFile::open(&found).unwrap();
    let metadata = Metadata::new();
    for completed in [metadata.complete(&found).unwrap(), metadata.complete_open(&found, &file)] {
        assert!(completed.lost.is_empty(), "{:?}", completed.lost);
        let read: Vec<_> = completed.entry.xattrs.into_iter().map(|x| (x.name, x.value)).collect();
        assert_eq!(read, expected);
    }
}

#[test]
fn a_link_has_attributes_of_its_own() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("file"), b"").unwrap();
    symlink("file", dir.path().join("link")).unwrap();
    if lsetxattr(dir.path().join("file"), "user.of-the-file", b"x", XattrFlags::empty()).is_err() {
        skipped("no attributes here");
        return;
    }
    let entry = Metadata::new().complete(&find(&dir.path().join("link"))).unwrap().entry;
    assert!(entry.xattrs.iter().all(|x| x.name != b"user.of-the-file"), "{:?}", entry.xattrs);
}

#[test]
fn standard_input_is_a_file_of_this_process() {
    let entry = standard_input(path("dump/db.sql"));
    assert_eq!((entry.kind, entry.size, entry.identity), (EntryKind::File, 0, Identity::default()));
    assert_eq!(entry.mode & !0o644, 0);
    assert_eq!(entry.uid, rustix::process::geteuid().as_raw());
    // After 2020, in nanoseconds.
    assert!(entry.mtime_ns > 1_577_836_800_000_000_000);
}
