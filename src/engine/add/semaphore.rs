//! How much has been given to a [`Writer`] that the add has not taken yet? A thread that gives more waits.
//!
//! Invariant: what is on its way never has more bytes than the limit, or is a single piece. Nobody waits for ever: when
//! the add ends, for whatever reason, the semaphore closes and lets everybody go.
//!
//! [`Writer`]: super::Writer

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

/// Between those who give and the pipeline.
#[derive(Debug)]
pub(super) struct Semaphore {
    state: Mutex<State>,
    changed: Condvar,
    limit: usize,
}

#[derive(Debug, Default)]
struct State {
    held: usize,
    /// Why nothing is taken any more.
    closed: Option<Arc<str>>,
}

/// Some bytes on their way; dropping it makes room.
#[derive(Debug)]
pub(super) struct Permit {
    bytes: usize,
    semaphore: Arc<Semaphore>,
}

impl Semaphore {
    pub(super) fn new(limit: usize) -> Self {
        Self { state: Mutex::default(), changed: Condvar::new(), limit }
    }

    /// Waits until there is room.
    ///
    /// # Errors
    /// Why nothing is taken any more.
    pub(super) fn enter(self: &Arc<Self>, bytes: usize) -> Result<Permit, Arc<str>> {
        let is_full = |state: &mut State| {
            state.closed.is_none() && state.held > 0 && state.held.saturating_add(bytes) > self.limit
        };
        let mut state = self.changed.wait_while(self.lock(), is_full).unwrap_or_else(PoisonError::into_inner);
        if let Some(why) = &state.closed {
            return Err(Arc::clone(why));
        }
        state.held += bytes;
        Ok(Permit { bytes, semaphore: Arc::clone(self) })
    }

    /// From now on nobody gets in. The first reason stays.
    pub(super) fn close(&self, why: &str) {
        self.lock().closed.get_or_insert_with(|| why.into());
        self.changed.notify_all();
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.semaphore.lock().held -= self.bytes;
        self.semaphore.changed.notify_all();
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing)]
mod tests {
    use super::*;

    #[test]
    fn more_than_the_limit_waits_until_there_is_room_and_a_single_piece_passes() {
        let semaphore = Arc::new(Semaphore::new(10));
        let large = semaphore.enter(100).unwrap();
        std::thread::scope(|scope| {
            let waiting = scope.spawn(|| semaphore.enter(6).map(drop));
            assert_eq!(semaphore.lock().held, 100);
            drop(large);
            waiting.join().unwrap().unwrap();
        });
        let (first, second) = (semaphore.enter(4).unwrap(), semaphore.enter(6).unwrap());
        assert_eq!(semaphore.lock().held, 10);
        drop((first, second));
        assert_eq!(semaphore.lock().held, 0);
    }

    #[test]
    fn a_closed_gate_lets_everybody_go() {
        let semaphore = Arc::new(Semaphore::new(1));
        let first = semaphore.enter(1).unwrap();
        std::thread::scope(|scope| {
            let waiting: Vec<_> = (0..3).map(|_| scope.spawn(|| semaphore.enter(1).map(drop))).collect();
            semaphore.close("the disk is full");
            semaphore.close("later");
            for waiting in waiting {
                assert_eq!(waiting.join().unwrap().unwrap_err().as_ref(), "the disk is full");
            }
        });
        drop(first);
        assert!(semaphore.enter(0).is_err());
    }
}
