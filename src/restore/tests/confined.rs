//! Invariant 8: a restore never writes outside its destination, whatever the snapshot says and whatever is there.

use std::os::unix::fs::symlink;

use super::*;
use crate::testing::skip::skipped;

/// Runs a test with the kernel's resolution and with that part by part.
fn both_ways(test: impl Fn(&dyn Fn(&Destination))) {
    test(&|_| {});
    test(&|destination| destination.beneath.resolve_by_part());
}

/// Everything that can be made, tried at a path that must be refused.
fn assert_all_refused(destination: &Destination, at: &str) {
    let at = path(at);
    destination.make_file(&path("fine")).map(drop).unwrap();
    let results = [
        destination.make_directory(&at),
        destination.make_file(&at).map(drop),
        destination.make_symlink(&at, &link("x")).map(drop),
        destination.make_node(&at, &entry(EntryKind::Fifo)).map(drop),
        destination.make_hard_link(&path("fine"), &at),
        destination.make_hard_link(&at, &path("fine2")),
        destination.remove_partial(&at),
        destination.finish_directory(&at, &entry(EntryKind::Directory)).map(drop),
    ];
    for (place, result) in results.into_iter().enumerate() {
        assert!(matches!(result, Err(Error::Refused { .. })), "{place}: {result:?}");
    }
    destination.remove_partial(&path("fine")).unwrap();
}

fn outside() -> tempfile::TempDir {
    let outside = tempfile::tempdir().unwrap();
    fs::create_dir(outside.path().join("sub")).unwrap();
    fs::write(outside.path().join("precious"), b"precious").unwrap();
    outside
}

