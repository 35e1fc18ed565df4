//! What is in the bucket, and what must hold of it at every moment.

use super::{Mistake, Scenario};

/// A set of packs, a bit each.
pub(super) type Packs = u16;
/// A set of chunks: 1 is a, 2 is b.
pub(super) type Chunks = u8;
/// A set of snapshots: the two initial ones, then one for each writer.
pub(super) type Snapshots = u8;

pub(super) const WRITERS: usize = 3;
/// Generations that have a place in a state: one more than a scenario may use, for the gc that ends it all.
pub(super) const GENS: usize = 4;
/// Slots of one generation, shared by the lanes.
const CELLS: usize = 4;

pub(super) const INITIAL: Packs = 3;
/// A pack that a cache knows and this bucket never had.
pub(super) const GHOST: usize = 7;

pub(super) const EMPTY: u8 = 0;
pub(super) const CLOSED: u8 = 9;

/// What a writer is there for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Absent,
    /// Adds a snapshot that needs these chunks.
    Add(Chunks),
    /// Removes a snapshot.
    Remove(usize),
    /// Adds a snapshot that needs what another one needs, and removes that one: tag, forget, rewrite.
    Rewrite(usize),
    /// Adds a snapshot that needs what another one needs.
    Merge(usize),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub(super) enum Step {
    #[default]
    Idle,
    /// Its lease is on the way to a slot, or there.
    Aimed,
    /// All its packs are put, and its commit is on the way.
    Ready,
    /// It does nothing any more, whatever is still on the way.
    GaveUp,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub(super) enum End {
    #[default]
    Open,
    Committed,
    Revoked,
    /// Mistakes only: gc counts the lease as ended and nothing says so.
    Expired,
    /// Mistakes only: the writer ended its lease without a commit.
    EndedAlone,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub(super) struct Writer {
    pub(super) step: Step,
    pub(super) end: End,
    pub(super) gen_: u8,
    pub(super) slot: u8,
    /// Chunks in its own pack.
    pub(super) own: Chunks,
    /// Packs whose segments its commit names.
    pub(super) names: Packs,
}

/// What gc decided about one generation. Nothing here changes once it is decided.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub(super) struct Generation {
    pub(super) condemned: Option<Packs>,
    /// Copies that `condemned` names.
    pub(super) copies: Packs,
    pub(super) delete: Option<Packs>,
    pub(super) done: bool,
}

/// A pack that a gc copied: its chunks and the generation its segment lies in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub(super) struct Copied {
    pub(super) chunks: Chunks,
    pub(super) gen_: u8,
    /// C4 only: the list that this gc would have condemned.
    pub(super) list: Packs,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Reader {
    Idle,
    /// It knows these packs.
    Loaded(Packs),
    Finished,
    /// It said that a snapshot is damaged that is whole.
    ReportsDamage,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct State {
    pub(super) cells: [[u8; CELLS]; GENS],
    pub(super) writers: [Writer; WRITERS],
    pub(super) gens: [Generation; GENS],
    pub(super) copied: [Copied; 2],
    /// Packs of which a put was acknowledged.
    pub(super) put: Packs,
    /// Packs of which a delete was ever sent.
    pub(super) deleted: Packs,
    /// Writers whose commit landed although they had been revoked.
    pub(super) undead: bool,
    pub(super) reader: Reader,
}

pub(super) const fn bit(pack: usize) -> Packs {
    1 << pack
}

pub(super) const fn writers_pack(writer: usize) -> usize {
    2 + writer
}

pub(super) const fn copy_of(gc: usize) -> usize {
    5 + gc
}

pub(super) fn each(packs: Packs) -> impl Iterator<Item = usize> {
    (0..16).filter(move |pack| packs & bit(*pack) != 0)
}

/// Names of packs, for people.
pub(super) fn spell(packs: Packs) -> String {
    const NAMES: [&str; 8] = ["P0", "P1", "W0", "W1", "W2", "C0", "C1", "ghost"];
    let names: Vec<&str> = each(packs).map(|pack| NAMES[pack]).collect();
    format!("{{{}}}", names.join(" "))
}

pub(super) fn spell_chunks(chunks: Chunks) -> &'static str {
    ["nothing", "a", "b", "a and b"][chunks as usize]
}

impl State {
    pub(super) fn begin() -> Self {
        let mut gens = [Generation::default(); GENS];
        gens[0].done = true;
        State {
            cells: [[EMPTY; CELLS]; GENS],
            writers: Default::default(),
            gens,
            copied: Default::default(),
            put: INITIAL,
            deleted: 0,
            undead: false,
            reader: Reader::Idle,
        }
    }

    /// Packs that a GET finds for sure.
    pub(super) fn exists(&self) -> Packs {
        self.put & !self.deleted
    }

    pub(super) fn chunks(&self, pack: usize) -> Chunks {
        match pack {
            0 => 3,
            1 | GHOST => 2,
            2..5 => self.writers[pack - 2].own,
            _ => self.copied[pack - 5].chunks,
        }
    }

    /// Those of the packs that have a chunk.
    pub(super) fn having(&self, packs: Packs, chunk: Chunks) -> Packs {
        each(packs).filter(|pack| self.chunks(*pack) & chunk != 0).fold(0, |all, pack| all | bit(pack))
    }

    /// The newest generation that is done.
    pub(super) fn newest_done(&self) -> usize {
        (0..GENS).rev().find(|number| self.gens[*number].done).unwrap_or(0)
    }

    pub(super) fn committed(&self, gens: std::ops::Range<usize>) -> impl Iterator<Item = usize> {
        let is_in = move |writer: &Writer| writer.end == End::Committed && gens.contains(&(writer.gen_ as usize));
        (0..WRITERS).filter(move |writer| is_in(&self.writers[*writer]))
    }

    /// Packs whose segments the ledger of this generation names: what `done` of it says, or will say.
    pub(super) fn ledger(&self, number: usize) -> Packs {
        let mut all = INITIAL;
        for at in 1..=number {
            all &= !self.gens[at - 1].delete.unwrap_or(0);
            all |= self.committed(at - 1..at).fold(0, |names, writer| names | self.writers[writer].names);
            all |= self.gens[at].copies;
        }
        all
    }

    /// Packs whose segments lie in `index/` of this generation or a later one.
    pub(super) fn index_from(&self, number: usize) -> Packs {
        let writers = (0..WRITERS).filter(|writer| self.writers[*writer].gen_ as usize >= number);
        let copies = (0..2).filter(|gc| self.copied[*gc].gen_ as usize >= number);
        let all = writers.map(writers_pack).chain(copies.map(copy_of)).fold(0, |all, pack| all | bit(pack));
        all & self.put
    }
}

impl Scenario {
    pub(super) fn want(&self, snapshot: usize) -> Chunks {
        match snapshot {
            0 => 1,
            1 => 2,
            _ => match self.writers[snapshot - 2] {
                Kind::Add(want) => want,
                Kind::Rewrite(of) | Kind::Merge(of) => self.want(of),
                Kind::Remove(_) | Kind::Absent => 0,
            },
        }
    }

    fn added(&self, writer: usize) -> Snapshots {
        match self.writers[writer] {
            Kind::Add(_) | Kind::Rewrite(_) | Kind::Merge(_) => 1 << (2 + writer),
            Kind::Remove(_) | Kind::Absent => 0,
        }
    }

    fn removed(&self, writer: usize) -> Snapshots {
        match self.writers[writer] {
            Kind::Remove(snapshot) | Kind::Rewrite(snapshot) => 1 << snapshot,
            _ => 0,
        }
    }

    /// What commits in these generations make of these snapshots.
    fn after(&self, state: &State, snapshots: Snapshots, gens: std::ops::Range<usize>) -> Snapshots {
        let added = state.committed(gens.clone()).fold(0, |all, writer| all | self.added(writer));
        let removed = state.committed(gens).fold(0, |all, writer| all | self.removed(writer));
        (snapshots | added) & !removed
    }

    /// Snapshots of the ledger of this generation.
    pub(super) fn snapshots(&self, state: &State, number: usize) -> Snapshots {
        (1..=number).fold(self.snapshots, |snapshots, at| match self.mistake {
            Mistake::RemovalsIgnored => snapshots | self.after(state, snapshots, at - 1..at),
            _ => self.after(state, snapshots, at - 1..at),
        })
    }

    /// Snapshots that are there, as a reader finds out now: the newest ledger and all ends since.
    pub(super) fn visible(&self, state: &State) -> Snapshots {
        let newest = state.newest_done();
        let listed = self.mistake == Mistake::ListedLedger && newest > 0;
        let ledger = self.snapshots(state, newest) & if listed { !self.added(1) } else { Snapshots::MAX };
        self.after(state, ledger, newest..GENS)
    }

    /// Packs that a reader finds out about now: those of the newest ledger, of all ends since, and of the copies that
    /// the list of condemned packs behind it names, but for those that the list of deletes behind it names.
    pub(super) fn locatable(&self, state: &State) -> Packs {
        let newest = state.newest_done();
        let ends = state.committed(newest..GENS).fold(0, |all, writer| all | state.writers[writer].names);
        let known = (state.ledger(newest) & !state.gens[newest].delete.unwrap_or(0)) | ends;
        match state.gens.get(newest + 1) {
            Some(next) if self.mistake != Mistake::ReaderLoadsOnlyDone => {
                (known | next.copies) & !next.delete.unwrap_or(0)
            }
            _ => known,
        }
    }

    /// Whether all that a snapshot needs is in these packs: its own object and each of its chunks.
    pub(super) fn is_whole(&self, state: &State, snapshot: usize, packs: Packs) -> bool {
        let own = if snapshot < 2 { 0 } else { bit(writers_pack(snapshot - 2)) };
        let want = self.want(snapshot);
        let has = |chunk| want & chunk == 0 || state.having(packs, chunk) != 0;
        own & !packs == 0 && has(1) && has(2)
    }

    /// What must never be seen.
    pub(super) fn violated(&self, state: &State) -> Option<&'static str> {
        let there = self.after(state, self.snapshots, 0..GENS);
        let visible = self.visible(state);
        if there & !visible != 0 {
            return Some("an acknowledged snapshot is not visible");
        }
        if visible & !there != 0 {
            return Some("a removed snapshot is visible again");
        }
        if state.undead {
            return Some("a revoked add's snapshot is visible");
        }
        for snapshot in (0..2 + WRITERS).filter(|snapshot| visible >> snapshot & 1 == 1) {
            // What is decided will be deleted.
            let lasting = state.gens.iter().fold(state.exists(), |packs, one| packs & !one.delete.unwrap_or(0));
            if !self.is_whole(state, snapshot, lasting) {
                return Some("what a visible snapshot needs is deleted");
            }
            if self.mistake != Mistake::ReaderLoadsOnlyDone
                && !self.is_whole(state, snapshot, lasting & self.locatable(state))
            {
                return Some("what a visible snapshot needs is in packs that nobody can find");
            }
        }
        if state.reader == Reader::ReportsDamage {
            return Some("a reader reports damage of a snapshot that is whole");
        }
        if state.gens.iter().any(|one| one.done && one.delete.unwrap_or(0) & !state.deleted != 0) {
            return Some("gc is done and its garbage is still there");
        }
        if self.mistake == Mistake::None && self.is_quiet(state) && !self.is_clean(&self.collected(*state)) {
            return Some("another gc leaves garbage, or does not end");
        }
        None
    }
}
