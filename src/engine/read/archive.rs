//! What is in an archive, and where? Its table is read once; then any member, or all of the archive, is laid out in the
//! chunks of its stored stream.
//!
//! Invariant: what is laid out lies within the parts that it belongs to, whatever the table says.

use std::collections::{HashMap, HashSet};
use std::ops::Range;

use super::stream::collect;
use crate::catalog::members::Members;
use crate::engine::read::layout::Layout;
use crate::engine::store::chunk_index::ChunkIndex;
use crate::error::{Error, Result};
use crate::format::archive::{ArchiveFooter, ArchiveParts, FOOTER_BYTES, Member, MemberKind, SparseRun};
use crate::format::archive_form::ArchiveForm;
use crate::format::entry::{Content, Entry, EntryKind, EntryPath, Identity};
use crate::format::id::RecipeId;
use crate::format::label::Labels;
use crate::format::recipe::Piece;
use crate::spelling::quoted;

/// Where a file's bytes are.
///
/// # Errors
/// [`Error::Damaged`] if its recipe, or the table of the archive that it is, is lost or says what cannot be.
pub(in crate::engine) fn layout_of(chunk_index: &ChunkIndex<'_>, content: Content, size: u64) -> Result<Layout> {
    let layout = match content {
        Content::Archive(id, ArchiveForm::TarIn(_)) => {
            let (pieces, parts) = parts_of(chunk_index, id)?;
            let mut layout = Layout::default();
            layout.push(&pieces, parts.original);
            layout
        }
        Content::Archive(id, _) => OpenArchive::open(chunk_index, id)?.layout()?,
        _ => return Ok(Layout::of_pieces(&chunk_index.pieces_of_content(content, size)?)),
    };
    if layout.bytes() != size {
        let what = format!("a file of {size} bytes is said to be {content:?}, of {}", layout.bytes());
        return Err(Error::damaged_whole("snapshots", what));
    }
    Ok(layout)
}

/// The rows whose contents further names have, by the rows of these.
type Links = HashMap<usize, Option<usize>>;

/// An archive whose table was read.
#[derive(Debug)]
pub(in crate::engine) struct OpenArchive {
    id: RecipeId,
    pieces: Vec<Piece>,
    parts: ArchiveParts,
    members: Members,
    /// Where each member's content begins among the contents.
    starts: Vec<u64>,
    /// The rows whose contents further names have, by the rows of these.
    links: Links,
    /// Rows whose content has further names.
    linked: HashSet<usize>,
}

/// A member that can be read by its name.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(in crate::engine) struct Named {
    /// Its path below the archive's.
    pub(in crate::engine) path: EntryPath,
    /// Its row in the table.
    pub(in crate::engine) row: usize,
}

fn parts_of(chunk_index: &ChunkIndex<'_>, id: RecipeId) -> Result<(Vec<Piece>, ArchiveParts)> {
    let damaged = |what: String| Error::damaged_whole(format!("archive {id}"), what);
    let pieces = chunk_index.recipe(&id)?;
    let stored_bytes = pieces.last().map_or(0, |piece| piece.end);
    let mut end = Layout::default();
    end.push(&pieces, stored_bytes.saturating_sub(FOOTER_BYTES as u64)..stored_bytes);
    let footer = ArchiveFooter::parse(&collect(chunk_index, &end)?).map_err(damaged)?;
    let parts = footer.parts(stored_bytes).map_err(damaged)?;
    Ok((pieces, parts))
}

impl OpenArchive {
    /// Reads the table of an archive.
    ///
    /// # Errors
    /// [`Error::Damaged`] if it is lost or is not an archive.
    pub(in crate::engine) fn open(chunk_index: &ChunkIndex<'_>, id: RecipeId) -> Result<Self> {
        let (pieces, parts) = parts_of(chunk_index, id)?;
        let mut table = Layout::default();
        table.push(&pieces, parts.table.clone());
        let members = Members::read(id, collect(chunk_index, &table)?)?;
        let mut starts = Vec::with_capacity(members.count());
        let mut at = 0u64;
        for (_, content_bytes) in members.lengths() {
            starts.push(at);
            at = at.saturating_add(content_bytes);
        }
        let (links, linked) = links_of(&members)?;
        let archive = Self { id, pieces, parts, members, starts, links, linked };
        if at != archive.parts.contents.end {
            return Err(archive.damaged(format!("the contents of its members have {at} bytes")));
        }
        Ok(archive)
    }

