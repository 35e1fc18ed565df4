//! A part of an archive: read, if it is in a file, and its contents cut, hashed and looked up.

use std::sync::Arc;

use crate::archive::Findings;
use crate::engine::add::budget::MemoryPermit;
use crate::engine::add::cutter::Cutter;
use crate::engine::add::origin::Origin;
use crate::engine::add::task::{ArchiveBatch, ArchiveDone, Block, Ending, PartDone, TarPart};
use crate::engine::add::worker::WorkerContext;
use crate::error::Result;
use crate::format::archive::Member;
use crate::format::recipe::Piece;

impl ArchiveBatch {
    /// Bytes that it will hold in memory.
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

    /// # Errors
    /// The index cannot be asked.
    pub(in crate::engine::add) fn run(self, context: &WorkerContext<'_, '_>) -> Result<ArchiveDone> {
        let Self { origin, form, range, bytes, parts, ending, held } = self;
        let mut failed = None;
        let wanted = usize::try_from(range.end - range.start).unwrap_or_default();
        let bytes = match (bytes, &*origin) {
            (Some(bytes), _) => bytes,
            (None, Origin::File { file, .. }) => {
                // What is in it from its last use need not be set to zeros first.
                let mut bytes = context.pools.stretches.take();
                bytes.resize(wanted, 0);
                let filled = file.read_at(range.start, &mut bytes);
                bytes.truncate(*filled.as_ref().unwrap_or(&0));
                failed = filled.err();
                bytes
            }
            (None, Origin::Stream { .. }) => context.pools.small.take_empty(),
        };
        let shrank = bytes.len() < wanted && failed.is_none();
        let mut cutter = Cutter::new(context, bytes);
        let mut pieces = Vec::new();
        let parts = cut_parts(parts, &mut cutter, 0, &mut pieces)?;
        let Cutter { bytes, fresh, .. } = cutter;
        let block = Arc::new(Block { bytes, _held: held });
        Ok(ArchiveDone { origin, form, block, fresh, pieces, parts, ending, failed, shrank })
    }
}

/// Cuts the contents of parts that lie one after the other from `at` on, as far as that goes.
pub(super) fn cut_parts(
    parts: Vec<TarPart>,
    cutter: &mut Cutter<'_, '_, '_>,
    mut at: usize,
    pieces: &mut Vec<Piece>,
) -> Result<Vec<PartDone>> {
    let end = cutter.bytes.len();
    let mut take = |bytes: u64| {
        let start = at;
        at = usize::try_from(bytes).map_or(end, |bytes| end.min(at.saturating_add(bytes)));
        start..at
    };
    let mut done = |part| {
        Ok(match part {
            TarPart::Skeleton(bytes) => PartDone::Skeleton(take(bytes)),
            TarPart::Content(member, bytes) => {
                cutter.cut(take(bytes), pieces)?;
                PartDone::Content { member, pieces_end: pieces.len(), fresh_end: cutter.fresh.len() }
            }
            TarPart::Follows(member) => PartDone::Follows(member),
            TarPart::Original => PartDone::Original,
        })
    };
    parts.into_iter().map(&mut done).collect()
}

impl Ending {
    /// The findings, and why the archive goes no further.
    pub(in crate::engine::add) fn findings(&self) -> Option<(&Findings, Option<&std::io::Error>)> {
        match self {
            Self::Whole(findings) => Some((findings, None)),
            Self::Cut(findings, error) => Some((findings, Some(error))),
            Self::Failed(_) | Self::Opaque(_) => None,
        }
    }
}
