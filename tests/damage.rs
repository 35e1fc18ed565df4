//! Stored bytes that are no longer what was written: found, named, never handed out, and as little lost as can be.
//! Invariants 4 and 5.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use crate::support::{Sandbox, assert_same_tree, noise};
use crate::system::files_below;

/// Files of the tree whose pack is damaged.
const FILES: usize = 12;

/// What is done to a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Damage {
    /// One bit is flipped, this many thousandths of the file from its start.
    Flip(usize),
    /// One bit is flipped, this many bytes before the file's end.
    FlipBeforeEnd(usize),
    /// The file ends after this many thousandths.
    Truncate(usize),
    /// The file is gone.
    Delete,
}

impl Damage {
    /// Does it; says where.
    fn inflict(self, path: &Path) -> usize {
        let mut bytes = std::fs::read(path).unwrap();
        let length = bytes.len();
        let at = match self {
            Self::Flip(thousandths) | Self::Truncate(thousandths) => length * thousandths / 1000,
            Self::FlipBeforeEnd(before) => length - before,
            Self::Delete => 0,
        };
        std::fs::remove_file(path).unwrap();
        match self {
            Self::Delete => return 0,
            Self::Truncate(_) => bytes.truncate(at),
            Self::Flip(_) | Self::FlipBeforeEnd(_) => bytes[at] ^= 4,
        }
        std::fs::write(path, bytes).unwrap();
        at
    }
}

/// A store with two snapshots that share nothing: `tree`, which the tests damage, and `other`. Returns the objects that
/// only the first has: its pack, its recipes file and its snapshot.
fn two_snapshots(sandbox: &Sandbox) -> (PathBuf, PathBuf, PathBuf) {
    sandbox.ok(["init", "--frame", "256K"]);
    for n in 0..FILES {
        sandbox.write(format!("tree/{n:02}"), noise(n as u64, 300_000));
    }
    sandbox.write("tree/small", b"one chunk");
    sandbox.write("other/file", noise(100, 300_000));
    sandbox.write("other/small", b"another chunk");
    sandbox.ok(["add", "tree"]);
    let only = |folder: &str| {
        let found: Vec<_> = files_below(&sandbox.path(".store").join(folder));
        assert_eq!(found.len(), 1, "{found:?}");
        found[0].clone()
    };
    let objects = (only("packs"), only("recipes"), only("snapshots"));
    sandbox.ok(["add", "other"]);
    objects
}

fn name_of(path: &Path) -> String {
    path.file_name().unwrap().to_str().unwrap().to_owned()
}

/// The numbers in "damaged at byte N".
fn offsets(error: &str) -> BTreeSet<usize> {
    let after = error.split("damaged at byte ").skip(1);
    after.map(|rest| rest[..rest.find(|c: char| !c.is_ascii_digit()).unwrap()].parse().unwrap()).collect()
}

fn assert_other_is_whole(sandbox: &Sandbox) {
    sandbox.ok(["get", "other", "-o", "other copy"]);
    assert_same_tree(&sandbox.path("other"), &sandbox.path("other copy"));
    std::fs::remove_dir_all(sandbox.path("other copy")).unwrap();
}

#[test]
fn a_flipped_bit_in_a_frame_costs_the_files_in_that_frame_only() {
    let sandbox = Sandbox::new();
    let (pack, ..) = two_snapshots(&sandbox);
    let at = Damage::Flip(500).inflict(&pack);
    let error = sandbox.error(4, ["get", "tree", "-o", "copy"]);
    assert!(error.contains(&name_of(&pack)), "{error}");
    let offsets = offsets(&error);
    assert!(offsets.len() == 1 && offsets.iter().all(|from| (*from..*from + 300_000).contains(&at)), "{error}");
    let mut lost = 0;
    for n in 0..FILES {
        let name = format!("{n:02}");
        let copy = sandbox.path(format!("copy/{name}"));
        let is_named = error.contains(&format!("warning: \"{name}\" was not restored: "));
        // Whole, or named and not there.
        assert_eq!(copy.exists(), !is_named, "{name}: {error}");
        lost += usize::from(is_named);
        if !is_named {
            assert!(std::fs::read(copy).unwrap() == noise(n as u64, 300_000), "{name}");
        }
    }
    assert!((1..=3).contains(&lost), "{lost} files lost: {error}");
    assert_eq!(std::fs::read(sandbox.path("copy/small")).unwrap(), b"one chunk");
    assert_other_is_whole(&sandbox);

    let lost = (0..FILES).find(|n| error.contains(&format!("\"{n:02}\" was not restored"))).unwrap();
    let lost_path = format!("tree/{lost:02}");
    // A stream ends before the damage; a file or a part that is not whole is not left behind.
    let streamed = sandbox.run(["get", &lost_path, "-o", "-"]);
    assert_eq!(streamed.status.code(), Some(4));
    assert!(noise(lost as u64, 300_000).starts_with(&streamed.stdout) && streamed.stdout.len() < 300_000);
    sandbox.expect(4, ["get", &lost_path, "-o", "file"]);
    sandbox.expect(4, ["get", &lost_path, "--range", "0..300000", "-o", "part"]);
    assert!(!sandbox.path("file").exists() && !sandbox.path("part").exists());
    let json = sandbox.run(["--json", "get", "tree", "-o", "again"]);
    assert_eq!(json.status.code(), Some(4));
    let json: serde_json::Value = serde_json::from_slice(&json.stdout).unwrap();
    assert!(json["lost"].as_array().unwrap().iter().any(|loss| loss["path"] == format!("{lost:02}")), "{json}");
}

