//! How does a pack come to be? Frames front to back, then the directory and the trailer, then it is durable.
//!
//! Invariant: a pack becomes visible whole, under the name that its directory gives it, or not at all.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::reader::read_directory;
use crate::error::{Error, Result};
use crate::format::directory::{CHUNK_ENTRY_BYTES, ChunkEntry, DIRECTORY_BYTES_MAX, Directory, FRAME_ENTRY_BYTES};
use crate::format::frame::{Codec, Filter, FrameView, append_frame};
use crate::format::id::{ChunkId, PackId};
use crate::format::name::ObjectName;
use crate::format::pack::{PACK_TRAILER_BYTES, Trailer, header};
use crate::storage::{ObjectWriter, Storage};

/// How long a pack is let grow before the next one is begun, in bytes.
pub const PACK_BYTES_TARGET: u64 = 64 << 20;

/// Writes one pack. Dropped without [`finish`](Self::finish), it leaves nothing behind.
#[derive(Debug)]
pub struct PackWriter<'s> {
    storage: &'s dyn Storage,
    object: Box<dyn ObjectWriter>,
    directory: Directory,
}

impl<'s> PackWriter<'s> {
    /// Begins a pack.
    ///
    /// # Errors
    /// The storage's.
    pub fn begin(storage: &'s dyn Storage) -> Result<Self> {
        let mut object = storage.writer()?;
        object.write(&header())?;
        Ok(Self { storage, object, directory: Directory::default() })
    }

    /// Appends a frame as [`super::FrameEncoder`] gives it, with the ids of its chunks.
    ///
    /// # Errors
    /// [`Error::Internal`] if frame, ids and lengths do not go together, or the directory would outgrow the format:
    /// nothing was written then. Otherwise the storage's, after which the pack is lost.
    pub fn push_frame(&mut self, encoded: &[u8], ids: &[ChunkId], lengths: &[u32]) -> Result<()> {
        let frame = FrameView::parse(encoded).map_err(|flaw| Error::Internal(format!("not a frame: {flaw}")))?;
        if ids.len() != lengths.len() || !frame.lengths().eq(lengths.iter().copied()) {
            return Err(Error::Internal("ids and lengths are not those of the frame's chunks".to_owned()));
        }
        let more = FRAME_ENTRY_BYTES + CHUNK_ENTRY_BYTES * ids.len();
        if self.directory.encoded_bytes() + more > DIRECTORY_BYTES_MAX {
            return Err(Error::Internal("the pack holds as many chunks as a pack may".to_owned()));
        }
        self.object.write(encoded)?;
        let chunks = ids.iter().zip(lengths).map(|(id, length)| ChunkEntry { id: *id, length: *length });
        self.directory.push(encoded.len() as u32, frame.header().checksum, chunks);
        Ok(())
    }

    /// Bytes the pack would have if it were finished now: frames, directory and all.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.directory.frames_end() + (self.directory.encoded_bytes() + PACK_TRAILER_BYTES) as u64
    }

    /// The id the pack would have if it were finished now.
    #[must_use]
    pub fn id(&self) -> PackId {
        PackId::of_directory(&self.directory.encode())
    }

    /// Whether no frame was pushed yet.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.directory.frames.is_empty()
    }

    /// Ends a pack that is made from one that is damaged: as [`Self::finish`], but what bears its id already is taken for
    /// damaged unseen, and this pack takes its place in one step.
    ///
    /// # Errors
    /// The storage's; the pack is lost then, and what was there is there.
    pub fn replace(mut self) -> Result<(PackId, Arc<Directory>)> {
        let pack = self.end()?;
        self.object.replace(&ObjectName::Pack(pack))?;
        Ok((pack, Arc::new(self.directory)))
    }

    /// Writes directory and trailer.
    fn end(&mut self) -> Result<PackId> {
        let encoded = self.directory.encode();
        let pack = PackId::of_directory(&encoded);
        let trailer =
            Trailer { directory_offset: self.directory.frames_end(), directory_bytes: encoded.len() as u64, pack };
        self.object.write(&encoded)?;
        self.object.write(&trailer.encode())?;
        Ok(pack)
    }

    /// Ends the pack. When this returns, the pack is durable under its id.
    ///
    /// # Errors
    /// The storage's; the pack is lost then.
    #[cfg(any(test, feature = "internals"))]
    pub fn finish(self) -> Result<(PackId, Arc<Directory>)> {
        self.finish_unlike(&BTreeSet::new())
    }

    /// As [`Self::finish`], under none of these ids: packs of those names are about to be deleted. Where the pack's own
    /// id is one of them, it is given one more chunk of 8 bytes that nobody asked for, and so another id.
    ///
    /// # Errors
    /// As [`Self::finish`].
    pub fn finish_unlike(mut self, pending_deletes: &BTreeSet<PackId>) -> Result<(PackId, Arc<Directory>)> {
        let mut encoded = self.directory.encode();
        let mut pack = PackId::of_directory(&encoded);
        let mut attempt: u64 = 0;
        while pending_deletes.contains(&pack) {
            let filler = attempt.to_le_bytes();
            let mut frame = Vec::new();
            append_frame(Codec::None, Filter::None, &[8], 8, &filler, &mut frame);
            self.push_frame(&frame, &[ChunkId::of(&filler)], &[8])?;
            encoded = self.directory.encode();
            pack = PackId::of_directory(&encoded);
            attempt += 1;
        }
        let trailer =
            Trailer { directory_offset: self.directory.frames_end(), directory_bytes: encoded.len() as u64, pack };
        self.object.write(&encoded)?;
        self.object.write(&trailer.encode())?;
        // The same frames may have been packed before. What is there is relied on from now on, so it must at least be as
        // long as it was and have its directory; if not, nothing could be read from it, and this pack takes its place.
        match read_directory(self.storage, pack) {
            Ok(_) | Err(Error::NotFound { .. }) => self.object.finish(&ObjectName::Pack(pack)).map(|_| ())?,
            Err(_) => self.object.replace(&ObjectName::Pack(pack))?,
        }
        Ok((pack, Arc::new(self.directory)))
    }
}
