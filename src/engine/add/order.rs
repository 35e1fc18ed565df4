//! Whose turn is it? Results come in any order and are taken in that of their tasks.

use std::collections::BTreeMap;

use super::task::TaskResult;

/// Tasks that were handed out, and their results.
#[derive(Debug, Default)]
pub(super) struct Order {
    handed: u64,
    /// Results that were given out in order.
    next: u64,
    /// Those of them with which nothing is left to do.
    taken: u64,
    /// Results whose turn has not come.
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
        let result = self.waiting.remove(&self.next)?;
        self.next += 1;
        Some(result)
    }

    /// Nothing is left to do with some more results that [`Self::next`] gave.
    pub(super) fn taken_more(&mut self, results: u64) {
        self.taken += results;
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
