//! The standard streams, as the process got them: blocking or not, open or closed.
//!
//! A stream shared with another program may be non-blocking, because that program set it so. The standard library then
//! returns `EAGAIN` in the middle of the data. Here a write waits until the stream takes more bytes. A stream that was
//! closed when the process began is an error where it is used: the runtime of the standard library opens `/dev/null` in
//! its place, which would swallow all data in silence.

use std::io::{self, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;
use std::sync::OnceLock;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;

use crate::error::{Error, Result};

/// What standard output is called in errors.
pub(super) const STDOUT: &str = "standard output";

/// Which standard streams were closed when the process began.
#[derive(Debug, Clone, Copy, Default)]
pub struct ClosedStreams {
    /// File descriptor 0.
    pub input: bool,
    /// File descriptor 1.
    pub output: bool,
}

static CLOSED: OnceLock<ClosedStreams> = OnceLock::new();

/// Remembers which streams were closed. To be called once, first.
pub(super) fn set_closed(closed: ClosedStreams) {
    let _ = CLOSED.set(closed);
}

fn closed() -> ClosedStreams {
    CLOSED.get().copied().unwrap_or_default()
}

/// Standard output, without a buffer.
#[derive(Debug)]
pub(super) struct StandardOutput;

impl Write for StandardOutput {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if closed().output {
            return Err(Errno::BADF.into());
        }
        write_waiting(io::stdout().as_fd(), bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Standard error, without a buffer.
#[derive(Debug)]
pub(super) struct StandardError;

impl Write for StandardError {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        write_waiting(io::stderr().as_fd(), bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Fails if standard input was closed when the process began: it would read as an empty file.
///
/// # Errors
/// [`Error::Io`].
pub(super) fn check_input() -> Result<()> {
    if closed().input { Err(Error::io("read", Path::new("standard input"), Errno::BADF)) } else { Ok(()) }
}

/// One write of at least one byte; waits while the stream takes none.
fn write_waiting(stream: BorrowedFd<'_>, bytes: &[u8]) -> io::Result<usize> {
    loop {
        match rustix::io::write(stream, bytes) {
            Err(Errno::INTR) => {}
            // The stream has no time limit when it blocks, so none here.
            Err(Errno::AGAIN) => match poll(&mut [PollFd::new(&stream, PollFlags::OUT)], None) {
                Ok(_) | Err(Errno::INTR) => {}
                Err(errno) => return Err(errno.into()),
            },
            written => return Ok(written?),
        }
    }
}
