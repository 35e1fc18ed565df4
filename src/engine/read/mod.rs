//! How do bytes come out of a store? One engine for restores, streams, ranges, random reads, exports.
//!
//! ```text
//! resolve   which snapshot, which entry; where its bytes are in chunks     resolve, archive, layout
//! plan      which frames, in which order, and what of each goes where      plan
//! fetch     read a frame and decode it                                      frame, fetch
//! verify    compare each chunk with its id; take another copy if it is not  fetch        (invariant 4)
//! deliver   files of a tree at their offsets                                tree, window
//!           a stream, in order                                              stream
//!           many contents in one file                                       payload
//!           many small contents in memory                                   batch
//!           one content in memory, again and again                          reader
//! ```

pub(super) mod archive;
#[cfg(feature = "hdf5")]
pub(super) mod batch;
mod cache;
mod fetch;
mod frame;
pub mod get;
pub(super) mod layout;
pub(super) mod payload;
mod plan;
pub mod reader;
pub mod report;
pub(crate) mod resolve;
mod schedule;
pub(super) mod stream;
#[cfg(test)]
mod tests;
mod tree;
mod turns;
mod window;
mod writer;
