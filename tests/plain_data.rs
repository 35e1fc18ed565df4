//! Data that dedup and compression find strange: noise, zeros, one byte, none, one page over and over.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use std::io::Write;
use std::process::Stdio;

use crate::support::{Sandbox, noise};

const LARGE: usize = 64 << 20;

/// Adds content as a file and from standard input, gets both back, and returns unique and stored bytes.
fn round_trip(name: &str, content: &[u8]) -> (u64, u64) {
    let sandbox = Sandbox::new();
    sandbox.write(name, content);
    let added = sandbox.json(["add", name]);
    assert_eq!(added["logical_bytes"], content.len());
    // The file system may have stored a hole: the stream has none.
    let mut child = sandbox.command(["add", "-", "--name", "stream"]).stdin(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(content).unwrap();
    assert!(child.wait().unwrap().success());
    sandbox.ok(["get", name, "-o", "copy"]);
    assert!(std::fs::read(sandbox.path("copy")).unwrap() == content, "{name}");
    assert!(sandbox.run(["get", "stream", "-o", "-"]).stdout == content, "{name} from standard input");
    let stats = sandbox.json(["dedup-stats"]);
    assert_eq!(stats["logical_bytes"], 2 * content.len());
    (stats["unique_bytes"].as_u64().unwrap(), stats["stored_bytes"].as_u64().unwrap())
}

#[test]
fn noise_takes_its_own_room_and_little_more() {
    let (unique, stored) = round_trip("noise", &noise(1, LARGE));
    assert_eq!(unique, LARGE as u64, "the stream's chunks are the file's");
    assert!((LARGE as u64..LARGE as u64 * 101 / 100).contains(&stored), "{stored}");
}

#[test]
fn zeros_take_no_room() {
    let (unique, stored) = round_trip("zeros", &vec![0; LARGE]);
    assert!(unique <= 2 * 65_536 && stored < 200_000, "{unique} {stored}");
}

#[test]
fn a_repeated_byte_takes_no_room() {
    let (unique, stored) = round_trip("ff", &vec![0xff; LARGE]);
    assert!(unique <= 2 * 65_536 && stored < 200_000, "{unique} {stored}");
}

#[test]
fn a_repeated_page_takes_no_room() {
    let page = noise(2, 4096);
    let (unique, stored) = round_trip("pages", &page.repeat(LARGE / 4096));
    // Each chunk begins at one of the page's bytes and has one of few lengths.
    assert!(unique < 4 << 20 && stored < 500_000, "{unique} {stored}");
}

#[test]
fn one_byte_and_no_byte() {
    let (unique, stored) = round_trip("one", b"1");
    assert!(unique == 1 && stored < 20_000, "{unique} {stored}");
    let (unique, stored) = round_trip("none", b"");
    assert!(unique == 0 && stored < 20_000, "{unique} {stored}");
}

#[test]
fn a_tree_of_nothing() {
    let sandbox = Sandbox::new();
    std::fs::create_dir(sandbox.path("tree")).unwrap();
    sandbox.ok(["add", "tree"]);
    sandbox.ok(["get", "tree", "-o", "copy"]);
    assert_eq!(std::fs::read_dir(sandbox.path("copy")).unwrap().count(), 0);
    let stats = sandbox.json(["dedup-stats"]);
    assert_eq!((&stats["logical_bytes"], &stats["chunks"], &stats["packs"]), (&0.into(), &0.into(), &0.into()));
    sandbox.ok(["ls"]);
    sandbox.ok(["dedup-stats"]);
    sandbox.ok(["snapshots"]);
}
