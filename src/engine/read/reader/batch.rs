//! How are many files read at once? Frame by frame, in parallel: each is read and decoded once, however many callers want
//! bytes of it.

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use rayon::prelude::*;

use super::table::Known;
use super::{Reader, put};
use crate::engine::read::fetch::FrameSink;
use crate::engine::read::frame::FrameBytes;
use crate::engine::read::plan::{Frames, Plan, ReadSegment};
use crate::error::{Error, Result};

/// Frames that one thread takes at a time, at least.
const FRAMES_AT_ONCE: usize = 8;

/// A file of a batch.
#[derive(Default)]
struct Receiver {
    bytes: Mutex<Vec<u8>>,
    failed: AtomicBool,
}

/// The files of a batch, by their numbers.
struct Receivers(Vec<Receiver>);

impl FrameSink for Receivers {
    fn deliver(&self, segments: &[ReadSegment], frame: &Arc<FrameBytes>) -> Result<()> {
        for own in segments.chunk_by(|a, b| a.destination == b.destination) {
            let receiver = own.first().and_then(|segment| self.0.get(segment.destination as usize));
            let Some(receiver) = receiver else { continue };
            let mut bytes = receiver.bytes.lock().unwrap_or_else(PoisonError::into_inner);
            own.iter().for_each(|segment| put(segment, frame, &mut bytes));
        }
        Ok(())
    }

    fn fail(&self, segment: &ReadSegment, _: &Error) -> Result<()> {
        if let Some(receiver) = self.0.get(segment.destination as usize) {
            receiver.failed.store(true, Ordering::Relaxed);
        }
        Ok(())
    }
}

impl Reader<'_> {
    /// The bytes of the files at many paths: the outcome for each path, in their order, as [`Reader::read`] has it.
    ///
    /// All of them are in memory at once. The work is done by the threads of the current rayon pool.
    pub fn read_many<P: AsRef<Path> + Sync>(&self, paths: &[P]) -> Vec<Result<Vec<u8>>> {
        let (mut tabled, mut others) = (Vec::new(), Plan::default());
        let plan = |(number, path): (u32, &P)| {
            self.plan_file(path.as_ref(), number, &mut tabled, &mut others).unwrap_or_else(|_| Receiver::failed())
        };
        let receivers = Receivers((0u32..).zip(paths).map(plan).collect());
        self.serve_all(self.table.frames(), &mut tabled, &receivers);
        let mut segments = std::mem::take(&mut others.segments);
        self.serve_all(others.frames(), &mut segments, &receivers);
        let outcomes = receivers.0.into_iter().zip(paths).map(|(receiver, path)| match receiver.failed.into_inner() {
            false => Ok(receiver.bytes.into_inner().unwrap_or_else(PoisonError::into_inner)),
            // Alone, it says what is wrong with it.
            true => self.read(path),
        });
        outcomes.collect()
    }

    /// Serves segments by frame. Files that cannot be had are marked as failed.
    fn serve_all(&self, frames: &Frames, segments: &mut [ReadSegment], receivers: &Receivers) {
        segments.sort_unstable_by_key(|segment| (segment.frame, segment.destination, segment.offset));
        let groups: Vec<&[ReadSegment]> = segments.chunk_by(|a, b| a.frame == b.frame).collect();
        groups.par_chunks(FRAMES_AT_ONCE).for_each(|groups| {
            let served = self.fetcher().and_then(|mut fetcher| {
                groups.iter().try_for_each(|group| fetcher.serve(frames, group, receivers))?;
                self.lock_idle().push(fetcher.into_reader());
                Ok(())
            });
            if let Err(error) = served {
                // No file of these is known to be whole.
                groups.iter().copied().flatten().for_each(|segment| drop(receivers.fail(segment, &error)));
            }
        });
    }

    /// Notes what is wanted for a file of a batch, and makes room for it.
    fn plan_file(
        &self,
        path: &Path,
        number: u32,
        tabled: &mut Vec<ReadSegment>,
        others: &mut Plan,
    ) -> Result<Receiver> {
        let row = self.row(path).ok_or_else(|| Error::not_found("a file"))?;
        let size = match self.table.content(row) {
            Known::Chunks(chunks) => {
                tabled.extend(chunks.segments(0..chunks.size(), number));
                chunks.size()
            }
            Known::Source(source, size) => self.plan_source(row, source, size, |size| 0..size, number, others)?,
        };
        let room = usize::try_from(size).map_err(|_| Error::not_found("room"))?;
        let mut bytes = Vec::new();
        bytes.try_reserve_exact(room).map_err(|_| Error::not_found("room"))?;
        bytes.resize(room, 0);
        Ok(Receiver { bytes: Mutex::new(bytes), failed: AtomicBool::new(false) })
    }
}

impl Receiver {
    fn failed() -> Self {
        Self { failed: AtomicBool::new(true), ..Self::default() }
    }
}
