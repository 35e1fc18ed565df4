//! Files and trees go in and come out the same.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use std::io::Write;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::Path;
use std::process::Stdio;

use crate::support::{Bench, assert_same_tree, noise, skipped};

fn set_time(path: &Path, seconds: u64, nanoseconds: u32) {
    let time = std::time::UNIX_EPOCH + std::time::Duration::new(seconds, nanoseconds);
    std::fs::File::open(path).unwrap().set_modified(time).unwrap();
}

/// A tree with one of everything a file system can hold, as far as the user may make it.
fn odd_tree(bench: &Bench) -> std::path::PathBuf {
    let root = bench.path("tree");
    bench.write("tree/empty", b"");
    bench.write("tree/one", b"1");
    bench.write("tree/text", "seam ".repeat(10_000));
    bench.write("tree/noise", noise(1, 3_000_000));
    bench.write("tree/zeros", vec![0; 1_500_000]);
    bench.write("tree/deep/er/and/deeper/file", b"deep");
    bench.write("tree/a.b", b"sorts between a and a/b by bytes");
    bench.write("tree/a/b", b"below a");
    bench.write("tree/line\nfeed", b"a name of two lines");
    bench.write(Path::new("tree").join(std::ffi::OsStr::from_bytes(b"not \xff utf-8")), b"bytes");
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
    let bench = Bench::new();
    let root = odd_tree(&bench);
    bench.ok(["add", "tree"]);
    bench.ok(["get", "tree", "-o", "copy"]);
    assert_same_tree(&root, &bench.path("copy"));
}

#[test]
fn a_second_add_stores_no_chunk_again() {
    let bench = Bench::new();
    odd_tree(&bench);
    let first = bench.json(["add", "tree"]);
    assert!(first["new_bytes"].as_u64().unwrap() > 3_000_000);
    for arguments in [&["add", "tree"][..], &["add", "--reread", "tree"]] {
        let again = bench.json(arguments);
        assert_eq!(again["new_bytes"], 0, "{arguments:?}");
        assert_eq!(again["logical_bytes"], first["logical_bytes"]);
    }
    assert_eq!(bench.json(["snapshots"]).as_array().unwrap().len(), 3);
}

#[test]
fn unchanged_files_are_not_read() {
    let bench = Bench::new();
    let path = bench.write("tree/file", noise(2, 100_000));
    // Older than the clock's grain: its times prove something.
    set_time(&path, 1_000_000_000, 0);
    std::thread::sleep(std::time::Duration::from_millis(60));
    bench.ok(["add", "tree"]);
    assert_eq!(bench.json(["add", "tree"])["unchanged_files"], 1);
    assert_eq!(bench.json(["add", "--reread", "tree"])["unchanged_files"], 0);
    // The same size, and its modification time set back: its change time tells.
    bench.write("tree/file", noise(3, 100_000));
    set_time(&path, 1_000_000_000, 0);
    let changed = bench.json(["add", "tree"]);
    assert_eq!((&changed["unchanged_files"], &changed["new_bytes"]), (&0.into(), &100_000.into()));
    bench.ok(["get", "tree/file", "-o", "out"]);
    assert_eq!(std::fs::read(bench.path("out")).unwrap(), noise(3, 100_000));
}

