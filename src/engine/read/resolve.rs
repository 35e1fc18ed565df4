//! Which entry of which snapshot does the user mean?

use std::collections::HashSet;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use strsim::generic_levenshtein;

use super::archive::{Named, OpenArchive, layout_of};
use crate::catalog::snapshot::Snapshot;
use crate::engine::read::layout::Layout;
use crate::engine::store::labels::filtered;
use crate::engine::store::snapshots::Selector;
use crate::engine::{ChunkIndex, SnapshotList, Store, UnreadableSnapshot};
use crate::error::{Error, Result};
use crate::format::entry::{Content, Entry, EntryKind, EntryPath};
use crate::format::id::{RecipeId, SnapshotId};
use crate::format::label::{LabelFilter, Labels};
use crate::format::name::ObjectName;
use crate::spelling::unspelled;

/// How many names near to a wrong one are offered.
const NEAR_NAMES: usize = 3;
/// How many entries are looked at for them.
const NEAR_SEARCH_MAX: usize = 1_000_000;

/// A path that is looked for.
struct Wanted {
    path: EntryPath,
    /// With a slash at its end, the path of an archive stands for what is in it.
    is_folder: bool,
}

impl Wanted {
    fn of(given: &Path) -> Self {
        Self { path: EntryPath::from_given(given), is_folder: given.as_os_str().as_bytes().ends_with(b"/") }
    }
}

/// An entry that was asked for.
#[derive(Debug)]
pub(crate) struct Resolved<'s> {
    /// The snapshot.
    pub snapshot: Snapshot<'s>,
    /// The entry's path in it. The root of a snapshot need not have a row of its own.
    pub path: EntryPath,
    /// Snapshots that cannot be read and may be newer than the one found, with the path or without.
    pub passed_over: Vec<UnreadableSnapshot>,
    /// The archive that the entry is a member of, or all members.
    pub(super) inside: Option<Inside>,
}

/// A place in an archive.
#[derive(Debug)]
pub(super) struct Inside {
    pub(super) archive: OpenArchive,
    /// The archive's own path.
    pub(super) base: EntryPath,
    /// The members at the place and below it, in path order.
    pub(super) named: Vec<Named>,
    /// The archive's labels, which are those of all that is in it.
    pub(super) labels: Labels,
}

impl Inside {
    /// What is at a path in an archive. `None` if there is nothing.
    fn find(
        chunk_index: &ChunkIndex<'_>,
        id: RecipeId,
        (base, labels): (EntryPath, Labels),
        path: &EntryPath,
    ) -> Result<Option<Self>> {
        let archive = OpenArchive::open(chunk_index, id)?;
        let mut named = archive.named()?;
        named.retain(|named| named.path.is_within(path));
        Ok((path.is_root() || !named.is_empty()).then_some(Self { archive, base, named, labels }))
    }
}

/// An entry, and where its bytes are if it is a file in an archive.
pub(in crate::engine) struct Item {
    pub(in crate::engine) entry: Entry,
    pub(in crate::engine) member: Option<Result<Layout>>,
}

impl AsRef<Entry> for Item {
    fn as_ref(&self) -> &Entry {
        &self.entry
    }
}

impl Item {
    /// Where the bytes of the file are that the entry is.
    pub(in crate::engine) fn layout(
        member: Option<Result<Layout>>,
        entry: &Entry,
        chunk_index: &ChunkIndex<'_>,
    ) -> Result<Layout> {
        member.unwrap_or_else(|| layout_of(chunk_index, entry.content, entry.size))
    }
}

