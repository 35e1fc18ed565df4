//! How is one small file among many read fast, again and again? A [`Reader`]: opened once, asked from many threads.
//!
//! [`Store::read`] finds its way anew each time: snapshot, recipe, index, frame. A reader walks that way once for all
//! files of a snapshot and keeps where it led ([`table`]). A read of a small file is then one look-up in memory, one
//! read of a pack that is open already, one frame decoded into a buffer that is there already, and one chunk hashed:
//!
//! ```text
//! path → row → chunks           in memory                                       table
//!      → frame                  read; decoded once for all it holds of the file  engine::read::frame
//!      → chunk                  compared with its id (invariant 4)
//!      → bytes
//! ```
//!
//! A chunk in a frame that was stored as it is, because it would not shrink, is read alone. Nothing else is hashed: the
//! frame's checksum says nothing that the chunk's id does not.

mod batch;
mod recent;
mod table;
#[cfg(test)]
mod tests;

use std::cell::RefCell;
use std::ops::Range;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use self::recent::RecentLayouts;
use self::table::{Known, Source, Table, TableBuilder};
use super::archive::{OpenArchive, layout_of};
use super::cache::FrameCache;
use super::fetch::{Fetcher, FrameSink, HasIndex, bytes_of, ended_by};
use super::frame::{FrameBytes, FrameReader};
use super::layout::Layout;
use super::plan::{Frames, Plan, ReadSegment};
use crate::engine::store::snapshots::Selector;
use crate::engine::{ChunkIndex, Store};
use crate::error::{Error, Result};
use crate::format::entry::{EntryKind, EntryPath};
use crate::format::id::SnapshotId;

/// How a reader works.
///
/// ```
/// # use seamstore::{Control, Store, entry::*, report::*, request::*};
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let store = Store::in_memory(Settings::default())?;
/// # let writer = store.writer(WriterOptions::default().threads(1))?;
/// # writer.add_bytes(writer.entry("notes/first.txt", EntryKind::File)?, b"found again".to_vec())?;
/// # let added = writer.finish()?;
/// # let control = Control::default();
/// let options = ReaderOptions::default().cache_bytes(64 << 20);
/// let reader = store.reader_with(&Selector::Latest, options)?;
/// assert_eq!(reader.read("notes/first.txt")?, b"found again");
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReaderOptions {
    pub(crate) table_bytes: usize,
    pub(crate) cache_bytes: usize,
}

impl ReaderOptions {
    /// At most about this many bytes of memory go to chunks and frames: 48 and 24 bytes each. Files beyond are looked up
    /// in the index at each read, as are those of more than 4 MiB. Paths come on top.
    #[must_use]
    pub fn table_bytes(mut self, table_bytes: usize) -> Self {
        self.table_bytes = table_bytes;
        self
    }

    /// Decoded frames are kept in this many bytes of memory, for reads that come back to them; 0 for none.
    #[must_use]
    pub fn cache_bytes(mut self, cache_bytes: usize) -> Self {
        self.cache_bytes = cache_bytes;
        self
    }
}

impl Default for ReaderOptions {
    /// 512 MiB of chunks: 10 million files of one chunk; no frames.
    fn default() -> Self {
        Self { table_bytes: 512 << 20, cache_bytes: 0 }
    }
}

