//! A damaged `store.json`: its checksum tells which of all changes of one byte makes it what it was.

use std::path::Path;
use std::sync::Arc;

use crate::engine::Store;
use crate::engine::store::backend::backend_at;
use crate::error::{Error, Result};
use crate::format::config::StoreConfig;
use crate::format::name::ObjectName;
use crate::storage::disk::SystemDisk;
use crate::storage::{Backend, CacheDirectory};

/// A configuration that is longer is not searched: it has some 220 bytes.
const BYTES_MAX: u64 = 1024;

impl Store {
    /// Mends the `store.json` of the store at a path, of which one byte was changed; says where the damaged one is now,
    /// below the store's location. `None` if there is nothing to mend, and in a dry run.
    ///
    /// # Errors
    /// What is wrong with it, if no change of one byte makes it right; the storage's.
    pub(crate) fn mend_config(root: &Path, dry_run: bool) -> Result<Option<String>> {
        let (backend, _) = backend_at(Arc::new(SystemDisk::like(root)), root)?;
        Self::mend_config_of(&backend, dry_run)
    }

    /// As [`Store::mend_config`], of a store that is kept anywhere.
    ///
    /// # Errors
    /// As [`Store::mend_config`].
    pub(crate) fn mend_config_of(backend: &Backend, dry_run: bool) -> Result<Option<String>> {
        let damage = match Self::open_with(backend.clone(), CacheDirectory::none()) {
            Err(error @ (Error::Damaged { .. } | Error::FormatVersion { .. })) => error,
            opened => return opened.map(|_| None),
        };
        if let Some(bundle) = backend.as_bundle() {
            return Err(Error::ReadOnly { path: bundle.path().to_owned() });
        }
        let storage = backend.storage();
        let size = storage.size(&ObjectName::Config)?;
        if size > BYTES_MAX {
            return Err(damage);
        }
        let mut bytes = vec![0; size as usize];
        storage.read_at(&ObjectName::Config, 0, &mut bytes)?;
        let Some(mended) = mend(bytes) else { return Err(damage) };
        if dry_run {
            return Ok(None);
        }
        let aside = storage.set_aside(&ObjectName::Config)?;
        let mut writer = storage.writer()?;
        writer.write(&mended.to_bytes())?;
        writer.replace(&ObjectName::Config)?;
        Ok(aside)
    }
}

/// Tries every value of every byte.
fn mend(mut bytes: Vec<u8>) -> Option<StoreConfig> {
    for at in 0..bytes.len() {
        let found = *bytes.get(at)?;
        for value in 0..=u8::MAX {
            *bytes.get_mut(at)? = value;
            if let Ok(config) = StoreConfig::parse(&bytes) {
                return Some(config);
            }
        }
        *bytes.get_mut(at)? = found;
    }
    None
}
