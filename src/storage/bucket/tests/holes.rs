//! Each way in which such a protocol loses data, and what happens here instead.

use super::*;
use crate::format::bucket::{ObjectKey, Record, Slot, gc_key};

#[test]
fn what_is_committed_is_there_and_what_is_not_is_not() {
    let bucket = MemoryBucket::new();
    let process = Process::new(&bucket);
    process.add(1, &[1, 2], &[1, 2]).unwrap();
    let session = process.coordination.begin().unwrap();
    session.storage().put_if_absent(&pack(3), &[3; 100]).unwrap();
    write_snapshot(&*session, 2, &[3]).unwrap();
    // The session itself reads what it wrote.
    assert_eq!(bytes_of(session.storage(), &pack(3)).unwrap(), [3; 100]);
    let other = Process::new(&bucket);
    assert_eq!((other.snapshots(), other.packs()), (vec![1], vec![1, 2]));
    drop(session);
    // What it packed is kept for others, its snapshot is not.
    assert_eq!((other.snapshots(), other.packs()), (vec![1], vec![1, 2, 3]));
    process.collect().unwrap();
    assert_eq!((other.snapshots(), other.packs()), (vec![1], vec![1, 2]));
    assert_whole(&bucket, "");
    assert_eq!(object_keys(&bucket).len(), 3);
    process.coordination.remove(&[SnapshotId([1; 32])]).unwrap();
    assert_eq!(other.snapshots(), Vec::<u8>::new());
    process.collect().unwrap();
    process.collect().unwrap();
    assert_eq!(object_keys(&bucket), Vec::<String>::new());
}

#[test]
fn a_writer_that_stalls_until_its_lease_is_revoked_makes_no_snapshot() {
    let bucket = MemoryBucket::new();
    let (writer, gc) = (Process::new(&bucket), Process::new(&bucket));
    let session = writer.coordination.begin().unwrap();
    session.storage().put_if_absent(&pack(1), &[1; 100]).unwrap();
    gc.collect().unwrap();
    // It wakes up.
    session.storage().put_if_absent(&pack(2), &[2; 100]).unwrap();
    write_snapshot(&*session, 1, &[1, 2]).unwrap();
    let refused = session.commit(&[SnapshotId([1; 32])]);
    assert!(matches!(refused, Err(Error::Revoked { .. })), "{refused:?}");
    drop(session);
    assert_eq!(gc.snapshots(), Vec::<u8>::new());
    assert_whole(&bucket, "");
    // What it wrote after that is in no ledger, and the next gc finds it.
    gc.collect().unwrap();
    assert_eq!((object_keys(&bucket), gc.packs()), (Vec::new(), Vec::new()));
    writer.add(1, &[1, 2], &[1, 2]).unwrap();
    assert_eq!(gc.snapshots(), [1]);
    assert_whole(&bucket, "");
}

#[test]
fn a_commit_that_arrives_after_the_lease_was_revoked_has_no_effect() {
    let bucket = MemoryBucket::new();
    let (writer, gc) = (Process::new(&bucket), Process::new(&bucket));
    writer.way.plan("put if absent", "ends/", BucketFault::Late, usize::MAX);
    assert!(matches!(writer.add(1, &[1], &[1]), Err(Error::Io { .. })));
    gc.collect().unwrap();
    writer.way.deliver();
    assert_eq!((gc.snapshots(), gc.packs()), (Vec::new(), Vec::new()));
    gc.collect().unwrap();
    assert_eq!(object_keys(&bucket), Vec::<String>::new());
}

#[test]
fn a_commit_whose_answer_is_lost_is_found_to_have_happened() {
    let bucket = MemoryBucket::new();
    let writer = Process::new(&bucket);
    writer.way.plan("put if absent", "ends/", BucketFault::AnswerLost, 1);
    writer.add(1, &[1], &[1]).unwrap();
    // And one that is answered as if somebody else had been there, though nothing landed.
    writer.way.plan("put if absent", "ends/", BucketFault::NothingLanded, 3);
    writer.add(2, &[1], &[]).unwrap();
    writer.way.plan("put if absent", "ends/", BucketFault::Late, 2);
    writer.add(3, &[1], &[]).unwrap();
    writer.way.deliver();
    assert_eq!(Process::new(&bucket).snapshots(), [1, 2, 3]);
}

