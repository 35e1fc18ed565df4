//! What a process says when it ends.

use std::process::ExitCode;

use crate::error::Error;

/// The exit codes of `store`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Exit {
    /// Everything that was asked for is done.
    Fine = 0,
    /// It could not be done.
    Error = 1,
    /// The request makes no sense.
    Usage = 2,
    /// Done, but some files were skipped, or kept or restored without all that belongs to them; each was named.
    Skipped = 3,
    /// Stored data is damaged.
    Damaged = 4,
}

impl Exit {
    /// This one, or another that says more.
    #[must_use]
    pub fn or(self, other: Self) -> Self {
        match (self, other) {
            (Self::Fine | Self::Skipped, other) if other != Self::Fine => other,
            _ => self,
        }
    }

    /// The code for an error.
    #[must_use]
    pub fn of(error: &Error) -> Self {
        match error {
            Error::Damaged { .. } | Error::BundleDamaged { .. } | Error::Refused { .. } => Self::Damaged,
            Error::Usage(_) | Error::ReadOnly { .. } => Self::Usage,
            _ => Self::Error,
        }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}
