use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::FileTypeExt;

use super::*;
use crate::testing::skip::skipped;

#[test]
fn the_result_has_the_name_the_user_gave() {
    let dir = tempfile::tempdir().unwrap();
    let root = EntryPath::default();
    for name in ["out", "out/", "./out", "sub/../out"] {
        fs::create_dir_all(dir.path().join("sub")).unwrap();
        let at = dir.path().join(name);
        let destination = Destination::create(&at, false).unwrap();
        put(&destination, "", b"file", &entry(EntryKind::File)).unwrap();
        assert_eq!(fs::read(dir.path().join("out")).unwrap(), b"file");
        fs::remove_file(dir.path().join("out")).unwrap();

        destination.make_directory(&root).unwrap();
        put(&destination, "x", b"inside", &entry(EntryKind::File)).unwrap();
        destination.finish_directory(&root, &Entry { mode: 0o751, ..entry(EntryKind::Directory) }).unwrap();
        assert_eq!(fs::read(dir.path().join("out/x")).unwrap(), b"inside");
        assert_eq!(mode(&dir.path().join("out")), 0o751);
        fs::remove_dir_all(dir.path().join("out")).unwrap();

        destination.make_symlink(&root, &link("target")).unwrap();
        assert_eq!(fs::read_link(dir.path().join("out")).unwrap(), Path::new("target"));
        fs::remove_file(dir.path().join("out")).unwrap();
    }
    assert!(matches!(Destination::create(&dir.path().join("missing/out"), false), Err(Error::Io { .. })));
}

#[test]
fn a_directory_without_a_name_of_its_own_can_be_filled() {
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir(dir.path().join("d")).unwrap();
    let at = dir.path().join("d/..");
    let strict = Destination::create(&at, false).unwrap();
    assert!(matches!(strict.make_directory(&EntryPath::default()), Err(Error::Exists { .. })));
    assert!(matches!(strict.make_file(&EntryPath::default()), Err(Error::InTheWay { .. })));
    let destination = Destination::create(&at, true).unwrap();
    destination.make_directory(&EntryPath::default()).unwrap();
    put(&destination, "x", b"y", &entry(EntryKind::File)).unwrap();
    let done = Entry { mode: 0o710, ..entry(EntryKind::Directory) };
    destination.finish_directory(&EntryPath::default(), &done).unwrap();
    assert_eq!(fs::read(dir.path().join("x")).unwrap(), b"y");
    assert_eq!(mode(dir.path()), 0o710);
}

#[test]
fn bytes_land_at_their_offsets_and_holes_stay_holes() {
    const MIB: u64 = 1 << 20;
    let (_dir, at, destination) = out(false);
    let target = destination.make_file(&path("f")).unwrap();
    assert_eq!(mode(&at.join("f")), 0o600);
    std::thread::scope(|scope| {
        for n in [3, 1, 2_u8] {
            let target = &target;
            scope.spawn(move || target.write_at(u64::from(n) * 100 * MIB, &[n; 10_000]).unwrap());
        }
    });
    target.set_len(400 * MIB).unwrap();
    destination.finish_file(target, &entry(EntryKind::File)).unwrap();
    let metadata = fs::metadata(at.join("f")).unwrap();
    assert_eq!(metadata.len(), 400 * MIB);
    assert!(metadata.blocks() * 512 < MIB, "{} blocks", metadata.blocks());
    let read = fs::File::open(at.join("f")).unwrap();
    for n in [1, 2, 3_u8] {
        let mut bytes = [0; 10_001];
        std::os::unix::fs::FileExt::read_exact_at(&read, &mut bytes, u64::from(n) * 100 * MIB).unwrap();
        assert!(bytes[..10_000].iter().all(|b| *b == n) && bytes[10_000] == 0);
    }
    let target = destination.make_file(&path("reserved")).unwrap();
    target.reserve(0).unwrap();
    target.reserve(MIB).unwrap();
    assert_eq!(fs::metadata(at.join("reserved")).unwrap().len(), 0);
    assert!(matches!(target.write_at(u64::MAX, b"x"), Err(Error::Io { .. })));
    drop(target);
    destination.remove_partial(&path("reserved")).unwrap();
    destination.remove_partial(&path("reserved")).unwrap();
    assert!(!at.join("reserved").exists());
}

