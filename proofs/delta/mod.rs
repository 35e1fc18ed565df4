//! Does gc keep every delta frame readable that it keeps at all? Every order of steps in a small world is tried.
//!
//! The rules, the argument for them and the table of mistakes are in `docs/protocol.md`. The world: three chunks; a frame
//! has one chunk and is full, or a delta that needs another chunk as its base; a pack is a set of frames. Two adds, each
//! of which stores a new chunk in full or as a delta on any base that it may rely on; gcs one after the other; `rm` of any
//! snapshot; every process killed between any two steps. The steps are those of the local protocol (`gc_model.rs`), which
//! has its own mistakes there; here only what delta frames add to them is got wrong.
//!
//! gc has no policy here: it may condemn any set of packs and copy any frames, as they are or in full, as long as its rules
//! hold of what is left. So whatever policy the program has, it is one of those that are searched. (In the bounded runs gc
//! copies and spares nothing that the rules do not ask for.)

#![allow(clippy::indexing_slicing, reason = "indexes are numbers of actors, and a wrong one fails the test")]

mod steps;
mod tests;

use crate::model::{Model, Steps};

/// A set of packs: P0 to P2 to begin with, W0 and W1 of the adds, C0 and C1 of the gcs.
type Packs = u8;
/// A set of chunks: a, b and c.
type Chunks = u8;
/// A set of frames, a bit for each pair of a chunk and its base; a chunk that is its own base is a full frame.
type Frames = u16;

const CHUNKS: u8 = 3;
const ADDS: usize = 2;
/// The packs that gc writes.
const COPIES: Packs = 0b110_0000;

/// One departure from the rules.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mistake {
    None,
    /// gc keeps the bases of no delta frame.
    NoPins,
    /// gc keeps the bases only of delta frames whose chunk a snapshot reaches.
    PinsOnlyReached,
    /// gc takes a delta frame for a retained copy of a base.
    BaseKeptAsDelta,
    /// gc drops the base of a delta frame that it keeps, because the frame's chunk has a full copy.
    FullCopyUnpins,
    /// gc copies a delta frame as it is and does not look at its base.
    CopiesDeltaAsItIs,
    /// The second mark looks at chunks only.
    SecondMarkWithoutPins,
    /// The second mark spares a pack and does not look at the bases of its delta frames.
    SparesWithoutPins,
    /// gc leaves the second mark out if no snapshot came since the first, though packs did.
    FirstMarkReused,
    /// A delta frame names the pack in which its base lay.
    BaseNamedByPack,
    /// An add chooses a base in a condemned pack.
    CondemnedBase,
    /// An add chooses a chunk as base that it knows as a delta frame only.
    DeltaOnDelta,
    /// An add relies on packs that it listed before it took its lease.
    StaleIndex,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
enum AddStep {
    #[default]
    Idle,
    Leased,
    ReadRecord,
    Listed,
    Packed,
    Committed,
    Ended,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
struct Add {
    step: AddStep,
    condemned: Packs,
    seen: Packs,
    frames: Frames,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
enum GcStep {
    #[default]
    Idle,
    Listed,
    Copied,
    Recorded,
    Waits,
    Waited,
    Marked,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
struct Gc {
    step: GcStep,
    packs: Packs,
    condemned: Packs,
    /// Snapshots at the first mark; none of a gc that goes on with the record of another.
    marked: u8,
    /// Adds whose lease was found.
    waits: u8,
    doomed: Packs,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct State {
    packs: Packs,
    record: Packs,
    /// Snapshots that are there: the initial one, then one for each add.
    present: u8,
    adds: [Add; ADDS],
    gc: Gc,
    copies: [Frames; 2],
    gcs: u8,
}

/// What there is to begin with.
#[derive(Debug, Clone, Copy)]
struct Scenario {
    name: &'static str,
    mistake: Mistake,
    packs: [Frames; 3],
    /// Chunks of the initial snapshot.
    initial: Chunks,
    wants: [Chunks; ADDS],
    gcs: u8,
    /// gc may also copy and spare what it need not.
    lavish: bool,
}

/// A frame: a chunk, and its base or itself.
const fn frame(chunk: u8, base: u8) -> Frames {
    1 << (chunk * CHUNKS + base)
}

/// The full frame of a chunk.
const fn full(chunk: u8) -> Frames {
    frame(chunk, chunk)
}

fn chunks_in(set: Chunks) -> impl Iterator<Item = u8> {
    (0..CHUNKS).filter(move |chunk| set >> chunk & 1 == 1)
}

/// The delta frames among these, each with chunk and base.
fn deltas(frames: Frames) -> impl Iterator<Item = (u8, u8)> {
    let pairs = (0..CHUNKS).flat_map(|chunk| (0..CHUNKS).map(move |base| (chunk, base)));
    pairs.filter(move |(chunk, base)| chunk != base && frames & frame(*chunk, *base) != 0)
}

/// All frames of a chunk.
fn of_chunk(chunk: u8) -> Frames {
    (0..CHUNKS).fold(0, |all, base| all | frame(chunk, base))
}

/// Chunks of which there is any frame.
fn named(frames: Frames) -> Chunks {
    (0..CHUNKS).filter(|chunk| frames & of_chunk(*chunk) != 0).fold(0, |all, chunk| all | 1 << chunk)
}

/// Chunks that can be read: from a full frame, or from a delta whose base has a full frame.
fn readable(frames: Frames) -> Chunks {
    let by_delta = deltas(frames).filter(|(_, base)| frames & full(*base) != 0).map(|(chunk, _)| chunk);
    let by_full = (0..CHUNKS).filter(|chunk| frames & full(*chunk) != 0);
    by_full.chain(by_delta).fold(0, |all, chunk| all | 1 << chunk)
}

fn spell(packs: Packs) -> String {
    const NAMES: [&str; 7] = ["P0", "P1", "P2", "W0", "W1", "C0", "C1"];
    let names: Vec<&str> = (0..7).filter(|pack| packs >> pack & 1 == 1).map(|pack| NAMES[pack]).collect();
    format!("{{{}}}", names.join(" "))
}

fn spell_frames(frames: Frames) -> String {
    let letter = |chunk: u8| char::from(b'a' + chunk);
    let whole = (0..CHUNKS).filter(|chunk| frames & full(*chunk) != 0).map(|chunk| letter(chunk).to_string());
    let parts = deltas(frames).map(|(chunk, base)| format!("{} on {}", letter(chunk), letter(base)));
    format!("[{}]", whole.chain(parts).collect::<Vec<_>>().join(", "))
}

impl Scenario {
    /// The frames in these packs, together: which of several equal ones is read makes no difference.
    fn frames(&self, state: &State, packs: Packs) -> Frames {
        let [first, second, third] = self.packs;
        let all = [first, second, third, state.adds[0].frames, state.adds[1].frames, state.copies[0], state.copies[1]];
        all.iter().enumerate().filter(|(pack, _)| packs >> pack & 1 == 1).fold(0, |frames, (_, more)| frames | more)
    }