/// Reads files of one snapshot, in any order, from any number of threads.
///
/// It sees the snapshot it was opened on, whatever is added to the store since. A member of an archive is a file too: that
/// of `data.tar` called `images/7.jpg` is at `data.tar/images/7.jpg`.
///
/// ```
/// # use seamstore::request::{AddRequest, Selector, Settings};
/// # use seamstore::{Control, Store};
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let folder = tempfile::tempdir()?;
/// # let tree = folder.path().join("images");
/// # std::fs::create_dir(&tree)?;
/// # for n in 0..100 {
/// #     std::fs::write(tree.join(format!("{n}.txt")), format!("this is number {n}"))?;
/// # }
/// # let store = Store::open_or_init(&folder.path().join("store"), Settings::default())?;
/// # let request = AddRequest::default().paths(vec![tree.clone()]).memory_bytes(64 << 20).threads(2);
/// # store.add(&request, &Control::default())?;
/// // `store` has a tree of many files, added as `tree`.
/// let reader = store.reader(&Selector::Latest)?;
/// assert_eq!(reader.read(tree.join("7.txt"))?, b"this is number 7");
/// assert_eq!(reader.read_range(tree.join("42.txt"), 15..99)?, b"42");
///
/// // Many at once: each frame is read and decoded once, in parallel.
/// let batch: Vec<_> = (0..50).map(|n| tree.join(format!("{n}.txt"))).collect();
/// for (n, bytes) in reader.read_many(&batch).into_iter().enumerate() {
///     assert_eq!(bytes?, format!("this is number {n}").as_bytes());
/// }
///
/// std::thread::scope(|scope| {
///     let first = scope.spawn(|| reader.read(tree.join("1.txt")));
///     let second = scope.spawn(|| reader.read(tree.join("2.txt")));
///     assert_ne!(first.join().unwrap().unwrap(), second.join().unwrap().unwrap());
/// });
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct Reader<'s> {
    store: &'s Store,
    snapshot: SnapshotId,
    table: Table,
    /// Finds the chunks of the files that the table only names, and what is not where the table says. Opened when it is
    /// needed.
    chunk_index: OnceLock<ChunkIndex<'s>>,
    recent: RecentLayouts,
    cache: Option<FrameCache>,
    /// Frame readers at rest: as many as there were reads at once.
    idle: Mutex<Vec<FrameReader>>,
}

impl Store {
    /// Opens a snapshot to read files of it in any order. Without a path to go by, [`Selector::NewestWithPath`] is the
    /// newest.
    ///
    /// # Errors
    /// [`Error::NotFound`] if there is no such snapshot; [`Error::Damaged`] if it is not what was written. A file whose
    /// recipe or chunks are lost fails only its own reads.
    pub fn reader(&self, snapshot: &Selector) -> Result<Reader<'_>> {
        self.reader_with(snapshot, ReaderOptions::default())
    }

    /// As [`Store::reader`].
    ///
    /// # Errors
    /// As [`Store::reader`].
    pub fn reader_with(&self, snapshot: &Selector, options: ReaderOptions) -> Result<Reader<'_>> {
        let snapshot = self.snapshot(snapshot)?;
        let chunk_index = self.chunk_index()?;
        let mut builder = TableBuilder::new(options.table_bytes);
        for entry in snapshot.entries() {
            let entry = entry?;
            if entry.kind == EntryKind::File {
                builder.push(&chunk_index, &entry)?;
            }
        }
        let table = builder.finish();
        Ok(Reader {
            store: self,
            snapshot: snapshot.id(),
            chunk_index: if table.is_whole() { OnceLock::new() } else { OnceLock::from(chunk_index) },
            table,
            recent: RecentLayouts::default(),
            cache: (options.cache_bytes > 0).then(|| FrameCache::new(options.cache_bytes)),
            idle: Mutex::default(),
        })
    }
}

impl<'s> Reader<'s> {
    /// The snapshot.
    #[must_use]
    pub fn snapshot(&self) -> SnapshotId {
        self.snapshot
    }

