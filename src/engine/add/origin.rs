//! Which large file or stream is this? What its segments share, and what becomes its entry.

use std::io;
use std::path::Path;
use std::sync::Arc;

use super::report::Problem;
use super::task::Problems;
use crate::error::Error;
use crate::format::entry::{Content, Entry};
use crate::ingest::{HEAD_BYTES, Metadata, OpenFile, WalkedEntry};

/// Where a big file's bytes come from.
#[derive(Debug)]
pub(super) enum Origin {
    File { found: Box<WalkedEntry>, file: OpenFile },
    Stream { entry: Box<Entry> },
}

impl Origin {
    /// Opens a big file.
    pub(super) fn open(found: WalkedEntry) -> Result<Arc<Self>, Problem> {
        let file = OpenFile::open(&found).map_err(|error| Problem::unread(&found, &error))?;
        Ok(Arc::new(Self::File { found: Box::new(found), file }))
    }

    /// The entry of a file that was read so far, without its content, and what is to be said of it.
    pub(super) fn entry(&self, end: u64, shrank: bool, metadata: &Metadata) -> Result<(Entry, Problems), Problem> {
        let (found, file) = match self {
            Self::Stream { entry } => return Ok((Entry { size: end, ..(**entry).clone() }, Problems::new())),
            Self::File { found, file } => (found, file),
        };
        // What was unpacked may be shorter than the file. Nothing was read behind its size.
        let read_to = if shrank { 0 } else { end.max(file.stat().size) };
        let changed = file.difference(read_to, shrank).map_err(|error| self.skipped(error))?;
        let completed = metadata.complete_open(found, file);
        let mut problems: Problems =
            completed.lost.iter().map(|error| Problem::incomplete(&found.disk, error)).collect();
        problems.extend(changed.map(|changed| Problem::changed(&found.disk, changed)));
        Ok((Entry { size: end, content: Content::Empty, ..completed.entry }, problems))
    }

    /// A file's first bytes; none of what is no file, or cannot be read.
    pub(super) fn head(&self) -> Vec<u8> {
        match self {
            Self::Stream { .. } => Vec::new(),
            Self::File { file, .. } => file.head(HEAD_BYTES).unwrap_or_default(),
        }
    }

    /// What is said of a file that could not be read.
    pub(super) fn skipped(&self, error: io::Error) -> Problem {
        Problem::skipped(self.path(), &Error::io("read", self.path(), error))
    }

    /// Where it is, or what it is called.
    pub(super) fn path(&self) -> &Path {
        match self {
            Self::Stream { entry } => entry.path.as_path(),
            Self::File { found, .. } => &found.disk,
        }
    }
}