    fn reached(&self, state: &State) -> Chunks {
        let of = |slot: usize| if slot == 0 { self.initial } else { self.wants[slot - 1] };
        (0..=ADDS).filter(|slot| state.present >> slot & 1 == 1).fold(0, |all, slot| all | of(slot))
    }

    /// Whether gc may go on with these frames left: each reached chunk has a frame (of those that had one), and each
    /// delta frame has its base in full.
    fn holds(&self, left: Frames, pinning: Frames, reached: Chunks) -> bool {
        let is_kept = |(chunk, base): (u8, u8)| match self.mistake {
            Mistake::NoPins => true,
            Mistake::PinsOnlyReached => reached >> chunk & 1 == 0 || left & full(base) != 0,
            Mistake::BaseKeptAsDelta => left & of_chunk(base) != 0,
            Mistake::FullCopyUnpins => left & (full(base) | full(chunk)) != 0,
            _ => left & full(base) != 0,
        };
        reached & !named(left) == 0 && deltas(pinning).all(is_kept)
    }
}

impl Model for Scenario {
    type State = State;

    fn beginnings(&self) -> Vec<State> {
        vec![State {
            packs: (0..3).filter(|pack| self.packs[*pack] != 0).fold(0, |all, pack| all | 1 << pack),
            record: 0,
            present: 1,
            adds: Default::default(),
            gc: Gc::default(),
            copies: [0; 2],
            gcs: self.gcs,
        }]
    }

    fn steps(&self, state: &State, steps: &mut Steps<State>) {
        (0..ADDS).for_each(|index| self.add_steps(state, index, steps));
        self.gc_steps(state, steps);
        for slot in (0..=ADDS).filter(|slot| state.present >> slot & 1 == 1) {
            steps.push(State { present: state.present & !(1 << slot), ..*state }, || format!("rm of snapshot {slot}"));
        }
    }

    fn violation(&self, state: &State) -> Option<&'static str> {
        let there = self.frames(state, state.packs);
        let found = match self.mistake {
            // What gc has moved is not where the frame says.
            Mistake::BaseNamedByPack => {
                let at_first = self.frames(state, state.packs & 0b111);
                let lost = deltas(at_first).filter(|(_, base)| at_first & full(*base) == 0);
                readable(lost.fold(there, |left, (chunk, base)| left & !frame(chunk, base)))
            }
            _ => readable(there),
        };
        if self.reached(state) & !found != 0 {
            return Some("a chunk that a snapshot needs cannot be read");
        }
        let kept = self.frames(state, state.packs & !state.record);
        if self.mistake != Mistake::BaseNamedByPack && deltas(kept).any(|(_, base)| there & full(base) == 0) {
            return Some("a delta frame that is kept has lost its base");
        }
        if self.mistake == Mistake::None && self.is_quiet(state) && !self.is_clean(&self.collected(*state)) {
            return Some("another gc leaves garbage, or does not end");
        }
        None
    }
}
