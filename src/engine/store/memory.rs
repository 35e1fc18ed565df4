//! How much memory may an operation take? An add for data in flight, a get for plans and data.

use crate::error::{Error, Result};

/// Unless a request says otherwise.
pub(in crate::engine) const BYTES_DEFAULT: usize = 256 << 20;

/// The least that a request can say: a few tasks and decoded frames.
const BYTES_MIN: usize = 32 << 20;

/// # Errors
/// [`Error::Usage`] for too little.
pub(in crate::engine) fn check(operation: &str, bytes: usize) -> Result<()> {
    if bytes < BYTES_MIN {
        return Err(Error::Usage(format!("{operation} needs at least {} MiB of memory", BYTES_MIN >> 20)));
    }
    Ok(())
}
