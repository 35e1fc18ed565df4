//! How does a nearly dead pack go, when some of it is needed? What is needed is copied to new packs first.
//!
//! Invariant: a pack is said to be rewritten only if every chunk that it keeps was read, checked against its id, and
//! is durable in a new pack. One that is damaged where it is needed is left as it is: what is intact of it may be all
//! there is.
//!
//! Frames that are needed whole are copied as they are; the chunks that are left of others are put together anew.

use std::collections::BTreeSet;

use super::assign::Container;
use super::mark::{Marking, each_home};
use crate::catalog::recipe::RecipesWriter;
use crate::error::{Error, Result};
use crate::format::directory::{ChunkEntry, FrameEntry};
use crate::format::id::{ChunkId, PackId};
use crate::format::name::ObjectName;
use crate::pack::frame::{FrameDecoder, FrameEncoder, FrameSettings};
use crate::pack::reader::{read_directory, read_frame};
use crate::pack::writer::{PACK_BYTES_TARGET, PackWriter};
use crate::storage::Storage;

/// What rewriting came to.
#[derive(Debug, Default)]
pub(in crate::engine) struct Rewritten {
    /// Names of what can go, because what it kept is elsewhere too.
    pub(in crate::engine) from: BTreeSet<ObjectName>,
    /// Packs or recipes files written, and their bytes.
    pub(in crate::engine) written: u64,
    pub(in crate::engine) bytes: u64,
    /// What could not be rewritten, and why.
    pub(in crate::engine) left: Vec<(ObjectName, Error)>,
    /// That the disk is full. What was written by then stays and nothing is rewritten: the next gc chooses.
    pub(in crate::engine) full: Option<Error>,
}

impl Rewritten {
    /// Gives up what was to be rewritten if the disk is full.
    fn unless_full(mut self, result: Result<()>) -> Result<Self> {
        match result {
            Err(error) if error.is_out_of_space() => {
                self.from.clear();
                self.full = Some(error);
            }
            result => result?,
        }
        Ok(self)
    }
}

/// Writes what some packs keep into new packs, in `target`, under none of the names that are `taken`.
pub(in crate::engine) fn rewrite_packs(
    marking: &Marking<'_>,
    sparse: &[&Container],
    target: &dyn Storage,
    settings: FrameSettings,
    taken: &BTreeSet<PackId>,
) -> Result<Rewritten> {
    let mut copier = Copier::new(marking, target, settings, taken)?;
    let copied = copier.copy_all(sparse);
    copier.done.unless_full(copied)
}

/// Writes the recipes that some files keep into one new file, in `target`.
pub(in crate::engine) fn rewrite_recipes(
    marking: &Marking<'_>,
    sparse: &[&Container],
    target: &dyn Storage,
) -> Result<Rewritten> {
    let mut done = Rewritten::default();
    let copied = copy_recipes(marking, sparse, target, &mut done);
    done.unless_full(copied)
}

fn copy_recipes(
    marking: &Marking<'_>,
    sparse: &[&Container],
    target: &dyn Storage,
    done: &mut Rewritten,
) -> Result<()> {
    if sparse.is_empty() {
        return Ok(());
    }
    let mut writer = RecipesWriter::begin(target.writer()?)?;
    for container in sparse {
        each_home(marking, container, &mut |id, pieces| writer.push(id, pieces).map(|()| true))?;
        done.from.insert(container.name);
    }
    if let Some(written) = writer.finish(target)? {
        (done.written, done.bytes) = (1, written.bytes);
    }
    Ok(())
}

struct Copier<'a> {
    marking: &'a Marking<'a>,
    target: &'a dyn Storage,
    settings: FrameSettings,
    taken: &'a BTreeSet<PackId>,
    decoder: FrameDecoder,
    encoder: FrameEncoder,
    pack: Option<PackWriter<'a>>,
    /// Chunks of the frame that is being put together.
    open: Vec<u8>,
    ids: Vec<ChunkId>,
    lengths: Vec<u32>,
    stored: Vec<u8>,
    raw: Vec<u8>,
    encoded: Vec<u8>,
    done: Rewritten,
}

impl<'a> Copier<'a> {
    fn new(
        marking: &'a Marking<'a>,
        target: &'a dyn Storage,
        settings: FrameSettings,
        taken: &'a BTreeSet<PackId>,
    ) -> Result<Self> {
        Ok(Self {
            marking,
            target,
            settings,
            taken,
            decoder: FrameDecoder::new()?,
            encoder: FrameEncoder::new(settings)?,
            pack: None,
            open: Vec::new(),
            ids: Vec::new(),
            lengths: Vec::new(),
            stored: Vec::new(),
            raw: Vec::new(),
            encoded: Vec::new(),
            done: Rewritten::default(),
        })
    }

