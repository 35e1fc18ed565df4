//! A folder with a store, in any backend, and trees to add to it.
#![allow(clippy::unwrap_used)]

use super::folder::{Files, files_in};
use super::store::{Kind, Place};
use crate::engine::add::AddRequest;
use crate::engine::ops::gc::{GcReport, GcRequest};
use crate::engine::read::get::GetRequest;
use crate::engine::store::control::Control;
use crate::engine::store::snapshots::Selector;
use crate::engine::{Settings, Store};
use crate::error::Result;
use crate::format::id::SnapshotId;
use crate::format::name::ObjectKind;

/// A folder with a store and trees to add to it.
pub(crate) struct Shelf {
    pub(crate) folder: tempfile::TempDir,
    pub(crate) place: Place,
}

impl Shelf {
    /// With a store in a folder.
    pub(crate) fn new() -> Self {
        Self::on(Kind::Folder)
    }

    pub(crate) fn on(kind: Kind) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let place = Place::new(kind, folder.path());
        let shelf = Self { folder, place };
        // Small frames and chunks, so that little data makes many.
        let frames = crate::pack::frame::FrameSettings::new(crate::pack::frame::Codec::Zstd, 1, 16 << 10).unwrap();
        let profile = "gear-4096".parse().unwrap();
        shelf.place.init(Settings { profile, frames });
        shelf
    }

    pub(crate) fn store(&self) -> Store {
        self.place.open()
    }

    pub(crate) fn write(&self, name: &str, bytes: &[u8]) {
        let path = self.folder.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, bytes).unwrap();
    }

    pub(crate) fn add_to(&self, store: &Store, name: &str) -> Result<SnapshotId> {
        let request = AddRequest {
            paths: vec![self.folder.path().join(name)],
            memory_bytes: 64 << 20,
            threads: 2,
            ..AddRequest::default()
        };
        Ok(store.add(&request, &Control::default())?.snapshot.unwrap())
    }

    pub(crate) fn add(&self, name: &str) -> SnapshotId {
        self.add_to(&self.store(), name).unwrap()
    }

    pub(crate) fn remove(&self, id: SnapshotId) {
        assert_eq!(self.store().remove(&[id.to_hex()]).unwrap().snapshots, [id].into());
    }

    pub(crate) fn gc(&self, request: &GcRequest) -> GcReport {
        self.store().gc(request, &Control::default(), &|_| {}).unwrap()
    }

    /// All files of a tree in a snapshot, as they come out.
    pub(crate) fn files(&self, id: SnapshotId, name: &str) -> Files {
        let request = GetRequest {
            path: self.folder.path().join(name),
            snapshot: Selector::Id(id.to_hex()),
            memory_bytes: 64 << 20,
            threads: 2,
            ..GetRequest::default()
        };
        let copy = tempfile::tempdir().unwrap();
        let output = copy.path().join("copy");
        let report = self.store().get(&request, &output, &Control::default()).unwrap();
        assert_eq!(report.losses, []);
        files_in(&output)
    }

    pub(crate) fn assert_whole(&self, id: SnapshotId, name: &str, expected: &Files) {
        assert!(self.files(id, name) == *expected, "{name} in {id} is not what was added");
    }

    pub(crate) fn source(&self, name: &str) -> Files {
        files_in(&self.folder.path().join(name))
    }

    pub(crate) fn bytes_of(&self, kind: ObjectKind) -> u64 {
        self.store().storage().list(kind).unwrap().iter().map(|object| object.bytes).sum()
    }

    /// Bytes of all packs and recipes files.
    pub(crate) fn stored(&self) -> u64 {
        self.bytes_of(ObjectKind::Pack) + self.bytes_of(ObjectKind::Recipes)
    }

    pub(crate) fn count(&self, kind: ObjectKind) -> usize {
        self.store().storage().list(kind).unwrap().len()
    }
}
