//! Exports to arrays: what numpy would map is what is in the store, and a failed export leaves nothing.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::process::Stdio;

use rustix::process::Signal;
use seamstore::entry::ChunkId;

use crate::support::{Sandbox, noise};
use crate::system::{Mount, files_below, signal, wait_until};

/// The elements of an array, and its header as text.
fn array(path: &Path) -> (Vec<u8>, String) {
    let mut bytes = std::fs::read(path).unwrap();
    let elements = bytes.split_off(128);
    assert_eq!(&bytes[..8], b"\x93NUMPY\x01\x00");
    (elements, String::from_utf8(bytes[10..].to_vec()).unwrap().trim_end().to_owned())
}

fn numbers(path: &Path) -> Vec<u64> {
    let (bytes, header) = array(path);
    let numbers: Vec<u64> = bytes.chunks(8).map(|number| u64::from_le_bytes(number.try_into().unwrap())).collect();
    assert!(header.contains("'<u8'") && header.contains(&format!("'shape': ({},)", numbers.len())), "{header}");
    numbers
}

/// What an export has: path and content of each item, in order; hashes and lengths checked.
fn items(folder: &Path) -> Vec<(Vec<u8>, Vec<u8>)> {
    let (payload, header) = array(&folder.join("payload.npy"));
    assert!(header.contains(&format!("'|u1', 'fortran_order': False, 'shape': ({},)", payload.len())), "{header}");
    let (names, _) = array(&folder.join("names.npy"));
    let (hashes, header) = array(&folder.join("hashes.npy"));
    let [offsets, name_offsets, lengths] =
        ["offsets.npy", "name_offsets.npy", "lengths.npy"].map(|name| numbers(&folder.join(name)));
    assert!(header.contains(&format!("'shape': ({}, 32)", lengths.len())), "{header}");
    assert_eq!((offsets.len(), name_offsets.len()), (lengths.len() + 1, lengths.len() + 1));
    assert_eq!((offsets[0], *offsets.last().unwrap()), (0, payload.len() as u64));
    assert_eq!((name_offsets[0], *name_offsets.last().unwrap()), (0, names.len() as u64));
    let item = |n: usize| {
        let content = payload[offsets[n] as usize..offsets[n + 1] as usize].to_vec();
        assert_eq!(content.len() as u64, lengths[n]);
        assert_eq!(hashes[32 * n..32 * (n + 1)], ChunkId::of(&content).0, "item {n}");
        (names[name_offsets[n] as usize..name_offsets[n + 1] as usize].to_vec(), content)
    };
    (0..lengths.len()).map(item).collect()
}

/// Fails unless the export has the files, and nothing is left of its making.
fn assert_items(sandbox: &Sandbox, folder: &str, files: &[&str]) {
    let found = items(&sandbox.path(folder));
    let named: Vec<String> = found.iter().map(|(name, _)| String::from_utf8_lossy(name).into_owned()).collect();
    assert_eq!(named, files);
    for (name, content) in found {
        let path = sandbox.path(Path::new(std::ffi::OsStr::from_bytes(&name)));
        assert!(content == std::fs::read(&path).unwrap(), "{path:?}");
    }
    assert_nothing_half(sandbox);
}

fn assert_nothing_half(sandbox: &Sandbox) {
    for entry in std::fs::read_dir(sandbox.path("")).unwrap() {
        let name = entry.unwrap().file_name();
        assert!(!name.to_str().unwrap().starts_with(".store-export"), "{name:?}");
    }
}

/// Files of every size, some in many frames, some that share their chunks, and what is no file.
fn varied(sandbox: &Sandbox) {
    let big = noise(1, 3_000_000);
    sandbox.write("tree/big", &big);
    sandbox.write("tree/d/again", &big[1_000_000..]);
    sandbox.write("tree/d/empty", b"");
    sandbox.write("tree/d/repeats", noise(3, 300).repeat(2000));
    sandbox.write("tree/e/last", b"last");
    for n in 0..200 {
        sandbox.write(format!("tree/small/{n:03}"), noise(1000 + n, (n * n) as usize));
    }
    std::fs::hard_link(sandbox.path("tree/big"), sandbox.path("tree/zlinked")).unwrap();
    std::os::unix::fs::symlink("big", sandbox.path("tree/symlink")).unwrap();
    std::fs::create_dir(sandbox.path("tree/empty directory")).unwrap();
}

