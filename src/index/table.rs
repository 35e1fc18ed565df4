//! How do runs and the list of what they cover lie in the database? The only door to redb.
//!
//! Invariant: what one [`Change`] does is seen whole or not at all, so an owner that is listed has all its entries in
//! the runs.
//!
//! ```text
//! table                 key                value
//! about                 name: str          u64: of "version", "chunks next owner", "recipes next owner"
//! SIDE owners           owner number: u32  the 32 bytes of a pack's or recipes file's id, then its entries: u32
//! SIDE runs             run number: u32    entries the run is shaped for: u64, entries: u64, blocks of the filter: u64
//! SIDE N                bucket: u32        entries of the bucket (see `run`)
//! SIDE N filter         page: u32          blocks of the filter (see `filter`)
//! ```
//! SIDE is `chunks` or `recipes`, N the number of a run.

use std::ops::Bound;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use redb::{
    AccessGuard, CursorMut, Database, ReadOnlyTable, ReadTransaction, ReadableDatabase, ReadableTable, StorageBackend,
    TableDefinition, TableError, WriteTransaction,
};

use super::filter::Shape;
use super::layers::Layers;
use super::run::RunInfo;
use crate::error::{Error, Result};

/// The version of everything in the database. Another one is not read: the index is made anew.
const VERSION: u64 = 1;

const ABOUT: TableDefinition<&str, u64> = TableDefinition::new("about");

type Bytes<'a> = TableDefinition<'a, u32, &'static [u8]>;

/// One of the two maps of the index.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Side {
    /// Chunk ids to packs.
    Chunks,
    /// Recipe ids to rows of recipes files.
    Recipes,
}

impl Side {
    const ALL: [Self; 2] = [Self::Chunks, Self::Recipes];

    fn name(self) -> &'static str {
        match self {
            Self::Chunks => "chunks",
            Self::Recipes => "recipes",
        }
    }

    fn owners(self) -> TableDefinition<'static, u32, ([u8; 32], u32)> {
        TableDefinition::new(match self {
            Self::Chunks => "chunks owners",
            Self::Recipes => "recipes owners",
        })
    }

    fn runs(self) -> TableDefinition<'static, u32, (u64, u64, u64)> {
        TableDefinition::new(match self {
            Self::Chunks => "chunks runs",
            Self::Recipes => "recipes runs",
        })
    }

    fn next_owner(self) -> &'static str {
        match self {
            Self::Chunks => "chunks next owner",
            Self::Recipes => "recipes next owner",
        }
    }

    fn bucket_table(self, run: u32) -> String {
        format!("{} {run}", self.name())
    }

    fn filter_table(self, run: u32) -> String {
        format!("{} {run} filter", self.name())
    }
}

/// What a side's small tables say.
#[derive(Debug, Default)]
pub(super) struct Listing {
    /// Number, id, entries.
    pub(super) owners: Vec<(u32, [u8; 32], u32)>,
    pub(super) runs: Vec<RunInfo>,
    /// The number for the next owner.
    pub(super) next_owner: u32,
}

/// The open database.
#[derive(Debug)]
pub(super) struct Tables {
    database: Database,
    path: PathBuf,
}

/// redb's view of the layers.
#[derive(Debug)]
struct Backend(Arc<Layers>);

