//! Where does a restore write, and what may be there already?
//!
//! The result itself has the name the user gave, as with `cp -T`: the entry at the root of what is restored becomes
//! `path`, whatever its kind. The user's path to it may lead through links; from its directory on, nothing does.

use std::collections::HashSet;
use std::fs::Metadata;
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use rustix::fs::{
    AtFlags, CWD, FileType, Mode, OFlags, StatVfsMountFlags, fchmod, fstat, fstatvfs, linkat, mkdirat, mknodat, openat,
    statat, symlinkat, unlinkat,
};
use rustix::io::{self, Errno};

use super::attributes::{Setting, Warnings, apply, apply_to_link, apply_to_node};
use super::confined::{ConfinedDir, Directory, kind_of};
use super::defaults::{InodeDefaults, has_acl};
use super::file::{FileTarget, shown_below};
use super::kept::Kept;
use super::spelling::NameEnds;
use crate::error::{Error, Result};
use crate::format::entry::{Entry, EntryKind, EntryPath};
use crate::format::id::checksum;
use crate::spelling::quoted;

/// A place to restore to. One serves all threads; paths are relative to it, and the root path is the place itself.
///
/// To restore a directory, make it first ([`Destination::make_directory`] of the root path): that is what finds out
/// whether something is there already.
///
/// Directories on the way to a path that the snapshot does not list (`a` where only `a/b` was added) are made as
/// needed, with the permissions new directories have.
#[derive(Debug)]
pub struct Destination {
    /// As the user gave it, for messages.
    shown: Arc<PathBuf>,
    pub(super) beneath: ConfinedDir,
    /// The result's own path in the base; the root where the user named a directory that has no name (`.`, `/`, `..`).
    result: EntryPath,
    overwrite: bool,
    /// Directories made on the way: their own entry may still come. Checksums of their paths, for a path of thousands of
    /// parts has as many ancestors, each nearly as long as itself.
    implied: Mutex<HashSet<[u8; 16]>>,
    kept: Kept,
    name_ends: NameEnds,
}

/// A name in an open directory.
struct NameInDir {
    parent: Arc<Directory>,
    name: Vec<u8>,
}

impl Destination {
    /// Opens the directory that is to hold `path`. Nothing is made yet, and nothing checked: the first thing made tells.
    ///
    /// With `overwrite`, files and links in the way are replaced, and directories that exist are taken as they are and
    /// filled; nothing is removed from them.
    ///
    /// # Errors
    /// [`Error::Io`] if the directory does not exist or cannot be entered; [`Error::Exists`] if `path` is a device, which
    /// nobody means to be replaced.
    pub fn create(path: &Path, overwrite: bool) -> Result<Self> {
        let is_device = |found: &Metadata| found.file_type().is_char_device() || found.file_type().is_block_device();
        if path.symlink_metadata().is_ok_and(|found| is_device(&found)) {
            return Err(Error::Exists { path: path.to_owned() });
        }
        let (base, result) = match path.file_name() {
            Some(name) => {
                let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
                let name = EntryPath::default().join(name.as_bytes());
                let name = name.map_err(|odd| Error::Usage(format!("cannot restore to {}: {odd}", quoted(path))))?;
                (parent.unwrap_or(Path::new(".")), name)
            }
            None => (path, EntryPath::default()),
        };
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let fd = openat(CWD, base, flags, Mode::empty()).map_err(|errno| Error::io("open", base, errno))?;
        Ok(Self {
            shown: Arc::new(path.to_owned()),
            beneath: ConfinedDir::new(fd),
            result,
            overwrite,
            implied: Mutex::default(),
            kept: Kept::default(),
            name_ends: NameEnds::default(),
        })
    }

