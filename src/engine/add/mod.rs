//! How does data get in? Walk, read, cut, hash, dedup, compress, pack; then recipes; then the snapshot.
//!
//! ```text
//!  coordinating thread                       workers                              packer, committer
//!  source: what is next?         ── tasks ──▶ walk, read, cut, hash, look up
//!  assembler: seams, archives    ◀─ results ─
//!  sink: new? which frame?       ── copies ─▶ copy, compress          ── frames ──▶ order, write, sync packs; index
//!                                ── rows ──────────────────────────────────────────▶ recipes, snapshot rows
//!  commit                        ◀───────────────────────────────────────────────── all durable, all taken
//! ```
//!
//! Everything that decides what is stored and where happens on the coordinating thread, in the order of the walk; so a store
//! comes out the same, byte for byte, however many workers there are. All that takes time happens elsewhere: see
//! [`task`] for what the threads tell each other. The order of commits is that of the invariants: packs are
//! durable before the recipes that name their chunks (1), recipes before the snapshot that names them (2).

pub(super) mod archive;
mod assembler;
mod batch;
mod budget;
mod committer;
mod cutter;
mod file_assembler;
mod frame;
mod fresh;
mod order;
mod origin;
mod packer;
mod parent;
mod pipeline;
mod pool;
mod report;
mod rows;
mod segment;
mod segments;
mod semaphore;
mod sink;
mod source;
mod stream;
mod task;
mod walker;
mod worker;
mod writer;
mod writer_source;

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::thread::Scope;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use crossbeam_channel::{Sender, bounded, unbounded};

pub use archive::Archives;
pub use report::{AddReport, AddTotals, ClockBehind, Problem};
pub(crate) use stream::StopReader;
pub use writer::{Writer, WriterOptions};

use self::assembler::Assembler;
use self::budget::MemoryBudget;
use self::committer::{Catalog, Committer};
use self::packer::Packing;
use self::parent::Parent;
use self::pipeline::{AddPipeline, Commit, Limits, PipelineQueues};
use self::pool::Pool;
use self::rows::Rows;
use self::sink::{Sink, SinkTotals};
use self::source::{Given, Source};
use self::task::Event;
use self::walker::Walker;
use self::worker::{Pools, Queues, WorkerContext};
use self::writer_source::WriterSource;
use super::{SnapshotList, Store, UnreadableSnapshot};
use crate::catalog::recipe::RecipesWriter;
use crate::catalog::snapshot::{Root, Snapshot, SnapshotInfo};
use crate::chunk::finder::Finder;
use crate::engine::store::chunk_index::ChunkIndex;
use crate::engine::store::commit::PacksDurable;
use crate::engine::store::control::Control;
use crate::engine::store::labels::{Labeller, Labelling};
use crate::engine::store::memory;
use crate::error::{Error, Result};
use crate::format::entry::{Entry, EntryPath};
use crate::ingest::{self, Metadata, Walk, WalkOptions, Walked, standard_input};
use crate::spelling::quoted;
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
            memory_bytes: memory::BYTES_DEFAULT,
            threads: crate::engine::store::processors(),
            tags: Vec::new(),
            archives: Archives::default(),
            labels: Labelling::default(),
        }
    }
}

/// Files up to this size are read whole, many to a task; bigger ones are cut in segments.
const SMALL_FILE_BYTES_MAX: u64 = 4 << 20;
/// A batch is full with this many bytes …
const BATCH_BYTES: usize = 1 << 20;
/// … or this many entries.
const BATCH_ITEMS: usize = 256;
/// What an entry weighs in the budget even if it has no bytes, so that empty files are bounded too.
const ITEM_BYTES: usize = 1 << 10;
/// Messages that the committer may be behind: when it is, the coordinating thread waits.
const ROWS_AHEAD: usize = 16;

/// What an add needs to take entries from a [`Writer`].
#[derive(Debug)]
struct FromWriter {
    given: WriterSource,
    /// Buffers for parts of long files.
    segments: Pool,
    /// How much of the memory is for what was given and not taken yet.
    gate_bytes: usize,
    /// Receives a message once the add is ready for entries.
    ready: Sender<()>,
}

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
        memory::check("an add", request.memory_bytes)?;
        self.check_writable()?;
        self.sweep();
        // First, or gc may delete what this add relies on: see `engine::ops::gc`.
        let session = self.coordination().begin()?;
        let chunk_index = ChunkIndex::open_without(self, session.storage(), session.pending().clone())?;
        let labeller = Labeller::new(&request.labels)?;
        let mut info = describe(request);
        let mut list = SnapshotList::of(session.storage())?;
        let parent = if from.is_some() { None } else { parent_of(session.storage(), &mut list, &info)? };
        info.parent = parent.as_ref().map(Snapshot::id);
        info.order_ns = list.order_after(info.time_ns);
        let later = list.later_than(info.time_ns);
        let clock = later.map(|later| ClockBehind { snapshot: later.id, time_ns: later.info.time_ns });
        let setting = Setting { store: self, request, control, chunk_index: &chunk_index, labeller: &labeller };
        let stdin = stdin_of(request)?;
        let walk = if from.is_none() { Some(walk(self, &request.paths)?) } else { None };
        let parent = parent.as_ref().map(|parent| Parent::new(parent, info.time_ns));
        let added = setting.run(walk, parent, stdin, from);
        let commit =
            Commit { session: &*session, chunk_index: &chunk_index, control, labeller: &labeller, info, begun };
        let report = added.and_then(|(packs, catalog, totals)| commit.run(packs, catalog, totals));
        // What was packed is worth knowing even if the add failed.
        chunk_index.close();
        drop(session);
        let report = report?;
        Ok(AddReport { duration: begun.elapsed(), clock, unreadable: list.unreadable, ..report })
    }
}

