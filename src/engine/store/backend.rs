//! What does a path hold? A folder, which can be changed; or a bundle, one file, which can be read.

use std::path::Path;
use std::sync::Arc;

use crate::catalog::objects::decode_objects;
use crate::error::{Error, Result};
use crate::format::bundle::ObjectPlace;
use crate::storage::bundle::{BundleContents, BundleFile, BundleStorage, find};
use crate::storage::disk::Disk;
use crate::storage::{Backend, CacheDirectory, LocalStorage};

/// The backend at a path, and where its caches are by default: a folder has them inside, a bundle has none.
///
/// # Errors
/// [`Error::NotAStore`] if it is neither; [`Error::BundleDamaged`].
pub(in crate::engine) fn backend_at(disk: Arc<dyn Disk>, root: &Path) -> Result<(Backend, CacheDirectory)> {
    match disk.is_dir(root) {
        Ok(false) => Ok(bundle_backend(open_bundle(&*disk, root)?, disk)),
        _ => {
            let folder = LocalStorage::open_on(Arc::clone(&disk), root.to_owned())?;
            Ok((Backend::folder(folder), CacheDirectory::at(root.to_owned(), disk)))
        }
    }
}

/// A bundle as a backend. Temporary files go beside it.
pub(in crate::engine) fn bundle_backend(bundle: BundleStorage, disk: Arc<dyn Disk>) -> (Backend, CacheDirectory) {
    let beside = bundle.path().parent().filter(|path| !path.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let caches = CacheDirectory::nowhere(beside.to_owned(), disk);
    (Backend::bundle(bundle), caches)
}

/// Opens a bundle to read it.
///
/// # Errors
/// As [`find`] and [`BundleStorage::new`].
pub(in crate::engine) fn open_bundle(disk: &dyn Disk, path: &Path) -> Result<BundleStorage> {
    let file = BundleFile::open(disk, path)?;
    let found = find(&file)?;
    let places = places_of(&file, &found)?;
    BundleStorage::new(file, found, places)
}

/// The objects that were found: as the index lists them, or else as the heads do.
pub(in crate::engine) fn places_of(file: &BundleFile, found: &BundleContents) -> Result<Vec<ObjectPlace>> {
    let Some(index) = &found.index else { return Ok(found.places.clone()) };
    decode_objects(index.clone()).map_err(|what| Error::BundleDamaged {
        path: file.path().to_owned(),
        offset: found.index_at,
        what,
    })
}
