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
//! name     each chunk by the BLAKE3 of its bytes                   format::id
//! dedup    is it in the store already?                             index
//! frame    new chunks, compressed together                         pack
//! pack     frames, with a directory at the end: durable            pack, storage
//! recipe   a content's list of chunks: durable                     catalog
//! snapshot a row for each entry; its appearance is the commit      catalog
//! ```
//!
//! and out again, by [`Store::get`] and [`Store::read`], the same road back: snapshot, recipe, index, frames, chunks
//! checked against their ids, bytes at their places ([`restore`]).
//!
//! ```
//! use seamstore::{AddRequest, Control, GetRequest, Selector, Settings, Store};
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let folder = tempfile::tempdir()?;
//! let file = folder.path().join("notes.txt");
//! std::fs::write(&file, "found again")?;
//!
//! let store = Store::open_or_init(&folder.path().join("store"), Settings::default())?;
//! let control = Control::default();
//! let request =
//!     AddRequest { paths: vec![file.clone()], tags: vec!["first".to_owned()], ..AddRequest::default() };
//! let report = store.add(&request, &control)?;
//! assert_eq!((report.totals.files, report.totals.new_bytes), (1, 11));
//!
//! // A path is asked for as it was given.
//! let wanted = GetRequest { path: file, snapshot: Selector::Latest, ..GetRequest::default() };
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
//! those of [`chunk::rule`]:
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
//! Imports point down only. What stands between bars never imports its neighbours; they meet in [`engine`].
//!
//! ```text
//! cli  →  engine  →  archive | arrays | chunk | pack | index | catalog | ingest | restore  →  storage  →  format
//! ```
//!
//! Every module begins with the question it answers and the invariant it keeps. `docs/design.md` in the repository has
//! the words, a table for every byte of a store, and the nine invariants by the numbers that modules cite.

pub mod archive;
pub mod arrays;
pub mod catalog;
pub mod chunk;
pub mod cli;
pub mod engine;
pub mod error;
pub mod format;
pub mod index;
pub mod ingest;
pub mod pack;
pub mod restore;
pub mod storage;
#[cfg(test)]
mod testing;

pub use chunk::Profile;
pub use engine::add::{AddReport, AddRequest, Archives, Writer, WriterOptions};
pub use engine::control::Control;
pub use engine::get::{GetReport, GetRequest, Selector};
pub use engine::labels::{LabelRule, Labelling};
pub use engine::reader::{Reader, ReaderOptions};
pub use engine::{Settings, Store};
pub use error::{Error, Result};
pub use format::label::{Label, LabelFilter, Labels};