    fn damaged(&self, what: String) -> Error {
        Error::damaged_whole(format!("archive {}", self.id), format!("{what}, its parts are {:?}", self.parts))
    }

    /// All of the archive, as it was.
    pub(in crate::engine) fn layout(&self) -> Result<Layout> {
        let mut layout = Layout::default();
        let Range { start: mut skeleton, end } = self.parts.skeleton.clone();
        let mut content = 0;
        for (skeleton_bytes, content_bytes) in self.members.lengths() {
            let next = skeleton.saturating_add(skeleton_bytes);
            if next > end {
                return Err(self.damaged("its members have more skeleton than there is".to_owned()));
            }
            layout.push(&self.pieces, skeleton..next);
            layout.push(&self.pieces, content..content + content_bytes);
            (skeleton, content) = (next, content + content_bytes);
        }
        layout.push(&self.pieces, skeleton..end);
        Ok(layout)
    }

    /// The members that can be read by name, in path order: of several of one name the last. The archive's own path is that
    /// of directories alone: a file without a name has none.
    pub(in crate::engine) fn named(&self) -> Result<Vec<Named>> {
        let mut named = Vec::new();
        for found in self.members.iter() {
            let (row, member) = found?;
            named.extend(name_of(&member).map(|path| Named { path, row }));
        }
        // The last row of a path comes first, and stays.
        named.sort_unstable_by(|a, b| a.path.cmp(&b.path).then(b.row.cmp(&a.row)));
        named.dedup_by(|a, b| a.path == b.path);
        Ok(named)
    }

    /// The row whose content a member has: its own, unless it is a further name of another. `None` if no member has that
    /// name.
    fn content_row(&self, row: usize) -> Option<usize> {
        self.links.get(&row).copied().unwrap_or(Some(row))
    }

    /// A member as an entry below `base`, the archive's own path. A further name of another member has what that has.
    pub(in crate::engine) fn entry(&self, base: &EntryPath, named: &Named) -> Result<Entry> {
        let row = self.content_row(named.row).unwrap_or(named.row);
        let Member {
            kind, mode, uid, gid, user, group, mtime_ns, size, content_bytes, link_target, rdev, xattrs, ..
        } = self.members.get(row)?;
        let (kind, size) = match kind {
            MemberKind::Entry(kind) => (kind, size),
            MemberKind::HardLink | MemberKind::Other => (EntryKind::File, content_bytes),
        };
        // How names of one file are known of each other.
        let links = if self.linked.contains(&row) { 2 } else { 1 };
        Ok(Entry {
            path: base.below_this(&named.path),
            kind,
            mode,
            uid,
            gid,
            user,
            group,
            mtime_ns,
            size: if kind == EntryKind::File { size } else { 0 },
            content: Content::Empty,
            link_target: if kind == EntryKind::Symlink { link_target } else { Vec::new() },
            rdev,
            identity: Identity { inode: row as u64, links, ..Identity::default() },
            xattrs,
            labels: Labels::default(),
        })
    }

    /// Where the bytes of a member are.
    ///
    /// # Errors
    /// [`Error::NotInArchive`] if the archive does not have all of it.
    pub(in crate::engine) fn member_layout(&self, row: usize) -> Result<Layout> {
        let shown = |name: &[u8]| quoted(name).to_string();
        let Some(row) = self.content_row(row) else {
            let link = self.members.get(row)?;
            let (path, target) = (shown(&link.path), shown(&link.link_target));
            return Err(Error::NotInArchive(format!(
                "{path} is a hard link to {target}, and the archive has no file of that name"
            )));
        };
        let member = self.members.get(row)?;
        if member.missing_bytes > 0 {
            let (path, missing) = (shown(&member.path), member.missing_bytes);
            return Err(Error::NotInArchive(format!(
                "{path} is not whole: the archive ends {missing} bytes before it does"
            )));
        }
        let mut layout = Layout::default();
        let mut content = self.starts.get(row).copied().unwrap_or_default();
        let end = content + member.content_bytes;
        if member.sparse.is_empty() && (member.content_bytes > 0 || member.size == 0) {
            layout.push(&self.pieces, content..end);
            return Ok(layout);
        }
        for SparseRun { offset, length } in &member.sparse {
            let hole = offset.checked_sub(layout.bytes());
            let next = content.checked_add(*length).filter(|next| *next <= end);
            let (Some(hole), Some(next)) = (hole, next) else {
                return Err(self.damaged("the map of a sparse member does not ascend".to_owned()));
            };
            layout.push_hole(hole);
            layout.push(&self.pieces, content..next);
            content = next;
        }
        layout.push_hole(member.size.saturating_sub(layout.bytes()));
        Ok(layout)
    }

