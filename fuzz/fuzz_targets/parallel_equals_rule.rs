//! Parallel chunking equals the rule, for any bytes, profile and seek points. Eight lists of seek points per run.
//!
//! ```sh
//! cargo +nightly fuzz run -s none parallel_equals_rule -- -runs=125000 -max_len=200
//! ```
#![no_main]

use libfuzzer_sys::fuzz_target;
use seamstore::internals::chunk::script::Case;

fuzz_target!(|script: &[u8]| {
    if let Err(difference) = Case::from_script(script).check() {
        panic!("{difference}");
    }
});
