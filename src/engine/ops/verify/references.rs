//! Is everything there that recipes and snapshots name? And if not, which files lose how much?
//!
//! Recipes that no snapshot names may name chunks that are gone: a `gc` leaves them. So losses are reported by file
//! only.

use std::sync::{Arc, Mutex, PoisonError};

use rayon::iter::{IntoParallelIterator, IntoParallelRefIterator, ParallelIterator};

use super::packs::PackFindings;
use super::table::{Cause, ChunkTable, IdPartition, Recipe, RecipeTable, key_of};
use super::{Damage, LOST_FILES_MAX, Listing, LostFile, Shared, VerifyReport};
use crate::catalog::recipe::RecipesFile;
use crate::catalog::snapshot::Snapshot;
use crate::error::Result;
use crate::format::entry::{Content, Entry, EntryKind};
use crate::format::id::{PackId, RecipeId, RecipesFileId, SnapshotId};
use crate::format::name::ObjectName;
use crate::format::recipe::Piece;
use crate::pack::reader::read_directory;
use crate::storage::Storage;

/// What was found in recipes files.
pub(super) struct RecipesFindings<'s> {
    /// Those that can be opened.
    files: Vec<Arc<RecipesFile<'s>>>,
    damages: Vec<Damage>,
    recipes: u64,
}

/// Compares every recipes file with its name and every recipe with its id.
pub(super) fn check_recipes_files<'s>(
    storage: &'s dyn Storage,
    listed: &[(RecipesFileId, u64)],
    shared: &Shared<'_>,
) -> Result<RecipesFindings<'s>> {
    let found = listed.par_iter().map(|(id, bytes)| check_recipes_file(storage, *id, *bytes, shared));
    let found: Vec<_> = found.collect();
    let mut all = RecipesFindings { files: Vec::new(), damages: Vec::new(), recipes: 0 };
    for (file, recipes, damages) in found {
        all.files.extend(file);
        all.recipes += recipes;
        all.damages.extend(damages);
    }
    shared.end(all)
}

type CheckedFile<'s> = (Option<Arc<RecipesFile<'s>>>, u64, Vec<Damage>);

fn check_recipes_file<'s>(
    storage: &'s dyn Storage,
    id: RecipesFileId,
    bytes: u64,
    shared: &Shared<'_>,
) -> CheckedFile<'s> {
    if shared.is_over() {
        return (None, 0, Vec::new());
    }
    let name = ObjectName::Recipes(id);
    let whole = RecipesFile::verify(storage, id);
    shared.count(1, bytes);
    let file = match RecipesFile::open(storage, id) {
        Ok(file) => Arc::new(file),
        Err(error) => return (None, 0, shared.judge(name, error).into_iter().collect()),
    };
    let mut recipes = 0;
    let mut damages = Vec::new();
    if let Err(error) = whole {
        // Where in it is known of what cannot be read; it may also be where nothing is read.
        for batch in 0..file.batch_count() {
            recipes += read_batch(&file, batch, &mut |_, _| (), &mut |error| damages.extend(shared.judge(name, error)));
        }
        damages.dedup_by_key(|damage| damage.offset);
        if damages.is_empty() {
            damages.extend(shared.judge(name, error));
        }
    } else {
        match file.ids() {
            Ok(ids) => recipes = ids.len() as u64,
            Err(error) => damages.extend(shared.judge(name, error)),
        }
    }
    (Some(file), recipes, damages)
}

/// Hands on every recipe of a batch that can be read, and every reason why one cannot; says how many can.
fn read_batch(
    file: &RecipesFile<'_>,
    batch: u32,
    each: &mut dyn FnMut(RecipeId, &[Piece]),
    fail: &mut dyn FnMut(crate::error::Error),
) -> u64 {
    let recipes = match file.batch(batch) {
        Ok(recipes) => recipes,
        Err(error) => {
            fail(error);
            return 0;
        }
    };
    let mut count = 0;
    for row in 0..recipes.count() {
        match recipes.recipe(row) {
            Ok((id, pieces)) => {
                each(id, &pieces);
                count += 1;
            }
            Err(error) => fail(error),
        }
    }
    count
}

