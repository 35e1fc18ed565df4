//! How does a fuzzer, which knows bytes only, say something about chunking? Its bytes are read as a script: a profile,
//! seek points, and steps that build a file far longer than the script, with hits planted where the script wants them.
//!
//! Every script means something, and each of its bytes matters, so a fuzzer finds its way. The oracle,
//! [`Case::check`], is that parallel chunking equals [`rule`](super::rule).

use std::sync::OnceLock;

use super::adversarial::{hit_window, random};
use super::profile::Profile;
use super::seams::cut_points_parallel_at;
use super::{cut_points, rule};

/// Profiles with small chunks, so that short files have many; and the larger ones, seldom.
const PROFILES: [&str; 12] = [
    "fastcdc-64-256-1024-0",
    "fastcdc-64-256-1024-1",
    "fastcdc-64-256-1024-2",
    "fastcdc-64-256-1024-3",
    "fastcdc-64-512-1024-3",
    "fastcdc-66-300-1026-1",
    "fastcdc-256-256-1024-2",
    "fastcdc-128-1024-1024-1",
    "gear-4096",
    "gear-4096",
    "default",
    "xet",
];

/// No file is made longer, in longest chunks of its profile.
const LENGTH_MAX_IN_MAX: usize = 12;

/// Lists of seek points tried for each file.
const SEEK_LISTS: usize = 8;

/// A file, a profile, and ways to split it.
#[derive(Debug, Clone)]
pub struct Case {
    /// The profile.
    pub profile: Profile,
    /// The file.
    pub bytes: Vec<u8>,
    /// Lists of seek points.
    pub seek_lists: Vec<Vec<usize>>,
}

struct Kind {
    profile: Profile,
    hit: Vec<u8>,
}

fn kinds() -> &'static [Kind] {
    static KINDS: OnceLock<Vec<Kind>> = OnceLock::new();
    KINDS.get_or_init(|| {
        let profiles = PROFILES.iter().filter_map(|name| name.parse().ok());
        profiles.map(|profile| Kind { profile, hit: hit_window(&profile).unwrap_or_default() }).collect()
    })
}

/// Reads a script byte by byte; past its end there are zeros.
struct Reader<'a>(&'a [u8]);

impl Reader<'_> {
    fn byte(&mut self) -> usize {
        let (first, rest) = self.0.split_first().unwrap_or((&0, &[]));
        self.0 = rest;
        usize::from(*first)
    }
}

impl Case {
    /// What a script says.
    #[must_use]
    pub fn from_script(script: &[u8]) -> Self {
        let mut script = Reader(script);
        let kinds = kinds();
        let Some(kind) = kinds.get(script.byte() % kinds.len().max(1)) else {
            return Self { profile: Profile::default(), bytes: Vec::new(), seek_lists: Vec::new() };
        };
        let profile = kind.profile;
        let (min, normal, max) = (profile.min_bytes(), profile.normal_bytes(), profile.max_bytes());
        let nudges: Vec<usize> = (0..4).map(|_| script.byte()).collect();

        let mut bytes: Vec<u8> = Vec::new();
        let mut marks = vec![0];
        while !script.0.is_empty() && bytes.len() < LENGTH_MAX_IN_MAX * max {
            let step = script.byte();
            let argument = script.byte();
            // A length near one that matters, or any up to the maximum.
            let near = match argument % 6 {
                0 => min,
                1 => normal,
                2 => max,
                3 => max - min,
                4 => 64,
                _ => 128,
            } + script.byte() % 8;
            let length = if step & 0x80 == 0 { near.saturating_sub(4) } else { (argument + 1) * max / 256 };
            match step & 7 {
                0 => bytes.resize(bytes.len() + length, 0),
                1 => bytes.resize(bytes.len() + length, argument as u8),
                2 | 3 => bytes.extend(random(argument as u64, length)),
                4 => bytes.extend(random(argument as u64, 1 + argument % 40).iter().cycle().take(length)),
                5 => {
                    // Zeros that end in a hit: hits at exact distances.
                    bytes.resize(bytes.len() + length.saturating_sub(kind.hit.len()), 0);
                    bytes.extend_from_slice(&kind.hit);
                }
                6 => {
                    let count = (argument % 32).min(script.0.len());
                    let (literal, rest) = script.0.split_at(count);
                    bytes.extend_from_slice(literal);
                    script.0 = rest;
                }
                _ => {
                    let again = bytes.len().saturating_sub(length);
                    bytes.extend_from_within(again..);
                }
            }
            marks.push(bytes.len());
        }
        bytes.truncate(LENGTH_MAX_IN_MAX * max);
        Self { profile, seek_lists: seek_lists(&nudges, &marks, bytes.len()), bytes }
    }

    /// Chunks the file in every way.
    ///
    /// # Errors
    /// The way that differs from the rule.
    pub fn check(&self) -> Result<(), String> {
        let serial = rule::cut_points(&self.bytes, &self.profile);
        if cut_points(&self.bytes, &self.profile) != serial {
            return Err(format!("{}: scanning differs from the rule", self.profile));
        }
        for seeks in &self.seek_lists {
            if cut_points_parallel_at(&self.bytes, &self.profile, seeks) != serial {
                return Err(format!("{}: seek points {seeks:?} differ from the rule", self.profile));
            }
        }
        Ok(())
    }
}

/// Lists of seek points near the places where steps met, and at strides.
fn seek_lists(nudges: &[usize], marks: &[usize], length: usize) -> Vec<Vec<usize>> {
    (0..SEEK_LISTS)
        .map(|list| {
            let nudge = nudges.get(list % 4).copied().unwrap_or(0) * (1 + list / 4);
            if list % 2 == 0 {
                // A window before each mark to three windows after.
                marks.iter().skip(nudge % 3).step_by(1 + nudge % 5).map(|at| (at + nudge).saturating_sub(64)).collect()
            } else {
                let count = 1 + nudge % 9;
                (1..=count).map(|i| length * i / (count + 1) + nudge % 7).collect()
            }
        })
        .collect()
}
