//! How bytes lie on disk: ids, names, magic numbers, versions, records. Nothing here does I/O.
//!
//! Every other module takes its layouts from here, so a byte of a store is described in one place.

pub mod archive;
pub mod archive_form;
pub mod bucket;
pub mod bundle;
pub(crate) mod bytes;
pub mod config;
pub mod directory;
pub mod entry;
pub mod frame;
pub mod id;
pub mod label;
pub mod name;
pub mod pack;
pub mod parse_error;
pub mod pending_deletes;
pub mod recipe;
pub mod xet;

/// The version of every format in a store, as recorded in `store.json`. A store with another one is refused.
pub const FORMAT_VERSION: u32 = 1;

/// No chunk of any profile is longer, in bytes: the bound on chunk lengths read from disk.
pub const CHUNK_BYTES_MAX: usize = 4 << 20;

/// No frame decodes to more, in bytes: the bound on decompression. (Largest frame setting plus one largest chunk.)
pub const FRAME_RAW_BYTES_MAX: usize = 8 << 20;
