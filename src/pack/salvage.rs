//! What can still be had from a pack whose end is lost, or that is damaged in the middle?
//!
//! The pack is walked from its front by frame headers; the directory is a help, not a need. Where no intact frame
//! lies, the walk goes on at the next one: at the next place the directory tells of, or else where a frame's magic
//! begins and its checksum is right.
//!
//! Invariant: a frame that is handed out has the checksum it was written with, decodes, and its chunk ids were
//! computed from its chunks in this call; nothing in the pack is believed about them. Or it was made here, of chunks
//! that came out of a damaged frame and hash to the ids that the directory has for them. Time is bounded by the pack's
//! size even if every byte of it is made to look like the beginning of a frame.

use std::collections::HashSet;
use std::ops::Range;

use super::frame::{FrameDecoder, FrameEncoder, FrameSettings};
use super::reader::{check_pack_header, read_directory, read_trailer};
use crate::error::{Error, Result};
use crate::format::directory::Directory;
use crate::format::frame::{FRAME_HEADER_BYTES, FRAME_MAGIC, FRAME_STORED_BYTES_MAX, FrameHeader};
use crate::format::id::{ChunkId, PackId};
use crate::format::name::ObjectName;
use crate::format::pack::PACK_HEADER_BYTES;
use crate::storage::Storage;

/// Bytes of the pack held at a time: two of the largest frames, so that a search moves on by one before it reads again.
pub(super) const WINDOW_BYTES: usize = 2 * FRAME_STORED_BYTES_MAX;

/// What fails to be read as a whole is read in pieces of this size, so that a bad sector costs little around it.
const PAGE_BYTES: usize = 4096;

/// One intact frame of a damaged pack, or one made of the intact chunks of a damaged frame.
#[derive(Debug)]
pub struct SalvagedFrame<'a> {
    /// Where it was found, in bytes from the start of the pack.
    #[cfg_attr(not(any(test, feature = "internals")), expect(dead_code, reason = "only tests compare it"))]
    pub offset: u64,
    /// The frame as it is to be stored: what [`super::PackWriter::push_frame`] takes.
    pub encoded: &'a [u8],
    /// The ids of its chunks, computed from their bytes.
    pub ids: &'a [ChunkId],
    /// The lengths of its chunks.
    pub lengths: &'a [u32],
}

/// A stretch of a pack that holds no intact frame.
///
/// ```
/// # use seamstore::{Control, Store, entry::*, report::*, request::*};
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let store = Store::in_memory(Settings::default())?;
/// # let writer = store.writer(WriterOptions::default().threads(1))?;
/// # writer.add_bytes(writer.entry("notes/first.txt", EntryKind::File)?, b"found again".to_vec())?;
/// # let added = writer.finish()?;
/// # let control = Control::default();
/// let report = store.repair(&RepairRequest::default().dry_run(true), &control)?;
/// for Lost { bytes, why, .. } in report.packs.iter().flat_map(|pack| &pack.lost) {
///     eprintln!("bytes {} to {}: {why}", bytes.start, bytes.end);
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Lost {
    /// Which bytes of the pack.
    pub bytes: Range<u64>,
    /// What was found at its start instead of what was expected.
    pub why: String,
}

/// What came out of a pack.
#[derive(Debug, Default)]
pub struct Salvage {
    /// Intact frames, and those made of intact chunks.
    pub frames: u64,
    /// Chunks in them.
    pub chunks: u64,
    /// What was lost, by ascending offset. Empty if and only if the pack is whole.
    pub lost: Vec<Lost>,
    /// The chunks that are lost, if the directory is there to tell; each once.
    pub lost_chunks: Option<Vec<ChunkId>>,
}

