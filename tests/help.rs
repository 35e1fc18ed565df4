//! The examples of every help text are run, as they stand there.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use std::collections::BTreeSet;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::process::Command;

use crate::support::{Sandbox, noise, skipped};

/// The subcommands that `store --help` lists.
fn subcommands(sandbox: &Sandbox) -> Vec<String> {
    let help = sandbox.ok(["--help"]);
    let listed = help.split("Commands:\n").nth(1).unwrap();
    let lines = listed.lines().take_while(|line| !line.is_empty());
    let names = lines.filter(|line| line.starts_with("  ") && !line.starts_with("   "));
    names.map(|line| line.split_whitespace().next().unwrap().to_owned()).filter(|name| name != "help").collect()
}

/// The lines of a help text below `Examples:`, without what is said of them.
fn examples(help: &str) -> Vec<String> {
    let Some(after) = help.split("Examples:\n").nth(1) else { return Vec::new() };
    let lines = after.lines().take_while(|line| line.starts_with("  ")).map(str::trim);
    lines.map(|line| line.split("   ").next().unwrap().trim().to_owned()).collect()
}

/// A folder in which everything is that the examples speak of.
fn prepared(for_init: bool) -> Sandbox {
    let sandbox = Sandbox::new();
    sandbox.write("linux-6.1/README", "Linux kernel\n".repeat(100));
    sandbox.write("linux-6.1/kernel/fork.c", noise(1, 50_000));
    sandbox.write("linux-6.6/README", "Linux kernel, newer\n".repeat(100));
    sandbox.write("notes.txt", b"notes");
    sandbox.write("disk.img", noise(2, 100_000));
    sandbox.write("model.safetensors", noise(3, 100_000));
    sandbox.write("models/weights", noise(5, 300_000));
    sandbox.write("src/main.rs", b"fn main() {}");
    let tar = ["-cf", "linux.tar", "linux-6.1"];
    assert!(Command::new("tar").args(tar).current_dir(sandbox.path("")).status().unwrap().success());
    if !for_init {
        sandbox.write("srv/models/weights", noise(4, 100_000));
        sandbox.write("srv/wheels/numpy-2.1.0-py3-none-any.whl", b"PK\x03\x04");
    }
    // Programs that the examples use.
    let store = sandbox.path("bin/store");
    std::fs::create_dir(sandbox.path("bin")).unwrap();
    symlink(env!("CARGO_BIN_EXE_store"), store).unwrap();
    let dump = sandbox.write("bin/mysqldump", "#!/bin/sh\necho 'CREATE TABLE shop;'\n");
    std::fs::set_permissions(dump, std::fs::Permissions::from_mode(0o755)).unwrap();
    sandbox
}

/// The line with two snapshots of the store in the place of those that it names.
fn with_snapshots(sandbox: &Sandbox, line: &str) -> String {
    let ids = [["add", "linux-6.1"], ["add", "linux-6.6"]].map(|add| {
        let said = sandbox.ok(["--json"].iter().chain(&add));
        let said: serde_json::Value = serde_json::from_str(&said).unwrap();
        said["snapshot"].as_str().unwrap().to_owned()
    });
    assert!(line.contains(" 5a6f"), "{line}");
    line.replace("5a6f430eef18", &ids[0])
        .replace("5a6f ", &format!("{} ", &ids[0][..20]))
        .replace("97eeb6", &ids[1][..20])
}

#[test]
fn every_help_has_examples_and_they_run() {
    let sandbox = Sandbox::new();
    let names = subcommands(&sandbox);
    assert!(names.len() >= 7, "{names:?}");
    let has_jq = Command::new("jq").arg("--version").output().is_ok();
    if !has_jq {
        skipped("examples that use jq: it is missing");
    }
    for name in std::iter::once("").chain(names.iter().map(String::as_str)) {
        let help = sandbox.ok(name.split_whitespace().chain(["--help"]));
        let examples = examples(&help);
        assert!(!examples.is_empty(), "store {name} --help has no examples:\n{help}");
        let sandbox = prepared(name == "init");
        let path = std::env::join_paths(
            std::iter::once(sandbox.path("bin")).chain(std::env::split_paths(&std::env::var_os("PATH").unwrap())),
        );
        let path = path.unwrap();
        let makes_its_own = matches!(name, "init" | "");
        if !makes_its_own {
            sandbox.ok(["add", "--label-rule", "*.whl type=wheel", "srv"]);
            sandbox.ok(["add", "linux-6.1", "linux-6.6", "disk.img", "notes.txt", "linux.tar"]);
            sandbox.ok(["add", "linux-6.1"]);
        }
        for example in examples {
            assert!(example.contains("store "), "{name}: {example:?}");
            if example.contains("jq ") && !has_jq {
                continue;
            }
            if example.contains("--adversarial") {
                skipped("an example that takes minutes where it is not built for speed");
                continue;
            }
            // Places outside of the folder are taken to be in it, and snapshots are those that are there.
            let line = example.replace(" /srv", " srv");
            let line = if name == "rm" { with_snapshots(&sandbox, &line) } else { line };
            let output = Command::new("bash")
                .args(["-o", "pipefail", "-c", &line])
                .current_dir(sandbox.path(""))
                .env("PATH", &path)
                .env_remove("STORE_PATH")
                .output()
                .unwrap();
            let error = String::from_utf8_lossy(&output.stderr);
            assert!(output.status.success(), "{name}: {example:?}: {error}");
            let is_report = ["ls", "snapshots", "dedup-stats"].contains(&name) || example.contains("-o -");
            assert!(!is_report || !output.stdout.is_empty(), "{example:?} should show something");
        }
    }
}

#[test]
fn the_exit_codes_are_those_in_the_help() {
    let sandbox = Sandbox::new();
    let help = sandbox.ok(["--help"]);
    let line = help.split("Exit codes:").nth(1).unwrap().split_whitespace().collect::<Vec<_>>().join(" ");
    let numbers = line.split(|c: char| !c.is_ascii_digit()).filter_map(|digits| digits.parse().ok());
    assert_eq!(numbers.collect::<BTreeSet<u8>>(), BTreeSet::from([0, 1, 2, 3, 4, 129, 130, 143]), "{line}");
}
