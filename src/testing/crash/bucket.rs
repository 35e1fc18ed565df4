//! A process that works on a bucket is killed after any of its changes; or what it sends is lost, late and repeated.
//!
//! What was acknowledged is there and whole then, and the same commands succeed. The counterpart of the power that is lost
//! over a folder: what a bucket acknowledged is durable, but what it did not acknowledge may still happen.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use super::SESSION;
use super::stage::{Due, NEXT, PACK_BYTES, Stage, Step, assert_whole, damages, settings};
use crate::engine::Store;
use crate::error::{Error, Result};
use crate::storage::bucket::{Bucket, BucketOptions, MemoryBucket};
use crate::storage::{Backend, CacheDirectory};
use crate::testing::bucket::{BucketFault, FaultyBucket};
use crate::testing::store::Place;

fn open(bucket: impl Bucket + 'static, revoke_after: Duration) -> Result<Store> {
    let backend = Backend::bucket(Arc::new(bucket), BucketOptions { revoke_after });
    let opened = match Store::open_with(backend.clone(), CacheDirectory::none()) {
        Err(Error::NotAStore { .. }) => Store::init_with(backend, CacheDirectory::none(), settings()),
        opened => opened,
    };
    Ok(opened?.with_pack_bytes(PACK_BYTES))
}

/// For a process that waits for the others: they are alive.
const PATIENT: Duration = Duration::from_secs(1 << 20);

/// Changes a byte of what is read of an object.
fn damage(bucket: &MemoryBucket, store: &Store) {
    let place = Place::Bucket(bucket.clone());
    for (name, at) in damages(store) {
        let path = PathBuf::from(store.storage().describe(&name).split_once('/').unwrap().1);
        let mut bytes = place.read(&path).unwrap();
        let at = if at < 0 { bytes.len() - at.unsigned_abs() as usize } else { at as usize };
        bytes[at] ^= 1;
        place.write(&path, &bytes);
    }
}

/// Does one step through a way to the bucket; says what is due from then on.
fn run(stage: &Stage, bucket: &MemoryBucket, way: &FaultyBucket, step: Step, due: &mut Due) -> Result<()> {
    if step == Step::Damage {
        damage(bucket, &open(bucket.clone(), PATIENT)?);
        due.damaged = true;
        return Ok(());
    }
    let store = open(way.clone(), PATIENT)?;
    match step {
        Step::Init => due.store = true,
        Step::Add(tree) => {
            let id = stage.add(&store, tree)?;
            due.snapshots.insert(id);
        }
        Step::Remove(tree) => {
            let ids = stage.snapshots_of(&store, tree);
            due.snapshots.retain(|id| !ids.contains(id));
            store.remove(&ids.iter().map(|id| id.to_hex()).collect::<Vec<_>>())?;
            due.gone.extend(ids);
        }
        Step::Repair => {
            stage.act(&store, step)?;
            due.damaged = false;
        }
        step => stage.act(&store, step)?,
    }
    Ok(())
}

/// Fails unless all that is due is there and whole, and the next commands succeed.
fn examine(stage: &Stage, bucket: &MemoryBucket, due: &Due, case: &str) {
    let folder = tempfile::tempdir().unwrap();
    let copies = folder.path().join("copies");
    let store = open(bucket.clone(), Duration::ZERO).unwrap_or_else(|e| panic!("{case}: {e:?}"));
    let act = |step| stage.act(&store, step).unwrap_or_else(|e| panic!("{case}: {step:?}: {e:?}"));
    if due.damaged {
        act(Step::Repair);
    }
    assert_whole(&store, case);
    stage.compare_all(&store, due, &copies, case);
    let next = stage.add(&store, NEXT).unwrap_or_else(|e| panic!("{case}: {e:?}"));
    act(Step::Collect);
    let mut due = due.clone();
    due.snapshots.insert(next);
    stage.compare_all(&store, &due, &copies, case);
    assert_whole(&store, case);
}

#[test]
fn killed_after_any_change_of_any_command_it_costs_no_acknowledged_snapshot() {
    let stage = Stage::new();
    let bucket = MemoryBucket::new();
    let mut due = Due::default();
    let (mut kills, mut leftovers) = (0, 0);
    for (number, step) in SESSION.iter().enumerate() {
        // An add makes many changes that are all of one kind.
        let stride = if matches!(step, Step::Add(_)) { 3 } else { 1 };
        for changes in (0..).step_by(stride) {
            let fork = bucket.fork();
            let way = FaultyBucket::killed_after(&fork, changes);
            let mut after = due.clone();
            let result = run(&stage, &fork, &way, *step, &mut after);
            let case = format!("step {number}, {step:?}, killed after {changes} changes");
            if result.is_ok() {
                // The change that it was killed at was of no consequence, or it was not killed.
                examine(&stage, &fork, &after, &case);
                break;
            }
            kills += 1;
            leftovers += usize::from(fork.contents().len() != bucket.contents().len());
            // What a step takes back is not sure from its beginning on; what it gives is not due before its end.
            let sure = Due { snapshots: &due.snapshots & &after.snapshots, damaged: after.damaged, ..due.clone() };
            examine(&stage, &fork, &sure, &case);
        }
        run(&stage, &bucket, &FaultyBucket::new(&bucket), *step, &mut due).unwrap();
    }
    examine(&stage, &bucket, &due, "nothing was killed");
    assert!(kills > 100 && leftovers > 60, "{kills} kills, {leftovers} with something done");
}

#[test]
fn whatever_is_lost_late_or_repeated_every_command_succeeds_and_nothing_is_lost() {
    let stage = Stage::new();
    let mut met = std::collections::BTreeMap::new();
    for seed in 0..6 {
        let bucket = MemoryBucket::new();
        let mut due = Due::default();
        let mut ways = Vec::new();
        for (number, step) in SESSION.iter().enumerate() {
            let way = FaultyBucket::seeded_consistent(&bucket, seed << 32 | number as u64, 120);
            run(&stage, &bucket, &way, *step, &mut due).unwrap_or_else(|e| panic!("seed {seed}, {step:?}: {e:?}"));
            ways.push(way);
        }
        // What is still on its way when all are gone.
        ways.iter().for_each(FaultyBucket::deliver);
        examine(&stage, &bucket, &due, &format!("seed {seed}"));
        for way in ways {
            way.met().into_iter().for_each(|(fault, times)| *met.entry(fault).or_insert(0) += times);
        }
    }
    let all = [BucketFault::Refused, BucketFault::AnswerLost, BucketFault::Late, BucketFault::Twice];
    assert!(all.iter().all(|fault| met.get(fault).is_some_and(|times| *times >= 6)), "{met:?}");
}