impl Resolved<'_> {
    /// Every path of the snapshot with a backslash in it, and of the archive that was looked into: one of these could be
    /// what another name is spelled like.
    ///
    /// # Errors
    /// [`Error::Damaged`] if the snapshot is.
    pub(crate) fn paths_with_backslash(&self) -> Result<HashSet<EntryPath>> {
        let members: Box<dyn Iterator<Item = Result<Entry>>> = match &self.inside {
            None => Box::new(std::iter::empty()),
            Some(_) => self.entries()?,
        };
        let mut paths = HashSet::new();
        for entry in self.snapshot.entries().chain(members) {
            let path = entry?.path;
            if path.as_bytes().contains(&b'\\') {
                paths.insert(path);
            }
        }
        Ok(paths)
    }

    /// As [`Resolved::entries`], but only those that have the labels and what leads to them, with what it takes to read
    /// them.
    pub(in crate::engine) fn items<'f>(
        &'f self,
        filter: &'f LabelFilter,
    ) -> Result<Box<dyn Iterator<Item = Result<Item>> + 'f>> {
        match &self.inside {
            None => {
                let entries = self.snapshot.within(&self.path)?;
                let items = entries.map(|entry| entry.map(|entry| Item { entry, member: None }));
                Ok(Box::new(filtered(items, filter)))
            }
            Some(Inside { archive, base, named, labels }) => {
                let items = named.iter().map(|named| {
                    let entry = Entry { labels: labels.clone(), ..archive.entry(base, named)? };
                    let member = (entry.kind == EntryKind::File).then(|| archive.member_layout(named.row));
                    Ok(Item { entry, member })
                });
                Ok(Box::new(filtered(items, filter)))
            }
        }
    }

    /// The entry and all below it, in path order. Members of an archive have paths below the archive's.
    ///
    /// # Errors
    /// [`Error::Damaged`] if the snapshot is; the entries themselves say so of the rest.
    pub(crate) fn entries(&self) -> Result<Box<dyn Iterator<Item = Result<Entry>> + '_>> {
        match &self.inside {
            None => Ok(Box::new(self.snapshot.within(&self.path)?)),
            Some(Inside { archive, base, named, labels }) => Ok(Box::new(
                named
                    .iter()
                    .map(|named| archive.entry(base, named).map(|entry| Entry { labels: labels.clone(), ..entry })),
            )),
        }
    }
}

