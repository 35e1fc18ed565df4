use proptest::prelude::*;

use super::Shelf;
use super::rows::{any_entries, entry, file, path, strange_entries, tree};
use crate::Error;
use crate::catalog::snapshot::{Counts, Root, Snapshot, SnapshotInfo, SnapshotWriter, WrittenSnapshot, read_info};
use crate::format::entry::{Content, Entry, EntryKind, EntryPath, Xattr};
use crate::format::id::{ChunkId, SnapshotId};
use crate::format::name::ObjectName;
use crate::storage::Storage;

pub(super) fn write(shelf: &Shelf, entries: &[Entry]) -> WrittenSnapshot {
    write_holding(shelf, entries, SnapshotInfo::default(), 16 << 20)
}

fn write_holding(shelf: &Shelf, entries: &[Entry], info: SnapshotInfo, hold: usize) -> WrittenSnapshot {
    let mut writer = SnapshotWriter::begin_holding(shelf.writer().unwrap(), hold).unwrap();
    entries.iter().for_each(|e| writer.push(e).unwrap());
    writer.finish(info).unwrap()
}

fn all(snapshot: &Snapshot<'_>) -> Vec<Entry> {
    snapshot.entries().collect::<Result<_, _>>().unwrap()
}

#[test]
fn everything_an_entry_can_be_reads_back() {
    let shelf = Shelf::default();
    let entries = strange_entries();
    let written = write(&shelf, &entries);
    assert_eq!(written.id, SnapshotId::of(&shelf.bytes(ObjectName::Snapshot(written.id))));
    let snapshot = Snapshot::open(&shelf, written.id).unwrap();
    assert_eq!(all(&snapshot), entries);
    for entry in &entries {
        assert_eq!(snapshot.find(&entry.path).unwrap().as_ref(), Some(entry));
    }
    assert_eq!(snapshot.find(&path("nowhere")).unwrap(), None);
}

#[test]
fn an_empty_snapshot_is_one() {
    let shelf = Shelf::default();
    let written = write(&shelf, &[]);
    let snapshot = Snapshot::open(&shelf, written.id).unwrap();
    assert!(snapshot.is_empty());
    assert_eq!(all(&snapshot), []);
    assert_eq!(snapshot.find(&path("a")).unwrap(), None);
    assert_eq!(snapshot.within(&EntryPath::default()).unwrap().count(), 0);
    assert_eq!(snapshot.parent_cursor().seek(&path("a")).unwrap(), None);
}

#[test]
fn what_is_known_of_the_whole_reads_back_from_the_footer_alone() {
    let shelf = Shelf::default();
    let info = SnapshotInfo {
        order_ns: Some(1_700_000_000_000_000_001),
        time_ns: 1_700_000_000_123_456_789,
        took_ms: 5,
        host: "hôst \"x\"".into(),
        program: "seamstore 0.1.0".into(),
        parent: Some(SnapshotId([3; 32])),
        tags: vec!["weekly".into()],
        roots: vec![Root(b"/a/b".to_vec()), Root(b"caf\xe9".to_vec())],
        skipped: 1,
        new_bytes: 2,
        stored_bytes: 3,
        new_chunks: 4,
        counts: Counts::default(),
        label_keys: Vec::new(),
    };
    let entries = tree(20_000);
    let written = write_holding(&shelf, &entries, info.clone(), 16 << 20);
    let counts = Counts {
        entries: entries.len() as u64,
        files: entries.len() as u64,
        logical_bytes: entries.iter().map(|e| e.size).sum(),
        ..Counts::default()
    };
    shelf.taken_read_bytes();
    assert_eq!(read_info(&shelf, written.id).unwrap(), SnapshotInfo { counts, ..info });
    assert!(shelf.taken_read_bytes() <= 64 << 10);
    assert_eq!(written.info, read_info(&shelf, written.id).unwrap());
}

#[test]
fn rows_out_of_order_are_refused_and_the_rest_is_kept() {
    let shelf = Shelf::default();
    let mut writer = SnapshotWriter::begin(shelf.writer().unwrap()).unwrap();
    for good in ["a", "a/b", "a.b", "b"] {
        writer.push(&file(good, 1)).unwrap();
    }
    // Bytewise `a.b` sorts before `a/b`; part by part it does not.
    for bad in ["b", "a/c", "", "a.c"] {
        let error = writer.push(&file(bad, 1)).unwrap_err();
        assert!(matches!(error, Error::Refused { .. }), "{error}");
    }
    writer.push(&file("b/c", 1)).unwrap();
    let written = writer.finish(SnapshotInfo::default()).unwrap();
    let snapshot = Snapshot::open(&shelf, written.id).unwrap();
    let paths: Vec<_> = all(&snapshot).iter().map(|e| e.path.as_bytes().to_vec()).collect();
    assert_eq!(paths, [&b"a"[..], b"a/b", b"a.b", b"b", b"b/c"]);
}

