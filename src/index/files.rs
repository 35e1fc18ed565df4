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
//! without a name, and if that fails too, its entries stay in memory.

use std::fs::File;
use std::hash::{BuildHasher, RandomState};
use std::io::{self, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::keyspace::OpenRun;
use super::merge::{Failure, Plan};
use super::run::{StoreKey, Value};
use crate::storage::disk::{Disk, ReadFile, is_trusted, write_all};
use crate::storage::scratch::nameless;

/// Runs of a kind that are looked at. There are some twenty; more only where many processes wrote at once.
const RUNS_MAX: usize = 256;

/// This often a folder is listed again in which a run was gone before it was opened.
const LISTINGS_MAX: usize = 4;

/// The files of an index.
#[derive(Debug)]
pub(super) struct Files {
    /// Where runs have names; `None` where there is no such place.
    folder: Option<PathBuf>,
    /// Where files without a name are made.
    scratch: PathBuf,
    store: StoreKey,
    disk: Arc<dyn Disk>,
    /// Whether runs are written to the folder: until that fails.
    keep: AtomicBool,
}

impl Files {
    /// The files in a folder, which is made when it is needed. They are changed only if `keep` is set.
    pub(super) fn new(folder: Option<&Path>, scratch: &Path, store: StoreKey, disk: Arc<dyn Disk>, keep: bool) -> Self {
        // A folder or link that somebody else put there says nothing, and nothing is written to it.
        let folder = folder.filter(|folder| match std::fs::symlink_metadata(folder) {
            Ok(found) => found.is_dir() && is_trusted(found.uid()),
            Err(e) => e.kind() == io::ErrorKind::NotFound,
        });
        let keep = AtomicBool::new(keep && folder.is_some());
        Self { folder: folder.map(Path::to_owned), scratch: scratch.to_owned(), store, disk, keep }
    }

    /// Whether what is written is kept, and was so far.
    pub(super) fn is_kept(&self) -> bool {
        self.keep.load(Ordering::Relaxed)
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

    /// The runs of a kind.
    pub(super) fn runs<V: Value>(&self) -> Vec<OpenRun<V>> {
        let mut runs = Vec::new();
        for _ in 0..LISTINGS_MAX {
            runs.clear();
            let mut is_gone = false;
            for name in self.names().into_iter().filter(|name| name.ends_with(V::EXTENSION)).take(RUNS_MAX) {
                match self.disk.open(&self.path(&name)) {
                    Ok(file) => runs.extend(self.found(name, file)),
                    Err(e) => is_gone |= e.kind() == io::ErrorKind::NotFound,
                }
            }
            if !is_gone {
                break;
            }
        }
        runs
    }

    /// The run in a file of the folder. One that is no run of this store is removed; what belongs to another user is
    /// not read.
    fn found<V: Value>(&self, name: String, file: Arc<dyn ReadFile>) -> Option<OpenRun<V>> {
        let bytes = file.own_bytes().ok().flatten()?;
        match OpenRun::open(file, bytes, &self.store, Some(name.clone())) {
            Ok(mut run) => {
                run.found = true;
                Some(run)
            }
            Err(_) => {
                self.remove(&name);
                None
            }
        }
    }

    /// Removes what processes that are gone were writing.
    pub(super) fn sweep(&self) {
        if self.is_kept() {
            for name in self.names().iter().filter(|name| name.ends_with(".tmp")) {
                let _ = self.disk.remove_unlocked(&self.path(name));
            }
        }
    }

    /// Removes a run, if files may be changed. One that is gone already, or cannot be removed, is not needed anyway.
    pub(super) fn remove(&self, name: &str) {
        if self.is_kept() {
            let _ = self.disk.remove(&self.path(name));
        }
    }

    /// Whether a new run may be merged with this one: it will be beside it, and there is room for both.
    pub(super) fn may_merge<V>(&self, run: &OpenRun<V>) -> bool {
        let folder = self.folder.as_ref().filter(|_| self.is_kept()).unwrap_or(&self.scratch);
        let room = rustix::fs::statvfs(folder).map_or(u64::MAX, |disk| disk.f_bavail.saturating_mul(disk.f_frsize));
        (self.is_kept() || run.name.is_none()) && run.run.bytes < room / 4
    }

    /// Writes a run.
    ///
    /// # Errors
    /// A run that was to be merged cannot be used; or nothing can be written.
    pub(super) fn write<V: Value>(&self, plan: &Plan<'_, V>) -> Result<OpenRun<V>, Failure> {
        let tag = RandomState::new().hash_one(std::process::id());
        if self.is_kept() {
            match self.write_named(plan, tag) {
                Err(Failure::Output) if plan.inputs.is_empty() => self.keep.store(false, Ordering::Relaxed),
                written => return written,
            }
        }
        let mut file: File = nameless(&self.scratch).or_else(|_| nameless(&std::env::temp_dir()))?;
        plan.write(self.store, tag, &mut |bytes| file.write_all(bytes))?;
        self.open(Arc::new(file), None)
    }

    fn write_named<V: Value>(&self, plan: &Plan<'_, V>, tag: u64) -> Result<OpenRun<V>, Failure> {
        let folder = self.folder.as_ref().ok_or(Failure::Output)?;
        match self.disk.make_dir(folder) {
            Err(e) if e.kind() != io::ErrorKind::AlreadyExists => return Err(e.into()),
            _ => {}
        }
        let name = format!("{tag:016x}{}", V::EXTENSION);
        let (temporary, path) = (self.path(&format!("{tag:016x}.tmp")), self.path(&name));
        let mut file = self.disk.create(&temporary)?;
        let write = || {
            plan.write(self.store, tag, &mut |bytes| write_all(&mut *file, bytes))?;
            file.sync()?;
            self.disk.rename_over(&temporary, &path)?;
            self.open(self.disk.open(&path)?, Some(name))
        };
        let written = write();
        if written.is_err() {
            // One of the two is there. A sweep gets what cannot be removed now.
            let _ = self.disk.remove(&temporary);
            let _ = self.disk.remove(&path);
        }
        written
    }

    /// Opens a run that was written.
    fn open<V: Value>(&self, file: Arc<dyn ReadFile>, name: Option<String>) -> Result<OpenRun<V>, Failure> {
        let bytes = file.own_bytes()?.unwrap_or_default();
        OpenRun::open(file, bytes, &self.store, name).map_err(|_| Failure::Output)
    }
}
