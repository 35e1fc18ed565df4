//! Where do chunks end? Everything that turns bytes into cut points.
//!
//! [`rule`] says what a cut is, byte by byte, in a screenful. Everything else gives the same cuts faster or from less:
//! [`cut_points`] scans with vectors and skips the minimum, [`Chunker`] does so over any reader.
//!
//! **Invariant:** for the same bytes and the same [`Profile`], every way through this module gives the cuts of [`rule`].

pub mod finder;
pub mod profile;
pub mod rule;
pub mod scan;
pub mod stream;

pub use finder::cut_points;
pub use profile::Profile;
pub use stream::Chunker;
