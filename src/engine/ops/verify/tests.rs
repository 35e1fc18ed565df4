//! What verify says is held against what can be read.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use std::collections::BTreeSet;

use super::*;
use crate::format::directory::Directory;
use crate::format::id::ChunkId;
use crate::format::pack::Trailer;
use crate::pack::reader::read_directory;
use crate::testing::random::TestRng;
use crate::testing::store::{Key, Kind, TestStore, hash_of, on_every_backend};

fn lost(report: &VerifyReport) -> BTreeSet<Key> {
    report.lost.iter().map(|file| (file.snapshot, file.path.clone())).collect()
}

fn a_whole_store_is_whole_and_counted(kind: Kind) {
    let store_under_test = TestStore::new(kind);
    let before = store_under_test.bytes();
    for depth in [Depth::Quick, Depth::Stored, Depth::Full] {
        let report = store_under_test.verify(depth);
        assert!(report.is_whole(), "{depth:?}: {report:?}");
        assert_eq!((report.packs, report.snapshots, report.files), (3, 3, 18));
        assert_eq!(report.logical_bytes, store_under_test.files.values().map(|bytes| bytes.len() as u64).sum::<u64>());
        // Chunks that two trees share are there once, and every content of more than one chunk has its recipe.
        let statistics = store_under_test.open().chunk_index().unwrap().statistics();
        assert_eq!((report.chunks, report.recipes), (statistics.chunks, statistics.recipes));
        let (_, bytes) = store_under_test.open().measure_verify(depth).unwrap();
        let expected = store_under_test.objects().iter().map(|path| before[path].len() as u64).sum::<u64>();
        if depth == Depth::Quick {
            assert!(bytes < expected && report.read_bytes < expected);
        } else {
            assert_eq!((bytes, report.read_bytes), (expected, expected));
        }
    }
    assert_eq!(hash_of(&before), hash_of(&store_under_test.bytes()), "nothing is written");
}

/// The oracle is `get`: a file is said to be lost if and only if it cannot be had.
fn what_is_said_to_be_lost_is_what_cannot_be_had(kind: Kind) {
    let whole = TestStore::new(kind);
    let all: BTreeSet<Key> = whole.files.keys().cloned().collect();
    assert_eq!(whole.readable(), all);
    for seed in 0..120 {
        let mut numbers = TestRng(seed);
        let store_under_test = whole.copy(seed % 2 == 0);
        let damaged = store_under_test.damage(&mut numbers);
        let report = store_under_test.verify(if seed % 3 == 0 { Depth::Full } else { Depth::Stored });
        for (object, is_there) in &damaged {
            let named =
                report.damages.iter().any(|damage| store_under_test.place.name_of(object) == Some(damage.object));
            // The records of a bucket list what is not there.
            assert_eq!(named, *is_there || kind == Kind::Bucket, "seed {seed}, {object:?}: {:?}", report.damages);
        }
        // A snapshot that is gone, or cannot be read, has no files to tell of.
        let snapshots: BTreeSet<SnapshotId> = store_under_test.open().snapshot_ids().unwrap().into_iter().collect();
        let reported = |key: &Key| snapshots.contains(&key.0) && !report.lost_snapshots.contains(&key.0);
        let readable = store_under_test.readable();
        let unreadable = all.iter().filter(|key| reported(key) && !readable.contains(*key)).cloned().collect();
        assert_eq!(lost(&report), unreadable, "seed {seed}: {damaged:?}");
        assert!(readable.iter().all(reported), "seed {seed}: {damaged:?}");
        assert_eq!(report.lost_files, report.lost.len() as u64);
        for file in &report.lost {
            assert!(file.lost_bytes > 0 && file.lost_bytes <= file.size, "seed {seed}: {file:?}");
            assert!(file.damage.is_none_or(|place| place < report.damages.len()));
        }
        // What is quick finds less, but what it finds is so.
        let quick = store_under_test.verify(Depth::Quick);
        assert!(lost(&quick).is_subset(&lost(&report)), "seed {seed}");
    }
}

fn a_damaged_frame_is_blamed_for_the_files_in_it(kind: Kind) {
    let store_under_test = TestStore::new(kind);
    let pack = store_under_test.objects().remove(0);
    let mut bytes = store_under_test.place.read(&pack).unwrap();
    let at = bytes.len() / 3;
    bytes[at] ^= 1;
    store_under_test.place.write(&pack, &bytes);
    let report = store_under_test.verify(Depth::Stored);
    let [damage] = report.damages.as_slice() else { panic!("{:?}", report.damages) };
    assert_eq!(Some(damage.object), store_under_test.place.name_of(&pack));
    assert!((damage.offset..damage.end()).contains(&Some(at as u64)), "{damage:?}");
    assert!(damage.chunks > 0 && !report.lost.is_empty());
    assert!(report.lost.iter().all(|file| file.damage == Some(0)), "{:?}", report.lost);
    // Quick does not look there.
    assert!(store_under_test.verify(Depth::Quick).is_whole());
}

