//! What a restore did, and what it could not do.

use crate::format::entry::{Entry, EntryPath};

/// What a restore did.
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
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct GetReport {
    /// Files restored whole.
    pub files: u64,
    /// Directories restored.
    pub directories: u64,
    /// Links, pipes, devices, sockets and further names of files restored.
    pub others: u64,
    /// Bytes of the files restored whole.
    pub bytes: u64,
    /// What is not there, or not whole and therefore not there.
    pub losses: Vec<Loss>,
    /// What is there but could not be given all its metadata, or is a file of its own instead of a hard link.
    pub warnings: Vec<String>,
    /// What holds for all that was restored: the unit to which the destination rounded times.
    pub notes: Vec<String>,
}

/// An entry that could not be restored.
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
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Loss {
    /// Its path below the destination.
    pub path: EntryPath,
    /// Why.
    pub what: String,
    /// Whether the store is to blame: its bytes are damaged or missing.
    pub damaged: bool,
}

impl GetReport {
    pub(super) fn count_file(&mut self, entry: &Entry) {
        self.files += 1;
        self.bytes = self.bytes.saturating_add(entry.size);
    }

    pub(super) fn merge(&mut self, other: Self) {
        self.files += other.files;
        self.bytes = self.bytes.saturating_add(other.bytes);
        self.losses.extend(other.losses);
        self.warnings.extend(other.warnings);
        self.notes.extend(other.notes);
    }
}
