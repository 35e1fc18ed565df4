//! Did the file system keep the metadata that it accepted?
//!
//! Some accept a mode or an owner and ignore it (exFAT, FAT and NTFS by FUSE), round times (FAT to 2 s, exFAT to 10 ms,
//! ext4 with small inodes to 1 s) or move a time outside of their range to its end. No error tells. So metadata is read
//! back, but not of every file: what a file system did with a mode or an owner once it does again. Each mode without
//! set-id and sticky bits of each kind of file, and each owner, is read back once for each file system; one that was not
//! kept is read back of every file. The unit of times is found by one trial; times are read back where it is not a nanosecond, and where
//! a time is outside of the range that every file system has.

use std::collections::{HashMap, HashSet};
use std::sync::{Mutex, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use rustix::fs::{Stat, Timespec, Timestamps, UTIME_OMIT};
use rustix::io;

use crate::format::entry::EntryKind;

/// Modes and owners that are remembered of a file system; of those beyond, every file is read back.
const REMEMBERED_MAX: usize = 4096;
const SPECIAL_BITS: u32 = 0o7000;
const SECOND_NS: i64 = 1_000_000_000;
/// Seconds since 1970 that a signed 32-bit number has: what ext4 with small inodes and older XFS keep.
const COMMON_SECONDS: std::ops::RangeInclusive<i64> = i32::MIN as i64..=i32::MAX as i64;
/// A time that no unit divides, in an odd second.
const TRIAL_NS: i64 = 1_234_567_891_123_456_789;
/// Units of times in use, and what they are called.
const UNITS: [(i64, &str); 7] = [
    (1, "1 ns"),
    (100, "100 ns"),
    (1_000, "1 µs"),
    (1_000_000, "1 ms"),
    (10_000_000, "10 ms"),
    (SECOND_NS, "1 s"),
    (2 * SECOND_NS, "2 s"),
];

/// What was set without an error; `None` of what was not set.
#[derive(Debug, Default)]
pub(super) struct Set {
    pub(super) mode: Option<(EntryKind, u32)>,
    pub(super) uid: Option<u32>,
    pub(super) gid: Option<u32>,
    pub(super) mtime_ns: Option<i64>,
}

/// What is known of each file system written to, by device number.
#[derive(Debug, Default)]
pub(super) struct Kept {
    known: Mutex<HashMap<u64, Habits>>,
}

#[derive(Debug, Default)]
struct Habits {
    modes: HashSet<(EntryKind, u32)>,
    owners: HashSet<(Option<u32>, Option<u32>)>,
    /// Index in [`UNITS`]; `None` before the trial, or where no unit explains what came back.
    unit: Option<usize>,
    was_tried: bool,
    sets_access: bool,
    has_rounded: bool,
}

impl Kept {
    /// Finds out what a file system makes of times, by what it makes of one; once for each file system. To be called
    /// before the file's own time is set. Whether the access time has to be set with it: file systems made with libfuse 2
    /// (exfat-fuse) ignore a modification time that comes alone.
    pub(super) fn try_times(
        &self,
        device: u64,
        set: impl Fn(&Timestamps) -> io::Result<()>,
        stat: impl Fn() -> io::Result<Stat>,
    ) -> bool {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let habits = known.entry(device).or_default();
        if std::mem::replace(&mut habits.was_tried, true) {
            return habits.sets_access;
        }
        for sets_access in [false, true] {
            let Ok(stat) = set(&timestamps(TRIAL_NS, sets_access)).and_then(|()| stat()) else { break };
            let off = mtime_of(&stat).abs_diff(TRIAL_NS);
            habits.unit = UNITS.iter().position(|(unit, _)| off < unit.unsigned_abs());
            if habits.unit.is_some() {
                habits.sets_access = sets_access;
                break;
            }
        }
        habits.sets_access
    }

    /// What the file system did not keep of what it accepted, in words; empty if it kept all, or is known to.
    pub(super) fn missing(&self, device: u64, set: &Set, stat: impl FnOnce() -> io::Result<Stat>) -> Vec<String> {
        let owner = (set.uid, set.gid);
        let is_common = |mtime_ns: i64| COMMON_SECONDS.contains(&mtime_ns.div_euclid(SECOND_NS));
        let unit = {
            let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
            let habits = known.entry(device).or_default();
            let is_kept = set.mode.is_none_or(|mode| habits.modes.contains(&mode))
                && (owner == (None, None) || habits.owners.contains(&owner))
                && set.mtime_ns.is_none_or(|mtime_ns| habits.unit == Some(0) && is_common(mtime_ns));
            if is_kept {
                return Vec::new();
            }
            habits.unit.and_then(|unit| UNITS.get(unit)).map_or(0, |(unit, _)| *unit)
        };
        // What cannot be read back is not known to be lost.
        let Ok(stat) = stat() else { return Vec::new() };
        let mut missing = Vec::new();
        let mode = stat.st_mode & 0o7777;
        if let Some((_, wanted)) = set.mode.filter(|(_, wanted)| *wanted != mode) {
            missing.push(format!("the mode {wanted:04o} as {mode:04o}"));
        }
        if let Some(wanted) = set.uid.filter(|wanted| *wanted != stat.st_uid) {
            missing.push(format!("the owner {wanted} as {}", stat.st_uid));
        }
        if let Some(wanted) = set.gid.filter(|wanted| *wanted != stat.st_gid) {
            missing.push(format!("the group {wanted} as {}", stat.st_gid));
        }
        let off = set.mtime_ns.map_or(0, |wanted| wanted.abs_diff(mtime_of(&stat)));
        if let Some(wanted) = set.mtime_ns.filter(|_| off > 0 && off >= unit.unsigned_abs()) {
            missing.push(format!("the modification time {} as {}", seconds(wanted), seconds(mtime_of(&stat))));
        }
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let habits = known.entry(device).or_default();
        habits.has_rounded |= off > 0 && off < unit.unsigned_abs();
        if let Some(kept) = set.mode.filter(|(_, wanted)| *wanted == mode && wanted & SPECIAL_BITS == 0)
            && habits.modes.len() < REMEMBERED_MAX
        {
            habits.modes.insert(kept);
        }
        let has_owner = set.uid.is_none_or(|uid| uid == stat.st_uid) && set.gid.is_none_or(|gid| gid == stat.st_gid);
        if has_owner && habits.owners.len() < REMEMBERED_MAX {
            habits.owners.insert(owner);
        }
        missing
    }

    /// The units to which times of restored files were rounded.
    pub(super) fn rounded_to(&self) -> Vec<&'static str> {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let rounded = known.values().filter(|habits| habits.has_rounded);
        let mut units: Vec<_> = rounded.filter_map(|habits| UNITS.get(habits.unit?)).collect();
        units.sort_unstable();
        units.dedup();
        units.into_iter().map(|(_, word)| *word).collect()
    }
}

