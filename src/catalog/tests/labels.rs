use std::sync::Arc;

use proptest::prelude::*;

use super::rows::{any_entries, file, path, strange_entries, tree};
use super::{Shelf, TestRng};
use crate::Error;
use crate::catalog::snapshot::{SalvagedRows, Snapshot, SnapshotInfo, SnapshotWriter, WrittenSnapshot, read_info};
use crate::format::entry::Entry;
use crate::format::label::{LABEL_KEYS_MAX, Label, Labels};
use crate::format::name::ObjectName;
use crate::storage::Storage;

fn labels(list: &[(&str, &str)]) -> Labels {
    list.iter().map(|(key, value)| Label::new(*key, *value).unwrap()).collect()
}

fn keys(list: &[&str]) -> Vec<Arc<str>> {
    list.iter().map(|key| Arc::from(*key)).collect()
}

fn write(shelf: &Shelf, keys: &[Arc<str>], entries: &[Entry], hold: usize) -> WrittenSnapshot {
    let writer = SnapshotWriter::begin_holding(shelf.writer().unwrap(), hold).unwrap();
    let mut writer = writer.with_labels(keys.to_vec()).unwrap();
    entries.iter().for_each(|e| writer.push(e).unwrap());
    writer.finish(SnapshotInfo::default()).unwrap()
}

fn all(snapshot: &Snapshot<'_>) -> Vec<Entry> {
    snapshot.entries().collect::<Result<_, _>>().unwrap()
}

/// Many rows, some of them with labels, over several batches.
fn labelled_tree() -> Vec<Entry> {
    let mut numbers = TestRng(3);
    let mut entries = tree(20_000);
    for entry in &mut entries {
        entry.labels = match numbers.below(4) {
            0 => Labels::default(),
            1 => labels(&[("type", "wheel")]),
            2 => labels(&[("repository", ["pypi", "npm", ""][numbers.below(3) as usize]), ("type", "größe")]),
            _ => labels(&[("build", &numbers.below(5000).to_string())]),
        };
    }
    entries
}

#[test]
fn labels_read_back_wherever_the_dictionaries_stand() {
    let entries = labelled_tree();
    for hold in [16 << 20, 0] {
        let shelf = Shelf::default();
        let written = write(&shelf, &keys(&["build", "repository", "type"]), &entries, hold);
        let snapshot = Snapshot::open(&shelf, written.id).unwrap();
        assert_eq!(snapshot.label_keys(), keys(&["build", "repository", "type"]));
        assert_eq!(all(&snapshot), entries);
        assert_eq!(snapshot.find(&entries[17_000].path).unwrap(), Some(entries[17_000].clone()));
        assert_eq!(read_info(&shelf, written.id).unwrap().label_keys, ["build", "repository", "type"]);
    }
}

#[test]
fn without_labels_a_snapshot_is_what_it_was() {
    let entries = strange_entries();
    let (with, without) = (Shelf::default(), Shelf::default());
    let mut writer = SnapshotWriter::begin(without.writer().unwrap()).unwrap();
    entries.iter().for_each(|e| writer.push(e).unwrap());
    let plain = writer.finish(SnapshotInfo::default()).unwrap();
    assert_eq!(write(&with, &[], &entries, 16 << 20).id, plain.id);
    let name = ObjectName::Snapshot(plain.id);
    let bytes = without.bytes(name);
    assert_eq!(with.bytes(name), bytes);
    assert!(!bytes.windows(5).any(|w| w == b"label"));
}

#[test]
fn what_a_snapshot_was_not_begun_for_is_refused_and_the_rest_is_kept() {
    let shelf = Shelf::default();
    let mut writer = SnapshotWriter::begin(shelf.writer().unwrap()).unwrap().with_labels(keys(&["type"])).unwrap();
    writer.push(&file("a", 1)).unwrap();
    let error = writer.push(&Entry { labels: labels(&[("other", "x")]), ..file("b", 1) }).unwrap_err();
    assert!(matches!(&error, Error::Refused { why, .. } if why.contains("other")), "{error}");
    writer.push(&Entry { labels: labels(&[("type", "x")]), ..file("c", 1) }).unwrap();
    let written = writer.finish(SnapshotInfo::default()).unwrap();
    let snapshot = Snapshot::open(&shelf, written.id).unwrap();
    assert_eq!(all(&snapshot).len(), 2);
    assert_eq!(snapshot.find(&path("c")).unwrap().unwrap().labels.get("type"), Some("x"));

    let many: Vec<Arc<str>> = (100..=100 + LABEL_KEYS_MAX).map(|n| n.to_string().into()).collect();
    for (bad, why) in
        [(many, "65 keys"), (keys(&["b", "a"]), "ascend"), (keys(&["a", "a"]), "ascend"), (keys(&[""]), "key")]
    {
        let writer = SnapshotWriter::begin(shelf.writer().unwrap()).unwrap();
        let error = writer.with_labels(bad).unwrap_err().to_string();
        assert!(error.contains(why), "{error}");
    }
}

