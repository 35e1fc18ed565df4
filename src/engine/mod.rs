//! The only place where the parts meet: a store, and what can be done with it.

pub mod add;
pub mod bundle;
pub mod check_tar;
mod commit;
pub mod control;
#[cfg(test)]
mod crash;
pub mod export;
mod frames;
pub mod gc;
pub mod get;
pub mod labels;
mod layout;
mod locate;
mod medium;
pub mod reader;
pub mod remove;
pub mod repair;
pub mod stats;
#[cfg(test)]
mod trial;
pub mod verify;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::catalog::snapshot::{SnapshotInfo, read_info};
use crate::chunk::Profile;
use crate::error::{Error, Result};
use crate::format::config::StoreConfig;
use crate::format::id::SnapshotId;
use crate::format::name::{ObjectKind, ObjectName};
use crate::index::IndexStatistics;
use crate::pack::frame::FrameSettings;
use crate::pack::writer::PACK_BYTES_TARGET;
use crate::storage::bundle::BundleFlaw;
use crate::storage::disk::{Disk, SystemDisk};
use crate::storage::{LocalStorage, Put, Storage};

use self::medium::Medium;

pub use locate::Locator;

/// What a new store is made with.
#[derive(Debug, Clone, Copy, Default)]
pub struct Settings {
    /// How files are cut.
    pub profile: Profile,
    /// How chunks are compressed.
    pub frames: FrameSettings,
}

/// A snapshot, as a list of snapshots shows it.
#[derive(Debug, Clone, PartialEq)]
pub struct SnapshotSummary {
    /// Its id.
    pub id: SnapshotId,
    /// What it says of itself.
    pub info: SnapshotInfo,
}

/// What an index was rebuilt from.
#[derive(Debug)]
pub struct RebuiltIndex {
    /// How big it is.
    pub statistics: IndexStatistics,
    /// Packs and recipes files that could not be read, and why.
    pub unreadable: Vec<(ObjectName, Error)>,
}

/// An open store. Clones share what is open.
#[derive(Debug, Clone)]
pub struct Store {
    root: PathBuf,
    medium: Medium,
    config: StoreConfig,
    settings: Settings,
    /// A pack that is this long is ended.
    pack_bytes: u64,
}

impl Store {
    /// Makes a store in a directory that is empty or not there yet.
    ///
    /// # Errors
    /// [`Error::Exists`] if there is a store, or anything else, already.
    pub fn init(root: &Path, settings: Settings) -> Result<Self> {
        Self::init_on(Arc::new(SystemDisk), root, settings)
    }

    /// As [`Store::init`], on another disk.
    ///
    /// # Errors
    /// As [`Store::init`].
    pub fn init_on(disk: Arc<dyn Disk>, root: &Path, settings: Settings) -> Result<Self> {
        let config = StoreConfig::new(
            random_id()?,
            settings.profile.name(),
            settings.frames.frame_bytes() as u32,
            settings.frames.codec().to_string(),
            settings.frames.level(),
        );
        Self::init_with(disk, root, &config)
    }

    /// Makes a store of this configuration.
    fn init_with(disk: Arc<dyn Disk>, root: &Path, config: &StoreConfig) -> Result<Self> {
        // Temporary files are of somebody who is making this store right now, or was killed doing so.
        let is_other = |entry: std::io::Result<std::fs::DirEntry>| entry.is_ok_and(|entry| entry.file_name() != "tmp");
        if std::fs::read_dir(root).is_ok_and(|mut entries| entries.any(is_other)) {
            return Err(Error::Exists { path: root.to_owned() });
        }
        let storage = LocalStorage::create_on(Arc::clone(&disk), root.to_owned())?;
        match storage.put_if_absent(&ObjectName::Config, &config.to_bytes())? {
            Put::Created => Self::open_on(disk, root),
            Put::Present => Err(Error::Exists { path: root.join("store.json") }),
        }
    }

    /// Opens a store: a directory, or a bundle, which is one file and can only be read.
    ///
    /// # Errors
    /// [`Error::NotAStore`], [`Error::FormatVersion`], or [`Error::Damaged`] if `store.json` is not as it was written;
    /// [`Error::BundleDamaged`] if it cannot be told where the objects of a bundle are.
    pub fn open(root: &Path) -> Result<Self> {
        Self::open_on(Arc::new(SystemDisk), root)
    }

    /// As [`Store::open`], on another disk.
    ///
    /// # Errors
    /// As [`Store::open`].
    pub fn open_on(disk: Arc<dyn Disk>, root: &Path) -> Result<Self> {
        Self::open_at(root, Medium::open(disk, root)?)
    }

