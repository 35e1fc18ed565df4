//! Which snapshots are there, and which one is the newest? Decided here, for everything that asks.
//!
//! A snapshot's **rank** is the largest of: the time at which its add began; its `order_ns`, which an add records when its
//! clock is not ahead of every snapshot that is there; one more than its parent's rank, if the parent is there. The newest
//! snapshot is the one of the highest rank; of equal ranks, the one of the higher id.
//!
//! Invariants: the order is total and depends on the snapshots alone; a snapshot is newer than its parent, and newer than
//! all that were there when it was added, whatever clocks said and whatever is removed later. (Of two adds at once neither
//! knows the other: they are in the order of their times.) A snapshot that cannot be read keeps no other from being listed.

use std::collections::HashMap;
use std::io;

use super::Store;
use super::chunk_index::listed;
use crate::catalog::snapshot::{SnapshotInfo, read_info};
use crate::error::{Error, Result, chain};
use crate::format::id::SnapshotId;
use crate::format::name::{ObjectKind, ObjectName};
use crate::spelling::quoted;
use crate::storage::Storage;

/// Which snapshot.
///
/// ```
/// # use seamstore::{Control, Store, entry::*, report::*, request::*};
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let store = Store::in_memory(Settings::default())?;
/// # let writer = store.writer(WriterOptions::default().threads(1))?;
/// # writer.add_bytes(writer.entry("notes/first.txt", EntryKind::File)?, b"found again".to_vec())?;
/// # let added = writer.finish()?;
/// # let control = Control::default();
/// let newest = store.snapshot(&Selector::Latest)?.id();
/// assert_eq!(store.snapshot(&Selector::Id(newest.to_hex()[..8].to_owned()))?.id(), newest);
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Selector {
    /// The newest one that has the path.
    #[default]
    NewestWithPath,
    /// The newest one.
    Latest,
    /// The one whose id begins with these hexadecimal digits.
    Id(String),
}

/// A snapshot, as a list of snapshots shows it.
///
/// ```
/// # use seamstore::{Control, Store, entry::*, report::*, request::*};
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let store = Store::in_memory(Settings::default())?;
/// # let writer = store.writer(WriterOptions::default().threads(1))?;
/// # writer.add_bytes(writer.entry("notes/first.txt", EntryKind::File)?, b"found again".to_vec())?;
/// # let added = writer.finish()?;
/// # let control = Control::default();
/// let list = store.snapshot_list()?;
/// for unreadable in &list.unreadable {
///     eprintln!("{}: {}", unreadable.id, unreadable.what);
/// }
/// assert_eq!(list.snapshots[0].info.counts.files, 1);
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct SnapshotSummary {
    /// Its id.
    pub id: SnapshotId,
    /// What it says of itself.
    pub info: SnapshotInfo,
}

/// A snapshot that cannot be read.
///
/// ```
/// # use seamstore::{Control, Store, entry::*, report::*, request::*};
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let store = Store::in_memory(Settings::default())?;
/// # let writer = store.writer(WriterOptions::default().threads(1))?;
/// # writer.add_bytes(writer.entry("notes/first.txt", EntryKind::File)?, b"found again".to_vec())?;
/// # let added = writer.finish()?;
/// # let control = Control::default();
/// let list = store.snapshot_list()?;
/// for unreadable in &list.unreadable {
///     eprintln!("{}: {}", unreadable.id, unreadable.what);
/// }
/// assert_eq!(list.snapshots[0].info.counts.files, 1);
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct UnreadableSnapshot {
    /// Its id.
    pub id: SnapshotId,
    /// Why.
    pub what: String,
    /// Whether its stored bytes are to blame, and not, say, permissions.
    pub damaged: bool,
}

/// All snapshots of a store.
///
/// ```
/// # use seamstore::{Control, Store, entry::*, report::*, request::*};
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let store = Store::in_memory(Settings::default())?;
/// # let writer = store.writer(WriterOptions::default().threads(1))?;
/// # writer.add_bytes(writer.entry("notes/first.txt", EntryKind::File)?, b"found again".to_vec())?;
/// # let added = writer.finish()?;
/// # let control = Control::default();
/// let list = store.snapshot_list()?;
/// for unreadable in &list.unreadable {
///     eprintln!("{}: {}", unreadable.id, unreadable.what);
/// }
/// assert_eq!(list.snapshots[0].info.counts.files, 1);
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, Default, PartialEq)]
#[non_exhaustive]
pub struct SnapshotList {
    /// Those that can be read, the newest first.
    pub snapshots: Vec<SnapshotSummary>,
    /// Those that cannot, by id. Where they belong in the order is unknown.
    pub unreadable: Vec<UnreadableSnapshot>,
    /// The rank of the newest.
    pub(in crate::engine) highest_rank: Option<i128>,
}

