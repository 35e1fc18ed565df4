//! Which chunks has this add taken as new that a worker's look-up may not have seen?
//!
//! Workers ask the index; a chunk that it has is known for good. One that it does not have may have been taken by this
//! add since, so it is compared with this set in the order of the walk. Invariant: a chunk stays in the set until every
//! look-up that began before its pack was in the index has been taken; so the set is bounded by what is in flight.

use std::collections::{HashSet, VecDeque};
use std::hash::{BuildHasher, Hasher, RandomState};
use std::sync::Arc;

use crate::format::directory::Directory;
use crate::format::id::ChunkId;

/// How far tasks were handed out: outer and inner ones.
pub(super) type Handed = (u64, u64);

/// New chunks.
#[derive(Debug, Default)]
pub(super) struct FreshChunks {
    ids: HashSet<ChunkId, Keyed>,
    /// Packs that are in the index, each with the tasks that may have asked before it was.
    indexed: VecDeque<(Handed, Arc<Directory>)>,
}

impl FreshChunks {
    /// Adds a chunk; `false` if it is there already.
    pub(super) fn insert(&mut self, id: &ChunkId) -> bool {
        self.ids.insert(*id)
    }

    pub(super) fn contains(&self, id: &ChunkId) -> bool {
        self.ids.contains(id)
    }

    /// A pack is in the index. Tasks handed out from now on find its chunks there.
    pub(super) fn indexed(&mut self, directory: Arc<Directory>, handed: Handed) {
        self.indexed.push_back((handed, directory));
    }

    /// All results of tasks before these were taken: forgets the chunks that nobody asks this set for any more.
    pub(super) fn taken(&mut self, (outer, inner): Handed) {
        while let Some((_, directory)) = self
            .indexed
            .pop_front_if(|((handed_outer, handed_inner), _)| *handed_outer <= outer && *handed_inner <= inner)
        {
            for chunk in &directory.chunks {
                self.ids.remove(&chunk.id);
            }
        }
    }
}

/// Hashes ids, which are hashes already, with a secret: ids that somebody chose do not collide more than others.
#[derive(Debug, Clone)]
struct Keyed([u64; 2]);

impl Default for Keyed {
    fn default() -> Self {
        let random = RandomState::new();
        Self([random.hash_one(0u8), random.hash_one(1u8) | 1])
    }
}

impl BuildHasher for Keyed {
    type Hasher = KeyedHasher;

    fn build_hasher(&self) -> KeyedHasher {
        KeyedHasher { keys: self.0, hash: 0 }
    }
}

#[derive(Debug)]
struct KeyedHasher {
    keys: [u64; 2],
    hash: u64,
}

impl Hasher for KeyedHasher {
    fn write(&mut self, bytes: &[u8]) {
        let [add, multiply] = self.keys;
        let word = bytes.first_chunk().map_or(0, |word| u64::from_le_bytes(*word));
        let product = u128::from(word ^ add) * u128::from(multiply);
        self.hash = (product >> 64) as u64 ^ product as u64;
    }

    /// The length of an id, which all have.
    fn write_usize(&mut self, _: usize) {}

    fn finish(&self) -> u64 {
        self.hash
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::format::directory::ChunkEntry;

    #[test]
    fn a_chunk_is_forgotten_once_all_who_asked_before_its_pack_was_indexed_are_taken() {
        let id = |n: u8| ChunkId::of(&[n]);
        let mut fresh = FreshChunks::default();
        assert!(fresh.insert(&id(1)) && fresh.insert(&id(2)));
        assert!(!fresh.insert(&id(1)), "it is there");
        let mut directory = Directory::default();
        directory.push(1, [0; 16], [ChunkEntry { id: id(1), length: 1 }]);
        fresh.indexed(Arc::new(directory), (5, 1));
        for early in [(4, 1), (5, 0), (0, 9)] {
            fresh.taken(early);
            assert!(fresh.contains(&id(1)), "{early:?}");
        }
        fresh.taken((5, 1));
        assert!(!fresh.contains(&id(1)) && fresh.contains(&id(2)));
    }
}
