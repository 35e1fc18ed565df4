//! How is a generation written, so that no moment of it costs what was there before?
//!
//! ```text
//! cut off      what an export that was killed left behind the last whole generation
//! objects      one behind the other; synced
//! index        of all objects there are by now; synced: from here on the generation is there
//! footer       says where the index is; synced: only now is it said to be stored
//! ```
//! Nothing before the end of the last generation is ever written to, so who reads is not disturbed and no crash takes
//! anything away. Only one appends at a time: the file is locked, and looked at again once it is.
//!
//! A new bundle is written under a name of its own, beside the one it is to have, and renamed when it is whole.

use std::ffi::OsString;
use std::fs::TryLockError;
use std::hash::{BuildHasher, RandomState};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::find::has_footer_within;
use super::{BundleFile, find};
use crate::error::{Error, Result};
use crate::format::bundle::{
    BUNDLE_HEADER_BYTES, BundleId, FOOTER_BYTES, Footer, HEAD_BYTES, Head, INDEX_BYTES_MAX, ObjectPlace, Record,
    aligned, header,
};
use crate::format::id::ByteHasher;
use crate::format::name::ObjectName;
use crate::storage::disk::{ChangeFile, Disk, WriteFile, write_all};

/// Writes are gathered up to this many bytes.
const WRITE_BUFFER_BYTES: usize = 1 << 20;

/// Bytes that are written before the disk is asked to start on them.
const WRITEBACK_BYTES: u64 = 8 << 20;

/// What bytes go to.
enum Sink<'w> {
    /// A bundle that is there.
    Append(Box<dyn ChangeFile>),
    /// A file that will be one, and the name that it will have.
    New { file: Box<dyn WriteFile>, temporary: PathBuf },
    /// Somebody who takes it front to back.
    Stream(&'w mut dyn Write),
}

/// A generation being written. Dropped before [`BundleWriter::commit`], it leaves what was there.
pub struct BundleWriter<'w> {
    disk: Arc<dyn Disk>,
    path: PathBuf,
    sink: Sink<'w>,
    bundle: BundleId,
    /// How many generations there will be.
    generation: u64,
    /// Objects of older generations, and those written since.
    places: Vec<ObjectPlace>,
    /// Where the last generation ends; to be cut off there if this one is abandoned.
    begun: u64,
    /// Bytes that went to the sink, older generations included.
    sent: u64,
    /// Where the part ends that the disk was asked to start on.
    hinted: u64,
    buffer: Vec<u8>,
    /// Whether anything was written, or tried to be.
    touched: bool,
    done: bool,
}

impl std::fmt::Debug for BundleWriter<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("BundleWriter").field("path", &self.path).field("sent", &self.sent).finish_non_exhaustive()
    }
}

/// A generation that is durable.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Committed {
    /// How many generations there are.
    pub generation: u64,
    /// Bytes of the bundle.
    pub bytes: u64,
    /// Bytes that this generation added.
    pub added_bytes: u64,
}

