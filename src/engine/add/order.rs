//! Whose turn is it? Results come in any order and are taken in that of their tasks.

use std::collections::BTreeMap;

use super::task::TaskResult;

/// Tasks that were handed out, and their results.
#[derive(Debug, Default)]
pub(super) struct Order {
    handed: u64,
    taken: u64,
    /// Results that are not taken yet.
    waiting: BTreeMap<u64, TaskResult>,
}

impl Order {
    /// The number of the next task.
    pub(super) fn hand_out(&mut self) -> u64 {
        self.handed += 1;
        self.handed - 1
    }

    pub(super) fn put(&mut self, sequence: u64, result: TaskResult) {
        self.waiting.insert(sequence, result);
    }

    /// The result whose turn it is, if it is there.
    pub(super) fn next(&mut self) -> Option<TaskResult> {
        self.waiting.remove(&self.taken)
    }

    /// The result that [`Self::next`] gave is taken.
    pub(super) fn advance(&mut self) {
        self.taken += 1;
    }

    /// Tasks whose results are not taken yet.
    pub(super) fn open(&self) -> u64 {
        self.handed - self.taken
    }

    pub(super) fn handed(&self) -> u64 {
        self.handed
    }

    pub(super) fn taken(&self) -> u64 {
        self.taken
    }
}
