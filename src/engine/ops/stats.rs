//! What did dedup and compression save, and who holds what? Exact, from the references of every recipe.
//!
//! Each distinct content is looked at once, with the first snapshot that has it and whether others have it too; what
//! holds for a chunk follows from the contents it is in. Memory: about 60 bytes a distinct content and 20 a chunk.

mod groups;

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use serde::Serialize;

pub use groups::{GroupChunks, GroupPart, GroupStats};

use crate::catalog::snapshot::Snapshot;
use crate::engine::store::chunk_index::ChunkIndex;
use crate::engine::store::control::Control;
use crate::engine::{SnapshotList, SnapshotSummary, Store, UnreadableSnapshot};
use crate::error::{Error, Result};
use crate::format::config::StoreConfig;
use crate::format::directory::Directory;
use crate::format::entry::{Content, Entry, EntryKind};
use crate::format::frame::FRAME_HEADER_BYTES;
use crate::format::id::{PackId, SnapshotId};
use crate::format::name::{ObjectKind, ObjectName};
use crate::pack::reader::read_directory;

/// Everything `dedup-stats` reports. All sizes in bytes.
///
/// ```
/// # use seamstore::{Control, Store, entry::*, report::*, request::*};
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let store = Store::in_memory(Settings::default())?;
/// # let writer = store.writer(WriterOptions::default().threads(1))?;
/// # writer.add_bytes(writer.entry("notes/first.txt", EntryKind::File)?, b"found again".to_vec())?;
/// # let added = writer.finish()?;
/// # let control = Control::default();
/// let stats = store.dedup_stats(&control)?;
/// assert_eq!((stats.logical_bytes, stats.unique_bytes, stats.chunks), (11, 11, 1));
/// assert_eq!((stats.snapshots[0].freed_bytes, stats.extensions[0].extension.as_str()), (11, "txt"));
/// assert!(stats.metadata.snapshot_bytes > 0 && stats.chunk_histogram[0].chunks == 1);
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
#[non_exhaustive]
pub struct DedupStats {
    /// Bytes of all files of all snapshots.
    pub logical_bytes: u64,
    /// Bytes of the distinct chunks they consist of.
    pub unique_bytes: u64,
    /// Bytes of everything in the store but its index: packs, recipes, snapshots, `store.json`.
    pub stored_bytes: u64,
    /// `logical / unique`.
    pub dedup_ratio: f64,
    /// `unique / stored`.
    pub compression_ratio: f64,
    /// `logical / stored`.
    pub total_ratio: f64,
    /// Files of all snapshots.
    pub files: u64,
    /// Distinct contents.
    pub contents: u64,
    /// Distinct chunks that a snapshot uses.
    pub chunks: u64,
    /// Frames in all packs.
    pub frames: u64,
    /// Packs.
    pub packs: u64,
    /// Mean length of the chunks used.
    pub chunk_bytes_mean: u64,
    /// Chunks that no snapshot uses: left by interrupted adds and removed snapshots.
    pub unused_chunks: u64,
    /// Their bytes.
    pub unused_bytes: u64,
    /// What the store's own records cost.
    pub metadata: MetadataStats,
    /// Each snapshot, the oldest first.
    pub snapshots: Vec<SnapshotStats>,
    /// Snapshots that cannot be read: they are in no other figure, and what only they use counts as unused.
    pub unreadable_snapshots: Vec<String>,
    /// Stored chunks by length.
    pub chunk_histogram: Vec<HistogramBucket>,
    /// The file name extensions that hold the most stored bytes, largest first.
    pub extensions: Vec<ExtensionStats>,
}

