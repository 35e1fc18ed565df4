//! Which segments does a large file have? Holes between extents are known from the file system and never read; an extent is
//! chunked as if it were a file of its own, so a hole is always a boundary.

use std::collections::VecDeque;
use std::io;
use std::ops::Range;
use std::sync::Arc;

use super::origin::Origin;
use super::pool::Pool;
use super::segment::SEGMENT_BYTES;
use super::stream::Stream;
use super::task::Segment;
use crate::error::Result;

/// Hands out a file's segments, first to last.
#[derive(Debug)]
pub(super) struct Segments {
    origin: Arc<Origin>,
    parts: Parts,
    begun: bool,
}

#[derive(Debug)]
enum Parts {
    /// What is left of each extent of data, ascending.
    File(VecDeque<Extent>),
    Stream(Box<Stream>),
}

/// The rest of an extent.
#[derive(Debug)]
struct Extent {
    start: u64,
    rest: Range<u64>,
}

impl Segments {
    /// All of a big file.
    ///
    /// # Errors
    /// What the system answers.
    pub(super) fn of_origin(origin: &Arc<Origin>) -> io::Result<Self> {
        let Origin::File { file, .. } = &**origin else { return Err(io::ErrorKind::Unsupported.into()) };
        let extents = file.extents().map(|rest| rest.map(|rest| Extent { start: rest.start, rest }));
        let extents = extents.collect::<io::Result<_>>()?;
        Ok(Self { origin: Arc::clone(origin), parts: Parts::File(extents), begun: false })
    }

    /// A part of a big file, cut as if it were a file of its own.
    pub(super) fn of_extent(origin: &Arc<Origin>, extent: Range<u64>) -> Self {
        let extents = VecDeque::from([Extent { start: extent.start, rest: extent }]);
        Self { origin: Arc::clone(origin), parts: Parts::File(extents), begun: false }
    }

    /// What is read in order, front to back.
    pub(super) fn of_stream(origin: Arc<Origin>, stream: Stream) -> Self {
        Self { origin, parts: Parts::Stream(Box::new(stream)), begun: false }
    }

    /// Ends it: no segments follow.
    pub(super) fn end(&mut self) {
        self.parts = Parts::File(VecDeque::new());
    }

    pub(super) fn origin(&self) -> Arc<Origin> {
        Arc::clone(&self.origin)
    }

    /// The next segment; `None` after the last. There is at least one, even if the file is all hole.
    pub(super) fn next(&mut self, pool: &Pool, is_stopped: &dyn Fn() -> bool) -> Result<Option<Segment>> {
        let first = !std::mem::replace(&mut self.begun, true);
        let origin = &self.origin;
        let segment = |extent_start, range, bytes, ends_extent, is_last| Segment {
            origin: Arc::clone(origin),
            extent_start,
            range,
            bytes,
            ends_extent,
            is_last,
            held: None,
        };
        match &mut self.parts {
            Parts::File(extents) => {
                let Some(extent) = extents.front_mut() else {
                    return Ok(first.then(|| segment(0, 0..0, None, true, true)));
                };
                let (extent_start, start) = (extent.start, extent.rest.start);
                let end = extent.rest.end.min(start + SEGMENT_BYTES as u64);
                extent.rest.start = end;
                let ends_extent = extent.rest.is_empty();
                if ends_extent {
                    extents.pop_front();
                }
                Ok(Some(segment(extent_start, start..end, None, ends_extent, extents.is_empty())))
            }
            Parts::Stream(stream) => {
                let next = stream.next(pool, is_stopped)?;
                Ok(next.map(|part| segment(0, part.range, Some(part.bytes), part.is_last, part.is_last)))
            }
        }
    }
}
