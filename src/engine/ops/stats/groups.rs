//! What do files of one kind cost, by their labels? Each group's own bytes, and those that it shares with others.
//!
//! Exact: a chunk is in the groups of all files that have it, in whichever snapshot. Few different sets of groups occur,
//! so each is numbered, and a chunk keeps the number of its set. Memory: about 60 bytes a distinct content and 4 a chunk.

use std::collections::HashMap;
use std::sync::Arc;

use serde::Serialize;

use super::interrupted;
use crate::engine::Store;
use crate::engine::store::control::Control;
use crate::error::Result;
use crate::format::entry::{Content, EntryKind};
use crate::format::frame::FRAME_HEADER_BYTES;
use crate::format::id::PackId;
use crate::format::label::Labels;
use crate::format::name::{ObjectKind, ObjectName};
use crate::pack::reader::read_directory;

/// What files cost, grouped by labels. All sizes in bytes.
///
/// ```
/// # use seamstore::{Control, Store, entry::*, report::*, request::*};
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let store = Store::in_memory(Settings::default())?;
/// # let writer = store.writer(WriterOptions::default().threads(1))?;
/// # writer.add_bytes(writer.entry("notes/first.txt", EntryKind::File)?, b"found again".to_vec())?;
/// # let added = writer.finish()?;
/// # let control = Control::default();
/// let stats = store.group_stats(&["split".to_owned()], &control)?;
/// // No file has such a label.
/// assert_eq!((stats.groups[0].values[0].as_deref(), stats.groups[0].own.bytes), (None, 11));
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct GroupStats {
    /// The keys of the labels.
    pub by: Vec<String>,
    /// The groups, the one with the most stored bytes of its own first.
    pub groups: Vec<GroupPart>,
}

/// The files of all snapshots whose labels have the same values.
///
/// ```
/// # use seamstore::{Control, Store, entry::*, report::*, request::*};
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let store = Store::in_memory(Settings::default())?;
/// # let writer = store.writer(WriterOptions::default().threads(1))?;
/// # writer.add_bytes(writer.entry("notes/first.txt", EntryKind::File)?, b"found again".to_vec())?;
/// # let added = writer.finish()?;
/// # let control = Control::default();
/// let stats = store.group_stats(&["split".to_owned()], &control)?;
/// // No file has such a label.
/// assert_eq!((stats.groups[0].values[0].as_deref(), stats.groups[0].own.bytes), (None, 11));
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct GroupPart {
    /// The value for each key of [`GroupStats::by`]; `None` for files without such a label.
    pub values: Vec<Option<String>>,
    /// Files.
    pub files: u64,
    /// Their bytes, holes included.
    pub logical_bytes: u64,
    /// Chunks that no other group has.
    pub own: GroupChunks,
    /// Chunks that another group has too: these are counted in each.
    pub shared: GroupChunks,
}

/// Some distinct chunks.
///
/// ```
/// # use seamstore::{Control, Store, entry::*, report::*, request::*};
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let store = Store::in_memory(Settings::default())?;
/// # let writer = store.writer(WriterOptions::default().threads(1))?;
/// # writer.add_bytes(writer.entry("notes/first.txt", EntryKind::File)?, b"found again".to_vec())?;
/// # let added = writer.finish()?;
/// # let control = Control::default();
/// let stats = store.group_stats(&["split".to_owned()], &control)?;
/// // No file has such a label.
/// assert_eq!((stats.groups[0].values[0].as_deref(), stats.groups[0].own.bytes), (None, 11));
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct GroupChunks {
    /// How many.
    pub chunks: u64,
    /// Their bytes.
    pub bytes: u64,
    /// What they take in packs: their shares of their frames.
    pub stored_bytes: u64,
}

impl GroupChunks {
    fn add(&mut self, more: &Self) {
        self.chunks += more.chunks;
        self.bytes += more.bytes;
        self.stored_bytes += more.stored_bytes;
    }
}

/// Sets of groups, each with a number. Number 0 is the empty set.
struct Sets {
    list: Vec<Arc<[u32]>>,
    numbers: HashMap<Arc<[u32]>, u32>,
    /// Unions made before.
    unions: HashMap<(u32, u32), u32>,
}

impl Sets {
    fn new() -> Self {
        let empty: Arc<[u32]> = Arc::default();
        Self { list: vec![Arc::clone(&empty)], numbers: HashMap::from([(empty, 0)]), unions: HashMap::new() }
    }

    fn number(&mut self, set: Arc<[u32]>) -> u32 {
        *self.numbers.entry(set).or_insert_with_key(|set| {
            self.list.push(Arc::clone(set));
            (self.list.len() - 1) as u32
        })
    }

    fn groups(&self, number: u32) -> &[u32] {
        self.list.get(number as usize).map_or(&[], |set| set)
    }

    fn union(&mut self, a: u32, b: u32) -> u32 {
        if a == b || b == 0 {
            return a;
        }
        let pair = (a.min(b), a.max(b));
        if let Some(known) = self.unions.get(&pair) {
            return *known;
        }
        let mut all: Vec<u32> = self.groups(a).iter().chain(self.groups(b)).copied().collect();
        all.sort_unstable();
        all.dedup();
        let number = self.number(all.into());
        self.unions.insert(pair, number);
        number
    }
}

