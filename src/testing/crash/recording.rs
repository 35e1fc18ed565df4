//! A disk that writes down all that could be lost, in the order it happened; and on which a process can be killed.
//!
//! Everything is done to the system's disk too, so the program under test sees what it did. Nothing is synced there: what
//! a sync is worth is decided by [`super::replay`].

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::storage::disk::{ChangeFile, Disk, HeldLock, ReadFile, SystemDisk, WriteFile};

/// What a name stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Node {
    File(usize),
    Directory,
}

/// What an operation did, or made durable. Paths are below the recording's root.
#[derive(Debug, Clone)]
pub(super) enum Effect {
    /// A name stands for something else now, or for nothing.
    Name(PathBuf, Option<Node>),
    Write(usize, u64, Arc<[u8]>),
    SetLen(usize, u64),
    SyncFile(usize),
    SyncDirectory(PathBuf),
}

/// One operation: the effects it has, and what it was, for messages.
#[derive(Debug, Clone)]
pub(super) struct Operation {
    pub(super) what: String,
    pub(super) effects: Vec<Effect>,
}

#[derive(Debug, Default)]
struct Log {
    operations: Vec<Operation>,
    names: BTreeMap<PathBuf, Node>,
    files: usize,
    /// After this number of further operations the process is killed.
    left: Option<usize>,
}

/// The disk. Clones write to one log.
#[derive(Debug, Clone)]
pub(super) struct RecordingDisk {
    root: PathBuf,
    log: Arc<Mutex<Log>>,
}

impl RecordingDisk {
    pub(super) fn new(root: &Path) -> Self {
        Self { root: root.to_owned(), log: Arc::default() }
    }

    pub(super) fn operations(&self) -> Vec<Operation> {
        self.lock().operations.clone()
    }

    pub(super) fn len(&self) -> usize {
        self.lock().operations.len()
    }

    /// The process does this number of further operations, then nothing: not even clean up.
    pub(super) fn kill_after(&self, operations: usize) {
        self.lock().left = Some(operations);
    }

    /// Another process takes over. Says whether the one before was killed.
    pub(super) fn restart(&self) -> bool {
        self.lock().left.take() == Some(0)
    }

    /// Changes one byte of a file behind everybody's back, for good: `at` bytes from its start, or from its end if it is
    /// negative.
    pub(super) fn damage(&self, path: &Path, at: i64) {
        let file = File::options().read(true).write(true).open(path).unwrap();
        let offset = if at < 0 { file.metadata().unwrap().len() - at.unsigned_abs() } else { at.unsigned_abs() };
        let mut byte = [0];
        file.read_exact_at(&mut byte, offset).unwrap();
        byte[0] ^= 1;
        let damaged = |log: &mut Log, below: &Path, (): &()| {
            let Some(Node::File(number)) = log.names.get(below).copied() else { panic!("{below:?} is no file") };
            vec![Effect::Write(number, offset, byte.as_slice().into()), Effect::SyncFile(number)]
        };
        self.step("damage", path, || file.write_all_at(&byte, offset), damaged).unwrap();
    }

    fn lock(&self) -> MutexGuard<'_, Log> {
        self.log.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn below<'p>(&self, path: &'p Path) -> Option<&'p Path> {
        path.strip_prefix(&self.root).ok()
    }

    /// Does an operation and writes it down, as one step that no other gets between.
    fn step<T>(
        &self,
        what: &str,
        path: &Path,
        act: impl FnOnce() -> io::Result<T>,
        effects: impl FnOnce(&mut Log, &Path, &T) -> Vec<Effect>,
    ) -> io::Result<T> {
        let Some(below) = self.below(path) else { return act() };
        let mut log = self.lock();
        match log.left {
            Some(0) => return Err(io::Error::other("killed")),
            Some(left) => log.left = Some(left - 1),
            None => {}
        }
        let done = act()?;
        let effects = effects(&mut log, below, &done);
        for effect in &effects {
            if let Effect::Name(path, node) = effect {
                match node {
                    Some(node) => log.names.insert(path.clone(), *node),
                    None => log.names.remove(path),
                };
            }
        }
        if !effects.is_empty() {
            log.operations.push(Operation { what: format!("{what} {}", below.display()), effects });
        }
        Ok(done)
    }

    fn move_name(&self, what: &str, from: &Path, to: &Path, act: impl FnOnce() -> io::Result<()>) -> io::Result<()> {
        let gone = self.below(from).map(Path::to_owned);
        self.step(what, to, act, |log, below, ()| {
            let gone = gone.unwrap_or_default();
            vec![Effect::Name(below.to_owned(), log.names.get(&gone).copied()), Effect::Name(gone, None)]
        })
    }
}

fn new_file(log: &mut Log, below: &Path) -> Vec<Effect> {
    log.files += 1;
    vec![Effect::Name(below.to_owned(), Some(Node::File(log.files)))]
}

