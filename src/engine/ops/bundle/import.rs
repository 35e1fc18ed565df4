//! How does a bundle become part of a store, beside adds and gc, and so that no reader sees what is not there yet?
//!
//! As an add does it (`engine::store::commit`): a lease, then the pending-delete list; packs, recipes, snapshots, each durable before the
//! next; it relies on nothing that is pending deletion, and gives no name that is. A snapshot is taken only when all that
//! it names was found: in the store, or in what was just taken. What is damaged is passed over by name, and so is what
//! needs it. What the store has already, be it in other packs, is
//! passed over, so to import twice is to import once, and to go on after an interruption.

use std::path::Path;
use std::sync::Arc;

use super::copy::{check_stopped, copy_object, copy_pack};
use super::export::open_source;
use crate::catalog::recipe::{RecipesFile, RecipesWriter};
use crate::catalog::snapshot::Snapshot;
use crate::engine::store::chunk_index::{ChunkIndex, listed};
use crate::engine::store::control::Control;
use crate::engine::{NewStore, Store};
use crate::error::{Error, Result};
use crate::format::entry::Content;
use crate::format::id::{PackId, RecipesFileId, SnapshotId};
use crate::format::name::{ObjectKind, ObjectName};
use crate::format::recipe::{Piece, recipe_id};
use crate::pack::reader::{read_directory, read_frame};
use crate::pack::writer::PackWriter;
use crate::storage::disk::{Disk, SystemDisk};
use crate::storage::{Session, Storage};

/// What was imported.
///
/// ```
/// # use seamstore::{Control, Store, entry::*, report::*, request::*};
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let store = Store::in_memory(Settings::default())?;
/// # let writer = store.writer(WriterOptions::default().threads(1))?;
/// # writer.add_bytes(writer.entry("notes/first.txt", EntryKind::File)?, b"found again".to_vec())?;
/// # let added = writer.finish()?;
/// # let control = Control::default();
/// let folder = tempfile::tempdir()?;
/// let (bundle, copy) = (folder.path().join("all.bundle"), folder.path().join("copy"));
/// let report = store.export_bundle(&BundleExport::default().snapshots([Selector::Latest]), &bundle, &control)?;
/// assert_eq!((report.generation, report.new_snapshots), (1, 1));
/// let report = Store::import_bundle(&copy, &bundle, &control)?;
/// assert!(report.made_store && report.damaged.is_empty());
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct BundleImportReport {
    /// Snapshots in the bundle.
    pub snapshots: u64,
    /// Those among them that the store did not have.
    pub new_snapshots: u64,
    /// Packs written.
    pub packs: u64,
    /// Recipes files written.
    pub recipes_files: u64,
    /// Bytes written.
    pub added_bytes: u64,
    /// Whether the store was made for it.
    pub made_store: bool,
    /// Whether the bundle's files were cut by another rule than this store's: what is added here will share little with
    /// them.
    pub other_profile: bool,
    /// What is damaged in the bundle and was passed over, and snapshots that were because they need it; and how.
    pub damaged: Vec<(ObjectName, String)>,
}

impl Store {
    /// Takes over all snapshots of a bundle, and all they need, into the store at `root`, which is made if it is not there,
    /// with the settings and the id of the one that the bundle is of. A store of other settings takes a bundle as well.
    ///
    /// What is damaged is passed over, with the snapshots that need it: see [`BundleImportReport::damaged`].
    ///
    /// # Errors
    /// As [`Store::open`] of the bundle and of the store; [`Error::ReadOnly`] if that is a bundle itself; [`Error::Io`];
    /// [`Error::Interrupted`]. What was taken over until then is whole, and the next import goes on.
    pub fn import_bundle(root: &Path, file: &Path, control: &Control) -> Result<BundleImportReport> {
        Self::import_bundle_on(Arc::new(SystemDisk::like(root)), root, file, control)
    }

    /// As [`Store::import_bundle`], on another disk.
    ///
    /// # Errors
    /// As [`Store::import_bundle`].
    pub(crate) fn import_bundle_on(
        disk: Arc<dyn Disk>,
        root: &Path,
        file: &Path,
        control: &Control,
    ) -> Result<BundleImportReport> {
        let bundle = open_source(Arc::clone(&disk), file)?;
        let new = NewStore::before(root);
        let (store, made_store) = match Self::open_on(Arc::clone(&disk), root) {
            Err(Error::NotAStore { .. }) => (Self::init_as(disk, root, &bundle.config)?, true),
            opened => (opened?, false),
        };
        let imported = store.import(&bundle, made_store, control);
        if imported.is_err() && made_store {
            store.unmake(&new);
        }
        imported
    }