impl UnreadableSnapshot {
    /// Takes an error of opening a snapshot for one of that snapshot alone.
    ///
    /// # Errors
    /// The error, if it is of the process or of the whole store: too many open files, no memory.
    pub(in crate::engine) fn of(id: SnapshotId, error: Error) -> Result<Self> {
        let damaged = matches!(error, Error::Damaged { .. } | Error::FormatVersion { .. });
        let is_own = match &error {
            Error::Io { source, .. } => !is_shortage(source),
            _ => damaged,
        };
        if is_own { Ok(Self { id, what: chain(&error), damaged }) } else { Err(error) }
    }
}

/// Whether the process lacks something that it needs to read any file.
fn is_shortage(error: &io::Error) -> bool {
    use rustix::io::Errno;
    let short = [Errno::MFILE, Errno::NFILE, Errno::NOMEM, Errno::INTR].map(Errno::raw_os_error);
    error.raw_os_error().is_some_and(|code| short.contains(&code)) || error.kind() == io::ErrorKind::OutOfMemory
}

impl Store {
    /// The ids of all snapshots, in no particular order.
    ///
    /// # Errors
    /// [`Error::Io`] if the store cannot be listed.
    pub fn snapshot_ids(&self) -> Result<Vec<SnapshotId>> {
        listed(self.storage(), ObjectKind::Snapshot, ObjectName::snapshot)
    }

    /// All snapshots, the newest first, and those that cannot be read.
    ///
    /// # Errors
    /// [`Error::Io`] if the store cannot be listed, or nothing can be read because the process may open no more files.
    pub fn snapshot_list(&self) -> Result<SnapshotList> {
        SnapshotList::of(self.storage())
    }

