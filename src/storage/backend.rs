//! What a store is kept in: a folder, a bucket, or a bundle; anything that has objects and coordinates who changes them.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::bucket::{self, Bucket, BucketOptions, MemoryBucket};
use super::coordination::{Collection, Coordination, Pending, Session};
use super::{BundleStorage, LocalStorage, Storage};
use crate::error::{Error, Result};
use crate::format::id::SnapshotId;

/// Objects, and the coordination of those who change them. Clones share both.
#[derive(Debug, Clone)]
pub struct Backend {
    storage: Arc<dyn Storage>,
    coordination: Arc<dyn Coordination>,
    bundle: Option<BundleStorage>,
}

impl Backend {
    /// Any storage and the coordination that belongs to it.
    #[must_use]
    pub fn new(storage: Arc<dyn Storage>, coordination: Arc<dyn Coordination>) -> Self {
        Self { storage, coordination, bundle: None }
    }

    /// A folder.
    #[must_use]
    pub fn folder(folder: LocalStorage) -> Self {
        Self::new(Arc::new(folder.clone()), Arc::new(folder))
    }

    /// A bundle, which can only be read.
    #[must_use]
    pub fn bundle(bundle: BundleStorage) -> Self {
        let coordination = ReadOnly { path: bundle.path().to_owned() };
        let storage = Arc::new(bundle.clone());
        Self { storage, coordination: Arc::new(coordination), bundle: Some(bundle) }
    }

    /// A bucket.
    #[must_use]
    pub fn bucket(bucket: Arc<dyn Bucket>, options: BucketOptions) -> Self {
        let (storage, coordination) = bucket::open(bucket, options);
        Self::new(Arc::new(storage), Arc::new(coordination))
    }

    /// A bucket in this process's memory.
    #[must_use]
    pub fn in_memory() -> Self {
        Self::bucket(Arc::new(MemoryBucket::new()), BucketOptions::default())
    }

    /// Where objects are read.
    #[must_use]
    pub fn storage(&self) -> &dyn Storage {
        &*self.storage
    }

    /// Who changes them, and when.
    #[must_use]
    pub fn coordination(&self) -> &dyn Coordination {
        &*self.coordination
    }

    /// Where it is, for messages.
    #[must_use]
    pub fn location(&self) -> PathBuf {
        self.storage.location()
    }

    /// The bundle, if it is one.
    #[must_use]
    pub fn as_bundle(&self) -> Option<&BundleStorage> {
        self.bundle.as_ref()
    }
}

/// The coordination of what cannot be changed.
#[derive(Debug)]
struct ReadOnly {
    path: PathBuf,
}

impl ReadOnly {
    fn refuse<T>(&self) -> Result<T> {
        Err(Error::ReadOnly { path: Path::to_owned(&self.path) })
    }
}

impl Coordination for ReadOnly {
    fn begin(&self) -> Result<Box<dyn Session>> {
        self.refuse()
    }

    fn begin_repair(&self) -> Result<Box<dyn Session>> {
        self.refuse()
    }

    fn remove(&self, _: &[SnapshotId]) -> Result<()> {
        self.refuse()
    }

    fn pending(&self) -> Result<Pending> {
        Ok(Pending::default())
    }

    fn collect(&self) -> Result<Box<dyn Collection>> {
        self.refuse()
    }
}