    /// As [`Store::import_bundle`], into this store, wherever it is kept.
    ///
    /// # Errors
    /// As [`Store::import_bundle`].
    #[cfg(test)]
    pub(crate) fn import_from(&self, file: &Path, control: &Control) -> Result<BundleImportReport> {
        self.import(&open_source(Arc::new(SystemDisk::PRIVATE), file)?, false, control)
    }

    fn import(&self, bundle: &Store, made_store: bool, control: &Control) -> Result<BundleImportReport> {
        self.check_writable()?;
        self.sweep();
        // First, or gc may delete what this relies on: see `engine::ops::gc`.
        let session = self.coordination().begin()?;
        let chunk_index = ChunkIndex::open_without(self, session.storage(), session.pending().clone())?;
        let report = BundleImportReport {
            made_store,
            other_profile: self.settings.profile != bundle.settings.profile,
            ..BundleImportReport::default()
        };
        let mut import = Import { from: bundle.storage(), session: &*session, chunk_index, control, report };
        let imported = import.run();
        let Import { chunk_index, report, .. } = import;
        chunk_index.close();
        imported.map(|()| report)
    }
}

struct Import<'s> {
    from: &'s dyn Storage,
    session: &'s dyn Session,
    chunk_index: ChunkIndex<'s>,
    control: &'s Control,
    report: BundleImportReport,
}

