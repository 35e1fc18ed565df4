//! Which entries of a snapshot have a place in arrays, and where? Files, in path order: the first is item 0.
//!
//! Invariants: places depend on the entries alone, so every pass over them finds the same; contents lie one behind the
//! other without a gap.

use std::collections::HashMap;

use crate::engine::read::layout::Layout;
use crate::engine::read::resolve::Item;
use crate::engine::store::chunk_index::ChunkIndex;
use crate::error::{Error, Result};
use crate::format::entry::{Content, Entry, EntryKind, EntryPath};

/// Which item a file is, and where its bytes begin.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct ItemPosition {
    /// Counted from 0.
    pub(super) item: u64,
    /// In bytes from the first item's.
    pub(super) offset: u64,
}

/// An entry, and its place.
pub(super) struct Row {
    pub(super) entry: Entry,
    pub(super) role: Role,
}

/// What an entry is to arrays.
pub(super) enum Role {
    /// A file, and where its bytes are if it is a member of an archive.
    Item(ItemPosition, Option<Result<Layout>>),
    /// A further name of a file, with the place that the first has, and that name; the rest as of an item.
    Again(
        ItemPosition,
        EntryPath,
        #[cfg_attr(not(feature = "hdf5"), expect(dead_code, reason = "an HDF5 layout alone reads them as items"))]
        Option<Result<Layout>>,
    ),
    /// No file.
    Other,
    /// A file that cannot be had, though nothing is damaged; why.
    LeftOut(String),
}

/// What names of one file have in common. Rows can be made up: more than device and inode.
type Identity = (u64, u64, u64, Content);

/// The entries of a snapshot with their places.
pub(super) struct Rows<I> {
    items: I,
    next: ItemPosition,
    first_names: HashMap<Identity, (ItemPosition, EntryPath)>,
}

impl<I> Rows<I> {
    pub(super) fn new(items: I) -> Self {
        Self { items, next: ItemPosition::default(), first_names: HashMap::new() }
    }

    /// Where an item after the last so far would be: how many items there are, and how many bytes.
    pub(super) fn end(&self) -> ItemPosition {
        self.next
    }

    fn row(&mut self, Item { entry, member }: Item) -> Result<Row> {
        if entry.kind != EntryKind::File {
            return Ok(Row { entry, role: Role::Other });
        }
        let identity = &entry.identity;
        let identity = (identity.links > 1).then_some((identity.device, identity.inode, entry.size, entry.content));
        if let Some((place, first)) = identity.and_then(|identity| self.first_names.get(&identity)) {
            let role = Role::Again(*place, first.clone(), member);
            return Ok(Row { entry, role });
        }
        if let Some(Err(Error::NotInArchive(why))) = member {
            return Ok(Row { entry, role: Role::LeftOut(why) });
        }
        let place = self.next;
        let too_many = || {
            let what = "and the files before it have 2^64 bytes or more, which no arrays hold: export fewer files";
            Error::Usage(format!("{:?} {what}", entry.path))
        };
        let offset = place.offset.checked_add(entry.size).ok_or_else(too_many)?;
        self.next = ItemPosition { item: place.item + 1, offset };
        if let Some(identity) = identity {
            self.first_names.insert(identity, (place, entry.path.clone()));
        }
        Ok(Row { entry, role: Role::Item(place, member) })
    }
}

impl<I: Iterator<Item = Result<Item>>> Iterator for Rows<I> {
    type Item = Result<Row>;

    fn next(&mut self) -> Option<Self::Item> {
        let item = self.items.next()?;
        Some(item.and_then(|item| self.row(item)))
    }
}

/// Where the bytes of an item are.
///
/// # Errors
/// [`Error::Damaged`], also if they are not as many as its entry says.
pub(super) fn layout_of(member: Option<Result<Layout>>, entry: &Entry, chunk_index: &ChunkIndex<'_>) -> Result<Layout> {
    let layout = Item::layout(member, entry, chunk_index)?;
    if layout.bytes() != entry.size {
        let what = format!("{:?} of {} bytes has {}", entry.path, entry.size, layout.bytes());
        return Err(Error::damaged_whole("snapshots", what));
    }
    Ok(layout)
}
