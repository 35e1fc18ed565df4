//! What is in a bundle, and where? Its index: an Arrow IPC file, a row for each object.
//!
//! The bytes were compared with a hash before they come here; even so, each value is checked, since their writer may
//! have meant harm.

use super::columns::{Table, TableFile, TableWriter, Trust, objects_batch, objects_of};
use super::members::Sheet;
use crate::error::{Error, Result};
use crate::format::bundle::ObjectPlace;
use crate::format::id::{CatalogHasher, RecipesFileId};
use crate::format::name::ObjectName;
use crate::storage::{MemoryStorage, Storage};

/// Rows in a batch.
const BATCH_ROWS: usize = 64 << 10;

/// The index of these objects.
///
/// # Errors
/// It cannot be encoded.
pub fn encode_objects(places: &[ObjectPlace]) -> Result<Vec<u8>> {
    let sheet = Sheet::default();
    let mut table = TableWriter::begin(Table::Objects, Box::new(sheet.clone()), CatalogHasher::recipes(), 0)?;
    for rows in places.chunks(BATCH_ROWS) {
        let batch = objects_batch(rows);
        table.write(&batch.map_err(|e| Error::io("encode", "an index", std::io::Error::other(e)))?)?;
    }
    table.finish(Vec::new(), Vec::new())?;
    Ok(std::mem::take(&mut *sheet.lock()))
}

/// The objects that an index lists.
///
/// # Errors
/// What is wrong with it.
pub fn decode_objects(index: Vec<u8>) -> Result<Vec<ObjectPlace>, String> {
    // The name is never seen.
    let name = ObjectName::Recipes(RecipesFileId([0; 32]));
    let storage = MemoryStorage::new();
    storage.overwrite(&name, index);
    let read = || -> Result<Vec<ObjectPlace>> {
        let table = TableFile::open(&storage as &dyn Storage, name, Table::Objects, Trust::Footer)?;
        let mut places = Vec::new();
        for batch in 0..table.batch_count() {
            let rows = objects_of(&table.batch(batch, None)?).map_err(|what| table.damaged_batch(batch, what))?;
            places.extend(rows);
        }
        Ok(places)
    };
    read().map_err(|error| match error {
        Error::Damaged { offset: Some(offset), what, .. } => format!("at byte {offset} of its index: {what}"),
        error => crate::error::chain(&error),
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing)]
    use super::*;
    use crate::format::id::{PackId, SnapshotId};

    #[test]
    fn reads_what_it_wrote_and_damage_is_no_panic() {
        let place = |n: u8, name| ObjectPlace { name, offset: u64::from(n) * 64, bytes: 7, hash: Some([n; 32]) };
        let places = vec![
            place(2, ObjectName::Config),
            place(4, ObjectName::Pack(PackId([4; 32]))),
            ObjectPlace { hash: None, ..place(6, ObjectName::Snapshot(SnapshotId([6; 32]))) },
        ];
        let index = encode_objects(&places).unwrap();
        assert_eq!(decode_objects(index.clone()).unwrap(), places);
        assert_eq!(decode_objects(encode_objects(&[]).unwrap()).unwrap(), []);
        for at in 0..index.len() {
            let mut flipped = index.clone();
            flipped[at] ^= 1 << (at % 8);
            let _ = decode_objects(flipped);
            assert!(decode_objects(index[..at].to_vec()).is_err(), "{at} bytes");
        }
        let odd =
            ObjectPlace { name: ObjectName::PendingDeletes(crate::format::id::PendingDeletesId([1; 32])), ..places[0] };
        assert!(decode_objects(encode_objects(&[odd]).unwrap()).is_err());
    }
}
