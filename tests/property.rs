//! Whatever the tree, the settings, the memory and the threads: what comes out is what went in.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use proptest::prelude::*;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};
use rustix::fs::{AtFlags, CWD, Timespec, Timestamps, XattrFlags, lsetxattr, utimensat};

use crate::support::{Sandbox, assert_same_tree, noise, skipped};
use crate::xattrs::all_xattrs;

/// One entry of a generated tree.
#[derive(Debug, Clone)]
struct Node {
    /// Which of the directories made so far it is in.
    place: usize,
    name: Vec<u8>,
    kind: Kind,
    mode: u32,
    mtime: (i64, i64),
    xattr: Option<(String, Vec<u8>)>,
}

#[derive(Debug, Clone)]
enum Kind {
    Directory,
    Noise {
        seed: u64,
        bytes: usize,
    },
    Repeated {
        unit: Vec<u8>,
        bytes: usize,
    },
    /// Holes with data between them: offsets and lengths, in pages.
    Sparse {
        pages: Vec<(u64, u8)>,
        bytes: u64,
    },
    Symlink(Vec<u8>),
    /// One more name of a file made so far.
    HardLink(usize),
    Fifo,
}

/// Sizes about where something changes: chunks, frames, segments, the biggest file that is read whole.
fn size() -> impl Strategy<Value = usize> {
    let edges = prop::sample::select(vec![0, 64, 4096, 8 << 10, 14 << 10, 16 << 10, 64 << 10, 128 << 10, 256 << 10]);
    prop_oneof![
        6 => (edges, 0..3_usize).prop_map(|(edge, off)| (edge + off).saturating_sub(1)),
        3 => 0..300_000_usize,
        1 => prop::sample::select(vec![(4 << 20) - 1, 4 << 20, (4 << 20) + 1, (8 << 20) + 1, 9_000_000]),
    ]
}

fn name() -> impl Strategy<Value = Vec<u8>> {
    let byte = prop_oneof![
        8 => b'a'..=b'c',
        1 => prop::sample::select(b" \n\t\\\"'*-.:\xff\xc3\xa9\x01".to_vec()),
        1 => (1..=255_u8).prop_filter("no slash", |byte| *byte != b'/'),
    ];
    prop::collection::vec(byte, 1..12).prop_filter("no dots alone", |name| name != b"." && name != b"..")
}

fn kind() -> impl Strategy<Value = Kind> {
    let page = (0..400_u64, 1..6_u8);
    prop_oneof![
        3 => Just(Kind::Directory),
        // Few seeds: the same content comes again.
        6 => (0..6_u64, size()).prop_map(|(seed, bytes)| Kind::Noise { seed, bytes }),
        2 => (prop::collection::vec(any::<u8>(), 1..40), size())
            .prop_map(|(unit, bytes)| Kind::Repeated { unit, bytes }),
        2 => (prop::collection::vec(page, 0..4), 0..2_000_000_u64)
            .prop_map(|(pages, bytes)| Kind::Sparse { pages, bytes }),
        2 => prop::collection::vec(1..=255_u8, 1..60).prop_map(Kind::Symlink),
        2 => any::<usize>().prop_map(Kind::HardLink),
        1 => Just(Kind::Fifo),
    ]
}

fn node() -> impl Strategy<Value = Node> {
    let mode = prop_oneof![3 => Just(0o644), 1 => 0o400..=0o777_u32, 1 => 0o4400..=0o7777_u32];
    let seconds = prop_oneof![Just(0), 0..2_000_000_000_i64, -1_000_000_000..0_i64];
    let xattr = prop::option::weighted(0.2, ("user\\.[a-z]{1,8}", prop::collection::vec(any::<u8>(), 0..100)));
    (any::<usize>(), name(), kind(), mode, (seconds, 0..1_000_000_000_i64), xattr)
        .prop_map(|(place, name, kind, mode, mtime, xattr)| Node { place, name, kind, mode, mtime, xattr })
}

/// Makes the tree; a node whose name is taken already, or that the file system refuses, is left out.
fn build(root: &Path, nodes: &[Node]) {
    std::fs::create_dir(root).unwrap();
    let mut directories = vec![root.to_owned()];
    let mut files: Vec<PathBuf> = Vec::new();
    let mut made = Vec::new();
    for node in nodes {
        let path = directories[node.place % directories.len()].join(OsStr::from_bytes(&node.name));
        if path.symlink_metadata().is_ok() {
            continue;
        }
        match &node.kind {
            Kind::Directory => {
                std::fs::create_dir(&path).unwrap();
                directories.push(path.clone());
            }
            Kind::Noise { seed, bytes } => std::fs::write(&path, noise(*seed, *bytes)).unwrap(),
            Kind::Repeated { unit, bytes } => {
                std::fs::write(&path, unit.iter().cycle().take(*bytes).copied().collect::<Vec<_>>()).unwrap();
            }
            Kind::Sparse { pages, bytes } => {
                let file = std::fs::File::create(&path).unwrap();
                file.set_len(*bytes).unwrap();
                for (page, count) in pages {
                    file.write_all_at(&noise(*page, 4096 * usize::from(*count)), page * 4096).unwrap();
                }
            }
            Kind::Symlink(target) => symlink(OsStr::from_bytes(target), &path).unwrap(),
            Kind::HardLink(_) if files.is_empty() => continue,
            Kind::HardLink(of) => std::fs::hard_link(&files[of % files.len()], &path).unwrap(),
            Kind::Fifo => assert!(std::process::Command::new("mkfifo").arg(&path).status().unwrap().success()),
        }
        if path.symlink_metadata().unwrap().is_file() {
            files.push(path.clone());
        }
        made.push((path, node));
    }
    // The metadata last, and those of directories after what is in them.
    for (path, node) in made.iter().rev() {
        if let Some((name, value)) = &node.xattr {
            // Only files and directories have such, and not everywhere.
            let _ = lsetxattr(path, name.as_str(), value, XattrFlags::empty());
        }
        let is_symlink = path.symlink_metadata().unwrap().is_symlink();
        if !is_symlink {
            // A directory must let its owner in, or who is not root cannot look at the tree.
            let mode = if path.is_dir() { node.mode | 0o700 } else { node.mode | 0o400 };
            std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
        }
        let time = Timespec { tv_sec: node.mtime.0, tv_nsec: node.mtime.1 };
        let times = Timestamps { last_access: time, last_modification: time };
        utimensat(CWD, path, &times, AtFlags::SYMLINK_NOFOLLOW).unwrap();
    }
}

