//! How does a snapshot, or a part of it, leave as something that other programs read? One file here for each format.

mod arrays;
#[cfg(feature = "hdf5")]
mod hdf5;
mod items;
#[cfg(not(feature = "hdf5"))]
mod no_hdf5;
mod tar;

use std::path::PathBuf;

use crate::engine::store::snapshots::Selector;
use crate::format::entry::EntryPath;
use crate::format::label::LabelFilter;

/// What to export.
///
/// ```
/// # use seamstore::{Control, Store, entry::*, report::*, request::*};
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let store = Store::in_memory(Settings::default())?;
/// # let writer = store.writer(WriterOptions::default().threads(1))?;
/// # writer.add_bytes(writer.entry("notes/first.txt", EntryKind::File)?, b"found again".to_vec())?;
/// # let added = writer.finish()?;
/// # let control = Control::default();
/// let mut tar = Vec::new();
/// let request = ExportRequest::default().path("notes").threads(1);
/// let report = store.export_tar(&request, &mut tar, "memory".as_ref(), &control)?;
/// assert_eq!((report.entries, report.written_bytes), (2, tar.len() as u64));
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone)]
pub struct ExportRequest {
    pub(crate) path: PathBuf,
    pub(crate) snapshot: Selector,
    pub(crate) threads: usize,
    pub(crate) labels: LabelFilter,
}

/// Everything in the newest snapshot, with a thread for each processor.
impl Default for ExportRequest {
    fn default() -> Self {
        Self {
            path: PathBuf::new(),
            snapshot: Selector::default(),
            threads: crate::engine::store::processors(),
            labels: LabelFilter::default(),
        }
    }
}

impl ExportRequest {
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

    /// Worker threads; at least 1.
    #[must_use]
    pub fn threads(mut self, threads: usize) -> Self {
        self.threads = threads;
        self
    }

    /// Only files (and anything else that is no directory) with these labels, and the directories that lead to them.
    #[must_use]
    pub fn labels(mut self, labels: LabelFilter) -> Self {
        self.labels = labels;
        self
    }
}

/// What an export did.
///
/// ```
/// # use seamstore::{Control, Store, entry::*, report::*, request::*};
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let store = Store::in_memory(Settings::default())?;
/// # let writer = store.writer(WriterOptions::default().threads(1))?;
/// # writer.add_bytes(writer.entry("notes/first.txt", EntryKind::File)?, b"found again".to_vec())?;
/// # let added = writer.finish()?;
/// # let control = Control::default();
/// let mut tar = Vec::new();
/// let request = ExportRequest::default().path("notes").threads(1);
/// let report = store.export_tar(&request, &mut tar, "memory".as_ref(), &control)?;
/// assert_eq!((report.entries, report.written_bytes), (2, tar.len() as u64));
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ExportReport {
    /// Entries written; to arrays: files.
    pub entries: u64,
    /// Entries that arrays do not have: directories, links, devices, and further names of files.
    pub others: u64,
    /// Bytes of the files among them.
    pub bytes: u64,
    /// Bytes written in all, before they were compressed; to arrays: all but headers.
    pub written_bytes: u64,
    /// Entries that the format cannot hold, and why.
    pub left_out: Vec<(EntryPath, String)>,
}

/// How an HDF5 file has what is exported to it. `docs/exports.md` has every array of each.
///
/// ```
/// use seamstore::request::{Hdf5Layout, Hdf5Options};
/// let options = Hdf5Options::default().layout(Hdf5Layout::Shredder).compress(6);
/// assert_eq!(Hdf5Layout::Shredder.word(), "shredder");
/// # let _ = options;
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Hdf5Layout {
    /// One array for each path, in groups as directories are.
    Compact,
    /// One array for each content, called by its SHA-1, and a table of paths.
    Sha1,
    /// All contents in one array, all names in another, and where each begins.
    Shredder,
}

impl Hdf5Layout {
    /// What it is called.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Compact => "compact",
            Self::Sha1 => "sha1",
            Self::Shredder => "shredder",
        }
    }
}

/// What an HDF5 file is to be.
///
/// ```
/// use seamstore::request::{Hdf5Layout, Hdf5Options};
/// let options = Hdf5Options::default().layout(Hdf5Layout::Shredder).compress(6);
/// assert_eq!(Hdf5Layout::Shredder.word(), "shredder");
/// # let _ = options;
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Hdf5Options {
    pub(crate) layout: Hdf5Layout,
    pub(crate) compress: Option<u8>,
    pub(crate) overwrite: bool,
}

/// The compact layout, not compressed; a file that exists is kept.
impl Default for Hdf5Options {
    fn default() -> Self {
        Self { layout: Hdf5Layout::Compact, compress: None, overwrite: false }
    }
}

impl Hdf5Options {
    /// What is in it.
    #[must_use]
    pub fn layout(mut self, layout: Hdf5Layout) -> Self {
        self.layout = layout;
        self
    }

    /// Deflate what does not fit into an object's header, at this level, 1 to 9.
    #[must_use]
    pub fn compress(mut self, compress: u8) -> Self {
        self.compress = Some(compress);
        self
    }

    /// Replace what exists.
    #[must_use]
    pub fn overwrite(mut self, overwrite: bool) -> Self {
        self.overwrite = overwrite;
        self
    }
}
