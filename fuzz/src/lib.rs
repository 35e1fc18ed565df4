//! The targets' bodies, which are tests too: `tests/hostile/`.

#[path = "../../tests/hostile/mod.rs"]
mod hostile;

pub use hostile::run;
