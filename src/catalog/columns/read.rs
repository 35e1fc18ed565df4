//! How is a table read without believing it? An Arrow IPC file: footer first, then single batches by range reads.
//!
//! The arrow crates check array data, but index message bodies and size buffers by what a message says, and panic where
//! that is wrong. So a message is checked here first: its buffers lie within its body, there are as many as the columns
//! need, and what they claim to decompress to is bounded by their own size (zstd has a largest ratio) and in all.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow_array::{RecordBatch, StringArray};
use arrow_buffer::Buffer;
use arrow_ipc::convert::try_fb_to_schema;
use arrow_ipc::reader::RecordBatchDecoder;
use arrow_ipc::{CompressionType, Message, MetadataVersion, root_as_footer, root_as_message};
use arrow_schema::{DataType, Field, Schema, SchemaRef};

use super::write::MAGIC;
use super::{ITEMS_MAX, KEY_OBJECT, KEY_VERSION, Table};
use crate::error::{Error, Result};
use crate::format::FORMAT_VERSION;
use crate::format::id::{CatalogHasher, checksum};
use crate::format::name::ObjectName;
use crate::storage::Storage;

/// What is read at first from a file's end: nearly every footer, and small files as a whole.
const TAIL_BYTES: u64 = 64 << 10;
/// Files up to this size are kept in memory once they were read for their hash.
const KEPT_BYTES_MAX: u64 = 8 << 20;
/// No footer, and no message's header, is longer.
const HEADER_BYTES_MAX: u64 = 256 << 20;
/// No batch decodes to more: an id and an end for each item, and as much again for the rest.
const BATCH_RAW_BYTES_MAX: u64 = 2 * 40 * ITEMS_MAX as u64;
/// A zstd block of 4 bytes stands for at most 128 KiB.
const ZSTD_RATIO_MAX: u64 = (128 << 10) / 4;
/// Footer length and magic at the very end.
const END_BYTES: u64 = 10;

/// How far a file is checked when it is opened.
#[derive(Debug, Clone, Copy)]
pub(in crate::catalog) enum Trust {
    /// Footer only: what is read later is checked against an id of its own.
    Footer,
    /// All bytes, against the hash that is the file's name.
    Whole(fn() -> CatalogHasher, [u8; 32]),
}

/// Where a message lies in the file. Within the file, checked.
#[derive(Debug, Clone, Copy)]
struct Block {
    offset: u64,
    header_bytes: u64,
    body_bytes: u64,
}

impl Block {
    fn bytes(&self) -> u64 {
        self.header_bytes + self.body_bytes
    }

    fn end(&self) -> u64 {
        self.offset + self.bytes()
    }
}

/// An open table.
#[derive(Debug)]
pub(in crate::catalog) struct TableFile<'s> {
    storage: &'s dyn Storage,
    name: ObjectName,
    stored: SchemaRef,
    batches: Vec<Block>,
    dictionaries: Vec<Block>,
    metadata: BTreeMap<String, String>,
    /// The whole file, if it was verified and is small.
    kept: Option<Vec<u8>>,
    /// A checksum of each batch and dictionary taken while the whole file was verified, so that later reads of them
    /// need no second thought: by offset.
    sums: BTreeMap<u64, [u8; 16]>,
}

impl<'s> TableFile<'s> {
    /// Opens a table of the given kind.
    ///
    /// # Errors
    /// [`Error::NotFound`] where there is none, [`Error::Damaged`] where its bytes are not those of such a table, and
    /// [`Error::FormatVersion`] where it is of another version.
    pub(in crate::catalog) fn open(
        storage: &'s dyn Storage,
        name: ObjectName,
        table: Table,
        trust: Trust,
    ) -> Result<Self> {
        let file_bytes = storage.size(&name)?;
        let whole = matches!(trust, Trust::Whole(..)) && file_bytes <= KEPT_BYTES_MAX;
        let mut tail_bytes = if whole { file_bytes } else { file_bytes.min(TAIL_BYTES) };
        let mut tail = read_range(storage, &name, file_bytes - tail_bytes, tail_bytes)?;
        if let (true, Trust::Whole(hasher, expected)) = (whole, trust) {
            check_hash(&name, hasher().update(&tail).finish(), expected)?;
        }
        let footer_bytes = footer_bytes(&name, file_bytes, &tail)?;
        if footer_bytes + END_BYTES > tail_bytes {
            tail_bytes = footer_bytes + END_BYTES;
            tail = read_range(storage, &name, file_bytes - tail_bytes, tail_bytes)?;
        }
        let footer_start = file_bytes - END_BYTES - footer_bytes;
        let skipped = tail.len() as u64 - END_BYTES - footer_bytes;
        let footer = slice(&tail, skipped, footer_bytes).unwrap_or_default();
        let mut file = Self::parse_footer(storage, name, table, footer, footer_start)?;
        match trust {
            Trust::Whole(..) if whole => file.kept = Some(tail),
            Trust::Whole(hasher, expected) => file.verify_parts(hasher(), expected, &tail, file_bytes)?,
            Trust::Footer => {}
        }
        Ok(file)
    }

