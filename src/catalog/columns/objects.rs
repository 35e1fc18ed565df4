//! Objects of a bundle as columns: `object`, `offset`, `bytes`, `blake3`.

use std::sync::Arc;

use arrow_array::builder::FixedSizeBinaryBuilder;
use arrow_array::{Array, ArrayRef, FixedSizeBinaryArray, RecordBatch, StringArray, UInt64Array};
use arrow_schema::{ArrowError, DataType, Field, Fields};

use super::{Table, column, id_at, id_type};
use crate::format::bundle::ObjectPlace;
use crate::format::name::ObjectName;

pub(super) fn fields() -> Fields {
    vec![
        Field::new("object", DataType::Utf8, false),
        Field::new("offset", DataType::UInt64, false),
        Field::new("bytes", DataType::UInt64, false),
        Field::new("blake3", id_type(), true),
    ]
    .into()
}

/// Some rows as a batch.
pub(in crate::catalog) fn objects_batch(places: &[ObjectPlace]) -> Result<RecordBatch, ArrowError> {
    let mut hashes = FixedSizeBinaryBuilder::with_capacity(places.len(), 32);
    for place in places {
        match place.hash {
            Some(hash) => hashes.append_value(hash)?,
            None => hashes.append_null(),
        }
    }
    let columns: Vec<ArrayRef> = vec![
        Arc::new(StringArray::from_iter_values(places.iter().map(|place| place.name.path()))),
        Arc::new(UInt64Array::from_iter_values(places.iter().map(|place| place.offset))),
        Arc::new(UInt64Array::from_iter_values(places.iter().map(|place| place.bytes))),
        Arc::new(hashes.finish()),
    ];
    RecordBatch::try_new(Arc::new(Table::Objects.stored_schema(&[])), columns)
}

/// The rows of a batch.
pub(in crate::catalog) fn objects_of(batch: &RecordBatch) -> Result<Vec<ObjectPlace>, String> {
    let (names, hashes): (StringArray, FixedSizeBinaryArray) = (column(batch, 0)?, column(batch, 3)?);
    let (offsets, lengths): (UInt64Array, UInt64Array) = (column(batch, 1)?, column(batch, 2)?);
    let rows = names.iter().zip(offsets.values()).zip(lengths.values()).enumerate();
    rows.map(|(row, ((name, offset), bytes))| {
        let name = name.unwrap_or_default();
        let known = ObjectName::from_path(name).filter(|name| !matches!(name, ObjectName::PendingDeletes(_)));
        let name = known.ok_or_else(|| format!("row {row}: {name:?} is no object of a bundle"))?;
        let hash = if hashes.is_null(row) { None } else { id_at(&hashes, row) };
        Ok(ObjectPlace { name, offset: *offset, bytes: *bytes, hash })
    })
    .collect()
}
