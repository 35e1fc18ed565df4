//! Arrow files as an attacker makes them: any rows, in any order, under honest metadata; and then with lying buffers.

use std::sync::{Arc, OnceLock};

use arrow_array::builder::{BinaryBuilder, FixedSizeBinaryBuilder};
use arrow_array::types::{Int8Type, Int32Type};
use arrow_array::{
    ArrayRef, DictionaryArray, Int8Array, Int32Array, ListArray, RecordBatch, StringArray, StructArray,
    TimestampNanosecondArray, UInt16Array, UInt32Array, UInt64Array,
};
use arrow_buffer::OffsetBuffer;
use arrow_ipc::reader::FileReader;
use arrow_ipc::writer::{FileWriter, IpcWriteOptions};
use arrow_ipc::{CompressionType, MetadataVersion};
use arrow_schema::{DataType, SchemaRef};
use seamstore::entry::ChunkId;
use seamstore::internals::catalog::recipe::RecipesWriter;
use seamstore::internals::catalog::snapshot::{SnapshotInfo, SnapshotWriter};
use seamstore::internals::format::name::ObjectName;
use seamstore::internals::format::recipe::{Piece, recipe_id};
use seamstore::internals::storage::{MemoryStorage, Storage};

/// A recipe as a file has it; nothing about it need be true.
#[derive(Debug, Clone)]
pub(super) struct RecipeRow {
    pub(super) id: [u8; 32],
    pub(super) size: u64,
    pub(super) pieces: Vec<Piece>,
}

/// A row of a snapshot; nothing about it need be true.
#[derive(Debug, Clone, Default)]
pub(super) struct Row {
    pub(super) path: Vec<u8>,
    pub(super) kind: i8,
    pub(super) mode: u16,
    pub(super) owner: Option<i32>,
    pub(super) size: u64,
    pub(super) chunk: Option<[u8; 32]>,
    pub(super) recipe: Option<[u8; 32]>,
    pub(super) target: Option<Vec<u8>>,
    pub(super) rdev: u64,
    /// Inode and number of links.
    pub(super) identity: (u64, u64),
    pub(super) xattrs: Vec<(Vec<u8>, Vec<u8>)>,
}

/// The words of the dictionaries of a snapshot: kinds, and names of owners.
#[derive(Debug, Clone)]
pub(super) struct Words {
    pub(super) kinds: Vec<String>,
    pub(super) owners: Vec<String>,
}

impl Default for Words {
    fn default() -> Self {
        let kinds = ["file", "directory", "symlink", "fifo", "char device", "block device", "socket"];
        Self { kinds: kinds.map(str::to_owned).to_vec(), owners: vec!["root".to_owned(), "daemon".to_owned()] }
    }
}

fn schema_of(file: &[u8]) -> SchemaRef {
    FileReader::try_new(std::io::Cursor::new(file), None).unwrap().schema()
}

fn recipes_schema() -> SchemaRef {
    static SCHEMA: OnceLock<SchemaRef> = OnceLock::new();
    let schema = SCHEMA.get_or_init(|| {
        let storage = MemoryStorage::new();
        let mut writer = RecipesWriter::begin(storage.writer().unwrap()).unwrap();
        let pieces = [Piece { id: ChunkId::of(b"a"), end: 1 }];
        writer.push(recipe_id(&pieces), &pieces).unwrap();
        let id = writer.finish(&storage).unwrap().unwrap().id;
        schema_of(&storage.bytes(&ObjectName::Recipes(id)).unwrap())
    });
    Arc::clone(schema)
}

fn snapshot_schema() -> SchemaRef {
    static SCHEMA: OnceLock<SchemaRef> = OnceLock::new();
    let schema = SCHEMA.get_or_init(|| {
        let storage = MemoryStorage::new();
        let writer = SnapshotWriter::begin(storage.writer().unwrap()).unwrap();
        let id = writer.finish(SnapshotInfo::default()).unwrap().id;
        schema_of(&storage.bytes(&ObjectName::Snapshot(id)).unwrap())
    });
    Arc::clone(schema)
}

fn file_of(schema: &SchemaRef, batches: &[RecordBatch], compressed: bool) -> Vec<u8> {
    let options = IpcWriteOptions::try_new(8, false, MetadataVersion::V5).unwrap();
    let options = options.try_with_compression(compressed.then_some(CompressionType::ZSTD)).unwrap();
    let mut writer = FileWriter::try_new_with_options(Vec::new(), schema, options).unwrap();
    batches.iter().for_each(|batch| writer.write(batch).unwrap());
    writer.finish().unwrap();
    writer.into_inner().unwrap()
}

fn offsets(lengths: impl Iterator<Item = usize>) -> OffsetBuffer<i32> {
    OffsetBuffer::from_lengths(lengths)
}

