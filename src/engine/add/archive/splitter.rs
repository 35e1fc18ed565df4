//! What of an archive comes next? Steps through it and hands it out, front to back, in stretches that tile it.

use std::io::{self, Read};
use std::sync::Arc;

use super::source::{Sequential, Source, Window};
use super::{Archives, Guess, HEAD_BYTES, framing};
use crate::archive::{Findings, Framing, Step, begins_tar};
use crate::chunk::seams::WARM_UP;
use crate::engine::add::origin::Origin;
use crate::engine::add::pool::{Buffer, Pool};
use crate::engine::add::segment::SEGMENT_BYTES;
use crate::engine::add::segments::Segments;
use crate::engine::add::task::{ArchiveBatch, Ending, Segment, TarPart, Task};
use crate::engine::add::worker::WorkerContext;
use crate::format::archive::Member;
use crate::format::archive_form::ArchiveForm;
use crate::ingest::unpack;

/// A batch is full with this many bytes …
const BATCH_BYTES: u64 = 1 << 20;
/// … or this many parts.
const BATCH_PARTS: usize = 512;
/// Members up to this size are read whole, many to a batch; larger ones follow in segments.
const SMALL_MEMBER_BYTES_MAX: u64 = 4 << 20;

/// Tasks that are made in one stretch, unless those hold as many bytes as these, which were read in order.
const STRETCH_TASKS: usize = 16;
const STRETCH_HELD_BYTES: usize = 4 << 20;

/// Hands out an archive's parts.
pub(in crate::engine::add) struct TarSplitter {
    origin: Arc<Origin>,
    form: ArchiveForm,
    source: Source,
    framing: Framing,
    /// How far the archive was handed out.
    handed: u64,
    /// The member whose content comes next, and where that begins.
    content: Option<(Box<Member>, u64)>,
    /// Whether all that is left is skeleton.
    is_rest: bool,
    /// Whether all of the archive was handed out.
    is_over: bool,
    /// Whether that was before it should have ended.
    is_cut: bool,
    /// Segments that come before anything else.
    large: Option<Large>,
    stage: Stage,
}

/// What comes after the archive itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    Archive,
    Original,
    Ended,
}

/// Something large, handed out in segments.
enum Large {
    /// From a file; where in the archive it ends.
    File(Segments, u64),
    /// From a stream: a member's content, which begins and ends so.
    Stream { start: u64, end: u64, at: u64, tail: Vec<u8> },
}

impl std::fmt::Debug for TarSplitter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TarSplitter").field("form", &self.form).field("handed", &self.handed).finish_non_exhaustive()
    }
}

impl TarSplitter {
    /// The archive that an open file is; `None` if it is not an archive.
    pub(in crate::engine::add) fn of_file(origin: &Arc<Origin>, archives: Archives) -> io::Result<Option<Self>> {
        let Origin::File { file, .. } = &**origin else { return Ok(None) };
        if !archives.recognise {
            return Ok(None);
        }
        let mut head = [0; HEAD_BYTES];
        let filled = file.read_at(0, &mut head)?;
        let Some(guess) = Guess::of(head.get(..filled).unwrap_or_default()) else { return Ok(None) };
        let source = match guess {
            Guess::Tar => Source::File { origin: Arc::clone(origin), size: file.stat().size },
            Guess::Compressed(compression) => {
                let packed = Sequential { origin: Arc::clone(origin), at: 0 };
                let mut window = Window::new(unpack(compression, packed)?);
                // A file that begins like a compressed one need not be one.
                let Ok(HEAD_BYTES) = read_head(&mut window, &mut head) else { return Ok(None) };
                if !begins_tar(&head) {
                    return Ok(None);
                }
                Source::Stream(window)
            }
        };
        let form = archives.form_of(guess, |at, buffer| file.read_at(at, buffer))?;
        Ok(Some(Self::new(Arc::clone(origin), form, source)))
    }

