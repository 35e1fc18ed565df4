//! How does one frame come out of its pack? Read, decoded, and its chunks compared with their ids.
//!
//! Invariant 4 rests on the ids alone, so the frame's own checksum is not computed on the way out: it would hash the
//! frame a second time. Only when something is wrong does it say what: the frame's bytes, or what was put into it.

use crate::error::{Error, Result};
use crate::format::frame::FrameView;
use crate::format::id::{ChunkId, PackId};
use crate::format::name::ObjectName;
use crate::pack::frame::FrameDecoder;
use crate::storage::Storage;

/// Reads frames; one for each thread that does. Its buffers grow to the largest frame it met.
#[derive(Debug)]
pub(super) struct FrameReader {
    decoder: FrameDecoder,
    stored: Vec<u8>,
    raw: Vec<u8>,
}

impl FrameReader {
    pub(super) fn new() -> Result<Self> {
        Ok(Self { decoder: FrameDecoder::for_checked_chunks()?, stored: Vec::new(), raw: Vec::new() })
    }

    /// The decoded bytes of the frame that `read` puts into the buffer it is given.
    ///
    /// # Errors
    /// What `read` answers; [`Error::Damaged`] if that is no frame.
    pub(super) fn frame(
        &mut self,
        pack: &PackId,
        offset: u64,
        read: impl FnOnce(&mut Vec<u8>) -> Result<()>,
    ) -> Result<&[u8]> {
        read(&mut self.stored)?;
        match self.decoder.decode(&self.stored, pack, offset, &mut self.raw) {
            Ok(_) => Ok(&self.raw),
            Err(error) => {
                self.raw.clear();
                // A payload that does not decode has bytes that were changed: rather say so.
                Err(self.changed(pack, offset).unwrap_or(error))
            }
        }
    }

    /// The first `end` bytes at least of what [`FrameReader::frame`] gives, if they are right, which chunk ids tell. If
    /// they are not, ask for the frame.
    pub(super) fn front(
        &mut self,
        pack: &PackId,
        offset: u64,
        end: usize,
        read: impl FnOnce(&mut Vec<u8>) -> Result<()>,
    ) -> Result<&[u8]> {
        read(&mut self.stored)?;
        self.decoder.decode_front(&self.stored, pack, offset, end, &mut self.raw)?;
        Ok(&self.raw)
    }

    /// Bytes of a pack as they are.
    ///
    /// # Errors
    /// As [`Storage::read_at`].
    pub(super) fn stretch(&mut self, storage: &dyn Storage, pack: &PackId, offset: u64, bytes: u32) -> Result<&[u8]> {
        read_stored(storage, pack, offset, bytes as usize, &mut self.stored)?;
        Ok(&self.stored)
    }

    /// The decoded bytes of the frame that was read last.
    pub(super) fn raw(&self) -> &[u8] {
        &self.raw
    }

    /// Why a chunk of the frame that was read last does not have its id.
    pub(super) fn damaged(&self, storage: &dyn Storage, pack: &PackId, offset: u64, id: &ChunkId) -> Error {
        self.changed(pack, offset).unwrap_or_else(|| {
            let file = storage.describe(&ObjectName::Pack(*pack));
            Error::damaged(file, offset, format!("the bytes of chunk {id} in this frame do not hash to its id"))
        })
    }

    fn changed(&self, pack: &PackId, offset: u64) -> Option<Error> {
        let checked = FrameView::parse(&self.stored).and_then(|view| view.check());
        checked.err().map(|flaw| flaw.in_object(&ObjectName::Pack(*pack), offset))
    }
}

/// Whether these are the bytes of a chunk.
pub(super) fn is_chunk(id: &ChunkId, bytes: &[u8]) -> bool {
    ChunkId::of(bytes) == *id
}

/// Reads `bytes` of a pack at `offset` into a buffer that takes that length.
pub(super) fn read_stored(
    storage: &dyn Storage,
    pack: &PackId,
    offset: u64,
    bytes: usize,
    buffer: &mut Vec<u8>,
) -> Result<()> {
    buffer.resize(bytes, 0);
    storage.read_at(&ObjectName::Pack(*pack), offset, buffer)
}
