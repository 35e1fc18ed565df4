//! Objects of a bucket, by name: which key has them, and what a session wrote.

use std::collections::BTreeSet;
use std::io;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

use super::history::{History, View};
use super::records::Records;
use crate::error::{Error, Result};
use crate::format::bucket::{ObjectKey, Slot, StoredObject};
use crate::format::name::{ObjectKind, ObjectName};
use crate::storage::{Listed, ObjectWriter, Put, Storage, fill, random_bytes};

/// What is read: the newest state, or that of one generation.
#[derive(Debug, Clone, Copy)]
pub(super) enum Scope {
    Newest,
    Session(u64),
    Collection(u64),
}

/// What a session wrote and removes.
#[derive(Debug, Default)]
pub(super) struct Written {
    pub(super) objects: Vec<StoredObject>,
    pub(super) removed: BTreeSet<ObjectKey>,
}

/// What objects are written under.
#[derive(Debug)]
pub(super) struct Writing {
    pub(super) slot: Slot,
    count: AtomicU32,
    written: Mutex<Written>,
}

impl Writing {
    pub(super) fn new(slot: Slot) -> Self {
        Self { slot, count: AtomicU32::new(0), written: Mutex::default() }
    }

    pub(super) fn written(&self) -> MutexGuard<'_, Written> {
        self.written.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Storage in a bucket.
#[derive(Debug)]
pub struct BucketStorage {
    history: Arc<History>,
    scope: Scope,
    view: RwLock<Option<Arc<View>>>,
    /// `None` where only `store.json` can be written.
    writing: Option<Arc<Writing>>,
}

impl BucketStorage {
    pub(super) fn reading(history: Arc<History>) -> Self {
        Self { history, scope: Scope::Newest, view: RwLock::default(), writing: None }
    }

    pub(super) fn scoped(history: Arc<History>, scope: Scope, writing: Option<Arc<Writing>>) -> Self {
        Self { history, scope, view: RwLock::default(), writing }
    }

    fn records(&self) -> &Records {
        &self.history.records
    }

    /// What the store consists of, as it was read last.
    pub(super) fn view(&self) -> Result<Arc<View>> {
        let view = self.view.read().unwrap_or_else(PoisonError::into_inner).clone();
        view.map_or_else(|| self.refresh(), Ok)
    }

    pub(super) fn refresh(&self) -> Result<Arc<View>> {
        let view = Arc::new(match self.scope {
            Scope::Newest => self.history.newest()?,
            Scope::Session(generation) => self.history.for_session(generation)?,
            Scope::Collection(generation) => self.history.for_collection(generation)?,
        });
        *self.view.write().unwrap_or_else(PoisonError::into_inner) = Some(Arc::clone(&view));
        Ok(view)
    }

    /// The keys that may have an object, the likeliest first.
    fn keys(&self, view: &View, name: &ObjectName) -> Vec<ObjectKey> {
        let Some(writing) = &self.writing else { return view.keys(name) };
        let written = writing.written();
        let own = written.objects.iter().rev().map(|object| object.key).filter(|key| key.name == *name);
        let mut keys: Vec<ObjectKey> = own.chain(view.keys(name)).collect();
        keys.retain(|key| !written.removed.contains(key));
        keys
    }

    /// Asks the keys that may have an object, and once more after another look at what there is.
    fn with_key<T>(
        &self,
        action: &'static str,
        name: &ObjectName,
        act: impl Fn(&dyn super::Bucket, &str) -> io::Result<Option<T>>,
    ) -> Result<T> {
        if *name == ObjectName::Config {
            let key = name.path();
            let found = self.records().retry(action, &key, |bucket| act(bucket, &key))?;
            return found.ok_or_else(|| Error::not_found(self.records().describe(&key)));
        }
        let mut asked = BTreeSet::new();
        let mut is_listed = false;
        for is_last in [false, true] {
            let view = if is_last { self.refresh()? } else { self.view()? };
            is_listed = self.keys(&view, name).iter().any(|key| !view.pending_deletes.contains(key));
            for key in self.keys(&view, name).into_iter().filter(|key| asked.insert(*key)) {
                let key = key.text();
                if let Some(found) = self.records().retry(action, &key, |bucket| act(bucket, &key))? {
                    return Ok(found);
                }
            }
        }
        // What is listed still, after another look, was not deleted by a gc.
        if is_listed {
            return Err(Error::damaged_whole(name.path(), "the bucket's records list it, and it is not there"));
        }
        Err(Error::not_found(self.describe(name)))
    }

    fn writing(&self) -> Result<&Arc<Writing>> {
        in_session(self.writing.as_ref())
    }

    /// Puts an object under a key of its own.
    fn put(&self, name: &ObjectName, bytes: &[u8]) -> Result<()> {
        put(&self.history, self.writing()?, name, bytes)
    }
}

fn in_session(writing: Option<&Arc<Writing>>) -> Result<&Arc<Writing>> {
    writing.ok_or_else(|| Error::Internal("objects of a bucket are written in a session".to_owned()))
}

fn put(history: &History, writing: &Writing, name: &ObjectName, bytes: &[u8]) -> Result<()> {
    let count = writing.count.fetch_add(1, Ordering::Relaxed);
    let key = ObjectKey { name: *name, slot: writing.slot, count };
    let text = key.text();
    history.records.retry("create", &text, |bucket| bucket.put(&text, bytes))?;
    writing.written().objects.push(StoredObject { key, bytes: bytes.len() as u64 });
    Ok(())
}

impl Storage for BucketStorage {
    fn describe(&self, name: &ObjectName) -> String {
        match *name {
            ObjectName::Config => self.records().describe(&name.path()),
            _ => {
                let view = self.view().unwrap_or_default();
                let key = self.keys(&view, name).first().map_or_else(|| name.path(), ObjectKey::text);
                self.records().describe(&key)
            }
        }
    }

