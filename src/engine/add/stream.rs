//! What is read in order, a segment at a time, until it ends or the user stops: standard input, and files whose size
//! their file system does not know (in `/proc`, and where files in user space are read with direct I/O).

use std::io;
use std::ops::Range;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;

use super::origin::Origin;
use super::pool::{Buffer, Pool};
use super::segment::SEGMENT_BYTES;
use crate::chunk::seams::WARM_UP;
use crate::error::{Error, Result};

/// How long to wait for input before looking whether the user wants to stop.
const PATIENCE: Timespec = Timespec { tv_sec: 0, tv_nsec: 100_000_000 };

/// No more bytes are read of a file whose size is not known: it may have no end.
pub(super) const UNSIZED_BYTES_MAX: u64 = 16 << 30;

/// What is read in order.
#[derive(Debug)]
pub(super) struct Stream {
    input: Input,
    /// How far it was handed out.
    at: u64,
    /// The end of what was handed out last: the warm-up of what comes next.
    tail: Vec<u8>,
    /// One byte read ahead: what is followed by another is not the last.
    ahead: Option<u8>,
    begun: bool,
}

#[derive(Debug)]
enum Input {
    Stdin(io::Stdin),
    /// A file, up to a length.
    File(Arc<Origin>, u64),
}

/// A segment of it.
#[derive(Debug)]
pub(super) struct StreamSegment {
    pub(super) range: Range<u64>,
    /// The warm-up, then the segment.
    pub(super) bytes: Buffer,
    pub(super) is_last: bool,
}

impl Stream {
    /// Standard input.
    pub(super) fn of_stdin() -> Self {
        Self::new(Input::Stdin(io::stdin()))
    }

    /// A file, read to its end, or up to a length.
    pub(super) fn of_file(origin: &Arc<Origin>, bytes_max: u64) -> Self {
        Self::new(Input::File(Arc::clone(origin), bytes_max))
    }

    fn new(input: Input) -> Self {
        Self { input, at: 0, tail: Vec::new(), ahead: None, begun: false }
    }

    /// The next segment, `None` after the last. An empty stream has one.
    pub(super) fn next(&mut self, pool: &Pool, is_stopped: &dyn Fn() -> bool) -> Result<Option<StreamSegment>> {
        if std::mem::replace(&mut self.begun, true) && self.ahead.is_none() {
            return Ok(None);
        }
        let mut bytes = pool.take_empty();
        bytes.extend_from_slice(&self.tail);
        bytes.extend(self.ahead.take());
        let warm_up = self.tail.len();
        let filled = bytes.len();
        bytes.resize(warm_up + SEGMENT_BYTES, 0);
        let at = self.at + (filled - warm_up) as u64;
        let read = self.fill(at, bytes.get_mut(filled..).unwrap_or_default(), is_stopped)?;
        bytes.truncate(filled + read);
        let mut next = [0];
        if self.fill(at + read as u64, &mut next, is_stopped)? == 1 {
            self.ahead = Some(next[0]);
        }
        let range = self.at..self.at + (bytes.len() - warm_up) as u64;
        self.at = range.end;
        self.tail.clear();
        self.tail.extend_from_slice(bytes.get(bytes.len().saturating_sub(WARM_UP)..).unwrap_or_default());
        Ok(Some(StreamSegment { range, bytes, is_last: self.ahead.is_none() }))
    }

    /// Fills `free` with what begins at `at`; less only at the end.
    fn fill(&self, at: u64, free: &mut [u8], is_stopped: &dyn Fn() -> bool) -> Result<usize> {
        match &self.input {
            Input::Stdin(input) => {
                fill(input, free, is_stopped, false).map_err(|errno| Error::io("read", "standard input", errno))
            }
            Input::File(origin, bytes_max) => {
                let room = usize::try_from(bytes_max.saturating_sub(at)).unwrap_or(usize::MAX).min(free.len());
                let read = read_on(origin, at, free.get_mut(..room).unwrap_or_default());
                read.map_err(|source| Error::io("read", origin.path(), source))
            }
        }
    }
}

/// Fills `free` from `at` on, whatever size the file claims to have; less only at its end.
fn read_on(origin: &Origin, at: u64, free: &mut [u8]) -> io::Result<usize> {
    let Origin::File { file, .. } = origin else { return Err(io::ErrorKind::Unsupported.into()) };
    let mut filled = 0;
    while let Some(rest) = free.get_mut(filled..).filter(|rest| !rest.is_empty()) {
        match file.read_at(at + filled as u64, rest)? {
            0 => break,
            read => filled += read,
        }
    }
    Ok(filled)
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

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::format::entry::EntryPath;
    use crate::ingest::{Metadata, Root, Walk, WalkOptions, Walked};
    use crate::testing::skip::skipped;

    #[test]
    fn a_file_without_an_end_is_read_up_to_a_bound_and_named() {
        // It claims to be empty.
        let disk = std::path::PathBuf::from("/proc/version");
        if !disk.exists() {
            return skipped("there is no /proc here");
        }
        let path = EntryPath::new(b"version").unwrap();
        let walk = Walk::new(vec![Root { disk: disk.clone(), path }], WalkOptions::default()).unwrap();
        let found = walk.filter_map(|walked| if let Walked::Entry(found) = walked { Some(found) } else { None });
        let origin = Origin::open(found.last().unwrap()).unwrap();
        let bytes = std::fs::read(disk).unwrap();
        for (bytes_max, is_named) in [(10, true), (bytes.len(), false), (bytes.len() + 1, false)] {
            let mut stream = Stream::of_file(&origin, bytes_max as u64);
            let part = stream.next(&Pool::default(), &|| false).unwrap().unwrap();
            let length = bytes_max.min(bytes.len());
            assert_eq!((part.range, part.is_last), (0..length as u64, true));
            assert!(bytes.starts_with(part.bytes.get(..length).unwrap()));
            assert!(stream.next(&Pool::default(), &|| false).unwrap().is_none());
            let (entry, problems) = origin.entry(length as u64, false, &Metadata::new()).unwrap();
            assert_eq!(entry.size, length as u64);
            assert_eq!(problems.iter().any(|problem| problem.what.contains("has more bytes")), is_named, "{bytes_max}");
        }
    }
}