    fn parse_footer(
        storage: &'s dyn Storage,
        name: ObjectName,
        table: Table,
        footer: &[u8],
        footer_start: u64,
    ) -> Result<Self> {
        let bad = |what: String| Error::damaged(name.path(), footer_start, what);
        let footer = root_as_footer(footer).map_err(|e| bad(format!("the footer is no Arrow footer: {e}")))?;
        let schema = footer.schema().ok_or_else(|| bad("the footer has no schema".into()))?;
        let schema = try_fb_to_schema(schema).map_err(|e| bad(format!("the schema is not valid: {e}")))?;
        let metadata: BTreeMap<String, String> =
            schema.metadata().iter().map(|(k, v)| (k.clone(), v.clone())).collect();
        check_kind(&name, table, &metadata, &bad)?;
        if schema.fields() != table.schema().fields() {
            return Err(bad(format!("the columns are not those of a {} file", table.object())));
        }
        if footer.version() != MetadataVersion::V5 {
            return Err(bad(format!("the Arrow metadata version is {:?}, not V5", footer.version())));
        }
        let blocks = |list: Option<flatbuffers::Vector<'_, arrow_ipc::Block>>| {
            list.iter().flatten().map(|b| check_block(b, footer_start).map_err(&bad)).collect::<Result<Vec<_>>>()
        };
        Ok(Self {
            storage,
            name,
            stored: Arc::new(table.stored_schema()),
            batches: blocks(footer.recordBatches())?,
            dictionaries: blocks(footer.dictionaries())?,
            metadata,
            kept: None,
            sums: BTreeMap::new(),
        })
    }

    /// Hashes the file front to back, a block at a time, and remembers the blocks' checksums.
    fn verify_parts(&mut self, mut hasher: CatalogHasher, expected: [u8; 32], tail: &[u8], bytes: u64) -> Result<()> {
        let mut blocks: Vec<Block> = self.batches.iter().chain(&self.dictionaries).copied().collect();
        blocks.sort_by_key(|b| b.offset);
        let mut at = 0;
        for block in blocks {
            if block.offset < at {
                return Err(self.damaged(&block, "overlaps the message before it"));
            }
            self.hash_range(&mut hasher, at, block.offset)?;
            let body = read_range(self.storage, &self.name, block.offset, block.bytes())?;
            hasher.update(&body);
            self.sums.insert(block.offset, checksum(&[&body]));
            at = block.end();
        }
        // The footer that was parsed is what is hashed, not what a second read of it says.
        let tail_start = bytes.saturating_sub(tail.len() as u64);
        if at <= tail_start {
            self.hash_range(&mut hasher, at, tail_start)?;
            hasher.update(tail);
        } else {
            hasher.update(slice(tail, at - tail_start, bytes - at).unwrap_or_default());
        }
        check_hash(&self.name, hasher.finish(), expected)
    }

    fn hash_range(&self, hasher: &mut CatalogHasher, mut from: u64, to: u64) -> Result<()> {
        while from < to {
            let bytes = (to - from).min(1 << 20);
            hasher.update(&read_range(self.storage, &self.name, from, bytes)?);
            from += bytes;
        }
        Ok(())
    }

    /// The file's metadata.
    pub(in crate::catalog) fn metadata(&self) -> &BTreeMap<String, String> {
        &self.metadata
    }

    /// How many batches there are.
    pub(in crate::catalog) fn batch_count(&self) -> usize {
        self.batches.len()
    }

    /// The object's name.
    pub(in crate::catalog) fn name(&self) -> ObjectName {
        self.name
    }

    /// Damage found in what a batch says.
    pub(in crate::catalog) fn damaged_batch(&self, batch: usize, what: impl std::fmt::Display) -> Error {
        let offset = self.batches.get(batch).map_or(0, |b| b.offset);
        Error::damaged(self.name.path(), offset, format!("record batch {batch}: {what}"))
    }

    /// A batch; with `columns`, only those, in the order of the table.
    pub(in crate::catalog) fn batch(&self, batch: usize, columns: Option<&[usize]>) -> Result<RecordBatch> {
        let block = self.batches.get(batch).ok_or_else(|| {
            self.damaged_batch(batch, format_args!("asked for, but there are {} only", self.batches.len()))
        })?;
        let bytes = self.read_block(block)?;
        decode(&bytes, block, &self.stored, columns, |message| message.header_as_record_batch())
            .map_err(|what| self.damaged_batch(batch, what))
    }

    /// The values of each dictionary, in the order of dictionary columns.
    pub(in crate::catalog) fn dictionaries(&self) -> Result<Vec<StringArray>> {
        let values: SchemaRef = Arc::new(Schema::new(vec![Field::new("values", DataType::Utf8, false)]));
        let mut found = Vec::new();
        for (place, block) in self.dictionaries.iter().enumerate() {
            let bytes = self.read_block(block)?;
            let read = decode(&bytes, block, &values, None, |message| {
                let dictionary = message.header_as_dictionary_batch()?;
                (!dictionary.isDelta() && usize::try_from(dictionary.id()) == Ok(place)).then(|| dictionary.data())?
            });
            let batch = read.and_then(|b| super::column::<StringArray>(&b, 0));
            found.push(batch.map_err(|what| self.damaged(block, format_args!("dictionary {place}: {what}")))?);
        }
        Ok(found)
    }

    fn read_block(&self, block: &Block) -> Result<Vec<u8>> {
        if let Some(kept) = &self.kept {
            return Ok(slice(kept, block.offset, block.bytes()).unwrap_or_default().to_vec());
        }
        let bytes = read_range(self.storage, &self.name, block.offset, block.bytes())?;
        match self.sums.get(&block.offset) {
            Some(sum) if *sum != checksum(&[&bytes]) => {
                Err(self.damaged(block, "the bytes are not those that were read before"))
            }
            _ => Ok(bytes),
        }
    }

    fn damaged(&self, block: &Block, what: impl std::fmt::Display) -> Error {
        Error::damaged(self.name.path(), block.offset, what.to_string())
    }
}

