//! Objects as files below one directory: how does a file become visible whole and durable?
//!
//! ```text
//! write tmp/<unique>           bytes go to a file that is no object; it is locked since it has a name
//! fsync the file               its bytes are durable before it has a name
//! rename, never replacing      it is visible, whole
//! fsync the directory          its name is durable: only now is it said to be stored
//! ```
//!
//! Invariants: what is visible was synced before (so an object found present needs its directory synced, no more); a
//! failed sync is final (invariant 9): of a file, it is dropped; of a directory, this storage takes no more writes,
//! because a later sync of the same directory may succeed without having written what the failed one lost.
//! Directories that hold objects are themselves durable before the first object in them is. What is visible need not be
//! durable: its maker may have been killed before the last step, or be at it. A process that relies on an object that it found
//! makes its name durable himself (`Storage::settle`).

mod coordination;
mod lease;
mod quarantine;
mod writer;

use std::collections::HashSet;
use std::fmt;
use std::hash::{BuildHasher, RandomState};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use self::writer::LocalWriter;
#[cfg(test)]
use super::disk::SystemDisk;
use super::disk::{Disk, ReadFile, WriteFile};
use super::{Listed, ObjectWriter, Put, Storage, fill};
use crate::error::{Error, Result, same_error};
use crate::format::name::{ObjectKind, ObjectName};

/// Files kept open for reading. Small enough for a limit of 64 open files to leave room for the rest.
const OPEN_FILES_MAX: usize = 24;

/// Storage in a directory of the local file system. Clones share one.
#[derive(Debug, Clone)]
pub struct LocalStorage {
    inner: Arc<Inner>,
}

struct Inner {
    root: PathBuf,
    disk: Arc<dyn Disk>,
    /// Open files, the one used last at the end.
    open: Mutex<Vec<(ObjectName, Arc<dyn ReadFile>)>>,
    /// Directories below the root whose own names this process has made durable.
    durable: Mutex<HashSet<PathBuf>>,
    /// The directory whose sync failed, and why.
    lost: OnceLock<(PathBuf, io::Error)>,
    temporaries: AtomicU64,
}

impl fmt::Debug for Inner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Inner").field("root", &self.root).field("disk", &self.disk).finish_non_exhaustive()
    }
}

impl LocalStorage {
    /// The storage in a directory that is there. Nothing is written.
    ///
    /// # Errors
    /// [`Error::NotAStore`] if there is no such directory.
    #[cfg(test)]
    pub fn open(root: impl Into<PathBuf>) -> Result<Self> {
        let root = root.into();
        Self::open_on(Arc::new(SystemDisk::like(&root)), root)
    }

    /// The storage in a directory that is made, with those above it, if it is not there.
    ///
    /// # Errors
    /// [`Error::NotAStore`] if something else is in the way; [`Error::Io`].
    #[cfg(test)]
    pub fn create(root: impl Into<PathBuf>) -> Result<Self> {
        let root = root.into();
        Self::create_on(Arc::new(SystemDisk::like(&root)), root)
    }

    /// As [`Self::open`], on another disk.
    ///
    /// # Errors
    /// As [`Self::open`].
    pub fn open_on(disk: Arc<dyn Disk>, root: PathBuf) -> Result<Self> {
        let why = match disk.is_dir(&root) {
            Ok(true) => {
                let inner = Inner {
                    root,
                    disk,
                    open: Mutex::default(),
                    durable: Mutex::default(),
                    lost: OnceLock::new(),
                    temporaries: AtomicU64::new(0),
                };
                return Ok(Self { inner: Arc::new(inner) });
            }
            Ok(false) => "it is not a directory",
            Err(e) if e.kind() == io::ErrorKind::NotFound => "there is no such directory",
            Err(e) => return Err(Error::io("open", root, e)),
        };
        Err(Error::NotAStore { path: root, why: why.to_owned() })
    }

    /// As [`Self::create`], on another disk.
    ///
    /// # Errors
    /// As [`Self::create`].
    pub fn create_on(disk: Arc<dyn Disk>, root: PathBuf) -> Result<Self> {
        make_dirs(&*disk, &root)?;
        Self::open_on(disk, root)
    }

    /// The directory.
    #[must_use]
    pub fn root(&self) -> &Path {
        &self.inner.root
    }

    /// Removes what processes that are gone left half written; says how many files. A temporary file is locked from the
    /// moment that it has its name until it is an object or its process ends, so one that can be locked is nobody's.
    ///
    /// # Errors
    /// [`Error::Io`] if the temporaries cannot be listed. One that cannot be removed is left.
    pub fn sweep_temporaries(&self) -> Result<usize> {
        let folder = self.inner.tmp();
        let names = match self.inner.disk.names(&folder) {
            Ok(names) => names,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(0),
            Err(e) => return Err(Error::io("list", folder, e)),
        };
        let ours = names.iter().filter(|name| Path::new(name).extension().is_some_and(|end| end == "tmp"));
        Ok(ours.filter(|name| matches!(self.inner.disk.remove_unlocked(&folder.join(name)), Ok(true))).count())
    }
}