impl<'w> BundleWriter<'w> {
    /// Begins a bundle that is to have a name which nothing has.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn create(disk: Arc<dyn Disk>, path: &Path, bundle: BundleId) -> Result<Self> {
        sweep(&*disk, folder_of(path));
        let temporary = temporary_beside(path);
        let file = disk.create(&temporary).map_err(|source| Error::io("create", &temporary, source))?;
        Self::begin(disk, path, Sink::New { file, temporary }, bundle)
    }

    /// Begins a bundle that goes to `out`, which `name` is said to be.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn stream(disk: Arc<dyn Disk>, out: &'w mut dyn Write, name: &Path, bundle: BundleId) -> Result<Self> {
        Self::begin(disk, name, Sink::Stream(out), bundle)
    }

    fn begin(disk: Arc<dyn Disk>, path: &Path, sink: Sink<'w>, bundle: BundleId) -> Result<Self> {
        let mut writer = Self {
            disk,
            path: path.to_owned(),
            sink,
            bundle,
            generation: 1,
            places: Vec::new(),
            begun: 0,
            sent: 0,
            hinted: 0,
            buffer: Vec::new(),
            touched: false,
            done: false,
        };
        writer.write(&header(bundle))?;
        Ok(writer)
    }

    /// Begins another generation of a bundle. `places` gives the objects of the last one.
    ///
    /// # Errors
    /// [`Error::Locked`] if somebody else appends to it; as [`find`]; [`Error::BundleDamaged`] if a whole generation lies
    /// behind bytes that cannot be read, which would be cut off; what `places` answers.
    pub fn append(
        disk: Arc<dyn Disk>,
        path: &Path,
        places: impl FnOnce(BundleFile, super::BundleContents) -> Result<Vec<ObjectPlace>>,
    ) -> Result<Self> {
        // First, or the other name that a killed export may have left of this very file would seem to be in use.
        sweep(&*disk, folder_of(path));
        let file = disk.open_to_change(path).map_err(|source| Error::io("open", path, source))?;
        lock(&*file, path)?;
        let read = BundleFile::open(&*disk, path)?;
        let found = find(&read)?;
        if let Some(at) = has_footer_within(&read, found.bundle, found.end)? {
            let what = format!(
                "expected the end of generation {}, found bytes that are damaged, and another generation behind them, which \
                 ends at {at}: nothing is appended here",
                found.generation
            );
            return Err(read.damaged(found.end, what));
        }
        let (bundle, generation, begun) = (found.bundle, found.generation + 1, found.end);
        let is_longer = read.bytes() > begun;
        let places = places(read, found)?;
        if is_longer {
            file.set_len(begun).map_err(|source| Error::io("truncate", path, source))?;
        }
        Ok(Self {
            disk,
            path: path.to_owned(),
            sink: Sink::Append(file),
            bundle,
            generation,
            places,
            begun,
            sent: begun,
            hinted: begun,
            buffer: Vec::new(),
            touched: false,
            done: false,
        })
    }

    /// Appends an object of a length in bytes. `fill` gives them, in any number of parts, to the function it is given.
    ///
    /// # Errors
    /// What `fill` answers; [`Error::Io`]. The generation is lost then.
    pub fn put(
        &mut self,
        name: ObjectName,
        bytes: u64,
        fill: impl FnOnce(&mut dyn FnMut(&[u8]) -> Result<()>) -> Result<()>,
    ) -> Result<()> {
        let at = self.at();
        self.write(&Head { record: Record::Object(name), bytes }.encode(self.bundle, at))?;
        let offset = self.at();
        let mut hasher = ByteHasher::default();
        fill(&mut |part| {
            hasher.update(part);
            self.write(part)
        })?;
        if self.at() - offset != bytes {
            let what = format!("expected {bytes} bytes, found {}", self.at() - offset);
            return Err(Error::damaged_whole(name.path(), what));
        }
        self.pad()?;
        self.places.push(ObjectPlace { name, offset, bytes, hash: Some(hasher.finish()) });
        Ok(())
    }

    /// All objects there are by now, those of older generations first.
    #[must_use]
    pub fn places(&self) -> &[ObjectPlace] {
        &self.places
    }

    /// Ends the generation with an index of [`Self::places`]. When it returns, the generation is durable, and a new bundle
    /// has its name.
    ///
    /// # Errors
    /// [`Error::Exists`] if something else has the name by now; [`Error::Usage`] for an index that is too long;
    /// [`Error::Io`]. What was there is there.
    pub fn commit(mut self, index: &[u8]) -> Result<Committed> {
        if index.len() as u64 > INDEX_BYTES_MAX {
            return Err(Error::Usage(format!("a bundle holds no more objects than {INDEX_BYTES_MAX} bytes can list")));
        }
        self.sync()?;
        let hash = ByteHasher::default().update(index).finish();
        let index_at = self.at();
        let head = Head { record: Record::Index(hash), bytes: index.len() as u64 };
        self.write(&head.encode(self.bundle, index_at))?;
        self.write(index)?;
        self.pad()?;
        self.sync()?;
        let footer = Footer {
            bundle: self.bundle,
            generation: self.generation,
            index_at,
            index_bytes: index.len() as u64,
            index_hash: hash,
            objects: self.places.len() as u64,
        };
        let footer = footer.encode(self.at());
        self.write(&footer)?;
        self.sync()?;
        self.name()?;
        self.done = true;
        Ok(Committed { generation: self.generation, bytes: self.sent, added_bytes: self.sent - self.begun })
    }

    /// Gives a new bundle its name.
    fn name(&mut self) -> Result<()> {
        let Sink::New { temporary, .. } = &self.sink else { return Ok(()) };
        let folder = folder_of(&self.path);
        self.disk.rename_new(temporary, &self.path).map_err(|e| match e.kind() {
            io::ErrorKind::AlreadyExists => Error::Exists { path: self.path.clone() },
            _ => Error::io("create", &self.path, e),
        })?;
        self.done = true;
        self.disk.sync_dir(folder).map_err(|e| Error::io("sync", folder, e))
    }

    /// Where the next byte goes.
    fn at(&self) -> u64 {
        self.sent + self.buffer.len() as u64
    }

    fn write(&mut self, bytes: &[u8]) -> Result<()> {
        if self.buffer.len() + bytes.len() > WRITE_BUFFER_BYTES {
            self.flush()?;
        }
        if bytes.len() >= WRITE_BUFFER_BYTES {
            return self.send(bytes);
        }
        self.buffer.extend_from_slice(bytes);
        Ok(())
    }

    fn pad(&mut self) -> Result<()> {
        let at = self.at();
        let zeros = [0; HEAD_BYTES as usize];
        let missing = aligned(at).unwrap_or(at) - at;
        self.write(zeros.get(..missing as usize).unwrap_or_default())
    }

    fn flush(&mut self) -> Result<()> {
        let mut buffer = std::mem::take(&mut self.buffer);
        let sent = self.send(&buffer);
        buffer.clear();
        self.buffer = buffer;
        sent
    }

    fn send(&mut self, bytes: &[u8]) -> Result<()> {
        self.touched = true;
        let (written, path) = match &mut self.sink {
            Sink::Append(file) => (file.write_at(bytes, self.sent), &self.path),
            Sink::New { file, temporary } => (write_all(&mut **file, bytes), &*temporary),
            Sink::Stream(out) => (out.write_all(bytes), &self.path),
        };
        written.map_err(|source| Error::io("write", path, source))?;
        self.sent += bytes.len() as u64;
        let waiting = self.sent - self.hinted;
        if waiting >= WRITEBACK_BYTES {
            match &mut self.sink {
                Sink::Append(file) => file.start_writeback(self.hinted, waiting),
                Sink::New { file, .. } => file.start_writeback(self.hinted, waiting),
                Sink::Stream(_) => {}
            }
            self.hinted = self.sent;
        }
        Ok(())
    }

    fn sync(&mut self) -> Result<()> {
        self.flush()?;
        let (synced, path) = match &mut self.sink {
            Sink::Append(file) => (file.sync(), &self.path),
            Sink::New { file, temporary } => (file.sync(), &*temporary),
            Sink::Stream(out) => (out.flush(), &self.path),
        };
        synced.map_err(|source| Error::io("sync", path, source))
    }
}

