//! Where do the members of a tar begin and end, and what does it say of each?
//!
//! [`Framing`] steps through a tar from header to header and says of every byte whether it is content of a member or
//! skeleton: headers, extension records, padding, end marks, and whatever cannot be made sense of.
//!
//! Invariant: content and skeleton are the input, byte for byte, whatever the input is. How well a tar is understood
//! decides how well its members are found and shared with others, never what comes back.

mod acl;
mod framing;
mod header;
mod pax;
mod sparse;
mod write;
mod xattrs;

#[cfg(test)]
mod tests;

pub use acl::Owner;
pub use framing::{Findings, Framing, Input, Step};
pub use header::{BLOCK_BYTES, begins_tar};
pub use write::{END_MARK, append_headers, padding};
