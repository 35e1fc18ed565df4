//! An archive among small files: read whole, stepped through and cut by one worker.

use std::io::Read;
use std::ops::Range;

use super::batch::{PartDone, TarPart, cut_parts};
use super::{Archives, Guess, HEAD_BYTES, framing};
use crate::archive::{Findings, Input, Step, begins_tar};
use crate::chunk::finder::Finder;
use crate::engine::add::batch::{Cut, cut_and_hash};
use crate::format::archive::ArchiveForm;
use crate::ingest::unpack;

/// A compressed file that has more in it is left to be unpacked bit by bit; so much is held of a batch in all.
const UNPACKED_BYTES_MAX: usize = 16 << 20;

/// An archive, read and cut.
#[derive(Debug)]
pub(in crate::engine::add) struct SmallArchive {
    pub(in crate::engine::add) form: ArchiveForm,
    pub(in crate::engine::add) parts: Vec<PartDone>,
    pub(in crate::engine::add) findings: Findings,
    /// The compressed file, if it is to be kept.
    pub(in crate::engine::add) original: Vec<Cut>,
}

/// What became of a small file that may be an archive.
pub(in crate::engine::add) enum Small {
    /// It is one.
    Archive(SmallArchive),
    /// It is one, too large to be unpacked here.
    Large,
    /// It is none.
    Other,
}

/// Reads the file that lies at `place` in `data`. What is in a compressed one is put behind it.
pub(in crate::engine::add) fn read_small(
    guess: Guess,
    archives: Archives,
    data: &mut Vec<u8>,
    place: Range<usize>,
    unpacked_bytes: &mut usize,
    finder: &Finder,
) -> Small {
    let file = data.get(place.clone()).unwrap_or_default();
    // Memory can always be read.
    let form = archives.form_of(guess, |at, buffer| (&mut &*file).read_at(at, buffer)).unwrap_or(ArchiveForm::Tar);
    let mut original = Vec::new();
    let place = match guess {
        Guess::Tar => place,
        Guess::Compressed(compression) => {
            let packed = data.get(place.clone()).unwrap_or_default();
            let room = UNPACKED_BYTES_MAX.saturating_sub(*unpacked_bytes);
            let mut bytes = Vec::new();
            let Ok(mut reader) = unpack(compression, packed) else { return Small::Other };
            let head = (&mut reader).take(HEAD_BYTES as u64).read_to_end(&mut bytes);
            if head.is_err() || !begins_tar(&bytes) {
                return Small::Other;
            }
            if reader.take(room as u64).read_to_end(&mut bytes).is_err() || bytes.len() > room {
                // What is wrong with it is said by whoever reads it bit by bit.
                return Small::Large;
            }
            *unpacked_bytes += bytes.len();
            if matches!(form, ArchiveForm::TarIn(_)) {
                cut_and_hash(packed, place.start, finder, &mut original);
            }
            let start = data.len();
            data.extend_from_slice(&bytes);
            start..data.len()
        }
    };
    let (parts, findings) = steps(data.get(place.clone()).unwrap_or_default());
    let parts = cut_parts(parts, data.get(..place.end).unwrap_or_default(), place.start, finder);
    Small::Archive(SmallArchive { form, parts, findings, original })
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