/// Settings of a store, as arguments.
fn settings() -> impl Strategy<Value = Vec<String>> {
    let profile = prop::sample::select(vec![
        "",
        "--profile=default",
        "--profile=xet",
        "--profile=fastcdc-16384-0",
        "--profile=fastcdc-16384-2",
        "--profile=fastcdc-4096-3",
        "--chunk-avg=4K",
        "--chunk-avg=8K",
        "--chunk-avg=64K",
        "--chunk-avg=1M",
    ]);
    let frame = prop::sample::select(vec!["", "--frame=16K", "--frame=64K", "--frame=1M", "--frame=4M"]);
    let codec = prop_oneof![
        Just(String::new()),
        Just("--codec=lz4".to_owned()),
        Just("--codec=none".to_owned()),
        (-7..=9).prop_map(|level| format!("--level={level}")),
    ];
    (profile, frame, codec).prop_map(|(profile, frame, codec)| {
        [profile.to_owned(), frame.to_owned(), codec].into_iter().filter(|argument| !argument.is_empty()).collect()
    })
}

/// How an add or a get works, as arguments.
fn effort() -> impl Strategy<Value = (String, String)> {
    (1..=6_usize, prop::sample::select(vec!["32M", "48M", "256M"]))
        .prop_map(|(threads, memory)| (format!("--threads={threads}"), format!("--memory={memory}")))
}

/// Runs a property with cases that are the same every time.
fn check<S: Strategy>(cases: u32, strategy: &S, property: impl Fn(S::Value)) {
    let config = Config { cases, failure_persistence: None, max_shrink_iters: 200, ..Config::default() };
    let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &[7; 32]);
    let mut runner = TestRunner::new_with_rng(config, rng);
    let outcome = runner.run(strategy, |value| {
        property(value);
        Ok(())
    });
    if let Err(error) = outcome {
        panic!("{error}");
    }
}

#[test]
fn add_then_get_is_the_identity() {
    let strategy = (prop::collection::vec(node(), 0..25), settings(), effort());
    check(48, &strategy, |(nodes, settings, (threads, memory))| {
        let sandbox = Sandbox::new();
        let tree = sandbox.path("tree");
        build(&tree, &nodes);
        let add: Vec<&str> =
            ["add", "tree", &threads, &memory].into_iter().chain(settings.iter().map(String::as_str)).collect();
        let first = sandbox.json(&add);
        assert_eq!(first["problems"], serde_json::json!([]));
        sandbox.ok(["get", "tree", "-o", "copy", &threads]);
        assert_same_tree(&tree, &sandbox.path("copy"));
        assert_eq!(all_xattrs(&tree), all_xattrs(&sandbox.path("copy")));
        // Once more, by metadata and by content: nothing new, and the same comes out.
        assert_eq!(sandbox.json(["add", "--reread", "tree", "--threads=2"])["new_bytes"], 0);
        assert_eq!(sandbox.json(["add", "tree"])["new_bytes"], 0);
        sandbox.ok(["get", "--snapshot", "latest", "tree", "-o", "copy2"]);
        assert_same_tree(&tree, &sandbox.path("copy2"));
        // And what came out goes in again as what is there already.
        assert_eq!(sandbox.json(["add", "copy"])["new_bytes"], 0);
    });
}

#[test]
fn a_range_is_a_slice() {
    let sandbox = Sandbox::new();
    let size = 3_000_000;
    let content = [noise(1, size / 2), vec![0; 200_000], noise(2, size / 2 - 200_000)].concat();
    sandbox.write("file", &content);
    let sparse = std::fs::File::create(sandbox.path("sparse")).unwrap();
    sparse.set_len(size as u64).unwrap();
    sparse.write_all_at(&noise(3, 100_000), 1_000_000).unwrap();
    drop(sparse);
    let with_holes = std::fs::read(sandbox.path("sparse")).unwrap();
    if std::os::unix::fs::MetadataExt::blocks(&sandbox.path("sparse").metadata().unwrap()) > 1000 {
        skipped("holes: the file system keeps none");
    }
    sandbox.ok(["add", "file", "sparse", "--frame=64K"]);
    let at = || prop_oneof![0..=size, 990_000..1_110_000_usize, Just(0), Just(size)];
    check(40, &(at(), at(), any::<bool>(), 1..4_usize), |(a, b, of_sparse, threads)| {
        let (start, end) = (a.min(b), a.max(b));
        let (path, content) = if of_sparse { ("sparse", &with_holes) } else { ("file", &content) };
        let range = format!("{start}..{end}");
        let output = sandbox.run(["get", path, "-o", "-", "--range", &range, "--threads", &threads.to_string()]);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        assert!(output.stdout == content[start..end], "{path} {range}");
    });
}
