//! For tests: the system's disk, with something wrong with it.
//!
//! One operation fails, or is cut short; or from one on nothing is done any more, as for a process that is killed there;
//! or writes come in bits; or nothing waits for syncs. What is asked of the disk is written down.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use std::ffi::OsString;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use rustix::io::Errno;

use crate::storage::disk::{ChangeFile, Disk, HeldLock, ReadFile, SystemDisk, WriteFile};

/// No command of a test asks for more than this after something failed.
const OPERATIONS_MAX: usize = 100_000;

/// What can be asked of a disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Op {
    Create,
    OpenToChange,
    Open,
    MakeDir,
    RenameNew,
    RenameOver,
    Link,
    Remove,
    SyncDir,
    Names,
    FileBytes,
    IsDir,
    Sweep,
    Hold,
    HoldExisting,
    Share,
    Write,
    Sync,
    WriteAt,
    SetLen,
    SyncChanges,
    Read,
}

impl Op {
    fn name(self) -> &'static str {
        match self {
            Self::Create => "create",
            Self::OpenToChange => "open to change",
            Self::Open => "open",
            Self::MakeDir => "mkdir",
            Self::RenameNew => "rename to",
            Self::RenameOver => "replace",
            Self::Link => "link as",
            Self::Remove => "remove",
            Self::SyncDir => "sync folder",
            Self::Names => "list",
            Self::FileBytes => "inspect",
            Self::IsDir => "is folder",
            Self::Sweep => "sweep",
            Self::Hold => "hold",
            Self::HoldExisting => "hold alone",
            Self::Share => "share",
            Self::Write => "write",
            Self::Sync => "sync",
            Self::WriteAt => "write into",
            Self::SetLen => "resize",
            Self::SyncChanges => "sync changes",
            Self::Read => "read",
        }
    }

    pub(crate) fn any(self) -> bool {
        true
    }

    /// Whether a process that is killed before it leaves another disk than one that is killed after it.
    pub(crate) fn changes(self) -> bool {
        use Op::{FileBytes, HoldExisting, IsDir, Names, Open, Read, Share};
        !matches!(self, Open | Names | FileBytes | IsDir | HoldExisting | Share | Read)
    }

    /// Whether it may find the disk full.
    pub(crate) fn takes_space(self) -> bool {
        use Op::{Create, Hold, Link, MakeDir, OpenToChange, RenameNew, RenameOver, SetLen, SyncDir, Write, WriteAt};
        matches!(
            self,
            Create | OpenToChange | MakeDir | RenameNew | RenameOver | Link | SyncDir | Hold | Write | WriteAt | SetLen
        ) || self.is_sync()
    }

    /// Whether it may open a file too many.
    pub(crate) fn opens(self) -> bool {
        use Op::{Create, Hold, HoldExisting, Names, Open, OpenToChange, Share, Sweep, SyncDir};
        matches!(self, Create | OpenToChange | Open | SyncDir | Names | Sweep | Hold | HoldExisting | Share)
    }

    pub(crate) fn is_sync(self) -> bool {
        matches!(self, Self::SyncDir | Self::Sync | Self::SyncChanges)
    }

    /// Whether it moves bytes, of which it may move fewer than it was asked to.
    pub(crate) fn moves_bytes(self) -> bool {
        matches!(self, Self::Write | Self::Read)
    }
}

/// What was asked, and on what. `from` is the old name of what gets a new one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Asked {
    pub(crate) op: Op,
    pub(crate) path: PathBuf,
    pub(crate) from: Option<PathBuf>,
}

/// What goes wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    /// One operation fails.
    Fails(Errno),
    /// One write or read does half of what it was asked to.
    Short,
    /// Nothing is done from an operation on: the process is killed.
    Killed,
    /// One operation waits until [`FaultyDisk::resume`]: the process is suspended.
    Suspended,
}

#[derive(Debug, Clone)]
struct Plan {
    fault: Fault,
    among: fn(Op) -> bool,
    /// Operations that succeed first.
    left: usize,
    struck: Option<Asked>,
    /// What was asked since.
    since: Vec<Asked>,
}

#[derive(Debug, Default)]
struct State {
    asked: Vec<Asked>,
    plan: Option<Plan>,
    /// What was suspended goes on.
    is_resumed: bool,
}

/// The disk. Clones are the same one.
#[derive(Debug, Clone, Default)]
pub(crate) struct FaultyDisk {
    /// Syncs are written down and not done: for stores that are looked at and thrown away.
    unsynced: bool,
    /// Every write takes one byte, and is interrupted before it does.
    stutters: bool,
    /// Whatever takes a file or bytes fails with this.
    full: Option<Errno>,
    state: Arc<Mutex<State>>,
    resumed: Arc<Condvar>,
}

