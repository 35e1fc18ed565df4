//! Arrays that numpy maps: what all files are, one behind the other, and where each begins; what they are called,
//! likewise; what they hash to. And an Arrow table of everything, with what arrays cannot say.
//!
//! Two passes over the snapshot: one places contents and writes what is known beforehand, one writes the table when all
//! hashes are known. Memory: two windows of plans, and the first name of each file that has several.

use std::fs::File;
use std::io::{BufReader, BufWriter, Read, Seek, SeekFrom};
use std::os::unix::fs::FileExt;
use std::path::Path;

use super::items::{ItemPosition, Role, Row, Rows, layout_of};
use super::{ExportReport, ExportRequest};
use crate::arrays::npy::{self, Column, HEADER_BYTES, Shape};
use crate::catalog::{ItemRow, ItemTable};
use crate::engine::Store;
use crate::engine::read::payload::{Placed, Target, place_contents};
use crate::engine::read::resolve::Item;
use crate::engine::read::resolve::Resolved;
use crate::engine::store::chunk_index::ChunkIndex;
use crate::engine::store::control::Control;
use crate::error::{Error, Result};
use crate::format::entry::Entry;
use crate::restore::AtomicFile;

const HASH_BYTES: u64 = 32;

impl Store {
    /// Writes the files of an entry, and of all below it, as arrays into a new directory: see `docs/exports.md`.
    ///
    /// # Errors
    /// [`Error::NotFound`] if no snapshot has the path; [`Error::Exists`] if there is something at `output` but an empty
    /// directory; [`Error::Damaged`] if any content cannot be had, [`Error::Io`], [`Error::Interrupted`]: there is nothing
    /// at `output` then.
    pub fn export_arrays(&self, request: &ExportRequest, output: &Path, control: &Control) -> Result<ExportReport> {
        let found = self.resolve(&request.path, &request.snapshot)?;
        control.pass_over(&found.passed_over);
        let chunk_index = self.chunk_index()?;
        let folder = AtomicFile::directory(output)?;
        let arrays = Arrays { request, found: &found, chunk_index: &chunk_index, control, folder: folder.path() };
        let report = self.unless_removed(found.snapshot.id(), arrays.write())?;
        folder.finish()?;
        Ok(report)
    }
}

/// What one export works with.
struct Arrays<'a, 's> {
    request: &'a ExportRequest,
    found: &'a Resolved<'s>,
    chunk_index: &'a ChunkIndex<'s>,
    control: &'a Control,
    folder: &'a Path,
}

/// The arrays that are known from the snapshot alone.
struct Columns {
    offsets: Column,
    lengths: Column,
    names: Column,
    name_offsets: Column,
}

impl Columns {
    fn create(folder: &Path) -> Result<Self> {
        let column = |name| Column::create(folder.join(name));
        Ok(Self {
            offsets: column("offsets.npy")?,
            lengths: column("lengths.npy")?,
            names: column("names.npy")?,
            name_offsets: column("name_offsets.npy")?,
        })
    }

    fn push(&mut self, entry: &Entry, place: ItemPosition) -> Result<()> {
        self.offsets.push(place.offset)?;
        self.lengths.push(entry.size)?;
        self.name_offsets.push(self.names.count())?;
        self.names.extend(entry.path.as_bytes())
    }

    fn finish(mut self, end: ItemPosition) -> Result<u64> {
        self.offsets.push(end.offset)?;
        self.name_offsets.push(self.names.count())?;
        let bytes = 8 * (self.offsets.count() + self.lengths.count() + self.name_offsets.count()) + self.names.count();
        self.offsets.finish(Shape::Numbers)?;
        self.lengths.finish(Shape::Numbers)?;
        self.names.finish(Shape::Bytes)?;
        self.name_offsets.finish(Shape::Numbers)?;
        Ok(bytes)
    }
}

