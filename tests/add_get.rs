//! Files and trees go in and come out the same.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use std::io::Write;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::Path;
use std::process::Stdio;

use crate::support::{Sandbox, assert_same_tree, noise, skipped};

fn set_time(path: &Path, seconds: u64, nanoseconds: u32) {
    let time = std::time::UNIX_EPOCH + std::time::Duration::new(seconds, nanoseconds);
    std::fs::File::open(path).unwrap().set_modified(time).unwrap();
}

/// A tree with one of everything a file system can hold, as far as the user may make it.
fn odd_tree(sandbox: &Sandbox) -> std::path::PathBuf {
    let root = sandbox.path("tree");
    sandbox.write("tree/empty", b"");
    sandbox.write("tree/one", b"1");
    sandbox.write("tree/text", "seam ".repeat(10_000));
    sandbox.write("tree/noise", noise(1, 3_000_000));
    sandbox.write("tree/zeros", vec![0; 1_500_000]);
    sandbox.write("tree/deep/er/and/deeper/file", b"deep");
    sandbox.write("tree/a.b", b"sorts between a and a/b by bytes");
    sandbox.write("tree/a/b", b"below a");
    sandbox.write("tree/line\nfeed", b"a name of two lines");
    sandbox.write(Path::new("tree").join(std::ffi::OsStr::from_bytes(b"not \xff utf-8")), b"bytes");
    std::fs::create_dir(root.join("empty directory")).unwrap();
    symlink("one", root.join("link")).unwrap();
    symlink("/nowhere/at all", root.join("dangling")).unwrap();
    std::fs::hard_link(root.join("text"), root.join("deep/text again")).unwrap();
    std::fs::set_permissions(root.join("one"), std::fs::Permissions::from_mode(0o4711)).unwrap();
    std::fs::set_permissions(root.join("empty directory"), std::fs::Permissions::from_mode(0o1700)).unwrap();
    set_time(&root.join("one"), 1_000_000_000, 123_456_789);
    set_time(&root.join("deep"), 1_234_567_890, 987_654_321);
    let fifo = std::process::Command::new("mkfifo").arg(root.join("pipe")).status().unwrap();
    assert!(fifo.success());
    root
}

#[test]
fn a_tree_comes_back_as_it_was() {
    let sandbox = Sandbox::new();
    let root = odd_tree(&sandbox);
    sandbox.ok(["add", "tree"]);
    sandbox.ok(["get", "tree", "-o", "copy"]);
    assert_same_tree(&root, &sandbox.path("copy"));
}

#[test]
fn a_second_add_stores_no_chunk_again() {
    let sandbox = Sandbox::new();
    odd_tree(&sandbox);
    let first = sandbox.json(["add", "tree"]);
    assert!(first["new_bytes"].as_u64().unwrap() > 3_000_000);
    for arguments in [&["add", "tree"][..], &["add", "--reread", "tree"]] {
        let again = sandbox.json(arguments);
        assert_eq!(again["new_bytes"], 0, "{arguments:?}");
        assert_eq!(again["logical_bytes"], first["logical_bytes"]);
    }
    assert_eq!(sandbox.json(["snapshots"]).as_array().unwrap().len(), 3);
}

#[test]
fn unchanged_files_are_not_read() {
    let sandbox = Sandbox::new();
    let path = sandbox.write("tree/file", noise(2, 100_000));
    // Older than the clock's grain: its times prove something.
    set_time(&path, 1_000_000_000, 0);
    std::thread::sleep(std::time::Duration::from_millis(60));
    sandbox.ok(["add", "tree"]);
    assert_eq!(sandbox.json(["add", "tree"])["unchanged_files"], 1);
    assert_eq!(sandbox.json(["add", "--reread", "tree"])["unchanged_files"], 0);
    // The same size, and its modification time set back: its change time tells.
    sandbox.write("tree/file", noise(3, 100_000));
    set_time(&path, 1_000_000_000, 0);
    let changed = sandbox.json(["add", "tree"]);
    assert_eq!((&changed["unchanged_files"], &changed["new_bytes"]), (&0.into(), &100_000.into()));
    sandbox.ok(["get", "tree/file", "-o", "out"]);
    assert_eq!(std::fs::read(sandbox.path("out")).unwrap(), noise(3, 100_000));
}

