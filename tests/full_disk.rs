//! Disks that are full or may not be written to: a clean failure, nothing lost, and the same command works later.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use crate::support::{Sandbox, assert_same_tree, noise};
use crate::system::{Mount, files_below, give_to_nobody, is_root, wait_until};

/// Fails unless an error says that there is no space left, and that this can be helped.
fn assert_no_space(error: &str) {
    assert!(error.contains("error: cannot ") && error.contains("No space left on device"), "{error}");
    assert!(error.contains("hint: free some space"), "{error}");
}

/// Takes all the space there is left but about `left` bytes.
fn fill(folder: &Path, left: usize) {
    let ballast = folder.join("ballast");
    let mut size = 64 << 20;
    let mut bytes = Vec::new();
    // As much as fits, in ever smaller steps.
    while size >= 4096 {
        use std::io::Write;
        let mut file = std::fs::OpenOptions::new().append(true).create(true).open(&ballast).unwrap();
        bytes.resize(size, 1);
        if file.write_all(&bytes).is_err() {
            size /= 2;
        }
    }
    let file = std::fs::OpenOptions::new().write(true).open(&ballast).unwrap();
    file.set_len(file.metadata().unwrap().len().saturating_sub(left as u64)).unwrap();
}

#[test]
fn a_disk_that_fills_up_during_an_add() {
    let sandbox = Sandbox::new();
    let Some(_disk) = Mount::small(sandbox.path("disk"), 12 << 20) else { return };
    sandbox.write("old/file", noise(1, 2_000_000));
    sandbox.write("old/text", "text ".repeat(1000));
    for n in 0..40 {
        sandbox.write(format!("new/{n}"), noise(100 + n, 500_000));
    }
    let store = ["--store", "disk/store"];
    let with = |arguments: &[&'static str]| [&store[..], arguments].concat();
    sandbox.ok(with(&["add", "old"]));
    let before = files_below(&sandbox.path("disk/store/snapshots"));

    assert_no_space(&sandbox.error(1, with(&["add", "new"])));
    assert_eq!(files_below(&sandbox.path("disk/store/snapshots")), before, "no snapshot");
    assert_eq!(files_below(&sandbox.path("disk/store/tmp")).len(), 0, "nothing half written is left");

    // Not a byte is left: what is in the store can be read all the same.
    fill(&sandbox.path("disk"), 0);
    sandbox.ok(with(&["get", "old", "-o", "copy"]));
    assert_same_tree(&sandbox.path("old"), &sandbox.path("copy"));
    sandbox.ok(with(&["ls", "-R"]));
    sandbox.ok(with(&["dedup-stats"]));
    assert_no_space(&sandbox.error(1, with(&["add", "new"])));

    // With room again, the same add succeeds.
    std::fs::remove_file(sandbox.path("disk/ballast")).unwrap();
    for n in 10..40 {
        std::fs::remove_file(sandbox.path(format!("new/{n}"))).unwrap();
    }
    sandbox.ok(with(&["add", "new"]));
    sandbox.ok(with(&["get", "new", "-o", "new copy"]));
    assert_same_tree(&sandbox.path("new"), &sandbox.path("new copy"));
    sandbox.ok(with(&["get", "old", "-o", "old copy"]));
    assert_same_tree(&sandbox.path("old"), &sandbox.path("old copy"));
}

/// However much room is left: the add succeeds with a snapshot, or fails without one. Never one thing said and the
/// other done.
#[test]
fn whatever_the_room_an_add_fails_or_is_whole() {
    let sandbox = Sandbox::new();
    let Some(_disk) = Mount::small(sandbox.path("disk"), 4 << 20) else { return };
    sandbox.write("old", noise(1, 100_000));
    for n in 0..4 {
        sandbox.write(format!("new/{n}"), noise(10 + n, 60_000));
    }
    let mut outcomes = [0, 0];
    for left in (0..30).map(|n| n * 16_384) {
        let store = format!("disk/{left}");
        sandbox.ok(["--store", &store, "add", "old"]);
        fill(&sandbox.path("disk"), left);
        let output = sandbox.run(["--store", &store, "add", "new"]);
        let error = String::from_utf8_lossy(&output.stderr).into_owned();
        let snapshots = files_below(&sandbox.path(&store).join("snapshots")).len();
        match output.status.code() {
            Some(0) => {
                assert_eq!(snapshots, 2, "{left}: {error}");
                let copy = format!("copy {left}");
                sandbox.ok(["--store", &store, "get", "new", "-o", &copy]);
                assert_same_tree(&sandbox.path("new"), &sandbox.path(copy));
            }
            Some(1) => {
                assert_no_space(&error);
                assert_eq!(snapshots, 1, "{left}: {error}");
            }
            other => panic!("{left}: {other:?} {error}"),
        }
        outcomes[usize::from(output.status.success())] += 1;
        let old = sandbox.run(["--store", &store, "get", "old", "-o", "-"]);
        assert!(old.stdout == noise(1, 100_000), "{left}: {}", String::from_utf8_lossy(&old.stderr));
        std::fs::remove_dir_all(sandbox.path(&store)).unwrap();
        std::fs::remove_file(sandbox.path("disk/ballast")).unwrap();
    }
    assert!(outcomes.iter().all(|n| *n > 2), "the rooms tried should make both happen: {outcomes:?}");
}

#[test]
fn a_disk_that_fills_up_during_a_get() {
    let sandbox = Sandbox::new();
    let Some(_disk) = Mount::small(sandbox.path("disk"), 8 << 20) else { return };
    for n in 0..30 {
        sandbox.write(format!("many/{n}"), noise(n, 500_000));
    }
    sandbox.write("big", noise(99, 20_000_000));
    sandbox.write("middling/of many chunks", noise(98, 900_000));
    sandbox.ok(["add", "many", "big", "middling"]);
    assert_no_space(&sandbox.error(1, ["get", "many", "-o", "disk/many"]));
    // What is there is whole.
    for file in files_below(&sandbox.path("disk/many")) {
        let name = file.file_name().unwrap();
        assert!(std::fs::read(&file).unwrap() == std::fs::read(sandbox.path("many").join(name)).unwrap(), "{name:?}");
    }
    std::fs::remove_dir_all(sandbox.path("disk/many")).unwrap();
    for arguments in [&["get", "big", "-o", "disk/big"][..], &["get", "big", "-o", "disk/part", "--range", "1.."]] {
        assert_no_space(&sandbox.error(1, arguments));
        assert_eq!(files_below(&sandbox.path("disk")).len(), 0, "{arguments:?}");
    }
    fill(&sandbox.path("disk"), 500_000);
    assert_no_space(&sandbox.error(1, ["get", "middling", "-o", "disk/middling"]));
    assert_eq!(files_below(&sandbox.path("disk/middling")).len(), 0);
}

#[test]
fn a_full_standard_output_is_an_error() {
    let sandbox = Sandbox::new();
    sandbox.write("file", noise(1, 500_000));
    sandbox.ok(["add", "file"]);
    for arguments in [&["get", "file", "-o", "-"][..], &["ls"], &["--json", "snapshots"], &["dedup-stats"]] {
        let full = std::fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
        let output = sandbox.command(arguments).stdout(full).output().unwrap();
        assert_eq!(output.status.code(), Some(1), "{arguments:?}");
        let error = String::from_utf8_lossy(&output.stderr);
        assert!(error.contains("standard output") && error.contains("No space left"), "{arguments:?}: {error}");
    }
}

/// What can be read of a store that cannot be written, and what an add says.
fn assert_works_read_only(sandbox: &Sandbox, run: &dyn Fn(&[&str]) -> std::process::Output, why: &str, hint: &str) {
    let expect = |code: i32, arguments: &[&str]| {
        let output = run(arguments);
        let error = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(code), "{arguments:?}: {error}");
        (output.stdout, error)
    };
    expect(0, &["get", "tree", "-o", "out/copy"]);
    assert!(std::fs::read(sandbox.path("out/copy/file")).unwrap() == noise(1, 400_000));
    std::fs::remove_dir_all(sandbox.path("out/copy")).unwrap();
    assert!(expect(0, &["get", "tree/file", "-o", "-"]).0 == noise(1, 400_000));
    assert_eq!(expect(0, &["ls", "-R"]).0, b"tree\ntree/file\ntree/small\n");
    expect(0, &["snapshots"]);
    expect(0, &["dedup-stats"]);
    let (_, error) = expect(1, &["add", "tree"]);
    assert!(error.contains("error: cannot ") && error.contains(why) && error.contains(hint), "{error}");
}