impl FaultyDisk {
    pub(crate) fn unsynced() -> Self {
        Self { unsynced: true, ..Self::default() }
    }

    pub(crate) fn stuttering() -> Self {
        Self { stutters: true, ..Self::default() }
    }

    /// The same disk without room.
    pub(crate) fn full(self, errno: Errno) -> Self {
        Self { full: Some(errno), ..self }
    }

    /// After `well` operations of those that are `among`, the next meets this.
    pub(crate) fn fault(&self, fault: Fault, well: usize, among: fn(Op) -> bool) {
        self.state().plan = Some(Plan { fault, among, left: well, struck: None, since: Vec::new() });
    }

    /// The process is killed after this number of changes.
    pub(crate) fn killed_after(changes: usize) -> Self {
        let disk = Self::unsynced();
        disk.fault(Fault::Killed, changes, Op::changes);
        disk
    }

    /// Lets a suspended operation go on.
    pub(crate) fn resume(&self) {
        self.state().is_resumed = true;
        self.resumed.notify_all();
    }

    /// The operation that met the fault, if it came to that.
    pub(crate) fn struck(&self) -> Option<Asked> {
        self.state().plan.as_ref().and_then(|plan| plan.struck.clone())
    }

    /// What was asked since.
    pub(crate) fn since_struck(&self) -> Vec<Asked> {
        self.state().plan.as_ref().map(|plan| plan.since.clone()).unwrap_or_default()
    }

    /// All that was asked so far; it is forgotten.
    pub(crate) fn take_asked(&self) -> Vec<Asked> {
        std::mem::take(&mut self.state().asked)
    }

    /// The same as lines, paths below `root`, names of temporary files left out.
    pub(crate) fn take_lines(&self, root: &Path) -> Vec<String> {
        let line = |asked: Asked| {
            let path = asked.path.strip_prefix(root).unwrap_or(&asked.path).display().to_string();
            let path = if path.starts_with("tmp/") { "tmp/*".to_owned() } else { path };
            format!("{} {path}", asked.op.name())
        };
        self.take_asked().into_iter().map(line).collect()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Writes down what is asked. Says whether it is to be cut short.
    fn ask(&self, op: Op, path: &Path, from: Option<&Path>) -> io::Result<bool> {
        let asked = Asked { op, path: path.to_owned(), from: from.map(Path::to_owned) };
        let mut state = self.state();
        state.asked.push(asked.clone());
        let full = self.full.filter(|_| matches!(op, Op::Create | Op::Write | Op::WriteAt | Op::SetLen));
        let unless_full = |short| full.map_or(Ok(short), |errno| Err(errno.into()));
        let Some(plan) = &mut state.plan else { return unless_full(false) };
        let killed = || io::Error::other("killed");
        if plan.struck.is_some() {
            plan.since.push(asked);
            assert!(plan.since.len() < OPERATIONS_MAX, "it asks for ever after {:?}", plan.struck);
            return if plan.fault == Fault::Killed { Err(killed()) } else { unless_full(false) };
        }
        if !(plan.among)(op) {
            return unless_full(false);
        }
        if plan.left > 0 {
            plan.left -= 1;
            return unless_full(false);
        }
        plan.struck = Some(asked);
        match plan.fault {
            Fault::Fails(errno) => Err(errno.into()),
            Fault::Short => Ok(true),
            Fault::Killed => Err(killed()),
            Fault::Suspended => {
                while !state.is_resumed {
                    state = self.resumed.wait(state).unwrap_or_else(PoisonError::into_inner);
                }
                Ok(false)
            }
        }
    }

    fn sync(&self, op: Op, path: &Path, act: impl FnOnce() -> io::Result<()>) -> io::Result<()> {
        self.ask(op, path, None)?;
        if self.unsynced { Ok(()) } else { act() }
    }
}

impl Disk for FaultyDisk {
    fn create(&self, path: &Path) -> io::Result<Box<dyn WriteFile>> {
        self.ask(Op::Create, path, None)?;
        let file = SystemDisk::PRIVATE.create(path)?;
        Ok(Box::new(FaultyFile { disk: self.clone(), path: path.to_owned(), file, interrupted: false }))
    }
    fn open_to_change(&self, path: &Path) -> io::Result<Box<dyn ChangeFile>> {
        self.ask(Op::OpenToChange, path, None)?;
        let file = SystemDisk::PRIVATE.open_to_change(path)?;
        Ok(Box::new(FaultyFile { disk: self.clone(), path: path.to_owned(), file, interrupted: false }))
    }
    fn open(&self, path: &Path) -> io::Result<Arc<dyn ReadFile>> {
        self.ask(Op::Open, path, None)?;
        let file = SystemDisk::PRIVATE.open(path)?;
        Ok(Arc::new(FaultyFile { disk: self.clone(), path: path.to_owned(), file, interrupted: false }))
    }
    fn make_dir(&self, path: &Path) -> io::Result<()> {
        self.ask(Op::MakeDir, path, None)?;
        SystemDisk::PRIVATE.make_dir(path)
    }
    fn rename_new(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.ask(Op::RenameNew, to, Some(from))?;
        SystemDisk::PRIVATE.rename_new(from, to)
    }
    fn rename_over(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.ask(Op::RenameOver, to, Some(from))?;
        SystemDisk::PRIVATE.rename_over(from, to)
    }
    fn link_new(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.ask(Op::Link, to, Some(from))?;
        SystemDisk::PRIVATE.link_new(from, to)
    }
    fn remove(&self, path: &Path) -> io::Result<()> {
        self.ask(Op::Remove, path, None)?;
        SystemDisk::PRIVATE.remove(path)
    }
    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        self.sync(Op::SyncDir, path, || SystemDisk::PRIVATE.sync_dir(path))
    }
    fn names(&self, path: &Path) -> io::Result<Vec<OsString>> {
        self.ask(Op::Names, path, None)?;
        SystemDisk::PRIVATE.names(path)
    }
    fn file_bytes(&self, path: &Path) -> io::Result<Option<u64>> {
        self.ask(Op::FileBytes, path, None)?;
        SystemDisk::PRIVATE.file_bytes(path)
    }
    fn is_dir(&self, path: &Path) -> io::Result<bool> {
        self.ask(Op::IsDir, path, None)?;
        SystemDisk::PRIVATE.is_dir(path)
    }
    fn remove_unlocked(&self, path: &Path) -> io::Result<bool> {
        self.ask(Op::Sweep, path, None)?;
        SystemDisk::PRIVATE.remove_unlocked(path)
    }
    fn hold(&self, path: &Path) -> io::Result<Option<Box<dyn HeldLock>>> {
        self.ask(Op::Hold, path, None)?;
        SystemDisk::PRIVATE.hold(path)
    }
    fn hold_existing(&self, path: &Path) -> io::Result<Option<Box<dyn HeldLock>>> {
        self.ask(Op::HoldExisting, path, None)?;
        SystemDisk::PRIVATE.hold_existing(path)
    }
    fn share(&self, path: &Path) -> io::Result<Option<Box<dyn HeldLock>>> {
        self.ask(Op::Share, path, None)?;
        SystemDisk::PRIVATE.share(path)
    }
}

