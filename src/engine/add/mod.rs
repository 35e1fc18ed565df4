//! How does data get in? Walk, read, cut, hash, dedup, compress, pack; then recipes; then the snapshot.
//!
//! ```text
//!  pipeline (the calling thread)            workers                     packer
//!  walk, compare with the parent   ──tasks──▶ read, cut, hash
//!  put results back in order       ◀─events─
//!  seams, dedup, fill frames       ─frames─▶ compress        ──frames──▶ order, write, sync packs
//!  index, recipes, snapshot rows   ◀────────────────events───────────────
//! ```
//!
//! Everything that decides what is stored and where happens on the coordinating thread, in the order of the walk; so a store comes
//! out the same, byte for byte, however many workers there are. The order of commits is that of the invariants: packs are
//! durable before the recipes that name their chunks (1), recipes before the snapshot that names them (2).

pub(super) mod archive;
mod batch;
mod budget;
mod packer;
mod parent;
mod pipeline;
mod pool;
mod report;
mod rows;
mod segment;
mod semaphore;
mod sink;
mod stream;
mod worker;
mod writer;
mod writer_source;

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use crossbeam_channel::{Sender, unbounded};

pub use archive::Archives;
pub use report::{AddReport, AddTotals, ClockBehind, Problem};
pub(crate) use stream::StopReader;
pub use writer::{Writer, WriterOptions};

use self::budget::MemoryBudget;
use self::packer::{FinishedPack, Packing};
use self::pipeline::{AddPipeline, Ends, Setting};
use self::pool::Pool;
use self::worker::{Queues, TaskResult, WorkerContext};
use self::writer_source::WriterSource;
use super::chunk_index::ChunkIndex;
use super::commit::PacksDurable;
use super::control::Control;
use super::labels::{Labeller, Labelling};
use super::{SnapshotList, Store, UnreadableSnapshot};
use crate::catalog::snapshot::{Root, Snapshot, SnapshotInfo};
use crate::chunk::finder::Finder;
use crate::error::{Error, Result};
use crate::format::entry::EntryPath;

use crate::ingest::{self, Metadata, Walk, WalkOptions, Walked};
use crate::storage::Storage;

/// What to add, and how.
///
/// ```
/// # use seamstore::{Control, Store, entry::*, report::*, request::*};
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let store = Store::in_memory(Settings::default())?;
/// # let writer = store.writer(WriterOptions::default().threads(1))?;
/// # writer.add_bytes(writer.entry("notes/first.txt", EntryKind::File)?, b"found again".to_vec())?;
/// # let added = writer.finish()?;
/// # let control = Control::default();
/// # let folder = tempfile::tempdir()?;
/// # let tree = folder.path().to_owned();
/// let request = AddRequest::default().paths([tree]).tags(["nightly"]).memory_bytes(64 << 20);
/// let report = store.add(&request, &control)?;
/// assert!(report.problems.is_empty());
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone)]
pub struct AddRequest {
    pub(crate) paths: Vec<PathBuf>,
    pub(crate) stdin_name: Option<PathBuf>,
    pub(crate) reread: bool,
    pub(crate) memory_bytes: usize,
    pub(crate) threads: usize,
    pub(crate) tags: Vec<String>,
    pub(crate) archives: Archives,
    pub(crate) labels: Labelling,
}

impl AddRequest {
    /// Files and trees, as given. `-` is nothing special here; see `stdin_name`.
    #[must_use]
    pub fn paths(mut self, paths: impl IntoIterator<Item = impl Into<PathBuf>>) -> Self {
        self.paths = paths.into_iter().map(Into::into).collect();
        self
    }

    /// Also adds standard input as a file of this name.
    #[must_use]
    pub fn stdin_name(mut self, stdin_name: impl Into<PathBuf>) -> Self {
        self.stdin_name = Some(stdin_name.into());
        self
    }

    /// Read files even if their metadata says that they are unchanged.
    #[must_use]
    pub fn reread(mut self, reread: bool) -> Self {
        self.reread = reread;
        self
    }

    /// At most about this many bytes of data in flight.
    #[must_use]
    pub fn memory_bytes(mut self, memory_bytes: usize) -> Self {
        self.memory_bytes = memory_bytes;
        self
    }

    /// Worker threads; at least 1.
    #[must_use]
    pub fn threads(mut self, threads: usize) -> Self {
        self.threads = threads;
        self
    }

