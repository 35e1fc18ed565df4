//! When is a read hopeless? When it failed three times: what a cable or a busy drive fails once is not lost.
//!
//! Invariant: nothing is given up for a read that was tried only once.

use crate::error::{Error, Result};
use crate::format::name::{ObjectKind, ObjectName};
use crate::storage::{Listed, ObjectWriter, Put, Storage};

/// So often is a read tried.
const ATTEMPTS: usize = 3;

/// A storage that is asked again where the system failed to read.
#[derive(Debug)]
pub(super) struct RetryingStorage<'s>(pub(super) &'s dyn Storage);

impl RetryingStorage<'_> {
    fn ask<T>(&self, mut question: impl FnMut(&dyn Storage) -> Result<T>) -> Result<T> {
        for _ in 1..ATTEMPTS {
            match question(self.0) {
                Err(Error::Io { .. }) => {}
                answer => return answer,
            }
        }
        question(self.0)
    }
}

impl Storage for RetryingStorage<'_> {
    fn describe(&self, name: &ObjectName) -> String {
        self.0.describe(name)
    }

    fn put_if_absent(&self, name: &ObjectName, bytes: &[u8]) -> Result<Put> {
        self.0.put_if_absent(name, bytes)
    }

    fn writer(&self) -> Result<Box<dyn ObjectWriter>> {
        self.0.writer()
    }

    fn size(&self, name: &ObjectName) -> Result<u64> {
        self.ask(|storage| storage.size(name))
    }

    fn read_at(&self, name: &ObjectName, offset: u64, buffer: &mut [u8]) -> Result<()> {
        self.ask(|storage| storage.read_at(name, offset, buffer))
    }

    fn list(&self, kind: ObjectKind) -> Result<Vec<Listed>> {
        self.ask(|storage| storage.list(kind))
    }

    fn delete(&self, name: &ObjectName) -> Result<()> {
        self.0.delete(name)
    }
}
