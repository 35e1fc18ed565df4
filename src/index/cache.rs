//! Which of the packs that were just in use has a chunk?
//!
//! Data comes back in the order it came first: when a chunk is found in a pack, the next ones are most likely in the
//! same pack, or in one of the few others that were hit lately. So directories that were needed are kept whole, each
//! with a hash table from id to ordinal, and the latest few are asked before the tables are. Invariant: the bytes held
//! stay below the limit (but one directory is always kept); answers compare whole ids.

use std::hash::{BuildHasher, RandomState};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use super::{LoadDirectory, Location};
use crate::error::Result;

use crate::format::directory::{ChunkEntry, Directory, FrameEntry};
use crate::format::id::{ChunkId, PackId};

/// How many packs are asked before the run files are. Interleaved versions of one tree hit a few packs in turn.
const RECENT: usize = 16;

/// A directory counts as this many bytes at least.
const KNOWN_BYTES_MIN: usize = 16 << 10;

/// A hash of an id: even if the ids were chosen by somebody who wants them to collide, they do not.
#[derive(Debug, Clone, Copy)]
pub(super) struct Key(u64);

/// Random multipliers.
#[derive(Debug)]
struct Keys([u64; 4]);

impl Keys {
    fn new() -> Self {
        let random = RandomState::new();
        Self([0u8, 1, 2, 3].map(|i| random.hash_one(i)))
    }

    /// Sums of products of (word + key) pairs (NH, of UMAC).
    fn key(&self, id: &ChunkId) -> Key {
        let mut words = [0; 4];
        for ((word, bytes), key) in words.iter_mut().zip(id.0.as_chunks::<8>().0).zip(self.0) {
            *word = u64::from_le_bytes(*bytes).wrapping_add(key);
        }
        let [a, b, c, d] = words.map(u128::from);
        let sum = (a * b).wrapping_add(c * d);
        Key((sum >> 64) as u64 ^ sum as u64)
    }
}

/// A directory with a hash table over its chunks.
#[derive(Debug)]
pub(super) struct Known {
    directory: Arc<Directory>,
    /// Open addressing: 0, or the key's high half, then the ordinal plus one.
    slots: Box<[u64]>,
}

impl Known {
    fn new(directory: Arc<Directory>, keys: &Keys) -> Self {
        let places = (directory.chunks.len() * 4 / 3 + 1).next_power_of_two();
        let mut slots = vec![0; places].into_boxed_slice();
        for (ordinal, chunk) in (1u64..).zip(&directory.chunks).take(u32::MAX as usize) {
            let key = keys.key(&chunk.id);
            let mut at = key.0 as usize & (places - 1);
            while let Some(slot) = slots.get_mut(at) {
                if *slot == 0 {
                    *slot = key.0 & !u64::from(u32::MAX) | ordinal;
                    break;
                }
                at = (at + 1) & (places - 1);
            }
        }
        Self { directory, slots }
    }

    /// Where a chunk is, if it is in this pack.
    fn find(&self, pack: PackId, key: Key, id: &ChunkId) -> Option<Location> {
        let mask = self.slots.len() - 1;
        let mut at = key.0 as usize & mask;
        loop {
            let slot = *self.slots.get(at)?;
            if slot == 0 {
                return None;
            }
            if slot >> 32 == key.0 >> 32 {
                let chunk = slot as u32 - 1;
                if self.directory.chunks.get(chunk as usize).is_some_and(|chunk| chunk.id == *id) {
                    return Some(Location { pack, directory: Arc::clone(&self.directory), chunk });
                }
            }
            at = (at + 1) & mask;
        }
    }

    /// Bytes it takes. Not less than some, because a look-up goes through all that are kept.
    fn bytes(&self) -> usize {
        let bytes = size_of_val::<[u64]>(&self.slots)
            + self.directory.chunks.capacity() * size_of::<ChunkEntry>()
            + self.directory.frames.capacity() * size_of::<FrameEntry>();
        bytes.max(KNOWN_BYTES_MIN)
    }
}

/// The directories that are kept.
#[derive(Debug)]
pub(super) struct Directories {
    keys: Keys,
    bytes_max: usize,
    held: RwLock<Held>,
}

#[derive(Debug, Default)]
struct Held {
    /// The latest hit first, and then, behind [`RECENT`], the others.
    all: Vec<(PackId, Arc<Known>)>,
    bytes: usize,
}

