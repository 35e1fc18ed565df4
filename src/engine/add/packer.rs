//! Which frame goes where? Puts encoded frames into packs in stream order, whatever order they were compressed in.
//!
//! Runs on a thread of its own, because a pack's sync can take long. A finished pack is durable (invariant 1) before
//! anybody is told of it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crossbeam_channel::{Receiver, Sender};

use super::Event;
use super::budget::MemoryPermit;
use super::pool::Buffer;
use crate::engine::commit::PacksDurable;
use crate::error::Result;
use crate::format::directory::Directory;
use crate::format::id::{ChunkId, PackId};
use crate::pack::writer::PackWriter;
use crate::storage::Storage;

/// A frame, compressed, on its way to a pack.
#[derive(Debug)]
pub(super) struct EncodedFrame {
    /// Its place in the stream.
    pub(super) sequence: u64,
    /// Header, lengths and payload.
    pub(super) bytes: Buffer,
    pub(super) ids: Vec<ChunkId>,
    pub(super) lengths: Vec<u32>,
    pub(super) held: MemoryPermit,
}

/// What the packer is asked to do.
#[derive(Debug)]
pub(super) enum ToPack {
    Frame(EncodedFrame),
    /// Finish the open pack once all frames before this place in the stream are in.
    Flush {
        before: u64,
    },
}

/// A pack that is durable.
#[derive(Debug)]
pub(super) struct FinishedPack {
    pub(super) id: PackId,
    pub(super) directory: Arc<Directory>,
    pub(super) bytes: u64,
}

/// What packs are made with.
#[derive(Debug, Clone, Copy)]
pub(super) struct Packing<'a> {
    pub(super) storage: &'a dyn Storage,
    /// A pack ends once it has this many bytes.
    pub(super) pack_bytes: u64,
    /// No pack is given the name of one of these: gc deletes by name.
    pub(super) pending_deletes: &'a BTreeSet<PackId>,
}

/// Works until its queue closes. Errors are sent as an event, after which nothing more is packed.
pub(super) fn run<'a>(packing: &Packing<'a>, queue: &Receiver<ToPack>, events: &Sender<Event>) {
    let Packing { storage, pack_bytes, pending_deletes } = *packing;
    // Two packs may be syncing while the next one fills.
    let (permits, returned) = crossbeam_channel::bounded(2);
    for () in [(), ()] {
        let _ = permits.send(());
    }
    std::thread::scope(|scope| {
        let mut waiting = BTreeMap::new();
        let mut next = 0;
        let mut flush_before = None;
        let mut open: Option<PackWriter> = None;
        let finish = |pack: PackWriter<'a>| {
            let (permits, events) = (permits.clone(), events.clone());
            if returned.recv().is_err() {
                return;
            }
            scope.spawn(move || {
                let bytes = pack.bytes();
                let event = match pack.finish_unlike(pending_deletes) {
                    Ok((id, directory)) => Event::Packed(FinishedPack { id, directory, bytes }),
                    Err(error) => Event::Fatal(error),
                };
                let _ = events.send(event);
                let _ = permits.send(());
            });
        };
        for message in queue {
            match message {
                ToPack::Frame(frame) => {
                    waiting.insert(frame.sequence, frame);
                }
                ToPack::Flush { before } => flush_before = Some(before),
            }
            while let Some(frame) = waiting.remove(&next) {
                next += 1;
                match append(storage, &mut open, frame) {
                    Ok(()) => {}
                    Err(error) => {
                        let _ = events.send(Event::Fatal(error));
                        return;
                    }
                }
                // The pipeline may be waiting for room.
                let _ = events.send(Event::Written);
                if open.as_ref().is_some_and(|pack| pack.bytes() >= pack_bytes) {
                    open.take().into_iter().for_each(&finish);
                }
            }
            if flush_before.is_some_and(|before| next >= before) {
                flush_before = None;
                open.take().into_iter().for_each(&finish);
                // Both permits back: every pack before this point is durable, or its failure is among the events.
                if let (Ok(()), Ok(())) = (returned.recv(), returned.recv()) {
                    let _ = (permits.send(()), permits.send(()));
                }
                let _ = events.send(Event::Flushed(PacksDurable::said_by_packer()));
            }
        }
    });
}

fn append<'a>(storage: &'a dyn Storage, open: &mut Option<PackWriter<'a>>, frame: EncodedFrame) -> Result<()> {
    let pack = match open {
        Some(pack) => pack,
        None => open.insert(PackWriter::begin(storage)?),
    };
    pack.push_frame(&frame.bytes, &frame.ids, &frame.lengths)?;
    drop(frame.held);
    Ok(())
}
