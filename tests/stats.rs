//! The figures of `dedup-stats`, `ls` and `snapshots` are exact: each is compared with one counted here from contents
//! that are known.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{PermissionsExt, symlink};

use serde_json::Value;

use seamstore::chunk::{Profile, cut_points};

use crate::support::{Sandbox, noise};
use crate::system::files_below;

/// A tree: names and contents.
type Tree = BTreeMap<&'static str, Vec<u8>>;

/// The chunks of a tree: their bytes, so that equal chunks are one.
fn chunks(tree: &Tree) -> BTreeSet<Vec<u8>> {
    let mut chunks = BTreeSet::new();
    for content in tree.values() {
        let mut start = 0;
        for end in cut_points(content, &Profile::default()) {
            chunks.insert(content[start..end as usize].to_vec());
            start = end as usize;
        }
    }
    chunks
}

fn bytes_of<'a>(chunks: impl IntoIterator<Item = &'a Vec<u8>>) -> u64 {
    chunks.into_iter().map(|chunk| chunk.len() as u64).sum()
}

/// Three trees that overlap in whole files, in the beginnings and the ends of files, and within themselves.
fn trees() -> [Tree; 3] {
    let common = noise(1, 400_000);
    let all = Tree::from([("all.bin", common.clone()), ("empty", Vec::new())]);
    let mut first = all.clone();
    first.insert("one.txt", b"only in the first".to_vec());
    first.insert("first and second.txt", noise(2, 5000));
    first.insert("twice.dat", [noise(3, 300_000), noise(3, 300_000)].concat());
    let mut second = all.clone();
    second.insert("first and second.txt", noise(2, 5000));
    second.insert("front.bin", [noise(4, 200_000), common[200_000..].to_vec()].concat());
    second.insert("same as front.bin", [noise(4, 200_000), common[200_000..].to_vec()].concat());
    let mut third = all;
    third.insert("front.bin", [noise(4, 200_000), noise(5, 100_000)].concat());
    third.insert("back.TXT", noise(6, 70_000));
    [first, second, third]
}

/// A store of the three trees, one snapshot each, under the same name.
fn store_of(trees: &[Tree], arguments: &[&str]) -> Sandbox {
    let sandbox = Sandbox::new();
    for tree in trees {
        let _ = std::fs::remove_dir_all(sandbox.path("tree"));
        for (name, content) in tree {
            sandbox.write(format!("tree/{name}"), content);
        }
        sandbox.ok([&["add", "--reread", "tree"], arguments].concat());
    }
    sandbox
}

