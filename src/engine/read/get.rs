//! What can be asked for: files and trees as files again, and the bytes of a file as a stream.

use std::io::Write;
use std::ops::Range;
use std::path::{Path, PathBuf};

use crate::engine::store::snapshots::Selector;

use super::archive::layout_of;
use super::layout::Layout;
use super::report::GetReport;
use super::resolve::{Inside, Item, Resolved};
use super::schedule::Bounds;
use super::stream;
use super::tree::{Limits, Placed, TreeRestore};
use super::window::RestoreContext;
use crate::engine::Store;
use crate::engine::store::chunk_index::ChunkIndex;
use crate::engine::store::control::Control;
use crate::engine::store::labels::filtered;
use crate::engine::store::memory;
use crate::error::{Error, Result};
use crate::format::entry::EntryKind;
use crate::format::id::SnapshotId;
use crate::format::label::{LabelFilter, Labels};
use crate::format::name::ObjectName;
use crate::restore::Destination;

/// The least and the most files that a restore has open at once.
const OPEN_FILES: (usize, usize) = (16, 1 << 16);

/// What to get, and where to.
///
/// ```
/// # use seamstore::{Control, Store, entry::*, report::*, request::*};
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let store = Store::in_memory(Settings::default())?;
/// # let writer = store.writer(WriterOptions::default().threads(1))?;
/// # writer.add_bytes(writer.entry("notes/first.txt", EntryKind::File)?, b"found again".to_vec())?;
/// # let added = writer.finish()?;
/// # let control = Control::default();
/// let folder = tempfile::tempdir()?;
/// let request = GetRequest::default().path("notes").snapshot(Selector::Latest);
/// let report = store.get(&request, &folder.path().join("copy"), &control)?;
/// for loss in &report.losses {
///     eprintln!("{:?}: {}", loss.path, loss.what);
/// }
/// assert_eq!((report.files, report.bytes), (1, 11));
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone)]
pub struct GetRequest {
    pub(crate) path: PathBuf,
    pub(crate) snapshot: Selector,
    pub(crate) overwrite: bool,
    pub(crate) threads: usize,
    pub(crate) memory_bytes: usize,
    pub(crate) labels: LabelFilter,
}

impl GetRequest {
    /// The path, as stored or as it was given to add; empty for all of a snapshot.
    #[must_use]
    pub fn path(mut self, path: impl Into<PathBuf>) -> Self {
        self.path = path.into();
        self
    }

    /// Which snapshot to take it from.
    #[must_use]
    pub fn snapshot(mut self, snapshot: Selector) -> Self {
        self.snapshot = snapshot;
        self
    }

    /// Replace what exists.
    #[must_use]
    pub fn overwrite(mut self, overwrite: bool) -> Self {
        self.overwrite = overwrite;
        self
    }

    /// Worker threads; at least 1.
    #[must_use]
    pub fn threads(mut self, threads: usize) -> Self {
        self.threads = threads;
        self
    }

    /// At most about this many bytes of plans and data in memory.
    #[must_use]
    pub fn memory_bytes(mut self, memory_bytes: usize) -> Self {
        self.memory_bytes = memory_bytes;
        self
    }

    /// Only files (and anything else that is no directory) with these labels, and the directories that lead to them.
    #[must_use]
    pub fn labels(mut self, labels: LabelFilter) -> Self {
        self.labels = labels;
        self
    }
}

/// Everything in the newest snapshot, with 256 MiB of memory and a thread for each processor.
impl Default for GetRequest {
    fn default() -> Self {
        Self {
            path: PathBuf::new(),
            snapshot: Selector::default(),
            overwrite: false,
            threads: crate::engine::store::processors(),
            memory_bytes: memory::BYTES_DEFAULT,
            labels: LabelFilter::default(),
        }
    }
}