#[test]
fn a_column_of_labels_has_a_bound_that_readers_take() {
    let shelf = Shelf::default();
    let mut writer = SnapshotWriter::begin(shelf.writer().unwrap()).unwrap().with_labels(keys(&["k"])).unwrap();
    let mut kept = 0;
    let refused = (0..20_000).find_map(|n| {
        let value = format!("{n:01024}");
        let pushed = writer.push(&Entry { labels: labels(&[("k", &value)]), ..file(format!("{n:08}"), 1) });
        kept += u64::from(pushed.is_ok());
        pushed.err()
    });
    assert!(matches!(&refused, Some(Error::Refused { why, .. }) if why.contains("too many different values")));
    let written = writer.finish(SnapshotInfo::default()).unwrap();
    let snapshot = Snapshot::open(&shelf, written.id).unwrap();
    assert_eq!(
        snapshot.entries().map(|e| e.unwrap().labels.get("k").unwrap().len()).sum::<usize>() as u64,
        kept * 1024
    );
}

#[test]
fn salvaged_rows_have_their_labels_and_make_the_same_file() {
    let shelf = Shelf::default();
    let entries = labelled_tree();
    let written = write(&shelf, &keys(&["build", "repository", "type"]), &entries, 16 << 20);
    let salvaged = SalvagedRows::open(&shelf, written.id).unwrap();
    let mut rows = Vec::new();
    salvaged
        .for_each(&mut |entry| {
            rows.push(entry.clone());
            Ok(())
        })
        .unwrap();
    assert!(rows == entries);
    assert_eq!(salvaged.id().unwrap(), written.id);
}

/// Damage in every byte of a small snapshot with labels, unknown to its hash: an error, or rows, never a panic; and no
/// row has a label that cannot be.
#[test]
fn any_byte_may_be_wrong() {
    let shelf = Shelf::default();
    let mut writer = SnapshotWriter::begin(shelf.writer().unwrap()).unwrap().uncompressed();
    writer = writer.with_labels(keys(&["type", "x"])).unwrap();
    for (n, name) in ["a", "b", "c"].into_iter().enumerate() {
        let found = if n == 1 { Labels::default() } else { labels(&[("type", "wheel"), ("x", name)]) };
        writer.push(&Entry { labels: found, ..file(name, 1) }).unwrap();
    }
    let id = writer.finish(SnapshotInfo::default()).unwrap().id;
    let name = ObjectName::Snapshot(id);
    let whole = shelf.bytes(name);
    for at in 0..whole.len() {
        for flip in [1 << (at % 8), 0xff] {
            let mut bytes = whole.clone();
            bytes[at] ^= flip;
            shelf.put(name, bytes);
            assert!(Snapshot::open(&shelf, id).is_err());
            let Ok(salvaged) = SalvagedRows::open(&shelf, id) else { continue };
            let mut check = |entry: &Entry| {
                for label in &entry.labels {
                    assert!(label.to_string().parse::<Label>().is_ok());
                }
                Ok(())
            };
            assert!(salvaged.for_each(&mut check).unwrap() <= 3);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn any_labels_read_back(mut entries in any_entries(40), words in prop::collection::vec(("[abc]", "\\PC{0,9}"), 0..80)) {
        for (entry, pair) in entries.iter_mut().zip(words.chunks(2)) {
            entry.labels = pair.iter().map(|(key, value)| Label::new(key.as_str(), value.as_str()).unwrap()).collect();
        }
        let shelf = Shelf::default();
        let written = write(&shelf, &keys(&["a", "b", "c"]), &entries, 16 << 20);
        prop_assert_eq!(all(&Snapshot::open(&shelf, written.id).unwrap()), entries);
    }
}