fn assert_untouched(outside: &tempfile::TempDir) {
    let mut names: Vec<_> = fs::read_dir(outside.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    names.sort();
    assert_eq!(names, ["precious", "sub"]);
    assert_eq!(fs::read_dir(outside.path().join("sub")).unwrap().count(), 0);
    assert_eq!(fs::read(outside.path().join("precious")).unwrap(), b"precious");
}

#[test]
fn a_link_the_snapshot_brings_is_not_followed() {
    both_ways(|prepare| {
        for overwrite in [false, true] {
            let outside = outside();
            let (_dir, _, destination) = out(overwrite);
            prepare(&destination);
            let target = outside.path().to_str().unwrap();
            destination.make_symlink(&path("a"), &link(target)).unwrap();
            destination.make_directory(&path("real")).unwrap();
            destination.make_symlink(&path("real/back"), &link("..")).unwrap();
            assert_all_refused(&destination, "a/b");
            assert_all_refused(&destination, "a/sub/b");
            assert_all_refused(&destination, "real/back/b");
            assert_untouched(&outside);
        }
    });
}

#[test]
fn a_link_that_was_there_before_is_not_followed() {
    both_ways(|prepare| {
        let outside = outside();
        let (_dir, at, destination) = out(true);
        prepare(&destination);
        symlink(outside.path(), at.join("a")).unwrap();
        symlink(outside.path().join("precious"), at.join("file")).unwrap();
        symlink(outside.path().join("sub"), at.join("directory")).unwrap();
        assert_all_refused(&destination, "a/b");
        // In the last place it is replaced, never written through.
        put(&destination, "file", b"new", &entry(EntryKind::File)).unwrap();
        assert!(fs::symlink_metadata(at.join("file")).unwrap().is_file());
        destination.make_directory(&path("directory")).unwrap();
        put(&destination, "directory/x", b"new", &entry(EntryKind::File)).unwrap();
        assert!(fs::symlink_metadata(at.join("directory")).unwrap().is_dir());
        assert_untouched(&outside);
    });
}

#[test]
fn without_overwrite_a_link_in_the_last_place_is_left_alone() {
    let outside = outside();
    let (_dir, at, destination) = out(false);
    symlink(outside.path().join("precious"), at.join("file")).unwrap();
    symlink(outside.path().join("new"), at.join("dangling")).unwrap();
    for name in ["file", "dangling"] {
        let result = put(&destination, name, b"new", &entry(EntryKind::File));
        assert!(matches!(result, Err(Error::Exists { .. })), "{result:?}");
        let result = destination.make_directory(&path(name));
        assert!(matches!(result, Err(Error::Exists { .. })), "{result:?}");
    }
    assert_untouched(&outside);
}

#[test]
fn a_directory_that_turns_into_a_link_meanwhile_is_not_followed() {
    both_ways(|prepare| {
        let outside = outside();
        let (dir, at, destination) = out(false);
        prepare(&destination);
        destination.make_directory(&path("d")).unwrap();
        put(&destination, "d/first", b"", &entry(EntryKind::File)).unwrap();
        fs::rename(at.join("d"), dir.path().join("moved")).unwrap();
        symlink(outside.path(), at.join("d")).unwrap();
        // Still open from before: what is made goes where the directory went, not where the link leads.
        put(&destination, "d/second", b"", &entry(EntryKind::File)).unwrap();
        assert!(dir.path().join("moved/second").exists());
        // Resolved anew: refused.
        for n in 0..40 {
            let other = path(format!("other{n}"));
            destination.make_directory(&other).unwrap();
            drop(destination.make_file(&other.join(b"file").unwrap()).unwrap());
        }
        assert_all_refused(&destination, "d/third");
        assert_untouched(&outside);
    });
}

#[test]
fn a_node_or_link_never_takes_metadata_elsewhere() {
    let outside = outside();
    let precious = outside.path().join("precious");
    let (_dir, _, destination) = out(false);
    let before = fs::metadata(&precious).unwrap();
    let hostile = Entry {
        mode: 0o7777,
        xattrs: vec![Xattr { name: b"user.mark".to_vec(), value: b"x".to_vec() }],
        ..link(precious.to_str().unwrap())
    };
    destination.make_symlink(&path("l"), &hostile).unwrap();
    let after = fs::metadata(&precious).unwrap();
    assert_eq!((before.mode(), before.ctime_nsec()), (after.mode(), after.ctime_nsec()));
}

#[test]
fn hard_links_are_made_to_links_not_through_them() {
    let outside = outside();
    let (_dir, at, destination) = out(true);
    destination.make_symlink(&path("l"), &link(outside.path().join("precious").to_str().unwrap())).unwrap();
    destination.make_hard_link(&path("l"), &path("m")).unwrap();
    assert!(fs::symlink_metadata(at.join("m")).unwrap().is_symlink());
    put(&destination, "m", b"new", &entry(EntryKind::File)).unwrap();
    assert_untouched(&outside);
}

#[test]
fn the_way_to_the_destination_is_the_users_own() {
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir(dir.path().join("real")).unwrap();
    symlink("real", dir.path().join("way")).unwrap();
    let destination = Destination::create(&dir.path().join("way/out"), false).unwrap();
    put(&destination, "", b"x", &entry(EntryKind::File)).unwrap();
    assert_eq!(fs::read(dir.path().join("real/out")).unwrap(), b"x");
}

#[test]
fn a_directory_that_cannot_be_written_is_an_error() {
    if is_root() {
        skipped("root may write everywhere");
        return;
    }
    let (_dir, at, destination) = out(true);
    fs::create_dir(at.join("mine")).unwrap();
    fs::set_permissions(at.join("mine"), fs::Permissions::from_mode(0o500)).unwrap();
    let result = destination.make_file(&path("mine/x"));
    assert!(matches!(&result, Err(Error::Io { source, .. }) if source.kind() == std::io::ErrorKind::PermissionDenied));
    // A directory of the snapshot is opened up for as long as it takes.
    destination.make_directory(&path("mine")).unwrap();
    put(&destination, "mine/x", b"", &entry(EntryKind::File)).unwrap();
    destination.finish_directory(&path("mine"), &Entry { mode: 0o500, ..entry(EntryKind::Directory) }).unwrap();
    assert_eq!(mode(&at.join("mine")), 0o500);
    fs::set_permissions(at.join("mine"), fs::Permissions::from_mode(0o700)).unwrap();
}
