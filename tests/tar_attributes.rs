//! What is in tars beside contents: links, access control lists, attributes, names that are not UTF-8; as the store reads
//! them of other programs, and as these read them of an export.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::{Command, Output};

use rustix::fs::{XattrFlags, lgetxattr, lsetxattr};

use crate::support::{Sandbox, skipped};

/// A list with two users and a group; of ids that have names everywhere, and one that has none.
const LIST: &[(u16, u16, u32)] =
    &[(1, 6, u32::MAX), (2, 4, 1), (2, 6, 54_321), (4, 4, u32::MAX), (8, 7, 50), (16, 7, u32::MAX), (32, 0, u32::MAX)];

fn list() -> Vec<u8> {
    let entries = LIST.iter().flat_map(|(tag, permissions, id)| {
        [&tag.to_le_bytes()[..], &permissions.to_le_bytes(), &id.to_le_bytes()].concat()
    });
    [2, 0, 0, 0].into_iter().chain(entries).collect()
}

fn xattr(path: &Path, name: &[u8]) -> Option<Vec<u8>> {
    let mut value = vec![0; 4096];
    let bytes = lgetxattr(path, name, &mut value[..]).ok()?;
    value.truncate(bytes);
    Some(value)
}

fn run(sandbox: &Sandbox, words: &[&str]) -> Option<Output> {
    let mut command = Command::new(words[0]);
    command.current_dir(sandbox.path("")).args(&words[1..]).env("LC_ALL", "C.UTF-8");
    command.output().ok()
}

const ACCESS: &[u8] = b"system.posix_acl_access";
const DEFAULT: &[u8] = b"system.posix_acl_default";

fn assert_lists(tree: &Path, whose: &str) {
    assert_eq!(xattr(&tree.join("file"), ACCESS), Some(list()), "{whose}");
    assert_eq!(xattr(&tree.join("folder"), ACCESS), Some(list()), "{whose}");
    assert_eq!(xattr(&tree.join("folder"), DEFAULT), Some(list()), "{whose}");
    assert_eq!(xattr(&tree.join("plain"), ACCESS), None, "{whose}");
    assert_eq!(xattr(&tree.join("plain"), b"user.note").as_deref(), Some(&b"a\0b"[..]), "{whose}");
}

#[test]
fn access_control_lists_pass_from_and_to_the_tars_of_every_program() {
    let sandbox = Sandbox::new();
    for name in ["tree/file", "tree/plain", "tree/folder/in"] {
        sandbox.write(name, name);
    }
    let set =
        |name: &str, key: &[u8], value: &[u8]| lsetxattr(sandbox.path(name), key, value, XattrFlags::empty()).is_ok();
    let is_set = set("tree/file", ACCESS, &list())
        && set("tree/folder", ACCESS, &list())
        && set("tree/folder", DEFAULT, &list())
        && set("tree/plain", b"user.note", b"a\0b");
    if !is_set {
        skipped("access control lists: the file system of the temporary folder has none");
        return;
    }
    sandbox.ok(["add", "tree"]);
    sandbox.ok(["export", "--tar", "tree", "-o", "exported.tar"]);
    let again = sandbox.run(["export", "--tar", "tree"]);
    assert!(again.stdout == fs::read(sandbox.path("exported.tar")).unwrap(), "the same bytes every time");
    // What other programs read of the export.
    let readers: [(&str, &[&str]); 3] = [
        ("gnu-acls", &["tar", "--acls", "--xattrs", "-xpf", "exported.tar", "-C", "gnu-acls"]),
        ("gnu-all", &["tar", "--acls", "--xattrs", "--xattrs-include=*", "-xpf", "exported.tar", "-C", "gnu-all"]),
        ("bsd", &["bsdtar", "-xpf", "exported.tar", "-C", "bsd"]),
    ];
    for (folder, words) in readers {
        fs::create_dir(sandbox.path(folder)).unwrap();
        match run(&sandbox, words).filter(|output| output.status.success()) {
            Some(_) => assert_lists(&sandbox.path(folder).join("tree"), folder),
            None => skipped(&format!("access control lists of an export: {} does not read them", words[0])),
        }
    }
    // What the store reads of theirs: with names, with numbers, with both.
    let writers: [&[&str]; 4] = [
        &["tar", "--acls", "--xattrs", "-cf", "named.tar", "tree"],
        &["tar", "--acls", "--xattrs", "--numeric-owner", "-cf", "numbers.tar", "tree"],
        &["tar", "--xattrs", "--xattrs-include=*", "-cf", "attributes.tar", "tree"],
        &["bsdtar", "--acls", "--xattrs", "--format=pax", "-cf", "both.tar", "tree"],
    ];
    for words in writers {
        if !run(&sandbox, words).is_some_and(|output| output.status.success()) {
            skipped(&format!("access control lists in tars: {} writes none", words[0]));
            continue;
        }
        let tar = words[words.len() - 2];
        sandbox.ok(["add", tar]);
        sandbox.ok(["get", &format!("{tar}/tree"), "-o", &format!("from-{tar}")]);
        assert_lists(&sandbox.path(format!("from-{tar}")), tar);
    }
    sandbox.ok(["add", "exported.tar"]);
    sandbox.ok(["get", "exported.tar/tree/file", "-o", "one"]);
    assert_eq!(xattr(&sandbox.path("one"), ACCESS), Some(list()));
}

