//! How is a table streamed into an object front to back? An Arrow IPC file whose name is known at its end.
//!
//! ```text
//! "ARROW1" 0 0, schema message, [dictionaries], record batches, [dictionaries], end of stream, footer, length, "ARROW1"
//! ```
//! The footer repeats the schema, and that copy is the one readers of files take: it carries the metadata known only at
//! the end. Batches are held in memory until the table ends or outgrows `hold_bytes_max`; held to the end, the
//! dictionaries and the whole metadata also stand in front, so that readers of streams (which never see the footer) open
//! all but the largest snapshots too. The format allows dictionaries anywhere in a file.

use std::collections::VecDeque;
use std::sync::Arc;
use std::thread::{Builder, JoinHandle};

use arrow_array::{ArrayRef, DictionaryArray, RecordBatch, new_empty_array};
use arrow_ipc::convert::IpcSchemaEncoder;
use arrow_ipc::writer::{
    DictionaryTracker, EncodedData, IpcDataGenerator, IpcWriteContext, IpcWriteOptions, write_message,
};
use arrow_ipc::{Block, CompressionType, FooterBuilder, MetadataVersion};
use arrow_schema::{ArrowError, Schema};
use flatbuffers::FlatBufferBuilder;

use super::Table;
use crate::error::{Error, Result};
use crate::format::id::CatalogHasher;
use crate::storage::ObjectWriter;

pub(super) const MAGIC: [u8; 6] = *b"ARROW1";
/// Eight is the least that the format allows; more would only pad small files.
const ALIGNMENT: usize = 8;

/// At most this many batches are encoded by other threads at a time.
const ENCODERS_MAX: usize = 3;

/// A table being written.
#[derive(Debug)]
pub(in crate::catalog) struct TableWriter {
    table: Table,
    writer: Box<dyn ObjectWriter>,
    hasher: CatalogHasher,
    schema: Schema,
    compressed: IpcWriteOptions,
    plain: IpcWriteOptions,
    context: IpcWriteContext,
    /// Batches that other threads encode, in order.
    encoders: VecDeque<JoinHandle<Result<EncodedData, ArrowError>>>,
    /// Encoded batches that are not written yet; `None` once they stream.
    held: Option<Vec<u8>>,
    hold_bytes_max: usize,
    written_bytes: u64,
    /// Batches, offsets counted from the first one.
    batches: Vec<Block>,
    batches_bytes: u64,
    batches_start: u64,
}

impl TableWriter {
    /// Begins a table. Nothing is written before the first batch does not fit `hold_bytes_max`, or the end.
    pub(in crate::catalog) fn begin(
        table: Table,
        writer: Box<dyn ObjectWriter>,
        hasher: CatalogHasher,
        hold_bytes_max: usize,
    ) -> Result<Self> {
        let plain = IpcWriteOptions::try_new(ALIGNMENT, false, MetadataVersion::V5).map_err(|e| encoding(table, e))?;
        let compressed = plain
            .clone()
            .try_with_compression(Some(CompressionType::ZSTD))
            .and_then(|options| options.try_with_compression_level(Some(table.zstd_level())))
            .map_err(|e| encoding(table, e))?;
        Ok(Self {
            table,
            writer,
            hasher,
            schema: table.schema(&[]),
            compressed,
            plain,
            context: IpcWriteContext::default(),
            encoders: VecDeque::new(),
            held: Some(Vec::new()),
            hold_bytes_max,
            written_bytes: 0,
            batches: Vec::new(),
            batches_bytes: 0,
            batches_start: 0,
        })
    }

    /// Gives the table, in which there are no rows yet, columns for labels of these keys.
    pub(in crate::catalog) fn with_labels(mut self, keys: &[Arc<str>]) -> Self {
        self.schema = self.table.schema(keys);
        self
    }

    /// Compresses nothing, so that a test can damage what arrow sees and not only what zstd sees.
    #[cfg(test)]
    pub(in crate::catalog) fn uncompressed(mut self) -> Self {
        self.compressed = self.plain.clone();
        self
    }

    /// How many batches were written.
    pub(in crate::catalog) fn batch_count(&self) -> usize {
        self.batches.len()
    }

    /// Appends a batch of stored columns.
    pub(in crate::catalog) fn write(&mut self, batch: &RecordBatch) -> Result<()> {
        self.append_encoded(0)?;
        let encoded = encode(batch, &self.compressed, &mut self.context);
        self.append(encoded)
    }

