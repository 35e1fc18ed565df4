//! What the fuzz targets do with the bytes they are given, and what must hold. [`fuzz/`](../../fuzz/README.md) runs them
//! under libFuzzer; the tests here run the corpus and scripts at random, with no fuzzer and no nightly compiler.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::missing_panics_doc, missing_docs, unreachable_pub)]

mod arrow;
#[cfg(test)]
mod bombs;
mod catalog;
mod forged_store;
mod frame;
mod index;
mod pack;
mod records;
mod script;
mod store;

/// The name of a target, which is that of its corpus, and what it does.
pub type Target = (&'static str, fn(&[u8]));

/// All targets.
pub const TARGETS: [Target; 8] = [
    ("frame", frame::frame),
    ("pack", pack::pack),
    ("config", records::config),
    ("pending_deletes", records::pending_deletes),
    ("recipes", catalog::recipes),
    ("snapshot", catalog::snapshot),
    ("store", store::store),
    ("index", index::index),
];

/// Runs a target by its name.
pub fn run(name: &str, input: &[u8]) {
    let target = TARGETS.iter().find(|(target, _)| *target == name);
    target.unwrap_or_else(|| panic!("{name} is no target")).1(input);
}

/// A folder, in memory where there is one there.
fn folder() -> tempfile::TempDir {
    let memory = std::path::Path::new("/dev/shm");
    if memory.is_dir() { tempfile::tempdir_in(memory).unwrap() } else { tempfile::tempdir().unwrap() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    /// Random scripts for each target.
    const CASES: u64 = if cfg!(debug_assertions) { 150 } else { 1500 };

    fn at_random(name: &str) {
        for case in 0..CASES {
            let length = script::noise_at(case, 0) as usize % 400;
            let mut input = script::noise(case, length);
            // Half of the scripts lie seldom, so that they get further.
            if case % 2 == 0 {
                input.iter_mut().enumerate().filter(|(n, _)| n % 37 != 5).for_each(|(_, byte)| *byte &= 0x7f);
            }
            let outcome = std::panic::catch_unwind(|| run(name, &input));
            assert!(outcome.is_ok(), "{name}: case {case}: {input:?}");
        }
    }

    macro_rules! at_random {
        ($($test:ident $place:literal)*) => { $(
            #[test]
            fn $test() {
                at_random(TARGETS[$place].0);
            }
        )* };
    }

    at_random! {
        random_frames 0
        random_packs 1
        random_configs 2
        random_pending_deletes 3
        random_recipes_files 4
        random_snapshots 5
        random_stores 6
        random_indexes 7
    }

    #[test]
    fn the_corpus() {
        let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus");
        if !corpus.is_dir() {
            return crate::support::skipped("there is no corpus beside these tests");
        }
        for (name, run) in TARGETS {
            let mut files: Vec<_> =
                std::fs::read_dir(corpus.join(name)).unwrap().map(|file| file.unwrap().path()).collect();
            files.sort();
            assert!(!files.is_empty(), "{name} has no corpus");
            for file in files {
                let input = std::fs::read(&file).unwrap();
                let outcome = std::panic::catch_unwind(|| run(&input));
                assert!(outcome.is_ok(), "{file:?}");
            }
        }
    }

    #[test]
    fn scripts_of_zeros_are_honest() {
        // What nothing is wrong with is had whole, or the oracles say nothing.
        for (_, run) in TARGETS {
            run(&[]);
            run(&[0; 300]);
        }
    }
}