    /// Decides `store.json`. Any other object has a key of its own.
    fn put_if_absent(&self, name: &ObjectName, bytes: &[u8]) -> Result<Put> {
        if *name == ObjectName::Config {
            // The process that makes the store also names the instance.
            self.records().decide_bytes(super::INSTANCE, &random_bytes::<16>()?)?;
            let found = self.records().decide_bytes(&name.path(), bytes)?;
            return Ok(if found.is_none() { Put::Created } else { Put::Present });
        }
        self.put(name, bytes)?;
        Ok(Put::Created)
    }

    fn writer(&self) -> Result<Box<dyn ObjectWriter>> {
        let (history, writing) = (Arc::clone(&self.history), self.writing.clone());
        Ok(Box::new(BucketWriter { history, writing, bytes: Vec::new(), view: self.view()? }))
    }

    fn size(&self, name: &ObjectName) -> Result<u64> {
        self.with_key("inspect", name, |bucket, key| bucket.size(key))
    }

    fn read_at(&self, name: &ObjectName, offset: u64, buffer: &mut [u8]) -> Result<()> {
        let buffer = std::cell::RefCell::new(buffer);
        let wanted = buffer.borrow().len();
        let count = self.with_key("read", name, |bucket, key| {
            let mut buffer = buffer.borrow_mut();
            bucket.read_at(key, offset, &mut buffer)
        })?;
        if count < wanted {
            let end = offset.saturating_add(count as u64);
            return fill(name, end, buffer.into_inner().get_mut(count..).unwrap_or_default(), |_, _| Ok(0));
        }
        Ok(())
    }

    fn list(&self, kind: ObjectKind) -> Result<Vec<Listed>> {
        let view = self.refresh()?;
        let mut listed: Vec<Listed> = Vec::new();
        let mut add = |key: &ObjectKey, bytes: u64| {
            if key.name.kind() == Some(kind) && listed.last().is_none_or(|last| last.name != key.name) {
                listed.push(Listed { name: key.name, bytes });
            }
        };
        match &self.writing {
            None => view.objects.iter().for_each(|(key, bytes)| add(key, *bytes)),
            Some(writing) => {
                let written = writing.written();
                let kept = view.objects.iter().filter(|(key, _)| !written.removed.contains(key));
                kept.for_each(|(key, bytes)| add(key, *bytes));
                written.objects.iter().for_each(|object| add(&object.key, object.bytes));
                drop(written);
                listed.sort_unstable();
                listed.dedup_by_key(|object| object.name);
            }
        }
        Ok(listed)
    }

    /// Copies the object within the bucket.
    fn set_aside(&self, name: &ObjectName) -> Result<Option<String>> {
        let found = self.with_key("inspect", name, |bucket, key| Ok(bucket.size(key)?.map(|_| key.to_owned())));
        let key = match found {
            Err(Error::Damaged { .. }) => return Ok(None),
            found => found?,
        };
        let aside = format!("quarantine/{}", key.replace('/', "."));
        match self.records().retry("set aside", &key, |bucket| bucket.copy(&key, &aside))? {
            true => Ok(Some(aside)),
            false => Ok(None),
        }
    }

    /// Removes the object when the session is committed.
    fn delete(&self, name: &ObjectName) -> Result<()> {
        let view = self.view()?;
        let keys = self.keys(&view, name);
        let mut written = self.writing()?.written();
        written.removed.extend(keys);
        Ok(())
    }

    fn identity(&self) -> Result<Vec<u8>> {
        let instance = self.records().must_get(super::INSTANCE)?;
        Ok([self.records().location().as_bytes(), b"\n", &instance].concat())
    }

    fn location(&self) -> std::path::PathBuf {
        self.records().location().into()
    }
}

/// An object of a bucket, in memory until its name is known.
#[derive(Debug)]
struct BucketWriter {
    history: Arc<History>,
    writing: Option<Arc<Writing>>,
    bytes: Vec<u8>,
    view: Arc<View>,
}

impl ObjectWriter for BucketWriter {
    fn write(&mut self, bytes: &[u8]) -> Result<()> {
        self.bytes.extend_from_slice(bytes);
        Ok(())
    }

    fn finish(self: Box<Self>, name: &ObjectName) -> Result<Put> {
        put(&self.history, in_session(self.writing.as_ref())?, name, &self.bytes)?;
        Ok(Put::Created)
    }

    /// A key of its own takes the place of those that had the name. Only `store.json` is overwritten.
    fn replace(self: Box<Self>, name: &ObjectName) -> Result<()> {
        if *name == ObjectName::Config {
            let key = name.path();
            return self.history.records.retry("replace", &key, |bucket| bucket.put(&key, &self.bytes));
        }
        let writing = in_session(self.writing.as_ref())?;
        let mut keys = self.view.keys(name);
        keys.extend(writing.written().objects.iter().map(|object| object.key).filter(|key| key.name == *name));
        put(&self.history, writing, name, &self.bytes)?;
        writing.written().removed.extend(keys);
        Ok(())
    }
}
