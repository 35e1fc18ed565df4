//! Who fills a frame? The coordinating thread says which chunk goes where; workers copy the bytes, in any order, and the
//! one that copies the last of them compresses the frame.
//!
//! Invariant: a frame leaves [`Frame::copy`] or [`Frame::close`] exactly once, when it is closed and every byte is there.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::budget::MemoryPermit;
use super::pool::Buffer;
use super::task::NewFrame;
use crate::format::id::ChunkId;

/// A frame that is being filled.
#[derive(Debug)]
pub(super) struct Frame {
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    bytes: Buffer,
    copied: usize,
    closed: Option<Closed>,
}

/// What is known of a frame that gets no more chunks.
#[derive(Debug)]
pub(super) struct Closed {
    /// Its place in the stream.
    pub(super) sequence: u64,
    /// Length of all chunks.
    pub(super) bytes: usize,
    pub(super) ids: Vec<ChunkId>,
    pub(super) lengths: Vec<u32>,
    pub(super) held: MemoryPermit,
}

impl Frame {
    /// An empty frame in an empty buffer.
    pub(super) fn new(bytes: Buffer) -> Arc<Self> {
        Arc::new(Self { state: Mutex::new(State { bytes, copied: 0, closed: None }) })
    }

    /// Puts bytes at their place; each place is filled once. Returns the frame if it is complete now.
    pub(super) fn copy(&self, at: usize, from: &[u8]) -> Option<NewFrame> {
        let mut state = self.lock();
        if at == state.bytes.len() {
            state.bytes.extend_from_slice(from);
        } else {
            // Another worker was faster with what comes later, or will fill what lies between.
            let end = at + from.len();
            if state.bytes.len() < end {
                state.bytes.resize(end, 0);
            }
            if let Some(to) = state.bytes.get_mut(at..end) {
                to.copy_from_slice(from);
            }
        }
        state.copied += from.len();
        state.take_complete()
    }

    /// Says that no more chunks will come. Returns the frame if it is complete now.
    pub(super) fn close(&self, closed: Closed) -> Option<NewFrame> {
        let mut state = self.lock();
        state.closed = Some(closed);
        state.take_complete()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn take_complete(&mut self) -> Option<NewFrame> {
        let copied = self.copied;
        let Closed { sequence, ids, lengths, held, .. } = self.closed.take_if(|closed| closed.bytes == copied)?;
        Some(NewFrame { sequence, bytes: std::mem::take(&mut self.bytes), ids, lengths, held })
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::super::budget::MemoryBudget;
    use super::super::pool::Pool;
    use super::*;

    fn closed(bytes: usize) -> Closed {
        let held = MemoryBudget::new(100).hold(bytes);
        Closed { sequence: 7, bytes, ids: vec![ChunkId::HOLE], lengths: vec![6], held }
    }

    #[test]
    fn a_frame_comes_out_once_whatever_order_it_is_filled_in() {
        let parts: [(usize, &[u8]); 3] = [(0, b"ab"), (2, b"c"), (3, b"def")];
        for order in [[0, 1, 2], [0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]] {
            for close_after in 0..=3 {
                let frame = Frame::new(Pool::default().take_empty());
                let mut out = Vec::new();
                for step in 0..=3 {
                    if step == close_after {
                        out.extend(frame.close(closed(6)));
                    }
                    if let Some((at, bytes)) = order.get(step).and_then(|part| parts.get(*part)) {
                        out.extend(frame.copy(*at, bytes));
                    }
                }
                assert_eq!(out.len(), 1, "{order:?} {close_after}");
                let raw = out.pop().unwrap();
                assert_eq!((raw.sequence, raw.bytes.as_slice()), (7, b"abcdef".as_slice()));
            }
        }
    }
}
