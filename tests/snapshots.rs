//! The list of snapshots: the newest is the one added last, and one that cannot be read keeps no other from being used.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use seamstore::Store;
use seamstore::entry::SnapshotId;
use seamstore::internals::catalog::snapshot::SnapshotWriter;
use seamstore::internals::format::name::ObjectName;
use seamstore::internals::{open_snapshot, storage};

use crate::support::{Sandbox, skipped};

/// 2040-01-01, in nanoseconds.
const IN_2040: i64 = 2_208_988_800_000_000_000;

/// Writes the newest snapshot again as another clock would have had it.
fn at_time(sandbox: &Sandbox, time_ns: i64) -> String {
    let store = Store::open(&sandbox.path(".store")).unwrap();
    let newest = store.snapshots().unwrap().remove(0);
    let snapshot = open_snapshot(storage(&store), newest.id).unwrap();
    let mut writer = SnapshotWriter::begin(storage(&store).writer().unwrap()).unwrap();
    for entry in snapshot.entries() {
        writer.push(&entry.unwrap()).unwrap();
    }
    let mut info = snapshot.info().clone();
    info.time_ns = time_ns;
    let written = writer.finish(info).unwrap();
    storage(&store).delete(&ObjectName::Snapshot(newest.id)).unwrap();
    written.id.to_hex()
}

fn file_of(sandbox: &Sandbox, id: &str) -> PathBuf {
    let id: SnapshotId = id.parse().unwrap();
    sandbox.path(".store").join(ObjectName::Snapshot(id).path())
}

#[test]
fn the_newest_snapshot_is_the_one_added_last_after_a_clock_that_was_ahead() {
    let sandbox = Sandbox::new();
    sandbox.write("file", "from 2040");
    sandbox.ok(["add", "file"]);
    let ahead = at_time(&sandbox, IN_2040);
    let mut added = vec![ahead.clone()];
    for n in 0..5 {
        sandbox.write("file", format!("add {n}"));
        sandbox.write("other", format!("other {n}"));
        // Also of other paths, which have no parent in common with it.
        for path in ["file", "other"] {
            let output = sandbox.run(["--json", "add", path]);
            let error = String::from_utf8_lossy(&output.stderr).into_owned();
            assert!(error.contains(&ahead[..12]) && error.contains("2040-01-01 00:00:00 UTC"), "{error}");
            let json: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
            assert!(json["warnings"][0].as_str().unwrap().contains("in the future"), "{json}");
            added.push(json["snapshot"].as_str().unwrap().to_owned());
        }
        assert_eq!(sandbox.ok(["get", "file", "-o", "-"]), format!("add {n}"));
        assert_eq!(sandbox.ok(["get", "other", "--snapshot", "latest", "-o", "-"]), format!("other {n}"));
    }
    let newest_first: Vec<String> = added.iter().rev().cloned().collect();
    assert_eq!(sandbox.snapshots(), newest_first);
    let stats = sandbox.json(["dedup-stats"])["snapshots"].clone();
    let oldest_first: Vec<&str> = stats.as_array().unwrap().iter().map(|one| one["id"].as_str().unwrap()).collect();
    assert_eq!(oldest_first, added);
    assert!(String::from_utf8_lossy(&sandbox.run(["snapshots"]).stderr).contains("in the future"));
    // In a bundle and in the store that is made of it, too.
    sandbox.ok(["bundle", "export", "all.bundle"]);
    sandbox.ok(["--store", "copy", "bundle", "import", "all.bundle"]);
    for store in ["all.bundle", "copy"] {
        let listed = sandbox.json(["--store", store, "snapshots"]);
        let ids: Vec<&str> = listed.as_array().unwrap().iter().map(|one| one["id"].as_str().unwrap()).collect();
        assert_eq!(ids, newest_first);
    }
    // Whichever are removed, the others stay in this order.
    for gone in [3, 1, 0] {
        sandbox.ok(["rm", &added.remove(gone)]);
        let left: Vec<String> = added.iter().rev().cloned().collect();
        assert_eq!(sandbox.snapshots(), left);
    }
}

