//! What comes from a [`Writer`]: entries from many threads, through one queue, to the pipeline.
//!
//! A file's bytes are read by the thread that gives it. Short ones come whole; of long ones a part at a time, and parts of
//! several files may take turns. The queue has no bound of its own: the [semaphore](super::semaphore) bounds what is in it.
//!
//! [`Writer`]: super::Writer

use std::io;
use std::sync::Arc;
use std::time::Duration;

use crossbeam_channel::{Receiver, TryRecvError};

use super::origin::Origin;
use super::pool::Buffer;
use super::report::Problem;
use super::semaphore::Permit;
use super::stream::StreamSegment;
use super::task::{Event, Item, Segment, SegmentDone};
use crate::error::{Error, Result};
use crate::format::entry::Entry;

/// How long to wait for entries before looking whether the user wants to stop.
const PATIENCE: Duration = Duration::from_millis(100);

/// Something given.
#[derive(Debug)]
pub(super) enum WriterMessage {
    /// An entry without bytes.
    Row(Box<Entry>, Permit),
    /// A file with all its bytes.
    File(Box<Entry>, Buffer, Permit),
    /// The next part of a long file.
    StreamSegment(Arc<Origin>, StreamSegment, Permit),
    /// The rest of a long file cannot be read.
    Broken(Arc<Origin>, io::Error),
    /// An entry that cannot be had.
    Failed(Problem),
    /// That was all.
    Finish,
}

/// The pipeline's end of the queue.
#[derive(Debug)]
pub(super) struct WriterSource {
    queue: Receiver<WriterMessage>,
    /// What was taken from the queue and is not handed out yet.
    next: Option<WriterMessage>,
    ended: bool,
}

/// What the pipeline is to do next.
#[derive(Debug)]
pub(super) enum SourceStep {
    /// Put this into a batch; its length in bytes.
    Item(Item, usize),
    /// Send this to a worker.
    Segment(Segment),
    /// Take this back as it is.
    Broken(Box<SegmentDone>),
}

impl WriterSource {
    pub(super) fn new(queue: Receiver<WriterMessage>) -> Self {
        Self { queue, next: None, ended: false }
    }

    /// Whether all has been handed out.
    pub(super) fn has_ended(&self) -> bool {
        self.ended
    }

    /// The next step, if something is there and is an item, or may be something else too.
    ///
    /// # Errors
    /// [`Error::Interrupted`] if the writer is gone without having said that it is finished.
    pub(super) fn next(&mut self, may_be_segment: bool) -> Result<Option<SourceStep>> {
        if self.ended {
            return Ok(None);
        }
        let message = match self.next.take() {
            Some(message) => message,
            None => match self.queue.try_recv() {
                Ok(message) => message,
                Err(TryRecvError::Empty) => return Ok(None),
                Err(TryRecvError::Disconnected) => return Err(abandoned()),
            },
        };
        // A pass that is dropped makes room for more to be given: from here on the budget counts what it was for.
        Ok(match message {
            WriterMessage::Row(entry, permit) => {
                drop(permit);
                Some(SourceStep::Item(Item::Row(entry), 0))
            }
            WriterMessage::File(entry, bytes, permit) => {
                drop(permit);
                let held_bytes = bytes.capacity();
                Some(SourceStep::Item(Item::InMemory(entry, bytes), held_bytes))
            }
            WriterMessage::Failed(problem) => Some(SourceStep::Item(Item::Failed(problem), 0)),
            WriterMessage::StreamSegment(origin, part, permit) if may_be_segment => {
                drop(permit);
                Some(SourceStep::Segment(Segment::of_part(&origin, part)))
            }
            WriterMessage::Broken(origin, error) if may_be_segment => {
                Some(SourceStep::Broken(Box::new(SegmentDone::of_failed(origin, error))))
            }
            WriterMessage::Finish => {
                self.ended = true;
                None
            }
            later => {
                self.next = Some(later);
                None
            }
        })
    }

    /// Waits until something is given, or there is an event, or it is time to look around.
    ///
    /// # Errors
    /// As [`Self::next`].
    pub(super) fn wait<'a, 's>(&mut self, events: &Receiver<Event<'a, 's>>) -> Result<Option<Event<'a, 's>>> {
        if self.ended {
            return Ok(events.recv_timeout(PATIENCE).ok());
        }
        crossbeam_channel::select! {
            recv(events) -> event => Ok(event.ok()),
            recv(self.queue) -> message => {
                self.next = Some(message.map_err(|_| abandoned())?);
                Ok(None)
            }
            default(PATIENCE) => Ok(None),
        }
    }
}

fn abandoned() -> Error {
    Error::Interrupted { kept: "the writer was dropped before it was finished; no snapshot was made".to_owned() }
}
