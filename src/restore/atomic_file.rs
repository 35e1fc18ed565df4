//! How does a thing appear whole under its name, or not at all? Under another name beside it, until it is whole.
//!
//! Invariant: what has the name was finished; an [`AtomicFile`] that is dropped is gone, whyever. Only a process that is
//! killed leaves one behind, and its name says what it is: `.store-export-….tmp`.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use rustix::fs::{CWD, RenameFlags, renameat_with};
use rustix::io::Errno;

use crate::error::{Error, Result};
use crate::spelling::quoted;

/// A file or a directory that is being written.
#[derive(Debug)]
pub struct AtomicFile {
    temporary: PathBuf,
    target: PathBuf,
    is_directory: bool,
    overwrite: bool,
    is_finished: bool,
}

impl AtomicFile {
    /// Makes a directory that is to become `target`, which is not there, or is an empty directory.
    ///
    /// # Errors
    /// [`Error::Exists`], or [`Error::Io`] if nothing can be made beside the target.
    pub fn directory(target: &Path) -> Result<Self> {
        let is_free = match target.symlink_metadata() {
            Err(error) if error.kind() == io::ErrorKind::NotFound => true,
            Err(source) => return Err(Error::io("look at", target, source)),
            Ok(found) => found.is_dir() && is_empty(target)?,
        };
        if !is_free {
            return Err(Error::Exists { path: target.to_owned() });
        }
        let (temporary, ()) = beside(target, |path| std::fs::create_dir(path))?;
        Ok(Self { temporary, target: target.to_owned(), is_directory: true, overwrite: false, is_finished: false })
    }

    /// Makes a file that is to become `target`, which is not there, or is a file or a link and may be replaced.
    ///
    /// # Errors
    /// As [`Self::directory`].
    pub fn file(target: &Path, overwrite: bool) -> Result<(Self, File)> {
        let is_free = match target.symlink_metadata() {
            Err(error) if error.kind() == io::ErrorKind::NotFound => true,
            Err(source) => return Err(Error::io("look at", target, source)),
            Ok(found) => overwrite && (found.is_file() || found.is_symlink()),
        };
        if !is_free {
            return Err(Error::Exists { path: target.to_owned() });
        }
        let create = |path: &Path| File::options().read(true).write(true).create_new(true).open(path);
        let (temporary, file) = beside(target, create)?;
        let target = target.to_owned();
        Ok((Self { temporary, target, is_directory: false, overwrite, is_finished: false }, file))
    }

    /// Where it is until it is finished.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.temporary
    }

    /// Gives it its name. The contents of files must be durable; then all of it is.
    ///
    /// # Errors
    /// [`Error::Exists`] if something has the name by now; [`Error::Io`].
    pub fn finish(mut self) -> Result<()> {
        if self.is_directory {
            sync_directory(&self.temporary)?;
        }
        self.rename().map_err(|errno| match errno {
            Errno::EXIST | Errno::NOTEMPTY | Errno::NOTDIR | Errno::ISDIR => {
                Error::Exists { path: self.target.clone() }
            }
            errno => Error::io("create", &self.target, errno),
        })?;
        self.is_finished = true;
        sync_directory(folder_of(&self.target))
    }

    fn rename(&self) -> Result<(), Errno> {
        // A directory takes the place of an empty one and of nothing else anyway.
        if !self.is_directory && !self.overwrite {
            match renameat_with(CWD, &self.temporary, CWD, &self.target, RenameFlags::NOREPLACE) {
                // Not every file system can; there is nobody else then, nearly surely.
                Err(Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP) if self.target.symlink_metadata().is_err() => {}
                Err(Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP) => return Err(Errno::EXIST),
                renamed => return renamed,
            }
        }
        rustix::fs::rename(&self.temporary, &self.target)
    }
}

