//! What do the models share? A search of every state that a small world can reach.
//!
//! A model lists the beginnings of its world, the steps that any actor or the environment can take next, and what must
//! never be seen in a state. [`explore`] tries every order of all steps. A process that is killed, or suspended for good,
//! is one that takes no further step, so no model needs a step for it unless something else changes with the death.

#![allow(clippy::indexing_slicing, reason = "indexes are numbers of states, and a wrong one fails the test")]

mod explore;

use std::fmt::Debug;
use std::hash::Hash;
use std::time::Instant;

pub(super) use explore::explore;

/// A world that can be searched.
pub(super) trait Model {
    /// Everything that can make a difference to what happens next.
    type State: Copy + Eq + Hash;

    /// The states the world may begin in.
    fn beginnings(&self) -> Vec<Self::State>;

    /// Adds every state that is one step away.
    fn steps(&self, state: &Self::State, steps: &mut Steps<Self::State>);

    /// What is wrong with this state, if anything is.
    fn violation(&self, state: &Self::State) -> Option<&'static str>;
}

/// Asserts that no state with a violation can be reached. Returns how many states there are.
#[expect(clippy::print_stdout, reason = "with --nocapture, a search says how much it looked at")]
pub(super) fn assert_holds<M: Model>(name: &str, model: &M) -> usize {
    let start = Instant::now();
    let states = explore(model).unwrap_or_else(|found| panic!("{name}: {found}"));
    println!("{name}: {states} states in {:.1} s", start.elapsed().as_secs_f64());
    states
}

/// Asserts that a mistake leads to a violation, and to this one.
#[expect(clippy::print_stdout, reason = "with --nocapture, a mistake shows what it does")]
pub(super) fn assert_finds<M: Model>(mistake: impl Debug, model: &M, what: &str) {
    match explore(model) {
        Ok(states) => panic!("{mistake:?} goes unnoticed in {states} states"),
        Err(found) => {
            println!("{mistake:?}: {found}");
            assert_eq!(found.what, what, "{mistake:?}: {found}");
        }
    }
}

/// The states that are one step away from another.
pub(super) struct Steps<S> {
    states: Vec<S>,
    /// What each step does, in words. Only the printing of a counter-example asks for it.
    words: Option<Vec<String>>,
}

impl<S> Steps<S> {
    pub(super) fn new(with_words: bool) -> Self {
        Self { states: Vec::new(), words: with_words.then(Vec::new) }
    }

    /// The step added last.
    pub(super) fn into_last(mut self) -> Option<S> {
        self.states.pop()
    }

    /// Adds a step. `words` is evaluated only if somebody reads it.
    pub(super) fn push(&mut self, state: S, words: impl FnOnce() -> String) {
        self.states.push(state);
        if let Some(all) = &mut self.words {
            all.push(words());
        }
    }
}
