//! How does a store become one file, and one file a store again? The objects are the same in both; [`copy`] carries them.
//!
//! A bundle is opened like any store ([`Store::open`](super::Store::open)): everything that reads works on it.

mod copy;
mod export;
mod import;
#[cfg(test)]
mod tests;
mod union;

pub use self::export::{BundleExport, BundleExportReport};
pub use self::import::BundleImportReport;