impl StorageBackend for Backend {
    fn len(&self) -> std::io::Result<u64> {
        Ok(self.0.len())
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> std::io::Result<()> {
        self.0.read(offset, out)
    }

    fn set_len(&self, len: u64) -> std::io::Result<()> {
        self.0.set_len(len)
    }

    fn sync_data(&self) -> std::io::Result<()> {
        // The top is nobody else's and does not outlive this process. What lasts is synced when it is copied.
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> std::io::Result<()> {
        self.0.write(offset, data)
    }
}

/// An error of redb's as one of ours.
fn failed(path: &Path, e: impl Into<redb::Error>) -> Error {
    match e.into() {
        // No fault of the index's, and rebuilding it would not help.
        redb::Error::Io(e)
            if matches!(
                e.kind(),
                std::io::ErrorKind::StorageFull
                    | std::io::ErrorKind::QuotaExceeded
                    | std::io::ErrorKind::ReadOnlyFilesystem
            ) =>
        {
            Error::io("write", path, e)
        }
        e => Error::Index { path: path.to_owned(), why: e.to_string() },
    }
}

impl Tables {
    /// Opens the database in the layers, or makes one where there is none.
    ///
    /// # Errors
    /// [`Error::Index`] if there is something that cannot be used.
    pub(super) fn open(layers: Arc<Layers>, path: &Path, cache_bytes: usize) -> Result<Self> {
        let empty = layers.len() == 0;
        let database = redb::Builder::new()
            .set_cache_size(cache_bytes)
            // Only whole databases that were closed are ever persisted.
            .set_repair_callback(redb::RepairSession::abort)
            .create_with_backend(Backend(layers))
            .map_err(|e| failed(path, e))?;
        let tables = Self { database, path: path.to_owned() };
        if empty {
            let change = tables.change()?;
            change.set_up()?;
            change.commit()?;
        }
        let found = tables.view()?.about("version")?;
        if found != Some(VERSION) {
            let why = format!("version {VERSION} expected, {found:?} found");
            return Err(Error::Index { path: path.to_owned(), why });
        }
        Ok(tables)
    }

    /// The tables as they are now.
    pub(super) fn view(&self) -> Result<View> {
        let transaction = self.database.begin_read().map_err(|e| failed(&self.path, e))?;
        Ok(View { transaction, path: self.path.clone() })
    }

    /// Writes all that is here into another database, which is empty, and nothing of the free space.
    pub(super) fn copy_into(&self, other: &Self) -> Result<()> {
        let view = self.view()?;
        let change = other.change()?;
        for side in Side::ALL {
            let listing = view.listing(side)?;
            change.put_owners(side, &listing.owners, listing.next_owner)?;
            for info in &listing.runs {
                let run = view.run(side, info.number)?;
                change.put_run(side, info)?;
                change.write_run(side, info.number, |writer| {
                    run.each_bucket(&mut |bucket, entries| writer.bucket(bucket, entries))?;
                    run.each_filter_page(&mut |page, blocks| writer.filter_page(page, blocks))
                })?;
            }
        }
        change.commit()
    }

    /// A change to the tables.
    pub(super) fn change(&self) -> Result<Change> {
        let transaction = self.database.begin_write().map_err(|e| failed(&self.path, e))?;
        Ok(Change { transaction, path: self.path.clone() })
    }
}

/// The tables as they were at one time.
pub(super) struct View {
    transaction: ReadTransaction,
    path: PathBuf,
}

impl View {
    fn about(&self, name: &str) -> Result<Option<u64>> {
        let table = match self.transaction.open_table(ABOUT) {
            Ok(table) => table,
            Err(TableError::TableDoesNotExist(_)) => return Ok(None),
            Err(e) => return Err(failed(&self.path, e)),
        };
        Ok(table.get(name).map_err(|e| failed(&self.path, e))?.map(|value| value.value()))
    }

    /// All that a side's small tables say.
    pub(super) fn listing(&self, side: Side) -> Result<Listing> {
        let fail = |e: redb::Error| failed(&self.path, e);
        let mut listing = Listing::default();
        let owners = self.transaction.open_table(side.owners()).map_err(|e| fail(e.into()))?;
        for row in owners.iter().map_err(|e| fail(e.into()))? {
            let (number, value) = row.map_err(|e| fail(e.into()))?;
            let (id, entries) = value.value();
            listing.owners.push((number.value(), id, entries));
        }
        let runs = self.transaction.open_table(side.runs()).map_err(|e| fail(e.into()))?;
        for row in runs.iter().map_err(|e| fail(e.into()))? {
            let (number, value) = row.map_err(|e| fail(e.into()))?;
            let (planned, entries, blocks) = value.value();
            listing.runs.push(RunInfo { number: number.value(), planned, entries, filter: Shape { blocks } });
        }
        listing.next_owner = self.about(side.next_owner())?.and_then(|n| u32::try_from(n).ok()).unwrap_or_default();
        Ok(listing)
    }

    /// An error: what the tables say cannot be.
    pub(super) fn nonsense(&self, why: String) -> Error {
        Error::Index { path: self.path.clone(), why }
    }

    /// A run's tables.
    pub(super) fn run(&self, side: Side, number: u32) -> Result<RunTable> {
        let open = |name: String| self.transaction.open_table(Bytes::new(&name)).map_err(|e| failed(&self.path, e));
        Ok(RunTable {
            buckets: open(side.bucket_table(number))?,
            filter: open(side.filter_table(number))?,
            path: self.path.clone(),
        })
    }
}

/// A run's tables, to read.
pub(super) struct RunTable {
    buckets: ReadOnlyTable<u32, &'static [u8]>,
    filter: ReadOnlyTable<u32, &'static [u8]>,
    path: PathBuf,
}

impl std::fmt::Debug for RunTable {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RunTable").finish_non_exhaustive()
    }
}

/// Bytes of a table, held as long as this lives.
pub(super) struct Page(AccessGuard<'static, &'static [u8]>);

impl Page {
    pub(super) fn bytes(&self) -> &[u8] {
        self.0.value()
    }
}

impl RunTable {
    /// A bucket's entries; `None` if it has none.
    pub(super) fn bucket(&self, bucket: u32) -> Result<Option<Page>> {
        Ok(self.buckets.get(bucket).map_err(|e| failed(&self.path, e))?.map(Page))
    }

    /// A page of the filter.
    pub(super) fn filter_page(&self, page: u32) -> Result<Vec<u8>> {
        match self.filter.get(page).map_err(|e| failed(&self.path, e))? {
            Some(bytes) => Ok(bytes.value().to_vec()),
            None => Err(Error::Index { path: self.path.clone(), why: format!("page {page} of a filter is missing") }),
        }
    }
}

impl RunTable {
    fn each_bucket(&self, take: &mut dyn FnMut(u32, &[u8]) -> Result<()>) -> Result<()> {
        self.each(&self.buckets, take)
    }

