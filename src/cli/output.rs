//! Where do bytes go that a command writes to a named file? Into one that has its name once it is whole; a device or a
//! pipe is written to as it is, and stays whatever comes.

use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use crate::error::{Error, Result};
use crate::restore::AtomicFile;

/// A file that is being written; dropped before [`Output::finish`], it leaves what was there.
#[derive(Debug)]
pub(super) struct Output {
    path: PathBuf,
    file: File,
    /// `None` of what is no plain file.
    unfinished: Option<AtomicFile>,
}

impl Output {
    /// Begins to write to `path`.
    ///
    /// # Errors
    /// [`Error::Exists`] if there is a file and `overwrite` is false, or a directory; [`Error::Io`].
    pub(super) fn create(path: &Path, overwrite: bool) -> Result<Self> {
        let is_special = path.metadata().is_ok_and(|found| !found.is_file() && !found.is_dir());
        let (file, unfinished) = if is_special {
            (File::options().write(true).open(path).map_err(|source| Error::io("open", path, source))?, None)
        } else {
            let (unfinished, file) = AtomicFile::file(path, overwrite)?;
            (file, Some(unfinished))
        };
        Ok(Self { path: path.to_owned(), file, unfinished })
    }

    /// Makes a file durable, and gives it its name.
    ///
    /// # Errors
    /// [`Error::Io`]; [`Error::Exists`] if something has the name by now.
    pub(super) fn finish(self) -> Result<()> {
        let Some(unfinished) = self.unfinished else { return Ok(()) };
        self.file.sync_all().map_err(|source| Error::io("sync", &self.path, source))?;
        unfinished.finish()
    }
}

impl Write for Output {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.file.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}
