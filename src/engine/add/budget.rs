//! How much data is in flight? A count of bytes held by buffers anywhere in the pipeline.
//!
//! Invariant: a task is begun only while the count is below the limit, so buffers never hold more than the limit and one
//! task. Only the pipeline begins tasks; anybody may give bytes back, by dropping what holds them.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// The bytes in flight and their limit.
#[derive(Debug, Clone)]
pub(super) struct MemoryBudget {
    held: Arc<AtomicUsize>,
    limit: usize,
}

/// Some bytes in flight; dropping it gives them back.
#[derive(Debug)]
pub(super) struct MemoryPermit {
    bytes: usize,
    of: Arc<AtomicUsize>,
}

impl MemoryBudget {
    pub(super) fn new(limit: usize) -> Self {
        Self { held: Arc::default(), limit }
    }

    pub(super) fn hold(&self, bytes: usize) -> MemoryPermit {
        self.held.fetch_add(bytes, Ordering::AcqRel);
        MemoryPermit { bytes, of: Arc::clone(&self.held) }
    }

    pub(super) fn is_spent(&self) -> bool {
        self.held.load(Ordering::Acquire) >= self.limit
    }
}

impl MemoryPermit {
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Counts more bytes with these.
    pub(super) fn grow(&mut self, bytes: usize) {
        self.of.fetch_add(bytes, Ordering::AcqRel);
        self.bytes += bytes;
    }
}

impl Drop for MemoryPermit {
    fn drop(&mut self) {
        self.of.fetch_sub(self.bytes, Ordering::AcqRel);
    }
}
