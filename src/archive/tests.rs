#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use super::*;
use crate::format::archive::Member;

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