/// Archives of all kinds: stepped through by offset, unpacked at once, and unpacked bit by bit among small files.
fn odd_archives(sandbox: &Sandbox) {
    for n in 0..400u64 {
        sandbox.write(format!("members/{n}"), noise(n, 40 + 97 * n as usize));
        sandbox.write(format!("tree/copies/{n}"), noise(n, 40 + 97 * n as usize));
    }
    sandbox.write("members/large", noise(77, 5_000_000));
    // Compresses to very little.
    sandbox.write("members/lines", "one line like another\n".repeat(800_000));
    let make = |words: &[&str]| {
        let mut command = std::process::Command::new("tar");
        let made = command.current_dir(sandbox.path("")).arg("--sort=name").args(words).status().unwrap();
        assert!(made.success(), "{words:?}");
    };
    std::fs::create_dir_all(sandbox.path("tree/middle")).unwrap();
    sandbox.write("tree/middle/before", noise(5, 5_000));
    make(&["-cf", "tree/all.tar", "members"]);
    make(&["-czf", "tree/all.tar.gz", "members"]);
    make(&["-czf", "tree/middle/lines.tar.gz", "members/lines"]);
    make(&["-cf", "tree/middle/small.tar", "members/1", "members/2", "members/3"]);
    sandbox.write("tree/middle/then", noise(6, 5_000));
}

#[test]
fn any_number_of_threads_makes_the_same_store() {
    let sandbox = Sandbox::new();
    odd_tree(&sandbox);
    odd_archives(&sandbox);
    sandbox.write("tree/big", noise(4, 20_000_000));
    let objects = |store: &str| -> Vec<_> {
        let of = |kind| walk(&sandbox.path(store).join(kind));
        let mut names: Vec<_> = of("packs").into_iter().chain(of("recipes")).collect();
        names.sort();
        names.into_iter().map(|path| (path.file_name().unwrap().to_owned(), std::fs::read(path).unwrap())).collect()
    };
    let rows = |store: &str| sandbox.ok(["--store", store, "ls", "-l", "-R", "tree"]);
    let add = |store: &str, threads, memory| {
        sandbox.ok(["--store", store, "add", "--threads", threads, "--memory", memory, "tree"]);
        // What is known already makes nothing new, whichever worker looks it up.
        let again = ["--store", store, "add", "--reread", "--threads", threads, "--memory", memory, "tree"];
        assert_eq!(sandbox.json(again)["new_bytes"], 0, "{threads} threads");
    };
    add("s1", "1", "256M");
    let one = (objects("s1"), rows("s1"));
    for threads in ["1", "2", "3", "8"] {
        let store = format!("s{threads} small");
        add(&store, threads, "32M");
        assert!((objects(&store), rows(&store)) == one, "{threads} threads");
    }
    sandbox.ok(["--store", "s1", "get", "tree", "-o", "copy"]);
    assert_same_tree(&sandbox.path("tree"), &sandbox.path("copy"));
}

