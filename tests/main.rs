//! The integration tests: one binary, one module for each thing tested.

mod add_get;
mod arrays;
#[path = "../proofs/bucket/mod.rs"]
mod bucket_model;
mod bundle;
mod bundle_damage;
mod changing_files;
mod check_align;
mod chunk_cuts;
mod chunk_data;
mod chunk_fastcdc;
mod chunk_file;
mod chunk_script;
mod chunk_seams;
mod chunk_stream;
mod chunk_xet;
#[path = "../examples/compress_walk.rs"]
#[allow(unreachable_pub)]
mod compress_walk;
mod damage;
#[path = "../proofs/delta/mod.rs"]
mod delta_model;
mod errors;
mod every_byte;
mod few_files;
mod full_disk;
mod gc;
#[path = "../proofs/gc_model.rs"]
mod gc_model;
mod golden_stores;
mod hdf5;
mod help;
mod hostile;
mod interrupt;
mod kills;
mod labels;
mod loop_mount;
#[path = "../proofs/model/mod.rs"]
mod model;
mod names;
mod new_stores;
mod odd_files;
mod plain_data;
mod property;
mod sharing;
mod small_file_systems;
mod snapshots;
mod stats;
mod streams;
mod support;
mod system;
mod tar_attributes;
mod tar_packed;
mod targets;
mod tars;
mod unchanged;
mod verify;
mod writer;
mod xattrs;
