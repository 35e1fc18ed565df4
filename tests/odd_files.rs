//! Files of which the system does not say the truth: sizes, inode numbers and listings; and times that no snapshot holds.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use std::fs::read;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use crate::support::{Sandbox, skipped};

/// A file system with a fault, unmounted when dropped; see `odd_files/server.py`.
struct Odd {
    server: Child,
    root: PathBuf,
}

impl Odd {
    fn mount(sandbox: &Sandbox, fault: &str) -> Option<Self> {
        let root = sandbox.path("odd");
        std::fs::create_dir_all(&root).unwrap();
        let server = Command::new("python3")
            .arg(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/odd_files/server.py"))
            .args([fault.as_ref(), root.as_os_str()])
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn();
        let Ok(mut server) = server else {
            skipped("a file system of the test's own takes python3");
            return None;
        };
        let mut line = String::new();
        BufReader::new(server.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let mounted = Self { server, root };
        if line.trim() != "mounted" {
            skipped("a file system of the test's own takes root and /dev/fuse");
            return None;
        }
        Some(mounted)
    }
}

impl Drop for Odd {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.root).stderr(Stdio::null()).status();
        let _ = self.server.kill();
        let _ = self.server.wait();
    }
}

fn restored(sandbox: &Sandbox, path: &str) -> Vec<u8> {
    let output = sandbox.run(["get", path, "-o", "-"]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    output.stdout
}

/// What the files of the server have.
fn bytes_of(name: &str) -> Vec<u8> {
    let sizes = [("small", 33_000), ("middle", 3_000_000), ("large", 9_000_000)];
    let size = sizes.iter().find(|(of, _)| *of == name).map_or(1000, |(_, size)| *size);
    format!("{name} 0123456789\n").into_bytes().repeat(size / 12)
}

#[test]
fn files_and_directories_whose_inode_numbers_change_are_kept() {
    let sandbox = Sandbox::new();
    let Some(_odd) = Odd::mount(&sandbox, "inodes") else { return };
    assert_eq!(sandbox.error(0, ["-q", "add", "odd"]), "");
    let mut at = "odd".to_owned();
    // More levels than a walk keeps open.
    for _ in 0..20 {
        assert!(restored(&sandbox, &format!("{at}/f")) == bytes_of("f"), "{at}");
        at += "/d";
    }
    for name in ["small", "middle", "large"] {
        assert!(restored(&sandbox, &format!("odd/{name}")) == bytes_of(name), "{name}");
    }
}

#[test]
fn a_name_that_is_listed_twice_is_kept_once_and_noted_once() {
    let sandbox = Sandbox::new();
    let Some(_odd) = Odd::mount(&sandbox, "twice") else { return };
    let said = sandbox.error(0, ["add", "odd"]);
    assert_eq!(said.matches("\"odd/a\"").count(), 1, "{said}");
    assert!(said.contains("note: \"odd/a\" is listed more than once"), "{said}");
    assert_eq!(sandbox.ok(["ls", "-R"]), "odd\nodd/a\nodd/z\n");
    assert!(restored(&sandbox, "odd/a") == bytes_of("a"));
    assert_eq!(sandbox.json(["snapshots"])[0]["skipped"], 0);
}

#[test]
fn files_that_share_an_inode_number_come_back_as_different_files() {
    let sandbox = Sandbox::new();
    let Some(odd) = Odd::mount(&sandbox, "linked") else { return };
    sandbox.ok(["add", "odd"]);
    drop(odd);
    sandbox.ok(["get", "odd", "-o", "copy"]);
    sandbox.ok(["export", "odd", "--tar", "-o", "odd.tar"]);
    std::fs::create_dir(sandbox.path("tar")).unwrap();
    let unpacked =
        Command::new("tar").arg("-xf").arg(sandbox.path("odd.tar")).arg("-C").arg(sandbox.path("tar")).status();
    assert!(unpacked.unwrap().success());
    for name in ["small", "middle", "large"] {
        assert!(read(sandbox.path("copy").join(name)).unwrap() == bytes_of(name), "{name}");
        let found = find_below(&sandbox.path("tar"), name).unwrap();
        assert!(read(found).unwrap() == bytes_of(name), "{name} in the tar");
    }
}

fn find_below(root: &Path, name: &str) -> Option<PathBuf> {
    crate::system::files_below(root).into_iter().find(|path| path.ends_with(name))
}

#[test]
fn a_file_that_claims_to_be_empty_is_kept_to_its_end() {
    let sandbox = Sandbox::new();
    let Some(_odd) = Odd::mount(&sandbox, "empty") else { return };
    assert_eq!(sandbox.error(0, ["-q", "add", "odd"]), "");
    for name in ["small", "middle", "large"] {
        assert!(restored(&sandbox, &format!("odd/{name}")) == bytes_of(name), "{name}");
    }
    assert_same_hashes(&sandbox);
}

#[test]
fn a_file_with_fewer_bytes_than_it_claims_is_kept_and_named() {
    let sandbox = Sandbox::new();
    let Some(_odd) = Odd::mount(&sandbox, "early") else { return };
    let said = sandbox.error(3, ["add", "odd"]);
    for name in ["small", "middle", "large"] {
        let warning = format!("warning: \"odd/{name}\" ends before the size that its file system states");
        assert!(said.contains(&warning), "{said}");
        assert!(restored(&sandbox, &format!("odd/{name}")) == bytes_of(name), "{name}");
    }
    assert_same_hashes(&sandbox);
}

#[test]
fn a_file_with_more_bytes_than_it_claims_is_kept_to_its_end_or_named() {
    let sandbox = Sandbox::new();
    let Some(_odd) = Odd::mount(&sandbox, "more") else { return };
    let said = sandbox.error(3, ["add", "odd"]);
    assert!(said.contains("warning: \"odd/large\" has more bytes than its file system states"), "{said}");
    assert_eq!(said.matches("warning: ").count(), 1, "{said}");
    for name in ["small", "middle"] {
        assert!(restored(&sandbox, &format!("odd/{name}")) == bytes_of(name), "{name}");
    }
    assert!(bytes_of("large").starts_with(&restored(&sandbox, "odd/large")));
    assert_same_hashes(&sandbox);
}

/// Other commands that read files see the same bytes.
fn assert_same_hashes(sandbox: &Sandbox) {
    for name in ["small", "middle", "large"] {
        let copy = sandbox.write(format!("copy/{name}"), bytes_of(name));
        let hash = |path: &Path| sandbox.json(["hash", "--xet", path.to_str().unwrap()])[0]["hash"].clone();
        assert_eq!(hash(&sandbox.path("odd").join(name)), hash(&copy), "{name}");
    }
}

#[test]
fn files_that_the_kernel_makes_are_kept_as_they_are_read() {
    let sandbox = Sandbox::new();
    // The first claims to have no bytes, the other a page.
    for made in ["/proc/version", "/sys/devices/system/cpu/online"] {
        if !Path::new(made).exists() {
            skipped(&format!("there is no {made} here"));
            continue;
        }
        assert_eq!(sandbox.error(0, ["-q", "add", made]), "");
        assert_eq!(restored(&sandbox, made), read(made).unwrap());
        sandbox.write("copy", read(made).unwrap());
        let hash = |path: &str| sandbox.json(["hash", "--xet", path])[0]["hash"].clone();
        assert_eq!(hash(made), hash("copy"));
    }
}

/// Sets the times of an entry as `touch` does; `false` where that cannot be.
fn touch(path: &Path, date: &str) -> bool {
    let year = date.get(..4).unwrap();
    let touched = Command::new("touch").args(["-h", "-d", date]).arg(path).status().is_ok_and(|it| it.success());
    let shown = Command::new("stat").args(["-c", "%y"]).arg(path).output().unwrap().stdout;
    touched && String::from_utf8_lossy(&shown).starts_with(year)
}

#[test]
fn a_time_that_a_snapshot_cannot_hold_is_named_at_each_add() {
    let sandbox = Sandbox::new();
    let Ok(memory) = tempfile::tempdir_in("/dev/shm") else {
        return skipped("there is no /dev/shm for times that disks do not hold");
    };
    let tree = memory.path().join("tree");
    std::fs::create_dir(&tree).unwrap();
    std::fs::write(tree.join("file"), b"late").unwrap();
    std::fs::write(tree.join("empty"), b"").unwrap();
    std::fs::write(tree.join("large"), vec![7; 5_000_000]).unwrap();
    std::fs::create_dir(tree.join("directory")).unwrap();
    std::os::unix::fs::symlink("file", tree.join("link")).unwrap();
    let late = ["file", "large", "directory"];
    let early = ["empty", "link"];
    let set = |names: &[&str], date| names.iter().all(|name| touch(&tree.join(name), date));
    if !set(&late, "2500-01-01 UTC") || !set(&early, "1600-01-01 UTC") {
        return skipped("this file system does not hold the years 1600 and 2500");
    }
    let tree = tree.to_str().unwrap();
    for _ in 0..2 {
        let said = sandbox.error(3, ["add", tree]);
        for (names, which) in [(&late[..], "after 2262-04-11"), (&early[..], "before 1677-09-21")] {
            for name in names {
                let place = format!("cannot keep the modification time of \"{tree}/{name}\"");
                let line = said.lines().find(|line| line.contains(&place)).unwrap_or_else(|| panic!("{name}: {said}"));
                assert!(line.contains(which), "{line}");
            }
        }
        assert_eq!(said.matches("warning: ").count(), 5, "{said}");
    }
}
