//! How does a program add what is not on disk? It gives a [`Writer`] entries, from as many threads as it likes.
//!
//! ```text
//!  threads of the program                    a thread of the writer
//!  read the bytes, wait for room    ──semaphore──▶ the pipeline of an add: workers, packer, commit as ever
//! ```
//!
//! Invariants: all or nothing (only [`Writer::finish`] makes a snapshot, and only if everything that was accepted is in
//! it); memory is bounded, whatever is given and by how many threads; when a writer is gone, so are its threads and its
//! temporary files.

use std::collections::BTreeSet;
use std::io::{self, Read};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use crossbeam_channel::{Sender, bounded, unbounded};

use super::origin::Origin;
use super::pool::{Buffer, Pool};
use super::report::Problem;
use super::segment::SEGMENT_BYTES;
use super::semaphore::Semaphore;
use super::stream::StreamSegment;
use super::writer_source::{WriterMessage, WriterSource};
use super::{AddReport, AddRequest, FromWriter, SMALL_FILE_BYTES_MAX};
use crate::catalog::snapshot::SnapshotWriter;
use crate::chunk::seams::WARM_UP;
use crate::engine::Store;
use crate::engine::store::control::Control;
use crate::engine::store::labels::{Labeller, Labelling};
use crate::error::{Error, Result, chain, same_error};
use crate::format::entry::{Content, Entry, EntryKind, EntryPath};
use crate::format::label::LABEL_KEYS_MAX;
use crate::ingest::{Metadata, Stat, made_now};

/// A fourth of a writer's memory is for what was given and not taken yet; the rest is the add's own.
const GATE_SHARE: usize = 4;
/// What an entry weighs on its way, besides its bytes.
const ENTRY_BYTES: usize = 1 << 10;

/// How to write.
///
/// ```
/// # use seamstore::{Control, Store, entry::*, report::*, request::*};
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let store = Store::in_memory(Settings::default())?;
/// # let writer = store.writer(WriterOptions::default().threads(1))?;
/// # writer.add_bytes(writer.entry("notes/first.txt", EntryKind::File)?, b"found again".to_vec())?;
/// # let added = writer.finish()?;
/// # let control = Control::default();
/// let options = WriterOptions::default().threads(2).tags(["from a pipeline"]);
/// store.writer(options)?.finish()?;
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone)]
pub struct WriterOptions {
    pub(crate) memory_bytes: usize,
    pub(crate) threads: usize,
    pub(crate) tags: Vec<String>,
    pub(crate) labels: Labelling,
    pub(crate) control: Arc<Control>,
}

impl WriterOptions {
    /// At most about this many bytes of data in flight, 32 MiB at least. Besides, each thread that gives a file holds up
    /// to 8 MiB of it, and up to 64 Ki rows are gathered before they go to a temporary file (some 20 MB).
    #[must_use]
    pub fn memory_bytes(mut self, memory_bytes: usize) -> Self {
        self.memory_bytes = memory_bytes;
        self
    }

    /// Worker threads that cut, hash and compress; at least 1.
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

    /// Labels of the entries. Those that an entry is given for itself count more.
    #[must_use]
    pub fn labels(mut self, labels: Labelling) -> Self {
        self.labels = labels;
        self
    }

    /// Counts what is done, and can stop it.
    #[must_use]
    pub fn control(mut self, control: Arc<Control>) -> Self {
        self.control = control;
        self
    }
}

/// 256 MiB of memory, a thread for each processor, neither tags nor labels, and a control that nobody watches.
impl Default for WriterOptions {
    fn default() -> Self {
        let AddRequest { memory_bytes, threads, tags, labels, .. } = AddRequest::default();
        Self { memory_bytes, threads, tags, labels, control: Arc::default() }
    }
}

/// Takes entries and makes them one snapshot. See [`Store::writer`].
///
/// It can be shared between threads. Entries may come in any order. A directory that is not given but leads to something
/// that is, is made, as this process would make it now.
///
/// Dropped without [`Writer::finish`], it makes no snapshot, and waits until its threads are gone. Packs that were
/// written by then are in nobody's way: the next add that needs their chunks uses them, gc removes them.
///
/// ```
/// # use seamstore::{Control, Store, entry::*, report::*, request::*};
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let store = Store::in_memory(Settings::default())?;
/// # let writer = store.writer(WriterOptions::default().threads(1))?;
/// # writer.add_bytes(writer.entry("notes/first.txt", EntryKind::File)?, b"found again".to_vec())?;
/// # let added = writer.finish()?;
/// # let control = Control::default();
/// let writer = store.writer(WriterOptions::default())?;
/// writer.add(writer.entry("notes/second.txt", EntryKind::File)?, "read from anywhere".as_bytes())?;
/// assert_eq!(writer.finish()?.totals.files, 1);
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct Writer {
    queue: Sender<WriterMessage>,
    semaphore: Arc<Semaphore>,
    segments: Pool,
    control: Arc<Control>,
    store: Store,
    metadata: Metadata,
    now: Entry,
    /// The keys of all labels so far.
    label_keys: Mutex<BTreeSet<Arc<str>>>,
    pipeline: Option<JoinHandle<Result<AddReport>>>,
}

