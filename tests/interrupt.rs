//! Programs that are asked to stop: the store stays whole, what was stored is there, the next add reuses what was packed.
//! Invariants 1, 2 and 7. Those that are killed are in `kills.rs`.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use std::path::{Path, PathBuf};
use std::process::Stdio;

use rustix::process::Signal;

use crate::support::{Bench, assert_same_tree, noise};
use crate::system::{bytes_in, files_below, signal, wait_until};

const BIG: usize = 250_000_000;

#[test]
fn an_interrupted_add_keeps_what_it_packed() {
    for stop in [Signal::INT, Signal::TERM] {
        let bench = Bench::new();
        bench.write("old", b"old");
        bench.ok(["add", "old"]);
        bench.write("tree/big", noise(1, BIG));
        let mut adding = bench.command(["add", "tree"]).stderr(Stdio::piped()).spawn().unwrap();
        assert!(wait_until(&mut adding, || bytes_in(&bench.path(".store")) > 70_000_000));
        signal(&adding, stop);
        let output = adding.wait_with_output().unwrap();
        let error = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{error}");
        assert!(error.contains("error: interrupted: no snapshot was made; "), "{error}");
        assert!(error.contains(" are kept, and the next add reuses them"), "{error}");
        assert_eq!(bench.json(["snapshots"]).as_array().unwrap().len(), 1);
        assert_eq!(files_below(&bench.path(".store/tmp")).len(), 0);
        let kept = bench.json(["dedup-stats"])["unused_bytes"].as_u64().unwrap();
        assert!(error.contains(&format!("({kept} bytes in ")), "{kept}: {error}");
        assert!(kept > 60_000_000, "{kept}");

        let again = bench.json(["add", "tree"]);
        assert_eq!(again["new_bytes"], BIG as u64 - kept);
        assert_eq!(bench.json(["dedup-stats"])["unused_bytes"], 0);
        assert!(bench.run(["get", "tree/big", "-o", "-"]).stdout == noise(1, BIG));
    }
}

#[test]
fn an_interrupted_add_of_a_stream_ends_at_once() {
    let bench = Bench::new();
    let mut adding =
        bench.command(["add", "-", "--name", "stream"]).stdin(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    // It waits for input that does not come.
    let stdin = adding.stdin.take();
    assert!(wait_until(&mut adding, || bench.path(".store/tmp").exists()));
    signal(&adding, Signal::INT);
    let output = adding.wait_with_output().unwrap();
    let error = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{error}");
    assert!(error.contains("interrupted: no snapshot was made"), "{error}");
    drop(stdin);
    assert!(!bench.path(".store").exists(), "a store that was made for an add that came to nothing goes with it");
}

#[test]
fn an_interrupted_get_says_so_and_leaves_whole_files_only() {
    let bench = Bench::new();
    let size = 3_000_000;
    for n in 0..60 {
        bench.write(format!("tree/{n}"), noise(n, size));
    }
    bench.write("one/file", noise(100, 150_000_000));
    bench.ok(["add", "tree", "one"]);
    for (tree, stop_after) in [("tree", 20_000_000), ("one", 1)] {
        let mut getting = bench.command(["get", tree, "-o", "copy"]).stderr(Stdio::piped()).spawn().unwrap();
        let copied = || files_below_if_any(&bench.path("copy")).iter().map(|file| allocated(file)).sum::<u64>();
        assert!(wait_until(&mut getting, || copied() > stop_after));
        signal(&getting, Signal::INT);
        let output = getting.wait_with_output().unwrap();
        let error = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{tree}: {error}");
        assert!(error.contains("error: interrupted: "), "{tree}: {error}");
        for file in files_below(&bench.path("copy")) {
            let name = file.file_name().unwrap();
            let whole = std::fs::read(bench.path(tree).join(name)).unwrap();
            assert!(std::fs::read(&file).unwrap() == whole, "{name:?} is not whole");
        }
        std::fs::remove_dir_all(bench.path("copy")).unwrap();
        bench.ok(["get", tree, "-o", "copy"]);
        assert_same_tree(&bench.path(tree), &bench.path("copy"));
        std::fs::remove_dir_all(bench.path("copy")).unwrap();
    }
}

/// As [`files_below`] while files come and go.
fn files_below_if_any(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    entries.map(|entry| entry.path()).collect()
}

fn allocated(path: &Path) -> u64 {
    use std::os::unix::fs::MetadataExt;
    path.symlink_metadata().map_or(0, |stat| if stat.is_file() { stat.len().min(stat.blocks() * 512) } else { 0 })
}
