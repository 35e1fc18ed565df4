//! What is in a store: recipes and snapshots, as Arrow IPC files that other programs open as they are.
//!
//! Invariants: an object is written front to back and its name is the hash of all its bytes; nothing read back is
//! believed before it was checked (a recipe against its recipe id, a snapshot against its name); and no file, however
//! hostile, sizes an allocation or an index before it was bounded.

mod columns;
pub mod members;
pub mod objects;
pub mod recipe;
pub mod snapshot;
#[cfg(test)]
mod tests;

pub use columns::{ItemRow, ItemTable};
