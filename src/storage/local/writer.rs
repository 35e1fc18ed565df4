//! How is one file written, from its first byte until it is an object? See [`super`] for the order and why.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::{fmt, io};

use super::Inner;
use crate::error::{Error, Result};
use crate::format::name::ObjectName;
use crate::storage::disk::{WriteFile, write_all};
use crate::storage::{ObjectWriter, Put};

/// Small writes are gathered up to this many bytes.
const WRITE_BUFFER_BYTES: usize = 256 << 10;

/// Bytes that are written before the disk is asked to start on them.
const WRITEBACK_BYTES: u64 = 8 << 20;

/// An object being written: a temporary file until it is finished.
pub(super) struct LocalWriter {
    inner: Arc<Inner>,
    path: PathBuf,
    /// `None` once it has been renamed or removed.
    file: Option<Box<dyn WriteFile>>,
    buffer: Vec<u8>,
    written: u64,
    /// Where the part ends that the disk was asked to start on.
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

    fn write_through(&mut self, bytes: &[u8]) -> io::Result<()> {
        let Some(file) = self.file.as_mut().filter(|_| !self.failed) else {
            return Err(io::Error::other("an earlier write to it failed"));
        };
        self.failed = true;
        write_all(&mut **file, bytes)?;
        self.written += bytes.len() as u64;
        self.failed = false;
        let waiting = self.written - self.begun;
        if waiting >= WRITEBACK_BYTES {
            file.start_writeback(self.begun, waiting);
            self.begun = self.written;
        }
        Ok(())
    }

    /// Makes the bytes durable, and the directory that is to have them.
    fn prepare(&mut self, path: &Path) -> Result<()> {
        self.flush()?;
        if let Some(file) = self.file.as_mut() {
            file.sync().map_err(|e| Error::io("sync", &self.path, e))?;
        }
        self.inner.make_durable(path.parent().unwrap_or(&self.inner.root))
    }

    /// Makes the file durable and visible at a path below the root, unless something is there.
    pub(super) fn finish_at(mut self, path: &Path) -> Result<Put> {
        self.prepare(path)?;
        let put = match self.inner.disk.rename_new(&self.path, path) {
            Ok(()) => {
                self.file = None;
                Put::Created
            }
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists => Put::Present,
            Err(e) => return Err(Error::io("create", path, e)),
        };
        self.inner.sync_parent(path)?;
        Ok(put)
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

    fn finish(self: Box<Self>, name: &ObjectName) -> Result<Put> {
        let path = self.inner.path(name);
        self.finish_at(&path)
    }

    fn replace(mut self: Box<Self>, name: &ObjectName) -> Result<()> {
        let path = self.inner.path(name);
        self.prepare(&path)?;
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
