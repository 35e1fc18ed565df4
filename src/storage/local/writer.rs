//! How is one file written, from its first byte until it is an object? See [`super`] for the order and why.

use std::path::PathBuf;
use std::sync::Arc;
use std::{fmt, io};

use super::Inner;
use crate::error::{Error, Result};
use crate::format::name::ObjectName;
use crate::storage::disk::WriteFile;
use crate::storage::{ObjectWriter, Put};

/// Small writes are gathered up to this many bytes.
const WRITE_BUFFER_BYTES: usize = 256 << 10;

/// So many bytes are written before the disk is told to begin with them.
const WRITEBACK_BYTES: u64 = 8 << 20;

/// An object being written: a temporary file until it is finished.
pub(super) struct LocalWriter {
    inner: Arc<Inner>,
    path: PathBuf,
    /// `None` once it has been renamed or removed.
    file: Option<Box<dyn WriteFile>>,
    buffer: Vec<u8>,
    written: u64,
    /// Up to where the disk was told to begin.
    begun: u64,
    failed: bool,
}

impl fmt::Debug for LocalWriter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LocalWriter").field("path", &self.path).field("written", &self.written).finish_non_exhaustive()
    }
}

impl LocalWriter {
    pub(super) fn begin(inner: &Arc<Inner>) -> Result<Self> {
        let (path, file) = inner.create_temporary()?;
        let inner = Arc::clone(inner);
        Ok(Self { inner, path, file: Some(file), buffer: Vec::new(), written: 0, begun: 0, failed: false })
    }

    fn write_through(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        let Some(file) = self.file.as_mut().filter(|_| !self.failed) else {
            return Err(io::Error::other("an earlier write to it failed"));
        };
        self.failed = true;
        while !bytes.is_empty() {
            match file.write(bytes) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(count) => {
                    bytes = bytes.get(count..).unwrap_or_default();
                    self.written += count as u64;
                }
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(e),
            }
        }
        self.failed = false;
        let waiting = self.written - self.begun;
        if waiting >= WRITEBACK_BYTES {
            file.start_writeback(self.begun, waiting);
            self.begun = self.written;
        }
        Ok(())
    }

    /// Makes the bytes durable, and the directory that is to have them; says where.
    fn prepare(&mut self, name: &ObjectName) -> Result<PathBuf> {
        self.flush()?;
        if let Some(file) = self.file.as_mut() {
            file.sync().map_err(|e| Error::io("sync", &self.path, e))?;
        }
        let path = self.inner.path(name);
        self.inner.make_durable(path.parent().unwrap_or(&self.inner.root))?;
        Ok(path)
    }

    fn flush(&mut self) -> Result<()> {
        let buffer = std::mem::take(&mut self.buffer);
        let written = self.write_through(&buffer);
        self.buffer = buffer;
        self.buffer.clear();
        written.map_err(|e| Error::io("write", &self.path, e))
    }
}

impl ObjectWriter for LocalWriter {
    fn write(&mut self, bytes: &[u8]) -> Result<()> {
        if self.buffer.len() + bytes.len() > WRITE_BUFFER_BYTES {
            self.flush()?;
        }
        if bytes.len() >= WRITE_BUFFER_BYTES {
            return self.write_through(bytes).map_err(|e| Error::io("write", &self.path, e));
        }
        self.buffer.extend_from_slice(bytes);
        Ok(())
    }

    fn finish(mut self: Box<Self>, name: &ObjectName) -> Result<Put> {
        let path = self.prepare(name)?;
        let put = match self.inner.disk.rename_new(&self.path, &path) {
            Ok(()) => {
                self.file = None;
                Put::Created
            }
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists => Put::Present,
            Err(e) => return Err(Error::io("create", path, e)),
        };
        self.inner.sync_parent(&path)?;
        Ok(put)
    }

    fn replace(mut self: Box<Self>, name: &ObjectName) -> Result<()> {
        let path = self.prepare(name)?;
        self.inner.disk.rename_over(&self.path, &path).map_err(|e| Error::io("replace", &path, e))?;
        self.file = None;
        self.inner.forget(name);
        self.inner.sync_parent(&path)
    }
}

impl Drop for LocalWriter {
    fn drop(&mut self) {
        if self.file.is_some() {
            // A sweep gets what cannot be removed now.
            let _ = self.inner.disk.remove(&self.path);
        }
    }
}
