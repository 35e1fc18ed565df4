//! One array for each content, called by its SHA-1; and which paths have which.

use std::collections::HashMap;

use super::Export;
use super::in_order::{Receive, TeeWriter, each_item};
use super::raw::RawColumn;
use crate::arrays::hdf5::{COMPACT_BYTES_MAX, Elements, Hdf5};
use crate::arrays::sha1::Sha1;
use crate::engine::ops::export::ExportReport;
use crate::engine::read::layout::Layout;
use crate::error::Result;
use crate::format::entry::{Content, Entry};
use crate::format::frame::hex;

/// Where the table is. No content is called so.
const TABLE: &str = "index";
/// What a content is called while its name is not known.
const UNNAMED: &str = "unnamed";
/// Large contents whose hashes are remembered, so that they are read once and not for every file that has them.
const KNOWN_MAX: usize = 1 << 16;
const HASH_BYTES: usize = 20;

struct ByHash<'a, 's> {
    export: &'a Export<'a, 's>,
    container: Hdf5,
    known: HashMap<Content, [u8; HASH_BYTES]>,
    names: RawColumn<'a, 's>,
    name_offsets: RawColumn<'a, 's>,
    name_bytes: u64,
    lengths: RawColumn<'a, 's>,
    hashes: RawColumn<'a, 's>,
}

pub(super) fn write(export: &Export<'_, '_>) -> Result<ExportReport> {
    let totals = export.totals(true)?;
    let container = export.container()?;
    let column = |name: &str, elements| {
        container.reserve(&format!("{TABLE}/{name}"), elements).map(|at| RawColumn::new(export, at))
    };
    let names = column("name", Elements::Bytes(totals.name_bytes))?;
    let name_offsets = column("name_offset", Elements::Numbers(totals.count + 1))?;
    let lengths = column("length", Elements::Numbers(totals.count))?;
    let hashes = column("sha1", Elements::Rows(totals.count, HASH_BYTES))?;
    let known = HashMap::new();
    let mut by_hash = ByHash { export, container, known, names, name_offsets, name_bytes: 0, lengths, hashes };
    let report = each_item(export, &mut by_hash)?;
    let ByHash { container, names, mut name_offsets, name_bytes, lengths, hashes, .. } = by_hash;
    container.finish()?;
    name_offsets.number(name_bytes)?;
    names.finish()?;
    name_offsets.finish()?;
    lengths.finish()?;
    hashes.finish()?;
    Ok(report)
}

impl ByHash<'_, '_> {
    fn tell(&mut self, entry: &Entry, hash: &[u8; HASH_BYTES]) -> Result<()> {
        let path = entry.path.as_bytes();
        self.name_offsets.number(self.name_bytes)?;
        self.name_bytes += path.len() as u64;
        self.names.bytes(path)?;
        self.lengths.number(entry.size)?;
        self.hashes.bytes(hash)
    }
}

impl Receive for ByHash<'_, '_> {
    const SMALL_BYTES_MAX: u64 = COMPACT_BYTES_MAX;
    const AGAIN_IS_ITEM: bool = true;

    fn small(&mut self, entry: &Entry, bytes: &[u8]) -> Result<()> {
        let mut sha1 = Sha1::default();
        sha1.update(bytes);
        let hash = sha1.finish();
        let name = hex(&hash);
        if !self.container.has(&name) {
            self.container.put(&name, bytes)?;
        }
        self.tell(entry, &hash)
    }

    fn large(&mut self, entry: &Entry, layout: &Layout) -> Result<()> {
        if let Some(hash) = self.known.get(&entry.content).copied() {
            return self.tell(entry, &hash);
        }
        let mut stream = self.container.stream(UNNAMED, entry.size, self.export.options.compress)?;
        let mut sha1 = Sha1::default();
        self.export.stream(layout, &mut TeeWriter { to: &mut stream, tell: |bytes: &[u8]| sha1.update(bytes) })?;
        stream.finish().map_err(|source| self.export.failed(source))?;
        let hash = sha1.finish();
        let name = hex(&hash);
        // The same content, kept in other chunks.
        match self.container.has(&name) {
            true => self.container.remove(UNNAMED)?,
            false => self.container.rename(UNNAMED, &name)?,
        }
        // A member of an archive does not tell its content.
        if entry.content != Content::Empty && self.known.len() < KNOWN_MAX {
            self.known.insert(entry.content, hash);
        }
        self.tell(entry, &hash)
    }
}