impl Import<'_> {
    fn run(&mut self) -> Result<()> {
        self.take_all().map_err(|error| match error {
            Error::Interrupted { .. } => {
                let kept = format!("{} packs were taken over; the next import goes on", self.report.packs);
                Error::Interrupted { kept }
            }
            error => error,
        })
    }

    fn take_all(&mut self) -> Result<()> {
        let mut packs: Vec<PackId> = listed(self.from, ObjectKind::Pack, ObjectName::pack)?;
        packs.sort_unstable();
        for pack in packs {
            let taken = self.take_pack(pack);
            self.note(ObjectName::Pack(pack), taken)?;
        }
        let mut recipes: Vec<RecipesFileId> = listed(self.from, ObjectKind::Recipes, ObjectName::recipes)?;
        recipes.sort_unstable();
        for file in recipes {
            let taken = self.take_recipes(file);
            self.note(ObjectName::Recipes(file), taken)?;
        }
        let mut snapshots: Vec<SnapshotId> = listed(self.from, ObjectKind::Snapshot, ObjectName::snapshot)?;
        snapshots.sort_unstable();
        self.report.snapshots = snapshots.len() as u64;
        let mut whole = Vec::new();
        for id in snapshots {
            let checked = self.check_snapshot(id).map(|()| whole.push(id));
            self.note(ObjectName::Snapshot(id), checked)?;
        }
        // Objects that were there already may not be durable yet.
        self.chunk_index.settle_packs()?;
        self.chunk_index.settle_recipes()?;
        whole.iter().try_for_each(|id| self.take_snapshot(*id))?;
        self.session.commit(&whole)
    }

    /// Passes over what is damaged, and says so.
    fn note(&mut self, name: ObjectName, taken: Result<()>) -> Result<()> {
        match taken {
            Err(Error::Damaged { offset, what, .. }) => {
                let at = offset.map_or_else(String::new, |offset| format!("at byte {offset}: "));
                self.report.damaged.push((name, format!("{at}{what}")));
                Ok(())
            }
            taken => taken,
        }
    }

    fn take_pack(&mut self, pack: PackId) -> Result<()> {
        check_stopped(self.control)?;
        let name = ObjectName::Pack(pack);
        let directory = Arc::new(read_directory(self.from, pack)?);
        let bytes = self.from.size(&name)?;
        let mut is_there = true;
        for chunk in &directory.chunks {
            is_there = is_there && self.chunk_index.contains(&chunk.id)?;
        }
        if !is_there {
            if self.chunk_index.pending_deletes().packs.contains(&pack) {
                self.rewrite_pack(pack)?;
            } else {
                let is_damaged = matches!(read_directory(self.session.storage(), pack), Err(Error::Damaged { .. }));
                let mut writer = self.session.storage().writer()?;
                copy_pack(self.from, pack, &directory, self.control, &mut |part| writer.write(part))?;
                // Nothing could be read from what bears the name: see `PackWriter::finish`.
                if is_damaged {
                    writer.replace(&name)?
                } else {
                    writer.finish(&name).map(drop)?
                }
                self.chunk_index.add_pack(pack, directory)?;
            }
            self.report.packs += 1;
            self.report.added_bytes += bytes;
        }
        self.control.count(1, bytes);
        Ok(())
    }

    /// Takes a pack over under another name, because its own is about to be deleted.
    fn rewrite_pack(&mut self, pack: PackId) -> Result<()> {
        let directory = read_directory(self.from, pack)?;
        // All of it is checked before any of it is taken.
        copy_pack(self.from, pack, &directory, self.control, &mut |_| Ok(()))?;
        let mut writer = PackWriter::begin(self.session.storage())?;
        let mut stored = Vec::new();
        for frame in &directory.frames {
            read_frame(self.from, &pack, frame, &mut stored)?;
            let chunks = directory.chunks_of(frame);
            let ids: Vec<_> = chunks.iter().map(|chunk| chunk.id).collect();
            let lengths: Vec<_> = chunks.iter().map(|chunk| chunk.length).collect();
            writer.push_frame(&stored, &ids, &lengths)?;
        }
        let (id, directory) = writer.finish_unlike(&self.chunk_index.pending_deletes().packs)?;
        self.chunk_index.add_pack(id, directory)
    }

    /// Takes over the recipes of a file whose chunks are all there: as it is, or those that are, in another.
    fn take_recipes(&mut self, file: RecipesFileId) -> Result<()> {
        let name = ObjectName::Recipes(file);
        let bytes = self.from.size(&name)?;
        let rows = RecipesFile::open(self.from, file)?;
        let (mut new, mut lost) = (0, 0);
        rows.for_each(|_, id, pieces| {
            check_stopped(self.control)?;
            if !self.has_chunks(&pieces)? {
                lost += 1;
            } else if !self.chunk_index.has_recipe(&id)? {
                new += 1;
            }
            Ok(())
        })?;
        if new > 0 {
            // Invariant 1.
            self.chunk_index.settle_packs()?;
            if lost > 0 || self.is_pending_deletion(file) {
                self.rewrite_recipes(&rows)?;
            } else {
                let is_damaged =
                    matches!(RecipesFile::verify(self.session.storage(), file), Err(Error::Damaged { .. }));
                self.take_hashed(name, bytes, is_damaged)?;
                self.chunk_index.add_recipes(file, &rows.ids()?)?;
            }
            self.report.recipes_files += 1;
            self.report.added_bytes += bytes;
        }
        self.control.count(1, bytes);
        if lost > 0 {
            let what = format!("{lost} recipes name chunks that neither bundle nor store has");
            return Err(Error::damaged_whole(name.path(), what));
        }
        Ok(())
    }

    /// Writes those recipes of a file whose chunks are all there, not under a name that is about to be deleted.
    fn rewrite_recipes(&self, rows: &RecipesFile<'_>) -> Result<()> {
        let mut writer = RecipesWriter::begin(self.session.storage().writer()?)?;
        rows.for_each(|_, id, pieces| if self.has_chunks(&pieces)? { writer.push(id, &pieces) } else { Ok(()) })?;
        if let Some(filler) = self.chunk_index.pending_deletes().filler() {
            writer.push(recipe_id(&[filler]), &[filler])?;
        }
        match writer.finish(self.session.storage())? {
            Some(written) => self.chunk_index.add_recipes(written.id, &written.places),
            None => Ok(()),
        }
    }

    fn has_chunks(&self, pieces: &[Piece]) -> Result<bool> {
        for piece in pieces.iter().filter(|piece| !piece.is_hole()) {
            if !self.chunk_index.contains(&piece.id)? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    fn is_pending_deletion(&self, file: RecipesFileId) -> bool {
        self.chunk_index.pending_deletes().recipes.contains(&file)
    }

    /// That all is there which a snapshot names, and that its rows can be read.
    fn check_snapshot(&self, id: SnapshotId) -> Result<()> {
        let snapshot = Snapshot::open(self.from, id)?;
        for entry in snapshot.entries() {
            check_stopped(self.control)?;
            let entry = entry?;
            let has_recipe = match entry.content {
                Content::Recipe(id) | Content::Archive(id, _) => self.chunk_index.has_recipe(&id)?,
                Content::Chunk(_) | Content::Empty => true,
            };
            if !has_recipe || !self.chunk_index.has_all(entry.content, entry.size)? {
                let what = format!("{:?} names contents that neither bundle nor store has", entry.path);
                return Err(Error::damaged_whole(ObjectName::Snapshot(id).path(), what));
            }
        }
        Ok(())
    }

    fn take_snapshot(&mut self, id: SnapshotId) -> Result<()> {
        let name = ObjectName::Snapshot(id);
        let bytes = self.from.size(&name)?;
        let here = Snapshot::open(self.session.storage(), id).map(drop);
        if here.is_ok() {
            self.session.storage().settle(&name)?;
        } else {
            self.take_hashed(name, bytes, matches!(here, Err(Error::Damaged { .. })))?;
            self.report.new_snapshots += 1;
            self.report.added_bytes += bytes;
        }
        self.control.count(1, bytes);
        Ok(())
    }

    fn take_hashed(&self, name: ObjectName, bytes: u64, replace: bool) -> Result<()> {
        let mut writer = self.session.storage().writer()?;
        copy_object(self.from, name, bytes, self.control, &mut |part| writer.write(part))?;
        if replace { writer.replace(&name) } else { writer.finish(&name).map(drop) }
    }
}
