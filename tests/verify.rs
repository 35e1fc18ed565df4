//! `store verify` and `store repair` as programs: what they say, and their exit codes.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::support::{Sandbox, assert_same_tree, noise};
use crate::system::files_below;

/// A store with a snapshot of `tree`, and its pack, recipes file and snapshot.
fn store(sandbox: &Sandbox) -> [PathBuf; 3] {
    for n in 0..8 {
        sandbox.write(format!("tree/{n}"), noise(n, 300_000));
    }
    sandbox.write("tree/a\nb", noise(50, 5_000));
    sandbox.ok(["add", "tree"]);
    ["packs", "recipes", "snapshots"].map(|folder| {
        let found = files_below(&sandbox.path(".store").join(folder));
        assert_eq!(found.len(), 1, "{found:?}");
        found[0].clone()
    })
}

fn flip(path: &Path, at: usize) {
    let mut bytes = std::fs::read(path).unwrap();
    bytes[at] ^= 8;
    // A new file: objects are never written to.
    std::fs::remove_file(path).unwrap();
    std::fs::write(path, bytes).unwrap();
}

fn json(sandbox: &Sandbox, code: i32, arguments: &[&str]) -> Value {
    let text = sandbox.expect(code, [&["--json"], arguments].concat());
    serde_json::from_str(&text).unwrap()
}

fn strings<'a>(list: &'a Value, field: &str) -> Vec<&'a str> {
    list.as_array().unwrap().iter().map(|item| item[field].as_str().unwrap()).collect()
}

#[test]
fn a_whole_store_is_said_to_be_whole() {
    let sandbox = Sandbox::new();
    store(&sandbox);
    for (option, depth) in [(None, "stored"), (Some("--quick"), "quick"), (Some("--full"), "full")] {
        let output = sandbox.run(["verify"].into_iter().chain(option));
        assert_eq!((output.status.code(), output.stdout.as_slice()), (Some(0), &b""[..]));
        assert!(String::from_utf8_lossy(&output.stderr).starts_with("all whole: 9 files in 1 snapshot,"));
        let arguments: Vec<&str> = ["verify"].into_iter().chain(option).collect();
        let report = json(&sandbox, 0, &arguments);
        assert_eq!((&report["whole"], &report["depth"]), (&Value::Bool(true), &Value::from(depth)));
        assert_eq!((&report["files"], &report["logical_bytes"]), (&9.into(), &2_405_000.into()));
        assert_eq!((&report["damages"], &report["lost"]), (&Value::Array(vec![]), &Value::Array(vec![])));
    }
    sandbox.expect(2, ["verify", "--quick", "--full"]);
    // An empty store is whole, too; and no store is no store.
    sandbox.ok(["--store", "empty", "init"]);
    sandbox.ok(["--store", "empty", "verify"]);
    sandbox.expect(1, ["--store", "none", "verify"]);
}

/// A snapshot and a recipes file are named after the hash of all their bytes, which says of no byte that it is wrong.
#[test]
fn no_byte_is_blamed_where_only_the_hash_of_all_is_wrong() {
    let sandbox = Sandbox::new();
    let [_, _, snapshot] = store(&sandbox);
    // A byte of the magic at the beginning, which is not looked at but by the hash.
    flip(&snapshot, 7);
    let name = snapshot.strip_prefix(sandbox.path(".store")).unwrap().display().to_string();
    let text = sandbox.expect(4, ["verify"]);
    let line = text.lines().find(|line| line.starts_with("damaged: ")).unwrap();
    assert!(line.starts_with(&format!("damaged: {name}: the file is named after the hash")), "{line}");
    let damages = &json(&sandbox, 4, &["verify"])["damages"];
    assert_eq!((&damages[0]["object"], &damages[0]["offset"]), (&name.as_str().into(), &Value::Null), "{damages}");
    let error = sandbox.error(4, ["get", "tree", "-o", "copy"]);
    assert!(error.contains(" is damaged: the file is named after the hash"), "{error}");
    // Values of store.json that do not make its checksum.
    let config = sandbox.path(".store/store.json");
    let changed = std::fs::read_to_string(&config).unwrap().replace("\"format\"", "\"Format\"");
    std::fs::write(&config, changed).unwrap();
    let error = sandbox.error(4, ["snapshots"]);
    assert!(error.contains("store.json is damaged: "), "{error}");
}

