//! Packs: how chunks become frames, frames a file, and the file chunks again.
//!
//! ```text
//! chunks → FrameEncoder → frame → PackWriter → pack file → read_directory, read_frame → FrameDecoder → chunks
//!                                                        → salvage (no directory needed) → frames
//! ```
//!
//! Invariant: nothing read here sizes an allocation or an offset before it was bounded (invariant 5). Chunks that come
//! out of a decoder are as the frame has them; a caller that passes them on checks them against their ids (invariant 4).

mod codec;
pub mod filter;
pub mod frame;
mod probe;
pub mod reader;
pub mod salvage;
pub mod writer;

pub use frame::FrameDecoder;
pub use salvage::{Lost, salvage};
pub use writer::PackWriter;

#[cfg(test)]
mod tests;