    /// The archive that a stream is said to be. If it is compressed, that is not kept.
    pub(in crate::engine::add) fn of_stream(origin: Origin, reader: Box<dyn Read + Send>) -> io::Result<Self> {
        let mut window = Window::new(reader);
        let mut head = [0; HEAD_BYTES];
        let filled = read_head(&mut window, &mut head)?;
        let guess = Guess::of(head.get(..filled).unwrap_or_default()).unwrap_or(Guess::Tar);
        let (form, window) = match guess {
            Guess::Tar => (ArchiveForm::Tar, window),
            Guess::Compressed(compression) => {
                (ArchiveForm::TarFrom(compression), Window::new(unpack(compression, window)?))
            }
        };
        Ok(Self::new(Arc::new(origin), form, Source::Stream(window)))
    }

    fn new(origin: Arc<Origin>, form: ArchiveForm, source: Source) -> Self {
        Self {
            origin,
            form,
            source,
            framing: framing(),
            handed: 0,
            content: None,
            is_rest: false,
            is_over: false,
            is_cut: false,
            large: None,
            stage: Stage::Archive,
        }
    }

    /// Some more tasks, and whether they are the last.
    pub(in crate::engine::add) fn split(&mut self, context: &WorkerContext<'_, '_>) -> (Vec<Task>, bool) {
        let mut tasks = Vec::new();
        let mut held_bytes = 0;
        while tasks.len() < STRETCH_TASKS && held_bytes < STRETCH_HELD_BYTES {
            let Some(task) = self.next(context) else { return (tasks, true) };
            held_bytes += match &task {
                Task::Segment(segment) => segment.bytes.as_ref().map_or(0, |bytes| bytes.len()),
                Task::Archive(batch) => batch.bytes.as_ref().map_or(0, |bytes| bytes.len()),
                Task::Batch(_) => 0,
            };
            tasks.push(task);
        }
        (tasks, false)
    }

    /// The next task; `None` after the last.
    fn next(&mut self, context: &WorkerContext<'_, '_>) -> Option<Task> {
        loop {
            if self.large.is_some() {
                match self.next_segment(&context.pools.segments) {
                    Some(segment) => return Some(Task::Segment(segment)),
                    None => self.large = None,
                }
                continue;
            }
            let (parts, ending) = match self.stage {
                Stage::Ended => return None,
                Stage::Archive if !self.is_over => match self.batch(&context.pools.small) {
                    Ok(batch) => return Some(Task::Archive(batch)),
                    Err(error) => {
                        self.stage = Stage::Ended;
                        (Vec::new(), Some(Ending::Failed(error)))
                    }
                },
                Stage::Archive => match (self.source.take_error(), self.form, self.whole_file()) {
                    (Some(error), _, None) => {
                        self.stage = Stage::Ended;
                        (Vec::new(), Some(Ending::Cut(self.findings(), error)))
                    }
                    (Some(error), _, whole) => {
                        self.stage = Stage::Ended;
                        self.large = whole;
                        (Vec::new(), Some(Ending::Opaque(error)))
                    }
                    (None, ArchiveForm::TarIn(_), whole) => {
                        self.stage = Stage::Original;
                        self.large = whole;
                        (vec![TarPart::Original], None)
                    }
                    (None, ..) => {
                        self.stage = Stage::Ended;
                        (Vec::new(), Some(Ending::Whole(self.findings())))
                    }
                },
                Stage::Original => {
                    self.stage = Stage::Ended;
                    (Vec::new(), Some(Ending::Whole(self.findings())))
                }
            };
            return Some(Task::Archive(self.stretch(self.handed, Some(Buffer::default()), parts, ending)));
        }
    }

    fn findings(&self) -> Findings {
        let findings = self.framing.findings().clone();
        Findings { no_end: findings.no_end || self.is_cut, ..findings }
    }

    /// All of the file as it is, in segments; `None` of a stream.
    fn whole_file(&self) -> Option<Large> {
        Segments::of_origin(&self.origin).ok().map(|segments| Large::File(segments, self.handed))
    }

    fn stretch(&self, start: u64, bytes: Option<Buffer>, parts: Vec<TarPart>, ending: Option<Ending>) -> ArchiveBatch {
        let range = start..self.handed;
        ArchiveBatch { origin: Arc::clone(&self.origin), form: self.form, range, bytes, parts, ending, held: None }
    }

