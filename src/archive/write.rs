//! How is an entry written as a member of a pax archive? A ustar header, and before it an extended one for what that
//! cannot say: long or odd names, large sizes, fractions of seconds, extended attributes.
//!
//! Records are UTF-8 by the standard. A name that is not is written raw in the header, where it fits: every program takes
//! the bytes there as they are. Where it does not, the records before it say `hdrcharset=BINARY`: without it libarchive
//! refuses the name; GNU tar needs no such record and warns of it.
//!
//! What is written follows from the entry alone: no process, clock or host is in it.

use super::header::BLOCK_BYTES;
use super::xattrs;
use crate::format::entry::{Entry, EntryKind};

/// The most that fits into octal fields of 8 and 12 bytes.
const SMALL_MAX: u64 = 0o7_777_777;
const LARGE_MAX: u64 = 0o77_777_777_777;

/// What ends an archive.
pub const END_MARK: [u8; 2 * BLOCK_BYTES] = [0; 2 * BLOCK_BYTES];

/// Appends the headers of an entry; the content follows, and zeros up to a block. As a further name of another member if
/// `link` says of which. `false`, and nothing appended, for what no archive can hold: a socket.
pub fn append_headers(entry: &Entry, link: Option<&[u8]>, out: &mut Vec<u8>) -> bool {
    let kind = match (entry.kind, link) {
        (EntryKind::Socket, _) => return false,
        (_, Some(_)) => b'1',
        (EntryKind::File, None) => b'0',
        (EntryKind::Symlink, None) => b'2',
        (EntryKind::CharDevice, None) => b'3',
        (EntryKind::BlockDevice, None) => b'4',
        (EntryKind::Directory, None) => b'5',
        (EntryKind::Fifo, None) => b'6',
    };
    let mut path = if entry.path.is_root() { b".".to_vec() } else { entry.path.as_bytes().to_vec() };
    if kind == b'5' {
        path.push(b'/');
    }
    let size = if kind == b'0' { entry.size } else { 0 };
    let target = link.unwrap_or(&entry.link_target);
    let (major, minor) = numbers_of(entry.rdev);
    let seconds = entry.mtime_ns.div_euclid(1_000_000_000);
    let nanoseconds = entry.mtime_ns.rem_euclid(1_000_000_000);
    let mut records = Vec::new();
    let mut record = |key: &str, value: &[u8]| append_record(key.as_bytes(), value, &mut records);
    let fitting = split(&path);
    let is_target_long = !fits(target, 100);
    let is_text = |name: &[u8]| std::str::from_utf8(name).is_ok();
    if (fitting.is_none() && !is_text(&path)) || (is_target_long && !is_text(target)) {
        record("hdrcharset", b"BINARY");
    }
    if fitting.is_none() {
        record("path", &path);
    }
    if is_target_long {
        record("linkpath", target);
    }
    let plain_seconds = u64::try_from(seconds).ok().filter(|seconds| *seconds <= LARGE_MAX);
    if nanoseconds > 0 || plain_seconds.is_none() {
        record("mtime", time(entry.mtime_ns).as_bytes());
    }
    if size > LARGE_MAX {
        record("size", size.to_string().as_bytes());
    }
    for (key, number) in [("uid", entry.uid), ("gid", entry.gid)] {
        if u64::from(number) > SMALL_MAX {
            record(key, number.to_string().as_bytes());
        }
    }
    for (key, name) in [("uname", &entry.user), ("gname", &entry.group)] {
        if let Some(name) = name.as_deref().filter(|name| name.len() > 31 || !name.is_ascii()) {
            record(key, name.as_bytes());
        }
    }
    if link.is_none() {
        xattrs::to_records(&entry.xattrs, |key, value| append_record(key, value, &mut records));
    }
    let (prefix, name) = fitting.unwrap_or_else(|| (&[], path.get(..100).unwrap_or(&path)));
    let header =
        Header { entry, kind, prefix, name, size, target, seconds: plain_seconds.unwrap_or_default(), major, minor };
    if !records.is_empty() {
        let extended = Header {
            kind: b'x',
            prefix: &[],
            name: b"PaxHeaders/pax",
            size: records.len() as u64,
            target: &[],
            ..header
        };
        out.extend_from_slice(&extended.block());
        out.extend_from_slice(&records);
        out.resize(out.len() + padding(records.len() as u64), 0);
    }
    out.extend_from_slice(&header.block());
    true
}

/// The zeros that fill a content up to a block.
#[must_use]
pub fn padding(bytes: u64) -> usize {
    (bytes.next_multiple_of(BLOCK_BYTES as u64) - bytes) as usize
}

