//! What is kept of earlier reads: decoded frames, if that was asked for, and the chunk lists of files too long for the
//! table. Bounded both.

use std::collections::{HashMap, VecDeque};
use std::hash::{BuildHasher, RandomState};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::table::FrameRef;
use crate::error::Result;
use crate::format::recipe::Piece;

/// The cache is in parts of its own lock each, so that threads seldom wait.
const PARTS: usize = 16;

/// The lists of the files read last: so many of them.
const RECENT_FILES: usize = 16;
/// No more than these pieces together, unless one list alone is longer: 40 bytes each.
const RECENT_PIECES: usize = 1 << 20;

type FrameKey = (u32, u64);

/// Decoded frames, the first in the first out.
#[derive(Debug)]
pub(super) struct FrameCache {
    hasher: RandomState,
    parts: Vec<Mutex<CacheShard>>,
    part_bytes_max: usize,
}

#[derive(Debug, Default)]
struct CacheShard {
    frames: HashMap<FrameKey, Arc<Vec<u8>>>,
    order: VecDeque<FrameKey>,
    bytes: usize,
}

impl FrameCache {
    pub(super) fn new(bytes_max: usize) -> Self {
        let parts = (0..PARTS).map(|_| Mutex::default()).collect();
        Self { hasher: RandomState::new(), parts, part_bytes_max: bytes_max / PARTS }
    }

    pub(super) fn get(&self, frame: &FrameRef) -> Option<Arc<Vec<u8>>> {
        self.part(frame)?.frames.get(&place(frame)).cloned()
    }

    /// Keeps a frame, unless it is too large for its part.
    pub(super) fn put(&self, frame: &FrameRef, raw: &[u8]) {
        let bytes = raw.len();
        if bytes > self.part_bytes_max {
            return;
        }
        let raw = Arc::new(raw.to_vec());
        let Some(mut part) = self.part(frame) else { return };
        let part = &mut *part;
        if part.frames.insert(place(frame), raw).is_some() {
            // Another thread was as fast.
            return;
        }
        part.order.push_back(place(frame));
        part.bytes += bytes;
        while part.bytes > self.part_bytes_max {
            let Some(oldest) = part.order.pop_front() else { break };
            part.bytes -= part.frames.remove(&oldest).map_or(0, |frame| frame.len());
        }
    }

    #[cfg(test)]
    pub(super) fn bytes(&self) -> usize {
        let bytes = |part: &Mutex<CacheShard>| {
            let part = part.lock().unwrap_or_else(PoisonError::into_inner);
            assert_eq!(part.bytes, part.frames.values().map(|frame| frame.len()).sum::<usize>());
            part.bytes
        };
        self.parts.iter().map(bytes).sum()
    }

    fn part(&self, frame: &FrameRef) -> Option<MutexGuard<'_, CacheShard>> {
        let number = self.hasher.hash_one(place(frame)) as usize % PARTS;
        Some(self.parts.get(number)?.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

fn place(frame: &FrameRef) -> FrameKey {
    (frame.pack, frame.offset)
}

/// The pieces of the files that were looked up last.
#[derive(Debug, Default)]
pub(super) struct RecentPieces {
    /// By row, the one used last at the end.
    lists: Mutex<Vec<(u32, Arc<Vec<Piece>>)>>,
}

impl RecentPieces {
    /// The pieces of a row: kept, or found by `find`.
    pub(super) fn get(&self, row: u32, find: impl FnOnce() -> Result<Arc<Vec<Piece>>>) -> Result<Arc<Vec<Piece>>> {
        let mut lists = self.lock();
        let pieces = match lists.iter().position(|(known, _)| *known == row) {
            Some(at) => lists.remove(at).1,
            None => {
                drop(lists);
                let found = find()?;
                lists = self.lock();
                lists.retain(|(known, _)| *known != row);
                found
            }
        };
        lists.push((row, Arc::clone(&pieces)));
        let too_long = |lists: &Vec<(u32, Arc<Vec<Piece>>)>| {
            lists.len() > RECENT_FILES || lists.iter().map(|(_, list)| list.len()).sum::<usize>() > RECENT_PIECES
        };
        while lists.len() > 1 && too_long(&lists) {
            lists.remove(0);
        }
        Ok(pieces)
    }

    fn lock(&self) -> MutexGuard<'_, Vec<(u32, Arc<Vec<Piece>>)>> {
        self.lists.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
