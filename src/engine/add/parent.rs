//! Has this file changed since the last snapshot? If its metadata says no, it is not read again.

use crate::catalog::snapshot::{ParentCursor, Snapshot};
use crate::error::Result;
use crate::format::archive::ArchiveForm;
use crate::format::entry::{Content, Entry, EntryKind};
use crate::ingest::Found;

/// File systems stamp changes with a coarse clock. A file changed within this time before the parent snapshot began
/// (or after) may have been changed once more with the same stamp, so its metadata prove nothing.
const CLOCK_GRAIN_NS: i64 = 20_000_000;

/// Follows the walk through the parent snapshot; both come in path order.
#[derive(Debug)]
pub(super) struct Parent<'a, 's> {
    cursor: ParentCursor<'a, 's>,
    trusted_before_ns: i64,
}

impl<'a, 's> Parent<'a, 's> {
    pub(super) fn new(snapshot: &'a Snapshot<'s>) -> Self {
        let trusted_before_ns = snapshot.info().time_ns.saturating_sub(CLOCK_GRAIN_NS);
        Self { cursor: snapshot.parent_cursor(), trusted_before_ns }
    }

    /// The parent's row for this entry, if metadata prove it unchanged: kind, size, modification time, inode change
    /// time and inode are the same, and both times are older than the parent.
    pub(super) fn unchanged(&mut self, found: &Found) -> Result<Option<Entry>> {
        let Some(mut entry) = self.cursor.seek(&found.path)? else { return Ok(None) };
        let stat = &found.stat;
        let same = entry.kind == stat.kind
            && (entry.kind != EntryKind::File || entry.size == stat.size || is_unpacked(entry.content))
            && entry.mtime_ns == stat.mtime_ns
            && entry.identity.ctime_ns == stat.identity.ctime_ns
            && entry.identity.inode == stat.identity.inode
            && entry.identity.links == stat.identity.links
            && stat.mtime_ns.max(stat.identity.ctime_ns) < self.trusted_before_ns;
        // Device numbers change from boot to boot; hard links are told by those of today.
        entry.identity = stat.identity;
        Ok(same.then_some(entry))
    }
}

/// Whether the size of a file's entry is that of what was in it. A change of its own would show in its times.
fn is_unpacked(content: Content) -> bool {
    matches!(content, Content::Archive(_, ArchiveForm::TarFrom(_)))
}
