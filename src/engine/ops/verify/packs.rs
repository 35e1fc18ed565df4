//! Are the packs what was written? Structure first, then runs of frames, in parallel also within a pack.
//!
//! A directory that hashes to its pack's name has a checksum for each frame, so the bytes of a frame need no decoding to
//! be proved; decoding ([`Depth::Full`]) tells whether what was written was right.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};

use super::{Damage, Depth, Shared};
use crate::error::{Error, Result};
use crate::format::directory::{Directory, FrameEntry};
use crate::format::frame::{FrameView, hex};
use crate::format::id::{ChunkId, PackId};
use crate::format::name::ObjectName;
use crate::format::pack::{PACK_HEADER_BYTES, PACK_TRAILER_BYTES};
use crate::format::parse_error::ParseError;
use crate::pack::FrameDecoder;
use crate::pack::reader::{check_pack_header, read_directory};
use crate::storage::Storage;

/// As many bytes of frames are read at once, and are one thread's work.
const RUN_BYTES: u64 = 4 << 20;

/// What was found in packs.
#[derive(Debug, Default)]
pub(super) struct PackFindings {
    pub(super) frames: u64,
    pub(super) chunks: u64,
    /// By pack and offset.
    pub(super) damages: Vec<Damage>,
    /// The packs that are damaged, and how.
    pub(super) bad: HashMap<PackId, BadPack>,
}

/// What cannot be had of a pack. Damages are given by their place in the list.
#[derive(Debug, Default)]
pub(super) struct BadPack {
    /// It has no directory: nothing can be had from it as it is.
    pub(super) unreadable: bool,
    /// Chunks by their ordinals, ascending, and the damage each lies in.
    pub(super) chunks: Vec<(Range<u32>, usize)>,
}

impl BadPack {
    /// The damage that a chunk lies in.
    pub(super) fn damage_of(&self, chunk: u32) -> Option<usize> {
        let after = self.chunks.partition_point(|(chunks, _)| chunks.end <= chunk);
        self.chunks.get(after).filter(|(chunks, _)| chunks.contains(&chunk)).map(|(_, damage)| *damage)
    }
}

/// Damage as a thread finds it.
#[derive(Debug)]
struct FoundDamage {
    pack: PackId,
    damage: Damage,
    chunks: Range<u32>,
    unreadable: bool,
}

/// A thread's decoder and buffers.
struct Scratch {
    decoder: FrameDecoder,
    stored: Vec<u8>,
    raw: Vec<u8>,
}

struct Check<'a> {
    storage: &'a dyn Storage,
    depth: Depth,
    shared: &'a Shared<'a>,
    found: Mutex<Vec<FoundDamage>>,
    counts: Mutex<(u64, u64)>,
    idle: Mutex<Vec<Scratch>>,
}

/// Checks packs, given with their sizes.
pub(super) fn check(
    storage: &dyn Storage,
    packs: &[(PackId, u64)],
    depth: Depth,
    shared: &Shared<'_>,
) -> Result<PackFindings> {
    let check =
        Check { storage, depth, shared, found: Mutex::default(), counts: Mutex::default(), idle: Mutex::default() };
    rayon::scope(|scope| {
        for pack in packs {
            let check = &check;
            // What a thread begins it ends before it takes another pack, so few directories are in memory at a time.
            scope.spawn(move |scope| check.open(scope, pack.0));
        }
    });
    let (frames, chunks) = check.counts.into_inner().unwrap_or_else(PoisonError::into_inner);
    let found = check.found.into_inner().unwrap_or_else(PoisonError::into_inner);
    let mut findings = PackFindings { frames, chunks, ..PackFindings::default() };
    gather(found, &mut findings);
    shared.end(findings)
}

/// Sorts what threads found, and makes one of damages that touch.
fn gather(mut found: Vec<FoundDamage>, findings: &mut PackFindings) {
    found.sort_by_key(|found| (found.pack, found.damage.offset, found.chunks.start));
    for FoundDamage { pack, mut damage, chunks, unreadable } in found {
        damage.chunks = u64::from(chunks.end - chunks.start);
        let touches = |last: &&mut Damage| {
            let is_next = last.bytes > 0 && damage.offset.is_some() && last.end() >= damage.offset;
            last.object == damage.object && is_next || **last == damage
        };
        match findings.damages.last_mut().filter(touches) {
            Some(last) => {
                let end = damage.end().max(last.end());
                last.bytes = end.unwrap_or_default() - last.offset.unwrap_or_default();
                last.chunks += damage.chunks;
            }
            None => findings.damages.push(damage),
        }
        let bad = findings.bad.entry(pack).or_default();
        bad.unreadable |= unreadable;
        if !chunks.is_empty() {
            bad.chunks.push((chunks, findings.damages.len() - 1));
        }
    }
}

