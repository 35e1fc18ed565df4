//! How does one frame come out of its pack? Read, and decoded as far as it is needed.
//!
//! Whether the bytes are right, chunk ids tell (invariant 4, [`super::fetch`]), so the frame's own checksum is not computed
//! on the way out: it would hash the frame a second time. Only when something is wrong does it say what: the frame's
//! bytes, or what was put into it.

use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};

use super::plan::FrameRef;
use crate::error::{Error, Result};
use crate::format::frame::FrameView;
use crate::format::id::{ChunkId, PackId};
use crate::format::name::ObjectName;
use crate::pack::frame::FrameDecoder;
use crate::storage::Storage;

/// Buffers at rest, for frames that are kept for a while: memory that was used before need not be cleared by the system.
#[derive(Debug, Default)]
pub(super) struct BufferPool {
    idle: Mutex<Vec<Vec<u8>>>,
}

impl BufferPool {
    fn take(&self) -> Vec<u8> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner).pop().unwrap_or_default()
    }

    fn put(&self, buffer: Vec<u8>) {
        if buffer.capacity() > 0 {
            self.idle.lock().unwrap_or_else(PoisonError::into_inner).push(buffer);
        }
    }
}

/// Decoded bytes of a frame: from `base` on, as many as were needed. A caller that needs them longer keeps the `Arc`.
#[derive(Debug, Default)]
pub(super) struct FrameBytes {
    bytes: Vec<u8>,
    base: usize,
    pool: Option<Arc<BufferPool>>,
}

impl FrameBytes {
    /// Bytes that were copied out of a frame.
    pub(super) fn of(bytes: Vec<u8>) -> Self {
        Self { bytes, base: 0, pool: None }
    }

    /// A stretch of the decoded frame; `None` if it is not all here.
    pub(super) fn get(&self, range: Range<usize>) -> Option<&[u8]> {
        self.bytes.get(range.start.checked_sub(self.base)?..range.end.checked_sub(self.base)?)
    }

    /// How many bytes there are.
    pub(super) fn len(&self) -> usize {
        self.bytes.len()
    }
}

impl Drop for FrameBytes {
    fn drop(&mut self) {
        if let Some(pool) = &self.pool {
            pool.put(std::mem::take(&mut self.bytes));
        }
    }
}

/// Reads frames; one for each thread that does. Its buffers grow to the largest frame it met.
#[derive(Debug)]
pub(super) struct FrameReader {
    decoder: FrameDecoder,
    stored: Vec<u8>,
    decoded: Arc<FrameBytes>,
    pool: Option<Arc<BufferPool>>,
}

impl FrameReader {
    /// One whose frames are kept by others for a while only, if there is a pool.
    pub(super) fn new(pool: Option<Arc<BufferPool>>) -> Result<Self> {
        let decoder = FrameDecoder::for_checked_chunks()?;
        Ok(Self { decoder, stored: Vec::new(), decoded: Arc::default(), pool })
    }

    /// Reads a frame, and decodes at least its bytes `wanted`, if they are right, which chunk ids tell. If they are not,
    /// and this is not all of the frame, [`FrameReader::read_whole`] tells why or does better.
    ///
    /// # Errors
    /// The storage's. That it does not decode is no error yet.
    pub(super) fn read_part(
        &mut self,
        storage: &dyn Storage,
        pack: &PackId,
        frame: &FrameRef,
        wanted: Range<usize>,
    ) -> Result<()> {
        if let Some(raw_at) = frame.raw_at() {
            let FrameBytes { bytes, base, .. } = room(&mut self.decoded, self.pool.as_ref())?;
            *base = wanted.start;
            return read_stored(storage, pack, raw_at + wanted.start as u64, wanted.len(), bytes);
        }
        read_stored(storage, pack, frame.offset, frame.stored_bytes as usize, &mut self.stored)?;
        let FrameBytes { bytes, base, .. } = room(&mut self.decoded, self.pool.as_ref())?;
        *base = 0;
        if self.decoder.decode_front(&self.stored, pack, frame.offset, wanted.end, bytes).is_err() {
            bytes.clear();
        }
        Ok(())
    }

    /// Reads and decodes all of a frame.
    ///
    /// # Errors
    /// The storage's; [`Error::Damaged`] if what lies there is not a frame.
    pub(super) fn read_whole(&mut self, storage: &dyn Storage, pack: &PackId, frame: &FrameRef) -> Result<()> {
        read_stored(storage, pack, frame.offset, frame.stored_bytes as usize, &mut self.stored)?;
        let FrameBytes { bytes, base, .. } = room(&mut self.decoded, self.pool.as_ref())?;
        *base = 0;
        match self.decoder.decode(&self.stored, pack, frame.offset, bytes) {
            Ok(_) => Ok(()),
            Err(error) => {
                bytes.clear();
                // A payload that does not decode has bytes that were changed: rather say so.
                Err(self.changed(pack, frame.offset).unwrap_or(error))
            }
        }
    }

    /// What was decoded last.
    pub(super) fn decoded(&self) -> &Arc<FrameBytes> {
        &self.decoded
    }

    /// Why a chunk of the frame that [`FrameReader::read_whole`] read last does not have its id.
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

/// Room for a frame: the last one's, unless somebody keeps that.
fn room<'a>(decoded: &'a mut Arc<FrameBytes>, pool: Option<&Arc<BufferPool>>) -> Result<&'a mut FrameBytes> {
    if Arc::get_mut(decoded).is_none() {
        let bytes = pool.map(|pool| pool.take()).unwrap_or_default();
        *decoded = Arc::new(FrameBytes { bytes, base: 0, pool: pool.cloned() });
    }
    Arc::get_mut(decoded).ok_or_else(|| Error::Internal("a new buffer is shared".to_owned()))
}

/// Reads `bytes` of a pack at `offset` into a buffer that takes that length.
fn read_stored(storage: &dyn Storage, pack: &PackId, offset: u64, bytes: usize, buffer: &mut Vec<u8>) -> Result<()> {
    buffer.resize(bytes, 0);
    storage.read_at(&ObjectName::Pack(*pack), offset, buffer)
}