    /// Makes a directory that only its owner can enter, until [`Destination::finish_directory`].
    ///
    /// # Errors
    /// [`Error::Exists`] if something is there, without `overwrite`; [`Error::InTheWay`] if something is there that is
    /// not replaced: a directory in the place of a file, or what has another name that the file system takes for the
    /// same; [`Error::Refused`] if a symbolic link is on the way; [`Error::Io`].
    pub fn make_directory(&self, path: &EntryPath) -> Result<()> {
        let Some(place) = self.place(path)? else {
            // The user named a directory that exists: all there is to ask is whether it may be filled.
            return if self.overwrite { Ok(()) } else { Err(self.exists(path)) };
        };
        self.check_end(&place, path)?;
        let make = || mkdirat(&place.parent, place.name.as_slice(), Mode::RWXU);
        match make() {
            Err(Errno::EXIST) => {}
            made => return made.map_err(|errno| self.error("create", path, errno)),
        }
        let was_implied =
            self.implied.lock().unwrap_or_else(PoisonError::into_inner).remove(&checksum(&[path.as_bytes()]));
        if was_implied {
            return Ok(());
        }
        self.check_replaceable(&place, path)?;
        if !matches!(kind_of(place.parent.as_fd(), &place.name), Ok(FileType::Directory)) {
            self.clear(&place, path)?;
            return make().map_err(|errno| self.error("create", path, errno));
        }
        self.open_up(path)
    }

    /// Makes a directory that leads to a path and has no entry of its own, with the permissions of a new directory. One
    /// that is there is taken as it is.
    ///
    /// # Errors
    /// As [`Destination::make_directory`], but for [`Error::Exists`].
    pub fn make_way(&self, path: &EntryPath) -> Result<()> {
        let Some(place) = self.place(path)? else { return Ok(()) };
        match mkdirat(&place.parent, place.name.as_slice(), Mode::from_raw_mode(0o777)) {
            Err(Errno::EXIST) => {
                self.check_spelling(&place, path)?;
                match kind_of(place.parent.as_fd(), &place.name) {
                    Ok(FileType::Directory) => Ok(()),
                    Ok(_) => Err(self.in_the_way(path, "what is there is not a directory")),
                    Err(errno) => Err(self.error("open", path, errno)),
                }
            }
            Err(errno) => Err(self.error("create", path, errno)),
            Ok(()) => {
                self.note_implied(path);
                Ok(())
            }
        }
    }

    fn note_implied(&self, path: &EntryPath) {
        self.implied.lock().unwrap_or_else(PoisonError::into_inner).insert(checksum(&[path.as_bytes()]));
    }

    /// Makes an empty file that only its owner can read and write, until [`Destination::finish_file`].
    ///
    /// # Errors
    /// As [`Destination::make_directory`].
    pub fn make_file(&self, path: &EntryPath) -> Result<FileTarget> {
        let place = self.place_of_other(path)?;
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let fd = self.make_at(&place, path, || {
            io::retry_on_intr(|| openat(&place.parent, place.name.as_slice(), flags, Mode::RUSR | Mode::WUSR))
        })?;
        Ok(FileTarget { fd, parent: place.parent, path: path.clone(), shown: Arc::clone(&self.shown) })
    }

    /// Gives a file its owner, attributes, mode and times, and closes it. The entry's path and content do not matter.
    ///
    /// # Errors
    /// [`Error::Io`] if the system knows nothing of the file any more.
    pub fn finish_file(&self, target: FileTarget, entry: &Entry) -> Result<Warnings> {
        let defaults = target.parent.defaults(target.as_fd()).map_err(|errno| target.error("read", errno))?;
        Ok(apply(target.as_fd(), self.setting(entry, &|| target.whole()), defaults))
    }