/// Hashes a whole object and compares with its name.
pub(super) fn check_hash(name: &ObjectName, found: [u8; 32], expected: [u8; 32]) -> Result<()> {
    if found == expected {
        return Ok(());
    }
    let found = crate::format::id::ChunkId(found);
    Err(Error::damaged(name.path(), 0, format!("the file is named after the hash of its bytes, which is {found}")))
}

fn check_kind(
    name: &ObjectName,
    table: Table,
    metadata: &BTreeMap<String, String>,
    bad: &dyn Fn(String) -> Error,
) -> Result<()> {
    if metadata.get(KEY_OBJECT).map(String::as_str) != Some(table.object()) {
        return Err(bad(format!("the metadata does not say {KEY_OBJECT}={}", table.object())));
    }
    let version = metadata.get(KEY_VERSION).and_then(|v| v.parse().ok());
    match version {
        Some(found) if found == u64::from(FORMAT_VERSION) => Ok(()),
        Some(found) => Err(Error::FormatVersion { file: name.path(), found, supported: FORMAT_VERSION.into() }),
        None => Err(bad(format!("the metadata has no {KEY_VERSION}"))),
    }
}

fn footer_bytes(name: &ObjectName, file_bytes: u64, tail: &[u8]) -> Result<u64> {
    let bad = |offset, what: String| Err(Error::damaged(name.path(), offset, what));
    let Some((rest, magic)) = tail.split_last_chunk::<6>() else {
        return bad(0, format!("the file has {file_bytes} bytes, too few for an Arrow file"));
    };
    if *magic != MAGIC {
        return bad(file_bytes - 6, format!("the file does not end with ARROW1 but with {magic:02x?}"));
    }
    let Some((_, length)) = rest.split_last_chunk::<4>() else {
        return bad(0, format!("the file has {file_bytes} bytes, too few for an Arrow file"));
    };
    let length = u64::from(u32::from_le_bytes(*length));
    if length > HEADER_BYTES_MAX || length + END_BYTES > file_bytes {
        return bad(file_bytes - END_BYTES, format!("a footer of {length} bytes in a file of {file_bytes}"));
    }
    Ok(length)
}

fn check_block(block: &arrow_ipc::Block, footer_start: u64) -> Result<Block, String> {
    let checked = || {
        let offset = u64::try_from(block.offset()).ok()?;
        let header_bytes = u64::try_from(block.metaDataLength()).ok()?;
        let body_bytes = u64::try_from(block.bodyLength()).ok()?;
        let end = offset.checked_add(header_bytes)?.checked_add(body_bytes)?;
        (header_bytes <= HEADER_BYTES_MAX && end <= footer_start).then_some(Block { offset, header_bytes, body_bytes })
    };
    checked().ok_or_else(|| format!("the footer names a message that is not in the file: {block:?}"))
}

