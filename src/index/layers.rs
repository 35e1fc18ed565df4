//! How can many processes share one index file, when the database in it wants a file to itself?
//!
//! Each process sees the file (the *base*) as it was at opening, and lays what it writes over it in a private, unlinked
//! temporary file (the *top*). While a process looks at the base it holds a shared lock on it. When it is done, and has
//! closed its database, it takes the exclusive lock for the moment it needs to copy its top into the base. If it cannot
//! have the lock, because others still read, it puts a new file in the place of the base, and they keep theirs; if that
//! is too much to write for what was changed, or if the base is no longer the one it opened, its changes are dropped:
//! the index lags behind the packs, and the next process to open it catches up. So no reader waits for a writer but
//! while it copies, no writer for a reader, and nobody rebuilds an index that is there.
//!
//! Invariants: every block read from the base carries the checksum it was written with, for its number, or the read
//! fails ([`blocks`]); a base that was left half written is never taken for whole.

mod blocks;
#[cfg(test)]
mod tests;

use std::fs::{File, OpenOptions, TryLockError};
use std::io;
use std::ops::Range;
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, Instant};

use rustix::fs::{MemfdFlags, memfd_create};

use crate::storage::disk::{ChangeFile, Disk, SystemDisk};

use blocks::{BLOCK_BYTES, HEADER_BYTES, Header, STORED_BYTES, damaged, physical, read_blocks, write_blocks};

/// How long to wait for a process that is copying its top into the base: so long, and a second for so many bytes of the
/// base. To make a great index anew takes longer.
const LOCK_PATIENCE: Duration = Duration::from_secs(2);
const LOCK_PATIENCE_BYTES: u64 = 64 << 20;

/// A new file is put in the place of a base in use if it is at most so long, or so many times as long as what changed.
const BESIDE_BYTES: u64 = 64 << 20;
const BESIDE_FACTOR: u64 = 8;

/// What became of the changes at the end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Persisted {
    /// They are in the base, and synced.
    Yes,
    /// Others are using the base, or it is another one by now: they were dropped.
    No,
}

/// The two layers, as one run of bytes that can be read, written and resized.
#[derive(Debug)]
pub(super) struct Layers {
    path: PathBuf,
    /// What the base is written to.
    disk: Arc<dyn Disk>,
    base: Option<Arc<Base>>,
    /// Whether what is in the base is a part of this, where the top does not cover it.
    shows_base: bool,
    /// What the base said of itself at opening, usable or not.
    seen: Option<Header>,
    fresh: bool,
    top: File,
    /// Whether a write ever failed: then the database may not have closed as it should.
    failed: AtomicBool,
    extent: RwLock<Extent>,
    /// How many more writes succeed, for tests that let one fail.
    #[cfg(test)]
    pub(super) writes_left: std::sync::atomic::AtomicU64,
}

#[derive(Debug)]
struct Base {
    file: File,
    header: Header,
}

/// Which bytes there are, and in which layer.
#[derive(Debug)]
struct Extent {
    bytes: u64,
    /// Blocks below this are in the base, where they are not in the top.
    base_blocks: u64,
    /// One bit a block: whether it is in the top.
    in_top: Vec<u64>,
}

impl Extent {
    fn is_in_top(&self, block: u64) -> bool {
        self.in_top.get((block / 64) as usize).is_some_and(|word| word >> (block % 64) & 1 == 1)
    }

    fn put_in_top(&mut self, blocks: Range<u64>) {
        let words = blocks.end.div_ceil(64) as usize;
        if self.in_top.len() < words {
            self.in_top.resize(words, 0);
        }
        for block in blocks {
            if let Some(word) = self.in_top.get_mut((block / 64) as usize) {
                *word |= 1 << (block % 64);
            }
        }
    }

    fn drop_from(&mut self, block: u64) {
        self.base_blocks = self.base_blocks.min(block);
        self.in_top.truncate(block.div_ceil(64) as usize);
        if !block.is_multiple_of(64)
            && let Some(word) = self.in_top.get_mut((block / 64) as usize)
        {
            *word &= (1 << (block % 64)) - 1;
        }
    }

    /// The end of the run of blocks from `start` on that are in the same layer, at most `end`.
    fn same_layer(&self, start: u64, end: u64) -> (Layer, u64) {
        let layer = self.layer(start);
        let mut stop = start + 1;
        while stop < end && self.layer(stop) == layer {
            stop += 1;
        }
        (layer, stop)
    }

