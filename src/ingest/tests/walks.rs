use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{PermissionsExt, symlink};

use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags, mkdirat, mknodat, openat, unlinkat};

use super::*;
use crate::format::entry::EntryKind;
use crate::testing::random::TestRng;
use crate::testing::skip::skipped;

/// Names that sort differently by bytes, by characters, and against the separator.
const NAMES: [&[u8]; 12] =
    [b"a", b"a.b", b"a-b", b"a b", b"A", b"ab", b"\xff\xfe", b"\x01", b"new\nline", "\u{e4}".as_bytes(), b"-", b"~"];

#[test]
fn entries_come_in_the_order_of_their_paths_each_once() {
    for seed in 0..24 {
        let mut random = TestRng(seed);
        let dir = tempfile::tempdir().unwrap();
        let mut made = BTreeMap::from([(EntryPath::default(), EntryKind::Directory)]);
        let mut directories = vec![EntryPath::default()];
        for _ in 0..150 {
            let parent = directories[random.index(directories.len())].clone();
            let entry = parent.join(NAMES[random.index(NAMES.len())]).unwrap();
            if made.contains_key(&entry) {
                continue;
            }
            let disk = dir.path().join(entry.as_path());
            let kind = match random.index(4) {
                0 => EntryKind::File,
                1 => EntryKind::Symlink,
                _ => EntryKind::Directory,
            };
            match kind {
                EntryKind::File => fs::write(&disk, b"x").unwrap(),
                EntryKind::Symlink => symlink("/", &disk).unwrap(),
                _ => {
                    fs::create_dir(&disk).unwrap();
                    directories.push(entry.clone());
                }
            }
            made.insert(entry, kind);
        }
        let (found, failed) = walk(dir.path());
        assert!(failed.is_empty(), "{failed:?}");
        let met: Vec<_> = found.into_iter().map(|found| (found.path, found.stat.kind)).collect();
        assert_eq!(met, made.into_iter().collect::<Vec<_>>(), "seed {seed}");
    }
}

#[test]
fn every_kind_of_entry_is_told_apart() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    fs::write(at("file"), b"12345").unwrap();
    fs::hard_link(at("file"), at("file2")).unwrap();
    fs::create_dir(at("directory")).unwrap();
    symlink("nowhere", at("link")).unwrap();
    mknodat(CWD, at("fifo"), FileType::Fifo, Mode::RUSR, 0).unwrap();
    mknodat(CWD, at("socket"), FileType::Socket, Mode::RUSR, 0).unwrap();
    let device = mknodat(CWD, at("null"), FileType::CharacterDevice, Mode::RUSR, rustix::fs::makedev(1, 3));
    fs::set_permissions(at("file"), fs::Permissions::from_mode(0o4750)).unwrap();

    let (found, failed) = walk(dir.path());
    assert!(failed.is_empty(), "{failed:?}");
    let stat = |name: &str| found.iter().find(|found| found.path == path(name)).unwrap().stat;
    assert_eq!(stat("file").kind, EntryKind::File);
    assert_eq!((stat("file").size, stat("file").mode), (5, 0o4750));
    assert_eq!(stat("file").identity, stat("file2").identity);
    assert_eq!(stat("file").identity.links, 2);
    assert_eq!((stat("directory").kind, stat("directory").size), (EntryKind::Directory, 0));
    assert_eq!((stat("link").kind, stat("link").size), (EntryKind::Symlink, 0));
    assert_eq!(stat("fifo").kind, EntryKind::Fifo);
    assert_eq!(stat("socket").kind, EntryKind::Socket);
    match device {
        Ok(()) => {
            assert_eq!(stat("null").kind, EntryKind::CharDevice);
            assert_eq!(stat("null").rdev, rustix::fs::makedev(1, 3));
        }
        Err(errno) => skipped(&format!("no device can be made here ({errno})")),
    }
}

#[test]
fn a_huge_directory_takes_many_listings() {
    let dir = tempfile::tempdir().unwrap();
    for n in 0..5000 {
        fs::write(dir.path().join(format!("{n:050}")), b"").unwrap();
    }
    let (found, failed) = walk(dir.path());
    assert!(failed.is_empty(), "{failed:?}");
    assert_eq!(found.len(), 5001);
    assert!(found.is_sorted_by(|a, b| a.path < b.path));
}

const DEEP: usize = 3000;

/// Makes a chain of directories deeper than any path the system takes, with a file in each; returns the last.
fn make_deep(top: &Path) -> OwnedFd {
    let mut at = open_directory(CWD, top);
    for _ in 0..DEEP {
        mkdirat(&at, "directory", Mode::RWXU).unwrap();
        drop(openat(&at, "file", OFlags::CREATE | OFlags::WRONLY, Mode::RUSR).unwrap());
        at = open_directory(&at, Path::new("directory"));
    }
    at
}

/// Takes the chain down from its end: removing it from above needs a descriptor for each level.
fn remove_deep(mut at: OwnedFd) {
    for _ in 0..DEEP {
        at = open_directory(&at, Path::new(".."));
        unlinkat(&at, "file", AtFlags::empty()).unwrap();
        unlinkat(&at, "directory", AtFlags::REMOVEDIR).unwrap();
    }
}