#[test]
fn entries_that_make_no_sense_are_refused() {
    let shelf = Shelf::default();
    let mut writer = SnapshotWriter::begin(shelf.writer().unwrap()).unwrap();
    let xattr = |name: &str| Xattr { name: name.into(), value: Vec::new() };
    let chunk = Content::Chunk(ChunkId([1; 32]));
    for (place, bad) in [
        Entry { mode: 0o10_000, ..file("a", 1) },
        Entry { content: Content::Empty, ..file("a", 1) },
        Entry { content: chunk, ..file("a", 0) },
        Entry { size: 1, content: chunk, ..entry("a", EntryKind::Directory) },
        Entry { link_target: Vec::new(), ..entry("a", EntryKind::Symlink) },
        Entry { link_target: b"a\0b".to_vec(), ..entry("a", EntryKind::Symlink) },
        Entry { link_target: b"a".to_vec(), ..file("a", 1) },
        Entry { rdev: 1, ..file("a", 1) },
        Entry { xattrs: vec![xattr("b"), xattr("a")], ..file("a", 1) },
        Entry { xattrs: vec![xattr("a"), xattr("a")], ..file("a", 1) },
        Entry { xattrs: vec![xattr("")], ..file("a", 1) },
    ]
    .into_iter()
    .enumerate()
    {
        assert!(matches!(writer.push(&bad), Err(Error::Refused { .. })), "{place}");
    }
}

#[test]
fn many_batches_are_searched_and_walked() {
    let shelf = Shelf::default();
    let entries = tree(60_000);
    // Held to the end, and streamed.
    let ids = [16 << 20, 0].map(|hold| write_holding(&shelf, &entries, SnapshotInfo::default(), hold).id);
    assert_ne!(ids[0], ids[1]);
    for id in ids {
        let snapshot = Snapshot::open(&shelf, id).unwrap();
        assert!(all(&snapshot) == entries);
        for entry in entries.iter().step_by(977) {
            assert_eq!(snapshot.find(&entry.path).unwrap().as_ref(), Some(entry));
            let beside = path([entry.path.as_bytes(), b"\x01"].concat());
            assert_eq!(snapshot.find(&beside).unwrap(), None);
        }
        let folder = path("linux-6.6/net");
        let below: Vec<Entry> = snapshot.within(&folder).unwrap().collect::<Result<_, _>>().unwrap();
        let expected: Vec<Entry> = entries.iter().filter(|e| e.path.is_within(&folder)).cloned().collect();
        assert!(!expected.is_empty() && below == expected);
    }
}

#[test]
fn a_cursor_finds_what_a_walk_meets_and_reads_each_batch_once() {
    let shelf = Shelf::default();
    // Large enough not to be kept in memory, so that reads are seen.
    let entries = tree(220_000);
    let written = write(&shelf, &entries);
    assert!(written.bytes > 9 << 20);
    let snapshot = Snapshot::open(&shelf, written.id).unwrap();
    let mut cursor = snapshot.parent_cursor();
    shelf.taken_read_bytes();
    for (place, entry) in entries.iter().enumerate() {
        // Every third path is gone from the tree, every fifth has a new neighbour.
        if place % 5 == 0 {
            let new = path([entry.path.as_bytes(), b"\x01"].concat());
            assert_eq!(cursor.seek(&new).unwrap(), None);
        }
        if place % 3 != 0 {
            assert!(cursor.seek(&entry.path).unwrap().as_ref() == Some(entry), "{:?}", entry.path);
        }
    }
    let read = shelf.taken_read_bytes();
    assert!(read < written.bytes * 4, "{read} of {}", written.bytes);
    // Backwards it is slow, and right.
    for entry in entries.iter().rev().step_by(20_011) {
        assert!(cursor.seek(&entry.path).unwrap().as_ref() == Some(entry));
    }
}

#[test]
fn a_row_takes_less_than_60_bytes() {
    let shelf = Shelf::default();
    let entries = tree(50_000);
    let written = write(&shelf, &entries);
    let each = written.bytes as f64 / entries.len() as f64;
    assert!(each < 60.0, "{each}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn what_is_written_is_read(entries in any_entries(60), probes in any_entries(20)) {
        let shelf = Shelf::default();
        let written = write(&shelf, &entries);
        let snapshot = Snapshot::open(&shelf, written.id).unwrap();
        prop_assert_eq!(&all(&snapshot), &entries);
        let mut cursor = snapshot.parent_cursor();
        for at in entries.iter().chain(&probes).map(|e| &e.path) {
            let expected = entries.iter().find(|e| e.path == *at);
            prop_assert_eq!(snapshot.find(at).unwrap(), expected.cloned());
            prop_assert_eq!(cursor.seek(at).unwrap(), expected.cloned());
            let below: Vec<Entry> = snapshot.within(at).unwrap().collect::<Result<_, _>>().unwrap();
            let expected: Vec<Entry> = entries.iter().filter(|e| e.path.is_within(at)).cloned().collect();
            prop_assert_eq!(below, expected);
        }
    }
}
