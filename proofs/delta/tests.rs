//! Without a mistake nothing is found; every mistake is found.

use super::{Mistake, Scenario, frame, full};
use crate::model::{assert_finds, assert_holds};

const UNREADABLE: &str = "a chunk that a snapshot needs cannot be read";
const DANGLING: &str = "a delta frame that is kept has lost its base";

const A: u8 = 0;
const B: u8 = 1;
const C: u8 = 2;

/// Chunk b is a delta on a, which no snapshot reaches by itself.
const PINNED: Scenario = Scenario {
    name: "a base that only a delta needs",
    mistake: Mistake::None,
    packs: [full(A), frame(B, A), 0],
    initial: 2,
    wants: [2, 4],
    gcs: 1,
    lavish: false,
};
/// A pack is kept for c; the delta frame of b in it is reached by nobody until an add comes that wants b.
const UNREACHED: Scenario = Scenario {
    name: "a delta that nobody reaches yet",
    packs: [full(A), frame(B, A) | full(C), 0],
    initial: 4,
    wants: [2, 3],
    ..PINNED
};
/// Two copies of a and of b, each a delta on the other's full frame.
const CROSSED: Scenario = Scenario {
    name: "two copies on each other",
    packs: [full(A), full(B), frame(A, B) | frame(B, A)],
    initial: 3,
    wants: [4, 0],
    ..PINNED
};
/// Chunk b has a delta frame on a and a full frame elsewhere.
const TWICE: Scenario = Scenario {
    name: "a delta frame and a full copy",
    packs: [full(A), frame(B, A) | full(C), full(B)],
    initial: 6,
    wants: [1, 0],
    ..PINNED
};
/// Nothing but full frames yet; the adds bring deltas.
const FRESH: Scenario =
    Scenario { name: "adds that bring deltas", packs: [full(A), full(B), 0], initial: 1, wants: [4, 4], ..PINNED };

#[test]
fn no_order_of_steps_parts_a_delta_frame_from_its_base() {
    let two_gcs = [PINNED, UNREACHED, FRESH].map(|of| Scenario { wants: [of.wants[0], 0], gcs: 2, ..of });
    let all = [PINNED, UNREACHED, CROSSED, TWICE, FRESH].into_iter().chain(two_gcs);
    let states: usize = all.map(|scenario| assert_holds(scenario.name, &scenario)).sum();
    assert!(states > 500_000, "only {states} states");
}

#[test]
fn every_mistake_with_delta_frames_is_found() {
    use Mistake::*;
    let mistakes: [(Mistake, Scenario, &str); _] = [
        (NoPins, PINNED, UNREADABLE),
        (PinsOnlyReached, UNREACHED, DANGLING),
        (BaseKeptAsDelta, CROSSED, DANGLING),
        (FullCopyUnpins, TWICE, DANGLING),
        (CopiesDeltaAsItIs, PINNED, UNREADABLE),
        (SecondMarkWithoutPins, FRESH, DANGLING),
        (SparesWithoutPins, PINNED, UNREADABLE),
        (FirstMarkReused, FRESH, DANGLING),
        (BaseNamedByPack, PINNED, UNREADABLE),
        (CondemnedBase, FRESH, DANGLING),
        (DeltaOnDelta, PINNED, DANGLING),
        (StaleIndex, FRESH, DANGLING),
    ];
    for (mistake, scenario, what) in mistakes {
        assert_finds(mistake, &Scenario { mistake, ..scenario }, what);
    }
}

/// The long sweep: a gc that copies and spares whatever it likes, and two adds beside two gcs.
#[test]
#[ignore = "takes gigabytes and minutes"]
fn no_order_of_steps_in_larger_worlds_parts_a_delta_frame_from_its_base() {
    let lavish = [TWICE, UNREACHED, PINNED, CROSSED].map(|of| Scenario { lavish: true, ..of });
    let two_gcs = [UNREACHED, PINNED, CROSSED].map(|of| Scenario { gcs: 2, ..of });
    for scenario in lavish.into_iter().chain(two_gcs) {
        assert_holds(scenario.name, &scenario);
    }
}
