//! The integration tests: one binary, one module for each thing tested.

mod add_get;
mod chunk_cuts;
mod chunk_data;
mod chunk_fastcdc;
mod chunk_file;
mod chunk_script;
mod chunk_seams;
mod chunk_stream;
mod chunk_xet;
mod support;
