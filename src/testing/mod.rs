//! The harness: what tests share. The library's own tests use all of it; those in `tests/` include [`skip`] and [`random`]
//! by their paths.
//!
//! ```text
//! random    the one generator
//! patterns  hits of the chunking rule, with numbers small enough to try everything
//! skip      how a test reports that this machine cannot run it
//! folder    what is in a folder, and a copy of it
//! disk      a disk that fails, fills up, or belongs to a process that is killed
//! bucket    a bucket that loses, delays and repeats what is sent
//! store     a store of known content on every kind of backend, and damage done to it
//! shelf     a store beside trees that are added to it
//! crash     what every kind of interruption leaves behind
//! tests     the engine's operations on every kind of backend
//! ```

pub(crate) mod bucket;
mod crash;
pub(crate) mod disk;
pub(crate) mod folder;
pub(crate) mod patterns;
pub(crate) mod random;
pub(crate) mod shelf;
pub(crate) mod skip;
pub(crate) mod store;
mod tests;