#[test]
fn damage_is_named_with_the_files_it_costs_then_repaired_then_healed() {
    let sandbox = Sandbox::new();
    let [pack, ..] = store(&sandbox);
    let size = std::fs::metadata(&pack).unwrap().len() as usize;
    flip(&pack, size / 2);
    let output = sandbox.run(["verify"]);
    let (text, errors) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert_eq!(output.status.code(), Some(4), "{errors}");
    let name = pack.strip_prefix(sandbox.path(".store")).unwrap().display().to_string();
    assert!(text.starts_with(&format!("damaged: {name} at byte ")), "{text}");
    assert!(errors.contains("hint: `store repair`"), "{errors}");

    let report = json(&sandbox, 4, &["verify"]);
    let damage = &report["damages"][0];
    let from = damage["offset"].as_u64().unwrap();
    assert!((from..from + damage["bytes"].as_u64().unwrap()).contains(&(size as u64 / 2)), "{damage}");
    let lost = strings(&report["lost"], "path");
    assert_eq!((report["lost_files"].as_u64().unwrap() as usize, report["whole"].as_bool()), (lost.len(), Some(false)));
    assert!((1..=3).contains(&lost.len()), "{lost:?}");
    for (n, path) in lost.iter().enumerate() {
        assert!(text.contains(&format!("lost: {path} of snapshot ")), "{text}");
        assert_eq!(report["lost"][n]["damage"], 0);
        sandbox.expect(4, ["get", path, "-o", "part"]);
        assert!(!sandbox.path("part").exists());
    }
    for n in 0..8 {
        let path = format!("tree/{n}");
        if !lost.contains(&path.as_str()) {
            sandbox.ok(["get", &path, "-o", &format!("whole {n}")]);
        }
    }

    let dry = json(&sandbox, 4, &["repair", "--dry-run"]);
    assert_eq!((&dry["dry_run"], &dry["lost"]), (&Value::Bool(true), &report["lost"]));
    assert!(pack.exists() && !sandbox.path(".store/quarantine").exists());
    let repaired = json(&sandbox, 4, &["repair"]);
    assert_eq!(strings(&repaired["lost"], "path"), lost);
    assert!(repaired["packs"][0]["frames"].as_u64().unwrap() > 2, "{repaired}");
    assert!(!pack.exists());
    let kept = sandbox.path(".store").join(repaired["quarantined"][0].as_str().unwrap());
    assert_eq!(kept.file_name(), pack.file_name());
    // Nothing is damaged any more, but something is missing.
    assert_eq!(json(&sandbox, 4, &["verify", "--full"])["damages"], Value::Array(vec![]));
    sandbox.ok(["add", "--reread", "tree"]);
    sandbox.ok(["verify", "--full"]);
    let first = sandbox.ok(["snapshots", "--json"]);
    let snapshots: Value = serde_json::from_str(&first).unwrap();
    for id in strings(&snapshots, "id") {
        let copy = format!("copy of {id}");
        sandbox.ok(["get", "tree", "--snapshot", id, "-o", &copy]);
        assert_same_tree(&sandbox.path("tree"), &sandbox.path(copy));
    }
    let again = sandbox.run(["repair"]);
    assert_eq!(again.status.code(), Some(0));
    assert!(String::from_utf8_lossy(&again.stderr).starts_with("nothing is damaged\n"));
}

#[test]
fn a_pack_without_its_end_is_saved_whole() {
    let sandbox = Sandbox::new();
    let [pack, ..] = store(&sandbox);
    let bytes = std::fs::read(&pack).unwrap();
    std::fs::write(&pack, &bytes[..bytes.len() - 100]).unwrap();
    let text = sandbox.expect(4, ["verify", "--quick"]);
    assert_eq!(text.lines().filter(|line| line.starts_with("lost: ")).count(), 9, "{text}");
    assert!(text.contains("lost: tree/a\\nb of snapshot"), "{text}");
    sandbox.ok(["repair"]);
    assert!(std::fs::read(&pack).unwrap() == bytes);
    sandbox.ok(["get", "tree", "-o", "copy"]);
    assert_same_tree(&sandbox.path("tree"), &sandbox.path("copy"));
}

