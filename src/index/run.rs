//! How do sorted (id, value) pairs lie in a file, so that one file says by itself what it covers?
//!
//! A *run* is a file that never changes: the entries of some sources (packs, or recipes files), sorted by the first 8
//! bytes of their ids, which are uniform. (In a B-tree nearly every new entry would rewrite a page of its own.) A run is
//! written front to back and read by offset, so it could as well be an object of an object store.
//!
//! Invariants: a page is believed only with its checksum and in its place; a length is compared with the file before
//! it sizes an allocation; a source that the run lists has all its entries in it. A run that was forged can break the
//! last one and no other: then entries are missing, or name a source that does not have the id.
//!
//! ```text
//! offset     size        run file, fixed-width little-endian integers
//! 0                      the groups, by ascending ids; each:
//!              16 + E n    entry pages of 340 chunks or 204 recipes; the last one is shorter
//!            16 + 64 b + 8 p    filter: b blocks (see `filter`), then the first prefix of each of the p entry pages
//!            4 g         number of entries of each of the g groups
//!            36 s        sources: id (32), number of entries of that source (4)
//!            96          footer
//!
//! offset     size        entry of E bytes, ascending by prefix
//! 0          8           prefix: the first 8 bytes of the id as a big-endian number, stored little-endian
//! 8          4           source: its position in the table of sources
//! 12         0 or 8      of a recipe: batch (4), row (4)
//!
//! offset     size        the end of each page
//! 0          8           tag of the run + offset of the page
//! 8          8           the first bytes of the BLAKE3 of all of the page that is before
//!
//! offset     size        footer
//! 0          8           magic "SEAMRUN1"
//! 8          1           kind: 0 chunks, 1 recipes
//! 9          1           bytes of the prefix: 8
//! 10         2           zero
//! 12         4           number of sources
//! 16         16          key of the store
//! 32         8           tag: a random number
//! 40         8           number of entries
//! 48         8           number of filter blocks
//! 56         8           zero
//! 64         16          the first bytes of the BLAKE3 of the tables of groups and sources
//! 80         16          the same of the 80 bytes before
//! ```

use std::io;
use std::sync::{Arc, OnceLock};

use super::filter::{BLOCK_BYTES, GroupFilter, Shape};
use crate::storage::disk::ReadFile;

const MAGIC: [u8; 8] = *b"SEAMRUN1";
const PREFIX_BYTES: u8 = 8;
pub(super) const FOOTER_BYTES: usize = 96;
const SOURCE_BYTES: usize = 36;
pub(super) const PAGE_BYTES: usize = 4096;
/// Bytes at the end of each page.
pub(super) const SEAL_BYTES: usize = 16;
/// Length of the longest run, and of the longest tables, in bytes: bounds on the memory that a file of holes can take.
/// Runs that would be longer are not merged.
pub(super) const RUN_BYTES_MAX: u64 = 16 << 30;
const TABLES_BYTES_MAX: u64 = 256 << 20;

/// What keeps the runs of one store apart from those of another.
pub type StoreKey = [u8; 16];

/// What an entry says besides its source.
pub(super) trait Value: Copy + Ord + std::fmt::Debug + Send + Sync + 'static {
    /// The kind of a run with such entries, as its footer has it.
    const KIND: u8;
    /// How the names of its files end.
    const EXTENSION: &'static str;
    /// Bytes it takes on disk.
    const BYTES: usize;
    /// Appends those bytes.
    fn put(self, out: &mut Vec<u8>);
    /// Reads them back; `bytes` has `BYTES`.
    fn get(bytes: &[u8]) -> Self;
}

/// One pair.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Entry<V> {
    pub(super) prefix: u64,
    pub(super) source: u32,
    pub(super) value: V,
}

impl<V: Value> Entry<V> {
    pub(super) const BYTES: usize = 12 + V::BYTES;
    /// Entries in a full page, which they fill.
    pub(super) const PER_PAGE: usize = {
        assert!((PAGE_BYTES - SEAL_BYTES).is_multiple_of(Self::BYTES));
        (PAGE_BYTES - SEAL_BYTES) / Self::BYTES
    };

    pub(super) fn put(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.prefix.to_le_bytes());
        out.extend_from_slice(&self.source.to_le_bytes());
        self.value.put(out);
    }

    fn get(bytes: &[u8]) -> Option<Self> {
        let (prefix, rest) = bytes.split_first_chunk()?;
        let (source, value) = rest.split_first_chunk()?;
        Some(Self { prefix: u64::from_le_bytes(*prefix), source: u32::from_le_bytes(*source), value: V::get(value) })
    }
}

/// A pack or recipes file whose entries are in a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Source {
    pub(super) id: [u8; 32],
    pub(super) entries: u32,
}