impl Storage for LocalStorage {
    fn describe(&self, name: &ObjectName) -> String {
        self.inner.path(name).display().to_string()
    }

    fn put_if_absent(&self, name: &ObjectName, bytes: &[u8]) -> Result<Put> {
        let mut writer = Box::new(LocalWriter::begin(&self.inner)?);
        writer.write(bytes)?;
        writer.finish(name)
    }

    fn writer(&self) -> Result<Box<dyn ObjectWriter>> {
        Ok(Box::new(LocalWriter::begin(&self.inner)?))
    }

    fn size(&self, name: &ObjectName) -> Result<u64> {
        let path = self.inner.path(name);
        match self.inner.disk.file_bytes(&path) {
            Ok(Some(bytes)) => Ok(bytes),
            Ok(None) => Err(Error::io("open", path, io::Error::other("it is not a regular file"))),
            Err(e) => Err(self.inner.read_error("inspect", name, e)),
        }
    }

    fn read_at(&self, name: &ObjectName, offset: u64, buffer: &mut [u8]) -> Result<()> {
        let file = self.inner.open(name)?;
        fill(name, offset, buffer, |at, buffer| {
            file.read_at(at, buffer).map_err(|e| self.inner.read_error("read", name, e))
        })
    }

    fn list(&self, kind: ObjectKind) -> Result<Vec<Listed>> {
        let folder = folder_of(kind);
        let mut listed = Vec::new();
        for name in self.inner.names(folder)? {
            let path = format!("{folder}/{name}");
            if kind != ObjectKind::Pack {
                listed.extend(self.inner.listed(&path)?);
            } else if name.len() == 2 {
                for file in self.inner.names(&path)? {
                    listed.extend(self.inner.listed(&format!("{path}/{file}"))?);
                }
            }
        }
        Ok(listed)
    }

    fn settle(&self, name: &ObjectName) -> Result<()> {
        let path = self.inner.path(name);
        self.inner.make_durable(path.parent().unwrap_or(&self.inner.root))?;
        self.inner.sync_parent(&path)
    }

    fn set_aside(&self, name: &ObjectName) -> Result<Option<String>> {
        Ok(Some(self.set_aside(name)?.display().to_string()))
    }

    fn location(&self) -> PathBuf {
        self.inner.root.clone()
    }

    fn own_directories(&self) -> Vec<PathBuf> {
        vec![self.inner.root.clone()]
    }

    fn sweep(&self) {
        // What cannot be removed is in nobody's way.
        let _ = self.sweep_temporaries();
    }

    #[cfg(test)]
    fn close_files(&self) {
        self.inner.open_files().clear();
    }

    fn delete(&self, name: &ObjectName) -> Result<()> {
        let path = self.inner.path(name);
        self.inner.check_lost()?;
        self.inner.forget(name);
        match self.inner.disk.remove(&path) {
            Ok(()) => self.inner.sync_parent(&path),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(e) => Err(Error::io("remove", path, e)),
        }
    }
}

impl Inner {
    fn path(&self, name: &ObjectName) -> PathBuf {
        self.root.join(name.path())
    }

    fn tmp(&self) -> PathBuf {
        self.root.join("tmp")
    }

    fn open_files(&self) -> MutexGuard<'_, Vec<(ObjectName, Arc<dyn ReadFile>)>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Closes an object's file: it will be another one, or none.
    fn forget(&self, name: &ObjectName) {
        self.open_files().retain(|(open, _)| open != name);
    }

    /// The object's file, opened now or before. Objects never change, so a file stays the right one.
    fn open(&self, name: &ObjectName) -> Result<Arc<dyn ReadFile>> {
        let mut files = self.open_files();
        if let Some(at) = files.iter().position(|(open, _)| open == name) {
            let used = files.remove(at);
            let file = Arc::clone(&used.1);
            files.push(used);
            return Ok(file);
        }
        drop(files);
        let path = self.path(name);
        let file = self.with_files(|| self.disk.open(&path)).map_err(|e| self.read_error("open", name, e))?;
        let mut files = self.open_files();
        if files.len() >= OPEN_FILES_MAX {
            files.remove(0);
        }
        files.push((*name, Arc::clone(&file)));
        Ok(file)
    }

    /// Opens something; if too many files are open for that, closes those kept for reading and tries once more.
    fn with_files<T>(&self, open: impl Fn() -> io::Result<T>) -> io::Result<T> {
        use rustix::io::Errno;
        match open() {
            Err(e) if [Errno::MFILE, Errno::NFILE].iter().any(|many| e.raw_os_error() == Some(many.raw_os_error())) => {
                self.open_files().clear();
                open()
            }
            result => result,
        }
    }

    fn read_error(&self, action: &'static str, name: &ObjectName, error: io::Error) -> Error {
        let path = self.path(name);
        match error.kind() {
            io::ErrorKind::NotFound => Error::not_found(path.display().to_string()),
            _ => Error::io(action, path, error),
        }
    }

