//! Which columns do the catalog's files have, and how do rows become columns? The one door to the arrow crates.
//!
//! Types are chosen so that pyarrow, Polars and DuckDB open the files as they are: no view types (Polars fails on
//! compressed empty view buffers), paths as `Binary` (they need not be UTF-8), repeated words as dictionaries (as plain
//! strings, their offsets alone would cost 2.5 bytes a row and column).
//!
//! Bodies are compressed with zstd, buffer by buffer. Ids do not compress and are stored as they are; a column that is
//! constant or null costs nothing.

mod check;
mod common;
mod dictionary;
mod entries;
mod items;
mod labels;
mod members;
mod objects;
mod read;
mod recipes;
mod write;

pub(super) use arrow_array::RecordBatch;
pub(super) use entries::{EntryBatch, EntryRows, Names, check_entry};
pub use items::{ItemRow, ItemTable};
pub(super) use labels::check_keys;
pub(super) use members::{MemberBatch, MemberNames, MemberRows};
pub(super) use objects::{objects_batch, objects_of};
pub(super) use read::{TableFile, Trust};
pub(super) use recipes::{RecipeBatch, RecipeRows};
pub(super) use write::TableWriter;

use std::sync::Arc;

use arrow_array::Array;
use arrow_schema::{DataType, Field, Fields, Schema, TimeUnit};

use crate::format::FORMAT_VERSION;

/// No batch has more rows or list items: the bound on what a recipe can list (1 TiB at 16 KiB a chunk).
pub(super) const ITEMS_MAX: usize = 1 << 26;

/// A batch of several recipes has no more rows and pieces: that is when it is written. Only one that is a single recipe
/// has more pieces. So what a batch decodes to is bounded though its ids may all be the same, and shrink to nothing.
pub(in crate::catalog) const RECIPE_ROWS_MAX: usize = 8 << 10;
pub(in crate::catalog) const RECIPE_PIECES_MAX: usize = 256 << 10;

/// The ends of one recipe ascend, so they do not shrink by more than this. (zstd 9 makes 9 bytes of 64 at best, where all
/// chunks are of one length that is a power of two: `ends_do_not_shrink_by_much`.)
const ENDS_RATIO_MAX: u64 = 64;

/// No dictionary has more words, nor bytes. More different owners than that are kept by number only.
const DICTIONARY_MAX: usize = 1 << 20;
const DICTIONARY_BYTES_MAX: usize = 16 << 20;

/// Keys of a file's metadata.
pub(super) const KEY_OBJECT: &str = "seamstore:object";
pub(super) const KEY_VERSION: &str = "seamstore:version";
pub(super) const KEY_INFO: &str = "seamstore:info";
pub(super) const KEY_INFO_CHECK: &str = "seamstore:info_check";

/// One kind of catalog file: its columns and what its metadata calls it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Table {
    /// A recipes file.
    Recipes,
    /// A snapshot.
    Snapshot,
    /// The members of an archive.
    Members,
    /// The objects of a bundle.
    Objects,
}

impl Table {
    fn object(self) -> &'static str {
        match self {
            Self::Recipes => "recipes",
            Self::Snapshot => "snapshot",
            Self::Members => "members",
            Self::Objects => "objects",
        }
    }

    /// Chunk ids compress only where a list repeats them: versions of one file added together, some MiB apart. Level 9
    /// is the least that looks back 4 MiB (two kernel tars: 27 bytes a piece instead of 33, in 60 ms). Snapshots gain
    /// 1 byte a row by it, which is not worth its time.
    fn zstd_level(self) -> i32 {
        match self {
            Self::Recipes => 9,
            Self::Snapshot | Self::Members | Self::Objects => 3,
        }
    }

    /// No batch decodes to more bytes. A recipes batch may be one recipe of the largest length; what writers put in a
    /// snapshot's is a few MiB, or one row with all the attributes it can have.
    fn batch_raw_bytes_max(self) -> u64 {
        match self {
            Self::Recipes => 48 * ITEMS_MAX as u64,
            Self::Snapshot | Self::Members | Self::Objects => 128 << 20,
        }
    }

    /// The columns that every file of the kind has.
    fn fields(self) -> Fields {
        match self {
            Self::Recipes => recipes::fields(),
            Self::Snapshot => entries::fields(),
            Self::Members => members::fields(),
            Self::Objects => objects::fields(),
        }
    }

    /// The columns as readers see them, those of labels with these keys last, and the metadata known before the first
    /// row.
    fn schema(self, labels: &[Arc<str>]) -> Schema {
        let labels = labels.iter().map(|key| Arc::new(labels::field(key)));
        let fields: Fields = self.fields().iter().cloned().chain(labels).collect();
        let metadata = [(KEY_OBJECT, self.object().to_owned()), (KEY_VERSION, FORMAT_VERSION.to_string())];
        Schema::new_with_metadata(fields, metadata)
    }

    /// Whether a file of this kind may have these columns: those of today, or those of the first version, which are the
    /// first of them, and then those of labels with these keys.
    fn takes(self, fields: &Fields, labels: &[Arc<str>]) -> bool {
        let own = self.fields();
        let first = if self == Self::Snapshot { entries::FIRST_COLUMNS } else { own.len() };
        let Some((fields, of_labels)) = fields.split_at_checked(fields.len().saturating_sub(labels.len())) else {
            return false;
        };
        fields.len() >= first
            && own.get(..fields.len()) == Some(fields)
            && of_labels.iter().zip(labels).all(|(field, key)| **field == labels::field(key))
    }

    /// The columns as a batch stores them: a dictionary column is its keys.
    fn stored_schema(self, labels: &[Arc<str>]) -> Schema {
        stored(&self.schema(labels).fields)
    }
}

/// Columns as a batch stores them.
fn stored(fields: &Fields) -> Schema {
    let keys_only = |field: &Arc<Field>| match field.data_type() {
        DataType::Dictionary(key, _) => field.as_ref().clone().with_data_type(key.as_ref().clone()),
        _ => field.as_ref().clone(),
    };
    Schema::new(fields.iter().map(keys_only).collect::<Fields>())
}

fn id_type() -> DataType {
    DataType::FixedSizeBinary(32)
}

fn time_type() -> DataType {
    DataType::Timestamp(TimeUnit::Nanosecond, Some("UTC".into()))
}

/// A column by its place, as the array type it must be.
fn column<T: Array + Clone + 'static>(batch: &RecordBatch, place: usize) -> Result<T, String> {
    let array = batch.columns().get(place).and_then(|c| c.as_any().downcast_ref::<T>());
    array.cloned().ok_or_else(|| format!("column {place} is missing or of another type"))
}

/// 32 bytes of an id column; `None` past its end.
fn id_at(array: &arrow_array::FixedSizeBinaryArray, row: usize) -> Option<[u8; 32]> {
    (row < array.len()).then(|| array.value(row).try_into().ok()).flatten()
}
