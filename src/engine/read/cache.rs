//! Which decoded frames are kept for later reads? Those of the last reads, as many as a bound allows.

use std::collections::{HashMap, VecDeque};
use std::hash::{BuildHasher, RandomState};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::frame::FrameBytes;
use crate::format::id::PackId;

/// The cache is in parts of its own lock each, so that threads seldom wait.
const PARTS: usize = 16;

/// A pack, and where in it the frame begins.
type FrameKey = (PackId, u64);

/// Decoded frames, the first in the first out.
#[derive(Debug)]
pub(super) struct FrameCache {
    hasher: RandomState,
    parts: Vec<Mutex<CacheShard>>,
    part_bytes_max: usize,
}

#[derive(Debug, Default)]
struct CacheShard {
    frames: HashMap<FrameKey, Arc<FrameBytes>>,
    order: VecDeque<FrameKey>,
    bytes: usize,
}

impl FrameCache {
    pub(super) fn new(bytes_max: usize) -> Self {
        let parts = (0..PARTS).map(|_| Mutex::default()).collect();
        Self { hasher: RandomState::new(), parts, part_bytes_max: bytes_max / PARTS }
    }

    pub(super) fn get(&self, pack: &PackId, offset: u64) -> Option<Arc<FrameBytes>> {
        let key = (*pack, offset);
        self.part(&key)?.frames.get(&key).cloned()
    }

    /// Keeps a frame, all of whose bytes were decoded, unless it is too large for its part.
    pub(super) fn put(&self, pack: &PackId, offset: u64, frame: &Arc<FrameBytes>) {
        let (key, bytes) = ((*pack, offset), frame.len());
        if bytes > self.part_bytes_max {
            return;
        }
        let Some(mut part) = self.part(&key) else { return };
        let part = &mut *part;
        if part.frames.insert(key, Arc::clone(frame)).is_some() {
            // Another thread was as fast.
            return;
        }
        part.order.push_back(key);
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

    fn part(&self, key: &FrameKey) -> Option<MutexGuard<'_, CacheShard>> {
        let number = self.hasher.hash_one(key) as usize % PARTS;
        Some(self.parts.get(number)?.lock().unwrap_or_else(PoisonError::into_inner))
    }
}