/// A modification time to set. The access time stays what it is, or becomes the present.
pub(super) fn timestamps(mtime_ns: i64, sets_access: bool) -> Timestamps {
    let last_access = if sets_access {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Timespec { tv_sec: i64::try_from(now.as_secs()).unwrap_or_default(), tv_nsec: now.subsec_nanos().into() }
    } else {
        Timespec { tv_sec: 0, tv_nsec: UTIME_OMIT }
    };
    let last_modification =
        Timespec { tv_sec: mtime_ns.div_euclid(SECOND_NS), tv_nsec: mtime_ns.rem_euclid(SECOND_NS) };
    Timestamps { last_access, last_modification }
}

fn mtime_of(stat: &Stat) -> i64 {
    stat.st_mtime.saturating_mul(SECOND_NS).saturating_add(stat.st_mtime_nsec as i64)
}

/// Nanoseconds as seconds since 1970.
fn seconds(ns: i64) -> String {
    format!("{}.{:09}", ns.div_euclid(SECOND_NS), ns.rem_euclid(SECOND_NS))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::cell::Cell;
    use std::fs::File;
    use std::os::fd::AsFd;
    use std::os::unix::fs::PermissionsExt;

    use rustix::fs::{fstat, futimens};

    use super::*;

    fn with_mode(mode: u32) -> Set {
        Set { mode: Some((EntryKind::File, mode)), ..Set::default() }
    }

    #[test]
    fn a_mode_that_was_kept_once_is_not_read_back_and_a_lost_one_always_is() {
        let file = tempfile::tempfile().unwrap();
        let kept = Kept::default();
        let reads = Cell::new(0);
        let stat = || {
            reads.set(reads.get() + 1);
            fstat(&file)
        };
        file.set_permissions(std::fs::Permissions::from_mode(0o640)).unwrap();
        assert_eq!(kept.missing(1, &with_mode(0o640), stat), [""; 0]);
        assert_eq!(kept.missing(1, &with_mode(0o640), stat), [""; 0]);
        assert_eq!(reads.get(), 1);
        // Another file system, another kind of file, another mode.
        kept.missing(2, &with_mode(0o640), stat);
        kept.missing(1, &Set { mode: Some((EntryKind::Directory, 0o640)), ..Set::default() }, stat);
        assert_eq!(reads.get(), 3);
        for _ in 0..2 {
            assert_eq!(kept.missing(1, &with_mode(0o600), stat), ["the mode 0600 as 0640"]);
        }
        // Whether set-id bits are kept depends on the owner.
        file.set_permissions(std::fs::Permissions::from_mode(0o1640)).unwrap();
        for _ in 0..2 {
            assert_eq!(kept.missing(1, &with_mode(0o1640), stat), [""; 0]);
        }
        assert_eq!(reads.get(), 7);
    }

    /// Sets the time of a file as a file system does that has a unit of times.
    fn set_in(unit: i64, file: &File, times: &Timestamps) -> io::Result<()> {
        let ns = times.last_modification.tv_sec * SECOND_NS + times.last_modification.tv_nsec;
        futimens(file.as_fd(), &timestamps(ns - ns.rem_euclid(unit), false))
    }

    #[test]
    fn a_rounded_time_is_reported_once_and_one_that_is_further_off_of_each_file() {
        let file = tempfile::tempfile().unwrap();
        for (unit, word) in UNITS {
            let kept = Kept::default();
            kept.try_times(1, |times| set_in(unit, &file, times), || fstat(&file));
            let set = Set { mtime_ns: Some(1_600_000_001_222_333_444), ..Set::default() };
            set_in(unit, &file, &timestamps(1_600_000_001_222_333_444, false)).unwrap();
            assert_eq!(kept.missing(1, &set, || fstat(&file)), [""; 0], "{word}");
            assert_eq!(kept.rounded_to(), if unit == 1 { vec![] } else { vec![word] });
            // Moved to the end of the file system's range.
            let early = Set { mtime_ns: Some(-9_000_000_000 * SECOND_NS), ..Set::default() };
            assert_eq!(kept.missing(1, &early, || fstat(&file)).len(), 1, "{word}");
        }
    }

    #[test]
    fn where_a_modification_time_alone_is_ignored_the_access_time_is_set_with_it() {
        let file = tempfile::tempfile().unwrap();
        let kept = Kept::default();
        let set = |times: &Timestamps| match times.last_access.tv_nsec {
            UTIME_OMIT => Ok(()),
            _ => futimens(&file, times),
        };
        for _ in 0..2 {
            assert!(kept.try_times(1, set, || fstat(&file)));
        }
        assert!(!kept.try_times(2, |times| futimens(&file, times), || fstat(&file)));
    }
}