#[test]
fn a_delete_that_arrives_late_meets_no_object_of_the_same_name() {
    let bucket = MemoryBucket::new();
    let (writer, gc) = (Process::new(&bucket), Process::new(&bucket));
    writer.add(1, &[1], &[1]).unwrap();
    writer.coordination.remove(&[SnapshotId([1; 32])]).unwrap();
    // The first delete of each key is late, the second happens.
    gc.way.plan("delete", "", BucketFault::Late, 1);
    gc.collect().unwrap();
    assert_eq!(gc.packs(), Vec::<u8>::new());
    // The same names again, by a copy or an import: under keys of their own.
    writer.add(1, &[1], &[1]).unwrap();
    gc.way.deliver();
    assert_eq!(gc.snapshots(), [1]);
    assert_whole(&bucket, "");
}

#[test]
fn two_gcs_at_once_decide_the_same_and_copies_of_both_are_not_lost() {
    let bucket = MemoryBucket::new();
    let (writer, one, two) = (Process::new(&bucket), Process::new(&bucket), Process::new(&bucket));
    writer.add(1, &[1, 2], &[1, 2]).unwrap();
    let mut first = one.coordination.collect().unwrap();
    let mut second = two.coordination.collect().unwrap();
    // Each takes the other's copy for superfluous: they announce each other's for deletion.
    first.begin_copies().unwrap();
    first.copies().put_if_absent(&pack(3), &[3; 100]).unwrap();
    second.begin_copies().unwrap();
    second.copies().put_if_absent(&pack(4), &[4; 100]).unwrap();
    let pending_deletes = |n: u8| PendingDeletes { packs: [PackId([n; 32])].into(), ..PendingDeletes::default() };
    first.announce(&pending_deletes(2), true).unwrap();
    // The second's copy was written and not committed, so it is listed; the second's own list is not what counts.
    assert!(second.announce(&pending_deletes(1), true).is_ok());
    assert_eq!(first.pending(), second.pending());
    assert!(
        first.pending().unwrap().packs.contains(&PackId([2; 32]))
            && !first.pending().unwrap().packs.contains(&PackId([1; 32]))
    );
    while !second.waits_for().unwrap().is_empty() {}
    let delete = unneeded(&*second).unwrap();
    second.carry_out(&delete).unwrap();
    while !first.waits_for().unwrap().is_empty() {}
    let delete = unneeded(&*first).unwrap();
    first.carry_out(&delete).unwrap();
    assert_whole(&bucket, "");
    assert_eq!(writer.snapshots(), [1]);
}

#[test]
fn a_slot_whose_put_never_arrives_leaves_no_gap_below_the_next() {
    let bucket = MemoryBucket::new();
    let stuck = Process::new(&bucket);
    stuck.way.plan("put if absent", "leases/", BucketFault::Late, usize::MAX);
    assert!(stuck.coordination.begin().is_err());
    for _ in 0..100 {
        Process::new(&bucket).add(1, &[1], &[1]).unwrap();
    }
    stuck.way.deliver();
    Process::new(&bucket).collect().unwrap();
    // Delivered once more, it changes nothing.
    assert!(stuck.coordination.begin().is_err());
    stuck.way.deliver();
    assert_no_gap(&bucket);
    assert_whole(&bucket, "");
}

/// Fails if a lane has a slot and lacks one below it, or one behind its end.
pub(super) fn assert_no_gap(bucket: &MemoryBucket) {
    let contents = bucket.contents();
    for (key, bytes) in contents.iter().filter(|(key, _)| key.starts_with("leases/")) {
        let (lane, number) = key.rsplit_once('/').unwrap();
        let number: u64 = number.parse().unwrap();
        if number > 0 {
            let below = contents.get(&format!("{lane}/{}", number - 1)).unwrap_or_else(|| panic!("a gap below {key}"));
            assert!(matches!(Record::parse(below), Ok(Record::Lease(_))), "{key} lies behind the end of its lane");
        }
        assert!(matches!(Record::parse(bytes), Ok(Record::Lease(_) | Record::Closed(_))), "{key}");
    }
}

