//! Objects in memory: storage for tests, with the behaviour of the local one but its durability.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::{Listed, ObjectWriter, Put, Storage, fill};
use crate::error::{Error, Result};
use crate::format::name::{ObjectKind, ObjectName};

type Objects = BTreeMap<ObjectName, Arc<Vec<u8>>>;

/// Storage in memory. Clones share their objects.
#[derive(Debug, Clone, Default)]
pub struct MemoryStorage {
    objects: Arc<Mutex<Objects>>,
}

impl MemoryStorage {
    /// Storage without objects.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Replaces an object's bytes, or makes it, as no real storage does: to see what damage does.
    pub fn overwrite(&self, name: &ObjectName, bytes: Vec<u8>) {
        self.lock().insert(*name, Arc::new(bytes));
    }

    /// An object's bytes.
    ///
    /// # Errors
    /// [`Error::NotFound`].
    pub fn bytes(&self, name: &ObjectName) -> Result<Arc<Vec<u8>>> {
        self.lock().get(name).cloned().ok_or_else(|| Error::not_found(self.describe(name)))
    }

    fn lock(&self) -> MutexGuard<'_, Objects> {
        self.objects.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Storage for MemoryStorage {
    fn describe(&self, name: &ObjectName) -> String {
        format!("{name} in memory")
    }

    fn put_if_absent(&self, name: &ObjectName, bytes: &[u8]) -> Result<Put> {
        match self.lock().entry(*name) {
            Entry::Occupied(_) => Ok(Put::Present),
            Entry::Vacant(place) => {
                place.insert(Arc::new(bytes.to_vec()));
                Ok(Put::Created)
            }
        }
    }

    fn writer(&self) -> Result<Box<dyn ObjectWriter>> {
        Ok(Box::new(MemoryWriter { storage: self.clone(), bytes: Vec::new() }))
    }

    fn size(&self, name: &ObjectName) -> Result<u64> {
        Ok(self.bytes(name)?.len() as u64)
    }

    fn read_at(&self, name: &ObjectName, offset: u64, buffer: &mut [u8]) -> Result<()> {
        let object = self.bytes(name)?;
        fill(name, offset, buffer, |at, buffer| {
            let rest = usize::try_from(at).ok().and_then(|at| object.get(at..)).unwrap_or_default();
            let count = rest.len().min(buffer.len());
            for (to, from) in buffer.iter_mut().zip(rest) {
                *to = *from;
            }
            Ok(count)
        })
    }

    fn list(&self, kind: ObjectKind) -> Result<Vec<Listed>> {
        let listed = |(name, bytes): (&ObjectName, &Arc<Vec<u8>>)| Listed { name: *name, bytes: bytes.len() as u64 };
        Ok(self.lock().iter().filter(|(name, _)| name.kind() == Some(kind)).map(listed).collect())
    }

    fn delete(&self, name: &ObjectName) -> Result<()> {
        self.lock().remove(name);
        Ok(())
    }
}

#[derive(Debug)]
struct MemoryWriter {
    storage: MemoryStorage,
    bytes: Vec<u8>,
}

impl ObjectWriter for MemoryWriter {
    fn write(&mut self, bytes: &[u8]) -> Result<()> {
        self.bytes.extend_from_slice(bytes);
        Ok(())
    }

    fn finish(self: Box<Self>, name: &ObjectName) -> Result<Put> {
        self.storage.put_if_absent(name, &self.bytes)
    }

    fn replace(self: Box<Self>, name: &ObjectName) -> Result<()> {
        self.storage.overwrite(name, self.bytes);
        Ok(())
    }
}