    fn each_filter_page(&self, take: &mut dyn FnMut(u32, &[u8]) -> Result<()>) -> Result<()> {
        self.each(&self.filter, take)
    }

    fn each(
        &self,
        table: &ReadOnlyTable<u32, &'static [u8]>,
        take: &mut dyn FnMut(u32, &[u8]) -> Result<()>,
    ) -> Result<()> {
        for row in table.iter().map_err(|e| failed(&self.path, e))? {
            let (number, bytes) = row.map_err(|e| failed(&self.path, e))?;
            take(number.value(), bytes.value())?;
        }
        Ok(())
    }
}

/// Changes, none of which is seen before [`Change::commit`].
pub(super) struct Change {
    transaction: WriteTransaction,
    path: PathBuf,
}

impl Change {
    fn fail(&self, e: impl Into<redb::Error>) -> Error {
        failed(&self.path, e)
    }

    fn set_up(&self) -> Result<()> {
        for side in Side::ALL {
            self.transaction.open_table(side.owners()).map_err(|e| self.fail(e))?;
            self.transaction.open_table(side.runs()).map_err(|e| self.fail(e))?;
        }
        self.put_about("version", VERSION)
    }

    fn put_about(&self, name: &str, value: u64) -> Result<()> {
        let mut about = self.transaction.open_table(ABOUT).map_err(|e| self.fail(e))?;
        about.insert(name, value).map_err(|e| self.fail(e))?;
        Ok(())
    }

    /// Lists owners as covered.
    pub(super) fn put_owners(&self, side: Side, owners: &[(u32, [u8; 32], u32)], next_owner: u32) -> Result<()> {
        let mut table = self.transaction.open_table(side.owners()).map_err(|e| self.fail(e))?;
        for (number, id, entries) in owners {
            table.insert(number, (*id, *entries)).map_err(|e| self.fail(e))?;
        }
        drop(table);
        self.put_about(side.next_owner(), next_owner.into())
    }

    /// Lists owners as covered no more.
    pub(super) fn remove_owners(&self, side: Side, numbers: &[u32]) -> Result<()> {
        let mut table = self.transaction.open_table(side.owners()).map_err(|e| self.fail(e))?;
        for number in numbers {
            table.remove(number).map_err(|e| self.fail(e))?;
        }
        Ok(())
    }

    /// Lists a run.
    pub(super) fn put_run(&self, side: Side, info: &RunInfo) -> Result<()> {
        let mut table = self.transaction.open_table(side.runs()).map_err(|e| self.fail(e))?;
        table.insert(info.number, (info.planned, info.entries, info.filter.blocks)).map_err(|e| self.fail(e))?;
        Ok(())
    }

    /// Removes a run and all that is in it.
    pub(super) fn remove_run(&self, side: Side, number: u32) -> Result<()> {
        let mut table = self.transaction.open_table(side.runs()).map_err(|e| self.fail(e))?;
        table.remove(number).map_err(|e| self.fail(e))?;
        for name in [side.bucket_table(number), side.filter_table(number)] {
            self.transaction.delete_table(Bytes::new(&name)).map_err(|e| self.fail(e))?;
        }
        Ok(())
    }

    /// Fills a run's new tables, front to back.
    pub(super) fn write_run(
        &self,
        side: Side,
        number: u32,
        fill: impl FnOnce(&mut RunWriter<'_>) -> Result<()>,
    ) -> Result<()> {
        let (bucket_name, filter_name) = (side.bucket_table(number), side.filter_table(number));
        let mut buckets = self.transaction.open_table(Bytes::new(&bucket_name)).map_err(|e| self.fail(e))?;
        let mut filter = self.transaction.open_table(Bytes::new(&filter_name)).map_err(|e| self.fail(e))?;
        let end = Bound::<u32>::Unbounded;
        let mut writer = RunWriter {
            buckets: buckets.upper_bound_mut(end).map_err(|e| self.fail(e))?,
            filter: filter.upper_bound_mut(end).map_err(|e| self.fail(e))?,
            path: &self.path,
        };
        fill(&mut writer)?;
        let RunWriter { buckets, filter, .. } = writer;
        buckets.close().map_err(|e| self.fail(e))?;
        filter.close().map_err(|e| self.fail(e))
    }

    /// Makes all of it seen.
    pub(super) fn commit(self) -> Result<()> {
        let Self { transaction, path } = self;
        transaction.commit().map_err(|e| failed(&path, e))
    }
}

/// A run's tables, to fill in ascending order.
pub(super) struct RunWriter<'a> {
    buckets: CursorMut<'a, u32, &'static [u8]>,
    filter: CursorMut<'a, u32, &'static [u8]>,
    path: &'a Path,
}

impl RunWriter<'_> {
    pub(super) fn bucket(&mut self, bucket: u32, entries: &[u8]) -> Result<()> {
        self.buckets.insert_before(bucket, entries).map_err(|e| failed(self.path, e))
    }

    pub(super) fn filter_page(&mut self, page: u32, blocks: &[u8]) -> Result<()> {
        self.filter.insert_before(page, blocks).map_err(|e| failed(self.path, e))
    }
}
