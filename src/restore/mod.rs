//! How does a snapshot become files again, without ever leaving the destination?
//!
//! [`Destination`] is that place. Every path is resolved beneath it, from an open directory, following no symbolic link:
//! not one that was there before, not one the snapshot itself brought, not one that appears meanwhile (invariant 8).
//! What exists is left alone unless the destination was made to overwrite, and even then it is replaced, never written
//! through.
//!
//! ```text
//! make_directory  make_file → write_at… → finish_file   make_symlink  make_node   make_hard_link   finish_directory
//!    0700            0600      any order    metadata      with metadata             at last         deepest first
//! ```
//!
//! What is worth nothing unless it is whole, such as an export to a file, is [`AtomicFile`] until then.
//!
//! While a restore runs, files and directories are the restoring user's alone. An error means that the thing is not
//! there; what could merely not be set on it comes back as [`Warnings`].

mod atomic_file;
mod attributes;
mod compress;
mod confined;
mod defaults;
mod destination;
mod file;
mod kept;
mod spelling;

#[cfg(test)]
mod tests;

pub use atomic_file::AtomicFile;
pub use attributes::Warnings;
pub use compress::Compressed;
pub use destination::Destination;
pub use file::FileTarget;
