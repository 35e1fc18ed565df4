//! What is wrong with bytes that were to be parsed, before it is known in which file they lie.

use std::fmt;

use super::name::ObjectName;
use crate::error::Error;

/// Bytes that break their layout: where, and what was expected and found there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ParseError {
    /// Bytes from the start of what was parsed.
    pub offset: u64,
    /// What was expected and what was found.
    pub what: String,
}

impl ParseError {
    pub(crate) fn new(offset: usize, what: impl Into<String>) -> Self {
        Self { offset: offset as u64, what: what.into() }
    }

    /// The same flaw as seen from further out: what was parsed began `bytes` into something larger.
    #[must_use]
    pub fn moved(self, bytes: u64) -> Self {
        Self { offset: self.offset.saturating_add(bytes), ..self }
    }

    /// The error that names the file; `start` is where in it the parsed bytes begin.
    #[must_use]
    pub fn in_object(self, name: &ObjectName, start: u64) -> Error {
        Error::damaged(name.path(), self.offset.saturating_add(start), self.what)
    }
}

impl fmt::Display for ParseError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "at byte {}: {}", self.offset, self.what)
    }
}
