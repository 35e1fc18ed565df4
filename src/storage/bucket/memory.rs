//! A bucket in this process's memory, which does everything at once and forgets everything at the end.

use std::collections::BTreeMap;
use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::Bucket;

/// A bucket in memory. Clones are the same bucket.
#[derive(Debug, Clone)]
pub struct MemoryBucket {
    number: u64,
    objects: Arc<Mutex<BTreeMap<String, Arc<[u8]>>>>,
}

impl Default for MemoryBucket {
    fn default() -> Self {
        Self::new()
    }
}

impl MemoryBucket {
    /// An empty bucket.
    #[must_use]
    pub fn new() -> Self {
        static BUCKETS: AtomicU64 = AtomicU64::new(0);
        Self { number: BUCKETS.fetch_add(1, Ordering::Relaxed), objects: Arc::default() }
    }

    fn objects(&self) -> MutexGuard<'_, BTreeMap<String, Arc<[u8]>>> {
        self.objects.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn object(&self, key: &str) -> Option<Arc<[u8]>> {
        self.objects().get(key).cloned()
    }
}

#[cfg(test)]
impl MemoryBucket {
    /// Another bucket with the same objects.
    pub(crate) fn fork(&self) -> Self {
        let fork = Self::new();
        fork.objects().extend(self.objects().iter().map(|(key, bytes)| (key.clone(), Arc::clone(bytes))));
        fork
    }

    /// Every key and its bytes.
    pub(crate) fn contents(&self) -> BTreeMap<String, Arc<[u8]>> {
        self.objects().clone()
    }
}

impl Bucket for MemoryBucket {
    fn location(&self) -> String {
        format!("memory:{}", self.number)
    }

    fn put(&self, key: &str, bytes: &[u8]) -> io::Result<()> {
        self.objects().insert(key.to_owned(), bytes.into());
        Ok(())
    }

    fn put_if_absent(&self, key: &str, bytes: &[u8]) -> io::Result<bool> {
        let mut objects = self.objects();
        let is_absent = !objects.contains_key(key);
        if is_absent {
            objects.insert(key.to_owned(), bytes.into());
        }
        Ok(is_absent)
    }

    fn get(&self, key: &str, bytes_max: u64) -> io::Result<Option<Vec<u8>>> {
        match self.object(key) {
            Some(bytes) if bytes.len() as u64 > bytes_max => {
                Err(io::Error::new(io::ErrorKind::FileTooLarge, format!("it has {} bytes", bytes.len())))
            }
            object => Ok(object.map(|bytes| bytes.to_vec())),
        }
    }

    fn read_at(&self, key: &str, offset: u64, buffer: &mut [u8]) -> io::Result<Option<usize>> {
        let Some(bytes) = self.object(key) else { return Ok(None) };
        let rest = usize::try_from(offset).ok().and_then(|offset| bytes.get(offset..)).unwrap_or_default();
        let count = rest.len().min(buffer.len());
        if let (Some(to), Some(from)) = (buffer.get_mut(..count), rest.get(..count)) {
            to.copy_from_slice(from);
        }
        Ok(Some(count))
    }

    fn size(&self, key: &str) -> io::Result<Option<u64>> {
        Ok(self.object(key).map(|bytes| bytes.len() as u64))
    }

    fn list(&self, prefix: &str) -> io::Result<Vec<(String, u64)>> {
        let objects = self.objects();
        let below = objects.range(prefix.to_owned()..).take_while(|(key, _)| key.starts_with(prefix));
        Ok(below.map(|(key, bytes)| (key.clone(), bytes.len() as u64)).collect())
    }

    fn copy(&self, from: &str, to: &str) -> io::Result<bool> {
        let mut objects = self.objects();
        let Some(bytes) = objects.get(from).cloned() else { return Ok(false) };
        objects.insert(to.to_owned(), bytes);
        Ok(true)
    }

    fn delete(&self, key: &str) -> io::Result<()> {
        self.objects().remove(key);
        Ok(())
    }

    fn pause(&self, _: u32) {}
}
