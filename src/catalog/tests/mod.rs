//! Do the catalog's files say what was put in, and nothing else whatever is done to them?
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

mod bombs;
mod damage;
mod labels;
mod recipes;
mod rows;
mod snapshots;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use crate::error::{Error, Result};
use crate::format::name::{ObjectKind, ObjectName};
use crate::storage::{Listed, ObjectWriter, Put, Storage};
use crate::testing::random::TestRng;

/// Objects in a map, and how many bytes were read of them.
#[derive(Debug, Default, Clone)]
struct Shelf {
    objects: Arc<Mutex<BTreeMap<ObjectName, Vec<u8>>>>,
    read_bytes: Arc<Mutex<u64>>,
}

#[derive(Debug)]
struct ShelfWriter(Shelf, Vec<u8>);

impl Shelf {
    fn bytes(&self, name: ObjectName) -> Vec<u8> {
        self.objects.lock().unwrap()[&name].clone()
    }

    fn put(&self, name: ObjectName, bytes: Vec<u8>) {
        self.objects.lock().unwrap().insert(name, bytes);
    }

    fn taken_read_bytes(&self) -> u64 {
        std::mem::take(&mut *self.read_bytes.lock().unwrap())
    }
}

impl Storage for Shelf {
    fn describe(&self, name: &ObjectName) -> String {
        name.path()
    }

    fn put_if_absent(&self, name: &ObjectName, bytes: &[u8]) -> Result<Put> {
        self.put(*name, bytes.to_vec());
        Ok(Put::Created)
    }

    fn writer(&self) -> Result<Box<dyn ObjectWriter>> {
        Ok(Box::new(ShelfWriter(self.clone(), Vec::new())))
    }

    fn size(&self, name: &ObjectName) -> Result<u64> {
        let objects = self.objects.lock().unwrap();
        objects.get(name).map(|o| o.len() as u64).ok_or_else(|| Error::not_found(name.path()))
    }

    fn read_at(&self, name: &ObjectName, offset: u64, buffer: &mut [u8]) -> Result<()> {
        let objects = self.objects.lock().unwrap();
        let object = objects.get(name).ok_or_else(|| Error::not_found(name.path()))?;
        let from = usize::try_from(offset).unwrap();
        let bytes = object.get(from..from + buffer.len());
        buffer.copy_from_slice(bytes.ok_or_else(|| Error::damaged(name.path(), offset, "ends early"))?);
        *self.read_bytes.lock().unwrap() += buffer.len() as u64;
        Ok(())
    }

    fn list(&self, _: ObjectKind) -> Result<Vec<Listed>> {
        let objects = self.objects.lock().unwrap();
        Ok(objects.iter().map(|(name, o)| Listed { name: *name, bytes: o.len() as u64 }).collect())
    }

    fn delete(&self, name: &ObjectName) -> Result<()> {
        self.objects.lock().unwrap().remove(name);
        Ok(())
    }
}

impl ObjectWriter for ShelfWriter {
    fn write(&mut self, bytes: &[u8]) -> Result<()> {
        self.1.extend_from_slice(bytes);
        Ok(())
    }

    fn finish(self: Box<Self>, name: &ObjectName) -> Result<Put> {
        self.0.put(*name, self.1);
        Ok(Put::Created)
    }

    fn replace(self: Box<Self>, name: &ObjectName) -> Result<()> {
        self.finish(name).map(|_| ())
    }
}