/// A file on the disk.
#[derive(Debug)]
struct FaultyFile<F> {
    disk: FaultyDisk,
    path: PathBuf,
    file: F,
    interrupted: bool,
}

/// How many of these bytes are moved.
fn part(bytes: usize, short: bool) -> usize {
    if short { bytes.div_ceil(2) } else { bytes }
}

impl WriteFile for FaultyFile<Box<dyn WriteFile>> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let short = self.disk.ask(Op::Write, &self.path, None)?;
        self.interrupted = self.disk.stutters && !self.interrupted;
        if self.interrupted {
            return Err(io::ErrorKind::Interrupted.into());
        }
        self.file.write(if self.disk.stutters { &bytes[..1] } else { &bytes[..part(bytes.len(), short)] })
    }
    fn sync(&mut self) -> io::Result<()> {
        let file = &mut self.file;
        self.disk.sync(Op::Sync, &self.path, || file.sync())
    }
    fn start_writeback(&mut self, offset: u64, bytes: u64) {
        if !self.disk.unsynced {
            self.file.start_writeback(offset, bytes);
        }
    }
}

impl ChangeFile for FaultyFile<Box<dyn ChangeFile>> {
    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.disk.ask(Op::WriteAt, &self.path, None)?;
        self.file.write_at(bytes, offset)
    }
    fn set_len(&self, bytes: u64) -> io::Result<()> {
        self.disk.ask(Op::SetLen, &self.path, None)?;
        self.file.set_len(bytes)
    }
    fn sync(&self) -> io::Result<()> {
        self.disk.sync(Op::SyncChanges, &self.path, || self.file.sync())
    }
    fn file(&self) -> &File {
        self.file.file()
    }
}

impl ReadFile for FaultyFile<Arc<dyn ReadFile>> {
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        let short = self.disk.ask(Op::Read, &self.path, None)?;
        let bytes = part(buffer.len(), short);
        self.file.read_at(offset, &mut buffer[..bytes])
    }
    fn own_bytes(&self) -> io::Result<Option<u64>> {
        self.disk.ask(Op::FileBytes, &self.path, None)?;
        self.file.own_bytes()
    }
}
