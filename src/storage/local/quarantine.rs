//! Where does what is damaged go? Out of the way, but not away: into `quarantine/`, under a name of its own.
//!
//! Invariant: an object is durable there before it may be removed from where it was. Nothing in this program reads the
//! folder or removes it; it is the user's, to look at and to delete.

use std::io;
use std::path::PathBuf;

use super::LocalStorage;
use super::writer::LocalWriter;
use crate::error::{Error, Result};
use crate::format::name::ObjectName;
use crate::storage::{ObjectWriter, Put, Storage};

/// The folder below the root.
const QUARANTINE: &str = "quarantine";

/// How many times one object can be damaged and healed.
const COPIES_MAX: u32 = 10_000;

/// Where the system cannot read a stretch of a damaged object, this many bytes of its copy are zeros.
const UNREADABLE_BYTES: usize = 4096;

/// A copy is made in stretches of this many bytes.
const COPY_BYTES: usize = 1 << 20;

impl LocalStorage {
    /// Keeps an object's file in the quarantine, too, durably; says where, below the root. It is a second name of the same
    /// file, which takes no space and no reading: reading may be what fails. Where the file system has no hard links it is
    /// a copy, in which bytes that cannot be read are zeros. The object keeps its name in either case.
    ///
    /// # Errors
    /// [`Error::NotFound`] if there is no such object; [`Error::Io`].
    pub fn set_aside(&self, name: &ObjectName) -> Result<PathBuf> {
        let inner = &self.inner;
        let from = inner.path(name);
        let folder = inner.root.join(QUARANTINE);
        inner.check_lost()?;
        inner.make_durable(&folder)?;
        let base = match name {
            ObjectName::Recipes(id) => format!("{id}.recipes.arrow"),
            ObjectName::Snapshot(id) => format!("{id}.snapshot.arrow"),
            ObjectName::Pack(id) => format!("{id}.pack"),
            other => other.path().replace('/', "."),
        };
        for copy in 0..COPIES_MAX {
            let file = if copy == 0 { base.clone() } else { format!("{base}.{copy}") };
            let to = folder.join(&file);
            match inner.disk.link_new(&from, &to) {
                Ok(()) => inner.sync_parent(&to)?,
                Err(e) if e.kind() == io::ErrorKind::AlreadyExists => continue,
                Err(e) if e.kind() == io::ErrorKind::Unsupported => match self.copy(name)?.finish_at(&to)? {
                    Put::Created => {}
                    Put::Present => continue,
                },
                Err(e) => return Err(inner.read_error("set aside", name, e)),
            }
            return Ok(PathBuf::from(QUARANTINE).join(file));
        }
        Err(Error::io("set aside", from, io::Error::other("the quarantine is full of it")))
    }

    /// All bytes of an object that can be read, in a file without a name of its own yet.
    fn copy(&self, name: &ObjectName) -> Result<LocalWriter> {
        let mut writer = LocalWriter::begin(&self.inner)?;
        let bytes = self.size(name)?;
        let mut buffer = vec![0; COPY_BYTES];
        let mut at = 0;
        while at < bytes {
            let length = (bytes - at).min(buffer.len() as u64) as usize;
            let part = buffer.get_mut(..length).unwrap_or_default();
            if self.read_at(name, at, part).is_err() {
                let mut place = at;
                for block in part.chunks_mut(UNREADABLE_BYTES) {
                    if self.read_at(name, place, block).is_err() {
                        block.fill(0);
                    }
                    place += block.len() as u64;
                }
            }
            writer.write(part)?;
            at += length as u64;
        }
        Ok(writer)
    }
}
