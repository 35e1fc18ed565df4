//! Where do chunks end? Everything that turns bytes into cut points.
//!
//! [`rule`] says what a cut is, byte by byte, in a screenful. Everything else gives the same cuts faster or from less:
//! [`cut_points`] scans with vectors and skips the minimum, [`Chunker`] does so over any reader.
//!
//! **Invariant:** for the same bytes and the same [`Profile`], every way through this module gives the cuts of [`rule`].

pub mod adversarial;
pub mod certify;
pub mod check;
pub mod finder;
pub mod hits;
pub mod low;
#[cfg(test)]
mod patterns;
pub mod profile;
pub mod replay;
pub mod rule;
pub mod scan;
pub mod script;
pub mod seams;
pub mod stream;

pub use finder::cut_points;
pub use profile::Profile;
pub use seams::{cut_points_parallel, cut_points_parallel_at};
pub use stream::Chunker;