#[test]
fn names_that_are_not_utf_8_are_read_by_every_program_of_an_export() {
    let sandbox = Sandbox::new();
    let odd = |text: &str| {
        OsStr::from_bytes(&text.bytes().map(|b| if b == b'?' { 0xe9 } else { b }).collect::<Vec<_>>()).to_owned()
    };
    let long = "n".repeat(120);
    let folder = sandbox.path("tree").join(odd("caf?"));
    fs::create_dir_all(&folder).unwrap();
    for name in ["short?".to_owned(), format!("{long}?"), "gr\u{fc}n".to_owned(), "plain".to_owned()] {
        fs::write(folder.join(odd(&name)), name.as_bytes()).unwrap();
    }
    symlink(odd("to?"), folder.join(odd("link?"))).unwrap();
    symlink(odd(&format!("{long}?")), folder.join("long-link")).unwrap();
    fs::hard_link(folder.join("plain"), folder.join(odd(&format!("{long}-hard?")))).unwrap();
    let _ = lsetxattr(folder.join("plain"), b"user.caf\xe9".as_slice(), b"\xff", XattrFlags::empty());
    let touch = |tree: &str| {
        let touched = run(&sandbox, &["find", tree, "-exec", "touch", "-h", "-d", "@1700000000", "{}", "+"]);
        assert!(touched.is_some_and(|output| output.status.success()));
    };
    touch("tree");
    sandbox.ok(["add", "tree"]);
    sandbox.ok(["export", "--tar", "tree", "-o", "exported.tar"]);
    for (program, words) in [
        ("bsdtar", &["bsdtar", "-xpf", "exported.tar", "-C", "bsdtar"][..]),
        ("tar", &["tar", "--xattrs", "-xpf", "exported.tar", "-C", "tar"]),
        ("python3", &["python3", "-c", "import tarfile; tarfile.open('exported.tar').extractall('python3')"]),
    ] {
        fs::create_dir(sandbox.path(program)).unwrap();
        let Some(output) = run(&sandbox, words) else {
            skipped(&format!("names that are not UTF-8: there is no {program}"));
            continue;
        };
        assert!(output.status.success(), "{program}: {}", String::from_utf8_lossy(&output.stderr));
        if program == "python3" {
            // Its tarfile does not set the times of symbolic links.
            touch("python3/tree");
        }
        crate::support::assert_same_tree(&sandbox.path("tree"), &sandbox.path(program).join("tree"));
    }
    sandbox.ok(["add", "exported.tar"]);
    sandbox.ok(["get", "exported.tar/tree", "-o", "again"]);
    crate::support::assert_same_tree(&sandbox.path("tree"), &sandbox.path("again"));
}

#[test]
fn a_hard_link_to_a_later_member_has_its_content_and_one_to_nothing_is_named() {
    let sandbox = Sandbox::new();
    let script = r#"
import io, tarfile
def add(tar, name, link=None, data=b""):
    info = tarfile.TarInfo(name)
    info.size = len(data)
    if link is not None:
        info.type, info.linkname = tarfile.LNKTYPE, link
    tar.addfile(info, io.BytesIO(data))
with tarfile.open("links.tar", "w") as tar:
    add(tar, "forward", "later")
    add(tar, "chain", "forward")
    add(tar, "chain-forward", "z-chain")
    add(tar, "z-chain", "later")
    add(tar, "later", data=b"the first of the name")
    add(tar, "back", "later")
    add(tar, "later", data=b"the last of the name")
    add(tar, "itself", "itself")
    add(tar, "round", "about")
    add(tar, "about", "round")
    add(tar, "nowhere", "not-there")
    add(tar, "outside", "../later")
    add(tar, "", data=b"a file without a name")
"#;
    if !run(&sandbox, &["python3", "-c", script]).is_some_and(|output| output.status.success()) {
        skipped("hard links to later members: there is no Python");
        return;
    }
    sandbox.ok(["add", "links.tar"]);
    for name in ["forward", "chain", "chain-forward", "z-chain", "later"] {
        assert_eq!(sandbox.ok(["get", &format!("links.tar/{name}"), "-o", "-"]), "the last of the name", "{name}");
    }
    assert_eq!(sandbox.ok(["get", "links.tar/back", "-o", "-"]), "the first of the name");
    let lost = ["itself", "round", "about", "nowhere", "outside"];
    for name in lost {
        let error = sandbox.error(1, ["get", &format!("links.tar/{name}"), "-o", "-"]);
        assert!(error.contains("is a hard link to") && error.contains("hint:"), "{error}");
    }
    // All of it: what can be restored is, and each of the others is named.
    let output = sandbox.run(["get", "links.tar/", "-o", "all"]);
    assert_eq!(output.status.code(), Some(3));
    let errors = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(lost.iter().all(|name| errors.contains(name)), "{errors}");
    assert_eq!(fs::read(sandbox.path("all/chain")).unwrap(), b"the last of the name");
    assert_eq!(fs::read_dir(sandbox.path("all")).unwrap().count(), 6);
    sandbox.expect(3, ["export", "--tar", "links.tar/", "-o", "out.tar"]);
    sandbox.ok(["add", "out.tar"]);
    assert_eq!(sandbox.ok(["get", "out.tar/links.tar/forward", "-o", "-"]), "the last of the name");
    sandbox.ok(["get", "links.tar", "-o", "copy.tar"]);
    assert!(fs::read(sandbox.path("copy.tar")).unwrap() == fs::read(sandbox.path("links.tar")).unwrap());
}