impl Drop for AtomicFile {
    fn drop(&mut self) {
        if self.is_finished {
            return;
        }
        // Why it was not finished is what matters.
        let _ = match self.is_directory {
            true => std::fs::remove_dir_all(&self.temporary),
            false => std::fs::remove_file(&self.temporary),
        };
    }
}

fn folder_of(target: &Path) -> &Path {
    target.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// Makes something under a name that nobody has, in the folder of the target.
fn beside<T>(target: &Path, make: impl Fn(&Path) -> io::Result<T>) -> Result<(PathBuf, T)> {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let folder = folder_of(target);
    // `x/..` and the like are no names to rename to.
    if target.file_name().is_none() {
        return Err(Error::Usage(format!("cannot export to {}: that is not a file name", quoted(target))));
    }
    loop {
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let path = folder.join(format!(".store-export-{}-{number}.tmp", std::process::id()));
        match make(&path) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            made => return Ok((path, made.map_err(|source| Error::io("create", target, source))?)),
        }
    }
}

fn is_empty(directory: &Path) -> Result<bool> {
    let mut entries = std::fs::read_dir(directory).map_err(|source| Error::io("read", directory, source))?;
    Ok(entries.next().is_none())
}

fn sync_directory(path: &Path) -> Result<()> {
    File::open(path).and_then(|directory| directory.sync_all()).map_err(|source| Error::io("sync", path, source))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing)]

    use std::io::Write;

    use super::*;

    fn names(folder: &Path) -> Vec<String> {
        let mut names: Vec<String> =
            std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    #[test]
    fn a_file_appears_when_it_is_finished() {
        let folder = tempfile::tempdir().unwrap();
        let target = folder.path().join("file");
        let (unfinished, mut file) = AtomicFile::file(&target, false).unwrap();
        file.write_all(b"whole").unwrap();
        assert!(names(folder.path())[0].starts_with(".store-export-") && !target.exists());
        unfinished.finish().unwrap();
        assert_eq!(names(folder.path()), ["file"]);
        assert_eq!(std::fs::read(&target).unwrap(), b"whole");

        assert!(matches!(AtomicFile::file(&target, false), Err(Error::Exists { .. })));
        let (unfinished, mut file) = AtomicFile::file(&target, true).unwrap();
        file.write_all(b"new").unwrap();
        unfinished.finish().unwrap();
        assert_eq!(std::fs::read(&target).unwrap(), b"new");
        drop(AtomicFile::file(&target, true).unwrap());
        assert_eq!((names(folder.path()), std::fs::read(&target).unwrap()), (vec!["file".to_owned()], b"new".to_vec()));
    }

    #[test]
    fn what_came_meanwhile_is_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let target = folder.path().join("target");
        let (file, _) = AtomicFile::file(&target, false).unwrap();
        let directory = AtomicFile::directory(&target).unwrap();
        std::fs::write(&target, b"mine").unwrap();
        assert!(matches!(file.finish(), Err(Error::Exists { .. })));
        assert!(matches!(directory.finish(), Err(Error::Exists { .. })));
        assert_eq!(names(folder.path()), ["target"]);
        assert_eq!(std::fs::read(&target).unwrap(), b"mine");
    }

    #[test]
    fn a_directory_takes_the_place_of_an_empty_one_only() {
        let folder = tempfile::tempdir().unwrap();
        let target = folder.path().join("target");
        std::fs::create_dir(&target).unwrap();
        let unfinished = AtomicFile::directory(&target).unwrap();
        std::fs::write(unfinished.path().join("inside"), b"").unwrap();
        unfinished.finish().unwrap();
        assert_eq!(names(&target), ["inside"]);
        assert!(matches!(AtomicFile::directory(&target), Err(Error::Exists { .. })));
        assert!(matches!(AtomicFile::file(&target, true), Err(Error::Exists { .. })));
        for odd in ["/", "..", "target/.."] {
            let target = folder.path().join(odd);
            assert!(AtomicFile::directory(&target).is_err(), "{odd}");
        }
        assert_eq!(names(folder.path()), ["target"]);
    }
}