impl Store {
    /// Opens a snapshot to list what is in it. Without a path to go by, [`Selector::NewestWithPath`] is the newest.
    ///
    /// ```
    /// use seamstore::request::{AddRequest, Selector, Settings};
    /// use seamstore::{Control, Store};
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let folder = tempfile::tempdir()?;
    /// # std::fs::write(folder.path().join("notes.txt"), "found again")?;
    /// let store = Store::open_or_init(&folder.path().join("store"), Settings::default())?;
    /// store.add(&AddRequest::default().paths([folder.path().join("notes.txt")]), &Control::default())?;
    ///
    /// let snapshot = store.snapshot(&Selector::Latest)?;
    /// let sizes: Vec<u64> = snapshot.entries().map(|entry| Ok(entry?.size)).collect::<seamstore::Result<_>>()?;
    /// assert_eq!((snapshot.len(), sizes), (1, vec![11]));
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`Error::NoSnapshots`] if the store has none; [`Error::NotFound`] if no snapshot has this id; [`Error::Usage`] if
    /// several ids begin with the digits of [`Selector::Id`]; [`Error::Damaged`] or [`Error::Io`] if the snapshot, or one
    /// that may be newer, cannot be read.
    pub fn snapshot(&self, selector: &Selector) -> Result<Snapshot<'_>> {
        let Resolved { snapshot, passed_over, .. } = self.resolve(Path::new(""), selector)?;
        match passed_over.first() {
            // Which snapshot is the newest is unknown, and nobody would see a warning.
            Some(unreadable) => Snapshot::open(self.storage(), unreadable.id).map(|_| snapshot),
            None => Ok(snapshot),
        }
    }

    /// Opens the snapshot that is selected and has `path`. Snapshots that cannot be read are passed over, unless one is
    /// selected by its id: see [`Resolved::passed_over`].
    ///
    /// # Errors
    /// [`Error::NotFound`], with the nearest names; [`Error::NoSnapshots`]; [`Error::Damaged`] or [`Error::Io`] of a snapshot
    /// that cannot be read, if it is the one selected or no other has the path.
    pub(crate) fn resolve(&self, path: &Path, selector: &Selector) -> Result<Resolved<'_>> {
        self.resolve_any(&[Wanted::of(path)], selector)
    }

    /// As [`Store::resolve`], of a path that a person gives: as it is, or as a listing spells it
    /// ([`crate::spelling`]). In one snapshot, the path as it is given counts first; one that begins with exactly
    /// two slashes is spelled and nothing else.
    ///
    /// # Errors
    /// As [`Store::resolve`].
    pub(crate) fn resolve_spelled(&self, path: &Path, selector: &Selector) -> Result<Resolved<'_>> {
        let given = path.as_os_str().as_bytes();
        let spelling = given.strip_prefix(b"//").filter(|rest| !rest.starts_with(b"/"));
        let read = Some(given).filter(|given| given.contains(&b'\\')).and_then(unspelled);
        let read = read.map(|bytes| Wanted::of(Path::new(OsStr::from_bytes(&bytes))));
        let wanted = match (spelling, read) {
            (Some(_), Some(read)) => vec![read],
            (_, read) => [Wanted::of(path)].into_iter().chain(read).collect(),
        };
        self.resolve_any(&wanted, selector)
    }

    fn resolve_any(&self, wanted: &[Wanted], selector: &Selector) -> Result<Resolved<'_>> {
        let list = match selector {
            Selector::Id(_) => SnapshotList::default(),
            Selector::NewestWithPath | Selector::Latest => self.snapshot_list()?,
        };
        let ids: Vec<SnapshotId> = match selector {
            Selector::Id(prefix) => vec![self.snapshot_by_prefix(prefix)?],
            _ => list.snapshots.iter().map(|summary| summary.id).collect(),
        };
        let mut passed_over = list.unreadable;
        if ids.is_empty() && passed_over.is_empty() {
            return Err(Error::NoSnapshots);
        }
        let mut newest = None;
        for id in ids {
            let snapshot = match Snapshot::open(self.storage(), id) {
                Ok(snapshot) => snapshot,
                Err(error) if matches!(selector, Selector::Id(_)) => return Err(error),
                // It was removed after it was listed.
                Err(Error::NotFound { .. }) => continue,
                Err(error) => {
                    passed_over.push(UnreadableSnapshot::of(id, error)?);
                    continue;
                }
            };
            for Wanted { path, is_folder } in wanted {
                if let Some(inside) = self.place_in(&snapshot, path, *is_folder)? {
                    return Ok(Resolved { snapshot, path: path.clone(), passed_over, inside });
                }
            }
            newest.get_or_insert(snapshot);
            if *selector == Selector::Latest {
                break;
            }
        }
        let path = wanted.first().map(|wanted| wanted.path.clone()).unwrap_or_default();
        if let Some(unreadable) = passed_over.first() {
            return Err(self.unreadable(unreadable, &path, newest.is_some()));
        }
        let near = newest.map_or(Ok(Vec::new()), |snapshot| near_names(&snapshot, &path))?;
        Err(Error::NotFound { what: format!("path {path:?}"), near })
    }

    /// The error for a path that only a snapshot which cannot be read may have.
    fn unreadable(&self, unreadable: &UnreadableSnapshot, path: &EntryPath, others: bool) -> Error {
        let UnreadableSnapshot { id, what, .. } = unreadable;
        match Snapshot::open(self.storage(), *id) {
            Err(Error::Damaged { file, offset, what }) if others => {
                let what = format!("{what} (no snapshot that can be read has {path:?})");
                Error::Damaged { file, offset, what }
            }
            Err(error) => error,
            // It can be read now.
            Ok(_) => {
                let file = self.storage().describe(&ObjectName::Snapshot(*id));
                Error::io("read", file, std::io::Error::other(what.clone()))
            }
        }
    }

    /// Whether a snapshot has a path, and if so, in which archive it is, if it is in one.
    fn place_in(&self, snapshot: &Snapshot<'_>, wanted: &EntryPath, is_folder: bool) -> Result<Option<Option<Inside>>> {
        let is_there = wanted.is_root() || snapshot.within(wanted)?.next().is_some();
        if is_there && !is_folder {
            return Ok(Some(None));
        }
        let mut above = Some(wanted.clone());
        while let Some(path) = above.take() {
            match snapshot.find(&path)?.map(|entry| (entry.content, entry.labels)) {
                Some((Content::Archive(id, _), labels)) => {
                    let inner = wanted.below(&path).unwrap_or_default();
                    return Ok(Inside::find(&self.chunk_index()?, id, (path, labels), &inner)?.map(Some));
                }
                Some(_) => break,
                None => above = path.parent(),
            }
        }
        Ok(is_there.then_some(None))
    }
}

/// The paths of a snapshot that end like the one wanted, or else are spelled nearly like it.
fn near_names(snapshot: &Snapshot<'_>, wanted: &EntryPath) -> Result<Vec<String>> {
    let mut ranked: Vec<(usize, EntryPath)> = Vec::new();
    let bytes = wanted.as_bytes().to_vec();
    let distance_max = bytes.len() / 3;
    for entry in snapshot.entries().take(NEAR_SEARCH_MAX) {
        let path = entry?.path;
        let distance = if path.name() == wanted.name() {
            Some(0)
        } else {
            let may_be_near = path.as_bytes().len().abs_diff(bytes.len()) <= distance_max;
            let edits = may_be_near.then(|| generic_levenshtein(&path.as_bytes().to_vec(), &bytes));
            edits.filter(|edits| *edits <= distance_max).map(|edits| 1 + edits)
        };
        if let Some(distance) = distance {
            ranked.push((distance, path));
            ranked.sort();
            ranked.truncate(NEAR_NAMES);
        }
    }
    Ok(ranked.into_iter().map(|(_, path)| format!("{path:?}")).collect())
}