#[test]
fn names_are_bytes() {
    let (_dir, at, destination) = out(false);
    let odd = path(b"\xff\xfe\nname");
    destination.make_directory(&odd).unwrap();
    drop(destination.make_file(&odd.join(b"\x01").unwrap()).unwrap());
    assert!(at.join(OsStr::from_bytes(b"\xff\xfe\nname/\x01")).exists());
    let long = destination.make_file(&path([b'x'; 256]));
    assert!(matches!(long, Err(Error::Io { .. })), "{long:?}");
}

#[test]
fn every_kind_is_made() {
    let (_dir, at, destination) = out(false);
    let own = |kind| Entry { mode: 0o640, ..entry(kind) };
    destination.make_symlink(&path("link"), &link("some\nwhere")).unwrap();
    assert_eq!(fs::read_link(at.join("link")).unwrap(), Path::new("some\nwhere"));
    assert_eq!(mtime_ns(&fs::symlink_metadata(at.join("link")).unwrap()), link("").mtime_ns);
    for (name, kind) in [("fifo", EntryKind::Fifo), ("socket", EntryKind::Socket)] {
        let warnings = destination.make_node(&path(name), &own(kind)).unwrap();
        assert!(warnings.is_empty(), "{warnings:?}");
        assert_eq!(mode(&at.join(name)), 0o640);
        assert_eq!(mtime_ns(&fs::symlink_metadata(at.join(name)).unwrap()), own(kind).mtime_ns);
    }
    assert!(fs::symlink_metadata(at.join("fifo")).unwrap().file_type().is_fifo());
    assert!(fs::symlink_metadata(at.join("socket")).unwrap().file_type().is_socket());
    let device = Entry { rdev: rustix::fs::makedev(1, 3), ..own(EntryKind::CharDevice) };
    match destination.make_node(&path("null"), &device) {
        Ok(warnings) => {
            assert!(warnings.is_empty(), "{warnings:?}");
            assert_eq!(fs::symlink_metadata(at.join("null")).unwrap().rdev(), device.rdev);
            assert_eq!(mode(&at.join("null")), 0o640);
        }
        Err(error) => skipped(&format!("no device can be made here ({error})")),
    }
    let wrong = destination.make_node(&path("file"), &own(EntryKind::File));
    assert!(matches!(wrong, Err(Error::Refused { .. })), "{wrong:?}");
}

#[test]
fn hard_links_share_one_inode() {
    let (_dir, at, destination) = out(true);
    put(&destination, "a", b"shared", &entry(EntryKind::File)).unwrap();
    destination.make_directory(&path("d")).unwrap();
    destination.make_hard_link(&path("a"), &path("d/b")).unwrap();
    let inode = |name: &str| fs::metadata(at.join(name)).unwrap().ino();
    assert_eq!(inode("a"), inode("d/b"));
    // Over something that is there already, and over itself.
    put(&destination, "c", b"old", &entry(EntryKind::File)).unwrap();
    destination.make_hard_link(&path("a"), &path("c")).unwrap();
    destination.make_hard_link(&path("a"), &path("c")).unwrap();
    assert_eq!(inode("a"), inode("c"));
    let result = destination.make_hard_link(&path("a"), &path("a"));
    assert!(matches!(result, Err(Error::Refused { .. })), "{result:?}");
    assert_eq!(fs::read(at.join("a")).unwrap(), b"shared");
    let result = destination.make_hard_link(&path("missing"), &path("e"));
    assert!(matches!(result, Err(Error::Io { .. })), "{result:?}");
}

#[test]
fn what_exists_is_kept_unless_told_to_overwrite() {
    let dir = tempfile::tempdir().unwrap();
    let at = dir.path().join("out");
    fs::create_dir_all(at.join("directory/full")).unwrap();
    fs::write(at.join("file"), b"old").unwrap();
    fs::hard_link(at.join("file"), dir.path().join("other name")).unwrap();
    let file = entry(EntryKind::File);

    let strict = Destination::create(&at, false).unwrap();
    for at in ["", "directory", "file"] {
        let result = strict.make_directory(&path(at));
        assert!(matches!(result, Err(Error::Exists { .. })), "{at}: {result:?}");
    }
    for at in ["directory", "file"] {
        for result in [
            put(&strict, at, b"new", &file),
            strict.make_symlink(&path(at), &link("x")),
            strict.make_node(&path(at), &entry(EntryKind::Fifo)),
        ] {
            assert!(matches!(result, Err(Error::Exists { .. })), "{at}: {result:?}");
        }
    }
    assert_eq!(fs::read(at.join("file")).unwrap(), b"old");

    let force = Destination::create(&at, true).unwrap();
    force.make_directory(&path("")).unwrap();
    force.make_directory(&path("directory")).unwrap();
    put(&force, "file", b"new", &file).unwrap();
    assert_eq!(fs::read(at.join("file")).unwrap(), b"new");
    // Replaced, not written through: the other name keeps the old bytes.
    assert_eq!(fs::read(dir.path().join("other name")).unwrap(), b"old");
    assert!(at.join("directory/full").exists());
    force.make_symlink(&path("file"), &link("x")).unwrap();
    force.make_directory(&path("file")).unwrap();
    assert!(at.join("file").is_dir());
    // A directory is never removed for something else.
    for result in [put(&force, "directory", b"", &file), force.make_symlink(&path("directory"), &link("x"))] {
        assert!(matches!(result, Err(Error::InTheWay { .. })), "{result:?}");
    }
}

