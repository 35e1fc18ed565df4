//! A store in one file: written, read in place, appended to, taken over into other stores, and damaged.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::support::{Sandbox, assert_same_tree, noise};

/// Two trees that share much, and a tar of the first.
fn prepared() -> Sandbox {
    let sandbox = Sandbox::new();
    for (tree, seed) in [("one", 1), ("two", 2)] {
        sandbox.write(format!("{tree}/shared"), noise(9, 400_000));
        sandbox.write(format!("{tree}/own"), noise(seed, 700_000));
        sandbox.write(format!("{tree}/below/text"), format!("{tree}\n").repeat(5_000));
        sandbox.write(format!("{tree}/empty"), b"");
        sandbox.write(PathBuf::from(tree).join(OsStr::from_bytes(b"no\xfftext\n")), b"odd");
        symlink("own", sandbox.path(tree).join("link")).unwrap();
    }
    let tar = Command::new("tar").args(["-cf", "one.tar", "one"]).current_dir(sandbox.path("")).status();
    assert!(tar.unwrap().success());
    sandbox
}

fn size(path: &Path) -> u64 {
    path.metadata().unwrap().len()
}

/// All but the caches and locks of a store.
fn objects(root: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let is_object = |path: &Path| {
        path == Path::new("store.json") || ["packs", "recipes", "snapshots"].iter().any(|part| path.starts_with(part))
    };
    let files = crate::system::files_below(root).into_iter();
    let relative = files.map(|path| path.strip_prefix(root).unwrap().to_owned());
    relative
        .filter(|path| is_object(path))
        .map(|path| (path.clone(), std::fs::read(root.join(path)).unwrap()))
        .collect()
}

#[test]
fn a_store_goes_into_a_file_is_read_there_and_comes_out_the_same() {
    let sandbox = prepared();
    let one = sandbox.add_tree("one");
    let two = sandbox.add_tree("two");
    sandbox.add_tree("one.tar");
    let said = sandbox.json(["bundle", "export", "all.bundle"]);
    assert_eq!((said["generation"].as_u64(), said["new_snapshots"].as_u64()), (Some(1), Some(3)));
    assert_eq!(said["bytes"].as_u64(), Some(size(&sandbox.path("all.bundle"))));
    // Everything that reads does so in place.
    let in_bundle = |arguments: &[&str]| sandbox.ok(["--store", "all.bundle"].iter().chain(arguments));
    assert_eq!(in_bundle(&["snapshots"]), sandbox.ok(["snapshots"]));
    assert_eq!(in_bundle(&["ls", "-lR", "one"]), sandbox.ok(["ls", "-lR", "one"]));
    assert_eq!(in_bundle(&["ls", "one.tar/one/below"]), sandbox.ok(["ls", "one.tar/one/below"]));
    assert_eq!(in_bundle(&["get", "one.tar/one/below/text", "-o", "-"]), "one\n".repeat(5_000));
    assert_eq!(in_bundle(&["get", "two/below/text", "--range", "4..8", "-o", "-"]), "two\n");
    in_bundle(&["get", "one.tar", "-o", "back.tar"]);
    assert!(std::fs::read(sandbox.path("back.tar")).unwrap() == std::fs::read(sandbox.path("one.tar")).unwrap());
    for (id, name) in [(&one, "one"), (&two, "two")] {
        in_bundle(&["get", "--snapshot", id, name, "-o", "copy"]);
        assert_same_tree(&sandbox.path(name), &sandbox.path("copy"));
        std::fs::remove_dir_all(sandbox.path("copy")).unwrap();
    }
    in_bundle(&["verify", "--full"]);
    in_bundle(&["dedup-stats"]);
    in_bundle(&["export", "--tar", "two", "-o", "two.tar"]);
    in_bundle(&["gc", "--dry-run"]);
    // And comes out as it went in, byte for byte.
    let said = sandbox.json(["--store", "copy", "bundle", "import", "all.bundle"]);
    assert_eq!((said["made_store"].as_bool(), said["new_snapshots"].as_u64()), (Some(true), Some(3)));
    assert_eq!(objects(&sandbox.path("copy")), objects(&sandbox.path(".store")));
    sandbox.ok(["--store", "copy", "verify", "--full"]);
    // Once more changes nothing.
    let said = sandbox.json(["--store", "copy", "bundle", "import", "all.bundle"]);
    assert_eq!((said["added_bytes"].as_u64(), said["new_snapshots"].as_u64()), (Some(0), Some(0)));
    let before = std::fs::read(sandbox.path("all.bundle")).unwrap();
    let said = sandbox.json(["bundle", "export", "all.bundle"]);
    assert_eq!((said["generation"].as_u64(), said["added_bytes"].as_u64()), (Some(1), Some(0)));
    assert!(std::fs::read(sandbox.path("all.bundle")).unwrap() == before);
    // A store that was made from a bundle can go on, and append to it.
    sandbox.write("three/own", noise(3, 100_000));
    sandbox.ok(["--store", "copy", "add", "three"]);
    let said = sandbox.json(["--store", "copy", "bundle", "export", "all.bundle"]);
    assert_eq!((said["generation"].as_u64(), said["new_snapshots"].as_u64()), (Some(2), Some(1)));
    in_bundle(&["verify", "--full"]);
    sandbox.ok(["bundle", "import", "all.bundle"]);
    assert_eq!(sandbox.snapshots().len(), 4);
}

