//! The steps of those who add, remove, rewrite and merge, and of their requests on the way.

use super::world::{
    CLOSED, Chunks, EMPTY, End, GHOST, INITIAL, Kind, Packs, State, Step, WRITERS, Writer, bit, each, spell,
    spell_chunks, writers_pack,
};
use super::{Mistake, Scenario};
use crate::model::Steps;

impl Scenario {
    /// The slots of a generation that belong to a lane.
    pub(super) fn slots_of(&self, lane: usize) -> std::ops::Range<usize> {
        let each = 4 / self.lanes;
        lane * each..(lane + 1) * each
    }

    fn lane_of(&self, writer: usize) -> usize {
        writer % self.lanes
    }

    pub(super) fn is_lane_closed(&self, state: &State, number: usize, lane: usize) -> bool {
        state.cells[number][self.slots_of(lane)].contains(&CLOSED)
    }

    /// The first slot from `from` on that a writer finds free, going on to the next generation where it finds CLOSED.
    fn free_slot(&self, state: &State, lane: usize, from: usize) -> Option<(usize, usize)> {
        for number in from..=self.gens {
            for slot in self.slots_of(lane) {
                match state.cells[number][slot] {
                    EMPTY => return Some((number, slot)),
                    CLOSED => break,
                    _ => {}
                }
            }
        }
        None
    }

    pub(super) fn writers_steps(&self, state: &State, steps: &mut Steps<State>) {
        for index in (0..WRITERS).filter(|index| self.writers[*index] != Kind::Absent) {
            match state.writers[index].step {
                Step::Idle => self.begins(state, index, steps),
                Step::Aimed => self.takes_a_lease(state, index, steps),
                Step::Ready | Step::GaveUp => self.commits(state, index, steps),
            }
        }
    }

    fn begins(&self, state: &State, index: usize, steps: &mut Steps<State>) {
        let lane = self.lane_of(index);
        if let (Kind::Remove(of), Mistake::RemovalDeletes) = (self.writers[index], self.mistake) {
            let mut next = *state;
            next.deleted |= bit(writers_pack(of - 2)) & next.put;
            steps.push(next, || format!("writer {index} deletes the object of snapshot {of}"));
        }
        let mut aim = |(number, slot): (usize, usize)| {
            let mut next = *state;
            next.writers[index] =
                Writer { step: Step::Aimed, gen_: number as u8, slot: slot as u8, ..Writer::default() };
            steps.push(next, || {
                format!("writer {index} sends: put if absent its lease, generation {number} slot {slot}")
            });
        };
        if let Some(place) = self.free_slot(state, lane, 0) {
            aim(place);
            // A writer that has read `condemned` of a generation may begin there; so may one that never looked.
            let further = (place.0 + 1..=self.gens)
                .filter(|number| state.gens[*number].condemned.is_some() || self.mistake == Mistake::JumpAhead);
            further.filter_map(|number| self.free_slot(state, lane, number)).for_each(&mut aim);
        }
    }

    fn takes_a_lease(&self, state: &State, index: usize, steps: &mut Steps<State>) {
        let writer = state.writers[index];
        let (number, slot) = (writer.gen_ as usize, writer.slot as usize);
        let own = index as u8 + 1;
        let there = state.cells[number][slot];
        if there == EMPTY || (self.mistake == Mistake::BeatOnLeaseKey && there != own) {
            let mut next = *state;
            next.cells[number][slot] = own;
            steps.push(next, || format!("the lease of writer {index} lands at generation {number} slot {slot}"));
        }
        if there == EMPTY
            && self.mistake == Mistake::SlotGap
            && self.slots_of(self.lane_of(index)).contains(&(slot + 1))
        {
            let mut next = *state;
            next.writers[index].slot += 1;
            steps.push(next, || {
                format!("writer {index} has no answer and sends its lease to slot {} instead", slot + 1)
            });
        }
        if there != EMPTY
            && there != own
            && let Some((number, slot)) = self.free_slot(state, self.lane_of(index), number)
        {
            let mut next = *state;
            next.writers[index].gen_ = number as u8;
            next.writers[index].slot = slot as u8;
            steps.push(next, || {
                format!("writer {index} reads who has that slot and sends its lease to generation {number} slot {slot}")
            });
        }
        if there == own && writer.end == End::Open {
            self.prepares(state, index, steps);
        }
    }

    /// What a writer may rely on in its generation. `with_done` says whether it has read `done` of it.
    fn may_rely_on(&self, state: &State, index: usize, with_done: bool) -> Packs {
        let number = state.writers[index].gen_ as usize;
        let this = &state.gens[number];
        let packs = if with_done {
            let delete = if self.mistake == Mistake::StaleDelete { 0 } else { this.delete.unwrap_or(0) };
            let late = if self.mistake == Mistake::LateSegment { state.index_from(0) } else { 0 };
            ((state.ledger(number) | late) & !delete) | state.index_from(number)
        } else {
            let before = number - 1;
            let deny = match self.mistake {
                Mistake::StaleCondemned => 0,
                _ => this.condemned.unwrap_or(0),
            };
            let known = state.ledger(before) & !state.gens[before].delete.unwrap_or(0);
            (known | state.index_from(before)) & !deny
        };
        let cached = if self.mistake == Mistake::CacheTrusted { bit(GHOST) } else { 0 };
        (packs | cached) & !bit(writers_pack(index))
    }

