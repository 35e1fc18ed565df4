//! Which of several copies is kept? Every id that is reached gets one *retained copy*, and a container that keeps nothing can go.
//!
//! Packs and recipes files are both containers of ids, so this is written once. The retained copy of an id lies in the container with the
//! greatest share of reached ids, so that what is nearly dead dies and what was rewritten already stays; what is
//! pending deletion comes last, so that a chunk stored a second time lets that pack go.
//!
//! Memory: reached ids are held whole, at most [`IDS_MAX`] of them at a time (33 to 75 bytes each). Where there are more,
//! the ids are taken in stretches of their first 8 bytes, and everything is read once more for each stretch. No answer
//! of the index is believed here: ids come from snapshots, recipes files and pack directories.

use std::cmp::Reverse;
use std::collections::HashSet;

use crate::error::Result;
use crate::format::name::ObjectName;

/// No more ids than this are held at once.
pub(in crate::engine) const IDS_MAX: usize = 8 << 20;

/// An id of a chunk or a recipe.
pub(in crate::engine) type Id = [u8; 32];

/// A pack, or a recipes file.
#[derive(Debug, Clone)]
pub(in crate::engine) struct Container {
    pub(in crate::engine) name: ObjectName,
    /// What it takes in the store.
    pub(in crate::engine) bytes: u64,
    /// Whether its list of ids could be read. One that could not keeps nothing and may hold anything.
    pub(in crate::engine) readable: bool,
    /// Whether it is pending deletion, so that any other copy is preferred.
    pub(in crate::engine) last: bool,
    /// Whether it is preferred to any other copy.
    pub(in crate::engine) first: bool,
    /// What its ids weigh together: bytes of chunks; recipes.
    pub(in crate::engine) weight: u64,
    /// What those weigh that are reached.
    reached: u64,
    /// What those weigh that it keeps.
    pub(in crate::engine) retained: u64,
    /// One bit for each of its ids: whether it keeps it.
    retained_copies: Vec<u64>,
}

impl Container {
    pub(in crate::engine) fn new(name: ObjectName, bytes: u64, last: bool) -> Self {
        Self {
            name,
            bytes,
            readable: true,
            last,
            first: false,
            weight: 0,
            reached: 0,
            retained: 0,
            retained_copies: Vec::new(),
        }
    }

    /// Whether it keeps its id of this ordinal.
    pub(in crate::engine) fn is_home(&self, ordinal: usize) -> bool {
        self.retained_copies.get(ordinal / 64).is_some_and(|word| word >> (ordinal % 64) & 1 == 1)
    }

    /// Whether it holds nothing that is needed from it.
    pub(in crate::engine) fn is_dead(&self) -> bool {
        self.readable && self.retained == 0
    }

    /// What its unneeded ids weigh.
    pub(in crate::engine) fn waste(&self) -> u64 {
        if self.readable { self.weight - self.retained } else { 0 }
    }

    fn make_home(&mut self, ordinal: usize, weight: u64) {
        self.retained += weight;
        if self.retained_copies.len() <= ordinal / 64 {
            self.retained_copies.resize(ordinal / 64 + 1, 0);
        }
        if let Some(word) = self.retained_copies.get_mut(ordinal / 64) {
            *word |= 1 << (ordinal % 64);
        }
    }

    fn forget(&mut self) {
        (self.weight, self.reached, self.retained) = (0, 0, 0);
        self.retained_copies.clear();
    }
}

/// Where ids come from.
pub(in crate::engine) trait Source {
    /// Calls `take` with every id that is reached, any number of times each. `false` says that no more are wanted.
    fn reach(&self, take: &mut dyn FnMut(&Id) -> bool) -> Result<()>;

    /// The ids in a container, in order, with their weights; `None` if they cannot be read.
    fn load(&self, name: &ObjectName) -> Result<Option<Vec<(Id, u64)>>>;
}

/// Gives every id that is reached its retained copy. Returns how many have none, because no container that can be read has them.
pub(in crate::engine) fn assign(containers: &mut [Container], source: &dyn Source, ids_max: usize) -> Result<u64> {
    let mut stretches = 1;
    loop {
        match assign_in(containers, source, ids_max, stretches)? {
            Some(homeless) => return Ok(homeless),
            None => stretches *= 2,
        }
    }
}

