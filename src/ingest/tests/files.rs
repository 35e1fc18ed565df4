#![allow(clippy::single_range_in_vec_init, reason = "a file may have one extent")]

use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::{FileExt, symlink};
use std::path::PathBuf;

use rustix::fs::{CWD, FileType, Mode, mknodat};

use super::*;
use crate::ingest::extents::HOLE_BYTES_MIN;
use crate::ingest::{Changed, OpenFile};
use crate::testing::skip::skipped;

fn file_of(bytes: &[u8]) -> (tempfile::TempDir, PathBuf, WalkedEntry) {
    let dir = tempfile::tempdir().unwrap();
    let disk = dir.path().join("file");
    fs::write(&disk, bytes).unwrap();
    let found = find(&disk);
    (dir, disk, found)
}

#[test]
fn reading_is_by_offset_and_ends_with_the_file() {
    let bytes: Vec<u8> = (0..=255).cycle().take(700_000).collect();
    let (_dir, _, found) = file_of(&bytes);
    let file = OpenFile::open(&found).unwrap();
    let mut buffer = vec![0; 300_000];
    assert_eq!(file.read_at(500_001, &mut buffer).unwrap(), 199_999);
    assert_eq!(buffer[..199_999], bytes[500_001..]);
    assert_eq!(file.read_at(100, &mut buffer).unwrap(), 300_000);
    assert_eq!(buffer, bytes[100..300_100]);
    assert_eq!(file.read_at(700_000, &mut buffer).unwrap(), 0);
    assert_eq!(file.read_at(1 << 40, &mut buffer).unwrap(), 0);
    assert_eq!(file.read_at(0, &mut []).unwrap(), 0);
    assert_eq!(file.changed_since_open().unwrap(), None);
}

#[test]
fn what_is_no_file_any_more_is_not_read() {
    type Replace = fn(&Path);
    let replace: [(&str, Replace); 4] = [
        ("a link to the same bytes", |disk| symlink("moved", disk).unwrap()),
        ("a pipe nobody writes to", |disk| mknodat(CWD, disk, FileType::Fifo, Mode::RUSR, 0).unwrap()),
        ("a socket", |disk| mknodat(CWD, disk, FileType::Socket, Mode::RUSR, 0).unwrap()),
        ("a directory", |disk| fs::create_dir(disk).unwrap()),
    ];
    for (what, replace) in replace {
        let (_dir, disk, found) = file_of(b"bytes");
        // Moved, not removed: its inode number must not be given away again.
        fs::rename(&disk, disk.with_file_name("moved")).unwrap();
        replace(&disk);
        let opened = OpenFile::open(&found);
        assert!(
            opened.as_ref().is_err_and(|error| format!("{error:?}").contains("took its place")),
            "{what}: {opened:?}"
        );
    }
    let (_dir, disk, found) = file_of(b"bytes");
    fs::remove_file(disk).unwrap();
    assert_eq!(kind_of(&OpenFile::open(&found).unwrap_err()), std::io::ErrorKind::NotFound);
}

#[test]
fn the_file_that_replaced_another_is_read() {
    let (dir, disk, found) = file_of(b"bytes");
    // Moved, not removed: its inode number must not be given away again.
    fs::rename(&disk, dir.path().join("moved")).unwrap();
    fs::write(&disk, b"others").unwrap();
    let file = OpenFile::open(&found).unwrap();
    assert_eq!((file.head(10).unwrap(), file.stat().size), (b"others".to_vec(), 6));
}

#[test]
fn a_link_on_the_way_to_a_file_is_not_followed() {
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir_all(dir.path().join("tree/on/the/way")).unwrap();
    fs::create_dir_all(dir.path().join("secret/way")).unwrap();
    fs::write(dir.path().join("tree/on/the/way/file"), b"bytes").unwrap();
    fs::write(dir.path().join("secret/way/file"), b"secret").unwrap();
    let (found, _) = walk(&dir.path().join("tree"));
    let found = found.iter().find(|found| found.path.name() == b"file").unwrap();
    fs::rename(dir.path().join("tree/on/the"), dir.path().join("moved")).unwrap();
    symlink(dir.path().join("secret"), dir.path().join("tree/on/the")).unwrap();
    let opened = OpenFile::open(found);
    assert!(opened.as_ref().is_err_and(|error| format!("{error:?}").contains("took its place")), "{opened:?}");
    // The same place behind a directory is read.
    fs::remove_file(dir.path().join("tree/on/the")).unwrap();
    fs::rename(dir.path().join("secret"), dir.path().join("tree/on/the")).unwrap();
    assert_eq!(OpenFile::open(found).unwrap().head(10).unwrap(), b"secret");
    // A root may lie behind a link: it is the user's choice.
    symlink(dir.path().join("tree/on"), dir.path().join("chosen")).unwrap();
    let (found, _) = walk(&dir.path().join("chosen/the"));
    let found = found.iter().find(|found| found.path.name() == b"file").unwrap();
    fs::write(dir.path().join("new"), b"new").unwrap();
    fs::rename(dir.path().join("new"), dir.path().join("tree/on/the/way/file")).unwrap();
    assert_eq!(OpenFile::open(found).unwrap().head(10).unwrap(), b"new");
}

