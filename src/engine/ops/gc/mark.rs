//! What do the snapshots reach? From each snapshot's rows to recipes, from these to chunks, all read from the store.
//!
//! Invariant: where anything that a snapshot reaches is unknown, because the snapshot or a recipe of it cannot be
//! read, there is no answer at all, and nothing is deleted. A pack or recipes file that cannot be read is never said to
//! be dead.

use std::collections::{BTreeMap, BTreeSet};

use super::assign::{Container, Id, Source, assign};
use crate::catalog::recipe::RecipesFile;
use crate::catalog::snapshot::Snapshot;
use crate::engine::store::chunk_index::listed;
use crate::engine::store::control::Control;
use crate::error::{Error, Result};
use crate::format::directory::Directory;
use crate::format::entry::Content;
use crate::format::id::{ChunkId, PackId, RecipeId, SnapshotId};
use crate::format::name::{ObjectKind, ObjectName};
use crate::format::pending_deletes::PendingDeletes;
use crate::format::recipe::Piece;
use crate::pack::reader::read_directory;
use crate::storage::{Listed, Storage};

/// What the snapshots of a store reach.
#[derive(Debug)]
pub(in crate::engine) struct Marked {
    /// The snapshots that were asked.
    pub(in crate::engine) snapshots: BTreeSet<SnapshotId>,
    /// Recipes files, by name.
    pub(in crate::engine) recipes: Vec<Container>,
    /// Packs, by name.
    pub(in crate::engine) packs: Vec<Container>,
    /// Chunks that are reached and in no pack that can be read: lost already.
    pub(in crate::engine) lost_chunks: u64,
}

/// Frames that are known to be damaged, by their offsets: chunks in them count as missing there.
#[derive(Debug, Default)]
pub(in crate::engine) struct DamagedFrames(BTreeMap<PackId, BTreeSet<u64>>);

impl DamagedFrames {
    /// Notes the frame of a pack in which this byte lies; says whether it was not noted before.
    pub(in crate::engine) fn insert(&mut self, pack: PackId, directory: &Directory, byte: u64) -> bool {
        let frame = directory.frames.iter().find(|frame| (frame.offset..frame.end()).contains(&byte));
        frame.is_some_and(|frame| self.0.entry(pack).or_default().insert(frame.offset))
    }

    /// Whether a pack has such frames.
    pub(in crate::engine) fn has(&self, name: ObjectName) -> bool {
        name.pack().is_some_and(|pack| self.0.contains_key(&pack))
    }

    /// The ids and lengths of a pack's chunks, those that count as missing under an id that nothing has.
    fn chunks(&self, pack: &PackId, directory: &Directory) -> Vec<(Id, u64)> {
        let mut chunks: Vec<(Id, u64)> =
            directory.chunks.iter().map(|chunk| (chunk.id.0, u64::from(chunk.length))).collect();
        let damaged = self.0.get(pack);
        for frame in directory.frames.iter().filter(|frame| damaged.is_some_and(|of| of.contains(&frame.offset))) {
            let (from, to) = (frame.chunks().start as usize, frame.chunks().end as usize);
            chunks.get_mut(from..to).into_iter().flatten().for_each(|chunk| *chunk = (ChunkId::HOLE.0, 0));
        }
        chunks
    }
}

/// What to look at.
#[derive(Debug)]
pub(in crate::engine) struct Marking<'a> {
    pub(in crate::engine) storage: &'a dyn Storage,
    pub(in crate::engine) control: &'a Control,
    /// Snapshots that count as removed.
    pub(in crate::engine) without: &'a BTreeSet<SnapshotId>,
    /// Packs and recipes files that count as deleted.
    pub(in crate::engine) gone: &'a PendingDeletes,
    /// Those that are needed only for what no other has.
    pub(in crate::engine) last: &'a PendingDeletes,
    /// Those that are needed for all they have, before any other.
    pub(in crate::engine) first: Option<&'a BTreeSet<ObjectName>>,
    /// What is known to be damaged, if anything is.
    pub(in crate::engine) damaged: Option<&'a DamagedFrames>,
    pub(in crate::engine) ids_max: usize,
}

impl Marking<'_> {
    /// Reads every snapshot, recipe and directory.
    ///
    /// # Errors
    /// [`Error::Damaged`] if what a snapshot reaches is unknown; [`Error::Interrupted`]; the storage's.
    pub(in crate::engine) fn mark(&self) -> Result<Marked> {
        // Packs first: what an add puts there and commits meanwhile is not looked at, rather than taken for dead.
        let mut packs = self.containers(ObjectKind::Pack)?;
        let mut recipes = self.containers(ObjectKind::Recipes)?;
        let mut snapshots = snapshots_in(self.storage)?;
        snapshots.retain(|id| !self.without.contains(id));
        let rows = Rows { marking: self, snapshots: &snapshots };
        loop {
            let homeless = assign(&mut recipes, &rows, self.ids_max)?;
            if homeless > 0 {
                let what = format!(
                    "{homeless} recipes that snapshots name are in no file that can be read, so what those snapshots \
                     need is unknown; nothing was changed"
                );
                return Err(Error::damaged_whole("recipes", what));
            }
            let pieces = Pieces { rows: &rows, recipes: &recipes };
            match assign(&mut packs, &pieces, self.ids_max) {
                Ok(lost_chunks) => return Ok(Marked { snapshots, recipes, packs, lost_chunks }),
                // There may be another copy of what is damaged.
                Err(Error::Damaged { file, offset, what }) => {
                    let damaged = recipes.iter_mut().find(|of| of.readable && of.name.path() == file);
                    match damaged {
                        Some(damaged) => damaged.readable = false,
                        None => return Err(Error::Damaged { file, offset, what }),
                    }
                }
                Err(error) => return Err(error),
            }
        }
    }

    fn containers(&self, kind: ObjectKind) -> Result<Vec<Container>> {
        let mut listed = self.storage.list(kind)?;
        listed.sort();
        let container = |Listed { name, bytes }| {
            let first = self.first.is_some_and(|first| first.contains(&name));
            let mut container = Container::new(name, bytes, self.last.contains(name));
            container.first = first;
            (!self.gone.contains(name)).then_some(container)
        };
        Ok(listed.into_iter().filter_map(container).collect())
    }

    pub(in crate::engine) fn check_stopped(&self) -> Result<()> {
        if self.control.is_stopped() {
            return Err(Error::Interrupted { kept: "nothing more was deleted; the next gc goes on".to_owned() });
        }
        Ok(())
    }
}

