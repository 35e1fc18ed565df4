//! Who is adding to this store, and who alone may delete from it? Files that are locked as long as their process lives.
//!
//! A *lease* is a file below `leases/` that the add which made it holds locked (`flock`). When the process ends, however
//! it ends, the kernel releases the lock; so a lease that can be locked has no owner, and no lease is left that a person
//! must clear. `gc.lock` is one file that is never removed, so that its lock is one for all.
//!
//! Invariants: a lease that [`LocalStorage::lease`] returned is seen by every [`LocalStorage::leases`] that begins
//! afterwards, until it is dropped. The holder of a lease also shares the lock of `store.json`; so while one process holds
//! that lock exclusively ([`LocalStorage::alone`]), no lease begins.
//!
//! A lease says who took it, for messages ([`Holder`]). Nothing depends on that: it is not synced, and may be missing, cut
//! off or nonsense.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::{Inner, LocalStorage};
use crate::error::{Error, Result};
use crate::format::name::{ObjectKind, ObjectName};
use crate::storage::disk::{HeldLock, WriteFile, write_all};
use crate::storage::holder::{Holder, this_process};

const END: &str = "lease";

/// No lease says more than this many bytes.
const HOLDER_BYTES_MAX: usize = 512;

/// A lease that is held. Dropped, it has ended.
pub struct Lease {
    inner: Arc<Inner>,
    path: PathBuf,
    /// Open, and so locked.
    _file: Box<dyn WriteFile>,
    /// The shared lock of `store.json`; `None` where there are no locks.
    _present: Option<Box<dyn HeldLock>>,
}

impl std::fmt::Debug for Lease {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Lease").field(&self.path).finish()
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        // One that cannot be removed is removed by the next gc, which can lock it from then on.
        let _ = self.inner.disk.remove(&self.path);
    }
}

/// The exclusive right to delete what no snapshot reaches.
#[derive(Debug)]
pub struct ExclusiveLock {
    _held: Box<dyn HeldLock>,
}

/// The certainty that no lease is held or taken.
#[derive(Debug)]
pub struct Alone {
    _held: Box<dyn HeldLock>,
}

impl LocalStorage {
    fn leases_folder(&self) -> PathBuf {
        self.inner.root.join("leases")
    }

    /// Takes a lease: from now on gc waits for its end before it deletes what it has not announced before. Waits while
    /// another process is [alone](Self::alone).
    ///
    /// # Errors
    /// [`Error::NotAStore`] if `store.json` is gone; [`Error::Io`] if no file can be made.
    pub fn lease(&self) -> Result<Lease> {
        let config = self.inner.path(&ObjectName::Config);
        let present = self.inner.with_files(|| self.inner.disk.share(&config)).map_err(|e| match e.kind() {
            io::ErrorKind::NotFound => {
                Error::NotAStore { path: self.inner.root.clone(), why: "its store.json was removed".to_owned() }
            }
            _ => Error::io("lock", &config, e),
        })?;
        let (path, mut file) = self.inner.create_locked(&self.leases_folder(), END)?;
        // For messages only, so that a full disk is no reason to fail.
        let _ = write_all(&mut *file, this_process().as_bytes());
        Ok(Lease { inner: Arc::clone(&self.inner), path, _file: file, _present: present })
    }

    /// Keeps leases from being taken, if none is held. `None` if one is.
    ///
    /// # Errors
    /// [`Error::Io`] where there are no locks, or `store.json` cannot be locked.
    pub fn alone(&self) -> Result<Option<Alone>> {
        let path = self.inner.path(&ObjectName::Config);
        let held = self.inner.with_files(|| self.inner.disk.hold_existing(&path));
        let Some(held) = held.map_err(|e| Error::io("lock", path, e))? else { return Ok(None) };
        // A lease may share the lock of a store.json that was replaced since.
        Ok(self.leases()?.is_empty().then_some(Alone { _held: held }))
    }

