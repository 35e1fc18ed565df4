//! How does a snapshot, or a part of it, leave as something that other programs read? One file here for each format.

mod arrays;
mod items;
mod tar;

use std::path::PathBuf;

use crate::engine::get::Selector;
use crate::format::entry::EntryPath;
use crate::format::label::LabelFilter;

/// What to export.
#[derive(Debug, Clone)]
pub struct ExportRequest {
    /// The path, as stored or as it was given to add; empty for all of a snapshot.
    pub path: PathBuf,
    /// Which snapshot to take it from.
    pub snapshot: Selector,
    /// Worker threads; at least 1.
    pub threads: usize,
    /// Only files (and anything else that is no directory) with these labels, and the directories that lead to them.
    pub labels: LabelFilter,
}

/// What an export did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ExportReport {
    /// Entries written; to arrays: files.
    pub entries: u64,
    /// Entries that arrays do not have, but the table beside them: directories, links, further names of files.
    pub others: u64,
    /// Bytes of the files among them.
    pub bytes: u64,
    /// Bytes written in all, before they were compressed; to arrays: all but headers.
    pub written_bytes: u64,
    /// Entries that the format cannot hold, and why.
    pub left_out: Vec<(EntryPath, String)>,
}
