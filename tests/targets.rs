//! Restores onto file systems that cannot hold all that a snapshot has: nothing is lost in silence.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::{Duration, UNIX_EPOCH};

use crate::loop_mount::LoopMount;
use crate::support::{Sandbox, noise, skipped};
use crate::system::Mount;

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// Fails unless a get ends with exit code 3 and a line of it names each path with the words.
fn assert_named(output: &Output, named: &[(&str, &str)]) {
    let said = stderr(output);
    assert_eq!(output.status.code(), Some(3), "{said}");
    for (path, words) in named {
        assert!(said.lines().any(|line| line.contains(path) && line.contains(words)), "{path}, {words}: {said}");
    }
}

fn read(path: PathBuf) -> String {
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path:?}: {error}"))
}

#[test]
fn of_two_names_that_a_file_system_folds_into_one_the_second_is_named_and_replaces_nothing() {
    let sandbox = Sandbox::new();
    let Some(_disk) = LoopMount::exfat(&sandbox) else { return };
    for (path, bytes) in [("Aa", "1"), ("aA", "2"), ("D/x", "3"), ("d/x", "4"), ("d/y", "5"), ("f", "6"), ("F/z", "7")]
    {
        sandbox.write(Path::new("tree").join(path), bytes);
    }
    // Its first name is one of two that are folded: what the other holds must not be taken for it.
    std::fs::hard_link(sandbox.path("tree/aA"), sandbox.path("tree/z")).unwrap();
    sandbox.write("ways/W/x", b"8");
    sandbox.write("ways/w/x", b"9");
    sandbox.ok(["add", "tree"]);
    sandbox.ok(["add", "ways/W/x", "ways/w/x"]);
    for force in [false, true, true] {
        let more: &[&str] = if force { &["--force"] } else { &[] };
        let output = sandbox.run([&["get", "tree", "-o", "disk/tree"], more].concat());
        assert_named(
            &output,
            &[("takes the name for that of another", "not restored"), ("d/y", "the directory it is in")],
        );
        let names = std::fs::read_dir(sandbox.path("disk/tree")).unwrap().map(|entry| entry.unwrap().file_name());
        let mut names: Vec<_> = names.map(|name| name.into_string().unwrap()).collect();
        names.sort();
        // Every name that is there has its own content, whichever of two came first.
        for name in &names {
            let inner = sandbox.path("tree").join(name);
            if inner.is_file() {
                assert_eq!(read(sandbox.path("disk/tree").join(name)), read(inner), "{name}");
            }
        }
        assert_eq!((names.len(), names.contains(&"z".to_owned())), (4, true), "{names:?}");
        assert_eq!(read(sandbox.path("disk/tree/D/x")), "3");
        assert!(!sandbox.path("disk/tree/D/y").exists());

        // Directories that no entry stands for.
        let output = sandbox.run([&["get", "--snapshot", "latest", "-o", "disk/ways"], more].concat());
        assert_eq!(output.status.code(), Some(3), "{}", stderr(&output));
        assert_eq!(read(sandbox.path("disk/ways/ways/W/x")), "8");
    }
}

