//! What does a store lie in? A folder, which can be changed; or a bundle, one file, which can be read.
//!
//! Invariant: whoever changes a store asks for the folder first ([`Store::folder`]), so a bundle is refused before
//! anything is done.

use std::path::Path;
use std::sync::Arc;

use super::Store;
use crate::catalog::objects::decode_objects;
use crate::error::{Error, Result};
use crate::format::bundle::ObjectPlace;
use crate::storage::bundle::{BundleFile, BundleStorage, Found, find};
use crate::storage::disk::Disk;
use crate::storage::{LocalStorage, Storage};

/// What a store lies in.
#[derive(Debug, Clone)]
pub(super) enum Medium {
    Folder(LocalStorage),
    Bundle(BundleStorage),
}

impl Medium {
    /// What lies at a path.
    ///
    /// # Errors
    /// [`Error::NotAStore`] if it is neither; [`Error::BundleDamaged`].
    pub(super) fn open(disk: Arc<dyn Disk>, root: &Path) -> Result<Self> {
        match disk.is_dir(root) {
            Ok(false) => open_bundle(&*disk, root).map(Self::Bundle),
            _ => LocalStorage::open_on(disk, root.to_owned()).map(Self::Folder),
        }
    }

    pub(super) fn storage(&self) -> &dyn Storage {
        match self {
            Self::Folder(storage) => storage,
            Self::Bundle(storage) => storage,
        }
    }

    pub(super) fn bundle(&self) -> Option<&BundleStorage> {
        match self {
            Self::Folder(_) => None,
            Self::Bundle(storage) => Some(storage),
        }
    }
}

impl From<LocalStorage> for Medium {
    fn from(storage: LocalStorage) -> Self {
        Self::Folder(storage)
    }
}

impl Store {
    /// Where the objects are, for who is to change them.
    ///
    /// # Errors
    /// [`Error::ReadOnly`] for a bundle.
    pub(super) fn folder(&self) -> Result<&LocalStorage> {
        match &self.medium {
            Medium::Folder(storage) => Ok(storage),
            Medium::Bundle(bundle) => Err(Error::ReadOnly { path: bundle.path().to_owned() }),
        }
    }
}

/// Opens a bundle to read it.
///
/// # Errors
/// As [`find`] and [`BundleStorage::new`].
pub(super) fn open_bundle(disk: &dyn Disk, path: &Path) -> Result<BundleStorage> {
    let file = BundleFile::open(disk, path)?;
    let found = find(&file)?;
    let places = places_of(&file, &found)?;
    BundleStorage::new(file, found, places)
}

/// The objects that were found: as the index lists them, or else as the heads do.
pub(super) fn places_of(file: &BundleFile, found: &Found) -> Result<Vec<ObjectPlace>> {
    let Some(index) = &found.index else { return Ok(found.places.clone()) };
    decode_objects(index.clone()).map_err(|what| Error::BundleDamaged {
        path: file.path().to_owned(),
        offset: found.index_at,
        what,
    })
}
