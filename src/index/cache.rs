//! Which of the packs that were just in use has a chunk?
//!
//! Data comes back in the order it came first: when a chunk is found in a pack, the next ones are most likely in the
//! same pack, or in one of the few others that were hit lately. So directories that were needed are kept whole, each
//! with a hash table from id to ordinal, and the latest few are asked before the tables are. Invariant: the bytes held
//! stay below the limit (but one directory is always kept); answers compare whole ids.

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

use crate::format::directory::{ChunkEntry, Directory, FrameEntry};
use crate::format::id::{ChunkId, PackId};

/// How many packs are asked before the run files are. Interleaved versions of one tree hit a few packs in turn.
const RECENT: usize = 16;

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
    pub(super) pack: PackId,
    pub(super) directory: Arc<Directory>,
    /// Open addressing: 0, or the key's high half, then the ordinal plus one.
    slots: Box<[u64]>,
}

impl Known {
    fn new(pack: PackId, directory: Arc<Directory>, keys: &Keys) -> Self {
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
        Self { pack, directory, slots }
    }

    /// The ordinal of a chunk.
    pub(super) fn find(&self, key: Key, id: &ChunkId) -> Option<u32> {
        let mask = self.slots.len() - 1;
        let mut at = key.0 as usize & mask;
        loop {
            let slot = *self.slots.get(at)?;
            if slot == 0 {
                return None;
            }
            if slot >> 32 == key.0 >> 32 {
                let ordinal = slot as u32 - 1;
                if self.directory.chunks.get(ordinal as usize).is_some_and(|chunk| chunk.id == *id) {
                    return Some(ordinal);
                }
            }
            at = (at + 1) & mask;
        }
    }

    fn bytes(&self) -> usize {
        size_of_val::<[u64]>(&self.slots)
            + self.directory.chunks.capacity() * size_of::<ChunkEntry>()
            + self.directory.frames.capacity() * size_of::<FrameEntry>()
    }
}

/// The directories that are kept.
#[derive(Debug)]
pub(super) struct Directories {
    keys: Keys,
    bytes_max: usize,
    clock: AtomicU64,
    held: RwLock<HeldLock>,
}

#[derive(Debug, Default)]
struct HeldLock {
    /// The latest hit first.
    recent: Vec<Arc<Known>>,
    all: HashMap<PackId, (Arc<Known>, AtomicU64)>,
    bytes: usize,
}

impl Directories {
    pub(super) fn new(bytes_max: usize) -> Self {
        Self { keys: Keys::new(), bytes_max, clock: AtomicU64::new(0), held: RwLock::default() }
    }

    pub(super) fn key(&self, id: &ChunkId) -> Key {
        self.keys.key(id)
    }

    /// The chunk in the pack hit last.
    #[inline]
    pub(super) fn find_latest(&self, key: Key, id: &ChunkId) -> Option<(Arc<Known>, u32)> {
        let held = self.held.read().unwrap_or_else(PoisonError::into_inner);
        let known = held.recent.first()?;
        let chunk = known.find(key, id)?;
        Some((Arc::clone(known), chunk))
    }

    /// The chunk in one of the packs hit lately.
    pub(super) fn find_recent(&self, key: Key, id: &ChunkId) -> Option<(Arc<Known>, u32)> {
        let held = self.held.read().unwrap_or_else(PoisonError::into_inner);
        let (position, known, chunk) = held
            .recent
            .iter()
            .enumerate()
            .find_map(|(position, known)| Some((position, known, known.find(key, id)?)))?;
        let known = Arc::clone(known);
        drop(held);
        if position > 0 {
            self.hit(&known);
        }
        Some((known, chunk))
    }

    /// A pack's directory, if it is kept.
    pub(super) fn get(&self, pack: &PackId) -> Option<Arc<Known>> {
        let held = self.held.read().unwrap_or_else(PoisonError::into_inner);
        let (known, used) = held.all.get(pack)?;
        used.store(self.clock.fetch_add(1, Ordering::Relaxed), Ordering::Relaxed);
        Some(Arc::clone(known))
    }

    /// Keeps a directory, letting those go that were not used for longest.
    pub(super) fn insert(&self, pack: PackId, directory: Arc<Directory>) -> Arc<Known> {
        let known = Arc::new(Known::new(pack, directory, &self.keys));
        let now = self.clock.fetch_add(1, Ordering::Relaxed);
        let mut held = self.held.write().unwrap_or_else(PoisonError::into_inner);
        held.remove(&pack);
        while held.bytes + known.bytes() > self.bytes_max {
            let used = |slot: &(Arc<Known>, AtomicU64)| slot.1.load(Ordering::Relaxed);
            let Some(oldest) = held.all.iter().min_by_key(|(_, slot)| used(slot)).map(|(pack, _)| *pack) else {
                break;
            };
            held.remove(&oldest);
        }
        held.bytes += known.bytes();
        held.all.insert(pack, (Arc::clone(&known), AtomicU64::new(now)));
        known
    }

    /// Puts a directory before the others.
    pub(super) fn hit(&self, known: &Arc<Known>) {
        let now = self.clock.fetch_add(1, Ordering::Relaxed);
        let mut held = self.held.write().unwrap_or_else(PoisonError::into_inner);
        match held.all.get(&known.pack) {
            Some((_, used)) => used.store(now, Ordering::Relaxed),
            // It was let go meanwhile.
            None => return,
        }
        match held.recent.iter().position(|recent| recent.pack == known.pack) {
            Some(position) => {
                if let Some(front) = held.recent.get_mut(..=position) {
                    front.rotate_right(1);
                }
            }
            None => {
                held.recent.truncate(RECENT - 1);
                held.recent.insert(0, Arc::clone(known));
            }
        }
    }

    /// Forgets a pack.
    pub(super) fn remove(&self, pack: &PackId) {
        self.held.write().unwrap_or_else(PoisonError::into_inner).remove(pack);
    }

    /// Bytes held.
    pub(super) fn bytes(&self) -> usize {
        self.held.read().unwrap_or_else(PoisonError::into_inner).bytes
    }
}

impl HeldLock {
    fn remove(&mut self, pack: &PackId) {
        if let Some((known, _)) = self.all.remove(pack) {
            self.bytes -= known.bytes();
            self.recent.retain(|recent| recent.pack != *pack);
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
        let known = Known::new(PackId([0; 32]), Arc::new(Directory { frames: Vec::new(), chunks }), &keys);
        for number in 1..=255 {
            assert_eq!(keys.key(&id(number)).0, 0);
            let expected = (number < 200).then(|| u32::from(number) - 1);
            assert_eq!(known.find(keys.key(&id(number)), &id(number)), expected);
        }
        let empty = Known::new(PackId([0; 32]), Arc::default(), &keys);
        assert_eq!(empty.find(keys.key(&id(1)), &id(1)), None);
    }
}