/// Hands every intact frame of a pack to `take`, in the order of their offsets, and reports what is lost. Where the
/// directory is there, what is intact in a damaged frame is handed over as a frame of its own.
///
/// # Errors
/// [`Error::NotFound`] if there is no such pack; what `take` returns. Bytes that cannot be read count as damaged.
pub fn salvage(
    storage: &dyn Storage,
    pack: PackId,
    take: &mut dyn FnMut(&SalvagedFrame<'_>) -> Result<()>,
) -> Result<Salvage> {
    let name = ObjectName::Pack(pack);
    let pack_bytes = storage.size(&name)?;
    let mut report = Salvage::default();
    if let Err(e) = check_pack_header(storage, &pack) {
        report.lost.push(Lost { bytes: 0..pack_bytes.min(PACK_HEADER_BYTES as u64), why: e.to_string() });
    }
    let directory = read_directory(storage, pack);
    let frames_end = match (&directory, read_trailer(storage, pack, pack_bytes)) {
        (Ok(directory), _) => directory.frames_end(),
        (Err(_), Ok((trailer, ..))) => trailer.directory_offset,
        (Err(_), Err(_)) => pack_bytes,
    };
    let mut walk = Walk::new(storage, pack, frames_end)?;
    let mut saved = HashSet::new();
    let mut at = PACK_HEADER_BYTES as u64;
    while at < frames_end {
        let next = match (walk.read_frame(at), &directory) {
            (Ok(()), _) => at + walk.encoded.len() as u64,
            (Err(why), Ok(directory)) => {
                let next = next_in(directory, at);
                report.lost.push(Lost { bytes: at..next, why: why.to_string() });
                walk.rescue(directory, at)?;
                next
            }
            (Err(why), Err(_)) => {
                let next = walk.search(at + 1);
                report.lost.push(Lost { bytes: at..next, why: why.to_string() });
                at = next;
                continue;
            }
        };
        if !walk.ids.is_empty() {
            take(&walk.frame(at))?;
            report.frames += 1;
            report.chunks += walk.ids.len() as u64;
            if directory.is_ok() {
                saved.extend(walk.ids.iter().copied());
            }
        }
        at = next;
    }
    match directory {
        Ok(directory) => {
            let missing = directory.chunks.iter().map(|chunk| chunk.id).filter(|id| saved.insert(*id));
            report.lost_chunks = Some(missing.collect());
        }
        Err(e) => report.lost.push(Lost { bytes: frames_end..pack_bytes, why: e.to_string() }),
    }
    Ok(report)
}

/// Where the first frame after `at` begins, or where frames end.
fn next_in(directory: &Directory, at: u64) -> u64 {
    let next = directory.frames.partition_point(|frame| frame.offset <= at);
    directory.frames.get(next).map_or(directory.frames_end(), |frame| frame.offset)
}

/// The way through a pack: a window of its bytes, and the frame that was read last.
struct Walk<'a> {
    storage: &'a dyn Storage,
    pack: PackId,
    end: u64,
    window: Vec<u8>,
    window_at: u64,
    /// Bytes that may still be hashed or decoded for frames that turn out to be none.
    budget: u64,
    decoder: FrameDecoder,
    raw: Vec<u8>,
    encoded: Vec<u8>,
    ids: Vec<ChunkId>,
    lengths: Vec<u32>,
}

impl<'a> Walk<'a> {
    fn new(storage: &'a dyn Storage, pack: PackId, end: u64) -> Result<Self> {
        Ok(Self {
            storage,
            pack,
            end,
            window: Vec::new(),
            window_at: 0,
            budget: end.saturating_mul(4).saturating_add(WINDOW_BYTES as u64),
            decoder: FrameDecoder::new()?,
            raw: Vec::new(),
            encoded: Vec::new(),
            ids: Vec::new(),
            lengths: Vec::new(),
        })
    }

    /// Reads the frame at `at`, or says why none is there.
    fn read_frame(&mut self, at: u64) -> Result<()> {
        let name = ObjectName::Pack(self.pack);
        let header =
            FrameHeader::parse(self.bytes(at, FRAME_HEADER_BYTES)?).map_err(|flaw| flaw.in_object(&name, at))?;
        let mut encoded = std::mem::take(&mut self.encoded);
        encoded.clear();
        encoded.extend_from_slice(self.bytes(at, header.stored_bytes())?);
        self.encoded = encoded;
        let frame = match self.decoder.decode(&self.encoded, &self.pack, at, &mut self.raw) {
            Ok(frame) => frame,
            Err(e) => {
                let wasted = header.stored_bytes() + header.raw_bytes as usize;
                self.budget = self.budget.saturating_sub(wasted as u64);
                return Err(e);
            }
        };
        self.ids.clear();
        self.lengths.clear();
        let mut rest = self.raw.as_slice();
        for length in frame.lengths() {
            let (chunk, after) = rest.split_at_checked(length as usize).unwrap_or((rest, &[]));
            self.ids.push(ChunkId::of(chunk));
            self.lengths.push(length);
            rest = after;
        }
        Ok(())
    }