impl Check<'_> {
    fn open<'s>(&'s self, scope: &rayon::Scope<'s>, pack: PackId) {
        if self.shared.is_over() {
            return;
        }
        let name = ObjectName::Pack(pack);
        if let Err(error) = check_pack_header(self.storage, &pack) {
            let is_whole = matches!(error, Error::Damaged { offset: None, .. });
            let Some(mut damage) = self.shared.judge(name, error) else { return };
            if !is_whole {
                (damage.offset, damage.bytes) = (Some(0), PACK_HEADER_BYTES as u64);
            }
            self.note(FoundDamage { pack, damage, chunks: 0..0, unreadable: false });
        }
        let directory = match read_directory(self.storage, pack) {
            Ok(directory) => Arc::new(directory),
            Err(error) => {
                let damage = self.shared.judge(name, error);
                self.note_all(damage.map(|damage| FoundDamage { pack, damage, chunks: 0..0, unreadable: true }));
                self.shared.count(1, 0);
                return;
            }
        };
        let around = (PACK_HEADER_BYTES + directory.encoded_bytes() + PACK_TRAILER_BYTES) as u64;
        self.shared.count(1, around);
        {
            let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
            counts.0 += directory.frames.len() as u64;
            counts.1 += directory.chunks.len() as u64;
        }
        if self.depth == Depth::Quick {
            return;
        }
        let mut from = 0;
        while let Some(first) = directory.frames.get(from) {
            let rest = directory.frames.get(from..).unwrap_or_default();
            let to = from + rest.partition_point(|frame| frame.end() <= first.offset + RUN_BYTES).max(1);
            let directory = Arc::clone(&directory);
            scope.spawn(move |_| self.run(pack, &directory, from..to));
            from = to;
        }
    }

    /// Checks some frames that follow each other.
    fn run(&self, pack: PackId, directory: &Directory, frames: Range<usize>) {
        if self.shared.is_over() {
            return;
        }
        let idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let scratch = match idle {
            Some(scratch) => Ok(scratch),
            None => FrameDecoder::for_checked_chunks().map(|decoder| Scratch {
                decoder,
                stored: Vec::new(),
                raw: Vec::new(),
            }),
        };
        let mut scratch = match scratch {
            Ok(scratch) => scratch,
            Err(error) => {
                self.shared.state().failure.get_or_insert(error);
                return;
            }
        };
        let entries = directory.frames.get(frames).unwrap_or_default();
        self.run_with(&mut scratch, pack, directory, entries);
        self.idle.lock().unwrap_or_else(PoisonError::into_inner).push(scratch);
    }

    fn run_with(&self, scratch: &mut Scratch, pack: PackId, directory: &Directory, frames: &[FrameEntry]) {
        let (Some(first), Some(last)) = (frames.first(), frames.last()) else { return };
        let name = ObjectName::Pack(pack);
        // Frames lie within the pack, whose size is known: a run is at most its size, and one frame or RUN_BYTES.
        scratch.stored.resize((last.end() - first.offset) as usize, 0);
        let read = self.storage.read_at(&name, first.offset, &mut scratch.stored);
        if read.is_err() && frames.len() > 1 {
            // A bad sector costs the frame it is in, not those around.
            for frame in frames {
                self.run_with(scratch, pack, directory, std::slice::from_ref(frame));
            }
            return;
        }
        if let Err(error) = read {
            let damage = self.shared.judge(name, error);
            return self.note_all(damage.map(|damage| found(pack, first, damage.what)));
        }
        let Scratch { decoder, stored, raw } = scratch;
        let mut rest = stored.as_slice();
        for frame in frames {
            let (own, after) = rest.split_at_checked(frame.stored_bytes as usize).unwrap_or((rest, &[]));
            rest = after;
            self.frame(decoder, raw, own, (pack, directory, frame));
        }
        self.shared.count(0, stored.len() as u64);
    }

    /// Checks one frame. Of one that is not as it was written, chunks that still come out as their ids say are not lost.
    fn frame(
        &self,
        decoder: &mut FrameDecoder,
        raw: &mut Vec<u8>,
        stored: &[u8],
        (pack, directory, frame): (PackId, &Directory, &FrameEntry),
    ) {
        let changed = check_stored(stored, directory, frame).err().map(|flaw| flaw.what);
        if changed.is_none() && self.depth != Depth::Full {
            return;
        }
        if let Err(error) = decoder.decode(stored, &pack, frame.offset, raw) {
            let judged = self.shared.judge(ObjectName::Pack(pack), error);
            return self.note_all(judged.map(|damage| found(pack, frame, changed.unwrap_or(damage.what))));
        }
        if let Some(what) = &changed {
            self.note(FoundDamage { chunks: 0..0, ..found(pack, frame, what.clone()) });
        }
        let mut rest = raw.as_slice();
        for (ordinal, chunk) in frame.chunks().zip(directory.chunks_of(frame)) {
            let (bytes, after) = rest.split_at_checked(chunk.length as usize).unwrap_or((rest, &[]));
            rest = after;
            let hash = ChunkId::of(bytes);
            if hash != chunk.id {
                let what = || format!("expected chunk {} in this frame, found bytes that hash to {hash}", chunk.id);
                let what = changed.clone().unwrap_or_else(what);
                self.note(FoundDamage { chunks: ordinal..ordinal + 1, ..found(pack, frame, what) });
            }
        }
    }

    fn note(&self, found: FoundDamage) {
        self.note_all(Some(found));
    }

    fn note_all(&self, found: Option<FoundDamage>) {
        self.found.lock().unwrap_or_else(PoisonError::into_inner).extend(found);
    }
}

/// Damage to a whole frame.
fn found(pack: PackId, frame: &FrameEntry, what: String) -> FoundDamage {
    let (object, bytes) = (ObjectName::Pack(pack), u64::from(frame.stored_bytes));
    let damage = Damage { object, offset: Some(frame.offset), bytes, chunks: 0, what };
    FoundDamage { pack, damage, chunks: frame.chunks(), unreadable: false }
}

/// Compares a frame's bytes with what the directory says of it.
fn check_stored(stored: &[u8], directory: &Directory, frame: &FrameEntry) -> Result<(), ParseError> {
    let view = FrameView::parse(stored)?;
    let found = view.header().checksum;
    if found != frame.checksum {
        let what = format!("expected a frame with checksum {}, found {}", hex(&frame.checksum), hex(&found));
        return Err(ParseError::new(0, what));
    }
    view.check()?;
    if !view.lengths().eq(directory.chunks_of(frame).iter().map(|chunk| chunk.length)) {
        return Err(ParseError::new(0, "expected chunks of the lengths that the directory has, found others"));
    }
    Ok(())
}