/// Decodes one message whose bytes are given, once everything it says about itself was checked.
fn decode<'m>(
    bytes: &'m [u8],
    block: &Block,
    schema: &SchemaRef,
    columns: Option<&[usize]>,
    batch_of: impl FnOnce(&Message<'m>) -> Option<arrow_ipc::RecordBatch<'m>>,
) -> Result<RecordBatch, String> {
    let header = slice(bytes, 0, block.header_bytes).ok_or("the message is cut short")?;
    let body = slice(bytes, block.header_bytes, block.body_bytes).ok_or("the message is cut short")?;
    let (mark, rest) = header.split_first_chunk::<4>().ok_or("the message has no header")?;
    let (length, rest) = rest.split_first_chunk::<4>().ok_or("the message has no header")?;
    let length = u64::from(u32::from_le_bytes(*length));
    if *mark != [0xff; 4] {
        return Err(format!("the message begins with {mark:02x?}, not ff ff ff ff"));
    }
    let flat = slice(rest, 0, length).ok_or_else(|| format!("the message's header says it has {length} bytes"))?;
    let message = root_as_message(flat).map_err(|e| format!("the message is no Arrow message: {e}"))?;
    if message.version() != MetadataVersion::V5 {
        return Err(format!("the message's version is {:?}, not V5", message.version()));
    }
    let batch = batch_of(&message).ok_or("the message is of another kind")?;
    check_batch(&batch, schema, body)?;
    let body = Buffer::from_vec(body.to_vec());
    let none = std::collections::HashMap::new();
    RecordBatchDecoder::try_new(&body, batch, Arc::clone(schema), &none, &MetadataVersion::V5)
        .and_then(|decoder| decoder.with_projection(columns).read_record_batch())
        .map_err(|e| e.to_string())
}

/// What is left of a batch's description of itself while its columns are checked one after the other.
struct Parts<'m> {
    nodes: std::slice::Iter<'m, (usize, bool)>,
    raw_bytes: std::slice::Iter<'m, u64>,
}

fn check_batch(batch: &arrow_ipc::RecordBatch<'_>, schema: &Schema, body: &[u8]) -> Result<(), String> {
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
    if buffers.iter().fold(0, |sum: u64, bytes| sum.saturating_add(*bytes)) > BATCH_RAW_BYTES_MAX {
        return Err(format!("the batch says it decompresses to more than {BATCH_RAW_BYTES_MAX} bytes"));
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

/// Checks that a column has the fields and buffers that its type needs, and that each buffer is of whole values and
/// holds as many as the field says.
fn check_column(data_type: &DataType, parts: &mut Parts<'_>) -> Result<(), String> {
    let Some((length, has_nulls)) = parts.nodes.next().copied() else {
        return Err("the batch has fewer columns than the schema".into());
    };
    let mut buffer = |what: &str, value_bytes: u64, values: usize| {
        let needed = value_bytes.saturating_mul(values as u64);
        match parts.raw_bytes.next().copied() {
            Some(bytes) if bytes >= needed && (value_bytes == 0 || bytes % value_bytes == 0) => Ok(()),
            Some(bytes) => Err(format!("{bytes} bytes of {what} for {length} items")),
            None => Err("the batch has fewer buffers than the schema needs".into()),
        }
    };
    buffer("validity", 1, if has_nulls { length.div_ceil(8) } else { 0 })?;
    match data_type {
        DataType::Utf8 | DataType::Binary => {
            buffer("offsets", 4, length + 1)?;
            buffer("text", 0, 0)
        }
        DataType::List(item) => {
            buffer("offsets", 4, length + 1)?;
            check_column(item.data_type(), parts)
        }
        DataType::Struct(fields) => fields.iter().try_for_each(|f| check_column(f.data_type(), parts)),
        DataType::FixedSizeBinary(width) => buffer("values", u64::from(width.unsigned_abs()), length),
        other => buffer("values", other.primitive_width().unwrap_or_default() as u64, length),
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

fn slice(bytes: &[u8], offset: u64, length: u64) -> Option<&[u8]> {
    let start = usize::try_from(offset).ok()?;
    bytes.get(start..start.checked_add(usize::try_from(length).ok()?)?)
}

/// Bytes of an object; the range was checked against its size.
fn read_range(storage: &dyn Storage, name: &ObjectName, offset: u64, bytes: u64) -> Result<Vec<u8>> {
    let bytes = usize::try_from(bytes).map_err(|e| Error::io("read", name.path(), std::io::Error::other(e)))?;
    let mut buffer = vec![0; bytes];
    storage.read_at(name, offset, &mut buffer)?;
    Ok(buffer)
}
