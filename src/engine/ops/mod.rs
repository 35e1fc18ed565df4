//! What is done with a store besides adding to it and reading from it.

pub mod bundle;
pub mod check_tar;
pub mod export;
pub mod gc;
pub mod remove;
pub mod repair;
pub mod stats;
pub mod verify;
