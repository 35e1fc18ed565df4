//! Programs that are asked to stop: the store stays whole, what was stored is there, the next add reuses what was packed.
//! Invariants 1, 2 and 7. Those that are killed are in `kills.rs`.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use rustix::process::Signal;

use crate::support::{Sandbox, assert_same_tree, noise};
use crate::system::{bytes_in, files_below, signal, wait_until};

const BIG: usize = 250_000_000;

#[test]
fn an_interrupted_add_keeps_what_it_packed() {
    for (stop, code) in [(Signal::INT, 130), (Signal::TERM, 143)] {
        let sandbox = Sandbox::new();
        sandbox.write("old", b"old");
        sandbox.ok(["add", "old"]);
        sandbox.write("tree/big", noise(1, BIG));
        let mut adding = sandbox.interruptible(["add", "tree"]).stderr(Stdio::piped()).spawn().unwrap();
        assert!(wait_until(&mut adding, || bytes_in(&sandbox.path(".store")) > 70_000_000));
        signal(&adding, stop);
        let output = adding.wait_with_output().unwrap();
        let error = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(code), "{error}");
        assert!(error.contains("error: interrupted: no snapshot was made; "), "{error}");
        assert!(error.contains(" are kept, and the next add reuses them"), "{error}");
        assert_eq!(sandbox.json(["snapshots"]).as_array().unwrap().len(), 1);
        assert_eq!(files_below(&sandbox.path(".store/tmp")).len(), 0);
        let kept = sandbox.json(["dedup-stats"])["unused_bytes"].as_u64().unwrap();
        assert!(error.contains(&format!("({kept} bytes in ")), "{kept}: {error}");
        assert!(kept > 60_000_000, "{kept}");

        let again = sandbox.json(["add", "tree"]);
        assert_eq!(again["new_bytes"], BIG as u64 - kept);
        assert_eq!(sandbox.json(["dedup-stats"])["unused_bytes"], 0);
        assert!(sandbox.run(["get", "tree/big", "-o", "-"]).stdout == noise(1, BIG));
    }
}

#[test]
fn an_interrupted_add_of_a_stream_ends_at_once_with_the_code_of_the_signal() {
    for (stop, code) in [(Signal::INT, 130), (Signal::TERM, 143), (Signal::HUP, 129)] {
        let sandbox = Sandbox::new();
        let mut command = sandbox.interruptible(["add", "-", "--name", "stream"]);
        let mut adding = command.stdin(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        // It waits for input that does not come.
        let stdin = adding.stdin.take();
        assert!(wait_until(&mut adding, || sandbox.path(".store/tmp").exists()));
        signal(&adding, stop);
        let output = adding.wait_with_output().unwrap();
        let error = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(code), "{error}");
        assert!(error.contains("interrupted: no snapshot was made"), "{error}");
        drop(stdin);
        assert!(!sandbox.path(".store").exists(), "a store that was made for an add that came to nothing goes with it");
    }
}

#[test]
fn a_signal_that_was_ignored_at_the_start_stays_ignored() {
    let sandbox = Sandbox::new();
    let script = "trap '' HUP INT; exec \"$0\" add - --name stream";
    let mut command = std::process::Command::new("sh");
    command.current_dir(sandbox.path("")).args(["-c", script, env!("CARGO_BIN_EXE_store")]).env_remove("STORE_PATH");
    let mut adding = command.stdin(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    assert!(wait_until(&mut adding, || sandbox.path(".store/tmp").exists()));
    // As a terminal that is closed does it to what `nohup` started.
    signal(&adding, Signal::HUP);
    signal(&adding, Signal::INT);
    adding.stdin.take().unwrap().write_all(b"all of it").unwrap();
    let output = adding.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(sandbox.ok(["get", "stream", "-o", "-"]), "all of it");
}

#[test]
fn the_first_signal_asks_and_another_one_ends_the_process() {
    use std::os::unix::process::ExitStatusExt;
    let sandbox = Sandbox::new();
    // A command that waits for somebody to open the other end of a pipe, and cannot stop before that.
    rustix::fs::mknodat(rustix::fs::CWD, sandbox.path("pipe"), rustix::fs::FileType::Fifo, rustix::fs::Mode::RUSR, 0)
        .unwrap();
    let mut waiting = sandbox.interruptible(["hash", "--xet", "pipe"]).spawn().unwrap();
    let status = format!("/proc/{}/status", waiting.id());
    let mask = |field: &str| -> u64 {
        let text = std::fs::read_to_string(&status).unwrap_or_default();
        let line = text.lines().find_map(|line| line.strip_prefix(field)).unwrap_or("0");
        u64::from_str_radix(line.trim(), 16).unwrap()
    };
    let hangup = 1 << (Signal::HUP.as_raw() - 1);
    assert!(wait_until(&mut waiting, || mask("SigCgt:") & hangup != 0));
    signal(&waiting, Signal::HUP);
    assert!(wait_until(&mut waiting, || mask("ShdPnd:") & hangup == 0));
    assert!(waiting.try_wait().unwrap().is_none());
    let ended = loop {
        signal(&waiting, Signal::HUP);
        if let Some(ended) = waiting.try_wait().unwrap() {
            break ended;
        }
        std::thread::yield_now();
    };
    assert_eq!(ended.signal(), Some(Signal::HUP.as_raw()));
}

#[test]
fn an_interrupted_get_says_so_and_leaves_whole_files_only() {
    let sandbox = Sandbox::new();
    let size = 3_000_000;
    for n in 0..60 {
        sandbox.write(format!("tree/{n}"), noise(n, size));
    }
    sandbox.write("one/file", noise(100, 150_000_000));
    sandbox.ok(["add", "tree", "one"]);
    for (tree, stop_after) in [("tree", 20_000_000), ("one", 1)] {
        let mut getting = sandbox.interruptible(["get", tree, "-o", "copy"]).stderr(Stdio::piped()).spawn().unwrap();
        let copied = || files_below_if_any(&sandbox.path("copy")).iter().map(|file| allocated(file)).sum::<u64>();
        assert!(wait_until(&mut getting, || copied() > stop_after));
        signal(&getting, Signal::INT);
        let output = getting.wait_with_output().unwrap();
        let error = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(130), "{tree}: {error}");
        assert!(error.contains("error: interrupted: "), "{tree}: {error}");
        for file in files_below(&sandbox.path("copy")) {
            let name = file.file_name().unwrap();
            let whole = std::fs::read(sandbox.path(tree).join(name)).unwrap();
            assert!(std::fs::read(&file).unwrap() == whole, "{name:?} is not whole");
        }
        std::fs::remove_dir_all(sandbox.path("copy")).unwrap();
        sandbox.ok(["get", tree, "-o", "copy"]);
        assert_same_tree(&sandbox.path(tree), &sandbox.path("copy"));
        std::fs::remove_dir_all(sandbox.path("copy")).unwrap();
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