    /// Makes a frame of those chunks of a damaged one that are as the directory says; of none if there are none.
    fn rescue(&mut self, directory: &Directory, at: u64) -> Result<()> {
        self.ids.clear();
        self.lengths.clear();
        let found = directory.frames.binary_search_by_key(&at, |frame| frame.offset);
        let Some(entry) = found.ok().and_then(|n| directory.frames.get(n)) else { return Ok(()) };
        let Ok(stored) = self.bytes(at, entry.stored_bytes as usize).map(<[u8]>::to_vec) else { return Ok(()) };
        if FrameDecoder::for_checked_chunks()?.decode(&stored, &self.pack, at, &mut self.raw).is_err() {
            return Ok(());
        }
        let mut intact = Vec::new();
        let mut rest = self.raw.as_slice();
        for chunk in directory.chunks_of(entry) {
            let (bytes, after) = rest.split_at_checked(chunk.length as usize).unwrap_or((rest, &[]));
            rest = after;
            if bytes.len() == chunk.length as usize && ChunkId::of(bytes) == chunk.id {
                intact.extend_from_slice(bytes);
                self.ids.push(chunk.id);
                self.lengths.push(chunk.length);
            }
        }
        self.encoded.clear();
        if self.ids.is_empty() {
            return Ok(());
        }
        FrameEncoder::new(FrameSettings::default())?.encode(&intact, &self.lengths, &mut self.encoded)
    }

    /// The frame that was read last.
    fn frame(&self, offset: u64) -> SalvagedFrame<'_> {
        SalvagedFrame { offset, encoded: &self.encoded, ids: &self.ids, lengths: &self.lengths }
    }

    /// The first place from `at` on where an intact frame begins, or the end.
    fn search(&mut self, mut at: u64) -> u64 {
        while at < self.end && self.budget > 0 {
            let Ok(bytes) = self.bytes(at, FRAME_HEADER_BYTES.min((self.end - at) as usize)) else { break };
            debug_assert!(!bytes.is_empty());
            let window = self.window.get((at - self.window_at) as usize..).unwrap_or_default();
            let Some(skip) = window.windows(FRAME_MAGIC.len()).position(|four| four == FRAME_MAGIC) else {
                // The magic may lie across the end of the window.
                let searched = window.len().saturating_sub(FRAME_MAGIC.len() - 1).max(1);
                at += searched as u64;
                continue;
            };
            at += skip as u64;
            if self.read_frame(at).is_ok() {
                return at;
            }
            at += 1;
        }
        self.end
    }

    /// `count` bytes of the pack from `at` on.
    fn bytes(&mut self, at: u64, count: usize) -> Result<&[u8]> {
        let available = self.end.saturating_sub(at);
        if (count as u64) > available {
            let what = format!("expected {count} bytes of a frame, found {available}");
            return Err(Error::damaged(ObjectName::Pack(self.pack).path(), at, what));
        }
        let window_end = self.window_at + self.window.len() as u64;
        if at < self.window_at || at + count as u64 > window_end {
            self.window.resize(available.min(WINDOW_BYTES as u64) as usize, 0);
            self.window_at = at;
            self.fill_window();
        }
        let from = (at - self.window_at) as usize;
        Ok(self.window.get(from..from + count).unwrap_or_default())
    }

    /// Reads what the window is to hold; what cannot be read becomes zeros, which no checksum takes for a frame.
    fn fill_window(&mut self) {
        let name = ObjectName::Pack(self.pack);
        if self.storage.read_at(&name, self.window_at, &mut self.window).is_ok() {
            return;
        }
        let mut at = self.window_at;
        for page in self.window.chunks_mut(PAGE_BYTES) {
            if self.storage.read_at(&name, at, page).is_err() {
                page.fill(0);
            }
            at += page.len() as u64;
        }
    }
}
