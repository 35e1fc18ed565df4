//! Where do chunks end? Everything that turns bytes into cut points.

pub mod scan;
