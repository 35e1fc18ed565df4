//! seamstore: content-defined-chunking dedup storage.

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

pub use error::{Error, Result};