/// What a footer says.
#[derive(Debug, Clone, Copy)]
pub(super) struct Footer {
    pub(super) kind: u8,
    pub(super) sources: u32,
    pub(super) store: StoreKey,
    pub(super) tag: u64,
    pub(super) entries: u64,
    pub(super) shape: Shape,
}

impl Footer {
    /// Appends the footer to the tables it stands behind.
    pub(super) fn put(&self, tables: &mut Vec<u8>) {
        let sum = sum_of(tables);
        let start = tables.len();
        tables.extend_from_slice(&MAGIC);
        tables.extend_from_slice(&[self.kind, PREFIX_BYTES, 0, 0]);
        tables.extend_from_slice(&self.sources.to_le_bytes());
        tables.extend_from_slice(&self.store);
        for word in [self.tag, self.entries, self.shape.blocks, 0] {
            tables.extend_from_slice(&word.to_le_bytes());
        }
        tables.extend_from_slice(&sum);
        let sum = sum_of(tables.get(start..).unwrap_or_default());
        tables.extend_from_slice(&sum);
    }

    /// The footer, and the checksum of the tables.
    fn get(bytes: &[u8; FOOTER_BYTES]) -> Result<(Self, [u8; 16]), String> {
        let word = |at: usize| number(bytes, at);
        let [checked @ .., _, _, _, _, _, _, _, _, _, _, _, _, _, _, _, _] = bytes;
        if !bytes.starts_with(&MAGIC) || !bytes.ends_with(&sum_of(checked)) {
            return Err("its last 96 bytes are not the footer of a run of this version".into());
        }
        let [kind, prefix_bytes, ..] = word(8).to_le_bytes();
        let array = |at: usize| bytes.get(at..).and_then(<[u8]>::first_chunk).copied().unwrap_or_default();
        let shape = Shape { blocks: word(48) };
        let sources = (word(8) >> 32) as u32;
        let footer = Self { kind, sources, store: array(16), tag: word(32), entries: word(40), shape };
        if prefix_bytes != PREFIX_BYTES || shape.blocks == 0 {
            return Err("its footer has values that this version does not write".into());
        }
        Ok((footer, array(64)))
    }
}

fn number(bytes: &[u8], at: usize) -> u64 {
    bytes.get(at..).and_then(<[u8]>::first_chunk).map_or(0, |bytes| u64::from_le_bytes(*bytes))
}

/// A checksum: it finds damage. Trust comes from the directories of packs.
fn sum_of(bytes: &[u8]) -> [u8; 16] {
    blake3::hash(bytes).as_bytes().first_chunk().copied().unwrap_or_default()
}

/// Ends a page that will be at `offset` in the file.
pub(super) fn seal(page: &mut Vec<u8>, tag: u64, offset: u64) {
    page.extend_from_slice(&tag.wrapping_add(offset).to_le_bytes());
    let [sum @ .., _, _, _, _, _, _, _, _] = sum_of(page);
    page.extend_from_slice(&sum);
}

/// A group, as the run's tables describe it.
#[derive(Debug)]
struct Group {
    offset: u64,
    entries: u32,
    /// Read when it is first needed.
    filter: OnceLock<Loaded>,
}

#[derive(Debug)]
struct Loaded {
    filter: GroupFilter,
    /// The first prefix of each entry page.
    fences: Box<[u64]>,
}

impl Group {
    fn pages<V: Value>(&self) -> usize {
        (self.entries as usize).div_ceil(Entry::<V>::PER_PAGE)
    }

    /// Bytes of its entry pages.
    fn entry_bytes<V: Value>(&self) -> u64 {
        u64::from(self.entries) * Entry::<V>::BYTES as u64 + (self.pages::<V>() * SEAL_BYTES) as u64
    }

    /// Where an entry page is, and its length in bytes.
    fn page<V: Value>(&self, page: usize) -> (u64, usize) {
        let before = page * Entry::<V>::PER_PAGE;
        let entries = (self.entries as usize).saturating_sub(before).min(Entry::<V>::PER_PAGE);
        let offset = self.offset + (before * Entry::<V>::BYTES + page * SEAL_BYTES) as u64;
        (offset, entries * Entry::<V>::BYTES + SEAL_BYTES)
    }
}

/// A run, open to be asked.
#[derive(Debug)]
pub(super) struct Run<V> {
    file: Arc<dyn ReadFile>,
    tag: u64,
    pub(super) entries: u64,
    /// Length of the file.
    pub(super) bytes: u64,
    shape: Shape,
    groups: Box<[Group]>,
    value: std::marker::PhantomData<V>,
}

