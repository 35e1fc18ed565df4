//! Objects in one file: how is a bundle read in place, by many threads, and while somebody appends to it?
//!
//! Invariants: only objects are handed out that an index lists whose hash was right, or, where that is damaged, that
//! checked heads lead to one after the other; each lies within the file, apart from the others. What an object's bytes
//! are worth is for its name to say, as in any storage. Nothing is ever written through this.

mod check;
mod find;
mod write;

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

pub use self::find::{BundleContents, find};
pub use self::write::{BundleWriter, Committed};
use super::disk::{Disk, ReadFile};
use super::{Listed, ObjectWriter, Put, Storage, fill};
use crate::error::{Error, Result};
use crate::format::bundle::{BUNDLE_HEADER_BYTES, HEAD_BYTES, ObjectPlace, aligned};
use crate::format::name::{ObjectKind, ObjectName};

/// Something in a bundle that is not as it was written, or does not belong there, but for objects' bytes.
///
/// ```
/// # use seamstore::{Control, Store, entry::*, report::*, request::*};
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let store = Store::in_memory(Settings::default())?;
/// # let writer = store.writer(WriterOptions::default().threads(1))?;
/// # writer.add_bytes(writer.entry("notes/first.txt", EntryKind::File)?, b"found again".to_vec())?;
/// # let added = writer.finish()?;
/// # let control = Control::default();
/// // Only a bundle has flaws of its own.
/// assert_eq!(store.bundle_flaws(), []);
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct BundleFlaw {
    /// Where in the file, in bytes from its start.
    pub offset: u64,
    /// What was expected and what was found.
    pub what: String,
}

/// A file that may be a bundle, open.
#[derive(Clone)]
pub struct BundleFile {
    path: PathBuf,
    file: Arc<dyn ReadFile>,
    bytes: u64,
}

impl fmt::Debug for BundleFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BundleFile").field("path", &self.path).field("bytes", &self.bytes).finish_non_exhaustive()
    }
}

impl BundleFile {
    /// Opens a file.
    ///
    /// # Errors
    /// [`Error::NotAStore`] if it is no regular file; [`Error::Io`].
    pub fn open(disk: &dyn Disk, path: &Path) -> Result<Self> {
        let failed = |source| Error::io("open", path, source);
        let file = disk.open(path).map_err(failed)?;
        let Some(bytes) = disk.file_bytes(path).map_err(failed)? else {
            return Err(Error::NotAStore { path: path.to_owned(), why: "it is not a regular file".to_owned() });
        };
        Ok(Self { path: path.to_owned(), file, bytes })
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// How many bytes it has.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    fn damaged(&self, offset: u64, what: impl Into<String>) -> Error {
        Error::BundleDamaged { path: self.path.clone(), offset, what: what.into() }
    }

    fn read_some(&self, offset: u64, buffer: &mut [u8]) -> Result<usize> {
        self.file.read_at(offset, buffer).map_err(|source| Error::io("read", &self.path, source))
    }

    /// The bytes at `offset`, as many of `length` as there are. The caller bounds the length.
    fn read(&self, offset: u64, length: u64) -> Result<Vec<u8>> {
        let length = length.min(self.bytes.saturating_sub(offset));
        let mut bytes = vec![0; usize::try_from(length).map_err(|_| self.damaged(offset, "too many bytes"))?];
        let mut filled = 0;
        while let Some(rest) = bytes.get_mut(filled..).filter(|rest| !rest.is_empty()) {
            match self.read_some(offset + filled as u64, rest) {
                Err(Error::Io { source, .. }) if source.kind() == std::io::ErrorKind::Interrupted => {}
                Ok(0) => break,
                read => filled += read?,
            }
        }
        bytes.truncate(filled);
        Ok(bytes)
    }
}

/// A bundle's objects. Clones share them.
#[derive(Debug, Clone)]
pub struct BundleStorage {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    file: BundleFile,
    found: BundleContents,
    objects: BTreeMap<ObjectName, ObjectPlace>,
}

impl BundleStorage {
    /// The objects that `places` says are in the bundle that was found.
    ///
    /// # Errors
    /// [`Error::BundleDamaged`] if they are not all within what was found, apart from each other, and of different names.
    pub fn new(file: BundleFile, found: BundleContents, mut places: Vec<ObjectPlace>) -> Result<Self> {
        places.sort_by_key(|place| place.offset);
        let mut least = BUNDLE_HEADER_BYTES + HEAD_BYTES;
        for place in &places {
            let is_within = place.offset.checked_add(place.bytes).is_some_and(|end| end <= found.index_at);
            if place.offset < least || aligned(place.offset) != Some(place.offset) || !is_within {
                let what = format!(
                    "its index says that {} has {} bytes at {}: outside of the file, or on top of others",
                    place.name, place.bytes, place.offset
                );
                return Err(file.damaged(found.index_at, what));
            }
            least = place.end().saturating_add(HEAD_BYTES);
        }
        let count = places.len();
        let objects: BTreeMap<_, _> = places.into_iter().map(|place| (place.name, place)).collect();
        if objects.len() != count {
            return Err(file.damaged(found.index_at, "its index lists an object twice"));
        }
        Ok(Self { inner: Arc::new(Inner { file, found, objects }) })
    }

    /// The file.
    #[must_use]
    pub fn path(&self) -> &Path {
        self.inner.file.path()
    }

    /// What is known of its end, and what is wrong with it.
    #[must_use]
    pub fn found(&self) -> &BundleContents {
        &self.inner.found
    }

    /// Where each object is, by name.
    pub fn places(&self) -> impl ExactSizeIterator<Item = &ObjectPlace> {
        self.inner.objects.values()
    }

    fn place(&self, name: &ObjectName) -> Result<&ObjectPlace> {
        self.inner.objects.get(name).ok_or_else(|| Error::not_found(self.describe(name)))
    }

    fn read_only<T>(&self) -> Result<T> {
        Err(Error::ReadOnly { path: self.path().to_owned() })
    }
}

impl Storage for BundleStorage {
    fn location(&self) -> std::path::PathBuf {
        self.path().to_owned()
    }

    fn describe(&self, name: &ObjectName) -> String {
        format!("{name} in {}", self.path().display())
    }

    fn put_if_absent(&self, _: &ObjectName, _: &[u8]) -> Result<Put> {
        self.read_only()
    }

    fn writer(&self) -> Result<Box<dyn ObjectWriter>> {
        self.read_only()
    }

    fn size(&self, name: &ObjectName) -> Result<u64> {
        Ok(self.place(name)?.bytes)
    }

    fn read_at(&self, name: &ObjectName, offset: u64, buffer: &mut [u8]) -> Result<()> {
        let place = self.place(name)?;
        fill(name, offset, buffer, |at, buffer| {
            let rest = usize::try_from(place.bytes.saturating_sub(at)).unwrap_or(usize::MAX);
            let room = buffer.len().min(rest);
            self.inner.file.read_some(place.offset.saturating_add(at), buffer.get_mut(..room).unwrap_or_default())
        })
    }

    fn list(&self, kind: ObjectKind) -> Result<Vec<Listed>> {
        let of_kind = self.places().filter(|place| place.name.kind() == Some(kind));
        Ok(of_kind.map(|place| Listed { name: place.name, bytes: place.bytes }).collect())
    }

    fn delete(&self, _: &ObjectName) -> Result<()> {
        self.read_only()
    }
}
