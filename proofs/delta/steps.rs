//! The steps of adds and of gc.

use super::{
    ADDS, Add, AddStep, CHUNKS, COPIES, Chunks, Frames, Gc, GcStep, Mistake, Packs, Scenario, State, chunks_in, deltas,
    frame, full, named, of_chunk, readable, spell, spell_frames,
};
use crate::model::Steps;

impl Scenario {
    pub(super) fn add_steps(&self, state: &State, index: usize, steps: &mut Steps<State>) {
        let add = state.adds[index];
        let mut push = |after: Add, words: &dyn Fn() -> String| {
            let mut next = *state;
            next.adds[index] = after;
            steps.push(next, words);
        };
        if self.wants[index] == 0 {
            return;
        }
        match add.step {
            AddStep::Idle => {
                if self.mistake == Mistake::StaleIndex && add.seen == 0 {
                    push(Add { seen: state.packs, ..add }, &|| {
                        format!("add {index} opens an index of {}", spell(state.packs))
                    });
                }
                push(Add { step: AddStep::Leased, ..add }, &|| format!("add {index} takes a lease"));
            }
            AddStep::Leased => {
                let read = Add { step: AddStep::ReadRecord, condemned: state.record, ..add };
                push(read, &|| format!("add {index} reads what is condemned: {}", spell(state.record)));
            }
            AddStep::ReadRecord => {
                let stale = if self.mistake == Mistake::StaleIndex { add.seen } else { 0 };
                let listed = Add { step: AddStep::Listed, seen: state.packs | stale, ..add };
                push(listed, &|| format!("add {index} lists packs: {}", spell(state.packs)));
            }
            AddStep::Listed => {
                let known = self.frames(state, add.seen & !add.condemned);
                let bases = if self.mistake == Mistake::CondemnedBase { self.frames(state, add.seen) } else { known };
                for frames in self.encodings(self.wants[index] & !named(known), bases) {
                    let mut next = *state;
                    next.adds[index] = Add { step: AddStep::Packed, frames, condemned: 0, seen: 0 };
                    next.packs |= if frames == 0 { 0 } else { 1 << (3 + index) };
                    steps.push(next, || {
                        format!(
                            "add {index} knows {} and writes W{index} {}",
                            spell_frames(known),
                            spell_frames(frames)
                        )
                    });
                }
            }
            AddStep::Packed => {
                let mut next = *state;
                next.adds[index].step = AddStep::Committed;
                next.present |= 2 << index;
                steps.push(next, || format!("add {index} commits"));
            }
            AddStep::Committed | AddStep::Ended => {}
        }
        if !matches!(add.step, AddStep::Idle | AddStep::Ended) {
            let mut next = *state;
            next.adds[index] = Add { step: AddStep::Ended, frames: add.frames, ..Add::default() };
            steps.push(next, || format!("add {index} ends or is killed"));
        }
    }

    /// Every way to write these chunks: each in full, or as a delta on a chunk that has a full frame among the bases or
    /// in the same pack.
    fn encodings(&self, missing: Chunks, bases: Frames) -> Vec<Frames> {
        let mut all = vec![0];
        for chunk in chunks_in(missing) {
            let each = (0..CHUNKS).map(|base| frame(chunk, base)).collect::<Vec<_>>();
            all = all.into_iter().flat_map(|frames: Frames| each.iter().map(move |one| frames | one)).collect();
        }
        all.retain(|frames| {
            let there = bases | frames;
            deltas(*frames).all(|(_, base)| match self.mistake {
                Mistake::DeltaOnDelta => named(there) >> base & 1 == 1,
                _ => there & full(base) != 0,
            })
        });
        all
    }

    pub(super) fn gc_steps(&self, state: &State, steps: &mut Steps<State>) {
        let gc = state.gc;
        let is_leased = |add: &Add| !matches!(add.step, AddStep::Idle | AddStep::Ended);
        let leases = (0..ADDS).filter(|add| is_leased(&state.adds[*add])).fold(0, |all, add| all | 1 << add);
        match gc.step {
            GcStep::Idle if state.gcs > 0 => {
                let (step, packs, condemned) = if state.record == 0 {
                    (GcStep::Listed, state.packs, 0)
                } else {
                    (GcStep::Recorded, 0, state.record)
                };
                let next = State { gc: Gc { step, packs, condemned, ..gc }, gcs: state.gcs - 1, ..*state };
                steps.push(next, || format!("gc begins: lists {}, goes on with {}", spell(packs), spell(condemned)));
            }
            GcStep::Listed => {
                for (condemned, copies) in self.plans(state) {
                    let mut next = *state;
                    next.gc = Gc { step: GcStep::Copied, packs: 0, condemned, marked: state.present, ..gc };
                    next.copies[state.gcs as usize] = copies;
                    next.packs |= if copies == 0 { 0 } else { 1 << (5 + state.gcs) };
                    let copies = spell_frames(copies);
                    steps.push(next, || {
                        format!("gc marks, will condemn {} and writes C{} {copies}", spell(condemned), state.gcs)
                    });
                }
            }
            GcStep::Copied => {
                let next = State { record: gc.condemned, gc: Gc { step: GcStep::Recorded, ..gc }, ..*state };
                steps.push(next, || "gc writes the record".to_owned());
            }
            GcStep::Recorded => {
                let next = State { gc: Gc { step: GcStep::Waits, waits: leases, ..gc }, ..*state };
                steps.push(next, || "gc lists the leases".to_owned());
            }
            GcStep::Waits if leases & gc.waits == 0 => {
                let next = State { gc: Gc { step: GcStep::Waited, waits: 0, ..gc }, ..*state };
                steps.push(next, || "gc has waited".to_owned());
            }
            GcStep::Waited => {
                for spared in self.spared(state) {
                    let doomed = gc.condemned & !spared;
                    let next = State { gc: Gc { step: GcStep::Marked, doomed, ..gc }, ..*state };
                    steps.push(next, || format!("gc marks again, will delete {}", spell(doomed)));
                }
            }
            GcStep::Marked => {
                for pack in (0..7).filter(|pack| (gc.doomed & state.packs) >> pack & 1 == 1) {
                    let next = State { packs: state.packs & !(1 << pack), ..*state };
                    steps.push(next, || format!("gc deletes {}", spell(1 << pack)));
                }
                if gc.doomed & state.packs == 0 {
                    steps.push(State { record: 0, gc: Gc::default(), ..*state }, || "gc removes the record".to_owned());
                }
            }
            _ => {}
        }
        if gc.step != GcStep::Idle {
            steps.push(State { gc: Gc::default(), ..*state }, || "gc is killed".to_owned());
        }
    }