    fn open_at(root: &Path, medium: Medium) -> Result<Self> {
        let storage = medium.storage();
        let size = match storage.size(&ObjectName::Config) {
            Ok(size) => size,
            Err(Error::NotFound { .. }) => {
                let is_there = root.is_dir() || medium.bundle().is_some();
                let why = if is_there { "it has no store.json" } else { "there is no such directory" };
                return Err(Error::NotAStore { path: root.to_owned(), why: why.to_owned() });
            }
            Err(error) => return Err(error),
        };
        if size > StoreConfig::BYTES_MAX {
            return Err(Error::damaged("store.json", 0, format!("it has {size} bytes, far more than it can need")));
        }
        let mut bytes = vec![0; size as usize];
        storage.read_at(&ObjectName::Config, 0, &mut bytes)?;
        let config = StoreConfig::parse(&bytes)?;
        let bad = |what: String| Error::damaged("store.json", 0, what);
        let profile = config.profile.parse().map_err(|e| bad(format!("its profile: {e}")))?;
        let codec = config.codec.parse().map_err(|e| bad(format!("its codec: {e}")))?;
        let frames = FrameSettings::new(codec, config.level, config.frame_bytes as usize)
            .map_err(|e| bad(format!("its frame settings: {e}")))?;
        let settings = Settings { profile, frames };
        Ok(Self { root: root.to_owned(), medium, config, settings, pack_bytes: PACK_BYTES_TARGET })
    }

    /// Opens a store, or makes one where there is none yet.
    ///
    /// # Errors
    /// As [`Store::open`] and [`Store::init`].
    pub fn open_or_init(root: &Path, settings: Settings) -> Result<Self> {
        match Self::open(root) {
            Err(Error::NotAStore { .. }) => match Self::init(root, settings) {
                // Somebody else was as fast; or there is something that is no store.
                Err(Error::Exists { .. }) => Self::open(root),
                made => made,
            },
            opened => opened,
        }
    }

    /// The directory the store is in, or the bundle that it is.
    #[must_use]
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Whether it is a bundle: one file, which can only be read.
    #[must_use]
    pub fn is_bundle(&self) -> bool {
        self.medium.bundle().is_some()
    }

    /// Of a bundle: what is wrong with its own records, and does not keep it from being read. An export that was
    /// interrupted leaves its end so, until the next.
    #[must_use]
    pub fn bundle_flaws(&self) -> &[BundleFlaw] {
        self.medium.bundle().map_or(&[], |bundle| &bundle.found().flaws)
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
    pub fn storage(&self) -> &dyn Storage {
        self.medium.storage()
    }

    /// Removes what processes that are gone left half written. Whatever is being written now is left alone.
    fn sweep(&self) {
        // Tidiness: what cannot be removed is in nobody's way.
        let _ = self.folder().and_then(LocalStorage::sweep_temporaries);
        for file in locate::OLD_INDEX_FILES {
            // Only if no process has it open: one of an earlier version holds its lock.
            let _ = self.storage().cache_disk().remove_unlocked(&self.root.join(file));
        }
    }

    /// The ids of all snapshots, in no particular order.
    ///
    /// # Errors
    /// The store cannot be listed.
    pub fn snapshot_ids(&self) -> Result<Vec<SnapshotId>> {
        locate::listed(self.storage(), ObjectKind::Snapshot, ObjectName::snapshot)
    }

    /// All snapshots, the newest first.
    ///
    /// # Errors
    /// One of them cannot be read.
    pub fn snapshots(&self) -> Result<Vec<SnapshotSummary>> {
        let summary = |id| match read_info(self.storage(), id) {
            // Removed since it was listed.
            Err(Error::NotFound { .. }) => None,
            info => Some(info.map(|info| SnapshotSummary { id, info })),
        };
        let mut summaries = self.snapshot_ids()?.into_iter().filter_map(summary).collect::<Result<Vec<_>>>()?;
        summaries.sort_by_key(|summary| std::cmp::Reverse((summary.info.time_ns, summary.id)));
        Ok(summaries)
    }

    /// The index, opened and brought up to date with the packs and recipes that are there.
    ///
    /// # Errors
    /// A pack's directory is damaged, or the store cannot be listed.
    pub fn locator(&self) -> Result<Locator<'_>> {
        Locator::open(self)
    }

    /// Makes the index again from packs and recipes files.
    ///
    /// # Errors
    /// The store cannot be listed, or the index cannot be written.
    pub fn rebuild_index(&self) -> Result<RebuiltIndex> {
        self.folder()?;
        let mut locator = Locator::rebuild(self)?;
        let rebuilt = RebuiltIndex { statistics: locator.statistics(), unreadable: locator.take_unreadable() };
        locator.close();
        Ok(rebuilt)
    }
}

/// How many threads can run at once.
fn processors() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

/// 32 random hexadecimal digits.
fn random_id() -> Result<String> {
    use std::io::Read;
    let mut bytes = [0; 16];
    let source = "/dev/urandom";
    std::fs::File::open(source)
        .and_then(|mut file| file.read_exact(&mut bytes))
        .map_err(|error| Error::io("read", source, error))?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}
