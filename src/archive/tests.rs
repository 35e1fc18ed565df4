#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use super::*;
use crate::format::archive::{Member, MemberKind};
use crate::format::entry::EntryKind;

/// The parts of a tar, as the steps tell them: where each member's content is.
fn walk(tar: &[u8]) -> (Vec<(Member, std::ops::Range<u64>)>, Findings) {
    let mut framing = Framing::new();
    let mut members = Vec::new();
    let mut at = 0;
    while let Some(step) = framing.next(&mut &*tar).unwrap() {
        assert!(framing.position() >= at, "steps lead forward");
        at = framing.position();
        if let Step::Member(member, content_at) = step {
            members.push((*member, content_at..at));
        }
    }
    (members, framing.findings().clone())
}

/// A ustar header with what is needed.
fn header(name: &str, kind: u8, size: u64) -> [u8; 512] {
    let mut block = [0; 512];
    block[..name.len()].copy_from_slice(name.as_bytes());
    block[100..108].copy_from_slice(b"0000644\0");
    block[108..116].copy_from_slice(b"0000000\0");
    block[116..124].copy_from_slice(b"0000000\0");
    block[124..136].copy_from_slice(format!("{size:011o}\0").as_bytes());
    block[136..148].copy_from_slice(b"00000000000\0");
    block[156] = kind;
    block[257..265].copy_from_slice(b"ustar\x0000");
    seal(&mut block);
    block
}

fn seal(block: &mut [u8; 512]) {
    block[148..156].copy_from_slice(b"        ");
    let sum: u64 = block.iter().map(|b| u64::from(*b)).sum();
    block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
}

fn padded(bytes: &[u8]) -> Vec<u8> {
    let mut padded = bytes.to_vec();
    padded.resize(bytes.len().next_multiple_of(512), 0);
    padded
}

fn file(name: &str, content: &[u8]) -> Vec<u8> {
    [header(name, b'0', content.len() as u64).to_vec(), padded(content)].concat()
}

#[test]
fn members_are_found_and_the_end_too() {
    let tar = [file("a", b"first"), file("b", &[7; 512]), file("c", b""), vec![0; 1024]].concat();
    let (members, findings) = walk(&tar);
    let found: Vec<_> = members.iter().map(|(member, content)| (member.path.as_slice(), content.clone())).collect();
    assert_eq!(found, [(&b"a"[..], 512..517), (b"b", 1536..2048), (b"c", 2560..2560)]);
    assert_eq!(findings, Findings::default());
}

#[test]
fn a_damaged_header_is_passed_over_to_the_next_one() {
    let mut tar = [file("a", b"first"), file("b", &[7; 512]), file("c", b"third"), vec![0; 1024]].concat();
    tar[1024] ^= 1;
    let (members, findings) = walk(&tar);
    assert_eq!(members.iter().map(|(member, _)| member.path.as_slice()).collect::<Vec<_>>(), [b"a", b"c"]);
    assert_eq!(findings.no_header_at, Some(1024));
}

#[test]
fn archives_after_each_other_are_one_and_other_bytes_are_left_alone() {
    let one = [file("a", b"first"), vec![0; 10240]].concat();
    let (members, findings) = walk(&[one.clone(), one.clone(), b"trailing bytes".to_vec()].concat());
    assert_eq!(members.len(), 2);
    assert_eq!(findings, Findings::default());
    let (members, findings) = walk(&[one, vec![9; 4096], file("b", b"not looked for")].concat());
    assert_eq!((members.len(), findings), (1, Findings::default()));
}

#[test]
fn what_was_cut_short_is_known() {
    let tar = [file("a", b"first"), file("b", &[7; 600]), vec![0; 1024]].concat();
    for end in 1..tar.len() {
        let (_, findings) = walk(&tar[..end]);
        let is_in_end = end >= tar.len() - 512;
        assert_eq!(findings.no_end, !is_in_end, "cut at {end}");
    }
}

