//! `rm` and `gc` as programs, beside adds and gets that run. Invariant 3: nothing a durable snapshot reaches is deleted.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use std::collections::BTreeMap;
use std::io::Write;
use std::io::{BufRead, BufReader, Read};
use std::path::PathBuf;
use std::process::{Child, Stdio};

use crate::support::{Sandbox, assert_same_tree, noise};
use crate::system::{bytes_in, files_below, wait_until};

impl Sandbox {
    /// An add of standard input that has begun, and waits for it.
    fn begin_stream(&self, name: &str) -> Child {
        let had = self.leases();
        let mut command = self.command(["add", "-", "--name", name]);
        let mut adding = command.stdin(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
        assert!(wait_until(&mut adding, || self.leases() > had));
        adding
    }

    /// Bytes of packs and recipes files.
    fn objects(&self) -> u64 {
        let below = |folder: &str| files_below(&self.path(".store").join(folder));
        below("packs").iter().chain(&below("recipes")).map(|file| file.metadata().unwrap().len()).sum()
    }
}

fn end_stream(mut adding: Child, bytes: &[u8]) {
    adding.stdin.take().unwrap().write_all(bytes).unwrap();
    assert!(adding.wait().unwrap().success());
}

#[test]
fn removing_and_collecting_says_what_it_frees() {
    let sandbox = Sandbox::new();
    sandbox.write("a/large", noise(1, 3_000_000));
    sandbox.write("a/small", b"small");
    sandbox.write("b/large", noise(2, 2_000_000));
    let (a, b) = (sandbox.add_tree("a"), sandbox.add_tree("b"));
    assert_eq!(sandbox.error(1, ["rm", &a, "0123456789"]), "error: snapshot \"0123456789\" not found\n");
    assert!(sandbox.error(2, ["rm", ""]).contains("a snapshot is given by the first hexadecimal digits of its id"));
    assert!(sandbox.error(2, ["gc", "--max-waste", "200%"]).contains("a share is 0% to 100%"));
    assert_eq!(sandbox.snapshots().len(), 2, "all or none");

    let before = sandbox.objects();
    let foretold = sandbox.json(["rm", &a[..10], "--dry-run"]);
    assert_eq!((foretold["removed"][0].as_str(), sandbox.snapshots().len()), (Some(&*a), 2));
    let removed = sandbox.json(["rm", &a[..10]]);
    assert_eq!((removed["bytes"].clone(), removed["gc"].clone()), (foretold["bytes"].clone(), serde_json::Value::Null));
    assert_eq!(sandbox.snapshots(), [b.as_str()]);
    let dry = sandbox.json(["gc", "--dry-run"]);
    assert_eq!(dry, foretold["gc"]);
    assert_eq!(sandbox.objects(), before);
    let mut done = sandbox.json(["gc"]);
    done["dry_run"] = true.into();
    assert_eq!(done, dry);
    assert_eq!(sandbox.objects(), before - done["freed_bytes"].as_u64().unwrap());
    assert_eq!((done["packs"].as_u64(), done["recipes_files"].as_u64()), (Some(1), Some(1)));
    sandbox.assert_tree(&b, "b", &sandbox.path("b"));
    assert!(sandbox.error(0, ["gc"]).starts_with("freed 0 B: 0 packs deleted"));
    assert_eq!(sandbox.json(["dedup-stats"])["unused_chunks"], 0);
    // The index names no pack that is gone, and can be made again.
    sandbox.ok(["repair", "--index"]);
    sandbox.assert_tree(&b, "b", &sandbox.path("b"));
    assert_eq!(sandbox.json(["add", "--reread", "b"])["new_chunks"], 0);
}

#[test]
fn a_gc_waits_for_an_add_that_may_rely_on_what_it_announced() {
    let sandbox = Sandbox::new();
    let bytes = noise(1, 3_000_000);
    let old = sandbox.write("old/file", &bytes);
    sandbox.write("other", noise(2, 500_000));
    let gone = sandbox.add_tree("old");
    sandbox.add_tree("other");
    // It has seen the packs of the snapshot that is now removed, and will find its own bytes there.
    let adding = sandbox.begin_stream("stream");
    sandbox.ok(["rm", &gone]);
    let mut collecting = sandbox.command(["gc"]).stderr(Stdio::piped()).spawn().unwrap();
    // Once it has said for whom it waits, it waits for nobody else.
    let mut said = BufReader::new(collecting.stderr.take().unwrap());
    let mut waiting = String::new();
    said.read_line(&mut waiting).unwrap();
    assert_eq!(sandbox.records(), 1);
    assert!(sandbox.error(1, ["gc"]).contains("is in use by another process"));
    assert!(collecting.try_wait().unwrap().is_none(), "it does not wait");
    // One that begins now knows, and stores anew what is pending deletion.
    let stored = sandbox.json(["add", "--reread", "old"]);
    assert_eq!(stored["new_bytes"], bytes.len());
    let adding_id = adding.id();
    end_stream(adding, &bytes);
    let mut freed = String::new();
    said.read_to_string(&mut freed).unwrap();
    assert!(collecting.wait().unwrap().success() && freed.starts_with("freed "), "{freed}");
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap();
    let expected = format!("waiting for 1 add to end: process {adding_id} on {} since 20", host.trim());
    assert!(waiting.starts_with(&expected), "{waiting}");
    assert!(sandbox.run(["get", "stream", "-o", "-"]).stdout == bytes);
    assert!(
        sandbox.run(["get", old.strip_prefix(sandbox.path("")).unwrap().to_str().unwrap(), "-o", "-"]).stdout == bytes
    );
    assert_eq!((sandbox.records(), sandbox.leases()), (0, 0));
    // Whatever is there twice now, one gc more settles.
    sandbox.ok(["gc"]);
    assert!(sandbox.objects() < 3_700_000);
    assert!(sandbox.run(["get", "stream", "-o", "-"]).stdout == bytes);
}

#[test]
fn what_only_a_running_add_needs_is_spared() {
    let sandbox = Sandbox::new();
    let bytes = noise(1, 3_000_000);
    sandbox.write("old", &bytes);
    let gone = sandbox.add_tree("old");
    let adding = sandbox.begin_stream("stream");
    sandbox.ok(["rm", &gone]);
    let later = sandbox.json(["gc", "--no-wait"]);
    assert_eq!((later["pending_deletes"].as_u64(), later["leases"].as_u64()), (Some(2), Some(1)));
    assert_eq!((later["freed_bytes"].as_u64(), sandbox.records()), (Some(0), 1));
    end_stream(adding, &bytes);
    let done = sandbox.json(["gc"]);
    assert_eq!((done["spared"].as_u64(), done["packs"].as_u64()), (Some(2), Some(0)));
    assert!(sandbox.run(["get", "stream", "-o", "-"]).stdout == bytes);
    assert_eq!(sandbox.json(["gc"])["freed_bytes"], 0);
}

#[test]
fn the_lease_of_a_killed_add_holds_nobody_up() {
    let sandbox = Sandbox::new();
    sandbox.write("old", noise(1, 1_000_000));
    let gone = sandbox.add_tree("old");
    let mut adding = sandbox.begin_stream("stream");
    adding.kill().unwrap();
    adding.wait().unwrap();
    assert_eq!(sandbox.leases(), 1);
    sandbox.ok(["rm", &gone]);
    let done = sandbox.json(["gc", "--no-wait"]);
    assert_eq!((done["packs"].as_u64(), done["leases"].as_u64(), sandbox.leases()), (Some(1), Some(0), 0));
}

#[test]
fn a_get_whose_packs_are_rewritten_under_it_finds_the_chunks_again() {
    let sandbox = Sandbox::new();
    // Each pack half needed.
    for n in 0..30 {
        let (kept, dropped) = (noise(n, 1_500_000), noise(100 + n, 1_500_000));
        sandbox.write(format!("both/{n}/kept"), &kept);
        sandbox.write(format!("both/{n}/dropped"), dropped);
        sandbox.write(format!("kept/{n}"), kept);
    }
    let (both, kept) = (sandbox.add_tree("both"), sandbox.add_tree("kept"));
    let mut getting = sandbox.command(["get", "kept", "-o", "copy", "--threads", "1"]).spawn().unwrap();
    assert!(wait_until(&mut getting, || sandbox.path("copy/1").exists()));
    sandbox.ok(["rm", &both]);
    let done = sandbox.json(["gc"]);
    assert!(done["new_packs"].as_u64() > Some(0) && done["packs"].as_u64() > Some(0), "{done}");
    assert!(getting.wait().unwrap().success());
    assert_same_tree(&sandbox.path("kept"), &sandbox.path("copy"));
    sandbox.assert_tree(&kept, "kept", &sandbox.path("kept"));
}

#[test]
fn a_get_of_a_snapshot_that_is_removed_says_so() {
    let sandbox = Sandbox::new();
    for n in 0..40 {
        sandbox.write(format!("tree/{n}"), noise(n, 4_000_000));
    }
    let tree = sandbox.add_tree("tree");
    // Read slowly, into a pipe that is not read.
    let mut getting =
        sandbox.command(["get", "tree", "-o", "copy", "--threads", "1"]).stderr(Stdio::piped()).spawn().unwrap();
    assert!(wait_until(&mut getting, || sandbox.path("copy/1").exists()));
    sandbox.ok(["rm", &tree]);
    sandbox.ok(["gc"]);
    let output = getting.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    // It may have been faster; then it is whole.
    if output.status.success() {
        assert_same_tree(&sandbox.path("tree"), &sandbox.path("copy"));
    } else {
        assert_eq!(output.status.code(), Some(1), "{said}");
        assert!(said.contains(&format!("snapshot {tree} was removed while it was being read")), "{said}");
    }
}

/// Adds, removals and collections at once, all as processes, some of them killed: what was acknowledged is there.
#[test]
fn adds_removals_and_collections_at_once() {
    const ROUNDS: u64 = 6;
    let sandbox = Sandbox::new();
    // Contents that come again and again, so that adds find what collections are about to delete.
    let content = |n: u64| noise(1000 + n % 5, 1_500_000);
    let mut kept: BTreeMap<String, (String, PathBuf)> = BTreeMap::new();
    let mut killed = 0;
    for round in 0..ROUNDS {
        let mut running = Vec::new();
        for worker in 0..3 {
            let name = format!("tree-{round}-{worker}");
            for n in 0..3 {
                sandbox.write(format!("{name}/{n}"), content(round + worker + n));
                sandbox.write(format!("{name}/own-{n}"), noise(round * 100 + worker * 10 + n + 5000, 60_000));
            }
            let mut adding = sandbox.command(["--json", "add", &name]);
            running.push((name, adding.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap()));
        }
        let mut collecting = sandbox.command(["gc"]).stderr(Stdio::null()).spawn().unwrap();
        // Of what is there, every other one goes while they run.
        let gone: Vec<String> = kept.keys().step_by(2).cloned().collect();
        for id in &gone {
            sandbox.ok(["rm", id]);
            kept.remove(id);
        }
        let mut second = sandbox.command(["gc", "--max-waste", "0%"]).stderr(Stdio::null()).spawn().unwrap();
        if round % 2 == 1 {
            // At some moment of its work.
            let begin = bytes_in(&sandbox.path(".store"));
            let (_, adding) = &mut running[0];
            wait_until(adding, || bytes_in(&sandbox.path(".store")) > begin + 500_000 * round);
            let _ = running[0].1.kill();
            let _ = collecting.kill();
        }
        for (name, adding) in running {
            let output = adding.wait_with_output().unwrap();
            if output.status.success() {
                let report: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
                let path = sandbox.path(&name);
                kept.insert(report["snapshot"].as_str().unwrap().to_owned(), (name, path));
            } else {
                assert_eq!(output.status.code(), None, "{name} failed by itself");
                killed += 1;
            }
        }
        collecting.wait().unwrap();
        // It may have found the other at work.
        assert!(matches!(second.wait().unwrap().code(), Some(0 | 1)));
        for (id, (name, path)) in &kept {
            sandbox.assert_tree(id, name, path);
        }
    }
    sandbox.ok(["gc", "--max-waste", "0%"]);
    for (id, (name, path)) in &kept {
        sandbox.assert_tree(id, name, path);
    }
    assert_eq!((sandbox.records(), sandbox.leases()), (0, 0));
    let stats = sandbox.json(["dedup-stats"]);
    assert_eq!(stats["unused_chunks"], 0, "all that is dead is gone");
    assert!(killed <= ROUNDS / 2);
}
