//! Arrays whose place in the file is known, written without the library.

use std::os::unix::fs::FileExt;

use super::Export;
use crate::error::Result;

/// So much is written at once.
const BUFFER_BYTES: usize = 256 << 10;

/// An array being written front to back.
pub(super) struct RawColumn<'a, 's> {
    export: &'a Export<'a, 's>,
    at: u64,
    buffer: Vec<u8>,
}

impl<'a, 's> RawColumn<'a, 's> {
    pub(super) fn new(export: &'a Export<'a, 's>, at: u64) -> Self {
        Self { export, at, buffer: Vec::new() }
    }

    pub(super) fn number(&mut self, number: u64) -> Result<()> {
        self.bytes(&number.to_le_bytes())
    }

    pub(super) fn bytes(&mut self, bytes: &[u8]) -> Result<()> {
        self.buffer.extend_from_slice(bytes);
        if self.buffer.len() < BUFFER_BYTES { Ok(()) } else { self.flush() }
    }

    pub(super) fn finish(mut self) -> Result<()> {
        self.flush()
    }

    fn flush(&mut self) -> Result<()> {
        self.export.file.write_all_at(&self.buffer, self.at).map_err(|source| self.export.failed(source))?;
        self.at += self.buffer.len() as u64;
        self.buffer.clear();
        Ok(())
    }
}