#[test]
fn a_file_is_compared_with_what_was_read_of_it() {
    let (_dir, disk, found) = file_of(b"bytes");
    let file = OpenFile::open(&found).unwrap();
    assert_eq!(file.difference(5, true).unwrap(), None);
    assert_eq!(file.difference(5, false).unwrap(), None);
    assert_eq!(file.difference(4, true).unwrap(), Some(Changed::EndsEarly));
    fs::OpenOptions::new().append(true).open(&disk).unwrap().write_all(b"more").unwrap();
    assert_eq!(file.difference(5, false).unwrap(), Some(Changed::Grew));
    fs::OpenOptions::new().write(true).open(&disk).unwrap().set_len(2).unwrap();
    assert_eq!(file.difference(2, true).unwrap(), Some(Changed::Shrank));
}

#[test]
fn a_file_that_does_not_hold_still_is_noticed() {
    type Change = fn(&File);
    let change: [(Changed, Change); 3] = [
        (Changed::Grew, |mut file| file.write_all(b"more").unwrap()),
        (Changed::Shrank, |file| file.set_len(2).unwrap()),
        (Changed::Modified, |file| file.set_modified(std::time::UNIX_EPOCH).unwrap()),
    ];
    for (expected, change) in change {
        let (_dir, disk, found) = file_of(b"bytes");
        let file = OpenFile::open(&found).unwrap();
        assert_eq!(file.changed_since_open().unwrap(), None);
        change(&File::options().append(true).open(&disk).unwrap());
        assert_eq!(file.changed_since_open().unwrap(), Some(expected));
    }
    // Written between the walk and the opening: what counts is the file as it was opened.
    let (_dir, disk, found) = file_of(b"bytes");
    fs::OpenOptions::new().append(true).open(&disk).unwrap().write_all(b"more").unwrap();
    let file = OpenFile::open(&found).unwrap();
    assert_eq!((found.stat.size, file.stat().size), (5, 9));
    assert_eq!(file.changed_since_open().unwrap(), None);
}

/// Makes a file of `size` bytes with data at the given ranges, and says what extents it has; `None` where the file
/// system keeps no holes of that size.
fn extents(size: u64, data: &[std::ops::Range<u64>]) -> Option<Vec<std::ops::Range<u64>>> {
    let dir = tempfile::tempdir().unwrap();
    let disk = dir.path().join("sparse");
    let file = File::create(&disk).unwrap();
    file.set_len(size).unwrap();
    for part in data {
        file.write_all_at(&vec![7; usize::try_from(part.end - part.start).unwrap()], part.start).unwrap();
    }
    let found = find(&disk);
    let written: u64 = data.iter().map(|part| part.end - part.start).sum();
    if size > 2 * written && found.stat.allocated_bytes > size - size / 4 {
        skipped("no holes on this file system");
        return None;
    }
    let file = OpenFile::open(&found).unwrap();
    let extents: Vec<_> = file.extents().map(Result::unwrap).collect();
    Some(extents)
}

#[test]
fn holes_are_found_and_short_ones_are_data() {
    const H: u64 = HOLE_BYTES_MIN;
    let check = |size: u64, data: &[std::ops::Range<u64>], expected: &[std::ops::Range<u64>]| {
        if let Some(found) = extents(size, data) {
            assert_eq!(found, expected, "{size} {data:?}");
        }
    };
    check(0, &[], &[]);
    check(5, &[0..5], &[0..5]);
    check(4 * H, &[0..4 * H], &[0..4 * H]);
    // All hole; hole at the front, in the middle, at the end.
    check(4 * H, &[], &[]);
    check(4 * H, &[3 * H..4 * H], &[3 * H..4 * H]);
    check(4 * H, &[0..H, 3 * H..4 * H], &[0..H, 3 * H..4 * H]);
    check(4 * H, &[0..H], &[0..H]);
    // Just long enough, and one page too short, at each of the three places.
    check(4 * H, &[H..4 * H], &[H..4 * H]);
    check(4 * H, &[H - 4096..4 * H], &[0..4 * H]);
    check(4 * H, &[0..H, 2 * H..4 * H], &[0..H, 2 * H..4 * H]);
    check(4 * H, &[0..H, 2 * H - 4096..4 * H], &[0..4 * H]);
    check(4 * H, &[0..3 * H], &[0..3 * H]);
    check(4 * H, &[0..3 * H + 4096], &[0..4 * H]);
    // Many short holes in a row stay one part.
    let pages: Vec<_> = (0..32).map(|n| n * 32_768..n * 32_768 + 4096).collect();
    check(32 * 32_768, &pages, &[0..32 * 32_768]);
    // A length that is no multiple of anything, a hole up to it.
    check(10 * H + 1, &[0..4096], &[0..4096]);
}

#[test]
fn a_tebibyte_of_hole_costs_nothing() {
    const TIB: u64 = 1 << 40;
    let middle = TIB / 2..TIB / 2 + 65_536;
    if let Some(found) = extents(TIB, &[0..4096, middle.clone(), TIB - 4096..TIB]) {
        assert_eq!(found, [0..4096, middle, TIB - 4096..TIB]);
    }
}