impl<V: Value> Run<V> {
    /// Opens a run of this store, and returns its sources.
    ///
    /// # Errors
    /// Why the file cannot be used.
    pub(super) fn open(file: Arc<dyn ReadFile>, bytes: u64, store: &StoreKey) -> Result<(Self, Vec<Source>), String> {
        let mut end = [0; FOOTER_BYTES];
        let tables_end = bytes.checked_sub(FOOTER_BYTES as u64).ok_or("it is shorter than a footer")?;
        if bytes > RUN_BYTES_MAX {
            return Err(format!("it has {bytes} bytes, and a run has at most {RUN_BYTES_MAX}"));
        }
        read_exact(&*file, tables_end, &mut end)?;
        let (footer, sum) = Footer::get(&end)?;
        if footer.kind != V::KIND || footer.store != *store {
            return Err("it is of another kind or of another store".into());
        }
        let groups = footer.shape.groups();
        let sources_bytes = u64::from(footer.sources) * SOURCE_BYTES as u64;
        let tables_bytes = groups.saturating_mul(4).saturating_add(sources_bytes);
        let groups_end = tables_end.checked_sub(tables_bytes).ok_or("its tables are longer than the file")?;
        if tables_bytes > TABLES_BYTES_MAX {
            return Err(format!("its tables have {tables_bytes} bytes, and may have {TABLES_BYTES_MAX}"));
        }
        let mut tables = vec![0; tables_bytes as usize];
        read_exact(&*file, groups_end, &mut tables)?;
        if sum_of(&tables) != sum {
            return Err("the checksum of its tables is wrong".into());
        }
        let (sizes, sources) = tables.split_at(groups as usize * 4);
        let mut run = Self {
            file,
            tag: footer.tag,
            entries: footer.entries,
            bytes,
            shape: footer.shape,
            groups: Box::default(),
            value: std::marker::PhantomData,
        };
        let (mut offset, mut entries) = (0u64, 0);
        let group = |(number, size): (usize, &[u8; 4])| {
            let group = Group { offset, entries: u32::from_le_bytes(*size), filter: OnceLock::new() };
            let filter_bytes = run.filter_bytes(number, group.pages::<V>());
            offset = offset.saturating_add(group.entry_bytes::<V>()).saturating_add(filter_bytes);
            entries += u64::from(group.entries);
            group
        };
        let groups: Box<[Group]> = sizes.as_chunks::<4>().0.iter().enumerate().map(group).collect();
        if offset != groups_end || entries != run.entries {
            return Err(format!(
                "its groups take {offset} bytes and have {entries} entries, its footer says otherwise"
            ));
        }
        run.groups = groups;
        let source = |bytes: &[u8; SOURCE_BYTES]| {
            let (id, entries) = bytes.split_first_chunk()?;
            Some(Source { id: *id, entries: u32::from_le_bytes(*entries.first_chunk()?) })
        };
        let sources = sources.as_chunks::<SOURCE_BYTES>().0.iter().filter_map(source).collect();
        Ok((run, sources))
    }

    fn filter_bytes(&self, group: usize, pages: usize) -> u64 {
        (self.shape.blocks_in(group) * BLOCK_BYTES + pages * 8 + SEAL_BYTES) as u64
    }

    /// Whether there may be an entry with this prefix.
    ///
    /// # Errors
    /// Why the run cannot be used.
    #[inline]
    pub(super) fn may_contain(&self, prefix: u64) -> Result<bool, String> {
        let position = self.shape.position(prefix);
        let Some(group) = self.groups.get(position.group) else { return Ok(true) };
        Ok(self.loaded(position.group, group)?.filter.may_contain(position))
    }

