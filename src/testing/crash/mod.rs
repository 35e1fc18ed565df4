//! Whenever the power goes or a process is killed: is every acknowledged snapshot whole, and does work go on?
//!
//! A session of operations runs over a disk that records them ([`recording`]). For every prefix of the record the disk
//! is made as it may be after a loss of power there ([`replay`]): with all that was not synced, without any of it, and
//! with parts of it by seeds. Each such disk is opened as a store and examined ([`stage::examine`]). Invariants 1, 2, 3,
//! 6 and 7.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

mod bucket;
mod bundles;
mod failing;
mod recording;
mod replay;
mod stage;

use std::collections::HashSet;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::random::TestRng;
use recording::{Operation, RecordingDisk};
use replay::{Image, Unsynced};

use stage::{Due, Promise, Stage, Step};

/// What was tried.
#[derive(Debug, Default)]
struct Counts {
    operations: usize,
    prefixes: usize,
    /// Disks after a loss of power; `distinct` of them differ and were opened.
    disks: usize,
    distinct: usize,
    /// Disks on which a part of what was not synced was kept.
    subsets: usize,
    /// Effects that were not synced, over all of these.
    at_risk: usize,
    /// Snapshots that were acknowledged and compared byte by byte, over all disks that were opened.
    snapshots: usize,
}

/// Loses power after every prefix in `prefixes`, in a number of ways beside all and nothing.
fn lose_power(
    stage: &Stage,
    operations: &[Operation],
    promises: &[Promise],
    prefixes: &[usize],
    subsets: u64,
    seed: u64,
) -> Counts {
    let mut cases: Vec<(usize, Unsynced)> = Vec::new();
    for &prefix in prefixes {
        cases.extend([(prefix, Unsynced::Kept), (prefix, Unsynced::Lost)]);
        let mut random = TestRng(seed ^ prefix as u64);
        cases.extend((0..subsets).map(|_| (prefix, Unsynced::Some(random.below(u64::MAX)))));
    }
    let next = AtomicUsize::new(0);
    let (seen, counts) = (Mutex::new(HashSet::new()), Mutex::new(Counts::default()));
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                while let Some((prefix, unsynced)) = cases.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let (image, at_risk) = Image::after(&operations[..*prefix], *unsynced);
                    let due = Due::after(promises, *prefix);
                    let is_new = seen.lock().unwrap().insert((image.digest(), due.clone()));
                    {
                        let mut counts = counts.lock().unwrap();
                        counts.disks += 1;
                        counts.distinct += usize::from(is_new);
                        counts.subsets += usize::from(matches!(unsynced, Unsynced::Some(_)));
                        counts.at_risk += at_risk;
                        counts.snapshots += if is_new { due.snapshots.len() } else { 0 };
                    }
                    if is_new {
                        let last = operations[..*prefix].last().map_or("nothing", |operation| operation.what.as_str());
                        let case = format!("{prefix} operations, the last: {last}; {unsynced:?}");
                        stage::examine(stage, &image, &due, &case);
                    }
                }
            });
        }
    });
    let counts = counts.into_inner().unwrap();
    Counts { operations: operations.len(), prefixes: prefixes.len(), ..counts }
}

#[expect(clippy::print_stderr, reason = "tests report to the person who runs them")]
fn report(name: &str, counts: &Counts) {
    eprintln!("{name}: {counts:?}");
}

/// Everything that changes a store, one after the other.
const SESSION: &[Step] = &[
    Step::Init,
    Step::Add(0),
    Step::Add(1),
    Step::RebuildIndex,
    Step::Add(2),
    Step::Remove(0),
    Step::Announce,
    // The tree whose packs are pending deletion.
    Step::Add(0),
    Step::Collect,
    Step::Remove(1),
    Step::Collect,
    Step::Damage,
    Step::Repair,
    Step::Add(1),
];

fn power_lost_at_any_moment(subsets: u64, seed: u64) -> Counts {
    let stage = Stage::new();
    let disk = RecordingDisk::new(&stage.recorded());
    let mut promises = Vec::new();
    stage.play(&disk, SESSION, &mut promises);
    let operations = disk.operations();
    let count = |what: &str| operations.iter().filter(|operation| operation.what.starts_with(what)).count();
    for (what, least) in [
        ("remove store/packs/", 3),
        ("remove store/recipes/", 3),
        ("remove store/snapshots/", 2),
        ("remove store/condemned/", 2),
        ("remove store/leases/", 5),
        ("rename to store/condemned/", 2),
        ("link store/quarantine/", 4),
        ("replace store/packs/", 2),
    ] {
        assert!(count(what) >= least, "{what}: {} times", count(what));
    }
    let prefixes: Vec<usize> = (0..=operations.len()).collect();
    lose_power(&stage, &operations, &promises, &prefixes, subsets, seed)
}

