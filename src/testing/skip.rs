//! How does a test report that this machine cannot run it, so that it does not pass in silence?
//!
//! The test runner swallows what a passing test prints. So a skip is also appended to the file that
//! `SEAMSTORE_SKIPPED` names, one line for each; `tests/run.sh` prints that file at its end.

use std::fs::OpenOptions;
use std::io::Write;

/// Reports that the current test, or a part of it, cannot run here, and why.
#[allow(clippy::print_stderr, clippy::unwrap_used, reason = "tests report to the person who runs them")]
pub(crate) fn skipped(why: &str) {
    let thread = std::thread::current();
    let line = format!("skipped: {}: {why}\n", thread.name().unwrap_or("a thread of a test"));
    eprint!("{line}");
    if let Some(file) = std::env::var_os("SEAMSTORE_SKIPPED") {
        // One write for the line: tests in parallel append to one file.
        OpenOptions::new().create(true).append(true).open(file).unwrap().write_all(line.as_bytes()).unwrap();
    }
}