#[test]
fn a_bundle_of_some_snapshots_has_what_they_need_and_little_else_and_grows_by_what_is_missing() {
    let sandbox = prepared();
    // In one pack.
    sandbox.ok(["add", "one", "two"]);
    let one = sandbox.add_tree("one");
    let two = sandbox.add_tree("two");
    let said = sandbox.json(["bundle", "export", "some.bundle", &one[..12]]);
    assert_eq!((said["snapshots"].as_u64(), said["rewritten"].as_u64()), (Some(1), Some(2)));
    let first = size(&sandbox.path("some.bundle"));
    assert!((1_100_000..1_200_000).contains(&first), "{first}");
    assert_eq!(sandbox.json(["--store", "some.bundle", "snapshots"]).as_array().unwrap().len(), 1);
    sandbox.ok(["--store", "some.bundle", "verify", "--full"]);
    // What the second shares with the first is not written again.
    let said = sandbox.json(["bundle", "export", "some.bundle", &two]);
    assert_eq!((said["generation"].as_u64(), said["new_snapshots"].as_u64()), (Some(2), Some(1)));
    let second = size(&sandbox.path("some.bundle")) - first;
    assert!((700_000..800_000).contains(&second), "{second}");
    let stats = sandbox.json(["--store", "some.bundle", "dedup-stats"]);
    assert_eq!(stats["unused_chunks"].as_u64(), Some(0), "{stats}");
    for (id, name) in [(&one, "one"), (&two, "two")] {
        sandbox.ok(["--store", "some.bundle", "get", "--snapshot", id, name, "-o", "copy"]);
        assert_same_tree(&sandbox.path(name), &sandbox.path("copy"));
        std::fs::remove_dir_all(sandbox.path("copy")).unwrap();
    }
    // To take back what is there already costs nothing, though it is in other packs.
    let said = sandbox.json(["bundle", "import", "some.bundle"]);
    assert_eq!(said["added_bytes"].as_u64(), Some(0), "{said}");
    // A bundle of a bundle.
    sandbox.ok(["--store", "some.bundle", "bundle", "export", "less.bundle", "latest"]);
    sandbox.ok(["--store", "less.bundle", "verify", "--full"]);
    assert!(size(&sandbox.path("less.bundle")) < 1_200_000);
}

#[test]
fn what_would_change_a_bundle_is_refused_and_says_what_to_do() {
    let sandbox = prepared();
    let one = sandbox.add_tree("one");
    sandbox.ok(["bundle", "export", "all.bundle"]);
    let before = std::fs::read(sandbox.path("all.bundle")).unwrap();
    let commands: [&[&str]; 7] = [
        &["add", "two"],
        &["add", "-", "--name", "x"],
        &["rm", &one],
        &["gc"],
        &["repair"],
        &["repair", "--index"],
        &["bundle", "import", "all.bundle"],
    ];
    for command in commands {
        let said = sandbox.error(2, ["--store", "all.bundle"].iter().chain(command));
        assert!(said.contains("all.bundle\" is a bundle"), "{command:?}: {said}");
        assert!(said.contains("bundle import"), "{command:?}: {said}");
    }
    let said = sandbox.error(1, ["--store", "all.bundle", "init"]);
    assert!(said.contains("all.bundle"), "{said}");
    assert!(std::fs::read(sandbox.path("all.bundle")).unwrap() == before);
    // The library, too.
    let store = seamstore::Store::open(&sandbox.path("all.bundle")).unwrap();
    let writer = store.writer(seamstore::request::WriterOptions::default());
    assert!(matches!(writer, Err(seamstore::Error::ReadOnly { .. })), "{writer:?}");
    let reader = store.reader(&seamstore::request::Selector::Latest).unwrap();
    let paths: Vec<_> = reader.paths().map(Path::to_owned).collect();
    let path = paths.iter().find(|path| path.ends_with("below/text")).unwrap();
    assert_eq!(reader.read(path).unwrap(), "one\n".repeat(5_000).as_bytes());
}

