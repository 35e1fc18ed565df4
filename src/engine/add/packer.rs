//! Which frame goes where? Puts encoded frames into packs in stream order, whatever order they were compressed in.
//!
//! Runs on a thread of its own, because a pack's sync can take long. A finished pack is durable (invariant 1) before
//! the index has it.

use std::collections::BTreeMap;
use std::sync::Arc;

use crossbeam_channel::{Receiver, Sender};

use super::task::{Event, FinishedPack, NewFrame, ToPack};
use crate::engine::store::chunk_index::ChunkIndex;
use crate::engine::store::commit::PacksDurable;
use crate::error::Result;
use crate::pack::writer::PackWriter;
use crate::storage::Storage;

/// What packs are made with.
#[derive(Debug, Clone, Copy)]
pub(super) struct Packing<'a, 's> {
    /// Knows a pack as soon as it is durable. No pack is given the name of one of its pending deletes: gc deletes by name.
    pub(super) chunk_index: &'a ChunkIndex<'s>,
    /// A pack ends once it has this many bytes.
    pub(super) pack_bytes: u64,
}

/// Works until its queue closes. Errors are sent as an event, after which nothing more is packed.
pub(super) fn run(packing: &Packing<'_, '_>, queue: &Receiver<ToPack>, events: &Sender<Event<'_, '_>>) {
    let Packing { chunk_index, pack_bytes } = *packing;
    let storage = chunk_index.storage();
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
        let sync = |pack| {
            let (permits, events) = (permits.clone(), events.clone());
            if returned.recv().is_err() {
                return;
            }
            scope.spawn(move || {
                let _ = events.send(finish(pack, chunk_index).map_or_else(Event::Fatal, Event::Packed));
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
                    open.take().into_iter().for_each(&sync);
                }
            }
            if flush_before.is_some_and(|before| next >= before) {
                flush_before = None;
                open.take().into_iter().for_each(&sync);
                // Both permits back: every pack before this point is durable, or its failure is among the events.
                if let (Ok(()), Ok(())) = (returned.recv(), returned.recv()) {
                    let _ = (permits.send(()), permits.send(()));
                }
                let _ = events.send(Event::Flushed(PacksDurable::said_by_packer()));
            }
        }
    });
}

/// Makes a pack durable, and then known.
fn finish(pack: PackWriter<'_>, chunk_index: &ChunkIndex<'_>) -> Result<FinishedPack> {
    let bytes = pack.bytes();
    let (id, directory) = pack.finish_unlike(&chunk_index.pending_deletes().packs)?;
    chunk_index.add_pack(id, Arc::clone(&directory))?;
    Ok(FinishedPack { directory, bytes })
}

fn append<'a>(storage: &'a dyn Storage, open: &mut Option<PackWriter<'a>>, frame: NewFrame) -> Result<()> {
    let pack = match open {
        Some(pack) => pack,
        None => open.insert(PackWriter::begin(storage)?),
    };
    pack.push_frame(&frame.bytes, &frame.ids, &frame.lengths)?;
    drop(frame.held);
    Ok(())
}
