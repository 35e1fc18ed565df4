//! Where do things go that are too much for memory and worth nothing tomorrow? A file without a name.
//!
//! Objects lie in it one behind the other. Invariant: it never has a name longer than it takes to open it, so it is gone
//! with the last who has it open, however that ends. Nothing of it is durable, and nothing is deleted from it.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::{Listed, ObjectWriter, Put, Storage, fill};
use crate::error::{Error, Result};
use crate::format::name::{ObjectKind, ObjectName};

/// Small writes are gathered up to this many bytes.
const WRITE_BUFFER_BYTES: usize = 256 << 10;

/// Storage in a file without a name. Clones share it. Of its writers one at a time may be in use.
#[derive(Debug, Clone)]
pub struct ScratchStorage {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    /// Where it lies, for messages.
    folder: PathBuf,
    file: File,
    /// Offset and length of each object, by name; and where the last ends.
    objects: Mutex<Objects>,
}

#[derive(Debug, Default)]
struct Objects {
    places: BTreeMap<ObjectName, (u64, u64)>,
    end: u64,
}

impl ScratchStorage {
    /// An empty one, on the file system of a folder that is there.
    ///
    /// # Errors
    /// [`Error::Io`] if nothing can be made there.
    pub fn create(folder: &Path) -> Result<Self> {
        let file = nameless(folder).map_err(|source| Error::io("create a temporary file in", folder, source))?;
        Ok(Self { inner: Arc::new(Inner { folder: folder.to_owned(), file, objects: Mutex::default() }) })
    }
}

impl Inner {
    fn objects(&self) -> MutexGuard<'_, Objects> {
        self.objects.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn place(&self, name: &ObjectName) -> Result<(u64, u64)> {
        let place = self.objects().places.get(name).copied();
        place.ok_or_else(|| Error::not_found(format!("{name} in a temporary file")))
    }
}

/// Opens a file without a name on the file system of a folder.
pub(crate) fn nameless(folder: &Path) -> io::Result<File> {
    let flags = rustix::fs::OFlags::TMPFILE.bits().cast_signed();
    if let Ok(file) = OpenOptions::new().read(true).write(true).custom_flags(flags).mode(0o600).open(folder) {
        return Ok(file);
    }
    // Not every file system can do that. A name for a moment, which sweeping takes for what it is.
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let folder = folder.join("tmp");
    std::fs::create_dir_all(&folder)?;
    loop {
        let name = format!("{}-{}-scratch.tmp", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let path = folder.join(name);
        match OpenOptions::new().read(true).write(true).create_new(true).mode(0o600).open(&path) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(error),
            Ok(file) => {
                std::fs::remove_file(path)?;
                return Ok(file);
            }
        }
    }
}

impl Storage for ScratchStorage {
    fn describe(&self, name: &ObjectName) -> String {
        format!("{name} in a temporary file in {}", self.inner.folder.display())
    }

    fn put_if_absent(&self, name: &ObjectName, bytes: &[u8]) -> Result<Put> {
        let mut writer = self.writer()?;
        writer.write(bytes)?;
        writer.finish(name)
    }

    fn writer(&self) -> Result<Box<dyn ObjectWriter>> {
        let start = self.inner.objects().end;
        Ok(Box::new(ScratchWriter { inner: Arc::clone(&self.inner), start, written: 0, buffer: Vec::new() }))
    }

    fn size(&self, name: &ObjectName) -> Result<u64> {
        Ok(self.inner.place(name)?.1)
    }

    fn read_at(&self, name: &ObjectName, offset: u64, buffer: &mut [u8]) -> Result<()> {
        let (start, length) = self.inner.place(name)?;
        fill(name, offset, buffer, |at, buffer| {
            let rest = usize::try_from(length.saturating_sub(at)).unwrap_or(usize::MAX);
            let room = buffer.len().min(rest);
            let read = self.inner.file.read_at(buffer.get_mut(..room).unwrap_or_default(), start.saturating_add(at));
            read.map_err(|source| Error::io("read a temporary file in", &self.inner.folder, source))
        })
    }