    /// All snapshots, the newest first.
    ///
    /// # Errors
    /// One of them cannot be read: [`Store::snapshot_list`] has the others.
    pub fn snapshots(&self) -> Result<Vec<SnapshotSummary>> {
        let SnapshotList { snapshots, unreadable, .. } = self.snapshot_list()?;
        for UnreadableSnapshot { id, .. } in unreadable {
            match read_info(self.storage(), id) {
                Ok(_) | Err(Error::NotFound { .. }) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(snapshots)
    }
    /// The one snapshot whose id begins with these hexadecimal digits.
    pub(in crate::engine) fn snapshot_by_prefix(&self, prefix: &str) -> Result<SnapshotId> {
        let matching: Vec<_> = self.snapshot_ids()?.into_iter().filter(|id| id.to_hex().starts_with(prefix)).collect();
        match matching.as_slice() {
            [id] => Ok(*id),
            [] => Err(Error::not_found(format!("snapshot {}", quoted(prefix)))),
            many => Err(Error::Usage(format!(
                "{} is the beginning of {} snapshot ids; give more digits",
                quoted(prefix),
                many.len()
            ))),
        }
    }
}

impl SnapshotList {
    /// All snapshots of a storage, the newest first, and those that cannot be read.
    ///
    /// # Errors
    /// The store cannot be listed, or nothing can be read, because the process may open no more files, say.
    pub(in crate::engine) fn of(storage: &dyn Storage) -> Result<Self> {
        let mut list = Self::default();
        let ids: Vec<SnapshotId> = listed(storage, ObjectKind::Snapshot, ObjectName::snapshot)?;
        for id in ids {
            match read_info(storage, id) {
                Ok(info) => list.snapshots.push(SnapshotSummary { id, info }),
                // It was removed after it was listed.
                Err(Error::NotFound { .. }) => {}
                Err(error) => list.unreadable.push(UnreadableSnapshot::of(id, error)?),
            }
        }
        list.unreadable.sort_by_key(|unreadable| unreadable.id);
        let ranks = ranks(&list.snapshots);
        let rank = |id: &SnapshotId| ranks.get(id).copied().unwrap_or_default();
        list.snapshots.sort_by_key(|summary| std::cmp::Reverse((rank(&summary.id), summary.id)));
        list.highest_rank = list.snapshots.first().map(|newest| rank(&newest.id));
        Ok(list)
    }

    /// What an add that begins at a time records as its `order_ns`: `None` where the time alone makes it the newest.
    pub(in crate::engine) fn order_after(&self, time_ns: i64) -> Option<i64> {
        let rank = self.highest_rank.filter(|rank| *rank >= i128::from(time_ns))?;
        Some(i64::try_from(rank + 1).unwrap_or(i64::MAX))
    }

    /// The snapshot with the latest time, if that is later than this one.
    #[must_use]
    pub(crate) fn later_than(&self, time_ns: i64) -> Option<&SnapshotSummary> {
        let latest = self.snapshots.iter().max_by_key(|summary| summary.info.time_ns);
        latest.filter(|summary| summary.info.time_ns > time_ns)
    }
}

fn ranks(summaries: &[SnapshotSummary]) -> HashMap<SnapshotId, i128> {
    let infos: HashMap<SnapshotId, &SnapshotInfo> =
        summaries.iter().map(|summary| (summary.id, &summary.info)).collect();
    let mut ranks: HashMap<SnapshotId, i128> = HashMap::new();
    for summary in summaries {
        // Up to an ancestor that has a rank or is not there, then down again. What is only read from footers could be
        // forged to be its own ancestor, so a rank is noted on the way up already.
        let mut descent = Vec::new();
        let mut next = Some(summary.id);
        let mut above = None;
        while let Some((id, info)) = next.and_then(|id| Some((id, infos.get(&id)?))) {
            if let Some(known) = ranks.get(&id) {
                above = Some(*known);
                break;
            }
            let own = i128::from(info.time_ns.max(info.order_ns.unwrap_or(i64::MIN)));
            ranks.insert(id, own);
            descent.push((id, own));
            next = info.parent;
        }
        for (id, own) in descent.into_iter().rev() {
            let rank = above.map_or(own, |above: i128| own.max(above + 1));
            ranks.insert(id, rank);
            above = Some(rank);
        }
    }
    ranks
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn summary(id: u8, time_ns: i64, parent: Option<u8>, order_ns: Option<i64>) -> SnapshotSummary {
        let parent = parent.map(|id| SnapshotId([id; 32]));
        let info = SnapshotInfo { time_ns, parent, order_ns, ..SnapshotInfo::default() };
        SnapshotSummary { id: SnapshotId([id; 32]), info }
    }

    fn order(mut summaries: Vec<SnapshotSummary>) -> Vec<u8> {
        let ranks = ranks(&summaries);
        summaries.sort_by_key(|summary| (ranks.get(&summary.id).copied().unwrap(), summary.id));
        summaries.iter().map(|summary| summary.id.0.first().copied().unwrap()).collect()
    }

    #[test]
    fn a_snapshot_is_newer_than_its_parent_whatever_the_clocks_said() {
        // 9 was added in 2040, then 8, 7, 6 today, each with the one before as its parent; 5 is an old one.
        let chain = [summary(9, 2040, None, None), summary(8, 26, Some(9), None), summary(7, 25, Some(8), None)];
        let mut all = chain.to_vec();
        all.extend([summary(6, 27, Some(7), None), summary(5, 20, None, None)]);
        for turn in 0..all.len() {
            let mut turned = all.clone();
            turned.rotate_left(turn);
            assert_eq!(order(turned), [5, 9, 8, 7, 6]);
        }
    }

    #[test]
    fn a_recorded_order_outlives_the_removal_of_parents() {
        let all = [
            summary(9, 2040, None, None),
            summary(8, 26, Some(9), Some(2041)),
            summary(7, 27, Some(8), Some(2042)),
            summary(1, 28, None, Some(2043)),
        ];
        assert_eq!(order(all.to_vec()), [9, 8, 7, 1]);
        let without = |id: u8| all.iter().filter(|one| one.id != SnapshotId([id; 32])).cloned().collect();
        assert_eq!(order(without(8)), [9, 7, 1]);
        assert_eq!(order(without(9)), [8, 7, 1]);
    }

    #[test]
    fn equal_times_branches_and_forged_circles_have_one_order() {
        assert_eq!(order(vec![summary(2, 5, None, None), summary(1, 5, None, None)]), [1, 2]);
        // Two hosts go on from one snapshot.
        let branches = [summary(4, 10, None, None), summary(3, 12, Some(4), None), summary(2, 11, Some(4), None)];
        assert_eq!(order(branches.to_vec()), [4, 2, 3]);
        let last = [summary(1, i64::MAX, None, None), summary(2, 0, Some(1), None), summary(3, 0, Some(2), None)];
        assert_eq!(order(last.to_vec()), [1, 2, 3]);
        let circle = vec![summary(1, 1, Some(2), None), summary(2, 2, Some(1), None), summary(3, 3, Some(3), None)];
        assert_eq!(order(circle).len(), 3);
        let long: Vec<_> = (0..200_u8).map(|id| summary(id, -i64::from(id), id.checked_sub(1), None)).collect();
        assert_eq!(order(long), (0..200).collect::<Vec<u8>>());
    }

    #[test]
    fn an_add_records_an_order_only_if_its_clock_is_not_ahead() {
        let list = SnapshotList { highest_rank: Some(100), ..SnapshotList::default() };
        assert_eq!(list.order_after(101), None);
        assert_eq!(list.order_after(100), Some(101));
        assert_eq!(list.order_after(5), Some(101));
        assert_eq!(SnapshotList::default().order_after(0), None);
        let list = SnapshotList { highest_rank: Some(i128::from(i64::MAX) + 7), ..SnapshotList::default() };
        assert_eq!(list.order_after(5), Some(i64::MAX));
    }
}
