//! How is a table read without believing it? An Arrow IPC file: footer first, then single batches by range reads.
//!
//! Nothing is decoded before [`super::check`] passed it.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow_array::{RecordBatch, StringArray};
use arrow_buffer::Buffer;
use arrow_ipc::convert::try_fb_to_schema;
use arrow_ipc::reader::RecordBatchDecoder;
use arrow_ipc::{Message, MetadataVersion, root_as_footer, root_as_message};
use arrow_schema::{DataType, Field, Schema, SchemaRef};

use super::check::{check_batch, check_recipes, check_words, slice};
use super::write::MAGIC;
use super::{DICTIONARY_BYTES_MAX, KEY_OBJECT, KEY_VERSION, Table};
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
/// A message's body has no more bytes besides those of its columns: lengths, and what they are padded by.
const BODY_EXTRA_BYTES: u64 = 64 << 10;
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
    table: Table,
    stored: SchemaRef,
    /// The keys that it has columns of labels for.
    label_keys: Vec<Arc<str>>,
    batches: Vec<Block>,
    dictionaries: Vec<Block>,
    metadata: BTreeMap<String, String>,
    /// The whole file, if it was verified and is small.
    kept: Option<Buffer>,
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
            Trust::Whole(..) if whole => file.kept = Some(Buffer::from_vec(tail)),
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
        let label_keys = match table {
            Table::Snapshot => super::labels::keys_of(schema.fields()).map_err(&bad)?,
            Table::Recipes | Table::Members | Table::Objects => Vec::new(),
        };
        if !table.takes(schema.fields(), &label_keys) {
            return Err(bad(format!("the columns are not those of a {} file", table.object())));
        }
        if footer.version() != MetadataVersion::V5 {
            return Err(bad(format!("the Arrow metadata version is {:?}, not V5", footer.version())));
        }
        let blocks = |list: Option<flatbuffers::Vector<'_, arrow_ipc::Block>>, raw_bytes_max: u64| {
            let checked = |b| check_block(b, footer_start, raw_bytes_max).map_err(&bad);
            list.iter().flatten().map(checked).collect::<Result<Vec<_>>>()
        };
        let batches = blocks(footer.recordBatches(), table.batch_raw_bytes_max())?;
        let dictionaries = blocks(footer.dictionaries(), DICTIONARY_BYTES_MAX as u64)?;
        let is_dictionary = |field: &&Arc<Field>| matches!(field.data_type(), DataType::Dictionary(..));
        let expected = schema.fields().iter().filter(is_dictionary).count();
        if dictionaries.len() != expected {
            return Err(bad(format!("{} dictionaries, not {expected}", dictionaries.len())));
        }
        check_apart(&batches, &dictionaries).map_err(&bad)?;
        Ok(Self {
            storage,
            name,
            table,
            stored: Arc::new(super::stored(schema.fields())),
            label_keys,
            batches,
            dictionaries,
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

    /// The keys of the labels that it has columns for, ascending.
    pub(in crate::catalog) fn label_keys(&self) -> &[Arc<str>] {
        &self.label_keys
    }

    /// How many batches there are.
    pub(in crate::catalog) fn batch_count(&self) -> usize {
        self.batches.len()
    }

    /// The object's name.
    pub(in crate::catalog) fn name(&self) -> ObjectName {
        self.name
    }

    /// Where a batch begins in the file, in bytes; 0 for one that is not there.
    pub(in crate::catalog) fn batch_offset(&self, batch: usize) -> Option<u64> {
        self.batches.get(batch).map(|b| b.offset)
    }

    /// Damage found in what a batch says.
    pub(in crate::catalog) fn damaged_batch(&self, batch: usize, what: impl std::fmt::Display) -> Error {
        let (file, offset) = (self.name.path(), self.batch_offset(batch));
        Error::Damaged { file, offset, what: format!("record batch {batch}: {what}") }
    }

    /// A batch; with `columns`, only those, in the order of the table.
    pub(in crate::catalog) fn batch(&self, batch: usize, columns: Option<&[usize]>) -> Result<RecordBatch> {
        let block = self.batches.get(batch).ok_or_else(|| {
            self.damaged_batch(batch, format_args!("asked for, but there are {} only", self.batches.len()))
        })?;
        let bytes = self.read_block(block)?;
        let expected = Expected {
            schema: &self.stored,
            raw_bytes_max: self.table.batch_raw_bytes_max(),
            check: match self.table {
                Table::Recipes => check_recipes,
                Table::Snapshot | Table::Members | Table::Objects => |_| Ok(()),
            },
        };
        decode(&bytes, block, &expected, columns, |message| message.header_as_record_batch())
            .map_err(|what| self.damaged_batch(batch, what))
    }

    /// The values of each dictionary, in the order of dictionary columns.
    pub(in crate::catalog) fn dictionaries(&self) -> Result<Vec<StringArray>> {
        let values: SchemaRef = Arc::new(Schema::new(vec![Field::new("values", DataType::Utf8, false)]));
        let expected = Expected { schema: &values, raw_bytes_max: DICTIONARY_BYTES_MAX as u64, check: check_words };
        let mut found = Vec::new();
        for (place, block) in self.dictionaries.iter().enumerate() {
            let bytes = self.read_block(block)?;
            let read = decode(&bytes, block, &expected, None, |message| {
                let dictionary = message.header_as_dictionary_batch()?;
                (!dictionary.isDelta() && usize::try_from(dictionary.id()) == Ok(place)).then(|| dictionary.data())?
            });
            let batch = read.and_then(|b| super::column::<StringArray>(&b, 0));
            found.push(batch.map_err(|what| self.damaged(block, format_args!("dictionary {place}: {what}")))?);
        }
        Ok(found)
    }

    fn read_block(&self, block: &Block) -> Result<Buffer> {
        if let Some(kept) = &self.kept {
            return part(kept, block.offset, block.bytes()).ok_or_else(|| self.damaged(block, "it is cut short"));
        }
        let bytes = read_range(self.storage, &self.name, block.offset, block.bytes())?;
        match self.sums.get(&block.offset) {
            Some(sum) if *sum != checksum(&[&bytes]) => {
                Err(self.damaged(block, "the bytes are not those that were read before"))
            }
            _ => Ok(Buffer::from_vec(bytes)),
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
    Err(Error::damaged_whole(name.path(), format!("the file is named after the hash of its bytes, which is {found}")))
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
    let short =
        || Error::damaged_whole(name.path(), format!("the file has {file_bytes} bytes, too few for an Arrow file"));
    let Some((rest, magic)) = tail.split_last_chunk::<6>() else {
        return Err(short());
    };
    if *magic != MAGIC {
        return bad(file_bytes - 6, format!("the file does not end with ARROW1 but with {magic:02x?}"));
    }
    let Some((_, length)) = rest.split_last_chunk::<4>() else {
        return Err(short());
    };
    let length = u64::from(u32::from_le_bytes(*length));
    if length > HEADER_BYTES_MAX || length + END_BYTES > file_bytes {
        return bad(file_bytes - END_BYTES, format!("a footer of {length} bytes in a file of {file_bytes}"));
    }
    Ok(length)
}

fn check_block(block: &arrow_ipc::Block, footer_start: u64, raw_bytes_max: u64) -> Result<Block, String> {
    let checked = || {
        let offset = u64::try_from(block.offset()).ok()?;
        let header_bytes = u64::try_from(block.metaDataLength()).ok()?;
        let body_bytes = u64::try_from(block.bodyLength()).ok()?;
        let end = offset.checked_add(header_bytes)?.checked_add(body_bytes)?;
        let within = end <= footer_start && body_bytes <= raw_bytes_max.saturating_add(BODY_EXTRA_BYTES);
        (header_bytes <= HEADER_BYTES_MAX && within).then_some(Block { offset, header_bytes, body_bytes })
    };
    checked().ok_or_else(|| format!("the footer names a message that is not in the file: {block:?}"))
}

/// Messages do not share bytes: else a small file that names one of them a million times would take hours to read.
fn check_apart(batches: &[Block], dictionaries: &[Block]) -> Result<(), String> {
    let mut blocks: Vec<&Block> = batches.iter().chain(dictionaries).collect();
    blocks.sort_by_key(|block| block.offset);
    let overlap = blocks.windows(2).find_map(|pair| match pair {
        [a, b] if b.offset < a.end() || b.offset == a.offset => Some(b.offset),
        _ => None,
    });
    overlap.map_or(Ok(()), |at| Err(format!("the message at {at} overlaps the one before it")))
}

/// What a message must be.
struct Expected<'a> {
    schema: &'a SchemaRef,
    raw_bytes_max: u64,
    /// What else it must be, once it agrees with the schema.
    check: fn(&arrow_ipc::RecordBatch<'_>) -> Result<(), String>,
}

/// Decodes one message whose bytes are given, once everything it says about itself was checked.
fn decode<'m>(
    bytes: &'m Buffer,
    block: &Block,
    expected: &Expected<'_>,
    columns: Option<&[usize]>,
    batch_of: impl FnOnce(&Message<'m>) -> Option<arrow_ipc::RecordBatch<'m>>,
) -> Result<RecordBatch, String> {
    let header = slice(bytes, 0, block.header_bytes).ok_or("the message is cut short")?;
    let body = part(bytes, block.header_bytes, block.body_bytes).ok_or("the message is cut short")?;
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
    let schema = expected.schema;
    check_batch(&batch, schema, expected.raw_bytes_max, &body)?;
    (expected.check)(&batch)?;
    let none = std::collections::HashMap::new();
    RecordBatchDecoder::try_new(&body, batch, Arc::clone(schema), &none, &MetadataVersion::V5)
        .and_then(|decoder| decoder.with_projection(columns).read_record_batch())
        .map_err(|e| e.to_string())
}

/// A range of a buffer, shared, if it is there.
fn part(buffer: &Buffer, offset: u64, length: u64) -> Option<Buffer> {
    slice(buffer, offset, length)?;
    Some(buffer.slice_with_length(usize::try_from(offset).ok()?, usize::try_from(length).ok()?))
}

/// Bytes of an object; the range was checked against its size.
fn read_range(storage: &dyn Storage, name: &ObjectName, offset: u64, bytes: u64) -> Result<Vec<u8>> {
    let bytes = usize::try_from(bytes).map_err(|e| Error::io("read", name.path(), std::io::Error::other(e)))?;
    let mut buffer = vec![0; bytes];
    storage.read_at(name, offset, &mut buffer)?;
    Ok(buffer)
}