fn store_of_a_tree(sandbox: &Sandbox) {
    sandbox.write("tree/file", noise(1, 400_000));
    sandbox.write("tree/small", b"small");
    sandbox.ok(["--store", "store", "add", "tree"]);
    std::fs::create_dir(sandbox.path("out")).unwrap();
    give_to_nobody(&sandbox.path("out"));
}

#[test]
fn a_store_of_somebody_else_can_be_read() {
    let sandbox = Sandbox::new();
    store_of_a_tree(&sandbox);
    for path in crate::system::entries_below(&sandbox.path("store")) {
        let mode = if path.is_dir() { 0o555 } else { 0o444 };
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
    }
    for with_index in [true, false] {
        if !with_index {
            std::fs::set_permissions(sandbox.path("store"), std::fs::Permissions::from_mode(0o755)).unwrap();
            std::fs::remove_dir_all(sandbox.path("store/index")).unwrap();
            std::fs::set_permissions(sandbox.path("store"), std::fs::Permissions::from_mode(0o555)).unwrap();
        }
        let run =
            |arguments: &[&str]| sandbox.unprivileged([&["--store", "store"], arguments].concat()).output().unwrap();
        assert_works_read_only(&sandbox, &run, "Permission denied", "hint: check the perm");
    }
    for path in crate::system::entries_below(&sandbox.path("store")) {
        let mode = if path.is_dir() { 0o755 } else { 0o644 };
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
    }
}

