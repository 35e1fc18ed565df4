//! One array for each path. What is too large for a header is only given its place at first; the bytes of all of these are
//! put there at the end, as those of a restore are.

use std::collections::HashMap;

use super::Export;
use super::in_order::{Receive, each_item};
use crate::arrays::hdf5::{COMPACT_BYTES_MAX, Elements, Hdf5};
use crate::arrays::links::LinkNames;
use crate::engine::ops::export::ExportReport;
use crate::engine::ops::export::items::{Role, Row, layout_of};
use crate::engine::read::layout::Layout;
use crate::engine::read::payload::{Placed, place_contents};
use crate::error::Result;
use crate::format::entry::{Entry, EntryPath};

struct Compact<'a, 's> {
    export: &'a Export<'a, 's>,
    container: Hdf5,
    names: LinkNames,
    /// What files that have several names are called, by their first.
    first_names: HashMap<EntryPath, String>,
    /// Where the large ones go, in their order.
    places: Vec<u64>,
}

pub(super) fn write(export: &Export<'_, '_>) -> Result<ExportReport> {
    let container = export.container()?;
    let names = LinkNames::default();
    let mut compact = Compact { export, container, names, first_names: HashMap::new(), places: Vec::new() };
    let report = each_item(export, &mut compact)?;
    let Compact { container, places, .. } = compact;
    container.finish()?;
    place_large(export, places)?;
    Ok(report)
}

impl Compact<'_, '_> {
    fn name(&mut self, entry: &Entry) -> String {
        let name = self.names.name(&entry.path);
        if entry.identity.links > 1 {
            self.first_names.insert(entry.path.clone(), name.clone());
        }
        name
    }

    /// A name that is not the path says which path it is.
    fn tell(&self, name: &str, entry: &Entry) -> Result<()> {
        let path = entry.path.as_bytes();
        if name.as_bytes() == path { Ok(()) } else { self.container.tell_path(name, path) }
    }
}

impl Receive for Compact<'_, '_> {
    const SMALL_BYTES_MAX: u64 = COMPACT_BYTES_MAX;

    fn small(&mut self, entry: &Entry, bytes: &[u8]) -> Result<()> {
        let name = self.name(entry);
        self.container.put(&name, bytes)?;
        self.tell(&name, entry)
    }

    fn large(&mut self, entry: &Entry, layout: &Layout) -> Result<()> {
        let name = self.name(entry);
        if is_placed(self.export, layout) {
            self.places.push(self.container.reserve(&name, Elements::Bytes(entry.size))?);
        } else {
            let mut stream = self.container.stream(&name, entry.size, self.export.options.compress)?;
            self.export.stream(layout, &mut stream)?;
            stream.finish().map_err(|source| self.export.failed(source))?;
        }
        self.tell(&name, entry)
    }

    fn again(&mut self, entry: &Entry, first: &EntryPath) -> Result<bool> {
        let name = self.names.name(&entry.path);
        let Some(first) = self.first_names.get(first) else { return Ok(false) };
        self.container.link_again(first, &name).map(|()| true)
    }
}

/// Whether a large file is put in its place at the end. One with holes is not: where the library sets a place aside, there
/// may have been something before.
fn is_placed(export: &Export<'_, '_>, layout: &Layout) -> bool {
    export.options.compress.is_none() && !layout.has_holes()
}

fn place_large(export: &Export<'_, '_>, places: Vec<u64>) -> Result<()> {
    if places.is_empty() {
        return Ok(());
    }
    let mut places = places.into_iter();
    let contents = export.rows()?.filter_map(|row| match row {
        Ok(Row { entry, role: Role::Item(place, member) }) if entry.size > COMPACT_BYTES_MAX => {
            let layout = match layout_of(member, &entry, export.chunk_index) {
                Ok(layout) => Some(layout).filter(|layout| is_placed(export, layout))?,
                Err(error) => return Some(Err(error)),
            };
            places.next().map(|offset| Ok(Placed { item: place.item, offset, path: entry.path, layout }))
        }
        Ok(_) => None,
        Err(error) => Some(Err(error)),
    });
    place_contents(export.target(0), contents, None)
}
