//! Read, cut, hash, compress: what worker threads do for an add. Any worker takes any task; order is made elsewhere.

use crossbeam_channel::{Receiver, Sender};

use super::Event;
use super::archive::{ArchiveBatch, ArchiveDone, Archives};
use super::batch::{Batch, BatchDone};
use super::budget::MemoryPermit;
use super::packer::{EncodedFrame, ToPack};
use super::pool::{Buffer, Pool};
use super::segment::{Segment, SegmentDone};
use crate::chunk::finder::Finder;
use crate::format::id::ChunkId;
use crate::ingest::Metadata;
use crate::pack::frame::{FrameEncoder, FrameSettings};

/// New chunks that will be one frame.
#[derive(Debug)]
pub(super) struct RawFrame {
    pub(super) sequence: u64,
    pub(super) bytes: Buffer,
    pub(super) ids: Vec<ChunkId>,
    pub(super) lengths: Vec<u32>,
    pub(super) held: MemoryPermit,
}

/// Something to read and cut.
#[derive(Debug)]
pub(super) enum Task {
    /// Some small files and other entries.
    Batch(Batch),
    /// A part of a big file or stream.
    Segment(Segment),
    /// A stretch of an archive.
    Archive(ArchiveBatch),
}

impl Task {
    /// How many bytes it will hold in memory.
    pub(super) fn weight(&self) -> usize {
        match self {
            // Its own are counted when it is made.
            Self::Batch(_) => 0,
            Self::Segment(segment) => segment.weight(),
            Self::Archive(batch) => batch.weight(),
        }
    }

    pub(super) fn holding(self, held: MemoryPermit) -> Self {
        match self {
            Self::Batch(batch) => Self::Batch(batch),
            Self::Segment(segment) => Self::Segment(segment.holding(held)),
            Self::Archive(batch) => Self::Archive(batch.holding(held)),
        }
    }

    pub(super) fn run(self, context: &WorkerContext) -> TaskResult {
        match self {
            Self::Batch(batch) => TaskResult::Batch(batch.run(context)),
            Self::Segment(segment) => TaskResult::Segment(Box::new(segment.run(&context.finder, &context.segments))),
            Self::Archive(batch) => TaskResult::Archive(Box::new(batch.run(context))),
        }
    }
}

/// A [`Task`] that is done.
#[derive(Debug)]
pub(super) enum TaskResult {
    Batch(BatchDone),
    Segment(Box<SegmentDone>),
    Archive(Box<ArchiveDone>),
}

/// The queues a worker takes from and gives to.
#[derive(Debug, Clone)]
pub(super) struct Queues {
    pub(super) tasks: Receiver<(u64, Task)>,
    pub(super) frames: Receiver<RawFrame>,
    pub(super) to_pack: Sender<ToPack>,
    pub(super) events: Sender<Event>,
}

/// What workers share.
#[derive(Debug)]
pub(super) struct WorkerContext {
    pub(super) finder: Finder,
    pub(super) metadata: Metadata,
    pub(super) frames: FrameSettings,
    pub(super) archives: Archives,
    /// Buffers of segments, of stretches of archives, and of everything smaller.
    pub(super) segments: Pool,
    pub(super) stretches: Pool,
    pub(super) small: Pool,
}

/// Works until both queues close. Frames come first: they free memory, and later stages wait for them.
pub(super) fn run(context: &WorkerContext, queues: &Queues) {
    let mut encoder = match FrameEncoder::new(context.frames) {
        Ok(encoder) => encoder,
        Err(error) => {
            let _ = queues.events.send(Event::Fatal(error));
            return;
        }
    };
    let mut compress = |frame: RawFrame| {
        let mut bytes = context.small.take_empty();
        let event = match encoder.encode(&frame.bytes, &frame.lengths, &mut bytes) {
            Ok(()) => {
                let RawFrame { sequence, ids, lengths, held, bytes: raw } = frame;
                drop(raw);
                return queues
                    .to_pack
                    .send(ToPack::Frame(EncodedFrame { sequence, bytes, ids, lengths, held }))
                    .is_ok();
            }
            Err(error) => Event::Fatal(error),
        };
        queues.events.send(event).is_ok()
    };
    let cut =
        |(sequence, task): (u64, Task)| queues.events.send(Event::TaskResult(sequence, task.run(context))).is_ok();
    let mut tasks = queues.tasks.clone();
    let mut frames = queues.frames.clone();
    let (mut tasks_open, mut frames_open) = (true, true);
    while tasks_open || frames_open {
        if let Ok(frame) = frames.try_recv() {
            if !compress(frame) {
                return;
            }
            continue;
        }
        crossbeam_channel::select! {
            recv(frames) -> frame => match frame {
                Ok(frame) => if !compress(frame) { return; },
                Err(_) => { frames_open = false; frames = crossbeam_channel::never(); }
            },
            recv(tasks) -> task => match task {
                Ok(task) => if !cut(task) { return; },
                Err(_) => { tasks_open = false; tasks = crossbeam_channel::never(); }
            },
        }
    }
}