#[test]
fn names_with_dots_and_spaces_at_their_ends_come_back_and_their_trial_leaves_nothing() {
    let (_dir, at, destination) = out(false);
    for name in ["dot.", "space ", "dots...", "plain", " "] {
        put(&destination, name, name.as_bytes(), &entry(EntryKind::File)).unwrap();
        assert_eq!(fs::read(at.join(name)).unwrap(), name.as_bytes());
    }
    destination.make_directory(&path("d.")).unwrap();
    assert_eq!(fs::read_dir(&at).unwrap().count(), 6);
}

#[test]
fn directories_no_entry_speaks_of_are_made_on_the_way() {
    let dir = tempfile::tempdir().unwrap();
    let destination = Destination::create(&dir.path().join("out"), false).unwrap();
    std::thread::scope(|scope| {
        for n in 0..8 {
            let destination = &destination;
            scope.spawn(move || put(destination, &format!("a/b/{n}"), b"x", &entry(EntryKind::File)).unwrap());
        }
    });
    assert_eq!(fs::read_dir(dir.path().join("out/a/b")).unwrap().count(), 8);
    // Their entry may still come; once.
    destination.make_directory(&path("a")).unwrap();
    assert!(matches!(destination.make_directory(&path("a")), Err(Error::Exists { .. })));
    destination.finish_directory(&path("a"), &entry(EntryKind::Directory)).unwrap();
    // Below something that is no directory nothing can be made.
    let result = destination.make_file(&path("a/b/0/c"));
    assert!(matches!(result, Err(Error::Io { .. })), "{result:?}");
}

const DEEP: usize = 1000;

#[test]
fn a_tree_deeper_than_any_path_is_made_with_few_descriptors() {
    let dir = tempfile::tempdir().unwrap();
    let destination = Destination::create(&dir.path().join("out"), false).unwrap();
    let mut at = EntryPath::default();
    destination.make_directory(&at).unwrap();
    for _ in 0..DEEP {
        at = at.join(b"directory").unwrap();
        destination.make_directory(&at).unwrap();
    }
    drop(destination.make_file(&at.join(b"file").unwrap()).unwrap());
    destination.remove_partial(&at.join(b"file").unwrap()).unwrap();
    // Bottom up, as a restore ends; what is finished can be removed again for the sake of the test.
    let done = entry(EntryKind::Directory);
    while let Some(parent) = at.parent() {
        let warnings = destination.finish_directory(&at, &done).unwrap();
        assert!(warnings.is_empty(), "{warnings:?}");
        at = parent;
    }
    assert_eq!(mode(&dir.path().join("out/directory")), 0o755);
    remove_deep(&dir.path().join("out"));
}

/// Takes a deep chain down without a descriptor or a stack frame for each level: what is inside moves up.
fn remove_deep(top: &Path) {
    let inner = top.join("directory");
    let aside = top.with_file_name("aside");
    while inner.join("directory").exists() {
        fs::rename(inner.join("directory"), &aside).unwrap();
        fs::remove_dir(&inner).unwrap();
        fs::rename(&aside, &inner).unwrap();
    }
}

#[test]
fn few_descriptors_stay_open_however_many_directories_there_are() {
    let name = "restore::tests::placing::a_tree_deeper_than_any_path_is_made_with_few_descriptors";
    let limited = std::process::Command::new("sh")
        .args(["-c", "ulimit -n 32; exec \"$0\" --exact \"$1\""])
        .arg(std::env::current_exe().unwrap())
        .arg(name)
        .output()
        .unwrap();
    let output = String::from_utf8_lossy(&limited.stdout);
    assert!(limited.status.success() && output.contains("1 passed"), "{output}");
}
