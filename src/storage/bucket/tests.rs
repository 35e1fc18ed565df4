//! The protocol, hole by hole and at random, through buckets that fail.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

mod holes;
mod random;

use std::collections::BTreeSet;
use std::sync::Arc;

use super::*;
use crate::error::Error;
use crate::format::id::{PackId, SnapshotId};
use crate::format::name::ObjectKind;
use crate::format::pending_deletes::PendingDeletes;
use crate::storage::Storage;
use crate::testing::bucket::{BucketFault, FaultyBucket};

const IMPATIENT: BucketOptions = BucketOptions { revoke_after: Duration::ZERO };

fn pack(n: u8) -> ObjectName {
    ObjectName::Pack(PackId([n; 32]))
}

/// A process that works on a bucket.
struct Process {
    way: FaultyBucket,
    storage: BucketStorage,
    coordination: BucketCoordination,
}

impl Process {
    fn on(way: FaultyBucket, options: BucketOptions) -> Self {
        let (storage, coordination) = open(Arc::new(way.clone()), options);
        Self { way, storage, coordination }
    }

    fn new(bucket: &MemoryBucket) -> Self {
        Self::on(FaultyBucket::new(bucket), IMPATIENT)
    }

    /// Writes and commits a snapshot of these packs, of which the new ones are written, too.
    fn add(&self, snapshot: u8, packs: &[u8], new: &[u8]) -> Result<()> {
        let session = self.coordination.begin()?;
        new.iter().try_for_each(|n| session.storage().put_if_absent(&pack(*n), &[*n; 100]).map(drop))?;
        write_snapshot(&*session, snapshot, packs)?;
        session.commit(&[SnapshotId([snapshot; 32])])
    }

    fn list(&self, kind: ObjectKind) -> BTreeSet<ObjectName> {
        self.storage.list(kind).unwrap().into_iter().map(|listed| listed.name).collect()
    }

    fn snapshots(&self) -> Vec<u8> {
        let ids = self.list(ObjectKind::Snapshot).into_iter().filter_map(ObjectName::snapshot);
        ids.map(|id| id.0[0]).collect()
    }

    fn packs(&self) -> Vec<u8> {
        self.list(ObjectKind::Pack).into_iter().filter_map(ObjectName::pack).map(|id| id.0[0]).collect()
    }

    /// A whole gc.
    fn collect(&self) -> Result<()> {
        let mut collection = self.coordination.collect()?;
        if collection.pending().is_some() {
            while !collection.waits_for()?.is_empty() {}
            let delete = unneeded(&*collection)?;
            collection.carry_out(&delete)?;
        }
        let all = unneeded_of(collection.storage(), &everything(collection.storage())?)?;
        collection.announce(&all, true)?;
        while !collection.waits_for()?.is_empty() {}
        let delete = unneeded(&*collection)?;
        collection.carry_out(&delete).map(drop)
    }
}

/// A snapshot is the list of its packs.
fn write_snapshot(session: &dyn Session, snapshot: u8, packs: &[u8]) -> Result<()> {
    session.storage().put_if_absent(&ObjectName::Snapshot(SnapshotId([snapshot; 32])), packs).map(drop)
}

fn bytes_of(storage: &dyn Storage, name: &ObjectName) -> Result<Vec<u8>> {
    let mut bytes = vec![0; storage.size(name)? as usize];
    storage.read_at(name, 0, &mut bytes)?;
    Ok(bytes)
}

fn everything(storage: &dyn Storage) -> Result<PendingDeletes> {
    let mut all = PendingDeletes::default();
    storage.list(ObjectKind::Pack)?.iter().for_each(|listed| all.insert(listed.name));
    Ok(all)
}

/// Of these packs, those that no snapshot lists.
fn unneeded_of(storage: &dyn Storage, packs: &PendingDeletes) -> Result<PendingDeletes> {
    let mut left = packs.clone();
    for snapshot in storage.list(ObjectKind::Snapshot)? {
        for n in bytes_of(storage, &snapshot.name)? {
            left.packs.remove(&PackId([n; 32]));
        }
    }
    Ok(left)
}

fn unneeded(collection: &dyn Collection) -> Result<Vec<ObjectName>> {
    let left = unneeded_of(collection.storage(), &collection.pending().cloned().unwrap_or_default())?;
    Ok(left.packs.into_iter().map(ObjectName::Pack).collect())
}

/// Fails unless every visible snapshot has all of its packs, as they were written.
fn assert_whole(bucket: &MemoryBucket, case: &str) {
    let reader = Process::new(bucket);
    for snapshot in reader.storage.list(ObjectKind::Snapshot).unwrap() {
        let packs = bytes_of(&reader.storage, &snapshot.name).unwrap_or_else(|e| panic!("{case}: {e:?}"));
        for n in packs {
            let bytes = bytes_of(&reader.storage, &pack(n));
            assert!(bytes.as_ref().is_ok_and(|bytes| *bytes == [n; 100]), "{case}: pack {n}: {bytes:?}");
        }
    }
}

/// Keys of objects that are there.
fn object_keys(bucket: &MemoryBucket) -> Vec<String> {
    bucket.contents().into_keys().filter(|key| key.starts_with("packs/") || key.starts_with("snapshots/")).collect()
}
