//! How far is the work, and should it stop? Shared between the thread that works and the one that shows or interrupts.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// Counters that a display may read at any time, and the wish to stop.
#[derive(Debug, Default)]
pub struct Control {
    entries: AtomicU64,
    bytes: AtomicU64,
    stop: Arc<AtomicBool>,
    callback: Option<Callback>,
}

/// Is called with the entries and bytes finished so far.
struct Callback(Box<dyn Fn(u64, u64) + Send + Sync>);

impl std::fmt::Debug for Callback {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Callback")
    }
}

impl Control {
    /// A control that calls `progress` after each entry with the entries and the logical bytes finished so far. It is
    /// called by the threads that do the work, which wait for it.
    #[must_use]
    pub fn with_callback(progress: impl Fn(u64, u64) + Send + Sync + 'static) -> Self {
        Self { callback: Some(Callback(Box::new(progress))), ..Self::default() }
    }

    /// Entries finished so far.
    #[must_use]
    pub fn entries(&self) -> u64 {
        self.entries.load(Ordering::Relaxed)
    }

    /// Logical bytes finished so far.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    /// Asks the work to end at the next safe point. It then returns [`crate::Error::Interrupted`].
    pub fn stop(&self) {
        self.stop.store(true, Ordering::Relaxed);
    }

    /// The flag behind [`Control::stop`], for a signal handler.
    #[must_use]
    pub fn stop_flag(&self) -> Arc<AtomicBool> {
        Arc::clone(&self.stop)
    }

    /// Whether the work was asked to end.
    #[must_use]
    pub fn is_stopped(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    pub(crate) fn count(&self, entries: u64, bytes: u64) {
        let entries = entries + self.entries.fetch_add(entries, Ordering::Relaxed);
        let bytes = bytes + self.bytes.fetch_add(bytes, Ordering::Relaxed);
        if let Some(Callback(progress)) = &self.callback {
            progress(entries, bytes);
        }
    }
}