#[test]
fn power_lost_at_any_moment_costs_no_acknowledged_snapshot() {
    let counts = power_lost_at_any_moment(1, 1);
    report("power lost at any moment", &counts);
    assert!(counts.operations > 350 && counts.prefixes == counts.operations + 1, "{counts:?}");
    assert!(counts.subsets == counts.prefixes && counts.distinct > counts.prefixes, "{counts:?}");
}

#[test]
#[ignore = "takes minutes: the same, many more times"]
fn power_lost_at_any_moment_many_times() {
    report("power lost at any moment, many times", &power_lost_at_any_moment(24, 2));
}

/// `first` is killed after each of its operations in turn, or each `stride`-th; then `second` runs on the same system;
/// then the power goes, and with it what was not synced. What the second found and relied on may have had a name, but
/// not for good.
fn killed_then_power_lost(before: &[Step], first: Step, second: &[Step], subsets: u64, stride: usize) -> Counts {
    let mut all = Counts::default();
    for moment in (0..).step_by(stride) {
        let stage = Stage::new();
        let disk = RecordingDisk::new(&stage.recorded());
        let mut promises = Vec::new();
        stage.play(&disk, before, &mut promises);
        disk.kill_after(moment);
        // Most of the time it fails. One that succeeds though it was killed did not come to write its index.
        let _ = stage.run(&disk, first, &mut promises);
        let was_killed = disk.restart();
        stage.play(&disk, second, &mut promises);
        let operations = disk.operations();
        let counts = lose_power(&stage, &operations, &promises, &[operations.len()], subsets, moment as u64);
        all.operations += counts.operations;
        all.prefixes += counts.prefixes;
        all.disks += counts.disks;
        all.distinct += counts.distinct;
        all.subsets += counts.subsets;
        all.at_risk += counts.at_risk;
        all.snapshots += counts.snapshots;
        if !was_killed {
            break;
        }
    }
    all
}

#[test]
fn what_a_killed_add_left_is_durable_before_another_relies_on_it() {
    // The second adds what the first was adding.
    let counts = killed_then_power_lost(&[Step::Init, Step::Add(0)], Step::Add(1), &[Step::Add(1)], 1, 1);
    report("an add killed, another, power lost", &counts);
    assert!(counts.prefixes > 30, "{counts:?}");
}

#[test]
fn what_a_killed_init_left_is_durable_before_an_add_relies_on_it() {
    let counts = killed_then_power_lost(&[], Step::Init, &[Step::Init, Step::Add(0)], 1, 1);
    report("an init killed, an add, power lost", &counts);
    assert!(counts.prefixes > 8, "{counts:?}");
}

#[test]
fn a_snapshot_whose_removal_was_cut_short_does_not_come_back_without_its_packs() {
    // The name is gone, but not for good, when a gc looks.
    let before = [Step::Init, Step::Add(0), Step::Add(1)];
    let counts = killed_then_power_lost(&before, Step::Remove(0), &[Step::Collect], 8, 1);
    report("an rm killed, a gc, power lost", &counts);
    assert!(counts.prefixes >= 3, "{counts:?}");
}

#[test]
fn what_a_killed_gc_left_keeps_no_add_from_lasting() {
    let before = [Step::Init, Step::Add(0), Step::Add(1), Step::Remove(0)];
    let counts = killed_then_power_lost(&before, Step::Collect, &[Step::Add(0), Step::Collect], 1, 1);
    report("a gc killed, an add, a gc, power lost", &counts);
    assert!(counts.prefixes > 30, "{counts:?}");
}

#[test]
fn what_a_killed_repair_left_is_durable_before_another_goes_on() {
    let before = [Step::Init, Step::Add(0), Step::Add(1), Step::Damage];
    let counts = killed_then_power_lost(&before, Step::Repair, &[Step::Repair], 1, 1);
    report("a repair killed, another, power lost", &counts);
    assert!(counts.prefixes > 30, "{counts:?}");
}
