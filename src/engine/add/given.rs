//! What comes from a [`Writer`]: entries from many threads, through one queue, to the conductor.
//!
//! A file's bytes are read by the thread that gives it. Short ones come whole; of long ones a part at a time, and parts of
//! several files may take turns. The queue has no bound of its own: the [gate](super::gate) bounds what is in it.
//!
//! [`Writer`]: super::Writer

use std::io;
use std::sync::Arc;
use std::time::Duration;

use crossbeam_channel::{Receiver, TryRecvError};

use super::Event;
use super::batch::Item;
use super::gate::Pass;
use super::pool::Buffer;
use super::report::Problem;
use super::segment::{Origin, Segment, SegmentDone};
use super::stream::Part;
use crate::error::{Error, Result};
use crate::format::entry::Entry;

/// How long to wait for entries before looking whether the user wants to stop.
const PATIENCE: Duration = Duration::from_millis(100);

/// Something given.
#[derive(Debug)]
pub(super) enum Incoming {
    /// An entry without bytes.
    Row(Box<Entry>, Pass),
    /// A file with all its bytes.
    File(Box<Entry>, Buffer, Pass),
    /// The next part of a long file.
    Part(Arc<Origin>, Part, Pass),
    /// The rest of a long file cannot be read.
    Broken(Arc<Origin>, io::Error),
    /// An entry that cannot be had.
    Failed(Problem),
    /// That was all.
    Finish,
}

/// The conductor's end of the queue.
#[derive(Debug)]
pub(super) struct Given {
    queue: Receiver<Incoming>,
    /// What was taken from the queue and is not handed out yet.
    next: Option<Incoming>,
    ended: bool,
}

/// What the conductor is to do next.
#[derive(Debug)]
pub(super) enum Step {
    /// Put this into a batch; it has so many bytes.
    Item(Item, usize),
    /// Send this to a worker.
    Segment(Segment),
    /// Take this back as it is.
    Broken(SegmentDone),
}

impl Given {
    pub(super) fn new(queue: Receiver<Incoming>) -> Self {
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
    pub(super) fn next(&mut self, may_be_segment: bool) -> Result<Option<Step>> {
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
            Incoming::Row(entry, pass) => {
                drop(pass);
                Some(Step::Item(Item::Row(entry), 0))
            }
            Incoming::File(entry, bytes, pass) => {
                drop(pass);
                let held_bytes = bytes.capacity();
                Some(Step::Item(Item::Given(entry, bytes), held_bytes))
            }
            Incoming::Failed(problem) => Some(Step::Item(Item::Failed(problem), 0)),
            Incoming::Part(origin, part, pass) if may_be_segment => {
                drop(pass);
                Some(Step::Segment(Segment::of_part(&origin, part)))
            }
            Incoming::Broken(origin, error) if may_be_segment => {
                Some(Step::Broken(SegmentDone::of_failed(origin, error)))
            }
            Incoming::Finish => {
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
    pub(super) fn wait(&mut self, events: &Receiver<Event>) -> Result<Option<Event>> {
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