    /// Words to find the snapshot by.
    #[must_use]
    pub fn tags(mut self, tags: impl IntoIterator<Item = impl Into<String>>) -> Self {
        self.tags = tags.into_iter().map(Into::into).collect();
        self
    }

    /// What becomes of archives.
    #[must_use]
    pub fn archives(mut self, archives: Archives) -> Self {
        self.archives = archives;
        self
    }

    /// Labels of the entries.
    #[must_use]
    pub fn labels(mut self, labels: Labelling) -> Self {
        self.labels = labels;
        self
    }
}

/// Of nothing: no paths, 256 MiB of memory, a thread for each processor, no tags and no labels; archives as they are by
/// default.
impl Default for AddRequest {
    fn default() -> Self {
        Self {
            paths: Vec::new(),
            stdin_name: None,
            reread: false,
            memory_bytes: MEMORY_BYTES_DEFAULT,
            threads: super::processors(),
            tags: Vec::new(),
            archives: Archives::default(),
            labels: Labelling::default(),
        }
    }
}

/// What workers and the packer tell the pipeline.
#[derive(Debug)]
enum Event {
    /// A task is done.
    TaskResult(u64, TaskResult),
    /// A frame is in its pack, and its memory free.
    Written,
    /// A pack is durable.
    Packed(FinishedPack),
    /// Everything sent before the flush is durable.
    Flushed(PacksDurable),
    /// The add cannot go on.
    Fatal(Error),
}

/// How much memory an add takes unless it is told otherwise.
pub const MEMORY_BYTES_DEFAULT: usize = 256 << 20;

/// What an add needs to take entries from a [`Writer`].
#[derive(Debug)]
struct FromWriter {
    given: WriterSource,
    /// Buffers for parts of long files.
    segments: Pool,
    /// How much of the memory is for what was given and not taken yet.
    gate_bytes: usize,
    /// Is told once entries can come.
    ready: Sender<()>,
}

/// The smallest `--memory`: a few tasks and frames.
pub const MEMORY_BYTES_MIN: usize = 32 << 20;

impl Store {
    /// Adds files and trees as one snapshot.
    ///
    /// # Errors
    /// Fails as a whole, with the store as it was but for packs that the next add will reuse, if the store cannot be
    /// written, if a path given is not there, or if `control` was stopped ([`Error::Interrupted`]). A file below a given
    /// path that cannot be read does not fail the add: it is named in [`AddReport::problems`].
    pub fn add(&self, request: &AddRequest, control: &Control) -> Result<AddReport> {
        self.run_add(request, control, None)
    }

    /// Adds what the request says, or what a writer is given.
    fn run_add(&self, request: &AddRequest, control: &Control, from: Option<FromWriter>) -> Result<AddReport> {
        let begun = Instant::now();
        if request.memory_bytes < MEMORY_BYTES_MIN {
            return Err(Error::Usage(format!("an add needs at least {} MiB of memory", MEMORY_BYTES_MIN >> 20)));
        }
        self.check_writable()?;
        self.sweep();
        // First, or gc may delete what this add relies on: see `engine::gc`.
        let session = self.coordination().begin()?;
        let chunk_index = ChunkIndex::open_without(self, session.storage(), session.pending().clone())?;
        let (tasks, for_tasks) = unbounded();
        let (frames, for_frames) = unbounded();
        let (to_pack, for_packer) = unbounded();
        let (events, for_pipeline) = unbounded();
        let queues = Queues { tasks: for_tasks, frames: for_frames, to_pack: to_pack.clone(), events: events.clone() };
        let given_bytes = from.as_ref().map_or(0, |from| from.gate_bytes);
        let budget = MemoryBudget::new(request.memory_bytes.saturating_sub(given_bytes));
        let labeller = Labeller::new(&request.labels)?;
        let settings = self.settings();
        let finder = Finder::new(settings.profile);
        let context = WorkerContext {
            finder,
            metadata: Metadata::new(),
            frames: settings.frames,
            archives: request.archives,
            segments: from.as_ref().map_or_else(Pool::default, |from| from.segments.clone()),
            stretches: Pool::default(),
            small: Pool::default(),
        };
        let mut info = describe(request);
        let mut list = SnapshotList::of(session.storage())?;
        let parent = if from.is_some() { None } else { parent_of(session.storage(), &mut list, &info)? };
        info.parent = parent.as_ref().map(Snapshot::id);
        info.order_ns = list.order_after(info.time_ns);
        let later = list.later_than(info.time_ns);
        let clock = later.map(|later| ClockBehind { snapshot: later.id, time_ns: later.info.time_ns });
        let report = std::thread::scope(|scope| {
            for _ in 0..request.threads.max(1) {
                let (queues, context) = (queues.clone(), &context);
                scope.spawn(move || worker::run(context, &queues));
            }
            drop(queues);
            let (storage, chunk_index) = (session.storage(), &chunk_index);
            let packing =
                Packing { storage, pack_bytes: self.pack_bytes, pending_deletes: &chunk_index.pending_deletes().packs };
            scope.spawn(move || packer::run(&packing, &for_packer, &events));
            // Dropping the pipeline closes the queues, and with them ends every thread of the scope.
            let (parent, context) = (parent.as_ref(), &context);
            let (given, ready) = from.map(|from| (from.given, from.ready)).unzip();
            let setting = Setting {
                store: self,
                session: &*session,
                chunk_index,
                parent,
                info,
                request,
                labeller,
                control,
                context,
                budget,
                given,
            };
            let pipeline = AddPipeline::new(setting, Ends { tasks, frames, to_pack, events: for_pipeline })?;
            if let Some(ready) = ready {
                // A writer that is not there any more has hung up its queue as well.
                let _ = ready.send(());
            }
            pipeline.run()
        });
        // What was packed is worth knowing even if the add failed.
        chunk_index.close();
        drop(session);
        let report = report?;
        Ok(AddReport { duration: begun.elapsed(), clock, unreadable: list.unreadable, ..report })
    }
}