/// As [`assign`], in a number of partitions of the ids; `None` if one of them has too many ids.
fn assign_in(containers: &mut [Container], source: &dyn Source, ids_max: usize, stretches: u32) -> Result<Option<u64>> {
    containers.iter_mut().for_each(Container::forget);
    let mut ids = HashSet::new();
    for stretch in 0..stretches {
        if !gather(&mut ids, source, ids_max, stretch, stretches)? {
            return Ok(None);
        }
        for container in containers.iter_mut().filter(|container| container.readable) {
            let Some(list) = source.load(&container.name)? else {
                container.readable = false;
                container.forget();
                continue;
            };
            if stretch == 0 {
                container.weight = list.iter().map(|(_, weight)| weight).sum();
            }
            container.reached += list.iter().filter(|(id, _)| ids.contains(id)).map(|(_, weight)| weight).sum::<u64>();
        }
    }
    let mut order: Vec<usize> = (0..containers.len()).collect();
    order.sort_by_cached_key(|place| {
        let container = containers.get(*place);
        container.map(|of| {
            let share = (u128::from(of.reached) << 32) / u128::from(of.weight.max(1));
            (!of.first, of.last, Reverse(share), of.name)
        })
    });
    let mut homeless = 0;
    for stretch in 0..stretches {
        if stretches > 1 && !gather(&mut ids, source, ids_max, stretch, stretches)? {
            return Ok(None);
        }
        for place in &order {
            let Some(container) = containers.get_mut(*place).filter(|of| of.readable && of.reached > 0) else {
                continue;
            };
            let Some(list) = source.load(&container.name)? else {
                // It could be read a moment ago. Better to stop than to reckon with half of it.
                return Err(crate::error::Error::damaged_whole(container.name.path(), "it cannot be read any more"));
            };
            for (ordinal, (id, weight)) in list.iter().enumerate() {
                if ids.remove(id) {
                    container.make_home(ordinal, *weight);
                }
            }
        }
        homeless += ids.len() as u64;
    }
    Ok(Some(homeless))
}

/// The ids of a stretch that are reached; `false` if there are too many.
fn gather(ids: &mut HashSet<Id>, source: &dyn Source, ids_max: usize, stretch: u32, stretches: u32) -> Result<bool> {
    ids.clear();
    source.reach(&mut |id| {
        if stretches == 1 || stretch_of(id, stretches) == stretch {
            ids.insert(*id);
        }
        ids.len() <= ids_max
    })?;
    Ok(ids.len() <= ids_max)
}

fn stretch_of(id: &Id, stretches: u32) -> u32 {
    let prefix = id.first_chunk().map_or(0, |bytes| u64::from_be_bytes(*bytes));
    ((u128::from(prefix) * u128::from(stretches)) >> 64) as u32
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing)]
    use super::*;
    use crate::format::id::PackId;
    use std::collections::BTreeMap;

    struct Given {
        reached: Vec<Id>,
        lists: BTreeMap<ObjectName, Option<Vec<(Id, u64)>>>,
    }

    impl Source for Given {
        fn reach(&self, take: &mut dyn FnMut(&Id) -> bool) -> Result<()> {
            let _ = self.reached.iter().all(take);
            Ok(())
        }
        fn load(&self, name: &ObjectName) -> Result<Option<Vec<(Id, u64)>>> {
            Ok(self.lists[name].clone())
        }
    }

    fn id(n: u64) -> Id {
        *blake3_like(n).as_bytes()
    }

    fn blake3_like(n: u64) -> crate::format::id::ChunkId {
        crate::format::id::ChunkId::of(&n.to_le_bytes())
    }

    fn pack(n: u8) -> ObjectName {
        ObjectName::Pack(PackId([n; 32]))
    }

    fn retained_copies(container: &Container, count: usize) -> Vec<usize> {
        (0..count).filter(|ordinal| container.is_home(*ordinal)).collect()
    }

    #[test]
    fn every_id_has_one_home_where_most_is_reached_and_pending_deletes_come_last() {
        let lists = [
            // Half of it reached.
            (pack(1), Some(vec![(id(1), 10), (id(2), 10), (id(8), 10), (id(9), 10)])),
            // All of it reached: it keeps what it shares with the first.
            (pack(2), Some(vec![(id(2), 10), (id(3), 10)])),
            // All of it reached, and pending deletion: it keeps only what nobody else has.
            (pack(3), Some(vec![(id(1), 10), (id(4), 10)])),
            // Nothing of it is reached.
            (pack(4), Some(vec![(id(7), 10)])),
            // Nobody knows.
            (pack(5), None),
        ];
        let given = Given { reached: [1, 2, 3, 4, 5, 2, 1].map(id).to_vec(), lists: lists.into_iter().collect() };
        // All at once, and one id at a time.
        for ids_max in [100, 2, 1] {
            let mut packs: Vec<_> = (1..=5).map(|n| Container::new(pack(n), 100, n == 3)).collect();
            assert_eq!(assign(&mut packs, &given, ids_max).unwrap(), 1, "id 5 is nowhere");
            assert_eq!(retained_copies(&packs[0], 4), [0]);
            assert_eq!(retained_copies(&packs[1], 2), [0, 1]);
            assert_eq!(retained_copies(&packs[2], 2), [1]);
            assert!(retained_copies(&packs[3], 1).is_empty());
            assert_eq!([30, 0, 10, 10, 0], [0, 1, 2, 3, 4].map(|n| packs[n].waste()), "{ids_max}");
            assert_eq!([false, false, false, true, false], [0, 1, 2, 3, 4].map(|n| packs[n].is_dead()));
        }
    }

    #[test]
    fn stretches_part_all_ids() {
        for stretches in [1, 2, 3, 8] {
            for n in 0..100 {
                assert!(stretch_of(&id(n), stretches) < stretches);
            }
        }
        assert_eq!(stretch_of(&[0xff; 32], 7), 6);
        assert_eq!(stretch_of(&[0; 32], 7), 0);
    }
}