    /// Copies what these packs keep.
    fn copy_all(&mut self, sparse: &[&Container]) -> Result<()> {
        for container in sparse {
            let ObjectName::Pack(pack) = container.name else { continue };
            match self.copy(pack, container) {
                Ok(()) => {
                    self.done.from.insert(container.name);
                }
                // What was copied of it is there twice; the next gc chooses.
                Err(error @ (Error::Damaged { .. } | Error::NotFound { .. })) => {
                    self.done.left.push((container.name, error));
                }
                Err(error) => return Err(error),
            }
        }
        self.end_frame()?;
        self.end_pack()
    }

    /// Copies what a pack keeps.
    fn copy(&mut self, pack: PackId, container: &Container) -> Result<()> {
        let directory = read_directory(self.marking.storage, pack)?;
        for frame in &directory.frames {
            self.marking.check_stopped()?;
            let chunks = directory.chunks_of(frame);
            let retained_copies: Vec<bool> =
                frame.chunks().map(|ordinal| container.is_home(ordinal as usize)).collect();
            if retained_copies.contains(&true) {
                self.copy_frame(pack, frame, chunks, &retained_copies)?;
            }
        }
        Ok(())
    }

    fn copy_frame(
        &mut self,
        pack: PackId,
        frame: &FrameEntry,
        chunks: &[ChunkEntry],
        retained_copies: &[bool],
    ) -> Result<()> {
        read_frame(self.marking.storage, &pack, frame, &mut self.stored)?;
        self.decoder.decode(&self.stored, &pack, frame.offset, &mut self.raw)?;
        let mut wanted = Vec::new();
        let mut start = 0;
        for (chunk, is_home) in chunks.iter().zip(retained_copies) {
            let end = start + chunk.length as usize;
            let bytes = self.raw.get(start..end).unwrap_or_default();
            if *is_home && ChunkId::of(bytes) != chunk.id {
                let what = format!("the bytes of chunk {} in this frame do not hash to its id", chunk.id);
                return Err(Error::damaged(ObjectName::Pack(pack).path(), frame.offset, what));
            }
            if *is_home {
                wanted.push((*chunk, start..end));
            }
            start = end;
        }
        if wanted.len() == chunks.len() {
            let ids: Vec<ChunkId> = chunks.iter().map(|chunk| chunk.id).collect();
            let lengths: Vec<u32> = chunks.iter().map(|chunk| chunk.length).collect();
            let stored = std::mem::take(&mut self.stored);
            let pushed = self.push_frame(&stored, &ids, &lengths);
            self.stored = stored;
            return pushed;
        }
        for (chunk, range) in wanted {
            if !self.settings.takes(self.open.len(), self.ids.len(), range.len()) {
                self.end_frame()?;
            }
            self.open.extend_from_slice(self.raw.get(range).unwrap_or_default());
            self.ids.push(chunk.id);
            self.lengths.push(chunk.length);
        }
        Ok(())
    }

    fn end_frame(&mut self) -> Result<()> {
        if self.ids.is_empty() {
            return Ok(());
        }
        let mut encoded = std::mem::take(&mut self.encoded);
        encoded.clear();
        self.encoder.encode(&self.open, &self.lengths, &mut encoded)?;
        let (ids, lengths) = (std::mem::take(&mut self.ids), std::mem::take(&mut self.lengths));
        self.open.clear();
        self.push_frame(&encoded, &ids, &lengths)?;
        self.encoded = encoded;
        Ok(())
    }

    fn push_frame(&mut self, encoded: &[u8], ids: &[ChunkId], lengths: &[u32]) -> Result<()> {
        let pack = match &mut self.pack {
            Some(pack) => pack,
            None => self.pack.insert(PackWriter::begin(self.target)?),
        };
        pack.push_frame(encoded, ids, lengths)?;
        if pack.bytes() >= PACK_BYTES_TARGET { self.end_pack() } else { Ok(()) }
    }

    fn end_pack(&mut self) -> Result<()> {
        if let Some(pack) = self.pack.take() {
            let bytes = pack.bytes();
            pack.finish_unlike(self.taken)?;
            self.done.written += 1;
            self.done.bytes += bytes;
        }
        Ok(())
    }
}
