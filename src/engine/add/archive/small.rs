//! An archive among small files: read whole, stepped through and cut by one worker.

use std::io::Read;
use std::ops::Range;

use super::assembler::{ArchiveAssembler, Assembled, PartSink};
use super::batch::cut_parts;
use super::{Guess, HEAD_BYTES, framing};
use crate::archive::{Findings, Input, Step, begins_tar};
use crate::engine::add::cutter::{Cutter, note_fresh};
use crate::engine::add::task::{FreshChunk, Lane, TarPart};
use crate::error::Result;
use crate::format::archive_form::ArchiveForm;
use crate::format::id::ChunkId;
use crate::ingest::unpack;

/// A compressed file that has more in it is left to be unpacked bit by bit; so much is held of a batch in all.
const UNPACKED_BYTES_MAX: usize = 16 << 20;

/// What became of a small file that may be an archive.
pub(in crate::engine::add) enum Small {
    /// It is one.
    Archive(Assembled),
    /// It is one, too large to be unpacked here.
    Large,
    /// It is not an archive.
    Other,
}

/// Reads the file that lies at `place` of the batch's bytes. What is in a compressed one is put behind it, and its fresh
/// chunks are listed in the order in which the chunks of a large archive are taken.
pub(in crate::engine::add) fn read_small(
    guess: Guess,
    cutter: &mut Cutter<'_, '_, '_>,
    place: Range<usize>,
    unpacked_bytes: &mut usize,
) -> Result<Small> {
    let context = cutter.context;
    let file = cutter.bytes.get(place.clone()).unwrap_or_default();
    // Memory can always be read.
    let form =
        context.archives.form_of(guess, |at, buffer| (&mut &*file).read_at(at, buffer)).unwrap_or(ArchiveForm::Tar);
    let file_at = place.clone();
    let place = match guess {
        Guess::Tar => place,
        Guess::Compressed(compression) => {
            let room = UNPACKED_BYTES_MAX.saturating_sub(*unpacked_bytes);
            let mut bytes = Vec::new();
            let Ok(mut reader) = unpack(compression, file) else { return Ok(Small::Other) };
            let head = (&mut reader).take(HEAD_BYTES as u64).read_to_end(&mut bytes);
            if head.is_err() || !begins_tar(&bytes) {
                return Ok(Small::Other);
            }
            if reader.take(room as u64).read_to_end(&mut bytes).is_err() || bytes.len() > room {
                // What is wrong with it is said by the one that reads it bit by bit.
                return Ok(Small::Large);
            }
            *unpacked_bytes += bytes.len();
            let start = cutter.bytes.len();
            cutter.bytes.extend_from_slice(&bytes);
            start..cutter.bytes.len()
        }
    };
    let (parts, findings) = steps(cutter.bytes.get(place.clone()).unwrap_or_default());
    let before = std::mem::take(&mut cutter.fresh);
    let mut pieces = Vec::new();
    let parts = cut_parts(parts, cutter, place.start, &mut pieces)?;
    let contents_end = cutter.fresh.len();
    let mut original = Vec::new();
    if matches!(form, ArchiveForm::TarIn(_)) {
        cutter.cut(file_at, &mut original)?;
    }
    let found = std::mem::replace(&mut cutter.fresh, before);
    let mut assembler = ArchiveAssembler::new(form, context.finder.clone())?;
    let mut sink = BatchSink { cutter, found: &found };
    assembler.take_parts(parts, &pieces, &mut sink)?;
    assembler.take_original(original, contents_end..found.len(), &mut sink);
    Ok(Small::Archive(assembler.finish(&findings, None, &mut sink)?))
}

/// Lists chunks in order. What does not lie in the batch's bytes is appended to them.
struct BatchSink<'k, 'c, 'a, 's> {
    cutter: &'k mut Cutter<'c, 'a, 's>,
    /// The fresh chunks of contents and of the compressed file.
    found: &'k [FreshChunk],
}

impl PartSink for BatchSink<'_, '_, '_, '_> {
    fn bytes(&self, place: Range<usize>) -> &[u8] {
        self.cutter.bytes.get(place).unwrap_or_default()
    }

    fn take(&mut self, fresh: Range<usize>) {
        self.cutter.fresh.extend_from_slice(self.found.get(fresh).unwrap_or_default());
    }

    fn take_bytes(&mut self, id: &ChunkId, bytes: &[u8], lane: Lane) -> Result<()> {
        let start = self.cutter.bytes.len();
        let place = start..start + bytes.len();
        let count = self.cutter.fresh.len();
        note_fresh(self.cutter.context.chunk_index, &mut self.cutter.fresh, *id, place, lane)?;
        if self.cutter.fresh.len() > count {
            self.cutter.bytes.extend_from_slice(bytes);
        }
        Ok(())
    }
}

/// The parts of an archive in memory, which tile it.
fn steps(bytes: &[u8]) -> (Vec<TarPart>, Findings) {
    let mut framing = framing();
    let mut parts = Vec::new();
    let size = bytes.len() as u64;
    let mut at = 0;
    let mut is_cut = false;
    // Memory can always be read.
    while let Ok(Some(step)) = framing.next(&mut &*bytes) {
        let (skeleton_end, member) = match step {
            Step::Skeleton => (framing.position(), None),
            Step::Member(member, content_at) => (content_at, Some(member)),
            Step::Rest => (size, None),
        };
        is_cut |= skeleton_end > size;
        let skeleton_end = skeleton_end.min(size);
        parts.push(TarPart::Skeleton(skeleton_end.saturating_sub(at)));
        at = at.max(skeleton_end);
        if let Some(member) = member {
            let content = member.content_bytes.min(size - at);
            is_cut |= content < member.content_bytes;
            parts.push(TarPart::Content(member, content));
            at += content;
        }
        if is_cut {
            break;
        }
    }
    parts.push(TarPart::Skeleton(size - at));
    let findings = framing.findings().clone();
    (parts, Findings { no_end: findings.no_end || is_cut, ..findings })
}