/// What records cost, against the budget of 90 bytes a chunk and 60 bytes a file.
///
/// ```
/// # use seamstore::{Control, Store, entry::*, report::*, request::*};
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let store = Store::in_memory(Settings::default())?;
/// # let writer = store.writer(WriterOptions::default().threads(1))?;
/// # writer.add_bytes(writer.entry("notes/first.txt", EntryKind::File)?, b"found again".to_vec())?;
/// # let added = writer.finish()?;
/// # let control = Control::default();
/// let stats = store.dedup_stats(&control)?;
/// assert_eq!((stats.logical_bytes, stats.unique_bytes, stats.chunks), (11, 11, 1));
/// assert_eq!((stats.snapshots[0].freed_bytes, stats.extensions[0].extension.as_str()), (11, "txt"));
/// assert!(stats.metadata.snapshot_bytes > 0 && stats.chunk_histogram[0].chunks == 1);
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
#[non_exhaustive]
pub struct MetadataStats {
    /// Pack headers, directories and trailers, and frame headers.
    pub pack_bytes: u64,
    /// Recipes files.
    pub recipe_bytes: u64,
    /// Snapshots.
    pub snapshot_bytes: u64,
    /// Pack and recipe records for each stored chunk.
    pub bytes_per_chunk: f64,
    /// Snapshot records for each entry of a snapshot.
    pub bytes_per_entry: f64,
    /// The index: a cache, in none of the other figures.
    pub index_bytes: u64,
}

/// One snapshot's part.
///
/// ```
/// # use seamstore::{Control, Store, entry::*, report::*, request::*};
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let store = Store::in_memory(Settings::default())?;
/// # let writer = store.writer(WriterOptions::default().threads(1))?;
/// # writer.add_bytes(writer.entry("notes/first.txt", EntryKind::File)?, b"found again".to_vec())?;
/// # let added = writer.finish()?;
/// # let control = Control::default();
/// let stats = store.dedup_stats(&control)?;
/// assert_eq!((stats.logical_bytes, stats.unique_bytes, stats.chunks), (11, 11, 1));
/// assert_eq!((stats.snapshots[0].freed_bytes, stats.extensions[0].extension.as_str()), (11, "txt"));
/// assert!(stats.metadata.snapshot_bytes > 0 && stats.chunk_histogram[0].chunks == 1);
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
#[non_exhaustive]
pub struct SnapshotStats {
    /// Its id.
    pub id: String,
    /// When it was made, nanoseconds since 1970.
    pub time_ns: i64,
    /// Files in it.
    pub files: u64,
    /// Bytes of its files.
    pub logical_bytes: u64,
    /// Bytes of chunks that no older snapshot has.
    pub new_bytes: u64,
    /// What those take in packs: their share of their frames.
    pub new_stored_bytes: u64,
    /// Bytes of chunks that no other snapshot has: removing it frees them.
    pub freed_bytes: u64,
    /// What those take in packs.
    pub freed_stored_bytes: u64,
}

/// Chunks of a length.
///
/// ```
/// # use seamstore::{Control, Store, entry::*, report::*, request::*};
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let store = Store::in_memory(Settings::default())?;
/// # let writer = store.writer(WriterOptions::default().threads(1))?;
/// # writer.add_bytes(writer.entry("notes/first.txt", EntryKind::File)?, b"found again".to_vec())?;
/// # let added = writer.finish()?;
/// # let control = Control::default();
/// let stats = store.dedup_stats(&control)?;
/// assert_eq!((stats.logical_bytes, stats.unique_bytes, stats.chunks), (11, 11, 1));
/// assert_eq!((stats.snapshots[0].freed_bytes, stats.extensions[0].extension.as_str()), (11, "txt"));
/// assert!(stats.metadata.snapshot_bytes > 0 && stats.chunk_histogram[0].chunks == 1);
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct HistogramBucket {
    /// Longer than half of this, and at most this long.
    pub up_to_bytes: u64,
    /// How many.
    pub chunks: u64,
    /// Their bytes.
    pub bytes: u64,
}