#[test]
fn an_add_whose_clock_is_right_says_nothing_and_records_no_order() {
    let sandbox = Sandbox::new();
    sandbox.write("file", "text");
    sandbox.ok(["init"]);
    for _ in 0..3 {
        let output = sandbox.run(["--json", "add", "file"]);
        assert!(output.stderr.is_empty(), "{}", String::from_utf8_lossy(&output.stderr));
        let json: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!(json["warnings"], serde_json::json!([]));
    }
    for snapshot in sandbox.json(["snapshots"]).as_array().unwrap() {
        assert!(snapshot["order_ns"].is_null(), "{snapshot}");
    }
}

/// A store with a snapshot of `one`, an older one, and one of `two`; the file of the first.
fn two_snapshots() -> (Sandbox, PathBuf, String) {
    let sandbox = Sandbox::new();
    sandbox.write("one", "1");
    sandbox.write("two", "2");
    let id = sandbox.add_tree("one");
    sandbox.ok(["add", "two"]);
    let file = file_of(&sandbox, &id);
    (sandbox, file, id)
}

fn stderr(sandbox: &Sandbox, code: i32, arguments: &[&str]) -> (String, String) {
    let output = sandbox.run(arguments);
    let error = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(code), "{arguments:?}: {error}");
    (String::from_utf8_lossy(&output.stdout).into_owned(), error)
}

#[test]
fn a_damaged_snapshot_keeps_no_other_from_being_listed_restored_and_exported() {
    for damage in ["cut", "empty", "middle", "other"] {
        let (sandbox, file, id) = two_snapshots();
        let mut bytes = std::fs::read(&file).unwrap();
        match damage {
            "cut" => drop(bytes.pop()),
            "empty" => bytes.clear(),
            "middle" => bytes[20] ^= 1,
            _ => bytes = b"this is not a snapshot".repeat(20),
        }
        std::fs::write(&file, bytes).unwrap();
        // The end of the file alone is read for the list: a changed row is noticed when rows are read.
        if damage != "middle" {
            let (out, error) = stderr(&sandbox, 4, &["snapshots"]);
            assert!(out.lines().count() == 1 && out.ends_with("  two\n"), "{damage}: {out}");
            assert!(error.contains(&format!("warning: snapshot {id} cannot be read")), "{damage}: {error}");
            let (out, _) = stderr(&sandbox, 4, &["--json", "snapshots"]);
            let json: serde_json::Value = serde_json::from_str(&out).unwrap();
            assert_eq!(json[1]["id"], id.as_str(), "{json}");
            assert!(json[1]["unreadable"].is_string() && json[0]["time_ns"].is_number(), "{json}");
            // It could be newer, and have the file, too.
            let (out, error) = stderr(&sandbox, 4, &["get", "two", "-o", "-"]);
            assert!(out == "2" && error.contains(&id), "{damage}: {out} {error}");
            let (out, error) = stderr(&sandbox, 4, &["ls"]);
            assert!(out == "two\n" && error.contains(&id), "{damage}: {out} {error}");
        }
        let newest = sandbox.run(["--json", "snapshots"]).stdout;
        let newest: serde_json::Value = serde_json::from_slice(&newest).unwrap();
        let newest = newest[0]["id"].as_str().unwrap();
        // One that is named is not affected.
        let (out, error) = stderr(&sandbox, 0, &["get", "two", "--snapshot", newest, "-o", "-"]);
        assert!(out == "2" && error.is_empty(), "{damage}: {out} {error}");
        let (_, error) = stderr(&sandbox, 4, &["get", "one", "-o", "-"]);
        assert!(
            error.contains("is damaged") && error.contains("no snapshot that can be read has"),
            "{damage}: {error}"
        );
        let (_, error) = stderr(&sandbox, 4, &["get", "one", "--snapshot", &id, "-o", "-"]);
        assert!(error.contains("is damaged"), "{damage}: {error}");
        let (out, error) = stderr(&sandbox, 4, &["--json", "dedup-stats"]);
        let json: serde_json::Value = serde_json::from_str(&out).unwrap();
        assert_eq!(json["unreadable_snapshots"][0], id.as_str(), "{json}");
        assert_eq!(json["snapshots"].as_array().unwrap().len(), 1, "{json}");
        assert_eq!((&json["files"], &json["unused_chunks"]), (&1.into(), &1.into()), "{json}");
        assert!(error.contains(&id), "{error}");
        let (_, error) = stderr(&sandbox, 4, &["bundle", "export", "all.bundle"]);
        assert!(error.contains(&id) && error.contains("1 of 1 snapshots"), "{damage}: {error}");
        assert_eq!(sandbox.ok(["--store", "all.bundle", "ls"]), "two\n");
        // Nothing is deleted that it may need.
        let packs = crate::system::files_below(&sandbox.path(".store/packs"));
        let (_, error) = stderr(&sandbox, 4, &["gc"]);
        assert!(error.contains("gc deletes nothing while it is unknown what this snapshot needs"), "{damage}: {error}");
        assert_eq!(crate::system::files_below(&sandbox.path(".store/packs")), packs);
        // An add goes on without it as its parent, and says so.
        let (_, error) = stderr(&sandbox, 0, &["add", "one"]);
        assert!(
            error.contains(&format!("warning: snapshot {id} cannot be read, and was not used")),
            "{damage}: {error}"
        );
    }
}

