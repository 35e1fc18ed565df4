//! Modes, times, owners, links, devices and extended attributes come back as they were.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use std::collections::BTreeMap;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use rustix::fs::{
    AtFlags, CWD, FileType, Mode, Timespec, Timestamps, XattrFlags, lgetxattr, llistxattr, lsetxattr, makedev, mknodat,
    utimensat,
};

use crate::support::{Sandbox, assert_same_tree, skipped, tree_fingerprint};
use crate::system::{entries_below, is_root};

/// Every extended attribute of every entry of a tree, by path and name.
pub(crate) fn all_xattrs(root: &Path) -> BTreeMap<(PathBuf, Vec<u8>), Vec<u8>> {
    let mut all = BTreeMap::new();
    for path in entries_below(root) {
        let mut names = vec![0; 65_536];
        let length = llistxattr(&path, &mut names).unwrap_or(0);
        for name in names[..length].split(|byte| *byte == 0).filter(|name| !name.is_empty()) {
            let mut value = vec![0; 65_536];
            let length = lgetxattr(&path, name, &mut value).unwrap();
            value.truncate(length);
            all.insert((path.strip_prefix(root).unwrap().to_owned(), name.to_vec()), value);
        }
    }
    all
}

fn set_times(path: &Path, seconds: i64, nanoseconds: i64) {
    let time = Timespec { tv_sec: seconds, tv_nsec: nanoseconds };
    let times = Timestamps { last_access: time, last_modification: time };
    utimensat(CWD, path, &times, AtFlags::SYMLINK_NOFOLLOW).unwrap();
}

fn round_trip(sandbox: &Sandbox) {
    let output = sandbox.run(["add", "tree"]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let output = sandbox.run(["get", "tree", "-o", "copy"]);
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && !error.contains("warning"), "{error}");
    assert_same_tree(&sandbox.path("tree"), &sandbox.path("copy"));
    assert_eq!(all_xattrs(&sandbox.path("tree")), all_xattrs(&sandbox.path("copy")));
}

#[test]
fn extended_attributes() {
    let sandbox = Sandbox::new();
    let file = sandbox.write("tree/file", b"with attributes");
    let empty = sandbox.write("tree/empty", b"");
    let folder = sandbox.path("tree");
    let set = |path: &Path, name: &str, value: &[u8]| lsetxattr(path, name, value, XattrFlags::empty());
    if set(&file, "user.test", b"value").is_err() {
        skipped("the file system has no extended attributes");
        return;
    }
    set(&file, "user.empty", b"").unwrap();
    set(&file, "user.bytes", b"\0\xff\n\0").unwrap();
    set(&file, "user.long", &[b'x'; 2000]).unwrap();
    set(&empty, "user.on an empty file", b"1").unwrap();
    set(&folder, "user.on the root", b"1").unwrap();
    std::fs::hard_link(&file, sandbox.path("tree/link")).unwrap();
    // On what its owner may not write.
    let read_only = sandbox.write("tree/read only", b"1");
    set(&read_only, "user.test", b"read only").unwrap();
    std::fs::set_permissions(&read_only, std::fs::Permissions::from_mode(0o444)).unwrap();
    let mut expected = 7;
    if is_root() {
        symlink("file", sandbox.path("tree/symlink")).unwrap();
        // Capabilities of a program: lost if the owner is set after them.
        let program = sandbox.write("tree/program", b"#!/bin/true");
        std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).unwrap();
        std::os::unix::fs::chown(&program, Some(1000), Some(1000)).unwrap();
        let capability = [1, 0, 0, 2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
        if set(&program, "security.capability", &capability).is_ok() {
            expected += 1;
        }
        if set(&sandbox.path("tree/symlink"), "trusted.on a link", b"1").is_ok() {
            expected += 1;
        }
    } else {
        skipped("attributes only root may set");
    }
    assert_eq!(all_xattrs(&folder).len() - 4, expected, "the file's four are its link's too");
    round_trip(&sandbox);
}

