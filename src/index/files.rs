//! Which runs are there, and how does one become a file? Several processes at once, and none waits for another.
//!
//! ```text
//! write <random>.tmp, locked     nothing looks at it
//! fsync it                       its bytes are durable before it has its name
//! rename to <random>.chunks      it counts, whole; or to <random>.recipes
//! remove what was merged         who has it open reads on
//! ```
//!
//! There is no list of the files that count: each says what it covers, and one that covers nothing that a larger one does
//! not is not needed. So two processes that merge the same runs at once leave two that cover the same, and the next
//! process that writes removes one. A process that is killed leaves a temporary file, which the next one that writes removes,
//! or runs that are not needed. No name is given twice, so that removing one removes what was looked at.
//!
//! Invariant: what fails here costs time and nothing else. A run that cannot be written in the folder goes to a file
//! without a name, and if that fails too, into memory.

use std::collections::HashSet;
use std::fs::File;
use std::hash::{BuildHasher, RandomState};
use std::io::{self, Read, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

use super::keyspace::{Batch, OpenRun};
use super::merge::{Failure, Plan};
use super::run::{Run, Source, StoreKey, Value};
use crate::storage::disk::{Disk, ReadFile, WriteFile, is_trusted};
use crate::storage::scratch::nameless;

/// Runs of a kind that are looked at. There are some twenty; more only where many processes wrote at once.
const RUNS_MAX: usize = 256;

/// This often a folder is listed again in which a run was gone before it was opened.
const LISTINGS_MAX: usize = 4;

/// Bytes that are written before the disk is asked to begin with them.
const WRITEBACK_BYTES: u64 = 8 << 20;

/// Where new runs go: the first of these that has not failed.
const NAMED: u8 = 0;
const NAMELESS: u8 = 1;
const MEMORY: u8 = 2;

/// The files of an index.
#[derive(Debug)]
pub(super) struct Files {
    /// Where runs have names; `None` where there is no such place.
    folder: Option<PathBuf>,
    /// Where files without a name are made.
    scratch: PathBuf,
    store: StoreKey,
    disk: Arc<dyn Disk>,
    keep: bool,
    target: AtomicU8,
}

impl Files {
    /// The files in a folder, which is made when it is needed. They are changed only if `keep` is set.
    pub(super) fn new(folder: Option<&Path>, scratch: &Path, store: StoreKey, disk: Arc<dyn Disk>, keep: bool) -> Self {
        // A folder or link that somebody else put there says nothing, and nothing is written to it.
        let folder = folder.filter(|folder| match std::fs::symlink_metadata(folder) {
            Ok(found) => found.is_dir() && is_trusted(found.uid()),
            Err(e) => e.kind() == io::ErrorKind::NotFound,
        });
        let keep = keep && folder.is_some();
        let target = AtomicU8::new(if keep { NAMED } else { NAMELESS });
        Self { folder: folder.map(Path::to_owned), scratch: scratch.to_owned(), store, disk, keep, target }
    }

    /// Whether all that was written has a name.
    pub(super) fn is_kept(&self) -> bool {
        self.target.load(Ordering::Relaxed) == NAMED
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.as_ref().unwrap_or(&self.scratch).join(name)
    }

    /// How messages name a run.
    pub(super) fn describe(&self, name: Option<&str>) -> PathBuf {
        name.map_or_else(|| self.scratch.join("(a temporary file)"), |name| self.path(name))
    }

    fn names(&self) -> Vec<String> {
        let names = self.folder.as_ref().map(|folder| self.disk.names(folder));
        names.and_then(Result::ok).into_iter().flatten().filter_map(|name| name.into_string().ok()).collect()
    }

    /// The runs of a kind, with their names and sources.
    pub(super) fn runs<V: Value>(&self) -> Vec<(String, Run<V>, Vec<Source>)> {
        let mut runs: Vec<(String, Run<V>, Vec<Source>)> = Vec::new();
        for _ in 0..LISTINGS_MAX {
            let mut names = self.names();
            names.retain(|name| name.ends_with(V::EXTENSION));
            names.truncate(RUNS_MAX);
            runs.retain(|(name, ..)| names.contains(name));
            let mut is_gone = false;
            for name in names {
                if runs.iter().any(|(known, ..)| *known == name) {
                    continue;
                }
                let file = match self.disk.open(&self.path(&name)) {
                    Ok(file) => file,
                    Err(e) => {
                        is_gone |= e.kind() == io::ErrorKind::NotFound;
                        continue;
                    }
                };
                // What belongs to somebody else is not read.
                let Ok(Some(bytes)) = file.own_bytes() else { continue };
                match Run::open(file, bytes, &self.store) {
                    Ok((run, sources)) => runs.push((name, run, sources)),
                    Err(_) => self.remove(&name),
                }
            }
            if !is_gone {
                break;
            }
        }
        runs
    }

    /// Removes what processes that are gone were writing.
    pub(super) fn sweep(&self) {
        if self.keep {
            for name in self.names().iter().filter(|name| name.ends_with(".tmp")) {
                let _ = self.disk.remove_unlocked(&self.path(name));
            }
        }
    }

    /// Removes a run, if files may be changed. One that is gone already, or cannot be removed, is not needed anyway.
    pub(super) fn remove(&self, name: &str) {
        if self.keep {
            let _ = self.disk.remove(&self.path(name));
        }
    }

    /// Which runs a new one may be merged with: those beside which it will be, while there is room for both.
    pub(super) fn mergeable<V: Value>(&self) -> impl Fn(&OpenRun<V>) -> bool + use<V> {
        let target = self.target.load(Ordering::Relaxed);
        let there: HashSet<String> = if target == NAMED { self.names().into_iter().collect() } else { HashSet::new() };
        let room =
            rustix::fs::statvfs(if target == NAMED { self.folder.as_ref() } else { None }.unwrap_or(&self.scratch))
                .map_or(u64::MAX, |disk| disk.f_bavail.saturating_mul(disk.f_frsize));
        move |run| match &run.name {
            // One that is gone was merged by another process.
            Some(name) => target == NAMED && there.contains(name) && run.run.bytes < room / 4,
            None => target == NAMELESS && run.run.bytes < room / 4,
        }
    }

    /// Writes a run; returns it with its name and the numbers of its sources. `None` if nothing of it counts.
    ///
    /// # Errors
    /// A run that was to be merged cannot be used; or nothing can be written.
    pub(super) fn write<V: Value>(&self, batch: &Batch<V>) -> Result<Option<Written<V>>, Failure> {
        let tag = RandomState::new().hash_one(std::process::id());
        let target = self.target.load(Ordering::Relaxed);
        let written = batch.write((self.store, tag), |plan| match target {
            NAMED => self.write_named(plan),
            NAMELESS => self.write_nameless(plan).map(|file| (None, file)),
            _ => Memory::write(plan).map(|file| (None, file)),
        });
        let written = written.and_then(|written| {
            let Some(((name, file), numbers)) = written else { return Ok(None) };
            let bytes = file.own_bytes()?.unwrap_or_default();
            let (run, _) = Run::open(file, bytes, &self.store).map_err(io::Error::other)?;
            Ok(Some((run, name, numbers)))
        });
        if matches!(written, Err(Failure::Output(_))) && batch.merged.is_empty() && target < MEMORY {
            self.target.store(target + 1, Ordering::Relaxed);
            return self.write(batch);
        }
        written
    }

    fn write_named<V: Value>(&self, plan: &Plan<'_, V>) -> Result<(Option<String>, Arc<dyn ReadFile>), Failure> {
        let folder = self.folder.as_ref().ok_or_else(|| io::Error::from(io::ErrorKind::NotFound))?;
        match self.disk.make_dir(folder) {
            Err(e) if e.kind() != io::ErrorKind::AlreadyExists => return Err(e.into()),
            _ => {}
        }
        let temporary = self.path(&format!("{:016x}.tmp", plan.tag));
        let name = format!("{:016x}{}", plan.tag, V::EXTENSION);
        let mut file = self.disk.create(&temporary)?;
        let named = self.fill(&mut *file, plan).and_then(|()| {
            self.disk.rename_over(&temporary, &self.path(&name))?;
            Ok(self.disk.open(&self.path(&name))?)
        });
        match named {
            Ok(file) => Ok((Some(name), file)),
            Err(e) => {
                // One of the two is there. A sweep gets what cannot be removed now.
                let _ = self.disk.remove(&temporary);
                let _ = self.disk.remove(&self.path(&name));
                Err(e)
            }
        }
    }

    fn fill<V: Value>(&self, file: &mut dyn WriteFile, plan: &Plan<'_, V>) -> Result<(), Failure> {
        plan.write(&mut Output { file, written: 0, begun: 0 })?;
        Ok(file.sync()?)
    }

    fn write_nameless<V: Value>(&self, plan: &Plan<'_, V>) -> Result<Arc<dyn ReadFile>, Failure> {
        let mut file: File = nameless(&self.scratch).or_else(|_| nameless(&std::env::temp_dir()))?;
        plan.write(&mut file)?;
        Ok(Arc::new(file))
    }
}

/// A run, its name, and the numbers of its sources.
pub(super) type Written<V> = (Run<V>, Option<String>, Vec<u32>);

/// A file, written front to back.
struct Output<'f> {
    file: &'f mut dyn WriteFile,
    written: u64,
    begun: u64,
}

impl Write for Output<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = self.file.write(bytes)?;
        self.written += count as u64;
        let waiting = self.written - self.begun;
        if waiting >= WRITEBACK_BYTES {
            self.file.start_writeback(self.begun, waiting);
            self.begun = self.written;
        }
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A run where no disk takes it.
#[derive(Debug)]
struct Memory(Vec<u8>);

impl Memory {
    fn write<V: Value>(plan: &Plan<'_, V>) -> Result<Arc<dyn ReadFile>, Failure> {
        let mut bytes = Vec::new();
        plan.write(&mut bytes)?;
        Ok(Arc::new(Self(bytes)))
    }
}

impl ReadFile for Memory {
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        let rest = usize::try_from(offset).ok().and_then(|offset| self.0.get(offset..));
        rest.unwrap_or_default().read(buffer)
    }

    fn own_bytes(&self) -> io::Result<Option<u64>> {
        Ok(Some(self.0.len() as u64))
    }
}