/// What an add works with.
#[derive(Debug, Clone, Copy)]
struct Setting<'a, 's> {
    store: &'a Store,
    request: &'a AddRequest,
    control: &'a Control,
    chunk_index: &'a ChunkIndex<'s>,
    labeller: &'a Labeller,
}

impl<'a, 's> Setting<'a, 's> {
    /// Sets up queues and threads, and adds everything but the snapshot.
    fn run(
        self,
        walk: Option<Walk>,
        parent: Option<Parent<'a, 's>>,
        stdin: Option<Entry>,
        from: Option<FromWriter>,
    ) -> Result<(PacksDurable, Catalog, SinkTotals)> {
        let Self { store, request, control, chunk_index, labeller } = self;
        let rows = match &from {
            None => Rows::ascending(chunk_index.storage(), labeller.keys())?,
            Some(_) => Rows::in_any_order(store.caches(), labeller.keys()),
        };
        let recipes = RecipesWriter::begin(chunk_index.storage().writer()?)?;
        let memory_bytes = request.memory_bytes.saturating_sub(from.as_ref().map_or(0, |from| from.gate_bytes));
        let budget = MemoryBudget::new(memory_bytes);
        let settings = store.settings();
        let segments = from.as_ref().map_or_else(Pool::default, |from| from.segments.clone());
        let context = WorkerContext {
            chunk_index,
            labeller,
            finder: Finder::new(settings.profile),
            metadata: Metadata::new(),
            frames: settings.frames,
            archives: request.archives,
            rereads: request.reread,
            pools: Pools { segments, ..Pools::default() },
            budget: budget.clone(),
        };
        let walker = walk.map(|walk| Walker::new(walk, parent, stdin.as_ref().map(|stdin| stdin.path.clone())));
        let threads = request.threads.max(1);
        let context = &context;
        std::thread::scope(|scope| {
            let (tasks, for_tasks) = unbounded();
            let (urgent, for_urgent) = unbounded();
            let (to_pack, for_packer) = unbounded();
            let (events, for_pipeline) = unbounded();
            let (rows_in, for_committer) = bounded(ROWS_AHEAD);
            let queues =
                Queues { tasks: for_tasks, urgent: for_urgent, to_pack: to_pack.clone(), events: events.clone() };
            for number in 0..threads {
                let queues = queues.clone();
                spawn(scope, format!("add-worker-{number}"), move || worker::run(context, &queues))?;
            }
            drop(queues);
            let committer = Committer::new(chunk_index, control, rows, recipes);
            let catalogs = events.clone();
            spawn(scope, "add-committer".to_owned(), move || {
                let event =
                    committer.run(&for_committer).map_or_else(Event::Fatal, |all| Event::Catalog(Box::new(all)));
                // Nobody listens any more only if the add has failed already.
                let _ = catalogs.send(event);
            })?;
            let packing = Packing { chunk_index, pack_bytes: store.pack_bytes };
            spawn(scope, "add-packer".to_owned(), move || packer::run(&packing, &for_packer, &events))?;
            let (writer, ready) = from.map(|from| (from.given, from.ready)).unzip();
            let frames = context.pools.frames.clone();
            // Dropping the pipeline closes the queues, and with them ends every thread of the scope.
            let pipeline = AddPipeline {
                source: Source::new(context, control, urgent.clone(), Given { walker, stdin, writer }),
                assembler: Assembler::new(context, rows_in, urgent.clone()),
                sink: Sink::new(chunk_index, urgent, budget.clone(), settings.frames, frames),
                queues: PipelineQueues { tasks, to_pack, events: for_pipeline },
                limits: Limits::new(budget, memory_bytes, threads),
                control,
            };
            if let Some(ready) = ready {
                // A writer that is not there any more has hung up its queue as well.
                let _ = ready.send(());
            }
            pipeline.run()
        })
    }
}

/// Starts a thread that profiles show by its name.
fn spawn<'scope>(scope: &'scope Scope<'scope, '_>, name: String, work: impl FnOnce() + Send + 'scope) -> Result<()> {
    let started = std::thread::Builder::new().name(name).spawn_scoped(scope, work);
    started.map(|_| ()).map_err(|source| Error::io("start", "a thread", source))
}

/// The entry of standard input, if that is to be added.
fn stdin_of(request: &AddRequest) -> Result<Option<Entry>> {
    let Some(name) = request.stdin_name.as_deref() else { return Ok(None) };
    match EntryPath::from_given(name) {
        path if path.is_root() => Err(Error::Usage(format!("{} is not a name for a file", quoted(name)))),
        path => Ok(Some(standard_input(path))),
    }
}

/// All senders of events hang up only after a failure that was sent before.
fn stopped_early() -> Error {
    Error::Internal("the add's worker threads stopped early".to_owned())
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
