//! A stretch of an archive: read, if it is in a file, and its contents cut and hashed.

use std::io;
use std::ops::Range;
use std::sync::Arc;

use crate::archive::Findings;
use crate::chunk::finder::Finder;
use crate::engine::add::batch::{Cut, cut_and_hash};
use crate::engine::add::budget::MemoryPermit;
use crate::engine::add::pool::Buffer;
use crate::engine::add::segment::Origin;
use crate::engine::add::worker::WorkerContext;
use crate::format::archive::{ArchiveForm, Member};

/// A stretch of an archive.
#[derive(Debug)]
pub(in crate::engine::add) struct ArchiveBatch {
    pub(super) origin: Arc<Origin>,
    pub(super) form: ArchiveForm,
    /// Where it lies in the archive.
    pub(super) range: Range<u64>,
    /// Its bytes, where they had to be read in order.
    pub(super) bytes: Option<Buffer>,
    pub(super) parts: Vec<TarPart>,
    /// Set on the last one.
    pub(super) ending: Option<Ending>,
    pub(super) held: Option<MemoryPermit>,
}

/// A part of the stretch; the parts follow each other.
#[derive(Debug)]
pub(super) enum TarPart {
    /// So many bytes of skeleton.
    Skeleton(u64),
    /// A member and so many bytes, which are its content.
    Content(Box<Member>, u64),
    /// A member whose content follows in segments.
    Follows(Box<Member>),
    /// The compressed file follows in segments.
    Original,
}

/// How an archive ends.
#[derive(Debug)]
pub(in crate::engine::add) enum Ending {
    /// All of it was handed out.
    Whole(Findings),
    /// It goes only so far: reading it on failed.
    Cut(Findings, io::Error),
    /// The file cannot be read.
    Failed(io::Error),
    /// It is not what it seemed to be; the file follows as it is, in segments.
    Opaque(io::Error),
}

/// An [`ArchiveBatch`], read and cut.
#[derive(Debug)]
pub(in crate::engine::add) struct ArchiveDone {
    pub(in crate::engine::add) origin: Arc<Origin>,
    pub(in crate::engine::add) form: ArchiveForm,
    pub(in crate::engine::add) data: Buffer,
    pub(in crate::engine::add) parts: Vec<PartDone>,
    pub(in crate::engine::add) ending: Option<Ending>,
    /// Why the bytes could not be read.
    pub(in crate::engine::add) failed: Option<io::Error>,
    /// Whether the file has become shorter.
    pub(in crate::engine::add) shrank: bool,
    _held: Option<MemoryPermit>,
}

/// A part, its bytes by their place in the data.
#[derive(Debug)]
pub(in crate::engine::add) enum PartDone {
    Skeleton(Range<usize>),
    Content(Box<Member>, Vec<Cut>),
    Follows(Box<Member>),
    Original,
}

impl ArchiveBatch {
    /// How many bytes it will hold in memory.
    pub(in crate::engine::add) fn weight(&self) -> usize {
        let member_bytes = |part: &TarPart| match part {
            TarPart::Content(member, _) | TarPart::Follows(member) => {
                size_of::<Member>() + member.path.len() + 16 * member.sparse.len()
            }
            _ => 0,
        };
        let bytes = usize::try_from(self.range.end - self.range.start).unwrap_or_default();
        bytes + self.parts.iter().map(member_bytes).sum::<usize>()
    }

    pub(in crate::engine::add) fn holding(self, held: MemoryPermit) -> Self {
        Self { held: Some(held), ..self }
    }

    pub(in crate::engine::add) fn run(self, context: &WorkerContext) -> ArchiveDone {
        let Self { origin, form, range, bytes, parts, ending, held } = self;
        let mut failed = None;
        let wanted = usize::try_from(range.end - range.start).unwrap_or_default();
        let data = match (bytes, &*origin) {
            (Some(bytes), _) => bytes,
            (None, Origin::File { file, .. }) => {
                // What is in it from its last use need not be set to zeros first.
                let mut data = context.stretches.take();
                data.resize(wanted, 0);
                let filled = file.read_at(range.start, &mut data);
                data.truncate(*filled.as_ref().unwrap_or(&0));
                failed = filled.err();
                data
            }
            (None, Origin::Stream { .. }) => context.small.take_empty(),
        };
        let shrank = data.len() < wanted && failed.is_none();
        let parts = cut_parts(parts, &data, 0, &context.finder);
        ArchiveDone { origin, form, data, parts, ending, failed, shrank, _held: held }
    }
}

/// Cuts the contents of parts that lie one after the other in `data` from `at` on, as far as that goes.
pub(super) fn cut_parts(parts: Vec<TarPart>, data: &[u8], mut at: usize, finder: &Finder) -> Vec<PartDone> {
    let mut take = |bytes: u64| {
        let start = at;
        at = usize::try_from(bytes).map_or(data.len(), |bytes| data.len().min(at.saturating_add(bytes)));
        start..at
    };
    let done = |part| match part {
        TarPart::Skeleton(bytes) => PartDone::Skeleton(take(bytes)),
        TarPart::Content(member, bytes) => {
            let place = take(bytes);
            let mut cuts = Vec::new();
            cut_and_hash(data.get(place.clone()).unwrap_or_default(), place.start, finder, &mut cuts);
            PartDone::Content(member, cuts)
        }
        TarPart::Follows(member) => PartDone::Follows(member),
        TarPart::Original => PartDone::Original,
    };
    parts.into_iter().map(done).collect()
}