/// A gc that announced and closed all lanes, and stopped there.
fn with_closed_lanes(bucket: &MemoryBucket) {
    let gc = Process::new(bucket);
    let mut collection = gc.coordination.collect().unwrap();
    collection
        .announce(&PendingDeletes { packs: [PackId([1; 32])].into(), ..PendingDeletes::default() }, true)
        .unwrap();
    collection.waits_for().unwrap();
}

#[test]
fn nobody_enters_a_generation_without_what_was_announced_for_it() {
    let bucket = MemoryBucket::new();
    Process::new(&bucket).add(1, &[1], &[1]).unwrap();
    with_closed_lanes(&bucket);
    // The lane is seen to be closed, and the announcement is not seen yet: for a while, or for good.
    let patient = Process::new(&bucket);
    patient.way.plan("get", "condemned", BucketFault::Stale, 3);
    let session = patient.coordination.begin().unwrap();
    assert!(session.pending().packs.contains(&PackId([1; 32])));
    let stuck = Process::new(&bucket);
    stuck.way.plan("get", "condemned", BucketFault::Stale, usize::MAX);
    assert!(matches!(stuck.coordination.begin(), Err(Error::Io { .. })));
    // Or another one is seen.
    let other = Record::PendingDeletes(Vec::new()).encode(&[0; 16]);
    bucket.put(&gc_key(1, "condemned"), &other).unwrap();
    assert!(matches!(Process::new(&bucket).coordination.begin(), Err(Error::Damaged { .. })));
}

#[test]
fn what_is_announced_is_spared_if_a_session_that_was_waited_for_needs_it() {
    let bucket = MemoryBucket::new();
    let (writer, gc) = (Process::new(&bucket), Process::on(FaultyBucket::new(&bucket), BucketOptions::default()));
    writer.add(1, &[1], &[1]).unwrap();
    writer.coordination.remove(&[SnapshotId([1; 32])]).unwrap();
    let session = writer.coordination.begin().unwrap();
    let mut collection = gc.coordination.collect().unwrap();
    let all = everything(collection.storage()).unwrap();
    collection.announce(&all, true).unwrap();
    assert_eq!(collection.waits_for().unwrap().len(), 1);
    // It did not know.
    assert!(session.storage().list(ObjectKind::Pack).unwrap().iter().any(|listed| listed.name == pack(1)));
    write_snapshot(&*session, 2, &[1]).unwrap();
    session.commit(&[SnapshotId([2; 32])]).unwrap();
    assert_eq!(collection.waits_for().unwrap(), []);
    let delete = unneeded(&*collection).unwrap();
    assert_eq!(delete, []);
    collection.carry_out(&delete).unwrap();
    assert_eq!((gc.snapshots(), gc.packs()), (vec![2], vec![1]));
    assert_whole(&bucket, "");
}

#[test]
fn a_reader_reads_on_where_a_gc_died_before_it_said_that_it_was_done() {
    let bucket = MemoryBucket::new();
    let (writer, gc, reader) = (Process::new(&bucket), Process::new(&bucket), Process::new(&bucket));
    writer.add(1, &[1], &[1]).unwrap();
    writer.add(2, &[2], &[2]).unwrap();
    assert_eq!(reader.packs(), [1, 2]);
    // What it needs of pack 1 is copied to pack 3; its reader knows that both have it.
    let mut collection = gc.coordination.collect().unwrap();
    collection.begin_copies().unwrap();
    collection.copies().put_if_absent(&pack(3), &[3; 100]).unwrap();
    collection
        .announce(&PendingDeletes { packs: [PackId([1; 32])].into(), ..PendingDeletes::default() }, true)
        .unwrap();
    while !collection.waits_for().unwrap().is_empty() {}
    gc.way.plan("put if absent", "done", BucketFault::Refused, usize::MAX);
    assert!(collection.carry_out(&[pack(1)]).is_err());
    assert_eq!(reader.packs(), [2, 3]);
    assert!(matches!(bytes_of(&reader.storage, &pack(1)), Err(Error::NotFound { .. })));
    assert_eq!(bytes_of(&reader.storage, &pack(3)).unwrap(), [3; 100]);
    // And so does a writer, and the next gc ends it.
    writer.add(3, &[3], &[]).unwrap();
    writer.collect().unwrap();
    assert_eq!(reader.packs(), [2, 3]);
}

