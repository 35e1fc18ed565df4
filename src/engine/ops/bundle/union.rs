//! What is in a bundle and in a store that is to be appended to it, as one: the bundle's copy of what both have.

use std::collections::BTreeSet;

use crate::error::{Error, Result};
use crate::format::name::{ObjectKind, ObjectName};
use crate::storage::{Listed, ObjectWriter, Put, Storage};

/// Two storages, to be read.
#[derive(Debug)]
pub(super) struct Union<'s> {
    /// Objects of the first.
    pub(super) held: BTreeSet<ObjectName>,
    pub(super) first: Option<&'s dyn Storage>,
    pub(super) second: &'s dyn Storage,
}

impl<'s> Union<'s> {
    fn of(&self, name: &ObjectName) -> &'s dyn Storage {
        self.first.filter(|_| self.held.contains(name)).unwrap_or(self.second)
    }

    fn refuse<T>(&self) -> Result<T> {
        Err(Error::Internal("what is exported is not written to".to_owned()))
    }
}

impl Storage for Union<'_> {
    fn describe(&self, name: &ObjectName) -> String {
        self.of(name).describe(name)
    }

    fn put_if_absent(&self, _: &ObjectName, _: &[u8]) -> Result<Put> {
        self.refuse()
    }

    fn writer(&self) -> Result<Box<dyn ObjectWriter>> {
        self.refuse()
    }

    fn size(&self, name: &ObjectName) -> Result<u64> {
        self.of(name).size(name)
    }

    fn read_at(&self, name: &ObjectName, offset: u64, buffer: &mut [u8]) -> Result<()> {
        self.of(name).read_at(name, offset, buffer)
    }

    fn list(&self, kind: ObjectKind) -> Result<Vec<Listed>> {
        let mut listed = self.first.map_or_else(|| Ok(Vec::new()), |first| first.list(kind))?;
        listed.extend(self.second.list(kind)?.into_iter().filter(|object| !self.held.contains(&object.name)));
        Ok(listed)
    }

    fn delete(&self, _: &ObjectName) -> Result<()> {
        self.refuse()
    }
}