#[test]
fn modes_and_special_bits() {
    let sandbox = Sandbox::new();
    for mode in [0o000, 0o400, 0o200, 0o111, 0o644, 0o777, 0o4755, 0o2755, 0o6711, 0o1644, 0o7777] {
        if mode & 0o400 == 0 && !is_root() {
            continue;
        }
        let path = sandbox.write(format!("tree/file {mode:o}"), b"content");
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
        let path = sandbox.path(format!("tree/directory {mode:o}"));
        std::fs::create_dir(&path).unwrap();
        std::fs::write(path.join("file"), b"in it").unwrap();
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode | 0o500)).unwrap();
    }
    round_trip(&sandbox);
    assert!(tree_fingerprint(&sandbox.path("copy"))[Path::new("file 4755")].starts_with("104755 "));
    for path in entries_below(&sandbox.path("")).into_iter().filter(|path| path.is_dir()) {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o700)).unwrap();
    }
}

#[test]
fn times_to_the_nanosecond() {
    let sandbox = Sandbox::new();
    for (n, (seconds, nanoseconds)) in
        [(0, 0), (0, 1), (1, 999_999_999), (-1, 5), (-2_000_000_000, 123_456_789), (4_000_000_000, 987_654_321)]
            .into_iter()
            .enumerate()
    {
        let file = sandbox.write(format!("tree/{n}/file"), b"content");
        let link = sandbox.path(format!("tree/{n}/link"));
        symlink("file", &link).unwrap();
        let empty = sandbox.write(format!("tree/{n}/empty"), b"");
        for path in [&file, &link, &empty, &sandbox.path(format!("tree/{n}"))] {
            set_times(path, seconds, nanoseconds);
        }
    }
    set_times(&sandbox.path("tree"), 77, 7);
    round_trip(&sandbox);
    assert_eq!(sandbox.path("copy").metadata().unwrap().mtime_nsec(), 7);
}

#[test]
fn hard_links_across_directories() {
    let sandbox = Sandbox::new();
    let big = sandbox.write("tree/z/first", crate::support::noise(1, 5_000_000));
    let small = sandbox.write("tree/z/small", b"small");
    for other in ["tree/a/second", "tree/a/b/third", "tree/zz"] {
        std::fs::create_dir_all(sandbox.path(other).parent().unwrap()).unwrap();
        std::fs::hard_link(&big, sandbox.path(other)).unwrap();
        std::fs::hard_link(&small, sandbox.path(format!("{other} small"))).unwrap();
    }
    let link = sandbox.path("tree/symlink");
    symlink("z/first", &link).unwrap();
    std::fs::hard_link(&link, sandbox.path("tree/z/symlink again")).unwrap();
    assert!(std::process::Command::new("mkfifo").arg(sandbox.path("tree/pipe")).status().unwrap().success());
    std::fs::hard_link(sandbox.path("tree/pipe"), sandbox.path("tree/a/pipe")).unwrap();
    // A name outside of what is added.
    std::fs::hard_link(&small, sandbox.path("outside")).unwrap();
    round_trip(&sandbox);
    let copy = sandbox.path("copy/zz").metadata().unwrap();
    assert_eq!((copy.nlink(), copy.ino()), (4, sandbox.path("copy/a/b/third").metadata().unwrap().ino()));
    // One of the names alone is a file; with the rest unchanged they are links again.
    sandbox.ok(["get", "tree/a", "-o", "part"]);
    // The pipe's other name is outside.
    let part = tree_fingerprint(&sandbox.path("part"));
    let whole = tree_fingerprint(&sandbox.path("tree/a"));
    assert!(part.keys().eq(whole.keys()));
    assert_eq!(part[Path::new("b/third")], whole[Path::new("b/third")]);
    assert_eq!(part[Path::new("pipe")], whole[Path::new("pipe")].replace(" linked to \"pipe\"", ""));
    sandbox.ok(["add", "tree"]);
    sandbox.ok(["get", "tree", "--snapshot", "latest", "-o", "copy2"]);
    assert_same_tree(&sandbox.path("tree"), &sandbox.path("copy2"));
}