    /// The names in a directory below the root that are text; none if it is not there or is no directory.
    fn names(&self, folder: &str) -> Result<Vec<String>> {
        let path = self.root.join(folder);
        match self.with_files(|| self.disk.names(&path)) {
            Ok(names) => Ok(names.into_iter().filter_map(|name| name.into_string().ok()).collect()),
            Err(e) if matches!(e.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => Ok(Vec::new()),
            Err(e) => Err(Error::io("list", path, e)),
        }
    }

    /// The object at a path below the root, if it is one.
    fn listed(&self, path: &str) -> Result<Option<Listed>> {
        let Some(name) = ObjectName::from_path(path) else { return Ok(None) };
        let path = self.root.join(path);
        match self.disk.file_bytes(&path) {
            Ok(bytes) => Ok(bytes.map(|bytes| Listed { name, bytes })),
            // Removed since its name was read.
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(e) => Err(Error::io("inspect", path, e)),
        }
    }

    fn check_lost(&self) -> Result<()> {
        match self.lost.get() {
            None => Ok(()),
            Some((path, error)) => Err(Error::io("sync", path, same_error(error))),
        }
    }

    fn sync_parent(&self, path: &Path) -> Result<()> {
        self.sync_folder(path.parent().unwrap_or(&self.root))
    }

    fn sync_folder(&self, folder: &Path) -> Result<()> {
        self.check_lost()?;
        self.with_files(|| self.disk.sync_dir(folder)).map_err(|e| {
            let _ = self.lost.set((folder.to_owned(), same_error(&e)));
            Error::io("sync", folder, e)
        })
    }

    /// Makes a directory below the root, and those between, and their names durable. Once in a process, also for one
    /// that exists: its maker may have been killed before the sync.
    fn make_durable(&self, folder: &Path) -> Result<()> {
        if folder == self.root {
            return Ok(());
        }
        let mut durable = self.durable.lock().unwrap_or_else(PoisonError::into_inner);
        let mut missing: Vec<&Path> =
            folder.ancestors().take_while(|path| *path != self.root && !durable.contains(*path)).collect();
        missing.reverse();
        for path in missing {
            make_dir(&*self.disk, path)?;
            self.sync_parent(path)?;
            durable.insert(path.to_owned());
        }
        Ok(())
    }

    /// A file name that no other process and no other call gives.
    fn unique(&self, folder: &Path, end: &str) -> PathBuf {
        let count = self.temporaries.fetch_add(1, Ordering::Relaxed);
        let random = RandomState::new().hash_one(count);
        folder.join(format!("{}-{count}-{random:016x}.{end}", std::process::id()))
    }

    /// A temporary file, locked.
    fn create_temporary(&self) -> Result<(PathBuf, Box<dyn WriteFile>)> {
        self.check_lost()?;
        self.create_locked(&self.tmp(), "tmp")
    }

    /// A new file with a name of its own, which this process holds locked as long as the file is open.
    fn create_locked(&self, folder: &Path, end: &str) -> Result<(PathBuf, Box<dyn WriteFile>)> {
        make_dir(&*self.disk, folder)?;
        let path = self.unique(folder, end);
        let file = self.with_files(|| self.disk.create(&path)).map_err(|e| Error::io("create", &path, e))?;
        Ok((path, file))
    }
}

/// The directory below the root that has the objects of a kind.
fn folder_of(kind: ObjectKind) -> &'static str {
    match kind {
        ObjectKind::Pack => "packs",
        ObjectKind::Recipes => "recipes",
        ObjectKind::Snapshot => "snapshots",
        ObjectKind::PendingDeletes => "condemned",
    }
}

/// Makes one directory, unless it is there.
fn make_dir(disk: &dyn Disk, path: &Path) -> Result<()> {
    match disk.make_dir(path) {
        Err(e) if e.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        made => made.map_err(|e| Error::io("create", path, e)),
    }
}

/// Makes a directory and those above it, their names durable: also of those that exist, because their maker
/// may not have come to that.
fn make_dirs(disk: &dyn Disk, path: &Path) -> Result<()> {
    let parent = match path.parent() {
        None => return Ok(()),
        Some(parent) if parent.as_os_str().is_empty() => Path::new("."),
        Some(parent) => {
            make_dirs(disk, parent)?;
            parent
        }
    };
    let is_new = match disk.make_dir(path) {
        Ok(()) => true,
        Err(e) if e.kind() == io::ErrorKind::AlreadyExists => false,
        Err(e) => return Err(Error::io("create", path, e)),
    };
    match disk.sync_dir(parent) {
        // A directory of another user, or of a kind that cannot be synced, existed before the store.
        Err(e) if !is_new && matches!(e.kind(), io::ErrorKind::PermissionDenied | io::ErrorKind::InvalidInput) => {
            Ok(())
        }
        synced => synced.map_err(|e| Error::io("sync", parent, e)),
    }
}
