//! How is data laid out for programs that map arrays?
//!
//! [`npy`] has what numpy opens as it is: one array a file, a header of a known length in front.
//!
//! Invariant: where an array's bytes begin is known before the first of them is written, so that they can be written in
//! any order and by many threads.

pub mod npy;