    /// A stretch of the archive.
    fn batch(&mut self, pool: &Pool) -> io::Result<ArchiveBatch> {
        let start = self.handed;
        let mut parts = Vec::new();
        while !self.is_over && parts.len() < BATCH_PARTS && self.handed - start < BATCH_BYTES {
            let skeleton_end = match &self.content {
                _ if self.is_rest => u64::MAX,
                Some((_, content_at)) => *content_at,
                None => self.framing.position(),
            };
            if self.handed < skeleton_end {
                let bytes = self.hand_out(skeleton_end.min(start.saturating_add(BATCH_BYTES)));
                parts.push(TarPart::Skeleton(bytes));
                continue;
            }
            let Some((member, content_at)) = self.content.take() else {
                match self.framing.next(&mut self.source)? {
                    Some(Step::Member(member, content_at)) => self.content = Some((member, content_at)),
                    Some(Step::Skeleton) => {}
                    Some(Step::Rest) | None => self.is_rest = true,
                }
                continue;
            };
            let content_end = content_at.saturating_add(member.content_bytes);
            if member.content_bytes > SMALL_MEMBER_BYTES_MAX {
                parts.push(TarPart::Follows(member));
                self.large = Some(self.large_member(content_end));
                break;
            }
            let bytes = self.hand_out(content_end);
            parts.push(TarPart::Content(member, bytes));
        }
        let bytes = match &mut self.source {
            Source::File { .. } => None,
            Source::Stream(window) => {
                let mut bytes = pool.take_empty();
                window.take_to(self.handed, &mut bytes);
                Some(bytes)
            }
        };
        Ok(self.stretch(start, bytes, parts, None))
    }

    /// Hands out the bytes up to `end`, or as far as there are any, and says how many those are.
    fn hand_out(&mut self, end: u64) -> u64 {
        let reached = self.source.reach(end);
        self.is_over |= reached < end;
        self.is_cut |= reached < end && !self.is_rest;
        let bytes = reached.saturating_sub(self.handed);
        self.handed += bytes;
        bytes
    }

    fn large_member(&mut self, end: u64) -> Large {
        let start = self.handed;
        match &self.source {
            Source::File { origin, size } => {
                let reached = end.min(*size).max(start);
                (self.is_over, self.is_cut) = (reached < end, reached < end);
                Large::File(Segments::of_extent(origin, start..reached), reached)
            }
            Source::Stream(_) => Large::Stream { start, end, at: start, tail: Vec::new() },
        }
    }

    fn next_segment(&mut self, pool: &Pool) -> Option<Segment> {
        match self.large.as_mut()? {
            Large::File(segments, end) => {
                let next = segments.next(pool, &|| false).ok().flatten();
                if next.is_none() {
                    self.handed = *end;
                }
                next
            }
            Large::Stream { start, end, at, tail } => {
                let Source::Stream(window) = &mut self.source else { return None };
                if *at >= *end || self.is_over {
                    return None;
                }
                let mut bytes = pool.take_empty();
                bytes.extend_from_slice(tail);
                let warm_up = tail.len();
                window.take_to((*end).min(*at + SEGMENT_BYTES as u64), &mut bytes);
                let range = *at..*at + (bytes.len() - warm_up) as u64;
                *at = range.end;
                self.handed = range.end;
                // Whether this is the last segment must be known now.
                let is_last = range.end >= *end || window.fill_to(range.end + 1) == range.end;
                self.is_over = range.end < *end && is_last;
                self.is_cut |= self.is_over;
                tail.clear();
                tail.extend_from_slice(bytes.get(bytes.len().saturating_sub(WARM_UP)..).unwrap_or_default());
                Some(Segment::of_bytes(&self.origin, *start, range, bytes, is_last))
            }
        }
    }
}

fn read_head(window: &mut Window, head: &mut [u8; HEAD_BYTES]) -> io::Result<usize> {
    window.read_at(0, head)
}
