//! Every error says what, where and what to do about it, and ends with the exit code that is documented for it.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use std::io::{Read, Write};
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt, symlink};
use std::process::Stdio;

use crate::support::{Sandbox, noise};

#[test]
fn what_is_no_store_is_told_how_to_become_one() {
    let sandbox = Sandbox::new();
    sandbox.write("plain/file", b"no store");
    for (store, why) in [("absent", "no such directory"), ("plain", "no store.json"), ("plain/file", "not a directory")]
    {
        for command in [&["ls"][..], &["get", "x"], &["snapshots"], &["dedup-stats"], &["repair", "--index"]] {
            let error = sandbox.error(1, [&["--store", store], command].concat());
            assert!(
                error.contains(&format!("{store:?} is not a store")) && error.contains(why),
                "{command:?}: {error}"
            );
            assert!(error.contains("\nhint: ") && error.contains("store init"), "{command:?}: {error}");
        }
    }
    // A directory that holds something else does not become a store by accident.
    sandbox.write("data", b"data");
    for arguments in [["--store", "plain", "add", "data"], ["--store", "plain/file", "add", "data"]] {
        sandbox.error(1, arguments);
    }
    assert_eq!(std::fs::read_dir(sandbox.path("plain")).unwrap().count(), 1);
    assert!(!sandbox.path("absent").exists());
}

#[test]
fn another_format_version_is_refused_by_name() {
    let sandbox = Sandbox::new();
    sandbox.write("data", b"data");
    sandbox.ok(["add", "data"]);
    let config = std::fs::read_to_string(sandbox.path(".store/store.json")).unwrap();
    let later = config.replace("\"version\": 1,", "\"version\": 2,");
    assert_ne!(config, later, "{config}");
    std::fs::write(sandbox.path(".store/store.json"), later).unwrap();
    for command in [&["ls"][..], &["add", "data"], &["get", "data", "-o", "out"], &["dedup-stats"]] {
        let error = sandbox.error(1, command);
        assert!(error.contains("store.json has format version 2") && error.contains("reads version 1"), "{error}");
        assert!(error.contains("hint: use a version of this program"), "{error}");
    }
    assert!(!sandbox.path("out").exists());
}

#[test]
fn a_wrong_path_is_answered_with_the_nearest_names() {
    let sandbox = Sandbox::new();
    sandbox.write("tree/source/readme.txt", b"text");
    sandbox.write("tree/source/parser.rs", b"code");
    sandbox.ok(["add", "tree"]);
    for (asked, offered) in [
        ("tree/source/readme.tx", "tree/source/readme.txt"),
        ("readme.txt", "tree/source/readme.txt"),
        ("tree/sauce/parser.rs", "tree/source/parser.rs"),
    ] {
        for command in ["get", "ls"] {
            let error = sandbox.error(1, [command, asked]);
            assert!(error.contains(&format!("path \"{asked}\" not found")), "{error}");
            assert!(error.contains("hint: did you mean") && error.contains(offered), "{error}");
        }
    }
    let error = sandbox.error(1, ["get", "wholly/unlike/anything"]);
    assert!(error.contains("not found") && !error.contains("hint"), "{error}");
    let error = sandbox.error(1, ["get", "tree", "--snapshot", "0123456789abcdef0123456789abcdef0123456789abcdef"]);
    assert!(error.contains("snapshot \"0123456789abcdef0123456789abcdef0123456789abcdef\" not found"), "{error}");
    assert!(!sandbox.path("readme.txt").exists());
}