/// A walk over what was given, in path order, the store itself left out.
fn walk(store: &Store, paths: &[PathBuf]) -> Result<Walk> {
    let roots = paths
        .iter()
        .map(|disk| match disk.symlink_metadata() {
            Ok(_) => Ok(ingest::Root { disk: disk.clone(), path: EntryPath::from_given(disk) }),
            Err(source) => Err(Error::io("read", disk, source)),
        })
        .collect::<Result<_>>()?;
    let skip = store.caches().left_out(store.storage().own_directories())?;
    Walk::new(roots, WalkOptions { skip })
}

/// How many files and bytes an add of these paths will meet; `None` if it is ended before it knows.
#[must_use]
pub fn measure(paths: &[PathBuf], is_ended: &dyn Fn() -> bool) -> Option<(u64, u64)> {
    let roots =
        paths.iter().map(|disk| ingest::Root { disk: disk.clone(), path: EntryPath::from_given(disk) }).collect();
    let mut totals = (0, 0);
    for step in Walk::new(roots, WalkOptions::default()).ok()? {
        if is_ended() {
            return None;
        }
        if let Walked::Entry(found) = step {
            totals.0 += 1;
            totals.1 = found.stat.size.saturating_add(totals.1);
        }
    }
    Some(totals)
}

/// What the snapshot will say of itself.
fn describe(request: &AddRequest) -> SnapshotInfo {
    let since_1970 = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let given = request.paths.iter().chain(&request.stdin_name);
    SnapshotInfo {
        time_ns: i64::try_from(since_1970.as_nanos()).unwrap_or(i64::MAX),
        host: rustix::system::uname().nodename().to_string_lossy().into_owned(),
        roots: given.map(|path| Root(path.as_os_str().as_bytes().to_vec())).collect(),
        tags: request.tags.clone(),
        program: concat!("seamstore ", env!("CARGO_PKG_VERSION")).to_owned(),
        ..SnapshotInfo::default()
    }
}

/// The newest snapshot of the same paths on the same host that can be read; those that cannot are noted.
fn parent_of<'s>(
    storage: &'s dyn Storage,
    list: &mut SnapshotList,
    info: &SnapshotInfo,
) -> Result<Option<Snapshot<'s>>> {
    let entry_paths = |info: &SnapshotInfo| -> BTreeSet<EntryPath> {
        info.roots.iter().map(|root| EntryPath::from_given(Path::new(OsStr::from_bytes(&root.0)))).collect()
    };
    let wanted = entry_paths(info);
    for summary in &list.snapshots {
        if summary.info.host != info.host || entry_paths(&summary.info) != wanted {
            continue;
        }
        match Snapshot::open(storage, summary.id) {
            Ok(snapshot) => return Ok(Some(snapshot)),
            // It was removed after it was listed.
            Err(Error::NotFound { .. }) => {}
            Err(error) => list.unreadable.push(UnreadableSnapshot::of(summary.id, error)?),
        }
    }
    Ok(None)
}
