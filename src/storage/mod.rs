//! Where objects are kept: named, immutable, whole or absent.
//!
//! The seam is shaped like an object store, so that S3-like stores can follow the local one. An object is written front
//! to back by a writer and becomes visible, whole and durable, when [`ObjectWriter::finish`] returns; before that it is
//! nowhere. Nothing visible is ever changed, appended to or renamed.

mod backend;
pub mod bucket;
pub mod bundle;
mod caches;
pub mod coordination;
pub mod disk;
mod holder;
pub mod local;
pub mod memory;
pub mod scratch;

use std::fmt::Debug;
use std::io;
use std::path::PathBuf;

pub use backend::Backend;
pub use bundle::BundleStorage;
pub use caches::CacheDirectory;
pub use coordination::{Coordination, Session};
pub use holder::Holder;
pub use local::LocalStorage;
pub use memory::MemoryStorage;
pub use scratch::ScratchStorage;

use crate::error::{Error, Result};
use crate::format::name::{ObjectKind, ObjectName};

/// Whether a put made the object or found it there already.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Put {
    /// The object is new.
    Created,
    /// An object of that name was there; it was left alone. Names are made from contents, so it says the same.
    Present,
}

/// One object and its size, as a listing gives it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Listed {
    /// Its name.
    pub name: ObjectName,
    /// Its size in bytes.
    pub bytes: u64,
}

/// A place that keeps immutable objects.
///
/// Durability: when `put_if_absent` or `finish` returns `Ok`, the object's bytes and its name survive a crash of the
/// process, the system and the power; when `delete` returns `Ok`, so does the object's absence. When they return an
/// error, nothing is promised but this: the object is there whole, or not at all.
pub trait Storage: Send + Sync + Debug {
    /// The object's name as a person would find it, for messages.
    fn describe(&self, name: &ObjectName) -> String;

    /// Makes a small object, unless one of that name exists.
    fn put_if_absent(&self, name: &ObjectName, bytes: &[u8]) -> Result<Put>;

    /// Begins an object whose name is known only at its end.
    fn writer(&self) -> Result<Box<dyn ObjectWriter>>;

    /// The object's size in bytes. A missing object is [`crate::Error::NotFound`].
    fn size(&self, name: &ObjectName) -> Result<u64>;

    /// Fills `buffer` from the object's bytes at `offset`. An object that ends too early is damaged, not short.
    fn read_at(&self, name: &ObjectName, offset: u64, buffer: &mut [u8]) -> Result<()>;

    /// All objects of a kind, in no particular order. Files that are no objects are passed over.
    fn list(&self, kind: ObjectKind) -> Result<Vec<Listed>>;

    /// Makes the name of an existing object durable. Its maker may not have done so: it was
    /// killed, or is just about to. Where what is visible is durable, as in object stores, there is nothing to do.
    fn settle(&self, _name: &ObjectName) -> Result<()> {
        Ok(())
    }

    /// Removes an object. Removing what is not there is fine.
    fn delete(&self, name: &ObjectName) -> Result<()>;

    /// Keeps a copy of a damaged object out of the way, durably, and says where. Reading it may be what fails, so it is not
    /// read. Where the storage cannot copy without reading, the object loses its name by this.
    ///
    /// `None` if records list the object and it is not there.
    ///
    /// # Errors
    /// [`Error::NotFound`] if there is no such object; the storage's.
    fn set_aside(&self, name: &ObjectName) -> Result<Option<String>> {
        Err(Error::Internal(format!("{} cannot be set aside: its storage is only read", self.describe(name))))
    }

    /// What tells this place from every other that may hold a store of the same id: caches are kept by it.
    ///
    /// # Errors
    /// The storage's.
    fn identity(&self) -> Result<Vec<u8>> {
        use std::os::unix::ffi::OsStrExt;
        Ok(self.location().as_os_str().as_bytes().to_vec())
    }

    /// Where it is, for messages.
    fn location(&self) -> PathBuf {
        PathBuf::from("memory")
    }

    /// Directories of this machine that hold it: an add leaves them out.
    fn own_directories(&self) -> Vec<PathBuf> {
        Vec::new()
    }

    /// Removes what writers that are gone left half written. What is being written now is left alone.
    fn sweep(&self) {}

    /// Closes all files kept open for reading, as any read of others may.
    #[cfg(test)]
    fn close_files(&self) {}
}

/// An object being written. Dropped without `finish`, it leaves nothing behind.
pub trait ObjectWriter: Send + Debug {
    /// Appends bytes.
    fn write(&mut self, bytes: &[u8]) -> Result<()>;

    /// Makes the object durable and visible under `name`. A failed sync is final: the object is dropped.
    fn finish(self: Box<Self>, name: &ObjectName) -> Result<Put>;

    /// As [`Self::finish`], but in place of an object of that name: a reader that opens it sees the old bytes or the new ones,
    /// never none. For damaged objects only, since an object's name says what its bytes are.
    fn replace(self: Box<Self>, name: &ObjectName) -> Result<()>;
}

/// Takes an object's bytes and keeps none: to learn what it would be.
#[derive(Debug, Clone, Copy)]
pub struct NullWriter;

impl ObjectWriter for NullWriter {
    fn write(&mut self, _: &[u8]) -> Result<()> {
        Ok(())
    }

    fn finish(self: Box<Self>, _: &ObjectName) -> Result<Put> {
        Ok(Put::Created)
    }

    fn replace(self: Box<Self>, _: &ObjectName) -> Result<()> {
        Ok(())
    }
}

/// Random bytes of the system.
pub(crate) fn random_bytes<const N: usize>() -> Result<[u8; N]> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).map_err(|error| Error::io("get", "random bytes", std::io::Error::from(error)))?;
    Ok(bytes)
}

/// Fills `buffer` from an object at `offset` by reads that may give less than was asked for.
fn fill(
    name: &ObjectName,
    offset: u64,
    buffer: &mut [u8],
    mut read: impl FnMut(u64, &mut [u8]) -> Result<usize>,
) -> Result<()> {
    let wanted = buffer.len();
    let mut rest = buffer;
    while !rest.is_empty() {
        let filled = wanted - rest.len();
        let at = offset.saturating_add(filled as u64);
        let count = match read(at, rest) {
            Err(Error::Io { source, .. }) if source.kind() == io::ErrorKind::Interrupted => continue,
            result => result?,
        };
        if count == 0 {
            let what = format!("expected {wanted} bytes from byte {offset} on, found {filled}: the object ends there");
            return Err(Error::damaged(name.path(), at, what));
        }
        rest = rest.get_mut(count..).unwrap_or_default();
    }
    Ok(())
}

#[cfg(test)]
mod tests;
