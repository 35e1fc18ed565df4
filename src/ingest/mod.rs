//! What is on disk, in the order in which a snapshot lists it?
//!
//! [`Walk`] finds every entry under the given roots with one `lstat` each, in the order of [`EntryPath`];
//! [`Metadata`] adds what a snapshot keeps beyond that (link targets, extended attributes, owner names);
//! [`OpenFile`] reads the bytes of a regular file and says whether it stayed the same meanwhile; [`Package`] tells what
//! package a file is.
//!
//! Kept throughout: no symbolic link is followed below a root; what cannot be read is reported by name, never passed
//! over in silence; names are bytes from the directory to the snapshot; neither the depth of a tree, nor the length of
//! its paths, nor the size of a directory is limited by the stack, by `PATH_MAX` or by the number of open files.
//!
//! [`EntryPath`]: crate::format::entry::EntryPath

mod confined;
mod extents;
mod file;
mod longpath;
mod metadata;
mod owners;
mod package;
mod roots;
mod skippable;
mod stat;
mod stdin;
mod unpack;
mod walk;

#[cfg(test)]
mod tests;

use crate::error::Error;

pub use file::{Changed, OpenFile};
pub use metadata::{Completed, Metadata};
pub use owners::{id_of_group, id_of_user};
pub use package::{HEAD_BYTES, Package};
pub use roots::Root;
pub use skippable::has_own_content;
pub use stat::Stat;
pub use stdin::{made_now, standard_input};
pub use unpack::{compression_of, unpack};
pub use walk::{Notice, Walk, WalkOptions, Walked, WalkedEntry};

/// Whether an entry could not be read because it is not there any more.
#[must_use]
pub fn has_vanished(error: &Error) -> bool {
    use std::io::ErrorKind::{NotFound, StaleNetworkFileHandle};
    matches!(error, Error::Io { source, .. } if matches!(source.kind(), NotFound | StaleNetworkFileHandle))
}
