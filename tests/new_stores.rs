//! How a store comes to be: said aloud, private, and gone again if nothing came to it.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use std::fs::{self, File, Permissions};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;
use std::process::{Output, Stdio};

use rustix::process::Signal;

use crate::support::{Sandbox, noise};
use crate::system::{bytes_in, entries_below, signal, wait_until};

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[test]
fn an_add_that_fails_leaves_no_store_and_no_directory_behind() {
    let sandbox = Sandbox::new();
    sandbox.write("other/file", b"mine");
    sandbox.write("file", b"content");
    sandbox.write("x.bundle", b"no bundle at all");
    fs::create_dir(sandbox.path("empty")).unwrap();
    let before = entries_below(&sandbox.path(""));
    for store in ["new", "new/deep/store", "empty"] {
        assert!(sandbox.error(1, ["--store", store, "add", "missing"]).contains("cannot read \"missing\""));
        sandbox.error(1, ["--store", store, "add", "file", "missing"]);
        sandbox.error(1, ["--store", store, "bundle", "import", "x.bundle"]);
        // Standard input that cannot be read.
        let mut command = sandbox.command(["--store", store, "add", "-", "--name", "stream"]);
        let output = command.stdin(File::open(sandbox.path("other")).unwrap()).output().unwrap();
        assert_eq!(output.status.code(), Some(1), "{}", text(&output.stderr));
        assert_eq!(entries_below(&sandbox.path("")), before, "{store}");
    }
    // A store's path that leads to something else.
    for store in ["other", "file", "file/below"] {
        let error = sandbox.error(1, ["--store", store, "add", "file"]);
        assert!(error.contains("error: "), "{error}");
        assert_eq!(entries_below(&sandbox.path("")), before, "{store}: {error}");
    }
}

#[test]
fn a_command_that_finds_no_store_makes_none() {
    let sandbox = Sandbox::new();
    sandbox.write("x.bundle", b"");
    let before = entries_below(&sandbox.path(""));
    let commands: [&[&str]; 8] = [
        &["gc"],
        &["gc", "--dry-run"],
        &["rm", "abcd"],
        &["verify"],
        &["ls"],
        &["snapshots"],
        &["repair"],
        &["bundle", "export", "y.bundle"],
    ];
    for command in commands {
        let error = sandbox.error(1, [&["--store", "wrong/path"], command].concat());
        assert!(error.contains("is not a store: ") && error.contains("hint: "), "{command:?}: {error}");
        assert_eq!(entries_below(&sandbox.path("")), before, "{command:?}");
    }
}

#[test]
fn an_interrupted_first_add_keeps_the_store_only_if_it_packed_something() {
    let sandbox = Sandbox::new();
    sandbox.write("tree/big", noise(1, 150_000_000));
    let mut adding = sandbox.interruptible(["add", "tree"]).stderr(Stdio::piped()).spawn().unwrap();
    let has_pack = || sandbox.path(".store/packs").exists() && bytes_in(&sandbox.path(".store")) > 70_000_000;
    if wait_until(&mut adding, has_pack) {
        signal(&adding, Signal::INT);
    }
    let output = adding.wait_with_output().unwrap();
    assert!(text(&output.stderr).contains("made store "), "{}", text(&output.stderr));
    sandbox.ok(["snapshots"]);
    sandbox.ok(["verify"]);
}

#[test]
fn making_a_store_is_said_on_standard_error_and_only_then() {
    let sandbox = Sandbox::new();
    sandbox.write("file", b"content");
    let run = |arguments: &[&str]| -> Output { sandbox.run(arguments) };
    let first = run(&["--json", "--store", "a", "add", "file"]);
    assert!(text(&first.stderr).starts_with("made store ") && text(&first.stderr).contains("in \"a\""));
    serde_json::from_slice::<serde_json::Value>(&first.stdout).unwrap();
    assert!(!text(&run(&["--store", "a", "add", "file"]).stderr).contains("made store"));
    run(&["--store", "a", "bundle", "export", "x.bundle"]);
    let import = run(&["--json", "--store", "b", "bundle", "import", "x.bundle"]);
    assert!(text(&import.stderr).starts_with("made store ") && text(&import.stderr).contains("in \"b\""));
    serde_json::from_slice::<serde_json::Value>(&import.stdout).unwrap();
    assert_eq!(text(&run(&["--quiet", "--store", "c", "add", "file"]).stderr), "");
}

/// Runs a command under a umask; it must succeed.
fn run_with_umask(sandbox: &Sandbox, umask: u32, arguments: &[&str]) {
    let mut shell = std::process::Command::new("sh");
    shell.args(["-c", &format!("umask {umask:03o}; exec \"$0\" \"$@\"")]);
    shell.arg(sandbox.command(arguments).get_program()).args(arguments).current_dir(sandbox.path(""));
    let output = shell.output().unwrap();
    assert!(output.status.success(), "{}", text(&output.stderr));
}

/// Fails unless a directory and all below it have these modes.
fn assert_modes(root: &Path, directory: u32, file: u32) {
    for path in entries_below(root) {
        let stat = path.symlink_metadata().unwrap();
        let expected = if stat.is_dir() { directory } else { file };
        assert_eq!(stat.mode() & 0o7777, expected, "{path:?}: {:o}", stat.mode());
    }
}

fn use_all(sandbox: &Sandbox, umask: u32, store: &str) {
    sandbox.write("tree/a", noise(1, 300_000));
    sandbox.write("tree/b", noise(2, 300_000));
    let id = |sandbox: &Sandbox| sandbox.json(["--store", store, "snapshots"])[0]["id"].as_str().unwrap().to_owned();
    run_with_umask(sandbox, umask, &["--store", store, "add", "tree"]);
    run_with_umask(sandbox, umask, &["--store", store, "rm", &id(sandbox)]);
    run_with_umask(sandbox, umask, &["--store", store, "add", "tree/a"]);
    run_with_umask(sandbox, umask, &["--store", store, "gc", "--max-waste", "0"]);
    run_with_umask(sandbox, umask, &["--store", store, "repair", "--index"]);
}

#[test]
fn a_new_store_and_a_bundle_are_their_owners_alone_whatever_the_umask() {
    for umask in [0o000, 0o022, 0o077] {
        let sandbox = Sandbox::new();
        use_all(&sandbox, umask, "above/store");
        assert_modes(&sandbox.path("above/store"), 0o700, 0o600);
        run_with_umask(&sandbox, umask, &["--store", "above/store", "bundle", "export", "x.bundle"]);
        run_with_umask(&sandbox, umask, &["--store", "copy", "bundle", "import", "x.bundle"]);
        assert_modes(&sandbox.path("copy"), 0o700, 0o600);
        assert_eq!(sandbox.path("x.bundle").metadata().unwrap().mode() & 0o777, 0o600);
    }
}

#[test]
fn a_store_is_as_open_as_its_directory_whatever_the_umask() {
    for (mode, directory, file) in [(0o2770, 0o2770, 0o660), (0o750, 0o750, 0o640), (0o755, 0o755, 0o644)] {
        for umask in [0o000, 0o022, 0o077] {
            let sandbox = Sandbox::new();
            fs::create_dir(sandbox.path("store")).unwrap();
            fs::set_permissions(sandbox.path("store"), Permissions::from_mode(mode)).unwrap();
            use_all(&sandbox, umask, "store");
            assert_modes(&sandbox.path("store"), directory, file);
        }
    }
}