#[test]
fn a_pack_that_has_lost_its_end_costs_that_pack_only() {
    // The trailer has 64 bytes, the directory lies before it.
    for damage in [
        Damage::FlipBeforeEnd(200),
        Damage::FlipBeforeEnd(1),
        Damage::FlipBeforeEnd(60),
        Damage::Truncate(999),
        Damage::Truncate(500),
        Damage::Truncate(0),
        Damage::Delete,
    ] {
        for with_index in [true, false] {
            let sandbox = Sandbox::new();
            let (pack, ..) = two_snapshots(&sandbox);
            damage.inflict(&pack);
            if !with_index {
                std::fs::remove_dir_all(sandbox.path(".store/index")).unwrap();
            }
            let error = sandbox.error(4, ["get", "tree", "-o", "copy"]);
            assert!(error.contains(" is damaged") && error.contains("was not restored"), "{damage:?}: {error}");
            if damage != Damage::Delete && with_index {
                assert!(error.contains(&name_of(&pack)), "{damage:?}: {error}");
            }
            assert_eq!(files_below(&sandbox.path("copy")), Vec::<PathBuf>::new(), "{damage:?}");
            assert_other_is_whole(&sandbox);
            sandbox.expect(4, ["dedup-stats"]);
            sandbox.ok(["ls", "-R"]);
            if damage != Damage::Delete {
                let error = sandbox.error(4, ["repair", "--index"]);
                assert!(error.contains(&name_of(&pack)) && error.contains("left out"), "{damage:?}: {error}");
            }
        }
    }
}

#[test]
fn a_damaged_recipes_file_costs_its_files_only() {
    for damage in [Damage::Flip(300), Damage::Flip(999), Damage::Truncate(500), Damage::Truncate(0), Damage::Delete] {
        for with_index in [true, false] {
            let sandbox = Sandbox::new();
            let (_, recipes, _) = two_snapshots(&sandbox);
            damage.inflict(&recipes);
            if !with_index {
                std::fs::remove_dir_all(sandbox.path(".store/index")).unwrap();
            }
            let error = sandbox.error(4, ["get", "tree", "-o", "copy"]);
            assert!(error.contains(" is damaged"), "{damage:?}: {error}");
            if damage != Damage::Delete && with_index {
                assert!(error.contains(&name_of(&recipes)), "{damage:?}: {error}");
            }
            for file in files_below(&sandbox.path("copy")) {
                let name = name_of(&file);
                assert!(
                    std::fs::read(&file).unwrap() == std::fs::read(sandbox.path("tree").join(&name)).unwrap(),
                    "{name}"
                );
            }
            // A file of one chunk needs no recipe.
            assert!(sandbox.path("copy/small").exists(), "{damage:?}: {error}");
            assert_other_is_whole(&sandbox);
        }
    }
}

#[test]
fn a_damaged_snapshot_is_named_and_the_others_are_there() {
    for damage in [
        Damage::Flip(0),
        Damage::Flip(300),
        Damage::Flip(600),
        Damage::FlipBeforeEnd(1),
        Damage::FlipBeforeEnd(8),
        Damage::Truncate(700),
        Damage::Truncate(0),
    ] {
        let sandbox = Sandbox::new();
        let (.., snapshot) = two_snapshots(&sandbox);
        damage.inflict(&snapshot);
        let name = name_of(&snapshot);
        let id = name.trim_end_matches(".arrow");
        for command in [&["ls", "-R", "--snapshot", id][..], &["get", "tree", "--snapshot", id, "-o", "copy"]] {
            let error = sandbox.error(4, command);
            assert!(error.contains(&name) && error.contains(" is damaged"), "{damage:?}: {error}");
            assert!(error.contains("\nhint: "), "{error}");
        }
        assert_eq!(files_below(&sandbox.path("copy")), Vec::<PathBuf>::new(), "{damage:?}");
        sandbox.expect(4, ["dedup-stats"]);
        let other = sandbox.path(".store/snapshots");
        let other = files_below(&other).into_iter().map(|path| name_of(&path)).find(|other| *other != name).unwrap();
        sandbox.ok(["get", "other", "--snapshot", other.trim_end_matches(".arrow"), "-o", "other copy"]);
        assert_same_tree(&sandbox.path("other"), &sandbox.path("other copy"));
        // A damaged parent is no reason not to add.
        sandbox.ok(["add", "tree"]);
    }
}

/// What the hint of every damage says: adding the original files again heals them.
#[test]
fn adding_the_originals_again_heals() {
    for damage in [Damage::FlipBeforeEnd(200), Damage::FlipBeforeEnd(1), Damage::Truncate(500), Damage::Delete] {
        for of_recipes in [false, true] {
            for with_index in [true, false] {
                let sandbox = Sandbox::new();
                let (pack, recipes, _) = two_snapshots(&sandbox);
                damage.inflict(if of_recipes { &recipes } else { &pack });
                if !with_index {
                    std::fs::remove_dir_all(sandbox.path(".store/index")).unwrap();
                }
                sandbox.ok(["add", "--reread", "tree"]);
                let story = format!("{damage:?}, recipes: {of_recipes}, index: {with_index}");
                let output = sandbox.run(["get", "tree", "-o", "copy"]);
                assert!(output.status.success(), "{story}: {}", String::from_utf8_lossy(&output.stderr));
                assert_same_tree(&sandbox.path("tree"), &sandbox.path("copy"));
            }
        }
    }
}
