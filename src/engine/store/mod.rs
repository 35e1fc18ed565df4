//! A store as it lies there: the handle, its index, its snapshots, and the order of a commit.

pub(super) mod backend;
pub(super) mod chunk_index;
pub(super) mod commit;
pub mod control;
mod create;
pub mod labels;
pub(super) mod memory;
pub mod snapshots;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::chunk::Profile;
use crate::error::{Error, Result};
use crate::format::config::StoreConfig;
use crate::format::name::ObjectName;
use crate::format::pending_deletes::PendingDeletes;
use crate::index::IndexStatistics;
use crate::pack::frame::FrameSettings;
use crate::pack::writer::PACK_BYTES_TARGET;
use crate::storage::bundle::BundleFlaw;
use crate::storage::disk::{Disk, SystemDisk};
use crate::storage::{Backend, CacheDirectory, Coordination, Storage};

pub use chunk_index::ChunkIndex;
pub use create::NewStore;
pub use snapshots::{SnapshotList, SnapshotSummary, UnreadableSnapshot};

/// What a new store is made with.
///
/// ```
/// # use seamstore::{Control, Store, entry::*, report::*, request::*};
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let settings = Settings::default().frames(FrameSettings::new(Codec::Lz4, 0, 64 << 10)?);
/// let store = Store::in_memory(settings)?;
/// assert_eq!(store.settings().frames.codec(), Codec::Lz4);
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, Copy, Default)]
#[non_exhaustive]
pub struct Settings {
    /// How files are cut.
    pub profile: Profile,
    /// How chunks are compressed.
    pub frames: FrameSettings,
}

impl Settings {
    /// How files are cut.
    #[must_use]
    pub fn profile(mut self, profile: Profile) -> Self {
        self.profile = profile;
        self
    }

    /// How chunks are compressed.
    #[must_use]
    pub fn frames(mut self, frames: FrameSettings) -> Self {
        self.frames = frames;
        self
    }
}

/// What an index was rebuilt from.
///
/// ```
/// # use seamstore::{Control, Store, entry::*, report::*, request::*};
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let store = Store::in_memory(Settings::default())?;
/// # let writer = store.writer(WriterOptions::default().threads(1))?;
/// # writer.add_bytes(writer.entry("notes/first.txt", EntryKind::File)?, b"found again".to_vec())?;
/// # let added = writer.finish()?;
/// # let control = Control::default();
/// let rebuilt = store.rebuild_index()?;
/// assert_eq!((rebuilt.statistics.chunks, rebuilt.unreadable.len()), (1, 0));
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
#[non_exhaustive]
pub struct RebuiltIndex {
    /// How big it is.
    pub statistics: IndexStatistics,
    /// Packs and recipes files that could not be read, and why.
    pub unreadable: Vec<(ObjectName, Error)>,
}

/// An open store. Clones share what is open.
///
/// ```
/// # use seamstore::{Control, Store, entry::*, report::*, request::*};
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let store = Store::in_memory(Settings::default())?;
/// # let writer = store.writer(WriterOptions::default().threads(1))?;
/// # writer.add_bytes(writer.entry("notes/first.txt", EntryKind::File)?, b"found again".to_vec())?;
/// # let added = writer.finish()?;
/// # let control = Control::default();
/// // `store` has a file `notes/first.txt`.
/// let mut bytes = Vec::new();
/// store.read(&GetRequest::default().path("notes/first.txt"), None, &mut bytes, "memory".as_ref(), &control)?;
/// assert_eq!(bytes, b"found again");
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone)]
pub struct Store {
    pub(in crate::engine) backend: Backend,
    pub(in crate::engine) caches: CacheDirectory,
    pub(in crate::engine) config: StoreConfig,
    pub(in crate::engine) settings: Settings,
    /// A pack that is this long is ended.
    pub(in crate::engine) pack_bytes: u64,
}

impl Store {
    /// Opens a store: a directory, or a bundle, which is one file and can only be read.
    ///
    /// # Errors
    /// [`Error::NotAStore`], [`Error::FormatVersion`], or [`Error::Damaged`] if `store.json` is not as it was written;
    /// [`Error::BundleDamaged`] if the places of a bundle's objects are unknown.
    pub fn open(root: &Path) -> Result<Self> {
        Self::open_on(Arc::new(SystemDisk::like(root)), root)
    }

    /// As [`Store::open`], on another disk.
    ///
    /// # Errors
    /// As [`Store::open`].
    pub(crate) fn open_on(disk: Arc<dyn Disk>, root: &Path) -> Result<Self> {
        let (backend, caches) = backend::backend_at(disk, root)?;
        Self::open_with(backend, caches)
    }

