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
mod cache;
mod table;
#[cfg(test)]
mod tests;

use std::ops::Range;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use self::cache::{FrameCache, RecentPieces};
use self::table::{Chunks, Known, Located, ReadSegment, Source, Table, TableBuilder};
use super::archive::{OpenArchive, layout_of, read_range};
use super::frame::{FrameReader, is_chunk, read_stored};
use super::get::{Resolved, Selector};
use super::layout::Layout;
use crate::catalog::snapshot::Snapshot;
use crate::engine::chunk_index::listed;
use crate::engine::{ChunkIndex, Store};
use crate::error::{Error, Result};
use crate::format::entry::{Content, EntryKind, EntryPath};
use crate::format::id::{ChunkId, PackId, SnapshotId};
use crate::format::name::{ObjectKind, ObjectName};

/// How a reader works.
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

    /// Decoded frames are kept in so many bytes of memory, for reads that come back to them; 0 for none.
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
    packs: Vec<PackId>,
    table: Table,
    /// Finds the chunks of the files that the table only names; without such files there is none.
    chunk_index: Option<ChunkIndex<'s>>,
    recent: RecentPieces,
    /// How the archive, or the member of one, that was read last is put together.
    layout: Mutex<Option<(Source, Arc<Layout>)>>,
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
        let Resolved { snapshot, passed_over, .. } = self.resolve(Path::new(""), snapshot)?;
        if let Some(unreadable) = passed_over.first() {
            // Which snapshot was meant is unknown, and nobody would see a warning.
            Snapshot::open(self.storage(), unreadable.id)?;
        }
        let chunk_index = self.chunk_index()?;
        let mut packs: Vec<PackId> = listed(self.storage(), ObjectKind::Pack, ObjectName::pack)?;
        packs.sort_unstable();
        let mut builder = TableBuilder::new(options.table_bytes);
        for entry in snapshot.entries() {
            let entry = entry?;
            if entry.kind == EntryKind::File {
                builder.push(&chunk_index, &packs, &entry)?;
            }
        }
        let table = builder.finish();
        Ok(Reader {
            store: self,
            snapshot: snapshot.id(),
            packs,
            chunk_index: (!table.is_whole()).then_some(chunk_index),
            table,
            recent: RecentPieces::default(),
            layout: Mutex::default(),
            cache: (options.cache_bytes > 0).then(|| FrameCache::new(options.cache_bytes)),
            idle: Mutex::default(),
        })
    }
}