#[derive(Clone, Copy)]
struct Header<'a> {
    entry: &'a Entry,
    kind: u8,
    prefix: &'a [u8],
    name: &'a [u8],
    size: u64,
    target: &'a [u8],
    seconds: u64,
    major: u64,
    minor: u64,
}

impl Header<'_> {
    fn block(&self) -> [u8; BLOCK_BYTES] {
        let Self { entry, kind, prefix, name, size, target, seconds, major, minor } = *self;
        let mut block = [0; BLOCK_BYTES];
        let mut put = |offset: usize, room: usize, bytes: &[u8]| {
            for (to, from) in block.iter_mut().skip(offset).zip(bytes.iter().take(room)) {
                *to = *from;
            }
        };
        // What is too large is in a record.
        let small = |number: u64| format!("{:07o}\0", if number > SMALL_MAX { 0 } else { number });
        let large = |number: u64| format!("{:011o}\0", if number > LARGE_MAX { 0 } else { number });
        let word = |name: &Option<std::sync::Arc<str>>| {
            let name = name.as_deref().filter(|name| name.len() <= 31 && name.is_ascii());
            name.unwrap_or_default().to_owned()
        };
        put(0, 100, name);
        put(100, 8, small(u64::from(entry.mode & 0o7777)).as_bytes());
        put(108, 8, small(u64::from(entry.uid)).as_bytes());
        put(116, 8, small(u64::from(entry.gid)).as_bytes());
        put(124, 12, large(size).as_bytes());
        put(136, 12, large(seconds).as_bytes());
        put(148, 8, b"        ");
        put(156, 1, &[kind]);
        if fits(target, 100) {
            put(157, 100, target);
        }
        put(257, 8, b"ustar\x0000");
        put(265, 32, word(&entry.user).as_bytes());
        put(297, 32, word(&entry.group).as_bytes());
        put(329, 8, small(major).as_bytes());
        put(337, 8, small(minor).as_bytes());
        put(345, 155, prefix);
        let sum: u64 = block.iter().map(|byte| u64::from(*byte)).sum();
        for (to, from) in block.iter_mut().skip(148).zip(format!("{sum:06o}\0 ").into_bytes()) {
            *to = from;
        }
        block
    }
}

/// A path as prefix and name, if a plain header takes it.
fn split(path: &[u8]) -> Option<(&[u8], &[u8])> {
    if fits(path, 100) {
        return Some((&[], path));
    }
    if !fits(path, usize::MAX) {
        return None;
    }
    // The slash between them is in neither; a name must be left.
    let slashes = path.iter().enumerate().filter(|(at, byte)| **byte == b'/' && (1..=155).contains(at));
    let mut splits = slashes.filter_map(|(at, _)| Some((path.get(..at)?, path.get(at + 1..)?)));
    splits.find(|(_, name)| !name.is_empty() && name.len() <= 100)
}

/// Whether a plain header takes a name: one that is UTF-8, but not ASCII, goes into a record, where it is known to be.
fn fits(name: &[u8], room: usize) -> bool {
    name.len() <= room && (name.is_ascii() || std::str::from_utf8(name).is_err())
}

/// Appends `LENGTH KEY=VALUE\n`, whose length counts itself.
fn append_record(key: &[u8], value: &[u8], out: &mut Vec<u8>) {
    let rest = key.len() + value.len() + 3;
    let mut length = rest + 1;
    while length != rest + length.to_string().len() {
        length = rest + length.to_string().len();
    }
    out.extend_from_slice(length.to_string().as_bytes());
    out.push(b' ');
    out.extend_from_slice(key);
    out.push(b'=');
    out.extend_from_slice(value);
    out.push(b'\n');
}

/// Nanoseconds since 1970 as decimal seconds.
fn time(ns: i64) -> String {
    let sign = if ns < 0 { "-" } else { "" };
    let (seconds, rest) = (ns.unsigned_abs() / 1_000_000_000, ns.unsigned_abs() % 1_000_000_000);
    let fraction = format!("{rest:09}");
    let fraction = fraction.trim_end_matches('0');
    let point = if fraction.is_empty() { "" } else { "." };
    format!("{sign}{seconds}{point}{fraction}")
}

