//! Does gc ever delete what a snapshot needs? Every interleaving of a small world is tried.
//!
//! The world: two chunks, packs named by what is in them (and a filler), two snapshots to begin with, two adds, `rm` of
//! any snapshot at any time, gcs that run one after another, on a disk that may be full at any time. Any process dies between any two steps; the power fails,
//! and with it goes what was not synced. The steps are those of `src/engine/ops/gc/mod.rs`, A1 to A6 and G1 to G5.
//!
//! Shown, for every state that can be reached: each chunk of each snapshot that is there is in a pack that is there
//! (invariant 3). And wherever everybody has ended, one more gc leaves no record, and no chunk that nobody needs.
//!
//! Recipes files are to recipes what packs are to chunks, and go through the same steps; they are not modelled apart.
//!
//! A model that finds nothing proves little unless it can find something: each of the mistakes below is built in, in
//! turn, and must be found.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use crate::model::{Model, Steps, assert_finds, assert_holds};

/// A set of packs: bit n is the pack named n. The low two bits of a name are its chunks, the others its filler.
type Packs = u16;
/// A set of chunks.
type Chunks = u8;

const ADDS: usize = 2;
const SLOTS: usize = 2 + ADDS;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mistake {
    None,
    /// An add reads the record first and takes its lease then.
    LeaseAfterRecord,
    /// An add lists the packs before it reads the record.
    ListBeforeRecord,
    /// An add gives a new pack the name its contents make, condemned or not.
    CondemnedName,
    /// An add takes over rows of its parent whatever is condemned.
    TrustParent,
    /// An add's lease ends before its snapshot is there.
    LeaseEndsEarly,
    /// gc looks for leases before it writes the record.
    LeasesBeforeRecord,
    /// gc does not wait.
    NoWait,
    /// gc does not ask the snapshots again.
    NoSecondMark,
    /// gc removes the record before it has deleted what it lists.
    RecordGoesFirst,
    /// gc that finds the record of another does not wait.
    ResumeWithoutWait,
    /// gc that finds the record of another does not ask the snapshots.
    ResumeWithoutMark,
    /// gc does not make the absence of snapshots durable.
    NoSettle,
    /// gc condemns packs that are partly needed and copies nothing.
    NoCopy,
    /// Two gcs at once.
    NoLock,
    /// gc that cannot announce what it deletes does not look whether an add is at work.
    AloneBesideAdds,
    /// An add begins although a gc deletes what it could not announce.
    AddsBesideAlone,
    /// gc that cannot announce what it deletes does not ask the snapshots again.
    AloneWithoutMark,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
struct Add {
    step: u8,
    lease: bool,
    want: Chunks,
    condemned: Packs,
    seen: Packs,
    missing: Chunks,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
struct Gc {
    step: u8,
    resumed: bool,
    list: Packs,
    condemned: Packs,
    copies: Packs,
    /// Snapshots that were marked.
    asked: u8,
    /// Adds whose lease was found.
    waits: u8,
    doomed: Packs,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct State {
    packs: Packs,
    /// Snapshots that are there; the first two from the beginning, then one for each add.
    present: u8,
    /// Snapshots that were removed, but would be back after a power failure.
    back: u8,
    record: Packs,
    /// A record that was removed, but would be back.
    record_back: Packs,
    adds: [Add; ADDS],
    gcs: [Gc; 2],
    gcs_left: u8,
    failures_left: u8,
}

const IDLE: u8 = 0;
const ENDED: u8 = 9;
/// The first step of a gc that has no room for a record and keeps adds from beginning instead.
const ALONE: u8 = 12;

fn chunks_of(packs: Packs) -> Chunks {
    (0..16).filter(|name| packs >> name & 1 == 1).fold(0, |all, name| all | (name & 3) as Chunks)
}

/// The name for a pack of these chunks that is not among the condemned.
fn name_for(chunks: Chunks, condemned: Packs) -> Option<u16> {
    (0..4).map(|filler| u16::from(chunks) | filler << 2).find(|name| condemned >> name & 1 == 0)
}

/// What each pack is home to: as `assign.rs` does it.
fn homes(packs: Packs, reached: Chunks, last: Packs) -> [Chunks; 16] {
    let mut order: Vec<u16> = (0..16).filter(|name| packs >> name & 1 == 1).collect();
    order.sort_by_key(|name| {
        let chunks = (name & 3) as Chunks;
        let waste = (chunks & !reached).count_ones() * 2 / chunks.count_ones().max(1);
        (last >> name & 1, waste, *name)
    });
    let (mut homes, mut rest) = ([0; 16], reached);
    for name in order {
        homes[name as usize] = rest & (name & 3) as Chunks;
        rest &= !(name & 3) as Chunks;
    }
    homes
}

impl State {
    fn set_of(&self, slot: usize) -> Chunks {
        // The first snapshot has both chunks, the second the first one.
        [3, 1].get(slot).copied().unwrap_or_else(|| self.adds[slot - 2].want)
    }

    fn reached(&self) -> Chunks {
        (0..SLOTS).filter(|slot| self.present >> slot & 1 == 1).fold(0, |all, slot| all | self.set_of(slot))
    }

    fn is_alone(&self) -> bool {
        self.gcs.iter().any(|gc| gc.step >= ALONE)
    }

    /// What a gc deletes that condemned this, having marked if it must.
    fn doomed(&self, gc: Gc, holds: bool) -> Packs {
        if holds || (!gc.resumed && self.present & !gc.asked == 0) {
            return gc.condemned;
        }
        let homes = homes(self.packs, self.reached(), gc.condemned);
        (0..16).filter(|name| homes[*name] == 0).fold(0, |all, name| all | 1 << name) & gc.condemned
    }

    fn is_whole(&self) -> bool {
        self.reached() & !chunks_of(self.packs) == 0
    }

    /// All states that are one step away, each with what happened.
    fn next(&self, mistake: Mistake) -> Vec<(&'static str, State)> {
        let mut next = Vec::new();
        for add in 0..ADDS {
            self.step_add(add, mistake, &mut next);
        }
        for gc in 0..if mistake == Mistake::NoLock { 2 } else { 1 } {
            self.step_gc(gc, mistake, &mut next);
        }
        for slot in 0..SLOTS {
            let bit = 1 << slot;
            if self.present & bit != 0 {
                next.push(("rm", State { present: self.present & !bit, back: self.back | bit, ..*self }));
            }
            if self.back & bit != 0 {
                next.push(("rm is durable", State { back: self.back & !bit, ..*self }));
            }
        }
        if self.failures_left > 0 {
            for returning in (0..16).filter(|slots| slots & !self.back == 0) {
                for record in [self.record, self.record | self.record_back] {
                    let mut state = State {
                        present: self.present | returning,
                        back: 0,
                        record,
                        record_back: 0,
                        gcs: Default::default(),
                        failures_left: self.failures_left - 1,
                        ..*self
                    };
                    for add in state.adds.iter_mut().filter(|add| add.step != IDLE) {
                        *add = Add { step: ENDED, want: add.want, ..Add::default() };
                    }
                    next.push(("power failure", state));
                }
            }
        }
        next
    }

    fn step_add(&self, index: usize, mistake: Mistake, next: &mut Vec<(&'static str, State)>) {
        let add = self.adds[index];
        let mut push = |what, after: Add, change: &dyn Fn(&mut State)| {
            let mut state = *self;
            state.adds[index] = after;
            change(&mut state);
            next.push((what, state));
        };
        let same = &|_: &mut State| {};
        let lease = |step| Add { step, lease: true, ..add };
        let read = |step| Add { step, condemned: self.record, ..add };
        let list = |step| Add { step, seen: self.packs, ..add };
        match (add.step, mistake) {
            // It waits for the lock of store.json.
            (IDLE, _) if self.is_alone() && mistake != Mistake::AddsBesideAlone => {}
            (IDLE, Mistake::LeaseAfterRecord) => push("add reads the record", read(1), same),
            (1, Mistake::LeaseAfterRecord) => push("add takes a lease", lease(2), same),
            (1, Mistake::ListBeforeRecord) => push("add lists packs", list(2), same),
            (2, Mistake::ListBeforeRecord) => push("add reads the record", read(3), same),
            (IDLE, _) => push("add takes a lease", lease(1), same),
            (1, _) => push("add reads the record", read(2), same),
            (2, _) => push("add lists packs", list(3), same),
            (3, _) => {
                let known = chunks_of(add.seen & !add.condemned);
                let parents = (0..SLOTS).filter(|slot| self.present >> slot & 1 == 1).map(|slot| self.set_of(slot));
                // A parent's row is taken over only if what it needs is known: then it makes no difference.
                let trusted = parents.filter(|_| mistake == Mistake::TrustParent);
                for rows in trusted.chain([0]) {
                    push("add reads", Add { step: 4, missing: add.want & !known & !rows, ..add }, same);
                }
            }
            (4, _) if add.missing == 0 => push("add has all", Add { step: 5, ..add }, same),
            (4, _) => {
                let condemned = if mistake == Mistake::CondemnedName { 0 } else { add.condemned };
                if let Some(name) = name_for(add.missing, condemned) {
                    push("add writes a pack", Add { step: 5, ..add }, &|state| state.packs |= 1 << name);
                }
            }
            (5, Mistake::LeaseEndsEarly) if add.lease => push("lease ends", Add { lease: false, ..add }, same),
            (5, _) => push("add commits", Add { step: 6, ..add }, &|state| state.present |= 1 << (2 + index)),
            (6, _) => push("add ends", Add { step: ENDED, want: add.want, ..Add::default() }, same),
            _ => {}
        }
        if !matches!(add.step, IDLE | ENDED) {
            push("add dies", Add { step: ENDED, want: add.want, ..Add::default() }, same);
        }
    }

    fn step_gc(&self, index: usize, mistake: Mistake, next: &mut Vec<(&'static str, State)>) {
        let gc = self.gcs[index];
        let mut push = |what, after: Gc, change: &dyn Fn(&mut State)| {
            let mut state = *self;
            state.gcs[index] = after;
            change(&mut state);
            next.push((what, state));
        };
        let same = &|_: &mut State| {};
        let leases = (0..ADDS).filter(|add| self.adds[*add].lease).fold(0, |all, add| all | 1 << add);
        match gc.step {
            IDLE if self.gcs_left > 0 => {
                let begun = &|state: &mut State| state.gcs_left -= 1;
                if self.record == 0 {
                    push("gc begins", Gc { step: 1, ..Gc::default() }, begun);
                } else {
                    let step = if mistake == Mistake::ResumeWithoutWait { 7 } else { 5 };
                    let found = Gc { step, resumed: true, condemned: self.record, ..Gc::default() };
                    push("gc finds a record", found, begun);
                }
            }
            1 => push("gc lists packs", Gc { step: 2, list: self.packs, ..gc }, same),
            2 => {
                let homes = homes(gc.list, self.reached(), 0);
                let mut marked = Gc { step: 3, asked: self.present, ..gc };
                for name in (0..16).filter(|name| gc.list >> name & 1 == 1) {
                    let home = homes[name as usize];
                    if home != (name & 3) as Chunks {
                        marked.condemned |= 1 << name;
                    }
                    if home != 0 && marked.condemned >> name & 1 == 1 && mistake != Mistake::NoCopy {
                        marked.copies |= 1 << home;
                    }
                }
                // No copy is given the name of what is to go.
                for home in 1..4 {
                    if (marked.copies & marked.condemned) >> home & 1 == 1 {
                        return;
                    }
                }
                match marked.condemned {
                    0 => push("gc finds nothing", Gc::default(), same),
                    _ => push("gc marks", marked, same),
                }
            }
            3 => {
                push("gc copies", Gc { step: 4, ..gc }, &|state| state.packs |= gc.copies);
                let homes = homes(gc.list, self.reached(), 0);
                let dead = (0..16).filter(|name| homes[*name] == 0).fold(0, |all, name| all | 1 << name);
                if self.present == gc.asked && gc.copies != 0 {
                    match dead & gc.condemned {
                        0 => push("gc has no room for copies", Gc::default(), same),
                        condemned => {
                            push("gc has no room for copies", Gc { step: 4, condemned, copies: 0, ..gc }, same)
                        }
                    }
                }
            }
            4 => {
                let waits = if mistake == Mistake::LeasesBeforeRecord { gc.waits } else { 0 };
                if mistake == Mistake::LeasesBeforeRecord && !gc.resumed {
                    push("gc lists leases", Gc { waits: leases, resumed: true, ..gc }, same);
                    return;
                }
                let resumed = gc.resumed && mistake != Mistake::LeasesBeforeRecord;
                let step = if mistake == Mistake::LeasesBeforeRecord { 6 } else { 5 };
                push("gc writes the record", Gc { step, waits, resumed, ..gc }, &|state| state.record = gc.condemned);
                // There is no room for the record: once it holds the lock that every add shares, it needs none.
                if leases == 0 || mistake == Mistake::AloneBesideAdds {
                    push("gc is alone", Gc { step: ALONE, ..gc }, same);
                }
            }
            5 => {
                let waits = if mistake == Mistake::NoWait { 0 } else { leases };
                push("gc lists leases", Gc { step: 6, waits, ..gc }, same);
            }
            6 if leases & gc.waits == 0 => push("gc has waited", Gc { step: 7, waits: 0, ..gc }, same),
            7 => {
                let holds = match mistake {
                    Mistake::NoSecondMark => !gc.resumed,
                    Mistake::ResumeWithoutMark => gc.resumed,
                    _ => false,
                };
                let doomed = self.doomed(gc, holds);
                push("gc asks the snapshots", Gc { step: 8, doomed, ..gc }, same);
            }
            8 => push("gc settles", Gc { step: 10, ..gc }, &|state| {
                if mistake != Mistake::NoSettle {
                    state.back = 0;
                }
                if mistake == Mistake::RecordGoesFirst {
                    state.record = 0;
                }
            }),
            10 if gc.doomed & self.packs != 0 => {
                for name in (0..16).filter(|name| (gc.doomed & self.packs) >> name & 1 == 1) {
                    push("gc deletes", gc, &|state| state.packs &= !(1 << name));
                }
            }
            10 => push("gc removes the record", Gc { step: 11, ..gc }, &|state| {
                state.record_back = state.record;
                state.record = 0;
            }),
            11 => push("gc ends", Gc::default(), &|state| state.record_back = 0),
            ALONE => {
                let doomed = self.doomed(gc, mistake == Mistake::AloneWithoutMark);
                push("gc asks the snapshots alone", Gc { step: 13, doomed, ..gc }, same);
            }
            13 => push("gc settles alone", Gc { step: 14, ..gc }, &|state| {
                if mistake != Mistake::NoSettle {
                    state.back = 0;
                }
            }),
            14 if gc.doomed & self.packs != 0 => {
                for name in (0..16).filter(|name| (gc.doomed & self.packs) >> name & 1 == 1) {
                    push("gc deletes alone", gc, &|state| state.packs &= !(1 << name));
                }
            }
            14 => push("gc ends", Gc::default(), same),
            _ => {}
        }
        if gc.step != IDLE {
            push("gc dies", Gc::default(), same);
        }
    }

    /// Lets one gc run alone from here.
    fn collected(mut self) -> State {
        self.gcs_left = 2;
        for _ in 0..2 {
            loop {
                let mut steps = Vec::new();
                self.step_gc(0, Mistake::None, &mut steps);
                let (what, state) = steps[0];
                self = state;
                if matches!(what, "gc ends" | "gc finds nothing") {
                    break;
                }
            }
        }
        self
    }
}

/// How much may happen, and what is done wrong.
#[derive(Debug, Clone, Copy)]
struct Bounds {
    mistake: Mistake,
    adds: usize,
    gcs: u8,
    failures: u8,
}

impl Model for Bounds {
    type State = State;

    /// Every beginning: what the adds want.
    fn beginnings(&self) -> Vec<State> {
        let wants = [[1, 3], [2, 3], [3, 3], [2, 1]];
        let begin = |wants: [Chunks; ADDS]| {
            let mut adds = wants.map(|want| Add { want, ..Add::default() });
            adds[self.adds..].iter_mut().for_each(|add| add.step = ENDED);
            let (packs, present, gcs) = (1 << 3, 3, Default::default());
            let (gcs_left, failures_left) = (self.gcs, self.failures);
            State { packs, present, back: 0, record: 0, record_back: 0, adds, gcs, gcs_left, failures_left }
        };
        wants.map(begin).to_vec()
    }

    fn steps(&self, state: &State, steps: &mut Steps<State>) {
        for (what, next) in state.next(self.mistake) {
            steps.push(next, || what.to_owned());
        }
    }

    fn violation(&self, state: &State) -> Option<&'static str> {
        if !state.is_whole() {
            return Some("a snapshot is not whole");
        }
        let is_still = state.gcs[0].step == IDLE && state.adds.iter().all(|add| matches!(add.step, IDLE | ENDED));
        let is_left = is_still && self.mistake == Mistake::None && !is_clean(&state.collected());
        is_left.then_some("another gc leaves garbage or a record")
    }
}

/// Whether nothing is left that nobody needs.
fn is_clean(state: &State) -> bool {
    let homes = homes(state.packs, state.reached(), 0);
    let is_home = |name: &u16| homes[*name as usize] == (name & 3) as Chunks;
    state.is_whole()
        && state.record == 0
        && (0..16).filter(|name| state.packs >> name & 1 == 1).all(|name| is_home(&name))
}

#[test]
fn no_interleaving_loses_what_a_snapshot_needs() {
    for (adds, gcs, failures, at_least) in [(2, 1, 1, 500_000), (1, 2, 1, 100_000)] {
        let bounds = Bounds { mistake: Mistake::None, adds, gcs, failures };
        let states = assert_holds(&format!("adds and gc in a folder: {bounds:?}"), &bounds);
        assert!(states > at_least, "only {states} states");
    }
}

#[test]
#[ignore = "takes a gigabyte and, without optimisation, some minutes"]
fn no_interleaving_of_all_of_it_does() {
    let bounds = Bounds { mistake: Mistake::None, adds: 2, gcs: 2, failures: 1 };
    assert!(assert_holds("two adds and two gcs in a folder", &bounds) > 4_000_000);
}

#[test]
fn every_mistake_is_found() {
    use Mistake::*;
    let one_gc = [LeaseAfterRecord, ListBeforeRecord, CondemnedName, TrustParent, LeaseEndsEarly, LeasesBeforeRecord];
    let one_gc = one_gc.into_iter().chain([NoWait, NoSecondMark, RecordGoesFirst, NoSettle, NoCopy]);
    let one_gc = one_gc.chain([AloneBesideAdds, AddsBesideAlone, AloneWithoutMark]);
    let one_gc = one_gc.map(|mistake| Bounds { mistake, adds: 2, gcs: 1, failures: 1 });
    let two_gcs = [ResumeWithoutWait, ResumeWithoutMark, NoLock];
    let two_gcs = two_gcs.map(|mistake| Bounds { mistake, adds: 1, gcs: 2, failures: 1 });
    for bounds in one_gc.chain(two_gcs) {
        assert_finds(bounds.mistake, &bounds, "a snapshot is not whole");
    }
}
