//! Does gc on a bucket ever delete what a snapshot needs? Every order of steps in a small world is tried.
//!
//! The protocol, the argument for it and the table of mistakes are in `docs/protocol.md`. The world: two chunks, two packs
//! to begin with (`P0` has both chunks, `P1` the second one), writers that add, remove, rewrite or merge, and any number
//! of gcs, of which two make copies.
//!
//! How faults are modelled:
//!
//! - A process that is killed, or suspended for ever, takes no further step; one that is suspended takes its next step later.
//!   So both are in the search without a step of their own.
//! - A **put if absent** that was sent lands at any later moment, once or never; landing is a step of the environment. The
//!   sender goes on only by what a GET of the key returns, so a lost answer is no state of its own. Where everything that
//!   the body was computed from is decided for good (`delete`, `done`, CLOSED, REVOKED), sending late and landing late are
//!   the same, and one step stands for both. The body of `condemned` may be any set of packs, so it may also be one that
//!   a gc computed long ago.
//! - A **plain put** of a pack is acknowledged before anything names the pack. A key exists if a put of it was
//!   acknowledged and no delete of it was ever sent: from then on the delete may land at any moment, and twice, also after
//!   a duplicate of the put. A pack that was put, but not acknowledged, can be listed and condemned: so it counts as put.
//! - A **listing** is stale as it likes: a writer relies on any of the segments that it may see, or on none; gc
//!   condemns any set of packs ([`Lists`]).
//! - A **GET** of `condemned`, `delete` or `done` may answer 404 for as long as it likes. Of `done` that only makes a
//!   writer careful. Of the others it stops a writer: it enters a generation only with the body of `condemned`, and where
//!   there is a `done` there is a `delete`. Readers see the newest `done`; one that does not is careful for longer.

#![allow(clippy::indexing_slicing, reason = "indexes are numbers of actors, and a wrong one fails the test")]

mod collector;
mod mistakes;
mod tests;
mod world;
mod writer;

use mistakes::Mistake;
use world::{Kind, State, WRITERS};

use crate::model::{Model, Steps};

/// Which lists of condemned packs a gc may come up with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Lists {
    /// All packs but its own copy, all but one, or a single one.
    Few,
    /// Every set of packs.
    All,
}

/// Who is in the world, and how much may happen.
#[derive(Debug, Clone, Copy)]
struct Scenario {
    name: &'static str,
    mistake: Mistake,
    /// The initial snapshots, a bit each: the first needs chunk a, the second chunk b.
    snapshots: u8,
    writers: [Kind; WRITERS],
    /// Lanes in which leases are taken. With two, each writer keeps to one of its own.
    lanes: usize,
    /// The last generation that may begin.
    gens: usize,
    /// gcs that make a copy.
    copiers: usize,
    lists: Lists,
    /// A reader of this snapshot.
    reader: Option<usize>,
}

impl Model for Scenario {
    type State = State;

    fn beginnings(&self) -> Vec<State> {
        vec![State::begin()]
    }

    fn steps(&self, state: &State, steps: &mut Steps<State>) {
        self.writers_steps(state, steps);
        self.collectors_steps(state, steps);
        self.readers_steps(state, steps);
    }

    fn violation(&self, state: &State) -> Option<&'static str> {
        self.violated(state)
    }
}