#[test]
fn what_exfat_cannot_hold_is_named() {
    let sandbox = Sandbox::new();
    let Some(_disk) = LoopMount::exfat(&sandbox) else { return };
    let file = sandbox.write("tree/file", noise(1, 100_000));
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o640)).unwrap();
    std::fs::hard_link(&file, sandbox.path("tree/further")).unwrap();
    symlink("file", sandbox.path("tree/link")).unwrap();
    for name in ["question?", "colon:", "back\\slash", "plain"] {
        sandbox.write(Path::new("tree").join(name), name);
    }
    assert!(Command::new("mkfifo").arg(sandbox.path("tree/pipe")).status().unwrap().success());
    let time = UNIX_EPOCH + Duration::new(1_000_000_001, 123_456_789);
    std::fs::File::open(sandbox.path("tree/plain")).unwrap().set_modified(time).unwrap();
    sandbox.ok(["add", "tree"]);
    let output = sandbox.run(["get", "tree", "-o", "disk/tree"]);
    let lost = ["\"link\"", "\"pipe\"", "\"question?\""].map(|name| (name, "was not restored"));
    assert_named(&output, &lost);
    assert_named(&output, &[("disk/tree/file", "the mode 0640 as "), ("disk/tree/further", "is not a hard link to")]);
    assert_named(&output, &[("times were rounded", "in units of ")]);
    // What could not be what it was is not there as something else.
    assert!(!sandbox.path("disk/tree/pipe").exists() && !sandbox.path("disk/tree/link").exists());
    for name in ["file", "further"] {
        assert!(std::fs::read(sandbox.path("disk/tree").join(name)).unwrap() == noise(1, 100_000), "{name}");
    }
    // Rounded, and not lost.
    let plain = std::fs::metadata(sandbox.path("disk/tree/plain")).unwrap();
    assert!(plain.mtime().abs_diff(1_000_000_001) <= 2, "{}", plain.mtime());

    // The same of a single file.
    assert_named(&sandbox.run(["get", "tree/file", "-o", "disk/one"]), &[("disk/one", "the mode 0640 as ")]);
    let said = sandbox.error(1, ["get", "tree/link", "-o", "disk/link"]);
    assert!(said.contains("cannot create \"disk/link\""), "{said}");
    // What appears under another name first needs neither links nor a rename that refuses to replace.
    sandbox.ok(["export", "--tar", "tree", "-o", "disk/tree.tar"]);
    let said = sandbox.error(1, ["export", "--tar", "tree", "-o", "disk/tree.tar"]);
    assert!(said.contains("exists"), "{said}");
    sandbox.ok(["get", "tree/file", "--range", "5..10", "-o", "disk/range"]);
    assert_eq!(std::fs::read(sandbox.path("disk/range")).unwrap(), noise(1, 100_000)[5..10]);
}

#[test]
fn rounded_times_are_reported_once_and_times_out_of_range_by_name() {
    let sandbox = Sandbox::new();
    let make = ["mkfs.ext4", "-q", "-F", "-I", "128"];
    let Some(_disk) = LoopMount::new(&sandbox, "disk", &make, &["mount"]) else { return };
    for n in 0..3 {
        let path = sandbox.write(format!("tree/{n}"), b"x");
        let time = UNIX_EPOCH + Duration::new(1_000_000_000 + n, 500_000_000);
        std::fs::File::open(path).unwrap().set_modified(time).unwrap();
    }
    sandbox.ok(["add", "tree"]);
    let output = sandbox.run(["get", "tree", "-o", "disk/tree"]);
    let said = stderr(&output);
    assert_eq!(output.status.code(), Some(0), "{said}");
    assert_eq!(said.matches("keeps them in units of 1 s").count(), 1, "{said}");
    assert_eq!(std::fs::metadata(sandbox.path("disk/tree/2")).unwrap().mtime(), 1_000_000_002);
    let late = UNIX_EPOCH + Duration::from_secs(1 << 32);
    std::fs::File::open(sandbox.path("tree/1")).unwrap().set_modified(late).unwrap();
    sandbox.ok(["add", "tree"]);
    let output = sandbox.run(["get", "tree", "-o", "disk/later"]);
    assert_named(&output, &[("disk/later/1", "the modification time 4294967296.000000000 as ")]);
    assert!(!stderr(&output).contains("disk/later/2"));
}

#[test]
fn a_file_system_that_reports_no_free_space_is_written_to() {
    let sandbox = Sandbox::new();
    sandbox.write("big", noise(2, 3_000_000));
    sandbox.ok(["add", "big"]);
    let Some(_disk) = Mount::ram(sandbox.path("disk")) else { return };
    sandbox.ok(["get", "big", "-o", "disk/big"]);
    assert!(std::fs::read(sandbox.path("disk/big")).unwrap() == noise(2, 3_000_000));
}

#[test]
fn an_extended_attribute_that_is_lost_is_exit_code_3() {
    let sandbox = Sandbox::new();
    let file = sandbox.write("file", b"x");
    let set = rustix::fs::lsetxattr(&file, "user.k", b"v", rustix::fs::XattrFlags::empty());
    let Some(_disk) = Mount::ram(sandbox.path("disk")) else { return };
    let kept = rustix::fs::lsetxattr(sandbox.path("disk"), "user.k", b"v", rustix::fs::XattrFlags::empty());
    if set.is_err() || kept.is_ok() {
        skipped("needs extended attributes here, and none in a RAM disk");
        return;
    }
    sandbox.ok(["add", "file"]);
    assert_named(&sandbox.run(["get", "file", "-o", "disk/file"]), &[("disk/file", "user.k")]);
    assert_eq!(read(sandbox.path("disk/file")), "x");
}