#[test]
fn any_number_of_threads_makes_the_same_store() {
    let bench = Bench::new();
    odd_tree(&bench);
    bench.write("tree/big", noise(4, 20_000_000));
    let packs = |store: &str| -> Vec<_> {
        let mut names: Vec<_> = walk(&bench.path(store).join("packs"));
        names.sort();
        names.into_iter().map(|path| (path.file_name().unwrap().to_owned(), std::fs::read(path).unwrap())).collect()
    };
    bench.ok(["--store", "s1", "add", "--threads", "1", "tree"]);
    let one = packs("s1");
    for threads in ["2", "3", "8"] {
        let store = format!("s{threads}");
        bench.ok(["--store", &store, "add", "--threads", threads, "--memory", "32M", "tree"]);
        assert!(packs(&store) == one, "{threads} threads");
    }
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
    let bench = Bench::new();
    for (length, name) in [(0, "nothing"), (1, "a byte"), (9_000_000, "much"), (8 << 20, "a segment")] {
        let bytes = noise(5, length);
        let mut child = bench.command(["add", "-", "--name", name]).stdin(Stdio::piped()).spawn().unwrap();
        child.stdin.take().unwrap().write_all(&bytes).unwrap();
        assert!(child.wait().unwrap().success());
        let output = bench.run(["get", name, "-o", "-"]);
        assert!(output.status.success() && output.stdout == bytes, "{name}");
    }
}

#[test]
fn ranges_give_those_bytes_only() {
    let bench = Bench::new();
    let bytes = noise(6, 1_000_000);
    bench.write("file", &bytes);
    bench.ok(["add", "file"]);
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
        let output = bench.run(["get", "file", "--range", range, "-o", "-"]);
        assert!(output.status.success() && output.stdout == expected, "{range}");
    }
    bench.expect(2, ["get", "file", "--range", "9..1", "-o", "-"]);
}

#[test]
fn sparse_files_stay_sparse() {
    let bench = Bench::new();
    let path = bench.path("sparse");
    let file = std::fs::File::create(&path).unwrap();
    file.set_len(50 << 30).unwrap();
    use std::os::unix::fs::FileExt;
    file.write_all_at(b"data", 20 << 30).unwrap();
    drop(file);
    if std::fs::metadata(&path).unwrap().blocks() > 1000 {
        skipped("the file system keeps no holes");
        return;
    }
    let report = bench.json(["add", "sparse"]);
    assert_eq!(report["logical_bytes"].as_u64().unwrap(), 50 << 30);
    assert!(report["stored_bytes"].as_u64().unwrap() < 100_000);
    bench.ok(["get", "sparse", "-o", "copy"]);
    let copy = std::fs::metadata(bench.path("copy")).unwrap();
    assert_eq!(copy.len(), 50 << 30);
    assert!(copy.blocks() < 1000);
    let read = bench.run(["get", "sparse", "--range", "21474836470..21474836490", "-o", "-"]);
    assert_eq!(read.stdout, b"\0\0\0\0\0\0\0\0\0\0data\0\0\0\0\0\0");
}

#[test]
fn nothing_is_overwritten_without_force() {
    let bench = Bench::new();
    bench.write("file", b"stored");
    bench.ok(["add", "file"]);
    bench.write("out", b"precious");
    let error = bench.error(1, ["get", "file", "-o", "out"]);
    assert!(error.contains("exists") && error.contains("--force"), "{error}");
    assert_eq!(std::fs::read(bench.path("out")).unwrap(), b"precious");
    bench.ok(["get", "file", "-o", "out", "--force"]);
    assert_eq!(std::fs::read(bench.path("out")).unwrap(), b"stored");
}

#[test]
fn the_index_is_only_a_cache() {
    let bench = Bench::new();
    let root = odd_tree(&bench);
    bench.ok(["add", "tree"]);
    std::fs::remove_dir_all(bench.path(".store/index")).unwrap();
    bench.ok(["get", "tree", "-o", "copy"]);
    assert_same_tree(&root, &bench.path("copy"));
    assert_eq!(bench.json(["add", "--reread", "tree"])["new_bytes"], 0);
    for file in crate::system::files_below(&bench.path(".store/index")) {
        std::fs::write(file, noise(7, 100_000)).unwrap();
    }
    bench.ok(["get", "tree", "-o", "copy2"]);
    assert_same_tree(&root, &bench.path("copy2"));
    bench.ok(["repair", "--index"]);
    assert_eq!(bench.json(["add", "--reread", "tree"])["new_bytes"], 0);
}