#[test]
fn nothing_in_the_way_of_a_tree_is_touched() {
    let sandbox = Sandbox::new();
    sandbox.write("tree/a", b"stored a");
    sandbox.write("tree/b", b"stored b");
    sandbox.ok(["add", "tree"]);
    sandbox.write("out/b", b"precious");
    let error = sandbox.error(1, ["get", "tree", "-o", "out"]);
    assert!(error.contains("\"out\" exists") && error.contains("hint:") && error.contains("--force"), "{error}");
    assert_eq!(std::fs::read(sandbox.path("out/b")).unwrap(), b"precious");
    assert!(!sandbox.path("out/a").exists());
    // A link in the way is replaced, not followed.
    std::fs::remove_file(sandbox.path("out/b")).unwrap();
    sandbox.write("elsewhere", b"not to be written");
    symlink("../elsewhere", sandbox.path("out/b")).unwrap();
    sandbox.ok(["get", "tree", "-o", "out", "--force"]);
    assert_eq!(std::fs::read(sandbox.path("out/b")).unwrap(), b"stored b");
    assert_eq!(std::fs::read(sandbox.path("elsewhere")).unwrap(), b"not to be written");
}

#[test]
fn wrong_usage_is_code_2() {
    let sandbox = Sandbox::new();
    sandbox.write("data", b"data");
    sandbox.ok(["add", "data"]);
    for arguments in [
        &["no-such-command"][..],
        &["add"],
        &["add", "-"],
        &["add", "data", "--name", "x"],
        &["add", "-", "-", "--name", "x"],
        &["add", "data", "--memory", "1K"],
        &["add", "data", "--memory", "much"],
        &["add", "data", "--level", "99"],
        &["add", "data", "--frame", "1"],
        &["add", "data", "--codec", "zip"],
        &["add", "data", "--chunk-avg", "5000"],
        &["add", "data", "--profile", "xet", "--chunk-avg", "16K"],
        &["add", "data", "--codec", "lz4"],
        &["get"],
        &["get", "data", "--range", "5"],
        &["get", "data", "--snapshot", "XYZ"],
        &["ls", "-l", "-0"],
        &["repair", "--index", "--dry-run"],
    ] {
        let error = sandbox.error(2, arguments);
        assert!(error.starts_with("error: "), "{arguments:?}: {error}");
    }
    assert_eq!(sandbox.json(["snapshots"]).as_array().unwrap().len(), 1);
    for arguments in [["--help"], ["--version"]] {
        assert!(!sandbox.expect(0, arguments).is_empty());
    }
}

#[test]
fn a_path_that_is_not_there_fails_the_add() {
    let sandbox = Sandbox::new();
    sandbox.write("data", b"data");
    sandbox.ok(["init"]);
    let error = sandbox.error(1, ["add", "data", "absent"]);
    assert!(error.contains("cannot read \"absent\""), "{error}");
    assert_eq!(sandbox.json(["snapshots"]).as_array().unwrap().len(), 0);
}

#[test]
fn a_reader_may_leave_early() {
    let sandbox = Sandbox::new();
    sandbox.write("big", noise(1, 30_000_000));
    for n in 0..3000 {
        sandbox.write(format!("many/{n:0100}"), b"");
    }
    sandbox.ok(["add", "big", "many"]);
    for arguments in [&["get", "big", "-o", "-"][..], &["ls", "-R"], &["--json", "ls", "-R"]] {
        let mut child = sandbox.command(arguments).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let mut stdout = child.stdout.take().unwrap();
        let mut few = [0; 10];
        stdout.read_exact(&mut few).unwrap();
        drop(stdout);
        let output = child.wait_with_output().unwrap();
        assert_eq!(output.status.code(), Some(0), "{arguments:?}");
        assert_eq!(String::from_utf8_lossy(&output.stderr), "", "{arguments:?}");
    }
}

/// Runs a command line under a terminal of its own and returns what the terminal was shown.
fn on_a_terminal(sandbox: &Sandbox, command_line: &str) -> Option<String> {
    let program = env!("CARGO_BIN_EXE_store");
    let line = format!("'{program}' {command_line}");
    let output = std::process::Command::new("script")
        .args(["-qec", &line, "/dev/null"])
        .current_dir(sandbox.path(""))
        .env("TERM", "xterm")
        .stdin(Stdio::null())
        .output()
        .ok()?;
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
    Some(String::from_utf8_lossy(&output.stdout).into_owned())
}