/// Files of a kind, by name.
///
/// ```
/// # use seamstore::{Control, Store, entry::*, report::*, request::*};
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let store = Store::in_memory(Settings::default())?;
/// # let writer = store.writer(WriterOptions::default().threads(1))?;
/// # writer.add_bytes(writer.entry("notes/first.txt", EntryKind::File)?, b"found again".to_vec())?;
/// # let added = writer.finish()?;
/// # let control = Control::default();
/// let stats = store.dedup_stats(&control)?;
/// assert_eq!((stats.logical_bytes, stats.unique_bytes, stats.chunks), (11, 11, 1));
/// assert_eq!((stats.snapshots[0].freed_bytes, stats.extensions[0].extension.as_str()), (11, "txt"));
/// assert!(stats.metadata.snapshot_bytes > 0 && stats.chunk_histogram[0].chunks == 1);
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct ExtensionStats {
    /// The extension without its dot; empty for files without one.
    pub extension: String,
    /// Files of all snapshots.
    pub files: u64,
    /// Their bytes.
    pub logical_bytes: u64,
    /// What the chunks take in packs that files of this extension were the first to bring.
    pub stored_bytes: u64,
}

/// How many extensions are reported.
const EXTENSIONS_MAX: usize = 12;
/// Extensions longer than this are no extensions.
const EXTENSION_BYTES_MAX: usize = 12;

/// More than one snapshot has it.
const SHARED: u32 = u32::MAX;

/// Who has a content or a chunk, by place in the list of snapshots.
#[derive(Debug, Clone, Copy)]
struct Holders {
    first: u32,
    /// The only one, or [`SHARED`].
    only: u32,
    extension: u32,
}

impl Holders {
    fn join(&mut self, other: Self) {
        if other.first < self.first {
            (self.first, self.extension) = (other.first, other.extension);
        }
        if self.only != other.only {
            self.only = SHARED;
        }
    }
}

#[derive(Default)]
struct Extensions {
    places: HashMap<Vec<u8>, u32>,
    list: Vec<ExtensionStats>,
}

impl Extensions {
    fn of(&mut self, entry: &Entry) -> u32 {
        let name = entry.path.name();
        let dot = name.iter().rposition(|b| *b == b'.').filter(|dot| *dot > 0);
        let extension = dot.and_then(|dot| name.get(dot + 1..)).filter(|e| e.len() <= EXTENSION_BYTES_MAX);
        let extension = extension.unwrap_or_default().to_ascii_lowercase();
        *self.places.entry(extension).or_insert_with_key(|extension| {
            let extension = String::from_utf8_lossy(extension).into_owned();
            self.list.push(ExtensionStats { extension, ..ExtensionStats::default() });
            (self.list.len() - 1) as u32
        })
    }
}

struct PackState {
    directory: Arc<Directory>,
    holders: Vec<Option<Holders>>,
}

impl Store {
    /// Counts what every snapshot holds.
    ///
    /// # Errors
    /// [`Error::Damaged`] if a recipe or a pack's directory is damaged or missing; [`Error::Io`];
    /// [`Error::Interrupted`].
    pub fn dedup_stats(&self, control: &Control) -> Result<DedupStats> {
        self.unless_removing(|| self.count(control))
    }

    /// Counts again for as long as others change the store meanwhile and something was missing for it.
    fn unless_removing<T>(&self, count: impl Fn() -> Result<T>) -> Result<T> {
        let mut before = None;
        loop {
            let counted = count();
            if !matches!(counted, Err(Error::NotFound { .. } | Error::Damaged { .. })) {
                return counted;
            }
            let now = Some(self.object_names()?);
            if now == before {
                return counted;
            }
            before = now;
        }
    }

    /// All objects that somebody may remove.
    pub(in crate::engine) fn object_names(&self) -> Result<BTreeSet<ObjectName>> {
        let mut names = BTreeSet::new();
        for kind in [ObjectKind::Pack, ObjectKind::Recipes, ObjectKind::Snapshot] {
            names.extend(self.storage().list(kind)?.into_iter().map(|listed| listed.name));
        }
        Ok(names)
    }

