//! How much data is in flight? A count of bytes held by buffers anywhere in the pipeline.
//!
//! Invariant: a job is begun only while the count is below the limit, so buffers never hold more than the limit and one
//! job. Only the conductor begins jobs; anybody may give bytes back, by dropping what holds them.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// The bytes in flight and their limit.
#[derive(Debug, Clone)]
pub(super) struct Budget {
    held: Arc<AtomicUsize>,
    limit: usize,
}

/// Some bytes in flight; dropping it gives them back.
#[derive(Debug)]
pub(super) struct Held {
    bytes: usize,
    of: Arc<AtomicUsize>,
}

impl Budget {
    pub(super) fn new(limit: usize) -> Self {
        Self { held: Arc::default(), limit }
    }

    pub(super) fn hold(&self, bytes: usize) -> Held {
        self.held.fetch_add(bytes, Ordering::AcqRel);
        Held { bytes, of: Arc::clone(&self.held) }
    }

    pub(super) fn is_spent(&self) -> bool {
        self.held.load(Ordering::Acquire) >= self.limit
    }
}

impl Held {
    /// Counts more bytes with these.
    pub(super) fn grow(&mut self, bytes: usize) {
        self.of.fetch_add(bytes, Ordering::AcqRel);
        self.bytes += bytes;
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.of.fetch_sub(self.bytes, Ordering::AcqRel);
    }
}
