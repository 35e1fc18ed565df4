//! Is what a message says of itself true, so that arrow may index by it?
//!
//! The arrow crates validate arrays, but cut a message's body by the ranges it names, size what they decompress by the
//! length it claims, and take buffers for whole values; where that is wrong, they panic. So all of it is checked here:
//! a message has the fields and buffers that its columns need and no more, each buffer lies within the body, is of
//! whole values and holds as many as its field says and hardly more, and what it claims to decompress to is bounded by its
//! own size (zstd has a largest ratio) and in all. Of recipes, which may be long, also by what a list of ascending ends can
//! shrink to: a file of some kilobytes must not claim gigabytes of memory.

use std::ops::RangeInclusive;

use arrow_ipc::CompressionType;
use arrow_schema::{DataType, Schema};

use super::{DICTIONARY_MAX, ENDS_RATIO_MAX, ITEMS_MAX, RECIPE_PIECES_MAX, RECIPE_ROWS_MAX};

/// A zstd block of 4 bytes stands for at most 128 KiB.
const ZSTD_RATIO_MAX: u64 = (128 << 10) / 4;

/// Padding that a buffer may have beyond its values, in bytes.
const PADDING_BYTES_MAX: u64 = 64;

/// Checks a record batch over `body` against its columns.
pub(super) fn check_batch(
    batch: &arrow_ipc::RecordBatch<'_>,
    schema: &Schema,
    raw_bytes_max: u64,
    body: &[u8],
) -> Result<(), String> {
    let items = |n: i64| usize::try_from(n).ok().filter(|n| *n <= ITEMS_MAX);
    items(batch.length()).ok_or_else(|| format!("the batch says it has {} rows", batch.length()))?;
    let node = |node: &arrow_ipc::FieldNode| {
        let known = items(node.length()).zip(items(node.null_count())).filter(|(length, nulls)| nulls <= length);
        let what = || format!("a field says it has {} items, {} of them null", node.length(), node.null_count());
        known.map(|(length, nulls)| (length, nulls > 0)).ok_or_else(what)
    };
    let compressed = match batch.compression() {
        None => false,
        Some(c) if c.codec() == CompressionType::ZSTD => true,
        Some(c) => return Err(format!("the batch is compressed with {:?}, not zstd", c.codec())),
    };
    let raw_bytes = |buffer: &arrow_ipc::Buffer| {
        let (offset, length) = (buffer.offset(), buffer.length());
        let range = u64::try_from(offset).ok().zip(u64::try_from(length).ok());
        match range.and_then(|(offset, length)| slice(body, offset, length)) {
            Some(stored) if compressed && !stored.is_empty() => claimed_bytes(stored),
            Some(stored) => Ok(stored.len() as u64),
            None => Err(format!("a buffer of {length} bytes at {offset} in a body of {}", body.len())),
        }
    };
    let nodes = batch.nodes().ok_or("the batch has no fields")?;
    let nodes: Vec<(usize, bool)> = nodes.iter().map(node).collect::<Result<_, _>>()?;
    let buffers = batch.buffers().ok_or("the batch has no buffers")?;
    let buffers: Vec<u64> = buffers.iter().map(raw_bytes).collect::<Result<_, _>>()?;
    if buffers.iter().fold(0, |sum: u64, bytes| sum.saturating_add(*bytes)) > raw_bytes_max {
        return Err(format!("the batch says it decompresses to more than {raw_bytes_max} bytes"));
    }
    let mut parts = Parts { nodes: nodes.iter(), raw_bytes: buffers.iter() };
    schema.fields().iter().try_for_each(|field| {
        check_column(field.data_type(), &mut parts).map_err(|what| format!("column {}: {what}", field.name()))
    })?;
    if parts.nodes.len() + parts.raw_bytes.len() > 0 {
        return Err("the batch has more columns than the schema".into());
    }
    Ok(())
}