impl Directories {
    pub(super) fn new(bytes_max: usize) -> Self {
        Self { keys: Keys::new(), bytes_max, held: RwLock::default() }
    }

    pub(super) fn key(&self, id: &ChunkId) -> Key {
        self.keys.key(id)
    }

    fn read(&self) -> RwLockReadGuard<'_, Held> {
        self.held.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, Held> {
        self.held.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// The chunk in the pack hit last.
    #[inline]
    pub(super) fn find_latest(&self, key: Key, id: &ChunkId) -> Option<Location> {
        let held = self.read();
        let (pack, known) = held.all.first()?;
        known.find(*pack, key, id)
    }

    /// The chunk in one of the packs hit lately.
    pub(super) fn find_recent(&self, key: Key, id: &ChunkId) -> Option<Location> {
        let recent = |held: &Held| held.all.iter().take(RECENT).find_map(|(pack, known)| known.find(*pack, key, id));
        let found = recent(&self.read())?;
        self.write().hit(&found.pack);
        Some(found)
    }

    /// Whether a pack's directory is kept.
    pub(super) fn has(&self, pack: &PackId) -> bool {
        self.read().position(pack).is_some()
    }

    /// The chunk in a pack, whose directory is read if it is not kept.
    ///
    /// # Errors
    /// Those of `load`.
    pub(super) fn find_in(
        &self,
        pack: PackId,
        key: Key,
        id: &ChunkId,
        load: LoadDirectory<'_>,
    ) -> Result<Option<Location>> {
        let kept = self.read().get(&pack);
        let known = match kept {
            Some(known) => known,
            None => self.insert(pack, load(&pack)?),
        };
        let found = known.find(pack, key, id);
        if found.is_some() {
            self.write().hit(&pack);
        }
        Ok(found)
    }

    /// Keeps a directory, letting those go that were not used for longest.
    pub(super) fn insert(&self, pack: PackId, directory: Arc<Directory>) -> Arc<Known> {
        let known = Arc::new(Known::new(directory, &self.keys));
        let mut held = self.write();
        held.remove(&pack);
        while held.bytes + known.bytes() > self.bytes_max
            && let Some((_, oldest)) = held.all.pop()
        {
            held.bytes -= oldest.bytes();
        }
        held.bytes += known.bytes();
        let position = held.all.len().min(RECENT);
        held.all.insert(position, (pack, Arc::clone(&known)));
        known
    }

    /// Forgets a pack.
    pub(super) fn remove(&self, pack: &PackId) {
        self.write().remove(pack);
    }

    /// Bytes held.
    pub(super) fn bytes(&self) -> usize {
        self.read().bytes
    }
}

impl Held {
    fn position(&self, pack: &PackId) -> Option<usize> {
        self.all.iter().position(|(held, _)| held == pack)
    }

    fn get(&self, pack: &PackId) -> Option<Arc<Known>> {
        self.all.get(self.position(pack)?).map(|(_, known)| Arc::clone(known))
    }

    /// Puts a directory before the others, if it was not let go meanwhile.
    fn hit(&mut self, pack: &PackId) {
        if let Some(before) = self.position(pack).and_then(|position| self.all.get_mut(..=position)) {
            before.rotate_right(1);
        }
    }

    fn remove(&mut self, pack: &PackId) {
        if let Some(position) = self.position(pack) {
            self.bytes -= self.all.remove(position).1.bytes();
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing)]

    use super::*;

    #[test]
    fn ids_of_one_hash_are_told_apart() {
        // Keys that somebody knew: every product is zero, so all ids clash.
        let keys = Keys([0; 4]);
        let id = |number: u8| {
            let mut id = [0; 32];
            id[8] = number;
            id[24] = number;
            ChunkId(id)
        };
        let chunks = (1..200).map(|number| ChunkEntry { id: id(number), length: 1 }).collect();
        let known = Known::new(Arc::new(Directory { frames: Vec::new(), chunks }), &keys);
        for number in 1..=255 {
            assert_eq!(keys.key(&id(number)).0, 0);
            let expected = (number < 200).then(|| u32::from(number) - 1);
            let found = known.find(PackId([0; 32]), keys.key(&id(number)), &id(number));
            assert_eq!(found.map(|found| found.chunk), expected);
        }
        let empty = Known::new(Arc::default(), &keys);
        assert!(empty.find(PackId([0; 32]), keys.key(&id(1)), &id(1)).is_none());
    }
}