    /// How many files there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.table.len()
    }

    /// Whether there is no file.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The paths of all files, as they are stored, in snapshot order.
    pub fn paths(&self) -> impl ExactSizeIterator<Item = &Path> {
        let rows = 0..self.table.len() as u32;
        rows.map(|row| Path::new(std::ffi::OsStr::from_bytes(self.table.path(row))))
    }

    /// The size in bytes of the file at a path; `None` if there is no file.
    pub fn size(&self, path: impl AsRef<Path>) -> Option<u64> {
        let row = self.row(path.as_ref())?;
        Some(match self.table.content(row) {
            Known::Chunks(chunks) => chunks.size(),
            Known::Source(_, size) => size,
        })
    }

    /// Bytes of memory that paths, chunks and frames take, kept frames and buffers left out.
    #[must_use]
    pub fn table_bytes(&self) -> usize {
        self.table.memory_bytes()
    }

    /// The bytes of the file at a path, which is as stored, or as it was given to add.
    ///
    /// # Errors
    /// [`Error::NotFound`], with the nearest names (they are searched for: to ask whether there is a file, use
    /// [`Reader::size`]); [`Error::Usage`] if what is there is no file; [`Error::Damaged`] if its bytes are not those
    /// that were added.
    pub fn read(&self, path: impl AsRef<Path>) -> Result<Vec<u8>> {
        let mut bytes = Vec::new();
        self.read_into(path, .., &mut bytes)?;
        Ok(bytes)
    }

    /// A part of a file's bytes. A range past the end is cut off there.
    ///
    /// # Errors
    /// As [`Reader::read`]; what lies outside the chunks of the range is neither read nor checked.
    pub fn read_range(&self, path: impl AsRef<Path>, range: Range<u64>) -> Result<Vec<u8>> {
        let mut bytes = Vec::new();
        self.read_into(path, range, &mut bytes)?;
        Ok(bytes)
    }

    /// Replaces `bytes` by a file, or a part of it: for one that reads into the same memory again and again.
    ///
    /// # Errors
    /// As [`Reader::read`]; `bytes` are then of no use.
    pub fn read_into(
        &self,
        path: impl AsRef<Path>,
        range: impl std::ops::RangeBounds<u64>,
        bytes: &mut Vec<u8>,
    ) -> Result<()> {
        let path = path.as_ref();
        let row = self.row(path).ok_or_else(|| self.missing(path))?;
        let read = match self.table.content(row) {
            Known::Chunks(chunks) => {
                let range = within(chunks.size(), &range);
                let length = range.end - range.start;
                self.collect(self.table.frames(), chunks.segments(range, 0), length, bytes)
            }
            Known::Source(source, size) => {
                let mut plan = Plan::default();
                self.plan_source(row, source, size, |_| within(size, &range), 0, &mut plan).and_then(|length| {
                    let segments = std::mem::take(&mut plan.segments);
                    self.collect(plan.frames(), segments.into_iter(), length, bytes)
                })
            }
        };
        read.or_else(|error| self.store.unless_removed(self.snapshot, Err(error)))
    }

    /// Plans to read a range of a file that the table only names; returns how many bytes the range has.
    fn plan_source(
        &self,
        row: u32,
        source: Source,
        size: u64,
        range: impl FnOnce(u64) -> Range<u64>,
        destination: u32,
        plan: &mut Plan,
    ) -> Result<u64> {
        let chunk_index = self.chunk_index()?;
        let layout: Arc<Layout> = self.recent.get(row, || match source {
            Source::Content(content) => layout_of(chunk_index, content, size),
            Source::Member(id, row) => OpenArchive::open(chunk_index, id)?.member_layout(row),
        })?;
        let Range { start, end } = range(size);
        let end = end.min(layout.bytes()).max(start);
        let before = plan.segments.len();
        let mut parts = layout.parts(start..end);
        match parts.try_for_each(|part| plan.want_part(chunk_index, &part, destination, part.offset - start)) {
            Ok(()) => Ok(end - start),
            Err(error) => {
                plan.segments.truncate(before);
                Err(error)
            }
        }
    }

    fn row(&self, path: &Path) -> Option<u32> {
        // Nearly always it is asked for as it is stored.
        let bytes = path.as_os_str().as_bytes();
        self.table.find(bytes).or_else(|| {
            let stored = EntryPath::from_given(path);
            if stored.as_bytes() == bytes { None } else { self.table.find(stored.as_bytes()) }
        })
    }

    /// Why there is no file at a path.
    fn missing(&self, path: &Path) -> Error {
        match self.store.resolve(path, &Selector::Id(self.snapshot.to_hex())) {
            Ok(found) => Error::Usage(format!("{:?} is not a file; only a file can be read", found.path)),
            Err(error) => error,
        }
    }

    /// Replaces `bytes` by `length` bytes that these segments and holes make up.
    fn collect(
        &self,
        frames: &Frames,
        mut segments: impl Iterator<Item = ReadSegment>,
        length: u64,
        bytes: &mut Vec<u8>,
    ) -> Result<()> {
        bytes.clear();
        if length == 0 {
            return Ok(());
        }
        let too_long = |_| Error::Usage("a range that does not fit in memory".to_owned());
        let length = usize::try_from(length).map_err(too_long)?;
        // A hole may be longer than memory.
        bytes.try_reserve(length).map_err(|_| Error::Usage(format!("{length} bytes do not fit in memory")))?;
        let (first, second) = (segments.next(), segments.next());
        let mut fetcher = self.fetcher()?;
        let served = match (first, second) {
            (Some(only), None) if only.part_bytes as usize == length => {
                fetcher.serve(frames, &[only], &Collected { bytes: RefCell::new(bytes), is_appended: true })
            }
            _ => {
                bytes.resize(length, 0);
                let sink = Collected { bytes: RefCell::new(bytes), is_appended: false };
                let mut all: Vec<ReadSegment> = first.into_iter().chain(second).chain(segments).collect();
                all.sort_unstable_by_key(|segment| (segment.frame, segment.start));
                let mut groups = all.chunk_by(|a, b| a.frame == b.frame);
                groups.try_for_each(|group| fetcher.serve(frames, group, &sink))
            }
        };
        self.lock_idle().push(fetcher.into_reader());
        served
    }

    fn fetcher(&self) -> Result<Fetcher<'_, 's>> {
        let source = super::fetch::Source { storage: self.store.storage(), index: self, cache: self.cache.as_ref() };
        Ok(Fetcher::new(source, self.take_reader()?))
    }

    fn take_reader(&self) -> Result<FrameReader> {
        let idle = self.lock_idle().pop();
        idle.map_or_else(|| FrameReader::new(None), Ok)
    }

    fn lock_idle(&self) -> std::sync::MutexGuard<'_, Vec<FrameReader>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The bounds of a range, cut off at a size. One that ends before it starts is empty.