    /// Opens a store that is kept anywhere: in a folder, a bucket, a bundle. What can be made again is kept in `caches`.
    ///
    /// # Errors
    /// As [`Store::open`].
    pub(crate) fn open_with(backend: Backend, caches: CacheDirectory) -> Result<Self> {
        let storage = backend.storage();
        let size = match storage.size(&ObjectName::Config) {
            Ok(size) => size,
            Err(Error::NotFound { .. }) => {
                let why = "it has no store.json".to_owned();
                return Err(Error::NotAStore { path: backend.location(), why });
            }
            Err(error) => return Err(error),
        };
        if size > StoreConfig::BYTES_MAX {
            return Err(Error::damaged_whole("store.json", format!("it has {size} bytes, far more than it can need")));
        }
        let mut bytes = vec![0; size as usize];
        storage.read_at(&ObjectName::Config, 0, &mut bytes)?;
        let config = StoreConfig::parse(&bytes)?;
        let bad = |what: String| Error::damaged_whole("store.json", what);
        let profile = config.profile.parse().map_err(|e| bad(format!("its profile: {e}")))?;
        let codec = config.codec.parse().map_err(|e| bad(format!("its codec: {e}")))?;
        let frames = FrameSettings::new(codec, config.level, config.frame_bytes as usize)
            .map_err(|e| bad(format!("its frame settings: {e}")))?;
        let settings = Settings { profile, frames };
        let caches = caches.of_store(&config.id, || storage.identity())?;
        Ok(Self { backend, caches, config, settings, pack_bytes: PACK_BYTES_TARGET })
    }

    /// Ends packs at this length, so that little data makes many.
    #[cfg(test)]
    pub(crate) fn with_pack_bytes(self, pack_bytes: u64) -> Self {
        Self { pack_bytes, ..self }
    }

    /// Where it is kept, for messages.
    #[must_use]
    pub fn location(&self) -> PathBuf {
        self.backend.location()
    }

    /// Whether it is a bundle: one file, which can only be read.
    #[must_use]
    pub fn is_bundle(&self) -> bool {
        self.backend.as_bundle().is_some()
    }

    /// Of a bundle: what is wrong with its own records, and does not keep it from being read. An export that was
    /// interrupted leaves its end so, until the next.
    #[must_use]
    pub fn bundle_flaws(&self) -> &[BundleFlaw] {
        self.backend.as_bundle().map_or(&[], |bundle| &bundle.found().flaws)
    }

    /// Its random name, 32 hexadecimal digits.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.config.id
    }

    /// What it was made with.
    #[must_use]
    pub fn settings(&self) -> Settings {
        self.settings
    }

    /// Where its objects are.
    #[must_use]
    pub(crate) fn storage(&self) -> &dyn Storage {
        self.backend.storage()
    }

    /// Who changes it, and when.
    pub(crate) fn coordination(&self) -> &dyn Coordination {
        self.backend.coordination()
    }

    /// What is announced for deletion and not deleted yet.
    ///
    /// # Errors
    /// [`Error::Damaged`] for a record that is not what was written: what it lists cannot be known.
    pub(in crate::engine) fn pending_deletes(&self) -> Result<PendingDeletes> {
        self.coordination().pending()?.known()
    }

    /// Where what can be made again is kept.
    pub(crate) fn caches(&self) -> &CacheDirectory {
        &self.caches
    }

    /// Refuses what can only be read, before anything is done.
    ///
    /// # Errors
    /// [`Error::ReadOnly`] for a bundle.
    pub(in crate::engine) fn check_writable(&self) -> Result<()> {
        match self.backend.as_bundle() {
            Some(bundle) => Err(Error::ReadOnly { path: bundle.path().to_owned() }),
            None => Ok(()),
        }
    }

    /// Removes what processes that are gone left half written. What is being written now is left alone.
    pub(in crate::engine) fn sweep(&self) {
        self.storage().sweep();
        if let Some(directory) = self.caches.directory() {
            for file in chunk_index::OLD_INDEX_FILES {
                // Only if no process has it open: one of an earlier version holds its lock.
                let _ = self.caches.disk().remove_unlocked(&directory.join(file));
            }
        }
    }

    /// What the index takes, in bytes.
    pub(in crate::engine) fn index_bytes(&self) -> u64 {
        let folder = self.caches.directory().map(|directory| directory.join(chunk_index::INDEX_FOLDER));
        let files = folder.and_then(|folder| std::fs::read_dir(folder).ok()).into_iter().flatten().flatten();
        files.filter_map(|file| Some(file.metadata().ok()?.len())).sum()
    }

    /// Removes the index: it is a cache, and its room may be needed. Says whether there was one.
    pub(in crate::engine) fn drop_index(&self) -> bool {
        let Some(directory) = self.caches.directory() else { return false };
        let (folder, disk) = (directory.join(chunk_index::INDEX_FOLDER), self.caches.disk());
        let names = disk.names(&folder).unwrap_or_default();
        names.iter().filter(|name| disk.remove(&folder.join(name)).is_ok()).count() > 0
    }

    /// The index, opened and brought up to date with the packs and recipes that are there.
    ///
    /// # Errors
    /// A pack's directory is damaged, or the store cannot be listed.
    pub(crate) fn chunk_index(&self) -> Result<ChunkIndex<'_>> {
        ChunkIndex::open(self)
    }

    /// Makes the index again from packs and recipes files.
    ///
    /// # Errors
    /// [`Error::ReadOnly`] for a bundle; [`Error::Io`] if the store cannot be listed, or the index cannot be written.
    pub fn rebuild_index(&self) -> Result<RebuiltIndex> {
        self.check_writable()?;
        let mut chunk_index = ChunkIndex::rebuild(self)?;
        let rebuilt = RebuiltIndex { statistics: chunk_index.statistics(), unreadable: chunk_index.take_unreadable() };
        chunk_index.close();
        Ok(rebuilt)
    }
}

/// How many threads can run at once.
pub(in crate::engine) fn processors() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

/// 32 random hexadecimal digits.
pub(in crate::engine) fn random_id() -> Result<String> {
    let bytes: [u8; 16] = crate::storage::random_bytes()?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}
