//! Files that do not hold still: what is kept is what was read, what is not kept is named, and the rest is there.
//!
//! The add is suspended in the middle of a big file, so what happens to which file is not left to chance.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use std::fs::OpenOptions;
use std::io::Write;
use std::os::unix::fs::{FileExt, PermissionsExt};
use std::process::Stdio;

use rustix::process::Signal;

use crate::support::{Sandbox, noise, skipped, tree_fingerprint};
use crate::system::{bytes_in, give_to_nobody, signal, wait_until};

const BIG: usize = 160_000_000;

/// Adds `tree`, which has a big file `a`, suspends that in the middle of `a`, lets `change` change the files, and has
/// it go on. Returns what it said on standard error; `None`, and says so, where the machine is too busy to suspend it in
/// the middle.
fn add_while_changing(sandbox: &Sandbox, change: &dyn Fn(&Sandbox), code: i32) -> Option<String> {
    for attempt in 0..10 {
        sandbox.write("tree/a", noise(1, BIG));
        let store = format!("store{attempt}");
        let mut adding = sandbox
            .command(["--store", &store, "add", "--memory", "32M", "tree"])
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let begun = wait_until(&mut adding, || bytes_in(&sandbox.path(&store)) > 1_000_000);
        signal(&adding, Signal::STOP);
        // Its clock stands still now; how far did it come?
        let is_in_the_middle = begun && bytes_in(&sandbox.path(&store)) < (BIG - 80_000_000) as u64;
        if is_in_the_middle {
            change(sandbox);
        }
        signal(&adding, Signal::CONT);
        let output = adding.wait_with_output().unwrap();
        if is_in_the_middle {
            let error = String::from_utf8_lossy(&output.stderr).into_owned();
            assert_eq!(output.status.code(), Some(code), "{error}");
            std::fs::rename(sandbox.path(&store), sandbox.path(".store")).unwrap();
            return Some(error);
        }
        std::fs::remove_dir_all(sandbox.path(&store)).unwrap();
    }
    skipped("ten times the add could not be suspended in the middle");
    None
}