#[test]
fn every_figure_is_exact() {
    let trees = trees();
    let sets: Vec<_> = trees.iter().map(chunks).collect();
    let all: BTreeSet<&Vec<u8>> = sets.iter().flatten().collect();
    // Uncompressed, so that shares of frames are exact too.
    let sandbox = store_of(&trees, &["--codec", "none"]);
    let stats = sandbox.json(["dedup-stats"]);
    let number = |value: &Value| value.as_u64().unwrap_or_else(|| panic!("{value}"));

    let logical: u64 = trees.iter().flat_map(Tree::values).map(|content| content.len() as u64).sum();
    let unique = bytes_of(all.iter().copied());
    assert_eq!(stats["logical_bytes"], logical);
    assert_eq!(stats["unique_bytes"], unique);
    assert_eq!(stats["chunks"], all.len());
    assert_eq!(stats["chunk_bytes_mean"], unique / all.len() as u64);
    assert_eq!(stats["files"], trees.iter().map(BTreeMap::len).sum::<usize>());
    let contents: BTreeSet<&Vec<u8>> = trees.iter().flat_map(Tree::values).filter(|c| !c.is_empty()).collect();
    assert_eq!(stats["contents"], contents.len());
    assert_eq!((&stats["unused_chunks"], &stats["unused_bytes"]), (&0.into(), &0.into()));

    for (n, snapshot) in stats["snapshots"].as_array().unwrap().iter().enumerate() {
        let older: BTreeSet<&Vec<u8>> = sets[..n].iter().flatten().collect();
        let others: BTreeSet<&Vec<u8>> =
            sets.iter().enumerate().filter(|(other, _)| *other != n).flat_map(|(_, set)| set).collect();
        let new = bytes_of(sets[n].iter().filter(|chunk| !older.contains(chunk)));
        let freed = bytes_of(sets[n].iter().filter(|chunk| !others.contains(chunk)));
        assert!(new > 0 && freed > 0 && new < logical);
        assert_eq!(snapshot["files"], trees[n].len(), "{n}");
        assert_eq!(snapshot["logical_bytes"], trees[n].values().map(Vec::len).sum::<usize>(), "{n}");
        assert_eq!((number(&snapshot["new_bytes"]), number(&snapshot["freed_bytes"])), (new, freed), "{n}");
        assert_eq!(snapshot["new_stored_bytes"], snapshot["new_bytes"], "{n}");
        assert_eq!(snapshot["freed_stored_bytes"], snapshot["freed_bytes"], "{n}");
    }

    let mut histogram: BTreeMap<u64, (u64, u64)> = BTreeMap::new();
    for chunk in &all {
        let bucket = histogram.entry((chunk.len() as u64).next_power_of_two()).or_default();
        *bucket = (bucket.0 + 1, bucket.1 + chunk.len() as u64);
    }
    let shown = stats["chunk_histogram"].as_array().unwrap().iter();
    let shown: BTreeMap<u64, (u64, u64)> =
        shown.map(|b| (number(&b["up_to_bytes"]), (number(&b["chunks"]), number(&b["bytes"])))).collect();
    assert_eq!(shown, histogram);

    let sizes = |folder: &str| -> u64 {
        files_below(&sandbox.path(".store").join(folder)).iter().map(|file| file.metadata().unwrap().len()).sum()
    };
    let index = sizes("index");
    assert_eq!(number(&stats["stored_bytes"]), sizes("") - index);
    let metadata = &stats["metadata"];
    assert_eq!(metadata["index_bytes"], index);
    assert_eq!(number(&metadata["pack_bytes"]), sizes("packs") - unique);
    assert_eq!(metadata["recipe_bytes"], sizes("recipes"));
    assert_eq!(metadata["snapshot_bytes"], sizes("snapshots"));
    assert_eq!(stats["packs"], files_below(&sandbox.path(".store/packs")).len());
    let near = |value: &Value, expected: f64| {
        let value = value.as_f64().unwrap();
        assert!((value - expected).abs() < 1e-9 * expected, "{value} {expected}");
    };
    let stored = number(&stats["stored_bytes"]) as f64;
    near(&stats["dedup_ratio"], logical as f64 / unique as f64);
    near(&stats["compression_ratio"], unique as f64 / stored);
    near(&stats["total_ratio"], logical as f64 / stored);
    near(&metadata["bytes_per_chunk"], (sizes("packs") - unique + sizes("recipes")) as f64 / all.len() as f64);
    // Each tree's root has a row too.
    let entries = trees.iter().map(|tree| tree.len() + 1).sum::<usize>();
    near(&metadata["bytes_per_entry"], sizes("snapshots") as f64 / entries as f64);

    let extensions = stats["extensions"].as_array().unwrap();
    let of =
        |name: &str| extensions.iter().find(|e| e["extension"] == name).unwrap_or_else(|| panic!("{extensions:?}"));
    assert_eq!((number(&of("txt")["files"]), number(&of("txt")["logical_bytes"])), (4, 17 + 5000 + 5000 + 70_000));
    assert_eq!(number(&of("dat")["logical_bytes"]), 600_000);
    assert_eq!(extensions.iter().map(|e| number(&e["stored_bytes"])).sum::<u64>(), unique);
    assert_eq!(extensions.iter().map(|e| number(&e["files"])).sum::<u64>(), number(&stats["files"]));
}

#[test]
fn what_no_snapshot_has_is_unused() {
    let trees = trees();
    let sandbox = store_of(&trees, &[]);
    let snapshot = sandbox.json(["dedup-stats"])["snapshots"][0].clone();
    let freed = snapshot["freed_bytes"].as_u64().unwrap();
    std::fs::remove_file(sandbox.path(format!(".store/snapshots/{}.arrow", snapshot["id"].as_str().unwrap()))).unwrap();
    let stats = sandbox.json(["dedup-stats"]);
    assert_eq!(stats["unused_bytes"], freed);
    let left: BTreeSet<Vec<u8>> = trees[1..].iter().flat_map(chunks).collect();
    assert_eq!((&stats["unique_bytes"], &stats["chunks"]), (&bytes_of(&left).into(), &left.len().into()));
}

#[test]
fn the_text_says_the_same() {
    let sandbox = store_of(&trees(), &[]);
    let json = sandbox.json(["dedup-stats"]);
    let text = sandbox.ok(["dedup-stats"]);
    for expected in [
        format!("{} files in 3 snapshots", json["files"]),
        format!("{} chunks, ", json["chunks"]),
        format!("{} frames in {} packs", json["frames"], json["packs"]),
        format!("dedup {:.2};", json["dedup_ratio"].as_f64().unwrap()),
    ] {
        assert!(text.contains(&expected), "{expected:?} in {text}");
    }
    for snapshot in json["snapshots"].as_array().unwrap() {
        assert!(text.contains(&snapshot["id"].as_str().unwrap()[..12]), "{text}");
    }
}