impl Store {
    /// Begins a snapshot of whatever the writer will be given.
    ///
    /// ```
    /// use seamstore::entry::EntryKind;
    /// use seamstore::request::{Settings, WriterOptions};
    /// use seamstore::Store;
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let folder = tempfile::tempdir()?;
    /// let store = Store::open_or_init(&folder.path().join("store"), Settings::default())?;
    /// let writer = store.writer(WriterOptions::default().threads(2))?;
    /// std::thread::scope(|scope| {
    ///     for part in 0..4 {
    ///         let writer = &writer;
    ///         scope.spawn(move || {
    ///             let mut entry = writer.entry(format!("parts/{part}"), EntryKind::File)?;
    ///             entry.labels = [seamstore::entry::Label::new("part", part.to_string())?].into_iter().collect();
    ///             writer.add(entry, format!("the bytes of part {part}").as_bytes())?;
    ///             Ok::<(), Box<dyn std::error::Error + Send + Sync>>(())
    ///         });
    ///     }
    /// });
    /// let report = writer.finish()?;
    /// assert_eq!((report.totals.files, report.totals.directories), (4, 1));
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// As [`Store::add`], if it cannot even begin: [`Error::Usage`] for too little memory, rules or labels that cannot be;
    /// whatever keeps the store from being written.
    pub fn writer(&self, options: WriterOptions) -> Result<Writer> {
        let WriterOptions { memory_bytes, threads, tags, labels, control } = options;
        let label_keys = Labeller::new(&labels)?.keys().iter().cloned().collect();
        let gate_bytes = memory_bytes / GATE_SHARE;
        let semaphore = Arc::new(Semaphore::new(gate_bytes));
        let segments = Pool::default();
        let (queue, given) = unbounded();
        let (ready, is_ready) = bounded(1);
        let request = AddRequest { memory_bytes, threads, tags, labels, ..AddRequest::default() };
        let pipeline = {
            let (store, control, segments) = (self.clone(), Arc::clone(&control), segments.clone());
            let closing = Closing(Arc::clone(&semaphore));
            std::thread::Builder::new().name("store-writer".to_owned()).spawn(move || {
                let from = FromWriter { given: WriterSource::new(given), segments, gate_bytes, ready };
                let outcome = store.run_add(&request, &control, Some(from));
                closing.0.close(&match &outcome {
                    Ok(_) => "it is finished".to_owned(),
                    Err(error) => chain(error),
                });
                outcome
            })
        };
        let pipeline = pipeline.map_err(|source| Error::io("start", "a thread", source))?;
        if is_ready.recv().is_err() {
            // It ended before it was ready, which a pipeline that succeeds never does.
            return joined(pipeline).and_then(|_| Err(Error::Internal("the writer ended early".to_owned())));
        }
        Ok(Writer {
            queue,
            semaphore,
            segments,
            control,
            store: self.clone(),
            metadata: Metadata::new(),
            now: made_now(EntryPath::default(), EntryKind::File),
            label_keys: Mutex::new(label_keys),
            pipeline: Some(pipeline),
        })
    }
}

impl Writer {
    /// An entry as this process would make it now, to be changed and given: its owner, the permissions that the mask
    /// leaves, the time at which the writer began, no attributes and no labels. A symbolic link still needs its
    /// `link_target`.
    ///
    /// # Errors
    /// [`Error::Refused`] for a path that is no [`EntryPath`]: relative, `/` between parts, no `.` or `..` among them.
    pub fn entry(&self, path: impl AsRef<Path>, kind: EntryKind) -> Result<Entry> {
        let mode = match kind {
            EntryKind::Symlink => 0o777,
            EntryKind::Directory => self.now.mode | (self.now.mode & 0o444) >> 2,
            _ => self.now.mode,
        };
        Ok(Entry { path: entry_path(path.as_ref())?, kind, mode, ..self.now.clone() })
    }