    /// As [`Self::write`], but another thread encodes the batch, and an error may be that of an earlier batch.
    pub(in crate::catalog) fn write_beside(&mut self, batch: RecordBatch) -> Result<()> {
        self.append_encoded(ENCODERS_MAX - 1)?;
        let (own, options) = (batch.clone(), self.compressed.clone());
        let encoder = move || encode(&own, &options, &mut IpcWriteContext::default());
        match Builder::new().name("catalog-encoder".to_owned()).spawn(encoder) {
            Ok(encoder) => self.encoders.push_back(encoder),
            // The system has no more threads.
            Err(_) => self.write(&batch)?,
        }
        Ok(())
    }

    /// Appends what other threads encoded, until at most `left` of them are at work.
    fn append_encoded(&mut self, left: usize) -> Result<()> {
        while self.encoders.len() > left
            && let Some(encoder) = self.encoders.pop_front()
        {
            let encoded = encoder.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
            self.append(encoded)?;
        }
        Ok(())
    }

    fn append(&mut self, encoded: Result<EncodedData, ArrowError>) -> Result<()> {
        let table = self.table;
        let encoded = encoded.map_err(|e| encoding(table, e))?;
        // Once batches stream, nothing is held and this begins empty.
        let mut bytes = self.held.take().unwrap_or_default();
        let block =
            append(&mut bytes, encoded, &self.compressed, self.batches_bytes).map_err(|e| encoding(table, e))?;
        self.batches_bytes += message_bytes(&block);
        self.batches.push(block);
        if self.written_bytes == 0 {
            if bytes.len() <= self.hold_bytes_max {
                self.held = Some(bytes);
                return Ok(());
            }
            self.write_head()?;
            self.batches_start = self.written_bytes;
        }
        self.emit(&bytes)
    }

    /// Ends the table: metadata, then one array with all values for each dictionary column, in the order of columns.
    /// Returns the writer to be finished under the name made from the hash, the hash, and the file's size in bytes.
    pub(in crate::catalog) fn finish(
        mut self,
        metadata: Vec<(String, String)>,
        dictionaries: Vec<ArrayRef>,
    ) -> Result<(Box<dyn ObjectWriter>, [u8; 32], u64)> {
        self.append_encoded(0)?;
        let table = self.table;
        let mut all = self.schema.metadata().clone();
        all.extend(metadata);
        self.schema = self.schema.clone().with_metadata(all);
        let held = self.held.take();
        if held.is_some() {
            self.write_head()?;
        }
        let dictionary_blocks = self.write_dictionaries(dictionaries)?;
        if let Some(held) = held {
            self.batches_start = self.written_bytes;
            self.emit(&held)?;
        }
        let footer = self.footer(&dictionary_blocks);
        let length = i32::try_from(footer.len()).map_err(|e| Error::io("encode", table.object(), other(e)))?;
        self.emit(&[0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0])?;
        self.emit(&footer)?;
        self.emit(&length.to_le_bytes())?;
        self.emit(&MAGIC)?;
        Ok((self.writer, self.hasher.finish(), self.written_bytes))
    }

    fn emit(&mut self, bytes: &[u8]) -> Result<()> {
        self.hasher.update(bytes);
        self.writer.write(bytes)?;
        self.written_bytes += bytes.len() as u64;
        Ok(())
    }

    fn write_head(&mut self) -> Result<()> {
        let mut head = MAGIC.to_vec();
        head.resize(8, 0);
        let mut tracker = DictionaryTracker::new(true);
        let schema = IpcDataGenerator::default().schema_to_bytes_with_dictionary_tracker(
            &self.schema,
            &mut tracker,
            &self.plain,
        );
        append(&mut head, schema, &self.plain, 0).map_err(|e| encoding(self.table, e))?;
        self.emit(&head)
    }

    /// Dictionaries are small, and some readers take them uncompressed only.
    fn write_dictionaries(&mut self, values: Vec<ArrayRef>) -> Result<Vec<Block>> {
        let (bytes, blocks) = self.encode_dictionaries(values).map_err(|e| encoding(self.table, e))?;
        self.emit(&bytes)?;
        Ok(blocks)
    }