#[test]
fn a_store_on_a_read_only_disk_can_be_read() {
    let sandbox = Sandbox::new();
    store_of_a_tree(&sandbox);
    for with_index in [true, false] {
        if !with_index {
            std::fs::remove_dir_all(sandbox.path("store/index")).unwrap();
        }
        let Some(_mount) = Mount::read_only(&sandbox.path("store"), sandbox.path("mounted")) else { return };
        assert!(is_root());
        let run = |arguments: &[&str]| sandbox.run([&["--store", "mounted"], arguments].concat());
        assert_works_read_only(&sandbox, &run, "Read-only file system", "hint: mount it so that it can be written");
    }
}

/// The ids of snapshots of this path.
fn ids_of(sandbox: &Sandbox, store: &str, name: &str) -> Vec<String> {
    let snapshots = sandbox.json(["--store", store, "snapshots"]);
    let of_it = |snapshot: &&serde_json::Value| snapshot.to_string().contains(&format!("\"{name}\""));
    let id = |snapshot: &serde_json::Value| snapshot["id"].as_str().unwrap().to_owned();
    snapshots.as_array().unwrap().iter().filter(of_it).map(id).collect()
}

#[test]
fn a_gc_on_a_full_disk_frees_what_is_dead_and_then_rewrites_what_is_nearly_dead() {
    let sandbox = Sandbox::new();
    let Some(_disk) = Mount::small(sandbox.path("disk"), 12 << 20) else { return };
    sandbox.write("dead", noise(1, 2_000_000));
    sandbox.write("tree/small", noise(2, 200_000));
    sandbox.write("tree/large", noise(3, 2_000_000));
    let store = "disk/s";
    sandbox.ok(["--store", store, "add", "dead"]);
    sandbox.ok(["--store", store, "add", "tree"]);
    sandbox.ok(["--store", store, "add", "tree/small"]);
    fill(&sandbox.path("disk"), 0);
    for name in ["dead", "tree"] {
        sandbox.ok(["--store", store, "rm", &ids_of(&sandbox, store, name)[0]]);
        fill(&sandbox.path("disk"), 0);
    }
    let report = sandbox.json(["--store", store, "gc"]);
    // Both packs go; what was needed of the second is in a new one.
    assert_eq!((report["packs"].as_u64(), report["new_packs"].as_u64()), (Some(2), Some(1)), "{report}");
    assert!(report["freed_bytes"].as_u64().unwrap() > 3_500_000, "{report}");
    sandbox.ok(["--store", store, "verify", "--full"]);
    assert!(sandbox.run(["--store", store, "get", "tree/small", "-o", "-"]).stdout == noise(2, 200_000));
    assert_eq!(
        files_below(&sandbox.path("disk/s/tmp")).len() + files_below(&sandbox.path("disk/s/condemned")).len(),
        0
    );
}

