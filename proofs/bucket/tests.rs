//! Without a mistake nothing is found; every mistake is found.

use super::world::Kind::{self, Absent, Add, Merge, Remove, Rewrite};
use super::{Lists, Mistake, Scenario};
use crate::model::{assert_finds, assert_holds};

const LOST: &str = "what a visible snapshot needs is deleted";
const UNFINDABLE: &str = "what a visible snapshot needs is in packs that nobody can find";
const VANISHED: &str = "an acknowledged snapshot is not visible";
const RETURNED: &str = "a removed snapshot is visible again";
const UNDEAD: &str = "a revoked add's snapshot is visible";
const FALSE_ALARM: &str = "a reader reports damage of a snapshot that is whole";
const LEAK: &str = "gc is done and its garbage is still there";

/// Chunk a is needed and chunk b is garbage when two writers come that want b; one gc after the other.
const ADDS: Scenario = Scenario {
    name: "two adds",
    mistake: Mistake::None,
    snapshots: 1,
    writers: [Add(2), Add(3), Absent],
    lanes: 1,
    gens: 2,
    copiers: 1,
    lists: Lists::Few,
    reader: None,
};

const fn with(name: &'static str, writers: [Kind; 3], of: Scenario) -> Scenario {
    Scenario { name, writers, ..of }
}

/// Two adds during one gc.
const ONE_GC: Scenario = Scenario { name: "two adds, one gc", gens: 1, ..ADDS };
/// One add during two gcs.
const ONE_ADD: Scenario = with("one add, two gcs", [Add(2), Absent, Absent], ADDS);
/// Two adds of the same chunk, and nothing else is needed.
const SAME: Scenario =
    Scenario { snapshots: 0, copiers: 0, ..with("two adds of one chunk", [Add(2), Add(2), Absent], ADDS) };
/// Chunk b is needed, and two gcs come one after the other.
const NO_ADD: Scenario = Scenario { snapshots: 2, ..with("two gcs", [Absent; 3], ADDS) };
/// Two gcs that copy at the same time.
const RIVALS: Scenario = Scenario { name: "rival gcs", copiers: 2, gens: 1, ..ONE_ADD };
/// Two adds in different lanes.
const LANES: Scenario = Scenario { name: "two lanes", lanes: 2, gens: 1, ..ADDS };
/// A snapshot is added in one lane and removed in another.
const REMOVAL: Scenario =
    Scenario { lanes: 2, copiers: 0, ..with("an add and its removal", [Add(2), Remove(2), Absent], ADDS) };
/// A snapshot is rewritten and removed.
const REWRITE: Scenario =
    Scenario { snapshots: 3, copiers: 0, ..with("a rewrite and a removal", [Rewrite(1), Remove(1), Absent], ADDS) };
/// A snapshot is merged into another and removed.
const MERGE: Scenario =
    Scenario { snapshots: 2, copiers: 0, ..with("a merge and a removal", [Merge(1), Remove(1), Absent], ADDS) };
/// A reader beside a removal and two gcs.
const READER: Scenario =
    Scenario { snapshots: 3, reader: Some(1), ..with("a reader and a removal", [Remove(1), Absent, Absent], ADDS) };
/// A reader of a snapshot that stays.
const READ: Scenario = Scenario { reader: Some(0), copiers: 2, ..with("a reader", [Absent; 3], ADDS) };

#[test]
fn no_order_of_steps_on_a_bucket_loses_what_a_snapshot_needs() {
    let all = [ONE_GC, ONE_ADD, NO_ADD, SAME, RIVALS, LANES, REMOVAL, REWRITE, MERGE, READER, READ];
    let states: usize = all.iter().map(|scenario| assert_holds(scenario.name, scenario)).sum();
    assert!(states > 1_000_000, "only {states} states");
}

#[test]
fn every_mistake_on_a_bucket_is_found() {
    use Mistake::*;
    let mistakes: [(Mistake, Scenario, &str); _] = [
        (LeaseExpires, ONE_GC, LOST),
        (SlotGap, ONE_GC, LOST),
        (JumpAhead, ONE_GC, LOST),
        (BeatOnLeaseKey, ONE_GC, LOST),
        (NoClose, ONE_GC, LOST),
        (OneLane, LANES, LOST),
        (SnapshotIsTheCommit, ONE_GC, LOST),
        (CommitOverwrites, ONE_GC, UNDEAD),
        (GiveUpDeletes, ONE_GC, LOST),
        (ForeignSegmentUnnamed, SAME, UNFINDABLE),
        (StaleCondemned, ONE_GC, LOST),
        (StaleDelete, ONE_GC, LOST),
        (LateSegment, SAME, LOST),
        (CacheTrusted, ONE_GC, LOST),
        (MergeTrusts, MERGE, LOST),
        (ContentNames, ONE_GC, LOST),
        (KeptName, NO_ADD, LOST),
        (OwnCondemned, RIVALS, LOST),
        (OwnDelete, ONE_GC, LOST),
        (NoSecondMark, ONE_GC, LOST),
        (ListedEnds, ONE_GC, LOST),
        (ListedLedger, ONE_GC, VANISHED),
        (TrustsUnnamedCopies, ONE_GC, UNFINDABLE),
        (ReusesCopy, NO_ADD, LOST),
        (ForgetsDeletes, NO_ADD, LOST),
        (CondemnsBeforeDone, NO_ADD, LOST),
        (DoneBeforeDeletes, ONE_ADD, LEAK),
        (RemovalDeletes, REMOVAL, LOST),
        (RemovalsIgnored, REMOVAL, RETURNED),
        (RemovesYounger, REMOVAL, RETURNED),
        (ReaderGivesUp, READ, FALSE_ALARM),
        (ReaderLoadsOnlyDone, READ, FALSE_ALARM),
    ];
    for (mistake, scenario, what) in mistakes {
        assert_finds(mistake, &Scenario { mistake, ..scenario }, what);
    }
}

/// The long sweep: what is left out above, and every list that a gc could condemn.
#[test]
#[ignore = "takes gigabytes and minutes"]
fn no_order_of_steps_on_a_bucket_does_in_larger_worlds() {
    let all = Lists::All;
    for scenario in [
        Scenario { lists: all, ..ONE_ADD },
        Scenario { lists: all, ..ONE_GC },
        Scenario { lists: all, name: "two rival gcs, one add, two gens", copiers: 2, ..ONE_ADD },
        Scenario { name: "a merge and a removal with copies", copiers: 1, lists: all, snapshots: 3, ..MERGE },
        Scenario { name: "two lanes, two gcs", gens: 2, copiers: 0, ..LANES },
        ADDS,
        Scenario { name: "two lanes, two gcs, a copy", gens: 2, ..LANES },
        Scenario { name: "three adds", gens: 1, copiers: 0, writers: [Add(2), Add(3), Add(1)], ..ADDS },
        Scenario { name: "three adds of one chunk, two gcs", writers: [Add(2); 3], ..SAME },
        Scenario { name: "rivals and two adds", gens: 1, copiers: 2, ..ADDS },
    ] {
        assert_holds(scenario.name, &scenario);
    }
}
