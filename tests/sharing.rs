//! Several processes at one store at once: none waits for another, none breaks what another does.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use std::process::Stdio;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use rustix::process::Signal;

use crate::support::{Sandbox, assert_same_tree, noise};
use crate::system::{bytes_in, signal, wait_until};

#[test]
fn an_add_goes_on_while_another_is_suspended() {
    let sandbox = Sandbox::new();
    sandbox.write("before/file", noise(1, 100_000));
    sandbox.write("big/file", noise(2, 150_000_000));
    sandbox.write("quick/file", noise(3, 1_000_000));
    sandbox.ok(["add", "before"]);
    let begin = bytes_in(&sandbox.path(".store"));
    let mut slow = sandbox.command(["add", "big"]).stderr(Stdio::null()).spawn().unwrap();
    assert!(wait_until(&mut slow, || bytes_in(&sandbox.path(".store")) > begin + 10_000_000));
    signal(&slow, Signal::STOP);
    assert!(slow.try_wait().unwrap().is_none(), "it was suspended in the middle");
    // It holds the index, and temporary files of its own.
    sandbox.ok(["add", "quick"]);
    sandbox.ok(["get", "quick", "-o", "quick copy"]);
    sandbox.ok(["get", "before", "-o", "before copy"]);
    sandbox.ok(["dedup-stats"]);
    sandbox.ok(["repair", "--index"]);
    assert_same_tree(&sandbox.path("quick"), &sandbox.path("quick copy"));
    assert_same_tree(&sandbox.path("before"), &sandbox.path("before copy"));
    assert!(slow.try_wait().unwrap().is_none());
    signal(&slow, Signal::CONT);
    assert!(slow.wait().unwrap().success());
    for tree in ["big", "quick", "before"] {
        let copy = format!("{tree} copy again");
        sandbox.ok(["get", tree, "-o", &copy]);
        assert_same_tree(&sandbox.path(tree), &sandbox.path(copy));
    }
    assert_eq!(sandbox.json(["snapshots"]).as_array().unwrap().len(), 3);
}

#[test]
fn many_adds_at_once_into_one_new_store() {
    let sandbox = Sandbox::new();
    let shared = noise(10, 2_000_000);
    for n in 0..6 {
        sandbox.write(format!("{n}/own"), noise(20 + n, 500_000));
        sandbox.write(format!("{n}/shared"), &shared);
    }
    let add = |n: usize| sandbox.command(["add", &n.to_string()]).stderr(Stdio::piped()).spawn().unwrap();
    let children: Vec<_> = (0..6).map(add).collect();
    for child in children {
        let output = child.wait_with_output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }
    assert_eq!(sandbox.json(["snapshots"]).as_array().unwrap().len(), 6);
    for n in 0..6 {
        let copy = format!("copy {n}");
        sandbox.ok(["get", &n.to_string(), "-o", &copy]);
        assert_same_tree(&sandbox.path(n.to_string()), &sandbox.path(copy));
    }
    // Each counts its chunks right, though what several added at once may be there more than once.
    let stats = sandbox.json(["dedup-stats"]);
    assert_eq!(stats["logical_bytes"], 6 * 2_500_000);
    assert_eq!(stats["unique_bytes"], 6 * 500_000 + 2_000_000);
    assert_eq!(sandbox.json(["add", "--reread", "0", "1", "2"])["new_bytes"], 0);
}

#[test]
fn a_store_whose_making_was_cut_short_is_made_by_the_next() {
    let sandbox = Sandbox::new();
    sandbox.write("file", b"content");
    // What is there when the process that makes it is killed: no store.json yet.
    sandbox.write(".store/tmp/123-0-0123456789abcdef.tmp", b"{ \"format\":");
    sandbox.ok(["add", "file"]);
    assert_eq!(sandbox.ok(["ls"]), "file\n");
}

#[test]
fn reading_while_adding() {
    let sandbox = Sandbox::new();
    sandbox.write("first/file", noise(30, 3_000_000));
    sandbox.ok(["add", "first"]);
    sandbox.write("second/file", noise(31, 80_000_000));
    let mut adding = sandbox.command(["add", "second"]).stderr(Stdio::null()).spawn().unwrap();
    let mut gets = 0;
    loop {
        let output = sandbox.run(["get", "first/file", "-o", "-"]);
        assert!(output.status.success() && output.stdout == noise(30, 3_000_000));
        gets += 1;
        // A snapshot is there whole or not at all.
        let second = sandbox.run(["get", "second/file", "-o", "-", "--range", "79999990.."]);
        match second.status.code() {
            Some(0) => assert_eq!(second.stdout, noise(31, 80_000_000)[79_999_990..]),
            code => assert_eq!((code, second.stdout.len()), (Some(1), 0)),
        }
        if adding.try_wait().unwrap().is_some() {
            break;
        }
    }
    assert!(gets > 1);
    assert!(sandbox.run(["get", "second/file", "-o", "-"]).stdout == noise(31, 80_000_000));
}