impl Drop for BundleWriter<'_> {
    fn drop(&mut self) {
        // What cannot be taken away now is taken away by the next export, and read by nobody until then.
        let _ = match &self.sink {
            _ if self.done => Ok(()),
            Sink::Append(file) if self.touched => file.set_len(self.begun),
            Sink::Append(_) => Ok(()),
            Sink::New { temporary, .. } => self.disk.remove(temporary),
            Sink::Stream(_) => Ok(()),
        };
        // Closing alone would leave the lock to a child that was just forked.
        if let Sink::Append(file) = &self.sink {
            let _ = file.file().unlock();
        }
    }
}

fn lock(file: &dyn ChangeFile, path: &Path) -> Result<()> {
    match file.file().try_lock() {
        // Where there are no locks nobody can be kept away.
        Ok(()) | Err(TryLockError::Error(_)) => Ok(()),
        Err(TryLockError::WouldBlock) => Err(Error::Locked { path: path.to_owned() }),
    }
}

/// The folder that a path is in.
fn folder_of(path: &Path) -> &Path {
    path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

const TEMPORARY_START: &str = ".seamstore-";
const TEMPORARY_END: &str = ".bundle.tmp";

fn temporary_beside(path: &Path) -> PathBuf {
    let (process, random) = (std::process::id(), RandomState::new().hash_one(path));
    folder_of(path).join(format!("{TEMPORARY_START}{process}-{random:016x}{TEMPORARY_END}"))
}

/// Removes what exports that are gone left in a folder.
fn sweep(disk: &dyn Disk, folder: &Path) {
    let is_ours = |name: &OsString| {
        name.to_str().is_some_and(|name| name.starts_with(TEMPORARY_START) && name.ends_with(TEMPORARY_END))
    };
    // Tidiness: what cannot be removed is in nobody's way.
    for name in disk.names(folder).unwrap_or_default().into_iter().filter(is_ours) {
        let _ = disk.remove_unlocked(&folder.join(name));
    }
}

const _: () = assert!(BUNDLE_HEADER_BYTES == HEAD_BYTES && FOOTER_BYTES.is_multiple_of(HEAD_BYTES));
