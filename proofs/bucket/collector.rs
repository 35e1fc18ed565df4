//! The steps of gcs, G1 to G6, and of a reader.

use super::world::{
    CLOSED, Chunks, Copied, EMPTY, End, GENS, Generation, INITIAL, Packs, Reader, Snapshots, State, Step, WRITERS, bit,
    copy_of, each, spell, spell_chunks, writers_pack,
};
use super::{Lists, Mistake, Scenario};
use crate::model::Steps;

impl Scenario {
    pub(super) fn collectors_steps(&self, state: &State, steps: &mut Steps<State>) {
        for gc in 0..self.copiers {
            self.copies(state, gc, steps);
        }
        for number in 1..=self.gens {
            self.condemns(state, number, steps);
            if state.gens[number].condemned.is_some() {
                self.closes(state, number, steps);
                self.decides(state, number, steps);
                self.deletes(state, number, steps);
            }
        }
        self.revokes(state, steps);
    }

    /// G1: a copy of what some packs have, put and acknowledged. Its segment lies in any generation, for the gc may have
    /// been suspended since it looked.
    fn copies(&self, state: &State, gc: usize, steps: &mut Steps<State>) {
        if state.copied[gc].chunks != 0 {
            return;
        }
        let newest = state.newest_done();
        let source = state.ledger(newest) & !state.gens[newest].delete.unwrap_or(0) & state.exists();
        let there: Chunks = each(source).fold(0, |all, pack| all | state.chunks(pack));
        for chunks in (1..4).filter(|chunks| chunks & !there == 0) {
            for number in 0..=newest {
                let mut next = *state;
                next.copied[gc] = Copied { chunks, gen_: number as u8, list: 0 };
                next.put |= bit(copy_of(gc));
                let what = spell_chunks(chunks);
                steps.push(next, || {
                    format!("gc {gc} puts a copy of {what}, C{gc}, with its segment in generation {number}")
                });
            }
        }
    }

    /// The lists that a gc which makes this copy may condemn.
    fn lists(&self, state: &State, number: usize, copy: Packs) -> Vec<Packs> {
        let all = state.put & !copy;
        let mut lists: Vec<Packs> = match self.lists {
            Lists::All => (1..=all).filter(|list| list & !all == 0).collect(),
            Lists::Few => each(all).map(bit).chain(each(all).map(|pack| all & !bit(pack))).chain([all]).collect(),
        };
        lists.sort_unstable();
        lists.dedup();
        lists.retain(|list| *list != 0);
        if self.mistake == Mistake::NoSecondMark {
            // Here all rests on the first mark: what snapshots need at this moment is elsewhere.
            let known = state.ledger(number - 1) | copy;
            let is_needed = |snapshot: &usize| self.visible(state) >> snapshot & 1 == 1;
            lists.retain(|list| {
                (0..2 + WRITERS).filter(is_needed).all(|snapshot| self.is_whole(state, snapshot, known & !list))
            });
        }
        lists
    }

    /// G2: `condemned` of this generation is decided, by whichever gc's put lands first.
    fn condemns(&self, state: &State, number: usize, steps: &mut Steps<State>) {
        let before = &state.gens[number - 1];
        let may_begin = match self.mistake {
            Mistake::CondemnsBeforeDone => number == 1 || before.condemned.is_some(),
            _ => before.done,
        };
        if !may_begin || state.gens[number].condemned.is_some() {
            return;
        }
        // A copy that was put before the generation before was done may be among what that one deletes.
        let is_recent =
            |gc: &usize| state.copied[*gc].gen_ as usize == number - 1 || self.mistake == Mistake::ReusesCopy;
        let copiers = (0..self.copiers).filter(|gc| state.copied[*gc].chunks != 0).filter(is_recent);
        for gc in copiers.map(Some).chain([None]) {
            let mut copy = gc.map_or(0, |gc| bit(copy_of(gc)));
            if let (Some(gc), Mistake::OwnCondemned) = (gc, self.mistake) {
                self.condemns_its_own(state, number, gc, steps);
                continue;
            }
            let mut next = *state;
            if self.mistake == Mistake::KeptName {
                // The copy gets the name that a pack of these contents had.
                let contents = gc.map_or(0, |gc| state.copied[gc].chunks);
                if let Some(pack) = each(INITIAL).find(|pack| contents != 0 && state.chunks(*pack) == contents) {
                    next.put = next.put & !copy | bit(pack);
                    copy = bit(pack);
                }
            }
            for list in self.lists(state, number, copy) {
                next.gens[number].condemned = Some(list);
                next.gens[number].copies = copy;
                let who = gc.map_or("a gc without a copy".to_owned(), |gc| format!("gc {gc}"));
                steps.push(next, || {
                    format!("{who}: `condemned` of generation {number} lands: {}, copies {}", spell(list), spell(copy))
                });
            }
        }
    }

