//! What do signals do? The first SIGINT (Ctrl-C), SIGTERM or SIGHUP asks the work to stop cleanly, a second one ends the process.
//!
//! A signal that is ignored when the program starts stays ignored: `nohup` ignores SIGHUP, and a shell without job control
//! ignores SIGINT in what it runs in the background.

use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM, SIGXFSZ};

use crate::engine::store::control::Control;
use crate::error::{Error, Result};

/// The signals that are caught.
#[derive(Debug)]
pub(super) struct Signals {
    /// The last one that came, 0 before any.
    received: Arc<AtomicUsize>,
}

impl Signals {
    /// Begins to catch them: the first one stops the control.
    pub(super) fn catch(control: &Control) -> Result<Self> {
        let received = Arc::new(AtomicUsize::new(0));
        let ignored = ignored();
        for signal in [SIGINT, SIGTERM, SIGHUP].into_iter().filter(|signal| !is_in(ignored, *signal)) {
            let flag = control.stop_flag();
            let number = usize::try_from(signal).unwrap_or_default();
            // In this order: what ends the process looks at the flag before it is set.
            signal_hook::flag::register_conditional_default(signal, Arc::clone(&flag))
                .and_then(|_| signal_hook::flag::register_usize(signal, Arc::clone(&received), number))
                .and_then(|_| signal_hook::flag::register(signal, flag))
                .map_err(|source| Error::io("catch signals for", "this process", source))?;
        }
        // A write beyond the size that files of this process may have (`ulimit -f`) fails with EFBIG and does not end it.
        signal_hook::flag::register(SIGXFSZ, Arc::default())
            .map_err(|source| Error::io("catch signals for", "this process", source))?;
        Ok(Self { received })
    }

    /// The signal that came, if one did.
    pub(super) fn received(&self) -> Option<u8> {
        u8::try_from(self.received.load(Ordering::Relaxed)).ok().filter(|signal| *signal != 0)
    }
}

/// The exit code of a process that a signal ended, as shells give it.
pub(super) fn exit_code(signal: u8) -> ExitCode {
    ExitCode::from(128_u8.saturating_add(signal))
}

/// The signals that are ignored, a bit for each, signal 1 the lowest. Where the system does not say, SIGHUP counts as
/// ignored: `nohup` may have been used, and a process that SIGHUP ends at once loses nothing either.
fn ignored() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or(1 << (SIGHUP - 1))
}

fn is_in(signals: u64, signal: i32) -> bool {
    signals >> (signal - 1) & 1 == 1
}
