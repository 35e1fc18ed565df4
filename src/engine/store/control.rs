//! How far is the work, should it stop, and what did it pass over? Shared between the thread that works and the one that shows or interrupts.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use super::UnreadableSnapshot;

/// Counters that a display may read at any time, the request to stop, and snapshots that the work did without.
///
/// ```
/// # use seamstore::{Control, Store, entry::*, report::*, request::*};
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let store = Store::in_memory(Settings::default())?;
/// # let writer = store.writer(WriterOptions::default().threads(1))?;
/// # writer.add_bytes(writer.entry("notes/first.txt", EntryKind::File)?, b"found again".to_vec())?;
/// # let added = writer.finish()?;
/// # let control = Control::default();
/// let control = Control::with_callback(|entries, bytes| eprintln!("{entries} entries, {bytes} bytes"));
/// store.verify(&VerifyRequest::default(), &control)?;
/// control.stop();
/// assert!(control.is_stopped());
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Default)]
pub struct Control {
    entries: AtomicU64,
    bytes: AtomicU64,
    stop: Arc<AtomicBool>,
    passed_over: Mutex<Vec<UnreadableSnapshot>>,
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

    /// Snapshots that could not be read, and without which the work was done, each once.
    #[must_use]
    pub fn passed_over(&self) -> Vec<UnreadableSnapshot> {
        self.passed_over.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(crate) fn pass_over(&self, unreadable: &[UnreadableSnapshot]) {
        let mut passed = self.passed_over.lock().unwrap_or_else(PoisonError::into_inner);
        for one in unreadable {
            if passed.iter().all(|known| known.id != one.id) {
                passed.push(one.clone());
            }
        }
    }

    pub(crate) fn count(&self, entries: u64, bytes: u64) {
        let add = |counter: &AtomicU64, more: u64| {
            let sum = |known: u64| Some(known.saturating_add(more));
            let known = counter.fetch_update(Ordering::Relaxed, Ordering::Relaxed, sum).unwrap_or_default();
            known.saturating_add(more)
        };
        let (entries, bytes) = (add(&self.entries, entries), add(&self.bytes, bytes));
        if let Some(Callback(progress)) = &self.callback {
            progress(entries, bytes);
        }
    }
}