    fn layer(&self, block: u64) -> Layer {
        if self.is_in_top(block) {
            Layer::Top
        } else if block < self.base_blocks {
            Layer::Base
        } else {
            Layer::Neither
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Layer {
    Top,
    Base,
    /// Never written: zeros.
    Neither,
}

impl Layers {
    /// Looks at the file at `path` if it is a whole index and can be shared, at nothing if not. `fresh` looks at
    /// nothing, and will replace what is there.
    ///
    /// # Errors
    /// When no temporary file can be made, neither beside `path` nor in the system's place for them.
    pub(super) fn open(path: &Path, fresh: bool) -> io::Result<Self> {
        // A file that cannot be looked at is no reason to fail: it is a cache.
        let (base, seen) = if fresh { (None, None) } else { Base::open(path).unwrap_or((None, None)) };
        Self::over(path, base.map(Arc::new), true, seen, fresh, temporary_beside(path)?)
    }

    /// As [`Self::open`], the top in memory.
    pub(super) fn open_in_memory(path: &Path, fresh: bool) -> io::Result<Self> {
        let (base, seen) = if fresh { (None, None) } else { Base::open(path).unwrap_or((None, None)) };
        let top = File::from(memfd_create("index", MemfdFlags::CLOEXEC)?);
        Self::over(path, base.map(Arc::new), true, seen, fresh, top)
    }

    /// The same, the base written to another disk.
    pub(super) fn on_disk(self, disk: Arc<dyn Disk>) -> Self {
        Self { disk, ..self }
    }

    /// Layers that look at nothing, and will replace what these look at.
    pub(super) fn successor(&self) -> io::Result<Self> {
        let top = temporary_beside(&self.path)?;
        let over = Self::over(&self.path, self.base.clone(), false, self.seen, self.fresh, top)?;
        Ok(over.on_disk(Arc::clone(&self.disk)))
    }

    fn over(
        path: &Path,
        base: Option<Arc<Base>>,
        shows_base: bool,
        seen: Option<Header>,
        fresh: bool,
        top: File,
    ) -> io::Result<Self> {
        let bytes = base.as_ref().filter(|_| shows_base).map_or(0, |base| base.header.bytes);
        let extent = Extent { bytes, base_blocks: bytes.div_ceil(BLOCK_BYTES as u64), in_top: Vec::new() };
        Ok(Self {
            path: path.to_owned(),
            disk: Arc::new(SystemDisk::PRIVATE),
            shows_base: shows_base && base.is_some(),
            base,
            seen,
            fresh,
            top,
            failed: AtomicBool::new(false),
            extent: RwLock::new(extent),
            #[cfg(test)]
            writes_left: u64::MAX.into(),
        })
    }

    /// Whether there is a base to look at.
    pub(super) fn has_base(&self) -> bool {
        self.base.is_some()
    }

    /// Bytes of the database.
    pub(super) fn len(&self) -> u64 {
        self.extent.read().unwrap_or_else(PoisonError::into_inner).bytes
    }

    /// Bytes that the base and the top take on disk, which is more than the base will take.
    pub(super) fn disk_bytes(&self) -> io::Result<u64> {
        let mut blocks = self.top.metadata()?.blocks();
        if let Some(base) = self.base.as_ref().filter(|_| self.shows_base) {
            blocks += base.file.metadata()?.blocks();
        }
        Ok(blocks * 512)
    }

    /// Makes the database this long; what is new reads as zeros.
    pub(super) fn set_len(&self, bytes: u64) -> io::Result<()> {
        let mut extent = self.extent.write().unwrap_or_else(PoisonError::into_inner);
        if bytes < extent.bytes {
            if !bytes.is_multiple_of(BLOCK_BYTES as u64) {
                return Err(io::Error::new(io::ErrorKind::InvalidInput, "the database ends inside a block"));
            }
            let blocks = bytes / BLOCK_BYTES as u64;
            extent.drop_from(blocks);
            if self.top.metadata()?.len() > physical(blocks) {
                self.top.set_len(physical(blocks))?;
            }
        }
        extent.bytes = bytes;
        Ok(())
    }

    /// Fills `out` from the bytes at `offset`.
    pub(super) fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let extent = self.extent.read().unwrap_or_else(PoisonError::into_inner);
        let end = offset.checked_add(out.len() as u64).filter(|end| *end <= extent.bytes);
        let end = end.ok_or_else(|| damaged("read past the end of the database"))?;
        let mut out = out;
        let mut block = offset / BLOCK_BYTES as u64;
        let mut skip = (offset % BLOCK_BYTES as u64) as usize;
        let end_block = end.div_ceil(BLOCK_BYTES as u64);
        while block < end_block && !out.is_empty() {
            // Bounded, so that the scratch space is.
            let (layer, stop) = extent.same_layer(block, end_block.min(block + 16));
            let bytes = ((stop - block) as usize * BLOCK_BYTES - skip).min(out.len());
            let (part, rest) = out.split_at_mut(bytes);
            match layer {
                Layer::Neither => part.fill(0),
                Layer::Top => read_blocks(&self.top, block..stop, skip, part)?,
                Layer::Base => {
                    let base = self.base.as_ref().ok_or_else(|| damaged("no base"))?;
                    read_blocks(&base.file, block..stop, skip, part)?;
                }
            }
            out = rest;
            block = stop;
            skip = 0;
        }
        Ok(())
    }

    /// Writes `data` at `offset`.
    pub(super) fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.try_write(offset, data).inspect_err(|_| self.failed.store(true, Ordering::Relaxed))
    }

    fn try_write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        #[cfg(test)]
        if self.writes_left.try_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1)).is_err() {
            return Err(io::ErrorKind::StorageFull.into());
        }
        let block_bytes = BLOCK_BYTES as u64;
        let end = offset + data.len() as u64;
        let blocks = offset / block_bytes..end.div_ceil(block_bytes);
        let start = blocks.start * block_bytes;
        let whole = ((blocks.end - blocks.start) * block_bytes) as usize;
        if start == offset && whole == data.len() {
            write_blocks(&self.top, blocks.clone(), data)?;
        } else {
            let mut around = vec![0; whole];
            let known = self.len().saturating_sub(start).min(whole as u64) as usize;
            if let Some(known) = around.get_mut(..known) {
                self.read(start, known)?;
            }
            let skip = (offset - start) as usize;
            if let Some(part) = around.get_mut(skip..skip + data.len()) {
                part.copy_from_slice(data);
            }
            write_blocks(&self.top, blocks.clone(), &around)?;
        }
        let mut extent = self.extent.write().unwrap_or_else(PoisonError::into_inner);
        extent.bytes = extent.bytes.max(end);
        extent.put_in_top(blocks);
        Ok(())
    }

    /// Copies the top into the base, which is made if need be. The database must be closed.
    ///
    /// # Errors
    /// What the system says about writing or syncing: the base is then left as not whole.
    pub(super) fn persist(&self) -> io::Result<Persisted> {
        if self.failed.load(Ordering::Relaxed) {
            return Err(io::Error::other("an earlier write failed"));
        }
        let changed = match self.disk.open_to_change(&self.path) {
            Ok(changed) => changed,
            Err(e) if matches!(e.kind(), io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem) => {
                return Ok(Persisted::No);
            }
            Err(e) => return Err(e),
        };
        let file = changed.file();
        if let Some(base) = &self.base {
            if !same_file(&base.file, file)? {
                return Ok(Persisted::No);
            }
            // A lock belongs to an open file: the shared one would stand in the way of the exclusive one. What may
            // happen between the two is noticed by the generation.
            base.file.unlock()?;
        }
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return self.persist_beside(),
            // No locks on this file system: nobody can know whether it is in use.
            Err(TryLockError::Error(_)) => return Ok(Persisted::No),
        }
        let found = Header::read(file)?;
        // Made or changed by another process meanwhile, if not. One that is not whole is nobody's.
        let unchanged = found == self.seen || found.is_none_or(|found| !found.whole) && self.base.is_none();
        if !unchanged && !self.fresh {
            return Ok(Persisted::No);
        }
        self.replace(&*changed, found.map_or(0, |found| found.generation), false)?;
        Ok(Persisted::Yes)
    }

    /// Puts a new file in the place of a base that others look at.
    fn persist_beside(&self) -> io::Result<Persisted> {
        let Some(base) = &self.base else { return Ok(Persisted::No) };
        // The base must stay as it is while it is copied.
        if base.file.try_lock_shared().is_err() || Header::read(&base.file)? != self.seen {
            return Ok(Persisted::No);
        }
        if self.len() > BESIDE_BYTES.max(self.top.metadata()?.blocks() * 512 * BESIDE_FACTOR) {
            return Ok(Persisted::No);
        }
        let name = beside(&self.path);
        let changed = self.disk.open_to_change(&name)?;
        let file = changed.file();
        // One at a time; and what was in the place of the base by the time of the lock is left alone.
        if file.try_lock().is_err() || !File::open(&name).is_ok_and(|now| same_file(&now, file).unwrap_or(false)) {
            return Ok(Persisted::No);
        }
        changed.set_len(0)?;
        self.replace(&*changed, base.header.generation, true)?;
        if !File::open(&self.path).is_ok_and(|now| same_file(&now, &base.file).unwrap_or(false)) {
            self.disk.remove(&name)?;
            return Ok(Persisted::No);
        }
        self.disk.rename_over(&name, &self.path)?;
        Ok(Persisted::Yes)
    }

    /// Writes the top over `file`, and the base too if it is `elsewhere`. First the file says that it is not whole, last that it is; syncs keep them apart.
    fn replace(&self, file: &dyn ChangeFile, generation: u64, elsewhere: bool) -> io::Result<()> {
        let extent = self.extent.read().unwrap_or_else(PoisonError::into_inner);
        let mut header = Header { generation: generation.wrapping_add(1), bytes: extent.bytes, whole: false };
        header.write(file)?;
        file.sync()?;
        let blocks = extent.bytes.div_ceil(BLOCK_BYTES as u64);
        if !self.shows_base {
            // Nothing of what is there is wanted.
            file.set_len(HEADER_BYTES)?;
        }
        file.set_len(physical(blocks))?;
        let mut buffer = Vec::new();
        let mut block = 0;
        while block < blocks {
            let (layer, stop) = extent.same_layer(block, blocks.min(block + 256));
            let from = match layer {
                Layer::Top => Some(&self.top),
                Layer::Base => self.base.as_ref().map(|base| &base.file).filter(|_| elsewhere),
                Layer::Neither => None,
            };
            if let Some(from) = from {
                buffer.resize((stop - block) as usize * STORED_BYTES, 0);
                from.read_exact_at(&mut buffer, physical(block))?;
                // Checksums go along, so what is damaged stays so. Holes stay holes.
                if buffer.iter().any(|byte| *byte != 0) {
                    file.write_at(&buffer, physical(block))?;
                }
            }
            block = stop;
        }
        file.sync()?;
        header.whole = true;
        header.write(file)?;
        file.sync()
    }
}

