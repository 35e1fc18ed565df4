//! How is a tar added? Its members are cut as files of their own, and all else of it is kept beside them.
//!
//! ```text
//! splitter      steps from header to header, and hands out parts in order: batches, and segments of large members
//! batch     read, cut and hash what lies in a batch (workers)
//! assembler  takes the parts back in order; contents and skeleton go their own ways; at the end the table
//! small     an archive among small files: all of it in one worker's memory
//! ```
//!
//! A tar in a file is read by offset, by many workers at once; what is decompressed, or comes through a pipe, is read
//! once, in order, and goes to the workers from there.

mod assembler;
mod batch;
mod small;
pub(in crate::engine) mod source;
mod splitter;
mod strand;

pub(super) use assembler::ArchiveAssembler;
pub(super) use small::{Small, read_small};
pub(super) use splitter::TarSplitter;
pub(super) use strand::assemble;

use std::io;

use crate::archive::{BLOCK_BYTES, Framing, Owner, begins_tar};
use crate::format::archive_form::{ArchiveForm, Compression};
use crate::ingest::{compression_of, has_own_content, id_of_group, id_of_user};

/// Steps through a tar, as every program here does that reads one.
pub(in crate::engine) fn framing() -> Framing {
    Framing::new().with_ids(|owner, name| match owner {
        Owner::User => id_of_user(name),
        Owner::Group => id_of_group(name),
    })
}

/// What becomes of archives.
///
/// ```
/// use seamstore::request::{AddRequest, Archives};
/// let as_plain_files = AddRequest::default().archives(Archives::default().recognise(false));
/// # let _ = as_plain_files;
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Archives {
    pub(crate) recognise: bool,
    pub(crate) stdin_is_tar: bool,
    pub(crate) keep_compressed: bool,
}

impl Archives {
    /// Whether tars are looked for at all.
    #[must_use]
    pub fn recognise(mut self, recognise: bool) -> Self {
        self.recognise = recognise;
        self
    }

    /// Whether standard input is taken for a tar.
    #[must_use]
    pub fn stdin_is_tar(mut self, stdin_is_tar: bool) -> Self {
        self.stdin_is_tar = stdin_is_tar;
        self
    }

    /// Whether a compressed file is kept beside the tar in it. Of standard input it is not.
    #[must_use]
    pub fn keep_compressed(mut self, keep_compressed: bool) -> Self {
        self.keep_compressed = keep_compressed;
        self
    }
}

impl Default for Archives {
    /// Tars are known by their content, standard input is a file like any other, and what is compressed comes back so.
    fn default() -> Self {
        Self { recognise: true, stdin_is_tar: false, keep_compressed: true }
    }
}

/// Bytes at a file's beginning that tell what it may be.
const HEAD_BYTES: usize = BLOCK_BYTES;

/// What a file may be, by how it begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Guess {
    /// It begins with a tar's header.
    Tar,
    /// It is compressed; whether there is a tar in it is to be seen.
    Compressed(Compression),
}

impl Guess {
    pub(super) fn of(head: &[u8]) -> Option<Self> {
        if begins_tar(head) {
            return Some(Self::Tar);
        }
        compression_of(head).map(Self::Compressed)
    }
}

impl Archives {
    /// Whether an archive that was kept in a form need not be added again to be kept as is wanted now.
    pub(super) fn takes(self, form: ArchiveForm) -> bool {
        self.recognise && !(self.keep_compressed && matches!(form, ArchiveForm::TarFrom(_)))
    }

    /// The form that an archive is kept in. A compressed file stays in any case if something is in it that its tar does
    /// not have.
    fn form_of(
        self,
        guess: Guess,
        read_at: impl FnMut(u64, &mut [u8]) -> io::Result<usize>,
    ) -> io::Result<ArchiveForm> {
        Ok(match guess {
            Guess::Tar => ArchiveForm::Tar,
            Guess::Compressed(compression) if self.keep_compressed => ArchiveForm::TarIn(compression),
            Guess::Compressed(Compression::Zstd) if has_own_content(read_at)? => ArchiveForm::TarIn(Compression::Zstd),
            Guess::Compressed(compression) => ArchiveForm::TarFrom(compression),
        })
    }
}