#[test]
fn a_gc_on_a_disk_without_room_for_a_file_frees_what_is_dead() {
    let sandbox = Sandbox::new();
    let Some(_disk) = Mount::with(sandbox.path("disk"), "nr_inodes=60") else { return };
    sandbox.write("dead", noise(1, 2_000_000));
    sandbox.write("kept", b"kept");
    for name in ["dead", "kept"] {
        sandbox.ok(["--store", "disk/s", "add", name]);
    }
    sandbox.ok(["--store", "disk/s", "rm", &ids_of(&sandbox, "disk/s", "dead")[0]]);
    let ballast = (0..60).take_while(|n| std::fs::write(sandbox.path(format!("disk/{n}")), b"").is_ok()).count();
    assert!(ballast > 0 && ballast < 60);
    assert!(!sandbox.path("disk/s/gc.lock").exists(), "there is not even that yet");
    let report = sandbox.json(["--store", "disk/s", "gc"]);
    assert_eq!(report["packs"], 1, "{report}");
    sandbox.ok(["--store", "disk/s", "verify", "--full"]);
    assert!(sandbox.run(["--store", "disk/s", "get", "kept", "-o", "-"]).stdout == b"kept");
}

#[test]
fn a_gc_on_a_full_disk_waits_for_adds_that_may_rely_on_what_it_deletes() {
    let sandbox = Sandbox::new();
    let Some(_disk) = Mount::small(sandbox.path("disk"), 12 << 20) else { return };
    let bytes = noise(1, 2_000_000);
    sandbox.write("old", &bytes);
    sandbox.write("kept", b"kept");
    sandbox.ok(["--store", "disk/s", "add", "old"]);
    sandbox.ok(["--store", "disk/s", "add", "kept"]);
    let old = ids_of(&sandbox, "disk/s", "old").remove(0);
    let mut command = sandbox.command(["--store", "disk/s", "add", "-", "--name", "stream"]);
    let mut adding = command.stdin(std::process::Stdio::piped()).stderr(std::process::Stdio::null()).spawn().unwrap();
    let leases = || files_below(&sandbox.path("disk/s/leases")).len();
    assert!(wait_until(&mut adding, || leases() == 1));
    sandbox.ok(["--store", "disk/s", "rm", &old]);
    fill(&sandbox.path("disk"), 0);
    // It is unknown, so nothing is deleted without waiting.
    assert_no_space(&sandbox.error(1, ["--store", "disk/s", "gc", "--no-wait"]));
    let mut collecting =
        sandbox.command(["--store", "disk/s", "gc"]).stderr(std::process::Stdio::piped()).spawn().unwrap();
    assert!(collecting.try_wait().unwrap().is_none());
    std::fs::remove_file(sandbox.path("disk/ballast")).unwrap();
    std::io::Write::write_all(&mut adding.stdin.take().unwrap(), &bytes).unwrap();
    assert!(adding.wait().unwrap().success());
    let output = collecting.wait_with_output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    sandbox.ok(["--store", "disk/s", "verify", "--full"]);
    assert!(sandbox.run(["--store", "disk/s", "get", "stream", "-o", "-"]).stdout == bytes);
}
