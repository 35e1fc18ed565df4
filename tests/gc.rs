//! `rm` and `gc` as programs, beside adds and gets that run. Invariant 3: nothing a durable snapshot reaches is deleted.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use std::collections::BTreeMap;
use std::io::Write;
use std::io::{BufRead, BufReader, Read};
use std::path::PathBuf;
use std::process::{Child, Stdio};

use crate::support::{Bench, assert_same_tree, noise};
use crate::system::{bytes_in, files_below, wait_until};

impl Bench {
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
    let bench = Bench::new();
    bench.write("a/large", noise(1, 3_000_000));
    bench.write("a/small", b"small");
    bench.write("b/large", noise(2, 2_000_000));
    let (a, b) = (bench.add_tree("a"), bench.add_tree("b"));
    assert_eq!(bench.error(1, ["rm", &a, "0123456789"]), "error: snapshot \"0123456789\" not found\n");
    assert!(bench.error(2, ["rm", ""]).contains("a snapshot is given by the first hexadecimal digits of its id"));
    assert!(bench.error(2, ["gc", "--max-waste", "200%"]).contains("a share is 0% to 100%"));
    assert_eq!(bench.snapshots().len(), 2, "all or none");

    let before = bench.objects();
    let foretold = bench.json(["rm", &a[..10], "--dry-run"]);
    assert_eq!((foretold["removed"][0].as_str(), bench.snapshots().len()), (Some(&*a), 2));
    let removed = bench.json(["rm", &a[..10]]);
    assert_eq!((removed["bytes"].clone(), removed["gc"].clone()), (foretold["bytes"].clone(), serde_json::Value::Null));
    assert_eq!(bench.snapshots(), [b.as_str()]);
    let dry = bench.json(["gc", "--dry-run"]);
    assert_eq!(dry, foretold["gc"]);
    assert_eq!(bench.objects(), before);
    let mut done = bench.json(["gc"]);
    done["dry_run"] = true.into();
    assert_eq!(done, dry);
    assert_eq!(bench.objects(), before - done["freed_bytes"].as_u64().unwrap());
    assert_eq!((done["packs"].as_u64(), done["recipes_files"].as_u64()), (Some(1), Some(1)));
    bench.assert_tree(&b, "b", &bench.path("b"));
    assert!(bench.error(0, ["gc"]).starts_with("freed 0 B: 0 packs deleted"));
    assert_eq!(bench.json(["dedup-stats"])["unused_chunks"], 0);
    // The index names no pack that is gone, and can be made again.
    bench.ok(["repair", "--index"]);
    bench.assert_tree(&b, "b", &bench.path("b"));
    assert_eq!(bench.json(["add", "--reread", "b"])["new_chunks"], 0);
}

#[test]
fn a_gc_waits_for_an_add_that_may_rely_on_what_it_condemned() {
    let bench = Bench::new();
    let bytes = noise(1, 3_000_000);
    let old = bench.write("old/file", &bytes);
    bench.write("other", noise(2, 500_000));
    let gone = bench.add_tree("old");
    bench.add_tree("other");
    // It has seen the packs of the snapshot that is now removed, and will find its own bytes there.
    let adding = bench.begin_stream("stream");
    bench.ok(["rm", &gone]);
    let mut collecting = bench.command(["gc"]).stderr(Stdio::piped()).spawn().unwrap();
    // Once it has said for whom it waits, it waits for nobody else.
    let mut said = BufReader::new(collecting.stderr.take().unwrap());
    let mut waiting = String::new();
    said.read_line(&mut waiting).unwrap();
    assert_eq!(bench.records(), 1);
    assert!(bench.error(1, ["gc"]).contains("is in use by another process"));
    assert!(collecting.try_wait().unwrap().is_none(), "it does not wait");
    // One that begins now knows, and stores anew what is condemned.
    let stored = bench.json(["add", "--reread", "old"]);
    assert_eq!(stored["new_bytes"], bytes.len());
    let adding_id = adding.id();
    end_stream(adding, &bytes);
    let mut freed = String::new();
    said.read_to_string(&mut freed).unwrap();
    assert!(collecting.wait().unwrap().success() && freed.starts_with("freed "), "{freed}");
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap();
    let expected = format!("waiting for 1 add to end: process {adding_id} on {} since 20", host.trim());
    assert!(waiting.starts_with(&expected), "{waiting}");
    assert!(bench.run(["get", "stream", "-o", "-"]).stdout == bytes);
    assert!(bench.run(["get", old.strip_prefix(bench.path("")).unwrap().to_str().unwrap(), "-o", "-"]).stdout == bytes);
    assert_eq!((bench.records(), bench.leases()), (0, 0));
    // Whatever is there twice now, one gc more settles.
    bench.ok(["gc"]);
    assert!(bench.objects() < 3_700_000);
    assert!(bench.run(["get", "stream", "-o", "-"]).stdout == bytes);
}

#[test]
fn what_only_a_running_add_needs_is_spared() {
    let bench = Bench::new();
    let bytes = noise(1, 3_000_000);
    bench.write("old", &bytes);
    let gone = bench.add_tree("old");
    let adding = bench.begin_stream("stream");
    bench.ok(["rm", &gone]);
    let later = bench.json(["gc", "--no-wait"]);
    assert_eq!((later["condemned"].as_u64(), later["leases"].as_u64()), (Some(2), Some(1)));
    assert_eq!((later["freed_bytes"].as_u64(), bench.records()), (Some(0), 1));
    end_stream(adding, &bytes);
    let done = bench.json(["gc"]);
    assert_eq!((done["spared"].as_u64(), done["packs"].as_u64()), (Some(2), Some(0)));
    assert!(bench.run(["get", "stream", "-o", "-"]).stdout == bytes);
    assert_eq!(bench.json(["gc"])["freed_bytes"], 0);
}