    /// The pieces of a member whose content is nothing but whole chunks, as ends within it. `None` for any other.
    pub(in crate::engine) fn member_pieces(&self, row: usize) -> Result<Option<Vec<Piece>>> {
        let Some(row) = self.content_row(row) else { return Ok(None) };
        let member = self.members.get(row)?;
        let start = self.starts.get(row).copied().unwrap_or_default();
        let end = start + member.content_bytes;
        let first = self.pieces.partition_point(|piece| piece.end <= start);
        let last = self.pieces.partition_point(|piece| piece.end <= end);
        let begin = first.checked_sub(1).and_then(|n| self.pieces.get(n)).map_or(0, |piece| piece.end);
        let pieces = self.pieces.get(first..last).unwrap_or_default();
        let is_whole = member.missing_bytes == 0 && member.sparse.is_empty() && begin == start;
        let is_whole = is_whole && pieces.last().map_or(start, |piece| piece.end) == end;
        Ok(is_whole.then(|| pieces.iter().map(|piece| Piece { id: piece.id, end: piece.end - start }).collect()))
    }
}

/// The path below the archive's by which a member can be read.
fn name_of(member: &Member) -> Option<EntryPath> {
    let path = member.entry_path()?;
    let has_name = !path.is_root() || member.kind == MemberKind::Entry(EntryKind::Directory);
    (has_name && member.kind != MemberKind::Other).then_some(path)
}

/// Which members are further names, and of which members: of the last of the name before them, as a program finds it that
/// unpacks front to back; without one, of the last of the name behind them. And those that have further names.
fn links_of(members: &Members) -> Result<(Links, HashSet<usize>)> {
    let mut links = HashMap::new();
    if !members.has_links() {
        return Ok((links, HashSet::new()));
    }
    let mut rows = HashMap::new();
    let mut forward = Vec::new();
    for found in members.iter() {
        let (row, member) = found?;
        // A link may come with the content.
        if member.kind == MemberKind::HardLink && member.content_bytes == 0 {
            match (member.target_path(), member.target_path().and_then(|path| rows.get(&path)).copied()) {
                (_, Some(target)) => drop(links.insert(row, Some(target))),
                (Some(path), None) => forward.push((row, path)),
                (None, None) => drop(links.insert(row, None)),
            }
        }
        if let Some(path) = name_of(&member) {
            rows.insert(path, row);
        }
    }
    links.extend(forward.into_iter().map(|(row, path)| (row, rows.get(&path).copied())));
    follow(&mut links);
    let linked = links.values().copied().flatten().collect();
    Ok((links, linked))
}

/// Replaces links to links by links to what has the content. What leads nowhere, or round in a circle, becomes `None`.
fn follow(links: &mut Links) {
    let mut rows: Vec<usize> = links.keys().copied().collect();
    rows.sort_unstable();
    let mut settled = HashSet::new();
    let mut chain = Vec::new();
    for row in rows {
        let mut end = Some(row);
        while let Some(next) = end.filter(|next| links.contains_key(next)) {
            if settled.contains(&next) {
                end = links.get(&next).copied().flatten();
                break;
            }
            // Settled as leading nowhere until the end is known: so a circle ends where it began.
            settled.insert(next);
            chain.push(next);
            end = links.insert(next, None).flatten();
        }
        for passed in chain.drain(..) {
            links.insert(passed, end);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_lead_to_what_has_the_content_and_circles_nowhere() {
        // 1 to 2 to 9; 3 to itself; 4 to 5 to 6 to 4, and 7 to 5; 8 to nothing, and 10 to 8.
        let given = [(1, 2), (2, 9), (3, 3), (4, 5), (5, 6), (6, 4), (7, 5), (10, 8)];
        let mut links: Links = given.into_iter().map(|(row, target)| (row, Some(target))).collect();
        links.insert(8, None);
        follow(&mut links);
        for (row, target) in links {
            assert_eq!(target, if row <= 2 { Some(9) } else { None }, "{row}");
        }
        // A chain as long as an archive is followed without a call for each link.
        let mut links: Links = (0..200_000).map(|row| (row, Some(row + 1))).collect();
        follow(&mut links);
        assert!(links.values().all(|target| *target == Some(200_000)));
    }
}