/// Checks that a batch of recipes has the size that writers give it: at most the rows and pieces of one batch, or one recipe.
pub(super) fn check_recipes(batch: &arrow_ipc::RecordBatch<'_>) -> Result<(), String> {
    // The columns are id, size, and a list of structs of an id and an end: `check_batch` has seen to it.
    let items =
        |place: usize| batch.nodes().filter(|nodes| place < nodes.len()).map_or(0, |nodes| nodes.get(place).length());
    let (rows, pieces) = (items(0), items(3));
    if rows > RECIPE_ROWS_MAX as i64 || rows != 1 && pieces > RECIPE_PIECES_MAX as i64 {
        return Err(format!("a batch of {rows} recipes and {pieces} chunks, more than are written together"));
    }
    let Some(ends) =
        batch.buffers().filter(|buffers| !buffers.is_empty()).map(|buffers| buffers.get(buffers.len() - 1))
    else {
        return Err("the batch has no buffers".into());
    };
    let stored = u64::try_from(ends.length()).unwrap_or_default();
    if pieces > RECIPE_PIECES_MAX as i64 && pieces.unsigned_abs() * 8 > stored.saturating_mul(ENDS_RATIO_MAX) {
        return Err(format!("the ends of {pieces} chunks in {stored} bytes: ends that ascend take more"));
    }
    Ok(())
}

/// Checks that a dictionary has no more words than are written.
pub(super) fn check_words(batch: &arrow_ipc::RecordBatch<'_>) -> Result<(), String> {
    match batch.length() {
        words if words > DICTIONARY_MAX as i64 => Err(format!("a dictionary of {words} words")),
        _ => Ok(()),
    }
}

/// What is left of a batch's description of itself while its columns are checked one after the other.
struct Parts<'m> {
    nodes: std::slice::Iter<'m, (usize, bool)>,
    raw_bytes: std::slice::Iter<'m, u64>,
}

/// Checks that a column has the fields and buffers that its type needs, and that each buffer is of whole values and
/// holds as many as the field says.
fn check_column(data_type: &DataType, parts: &mut Parts<'_>) -> Result<(), String> {
    let Some((length, has_nulls)) = parts.nodes.next().copied() else {
        return Err("the batch has fewer columns than the schema".into());
    };
    let mut buffer = |what: &str, value_bytes: u64, values: RangeInclusive<usize>| {
        let [least, most] = [*values.start(), *values.end()].map(|values| value_bytes.saturating_mul(values as u64));
        match parts.raw_bytes.next().copied() {
            Some(bytes)
                if bytes < least || bytes > most.saturating_add(PADDING_BYTES_MAX) || bytes % value_bytes != 0 =>
            {
                Err(format!("{bytes} bytes of {what} for {length} items"))
            }
            Some(_) => Ok(()),
            None => Err("the batch has fewer buffers than the schema needs".into()),
        }
    };
    let exactly = |values: usize| values..=values;
    let bits = length.div_ceil(8);
    buffer("validity", 1, if has_nulls { exactly(bits) } else { 0..=bits })?;
    match data_type {
        DataType::Utf8 | DataType::Binary => {
            buffer("offsets", 4, exactly(length + 1))?;
            // As long as its last offset says, which is looked at when all of it is there.
            buffer("text", 1, 0..=usize::MAX)
        }
        DataType::List(item) => {
            buffer("offsets", 4, exactly(length + 1))?;
            check_column(item.data_type(), parts)
        }
        DataType::Struct(fields) => fields.iter().try_for_each(|f| check_column(f.data_type(), parts)),
        DataType::FixedSizeBinary(width) => buffer("values", u64::from(width.unsigned_abs()).max(1), exactly(length)),
        other => buffer("values", other.primitive_width().unwrap_or(1) as u64, exactly(length)),
    }
}

/// What a compressed buffer says it decompresses to, bounded by what its own size allows.
fn claimed_bytes(stored: &[u8]) -> Result<u64, String> {
    let (prefix, rest) = stored.split_first_chunk::<8>().ok_or("a compressed buffer has no length")?;
    let (prefix, rest) = (i64::from_le_bytes(*prefix), rest.len() as u64);
    match u64::try_from(prefix) {
        Err(_) if prefix == -1 => Ok(rest),
        Ok(bytes) if bytes <= rest.saturating_mul(ZSTD_RATIO_MAX) => Ok(bytes),
        _ => Err(format!("a compressed buffer of {rest} bytes says it decompresses to {prefix}")),
    }
}

/// A range of bytes, if it is there.
pub(super) fn slice(bytes: &[u8], offset: u64, length: u64) -> Option<&[u8]> {
    let start = usize::try_from(offset).ok()?;
    bytes.get(start..start.checked_add(usize::try_from(length).ok()?)?)
}