#[test]
fn what_is_in_the_way_of_one_file_costs_no_other() {
    let sandbox = Sandbox::new();
    for name in ["a", "b", "c", "d/x", "e/x"] {
        sandbox.write(Path::new("tree").join(name), name);
    }
    std::fs::hard_link(sandbox.path("tree/b"), sandbox.path("tree/e/b again")).unwrap();
    sandbox.ok(["add", "tree"]);
    sandbox.write("out/b/inside", b"precious");
    std::fs::create_dir_all(sandbox.path("out/a")).unwrap();
    sandbox.write("out/d", b"a file where a directory goes");
    sandbox.write("elsewhere/x", b"not to be written");
    symlink("../elsewhere", sandbox.path("out/e")).unwrap();
    let output = sandbox.run(["get", "tree", "-o", "out", "--force"]);
    assert_named(&output, &[("out/a", "a directory is in its place"), ("out/b", "a directory is in its place")]);
    // The other name of what was not restored has its content all the same.
    assert_named(&output, &[("out/e/b again", "is not a hard link to")]);
    for (name, bytes) in [("c", "c"), ("d/x", "d/x"), ("e/x", "e/x"), ("e/b again", "b"), ("b/inside", "precious")] {
        assert_eq!(read(sandbox.path("out").join(name)), bytes);
    }
    assert_eq!(read(sandbox.path("elsewhere/x")), "not to be written");
    let json = sandbox.run(["--json", "get", "tree", "-o", "out", "--force"]);
    let json: serde_json::Value = serde_json::from_slice(&json.stdout).unwrap();
    let lost = json["lost"].as_array().unwrap();
    let mut paths: Vec<_> = lost.iter().map(|loss| loss["path"].as_str().unwrap()).collect();
    paths.sort_unstable();
    assert_eq!(paths, ["a", "b"]);
    assert!(lost.iter().all(|loss| loss["damaged"] == false), "{lost:?}");

    // In the way of the result itself: nothing could be done.
    for (path, out) in [("tree/a", "out"), ("tree/a", ".")] {
        let said = sandbox.error(1, ["get", path, "-o", out, "--force"]);
        assert!(said.contains("directory"), "{said}");
    }
}

#[test]
fn a_read_only_place_in_a_destination_costs_what_is_in_it_and_a_read_only_destination_all() {
    let sandbox = Sandbox::new();
    for name in ["a", "in/b", "z"] {
        sandbox.write(Path::new("tree").join(name), name);
    }
    sandbox.ok(["add", "tree"]);
    std::fs::create_dir_all(sandbox.path("source")).unwrap();
    let Some(_mount) = Mount::read_only(&sandbox.path("source"), sandbox.path("out/in")) else { return };
    let output = sandbox.run(["get", "tree", "-o", "out", "--force"]);
    assert_named(&output, &[("in/b", "Read-only file system")]);
    assert_eq!((read(sandbox.path("out/a")), read(sandbox.path("out/z"))), ("a".to_owned(), "z".to_owned()));

    let Some(_whole) = Mount::read_only(&sandbox.path("source"), sandbox.path("sealed")) else { return };
    let said = sandbox.error(1, ["get", "tree", "-o", "sealed", "--force"]);
    assert!(said.contains("Read-only file system"), "{said}");
}

#[test]
fn a_limit_on_the_size_of_files_costs_the_files_beyond_it() {
    let sandbox = Sandbox::new();
    sandbox.write("tree/big", noise(3, 500_000));
    sandbox.write("tree/small", b"small");
    sandbox.ok(["add", "tree"]);
    let output = sandbox.shell("ulimit -f 100; exec \"$0\" get tree -o out").output().unwrap();
    assert_named(&output, &[("big", "File too large")]);
    assert!(!sandbox.path("out/big").exists());
    assert_eq!(read(sandbox.path("out/small")), "small");
}
