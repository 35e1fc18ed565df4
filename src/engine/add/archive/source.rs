//! Where do an archive's bytes come from? From a file, any part at any time; or from what is read once, in order.

use std::io::{self, Read};
use std::sync::Arc;

use crate::archive::Input;
use crate::engine::add::origin::Origin;

/// So much is read of a stream at once, at least and at most.
const READ_BYTES_MIN: usize = 128 << 10;
const READ_BYTES_MAX: usize = 1 << 20;

/// An archive's bytes.
pub(super) enum Source {
    /// In a file of this size, which workers read themselves.
    File { origin: Arc<Origin>, size: u64 },
    /// Read once.
    Stream(Window),
}

impl Source {
    /// How far the bytes go, up to `end`.
    pub(super) fn reach(&mut self, end: u64) -> u64 {
        match self {
            Self::File { size, .. } => end.min(*size),
            Self::Stream(window) => window.fill_to(end),
        }
    }

    /// Why a stream ended before its end.
    pub(super) fn take_error(&mut self) -> Option<io::Error> {
        match self {
            Self::File { .. } => None,
            Self::Stream(window) => window.take_error(),
        }
    }
}

impl Input for Source {
    fn read_at(&mut self, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::File { origin, .. } => match &**origin {
                Origin::File { file, .. } => file.read_at(offset, buffer),
                Origin::Stream { .. } => Ok(0),
            },
            Self::Stream(window) => window.read_at(offset, buffer),
        }
    }
}

/// What was read of a stream and not handed on yet. Where reading fails, the stream ends.
pub(in crate::engine) struct Window {
    reader: Box<dyn Read + Send>,
    bytes: Vec<u8>,
    /// Where it begins in the stream.
    start: u64,
    ended: bool,
    error: Option<io::Error>,
}

impl Window {
    pub(in crate::engine) fn new(reader: Box<dyn Read + Send>) -> Self {
        Self { reader, bytes: Vec::new(), start: 0, ended: false, error: None }
    }

    fn end(&self) -> u64 {
        self.start + self.bytes.len() as u64
    }

    /// Reads up to `end`, and says how far that went.
    pub(in crate::engine) fn fill_to(&mut self, end: u64) -> u64 {
        while self.end() < end && !self.ended {
            let wanted = usize::try_from(end - self.end()).unwrap_or(READ_BYTES_MAX);
            let filled = self.bytes.len();
            self.bytes.resize(filled + wanted.clamp(READ_BYTES_MIN, READ_BYTES_MAX), 0);
            let read = read_once(&mut *self.reader, self.bytes.get_mut(filled..).unwrap_or_default());
            self.bytes.truncate(filled + *read.as_ref().unwrap_or(&0));
            match read {
                Ok(read) => self.ended = read == 0,
                Err(error) => {
                    self.ended = true;
                    self.error = Some(error);
                }
            }
        }
        self.end().min(end)
    }

    /// Why the stream ended before its end.
    pub(in crate::engine) fn take_error(&mut self) -> Option<io::Error> {
        self.error.take()
    }

    /// Moves the bytes up to `end` to the back of `to`: as many as there are.
    pub(in crate::engine) fn take_to(&mut self, end: u64, to: &mut Vec<u8>) {
        let end = self.fill_to(end);
        let count = usize::try_from(end.saturating_sub(self.start)).unwrap_or_default();
        to.extend(self.bytes.drain(..count));
        self.start += count as u64;
    }

    /// The bytes from `offset` on, which are not handed on yet, as many as there are.
    pub(in crate::engine) fn read_at(&mut self, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        let end = self.fill_to(offset.saturating_add(buffer.len() as u64));
        let from = usize::try_from(offset.saturating_sub(self.start)).unwrap_or(usize::MAX);
        let count = usize::try_from(end.saturating_sub(offset)).unwrap_or_default();
        let bytes = self.bytes.get(from..).and_then(|rest| rest.get(..count)).unwrap_or_default();
        if let Some(room) = buffer.get_mut(..bytes.len()) {
            room.copy_from_slice(bytes);
        }
        Ok(bytes.len())
    }
}

impl Input for Window {
    fn read_at(&mut self, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        Window::read_at(self, offset, buffer)
    }
}

impl Read for Window {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.bytes.is_empty() {
            return match self.error.take() {
                Some(error) => Err(error),
                None => {
                    let read = read_once(&mut *self.reader, buffer)?;
                    self.start += read as u64;
                    Ok(read)
                }
            };
        }
        let count = buffer.len().min(self.bytes.len());
        for (to, from) in buffer.iter_mut().zip(self.bytes.drain(..count)) {
            *to = from;
        }
        self.start += count as u64;
        Ok(count)
    }
}

fn read_once(reader: &mut dyn Read, buffer: &mut [u8]) -> io::Result<usize> {
    loop {
        match reader.read(buffer) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            read => return read,
        }
    }
}

/// Reads a file front to back; its position does not depend on other readers.
pub(super) struct Sequential {
    pub(super) origin: Arc<Origin>,
    pub(super) at: u64,
}

impl Read for Sequential {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let Origin::File { file, .. } = &*self.origin else { return Ok(0) };
        let read = file.read_at(self.at, buffer)?;
        self.at += read as u64;
        Ok(read)
    }
}