    fn count(&self, control: &Control) -> Result<DedupStats> {
        let chunk_index = self.chunk_index()?;
        let SnapshotList { mut snapshots, unreadable, .. } = self.snapshot_list()?;
        control.pass_over(&unreadable);
        snapshots.reverse();
        let mut stats = DedupStats::default();
        let mut extensions = Extensions::default();
        let mut entries = 0;
        let contents = self.gather_contents(&snapshots, &mut stats, &mut extensions, &mut entries, control)?;
        let mut packs = self.load_packs()?;
        for (content, (holders, size)) in &contents {
            if control.is_stopped() {
                return Err(interrupted());
            }
            mark(&chunk_index, &mut packs, *content, *size, *holders)?;
        }
        stats.contents = contents.len() as u64;
        stats.unreadable_snapshots = control.passed_over().iter().map(|unreadable| unreadable.id.to_hex()).collect();
        for pack in packs.values() {
            add_pack(&mut stats, &mut extensions, pack);
        }
        self.add_sizes(&mut stats, entries)?;
        extensions.list.sort_by(|a, b| b.stored_bytes.cmp(&a.stored_bytes).then_with(|| a.extension.cmp(&b.extension)));
        extensions.list.truncate(EXTENSIONS_MAX);
        stats.extensions = extensions.list;
        stats.chunk_bytes_mean = stats.unique_bytes / stats.chunks.max(1);
        stats.dedup_ratio = ratio(stats.logical_bytes, stats.unique_bytes);
        stats.compression_ratio = ratio(stats.unique_bytes, stats.stored_bytes);
        stats.total_ratio = ratio(stats.logical_bytes, stats.stored_bytes);
        Ok(stats)
    }

    /// The distinct contents of all snapshots, with who has them and their size.
    fn gather_contents(
        &self,
        snapshots: &[SnapshotSummary],
        stats: &mut DedupStats,
        extensions: &mut Extensions,
        entries: &mut u64,
        control: &Control,
    ) -> Result<HashMap<Content, (Holders, u64)>> {
        let mut contents: HashMap<Content, (Holders, u64)> = HashMap::new();
        for snapshot in snapshots {
            let mut part =
                SnapshotStats { id: snapshot.id.to_hex(), time_ns: snapshot.info.time_ns, ..SnapshotStats::default() };
            let Some(opened) = self.open_or_pass_over(snapshot.id, control)? else { continue };
            let place = stats.snapshots.len() as u32;
            for entry in opened.entries() {
                let entry = entry?;
                *entries += 1;
                if control.is_stopped() {
                    return Err(interrupted());
                }
                if entry.kind != EntryKind::File {
                    continue;
                }
                part.files += 1;
                part.logical_bytes = part.logical_bytes.saturating_add(entry.size);
                let extension = extensions.of(&entry);
                if let Some(of_extension) = extensions.list.get_mut(extension as usize) {
                    of_extension.files += 1;
                    of_extension.logical_bytes = of_extension.logical_bytes.saturating_add(entry.size);
                }
                if entry.content != Content::Empty {
                    let holders = Holders { first: place, only: place, extension };
                    let known = contents.entry(entry.content).or_insert((holders, entry.size));
                    known.0.join(holders);
                }
            }
            stats.files += part.files;
            stats.logical_bytes = stats.logical_bytes.saturating_add(part.logical_bytes);
            stats.snapshots.push(part);
        }
        Ok(contents)
    }

    /// A snapshot that is to be counted; `None` if it cannot be read.
    fn open_or_pass_over(&self, id: SnapshotId, control: &Control) -> Result<Option<Snapshot<'_>>> {
        match Snapshot::open(self.storage(), id) {
            Ok(snapshot) => Ok(Some(snapshot)),
            Err(error @ Error::NotFound { .. }) => Err(error),
            Err(error) => {
                control.pass_over(&[UnreadableSnapshot::of(id, error)?]);
                Ok(None)
            }
        }
    }

    fn load_packs(&self) -> Result<HashMap<PackId, PackState>> {
        let mut packs = HashMap::new();
        for object in self.storage().list(ObjectKind::Pack)? {
            let ObjectName::Pack(id) = object.name else { continue };
            let directory = Arc::new(read_directory(self.storage(), id)?);
            let holders = vec![None; directory.chunks.len()];
            packs.insert(id, PackState { directory, holders });
        }
        Ok(packs)
    }

    fn add_sizes(&self, stats: &mut DedupStats, entries: u64) -> Result<()> {
        let sum = |kind| -> Result<u64> { Ok(self.storage().list(kind)?.iter().map(|object| object.bytes).sum()) };
        let pack_bytes = sum(ObjectKind::Pack)?;
        let metadata = &mut stats.metadata;
        metadata.recipe_bytes = sum(ObjectKind::Recipes)?;
        metadata.snapshot_bytes = sum(ObjectKind::Snapshot)?;
        // So far the payloads.
        metadata.pack_bytes = pack_bytes - metadata.pack_bytes.min(pack_bytes);
        metadata.index_bytes = self.index_bytes();
        let chunks = stats.chunks + stats.unused_chunks;
        metadata.bytes_per_chunk = ratio(metadata.pack_bytes + metadata.recipe_bytes, chunks);
        metadata.bytes_per_entry = ratio(metadata.snapshot_bytes, entries);
        let config = self.storage().size(&ObjectName::Config)?.min(StoreConfig::BYTES_MAX);
        stats.stored_bytes = pack_bytes + metadata.recipe_bytes + metadata.snapshot_bytes + config;
        Ok(())
    }
}

