use rustix::fs::{XattrFlags, lgetxattr, lsetxattr};

use super::*;
use crate::testing::skip::skipped;

#[test]
fn modes_and_times_come_back_to_the_nanosecond() {
    let (_dir, at, destination) = out(false);
    for (n, mode_wanted) in [0o000, 0o400, 0o644, 0o777, 0o1755, 0o2755, 0o4755, 0o6711].into_iter().enumerate() {
        for mtime in [0, 1, -1, 1_700_000_000_999_999_999, -3_000_000_001] {
            let name = format!("{n}.{mtime}");
            let file = Entry { mode: mode_wanted, mtime_ns: mtime, ..entry(EntryKind::File) };
            let warnings = put(&destination, &name, b"bytes", &file).unwrap();
            assert!(warnings.is_empty(), "{warnings:?}");
            assert_eq!(mode(&at.join(&name)), mode_wanted);
            assert_eq!(mtime_ns(&fs::metadata(at.join(&name)).unwrap()), mtime);
            let name = format!("{n}.{mtime}.d");
            destination.make_directory(&path(&name)).unwrap();
            assert_eq!(mode(&at.join(&name)), 0o700);
            put(&destination, &format!("{name}/inside"), b"", &file).unwrap();
            let directory = Entry { kind: EntryKind::Directory, ..file };
            let warnings = destination.finish_directory(&path(&name), &directory).unwrap();
            assert!(warnings.is_empty(), "{warnings:?}");
            assert_eq!(mode(&at.join(&name)), mode_wanted);
            assert_eq!(mtime_ns(&fs::metadata(at.join(&name)).unwrap()), mtime);
            fs::set_permissions(at.join(&name), fs::Permissions::from_mode(0o700)).unwrap();
        }
    }
}

#[test]
fn times_out_of_the_file_systems_range_do_no_harm() {
    let (_dir, at, destination) = out(false);
    for mtime_ns in [i64::MIN, i64::MAX] {
        put(&destination, "f", b"", &Entry { mtime_ns, ..entry(EntryKind::File) }).unwrap();
        fs::remove_file(at.join("f")).unwrap();
    }
}

#[test]
fn owners_come_back_for_root_and_set_id_bits_only_with_them() {
    let (_dir, at, destination) = out(false);
    let other = Entry { uid: 54_321, gid: 54_322, mode: 0o6755, ..entry(EntryKind::File) };
    let warnings = put(&destination, "f", b"", &other).unwrap();
    let metadata = fs::metadata(at.join("f")).unwrap();
    if is_root() {
        assert!(warnings.is_empty(), "{warnings:?}");
        assert_eq!((metadata.uid(), metadata.gid(), mode(&at.join("f"))), (54_321, 54_322, 0o6755));
    } else {
        assert!(matches!(&warnings[..], [Error::Refused { .. }]), "{warnings:?}");
        assert_eq!(mode(&at.join("f")), 0o755);
        let plain = Entry { mode: 0o755, ..other.clone() };
        assert!(put(&destination, "g", b"", &plain).unwrap().is_empty());
    }
    let warnings =
        destination.make_symlink(&path("l"), &Entry { link_target: b"x".to_vec(), ..other.clone() }).unwrap();
    assert!(warnings.is_empty(), "{warnings:?}");
    destination.make_node(&path("p"), &Entry { kind: EntryKind::Fifo, ..other.clone() }).unwrap();
    destination.make_directory(&path("d")).unwrap();
    destination.finish_directory(&path("d"), &Entry { kind: EntryKind::Directory, ..other }).unwrap();
    if is_root() {
        for name in ["l", "p", "d"] {
            let metadata = fs::symlink_metadata(at.join(name)).unwrap();
            assert_eq!((metadata.uid(), metadata.gid()), (54_321, 54_322), "{name}");
        }
        assert_eq!(mode(&at.join("p")), 0o6755);
        assert_eq!(mode(&at.join("d")), 0o6755);
    }
    // Nobody has the highest number: it must neither panic nor be taken for "any owner will do".
    let nobody = Entry { uid: u32::MAX, gid: u32::MAX, mode: 0o6755, ..entry(EntryKind::File) };
    let warnings = put(&destination, "n", b"", &nobody).unwrap();
    assert!(matches!(&warnings[..], [Error::Refused { .. }]), "{warnings:?}");
    assert_eq!(mode(&at.join("n")), 0o755);
}

#[test]
fn in_a_directory_that_gives_its_group_away_the_recorded_group_is_set() {
    if !is_root() {
        skipped("needs a second group");
        return;
    }
    let (_dir, at, destination) = out(false);
    std::os::unix::fs::chown(&at, None, Some(54_322)).unwrap();
    fs::set_permissions(&at, fs::Permissions::from_mode(0o2755)).unwrap();
    for name in ["first", "second"] {
        put(&destination, name, b"", &entry(EntryKind::File)).unwrap();
        assert_eq!(fs::metadata(at.join(name)).unwrap().gid(), entry(EntryKind::File).gid);
    }
}

