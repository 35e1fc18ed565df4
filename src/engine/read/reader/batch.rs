//! How are many files read at once? Frame by frame: each is read and decoded once, no matter how many callers want bytes of it, in parallel.

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

use rayon::prelude::*;

use super::table::{Known, ReadSegment};
use super::{Reader, put};
use crate::error::{Error, Result};

/// Frames that one thread takes at a time, at least.
const FRAMES_AT_ONCE: usize = 8;

/// A file of a batch.
#[derive(Default)]
struct Receiver {
    bytes: Mutex<Vec<u8>>,
    failed: AtomicBool,
}

impl Reader<'_> {
    /// The bytes of the files at many paths: the outcome for each path, in their order, as [`Reader::read`] has it.
    ///
    /// All of them are in memory at once. The work is done by the threads of the current rayon pool.
    pub fn read_many<P: AsRef<Path> + Sync>(&self, paths: &[P]) -> Vec<Result<Vec<u8>>> {
        let mut segments = Vec::new();
        let destinations: Vec<Receiver> = (0u32..)
            .zip(paths)
            .map(|(number, path)| {
                self.plan(path.as_ref(), number, &mut segments).unwrap_or_else(|_| Receiver::failed())
            })
            .collect();
        segments.sort_unstable_by_key(|segment| (segment.frame, segment.start));
        let groups: Vec<&[ReadSegment]> = segments.chunk_by(|a, b| a.frame == b.frame).collect();
        groups.par_chunks(FRAMES_AT_ONCE).for_each(|groups| {
            let Ok(mut reader) = self.take_reader() else {
                return groups.iter().for_each(|segments| fail(segments, &destinations));
            };
            for segments in groups {
                let mut deliver = |segment: &ReadSegment, part: &[u8]| {
                    if let Some(destination) = destinations.get(segment.destination as usize) {
                        put(segment, part, &mut destination.bytes.lock().unwrap_or_else(PoisonError::into_inner));
                    }
                };
                if self.serve(&mut reader, segments, &mut deliver).is_err() {
                    fail(segments, &destinations);
                }
            }
            self.lock_idle().push(reader);
        });
        let outcomes =
            destinations.into_iter().zip(paths).map(|(destination, path)| match destination.failed.into_inner() {
                false => Ok(destination.bytes.into_inner().unwrap_or_else(PoisonError::into_inner)),
                // Alone, it says what is wrong with it, and it may be others' chunks of its frame that are damaged.
                true => self.read(path),
            });
        outcomes.collect()
    }

    /// Notes what is wanted for a file of a batch, and makes room for it.
    fn plan(&self, path: &Path, number: u32, segments: &mut Vec<ReadSegment>) -> Result<Receiver> {
        let row = self.row(path).ok_or_else(|| Error::not_found("a file"))?;
        let size = match self.table.content(row) {
            Known::Chunks(chunks) => {
                segments.extend(chunks.segments(0..chunks.size(), number));
                chunks.size()
            }
            Known::Name(content, size) => {
                let located = self.look_up(row, content, size, &(0..size))?;
                segments.extend(located.chunks().segments(0..size, number));
                size
            }
            // Put together on its own, when the others are done.
            Known::Layout(..) => return Ok(Receiver::failed()),
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

fn fail(segments: &[ReadSegment], destinations: &[Receiver]) {
    for destination in segments.iter().filter_map(|segment| destinations.get(segment.destination as usize)) {
        destination.failed.store(true, Ordering::Relaxed);
    }
}