    /// An entry like a file on disk, as far as `metadata` tell: kind, permissions, owner, time, links. A symbolic link still
    /// needs its `link_target`; extended attributes are the caller's to add. A time before 1677 or after 2262 becomes the
    /// nearest that a snapshot can hold.
    ///
    /// # Errors
    /// As [`Writer::entry`]; [`Error::Refused`] for a kind of file that no snapshot knows.
    pub fn entry_like(&self, path: impl AsRef<Path>, metadata: &std::fs::Metadata) -> Result<Entry> {
        let path = entry_path(path.as_ref())?;
        let why = || "it is of a kind that no snapshot knows".to_owned();
        let stat = Stat::of(metadata).ok_or_else(|| Error::Refused { path: path.as_path().to_owned(), why: why() })?;
        Ok(self.metadata.bare(path, &stat))
    }

    /// Gives a file and reads its bytes, on this thread, to the end; says how many. Returns once they are on their way,
    /// waiting where memory is spent. The `size` of `entry` is a hint, its content is not looked at.
    ///
    /// # Errors
    /// [`Error::Io`] if reading fails: then this file is not in the snapshot, named in [`AddReport::problems`] and counted
    /// as skipped, and the writer goes on as if it had not been given. [`Error::Refused`] or [`Error::Usage`] for an entry
    /// that no snapshot can hold: then nothing is read. Any other error is the writer's end: [`Writer::finish`] returns the
    /// reason.
    pub fn add(&self, entry: Entry, mut bytes: impl Read) -> Result<u64> {
        let hint = usize::try_from(entry.size.min(SMALL_FILE_BYTES_MAX)).unwrap_or_default();
        let entry = self.checked(entry, true)?;
        let mut first = Buffer::of(Vec::with_capacity(hint + 1));
        // One byte more than a short file has: if it is there, the file is a long one.
        let read = fill(&mut bytes, &mut first, SMALL_FILE_BYTES_MAX as usize + 1);
        if let Err(error) = read {
            let path = entry.path.as_path();
            let reported = Error::io("read", path, same_error(&error));
            self.send(WriterMessage::Failed(Problem::skipped(path, &reported)))?;
            return Err(Error::io("read", path, error));
        }
        let length = first.len();
        if length as u64 <= SMALL_FILE_BYTES_MAX {
            if first.capacity() > length + length / 4 {
                first.shrink_to_fit();
            }
            self.send_file(entry, first)?;
            return Ok(length as u64);
        }
        let path = entry.path.clone();
        let mut begun = Begun { writer: self, origin: Some(Arc::new(Origin::Stream { entry: Box::new(entry) })) };
        match begun.send_parts(first, &mut bytes)? {
            Ok(length) => Ok(length),
            Err(error) => {
                begun.give_up(same_error(&error));
                Err(Error::io("read", path.as_path(), error))
            }
        }
    }

    /// Gives a file whose bytes are at hand. As [`Writer::add`], without copying where they are few.
    ///
    /// # Errors
    /// As [`Writer::add`], but for reading.
    pub fn add_bytes(&self, entry: Entry, bytes: Vec<u8>) -> Result<()> {
        if bytes.len() as u64 > SMALL_FILE_BYTES_MAX {
            return self.add(entry, bytes.as_slice()).map(|_| ());
        }
        let entry = self.checked(entry, true)?;
        self.send_file(entry, Buffer::of(bytes))
    }

    /// Gives an entry that is no file: a directory, a link, a device.
    ///
    /// # Errors
    /// As [`Writer::add`], but for reading.
    pub fn add_entry(&self, entry: Entry) -> Result<()> {
        let entry = self.checked(entry, false)?;
        let permit = self.permit(ENTRY_BYTES)?;
        self.send(WriterMessage::Row(Box::new(entry), permit))
    }

    /// Makes the snapshot of all that was given, durable, and says what it came to.
    ///
    /// # Errors
    /// No snapshot is made, if: two entries were given one path, or one below a path that was given as something else than
    /// a directory ([`Error::Refused`] names it); the control was stopped ([`Error::Interrupted`]); the store could not be
    /// written.
    pub fn finish(mut self) -> Result<AddReport> {
        // If nobody listens any more, the outcome says why.
        let _ = self.queue.send(WriterMessage::Finish);
        self.pipeline.take().map_or_else(|| Err(Error::Usage("the writer is finished".to_owned())), joined)
    }

    fn checked(&self, entry: Entry, is_file: bool) -> Result<Entry> {
        let refuse = |why: &str| Err(Error::Refused { path: entry.path.as_path().to_owned(), why: why.to_owned() });
        match (entry.kind == EntryKind::File, is_file) {
            (true, false) => return refuse("a file is given with its bytes"),
            (false, true) => return refuse("bytes were given for something that is no file"),
            _ => {}
        }
        if is_file && entry.path.is_root() {
            return refuse("the root of a snapshot is a directory");
        }
        let entry = Entry { size: 0, content: Content::Empty, ..entry };
        SnapshotWriter::check(&entry)?;
        if !entry.labels.is_empty() {
            let mut keys = self.label_keys.lock().unwrap_or_else(PoisonError::into_inner);
            let new: Vec<Arc<str>> =
                entry.labels.iter().map(|label| Arc::from(label.key())).filter(|key| !keys.contains(key)).collect();
            if keys.len() + new.len() > LABEL_KEYS_MAX {
                let why = format!("its labels make more than {LABEL_KEYS_MAX} keys, as many as a snapshot can have");
                return Err(Error::Refused { path: entry.path.as_path().to_owned(), why });
            }
            keys.extend(new);
        }
        Ok(entry)
    }