/// A recipes file.
pub(super) fn recipes_file(batches: &[Vec<RecipeRow>], compressed: bool) -> Vec<u8> {
    let schema = recipes_schema();
    let DataType::List(item) = schema.field(2).data_type().clone() else { panic!("{schema}") };
    let DataType::Struct(fields) = item.data_type().clone() else { panic!("{schema}") };
    let batch_of = |rows: &Vec<RecipeRow>| {
        let mut ids = FixedSizeBinaryBuilder::new(32);
        let mut piece_ids = FixedSizeBinaryBuilder::new(32);
        rows.iter().for_each(|row| ids.append_value(row.id).unwrap());
        let pieces = || rows.iter().flat_map(|row| &row.pieces);
        pieces().for_each(|piece| piece_ids.append_value(piece.id.0).unwrap());
        let ends = UInt64Array::from_iter_values(pieces().map(|piece| piece.end));
        let pieces = StructArray::try_new(fields.clone(), vec![Arc::new(piece_ids.finish()), Arc::new(ends)], None);
        let lists = offsets(rows.iter().map(|row| row.pieces.len()));
        let columns: Vec<ArrayRef> = vec![
            Arc::new(ids.finish()),
            Arc::new(UInt64Array::from_iter_values(rows.iter().map(|row| row.size))),
            Arc::new(ListArray::try_new(item.clone(), lists, Arc::new(pieces.unwrap()), None).unwrap()),
        ];
        RecordBatch::try_new(Arc::clone(&schema), columns).unwrap()
    };
    let batches: Vec<RecordBatch> = batches.iter().map(batch_of).collect();
    file_of(&schema, &batches, compressed)
}

/// A snapshot file. Keys of words that are not there become those of the first.
pub(super) fn snapshot_file(batches: &[Vec<Row>], words: &Words, compressed: bool) -> Vec<u8> {
    let schema = snapshot_schema();
    let DataType::List(item) = schema.field(17).data_type().clone() else { panic!("{schema}") };
    let DataType::Struct(fields) = item.data_type().clone() else { panic!("{schema}") };
    let kinds: ArrayRef = Arc::new(StringArray::from(words.kinds.clone()));
    let owners: ArrayRef = Arc::new(StringArray::from(words.owners.clone()));
    let batch_of = |rows: &Vec<Row>| {
        let id_column = |id: &dyn Fn(&Row) -> Option<[u8; 32]>| -> ArrayRef {
            let mut column = FixedSizeBinaryBuilder::new(32);
            for row in rows {
                match id(row) {
                    Some(id) => column.append_value(id).unwrap(),
                    None => column.append_null(),
                }
            }
            Arc::new(column.finish())
        };
        let mut paths = BinaryBuilder::new();
        let mut targets = BinaryBuilder::new();
        let (mut names, mut values) = (BinaryBuilder::new(), BinaryBuilder::new());
        for row in rows {
            paths.append_value(&row.path);
            targets.append_option(row.target.as_ref());
            for (name, value) in &row.xattrs {
                names.append_value(name);
                values.append_value(value);
            }
        }
        let xattrs =
            StructArray::try_new(fields.clone(), vec![Arc::new(names.finish()), Arc::new(values.finish())], None);
        let lists = offsets(rows.iter().map(|row| row.xattrs.len()));
        let kind_keys: Int8Array =
            rows.iter().map(|row| if (row.kind as usize) < words.kinds.len() { row.kind } else { 0 }).collect();
        let owner = |row: &Row| row.owner.filter(|key| (*key as usize) < words.owners.len());
        let owner_keys: Int32Array = rows.iter().map(owner).collect();
        let numbers =
            |of: &dyn Fn(&Row) -> u64| -> ArrayRef { Arc::new(UInt64Array::from_iter_values(rows.iter().map(of))) };
        let nobody: ArrayRef = Arc::new(UInt32Array::from(vec![0; rows.len()]));
        let time: ArrayRef =
            Arc::new(TimestampNanosecondArray::from(vec![1_700_000_000_000_000_000; rows.len()]).with_timezone("UTC"));
        let owned: ArrayRef = Arc::new(DictionaryArray::<Int32Type>::try_new(owner_keys, Arc::clone(&owners)).unwrap());
        let columns: Vec<ArrayRef> = vec![
            Arc::new(paths.finish()),
            Arc::new(DictionaryArray::<Int8Type>::try_new(kind_keys, Arc::clone(&kinds)).unwrap()),
            Arc::new(UInt16Array::from_iter_values(rows.iter().map(|row| row.mode))),
            Arc::clone(&nobody),
            nobody,
            Arc::clone(&owned),
            owned,
            Arc::clone(&time),
            numbers(&|row| row.size),
            id_column(&|row| row.chunk),
            id_column(&|row| row.recipe),
            Arc::new(targets.finish()),
            numbers(&|row| row.rdev),
            numbers(&|_| 1),
            numbers(&|row| row.identity.0),
            numbers(&|row| row.identity.1),
            time,
            Arc::new(ListArray::try_new(item.clone(), lists, Arc::new(xattrs.unwrap()), None).unwrap()),
            arrow_array::new_null_array(schema.field(18).data_type(), rows.len()),
        ];
        RecordBatch::try_new(Arc::clone(&schema), columns).unwrap()
    };
    let batches: Vec<RecordBatch> = batches.iter().map(batch_of).collect();
    file_of(&schema, &batches, compressed)
}