/// All snapshots.
pub(in crate::engine) fn snapshots_in(storage: &dyn Storage) -> Result<BTreeSet<SnapshotId>> {
    listed(storage, ObjectKind::Snapshot, ObjectName::snapshot)
}

/// The contents that snapshots name: recipes are reached by them.
struct Rows<'a> {
    marking: &'a Marking<'a>,
    snapshots: &'a BTreeSet<SnapshotId>,
}

impl Rows<'_> {
    /// Calls `take` with every content, until it says that it wants no more; says whether it did.
    fn contents(&self, take: &mut dyn FnMut(Content) -> bool) -> Result<bool> {
        for id in self.snapshots {
            self.marking.check_stopped()?;
            match self.contents_of(*id, take) {
                // It was removed meanwhile, and reaches nothing any more.
                Err(Error::NotFound { .. }) => {}
                wanted => {
                    if !wanted? {
                        return Ok(false);
                    }
                }
            }
        }
        Ok(true)
    }

    fn contents_of(&self, id: SnapshotId, take: &mut dyn FnMut(Content) -> bool) -> Result<bool> {
        for entry in Snapshot::open(self.marking.storage, id)?.entries() {
            if !take(entry?.content) {
                return Ok(false);
            }
        }
        Ok(true)
    }
}

impl Source for Rows<'_> {
    fn reach(&self, take: &mut dyn FnMut(&Id) -> bool) -> Result<()> {
        self.contents(&mut |content| match content {
            Content::Recipe(id) | Content::Archive(id, _) => take(&id.0),
            Content::Chunk(_) | Content::Empty => true,
        })
        .map(|_| ())
    }

    fn load(&self, name: &ObjectName) -> Result<Option<Vec<(Id, u64)>>> {
        let ObjectName::Recipes(id) = *name else { return Ok(None) };
        let ids = RecipesFile::open(self.marking.storage, id).and_then(|file| file.ids());
        readable(ids.map(|ids| ids.into_iter().map(|(id, _)| (id.0, 1)).collect()))
    }
}

/// The chunks that snapshots name, and those that their recipes do.
struct Pieces<'a> {
    rows: &'a Rows<'a>,
    /// Which recipes are reached, and where.
    recipes: &'a [Container],
}

impl Source for Pieces<'_> {
    fn reach(&self, take: &mut dyn FnMut(&Id) -> bool) -> Result<()> {
        let wanted = self.rows.contents(&mut |content| match content {
            Content::Chunk(id) => take(&id.0),
            Content::Recipe(_) | Content::Archive(..) | Content::Empty => true,
        })?;
        if !wanted {
            return Ok(());
        }
        for container in self.recipes.iter().filter(|container| container.retained > 0) {
            let wanted = each_home(self.rows.marking, container, &mut |_, pieces| {
                Ok(pieces.iter().filter(|piece| !piece.is_hole()).all(|piece| take(&piece.id.0)))
            })?;
            if !wanted {
                return Ok(());
            }
        }
        Ok(())
    }

    fn load(&self, name: &ObjectName) -> Result<Option<Vec<(Id, u64)>>> {
        self.rows.marking.check_stopped()?;
        let ObjectName::Pack(id) = *name else { return Ok(None) };
        let directory = read_directory(self.rows.marking.storage, id);
        let none = DamagedFrames::default();
        let damaged = self.rows.marking.damaged.unwrap_or(&none);
        readable(directory.map(|directory| damaged.chunks(&id, &directory)))
    }
}

/// Calls `each` with every recipe that the file keeps, until it answers `false`; says whether it did not.
pub(in crate::engine) fn each_home(
    marking: &Marking<'_>,
    container: &Container,
    each: &mut dyn FnMut(RecipeId, &[Piece]) -> Result<bool>,
) -> Result<bool> {
    let ObjectName::Recipes(id) = container.name else { return Ok(true) };
    let file = RecipesFile::open(marking.storage, id)?;
    let mut first = 0;
    for batch in 0..file.batch_count() {
        marking.check_stopped()?;
        let recipes = file.batch(batch)?;
        for row in (0..recipes.count()).filter(|row| container.is_home(first + *row as usize)) {
            let (id, pieces) = recipes.recipe(row)?;
            if !each(id, &pieces)? {
                return Ok(false);
            }
        }
        first += recipes.count() as usize;
    }
    Ok(true)
}

/// `None` for what is damaged, and for what is not there although it was listed: an add that replaces a damaged pack by
/// the same one whole takes it away for a moment.
fn readable<T>(read: Result<T>) -> Result<Option<T>> {
    match read {
        Ok(list) => Ok(Some(list)),
        Err(Error::Damaged { .. } | Error::NotFound { .. }) => Ok(None),
        Err(error) => Err(error),
    }
}