/// Follows all references, and adds what is lost to the report.
pub(super) fn check(
    storage: &dyn Storage,
    listing: &Listing,
    packs: &PackFindings,
    catalog: RecipesFindings<'_>,
    shared: &Shared<'_>,
    report: &mut VerifyReport,
) -> Result<()> {
    let losses = Mutex::new(Losses::default());
    let mut recipe_damages = Mutex::new(catalog.damages);
    for recipe_part in IdPartition::of_recipes(catalog.recipes) {
        let mut recipes = RecipeTable::default();
        for chunk_part in IdPartition::of_chunks(packs.chunks) {
            let chunks = chunk_table(storage, &listing.packs, packs, chunk_part, shared)?;
            let scan = RecipesScan { files: &catalog.files, recipe_part, chunk_part, chunks: &chunks, shared };
            scan.run(&mut recipes, &recipe_damages)?;
            let scan = SnapshotsScan {
                storage,
                chunks: recipe_part.is_first().then_some((chunk_part, &chunks)),
                recipes: chunk_part.is_last().then_some((recipe_part, &recipes)),
                is_first: recipe_part.is_first() && chunk_part.is_first(),
                losses: &losses,
                shared,
            };
            if scan.chunks.is_some() || scan.recipes.is_some() {
                scan.run(&listing.snapshots)?;
            }
        }
        if recipe_part.is_first() {
            report.recipes = 0;
        }
        report.recipes += recipes.len() as u64;
    }
    let losses = losses.into_inner().unwrap_or_else(PoisonError::into_inner);
    let damages = std::mem::take(recipe_damages.get_mut().unwrap_or_else(PoisonError::into_inner));
    tell(losses, damages, report);
    Ok(())
}

fn tell(mut losses: Losses, mut damages: Vec<Damage>, report: &mut VerifyReport) {
    losses.files.sort_by(|a, b| (a.snapshot, &a.path).cmp(&(b.snapshot, &b.path)));
    report.files = losses.count.files;
    report.logical_bytes = losses.count.logical_bytes;
    report.lost_files = losses.count.lost_files;
    report.lost_bytes = losses.count.lost_bytes;
    report.lost = losses.files;
    losses.snapshots.sort_by_key(|damage| damage.object);
    report.lost_snapshots = losses.snapshots.iter().filter_map(|damage| damage.object.snapshot()).collect();
    report.lost_snapshots.dedup();
    damages.sort_by_key(|damage| (damage.object, damage.offset));
    damages.extend(losses.snapshots);
    damages.dedup_by_key(|damage| (damage.object, damage.offset));
    report.damages = damages;
}

/// The chunks of a part, from all packs.
fn chunk_table(
    storage: &dyn Storage,
    packs: &[(PackId, u64)],
    findings: &PackFindings,
    part: IdPartition,
    shared: &Shared<'_>,
) -> Result<ChunkTable> {
    let mut table = ChunkTable::default();
    table.reserve((findings.chunks / part.of.max(1)) as usize);
    let table = Mutex::new(table);
    packs.par_iter().for_each(|(pack, _)| {
        let bad = findings.bad.get(pack);
        if shared.is_over() || bad.is_some_and(|bad| bad.unreadable) {
            return;
        }
        let Ok(directory) = read_directory(storage, *pack) else {
            // It could be read before: it has gone.
            shared.state().vanished = true;
            return;
        };
        let mut table = table.lock().unwrap_or_else(PoisonError::into_inner);
        for (ordinal, chunk) in (0..).zip(&directory.chunks) {
            let key = key_of(&chunk.id.0);
            if part.has(key) {
                table.push(key, chunk.length, Cause::of(bad.and_then(|bad| bad.damage_of(ordinal))));
            }
        }
    });
    let mut table = table.into_inner().unwrap_or_else(PoisonError::into_inner);
    table.sort();
    shared.end(table)
}

