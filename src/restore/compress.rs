//! How is what leaves a store compressed for other programs? As they do it: one zstd frame with a checksum.

use std::io::{self, Write};

/// Compresses what is written to it. [`Compressed::finish`] ends it.
pub struct Compressed<W: Write> {
    encoder: zstd::stream::write::Encoder<'static, W>,
}

impl<W: Write> std::fmt::Debug for Compressed<W> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Compressed").finish_non_exhaustive()
    }
}

impl<W: Write> Compressed<W> {
    /// Begins a zstd frame of this level.
    ///
    /// # Errors
    /// There is no memory for it.
    pub fn zstd(writer: W, level: i32) -> io::Result<Self> {
        let mut encoder = zstd::stream::write::Encoder::new(writer, level)?;
        encoder.include_checksum(true)?;
        Ok(Self { encoder })
    }

    /// Ends the frame.
    ///
    /// # Errors
    /// What the writer answers.
    pub fn finish(self) -> io::Result<W> {
        let mut writer = self.encoder.finish()?;
        writer.flush()?;
        Ok(writer)
    }
}

impl<W: Write> Write for Compressed<W> {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        self.encoder.write(buffer)
    }

    fn flush(&mut self) -> io::Result<()> {
        // To be flushed when it ends: a block for each window would only cost.
        Ok(())
    }
}