fn interrupted() -> Error {
    Error::Interrupted { kept: "nothing was changed".to_owned() }
}

fn ratio(a: u64, b: u64) -> f64 {
    if b == 0 { 0.0 } else { a as f64 / b as f64 }
}

/// Notes for every chunk of a content who has it.
fn mark(
    chunk_index: &ChunkIndex<'_>,
    packs: &mut HashMap<PackId, PackState>,
    content: Content,
    size: u64,
    holders: Holders,
) -> Result<()> {
    let pieces = chunk_index.stored_pieces(content, size)?;
    let mut start = 0;
    for piece in pieces {
        if !piece.is_hole() {
            let (location, _) = chunk_index.locate(&piece.id, piece.end - start)?;
            let place = packs.get_mut(&location.pack).and_then(|pack| pack.holders.get_mut(location.chunk as usize));
            match place {
                Some(Some(known)) => known.join(holders),
                Some(place) => *place = Some(holders),
                None => {}
            }
        }
        start = piece.end;
    }
    Ok(())
}

/// Adds up a pack's chunks.
fn add_pack(stats: &mut DedupStats, extensions: &mut Extensions, pack: &PackState) {
    stats.packs += 1;
    for frame in &pack.directory.frames {
        stats.frames += 1;
        let header = FRAME_HEADER_BYTES as u64 + 4 * u64::from(frame.chunk_count);
        let payload = u64::from(frame.stored_bytes).saturating_sub(header);
        stats.metadata.pack_bytes += payload;
        let first = frame.first_chunk as usize;
        let holders = pack.holders.get(first..).unwrap_or_default();
        for (chunk, holders) in pack.directory.chunks_of(frame).iter().zip(holders) {
            let length = u64::from(chunk.length);
            // Its share of the frame; shares of a frame are rounded down.
            let stored = payload * length / u64::from(frame.raw_bytes).max(1);
            count_length(&mut stats.chunk_histogram, length);
            let Some(holders) = holders else {
                stats.unused_chunks += 1;
                stats.unused_bytes += length;
                continue;
            };
            stats.chunks += 1;
            stats.unique_bytes += length;
            if let Some(extension) = extensions.list.get_mut(holders.extension as usize) {
                extension.stored_bytes += stored;
            }
            if let Some(snapshot) = stats.snapshots.get_mut(holders.first as usize) {
                snapshot.new_bytes += length;
                snapshot.new_stored_bytes += stored;
            }
            if let Some(snapshot) = stats.snapshots.get_mut(holders.only as usize) {
                snapshot.freed_bytes += length;
                snapshot.freed_stored_bytes += stored;
            }
        }
    }
}

fn count_length(histogram: &mut Vec<HistogramBucket>, length: u64) {
    let up_to_bytes = length.next_power_of_two();
    let place = histogram.partition_point(|bucket| bucket.up_to_bytes < up_to_bytes);
    if histogram.get(place).is_none_or(|bucket| bucket.up_to_bytes != up_to_bytes) {
        histogram.insert(place, HistogramBucket { up_to_bytes, ..HistogramBucket::default() });
    }
    if let Some(bucket) = histogram.get_mut(place) {
        bucket.chunks += 1;
        bucket.bytes += length;
    }
}