    /// C4: a gc sends its own list, whatever becomes of it.
    fn condemns_its_own(&self, state: &State, number: usize, gc: usize, steps: &mut Steps<State>) {
        if number > 1 || state.gens[number].condemned.is_some() {
            return;
        }
        for list in self.lists(state, number, bit(copy_of(gc))) {
            let mut next = *state;
            if state.copied[gc].list != 0 && state.copied[gc].list != list {
                continue;
            }
            next.copied[gc].list = list;
            if state.copied[gc].list != 0 {
                next.gens[number].condemned = Some(list);
                next.gens[number].copies |= bit(copy_of(gc));
            }
            let what = if state.copied[gc].list == 0 { "sends" } else { "lands" };
            steps.push(next, || format!("gc {gc}: `condemned` of generation {number} {what}: {}", spell(list)));
        }
    }

    /// G3: CLOSED lands at the first free slot of a lane of the generation before.
    fn closes(&self, state: &State, number: usize, steps: &mut Steps<State>) {
        let closing = number - 1;
        for lane in 0..if self.mistake == Mistake::OneLane { 1 } else { self.lanes } {
            if self.mistake == Mistake::NoClose || self.is_lane_closed(state, closing, lane) {
                continue;
            }
            let free = self.slots_of(lane).find(|slot| state.cells[closing][*slot] == EMPTY);
            if let Some(slot) = free {
                let mut next = *state;
                next.cells[closing][slot] = CLOSED;
                steps.push(next, || format!("CLOSED lands at generation {closing} slot {slot}"));
            }
        }
    }

    /// G3: the end of a lease that is there is decided by a gc, or by the writer that gives up.
    fn revokes(&self, state: &State, steps: &mut Steps<State>) {
        for index in 0..WRITERS {
            let writer = &state.writers[index];
            let has_lease = state.cells[writer.gen_ as usize][writer.slot as usize] == index as u8 + 1;
            if writer.end != End::Open || writer.step == Step::Idle || !has_lease {
                continue;
            }
            let mut next = *state;
            let is_mistaken = self.mistake == Mistake::LeaseExpires;
            next.writers[index].end = if is_mistaken { End::Expired } else { End::Revoked };
            let how = if is_mistaken { "a gc takes the lease for expired:" } else { "REVOKED lands as the end of" };
            steps.push(next, || format!("{how} writer {index}"));
        }
    }

    /// Whether the commits of a generation are decided, as a gc sees it.
    fn is_ended(&self, state: &State, number: usize) -> bool {
        let is_closed = match self.mistake {
            Mistake::NoClose => true,
            Mistake::OneLane => self.is_lane_closed(state, number, 0),
            _ => (0..self.lanes).all(|lane| self.is_lane_closed(state, number, lane)),
        };
        let lanes = if self.mistake == Mistake::OneLane { 1 } else { self.lanes };
        let mut below = (0..lanes).flat_map(|lane| {
            let slots = state.cells[number][self.slots_of(lane)].iter().enumerate();
            slots
                .take_while(|(_, holder)| **holder != CLOSED && **holder != EMPTY)
                .map(move |(slot, holder)| (self.slots_of(lane).start + slot, *holder as usize - 1))
        });
        is_closed
            && below.all(|(slot, holder)| {
                let writer = &state.writers[holder];
                (writer.gen_ as usize, writer.slot as usize) != (number, slot) || writer.end != End::Open
            })
    }

    /// What a gc may spare of what is condemned so that these snapshots stay whole: every choice between copies.
    fn spared(&self, state: &State, condemned: Packs, live: Packs, snapshots: Snapshots) -> Vec<Packs> {
        let needed = |snapshot: &usize| snapshots >> snapshot & 1 == 1;
        let own = (2..2 + WRITERS).filter(needed).fold(0, |all, snapshot| all | bit(writers_pack(snapshot - 2)));
        let want = (0..2 + WRITERS).filter(needed).fold(0, |all, snapshot| all | self.want(snapshot));
        let mut choices = vec![own & condemned];
        for chunk in [1, 2].into_iter().filter(|chunk| want & chunk != 0) {
            let having = state.having(live, chunk);
            if having & !condemned == 0 && having != 0 {
                let with = |spared: Packs| each(having).map(move |pack| spared | bit(pack));
                choices = choices.into_iter().flat_map(with).collect();
            }
        }
        choices.sort_unstable();
        choices.dedup();
        choices
    }