    fn send_file(&self, entry: Entry, bytes: Buffer) -> Result<()> {
        let permit = self.permit(bytes.capacity() + ENTRY_BYTES)?;
        self.send(WriterMessage::File(Box::new(entry), bytes, permit))
    }

    /// Waits for room.
    fn permit(&self, bytes: usize) -> Result<super::semaphore::Permit> {
        if self.control.is_stopped() {
            return Err(Error::Interrupted { kept: "the writer was stopped; no snapshot will be made".to_owned() });
        }
        self.semaphore.enter(bytes).map_err(|why| self.stopped(&why))
    }

    fn send(&self, message: WriterMessage) -> Result<()> {
        self.queue.send(message).map_err(|_| self.stopped("its thread is gone"))
    }

    fn stopped(&self, why: &str) -> Error {
        Error::io("write", self.store.location(), io::Error::other(why.to_owned()))
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        if let Some(pipeline) = self.pipeline.take() {
            // The queue ends without the word that it is finished.
            self.queue = unbounded().0;
            // Nobody receives the error.
            let _ = pipeline.join();
        }
    }
}

/// A long file on its way. Dropped before its last part was sent, whatever the reason, it is not in the snapshot.
struct Begun<'w> {
    writer: &'w Writer,
    origin: Option<Arc<Origin>>,
}

impl Begun<'_> {
    /// Reads to the end, sending a part at a time; `bytes` are the file's first. The outer error is the writer's, the inner
    /// one the reader's.
    fn send_parts(&mut self, mut bytes: Buffer, reader: &mut impl Read) -> Result<io::Result<u64>> {
        let mut at = 0;
        let mut tail: Vec<u8> = Vec::new();
        loop {
            // The last part of a file is known as that: a byte more than a part has is read, and kept for the next.
            let wanted = tail.len() + SEGMENT_BYTES + 1;
            let room = wanted.saturating_sub(bytes.len());
            if let Err(error) = fill(reader, &mut bytes, room) {
                return Ok(Err(error));
            }
            let ahead = if bytes.len() == wanted { bytes.pop() } else { None };
            let range = at..at + (bytes.len() - tail.len()) as u64;
            at = range.end;
            tail = bytes.get(bytes.len().saturating_sub(WARM_UP)..).unwrap_or_default().to_vec();
            let permit = self.writer.permit(bytes.len())?;
            let Some(origin) = &self.origin else { return Ok(Ok(at)) };
            let part = StreamSegment { range, bytes, is_last: ahead.is_none() };
            self.writer.send(WriterMessage::StreamSegment(Arc::clone(origin), part, permit))?;
            let Some(ahead) = ahead else {
                self.origin = None;
                return Ok(Ok(at));
            };
            bytes = self.writer.segments.take_empty();
            bytes.extend_from_slice(&tail);
            bytes.push(ahead);
        }
    }

    fn give_up(&mut self, error: io::Error) {
        if let Some(origin) = self.origin.take() {
            // If nobody listens any more, there will be no snapshot either.
            let _ = self.writer.queue.send(WriterMessage::Broken(origin, error));
        }
    }
}

impl Drop for Begun<'_> {
    fn drop(&mut self) {
        self.give_up(io::Error::other("the thread that gave it stopped"));
    }
}

/// Closes the semaphore when the add has ended, even in panic.
struct Closing(Arc<Semaphore>);

impl Drop for Closing {
    fn drop(&mut self) {
        self.0.close("its thread is gone");
    }
}

fn joined(pipeline: JoinHandle<Result<AddReport>>) -> Result<AddReport> {
    pipeline.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}

fn entry_path(path: &Path) -> Result<EntryPath> {
    use std::os::unix::ffi::OsStrExt;
    EntryPath::new(path.as_os_str().as_bytes())
        .map_err(|error| Error::Refused { path: path.to_owned(), why: error.to_string() })
}

/// Appends up to `room` bytes; fewer mean the end.
fn fill(reader: &mut impl Read, buffer: &mut Vec<u8>, room: usize) -> io::Result<()> {
    reader.by_ref().take(room as u64).read_to_end(buffer).map(|_| ())
}
