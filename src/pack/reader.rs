//! What does a stored pack hold, and how does a frame come out of it?
//!
//! Invariant: a directory that is handed out has the hash that the pack is named by, so it is what was written.

use crate::error::{Error, Result};
use crate::format::directory::{Directory, FrameEntry};
use crate::format::frame::{CHECKSUM_AT, FRAME_HEADER_BYTES, hex};
use crate::format::id::PackId;
use crate::format::name::ObjectName;
use crate::format::pack::{PACK_HEADER_BYTES, PACK_TRAILER_BYTES, Trailer, check_header};
use crate::storage::Storage;

/// How much of a pack's end is read at once: the whole directory of most packs of less than 1,800 chunks.
const TAIL_BYTES: u64 = 64 << 10;

/// Reads a pack's directory: one read for a short one, two for any other.
///
/// # Errors
/// [`Error::NotFound`] if there is no such pack; [`Error::Damaged`] if its end is not what was written; the storage's.
pub fn read_directory(storage: &dyn Storage, pack: PackId) -> Result<Directory> {
    let name = ObjectName::Pack(pack);
    let pack_bytes = storage.size(&name)?;
    let (trailer, tail, tail_at) = read_trailer(storage, pack, pack_bytes)?;
    let mut longer = Vec::new();
    let directory = match trailer.directory_offset.checked_sub(tail_at) {
        Some(skip) => tail.get(skip as usize..).and_then(|rest| rest.get(..trailer.directory_bytes as usize)),
        None => {
            longer.resize(trailer.directory_bytes as usize, 0);
            storage.read_at(&name, trailer.directory_offset, &mut longer)?;
            Some(longer.as_slice())
        }
    };
    let directory = directory.unwrap_or_default();
    let found = PackId::of_directory(directory);
    if found != pack {
        let what = format!("expected a directory with hash {pack}, found {found}");
        return Err(Error::damaged(name.path(), trailer.directory_offset, what));
    }
    let at = trailer.directory_offset;
    let directory = Directory::parse(directory).map_err(|flaw| flaw.in_object(&name, at))?;
    if directory.frames_end() != at {
        let what = format!("expected frames up to byte {at}, found them up to {}", directory.frames_end());
        return Err(Error::damaged(name.path(), at, what));
    }
    Ok(directory)
}

/// The trailer, and the end of the pack that was read to have it, with where that begins.
pub(super) fn read_trailer(storage: &dyn Storage, pack: PackId, pack_bytes: u64) -> Result<(Trailer, Vec<u8>, u64)> {
    let name = ObjectName::Pack(pack);
    if pack_bytes < (PACK_HEADER_BYTES + PACK_TRAILER_BYTES) as u64 {
        let what = format!("expected a pack of 88 bytes or more, found {pack_bytes}");
        return Err(Error::damaged_whole(name.path(), what));
    }
    let tail_at = pack_bytes.saturating_sub(TAIL_BYTES);
    let mut tail = vec![0; (pack_bytes - tail_at) as usize];
    storage.read_at(&name, tail_at, &mut tail)?;
    let trailer_at = pack_bytes - PACK_TRAILER_BYTES as u64;
    let bytes = tail.get((trailer_at - tail_at) as usize..).unwrap_or_default();
    let trailer = Trailer::parse(bytes, pack_bytes).map_err(|flaw| flaw.in_object(&name, trailer_at))?;
    if trailer.pack != pack {
        let what = format!("expected a pack named {pack}, found {}", trailer.pack);
        return Err(Error::damaged(name.path(), trailer_at + 16, what));
    }
    Ok((trailer, tail, tail_at))
}

/// Compares a pack's first bytes with what they must be. Together with [`read_directory`] and every frame of it read
/// by [`read_frame`] and checked, this covers all bytes of a pack.
///
/// # Errors
/// [`Error::Damaged`], or the storage's.
pub fn check_pack_header(storage: &dyn Storage, pack: &PackId) -> Result<()> {
    let name = ObjectName::Pack(*pack);
    let mut bytes = [0; PACK_HEADER_BYTES];
    storage.read_at(&name, 0, &mut bytes)?;
    check_header(&bytes).map_err(|flaw| flaw.in_object(&name, 0))
}

/// Replaces `buffer` by the bytes of a frame, header and all, as the pack has them: what a
/// [`super::FrameDecoder`] takes.
///
/// # Errors
/// [`Error::Damaged`] if the pack ends too early or another frame lies there than the directory says; the storage's.
pub fn read_frame(storage: &dyn Storage, pack: &PackId, frame: &FrameEntry, buffer: &mut Vec<u8>) -> Result<()> {
    let name = ObjectName::Pack(*pack);
    buffer.resize(frame.stored_bytes as usize, 0);
    storage.read_at(&name, frame.offset, buffer)?;
    let found = buffer.get(CHECKSUM_AT..FRAME_HEADER_BYTES).unwrap_or_default();
    if found != frame.checksum {
        let what = format!("expected a frame with checksum {}, found {}", hex(&frame.checksum), hex(found));
        return Err(Error::damaged(name.path(), frame.offset + CHECKSUM_AT as u64, what));
    }
    Ok(())
}