impl Arrays<'_, '_> {
    fn rows(&self) -> Result<Rows<Box<dyn Iterator<Item = Result<Item>> + '_>>> {
        self.found.items(&self.request.labels).map(Rows::new)
    }

    fn write(&self) -> Result<ExportReport> {
        let mut report = ExportReport::default();
        let hashes = self.folder.join("hashes.npy");
        let hash_file = npy::create(&hashes)?;
        let place = |item: u64| HEADER_BYTES + HASH_BYTES * item;
        let hashed = |item: u64, hash: [u8; 32]| {
            hash_file.write_all_at(&hash, place(item)).map_err(|source| Error::io("write", &hashes, source))
        };
        let end = self.write_payload(&hashed, &mut report)?;
        npy::finish(&hash_file, &hashes, Shape::Hashes(end.item))?;
        report.written_bytes += end.offset + HASH_BYTES * end.item;
        self.write_index(&hash_file, &hashes, &mut report)?;
        Ok(report)
    }

    fn write_payload(
        &self,
        hashed: &(dyn Fn(u64, [u8; 32]) -> Result<()> + Sync),
        report: &mut ExportReport,
    ) -> Result<ItemPosition> {
        let payload = self.folder.join("payload.npy");
        let file = npy::create(&payload)?;
        let mut columns = Columns::create(self.folder)?;
        let mut rows = self.rows()?;
        let contents = rows.by_ref().filter_map(|row| {
            let Row { entry, role } = match row {
                Ok(row) => row,
                Err(error) => return Some(Err(error)),
            };
            match role {
                Role::Item(place, member) => {
                    let layout = layout_of(member, &entry, self.chunk_index);
                    let pushed = layout.and_then(|layout| columns.push(&entry, place).map(|()| layout));
                    let pushed = pushed.and_then(|layout| {
                        // A hole that this place cannot have, before anybody reads it.
                        let end = HEADER_BYTES.saturating_add(place.offset).saturating_add(entry.size);
                        if layout.has_holes() {
                            file.set_len(end).map_err(|source| Error::io("write", &payload, source))?;
                        }
                        Ok(layout)
                    });
                    Some(pushed.map(|layout| {
                        report.entries += 1;
                        report.bytes = report.bytes.saturating_add(entry.size);
                        Placed { item: place.item, offset: place.offset, path: entry.path, layout }
                    }))
                }
                Role::Again(..) | Role::Other => {
                    report.others += 1;
                    None
                }
                Role::LeftOut(why) => {
                    report.left_out.push((entry.path, why));
                    None
                }
            }
        });
        let target = Target {
            chunk_index: self.chunk_index,
            control: self.control,
            threads: self.request.threads,
            file: &file,
            name: &payload,
            base: HEADER_BYTES,
        };
        place_contents(target, contents, Some(hashed))?;
        let end = rows.end();
        report.written_bytes += columns.finish(end)?;
        npy::finish(&file, &payload, Shape::Bytes(end.offset))?;
        Ok(end)
    }

    fn write_index(&self, hash_file: &File, hashes: &Path, report: &mut ExportReport) -> Result<()> {
        let path = self.folder.join("index.arrow");
        let failed = |source| Error::io("write", &path, source);
        let read = |source| Error::io("read back", hashes, source);
        let mut in_order = BufReader::with_capacity(256 << 10, hash_file);
        in_order.seek(SeekFrom::Start(HEADER_BYTES)).map_err(read)?;
        let keys = self.found.snapshot.label_keys().to_vec();
        let file = BufWriter::with_capacity(256 << 10, npy::create(&path)?);
        let mut table = ItemTable::begin(file, &path, keys)?;
        for row in self.rows()? {
            let Row { entry, role } = row?;
            let (item, first_name) = match &role {
                Role::Item(place, _) => {
                    let mut hash = [0; HASH_BYTES as usize];
                    in_order.read_exact(&mut hash).map_err(read)?;
                    (Some((place.item, place.offset, hash)), None)
                }
                Role::Again(place, first, _) => {
                    let mut hash = [0; HASH_BYTES as usize];
                    hash_file.read_exact_at(&mut hash, HEADER_BYTES + HASH_BYTES * place.item).map_err(read)?;
                    (Some((place.item, place.offset, hash)), Some(first))
                }
                Role::Other => (None, None),
                Role::LeftOut(_) => continue,
            };
            table.push(ItemRow { entry: &entry, item, first_name })?;
        }
        let file = table.finish()?.into_inner().map_err(|error| failed(error.into_error()))?;
        file.sync_all().map_err(failed)?;
        report.written_bytes += file.metadata().map_err(failed)?.len();
        Ok(())
    }
}