    #[inline]
    fn loaded<'g>(&self, number: usize, group: &'g Group) -> Result<&'g Loaded, String> {
        match group.filter.get() {
            Some(loaded) => Ok(loaded),
            None => self.load(number, group),
        }
    }

    #[cold]
    fn load<'g>(&self, number: usize, group: &'g Group) -> Result<&'g Loaded, String> {
        let offset = group.offset + group.entry_bytes::<V>();
        let mut bytes = vec![0; self.filter_bytes(number, group.pages::<V>()) as usize];
        let content = self.read_page(offset, &mut bytes)?;
        let (filter, fences) = content.split_at(self.shape.blocks_in(number) * BLOCK_BYTES);
        let fences = fences.as_chunks::<8>().0.iter().map(|bytes| u64::from_le_bytes(*bytes)).collect();
        Ok(group.filter.get_or_init(|| Loaded { filter: GroupFilter::get(filter), fences }))
    }

    /// Fills `page` with a page and returns what it has before its seal.
    fn read_page<'b>(&self, offset: u64, page: &'b mut [u8]) -> Result<&'b [u8], String> {
        read_exact(&*self.file, offset, page)?;
        let wrong = || format!("the page at byte {offset} has a wrong checksum");
        let (checked, sum) = page.split_last_chunk::<8>().ok_or_else(wrong)?;
        let (content, tag) = checked.split_last_chunk::<8>().ok_or_else(wrong)?;
        let is_whole = sum_of(checked).starts_with(sum) && *tag == self.tag.wrapping_add(offset).to_le_bytes();
        if is_whole { Ok(content) } else { Err(wrong()) }
    }

    /// Reads an entry page, and appends the entries.
    fn read_entries(&self, group: &Group, page: usize, entries: &mut Vec<Entry<V>>) -> Result<(), String> {
        let (offset, bytes) = group.page::<V>(page);
        let mut buffer = [0; PAGE_BYTES];
        let content = self.read_page(offset, buffer.get_mut(..bytes).unwrap_or_default())?;
        entries.extend(content.chunks_exact(Entry::<V>::BYTES).filter_map(Entry::get));
        Ok(())
    }

    /// Appends the (source, value) of every entry with this prefix to `found`.
    ///
    /// # Errors
    /// Why the run cannot be used.
    pub(super) fn find(&self, prefix: u64, found: &mut Vec<(u32, V)>) -> Result<(), String> {
        let position = self.shape.position(prefix);
        let Some(group) = self.groups.get(position.group) else { return Ok(()) };
        let loaded = self.loaded(position.group, group)?;
        if !loaded.filter.may_contain(position) {
            return Ok(());
        }
        // Entries with this prefix may begin in the page before the first one that begins with it.
        let first = loaded.fences.partition_point(|fence| *fence < prefix).saturating_sub(1);
        let fences = loaded.fences.iter().enumerate().skip(first);
        let mut entries = Vec::with_capacity(Entry::<V>::PER_PAGE);
        for (page, _) in fences.take_while(|(_, fence)| **fence <= prefix) {
            entries.clear();
            self.read_entries(group, page, &mut entries)?;
            let same = entries.iter().filter(|entry| entry.prefix == prefix);
            found.extend(same.map(|entry| (entry.source, entry.value)));
            found.dedup();
        }
        Ok(())
    }

    /// Bytes of memory that the filter and the fences take, as far as they were read.
    pub(super) fn filter_memory(&self) -> u64 {
        let loaded = self.groups.iter().enumerate().filter(|(_, group)| group.filter.get().is_some());
        loaded.map(|(number, group)| self.filter_bytes(number, group.pages::<V>())).sum()
    }
}

fn read_exact(file: &dyn ReadFile, offset: u64, buffer: &mut [u8]) -> Result<(), String> {
    let mut filled = 0;
    while let Some(rest) = buffer.get_mut(filled..).filter(|rest| !rest.is_empty()) {
        let at = offset + filled as u64;
        match file.read_at(at, rest) {
            Ok(0) => return Err(format!("it ends at byte {at}")),
            Ok(count) => filled += count,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(format!("reading at byte {at}: {e}")),
        }
    }
    Ok(())
}

/// Reads a run front to back.
pub(super) struct Sweep<'r, V> {
    run: &'r Run<V>,
    /// What its sources become; entries of a source that becomes `None` are left out.
    sources: &'r [Option<u32>],
    group: usize,
    page: usize,
    /// The entries of the page before, and how many of them were returned.
    entries: Vec<Entry<V>>,
    returned: usize,
    last: u64,
}

impl<'r, V: Value> Sweep<'r, V> {
    pub(super) fn new(run: &'r Run<V>, sources: &'r [Option<u32>]) -> Self {
        Self { run, sources, group: 0, page: 0, entries: Vec::new(), returned: 0, last: 0 }
    }

    /// The next entry. Entries ascend by prefix.
    ///
    /// # Errors
    /// Why the run cannot be used.
    pub(super) fn next(&mut self) -> Result<Option<Entry<V>>, String> {
        loop {
            while let Some(entry) = self.entries.get(self.returned) {
                self.returned += 1;
                if entry.prefix < self.last || self.run.shape.position(entry.prefix).group != self.group {
                    return Err(format!(
                        "page {} of group {} has entries that belong elsewhere",
                        self.page, self.group
                    ));
                }
                self.last = entry.prefix;
                if let Some(source) = self.sources.get(entry.source as usize).copied().flatten() {
                    return Ok(Some(Entry { source, ..*entry }));
                }
            }
            let Some(group) = self.run.groups.get(self.group) else { return Ok(None) };
            self.entries.clear();
            self.returned = 0;
            if self.page < group.pages::<V>() {
                self.run.read_entries(group, self.page, &mut self.entries)?;
                self.page += 1;
            } else {
                (self.group, self.page) = (self.group + 1, 0);
            }
        }
    }
}