impl Disk for RecordingDisk {
    fn create(&self, path: &Path) -> io::Result<Box<dyn WriteFile>> {
        let mut number = 0;
        let file = self.step(
            "create",
            path,
            || SystemDisk::PRIVATE.create(path),
            |log, below, _| {
                number = log.files + 1;
                new_file(log, below)
            },
        )?;
        Ok(Box::new(RecordedFile { disk: self.clone(), path: path.to_owned(), number, file, bytes: 0 }))
    }
    fn open_to_change(&self, path: &Path) -> io::Result<Box<dyn ChangeFile>> {
        let is_known = self.below(path).is_some_and(|below| self.lock().names.contains_key(below));
        let act = || SystemDisk::PRIVATE.open_to_change(path);
        let file =
            self.step("make", path, act, |log, below, _| if is_known { Vec::new() } else { new_file(log, below) })?;
        let node = self.below(path).and_then(|below| self.lock().names.get(below).copied());
        let Some(Node::File(number)) = node else { return Ok(file) };
        Ok(Box::new(RecordedChanges { disk: self.clone(), path: path.to_owned(), number, file }))
    }
    fn open(&self, path: &Path) -> io::Result<Arc<dyn ReadFile>> {
        SystemDisk::PRIVATE.open(path)
    }
    fn make_dir(&self, path: &Path) -> io::Result<()> {
        let name = |_: &mut Log, below: &Path, (): &()| vec![Effect::Name(below.to_owned(), Some(Node::Directory))];
        self.step("mkdir", path, || SystemDisk::PRIVATE.make_dir(path), name)
    }
    fn rename_new(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.move_name("rename to", from, to, || SystemDisk::PRIVATE.rename_new(from, to))
    }
    fn rename_over(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.move_name("replace", from, to, || SystemDisk::PRIVATE.rename_over(from, to))
    }
    fn link_new(&self, from: &Path, to: &Path) -> io::Result<()> {
        let source = self.below(from).map(Path::to_owned).unwrap_or_default();
        let name = |log: &mut Log, below: &Path, (): &()| {
            vec![Effect::Name(below.to_owned(), log.names.get(&source).copied())]
        };
        self.step("link", to, || SystemDisk::PRIVATE.link_new(from, to), name)
    }
    fn remove(&self, path: &Path) -> io::Result<()> {
        self.step(
            "remove",
            path,
            || SystemDisk::PRIVATE.remove(path),
            |_, below, ()| vec![Effect::Name(below.to_owned(), None)],
        )
    }
    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        self.step("sync folder", path, || Ok(()), |_, below, ()| vec![Effect::SyncDirectory(below.to_owned())])
    }
    fn names(&self, path: &Path) -> io::Result<Vec<OsString>> {
        SystemDisk::PRIVATE.names(path)
    }
    fn file_bytes(&self, path: &Path) -> io::Result<Option<u64>> {
        SystemDisk::PRIVATE.file_bytes(path)
    }
    fn is_dir(&self, path: &Path) -> io::Result<bool> {
        SystemDisk::PRIVATE.is_dir(path)
    }
    fn remove_unlocked(&self, path: &Path) -> io::Result<bool> {
        let name = |_: &mut Log, below: &Path, removed: &bool| {
            if *removed { vec![Effect::Name(below.to_owned(), None)] } else { Vec::new() }
        };
        self.step("sweep", path, || SystemDisk::PRIVATE.remove_unlocked(path), name)
    }
    fn hold(&self, path: &Path) -> io::Result<Option<Box<dyn HeldLock>>> {
        let is_known = self.below(path).is_some_and(|below| self.lock().names.contains_key(below));
        let act = || SystemDisk::PRIVATE.hold(path);
        self.step("hold", path, act, |log, below, _| if is_known { Vec::new() } else { new_file(log, below) })
    }
    fn hold_existing(&self, path: &Path) -> io::Result<Option<Box<dyn HeldLock>>> {
        self.step("hold alone", path, || SystemDisk::PRIVATE.hold_existing(path), |_, _, _| Vec::new())
    }
    fn share(&self, path: &Path) -> io::Result<Option<Box<dyn HeldLock>>> {
        SystemDisk::PRIVATE.share(path)
    }
}

#[derive(Debug)]
struct RecordedFile {
    disk: RecordingDisk,
    path: PathBuf,
    number: usize,
    file: Box<dyn WriteFile>,
    bytes: u64,
}

impl WriteFile for RecordedFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let (disk, path, number, at) = (self.disk.clone(), self.path.clone(), self.number, self.bytes);
        let effect = |_: &mut Log, _: &Path, count: &usize| vec![Effect::Write(number, at, bytes[..*count].into())];
        let count = disk.step("write", &path, || self.file.write(bytes), effect)?;
        self.bytes += count as u64;
        Ok(count)
    }
    fn sync(&mut self) -> io::Result<()> {
        let number = self.number;
        self.disk.step("sync", &self.path, || Ok(()), |_, _, ()| vec![Effect::SyncFile(number)])
    }
    fn start_writeback(&mut self, _: u64, _: u64) {}
}

#[derive(Debug)]
struct RecordedChanges {
    disk: RecordingDisk,
    path: PathBuf,
    number: usize,
    file: Box<dyn ChangeFile>,
}

impl ChangeFile for RecordedChanges {
    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        let effect = |_: &mut Log, _: &Path, (): &()| vec![Effect::Write(self.number, offset, bytes.into())];
        self.disk.step("write", &self.path, || self.file.write_at(bytes, offset), effect)
    }
    fn set_len(&self, bytes: u64) -> io::Result<()> {
        let effect = |_: &mut Log, _: &Path, (): &()| vec![Effect::SetLen(self.number, bytes)];
        self.disk.step("resize", &self.path, || self.file.set_len(bytes), effect)
    }
    fn sync(&self) -> io::Result<()> {
        self.disk.step("sync", &self.path, || Ok(()), |_, _, ()| vec![Effect::SyncFile(self.number)])
    }
    fn file(&self) -> &File {
        self.file.file()
    }
}
