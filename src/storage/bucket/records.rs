//! How is a key decided, where an answer may be lost, late or stale? By trying again, and by reading what is there.

use std::io;
use std::sync::Arc;

use super::Bucket;
use crate::error::{Error, Result};
use crate::format::bucket::{Nonce, RECORD_BYTES_MAX, Record};

/// How often an operation is tried, and how often a key that must exist is asked for.
const ATTEMPTS: u32 = 12;

/// What a put-if-absent came to.
#[derive(Debug)]
pub(super) enum Decided {
    /// This process's record is there.
    Ours,
    /// Another one is.
    Theirs(Record),
}

/// A bucket whose operations are tried again.
#[derive(Debug)]
pub(super) struct Records {
    bucket: Arc<dyn Bucket>,
}

impl Records {
    pub(super) fn new(bucket: Arc<dyn Bucket>) -> Self {
        Self { bucket }
    }

    pub(super) fn location(&self) -> String {
        self.bucket.location()
    }

    /// A key's address, for messages.
    pub(super) fn describe(&self, key: &str) -> String {
        format!("{}/{key}", self.bucket.location())
    }

    /// Waits before something is tried again.
    pub(super) fn pause(&self, attempt: u32) {
        self.bucket.pause(attempt);
    }

    /// Does something up to [`ATTEMPTS`] times.
    pub(super) fn retry<T>(
        &self,
        action: &'static str,
        key: &str,
        act: impl Fn(&dyn Bucket) -> io::Result<T>,
    ) -> Result<T> {
        let mut attempt = 1;
        loop {
            match act(&*self.bucket) {
                Ok(done) => return Ok(done),
                Err(error) if attempt >= ATTEMPTS || !may_pass(&error) => {
                    return Err(Error::io(action, self.describe(key), error));
                }
                Err(_) => self.bucket.pause(attempt),
            }
            attempt += 1;
        }
    }

    /// Decides a key: puts these bytes unless it exists, and says whether these are there or others. The answer is certain.
    /// "It exists" may mean an earlier attempt of this process, and may be said where nothing landed; so what is there is
    /// read and compared, and where there is nothing the put is tried again.
    pub(super) fn decide_bytes(&self, key: &str, bytes: &[u8]) -> Result<Option<Vec<u8>>> {
        let mut failure = None;
        for attempt in 1..=ATTEMPTS {
            match self.bucket.put_if_absent(key, bytes) {
                Ok(true) => return Ok(None),
                Ok(false) => {}
                Err(error) if !may_pass(&error) => return Err(Error::io("create", self.describe(key), error)),
                Err(error) => failure = Some(error),
            }
            match self.bucket.get(key, RECORD_BYTES_MAX) {
                Ok(Some(found)) => return Ok((found != bytes).then_some(found)),
                Ok(None) => {}
                Err(error) => failure = Some(error),
            }
            self.bucket.pause(attempt);
        }
        let failure = failure.unwrap_or_else(|| io::Error::other("it is said to exist, and cannot be read"));
        Err(Error::io("create", self.describe(key), failure))
    }

    /// As [`Self::decide_bytes`], of a record.
    pub(super) fn decide(&self, key: &str, record: &Record, nonce: &Nonce) -> Result<Decided> {
        match self.decide_bytes(key, &record.encode(nonce))? {
            None => Ok(Decided::Ours),
            Some(found) => Ok(Decided::Theirs(parse(key, &found)?)),
        }
    }

    /// A record, `None` if it is not there or not seen yet.
    pub(super) fn get(&self, key: &str) -> Result<Option<Record>> {
        match self.retry("read", key, |bucket| bucket.get(key, RECORD_BYTES_MAX))? {
            None => Ok(None),
            Some(bytes) => parse(key, &bytes).map(Some),
        }
    }

    /// The bytes of a record that exists: an answer that it does not is stale, and asked again.
    ///
    /// # Errors
    /// [`Error::Io`] if it cannot be had: without it nothing may be done.
    pub(super) fn must_get(&self, key: &str) -> Result<Vec<u8>> {
        for attempt in 1..=ATTEMPTS {
            if let Some(bytes) = self.retry("read", key, |bucket| bucket.get(key, RECORD_BYTES_MAX))? {
                return Ok(bytes);
            }
            self.bucket.pause(attempt);
        }
        let stale = io::Error::other("it was written, and cannot be read");
        Err(Error::io("read", self.describe(key), stale))
    }

    /// Whether there is an object.
    pub(super) fn exists(&self, key: &str) -> Result<bool> {
        Ok(self.retry("inspect", key, |bucket| bucket.size(key))?.is_some())
    }
}

pub(super) fn parse(key: &str, bytes: &[u8]) -> Result<Record> {
    Record::parse(bytes).map_err(|flaw| Error::damaged(key, flaw.offset, flaw.what))
}

/// A record of another kind than its key is for.
pub(super) fn unexpected(key: &str, found: &Record) -> Error {
    let found = match found {
        Record::Lease(_) => "a lease",
        Record::Closed(_) => "the end of a lane",
        Record::Commit { .. } => "a commit",
        Record::Revoked => "a revocation",
        Record::PendingDeletes(_) => "an announcement",
        Record::Delete(_) => "a list of what is deleted",
        Record::Done(_) => "a ledger",
    };
    Error::damaged(key, 12, format!("expected another kind of record, found {found}"))
}

/// Whether the same operation may succeed a little later.
fn may_pass(error: &io::Error) -> bool {
    use io::ErrorKind as Kind;
    !matches!(error.kind(), Kind::PermissionDenied | Kind::Unsupported | Kind::InvalidInput | Kind::FileTooLarge)
}