impl Reader<'_> {
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
            Known::Name(_, size) | Known::Layout(_, size) => size,
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
        match self.table.content(row) {
            Known::Chunks(chunks) => {
                let range = within(chunks.size(), &range);
                self.collect(chunks, range, bytes)
            }
            Known::Name(content, size) => {
                let range = within(size, &range);
                let located = self.look_up(row, content, size, &range)?;
                self.collect(located.chunks(), range, bytes)
            }
            Known::Layout(source, size) => self.assemble(source, size, within(size, &range), bytes),
        }
    }

    /// Puts together a range of an archive, or of a member that is not just its chunks.
    fn assemble(&self, source: Source, size: u64, range: Range<u64>, bytes: &mut Vec<u8>) -> Result<()> {
        let chunk_index = self.chunk_index.as_ref().ok_or_else(|| Error::not_found("the index"))?;
        let kept = self.lock_layout().as_ref().filter(|(of, _)| *of == source).map(|(_, layout)| Arc::clone(layout));
        let layout = match kept {
            Some(layout) => layout,
            None => {
                let layout = Arc::new(match source {
                    Source::Archive(content) => layout_of(chunk_index, content, size)?,
                    Source::Member(id, row) => OpenArchive::open(chunk_index, id)?.member_layout(row)?,
                });
                *self.lock_layout() = Some((source, Arc::clone(&layout)));
                layout
            }
        };
        read_range(chunk_index, &layout, range.start..range.end.min(layout.bytes()), bytes)
    }

    fn lock_layout(&self) -> std::sync::MutexGuard<'_, Option<(Source, Arc<Layout>)>> {
        self.layout.lock().unwrap_or_else(PoisonError::into_inner)
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

    /// Where the chunks of `range` are, for a file that the table only names.
    fn look_up(&self, row: u32, content: Content, size: u64, range: &Range<u64>) -> Result<Located> {
        let chunk_index = self.chunk_index.as_ref().ok_or_else(|| Error::not_found("the index"))?;
        let pieces = self.recent.get(row, || chunk_index.pieces_of_content(content, size).map(Arc::new))?;
        let first = pieces.partition_point(|piece| piece.end <= range.start);
        let count = pieces.get(first..).unwrap_or_default().partition_point(|piece| piece.end < range.end) + 1;
        let start = first.checked_sub(1).and_then(|n| pieces.get(n)).map_or(0, |piece| piece.end);
        let rest = pieces.get(first..).unwrap_or_default();
        let mut located = Located::new(start);
        located.push(chunk_index, &self.packs, rest.get(..count).unwrap_or(rest))?;
        Ok(located)
    }

    /// Replaces `bytes` by the bytes `range` of a file, which has that many.
    fn collect(&self, chunks: Chunks<'_>, range: Range<u64>, bytes: &mut Vec<u8>) -> Result<()> {
        bytes.clear();
        if range.is_empty() {
            return Ok(());
        }
        let too_long = |_| Error::Usage("a range that does not fit in memory".to_owned());
        let length = usize::try_from(range.end - range.start).map_err(too_long)?;
        // A hole may be longer than memory.
        bytes.try_reserve(length).map_err(|_| Error::Usage(format!("{length} bytes do not fit in memory")))?;
        let mut segments = chunks.segments(range, 0);
        let (first, second) = (segments.next(), segments.next());
        let mut reader = self.take_reader()?;
        let served = match (first, second) {
            (Some(only), None) if (only.part_end - only.part_start) as usize == length => {
                self.serve(&mut reader, &[only], &mut |_, part| bytes.extend_from_slice(part))
            }
            _ => {
                bytes.resize(length, 0);
                let mut all: Vec<ReadSegment> = first.into_iter().chain(second).chain(segments).collect();
                all.sort_unstable_by_key(|segment| (segment.frame, segment.start));
                let mut groups = all.chunk_by(|a, b| a.frame == b.frame);
                let mut put = |segment: &ReadSegment, part: &[u8]| put(segment, part, bytes);
                groups.try_for_each(|group| self.serve(&mut reader, group, &mut put))
            }
        };
        self.lock_idle().push(reader);
        served
    }

    /// Hands what is wanted of one frame to `put`, checked. The segments are by where they lie in the frame.
    fn serve(
        &self,
        reader: &mut FrameReader,
        segments: &[ReadSegment],
        put: &mut dyn FnMut(&ReadSegment, &[u8]),
    ) -> Result<()> {
        let (Some(first), Some(last)) = (segments.first(), segments.last()) else { return Ok(()) };
        let frame = first.frame;
        let storage = self.store.storage();
        let lost = || Error::Internal("a frame is in no pack of the store".to_owned());
        let pack = self.packs.get(frame.pack as usize).ok_or_else(lost)?;
        let read = |buffer: &mut Vec<u8>| read_stored(storage, pack, frame.offset, frame.stored_bytes as usize, buffer);
        if let Some(kept) = self.cache.as_ref().and_then(|cache| cache.get(&frame))
            && hand_on(&kept, segments, put).is_ok()
        {
            return Ok(());
        }
        // What only a part of the frame is needed for is tried first. If it fails, the whole frame tells why, or that
        // the part was too small.
        let done = match (frame.raw_at(), segments) {
            _ if self.cache.is_some() => false,
            (Some(raw_at), [segment]) => reader
                .stretch(storage, pack, raw_at + u64::from(segment.start), segment.length)
                .is_ok_and(|chunk| hand_on(chunk, &[ReadSegment { start: 0, ..*segment }], put).is_ok()),
            _ => {
                let end = last.start as usize + last.length as usize;
                reader.front(pack, frame.offset, end, read).is_ok_and(|raw| hand_on(raw, segments, put).is_ok())
            }
        };
        if done {
            return Ok(());
        }
        let raw = reader.frame(pack, frame.offset, read)?;
        if let Some(cache) = &self.cache {
            cache.put(&frame, raw);
        }
        hand_on(raw, segments, put).map_err(|id| reader.damaged(storage, pack, frame.offset, &id))
    }

    fn take_reader(&self) -> Result<FrameReader> {
        let idle = self.lock_idle().pop();
        idle.map_or_else(FrameReader::new, Ok)
    }

    fn lock_idle(&self) -> std::sync::MutexGuard<'_, Vec<FrameReader>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The bounds of a range, cut off at a size.
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
    start.min(size)..end.min(size)
}

/// Hands on what is wanted of a decoded frame, each chunk compared with its id once. Fails with the first that is not
/// what its id says.
fn hand_on(raw: &[u8], segments: &[ReadSegment], put: &mut dyn FnMut(&ReadSegment, &[u8])) -> Result<(), ChunkId> {
    let mut checked = None;
    for segment in segments {
        let place = segment.start as usize..segment.start as usize + segment.length as usize;
        // A frame may be shorter than its directory says: nothing is then wanted, not no bytes, whose hash is an id too.
        let chunk = raw.get(place).ok_or(segment.id)?;
        if checked != Some((segment.start, segment.id)) && !is_chunk(&segment.id, chunk) {
            return Err(segment.id);
        }
        checked = Some((segment.start, segment.id));
        put(segment, chunk.get(segment.part_start as usize..segment.part_end as usize).unwrap_or_default());
    }
    Ok(())
}

/// Puts a part in its place.
fn put(segment: &ReadSegment, part: &[u8], bytes: &mut [u8]) {
    let at = segment.at as usize;
    if let Some(place) = bytes.get_mut(at..at + part.len()) {
        place.copy_from_slice(part);
    }
}
