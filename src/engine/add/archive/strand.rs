//! How does an archive of many parts come together? Its results are taken in order by one worker after another, a stretch at
//! a time, and so its headers, its table and its pieces cost the coordinating thread nothing.
//!
//! What comes of a stretch is a list of chunks in stream order, as if the sink itself had taken them.

use std::sync::Arc;

use super::assembler::{ArchiveAssembler, Assembled};
use crate::engine::add::cutter::{note_fresh, recipe_of};
use crate::engine::add::pool::Buffer;
use crate::engine::add::report::Problem;
use crate::engine::add::sink::TakeChunks;
use crate::engine::add::task::{
    ArchiveDone, ArchiveStretch, Block, Ending, FreshChunk, Lane, Problems, Row, TakenChunks, TaskResult,
};
use crate::engine::add::worker::WorkerContext;
use crate::error::Result;
use crate::format::entry::{Content, Entry};
use crate::format::id::ChunkId;

/// Takes results of an archive, which begins with the first of them unless it has begun.
///
/// # Errors
/// The index cannot be asked, or the table of members cannot be made.
pub(in crate::engine::add) fn assemble(
    assembler: Option<Box<ArchiveAssembler>>,
    results: Vec<TaskResult>,
    context: &WorkerContext<'_, '_>,
) -> Result<ArchiveStretch> {
    let mut assembler = assembler;
    let mut sink = Recorder { context, chunks: Vec::new(), own: context.pools.small.take_empty() };
    let mut row = None;
    let count = results.len() as u64;
    for result in results {
        match result {
            TaskResult::Segment(segment) => {
                if let Some(assembler) = &mut assembler {
                    assembler.take_segment(*segment, context, &mut sink)?;
                }
            }
            TaskResult::Archive(mut done) => {
                let mut its = match assembler.take() {
                    Some(assembler) => assembler,
                    None => Box::new(ArchiveAssembler::new(done.form, context.finder.clone())?),
                };
                its.take(&mut done, &mut sink)?;
                match done.ending.take() {
                    None => assembler = Some(its),
                    Some(ending) => row = end(*its, &done, ending, context, &mut sink)?,
                }
            }
            TaskResult::Batch(_) => {}
        }
    }
    Ok(ArchiveStretch { assembler, results: count, chunks: sink.finish(), row })
}

/// The row of an archive, all of whose parts were taken.
fn end(
    mut assembler: ArchiveAssembler,
    done: &ArchiveDone,
    ending: Ending,
    context: &WorkerContext<'_, '_>,
    sink: &mut Recorder<'_, '_, '_>,
) -> Result<Option<Row>> {
    let problem = match (assembler.take_failure(), ending.findings()) {
        (Some(error), _) => done.origin.skipped(error),
        (None, Some((findings, cut))) => {
            let assembled = assembler.end(findings, cut, sink)?;
            match done.origin.entry(assembled.size, assembled.shrank, &context.metadata) {
                Ok((entry, problems)) => return row_of(entry, assembled, problems, done, context).map(Some),
                Err(problem) => problem,
            }
        }
        (None, None) => match ending {
            Ending::Opaque(error) => {
                let what = format!("cannot be unpacked to its end ({error}); kept as the file that it is");
                Problem::kept(done.origin.path(), what)
            }
            Ending::Failed(error) | Ending::Cut(_, error) => done.origin.skipped(error),
            Ending::Whole(_) => return Ok(None),
        },
    };
    Ok(Some(Row::Problem(problem)))
}

fn row_of(
    mut entry: Entry,
    assembled: Assembled,
    mut problems: Problems,
    done: &ArchiveDone,
    context: &WorkerContext<'_, '_>,
) -> Result<Row> {
    let package = context.labeller.candidate(&entry);
    let package = package.filter(|package| package.is_one(&done.origin.head()));
    let (pieces, form) = assembled.keep_in(&mut entry, &mut problems);
    context.label_archive(&mut entry, package);
    let (recipe, content) = recipe_of(pieces, context.chunk_index)?;
    entry.content = Content::Archive(recipe, form);
    Ok(Row::Entry { entry: Box::new(entry), content, problems })
}

/// Lists chunks for the sink.
struct Recorder<'c, 'a, 's> {
    context: &'c WorkerContext<'a, 's>,
    /// Chunks in stream order; those without a block lie in `own`.
    chunks: Vec<(Option<Arc<Block>>, Vec<FreshChunk>)>,
    own: Buffer,
}

impl Recorder<'_, '_, '_> {
    fn finish(self) -> Vec<TakenChunks> {
        let held = self.context.budget.hold(self.own.len());
        let own = Arc::new(Block { bytes: self.own, _held: Some(held) });
        let chunks = self.chunks.into_iter();
        chunks.map(|(block, fresh)| TakenChunks { block: block.unwrap_or_else(|| Arc::clone(&own)), fresh }).collect()
    }
}

impl TakeChunks for Recorder<'_, '_, '_> {
    fn take(&mut self, block: &Arc<Block>, chunks: &[FreshChunk]) {
        match self.chunks.last_mut() {
            _ if chunks.is_empty() => {}
            Some((Some(last), fresh)) if Arc::ptr_eq(last, block) => fresh.extend_from_slice(chunks),
            _ => self.chunks.push((Some(Arc::clone(block)), chunks.to_vec())),
        }
    }

    fn take_bytes(&mut self, id: &ChunkId, bytes: &[u8], lane: Lane) -> Result<()> {
        let mut fresh = Vec::new();
        let place = self.own.len()..self.own.len() + bytes.len();
        note_fresh(self.context.chunk_index, &mut fresh, *id, place, lane)?;
        if fresh.is_empty() {
            return Ok(());
        }
        self.own.extend_from_slice(bytes);
        match self.chunks.last_mut() {
            Some((None, last)) => last.extend(fresh),
            _ => self.chunks.push((None, fresh)),
        }
        Ok(())
    }
}
