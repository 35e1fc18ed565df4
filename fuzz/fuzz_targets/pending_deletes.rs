#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| seamstore_fuzz::run("pending_deletes", input));
