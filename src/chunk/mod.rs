//! Where do chunks end? Everything that turns bytes into cut points.
//!
//! `rule` says what a cut is, byte by byte, in a screenful. Everything else gives the same cuts faster or from less:
//! [`cut_points`] scans with vectors and skips the minimum, [`Chunker`] does so over any reader.
//!
//! **Invariant:** for the same bytes and the same [`Profile`], every way through this module gives the cuts of `rule`.

pub(crate) mod adversarial;
pub(crate) mod certify;
pub(crate) mod check;
pub(crate) mod finder;
pub(crate) mod hits;
pub(crate) mod low;
pub(crate) mod profile;
pub(crate) mod replay;
pub(crate) mod rule;
pub(crate) mod scan;
#[cfg(any(test, feature = "internals"))]
pub(crate) mod script;
pub(crate) mod seams;
pub(crate) mod stream;

pub use finder::cut_points;
pub use profile::{BadProfile, Profile};
pub use seams::cut_points_parallel;
pub use stream::{Chunk, Chunker};
