//! Who is adding to this store, and who alone may delete from it? Files that are locked as long as their process lives.
//!
//! A *lease* is an empty file below `leases/`, locked (`flock`) by the add that made it. When the process ends, however
//! it ends, the kernel gives the lock back; so a lease that can be locked is nobody's, and there is never one that a
//! person must clear. `gc.lock` is one file that is never removed, so that its lock is one for all.
//!
//! Invariant: a lease that [`LocalStorage::lease`] returned is seen by every [`LocalStorage::leases`] that begins
//! afterwards, until it is dropped. (One that was taken for a dead one between its making and its lock is made again
//! under another name.)

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::{Inner, LocalStorage};
use crate::error::{Error, Result};
use crate::format::name::ObjectKind;
use crate::storage::disk::{Held, WriteFile};

const END: &str = "lease";

/// A lease that is held. Dropped, it has ended.
pub struct Lease {
    inner: Arc<Inner>,
    path: PathBuf,
    /// Open, and so locked.
    _file: Box<dyn WriteFile>,
}

impl std::fmt::Debug for Lease {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Lease").field(&self.path).finish()
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        // One that cannot be removed is removed by the next gc: it can be locked from now on.
        let _ = self.inner.disk.remove(&self.path);
    }
}

/// The sole right to delete what no snapshot reaches.
#[derive(Debug)]
pub struct Sole {
    _held: Box<dyn Held>,
}

impl LocalStorage {
    fn leases_folder(&self) -> PathBuf {
        self.inner.root.join("leases")
    }

    /// Takes a lease: from now on gc waits for its end before it deletes what it has not announced before.
    ///
    /// # Errors
    /// [`Error::Io`] if no file can be made.
    pub fn lease(&self) -> Result<Lease> {
        let (path, file) = self.inner.create_locked(&self.leases_folder(), END)?;
        Ok(Lease { inner: Arc::clone(&self.inner), path, _file: file })
    }

    /// The leases that are held; those of processes that are gone are removed.
    ///
    /// # Errors
    /// [`Error::Io`] if they cannot be listed or looked at.
    pub fn leases(&self) -> Result<Vec<PathBuf>> {
        let folder = self.leases_folder();
        let names = match self.inner.with_files(|| self.inner.disk.names(&folder)) {
            Ok(names) => names,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(e) => return Err(Error::io("list", folder, e)),
        };
        let mut held = Vec::new();
        for path in names.iter().map(|name| folder.join(name)) {
            if path.extension().is_some_and(|end| end == END) && self.is_held(&path)? {
                held.push(path);
            }
        }
        Ok(held)
    }

    /// Whether a lease that was listed is still held.
    ///
    /// # Errors
    /// [`Error::Io`] if it cannot be looked at.
    pub fn is_held(&self, lease: &Path) -> Result<bool> {
        match self.inner.with_files(|| self.inner.disk.remove_unlocked(lease)) {
            Ok(removed) => Ok(!removed),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(e) => Err(Error::io("look at", lease, e)),
        }
    }

    /// Takes the sole right to delete.
    ///
    /// # Errors
    /// [`Error::Locked`] if another process has it; [`Error::Io`] where there are no locks: leases mean nothing there,
    /// and nothing may be deleted.
    pub fn sole(&self) -> Result<Sole> {
        let path = self.inner.root.join("gc.lock");
        match self.inner.with_files(|| self.inner.disk.hold(&path)) {
            Ok(Some(held)) => Ok(Sole { _held: held }),
            Ok(None) => Err(Error::Locked { path }),
            Err(e) => Err(Error::io("lock", path, e)),
        }
    }

    /// Makes durable which snapshots are there and which are not: what others removed may be back after a crash until
    /// its directory is synced.
    ///
    /// # Errors
    /// [`Error::Io`] if the sync failed.
    pub fn settle_snapshots(&self) -> Result<()> {
        self.settle_folder(super::folder_of(ObjectKind::Snapshot))
    }

    /// Makes durable which objects are there and which are not, whatever others did that were killed.
    ///
    /// # Errors
    /// [`Error::Io`] if a sync failed.
    pub fn settle_all(&self) -> Result<()> {
        let packs = super::folder_of(ObjectKind::Pack);
        for name in self.inner.names(packs)? {
            self.settle_folder(&format!("{packs}/{name}"))?;
        }
        let kinds = [ObjectKind::Pack, ObjectKind::Recipes, ObjectKind::Snapshot, ObjectKind::Condemned];
        kinds.into_iter().try_for_each(|kind| self.settle_folder(super::folder_of(kind)))?;
        self.settle_folder("")
    }

    /// Makes the names durable that are in a folder below the root, if it is there.
    fn settle_folder(&self, folder: &str) -> Result<()> {
        let folder = self.inner.root.join(folder);
        match self.inner.disk.is_dir(&folder) {
            Ok(true) => self.inner.sync_folder(&folder),
            Ok(false) => Ok(()),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(e) => Err(Error::io("open", folder, e)),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_lease_is_seen_until_it_is_dropped_and_a_dead_one_is_removed() {
        let folder = tempfile::tempdir().unwrap();
        let storage = LocalStorage::open(folder.path()).unwrap();
        let other = LocalStorage::open(folder.path()).unwrap();
        assert_eq!(other.leases().unwrap(), Vec::<PathBuf>::new());
        let lease = storage.lease().unwrap();
        let second = storage.lease().unwrap();
        let mut seen = other.leases().unwrap();
        seen.sort();
        assert_eq!(seen.len(), 2);
        assert!(other.is_held(&lease.path).unwrap());
        let path = lease.path.clone();
        drop(lease);
        assert!(!path.exists());
        assert!(!other.is_held(&path).unwrap());
        assert_eq!(other.leases().unwrap(), std::slice::from_ref(&second.path));
        // What a killed process leaves: a file without a lock. A stranger is left alone.
        let dead = folder.path().join("leases/1-0-0.lease");
        let stranger = folder.path().join("leases/notes");
        std::fs::write(&dead, b"").unwrap();
        std::fs::write(&stranger, b"").unwrap();
        assert_eq!(other.leases().unwrap(), std::slice::from_ref(&second.path));
        assert!(!dead.exists() && stranger.exists());
    }

    #[test]
    fn the_sole_right_is_one_persons_at_a_time() {
        let folder = tempfile::tempdir().unwrap();
        let storage = LocalStorage::open(folder.path()).unwrap();
        let other = LocalStorage::open(folder.path()).unwrap();
        let sole = storage.sole().unwrap();
        assert!(matches!(other.sole(), Err(Error::Locked { .. })));
        drop(sole);
        other.sole().unwrap();
    }
}
