//! Stores and bundles on file systems that lack what local ones have: exFAT, as on USB disks, has no hard links, and through
//! FUSE no rename that refuses a taken name.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use crate::loop_mount::LoopMount;
use crate::support::{Sandbox, assert_same_tree, noise};
use crate::system::files_below;

#[test]
fn a_file_system_without_hard_links_keeps_stores_and_bundles() {
    let sandbox = Sandbox::new();
    let Some(_disk) = LoopMount::exfat(&sandbox) else { return };
    let store = |arguments: &[&str]| [&["--store", "disk/s"][..], arguments].concat().join("\n");
    let ok = |arguments: &[&str]| sandbox.ok(store(arguments).split('\n'));
    sandbox.write("a/file", noise(1, 2_000_000));
    sandbox.write("b/file", noise(2, 1_000_000));
    ok(&["init"]);
    ok(&["add", "a"]);
    ok(&["add", "b"]);
    // Found present, nothing is given its name again.
    ok(&["add", "--reread", "a"]);
    ok(&["bundle", "export", "disk/x.bundle", "latest"]);
    ok(&["bundle", "export", "disk/x.bundle"]);
    sandbox.ok(["--store", "disk/copy", "bundle", "import", "disk/x.bundle"]);
    sandbox.ok(["--store", "disk/x.bundle", "verify", "--full"]);
    sandbox.ok(["--store", "disk/copy", "verify", "--full"]);
    let json = sandbox.ok(["--json", "--store", "disk/s", "snapshots"]);
    let snapshots: Vec<serde_json::Value> = serde_json::from_str(&json).unwrap();
    let of_b = snapshots.iter().find(|snapshot| snapshot.to_string().contains("\"b\"")).unwrap();
    ok(&["rm", of_b["id"].as_str().unwrap()]);
    ok(&["gc"]);
    assert!(
        files_below(&sandbox.path("disk/s/packs")).iter().map(|pack| pack.metadata().unwrap().len()).sum::<u64>()
            < 2_100_000
    );

    // A damaged pack is copied to the quarantine before it is made again.
    let pack = files_below(&sandbox.path("disk/s/packs")).swap_remove(0);
    let mut bytes = std::fs::read(&pack).unwrap();
    let last = bytes.len() - 1;
    bytes[last] ^= 1;
    std::fs::write(&pack, &bytes).unwrap();
    ok(&["repair"]);
    let aside = files_below(&sandbox.path("disk/s/quarantine"));
    assert_eq!(aside.len(), 1);
    assert!(std::fs::read(&aside[0]).unwrap() == bytes);
    ok(&["verify", "--full"]);
    ok(&["get", "a", "-o", "again"]);
    assert_same_tree(&sandbox.path("a"), &sandbox.path("again"));
    // A bundle's name that is taken is refused, and nothing half made is left.
    std::fs::write(sandbox.path("disk/taken"), b"mine").unwrap();
    sandbox.error(1, store(&["bundle", "export", "disk/taken"]).split('\n'));
    assert_eq!(std::fs::read(sandbox.path("disk/taken")).unwrap(), b"mine");
    let left = files_below(&sandbox.path("disk"));
    assert!(left.iter().all(|path| !path.to_string_lossy().ends_with(".tmp")), "{left:?}");
}
