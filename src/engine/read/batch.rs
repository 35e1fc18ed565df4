//! How are many small files read at once? Into one buffer, each frame decoded once.

use std::ops::Range;
use std::sync::Mutex;

use super::fetch::fetch;
use super::plan::Plan;
use super::stream::Buffer;
use crate::engine::read::layout::Layout;
use crate::engine::store::chunk_index::ChunkIndex;
use crate::engine::store::control::Control;
use crate::error::Result;

/// Files to be read.
#[derive(Default)]
pub(in crate::engine) struct Batch {
    bytes: Vec<u8>,
    plan: Plan,
}

impl Batch {
    /// How many bytes there are.
    pub(in crate::engine) fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Plans to read a file, which fits into memory; says where its bytes will be.
    pub(in crate::engine) fn push(&mut self, chunk_index: &ChunkIndex<'_>, layout: &Layout) -> Result<Range<usize>> {
        let start = self.bytes.len();
        for part in layout.parts(0..layout.bytes()) {
            self.plan.want_part(chunk_index, &part, 0, start as u64 + part.offset)?;
        }
        self.bytes.resize(start + layout.bytes() as usize, 0);
        Ok(start..self.bytes.len())
    }

    /// Reads them. If the user asked to stop, not all of them.
    ///
    /// # Errors
    /// [`Error::Damaged`](crate::Error::Damaged) if one cannot be had.
    pub(in crate::engine) fn read(
        mut self,
        chunk_index: &ChunkIndex<'_>,
        control: &Control,
        threads: usize,
    ) -> Result<Vec<u8>> {
        let destination = Buffer { bytes: Mutex::new(&mut self.bytes) };
        fetch(chunk_index, &mut self.plan, threads, &|| control.is_stopped(), &destination)?;
        Ok(self.bytes)
    }
}