    /// What a lease says of its holder.
    #[must_use]
    pub fn holder(&self, lease: &Path) -> Holder {
        let mut bytes = vec![0; HOLDER_BYTES_MAX];
        let read = self.inner.with_files(|| self.inner.disk.open(lease)).and_then(|file| file.read_at(0, &mut bytes));
        bytes.truncate(read.unwrap_or_default());
        Holder::parse(lease, &bytes)
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

    /// Takes the exclusive right to delete.
    ///
    /// # Errors
    /// [`Error::Locked`] if another process has it; [`Error::Io`] where there are no locks: leases mean nothing there,
    /// and nothing may be deleted.
    pub fn exclusive_lock(&self) -> Result<ExclusiveLock> {
        let path = self.inner.root.join("gc.lock");
        match self.inner.with_files(|| self.inner.disk.hold(&path)) {
            Ok(Some(held)) => Ok(ExclusiveLock { _held: held }),
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
        let kinds = [ObjectKind::Pack, ObjectKind::Recipes, ObjectKind::Snapshot, ObjectKind::PendingDeletes];
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
    use crate::storage::Storage;

    #[test]
    fn a_lease_is_seen_until_it_is_dropped_and_a_dead_one_is_removed() {
        let folder = tempfile::tempdir().unwrap();
        let storage = LocalStorage::open(folder.path()).unwrap();
        storage.put_if_absent(&ObjectName::Config, b"{}").unwrap();
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
        storage.put_if_absent(&ObjectName::Config, b"{}").unwrap();
        let other = LocalStorage::open(folder.path()).unwrap();
        let exclusive_lock = storage.exclusive_lock().unwrap();
        assert!(matches!(other.exclusive_lock(), Err(Error::Locked { .. })));
        drop(exclusive_lock);
        other.exclusive_lock().unwrap();
    }

    #[test]
    fn a_lease_says_who_took_it_and_one_that_says_nonsense_is_a_lease_all_the_same() {
        let folder = tempfile::tempdir().unwrap();
        let storage = LocalStorage::open(folder.path()).unwrap();
        storage.put_if_absent(&ObjectName::Config, b"{}").unwrap();
        let lease = storage.lease().unwrap();
        let holder = storage.holder(&lease.path);
        assert_eq!(holder.process, Some(std::process::id()));
        assert!(holder.host.is_some() && holder.since_ns > Some(1_700_000_000_000_000_000), "{holder:?}");
        let unknown = Holder { lease: lease.path.clone(), host: None, process: None, since_ns: None };
        for nonsense in [&b""[..], b"\xff\xfe\n1\n2\n", b"\x1b[31mred\nx\n-\n", b"host", &[b'a'; 4096]] {
            std::fs::write(&lease.path, nonsense).unwrap();
            assert_eq!(storage.holder(&lease.path), unknown, "{nonsense:?}");
            assert_eq!(storage.leases().unwrap(), std::slice::from_ref(&lease.path));
        }
        // A write that was cut short says as much as it says.
        std::fs::write(&lease.path, "host\n12").unwrap();
        assert_eq!(storage.holder(&lease.path), Holder { host: Some("host".to_owned()), ..unknown });
    }

    #[test]
    fn nobody_is_alone_beside_a_lease_and_no_lease_begins_while_somebody_is() {
        let folder = tempfile::tempdir().unwrap();
        let storage = LocalStorage::open(folder.path()).unwrap();
        storage.put_if_absent(&ObjectName::Config, b"{}").unwrap();
        let lease = storage.lease().unwrap();
        assert!(storage.alone().unwrap().is_none());
        // Also if store.json, whose lock the lease shares, was replaced meanwhile.
        let config = folder.path().join("store.json");
        std::fs::remove_file(&config).unwrap();
        storage.put_if_absent(&ObjectName::Config, b"{}").unwrap();
        assert!(storage.alone().unwrap().is_none());
        drop(lease);
        let alone = storage.alone().unwrap().unwrap();
        assert!(storage.alone().unwrap().is_none());
        std::thread::scope(|scope| {
            let waiting = scope.spawn(|| storage.lease());
            assert_eq!(storage.leases().unwrap(), Vec::<PathBuf>::new());
            // The store is removed: what waited finds none.
            std::fs::remove_file(&config).unwrap();
            drop(alone);
            assert!(matches!(waiting.join().unwrap(), Err(Error::NotAStore { .. })));
        });
    }
}