impl Base {
    /// The base at `path`, under a shared lock, if there is a whole one; and what it says of itself.
    fn open(path: &Path) -> io::Result<(Option<Self>, Option<Header>)> {
        let file = File::open(path)?;
        let patience = LOCK_PATIENCE + Duration::from_secs(file.metadata()?.len() / LOCK_PATIENCE_BYTES);
        let start = Instant::now();
        loop {
            match file.try_lock_shared() {
                Ok(()) => break,
                Err(TryLockError::WouldBlock) if start.elapsed() < patience => {
                    std::thread::sleep(Duration::from_millis(5));
                }
                Err(_) => return Ok((None, None)),
            }
        }
        let seen = Header::read(&file)?;
        let Some(header) = seen.filter(|header| header.whole) else { return Ok((None, seen)) };
        // A bound on what the header says, before anything relies on it.
        let held = file.metadata()?.len();
        if header.bytes > held || held < physical(header.bytes.div_ceil(BLOCK_BYTES as u64)) {
            return Ok((None, seen));
        }
        Ok((Some(Self { file, header }), seen))
    }
}

/// Where the file is made that is to take the place of the one at `path`. It is locked while it is written.
pub(super) fn beside(path: &Path) -> PathBuf {
    let mut name = path.to_owned().into_os_string();
    name.push(".new");
    PathBuf::from(name)
}

fn same_file(a: &File, b: &File) -> io::Result<bool> {
    let (a, b) = (a.metadata()?, b.metadata()?);
    Ok((a.dev(), a.ino()) == (b.dev(), b.ino()))
}

/// A file without a name beside `path`, or where the system has its temporary files.
fn temporary_beside(path: &Path) -> io::Result<File> {
    let folder = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    temporary_file(folder).or_else(|_| temporary_file(&std::env::temp_dir()))
}

/// A file without a name.
fn temporary_file(folder: &Path) -> io::Result<File> {
    let unnamed = i32::try_from(rustix::fs::OFlags::TMPFILE.bits()).map_err(io::Error::other)?;
    let mut options = OpenOptions::new();
    options.read(true).write(true).mode(0o600);
    if let Ok(file) = options.clone().custom_flags(unnamed).open(folder) {
        return Ok(file);
    }
    // File systems without unnamed files.
    let name = folder.join(format!("index.{}.{:p}.tmp", std::process::id(), &raw const options));
    let file = options.create_new(true).open(&name)?;
    std::fs::remove_file(&name)?;
    Ok(file)
}