    fn list(&self, kind: ObjectKind) -> Result<Vec<Listed>> {
        let objects = self.inner.objects();
        let listed = |(name, (_, bytes)): (&ObjectName, &(u64, u64))| Listed { name: *name, bytes: *bytes };
        Ok(objects.places.iter().filter(|(name, _)| name.kind() == Some(kind)).map(listed).collect())
    }

    /// The object is no longer there; its bytes are, until the file is gone.
    fn delete(&self, name: &ObjectName) -> Result<()> {
        self.inner.objects().places.remove(name);
        Ok(())
    }
}

#[derive(Debug)]
struct ScratchWriter {
    inner: Arc<Inner>,
    start: u64,
    written: u64,
    buffer: Vec<u8>,
}

impl ScratchWriter {
    fn flush(&mut self) -> Result<()> {
        let written = self.inner.file.write_all_at(&self.buffer, self.start + self.written);
        written.map_err(|source| Error::io("write a temporary file in", &self.inner.folder, source))?;
        self.written += self.buffer.len() as u64;
        self.buffer.clear();
        Ok(())
    }

    fn end(mut self, name: &ObjectName, replace: bool) -> Result<Put> {
        self.flush()?;
        let mut objects = self.inner.objects();
        if objects.places.contains_key(name) && !replace {
            return Ok(Put::Present);
        }
        objects.places.insert(*name, (self.start, self.written));
        objects.end = objects.end.max(self.start + self.written);
        Ok(Put::Created)
    }
}

impl ObjectWriter for ScratchWriter {
    fn write(&mut self, bytes: &[u8]) -> Result<()> {
        self.buffer.extend_from_slice(bytes);
        if self.buffer.len() >= WRITE_BUFFER_BYTES { self.flush() } else { Ok(()) }
    }

    fn finish(self: Box<Self>, name: &ObjectName) -> Result<Put> {
        (*self).end(name, false)
    }

    fn replace(self: Box<Self>, name: &ObjectName) -> Result<()> {
        (*self).end(name, true).map(|_| ())
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing)]
mod tests {
    use super::*;
    use crate::format::id::{RecipesFileId, SnapshotId};

    #[test]
    fn objects_lie_behind_one_another_and_the_folder_stays_empty() {
        let folder = tempfile::tempdir().unwrap();
        let scratch = ScratchStorage::create(folder.path()).unwrap();
        let (first, second) = (ObjectName::Snapshot(SnapshotId([1; 32])), ObjectName::Snapshot(SnapshotId([2; 32])));
        let large: Vec<u8> = (0..600_000_u32).map(|n| n as u8).collect();
        let mut writer = scratch.writer().unwrap();
        large.chunks(1000).for_each(|part| writer.write(part).unwrap());
        assert!(matches!(scratch.size(&first), Err(Error::NotFound { .. })));
        writer.finish(&first).unwrap();
        scratch.put_if_absent(&second, b"second").unwrap();
        assert_eq!(scratch.put_if_absent(&second, b"other").unwrap(), Put::Present);
        assert_eq!((scratch.size(&first).unwrap(), scratch.size(&second).unwrap()), (600_000, 6));
        let mut bytes = vec![0; 600_000];
        scratch.read_at(&first, 0, &mut bytes).unwrap();
        assert!(bytes == large);
        let mut end = [0; 3];
        scratch.read_at(&second, 3, &mut end).unwrap();
        assert_eq!(&end, b"ond");
        // Behind it lies nothing of its own.
        assert!(matches!(scratch.read_at(&first, 599_999, &mut end), Err(Error::Damaged { .. })));
        assert_eq!(scratch.list(ObjectKind::Snapshot).unwrap().len(), 2);
        assert!(matches!(scratch.size(&ObjectName::Recipes(RecipesFileId([1; 32]))), Err(Error::NotFound { .. })));
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
    }
}