fn names_of_varied() -> Vec<String> {
    let mut names: Vec<String> =
        ["big", "d/again", "d/empty", "d/repeats", "e/last"].map(|name| format!("tree/{name}")).to_vec();
    names.extend((0..200).map(|n| format!("tree/small/{n:03}")));
    names
}

#[test]
fn arrays_have_all_files_and_nothing_else() {
    let sandbox = Sandbox::new();
    varied(&sandbox);
    sandbox.ok(["add", "tree"]);
    let names = names_of_varied();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let report = sandbox.json(["export", "--arrow", "all"]);
    assert_eq!(report["entries"], names.len());
    // Directories, and the two that are names of something else.
    assert_eq!(report["others"], 5 + 2);
    assert_items(&sandbox, "all", &names);
    assert!(std::fs::read(sandbox.path("all/index.arrow")).unwrap().starts_with(b"ARROW1"));
    assert_eq!(files_below(&sandbox.path("all")).len(), 7);

    // One thread, and a part of it, into a directory that is there and empty.
    std::fs::create_dir(sandbox.path("part")).unwrap();
    sandbox.ok(["export", "--arrow", "part", "--threads", "1", "tree/d"]);
    assert_items(&sandbox, "part", &["tree/d/again", "tree/d/empty", "tree/d/repeats"]);
    // The same arrays every time.
    sandbox.ok(["export", "--arrow", "once more", "tree/d"]);
    for file in files_below(&sandbox.path("part")) {
        let other = sandbox.path("once more").join(file.file_name().unwrap());
        assert!(std::fs::read(&file).unwrap() == std::fs::read(other).unwrap(), "{file:?}");
    }
    // A file alone, and a tree without files.
    sandbox.ok(["export", "--arrow", "one", "tree/e/last"]);
    assert_items(&sandbox, "one", &["tree/e/last"]);
    sandbox.ok(["export", "--arrow", "none", "tree/empty directory"]);
    assert_items(&sandbox, "none", &[]);
}

#[test]
fn holes_are_zeros_in_arrays() {
    let sandbox = Sandbox::new();
    sandbox.write("tree/a", b"a");
    let sparse = |name: &str, data: Option<u64>, size: u64| {
        use std::os::unix::fs::FileExt;
        let file = std::fs::File::create(sandbox.path(name)).unwrap();
        if let Some(at) = data {
            file.write_all_at(&noise(at, 200_000), at).unwrap();
        }
        file.set_len(size).unwrap();
    };
    sparse("tree/b", None, 1 << 20);
    sparse("tree/c", Some(3 << 20), 9 << 20);
    sandbox.write("tree/d", b"d");
    sparse("tree/e", Some(0), 5 << 20);
    sandbox.ok(["add", "tree"]);
    sandbox.ok(["export", "--arrow", "all", "tree"]);
    assert_items(&sandbox, "all", &["tree/a", "tree/b", "tree/c", "tree/d", "tree/e"]);
}