#[test]
fn steps_end_on_any_bytes_at_all() {
    let mut huge = header("", b'x', 0);
    huge[124..136].copy_from_slice(&[0x80, 0, 0, 0, 0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff]);
    seal(&mut huge);
    walk(&[header("long", b'L', 3000).to_vec(), padded(&[b'n'; 3000]), huge.to_vec(), file("a", b"first")].concat());
    let mut state = 1u64;
    for round in 0..2000u64 {
        let mut bytes =
            [file("a", b"first"), file("b", &[7; 600]), header("s", b'S', 100).to_vec(), vec![0; 1024]].concat();
        for _ in 0..=round % 7 {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let at = (state >> 33) as usize % bytes.len();
            bytes[at] = (state >> 17) as u8;
            if round.is_multiple_of(2) {
                // A checksum that is right lets it through to what lies behind.
                let block = at / 512 * 512;
                let mut sealed: [u8; 512] = bytes[block..block + 512].try_into().unwrap();
                seal(&mut sealed);
                bytes[block..block + 512].copy_from_slice(&sealed);
            }
        }
        walk(&bytes);
    }
}

#[test]
fn a_tar_is_known_by_its_first_block() {
    assert!(begins_tar(&file("a", b"")));
    let mut v7 = header("a", b'0', 0);
    v7[257..265].fill(0);
    seal(&mut v7);
    assert!(begins_tar(&v7));
    v7[140] = b'x';
    seal(&mut v7);
    assert!(!begins_tar(&v7));
    assert!(!begins_tar(&[0; 1024]));
    assert!(!begins_tar(&file("a", b"")[..511]));
    assert!(!begins_tar(b"#!/bin/sh\n"));
}

#[test]
fn numbers_may_be_in_base_256() {
    let mut large = header("large", b'0', 0);
    large[124..136].copy_from_slice(&[0x80, 0, 0, 0, 0, 0, 0, 3, 0, 0, 0, 0]);
    large[136..148].copy_from_slice(&[0xff; 12]);
    seal(&mut large);
    let (members, findings) = walk(&large);
    assert_eq!((members[0].0.content_bytes, members[0].0.mtime_ns), (3 << 32, -1_000_000_000));
    assert!(findings.no_end);
}

/// A record before a member: of GNU tar's, or of the standard's.
fn ahead(kind: u8, bytes: &[u8]) -> Vec<u8> {
    [header("PaxHeaders/x", kind, bytes.len() as u64).to_vec(), padded(bytes)].concat()
}

#[test]
fn the_whole_name_says_whether_it_is_a_directorys_never_the_part_in_the_header() {
    let cut = format!("{}/", "d".repeat(99));
    let long = format!("{cut}file");
    let record = format!("{} path={long}\n", long.len() + 10);
    let link = [ahead(b'L', format!("{long}\0").as_bytes()), file(&cut, b"content")].concat();
    let pax = [ahead(b'x', record.as_bytes()), file(&cut, b"content")].concat();
    for tar in [link, pax] {
        let (members, findings) = walk(&[tar, file("next", b"n"), vec![0; 1024]].concat());
        assert_eq!(findings, Findings::default());
        assert_eq!((members[0].0.path.as_slice(), members[0].0.size), (long.as_bytes(), 7));
        assert_eq!(members[0].0.kind, MemberKind::Entry(EntryKind::File));
        assert_eq!(members[1].0.path, b"next");
    }
    // V7's directories, also with a name that only a record has; and what such a header says to follow is passed over.
    let mut v7 = header("folder/", 0, 0);
    v7[257..265].fill(0);
    seal(&mut v7);
    let long_folder = [ahead(b'L', format!("{long}/\0").as_bytes()), file("cut", b"odd")].concat();
    let (members, findings) = walk(&[v7.to_vec(), long_folder, file("next", b"n"), vec![0; 1024]].concat());
    assert_eq!(findings, Findings::default());
    let directory = MemberKind::Entry(EntryKind::Directory);
    assert_eq!(members.iter().map(|(member, _)| member.kind == directory).collect::<Vec<_>>(), [true, true, false]);
}