    /// Removes a file that turned out not to be restorable. One that is not there is fine.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn remove_partial(&self, path: &EntryPath) -> Result<()> {
        let place = self.place_of_other(path)?;
        match unlinkat(&place.parent, place.name.as_slice(), AtFlags::empty()) {
            Err(Errno::NOENT) | Ok(()) => Ok(()),
            Err(errno) => Err(self.error("remove", path, errno)),
        }
    }

    /// Makes a symbolic link to the entry's target, with the entry's owner and times. The target is not looked at.
    ///
    /// # Errors
    /// As [`Destination::make_directory`].
    pub fn make_symlink(&self, path: &EntryPath, entry: &Entry) -> Result<Warnings> {
        let place = self.place_of_other(path)?;
        self.make_at(&place, path, || symlinkat(entry.link_target.as_slice(), &place.parent, place.name.as_slice()))?;
        Ok(apply_to_link(place.parent.as_fd(), &place.name, self.setting(entry, &|| self.shown(path))))
    }

    /// Makes a pipe, socket or device, with the entry's metadata. Devices are root's to make.
    ///
    /// # Errors
    /// As [`Destination::make_directory`]; [`Error::Refused`] if the entry is of another kind.
    pub fn make_node(&self, path: &EntryPath, entry: &Entry) -> Result<Warnings> {
        let kind = match entry.kind {
            EntryKind::Fifo => FileType::Fifo,
            EntryKind::Socket => FileType::Socket,
            EntryKind::CharDevice => FileType::CharacterDevice,
            EntryKind::BlockDevice => FileType::BlockDevice,
            EntryKind::File | EntryKind::Directory | EntryKind::Symlink => {
                return Err(self.refused(path, "it is no pipe, socket or device"));
            }
        };
        let place = self.place_of_other(path)?;
        let name = place.name.as_slice();
        let make = || match mknodat(&place.parent, name, kind, Mode::RUSR | Mode::WUSR, entry.rdev) {
            // FUSE: the file system made a file of another kind.
            Err(Errno::IO) => {
                let made = statat(&place.parent, name, AtFlags::SYMLINK_NOFOLLOW);
                if made.is_ok_and(|made| FileType::from_raw_mode(made.st_mode).is_file() && made.st_size == 0) {
                    unlinkat(&place.parent, name, AtFlags::empty())?;
                }
                Err(Errno::IO)
            }
            made => made,
        };
        self.make_at(&place, path, make)?;
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let node =
            openat(&place.parent, name, flags, Mode::empty()).map_err(|errno| self.error("open", path, errno))?;
        let now = fstat(&node).map_err(|errno| self.error("read", path, errno))?;
        if FileType::from_raw_mode(now.st_mode) != kind {
            return Err(self.in_the_way(path, "another process replaced it while it was restored"));
        }
        let defaults = InodeDefaults::of(&now, false);
        Ok(apply_to_node(node.as_fd(), self.setting(entry, &|| self.shown(path)), defaults))
    }

    /// Gives something that was restored already one more name. It has its metadata, or will get it by its first name.
    ///
    /// # Errors
    /// As [`Destination::make_directory`]; [`Error::Io`] where the file system has no links, or both are not on the same
    /// one: then the content can be restored once more instead.
    pub fn make_hard_link(&self, existing: &EntryPath, new: &EntryPath) -> Result<()> {
        if existing == new {
            return Err(self.refused(new, "it is a hard link to itself"));
        }
        let from = self.place_of_other(existing)?;
        let place = self.place_of_other(new)?;
        let (old, name) = (from.name.as_slice(), place.name.as_slice());
        self.make_at(&place, new, || linkat(&from.parent, old, &place.parent, name, AtFlags::empty()))
    }

    /// Gives a directory its owner, attributes, mode and times. To be called when all that is in it is done, the deepest
    /// first: a mode may forbid to enter it again, and every entry made in it moves its times.
    ///
    /// # Errors
    /// [`Error::Io`] or [`Error::Refused`] if the directory is no longer there.
    pub fn finish_directory(&self, path: &EntryPath, entry: &Entry) -> Result<Warnings> {
        let directory = self.directory(path)?;
        let now = fstat(directory.as_fd()).map_err(|errno| self.error("read", path, errno))?;
        let defaults = InodeDefaults::of(&now, has_acl(directory.as_fd()));
        Ok(apply(directory.as_fd(), self.setting(entry, &|| self.shown(path)), defaults))
    }

    /// The units to which the file systems of the destination rounded times of what was restored.
    #[must_use]
    pub fn rounded_times(&self) -> Vec<&'static str> {
        self.kept.rounded_to()
    }

    /// Whether nothing can be written to the destination any more, after an error: its file system was made read-only,
    /// or is gone.
    #[must_use]
    pub fn is_lost(&self) -> bool {
        // No descriptor is left, or the directory may not be read: it is there all the same.
        let is_there = |errno| matches!(errno, Errno::MFILE | Errno::NFILE | Errno::ACCESS | Errno::INTR);
        let directory = match self.beneath.directory(&self.result) {
            Ok(directory) => directory,
            Err(errno) => return !is_there(errno),
        };
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        if openat(&*directory, c".", flags, Mode::empty()).is_err_and(|errno| !is_there(errno)) {
            return true;
        }
        fstatvfs(&*directory).is_ok_and(|disk| disk.f_flag.contains(StatVfsMountFlags::RDONLY))
    }

    fn setting<'a>(&'a self, entry: &'a Entry, shown: &'a dyn Fn() -> PathBuf) -> Setting<'a> {
        Setting { entry, kept: &self.kept, shown }
    }

    /// The path a person would use for it.
    #[must_use]
    pub fn shown(&self, path: &EntryPath) -> PathBuf {
        shown_below(&self.shown, path)
    }

    /// Runs something that makes a new name; with `overwrite`, makes room for it first where that is needed.
    fn make_at<T>(&self, place: &NameInDir, path: &EntryPath, make: impl Fn() -> io::Result<T>) -> Result<T> {
        self.check_end(place, path)?;
        match make() {
            Err(Errno::EXIST) => {
                self.check_replaceable(place, path)?;
                self.clear(place, path)?;
                make().map_err(|errno| self.error("create", path, errno))
            }
            made => made.map_err(|errno| self.error("create", path, errno)),
        }
    }

    /// Fails if what is in the way of a path stays.
    fn check_replaceable(&self, place: &NameInDir, path: &EntryPath) -> Result<()> {
        self.check_spelling(place, path)?;
        if self.overwrite { Ok(()) } else { Err(self.exists(path)) }
    }

    /// Fails if what is in the way of a path has another name, which the file system takes for the same. The name of the
    /// result itself was chosen by the user.
    fn check_spelling(&self, place: &NameInDir, path: &EntryPath) -> Result<()> {
        if path.is_root() {
            return Ok(());
        }
        match place.parent.has_as_spelled(&place.name) {
            Ok(true) => Ok(()),
            Ok(false) => Err(self.in_the_way(path, "its file system takes the name for that of another file there")),
            Err(errno) => Err(self.error("list the directory of", path, errno)),
        }
    }

    /// Fails if the file system would cut off the end of a name in silence.
    fn check_end(&self, place: &NameInDir, path: &EntryPath) -> Result<()> {
        match self.name_ends.are_kept(place.parent.as_fd(), &place.name) {
            Ok(true) => Ok(()),
            Ok(false) => Err(self.in_the_way(path, "its file system cuts off the end of the name")),
            Err(errno) => Err(self.error("create", path, errno)),
        }
    }

    /// Removes what is in the way, unless it is a directory.
    fn clear(&self, place: &NameInDir, path: &EntryPath) -> Result<()> {
        match unlinkat(&place.parent, place.name.as_slice(), AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => Ok(()),
            Err(Errno::ISDIR) => Err(self.in_the_way(path, "a directory is in its place; remove that first")),
            Err(errno) => Err(self.error("replace", path, errno)),
        }
    }

    /// Lets the owner work in a directory that was there before.
    fn open_up(&self, path: &EntryPath) -> Result<()> {
        let directory = self.directory(path)?;
        let now = fstat(directory.as_fd()).map_err(|errno| self.error("read", path, errno))?;
        let mode = Mode::from_raw_mode(now.st_mode);
        if mode.contains(Mode::RWXU) {
            return Ok(());
        }
        fchmod(directory.as_fd(), mode | Mode::RWXU).map_err(|errno| self.error("open", path, errno))
    }

    /// Where a path is, its missing parents made; `None` for a result without a name.
    fn place(&self, path: &EntryPath) -> Result<Option<NameInDir>> {
        let whole = self.in_base(path)?;
        let Some(parent) = whole.parent() else { return Ok(None) };
        let parent = match self.beneath.directory(&parent) {
            Err(Errno::NOENT) => self.imply(path)?,
            found => found.map_err(|errno| self.error("open", &path.parent().unwrap_or_default(), errno))?,
        };
        Ok(Some(NameInDir { parent, name: whole.name().to_vec() }))
    }

    /// Where something that is not a directory goes.
    fn place_of_other(&self, path: &EntryPath) -> Result<NameInDir> {
        self.place(path)?.ok_or_else(|| self.in_the_way(path, "that is a directory; name the file to restore to"))
    }

    /// Makes the directories on the way to a path and opens the last.
    fn imply(&self, path: &EntryPath) -> Result<Arc<Directory>> {
        // Of ancestors no more than their lengths is kept.
        let mut missing = Vec::new();
        let mut next = path.parent();
        let mut directory = loop {
            let Some(ancestor) = next else { return Err(self.error("open", path, Errno::NOENT)) };
            match self.directory(&ancestor) {
                Ok(directory) => break directory,
                Err(Error::Io { source, .. }) if source.kind() == std::io::ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
            missing.push(ancestor.as_bytes().len());
            if ancestor.is_root() {
                let base = self.beneath.directory(&EntryPath::default());
                break base.map_err(|errno| self.error("open", path, errno))?;
            }
            next = ancestor.parent();
        };
        while let Some(length) = missing.pop() {
            let ancestor = path.as_bytes().get(..length).unwrap_or_default();
            let ancestor = EntryPath::new(ancestor)
                .map_err(|odd| Error::Refused { path: self.shown(path), why: odd.to_string() })?;
            let whole = self.in_base(&ancestor)?;
            match mkdirat(directory.as_fd(), whole.name(), Mode::from_raw_mode(0o777)) {
                Ok(()) => self.note_implied(&ancestor),
                // Another thread was as fast, or somebody put something there: opening tells.
                Err(Errno::EXIST) => {}
                Err(errno) => return Err(self.error("create", &ancestor, errno)),
            }
            directory = self.directory(&ancestor)?;
        }
        Ok(directory)
    }

    fn directory(&self, path: &EntryPath) -> Result<Arc<Directory>> {
        self.beneath.directory(&self.in_base(path)?).map_err(|errno| self.error("open", path, errno))
    }

    /// A path of the destination as one of the base.
    fn in_base(&self, path: &EntryPath) -> Result<EntryPath> {
        if self.result.is_root() {
            return Ok(path.clone());
        }
        if path.is_root() {
            return Ok(self.result.clone());
        }
        let whole = [self.result.as_bytes(), b"/", path.as_bytes()].concat();
        EntryPath::new(whole).map_err(|odd| Error::Refused { path: self.shown(path), why: odd.to_string() })
    }

    fn exists(&self, path: &EntryPath) -> Error {
        Error::Exists { path: self.shown(path) }
    }

    fn in_the_way(&self, path: &EntryPath, why: &str) -> Error {
        Error::InTheWay { path: self.shown(path), why: why.into() }
    }

    fn refused(&self, path: &EntryPath, why: &str) -> Error {
        Error::Refused { path: self.shown(path), why: why.into() }
    }

    fn error(&self, action: &'static str, path: &EntryPath, errno: Errno) -> Error {
        match errno {
            Errno::EXIST => self.exists(path),
            Errno::LOOP => self.refused(path, "a symbolic link is in the way"),
            Errno::XDEV if action == "open" => self.refused(path, "it would leave the destination"),
            errno => Error::io(action, self.shown(path), errno),
        }
    }
}