/// Major and minor number of a device, as Linux has them.
fn numbers_of(rdev: u64) -> (u64, u64) {
    let major = ((rdev >> 32) & 0xffff_f000) | ((rdev >> 8) & 0xfff);
    let minor = ((rdev >> 12) & 0xffff_ff00) | (rdev & 0xff);
    (major, minor)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing)]

    use std::sync::Arc;

    use super::*;
    use crate::archive::{Findings, Framing, Step};
    use crate::format::archive::{Member, MemberKind};
    use crate::format::entry::{Content, EntryPath, Identity, Xattr};
    use crate::format::label::Labels;

    fn entry(path: &str) -> Entry {
        Entry {
            path: EntryPath::new(path).unwrap(),
            kind: EntryKind::File,
            mode: 0o4755,
            uid: 1000,
            gid: 100,
            user: Some(Arc::from("user")),
            group: None,
            mtime_ns: 1_700_000_000_000_000_000,
            size: 0,
            content: Content::Empty,
            link_target: Vec::new(),
            rdev: 0,
            identity: Identity::default(),
            xattrs: Vec::new(),
            labels: Labels::default(),
        }
    }

    /// What is read back of the headers.
    fn read_back(entry: &Entry, link: Option<&[u8]>) -> Member {
        let mut tar = Vec::new();
        assert!(append_headers(entry, link, &mut tar));
        assert_eq!(tar.len() % BLOCK_BYTES, 0);
        tar.extend_from_slice(&END_MARK);
        let mut framing = Framing::new();
        loop {
            if let Step::Member(member, _) = framing.next(&mut tar.as_slice()).unwrap().unwrap() {
                assert_eq!(*framing.findings(), Findings::default());
                return *member;
            }
        }
    }

    #[test]
    fn what_is_written_is_read_back() {
        let long = |bytes: usize| format!("{}/{}", "d".repeat(bytes / 2), "f".repeat(bytes - bytes / 2 - 1));
        let paths = ["a".to_owned(), long(100), long(101), long(200), long(256), long(400), "gr\u{fc}n".to_owned()];
        for path in paths {
            for mtime_ns in [0, 5, -1, 1_700_000_000_123_456_700, i64::MAX, i64::MIN] {
                let wanted = Entry {
                    mtime_ns,
                    uid: u32::MAX,
                    group: Some(Arc::from("a group with a name of more than 31 bytes")),
                    xattrs: vec![
                        Xattr { name: b"user.a=b%".to_vec(), value: vec![0, 10, 61] },
                        Xattr { name: b"user.z".to_vec(), value: vec![7; 3000] },
                    ],
                    ..entry(&path)
                };
                let found = read_back(&wanted, None);
                assert_eq!(found.entry_path().as_ref(), Some(&wanted.path));
                assert_eq!((found.mtime_ns, found.uid, found.gid), (mtime_ns, u32::MAX, 100), "{path}");
                assert_eq!((found.user, found.group, found.mode), (wanted.user, wanted.group, 0o4755));
                assert_eq!(found.xattrs, wanted.xattrs);
            }
        }
    }

    #[test]
    fn kinds_links_and_sizes_are_read_back() {
        let target = "t".repeat(300).into_bytes();
        let symlink = Entry { kind: EntryKind::Symlink, link_target: target.clone(), ..entry("s") };
        assert_eq!(read_back(&symlink, None).link_target, target);
        let hard = read_back(&entry("h"), Some(b"first"));
        assert_eq!((hard.kind, hard.link_target), (MemberKind::HardLink, b"first".to_vec()));
        let device = Entry { kind: EntryKind::BlockDevice, rdev: 0x0012_3456_789a_bcde, ..entry("d") };
        let device = Entry { rdev: (0x123 << 8) | 0x45 | (0x678 << 20), ..device };
        assert_eq!(read_back(&device, None).rdev, device.rdev);
        let large = Entry { size: 9 << 30, ..entry("l") };
        assert_eq!(read_back(&large, None).content_bytes, 9 << 30);
        let directory = read_back(&Entry { kind: EntryKind::Directory, ..entry("") }, None);
        assert_eq!(
            (directory.kind, directory.entry_path()),
            (MemberKind::Entry(EntryKind::Directory), Some(EntryPath::default()))
        );
        assert!(!append_headers(&Entry { kind: EntryKind::Socket, ..entry("x") }, None, &mut Vec::new()));
    }

    #[test]
    fn a_records_length_counts_itself() {
        for length in [1, 5, 90, 91, 92, 93, 94, 95, 989, 990, 991, 992, 993, 994] {
            let mut out = Vec::new();
            append_record(b"k", &vec![b'v'; length], &mut out);
            let said: usize = std::str::from_utf8(&out).unwrap().split(' ').next().unwrap().parse().unwrap();
            assert_eq!(said, out.len());
        }
    }
}
