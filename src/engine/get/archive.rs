//! What is in an archive, and where? Its table is read once; then any member, or all of the archive, is laid out in the
//! chunks of its stored stream.
//!
//! Invariant: what is laid out lies within the parts that it belongs to, whatever the table says.

use std::collections::{HashMap, HashSet};
use std::ops::Range;

use super::stream::{collect, read_window};
use crate::catalog::members::Members;
use crate::engine::layout::Layout;
use crate::engine::locate::Locator;
use crate::error::{Error, Result};
use crate::format::archive::{ArchiveFooter, ArchiveForm, ArchiveParts, FOOTER_BYTES, Member, MemberKind, SparseRun};
use crate::format::entry::{Content, Entry, EntryKind, EntryPath, Identity};
use crate::format::id::RecipeId;
use crate::format::label::Labels;
use crate::format::recipe::Piece;
use crate::format::spelling::quoted;

/// Where a file's bytes are.
///
/// # Errors
/// [`Error::Damaged`] if its recipe, or the table of the archive that it is, is lost or says what cannot be.
pub(in crate::engine) fn layout_of(locator: &Locator<'_>, content: Content, size: u64) -> Result<Layout> {
    let layout = match content {
        Content::Archive(id, ArchiveForm::TarIn(_)) => {
            let (pieces, parts) = parts_of(locator, id)?;
            let mut layout = Layout::default();
            layout.push(&pieces, parts.original);
            layout
        }
        Content::Archive(id, _) => OpenArchive::open(locator, id)?.layout()?,
        _ => return Ok(Layout::of_pieces(&locator.pieces_of_content(content, size)?)),
    };
    if layout.bytes() != size {
        let what = format!("a file of {size} bytes is said to be {content:?}, of {}", layout.bytes());
        return Err(Error::damaged("snapshots", 0, what));
    }
    Ok(layout)
}

/// Replaces `bytes` by a range of a file.
pub(in crate::engine) fn read_range(
    locator: &Locator<'_>,
    layout: &Layout,
    range: Range<u64>,
    bytes: &mut Vec<u8>,
) -> Result<()> {
    read_window(locator, layout, range, bytes)
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

fn parts_of(locator: &Locator<'_>, id: RecipeId) -> Result<(Vec<Piece>, ArchiveParts)> {
    let damaged = |what: String| Error::damaged(format!("archive {id}"), 0, what);
    let pieces = locator.recipe(&id)?;
    let stored_bytes = pieces.last().map_or(0, |piece| piece.end);
    let mut end = Layout::default();
    end.push(&pieces, stored_bytes.saturating_sub(FOOTER_BYTES as u64)..stored_bytes);
    let footer = ArchiveFooter::parse(&collect(locator, &end)?).map_err(damaged)?;
    let parts = footer.parts(stored_bytes).map_err(damaged)?;
    Ok((pieces, parts))
}

impl OpenArchive {
    /// Reads the table of an archive.
    ///
    /// # Errors
    /// [`Error::Damaged`] if it is lost or is none.
    pub(in crate::engine) fn open(locator: &Locator<'_>, id: RecipeId) -> Result<Self> {
        let (pieces, parts) = parts_of(locator, id)?;
        let mut table = Layout::default();
        table.push(&pieces, parts.table.clone());
        let members = Members::read(id, collect(locator, &table)?)?;
        let mut starts = Vec::with_capacity(members.len());
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
        Error::damaged(format!("archive {}", self.id), 0, format!("{what}, its parts are {:?}", self.parts))
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

    /// The members that can be read by name, in path order: of several of one name the last.
    pub(in crate::engine) fn named(&self) -> Result<Vec<Named>> {
        let mut named = Vec::new();
        for found in self.members.iter() {
            let (row, member) = found?;
            if let (Some(path), true) = (member.entry_path(), member.kind != MemberKind::Other) {
                named.push(Named { path, row });
            }
        }
        // The last row of a path comes first, and stays.
        named.sort_unstable_by(|a, b| a.path.cmp(&b.path).then(b.row.cmp(&a.row)));
        named.dedup_by(|a, b| a.path == b.path);
        Ok(named)
    }

    /// The row whose content a member has: its own, unless it is a further name of another. `None` if it is one of a
    /// name that did not come before.
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
    /// [`Error::Usage`] if the archive does not have all of it.
    pub(in crate::engine) fn member_layout(&self, row: usize) -> Result<Layout> {
        let shown = |name: &[u8]| quoted(name).to_string();
        let Some(row) = self.content_row(row) else {
            let link = self.members.get(row)?;
            let (path, target) = (shown(&link.path), shown(&link.link_target));
            return Err(Error::Usage(format!("{path} is another name of {target}, which is not in the archive")));
        };
        let member = self.members.get(row)?;
        if member.missing_bytes > 0 {
            let (path, missing) = (shown(&member.path), member.missing_bytes);
            return Err(Error::Usage(format!("{path} is not whole: the archive ends {missing} bytes before it does")));
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

/// Which members are further names, and of which members: of the last of the name before them. And those.
fn links_of(members: &Members) -> Result<(Links, HashSet<usize>)> {
    let (mut links, mut linked) = (HashMap::new(), HashSet::new());
    if !members.has_links() {
        return Ok((links, linked));
    }
    let mut rows = HashMap::new();
    for found in members.iter() {
        let (row, member) = found?;
        // A link may come with the content.
        if member.kind == MemberKind::HardLink && member.content_bytes == 0 {
            let target = member.target_path().and_then(|path| rows.get(&path)).copied();
            let target = target.and_then(|target| links.get(&target).copied().unwrap_or(Some(target)));
            linked.extend(target);
            links.insert(row, target);
        }
        if let (Some(path), true) = (member.entry_path(), member.kind != MemberKind::Other) {
            rows.insert(path, row);
        }
    }
    Ok((links, linked))
}
