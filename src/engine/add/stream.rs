//! Standard input on its way into the store: read in order, a segment at a time, until it ends or the user stops.

use std::io;
use std::ops::Range;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;

use super::pool::{Buffer, Pool};
use super::segment::SEGMENT_BYTES;
use crate::chunk::seams::WARM_UP;
use crate::error::{Error, Result};
use crate::format::entry::{Entry, EntryPath};

/// How long to wait for input before looking whether the user wants to stop.
const PATIENCE: Timespec = Timespec { tv_sec: 0, tv_nsec: 100_000_000 };

/// Standard input.
#[derive(Debug)]
pub(super) struct Stream {
    entry: Entry,
    input: io::Stdin,
    /// How far it was handed out.
    at: u64,
    /// The end of what was handed out last: the warm-up of what comes next.
    tail: Vec<u8>,
    /// One byte read ahead: what is followed by another is not the last.
    ahead: Option<u8>,
    begun: bool,
}

/// A segment of the stream.
#[derive(Debug)]
pub(super) struct Part {
    pub(super) range: Range<u64>,
    /// The warm-up, then the segment.
    pub(super) bytes: Buffer,
    pub(super) is_last: bool,
}

impl Stream {
    pub(super) fn new(entry: Entry) -> Self {
        Self { entry, input: io::stdin(), at: 0, tail: Vec::new(), ahead: None, begun: false }
    }

    pub(super) fn path(&self) -> &EntryPath {
        &self.entry.path
    }

    pub(super) fn entry(&self) -> &Entry {
        &self.entry
    }

    /// The next segment, `None` after the last. An empty stream has one.
    pub(super) fn next(&mut self, pool: &Pool, is_stopped: &dyn Fn() -> bool) -> Result<Option<Part>> {
        if std::mem::replace(&mut self.begun, true) && self.ahead.is_none() {
            return Ok(None);
        }
        let mut bytes = pool.take_empty();
        bytes.extend_from_slice(&self.tail);
        bytes.extend(self.ahead.take());
        let warm_up = self.tail.len();
        let filled = bytes.len();
        bytes.resize(warm_up + SEGMENT_BYTES, 0);
        let read = self.fill(bytes.get_mut(filled..).unwrap_or_default(), is_stopped)?;
        bytes.truncate(filled + read);
        let mut next = [0];
        if self.fill(&mut next, is_stopped)? == 1 {
            self.ahead = Some(next[0]);
        }
        let range = self.at..self.at + (bytes.len() - warm_up) as u64;
        self.at = range.end;
        self.tail.clear();
        self.tail.extend_from_slice(bytes.get(bytes.len().saturating_sub(WARM_UP)..).unwrap_or_default());
        Ok(Some(Part { range, bytes, is_last: self.ahead.is_none() }))
    }

    fn fill(&self, free: &mut [u8], is_stopped: &dyn Fn() -> bool) -> Result<usize> {
        let filled = fill(&self.input, free, is_stopped, false);
        filled.map_err(|errno| Error::io("read", "standard input", errno))
    }
}

/// Standard input as a reader, blocking or not; it ends when the user stops.
#[derive(Debug)]
pub(crate) struct StopReader {
    input: io::Stdin,
    stop: Arc<AtomicBool>,
}

impl StopReader {
    pub(crate) fn new(stop: Arc<AtomicBool>) -> Self {
        Self { input: io::stdin(), stop }
    }
}

impl io::Read for StopReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        fill(&self.input, buffer, &|| self.stop.load(Ordering::Relaxed), true).map_err(io::Error::from)
    }
}

/// Fills a buffer as far as the input goes, or with what comes first.
fn fill(
    input: &io::Stdin,
    mut free: &mut [u8],
    is_stopped: &dyn Fn() -> bool,
    is_enough: bool,
) -> Result<usize, Errno> {
    let wanted = free.len();
    while !free.is_empty() && !is_stopped() {
        let input = input.as_fd();
        match poll(&mut [PollFd::new(&input, PollFlags::IN)], Some(&PATIENCE)) {
            Ok(0) | Err(Errno::INTR) => continue,
            Ok(_) => {}
            Err(errno) => return Err(errno),
        }
        match rustix::io::read(input, &mut *free) {
            Ok(0) => break,
            Ok(read) => {
                free = free.get_mut(read..).unwrap_or_default();
                if is_enough {
                    break;
                }
            }
            Err(Errno::INTR | Errno::AGAIN) => {}
            Err(errno) => return Err(errno),
        }
    }
    Ok(wanted - free.len())
}
