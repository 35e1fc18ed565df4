//! Abstract hits for tests: the rule with numbers small enough to try everything.

#![allow(clippy::indexing_slicing)]

use super::random::TestRng;
use crate::chunk::profile::Sizes;
use crate::chunk::rule::Passes;

/// Which masks each position of a file passes, the bytes being left out.
#[derive(Debug, Clone)]
pub(crate) struct Pattern(Vec<Passes>);

/// None, loose, strict (and so loose), strict but not loose.
pub(crate) const KINDS: [Passes; 4] = [
    Passes { strict: false, loose: false },
    Passes { strict: false, loose: true },
    Passes { strict: true, loose: true },
    Passes { strict: true, loose: false },
];

impl Pattern {
    pub(crate) fn new(passes: Vec<Passes>) -> Self {
        Self(passes)
    }

    /// The length of the file.
    pub(crate) fn length(&self) -> u64 {
        self.0.len() as u64
    }

    pub(crate) fn at(&self, position: u64) -> Passes {
        self.0.get(position as usize).copied().unwrap_or_default()
    }

    /// The hits of a range, ascending.
    pub(crate) fn hits(&self, from: u64, to: u64) -> impl Iterator<Item = (u64, Passes)> + '_ {
        (from..to).map(|at| (at, self.at(at))).filter(|(_, passes)| *passes != Passes::default())
    }
}

/// Random small sizes and hits of every density and kind; one case in four has strict hits that are not loose.
pub(crate) fn random(seed: u64, cases: u32, mut each: impl FnMut(Sizes, &Pattern, &mut TestRng)) {
    let mut random = TestRng(seed);
    for case in 0..cases {
        let min = 1 + random.below(4) as u32;
        let normal = min + random.below(5) as u32;
        let max = normal + random.below(7) as u32;
        let Some(sizes) = Sizes::new(min, normal, max) else { continue };
        let length = 1 + random.below(80);
        let density = random.below(100).pow(2) / 100;
        let kinds = if case % 4 == 0 { 3 } else { 2 };
        let passes = (0..length)
            .map(|_| if random.below(100) < density { KINDS[1 + random.below(kinds) as usize] } else { KINDS[0] })
            .collect();
        each(sizes, &Pattern::new(passes), &mut random);
    }
}
