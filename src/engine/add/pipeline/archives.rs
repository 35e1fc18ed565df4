//! Archives, as the pipeline meets them: distinguished from other files, taken back part by part, and made into rows.

use std::sync::Arc;

use super::{AddPipeline, Big, FRAMES_AHEAD_MAX, stopped_early};
use crate::engine::add::Event;
use crate::engine::add::archive::{ArchiveAssembler, ArchiveDone, Assembled, Ending, TarSplitter};
use crate::engine::add::report::Problem;
use crate::engine::add::segment::{Origin, SegmentDone, Segments};
use crate::engine::add::stream::{StopReader, Stream, UNSIZED_BYTES_MAX};
use crate::engine::add::worker::{Task, TaskResult};
use crate::error::{Error, Result};
use crate::format::entry::{Content, Entry};
use crate::ingest::{Package, WalkedEntry};

impl AddPipeline<'_, '_> {
    pub(super) fn begin_stdin(&self, entry: Entry) -> Result<Big> {
        let origin = Origin::Stream { entry: Box::new(entry) };
        if !self.context.archives.stdin_is_tar {
            return Ok(Big::File(Segments::of_stream(Arc::new(origin), Stream::of_stdin())));
        }
        let reader = Box::new(StopReader::new(self.control.stop_flag()));
        let splitter =
            TarSplitter::of_stream(origin, reader).map_err(|source| Error::io("read", "standard input", source))?;
        Ok(Big::Archive(Box::new(splitter)))
    }

    /// Opens a big file, and looks whether it is an archive.
    pub(super) fn begin_big(&self, found: WalkedEntry) -> Result<Big, Problem> {
        let origin = Origin::open(found)?;
        let splitter = TarSplitter::of_file(&origin, self.context.archives).map_err(|error| origin.skipped(error))?;
        Ok(match splitter {
            Some(splitter) => Big::Archive(Box::new(splitter)),
            None => Big::File(Segments::of_origin(&origin).map_err(|error| origin.skipped(error))?),
        })
    }

    /// Adds an archive that was met among small files and turned out to be large, here and now: its place in the
    /// snapshot is the next one.
    pub(super) fn unpack(&mut self, found: WalkedEntry) -> Result<()> {
        match self.begin_big(found) {
            Ok(big) => self.read_here(big),
            Err(problem) => {
                self.problems.push(problem);
                Ok(())
            }
        }
    }

    /// Adds a file that was met among small files and turned out to be large, because its file system does not know its
    /// size, here and now.
    pub(super) fn read_unsized(&mut self, found: WalkedEntry) -> Result<()> {
        match Origin::open(found) {
            Ok(origin) => {
                let stream = Stream::of_file(&origin, UNSIZED_BYTES_MAX);
                self.read_here(Big::File(Segments::of_stream(origin, stream)))
            }
            Err(problem) => {
                self.problems.push(problem);
                Ok(())
            }
        }
    }

    fn read_here(&mut self, mut big: Big) -> Result<()> {
        loop {
            let next = match &mut big {
                Big::File(segments) => match segments.next(&self.context.segments, &|| false) {
                    Ok(next) => next.map(Task::Segment),
                    // Of a file on disk; the others are kept.
                    Err(Error::Io { source, .. }) => {
                        return self.take_segment(SegmentDone::of_failed(segments.origin(), source));
                    }
                    Err(error) => return Err(error),
                },
                Big::Archive(splitter) => splitter.next(self.context),
            };
            match next.map(|task| task.run(self.context)) {
                Some(TaskResult::Archive(done)) => self.take_archive(*done)?,
                Some(TaskResult::Segment(done)) => self.take_segment(*done)?,
                Some(TaskResult::Batch(_)) => {}
                None => return Ok(()),
            }
            if self.control.is_stopped() {
                return Err(self.interrupted());
            }
            self.await_frames()?;
        }
    }

    /// Waits while many frames are on their way. Results of tasks have to wait their turn: it is not theirs yet.
    fn await_frames(&mut self) -> Result<()> {
        while self.sink.sent() - self.written_frames > FRAMES_AHEAD_MAX {
            match self.events.recv().map_err(|_| stopped_early())? {
                Event::TaskResult(sequence, done) => drop(self.done.insert(sequence, done)),
                event => self.handle(event)?,
            }
        }
        Ok(())
    }

    pub(super) fn take_archive(&mut self, mut done: ArchiveDone) -> Result<()> {
        let mut assembler = match self.archive.take() {
            Some(assembler) => assembler,
            None => ArchiveAssembler::new(done.form, self.context.finder.clone())?,
        };
        assembler.take(&mut done, &mut self.sink)?;
        let Some(ending) = done.ending else {
            self.archive = Some(assembler);
            return Ok(());
        };
        let problem = match (assembler.take_failure(), ending.findings()) {
            (Some(error), _) => done.origin.skipped(error),
            (None, Some((findings, cut))) => {
                let assembled = assembler.finish(findings, cut, &mut self.sink)?;
                match done.origin.entry(assembled.size, assembled.shrank, &self.context.metadata) {
                    Ok((entry, problems)) => {
                        self.problems.extend(problems);
                        let package = self.labeller.candidate(&entry);
                        let package = package.filter(|package| package.is_one(&done.origin.head()));
                        return self.keep_archive(entry, assembled, package);
                    }
                    Err(problem) => problem,
                }
            }
            (None, None) => match ending {
                Ending::Opaque(error) => {
                    let what = format!("cannot be unpacked to its end ({error}); kept as the file that it is");
                    Problem::kept(done.origin.path(), what)
                }
                Ending::Failed(error) | Ending::Cut(_, error) => done.origin.skipped(error),
                Ending::Whole(_) => return Ok(()),
            },
        };
        self.problems.push(problem);
        Ok(())
    }

    /// Makes the row of an archive.
    pub(super) fn keep_archive(
        &mut self,
        mut entry: Entry,
        assembled: Assembled,
        package: Option<Package>,
    ) -> Result<()> {
        let Assembled { pieces, size, form, remarks, .. } = assembled;
        entry.size = size;
        entry.content = Content::Archive(self.keep_recipe(&pieces)?, form);
        let path = entry.path.as_path().to_owned();
        self.problems.extend(remarks.into_iter().map(|what| Problem::kept(&path, what)));
        if self.labeller.candidate(&entry).is_some() {
            entry.labels = self.labeller.labels_of(&entry.path, package, &entry.labels);
        }
        self.push_row(&mut entry)
    }
}
