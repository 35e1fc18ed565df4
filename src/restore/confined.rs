//! How is a path resolved so that it cannot leave its base?
//!
//! The kernel does it (`openat2` with `RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS`); where it cannot (before Linux 5.6, or
//! forbidden by a sandbox) every part is opened by itself with `O_NOFOLLOW`. Either way the result is an open directory,
//! and everything is then made in it by a single name, which cannot lead anywhere.
//!
//! The directories used last stay open, a fixed number of them, so that the files of one directory cost one resolution.

use std::collections::VecDeque;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use rustix::fs::{AtFlags, FileType, Mode, OFlags, ResolveFlags, fstat, openat, openat2, statat};
use rustix::io::{self, Errno};

use super::defaults::{InodeDefaults, has_acl};
use super::spelling::Listing;
use crate::format::entry::EntryPath;

/// How many directories stay open between uses.
const OPEN_DIRECTORIES_MAX: usize = 16;

/// How many bytes of a path are resolved at once: below `PATH_MAX`.
const STEP_BYTES_MAX: usize = 4000;

const DIRECTORY: OFlags =
    OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::NONBLOCK).union(OFlags::CLOEXEC);

/// An open directory beneath the base.
#[derive(Debug)]
pub(super) struct Directory {
    fd: OwnedFd,
    /// What the system gives to a file made in it; asked of the first one.
    defaults: OnceLock<InodeDefaults>,
    pub(super) listing: Listing,
}

impl Directory {
    pub(super) fn new(fd: OwnedFd) -> Self {
        Self { fd, defaults: OnceLock::new(), listing: Listing::default() }
    }

    /// What a file made in this directory starts with, learnt from `file`, one that was just made there.
    pub(super) fn defaults(&self, file: BorrowedFd<'_>) -> io::Result<InodeDefaults> {
        if let Some(known) = self.defaults.get() {
            return Ok(*known);
        }
        let stat = fstat(file)?;
        let has_acl = has_acl(file);
        Ok(*self.defaults.get_or_init(|| InodeDefaults::of(&stat, has_acl)))
    }
}

impl AsFd for Directory {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// A base directory and what lies beneath it.
#[derive(Debug)]
pub(super) struct ConfinedDir {
    base: Arc<Directory>,
    /// Set when the kernel turned out to have no `openat2`.
    by_part: AtomicBool,
    /// Used last comes first.
    open: Mutex<VecDeque<(EntryPath, Arc<Directory>)>>,
}

impl ConfinedDir {
    pub(super) fn new(base: OwnedFd) -> Self {
        Self { base: Arc::new(Directory::new(base)), by_part: AtomicBool::new(false), open: Mutex::default() }
    }

    /// Does without `openat2` from here on.
    #[cfg(test)]
    pub(super) fn resolve_by_part(&self) {
        self.by_part.store(true, Ordering::Relaxed);
    }

    /// The directory at `path`, which is relative to the base. [`Errno::LOOP`] if a symbolic link is in the way.
    pub(super) fn directory(&self, path: &EntryPath) -> io::Result<Arc<Directory>> {
        if path.is_root() {
            return Ok(Arc::clone(&self.base));
        }
        let (mut directory, mut rest) = match self.nearest(path) {
            (directory, []) => return Ok(directory),
            found => found,
        };
        while !rest.is_empty() {
            let (step, after) = step(rest)?;
            directory = Arc::new(Directory::new(self.resolve(directory.as_fd(), step)?));
            rest = after;
        }
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        // Another thread may have been as fast; then both descriptors serve, and the list keeps one.
        open.retain(|(known, _)| known != path);
        open.push_front((path.clone(), Arc::clone(&directory)));
        open.truncate(OPEN_DIRECTORIES_MAX);
        Ok(directory)
    }

    /// The open directory deepest on the way to `path`, and what of `path` is left below it.
    fn nearest<'p>(&self, path: &'p EntryPath) -> (Arc<Directory>, &'p [u8]) {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let below = |known: &EntryPath| match path.as_bytes().strip_prefix(known.as_bytes())? {
            rest @ [] | [b'/', rest @ ..] => Some(rest),
            _ => None,
        };
        let best = open
            .iter()
            .enumerate()
            .filter_map(|(place, (known, _))| Some((place, below(known)?)))
            .min_by_key(|(_, rest)| rest.len());
        let Some((place, rest)) = best else { return (Arc::clone(&self.base), path.as_bytes()) };
        match open.remove(place) {
            Some(used) => {
                let directory = Arc::clone(&used.1);
                open.push_front(used);
                (directory, rest)
            }
            None => (Arc::clone(&self.base), path.as_bytes()),
        }
    }

    /// Opens a directory some parts below another.
    fn resolve(&self, from: BorrowedFd<'_>, path: &[u8]) -> io::Result<OwnedFd> {
        let how = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
        if !self.by_part.load(Ordering::Relaxed) {
            match openat2(from, path, DIRECTORY, Mode::empty(), how) {
                Err(Errno::NOSYS | Errno::PERM) => self.by_part.store(true, Ordering::Relaxed),
                // The kernel may give up when directories are renamed under it, and it does not tell a link in the last
                // place from a file: then part by part.
                Err(Errno::AGAIN | Errno::INTR | Errno::NOTDIR) => {}
                opened => return opened,
            }
        }
        let mut at: Option<OwnedFd> = None;
        for part in path.split(|b| *b == b'/') {
            at = Some(open_part(at.as_ref().map_or(from, AsFd::as_fd), part)?);
        }
        at.ok_or(Errno::NOENT)
    }
}

/// Opens a directory by its name in another; tells a symbolic link from other things that are no directory.
fn open_part(at: BorrowedFd<'_>, name: &[u8]) -> io::Result<OwnedFd> {
    match io::retry_on_intr(|| openat(at, name, DIRECTORY, Mode::empty())) {
        Err(Errno::NOTDIR) => match kind_of(at, name) {
            Ok(FileType::Symlink) => Err(Errno::LOOP),
            _ => Err(Errno::NOTDIR),
        },
        opened => opened,
    }
}

/// What kind of thing a directory has by a name.
pub(super) fn kind_of(at: BorrowedFd<'_>, name: &[u8]) -> io::Result<FileType> {
    Ok(FileType::from_raw_mode(statat(at, name, AtFlags::SYMLINK_NOFOLLOW)?.st_mode))
}

/// Splits off as many leading parts as are resolved at once.
fn step(path: &[u8]) -> io::Result<(&[u8], &[u8])> {
    if path.len() <= STEP_BYTES_MAX {
        return Ok((path, &[]));
    }
    let head = path.get(..STEP_BYTES_MAX).unwrap_or(path);
    let cut = head.iter().rposition(|b| *b == b'/').ok_or(Errno::NAMETOOLONG)?;
    let (head, rest) = path.split_at(cut);
    Ok((head, rest.strip_prefix(b"/").unwrap_or(rest)))
}
