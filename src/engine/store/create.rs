//! How does a store begin? And how does one go away again to which nothing came?
//!
//! Invariant: what [`Store::unmake`] removes was made by this process and holds nothing, and nobody adds to it.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::{Settings, Store, random_id};
use crate::error::{Error, Result};
use crate::format::config::StoreConfig;
use crate::format::name::ObjectName;
use crate::storage::disk::{Disk, SystemDisk};
use crate::storage::{Backend, CacheDirectory, LocalStorage, Put, Storage};

/// That a store was made just now, with what was made for it.
#[derive(Debug)]
pub struct NewStore {
    /// The root and the directories above it that were not there, deepest first.
    directories: Vec<PathBuf>,
}

impl NewStore {
    /// What is missing before a store is made at this path.
    pub(in crate::engine) fn before(root: &Path) -> Self {
        let is_missing = |path: &&Path| !path.as_os_str().is_empty() && path.symlink_metadata().is_err();
        Self { directories: root.ancestors().take_while(is_missing).map(Path::to_owned).collect() }
    }

    /// Removes those of the directories that are empty.
    fn remove_directories(&self) {
        self.directories.iter().take_while(|directory| fs::remove_dir(directory).is_ok()).for_each(drop);
    }
}

impl Store {
    /// Makes a store in a directory that is empty or not there yet.
    ///
    /// # Errors
    /// [`Error::Exists`] if there is a store, or anything else, already.
    pub fn init(root: &Path, settings: Settings) -> Result<Self> {
        Self::init_on(Arc::new(SystemDisk::like(root)), root, settings)
    }

    /// As [`Store::init`], on another disk.
    ///
    /// # Errors
    /// As [`Store::init`].
    pub(crate) fn init_on(disk: Arc<dyn Disk>, root: &Path, settings: Settings) -> Result<Self> {
        Self::init_as(disk, root, &new_config(settings)?)
    }

    /// Makes a store in this process's memory. It ends with its last clone.
    ///
    /// ```
    /// use seamstore::Store;
    /// use seamstore::request::Settings;
    /// # fn main() -> seamstore::Result<()> {
    /// let store = Store::in_memory(Settings::default())?;
    /// assert!(store.snapshots()?.is_empty());
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`Error::Io`] if the system gives no random bytes for the store's id.
    pub fn in_memory(settings: Settings) -> Result<Self> {
        Self::init_with(Backend::in_memory(), CacheDirectory::none(), settings)
    }

    /// Makes a store that is kept anywhere. What can be made again is kept in `caches`.
    ///
    /// # Errors
    /// [`Error::Exists`] if there is one already; the backend's.
    pub(crate) fn init_with(backend: Backend, caches: CacheDirectory, settings: Settings) -> Result<Self> {
        match backend.storage().put_if_absent(&ObjectName::Config, &new_config(settings)?.to_bytes())? {
            Put::Created => Self::open_with(backend, caches),
            Put::Present => Err(Error::Exists { path: backend.location().join(ObjectName::Config.path()) }),
        }
    }

    /// Makes a store of this configuration in a folder.
    pub(in crate::engine) fn init_as(disk: Arc<dyn Disk>, root: &Path, config: &StoreConfig) -> Result<Self> {
        // Temporary files belong to a process that is making this store right now, or was killed doing so.
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

    /// Opens a store, or makes one where there is none yet.
    ///
    /// # Errors
    /// As [`Store::open`] and [`Store::init`].
    pub fn open_or_init(root: &Path, settings: Settings) -> Result<Self> {
        Self::open_or_begin(root, settings).map(|(store, _)| store)
    }

    /// As [`Store::open_or_init`]. If it made the store, it also says so, for [`Store::unmake`].
    ///
    /// # Errors
    /// As [`Store::open_or_init`].
    pub(crate) fn open_or_begin(root: &Path, settings: Settings) -> Result<(Self, Option<NewStore>)> {
        match Self::open(root) {
            Err(Error::NotAStore { .. }) => {}
            opened => return opened.map(|store| (store, None)),
        }
        let new = NewStore::before(root);
        match Self::init(root, settings) {
            // Another process was faster; or there is something that is no store.
            Err(Error::Exists { .. }) => Self::open(root).map(|store| (store, None)),
            Err(error) => {
                new.remove_directories();
                Err(error)
            }
            Ok(store) => Ok((store, Some(new))),
        }
    }

    /// Removes a store that this process made and that holds nothing, with the directories made for it. Says whether it
    /// did: a store that somebody adds to stays, and so does one that holds anything.
    pub(crate) fn unmake(&self, new: &NewStore) -> bool {
        self.sweep();
        let _ = self.drop_index();
        let removed = self.coordination().unmake().unwrap_or_default();
        if removed {
            new.remove_directories();
        }
        removed
    }
}

/// The configuration of a new store.
fn new_config(settings: Settings) -> Result<StoreConfig> {
    Ok(StoreConfig::new(
        random_id()?,
        settings.profile.name(),
        settings.frames.frame_bytes() as u32,
        settings.frames.codec().to_string(),
        settings.frames.level(),
    ))
}
