//! Has this file changed since the last snapshot? If its metadata says no, it is not read again.

use crate::catalog::snapshot::{ParentCursor, Snapshot};
use crate::error::Result;
use crate::format::archive_form::ArchiveForm;
use crate::format::entry::{Content, Entry, EntryKind, Identity};
use crate::ingest::{Stat, WalkedEntry};

/// A tick of the kernel's clock is at most 10 ms long; twice that.
const TICK_NS: i64 = 20_000_000;

/// A store through a shared mapping moves a file's modification time only when the page was clean. Linux cleans a page
/// within 35 seconds of that store (`vm.dirty_expire_centisecs` and `vm.dirty_writeback_centisecs`), and until then any
/// number of stores go unseen. The rest of the minute is for clocks of servers that differ from this machine's.
const MAPPED_NS: i64 = 60_000_000_000;

/// A stamp in whole seconds comes from a clock of one second (ext4 with 128-byte inodes, HFS+, sshfs) or of two (FAT).
const WHOLE_SECONDS_GRAIN_NS: i64 = 2_000_000_000;

/// Other steps of clocks that are coarser than the tick, or as coarse: exFAT counts in 10 ms.
const GRAINS_NS: [i64; 2] = [100_000_000, 10_000_000];

/// Follows the walk through the parent snapshot; both come in path order.
#[derive(Debug)]
pub(super) struct Parent<'a, 's> {
    cursor: ParentCursor<'a, 's>,
    /// When the parent's add began.
    begun_ns: i64,
}

impl<'a, 's> Parent<'a, 's> {
    /// `now_ns` is when this add began. If the clock was set back since the parent's add began, stamps from the time in
    /// between may occur twice.
    pub(super) fn new(snapshot: &'a Snapshot<'s>, now_ns: i64) -> Self {
        Self { cursor: snapshot.parent_cursor(), begun_ns: snapshot.info().time_ns.min(now_ns) }
    }

    /// The parent's row for this entry, if metadata prove it unchanged: kind, size, modification time, inode change
    /// time and inode are the same, and both times prove that nothing changed after the parent read it.
    pub(super) fn unchanged(&mut self, found: &WalkedEntry) -> Result<Option<Entry>> {
        let Some(mut entry) = self.cursor.seek(&found.path)? else { return Ok(None) };
        let stat = &found.stat;
        let same = entry.kind == stat.kind
            && (entry.kind != EntryKind::File || entry.size == stat.size || is_unpacked(entry.content))
            && entry.mtime_ns == stat.mtime_ns
            && entry.identity.ctime_ns == stat.identity.ctime_ns
            && entry.identity.inode == stat.identity.inode
            && entry.identity.links == stat.identity.links
            && proves(stat, self.begun_ns);
        // Device numbers change from boot to boot; hard links are recognised by those of today.
        entry.identity = stat.identity;
        Ok(same.then_some(entry))
    }
}

/// Whether equal stamps prove that an entry is as it was when an add that began at `begun_ns` looked at it: a change after
/// that would have left other stamps.
fn proves(stat: &Stat, begun_ns: i64) -> bool {
    let Stat { mtime_ns, identity: Identity { ctime_ns, .. }, .. } = *stat;
    // What was saturated may have been any time.
    let is_exact = mtime_ns != i64::MIN && ctime_ns != i64::MIN;
    let is_mappable = stat.kind == EntryKind::File && stat.size > 0;
    let mtime_margin_ns = if is_mappable { MAPPED_NS } else { grain_ns(mtime_ns) };
    let is_older = |stamp_ns: i64, margin_ns| stamp_ns.saturating_add(margin_ns).saturating_add(TICK_NS) < begun_ns;
    is_exact && is_older(mtime_ns, mtime_margin_ns) && is_older(ctime_ns, grain_ns(ctime_ns))
}

/// The step of the coarsest clock that a stamp may come from: file systems do not say how fine theirs is.
fn grain_ns(stamp_ns: i64) -> i64 {
    if stamp_ns % 1_000_000_000 == 0 {
        return WHOLE_SECONDS_GRAIN_NS;
    }
    GRAINS_NS.into_iter().find(|grain| stamp_ns % grain == 0).unwrap_or(0)
}

/// Whether the size of a file's entry is that of what was in it. A change of its own would show in its times.
fn is_unpacked(content: Content) -> bool {
    matches!(content, Content::Archive(_, ArchiveForm::TarFrom(_)))
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: i64 = 1_000_000;
    const SECOND: i64 = 1000 * MS;
    /// A stamp of a fine clock.
    const FINE: i64 = 1_700_000_001 * SECOND + 123_456_789;

    fn stat(kind: EntryKind, mtime_ns: i64, ctime_ns: i64) -> Stat {
        Stat {
            kind,
            mode: 0o644,
            uid: 0,
            gid: 0,
            size: u64::from(kind == EntryKind::File),
            allocated_bytes: 0,
            mtime_ns,
            is_mtime_saturated: false,
            rdev: 0,
            identity: Identity { ctime_ns, ..Identity::default() },
        }
    }

    /// How long an add must begin after a stamp for the stamp to prove something.
    fn margin_of(stat: &Stat, newest_ns: i64) -> i64 {
        let (mut no, mut yes) = (0, 1000 * SECOND);
        while no + 1 < yes {
            let middle = no + (yes - no) / 2;
            if proves(stat, newest_ns + middle) { yes = middle } else { no = middle }
        }
        yes - 1
    }

    #[test]
    fn a_stamp_proves_nothing_until_its_own_clock_has_moved_on() {
        let whole = FINE - FINE % SECOND;
        for (ctime, grain) in [
            (FINE, 0),
            (whole + 120 * MS, 10 * MS),
            (whole + 300 * MS, 100 * MS),
            (whole, 2 * SECOND),
            (whole + SECOND, 2 * SECOND),
            (-whole, 2 * SECOND),
        ] {
            // As a tar leaves a file: an old modification time in whole seconds.
            let unpacked = stat(EntryKind::File, ctime - 5000 * SECOND - 1, ctime);
            assert_eq!(margin_of(&unpacked, ctime), grain + TICK_NS, "{ctime}");
            let directory = stat(EntryKind::Directory, ctime, ctime);
            assert_eq!(margin_of(&directory, ctime), grain + TICK_NS, "{ctime}");
        }
    }

    #[test]
    fn a_file_that_may_have_a_dirty_mapping_is_read_again() {
        let file = stat(EntryKind::File, FINE, FINE);
        assert_eq!(margin_of(&file, FINE), 60 * SECOND + TICK_NS);
        let empty = Stat { size: 0, ..file };
        assert_eq!(margin_of(&empty, FINE), TICK_NS);
    }

    #[test]
    fn a_stamp_from_the_future_or_outside_of_the_range_proves_nothing() {
        for (mtime, ctime) in [(FINE + SECOND, 0), (0, FINE + SECOND), (i64::MAX, 0), (i64::MIN, 0), (0, i64::MIN)] {
            assert!(!proves(&stat(EntryKind::File, mtime, ctime), FINE), "{mtime} {ctime}");
        }
        assert!(proves(&stat(EntryKind::File, 0, 0), FINE));
        // A clock that is at the end of what a snapshot can hold.
        assert!(!proves(&stat(EntryKind::File, i64::MAX, i64::MAX), i64::MAX));
    }
}