    /// Every plan that the rules allow: what to condemn, and which frames to copy.
    fn plans(&self, state: &State) -> Vec<(Packs, Frames)> {
        let listed = state.gc.packs;
        let all = self.frames(state, listed);
        let reached = self.reached(state) & named(all);
        let mut plans = Vec::new();
        for condemned in (1..=listed).filter(|condemned| condemned & !listed == 0) {
            let (kept, going) = (self.frames(state, listed & !condemned), self.frames(state, condemned));
            // A frame is copied as it is, or in full where it can be read.
            let in_full = chunks_in(readable(all) & named(going)).fold(0, |frames, chunk| frames | full(chunk));
            let may_copy = going | in_full;
            for copies in (0..=may_copy).filter(|copies| copies & !may_copy == 0) {
                let is_frugal = (0..CHUNKS).all(|chunk| (copies & of_chunk(chunk)).count_ones() <= 1);
                let holds = |copies: Frames| {
                    let pinning = if self.mistake == Mistake::CopiesDeltaAsItIs { kept } else { kept | copies };
                    self.holds(kept | copies, pinning, reached)
                };
                let mut fewer = (0..CHUNKS * CHUNKS).map(|one| 1 << one).filter(|one| copies & one != 0);
                let is_asked_for = self.lavish || !fewer.any(|one: Frames| holds(copies & !one));
                if is_frugal && holds(copies) && is_asked_for {
                    plans.push((condemned, copies));
                }
            }
        }
        plans
    }

    /// What the second mark may spare: every set that the rules allow.
    fn spared(&self, state: &State) -> Vec<Packs> {
        let condemned = state.gc.condemned;
        let reached = self.reached(state) & named(self.frames(state, state.packs));
        let is_same = state.gc.marked != 0 && state.present & !state.gc.marked == 0;
        if self.mistake == Mistake::FirstMarkReused && is_same {
            return vec![0];
        }
        let may_spare = condemned & state.packs;
        let kept = self.frames(state, state.packs & !condemned);
        let kept_unpinned = self.frames(state, state.packs & !condemned & COPIES);
        let holds = |spared: Packs| {
            let more = self.frames(state, spared);
            let pinning = match self.mistake {
                Mistake::SecondMarkWithoutPins => 0,
                Mistake::SparesWithoutPins => kept,
                Mistake::CopiesDeltaAsItIs => (kept | more) & !kept_unpinned,
                _ => kept | more,
            };
            self.holds(kept | more, pinning, reached)
        };
        let sets = (0..=may_spare).filter(|spared| spared & !may_spare == 0 && holds(*spared));
        let fewer =
            |spared: Packs| (0..7).map(|pack| 1 << pack).any(|pack| spared & pack != 0 && holds(spared & !pack));
        sets.filter(|spared| self.lavish || !fewer(*spared)).collect()
    }

    /// Whether no process is in the middle of anything.
    pub(super) fn is_quiet(&self, state: &State) -> bool {
        let is_still = |add: &Add| matches!(add.step, AddStep::Idle | AddStep::Ended);
        state.gc.step == GcStep::Idle && state.adds.iter().all(is_still)
    }

    /// Lets gc end what another began, and then collect once more, deleting all that it can without a copy.
    pub(super) fn collected(&self, mut state: State) -> State {
        if state.record != 0 {
            state.gc = Gc { step: GcStep::Waited, condemned: state.record, ..Gc::default() };
            let Some(spared) = self.spared(&state).into_iter().min_by_key(|spared| spared.count_ones()) else {
                return state;
            };
            state = State { packs: state.packs & !(state.record & !spared), record: 0, gc: Gc::default(), ..state };
        }
        state.gc.packs = state.packs;
        let plans = self.plans(&state).into_iter().filter(|(_, copies)| *copies == 0);
        if let Some((condemned, _)) = plans.max_by_key(|(condemned, _)| condemned.count_ones()) {
            state.packs &= !condemned;
        }
        state.gc = Gc::default();
        state
    }

    /// Whether each pack that is left has something that a snapshot reaches or that a frame of a kept pack needs.
    pub(super) fn is_clean(&self, state: &State) -> bool {
        let reached = self.reached(state);
        let is_of_use = |pack: Packs| {
            let bases = deltas(self.frames(state, state.packs & !pack)).fold(0, |all, (_, base)| all | full(base));
            let frames = self.frames(state, pack);
            named(frames) & reached != 0 || frames & bases != 0
        };
        state.record == 0 && (0..7).map(|pack| 1 << pack).filter(|pack| state.packs & pack != 0).all(is_of_use)
    }
}
