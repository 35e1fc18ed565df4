//! What tests share. One harness for the library's own tests and for those in `tests/`, which include
//! [`skip`] by its path.

pub(crate) mod skip;