    /// W2 and W3: the writer reads what it may rely on, relies on some of it, and puts the rest.
    fn prepares(&self, state: &State, index: usize, steps: &mut Steps<State>) {
        let snapshot = 2 + index;
        let number = state.writers[index].gen_;
        if let Kind::Remove(of) | Kind::Rewrite(of) | Kind::Merge(of) = self.writers[index] {
            // It has seen the other snapshot, which may be removed by now.
            let is_old = of < 2 || state.writers[of - 2].end == End::Committed;
            let is_younger = of >= 2 && state.writers[of - 2].gen_ > number && self.mistake != Mistake::RemovesYounger;
            if !is_old || is_younger {
                return;
            }
        }
        let mut ready = |names: Packs, own: Chunks, put: Packs, how: &str| {
            let mut next = *state;
            let writer = &mut next.writers[index];
            (writer.step, writer.own) = (Step::Ready, own);
            if !matches!(self.writers[index], Kind::Remove(_)) {
                writer.names = bit(writers_pack(index)) | names;
                next.put |= bit(writers_pack(index)) | put;
            }
            steps.push(next, || {
                let foreign = if names == 0 { String::new() } else { format!(" and names {} besides", spell(names)) };
                format!("writer {index} {how}, puts {}, sends its commit{foreign}", spell_chunks(own))
            });
        };
        if let Kind::Remove(of) = self.writers[index] {
            return ready(0, 0, 0, &format!("removes snapshot {of}"));
        }
        if self.mistake == Mistake::MergeTrusts && matches!(self.writers[index], Kind::Merge(_)) {
            return ready(0, 0, 0, "trusts its part");
        }
        let modes = [(number == 0 || state.gens[number as usize].done).then_some(true), (number > 0).then_some(false)];
        for with_done in modes.into_iter().flatten() {
            let allowed = self.may_rely_on(state, index, with_done);
            let how = match (number, with_done) {
                (0, _) => format!("may rely on {}", spell(allowed)),
                (_, true) => format!("goes by `done`, may rely on {}", spell(allowed)),
                (_, false) if state.gens[number as usize].condemned.is_none() => {
                    format!("finds no `condemned`, may rely on {}", spell(allowed))
                }
                (_, false) => format!("goes by `condemned`, may rely on {}", spell(allowed)),
            };
            let mut seen = Vec::new();
            for (names, own) in self.choices(snapshot, state, allowed) {
                // Naming what the ledger names makes no difference.
                let ledger = state.ledger(number as usize) | INITIAL;
                let names = if self.mistake == Mistake::ForeignSegmentUnnamed { 0 } else { names & !ledger };
                if seen.contains(&(names, own)) {
                    continue;
                }
                seen.push((names, own));
                ready(names, own, 0, &how);
                // The name that these contents had before, if this writer knows no reason against it.
                let again = [3, 2].iter().position(|chunks| *chunks == own).filter(|pack| allowed & bit(*pack) == 0);
                if let Some(pack) = again.filter(|_| self.mistake == Mistake::ContentNames && with_done) {
                    ready(names | bit(pack), 0, bit(pack), &format!("{how}, makes {} again", spell(bit(pack))));
                }
            }
        }
    }

    /// Which packs a snapshot may come to rely on, and what is left to put.
    fn choices(&self, snapshot: usize, state: &State, allowed: Packs) -> Vec<(Packs, Chunks)> {
        let mut all = vec![(0, 0)];
        for chunk in [1, 2].into_iter().filter(|chunk| self.want(snapshot) & chunk != 0) {
            let having = state.having(allowed, chunk);
            let with = |(names, own): (Packs, Chunks)| {
                let relying = each(having).map(move |pack| (names | bit(pack), own));
                relying.chain([(names, own | chunk)])
            };
            all = all.into_iter().flat_map(with).collect();
        }
        all
    }

    /// W4, and what becomes of a writer that gives up.
    fn commits(&self, state: &State, index: usize, steps: &mut Steps<State>) {
        let writer = state.writers[index];
        let may_land = match writer.end {
            End::Open | End::Expired => true,
            End::Revoked => self.mistake == Mistake::CommitOverwrites,
            End::EndedAlone => self.mistake == Mistake::SnapshotIsTheCommit,
            End::Committed => false,
        };
        if may_land {
            let mut next = *state;
            next.writers[index].end = End::Committed;
            next.undead |= writer.end == End::Revoked;
            steps.push(next, || format!("the commit of writer {index} lands"));
        }
        if writer.step == Step::Ready && writer.end == End::Open {
            if self.mistake == Mistake::SnapshotIsTheCommit {
                let mut next = *state;
                next.writers[index].end = End::EndedAlone;
                steps.push(next, || format!("writer {index} has no answer, reports failure and ends its lease"));
            }
            if self.mistake == Mistake::GiveUpDeletes {
                let mut next = *state;
                next.writers[index].step = Step::GaveUp;
                next.deleted |= bit(writers_pack(index));
                steps.push(next, || {
                    format!("writer {index} has no answer, reports failure and deletes what it had put")
                });
            }
        }
    }
}