fn open_directory(at: impl std::os::fd::AsFd, name: &Path) -> OwnedFd {
    openat(at, name, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty()).unwrap()
}

#[test]
fn a_tree_deeper_than_any_path_is_walked_and_read() {
    let dir = tempfile::tempdir().unwrap();
    let last = make_deep(dir.path());
    let (found, failed) = walk(dir.path());
    let deepest_file = found.iter().rfind(|found| found.path.as_bytes().len() > 4096 && found.path.name() == b"file");
    let opened = super::super::OpenFile::open(deepest_file.unwrap());
    let completed = super::super::Metadata::new().complete(deepest_file.unwrap());
    remove_deep(last);
    assert!(failed.is_empty(), "{:?}", failed.first());
    assert_eq!(found.len(), 2 * DEEP + 1);
    assert!(found.is_sorted_by(|a, b| a.path < b.path));
    assert!(opened.is_ok(), "{opened:?}");
    let completed = completed.unwrap();
    assert!(completed.lost.is_empty(), "{:?}", completed.lost);
}

/// The test above once more, in a process of its own that may have 32 files open.
#[test]
fn a_walk_of_any_depth_needs_few_descriptors() {
    let name = "ingest::tests::walks::a_tree_deeper_than_any_path_is_walked_and_read";
    let limited = std::process::Command::new("sh")
        .args(["-c", "ulimit -n 32; exec \"$0\" --exact \"$1\""])
        .arg(std::env::current_exe().unwrap())
        .arg(name)
        .output()
        .unwrap();
    let output = String::from_utf8_lossy(&limited.stdout);
    assert!(limited.status.success() && output.contains("1 passed"), "{output}");
}

#[test]
fn what_vanishes_between_listing_and_looking_is_noted_and_the_rest_is_walked() {
    let dir = tempfile::tempdir().unwrap();
    for name in ["a", "b", "c"] {
        fs::write(dir.path().join(name), b"").unwrap();
    }
    fs::create_dir(dir.path().join("d")).unwrap();
    let mut walk = Walk::new(vec![root(dir.path(), "top")], WalkOptions::default()).unwrap();
    let first_two: Vec<_> = walk.by_ref().take(2).collect();
    assert!(matches!(&first_two[1], Walked::Entry(found) if found.path == path("top/a")), "{first_two:?}");
    fs::remove_file(dir.path().join("b")).unwrap();
    assert_eq!(notices(walk.by_ref().take(1)), [("b".to_owned(), Notice::Vanished)]);
    // A directory that was met and cannot be entered any more.
    let met: Vec<_> = walk.by_ref().take(2).collect();
    assert!(matches!(&met[1], Walked::Entry(found) if found.path == path("top/d")), "{met:?}");
    fs::remove_dir(dir.path().join("d")).unwrap();
    assert_eq!(notices(walk), [("d".to_owned(), Notice::Vanished)]);
}

#[test]
fn a_directory_that_became_a_link_is_not_entered() {
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir_all(dir.path().join("outside/secret")).unwrap();
    fs::create_dir_all(dir.path().join("tree/d")).unwrap();
    for top in ["tree", "tree/d"] {
        let mut walk = Walk::new(vec![root(&dir.path().join(top), "")], WalkOptions::default()).unwrap();
        let d = walk.by_ref().find(|w| matches!(w, Walked::Entry(found) if found.disk.ends_with("d")));
        assert!(d.is_some());
        fs::remove_dir(dir.path().join("tree/d")).unwrap();
        symlink(dir.path().join("outside"), dir.path().join("tree/d")).unwrap();
        let (found, failed) = split(walk);
        assert_eq!((found.len(), failed.len()), (0, 1), "{found:?}");
        fs::remove_file(dir.path().join("tree/d")).unwrap();
        fs::create_dir(dir.path().join("tree/d")).unwrap();
    }
}

/// Twenty levels, of which the walk keeps the last sixteen open. While it is at the bottom, the fourth is taken out of
/// the third, and the third is put elsewhere: what is left of the third cannot be found, everything above it can.
#[test]
fn a_directory_moved_under_the_walk_is_reported_and_the_rest_is_walked() {
    let dir = tempfile::tempdir().unwrap();
    let mut at = dir.path().join("tree");
    fs::create_dir(&at).unwrap();
    let mut levels = vec![at.clone()];
    for _ in 0..20 {
        at.push("d");
        fs::create_dir(&at).unwrap();
        levels.push(at.clone());
    }
    for level in &levels {
        fs::write(level.join("z"), b"").unwrap();
    }
    let mut walk = Walk::new(vec![root(&levels[0], "")], WalkOptions::default()).unwrap();
    assert_eq!(walk.by_ref().take_while(|w| !matches!(w, Walked::Entry(f) if f.path.name() == b"z")).count(), 21);
    fs::rename(&levels[4], dir.path().join("fourth")).unwrap();
    fs::rename(&levels[3], dir.path().join("third")).unwrap();
    let (found, failed) = split(walk);
    assert_eq!(failed.len(), 1, "{failed:?}");
    assert_eq!(failed[0].0, path("d/d/d"));
    // One of the 21 files was met before the move; the third level's is lost.
    assert_eq!(found.len(), 19, "{found:?}");
    assert_eq!(found.last().unwrap().path, path("z"));
}