#[test]
fn progress_is_for_terminals_only() {
    let sandbox = Sandbox::new();
    sandbox.write("big", noise(2, 40_000_000));
    sandbox.ok(["init"]);
    let output = sandbox.run(["add", "big"]);
    let error = String::from_utf8(output.stderr).unwrap();
    assert!(output.stdout.is_empty(), "an add has no data");
    assert!(error.starts_with("snapshot ") && error.lines().count() == 1 && !error.contains('\u{1b}'), "{error:?}");
    let output = sandbox.run(["get", "big", "-o", "copy"]);
    let error = String::from_utf8(output.stderr).unwrap();
    assert!(output.stdout.is_empty() && error.lines().count() == 1 && !error.contains('\u{1b}'), "{error:?}");
    assert!(sandbox.run(["--quiet", "add", "big"]).stderr.is_empty());

    let Some(shown) = on_a_terminal(&sandbox, "add --reread big") else {
        crate::support::skipped("there is no `script` to make a terminal with");
        return;
    };
    assert!(shown.contains('\u{1b}') && shown.contains("files") && shown.contains("snapshot "), "{shown:?}");
    let quiet = on_a_terminal(&sandbox, "--quiet add --reread big").unwrap();
    assert_eq!(quiet, "");
}

#[test]
fn an_unreadable_store_json_names_the_place() {
    let sandbox = Sandbox::new();
    sandbox.write("data", b"data");
    sandbox.ok(["add", "data"]);
    let config = sandbox.path(".store/store.json");
    let whole = std::fs::read(&config).unwrap();
    let mut bad_profile = String::from_utf8(whole.clone()).unwrap();
    let at = bad_profile.find("default").unwrap();
    bad_profile.replace_range(at..=at, "?");
    for (damage, bytes, place) in [
        ("empty", Vec::new(), " at byte 0: "),
        ("cut off", whole[..whole.len() / 2].to_vec(), " at byte "),
        ("no JSON", noise(3, 200), " at byte "),
        // No byte of these is known to be the wrong one.
        ("far too long", vec![b' '; 10_000_000], ": "),
        ("another profile", bad_profile.into_bytes(), ": "),
    ] {
        std::fs::set_permissions(&config, std::fs::Permissions::from_mode(0o644)).unwrap();
        std::fs::File::create(&config).unwrap().write_all(&bytes).unwrap();
        for command in [&["ls"][..], &["add", "data"], &["get", "data", "-o", "out"]] {
            let error = sandbox.error(4, command);
            assert!(error.contains(&format!("store.json is damaged{place}")), "{damage}: {error}");
        }
    }
}

#[test]
fn a_device_is_written_to_and_never_replaced() {
    let sandbox = Sandbox::new();
    sandbox.write("file", b"some bytes");
    sandbox.ok(["add", "file"]);
    let device = sandbox.path("device");
    let made = std::process::Command::new("mknod").arg(&device).args(["c", "1", "3"]).status();
    if !made.is_ok_and(|status| status.success()) {
        // Only root may make one; a link that leads to one must do.
        symlink("/dev/null", &device).unwrap();
    }
    let before = std::fs::symlink_metadata(&device).unwrap().ino();
    for force in [&[][..], &["--force"]] {
        sandbox.ok([&["export", "--tar", "-o", "device"][..], force].concat());
        sandbox.ok([&["get", "file", "--range", "0..4", "-o", "device"][..], force].concat());
        // What fails in the middle leaves it alone, too.
        sandbox.run([&["get", "absent", "--range", "0..4", "-o", "device"][..], force].concat());
    }
    if std::fs::symlink_metadata(&device).unwrap().file_type().is_char_device() {
        let error = sandbox.error(1, ["get", "file", "-o", "device", "--force"]);
        assert!(error.contains("\"device\" exists"), "{error}");
    }
    assert_eq!(std::fs::symlink_metadata(&device).unwrap().ino(), before);
    // Half an export is not left behind, nor takes it the place of what was there.
    sandbox.write("old", b"old");
    sandbox.error(1, ["export", "--tar", "absent", "-o", "old", "--force"]);
    assert_eq!(std::fs::read(sandbox.path("old")).unwrap(), b"old");
}