#[test]
fn a_links_size_counts_unless_a_header_follows_or_gnu_tar_wrote_it() {
    let link = |magic: &[u8]| {
        let mut block = header("link", b'1', 5);
        block[157..161].copy_from_slice(b"file");
        block[257..265].copy_from_slice(magic);
        seal(&mut block);
        block.to_vec()
    };
    let posix = b"ustar\x0000".as_slice();
    let contents = |parts: &[Vec<u8>]| {
        let (members, _) = walk(&[parts.concat(), file("next", b"n"), vec![0; 1024]].concat());
        assert_eq!(members.last().map(|(member, _)| member.path.as_slice()), Some(&b"next"[..]));
        members[0].0.content_bytes
    };
    assert_eq!(contents(&[link(posix)]), 0);
    assert_eq!(contents(&[link(posix), padded(b"bytes")]), 5);
    assert_eq!(contents(&[link(b"ustar  \0")]), 0);
    assert_eq!(contents(&[link(b"ustar  \0"), padded(b"bytes")]), 0);
    let mut device = header("device", b'3', 5);
    seal(&mut device);
    assert_eq!(contents(&[device.to_vec()]), 0);
}

#[test]
fn times_that_cannot_be_kept_become_the_nearest_and_are_counted() {
    for (mtime, wanted) in [
        ("99999999999", i64::MAX),
        ("-99999999999.5", i64::MIN),
        ("9223372036.854775807", i64::MAX),
        ("1.5", 1_500_000_000),
    ] {
        let record = format!("{:02} mtime={mtime}\n", mtime.len() + 10);
        let (members, findings) = walk(&[ahead(b'x', record.as_bytes()), file("a", b""), vec![0; 1024]].concat());
        assert_eq!(members[0].0.mtime_ns, wanted, "{mtime}");
        assert_eq!(findings.distant_times, u64::from(mtime.contains("99999999999")), "{mtime}");
    }
    let mut distant = header("a", b'0', 0);
    distant[136..148].copy_from_slice(&[0x80, 0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff]);
    seal(&mut distant);
    let (members, findings) = walk(&[distant.to_vec(), vec![0; 1024]].concat());
    assert_eq!((members[0].0.mtime_ns, findings.distant_times), (i64::MAX, 1));
}

#[test]
fn attributes_of_every_program_are_those_that_linux_keeps() {
    let record = |key: &str, value: &str| {
        let rest = key.len() + value.len() + 3;
        let length = (rest..).find(|length| *length == rest + length.to_string().len()).unwrap();
        format!("{length} {key}={value}\n")
    };
    let of = |records: &[String]| {
        let tar = [ahead(b'x', records.concat().as_bytes()), file("a", b""), vec![0; 1024]].concat();
        let mut framing =
            Framing::new().with_ids(|owner, name| (owner == Owner::Group && name == "staff").then_some(50));
        loop {
            if let Step::Member(member, _) = framing.next(&mut tar.as_slice()).unwrap().unwrap() {
                return (member.xattrs, framing.findings().odd_records);
            }
        }
    };
    let (xattrs, odd) = of(&[
        record("SCHILY.acl.access", "user::rw-,group::r--,group:staff:rwx,mask::rwx,other::r--"),
        record("RHT.security.selinux", "a:b:c"),
        record("LIBARCHIVE.xattr.user.caf%C3%A9", "AAE"),
        record("SCHILY.xattr.user.caf%C3%A9", "exact"),
    ]);
    assert_eq!(odd, 0);
    let found: Vec<_> = xattrs.iter().map(|xattr| (xattr.name.as_slice(), xattr.value.as_slice())).collect();
    let list =
        [&[2u8, 0, 0, 0][..], &[1, 0, 6, 0], &[0xff; 4], &[4, 0, 4, 0], &[0xff; 4], &[8, 0, 7, 0], &[50, 0, 0, 0]];
    let list = [list.concat(), vec![16, 0, 7, 0, 255, 255, 255, 255], vec![32, 0, 4, 0, 255, 255, 255, 255]].concat();
    assert_eq!(
        found,
        [
            (&b"security.selinux"[..], &b"a:b:c\0"[..]),
            (b"system.posix_acl_access", &list),
            ("user.caf\u{e9}".as_bytes(), b"exact"),
        ]
    );
    // A name that nobody has: the list cannot be kept, and that is said.
    let (xattrs, odd) = of(&[record("SCHILY.acl.access", "user::rw-,user:nobody-knows:r--,group::r--,other::r--")]);
    assert_eq!((xattrs.len(), odd), (0, 1));
}
