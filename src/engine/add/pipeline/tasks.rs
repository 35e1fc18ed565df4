//! What do workers get to do next? The walk's entries in batches, big files and archives bit by bit, and what a writer is
//! given; what is unchanged comes from the parent snapshot.

use super::{AddPipeline, Big, SMALL_FILE_BYTES_MAX};
use crate::engine::add::batch::{Batch, Item};
use crate::engine::add::report::Problem;
use crate::engine::add::worker::{Task, TaskResult};
use crate::engine::add::writer_source::SourceStep;
use crate::error::Result;
use crate::format::entry::{Content, Entry, EntryKind};
use crate::format::label::Labels;
use crate::ingest::{HEAD_BYTES, OpenFile, Walked, WalkedEntry};

/// A batch is full with this many bytes …
const BATCH_BYTES: usize = 1 << 20;
/// … or this many entries.
const BATCH_ITEMS: usize = 256;
/// What an entry weighs in the budget even if it has no bytes, so that empty files are bounded too.
const ITEM_BYTES: usize = 1 << 10;

impl AddPipeline<'_, '_> {
    /// Hands out the next task, if there is one.
    pub(super) fn begin_task(&mut self) -> Result<bool> {
        if self.big.is_none() && self.stdin_is_next() {
            self.big = self.stdin.take().map(|entry| self.begin_stdin(entry)).transpose()?;
        }
        if self.given.is_some() {
            return self.begin_given();
        }
        let next = match &mut self.big {
            None => return self.begin_batch(),
            Some(Big::File(segments)) => {
                segments.next(&self.context.segments, &|| self.control.is_stopped())?.map(Task::Segment)
            }
            Some(Big::Archive(splitter)) => splitter.next(self.context),
        };
        match next {
            Some(task) => {
                let held = self.budget.hold(task.weight());
                self.send(task.holding(held));
            }
            None => self.big = None,
        }
        Ok(true)
    }

    /// Whether standard input comes before what the walk yields next, in path order.
    fn stdin_is_next(&mut self) -> bool {
        let Some(stdin) = &self.stdin else { return false };
        match self.walk.peek() {
            None => true,
            Some(Walked::Entry(found)) => stdin.path < found.path,
            Some(Walked::Failed { path, .. } | Walked::Noted { path, .. }) => stdin.path < *path,
        }
    }

    fn begin_batch(&mut self) -> Result<bool> {
        let mut items = Vec::new();
        let mut bytes = 0;
        let mut to_read = false;
        while items.len() < BATCH_ITEMS && bytes < BATCH_BYTES && !self.stdin_is_next() {
            let item = match self.walk.next() {
                None => break,
                Some(Walked::Failed { path, error }) => Item::Failed(Problem::skipped(path.as_path(), &error)),
                Some(Walked::Noted { disk, notice, .. }) => Item::Failed(Problem::noted(&disk, notice)),
                Some(Walked::Entry(found)) => match self.unchanged(&found)? {
                    Some(entry) => Item::Row(Box::new(entry)),
                    None if is_big(&found) => {
                        // What was gathered so far goes first.
                        match self.begin_big(found) {
                            Ok(big) => {
                                self.big = Some(big);
                                break;
                            }
                            Err(problem) => Item::Failed(problem),
                        }
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
        if items.is_empty() {
            return Ok(self.big.is_some());
        }
        self.send_batch(items, bytes, to_read)?;
        Ok(true)
    }

    /// Hands out what a [`super::Writer`] was given, as far as it is there.
    fn begin_given(&mut self) -> Result<bool> {
        let mut items = Vec::new();
        let mut bytes = 0;
        let mut to_read = false;
        while items.len() < BATCH_ITEMS && bytes < BATCH_BYTES {
            let Some(given) = self.given.as_mut() else { break };
            match given.next(items.is_empty())? {
                None => break,
                Some(SourceStep::Item(item, item_bytes)) => {
                    to_read |= item_bytes > 0;
                    bytes += item_bytes + ITEM_BYTES;
                    items.push(item);
                }
                Some(SourceStep::Segment(segment)) => {
                    let held = self.budget.hold(segment.weight());
                    self.send(Task::Segment(segment.holding(held)));
                    return Ok(true);
                }
                Some(SourceStep::Broken(segment)) => {
                    self.done.insert(self.next_task, TaskResult::Segment(Box::new(segment)));
                    self.next_task += 1;
                    self.take_done()?;
                    return Ok(true);
                }
            }
        }
        if items.is_empty() {
            return Ok(false);
        }
        self.send_batch(items, bytes, to_read)?;
        Ok(true)
    }

    fn send_batch(&mut self, items: Vec<Item>, bytes: usize, to_read: bool) -> Result<()> {
        let batch = Batch { items, held: self.budget.hold(bytes) };
        if to_read {
            self.send(Task::Batch(batch));
        } else {
            // Nothing to do for a worker.
            self.done.insert(self.next_task, TaskResult::Batch(batch.run(self.context)));
            self.next_task += 1;
            self.take_done()?;
        }
        Ok(())
    }

    fn unchanged(&mut self, found: &WalkedEntry) -> Result<Option<Entry>> {
        let Some(parent) = &mut self.parent else { return Ok(None) };
        if self.request.reread && found.stat.kind == EntryKind::File {
            return Ok(None);
        }
        let Some(mut entry) = parent.unchanged(found)? else { return Ok(None) };
        if let Content::Archive(_, form) = entry.content
            && !self.context.archives.takes(form)
        {
            return Ok(None);
        }
        if !self.chunk_index.keeps(entry.content, entry.size)? {
            return Ok(None);
        }
        if entry.kind == EntryKind::File {
            self.totals.unchanged_files += 1;
        }
        // Labels are those of this add.
        entry.labels = Labels::default();
        if self.labeller.candidate(&entry).is_some() {
            // What cannot be read now is no package to be seen; its content is known all the same.
            let head = OpenFile::open(found).ok().and_then(|file| file.head(HEAD_BYTES).ok());
            self.detect(&mut entry, &head.unwrap_or_default());
        }
        Ok(Some(entry))
    }

    fn send(&mut self, task: Task) {
        // The workers are gone only if the add has failed already; the failure is among the events.
        let _ = self.tasks.send((self.next_task, task));
        self.next_task += 1;
    }
}

fn is_big(found: &WalkedEntry) -> bool {
    found.stat.kind == EntryKind::File && found.stat.size > SMALL_FILE_BYTES_MAX
}