#[test]
fn members_of_an_archive_are_items() {
    let sandbox = Sandbox::new();
    sandbox.write("in/a", noise(1, 100_000));
    sandbox.write("in/b", b"b");
    let tar = std::process::Command::new("tar")
        .args(["--sort=name", "-cf", "x.tar", "in"])
        .current_dir(sandbox.path(""))
        .status();
    assert!(tar.unwrap().success());
    sandbox.ok(["add", "x.tar"]);
    sandbox.ok(["export", "--arrow", "members", "x.tar/"]);
    let found = items(&sandbox.path("members"));
    assert_eq!(found, [(b"x.tar/in/a".to_vec(), noise(1, 100_000)), (b"x.tar/in/b".to_vec(), b"b".to_vec())]);
    sandbox.ok(["export", "--arrow", "whole", "x.tar"]);
    assert_items(&sandbox, "whole", &["x.tar"]);
    // A member that is not whole is named and left out.
    let bytes = std::fs::read(sandbox.path("x.tar")).unwrap();
    sandbox.write("cut.tar", &bytes[..60_000]);
    sandbox.expect(3, ["add", "cut.tar"]);
    let error = sandbox.error(3, ["export", "--arrow", "cut", "cut.tar/"]);
    assert!(error.contains(r#""cut.tar/in/a" was left out"#) && error.contains("is not whole"), "{error}");
    assert_eq!(items(&sandbox.path("cut")), []);
}

#[test]
fn labels_pick_what_is_exported() {
    let sandbox = Sandbox::new();
    sandbox.write("tree/a.whl", b"wheel");
    sandbox.write("tree/b.txt", b"text");
    sandbox.ok(["add", "--label-rule", "*.whl type=wheel", "tree"]);
    sandbox.ok(["export", "--arrow", "wheels", "--label", "type=wheel"]);
    assert_items(&sandbox, "wheels", &["tree/a.whl"]);
}

#[test]
fn what_is_there_is_left_alone() {
    let sandbox = Sandbox::new();
    sandbox.write("tree/a", b"a");
    sandbox.write("taken/mine", b"mine");
    sandbox.ok(["add", "tree"]);
    for target in ["taken", "taken/mine"] {
        let error = sandbox.error(1, ["export", "--arrow", target]);
        assert!(error.contains("exists"), "{error}");
    }
    assert_eq!(std::fs::read(sandbox.path("taken/mine")).unwrap(), b"mine");
    assert_nothing_half(&sandbox);
    for odd in [&["export", "--arrow", "x", "--tar"][..], &["export", "--arrow", "x", "--force"], &["export"]] {
        sandbox.error(2, odd);
    }
    sandbox.error(1, ["export", "--arrow", "x", "not there"]);
    sandbox.error(1, ["export", "--arrow", "no/such/folder"]);
    assert!(!sandbox.path("x").exists());
}

#[test]
fn a_damaged_chunk_leaves_no_arrays() {
    let sandbox = Sandbox::new();
    varied(&sandbox);
    sandbox.ok(["add", "tree"]);
    let pack = files_below(&sandbox.path(".store/packs")).into_iter().max_by_key(|pack| pack.metadata().unwrap().len());
    let pack = pack.unwrap();
    let mut bytes = std::fs::read(&pack).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(&pack, bytes).unwrap();
    let got = sandbox.error(4, ["get", "tree", "-o", "copy"]);
    let error = sandbox.error(4, ["export", "--arrow", "arrays", "tree"]);
    let name = pack.file_name().unwrap().to_str().unwrap();
    assert!(error.contains(name) && error.contains("is damaged at byte") && error.contains("needs it"), "{error}");
    assert!(got.contains(name), "{got}");
    assert!(!sandbox.path("arrays").exists());
    assert_nothing_half(&sandbox);
}

#[test]
fn a_full_disk_leaves_no_arrays() {
    let sandbox = Sandbox::new();
    let Some(_disk) = Mount::small(sandbox.path("disk"), 6 << 20) else { return };
    for n in 0..20 {
        sandbox.write(format!("tree/{n}"), noise(n, 500_000));
    }
    sandbox.write("few/one", noise(1, 500_000));
    sandbox.ok(["add", "tree", "few"]);
    let error = sandbox.error(1, ["export", "--arrow", "disk/arrays", "tree"]);
    assert!(error.contains("No space left on device") && error.contains("hint: free some space"), "{error}");
    assert_eq!(std::fs::read_dir(sandbox.path("disk")).unwrap().count(), 0, "nothing is left");
    sandbox.ok(["export", "--arrow", "disk/arrays", "few"]);
    assert_eq!(items(&sandbox.path("disk/arrays")), [(b"few/one".to_vec(), noise(1, 500_000))]);
}

#[test]
fn an_interrupted_export_leaves_no_arrays() {
    let sandbox = Sandbox::new();
    sandbox.write("tree/big", noise(1, 200_000_000));
    sandbox.ok(["add", "tree"]);
    let mut exporting = sandbox.interruptible(["export", "--arrow", "arrays"]).stderr(Stdio::piped()).spawn().unwrap();
    let has_begun = || {
        let entries = std::fs::read_dir(sandbox.path("")).unwrap().flatten();
        entries.into_iter().any(|entry| entry.file_name().to_str().unwrap().starts_with(".store-export"))
    };
    assert!(wait_until(&mut exporting, has_begun));
    signal(&exporting, Signal::INT);
    let output = exporting.wait_with_output().unwrap();
    let error = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(130), "{error}");
    assert!(error.contains("interrupted: nothing was exported"), "{error}");
    assert!(!sandbox.path("arrays").exists());
    assert_nothing_half(&sandbox);
}
