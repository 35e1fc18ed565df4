//! Which thread does what next? Frames are served in order; a turn is a few of them in a row.
//!
//! Invariant: no turn begins while one that is more than [`Turns::ahead`] before it still runs. So what waits for the slowest
//! thread has a bound; the first turn that runs never waits, so this ends.

use std::collections::BTreeSet;
use std::ops::Range;
use std::sync::{Condvar, Mutex, PoisonError};

/// A turn is this many frames at most …
pub(super) const TURN_FRAMES_MAX: usize = 16;
/// … but there are at least this many turns for each thread.
const TURNS_PER_THREAD_MIN: usize = 8;
/// How many turns may begin before the oldest is done, beside one for each thread.
const AHEAD: usize = 4;

/// The turns of one fetch.
#[derive(Debug)]
pub(super) struct Turns {
    /// Frames, by their place in the order.
    runs: Vec<Range<usize>>,
    ahead: usize,
    state: Mutex<State>,
    done: Condvar,
}

#[derive(Debug, Default)]
struct State {
    next: usize,
    running: BTreeSet<usize>,
}

/// A turn that was taken; it runs until it is dropped.
pub(super) struct Turn<'a> {
    turns: &'a Turns,
    number: usize,
}

impl Turns {
    pub(super) fn new(runs: Vec<Range<usize>>, threads: usize) -> Self {
        Self { runs, ahead: threads + AHEAD, state: Mutex::default(), done: Condvar::new() }
    }

    /// Turns of equal length.
    pub(super) fn even(frames: usize, threads: usize) -> Self {
        let length = Self::length(frames, threads);
        let starts = (0..frames).step_by(length);
        Self::new(starts.map(|start| start..frames.min(start + length)).collect(), threads)
    }

    /// How many frames a turn has at most. Neighbouring frames hold files of one directory: two threads in it would wait
    /// for each other.
    pub(super) fn length(frames: usize, threads: usize) -> usize {
        (frames / (threads.max(1) * TURNS_PER_THREAD_MIN)).clamp(1, TURN_FRAMES_MAX)
    }

    pub(super) fn len(&self) -> usize {
        self.runs.len()
    }

    /// The next turn; waits while it would be too far ahead. `None` if there are no more.
    pub(super) fn take(&self) -> Option<Turn<'_>> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            let number = state.next;
            if number >= self.runs.len() {
                return None;
            }
            let oldest = state.running.first().copied().unwrap_or(number);
            if number - oldest < self.ahead {
                state.next += 1;
                state.running.insert(number);
                return Some(Turn { turns: self, number });
            }
            state = self.done.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

impl Turn<'_> {
    /// Which frames are served in it.
    pub(super) fn frames(&self) -> Range<usize> {
        self.turns.runs.get(self.number).cloned().unwrap_or_default()
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        let mut state = self.turns.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.running.remove(&self.number);
        drop(state);
        self.turns.done.notify_all();
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn every_frame_has_one_turn() {
        for (frames, threads) in [(0, 1), (1, 8), (7, 2), (1000, 2), (100_000, 16)] {
            let turns = Turns::even(frames, threads);
            let served: Vec<usize> = std::iter::from_fn(|| turns.take().map(|turn| turn.frames())).flatten().collect();
            assert_eq!(served, (0..frames).collect::<Vec<_>>());
        }
    }

    #[test]
    fn no_turn_begins_far_ahead_of_one_that_runs() {
        let turns = Turns::new((0..100).map(|n| n..n + 1).collect(), 2);
        let slow = turns.take().unwrap();
        let others: Vec<_> = (0..turns.ahead - 1).map(|_| turns.take().unwrap()).collect();
        drop(others);
        std::thread::scope(|scope| {
            let waits = scope.spawn(|| turns.take().map(|turn| turn.number));
            // It is woken in any case; were it not held back, it would have number 6 just as well: so look at the state.
            assert!(turns.state.lock().unwrap().next <= turns.ahead);
            drop(slow);
            assert_eq!(waits.join().unwrap(), Some(turns.ahead));
        });
    }
}