#[test]
fn an_add_reports_what_dedup_stats_then_says() {
    let sandbox = Sandbox::new();
    sandbox.write("tree/a", noise(1, 500_000));
    sandbox.write("tree/b", [noise(1, 500_000), noise(2, 100_000)].concat());
    std::fs::create_dir(sandbox.path("tree/folder")).unwrap();
    symlink("a", sandbox.path("tree/link")).unwrap();
    let added = sandbox.json(["add", "--tag", "nightly", "--tag", "two", "tree"]);
    let stats = sandbox.json(["dedup-stats"]);
    assert_eq!(added["new_bytes"], stats["unique_bytes"]);
    assert_eq!(added["new_chunks"], stats["chunks"]);
    assert_eq!(added["logical_bytes"], 1_100_000, "of files");
    assert_eq!((&added["files"], &added["directories"], &added["others"]), (&2.into(), &2.into(), &1.into()));
    let config = sandbox.path(".store/store.json").metadata().unwrap().len();
    assert_eq!(added["stored_bytes"].as_u64().unwrap() + config, stats["stored_bytes"].as_u64().unwrap());

    let snapshots = sandbox.json(["snapshots"]);
    let snapshot = &snapshots[0];
    assert_eq!(snapshot["id"], added["snapshot"]);
    assert_eq!(snapshot["tags"], serde_json::json!(["nightly", "two"]));
    assert_eq!(snapshot["roots"], serde_json::json!([{ "path": "tree" }]));
    assert_eq!(snapshot["parent"], Value::Null);
    assert_eq!((&snapshot["new_bytes"], &snapshot["new_chunks"]), (&added["new_bytes"], &added["new_chunks"]));
    assert_eq!(
        snapshot["counts"],
        serde_json::json!({ "entries": 5, "files": 2, "directories": 2, "others": 1, "logical_bytes": 1_100_000 })
    );
    let second = sandbox.json(["add", "tree"]);
    let snapshots = sandbox.json(["snapshots"]);
    assert_eq!((&snapshots[0]["id"], &snapshots[0]["parent"]), (&second["snapshot"], &added["snapshot"]));
    assert!(snapshots[0]["time_ns"].as_i64() > snapshots[1]["time_ns"].as_i64());
    let text = sandbox.ok(["snapshots"]);
    assert!(text.lines().nth(1).unwrap().contains("[nightly two]"), "{text}");
    assert!(text.lines().nth(1).unwrap().starts_with(&added["snapshot"].as_str().unwrap()[..12]), "{text}");
}

#[test]
fn listings() {
    let sandbox = Sandbox::new();
    let file = sandbox.write("tree/folder/file\n1", b"12345");
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o4750)).unwrap();
    let time = std::time::UNIX_EPOCH + std::time::Duration::new(1_700_000_000, 123_456_789);
    std::fs::File::open(&file).unwrap().set_modified(time).unwrap();
    sandbox.write("tree/other", b"");
    symlink("other\u{7}", sandbox.path("tree/link")).unwrap();
    sandbox.ok(["add", "tree"]);

    assert_eq!(sandbox.ok(["ls"]), "tree\n");
    assert_eq!(sandbox.ok(["ls", "tree"]), "tree/folder\ntree/link\ntree/other\n");
    assert_eq!(sandbox.ok(["ls", "./tree/"]), sandbox.ok(["ls", "tree"]));
    assert_eq!(sandbox.ok(["ls", "tree/other"]), "tree/other\n");
    let all = "tree\ntree/folder\ntree/folder/file\\n1\ntree/link\ntree/other\n";
    assert_eq!(sandbox.ok(["ls", "-R"]), all);
    assert_eq!(sandbox.ok(["ls", "-R0"]), all.replace('\n', "\0").replace("\\n", "\n"));
    let long = sandbox.ok(["ls", "-lR"]);
    let lines: Vec<&str> = long.lines().collect();
    assert_eq!(lines.len(), 5);
    assert!(lines[2].starts_with("-rwsr-x--- ") && lines[2].ends_with(" 5 2023-11-14 22:13:20 tree/folder/file\\n1"));
    assert!(lines[3].starts_with("lrwxrwxrwx ") && lines[3].ends_with(" tree/link -> other\\x07"), "{}", lines[3]);
    assert!(lines[1].starts_with("drwx"), "{}", lines[1]);

    let json = sandbox.json(["ls", "-R"]);
    let entries = json["entries"].as_array().unwrap();
    assert_eq!(json["snapshot"], sandbox.json(["snapshots"])[0]["id"]);
    let entry = &entries[2];
    assert_eq!(entry["path"], "tree/folder/file\n1");
    assert_eq!((&entry["kind"], &entry["size"]), (&"file".into(), &5.into()));
    assert_eq!(entry["mode"].as_u64().unwrap() & 0o7777, 0o4750);
    assert_eq!(entry["mtime_ns"], 1_700_000_000_123_456_789_i64);
    assert_eq!(entry["chunk"], seamstore::entry::ChunkId::of(b"12345").to_hex());
    assert_eq!(entries[3]["link_target"]["path"], "other\u{7}");
    assert_eq!(entries[4].get("chunk").or(entries[4].get("recipe")), None, "no bytes, no chunk");
    // A path that is no text has its bytes beside it.
    let odd = std::ffi::OsStr::from_bytes(b"tree/\xff");
    sandbox.write(odd, b"odd");
    sandbox.ok(["add", "tree"]);
    let json = sandbox.json(["ls", "tree"]);
    assert_eq!(json["entries"].as_array().unwrap().last().unwrap()["path_hex"], "747265652fff");
    assert!(sandbox.ok(["ls", "tree"]).ends_with("tree/\\xff\n"));
}
