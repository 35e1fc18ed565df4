//! Where does what can be made again lie? The index, rows on their way to a snapshot, temporary files.
//!
//! Invariant: two stores never share a cache, also if one is a copy of the other and both have one id: the directory of a
//! store's caches is named by its id and by the identity of the place that it is kept in.

use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::ScratchStorage;
use super::disk::{Disk, SystemDisk};
use crate::error::{Error, Result};

/// The directory for what can be made again.
#[derive(Debug, Clone)]
pub struct CacheDirectory {
    place: Place,
    disk: Arc<dyn Disk>,
}

#[derive(Debug, Clone)]
enum Place {
    /// A directory for the caches of many stores.
    Below(PathBuf),
    /// One for this store alone.
    At(PathBuf),
    /// Nothing is kept. What is too much for memory goes here for as long as it is used.
    NullWriter(PathBuf),
}

impl CacheDirectory {
    /// Caches in a directory of this machine, which is made when it is needed; any number of stores may use it.
    #[cfg_attr(not(any(test, feature = "internals")), expect(dead_code, reason = "remote stores will use it"))]
    #[must_use]
    pub fn below(directory: impl Into<PathBuf>) -> Self {
        Self { place: Place::Below(directory.into()), disk: Arc::new(SystemDisk::PRIVATE) }
    }

    /// No caches: the index is made again whenever a store is opened, and lives in memory. Rows that are too many for memory
    /// go to the system's directory for temporary files.
    #[must_use]
    pub fn none() -> Self {
        Self::nowhere(std::env::temp_dir(), Arc::new(SystemDisk::PRIVATE))
    }

    /// As [`Self::none`], with this directory for temporary files.
    pub(crate) fn nowhere(temporary: PathBuf, disk: Arc<dyn Disk>) -> Self {
        Self { place: Place::NullWriter(temporary), disk }
    }

    /// Caches of one store in this directory, which is there.
    pub(crate) fn at(directory: PathBuf, disk: Arc<dyn Disk>) -> Self {
        Self { place: Place::At(directory), disk }
    }

    /// The caches of the store of this id in the place of this identity.
    ///
    /// # Errors
    /// [`Error::Io`] if there is no directory and none can be made.
    pub(crate) fn of_store(self, id: &str, identity: impl FnOnce() -> Result<Vec<u8>>) -> Result<Self> {
        let Place::Below(directory) = &self.place else { return Ok(self) };
        let hash = blake3::hash(&identity()?).to_hex();
        let directory = directory.join(format!("{id}-{}", hash.get(..32).unwrap_or_default()));
        let made = std::fs::DirBuilder::new().recursive(true).mode(0o700).create(&directory);
        made.map_err(|source| Error::io("create", &directory, source))?;
        Ok(Self { place: Place::At(directory), ..self })
    }

    /// The directory of the index; `None` if none is kept.
    pub(crate) fn directory(&self) -> Option<&Path> {
        match &self.place {
            Place::At(directory) => Some(directory),
            Place::Below(_) | Place::NullWriter(_) => None,
        }
    }

    /// The disk that it is on.
    pub(crate) fn disk(&self) -> &Arc<dyn Disk> {
        &self.disk
    }

    /// A directory for temporary files.
    pub(crate) fn temporary(&self) -> &Path {
        match &self.place {
            Place::Below(directory) | Place::At(directory) | Place::NullWriter(directory) => directory,
        }
    }

    /// Room for what is too much for memory.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub(crate) fn scratch(&self) -> Result<ScratchStorage> {
        ScratchStorage::create(self.temporary())
    }

    /// Device and inode of these directories and of the caches' own: an add does not go there.
    ///
    /// # Errors
    /// [`Error::Io`] for one that cannot be looked at.
    pub(crate) fn left_out(&self, directories: Vec<PathBuf>) -> Result<Vec<(u64, u64)>> {
        let own = self.directory().map(Path::to_owned);
        let mut left_out = Vec::new();
        for directory in directories.into_iter().chain(own) {
            match std::fs::metadata(&directory) {
                Ok(found) => left_out.push((found.dev(), found.ino())),
                Err(error) if error.kind() == io::ErrorKind::NotFound && self.directory() == Some(&*directory) => {}
                Err(source) => return Err(Error::io("read", directory, source)),
            }
        }
        left_out.dedup();
        Ok(left_out)
    }
}