/// They make packs and recipes of the same names, at the same time.
#[test]
fn the_same_tree_added_twice_at_once() {
    let sandbox = Sandbox::new();
    sandbox.write("before", b"the store is there");
    sandbox.ok(["add", "before"]);
    for round in 0..6_u64 {
        let tree = format!("tree-{round}");
        for n in 0..3 {
            sandbox.write(format!("{tree}/{n}"), noise(round * 10 + n, 400_000));
        }
        let add = |_| sandbox.command(["--json", "add", &tree]).stdout(Stdio::piped()).spawn().unwrap();
        let children: Vec<_> = (0..3).map(add).collect();
        for child in children {
            let output = child.wait_with_output().unwrap();
            assert!(output.status.success());
            let report: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
            sandbox.assert_tree(report["snapshot"].as_str().unwrap(), &tree, &sandbox.path(&tree));
        }
    }
    sandbox.ok(["verify", "--full"]);
    let stats = sandbox.json(["dedup-stats"]);
    assert_eq!((stats["snapshots"].as_array().unwrap().len(), stats["unique_bytes"].as_u64()), (19, Some(7_200_018)));
    // What is there twice goes, and nothing with it.
    sandbox.ok(["gc", "--max-waste", "0%"]);
    sandbox.ok(["verify", "--full"]);
    assert_eq!(sandbox.json(["add", "--reread", "tree-0", "tree-5"])["new_bytes"], 0);
}

/// Readers of every kind, beside adds, removals and collections: none gets a wrong answer.
#[test]
fn many_readers_beside_writers_and_collectors() {
    let sandbox = Sandbox::new();
    let shared = noise(1, 1_500_000);
    sandbox.write("kept/shared", &shared);
    sandbox.write("kept/own", noise(2, 1_000_000));
    let kept = sandbox.add_tree("kept");
    let (is_over, reads) = (AtomicBool::new(false), AtomicUsize::new(0));
    let readers: [&[&str]; 6] = [
        &["get", "--snapshot", &kept, "kept/shared", "-o", "-"],
        &["get", "--snapshot", &kept, "kept/shared", "-o", "-", "--range", "1000000..1000010"],
        &["verify", "--full"],
        &["ls", "-R", "--snapshot", &kept],
        &["snapshots"],
        &["dedup-stats"],
    ];
    let (is_over, reads) = (&is_over, &reads);
    std::thread::scope(|scope| {
        for arguments in readers {
            let (sandbox, shared) = (&sandbox, &shared);
            scope.spawn(move || {
                while !is_over.load(Ordering::Relaxed) {
                    let output = sandbox.run(arguments);
                    let error = String::from_utf8_lossy(&output.stderr);
                    assert_eq!(output.status.code(), Some(0), "{arguments:?}: {error}");
                    match (arguments[0], arguments.len()) {
                        ("get", 6) => assert!(output.stdout == *shared),
                        ("get", _) => assert_eq!(output.stdout, shared[1_000_000..1_000_010]),
                        _ => {}
                    }
                    reads.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        // Whatever happens to this thread, the readers end.
        struct Over<'a>(&'a AtomicBool);
        impl Drop for Over<'_> {
            fn drop(&mut self) {
                self.0.store(true, Ordering::Relaxed);
            }
        }
        let _over = Over(is_over);
        for round in 0..5_u64 {
            let tree = format!("round-{round}");
            sandbox.write(format!("{tree}/shared"), &shared);
            sandbox.write(format!("{tree}/own"), noise(100 + round, 2_000_000));
            let id = sandbox.add_tree(&tree);
            sandbox.assert_tree(&id, &tree, &sandbox.path(&tree));
            sandbox.ok(["rm", &id]);
            // Moves what is kept, too.
            sandbox.ok(["gc", "--max-waste", "0%"]);
        }
    });
    assert!(reads.load(Ordering::Relaxed) >= 12);
    sandbox.assert_tree(&kept, "kept", &sandbox.path("kept"));
    assert_eq!(sandbox.json(["dedup-stats"])["unused_chunks"], 0);
}
