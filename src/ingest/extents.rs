//! Where in a file is data, and where are holes?
//!
//! The file system is asked with `SEEK_DATA` and `SEEK_HOLE`, one pair of calls for each part, lazily: a file of a
//! tebibyte with one page of data costs four calls and no memory. Holes shorter than [`HOLE_BYTES_MIN`] count as data:
//! restoring them as zeros costs less than keeping track of them.

use std::ops::Range;
use std::os::fd::BorrowedFd;

use rustix::fs::{SeekFrom, seek};
use rustix::io::{self, Errno};

/// The shortest hole worth knowing, in bytes.
pub(super) const HOLE_BYTES_MIN: u64 = 64 << 10;

/// The parts of a file that hold data: see [`OpenFile::extents`](super::OpenFile::extents).
///
/// Moves the file's own offset; reads by offset do not mind.
#[derive(Debug)]
pub struct Extents<'a> {
    fd: BorrowedFd<'a>,
    size: u64,
    /// Where the next question starts; `size` when there is nothing left to ask.
    asked: u64,
    /// A part that the next hole may turn out too short to end.
    open: Option<Range<u64>>,
}

impl<'a> Extents<'a> {
    pub(super) fn new(fd: BorrowedFd<'a>, size: u64, may_have_holes: bool) -> Self {
        let whole = (size > 0).then_some(0..size);
        if may_have_holes {
            Self { fd, size, asked: 0, open: None }
        } else {
            Self { fd, size, asked: size, open: whole }
        }
    }

    /// The next part as the file system sees it.
    fn ask(&mut self) -> io::Result<Option<Range<u64>>> {
        if self.asked >= self.size {
            return Ok(None);
        }
        let start = match seek(self.fd, SeekFrom::Data(self.asked)) {
            Ok(start) => start,
            // No data from here to the end.
            Err(Errno::NXIO) => {
                self.asked = self.size;
                return Ok(None);
            }
            // The file system does not know: all the rest is data.
            Err(Errno::INVAL | Errno::OPNOTSUPP) => self.asked,
            Err(errno) => return Err(errno),
        };
        let end = match seek(self.fd, SeekFrom::Hole(start)) {
            Ok(end) => end,
            // It shrank meanwhile; reading will tell.
            Err(Errno::NXIO | Errno::INVAL | Errno::OPNOTSUPP) => self.size,
            Err(errno) => return Err(errno),
        };
        // An answer that does not move on would be asked for ever.
        let part = start.min(self.size)..end.max(start.saturating_add(1)).min(self.size);
        self.asked = part.end;
        Ok((!part.is_empty()).then_some(part))
    }
}

impl Iterator for Extents<'_> {
    type Item = std::io::Result<Range<u64>>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            let next = match self.ask() {
                Ok(next) => next,
                Err(errno) => {
                    self.asked = self.size;
                    self.open = None;
                    return Some(Err(errno.into()));
                }
            };
            let Some(part) = next else {
                let last = self.open.take()?;
                let is_tail_short = self.size - last.end < HOLE_BYTES_MIN;
                return Some(Ok(last.start..if is_tail_short { self.size } else { last.end }));
            };
            match self.open.take() {
                None if part.start < HOLE_BYTES_MIN => self.open = Some(0..part.end),
                None => self.open = Some(part),
                Some(open) if part.start - open.end < HOLE_BYTES_MIN => self.open = Some(open.start..part.end),
                Some(open) => {
                    self.open = Some(part);
                    return Some(Ok(open));
                }
            }
        }
    }
}