fn walk(root: &Path) -> Vec<std::path::PathBuf> {
    let mut files = Vec::new();
    let mut todo = vec![root.to_owned()];
    while let Some(path) = todo.pop() {
        if path.is_dir() {
            todo.extend(std::fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
        } else {
            files.push(path);
        }
    }
    files
}

#[test]
fn standard_input_is_a_file_like_others() {
    let sandbox = Sandbox::new();
    for (length, name) in [(0, "nothing"), (1, "a byte"), (9_000_000, "much"), (8 << 20, "a segment")] {
        let bytes = noise(5, length);
        let mut child = sandbox.command(["add", "-", "--name", name]).stdin(Stdio::piped()).spawn().unwrap();
        child.stdin.take().unwrap().write_all(&bytes).unwrap();
        assert!(child.wait().unwrap().success());
        let output = sandbox.run(["get", name, "-o", "-"]);
        assert!(output.status.success() && output.stdout == bytes, "{name}");
    }
}

#[test]
fn ranges_give_those_bytes_only() {
    let sandbox = Sandbox::new();
    let bytes = noise(6, 1_000_000);
    sandbox.write("file", &bytes);
    sandbox.ok(["add", "file"]);
    for (range, expected) in [
        ("0..0", &bytes[0..0]),
        ("0..1", &bytes[0..1]),
        ("999999..1000000", &bytes[999_999..]),
        ("500000..", &bytes[500_000..]),
        ("..10", &bytes[..10]),
        ("123456..654321", &bytes[123_456..654_321]),
        ("5..99999999", &bytes[5..]),
        ("2000000..3000000", &bytes[0..0]),
    ] {
        let output = sandbox.run(["get", "file", "--range", range, "-o", "-"]);
        assert!(output.status.success() && output.stdout == expected, "{range}");
    }
    sandbox.expect(2, ["get", "file", "--range", "9..1", "-o", "-"]);
}

#[test]
fn sparse_files_stay_sparse() {
    let sandbox = Sandbox::new();
    let path = sandbox.path("sparse");
    let file = std::fs::File::create(&path).unwrap();
    file.set_len(50 << 30).unwrap();
    use std::os::unix::fs::FileExt;
    file.write_all_at(b"data", 20 << 30).unwrap();
    drop(file);
    if std::fs::metadata(&path).unwrap().blocks() > 1000 {
        skipped("the file system keeps no holes");
        return;
    }
    let report = sandbox.json(["add", "sparse"]);
    assert_eq!(report["logical_bytes"].as_u64().unwrap(), 50 << 30);
    assert!(report["stored_bytes"].as_u64().unwrap() < 100_000);
    sandbox.ok(["get", "sparse", "-o", "copy"]);
    let copy = std::fs::metadata(sandbox.path("copy")).unwrap();
    assert_eq!(copy.len(), 50 << 30);
    assert!(copy.blocks() < 1000);
    let read = sandbox.run(["get", "sparse", "--range", "21474836470..21474836490", "-o", "-"]);
    assert_eq!(read.stdout, b"\0\0\0\0\0\0\0\0\0\0data\0\0\0\0\0\0");
}

#[test]
fn nothing_is_overwritten_without_force() {
    let sandbox = Sandbox::new();
    sandbox.write("file", b"stored");
    sandbox.ok(["add", "file"]);
    sandbox.write("out", b"precious");
    let error = sandbox.error(1, ["get", "file", "-o", "out"]);
    assert!(error.contains("exists") && error.contains("--force"), "{error}");
    assert_eq!(std::fs::read(sandbox.path("out")).unwrap(), b"precious");
    sandbox.ok(["get", "file", "-o", "out", "--force"]);
    assert_eq!(std::fs::read(sandbox.path("out")).unwrap(), b"stored");
}

#[test]
fn the_index_is_only_a_cache() {
    let sandbox = Sandbox::new();
    let root = odd_tree(&sandbox);
    sandbox.ok(["add", "tree"]);
    std::fs::remove_dir_all(sandbox.path(".store/index")).unwrap();
    sandbox.ok(["get", "tree", "-o", "copy"]);
    assert_same_tree(&root, &sandbox.path("copy"));
    assert_eq!(sandbox.json(["add", "--reread", "tree"])["new_bytes"], 0);
    for file in crate::system::files_below(&sandbox.path(".store/index")) {
        std::fs::write(file, noise(7, 100_000)).unwrap();
    }
    sandbox.ok(["get", "tree", "-o", "copy2"]);
    assert_same_tree(&root, &sandbox.path("copy2"));
    sandbox.ok(["repair", "--index"]);
    assert_eq!(sandbox.json(["add", "--reread", "tree"])["new_bytes"], 0);
}
