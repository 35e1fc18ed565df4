//! Stores and bundles on file systems that lack what local ones have: exFAT, as on USB disks, has no hard links, and through
//! FUSE no rename that refuses a taken name.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::support::{Sandbox, assert_same_tree, noise, skipped};
use crate::system::{files_below, is_root};

/// An exFAT file system, mounted through FUSE until it is dropped.
struct ExFat {
    path: PathBuf,
    device: String,
}

impl ExFat {
    fn mount(sandbox: &Sandbox) -> Option<Self> {
        let run = |program: &str, arguments: &[&Path]| {
            let output = Command::new(program).args(arguments).output().ok()?;
            output.status.success().then(|| String::from_utf8_lossy(&output.stdout).trim().to_owned())
        };
        let (image, path) = (sandbox.path("exfat.img"), sandbox.path("disk"));
        std::fs::File::create(&image).unwrap().set_len(64 << 20).unwrap();
        std::fs::create_dir(&path).unwrap();
        let made = is_root().then(|| run("mkfs.exfat", &[&image])).flatten();
        let device = made.and_then(|_| run("losetup", &[Path::new("-f"), Path::new("--show"), &image]));
        let Some(device) = device else {
            skipped("exFAT takes root, loop devices, exfatprogs and exfat-fuse");
            return None;
        };
        let disk = Self { path, device };
        if run("mount.exfat-fuse", &[Path::new(&disk.device), &disk.path]).is_none() {
            skipped("exFAT takes exfat-fuse and FUSE");
            return None;
        }
        Some(disk)
    }
}

impl Drop for ExFat {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(&self.path).output();
        let _ = Command::new("losetup").arg("-d").arg(&self.device).output();
    }
}

#[test]
fn a_file_system_without_hard_links_keeps_stores_and_bundles() {
    let sandbox = Sandbox::new();
    let Some(_disk) = ExFat::mount(&sandbox) else { return };
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
