//! Names of any bytes: printed so that no terminal obeys them, and so that they can be given back.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::symlink;

use seamstore::internals::spelling::{is_odd, spelled};

use crate::support::{Sandbox, skipped};

/// Names that a terminal obeys, that are invisible, that are not UTF-8, and that look like the spelling of another.
const NAMES: [&[u8]; 22] = [
    b"plain",
    b"dev-disk-by\\x2dlabel.swap",
    b"back\\slash",
    b"back\\\\slash",
    b"line\nfeed",
    b"line\\nfeed",
    b"line\\\\nfeed",
    b"tab\there",
    b"return\rhere",
    b"\x1b[31mred\x1b[0m",
    b"\\x1b[31mred\\x1b[0m",
    b"bell\x07 delete\x7f",
    b"latin caf\xe9",
    b"latin caf\\xe9",
    b"cut \xe2\x82",
    "c1 \u{9b}31m \u{85}".as_bytes(),
    "bidi \u{202e}gpj.exe \u{2066}x\u{2069}".as_bytes(),
    "lines \u{2028}\u{2029}".as_bytes(),
    "no width \u{200b}\u{feff}\u{e0041}".as_bytes(),
    "quote \" and ' \u{fffd} \u{e9}\u{6587}".as_bytes(),
    b" -o ",
    b"*?[a]$(x)`y`",
];

fn os(bytes: &[u8]) -> &OsStr {
    OsStr::from_bytes(bytes)
}

/// A store whose tree has a file of each name, with its number in it; a tag and a label that a terminal would obey.
fn nasty() -> Sandbox {
    let sandbox = Sandbox::new();
    for (n, name) in NAMES.iter().enumerate() {
        sandbox.write(OsString::from_vec([b"tree/", *name].concat()), format!("{n}"));
    }
    let target = OsString::from_vec(b"nowhere\x1b[2J\n\xff".to_vec());
    symlink(target, sandbox.path("tree/link")).unwrap();
    sandbox.ok(["add", "tree", "--tag", "tag\u{1b}[1m\n", "--label", "who=\u{202e}evil"]);
    sandbox
}

#[test]
fn every_name_that_ls_prints_is_taken_by_get_for_that_file() {
    let sandbox = nasty();
    let listed = sandbox.ok(["ls", "-R", "tree"]);
    let lines: Vec<&str> = listed.lines().filter(|line| !line.ends_with("/link") && *line != "tree").collect();
    assert_eq!(lines.len(), NAMES.len(), "{listed}");
    let mut seen = BTreeMap::new();
    for line in lines {
        let content = sandbox.ok(["get", line, "-o", "-"]);
        assert!(seen.insert(content, line).is_none(), "{line} was given twice");
        // So do the other commands that take a path.
        assert_eq!(sandbox.ok(["ls", line]).lines().collect::<Vec<_>>(), [line]);
        assert!(sandbox.run(["export", "--tar", line]).status.success(), "{line}");
    }
    for (n, name) in NAMES.iter().enumerate() {
        let line = seen[&n.to_string()];
        assert_eq!(line.trim_start_matches('/'), format!("tree/{}", spelled(*name)));
        // Bytes as they are always are the file's own.
        let raw = OsString::from_vec([b"tree/", *name].concat());
        assert_eq!(sandbox.ok([OsStr::new("get"), &raw, OsStr::new("-o"), OsStr::new("-")]), n.to_string());
    }
    let raw: Vec<u8> = sandbox.run(["ls", "-R0", "tree"]).stdout;
    assert!(raw.split(|byte| *byte == 0).any(|name| name == b"tree/\x1b[31mred\x1b[0m"), "-0 gives names as they are");
}

#[test]
fn a_restored_name_is_the_files_own_also_where_it_was_given_spelled() {
    let sandbox = nasty();
    std::fs::create_dir(sandbox.path("out")).unwrap();
    let got = sandbox
        .command(["--store", "../.store", "get", "//tree/line\\nfeed"])
        .current_dir(sandbox.path("out"))
        .output();
    assert!(got.unwrap().status.success());
    assert_eq!(std::fs::read_to_string(sandbox.path("out").join("line\nfeed")).unwrap(), "4");
    let error = sandbox.error(1, ["get", "tree/none\\n\\x1b", "-o", "-"]);
    assert!(error.contains("path \"tree/none\\\\n\\\\x1b\" not found"), "{error}");
}

/// Fails if there is anything in the output that a terminal obeys but line feeds.
fn assert_harmless(sandbox: &Sandbox, arguments: &[&OsStr]) {
    let output = sandbox.run(arguments);
    for (stream, bytes) in [("standard output", &output.stdout), ("standard error", &output.stderr)] {
        let text = std::str::from_utf8(bytes).unwrap_or_else(|_| panic!("{arguments:?}: {stream} is not UTF-8"));
        let odd = text.chars().find(|c| *c != '\n' && is_odd(*c));
        assert!(odd.is_none(), "{arguments:?}: {stream} has {odd:?}: {text:?}");
        let lines = text.lines().filter(|line| line.starts_with("feed") || line.starts_with("forged"));
        assert_eq!(lines.count(), 0, "{arguments:?}: a name begins a line: {text:?}");
    }
}

