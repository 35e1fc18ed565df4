//! Random scripts of the fuzz target, run without the fuzzer.

#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use seamstore::internals::chunk::script::Case;

use crate::chunk_data::split_mix;
use crate::support::random::TestRng;

/// Checks random scripts until this many (file, list of seek points) were; returns how many.
fn run(seed: u64, cases: usize) -> usize {
    let mut state = TestRng(seed);
    let mut done = 0;
    while done < cases {
        let length = (state.next() % 120) as usize;
        let mut script = split_mix(state.next(), length);
        // The large profiles are last in the list and slow; one script in 64 may choose any.
        if !state.next().is_multiple_of(64) {
            script.insert(0, (state.next() % 8) as u8);
        }
        let case = Case::from_script(&script);
        case.check().unwrap_or_else(|difference| panic!("{difference}\nscript {script:?}"));
        done += case.seek_lists.len();
    }
    done
}

#[test]
fn scripts_make_files_and_seek_points() {
    let case = Case::from_script(&[8, 1, 2, 3, 4, 2, 2, 4, 5, 0, 4]);
    assert_eq!(case.profile.name(), "gear-4096");
    assert_eq!(case.bytes.len(), 16_384 + 2048);
    assert_eq!(case.seek_lists.len(), 8);
    assert!(Case::from_script(&[]).bytes.is_empty());
}

#[test]
fn random_scripts_chunk_in_parallel_as_by_the_rule() {
    assert!(run(1, 2000) >= 2000);
}

#[test]
#[expect(clippy::print_stdout, reason = "the count is what the run is for")]
#[ignore = "minutes: cargo test --release --test main a_million -- --ignored --nocapture"]
fn a_million_random_cases_chunk_in_parallel_as_by_the_rule() {
    println!("{} cases, 0 differences", run(2, 1_000_000));
}
