//! All contents in one array, and all names in another. Uncompressed, the library makes the arrays and nothing else:
//! contents go to their places as they do in a restore. Compressed, they go through it, in order.

use std::io::Write;
use std::os::unix::fs::FileExt;

use super::in_order::{Receive, TeeWriter, each_item};
use super::raw::RawColumn;
use super::{Export, Totals};
use crate::arrays::hdf5::{Elements, Hdf5, Stream};
use crate::engine::ops::export::ExportReport;
use crate::engine::ops::export::items::{Role, Row, layout_of};
use crate::engine::read::layout::Layout;
use crate::engine::read::payload::{Placed, place_contents};
use crate::error::Result;
use crate::format::entry::Entry;
use crate::format::id::ContentHasher;

const HASH_BYTES: usize = 32;

/// The arrays beside the image.
struct Columns<'a, 's> {
    image_offsets: RawColumn<'a, 's>,
    bytes: u64,
    names: RawColumn<'a, 's>,
    name_offsets: RawColumn<'a, 's>,
    name_bytes: u64,
    lengths: RawColumn<'a, 's>,
    /// Where the hashes are.
    hashes: u64,
}

impl<'a, 's> Columns<'a, 's> {
    fn reserve(export: &'a Export<'a, 's>, container: &Hdf5, totals: Totals) -> Result<Self> {
        let column = |name, elements| container.reserve(name, elements).map(|at| RawColumn::new(export, at));
        Ok(Self {
            image_offsets: column("image_offset", Elements::Numbers(totals.count + 1))?,
            bytes: 0,
            names: column("name", Elements::Bytes(totals.name_bytes))?,
            name_offsets: column("name_offset", Elements::Numbers(totals.count + 1))?,
            name_bytes: 0,
            lengths: column("length", Elements::Numbers(totals.count))?,
            hashes: container.reserve("hash", Elements::Rows(totals.count, HASH_BYTES))?,
        })
    }

    fn push(&mut self, entry: &Entry) -> Result<()> {
        self.image_offsets.number(self.bytes)?;
        self.bytes += entry.size;
        self.name_offsets.number(self.name_bytes)?;
        self.name_bytes += entry.path.as_bytes().len() as u64;
        self.names.bytes(entry.path.as_bytes())?;
        self.lengths.number(entry.size)
    }

    fn finish(mut self) -> Result<()> {
        self.image_offsets.number(self.bytes)?;
        self.name_offsets.number(self.name_bytes)?;
        self.image_offsets.finish()?;
        self.names.finish()?;
        self.name_offsets.finish()?;
        self.lengths.finish()
    }
}

pub(super) fn write(export: &Export<'_, '_>) -> Result<ExportReport> {
    let totals = export.totals(false)?;
    let container = export.container()?;
    match export.options.compress {
        None => {
            // The first place of a new file: there was nothing before, so holes are zeros.
            let image = container.reserve("image", Elements::Bytes(totals.bytes))?;
            let columns = Columns::reserve(export, &container, totals)?;
            container.finish()?;
            place(export, image, columns)
        }
        level => {
            let image = container.stream("image", totals.bytes, level)?;
            let columns = Columns::reserve(export, &container, totals)?;
            let hashes = RawColumn::new(export, columns.hashes);
            let mut shredder = Shredder { export, image, columns, hashes };
            let report = each_item(export, &mut shredder)?;
            let Shredder { image, columns, hashes, .. } = shredder;
            image.finish().map_err(|source| export.failed(source))?;
            container.finish()?;
            columns.finish()?;
            hashes.finish()?;
            Ok(report)
        }
    }
}

fn place(export: &Export<'_, '_>, image: u64, mut columns: Columns<'_, '_>) -> Result<ExportReport> {
    let mut report = ExportReport::default();
    let hashes = columns.hashes;
    let hashed = |item: u64, hash: [u8; HASH_BYTES]| {
        let at = hashes + item * HASH_BYTES as u64;
        export.file.write_all_at(&hash, at).map_err(|source| export.failed(source))
    };
    let contents = export.rows()?.filter_map(|row| match row {
        Ok(Row { entry, role: Role::Item(place, member) }) => {
            let layout = layout_of(member, &entry, export.chunk_index);
            Some(layout.and_then(|layout| columns.push(&entry).map(|()| layout)).map(|layout| {
                report.entries += 1;
                report.bytes = report.bytes.saturating_add(entry.size);
                Placed { item: place.item, offset: place.offset, path: entry.path, layout }
            }))
        }
        Ok(Row { entry, role: Role::LeftOut(why) }) => {
            report.left_out.push((entry.path, why));
            None
        }
        Ok(_) => {
            report.others += 1;
            None
        }
        Err(error) => Some(Err(error)),
    });
    place_contents(export.target(image), contents, Some(&hashed))?;
    columns.finish()?;
    Ok(report)
}

/// An image being compressed.
struct Shredder<'a, 's> {
    export: &'a Export<'a, 's>,
    image: Stream,
    columns: Columns<'a, 's>,
    hashes: RawColumn<'a, 's>,
}

impl Receive for Shredder<'_, '_> {
    const SMALL_BYTES_MAX: u64 = 4 << 20;

    fn small(&mut self, entry: &Entry, bytes: &[u8]) -> Result<()> {
        self.image.write_all(bytes).map_err(|source| self.export.failed(source))?;
        self.columns.push(entry)?;
        self.hashes.bytes(&ContentHasher::default().update(bytes).finish())
    }

    fn large(&mut self, entry: &Entry, layout: &Layout) -> Result<()> {
        let mut hasher = ContentHasher::default();
        let tell = |bytes: &[u8]| {
            hasher.update(bytes);
        };
        self.export.stream(layout, &mut TeeWriter { to: &mut self.image, tell })?;
        self.columns.push(entry)?;
        self.hashes.bytes(&hasher.finish())
    }
}