#[test]
fn nothing_that_a_terminal_obeys_is_printed_by_any_command() {
    let sandbox = nasty();
    let evil = b"evil\x1b]0;title\x07\nforged\xff\xe2\x80\xae";
    sandbox.ok(["bundle", "export", "all.bundle"]);
    let mut tar = std::process::Command::new("tar");
    let made = tar.current_dir(sandbox.path("tree")).args(["-cf", "../all.tar", "."]).output();
    let has_tar = made.is_ok_and(|output| output.status.success());
    // A damaged file: the longest there is, whose frame is its own.
    let evil_path = OsString::from_vec(evil.to_vec());
    sandbox.write(&evil_path, crate::support::noise(7, 300_000));
    sandbox.ok([OsStr::new("add"), &evil_path]);
    let folders: [&[&[u8]]; 26] = [
        &[b"ls"],
        &[b"ls", b"-R", b"tree"],
        &[b"ls", b"-lR", b"tree"],
        &[b"snapshots"],
        &[b"dedup-stats"],
        &[b"dedup-stats", b"--by", b"label:who"],
        &[b"verify"],
        &[b"gc", b"--dry-run"],
        &[b"get", evil, b"-o", evil],
        &[b"get", evil, b"--range", b"0..5", b"-o", evil],
        &[b"get", evil, b"--range", evil],
        &[b"get", b"tree", b"--snapshot", evil],
        &[b"get", b"tree", b"--label", evil],
        &[b"get", b"tree/\x1b"],
        &[b"ls", b"tree/line\nfee"],
        &[evil],
        &[b"add", evil, b"--level", evil],
        &[b"add", b"\x1b[31mabsent"],
        &[b"add", b"tree", b"--label-rule", evil],
        &[b"add", b"tree", b"--memory", evil],
        &[b"add", b"tree", b"--label", evil],
        &[b"rm", evil],
        &[b"export", b"--tar", evil, b"-o", evil],
        &[b"bundle", b"import", evil],
        &[b"--store", evil, b"ls"],
        &[b"check-align", evil],
    ];
    for arguments in folders {
        let arguments: Vec<&OsStr> = arguments.iter().map(|bytes| os(bytes)).collect();
        assert_harmless(&sandbox, &arguments);
        assert_harmless(&sandbox, &[&[OsStr::new("--json")], &arguments[..]].concat());
    }
    for command in [&["hash", "--xet"][..], &["check-tar"], &["--store", "all.bundle", "bundle", "export"]] {
        let arguments: Vec<&OsStr> = command.iter().map(OsStr::new).chain([os(evil)]).collect();
        assert_harmless(&sandbox, &arguments);
    }
    assert_harmless(&sandbox, &["--store", "all.bundle", "ls", "-lR"].map(OsStr::new));
    if has_tar {
        sandbox.ok(["add", "all.tar"]);
        for arguments in
            [&["check-tar", "all.tar"][..], &["ls", "-lR", "all.tar/"], &["--json", "check-tar", "all.tar"]]
        {
            assert_harmless(&sandbox, &arguments.iter().map(OsStr::new).collect::<Vec<_>>());
        }
    } else {
        skipped("names in a tar: there is no tar");
    }
    // Damage, in every report that names files.
    for pack in crate::system::files_below(&sandbox.path(".store/packs")) {
        let mut bytes = std::fs::read(&pack).unwrap();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        std::fs::write(&pack, bytes).unwrap();
    }
    for arguments in [&["verify", "--full"][..], &["get", "tree", "-o", "x"], &["repair", "--dry-run"], &["repair"]] {
        let arguments: Vec<&OsStr> = arguments.iter().map(OsStr::new).collect();
        assert_harmless(&sandbox, &[&[OsStr::new("--json")], &arguments[..]].concat());
        assert_harmless(&sandbox, &arguments);
    }
}

#[test]
fn json_gives_the_bytes_of_every_name_that_is_not_text() {
    let sandbox = Sandbox::new();
    let name = OsString::from_vec(b"tree/caf\xe9".to_vec());
    sandbox.write(&name, crate::support::noise(1, 100_000));
    let added = sandbox.run([OsStr::new("--json"), OsStr::new("add"), &name]);
    assert!(added.status.success());
    let roots = sandbox.json(["snapshots"])[0]["roots"].clone();
    assert_eq!(roots, serde_json::json!([{ "path": "tree/caf\u{fffd}", "path_hex": "747265652f636166e9" }]));
    let pack = crate::system::files_below(&sandbox.path(".store/packs")).remove(0);
    let mut bytes = std::fs::read(&pack).unwrap();
    bytes[5000] ^= 1;
    std::fs::write(&pack, bytes).unwrap();
    let lost = sandbox.expect(4, ["--json", "verify"]);
    let lost: serde_json::Value = serde_json::from_str(&lost).unwrap();
    assert_eq!(lost["lost"][0]["path_hex"], "747265652f636166e9");
    let lost = sandbox.expect(4, ["--json", "get", "tree", "-o", "out"]);
    let lost: serde_json::Value = serde_json::from_str(&lost).unwrap();
    assert_eq!(lost["lost"][0]["path_hex"], "636166e9");
    // What an add could not keep: any name would do, a socket's too.
    let listener = std::os::unix::net::UnixListener::bind(sandbox.path("plain"));
    drop(listener);
    let tar = OsString::from_vec(b"cut \xe9.tar".to_vec());
    let mut header = vec![0_u8; 512];
    header[..4].copy_from_slice(b"name");
    header[124..135].copy_from_slice(b"00000001000");
    header[156] = b'0';
    header[257..263].copy_from_slice(b"ustar\0");
    header[148..156].fill(b' ');
    let sum: u32 = header.iter().map(|byte| u32::from(*byte)).sum();
    header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    sandbox.write(&tar, header);
    let output = sandbox.run([OsStr::new("--json"), OsStr::new("add"), &tar]);
    assert_eq!(output.status.code(), Some(3), "{}", String::from_utf8_lossy(&output.stderr));
    let added: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(added["problems"][0]["path"], "cut \u{fffd}.tar");
    assert_eq!(added["problems"][0]["path_hex"], "63757420e92e746172");
}