/// One way through all recipes.
struct RecipesScan<'a, 's> {
    files: &'a [Arc<RecipesFile<'s>>],
    recipe_part: IdPartition,
    chunk_part: IdPartition,
    chunks: &'a ChunkTable,
    shared: &'a Shared<'a>,
}

impl RecipesScan<'_, '_> {
    fn run(&self, recipes: &mut RecipeTable, damages: &Mutex<Vec<Damage>>) -> Result<()> {
        let batches: Vec<(&RecipesFile<'_>, u32)> =
            self.files.iter().flat_map(|file| (0..file.batch_count()).map(move |batch| (&**file, batch))).collect();
        let found: Vec<Vec<Recipe>> = batches
            .into_par_iter()
            .map(|(file, batch)| {
                let mut found = Vec::new();
                if self.shared.is_over() {
                    return found;
                }
                let mut each = |id: RecipeId, pieces: &[Piece]| found.extend(self.look_at(id, pieces));
                read_batch(file, batch, &mut each, &mut |error| {
                    let damage = self.shared.judge(file.name(), error);
                    // The first way through tells of them all.
                    if self.recipe_part.is_first() && self.chunk_part.is_first() {
                        damages.lock().unwrap_or_else(PoisonError::into_inner).extend(damage);
                    }
                });
                found
            })
            .collect();
        if self.chunk_part.is_first() {
            found.into_iter().for_each(|found| recipes.extend(found));
            recipes.sort();
        } else {
            for recipe in found.into_iter().flatten() {
                recipes.lose(recipe.key, recipe.lost_bytes, recipe.cause);
            }
        }
        self.shared.end(())
    }

    /// What is lost of a recipe; `None` if it is of no interest now.
    fn look_at(&self, id: RecipeId, pieces: &[Piece]) -> Option<Recipe> {
        let key = key_of(&id.0);
        if !self.recipe_part.has(key) {
            return None;
        }
        let size = pieces.last().map_or(0, |piece| piece.end);
        let mut recipe = Recipe { key, size, lost_bytes: 0, cause: Cause::NONE };
        let mut start = 0;
        for piece in pieces {
            let length = piece.end - start;
            start = piece.end;
            if piece.is_hole() || !self.chunk_part.has(key_of(&piece.id.0)) {
                continue;
            }
            let cause = self.chunks.cause_of(&piece.id, length);
            if cause != Cause::NONE {
                recipe.lost_bytes += length;
                if recipe.cause == Cause::NONE {
                    recipe.cause = cause;
                }
            }
        }
        (self.chunk_part.is_first() || recipe.cause != Cause::NONE).then_some(recipe)
    }
}

#[derive(Default)]
struct Losses {
    files: Vec<LostFile>,
    snapshots: Vec<Damage>,
    count: Count,
}

#[derive(Debug, Default, Clone, Copy)]
struct Count {
    files: u64,
    logical_bytes: u64,
    lost_files: u64,
    lost_bytes: u64,
}

/// One way through all snapshots.
struct SnapshotsScan<'a> {
    storage: &'a dyn Storage,
    /// Where files of one chunk are looked up, if it is their turn.
    chunks: Option<(IdPartition, &'a ChunkTable)>,
    /// Where the others are.
    recipes: Option<(IdPartition, &'a RecipeTable)>,
    /// Files are counted the first time.
    is_first: bool,
    losses: &'a Mutex<Losses>,
    shared: &'a Shared<'a>,
}

impl SnapshotsScan<'_> {
    fn run(&self, snapshots: &[(SnapshotId, u64)]) -> Result<()> {
        snapshots.par_iter().for_each(|(id, bytes)| {
            if self.shared.is_over() {
                return;
            }
            if let Err(error) = self.snapshot(*id)
                && let Some(damage) = self.shared.judge(ObjectName::Snapshot(*id), error)
            {
                self.losses.lock().unwrap_or_else(PoisonError::into_inner).snapshots.push(damage);
            }
            if self.is_first {
                self.shared.count(1, *bytes);
            }
        });
        self.shared.end(())
    }

    fn snapshot(&self, id: SnapshotId) -> Result<()> {
        let snapshot = Snapshot::open(self.storage, id)?;
        let mut count = Count::default();
        let mut lost = Vec::new();
        for entry in snapshot.entries() {
            let entry = entry?;
            if entry.kind != EntryKind::File {
                continue;
            }
            count.files += 1;
            count.logical_bytes = count.logical_bytes.saturating_add(entry.size);
            if let Some((lost_bytes, cause, what)) = self.loss_of(&entry) {
                count.lost_files += 1;
                count.lost_bytes = count.lost_bytes.saturating_add(lost_bytes);
                if lost.len() < LOST_FILES_MAX {
                    let damage = cause.damage();
                    lost.push(LostFile { snapshot: id, path: entry.path, size: entry.size, lost_bytes, damage, what });
                }
            }
            if count.files % 1024 == 0 && self.shared.is_over() {
                break;
            }
        }
        let mut losses = self.losses.lock().unwrap_or_else(PoisonError::into_inner);
        if self.is_first {
            losses.count.files += count.files;
            losses.count.logical_bytes = losses.count.logical_bytes.saturating_add(count.logical_bytes);
        }
        losses.count.lost_files += count.lost_files;
        losses.count.lost_bytes = losses.count.lost_bytes.saturating_add(count.lost_bytes);
        let room = LOST_FILES_MAX.saturating_sub(losses.files.len());
        losses.files.extend(lost.into_iter().take(room));
        Ok(())
    }

    /// How much of a file is lost, why, and what that is called.
    fn loss_of(&self, entry: &Entry) -> Option<(u64, Cause, String)> {
        match entry.content {
            Content::Empty => {
                let is_lost = entry.size > 0 && self.is_first;
                is_lost.then(|| (entry.size, Cause::ABSENT, "it has a size but no content".to_owned()))
            }
            Content::Chunk(id) => {
                let (_, chunks) = self.chunks.filter(|(part, _)| part.has(key_of(&id.0)))?;
                let cause = chunks.cause_of(&id, entry.size);
                (cause != Cause::NONE).then(|| (entry.size, cause, format!("chunk {id} {}", where_is(cause))))
            }
            Content::Recipe(id) | Content::Archive(id, _) => {
                let is_archive = matches!(entry.content, Content::Archive(..));
                let key = key_of(&id.0);
                let (_, recipes) = self.recipes.filter(|(part, _)| part.has(key))?;
                match recipes.find(key) {
                    None => {
                        let what = format!("recipe {id} is in no recipes file that can be read");
                        Some((entry.size, Cause::ABSENT, what))
                    }
                    Some(recipe) if recipe.size != entry.size && !is_archive => {
                        let what = format!("recipe {id} is of {} bytes", recipe.size);
                        Some((entry.size, Cause::ABSENT, what))
                    }
                    Some(recipe) if recipe.cause != Cause::NONE => {
                        let what = format!("some of its chunks {}", where_are(recipe.cause));
                        Some((recipe.lost_bytes, recipe.cause, what))
                    }
                    Some(_) => None,
                }
            }
        }
    }
}

fn where_is(cause: Cause) -> &'static str {
    if cause == Cause::ABSENT { "is in no pack that can be read" } else { "lies in a damaged frame" }
}

fn where_are(cause: Cause) -> &'static str {
    if cause == Cause::ABSENT { "are in no pack that can be read" } else { "lie in damaged frames" }
}
