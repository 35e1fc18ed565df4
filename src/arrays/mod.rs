//! How is data laid out for programs that map arrays?
//!
//! [`npy`] has what numpy opens as it is: one array a file, a header of a known length in front. [`links`] says what paths
//! are called in HDF5; `hdf5` makes such files (cargo feature `hdf5`).
//!
//! Invariant: where an array's bytes begin is known before the first of them is written, so that they can be written in
//! any order and by many threads.

#[cfg(feature = "hdf5")]
pub mod hdf5;
#[cfg(any(test, feature = "hdf5"))]
pub mod links;
pub mod npy;
#[cfg(feature = "hdf5")]
pub mod sha1;
