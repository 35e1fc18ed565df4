//! What would be written, had it been? A storage that reads from a real one and writes nowhere, so that a dry run does
//! all the work and its figures are those of the real run.

use crate::error::Result;
use crate::format::name::{ObjectKind, ObjectName};
use crate::storage::{Listed, NullWriter, ObjectWriter, Put, Storage};

/// Reads are the real storage's; writes and deletes come to nothing.
#[derive(Debug)]
pub(super) struct DryRunStorage<'s>(pub(super) &'s dyn Storage);

impl Storage for DryRunStorage<'_> {
    fn describe(&self, name: &ObjectName) -> String {
        self.0.describe(name)
    }

    fn put_if_absent(&self, _: &ObjectName, _: &[u8]) -> Result<Put> {
        Ok(Put::Created)
    }

    fn writer(&self) -> Result<Box<dyn ObjectWriter>> {
        Ok(Box::new(NullWriter))
    }

    fn size(&self, name: &ObjectName) -> Result<u64> {
        self.0.size(name)
    }

    fn read_at(&self, name: &ObjectName, offset: u64, buffer: &mut [u8]) -> Result<()> {
        self.0.read_at(name, offset, buffer)
    }

    fn list(&self, kind: ObjectKind) -> Result<Vec<Listed>> {
        self.0.list(kind)
    }

    fn delete(&self, _: &ObjectName) -> Result<()> {
        Ok(())
    }
}
