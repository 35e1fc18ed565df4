//! Is there a way to a state that must never be seen? A breadth-first search, so the first way found is a shortest one.

use std::fmt;
use std::hash::{Hash, Hasher};

use super::{Model, Steps};

/// A shortest way to a state that must never be seen.
#[derive(Debug)]
pub(crate) struct Counterexample {
    /// What is wrong with the last state.
    pub(crate) what: &'static str,
    /// The steps that lead there, in words.
    pub(crate) steps: Vec<String>,
    /// How many states were seen before it was found.
    pub(crate) states: usize,
}

impl fmt::Display for Counterexample {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(formatter, "{} (after {} states):", self.what, self.states)?;
        for (number, step) in self.steps.iter().enumerate() {
            writeln!(formatter, "  {:2}. {step}", number + 1)?;
        }
        Ok(())
    }
}

/// Visits every state that can be reached. Returns how many there are.
///
/// # Errors
/// A shortest way to the first state with a violation.
pub(crate) fn explore<M: Model>(model: &M) -> Result<usize, Counterexample> {
    let mut seen = Seen::new();
    for state in model.beginnings() {
        seen.insert(state, u32::MAX);
    }
    let mut steps = Steps::new(false);
    let mut at = 0;
    while let Some(&(state, _)) = seen.states.get(at) {
        if let Some(what) = model.violation(&state) {
            return Err(Counterexample { what, steps: seen.way_to(model, at), states: seen.states.len() });
        }
        model.steps(&state, &mut steps);
        for next in steps.states.drain(..) {
            seen.insert(next, at as u32);
        }
        at += 1;
    }
    Ok(at)
}

/// The states seen so far, each once, with the number of the state it was first reached from.
struct Seen<S> {
    states: Vec<(S, u32)>,
    /// A hash table with open addressing: numbers of states plus one, 0 for a free slot. Its length is a power of two.
    slots: Vec<u32>,
}

impl<S: Copy + Eq + Hash> Seen<S> {
    fn new() -> Self {
        Self { states: Vec::new(), slots: vec![0; 1 << 16] }
    }

    fn insert(&mut self, state: S, from: u32) {
        if self.states.len() * 2 > self.slots.len() {
            let mut slots = vec![0; self.slots.len() * 2];
            for (number, (state, _)) in self.states.iter().enumerate() {
                let free = probe(state, slots.len()).find(|place| slots[*place] == 0);
                slots[free.unwrap_or_default()] = number as u32 + 1;
            }
            self.slots = slots;
        }
        for place in probe(&state, self.slots.len()) {
            match self.slots[place] {
                0 => {
                    self.states.push((state, from));
                    self.slots[place] = self.states.len() as u32;
                    return;
                }
                number if self.states[number as usize - 1].0 == state => return,
                _ => {}
            }
        }
    }

    /// The steps from a beginning to the state numbered `at`.
    fn way_to<M: Model<State = S>>(&self, model: &M, at: usize) -> Vec<String> {
        let (mut words, mut at) = (Vec::new(), at);
        while let Some(&(before, _)) = self.states.get(self.states[at].1 as usize) {
            let mut steps = Steps::new(true);
            model.steps(&before, &mut steps);
            let taken = steps.states.iter().position(|next| *next == self.states[at].0);
            words.push(steps.words.unwrap_or_default().swap_remove(taken.unwrap_or_default()));
            at = self.states[at].1 as usize;
        }
        words.reverse();
        words
    }
}

/// The places where a state may lie in a table, in the order in which to look.
fn probe<S: Hash>(state: &S, slots: usize) -> impl Iterator<Item = usize> + use<S> {
    let mut hasher = Multiplying(0);
    state.hash(&mut hasher);
    let first = (hasher.0 ^ hasher.0 >> 29) as usize;
    (0..slots).map(move |further| (first + further) & (slots - 1))
}

/// A fast hash. Two states with the same hash are compared, so nothing rests on its quality but the speed.
struct Multiplying(u64);

impl Hasher for Multiplying {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for part in bytes.chunks(8) {
            let mut word = [0; 8];
            word[..part.len()].copy_from_slice(part);
            self.write_u64(u64::from_le_bytes(word));
        }
    }

    fn write_u8(&mut self, word: u8) {
        self.write_u64(u64::from(word));
    }

    fn write_u16(&mut self, word: u16) {
        self.write_u64(u64::from(word));
    }

    fn write_u32(&mut self, word: u32) {
        self.write_u64(u64::from(word));
    }

    fn write_u64(&mut self, word: u64) {
        self.0 = (self.0.rotate_left(5) ^ word).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    }

    fn write_usize(&mut self, word: usize) {
        self.write_u64(word as u64);
    }
}