#[test]
fn a_snapshot_that_the_system_does_not_let_be_read_is_named_too() {
    let (sandbox, file, id) = two_snapshots();
    // What is not a snapshot's name concerns nobody.
    std::fs::write(sandbox.path(".store/snapshots/notes.txt"), "mine").unwrap();
    assert_eq!(sandbox.snapshots().len(), 2);
    if rustix::process::geteuid().is_root() {
        return skipped("a snapshot without permission to read it: root reads everything");
    }
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o0)).unwrap();
    let (out, error) = stderr(&sandbox, 1, &["snapshots"]);
    assert!(out.lines().count() == 1 && error.contains(&id), "{out} {error}");
    let (out, error) = stderr(&sandbox, 1, &["get", "two", "-o", "-"]);
    assert!(out == "2" && error.contains(&id), "{out} {error}");
}

#[test]
fn an_empty_store_says_that_it_has_no_snapshots_yet() {
    let sandbox = Sandbox::new();
    sandbox.ok(["init"]);
    for command in
        [&["ls"][..], &["get", "x"], &["export", "--tar", "x", "-o", "y"], &["bundle", "export", "b", "latest"]]
    {
        let error = sandbox.error(1, command);
        assert!(error.starts_with("error: the store has no snapshots yet\nhint: "), "{command:?}: {error}");
    }
}

#[test]
fn sums_of_sizes_stop_at_the_largest_number() {
    let Ok(folder) = tempfile::tempdir_in("/dev/shm") else {
        return skipped("files of 2^63-1 bytes: there is no /dev/shm");
    };
    let sandbox = Sandbox::new();
    for n in 0..3 {
        let file = std::fs::File::create(folder.path().join(n.to_string())).unwrap();
        if file.set_len(i64::MAX as u64).is_err() {
            return skipped("files of 2^63-1 bytes: the file system has none");
        }
    }
    let tree = folder.path().to_str().unwrap();
    assert_eq!(sandbox.json(["add", tree])["logical_bytes"], u64::MAX);
    sandbox.ok(["add", tree]);
    assert_eq!(sandbox.json(["snapshots"])[0]["counts"]["logical_bytes"], u64::MAX);
    assert_eq!(sandbox.json(["dedup-stats"])["logical_bytes"], u64::MAX);
    assert_eq!(sandbox.json(["verify"])["logical_bytes"], u64::MAX);
    assert!(sandbox.ok(["snapshots"]).contains("18.4 EB"));
    assert_eq!(sandbox.run(["ls", "-lR"]).status.code(), Some(0));
    let exported = sandbox.command(["export", "--tar", tree]).stdout(std::process::Stdio::piped()).spawn();
    let mut exported = exported.unwrap();
    // Of an endless archive the beginning is enough.
    drop(exported.stdout.take());
    assert_eq!(exported.wait().unwrap().code(), Some(0));
}