#[test]
fn a_pack_that_is_gone_is_missed() {
    let sandbox = Sandbox::new();
    let [pack, recipes, _] = store(&sandbox);
    std::fs::remove_file(pack).unwrap();
    let report = json(&sandbox, 4, &["verify", "--quick"]);
    assert_eq!((&report["damages"], &report["lost_files"]), (&Value::Array(vec![]), &9.into()));
    assert!(report["lost"][0]["damage"].is_null(), "{report}");
    std::fs::remove_file(recipes).unwrap();
    let report = json(&sandbox, 4, &["verify"]);
    assert!(report["lost"][0]["what"].as_str().unwrap().contains("recipe"), "{report}");
    assert_eq!(json(&sandbox, 4, &["repair"])["lost_files"], 9);
    sandbox.ok(["add", "--reread", "tree"]);
    sandbox.ok(["verify"]);
}

#[test]
fn a_snapshot_is_made_again_where_its_rows_prove_it_and_dropped_where_it_is_beyond_help() {
    let sandbox = Sandbox::new();
    let [.., snapshot] = store(&sandbox);
    let original = std::fs::read(&snapshot).unwrap();
    let id = snapshot.file_stem().unwrap().to_str().unwrap();
    // In the copy of the schema at the front, which is for readers of streams.
    flip(&snapshot, 100);
    let report = json(&sandbox, 4, &["verify", "--quick"]);
    assert_eq!(report["lost_snapshots"], Value::Array(vec![id.into()]));
    let repaired = json(&sandbox, 0, &["repair"]);
    assert_eq!(
        (&repaired["snapshots"][0]["successor"], &repaired["snapshots"][0]["lost_rows"]),
        (&id.into(), &0.into())
    );
    assert!(std::fs::read(&snapshot).unwrap() == original);
    sandbox.ok(["verify"]);

    std::fs::write(&snapshot, &original[..original.len() / 2]).unwrap();
    let repaired = json(&sandbox, 4, &["repair"]);
    assert!(repaired["snapshots"][0]["successor"].is_null(), "{repaired}");
    assert!(sandbox.path(format!(".store/quarantine/{id}.snapshot.arrow.1")).exists());
    sandbox.ok(["verify"]);
    // Its contents are still there: adding again stores no byte of them.
    assert_eq!(sandbox.json(["add", "tree"])["new_bytes"], 0);
}

/// Nothing but new chunks depends on it.
#[test]
fn a_configuration_that_is_lost_is_taken_from_another_store() {
    let sandbox = Sandbox::new();
    store(&sandbox);
    let path = sandbox.path(".store/store.json");
    flip(&path, 50);
    let error = sandbox.error(4, ["verify"]);
    assert!(error.contains("hint: `store repair` corrects a single changed byte"), "{error}");
    sandbox.ok(["repair"]);
    sandbox.ok(["verify"]);
    std::fs::remove_file(&path).unwrap();
    sandbox.expect(1, ["verify"]);
    sandbox.ok(["--store", "other", "init"]);
    std::fs::copy(sandbox.path("other/store.json"), &path).unwrap();
    sandbox.ok(["verify", "--full"]);
    assert_eq!(sandbox.json(["add", "--reread", "tree"])["new_bytes"], 0);
    sandbox.ok(["get", "tree", "-o", "copy"]);
    assert_same_tree(&sandbox.path("tree"), &sandbox.path("copy"));
}

#[test]
fn damage_names_verify_and_repair_as_what_to_do() {
    let sandbox = Sandbox::new();
    let [pack, _, snapshot] = store(&sandbox);
    std::fs::write(&pack, b"").unwrap();
    let error = sandbox.error(4, ["get", "tree/3", "-o", "-"]);
    assert!(
        error.contains("hint: ") && error.contains("`store verify`") && error.contains("`store repair`"),
        "{error}"
    );
    flip(&snapshot, 100);
    let error = sandbox.error(4, ["ls"]);
    assert!(error.contains("`store verify`"), "{error}");
    flip(&sandbox.path(".store/store.json"), 30);
    let error = sandbox.error(4, ["verify"]);
    assert!(error.contains("store.json is damaged") && !error.contains("store verify"), "{error}");
}