#[test]
fn a_directory_that_may_not_be_read_is_found_and_reported() {
    if is_root() {
        skipped("root may read everything");
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let locked = dir.path().join("locked");
    fs::create_dir(&locked).unwrap();
    fs::write(dir.path().join("other"), b"").unwrap();
    fs::set_permissions(&locked, fs::Permissions::from_mode(0o000)).unwrap();
    let (found, failed) = walk(dir.path());
    fs::set_permissions(&locked, fs::Permissions::from_mode(0o700)).unwrap();
    assert_eq!(found.iter().map(|f| f.path.name()).collect::<Vec<_>>(), [&b""[..], b"locked", b"other"]);
    assert_eq!(failed.len(), 1);
    assert_eq!(kind_of(&failed[0].1), std::io::ErrorKind::PermissionDenied);
}

#[test]
fn the_store_is_passed_over_with_all_that_is_in_it() {
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir_all(dir.path().join("store/packs")).unwrap();
    fs::write(dir.path().join("x"), b"").unwrap();
    let store = find(&dir.path().join("store")).stat.identity;
    let options = WalkOptions { skip: vec![(store.device, store.inode)] };
    let (found, failed) = split(Walk::new(vec![root(dir.path(), "")], options).unwrap());
    assert!(failed.is_empty());
    assert_eq!(found.iter().map(|f| f.path.name()).collect::<Vec<_>>(), [&b""[..], b"x"]);
}

#[test]
fn a_root_that_is_a_link_is_stored_as_a_link() {
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir(dir.path().join("directory")).unwrap();
    symlink("directory", dir.path().join("link")).unwrap();
    let (found, _) = split(Walk::new(vec![root(&dir.path().join("link"), "l")], WalkOptions::default()).unwrap());
    assert_eq!(found.len(), 1);
    assert_eq!(found[0].stat.kind, EntryKind::Symlink);
}

#[test]
fn a_root_that_is_not_there_is_reported_and_the_others_are_walked() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("x"), b"").unwrap();
    let roots = vec![root(&dir.path().join("x"), "x"), root(&dir.path().join("missing"), "missing")];
    let (found, failed) = split(Walk::new(roots, WalkOptions::default()).unwrap());
    assert_eq!((found.len(), failed.len()), (1, 1));
    assert_eq!(failed[0].0, path("missing"));
}

#[test]
fn equal_and_nested_roots_are_walked_once_and_in_order() {
    let dir = tempfile::tempdir().unwrap();
    let disk = |name: &str| dir.path().join(name);
    fs::create_dir_all(disk("b/c/d")).unwrap();
    fs::write(disk("b.x"), b"").unwrap();
    fs::write(disk("a"), b"").unwrap();
    let roots = vec![
        root(&disk("b/c"), "b/c"),
        root(&disk("b.x"), "b.x"),
        root(&disk("b"), "b"),
        root(&disk("b/../b/c/d"), "b/c/d"),
        root(&disk("a"), "a"),
        root(&disk("b"), "b"),
    ];
    let (found, failed) = split(Walk::new(roots, WalkOptions::default()).unwrap());
    assert!(failed.is_empty(), "{failed:?}");
    let paths: Vec<_> = found.iter().map(|found| found.path.as_path().to_str().unwrap()).collect();
    assert_eq!(paths, ["a", "b", "b/c", "b/c/d", "b.x"]);
}

#[test]
fn two_places_for_one_path_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let disk = |name: &str| dir.path().join(name);
    fs::create_dir_all(disk("here/a/b")).unwrap();
    fs::create_dir_all(disk("there/a/b")).unwrap();
    symlink("../there/a", disk("here/link")).unwrap();
    let refused = |roots: Vec<Root>| match Walk::new(roots, WalkOptions::default()) {
        Err(Error::Usage(why)) => why,
        other => panic!("{other:?}"),
    };
    let why = refused(vec![root(&disk("here/a"), "a"), root(&disk("there/a"), "a")]);
    assert!(why.contains("here/a") && why.contains("there/a"), "{why}");
    let why = refused(vec![root(&disk("here/a"), "a"), root(&disk("there/a/b"), "a/b")]);
    assert!(why.contains("here/a/b") && why.contains("there/a/b"), "{why}");
    // The walk of `here` stores `link` as a link, and does not come to what is behind it.
    refused(vec![root(&disk("here"), "here"), root(&disk("here/link/b"), "here/link/b")]);
}

#[test]
fn names_are_bytes_on_disk_too() {
    let dir = tempfile::tempdir().unwrap();
    let name = b"\xffodd\n\x1b[31m";
    fs::write(dir.path().join(OsStr::from_bytes(name)), b"").unwrap();
    let (found, _) = walk(dir.path());
    assert_eq!(found[1].path.as_bytes(), name);
    assert_eq!(found[1].disk.file_name().unwrap().as_bytes(), name);
}