#[test]
fn pipes_sockets_and_devices() {
    let sandbox = Sandbox::new();
    std::fs::create_dir(sandbox.path("tree")).unwrap();
    let pipe = sandbox.path("tree/pipe");
    assert!(std::process::Command::new("mkfifo").args(["-m", "640"]).arg(&pipe).status().unwrap().success());
    set_times(&pipe, 1_000_000_000, 42);
    drop(std::os::unix::net::UnixListener::bind(sandbox.path("tree/socket")).unwrap());
    let device = |name: &str, kind, major, minor| {
        mknodat(CWD, sandbox.path("tree").join(name), kind, Mode::from_raw_mode(0o620), makedev(major, minor))
    };
    if device("null", FileType::CharacterDevice, 1, 3).is_ok() {
        device("large numbers", FileType::CharacterDevice, 500, 70_000).unwrap();
        device("disk", FileType::BlockDevice, 7, 200).unwrap();
    } else {
        skipped("devices are root's to make");
    }
    round_trip(&sandbox);
    let listed = sandbox.ok(["ls", "-l", "tree"]);
    assert!(listed.lines().any(|line| line.starts_with("prw-r----- ") && line.ends_with(" tree/pipe")), "{listed}");
    assert!(listed.lines().any(|line| line.starts_with('s')), "{listed}");
    // What is no file cannot be streamed, and is no reason to wait for a writer.
    let error = sandbox.error(2, ["get", "tree/pipe", "-o", "-"]);
    assert!(error.contains("not a file"), "{error}");
}

#[test]
fn owners() {
    if !is_root() {
        skipped("only root may give files away");
        return;
    }
    let sandbox = Sandbox::new();
    for (n, (uid, gid)) in [(0, 0), (1000, 1001), (65_534, 65_534), (4_000_000_000, 3)].into_iter().enumerate() {
        let file = sandbox.write(format!("tree/{n}/file"), b"content");
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o6755)).unwrap();
        let link = sandbox.path(format!("tree/{n}/link"));
        symlink("file", &link).unwrap();
        for path in [&file, &link, &sandbox.path(format!("tree/{n}"))] {
            std::os::unix::fs::lchown(path, Some(uid), Some(gid)).unwrap();
        }
        // Giving a file away clears the special bits.
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o6755)).unwrap();
    }
    round_trip(&sandbox);
}

#[test]
fn odd_names() {
    let sandbox = Sandbox::new();
    std::fs::create_dir(sandbox.path("tree")).unwrap();
    let long = vec![b'n'; 255];
    let names: [&[u8]; 12] =
        [b" ", b"-", b"--force", b"...", b"\\", b"a\nb", b"\x1b[31m", b"\xff\xfe", "é".as_bytes(), b"*", b"'\"", &long];
    for name in names {
        let path = sandbox.path("tree").join(std::ffi::OsStr::from_bytes(name));
        std::fs::create_dir(&path).unwrap();
        std::fs::write(path.join(std::ffi::OsStr::from_bytes(name)), name).unwrap();
    }
    round_trip(&sandbox);
    // Every path is found by its own bytes, and shown on one line.
    let output = sandbox.run(["ls", "-R0", "tree"]);
    let paths: Vec<&[u8]> = output.stdout.split(|byte| *byte == 0).filter(|path| !path.is_empty()).collect();
    assert_eq!(paths.len(), 1 + 2 * names.len());
    for path in paths {
        let on_disk = sandbox.path("").join(std::ffi::OsStr::from_bytes(path));
        if on_disk.is_file() {
            let arguments = [std::ffi::OsStr::new("get"), "-o".as_ref(), "-".as_ref(), "--".as_ref()];
            let output = sandbox.run(arguments.into_iter().chain([std::ffi::OsStr::from_bytes(path)]));
            assert!(output.stdout == std::fs::read(on_disk).unwrap(), "{path:?}");
        }
    }
    let shown = sandbox.ok(["ls", "-R", "tree"]);
    assert_eq!(shown.lines().count(), 1 + 2 * names.len());
    assert!(!shown.contains('\u{1b}') && shown.contains("\\x1b[31m") && shown.contains("\\xff\\xfe"), "{shown}");
}
