//! What is on disk to add? Walks, compares with the parent snapshot, and plans batches: a stretch at a time, on a worker.
//!
//! Invariant: stretches follow each other in the order of the snapshot, wherever one ends.

use std::iter::Peekable;

use super::parent::Parent;
use super::report::Problem;
use super::task::{Batch, Item, Planned};
use super::worker::WorkerContext;
use super::{BATCH_BYTES, BATCH_ITEMS, ITEM_BYTES, SMALL_FILE_BYTES_MAX};
use crate::error::Result;
use crate::format::entry::{Content, Entry, EntryKind, EntryPath};
use crate::format::label::Labels;
use crate::ingest::{HEAD_BYTES, OpenFile, Walk, Walked, WalkedEntry};

/// Batches that are planned in one stretch.
const STRETCH_BATCHES: usize = 4;

/// The walk, and how far it is.
#[derive(Debug)]
pub(super) struct Walker<'a, 's> {
    walk: Peekable<Walk>,
    parent: Option<Parent<'a, 's>>,
    /// Where standard input comes, if it does.
    stdin: Option<EntryPath>,
}

impl<'a, 's> Walker<'a, 's> {
    pub(super) fn new(walk: Walk, parent: Option<Parent<'a, 's>>, stdin: Option<EntryPath>) -> Self {
        Self { walk: walk.peekable(), parent, stdin }
    }

    /// Plans some more, and says whether that was the last of it.
    ///
    /// # Errors
    /// The parent snapshot or the index cannot be read.
    pub(super) fn walk(&mut self, context: &WorkerContext<'_, '_>) -> Result<(Vec<Planned>, bool)> {
        let mut planned = Vec::new();
        while planned.len() < STRETCH_BATCHES {
            if self.stdin_is_next() {
                self.stdin = None;
                planned.push(Planned::Stdin);
                return Ok((planned, false));
            }
            let big = self.plan_batch(context, &mut planned)?;
            match big {
                // What follows is looked at when this is read.
                Some(found) => {
                    planned.push(Planned::Big(found));
                    return Ok((planned, false));
                }
                None if self.walk.peek().is_none() && self.stdin.is_none() => return Ok((planned, true)),
                None => {}
            }
        }
        Ok((planned, false))
    }

    /// Whether standard input comes before what the walk yields next, in path order.
    fn stdin_is_next(&mut self) -> bool {
        let Some(stdin) = &self.stdin else { return false };
        match self.walk.peek() {
            None => true,
            Some(Walked::Entry(found)) => *stdin < found.path,
            Some(Walked::Failed { path, .. } | Walked::Noted { path, .. }) => stdin < path,
        }
    }

    /// Plans one batch, if there is something for it. Returns the big file that ends it.
    fn plan_batch(
        &mut self,
        context: &WorkerContext<'_, '_>,
        planned: &mut Vec<Planned>,
    ) -> Result<Option<Box<WalkedEntry>>> {
        let mut items = Vec::new();
        let mut bytes = 0;
        let mut to_read = false;
        let mut big = None;
        while items.len() < BATCH_ITEMS && bytes < BATCH_BYTES && !self.stdin_is_next() {
            let item = match self.walk.next() {
                None => break,
                Some(Walked::Failed { path, error }) => Item::Failed(Problem::skipped(path.as_path(), &error)),
                Some(Walked::Noted { disk, notice, .. }) => Item::Failed(Problem::noted(&disk, notice)),
                Some(Walked::Entry(found)) => match self.unchanged(&found, context)? {
                    Some(entry) => Item::Unchanged(Box::new(entry)),
                    None if is_big(&found) => {
                        // What was gathered so far goes first.
                        big = Some(Box::new(found));
                        break;
                    }
                    None => {
                        to_read = true;
                        bytes += usize::try_from(found.stat.size).unwrap_or(BATCH_BYTES);
                        Item::Read(Box::new(found))
                    }
                },
            };
            bytes += ITEM_BYTES;
            items.push(item);
        }
        if to_read {
            planned.push(Planned::Batch(items, bytes));
        } else if !items.is_empty() {
            // Nothing to read: this is as good a worker as any.
            planned.push(Planned::Done(Batch { items, held: context.budget.hold(bytes) }.run(context)?));
        }
        Ok(big)
    }

    /// The row of an entry that did not change since the parent snapshot.
    fn unchanged(&mut self, found: &WalkedEntry, context: &WorkerContext<'_, '_>) -> Result<Option<Entry>> {
        let Some(parent) = &mut self.parent else { return Ok(None) };
        if context.rereads && found.stat.kind == EntryKind::File {
            return Ok(None);
        }
        let Some(mut entry) = parent.unchanged(found)? else { return Ok(None) };
        if let Content::Archive(_, form) = entry.content
            && !context.archives.takes(form)
        {
            return Ok(None);
        }
        if !context.chunk_index.keeps(entry.content, entry.size)? {
            return Ok(None);
        }
        // Labels are those of this add.
        entry.labels = Labels::default();
        if context.labeller.candidate(&entry).is_some() {
            // What cannot be read now is no package to be seen; its content is known all the same.
            let head = OpenFile::open(found).ok().and_then(|file| file.head(HEAD_BYTES).ok());
            context.detect(&mut entry, &head.unwrap_or_default());
        }
        Ok(Some(entry))
    }
}

fn is_big(found: &WalkedEntry) -> bool {
    found.stat.kind == EntryKind::File && found.stat.size > SMALL_FILE_BYTES_MAX
}
