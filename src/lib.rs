//! seamstore

pub mod chunk;