#[test]
fn a_removal_is_not_forgotten_by_the_next_ledger() {
    let bucket = MemoryBucket::new();
    let gc = Process::new(&bucket);
    gc.add(1, &[1], &[1]).unwrap();
    // A gc that died while it closed lanes: some are open, some are not.
    gc.way.plan("put if absent", "leases/0/7/", BucketFault::Refused, usize::MAX);
    let mut collection = gc.coordination.collect().unwrap();
    collection
        .announce(&PendingDeletes { packs: [PackId([9; 32])].into(), ..PendingDeletes::default() }, true)
        .unwrap();
    bucket.put_if_absent(&gc_key(1, "condemned"), &Record::PendingDeletes(Vec::new()).encode(&[1; 16])).unwrap();
    let mut collection = gc.coordination.collect().unwrap();
    assert!(collection.waits_for().is_err());
    // Writers of both generations; then every snapshot is removed, by sessions of either.
    for n in 2..40 {
        Process::new(&bucket).add(n, &[1], &[]).unwrap();
    }
    let made: BTreeSet<u64> =
        object_keys(&bucket).iter().filter_map(|key| ObjectKey::parse(key)).map(|key| key.slot.generation).collect();
    assert_eq!(made, [0, 1].into(), "snapshots of both generations");
    for n in 1..40 {
        Process::new(&bucket).coordination.remove(&[SnapshotId([n; 32])]).unwrap();
    }
    let reader = Process::new(&bucket);
    assert_eq!(reader.snapshots(), Vec::<u8>::new());
    for _ in 0..3 {
        Process::new(&bucket).collect().unwrap();
        assert_eq!(reader.snapshots(), Vec::<u8>::new(), "a snapshot came back");
    }
    assert_eq!(object_keys(&bucket), Vec::<String>::new());
}

#[test]
fn nothing_rests_on_a_listing() {
    let bucket = MemoryBucket::new();
    let process = Process::new(&bucket);
    process.way.plan("list", "", BucketFault::Stale, usize::MAX);
    process.add(1, &[1, 2], &[1, 2]).unwrap();
    process.add(2, &[2, 3], &[3]).unwrap();
    process.coordination.remove(&[SnapshotId([1; 32])]).unwrap();
    process.collect().unwrap();
    assert_eq!((process.snapshots(), process.packs()), (vec![2], vec![2, 3]));
    // What was deleted is listed again and again, and deleted again.
    for _ in 0..10 {
        process.collect().unwrap();
    }
    assert_eq!((process.snapshots(), process.packs()), (vec![2], vec![2, 3]));
    assert_whole(&bucket, "");
}

#[test]
fn a_collection_can_stop_anywhere_and_the_next_one_ends_it() {
    for changes in 0.. {
        let bucket = MemoryBucket::new();
        let writer = Process::new(&bucket);
        writer.add(1, &[1, 2], &[1, 2]).unwrap();
        writer.add(2, &[2, 3], &[3]).unwrap();
        writer.coordination.remove(&[SnapshotId([1; 32])]).unwrap();
        let killed = Process::on(FaultyBucket::killed_after(&bucket, changes), IMPATIENT);
        let result = killed.collect();
        let case = format!("after {changes} changes");
        assert_whole(&bucket, &case);
        writer.add(3, &[4, 2], &[4]).unwrap();
        assert_whole(&bucket, &case);
        writer.collect().unwrap();
        assert_eq!(writer.snapshots(), [2, 3], "{case}");
        writer.collect().unwrap();
        assert_eq!(writer.packs(), [2, 3, 4], "{case}");
        assert_whole(&bucket, &case);
        if result.is_ok() {
            assert!(changes > 20, "{changes}");
            break;
        }
    }
}

