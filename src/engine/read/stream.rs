//! How do a file's bytes come out in order? In windows: the frames of a window are decoded in parallel, then its bytes
//! are handed on front to back.

use std::io::Write;
use std::ops::Range;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use super::fetch::{FrameSink, bytes_of, ended_by, fetch};
use super::frame::FrameBytes;
use super::plan::{Plan, ReadSegment};
use crate::engine::read::layout::Layout;
use crate::engine::store::chunk_index::ChunkIndex;
use crate::engine::store::control::Control;
use crate::error::{Error, Result};

/// The bytes of a window.
const WINDOW_BYTES: usize = 16 << 20;

/// Where the bytes go, and what that is called in errors.
pub(in crate::engine) struct Output<'a> {
    pub(in crate::engine) writer: &'a mut dyn Write,
    pub(in crate::engine) name: &'a Path,
}

/// Writes the bytes `range` of a file to `output`.
pub(in crate::engine) fn stream(
    chunk_index: &ChunkIndex<'_>,
    layout: &Layout,
    range: Range<u64>,
    output: Output<'_>,
    control: &Control,
    threads: usize,
) -> Result<()> {
    let mut roll = Roll::new(chunk_index, output, control, threads);
    roll.push(layout, range)?;
    roll.finish().map(|_| ())
}

/// A stream that is put together from files and from bytes between them, and written window by window.
pub(in crate::engine) struct Roll<'a, 's, 'o> {
    chunk_index: &'a ChunkIndex<'s>,
    output: Output<'o>,
    control: &'a Control,
    threads: usize,
    /// The window at hand; what its plan is of is still zeros.
    window: Vec<u8>,
    plan: Plan,
    written: u64,
}

impl<'a, 's, 'o> Roll<'a, 's, 'o> {
    pub(in crate::engine) fn new(
        chunk_index: &'a ChunkIndex<'s>,
        output: Output<'o>,
        control: &'a Control,
        threads: usize,
    ) -> Self {
        Self { chunk_index, output, control, threads, window: Vec::new(), plan: Plan::default(), written: 0 }
    }

    /// Appends bytes.
    pub(in crate::engine) fn write(&mut self, bytes: &[u8]) -> Result<()> {
        self.window.extend_from_slice(bytes);
        if self.window.len() < WINDOW_BYTES { Ok(()) } else { self.flush() }
    }

    /// Appends a range of a file.
    pub(in crate::engine) fn push(&mut self, layout: &Layout, range: Range<u64>) -> Result<()> {
        let mut at = range.start;
        while at < range.end {
            let filled = self.window.len();
            let next = range.end.min(at + WINDOW_BYTES.saturating_sub(filled) as u64);
            for part in layout.parts(at..next) {
                self.plan.want_part(self.chunk_index, &part, 0, filled as u64 + (part.offset - at))?;
            }
            self.window.resize(filled + (next - at) as usize, 0);
            at = next;
            if self.window.len() >= WINDOW_BYTES {
                self.flush()?;
            }
        }
        Ok(())
    }

    /// Writes what is left, and says how many bytes there were in all.
    pub(in crate::engine) fn finish(mut self) -> Result<u64> {
        self.flush()?;
        self.output.writer.flush().map_err(|source| Error::io("write", self.output.name, source))?;
        Ok(self.written)
    }

    fn flush(&mut self) -> Result<()> {
        let mut plan = std::mem::take(&mut self.plan);
        let destination = Buffer { bytes: Mutex::new(&mut self.window) };
        fetch(self.chunk_index, &mut plan, self.threads, &|| self.control.is_stopped(), &destination)?;
        if self.control.is_stopped() {
            return Err(Error::Interrupted { kept: format!("{} bytes were written", self.written) });
        }
        let Output { writer, name } = &mut self.output;
        writer.write_all(&self.window).map_err(|source| Error::io("write", *name, source))?;
        self.written += self.window.len() as u64;
        self.control.count(0, self.window.len() as u64);
        self.window.clear();
        Ok(())
    }
}

/// All bytes of a file that fits into memory.
pub(super) fn collect(chunk_index: &ChunkIndex<'_>, layout: &Layout) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    read_window(chunk_index, layout, 0..layout.bytes(), &mut bytes)?;
    Ok(bytes)
}

/// Replaces `buffer` by a range of a file, each of its frames decoded once.
pub(super) fn read_window(
    chunk_index: &ChunkIndex<'_>,
    layout: &Layout,
    window: Range<u64>,
    buffer: &mut Vec<u8>,
) -> Result<()> {
    let mut plan = Plan::default();
    for part in layout.parts(window.clone()) {
        plan.want_part(chunk_index, &part, 0, part.offset - window.start)?;
    }
    buffer.clear();
    buffer.resize((window.end - window.start) as usize, 0);
    fetch(chunk_index, &mut plan, 1, &|| false, &Buffer { bytes: Mutex::new(buffer) })
}

pub(super) struct Buffer<'a> {
    pub(super) bytes: Mutex<&'a mut Vec<u8>>,
}

impl FrameSink for Buffer<'_> {
    fn deliver(&self, segments: &[ReadSegment], frame: &Arc<FrameBytes>) -> Result<()> {
        let mut buffer = self.bytes.lock().unwrap_or_else(PoisonError::into_inner);
        for segment in segments {
            let start = segment.offset as usize;
            if let Some(place) = buffer.get_mut(start..start + segment.part_bytes as usize) {
                place.copy_from_slice(bytes_of(segment, frame));
            }
        }
        Ok(())
    }

    fn fail(&self, _: &ReadSegment, why: &Error) -> Result<()> {
        // A stream with a gap is worth nothing: it ends before the damage.
        Err(ended_by(why, None))
    }
}
