//! `store check-align` and `store hash`: the chunker's two commands, which need no store.

#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use std::io::Write;
use std::process::Stdio;

use seamstore::chunk::{Profile, cut_points};

use crate::chunk_data::split_mix;
use crate::support::Sandbox;

#[test]
fn files_folders_and_hard_inputs_are_identical() {
    let sandbox = Sandbox::new();
    sandbox.write("tree/a", split_mix(51, 700_000));
    sandbox.write("tree/deep/b", vec![0; 300_000]);
    sandbox.write("tree/empty", "");
    std::os::unix::fs::symlink("..", sandbox.path("tree/loop")).unwrap();
    let text = sandbox.ok(["check-align", "--profile", "default", "--profile", "xet", "tree"]);
    assert_eq!(text.matches(": identical\n").count(), 6, "{text}");
    assert!(text.contains("\n6 checks of 2000000 bytes, 60 lists of segments: all identical\n"), "{text}");

    let few = ["--adversarial", "--segments", "3", "--random-lists", "0", "--profile", "fastcdc-64-256-1024-1"];
    let found = sandbox.json(std::iter::once("check-align").chain(few));
    assert_eq!(found["identical"], true);
    assert!(found["checks"].as_u64().unwrap() > 50 && found["seams"]["replayed"].as_u64().unwrap() > 10, "{found}");
}

#[test]
fn cuts_are_printed_for_standard_input_too() {
    let bytes = split_mix(52, 400_000);
    let expected = cut_points(&bytes, &Profile::default());
    let sandbox = Sandbox::new();
    let arguments = ["--json", "check-align", "--cuts", "-"];
    let mut child = sandbox.command(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(&bytes).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success());
    let found: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(found["files"][0]["cuts"], serde_json::json!(expected));

    sandbox.write("file", &bytes);
    let text = sandbox.ok(["check-align", "--cuts", "file"]);
    let printed: Vec<u64> = text.lines().filter_map(|line| line.parse().ok()).collect();
    assert_eq!(printed, expected);
}

#[test]
fn what_cannot_be_checked_is_said() {
    let sandbox = Sandbox::new();
    assert!(sandbox.error(1, ["check-align", "missing"]).contains("missing"));
    assert!(
        sandbox.error(2, ["check-align", "--profile", "md5", "x"]).contains("no chunking profile is named \"md5\"")
    );
    sandbox.error(2, ["check-align"]);
}

#[test]
fn the_xet_hash_is_the_clients() {
    let sandbox = Sandbox::new();
    sandbox.write("a b", split_mix(1, 20_000_000));
    sandbox.write("empty", "");
    let hash = "38754f736ed0b4a79b982c170181764acb07671aa5d5a438e90a3774976b7a48";
    let text = sandbox.ok(["hash", "--xet", "a b", "empty"]);
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines[0], format!("{hash}     20000000  a b"));
    assert_eq!(lines[1], format!("{}            0  empty", "0".repeat(64)));
    let found = sandbox.json(["hash", "--xet", "a b"]);
    assert_eq!((&found[0]["hash"], &found[0]["size"]), (&hash.into(), &20_000_000.into()));
    assert!(sandbox.error(2, ["hash", "--xet", "."]).contains("is not a regular file"));
}