#[test]
fn an_object_that_takes_the_place_of_a_damaged_one_is_read_from_then_on() {
    let bucket = MemoryBucket::new();
    let process = Process::new(&bucket);
    process.add(1, &[1], &[1]).unwrap();
    let damaged = object_keys(&bucket).into_iter().find(|key| key.starts_with("packs/")).unwrap();
    bucket.put(&damaged, &[0; 50]).unwrap();
    let repair = process.coordination.begin_repair().unwrap();
    let aside = repair.storage().set_aside(&pack(1)).unwrap().unwrap();
    assert_eq!(bucket.get(&aside, 1000).unwrap().unwrap(), [0; 50]);
    let mut writer = repair.storage().writer().unwrap();
    writer.write(&[1; 100]).unwrap();
    writer.replace(&pack(1)).unwrap();
    repair.commit(&[]).unwrap();
    assert_whole(&bucket, "");
    process.collect().unwrap();
    assert!(bucket.get(&damaged, 1000).unwrap().is_none());
    assert_whole(&bucket, "");
    let slot = Slot { generation: 0, lane: 3, number: 0 };
    assert_eq!((slot.lease(), slot.end()), ("leases/0/3/0".to_owned(), "ends/0/3/0".to_owned()));
}

#[test]
fn an_end_that_stale_answers_hide_from_a_gc_is_missed_by_none_of_its_steps() {
    let mut ended = 0;
    for seed in 0..400 {
        let bucket = MemoryBucket::new();
        let others = Process::new(&bucket);
        let [early, late] = [1, 2].map(|n| {
            let session = others.coordination.begin().unwrap();
            session.storage().put_if_absent(&pack(n), &[n; 100]).unwrap();
            write_snapshot(&*session, n, &[n]).unwrap();
            session
        });
        let case = format!("seed {seed}");
        let gc = Process::on(FaultyBucket::seeded(&bucket, seed, 300), IMPATIENT);
        early.commit(&[SnapshotId([1; 32])]).unwrap();
        let collect = || -> Result<()> {
            let mut collection = gc.coordination.collect()?;
            if collection.pending().is_none() {
                collection.announce(&everything(collection.storage())?, true)?;
            }
            // After the gc has looked at the ends for the first time.
            let _ = late.commit(&[SnapshotId([2; 32])]);
            while !collection.waits_for()?.is_empty() {}
            let delete = unneeded(&*collection)?;
            collection.carry_out(&delete).map(drop)
        };
        ended += (0..4).filter(|_| collect().is_ok()).count();
        assert_eq!(Process::new(&bucket).snapshots(), [1, 2], "{case}");
        assert_whole(&bucket, &case);
    }
    assert!(ended > 100, "{ended}");
}

#[test]
fn a_snapshot_that_stale_answers_hide_is_not_said_to_be_removed() {
    for times in 1..12 {
        let bucket = MemoryBucket::new();
        Process::new(&bucket).add(1, &[1], &[1]).unwrap();
        let process = Process::new(&bucket);
        process.way.plan("get", "ends/", BucketFault::Stale, times);
        let removed = process.coordination.remove(&[SnapshotId([1; 32])]);
        let left = Process::new(&bucket).snapshots();
        match removed {
            Ok(()) => assert_eq!(left, Vec::<u8>::new(), "{times}"),
            Err(error) => assert!(matches!(error, Error::NotFound { .. }) && left == [1], "{times}: {error:?}"),
        }
    }
    // One that another process removed is removed.
    let bucket = MemoryBucket::new();
    let process = Process::new(&bucket);
    process.add(1, &[1], &[1]).unwrap();
    process.coordination.remove(&[SnapshotId([1; 32])]).unwrap();
    Process::new(&bucket).coordination.remove(&[SnapshotId([1; 32])]).unwrap();
}