/// Such a pack comes from a faulty writer, or a hostile one: every checksum and its name are right.
fn a_chunk_that_was_written_under_a_wrong_id_is_found_by_full_alone(kind: Kind) {
    let store_under_test = TestStore::new(kind);
    let store = store_under_test.open();
    let storage = store.storage();
    let listed = storage.list(ObjectKind::Pack).unwrap();
    let ObjectName::Pack(pack) = listed[0].name else { panic!("{listed:?}") };
    let old = read_directory(storage, pack).unwrap();
    let bytes = store_under_test.place.read(&store_under_test.place.path_of(&listed[0].name)).unwrap();
    let mut directory = Directory::default();
    let mut chunks = old.chunks.clone();
    // The checksum of its frame, and of the directory, are right all the same.
    chunks[0].id = ChunkId::of(b"other");
    let mut rest = chunks.as_slice();
    for frame in &old.frames {
        let (own, after) = rest.split_at(frame.chunk_count as usize);
        directory.push(frame.stored_bytes, frame.checksum, own.to_vec());
        rest = after;
    }
    let encoded = directory.encode();
    let id = PackId::of_directory(&encoded);
    let trailer =
        Trailer { directory_offset: old.frames_end(), directory_bytes: encoded.len() as u64, pack: id }.encode();
    let forged = [&bytes[..old.frames_end() as usize], &encoded, &trailer].concat();
    let session = store.coordination().begin().unwrap();
    session.storage().put_if_absent(&ObjectName::Pack(id), &forged).unwrap();
    session.commit(&[]).unwrap();
    drop(session);
    assert!(store_under_test.verify(Depth::Stored).is_whole());
    let report = store_under_test.verify(Depth::Full);
    assert_eq!(report.damages.len(), 1, "{:?}", report.damages);
    assert_eq!((report.damages[0].object, report.damages[0].chunks), (ObjectName::Pack(id), 1));
    // The chunk is intact in the other pack: no file loses anything.
    assert_eq!(report.lost, []);
    store_under_test.place.remove(&store_under_test.place.path_of(&ObjectName::Pack(pack)));
    let report = store_under_test.verify(Depth::Full);
    // The records of a bucket list what is not there.
    let damages = if kind == Kind::Bucket { 2 } else { 1 };
    assert!(report.lost_files > 0 && report.damages.len() == damages, "{:?}", report.damages);
}

fn damages_that_touch_are_one_and_those_apart_are_two(kind: Kind) {
    let store_under_test = TestStore::new(kind);
    let store = store_under_test.open();
    let listed = store.storage().list(ObjectKind::Pack).unwrap();
    let ObjectName::Pack(pack) = listed[0].name else { panic!("{listed:?}") };
    let directory = read_directory(store.storage(), pack).unwrap();
    assert!(directory.frames.len() >= 5);
    let path = store_under_test.place.path_of(&listed[0].name);
    let mut bytes = store_under_test.place.read(&path).unwrap();
    for frame in [0, 1, 3] {
        bytes[directory.frames[frame].end() as usize - 1] ^= 1;
    }
    store_under_test.place.write(&path, &bytes);
    let report = store_under_test.verify(Depth::Stored);
    let found: Vec<_> = report.damages.iter().map(|damage| (damage.offset, damage.bytes, damage.chunks)).collect();
    let frames = &directory.frames;
    let both = u64::from(frames[0].stored_bytes + frames[1].stored_bytes);
    let expected = [
        (Some(frames[0].offset), both, u64::from(frames[0].chunk_count + frames[1].chunk_count)),
        (Some(frames[3].offset), u64::from(frames[3].stored_bytes), u64::from(frames[3].chunk_count)),
    ];
    assert_eq!(found, expected);
}

fn a_stopped_verification_says_so(kind: Kind) {
    let store_under_test = TestStore::new(kind);
    let control = Control::default();
    control.stop();
    let request = VerifyRequest { depth: Depth::Stored, threads: 2 };
    assert!(matches!(store_under_test.open().verify(&request, &control), Err(Error::Interrupted { .. })));
}

on_every_backend!(
    a_whole_store_is_whole_and_counted,
    what_is_said_to_be_lost_is_what_cannot_be_had,
    a_damaged_frame_is_blamed_for_the_files_in_it,
    a_chunk_that_was_written_under_a_wrong_id_is_found_by_full_alone,
    damages_that_touch_are_one_and_those_apart_are_two,
    a_stopped_verification_says_so,
);
