//! How does data get in? Walk, read, cut, hash, dedup, compress, pack; then recipes; then the snapshot.
//!
//! ```text
//!  conductor (the calling thread)            workers                     packer
//!  walk, compare with the parent   ──jobs──▶ read, cut, hash
//!  put results back in order       ◀─events─
//!  seams, dedup, fill frames       ─frames─▶ compress        ──frames──▶ order, write, sync packs
//!  index, recipes, snapshot rows   ◀────────────────events───────────────
//! ```
//!
//! Everything that decides what is stored and where happens on the conductor, in the order of the walk; so a store comes
//! out the same, byte for byte, however many workers there are. The order of commits is that of the invariants: packs are
//! durable before the recipes that name their chunks (1), recipes before the snapshot that names them (2).

mod batch;
mod budget;
mod conductor;
mod packer;
mod parent;
mod report;
mod segment;
mod sink;
mod worker;

use std::path::PathBuf;
use std::time::Instant;

use crossbeam_channel::unbounded;

pub use report::{AddReport, AddTotals, Problem};

use self::budget::Budget;
use self::conductor::Conductor;
use self::packer::FinishedPack;
use self::worker::{Done, Queues};
use super::Store;
use super::control::Control;
use crate::error::{Error, Result};

/// What to add, and how.
#[derive(Debug, Clone)]
pub struct AddRequest {
    /// Files and trees, as given. `-` is nothing special here; see `stdin_name`.
    pub paths: Vec<PathBuf>,
    /// Also adds standard input as a file of this name.
    pub stdin_name: Option<PathBuf>,
    /// Read files even if their metadata says that they are unchanged.
    pub reread: bool,
    /// At most about this many bytes of data in flight.
    pub memory_bytes: usize,
    /// Worker threads; at least 1.
    pub threads: usize,
    /// Words to find the snapshot by.
    pub tags: Vec<String>,
}

/// What workers and the packer tell the conductor.
#[derive(Debug)]
enum Event {
    /// A job is done.
    Done(u64, Done),
    /// A frame is in its pack, and its memory free.
    Written,
    /// A pack is durable.
    Packed(FinishedPack),
    /// Everything sent before the flush is durable.
    Flushed,
    /// The add cannot go on.
    Fatal(Error),
}

/// The smallest `--memory`: a few jobs and frames.
pub const MEMORY_BYTES_MIN: usize = 32 << 20;

impl Store {
    /// Adds files and trees as one snapshot.
    ///
    /// # Errors
    /// Fails as a whole, with the store as it was but for packs that the next add will reuse, if the store cannot be
    /// written, if a path given is not there, or if `control` was stopped ([`Error::Interrupted`]). A file below a given
    /// path that cannot be read does not fail the add: it is named in [`AddReport::problems`].
    pub fn add(&self, request: &AddRequest, control: &Control) -> Result<AddReport> {
        let begun = Instant::now();
        if request.memory_bytes < MEMORY_BYTES_MIN {
            return Err(Error::Usage(format!("an add needs at least {} MiB of memory", MEMORY_BYTES_MIN >> 20)));
        }
        let (jobs, for_jobs) = unbounded();
        let (frames, for_frames) = unbounded();
        let (to_pack, for_packer) = unbounded();
        let (events, for_conductor) = unbounded();
        let queues = Queues { jobs: for_jobs, frames: for_frames, to_pack: to_pack.clone(), events: events.clone() };
        let budget = Budget::new(request.memory_bytes);
        let locator = self.locator()?;
        std::thread::scope(|scope| {
            for _ in 0..request.threads.max(1) {
                let queues = queues.clone();
                scope.spawn(move || worker::run(self.profile(), self.frame_settings(), &queues));
            }
            drop(queues);
            let storage = self.storage();
            scope.spawn(move || packer::run(storage, &for_packer, &events));
            // Dropping the conductor closes the queues, and with them ends every thread of the scope.
            let conductor =
                Conductor::new(self, &locator, request, control, budget, jobs, frames, to_pack, for_conductor)?;
            conductor.run()
        })
        .map(|report| AddReport { duration: begun.elapsed(), ..report })
    }
}
