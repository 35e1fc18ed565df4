//! Content-defined-chunking dedup storage: keeps many versions of big data in little space, and gives any file or byte
//! range back fast, every byte checked. The program `store` is a thin command line over this library.
//!
//! # The way of the bytes
//!
//! In, by [`Store::add`]:
//!
//! ```text
//! walk     what is on disk, in snapshot order                      ingest
//! cut      where chunks end; big files by many workers at once     chunk
//! name     each chunk by the BLAKE3 of its bytes                   format
//! dedup    is it in the store already?                             index
//! frame    new chunks, compressed together                         pack
//! pack     frames, with a directory at the end: durable            pack, storage
//! recipe   a content's list of chunks: durable                     catalog
//! snapshot a row for each entry; its appearance is the commit      catalog
//! ```
//!
//! and out again, by [`Store::get`] and [`Store::read`], the same road back: snapshot, recipe, index, frames, chunks
//! checked against their ids, bytes at their places (`restore`).
//!
//! ```
//! use seamstore::request::{AddRequest, GetRequest, Selector, Settings};
//! use seamstore::{Control, Store};
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let folder = tempfile::tempdir()?;
//! let file = folder.path().join("notes.txt");
//! std::fs::write(&file, "found again")?;
//!
//! let store = Store::open_or_init(&folder.path().join("store"), Settings::default())?;
//! let control = Control::default();
//! let request =
//!     AddRequest::default().paths(vec![file.clone()]).tags(vec!["first".to_owned()]);
//! let report = store.add(&request, &control)?;
//! assert_eq!((report.totals.files, report.totals.new_bytes), (1, 11));
//!
//! // A path is asked for as it was given.
//! let wanted = GetRequest::default().path(file).snapshot(Selector::Latest);
//! let mut bytes = Vec::new();
//! store.read(&wanted, Some(0..5), &mut bytes, "memory".as_ref(), &control)?;
//! assert_eq!(bytes, b"found");
//!
//! let copy = folder.path().join("copy.txt");
//! store.get(&wanted, &copy, &control)?;
//! assert_eq!(std::fs::read(copy)?, b"found again");
//! # Ok(())
//! # }
//! ```
//!
//! Many small reads of one snapshot, from many threads, are a [`Reader`]'s: opened once by [`Store::reader`], it finds a
//! file's bytes without asking anybody, and decodes no more than it must.
//!
//! # Cut points alone
//!
//! [`chunk`] is of use without any store. However a file is chunked, whole, read by read, or in parallel, the cuts are
//! those of the rule, which `docs/design.md` states:
//!
//! ```
//! use seamstore::chunk::{Chunker, Profile, cut_points, cut_points_parallel};
//! let data: Vec<u8> = (0..300_000u32).flat_map(|n| n.wrapping_mul(0x9E37_79B9).to_be_bytes()).collect();
//! let profile = Profile::default();
//! let cuts = cut_points(&data, &profile);
//! assert!(cuts.len() > 30 && cuts.last() == Some(&1_200_000));
//! assert_eq!(cut_points_parallel(&data, &profile, 7), cuts);
//! assert_eq!(Chunker::new(data.as_slice(), &profile).cut_points().unwrap(), cuts);
//! ```
//!
//! # The layers
//!
//! Imports point down only. What stands between bars never imports its neighbours; they meet in `engine`.
//!
//! ```text
//! cli  →  engine  →  archive | arrays | chunk | pack | index | catalog | ingest | restore  →  storage  →  format
//! ```
//!
//! Every module begins with the question it answers and the invariant it keeps. `docs/design.md` in the repository has
//! the words, a table for every byte of a store, and the nine invariants by the numbers that modules cite.

#![cfg_attr(not(feature = "cli"), allow(dead_code, unused_imports, reason = "the program uses them"))]
#![cfg_attr(not(feature = "internals"), allow(unreachable_pub, reason = "`internals` shows what is `pub` in a room"))]

mod archive;
mod arrays;
mod catalog;
pub mod chunk;
#[cfg(feature = "cli")]
#[doc(hidden)]
pub mod cli;
mod engine;
mod error;
mod format;
mod index;
mod ingest;
#[cfg(feature = "internals")]
#[doc(hidden)]
pub mod internals;
mod pack;
mod restore;
mod spelling;
mod storage;
#[cfg(test)]
mod testing;

pub use catalog::snapshot::Snapshot;
pub use engine::Store;
pub use engine::add::Writer;
pub use engine::read::reader::Reader;
pub use engine::store::control::Control;
pub use error::{Error, Result};

/// What a snapshot has: entries, their paths and labels, and the ids of what is stored.
pub mod entry {
    pub use crate::catalog::snapshot::{Counts, Entries, Root, SnapshotInfo};
    pub use crate::format::entry::{Content, Entry, EntryKind, EntryPath, Identity, NotAnEntryPath, Xattr};
    pub use crate::format::id::{ChunkId, NotAnId, PackId, RecipeId, RecipesFileId, SnapshotId};
    pub use crate::format::label::{Label, LabelFilter, Labels, NotALabel};
    pub use crate::format::name::{ObjectKind, ObjectName};
}

/// How an operation is asked for. Each request has defaults, and a method for each thing that can be chosen.
pub mod request {
    pub use crate::engine::Settings;
    pub use crate::engine::add::{AddRequest, Archives, WriterOptions};
    pub use crate::engine::ops::bundle::BundleExport;
    pub use crate::engine::ops::export::{ExportRequest, Hdf5Layout, Hdf5Options};
    pub use crate::engine::ops::gc::GcRequest;
    pub use crate::engine::ops::repair::RepairRequest;
    pub use crate::engine::ops::verify::{Depth, VerifyRequest};
    pub use crate::engine::read::get::GetRequest;
    pub use crate::engine::read::reader::ReaderOptions;
    pub use crate::engine::store::labels::{LabelRule, Labelling, NotARule};
    pub use crate::engine::store::snapshots::Selector;
    pub use crate::pack::frame::{Codec, FrameSettings};
}

/// What an operation did, and what it met.
pub mod report {
    pub use crate::engine::add::{AddReport, AddTotals, ClockBehind, Problem};
    pub use crate::engine::ops::bundle::{BundleExportReport, BundleImportReport};
    pub use crate::engine::ops::export::ExportReport;
    pub use crate::engine::ops::gc::GcReport;
    pub use crate::engine::ops::remove::RmReport;
    pub use crate::engine::ops::repair::{RepairReport, RepairedPack, RepairedRecipes, RepairedSnapshot};
    pub use crate::engine::ops::stats::{
        DedupStats, ExtensionStats, GroupChunks, GroupPart, GroupStats, HistogramBucket, MetadataStats, SnapshotStats,
    };
    pub use crate::engine::ops::verify::{Damage, LostFile, VerifyReport};
    pub use crate::engine::read::report::{GetReport, Loss};
    pub use crate::engine::{RebuiltIndex, SnapshotList, SnapshotSummary, UnreadableSnapshot};
    pub use crate::index::IndexStatistics;
    pub use crate::pack::salvage::Lost;
    pub use crate::storage::Holder;
    pub use crate::storage::bundle::BundleFlaw;
}