fn within(size: u64, range: &impl std::ops::RangeBounds<u64>) -> Range<u64> {
    use std::ops::Bound::{Excluded, Included, Unbounded};
    let start = match range.start_bound() {
        Included(start) => *start,
        Excluded(before) => before.saturating_add(1),
        Unbounded => 0,
    };
    let end = match range.end_bound() {
        Included(last) => last.saturating_add(1),
        Excluded(end) => *end,
        Unbounded => size,
    };
    let start = start.min(size);
    start..end.min(size).max(start)
}

impl<'s> HasIndex<'s> for Reader<'s> {
    fn chunk_index(&self) -> Result<&ChunkIndex<'s>> {
        if let Some(open) = self.chunk_index.get() {
            return Ok(open);
        }
        let opened = self.store.chunk_index()?;
        // Another thread may have been as fast.
        Ok(self.chunk_index.get_or_init(|| opened))
    }
}

/// The bytes of one read.
struct Collected<'a> {
    bytes: RefCell<&'a mut Vec<u8>>,
    /// Whether there is one segment only, which makes up all of them.
    is_appended: bool,
}

impl FrameSink for Collected<'_> {
    fn deliver(&self, segments: &[ReadSegment], frame: &Arc<FrameBytes>) -> Result<()> {
        let mut bytes = self.bytes.borrow_mut();
        for segment in segments {
            match self.is_appended {
                true => bytes.extend_from_slice(bytes_of(segment, frame)),
                false => put(segment, frame, &mut bytes),
            }
        }
        Ok(())
    }

    fn fail(&self, _: &ReadSegment, why: &Error) -> Result<()> {
        Err(ended_by(why, None))
    }
}

/// Puts a part in its place.
fn put(segment: &ReadSegment, frame: &FrameBytes, bytes: &mut [u8]) {
    let (at, part) = (segment.offset as usize, bytes_of(segment, frame));
    if let Some(place) = bytes.get_mut(at..at + part.len()) {
        place.copy_from_slice(part);
    }
}