impl Store {
    /// Restores an entry, and all below it, as `output`.
    ///
    /// # Errors
    /// [`Error::NotFound`] if no snapshot has the path; [`Error::Exists`] or [`Error::InTheWay`] if something is in the
    /// way of the result itself; an I/O error if the destination cannot be written. Damage, and what is in the way of
    /// something in the result, do not fail the whole: see [`GetReport::losses`].
    pub fn get(&self, request: &GetRequest, output: &Path, control: &Control) -> Result<GetReport> {
        memory::check("a get", request.memory_bytes)?;
        let found = self.resolve(&request.path, &request.snapshot)?;
        control.pass_over(&found.passed_over);
        if !request.labels.is_empty() {
            // Before anything is made: to look costs little beside a restore.
            let first = found.entries().and_then(|rows| filtered(rows, &request.labels).next().transpose());
            if first.or_else(|error| self.unless_removed(found.snapshot.id(), Err(error)))?.is_none() {
                return Err(unlabelled(&found, &request.labels));
            }
        }
        let chunk_index = self.chunk_index()?;
        let destination = Destination::create(output, request.overwrite)?;
        let memory_bytes = request.memory_bytes as u64;
        let place = RestoreContext {
            chunk_index: &chunk_index,
            destination: &destination,
            control,
            threads: request.threads,
            bounds: Bounds { frame_bytes: memory_bytes / 64, copied_bytes: memory_bytes / 16 },
        };
        // Two windows, and as much again for decoded recipes and frames.
        let limits = Limits { window_bytes: request.memory_bytes / 4, open_files: open_files() };
        let restore = TreeRestore::new(place, limits);
        let root = found.path.clone();
        let restored = found.items(&request.labels).and_then(|items| {
            restore.run(items.filter_map(|item| {
                match item {
                    Ok(Item { entry, member }) => entry
                        .path
                        .below(&root)
                        .map(|path| Ok(Placed { path, item: Item { entry, member }, instead_of_link: None })),
                    Err(error) => Some(Err(error)),
                }
            }))
        });
        let is_whole = restored.as_ref().is_ok_and(|report| !report.losses.iter().any(|loss| loss.damaged));
        if is_whole { restored } else { self.unless_removed(found.snapshot.id(), restored) }
    }

    /// What came of reading a snapshot, unless that was removed meanwhile: no damage then, but worth saying.
    pub(in crate::engine) fn unless_removed<T>(&self, id: SnapshotId, read: Result<T>) -> Result<T> {
        let is_lost = !matches!(
            read,
            Err(Error::Interrupted { .. } | Error::Io { .. } | Error::Exists { .. } | Error::InTheWay { .. })
        );
        match self.storage().size(&ObjectName::Snapshot(id)) {
            Err(Error::NotFound { .. }) if is_lost => Err(Error::Removed { snapshot: id.to_hex() }),
            _ => read,
        }
    }

    /// Writes the bytes of a file, or the part `range` of it, to `output`; says how many.
    ///
    /// A range past the file's end is cut off there. Every chunk is checked before any of its bytes is written.
    ///
    /// # Errors
    /// As [`Store::get`]; [`Error::Damaged`] before the first byte that cannot be had; [`Error::Usage`] if the path is
    /// no file.
    pub fn read(
        &self,
        request: &GetRequest,
        range: Option<Range<u64>>,
        output: &mut dyn Write,
        name: &Path,
        control: &Control,
    ) -> Result<u64> {
        let found = self.resolve(&request.path, &request.snapshot)?;
        control.pass_over(&found.passed_over);
        let id = found.snapshot.id();
        let chunk_index = self.chunk_index()?;
        let layout =
            file_layout(&chunk_index, &found, &request.labels).or_else(|error| self.unless_removed(id, Err(error)))?;
        let size = layout.bytes();
        let range = range.map_or(0..size, |range| range.start.min(size)..range.end.min(size));
        let output = stream::Output { writer: output, name };
        let streamed = stream::stream(&chunk_index, &layout, range.clone(), output, control, request.threads);
        streamed.or_else(|error| self.unless_removed(id, Err(error)))?;
        Ok(range.end.saturating_sub(range.start))
    }
}

fn unlabelled(found: &Resolved<'_>, labels: &LabelFilter) -> Error {
    let id = found.snapshot.id().to_hex();
    let keys = match found.snapshot.label_keys() {
        [] => "has no labels".to_owned(),
        keys => format!("has labels of {}", keys.join(", ")),
    };
    Error::not_found(format!("a file with {labels} (snapshot {} {keys})", id.get(..12).unwrap_or_default()))
}

/// Where the bytes are of what was found, which must be a file, and have the labels.
fn file_layout(chunk_index: &ChunkIndex<'_>, found: &Resolved<'_>, labels: &LabelFilter) -> Result<Layout> {
    let no_file = || Error::Usage(format!("{:?} is not a file; only a file can be streamed", found.path));
    let check = |of: &Labels| if labels.takes(of) { Ok(()) } else { Err(unlabelled(found, labels)) };
    let Some(Inside { archive, base, named, labels: of_archive }) = &found.inside else {
        let entry = found.snapshot.find(&found.path)?.filter(|entry| entry.kind == EntryKind::File);
        let entry = entry.ok_or_else(no_file)?;
        check(&entry.labels)?;
        return layout_of(chunk_index, entry.content, entry.size);
    };
    let named = named.first().filter(|named| base.below_this(&named.path) == found.path).ok_or_else(no_file)?;
    let is_file = archive.entry(base, named)?.kind == EntryKind::File;
    check(of_archive)?;
    if is_file { archive.member_layout(named.row) } else { Err(no_file()) }
}

/// How many files a restore may have open: half of what the process may, the rest is for packs, directories and its user.
fn open_files() -> usize {
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile).current.unwrap_or(u64::MAX);
    usize::try_from(limit / 2).unwrap_or(usize::MAX).clamp(OPEN_FILES.0, OPEN_FILES.1)
}