fn restored(sandbox: &Sandbox, path: &str) -> Vec<u8> {
    let output = sandbox.run(["get", path, "-o", "-"]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    output.stdout
}

#[test]
fn a_file_that_grows() {
    let sandbox = Sandbox::new();
    let Some(error) = add_while_changing(
        &sandbox,
        &|sandbox| {
            let mut file = OpenOptions::new().append(true).open(sandbox.path("tree/a")).unwrap();
            file.write_all(b"more").unwrap();
        },
        3,
    ) else {
        return;
    };
    assert!(error.contains("warning: \"tree/a\" grew while it was read"), "{error}");
    let got = restored(&sandbox, "tree/a");
    let now = std::fs::read(sandbox.path("tree/a")).unwrap();
    assert!(got.len() >= BIG && now.starts_with(&got), "{} bytes", got.len());
    assert_eq!(sandbox.json(["snapshots"])[0]["skipped"], 1);
    // The next add sees that this is not what the snapshot has.
    sandbox.ok(["add", "tree"]);
    assert!(restored(&sandbox, "tree/a") == now);
}

#[test]
fn a_file_that_shrinks() {
    // Behind what was read, and before it: what was read is kept.
    for length in [BIG - 10_000_000, 1000] {
        let sandbox = Sandbox::new();
        let Some(error) = add_while_changing(
            &sandbox,
            &|sandbox| {
                OpenOptions::new().write(true).open(sandbox.path("tree/a")).unwrap().set_len(length as u64).unwrap();
            },
            3,
        ) else {
            return;
        };
        assert!(error.contains("warning: \"tree/a\" shrank while it was read"), "{error}");
        let got = restored(&sandbox, "tree/a");
        assert!(got.len() >= length && got.len() < BIG && noise(1, BIG).starts_with(&got), "{} bytes", got.len());
    }
}

#[test]
fn a_file_that_is_written_to() {
    let sandbox = Sandbox::new();
    let at = BIG - 30_000_000;
    let Some(error) = add_while_changing(
        &sandbox,
        &|sandbox| {
            let file = OpenOptions::new().write(true).open(sandbox.path("tree/a")).unwrap();
            file.write_all_at(&vec![7; 20_000_000], at as u64).unwrap();
            file.write_all_at(b"first", 0).unwrap();
        },
        3,
    ) else {
        return;
    };
    assert!(error.contains("warning: \"tree/a\" was modified while it was read"), "{error}");
    let got = restored(&sandbox, "tree/a");
    let (old, new) = (noise(1, BIG), std::fs::read(sandbox.path("tree/a")).unwrap());
    assert_eq!(got.len(), BIG);
    // Each byte is one that the file had.
    assert!(got.iter().zip(old.iter().zip(&new)).all(|(got, (old, new))| got == old || got == new));
    assert!(got[at..at + 20_000_000] == new[at..at + 20_000_000], "what came before it was read is in it");
}

#[test]
fn files_that_come_and_go() {
    let sandbox = Sandbox::new();
    sandbox.write("tree/gone", b"gone");
    sandbox.write("tree/gone too/file", b"gone");
    sandbox.write("tree/kept", b"kept");
    sandbox.write("tree/replaced", b"old");
    sandbox.write("tree/saved", b"old");
    let Some(error) = add_while_changing(
        &sandbox,
        &|sandbox| {
            std::fs::remove_file(sandbox.path("tree/gone")).unwrap();
            std::fs::remove_dir_all(sandbox.path("tree/gone too")).unwrap();
            // As editors save.
            std::fs::rename(sandbox.write("new", b"new"), sandbox.path("tree/saved")).unwrap();
            std::fs::remove_file(sandbox.path("tree/replaced")).unwrap();
            // A reader that opens this as the file it was waits for ever.
            assert!(
                std::process::Command::new("mkfifo").arg(sandbox.path("tree/replaced")).status().unwrap().success()
            );
        },
        0,
    ) else {
        return;
    };
    for gone in ["tree/gone", "tree/gone too"] {
        assert!(error.contains(&format!("note: \"{gone}\" was removed after it was listed")), "{error}");
    }
    assert!(!error.contains("warning: "), "{error}");
    sandbox.ok(["get", "tree", "-o", "copy"]);
    // The root was looked at before its time moved.
    let but_root = |root: &str| {
        let mut fingerprint = tree_fingerprint(&sandbox.path(root));
        fingerprint.remove(std::path::Path::new(""));
        fingerprint
    };
    assert_eq!(but_root("tree"), but_root("copy"));
    assert_eq!(sandbox.json(["snapshots"])[0]["skipped"], 0);
}

#[test]
fn a_big_file_that_vanishes_is_kept_once_it_is_open() {
    let sandbox = Sandbox::new();
    let Some(error) = add_while_changing(&sandbox, &|sandbox| std::fs::remove_file(sandbox.path("tree/a")).unwrap(), 3)
    else {
        return;
    };
    assert!(error.contains("\"tree/a\""), "{error}");
    assert!(restored(&sandbox, "tree/a") == noise(1, BIG));
}

#[test]
fn what_may_not_be_read_is_named_and_the_rest_is_kept() {
    let sandbox = Sandbox::new();
    sandbox.write("tree/readable", b"readable");
    sandbox.write("tree/secret", b"secret");
    sandbox.write("tree/big secret", noise(2, 9_000_000));
    sandbox.write("tree/closed/file", b"cannot be seen");
    sandbox.write("tree/open/file", b"seen");
    give_to_nobody(&sandbox.path("tree"));
    for closed in ["secret", "big secret", "closed"] {
        std::fs::set_permissions(sandbox.path("tree").join(closed), std::fs::Permissions::from_mode(0o000)).unwrap();
    }
    std::fs::create_dir(sandbox.path("store")).unwrap();
    give_to_nobody(&sandbox.path("store"));
    let output = sandbox.unprivileged(["--store", "store", "--json", "add", "tree"]).output().unwrap();
    let error = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(3), "{error}");
    let json: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let problems = json["problems"].as_array().unwrap();
    assert_eq!(problems.len(), 3, "{json}");
    for closed in ["tree/secret", "tree/big secret", "tree/closed"] {
        let problem = problems.iter().find(|problem| problem["path"] == closed);
        let what = problem.unwrap_or_else(|| panic!("{closed} in {json}"))["what"].as_str().unwrap();
        assert!(what.contains("Permission denied"), "{what}");
        assert!(error.contains(&format!("warning: \"{closed}\" was left out: ")), "{error}");
    }
    let listed = sandbox.unprivileged(["--store", "store", "ls", "-R"]).output().unwrap();
    let listed = String::from_utf8(listed.stdout).unwrap();
    assert_eq!(listed, "tree\ntree/closed\ntree/open\ntree/open/file\ntree/readable\n");
    std::fs::set_permissions(sandbox.path("tree/closed"), std::fs::Permissions::from_mode(0o755)).unwrap();
}

/// No suspending here: a thread replaces, removes and makes files as fast as it can while adds run.
#[test]
fn a_tree_that_never_rests() {
    use std::sync::atomic::{AtomicBool, Ordering};
    let sandbox = Sandbox::new();
    let content = |name: usize, version: u8| vec![version; 2000 + name];
    for name in 0..300 {
        sandbox.write(format!("tree/{name:03}"), content(name, 0));
    }
    sandbox.write("tree/999", b"rests");
    let rests = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut version: u8 = 0;
            while !rests.load(Ordering::Relaxed) {
                version = version.wrapping_add(1);
                for name in (0..300).step_by(7) {
                    let path = sandbox.path(format!("tree/{name:03}"));
                    match version % 3 {
                        0 => std::fs::rename(sandbox.write("new", content(name, version)), path).unwrap(),
                        1 => drop(std::fs::remove_file(path)),
                        _ => drop(std::os::unix::fs::symlink("999", path)),
                    }
                }
            }
        });
        for round in 0..12 {
            let output = sandbox.run(["add", "--reread", "tree"]);
            let error = String::from_utf8_lossy(&output.stderr);
            assert!(matches!(output.status.code(), Some(0 | 3)), "{error}");
            assert_eq!(output.status.code() == Some(3), error.contains("warning: "), "{error}");
            let copy = sandbox.path(format!("copy{round}"));
            sandbox.ok(["get", "tree", "--snapshot", "latest", "-o", copy.to_str().unwrap()]);
            for name in 0..300 {
                let path = copy.join(format!("{name:03}"));
                let Ok(stat) = path.symlink_metadata() else {
                    assert_eq!(name % 7, 0, "{name} rested and is missing");
                    continue;
                };
                if stat.is_file() {
                    let bytes = std::fs::read(path).unwrap();
                    assert!(bytes == content(name, bytes[0]), "{name} is not one of its versions");
                }
            }
            assert_eq!(std::fs::read(copy.join("999")).unwrap(), b"rests");
        }
        rests.store(true, Ordering::Relaxed);
    });
}