fn get(path: &Path, name: &str) -> Option<Vec<u8>> {
    let mut value = vec![0; 4096];
    let length = lgetxattr(path, name, &mut value[..]).ok()?;
    value.truncate(length);
    Some(value)
}

#[test]
fn extended_attributes_come_back_even_on_what_may_not_be_written() {
    let (_dir, at, destination) = out(false);
    if lsetxattr(&at, "user.probe", b"", XattrFlags::empty()).is_err() {
        skipped("no attributes here");
        return;
    }
    let xattr = |name: &str, value: &[u8]| Xattr { name: name.into(), value: value.into() };
    let with = |kind| Entry {
        mode: 0o444,
        xattrs: vec![xattr("user.a", b""), xattr("user.b", b"\0\xff"), xattr("user.c", &[7; 1000])],
        ..entry(kind)
    };
    assert!(put(&destination, "f", b"x", &with(EntryKind::File)).unwrap().is_empty());
    destination.make_directory(&path("d")).unwrap();
    assert!(destination.finish_directory(&path("d"), &with(EntryKind::Directory)).unwrap().is_empty());
    for name in ["f", "d"] {
        let at = at.join(name);
        assert_eq!(get(&at, "user.a").unwrap(), b"");
        assert_eq!(get(&at, "user.b").unwrap(), b"\0\xff");
        assert_eq!(get(&at, "user.c").unwrap(), [7; 1000]);
        assert_eq!(mtime_ns(&fs::metadata(&at).unwrap()), entry(EntryKind::File).mtime_ns);
    }
    // What cannot be set is a warning; the rest is set.
    let odd = Entry { xattrs: vec![xattr("nonsense", b"x"), xattr("user.z", b"z")], ..entry(EntryKind::File) };
    let warnings = put(&destination, "odd", b"x", &odd).unwrap();
    assert!(matches!(&warnings[..], [Error::Io { .. }]), "{warnings:?}");
    assert_eq!(get(&at.join("odd"), "user.z").unwrap(), b"z");
    let hostile = Entry { xattrs: vec![xattr("", b""), xattr("user.\0x", b"")], ..entry(EntryKind::File) };
    assert_eq!(put(&destination, "hostile", b"x", &hostile).unwrap().len(), 2);
}

/// An access control list as the kernel stores it: version 2, then (tag, permissions, id) of eight bytes each.
fn acl(entries: &[(u16, u16, u32)]) -> Vec<u8> {
    let mut bytes = 2_u32.to_le_bytes().to_vec();
    for (tag, permissions, id) in entries {
        bytes.extend(tag.to_le_bytes());
        bytes.extend(permissions.to_le_bytes());
        bytes.extend(id.to_le_bytes());
    }
    bytes
}

const ANY: u32 = u32::MAX;

#[test]
fn access_control_lists_come_back_and_inherited_ones_do_not_stay() {
    let (_dir, at, destination) = out(false);
    // rwx for the owner, r-x for user 54321 and the group, mask r-x, nothing for others.
    let list = acl(&[(1, 7, ANY), (2, 5, 54_321), (4, 5, ANY), (16, 5, ANY), (32, 0, ANY)]);
    if lsetxattr(&at, "system.posix_acl_default", &list, XattrFlags::empty()).is_err() {
        skipped("no access control lists here");
        return;
    }
    for name in ["first", "second"] {
        put(&destination, name, b"x", &Entry { mode: 0o640, ..entry(EntryKind::File) }).unwrap();
        assert_eq!(get(&at.join(name), "system.posix_acl_access"), None);
        assert_eq!(mode(&at.join(name)), 0o640);
    }
    destination.make_node(&path("p"), &entry(EntryKind::Fifo)).unwrap();
    assert_eq!(get(&at.join("p"), "system.posix_acl_access"), None);
    destination.make_directory(&path("d")).unwrap();
    destination.finish_directory(&path("d"), &entry(EntryKind::Directory)).unwrap();
    assert_eq!(get(&at.join("d"), "system.posix_acl_default"), None);

    let xattrs = vec![Xattr { name: b"system.posix_acl_access".to_vec(), value: list.clone() }];
    let listed = Entry { mode: 0o750, xattrs, ..entry(EntryKind::File) };
    let warnings = put(&destination, "listed", b"x", &listed).unwrap();
    assert!(warnings.is_empty(), "{warnings:?}");
    assert_eq!(get(&at.join("listed"), "system.posix_acl_access").unwrap(), list);
    assert_eq!(mode(&at.join("listed")), 0o750);
}

#[test]
fn warnings_name_the_thing_and_the_reason() {
    let (_dir, at, destination) = out(false);
    let odd = Entry { xattrs: vec![Xattr { name: b"nonsense".to_vec(), value: vec![] }], ..entry(EntryKind::File) };
    let warnings = put(&destination, "sub/f", b"x", &odd).unwrap();
    let shown = format!("{}: {}", warnings[0], std::error::Error::source(&warnings[0]).unwrap());
    assert!(shown.contains(at.join("sub/f").to_str().unwrap()), "{shown}");
    assert!(shown.contains("nonsense"), "{shown}");
}