/// The groups met so far.
#[derive(Default)]
struct Groups {
    places: HashMap<Vec<Option<Arc<str>>>, u32>,
    list: Vec<GroupPart>,
}

impl Groups {
    fn of(&mut self, by: &[String], labels: &Labels) -> u32 {
        let values = by.iter().map(|key| labels.get(key).map(Arc::from)).collect();
        *self.places.entry(values).or_insert_with_key(|values| {
            let values = values.iter().map(|value| value.as_deref().map(str::to_owned)).collect();
            self.list.push(GroupPart { values, ..GroupPart::default() });
            (self.list.len() - 1) as u32
        })
    }
}

impl Store {
    /// Counts what the files of all snapshots cost, grouped by the values of labels with these keys.
    ///
    /// # Errors
    /// [`Error::Damaged`](crate::Error::Damaged) if a snapshot, a recipe or a pack's directory is damaged or missing;
    /// [`Error::Io`](crate::Error::Io); [`Error::Interrupted`](crate::Error::Interrupted).
    pub fn group_stats(&self, by: &[String], control: &Control) -> Result<GroupStats> {
        self.unless_removing(|| self.count_groups(by, control))
    }

    fn count_groups(&self, by: &[String], control: &Control) -> Result<GroupStats> {
        let chunk_index = self.chunk_index()?;
        let (mut groups, mut sets) = (Groups::default(), Sets::new());
        let mut contents: HashMap<Content, (u32, u64)> = HashMap::new();
        let list = self.snapshot_list()?;
        control.pass_over(&list.unreadable);
        for snapshot in list.snapshots {
            let Some(opened) = self.open_or_pass_over(snapshot.id, control)? else { continue };
            for entry in opened.entries() {
                let entry = entry?;
                if control.is_stopped() {
                    return Err(interrupted());
                }
                if entry.kind != EntryKind::File {
                    continue;
                }
                let place = groups.of(by, &entry.labels);
                if let Some(group) = groups.list.get_mut(place as usize) {
                    group.files += 1;
                    group.logical_bytes = group.logical_bytes.saturating_add(entry.size);
                }
                if entry.content != Content::Empty {
                    let alone = sets.number([place].into());
                    let (known, _) = contents.entry(entry.content).or_insert((alone, entry.size));
                    *known = sets.union(*known, alone);
                }
            }
        }
        let mut packs = HashMap::new();
        for object in self.storage().list(ObjectKind::Pack)? {
            if let ObjectName::Pack(id) = object.name {
                let directory = read_directory(self.storage(), id)?;
                let holders = vec![0_u32; directory.chunks.len()];
                packs.insert(id, (directory, holders));
            }
        }
        for (content, (set, size)) in contents {
            if control.is_stopped() {
                return Err(interrupted());
            }
            let mut start = 0;
            for piece in chunk_index.stored_pieces(content, size)? {
                if !piece.is_hole() {
                    let (location, _) = chunk_index.locate(&piece.id, piece.end - start)?;
                    let holders = packs.get_mut(&location.pack).map(|(_, holders)| holders);
                    if let Some(known) = holders.and_then(|holders| holders.get_mut(location.chunk as usize)) {
                        *known = sets.union(set, *known);
                    }
                }
                start = piece.end;
            }
        }
        for (set, part) in add_up(&packs) {
            let holders = sets.groups(set);
            for place in holders {
                if let Some(group) = groups.list.get_mut(*place as usize) {
                    if holders.len() == 1 { group.own.add(&part) } else { group.shared.add(&part) }
                }
            }
        }
        let mut groups = groups.list;
        groups.sort_by(|a, b| b.own.stored_bytes.cmp(&a.own.stored_bytes).then_with(|| a.values.cmp(&b.values)));
        Ok(GroupStats { by: by.to_vec(), groups })
    }
}

/// What the chunks of each set come to.
fn add_up(packs: &HashMap<PackId, (crate::format::directory::Directory, Vec<u32>)>) -> HashMap<u32, GroupChunks> {
    let mut parts: HashMap<u32, GroupChunks> = HashMap::new();
    for (directory, holders) in packs.values() {
        for frame in &directory.frames {
            let header = FRAME_HEADER_BYTES as u64 + 4 * u64::from(frame.chunk_count);
            let payload = u64::from(frame.stored_bytes).saturating_sub(header);
            let holders = holders.get(frame.first_chunk as usize..).unwrap_or_default();
            for (chunk, set) in directory.chunks_of(frame).iter().zip(holders) {
                let bytes = u64::from(chunk.length);
                // Its share of the frame; shares of a frame are rounded down.
                let stored_bytes = payload * bytes / u64::from(frame.raw_bytes).max(1);
                parts.entry(*set).or_default().add(&GroupChunks { chunks: 1, bytes, stored_bytes });
            }
        }
    }
    parts
}