#[test]
fn the_lease_of_a_killed_add_holds_nobody_up() {
    let bench = Bench::new();
    bench.write("old", noise(1, 1_000_000));
    let gone = bench.add_tree("old");
    let mut adding = bench.begin_stream("stream");
    adding.kill().unwrap();
    adding.wait().unwrap();
    assert_eq!(bench.leases(), 1);
    bench.ok(["rm", &gone]);
    let done = bench.json(["gc", "--no-wait"]);
    assert_eq!((done["packs"].as_u64(), done["leases"].as_u64(), bench.leases()), (Some(1), Some(0), 0));
}

#[test]
fn a_get_whose_packs_are_rewritten_under_it_finds_the_chunks_again() {
    let bench = Bench::new();
    // Each pack half needed.
    for n in 0..30 {
        let (kept, dropped) = (noise(n, 1_500_000), noise(100 + n, 1_500_000));
        bench.write(format!("both/{n}/kept"), &kept);
        bench.write(format!("both/{n}/dropped"), dropped);
        bench.write(format!("kept/{n}"), kept);
    }
    let (both, kept) = (bench.add_tree("both"), bench.add_tree("kept"));
    let mut getting = bench.command(["get", "kept", "-o", "copy", "--threads", "1"]).spawn().unwrap();
    assert!(wait_until(&mut getting, || bench.path("copy/1").exists()));
    bench.ok(["rm", &both]);
    let done = bench.json(["gc"]);
    assert!(done["new_packs"].as_u64() > Some(0) && done["packs"].as_u64() > Some(0), "{done}");
    assert!(getting.wait().unwrap().success());
    assert_same_tree(&bench.path("kept"), &bench.path("copy"));
    bench.assert_tree(&kept, "kept", &bench.path("kept"));
}

#[test]
fn a_get_of_a_snapshot_that_is_removed_says_so() {
    let bench = Bench::new();
    for n in 0..40 {
        bench.write(format!("tree/{n}"), noise(n, 4_000_000));
    }
    let tree = bench.add_tree("tree");
    // Read slowly, into a pipe that is not read.
    let mut getting =
        bench.command(["get", "tree", "-o", "copy", "--threads", "1"]).stderr(Stdio::piped()).spawn().unwrap();
    assert!(wait_until(&mut getting, || bench.path("copy/1").exists()));
    bench.ok(["rm", &tree]);
    bench.ok(["gc"]);
    let output = getting.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    // It may have been faster; then it is whole.
    if output.status.success() {
        assert_same_tree(&bench.path("tree"), &bench.path("copy"));
    } else {
        assert_eq!(output.status.code(), Some(1), "{said}");
        assert!(said.contains(&format!("snapshot {tree} was removed while it was being read")), "{said}");
    }
}

/// Adds, removals and collections at once, all as processes, some of them killed: what was acknowledged is there.
#[test]
fn adds_removals_and_collections_at_once() {
    const ROUNDS: u64 = 6;
    let bench = Bench::new();
    // Contents that come again and again, so that adds find what collections are about to delete.
    let content = |n: u64| noise(1000 + n % 5, 1_500_000);
    let mut kept: BTreeMap<String, (String, PathBuf)> = BTreeMap::new();
    let mut killed = 0;
    for round in 0..ROUNDS {
        let mut running = Vec::new();
        for worker in 0..3 {
            let name = format!("tree-{round}-{worker}");
            for n in 0..3 {
                bench.write(format!("{name}/{n}"), content(round + worker + n));
                bench.write(format!("{name}/own-{n}"), noise(round * 100 + worker * 10 + n + 5000, 60_000));
            }
            let mut adding = bench.command(["--json", "add", &name]);
            running.push((name, adding.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap()));
        }
        let mut collecting = bench.command(["gc"]).stderr(Stdio::null()).spawn().unwrap();
        // Of what is there, every other one goes while they run.
        let gone: Vec<String> = kept.keys().step_by(2).cloned().collect();
        for id in &gone {
            bench.ok(["rm", id]);
            kept.remove(id);
        }
        let mut second = bench.command(["gc", "--max-waste", "0%"]).stderr(Stdio::null()).spawn().unwrap();
        if round % 2 == 1 {
            // At some moment of its work.
            let begin = bytes_in(&bench.path(".store"));
            let (_, adding) = &mut running[0];
            wait_until(adding, || bytes_in(&bench.path(".store")) > begin + 500_000 * round);
            let _ = running[0].1.kill();
            let _ = collecting.kill();
        }
        for (name, adding) in running {
            let output = adding.wait_with_output().unwrap();
            if output.status.success() {
                let report: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
                let path = bench.path(&name);
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
            bench.assert_tree(id, name, path);
        }
    }
    bench.ok(["gc", "--max-waste", "0%"]);
    for (id, (name, path)) in &kept {
        bench.assert_tree(id, name, path);
    }
    assert_eq!((bench.records(), bench.leases()), (0, 0));
    let stats = bench.json(["dedup-stats"]);
    assert_eq!(stats["unused_chunks"], 0, "all that is dead is gone");
    assert!(killed <= ROUNDS / 2);
}