    /// G4: `delete` of this generation is decided.
    fn decides(&self, state: &State, number: usize, steps: &mut Steps<State>) {
        let this = state.gens[number];
        let condemned = this.condemned.unwrap_or(0);
        if !self.is_ended(state, number - 1) {
            return;
        }
        let mut live = state.ledger(number);
        if self.mistake == Mistake::TrustsUnnamedCopies {
            live |= (0..2).map(copy_of).fold(0, |all, pack| all | bit(pack)) & state.put;
        }
        if self.mistake == Mistake::ForgetsDeletes {
            live |= state.gens[number - 1].delete.unwrap_or(0);
        }
        let snapshots = self.snapshots(state, number);
        let mut spared = self.spared(state, condemned, live, snapshots);
        if self.mistake == Mistake::NoSecondMark {
            spared = vec![0];
        }
        if self.mistake == Mistake::ListedEnds {
            let seen = (0..WRITERS).map(|writer| self.spared(state, condemned, live, snapshots & !(4 << writer)));
            spared = seen.flatten().collect();
        }
        for spare in spared {
            let delete = condemned & !spare;
            let mut next = *state;
            if this.delete.is_none() {
                next.gens[number].delete = Some(delete);
                steps.push(next, || format!("`delete` of generation {number} lands: {}", spell(delete)));
            } else if self.mistake == Mistake::OwnDelete {
                next.deleted |= delete;
                steps.push(next, || format!("another gc deletes what it computed itself: {}", spell(delete)));
            }
        }
        if self.mistake == Mistake::OwnCondemned {
            for gc in (0..2).filter(|gc| number == 1 && state.copied[*gc].list != 0) {
                let (list, copy) = (state.copied[gc].list, bit(copy_of(gc)));
                let live = (state.ledger(number) & !this.copies) | copy;
                for spare in self.spared(state, list, live, snapshots) {
                    let mut next = *state;
                    next.gens[number].copies |= copy;
                    next.deleted |= list & !spare;
                    steps.push(next, || format!("gc {gc} deletes by its own list: {}", spell(list & !spare)));
                }
            }
        }
    }

    /// G5 and G6.
    fn deletes(&self, state: &State, number: usize, steps: &mut Steps<State>) {
        let Generation { delete: Some(delete), done: false, .. } = state.gens[number] else { return };
        let mut next = *state;
        if delete & !state.deleted != 0 {
            next.deleted |= delete;
            steps.push(next, || format!("a gc sends the deletes of generation {number}: {}", spell(delete)));
            if self.mistake != Mistake::DoneBeforeDeletes {
                return;
            }
            next = *state;
        }
        next.gens[number].done = true;
        steps.push(next, || format!("`done` of generation {number} lands"));
    }

    pub(super) fn readers_steps(&self, state: &State, steps: &mut Steps<State>) {
        let Some(snapshot) = self.reader else { return };
        let is_there = |scenario: &Self| scenario.visible(state) >> snapshot & 1 == 1;
        let mut turn = |reader: Reader, words: String| steps.push(State { reader, ..*state }, || words);
        match state.reader {
            Reader::Idle if is_there(self) => {
                let packs = self.locatable(state);
                turn(
                    Reader::Loaded(packs),
                    format!("a reader plans to read snapshot {snapshot} from {}", spell(packs)),
                );
            }
            Reader::Loaded(packs) => {
                let known = self.locatable(state);
                if self.is_whole(state, snapshot, packs & state.exists()) {
                    turn(Reader::Finished, "the reader gets all bytes".to_owned());
                } else if !is_there(self) {
                    turn(Reader::Finished, "the reader gets 404 and finds the snapshot removed".to_owned());
                } else if self.mistake == Mistake::ReaderGivesUp || known == packs {
                    turn(Reader::ReportsDamage, "the reader gets 404 and has nowhere else to look".to_owned());
                } else {
                    turn(Reader::Loaded(known), format!("the reader gets 404 and plans again, from {}", spell(known)));
                }
            }
            _ => {}
        }
    }

    /// Whether no process is in the middle of anything.
    pub(super) fn is_quiet(&self, state: &State) -> bool {
        state.writers.iter().all(|writer| writer.step == Step::Idle || writer.end != End::Open)
    }

    /// Lets one gc end what another began, and then collect once more by itself.
    pub(super) fn collected(&self, mut state: State) -> State {
        let last = state.gens.iter().rposition(|one| one.condemned.is_some()).unwrap_or(0);
        for number in [last, last + 1] {
            if number == 0 || number >= GENS || state.gens[number].done {
                continue;
            }
            if state.gens[number].condemned.is_none() {
                state.gens[number].condemned = Some(state.exists() & !self.needed(&state));
            }
            while !state.gens[number].done {
                let mut steps = Steps::new(false);
                self.closes(&state, number, &mut steps);
                self.decides(&state, number, &mut steps);
                if state.gens[number].delete.is_some() {
                    self.deletes(&state, number, &mut steps);
                }
                match steps.into_last() {
                    Some(next) if next != state => state = next,
                    _ => return state,
                }
            }
        }
        state
    }

    /// The packs that snapshots need, each chunk in one place.
    fn needed(&self, state: &State) -> Packs {
        let known = self.locatable(state);
        let snapshots = self.visible(state);
        self.spared(state, known, known, snapshots).first().copied().unwrap_or(0)
    }

    /// Whether every pack there is needed, and no gc is in the middle.
    pub(super) fn is_clean(&self, state: &State) -> bool {
        let is_done = state.gens.iter().all(|one| one.condemned.is_none() || one.done);
        is_done && state.exists() & !self.needed(state) == 0
    }
}