    fn encode_dictionaries(&mut self, values: Vec<ArrayRef>) -> Result<(Vec<u8>, Vec<Block>), ArrowError> {
        let mut bytes = Vec::new();
        let mut blocks = Vec::new();
        if values.is_empty() {
            return Ok((bytes, blocks));
        }
        let mut values = values.into_iter();
        let mut columns: Vec<ArrayRef> = Vec::new();
        for field in self.schema.fields() {
            columns.push(match field.data_type() {
                arrow_schema::DataType::Dictionary(key, _) => {
                    let values = values.next().ok_or_else(|| ArrowError::SchemaError("too few dictionaries".into()))?;
                    dictionary_of(key, values)?
                }
                other => new_empty_array(other),
            });
        }
        let batch = RecordBatch::try_new(Arc::new(self.schema.clone()), columns)?;
        // The ids that the schema's encoding gave the dictionaries are given again by encoding it again.
        let mut tracker = DictionaryTracker::new(true);
        let generator = IpcDataGenerator::default();
        generator.schema_to_bytes_with_dictionary_tracker(&self.schema, &mut tracker, &self.plain);
        let (encoded, _) = generator.encode(&batch, &mut tracker, &self.plain, &mut self.context)?;
        for dictionary in encoded {
            let start = self.written_bytes + bytes.len() as u64;
            blocks.push(append(&mut bytes, dictionary, &self.plain, start)?);
        }
        Ok((bytes, blocks))
    }

    fn footer(&self, dictionaries: &[Block]) -> Vec<u8> {
        let at_file_start = |b: &Block| {
            Block::new(b.offset().saturating_add_unsigned(self.batches_start), b.metaDataLength(), b.bodyLength())
        };
        let batches: Vec<Block> = self.batches.iter().map(at_file_start).collect();
        let mut builder = FlatBufferBuilder::new();
        let dictionaries = builder.create_vector(dictionaries);
        let batches = builder.create_vector(&batches);
        let mut tracker = DictionaryTracker::new(true);
        let schema = IpcSchemaEncoder::new()
            .with_dictionary_tracker(&mut tracker)
            .schema_to_fb_offset(&mut builder, &self.schema);
        let mut footer = FooterBuilder::new(&mut builder);
        footer.add_version(MetadataVersion::V5);
        footer.add_schema(schema);
        footer.add_dictionaries(dictionaries);
        footer.add_recordBatches(batches);
        let root = footer.finish();
        builder.finish(root, None);
        builder.finished_data().to_vec()
    }
}

fn encode(
    batch: &RecordBatch,
    options: &IpcWriteOptions,
    context: &mut IpcWriteContext,
) -> Result<EncodedData, ArrowError> {
    let mut tracker = DictionaryTracker::new(false);
    IpcDataGenerator::default().encode(batch, &mut tracker, options, context).map(|(_, encoded)| encoded)
}

/// A column of no rows over a dictionary of `values`.
fn dictionary_of(key: &arrow_schema::DataType, values: ArrayRef) -> Result<ArrayRef, ArrowError> {
    use arrow_array::types::{Int8Type, Int32Type};
    use arrow_array::{Int8Array, Int32Array};
    Ok(match key {
        arrow_schema::DataType::Int8 => {
            Arc::new(DictionaryArray::<Int8Type>::try_new(Int8Array::from(Vec::<i8>::new()), values)?)
        }
        _ => Arc::new(DictionaryArray::<Int32Type>::try_new(Int32Array::from(Vec::<i32>::new()), values)?),
    })
}

/// Appends a message to `bytes`; `start` is where its block says it lies.
fn append(
    bytes: &mut Vec<u8>,
    message: EncodedData,
    options: &IpcWriteOptions,
    start: u64,
) -> Result<Block, ArrowError> {
    let (header_bytes, body_bytes) = write_message(bytes, message, options)?;
    let number = |e: std::num::TryFromIntError| ArrowError::IpcError(e.to_string());
    Ok(Block::new(
        i64::try_from(start).map_err(number)?,
        i32::try_from(header_bytes).map_err(number)?,
        i64::try_from(body_bytes).map_err(number)?,
    ))
}

fn message_bytes(block: &Block) -> u64 {
    u64::from(block.metaDataLength().unsigned_abs()) + block.bodyLength().unsigned_abs()
}

fn other(error: impl std::error::Error + Send + Sync + 'static) -> std::io::Error {
    std::io::Error::other(error)
}

fn encoding(table: Table, error: ArrowError) -> Error {
    Error::io("encode", table.object(), other(error))
}