#[test]
fn what_is_no_bundle_or_of_another_store_is_named() {
    let sandbox = prepared();
    sandbox.add_tree("one");
    sandbox.write("empty", b"");
    sandbox.write("text", "no bundle ".repeat(100));
    for (file, why) in [("empty", "empty"), ("text", "no bundle"), ("one", "not a"), ("absent", "no such")] {
        let said = sandbox.error(1, ["--store", file, "ls"]);
        assert!(said.contains(file) && said.contains(why), "{file}: {said}");
    }
    assert!(sandbox.error(1, ["bundle", "import", "empty"]).contains("empty"));
    assert!(sandbox.error(2, ["bundle", "import", "one"]).contains("directory"));
    assert!(sandbox.error(1, ["bundle", "import", "absent"]).contains("absent"));
    for file in ["empty", "text", "one"] {
        let said = sandbox.error(1, ["bundle", "export", file]);
        assert!(said.contains(file), "{said}");
    }
    assert_eq!((size(&sandbox.path("empty")), size(&sandbox.path("text"))), (0, 1000));
    sandbox.ok(["bundle", "export", "all.bundle"]);
    sandbox.ok(["--store", "other", "init", "--chunk-avg", "64K"]);
    sandbox.ok(["--store", "other", "add", "two"]);
    let said = sandbox.error(2, ["--store", "other", "bundle", "export", "all.bundle"]);
    assert!(said.contains("of store") && said.contains("import"), "{said}");
    // To take it over is fine: recipes name chunks, however they were cut.
    let output = sandbox.run(["--store", "other", "bundle", "import", "all.bundle"]);
    assert!(output.status.success() && String::from_utf8_lossy(&output.stderr).contains("another rule"));
    sandbox.ok(["--store", "other", "verify", "--full"]);
    sandbox.ok(["--store", "other", "get", "one", "-o", "copy"]);
    assert_same_tree(&sandbox.path("one"), &sandbox.path("copy"));
    let said = sandbox.error(1, ["bundle", "export", "new.bundle", "abcdef"]);
    assert!(said.contains("abcdef") && !sandbox.path("new.bundle").exists(), "{said}");
}

#[test]
fn names_of_any_bytes_standard_output_and_media_that_cannot_be_written() {
    let sandbox = prepared();
    sandbox.add_tree("one");
    let name = OsString::from(OsStr::from_bytes(b"odd \xff name\n.bundle"));
    sandbox.ok([OsStr::new("bundle"), OsStr::new("export"), &name]);
    sandbox.ok([OsStr::new("--store"), &name, OsStr::new("verify")]);
    let long = "n".repeat(250);
    sandbox.ok(["bundle", "export", &long]);
    let streamed = sandbox.command(["bundle", "export", "-"]).stdout(Stdio::piped()).output().unwrap();
    assert!(streamed.status.success(), "{}", String::from_utf8_lossy(&streamed.stderr));
    sandbox.write("media/streamed", &streamed.stdout);
    sandbox.ok(["--store", "media/streamed", "verify", "--full"]);
    for (path, mode) in [("media/streamed", 0o444), ("media", 0o555)] {
        std::fs::set_permissions(sandbox.path(path), PermissionsExt::from_mode(mode)).unwrap();
    }
    sandbox.ok(["--store", "media/streamed", "get", "one", "-o", "copy"]);
    assert_same_tree(&sandbox.path("one"), &sandbox.path("copy"));
    std::fs::set_permissions(sandbox.path("media"), PermissionsExt::from_mode(0o755)).unwrap();
    // Nothing else was left anywhere.
    let left = std::fs::read_dir(sandbox.path("")).unwrap().map(|entry| entry.unwrap().file_name());
    assert!(left.into_iter().all(|name| !name.as_bytes().starts_with(b".seamstore-")));
}

#[test]
fn damage_in_a_store_is_not_spread() {
    let sandbox = prepared();
    sandbox.add_tree("one");
    sandbox.ok(["bundle", "export", "good.bundle"]);
    sandbox.add_tree("two");
    let good = std::fs::read(sandbox.path("good.bundle")).unwrap();
    for (path, bytes) in objects(&sandbox.path(".store")) {
        if path == Path::new("store.json") {
            continue;
        }
        let mut damaged = bytes.clone();
        let middle = damaged.len() / 2;
        damaged[middle] ^= 1;
        let place = sandbox.path(".store").join(&path);
        std::fs::write(&place, damaged).unwrap();
        let said = sandbox.error(4, ["bundle", "export", "new.bundle"]);
        assert!(said.contains(" is damaged") || said.contains(" that can be read"), "{path:?}: {said}");
        // A snapshot that cannot be read is left out and named, and the others are exported.
        let is_snapshot = path.starts_with("snapshots");
        assert_eq!(std::fs::remove_file(sandbox.path("new.bundle")).is_ok(), is_snapshot, "{path:?}");
        // What is in the bundle is not asked of the store.
        let output = sandbox.run(["bundle", "export", "good.bundle"]);
        let now = std::fs::read(sandbox.path("good.bundle")).unwrap();
        assert!(now.starts_with(&good));
        assert!(output.status.success() || now == good || is_snapshot, "{path:?}");
        std::fs::write(sandbox.path("good.bundle"), &good).unwrap();
        std::fs::write(&place, bytes).unwrap();
    }
    sandbox.ok(["bundle", "export", "new.bundle"]);
}
