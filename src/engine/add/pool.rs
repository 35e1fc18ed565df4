//! Buffers that are used again, so that an add faults its memory in once and not for every task.

use std::ops::{Deref, DerefMut};
use std::sync::{Arc, Mutex, PoisonError};

/// At most this many idle buffers are kept; the budget bounds those in use.
const IDLE_MAX: usize = 64;

/// Buffers of one kind.
#[derive(Debug, Clone, Default)]
pub(super) struct Pool {
    idle: Arc<Mutex<Vec<Vec<u8>>>>,
}

/// A buffer; dropping it gives it back. What is in a fresh one is left from its last use.
#[derive(Debug, Default)]
pub(super) struct Buffer {
    bytes: Vec<u8>,
    pool: Option<Pool>,
}

impl Pool {
    /// A buffer with anything in it.
    pub(super) fn take(&self) -> Buffer {
        let idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner).pop();
        Buffer { bytes: idle.unwrap_or_default(), pool: Some(self.clone()) }
    }

    /// An empty buffer.
    pub(super) fn take_empty(&self) -> Buffer {
        let mut buffer = self.take();
        buffer.clear();
        buffer
    }

    /// An empty buffer with room for this many bytes: one that grows bit by bit leaves holes in the heap.
    pub(super) fn take_with_room(&self, bytes: usize) -> Buffer {
        let mut buffer = self.take_empty();
        buffer.reserve_exact(bytes);
        buffer
    }
}

impl Buffer {
    /// Bytes that belong to no pool.
    pub(super) fn of(bytes: Vec<u8>) -> Self {
        Self { bytes, pool: None }
    }
}

impl Deref for Buffer {
    type Target = Vec<u8>;

    fn deref(&self) -> &Vec<u8> {
        &self.bytes
    }
}

impl DerefMut for Buffer {
    fn deref_mut(&mut self) -> &mut Vec<u8> {
        &mut self.bytes
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        if let Some(pool) = &self.pool {
            let mut idle = pool.idle.lock().unwrap_or_else(PoisonError::into_inner);
            if idle.len() < IDLE_MAX {
                idle.push(std::mem::take(&mut self.bytes));
            }
        }
    }
}
