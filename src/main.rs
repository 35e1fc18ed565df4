//! The program `store`. See `store --help`, and the library for how it works.

use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use rustix::io::{Errno, fcntl_getfd};

static INPUT: AtomicBool = AtomicBool::new(false);
static OUTPUT: AtomicBool = AtomicBool::new(false);

/// Called before the standard library's runtime, which opens `/dev/null` where a standard stream is closed.
#[expect(unsafe_code, reason = "only a function that runs before the runtime can see that a stream is closed")]
#[used]
// SAFETY: the C library calls every function in this section once, on one thread; this one makes two system calls.
#[unsafe(link_section = ".init_array")]
static BEFORE_MAIN: extern "C" fn() = {
    extern "C" fn look() {
        INPUT.store(fcntl_getfd(rustix::stdio::stdin()) == Err(Errno::BADF), Relaxed);
        OUTPUT.store(fcntl_getfd(rustix::stdio::stdout()) == Err(Errno::BADF), Relaxed);
    }
    look
};

fn main() -> std::process::ExitCode {
    seamstore::cli::main(seamstore::cli::ClosedStreams { input: INPUT.load(Relaxed), output: OUTPUT.load(Relaxed) })
}
