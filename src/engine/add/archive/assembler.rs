//! What does an archive become? Takes its parts in order, sends contents and skeleton their own ways, and ends with the
//! table that puts them together again.
//!
//! Invariant: what the table says of lengths is what was taken, not what a header said; so contents and skeleton put
//! together are the bytes that were read, whatever came between.

use std::io;
use std::ops::Range;
use std::sync::Arc;

use crate::archive::Findings;
use crate::catalog::members::MembersWriter;
use crate::chunk::finder::{Finder, Span};
use crate::engine::add::cutter::end_of;
use crate::engine::add::file_assembler::FileAssembler;
use crate::engine::add::report::Problem;
use crate::engine::add::sink::TakeChunks;
use crate::engine::add::task::{ArchiveDone, Block, FreshChunk, Lane, PartDone, Problems, SegmentDone};
use crate::engine::add::worker::WorkerContext;
use crate::error::Result;
use crate::format::archive::{ArchiveFooter, Member};
use crate::format::archive_form::ArchiveForm;
use crate::format::entry::Entry;
use crate::format::id::ChunkId;
use crate::format::recipe::Piece;

/// Takes the chunks of an archive in order: those of a block that a worker has looked up, and others.
pub(super) trait PartSink {
    /// Bytes of the block.
    fn bytes(&self, place: Range<usize>) -> &[u8];
    /// Takes some of the block's fresh chunks.
    fn take(&mut self, fresh: Range<usize>);
    /// Takes a chunk that nobody has looked up.
    fn take_bytes(&mut self, id: &ChunkId, bytes: &[u8], lane: Lane) -> Result<()>;
}

/// A sink for the parts of one block.
struct BlockSink<'b, 'k, K> {
    block: &'b Arc<Block>,
    fresh: &'b [FreshChunk],
    sink: &'k mut K,
}

impl<K: TakeChunks> PartSink for BlockSink<'_, '_, K> {
    fn bytes(&self, place: Range<usize>) -> &[u8] {
        self.block.bytes.get(place).unwrap_or_default()
    }

    fn take(&mut self, fresh: Range<usize>) {
        self.sink.take(self.block, self.fresh.get(fresh).unwrap_or_default());
    }

    fn take_bytes(&mut self, id: &ChunkId, bytes: &[u8], lane: Lane) -> Result<()> {
        self.sink.take_bytes(id, bytes, lane)
    }
}

/// An archive on its way into the store.
#[derive(Debug)]
pub(in crate::engine::add) struct ArchiveAssembler {
    form: ArchiveForm,
    finder: Finder,
    members: MembersWriter,
    contents: Vec<Piece>,
    skeleton: SkeletonStream,
    original: Vec<Piece>,
    /// Bytes of skeleton since the last content.
    skeleton_bytes: u64,
    /// What comes in segments, and these.
    large: Option<Large>,
    assembling: Option<FileAssembler>,
    /// Whether the file became shorter: what comes after that is not there any more.
    shrank: bool,
    failed: Option<io::Error>,
    /// The first member that is not whole, and how many bytes it lacks.
    cut_short: Option<(Vec<u8>, u64)>,
}

#[derive(Debug)]
enum Large {
    Member(Box<Member>),
    Original,
}

/// An archive, all of whose chunks were taken.
#[derive(Debug)]
pub(in crate::engine::add) struct Assembled {
    /// What its stored stream is.
    pub(in crate::engine::add) pieces: Vec<Piece>,
    /// Bytes of the file that it is.
    pub(in crate::engine::add) size: u64,
    pub(in crate::engine::add) form: ArchiveForm,
    /// Whether the file became shorter.
    pub(in crate::engine::add) shrank: bool,
    /// What is not in order, in words.
    pub(in crate::engine::add) remarks: Vec<String>,
}

impl Assembled {
    /// Makes the entry that of the archive. Returns its pieces.
    pub(in crate::engine::add) fn keep_in(
        self,
        entry: &mut Entry,
        problems: &mut Problems,
    ) -> (Vec<Piece>, ArchiveForm) {
        entry.size = self.size;
        problems.extend(self.remarks.into_iter().map(|what| Problem::kept(entry.path.as_path(), what)));
        (self.pieces, self.form)
    }
}

impl ArchiveAssembler {
    pub(in crate::engine::add) fn new(form: ArchiveForm, finder: Finder) -> Result<Self> {
        Ok(Self {
            form,
            finder,
            members: MembersWriter::begin()?,
            contents: Vec::new(),
            skeleton: SkeletonStream::default(),
            original: Vec::new(),
            skeleton_bytes: 0,
            large: None,
            assembling: None,
            shrank: false,
            failed: None,
            cut_short: None,
        })
    }

    /// Takes the next batch; its ending is the caller's to see to.
    pub(super) fn take(&mut self, done: &mut ArchiveDone, sink: &mut impl TakeChunks) -> Result<()> {
        if let Some(error) = done.failed.take() {
            self.failed.get_or_insert(error);
        }
        if self.shrank || self.failed.is_some() {
            return Ok(());
        }
        self.shrank = done.shrank;
        let parts = std::mem::take(&mut done.parts);
        let mut sink = BlockSink { block: &done.block, fresh: &done.fresh, sink };
        self.take_parts(parts, &done.pieces, &mut sink)
    }

    pub(super) fn take_parts(
        &mut self,
        parts: Vec<PartDone>,
        pieces: &[Piece],
        sink: &mut impl PartSink,
    ) -> Result<()> {
        let before = end_of(&self.contents);
        let mut content_end = 0;
        let mut taken = (0, 0);
        for part in parts {
            match part {
                PartDone::Skeleton(place) => {
                    self.skeleton_bytes += place.len() as u64;
                    self.skeleton.push(place, &self.finder, sink)?;
                }
                PartDone::Content { member, pieces_end, fresh_end } => {
                    sink.take(taken.1..fresh_end);
                    let its_pieces = pieces.get(taken.0..pieces_end).unwrap_or_default();
                    self.contents
                        .extend(its_pieces.iter().map(|piece| Piece { id: piece.id, end: before + piece.end }));
                    let end = its_pieces.last().map_or(content_end, |piece| piece.end);
                    self.take_member(*member, end - content_end)?;
                    content_end = end;
                    taken = (pieces_end, fresh_end);
                }
                PartDone::Follows(member) => self.large = Some(Large::Member(member)),
                PartDone::Original => self.large = Some(Large::Original),
            }
        }
        Ok(())
    }

    /// Takes the compressed file, where all of it is in memory.
    pub(super) fn take_original(&mut self, pieces: Vec<Piece>, fresh: Range<usize>, sink: &mut impl PartSink) {
        sink.take(fresh);
        self.original = pieces;
    }

    fn take_member(&mut self, mut member: Member, content_bytes: u64) -> Result<()> {
        member.missing_bytes = member.content_bytes.saturating_sub(content_bytes);
        member.content_bytes = content_bytes;
        member.skeleton_bytes = std::mem::take(&mut self.skeleton_bytes);
        if member.missing_bytes > 0 {
            self.cut_short.get_or_insert_with(|| (member.path.clone(), member.missing_bytes));
        }
        self.members.push(&member)
    }

    /// Takes the next segment of what is large.
    pub(super) fn take_segment(
        &mut self,
        segment: SegmentDone,
        context: &WorkerContext<'_, '_>,
        sink: &mut impl TakeChunks,
    ) -> Result<()> {
        let mut assembling = match self.assembling.take() {
            Some(assembling) => assembling,
            None => FileAssembler::of_extent(&segment, context),
        };
        let is_last = segment.is_last();
        if !self.shrank && self.failed.is_none() {
            assembling.push(segment, context, sink)?;
        }
        if !is_last {
            self.assembling = Some(assembling);
            return Ok(());
        }
        let extent = assembling.into_extent();
        let pieces = match &self.large {
            Some(Large::Original) => &mut self.original,
            _ => &mut self.contents,
        };
        let before = end_of(pieces);
        pieces.extend(extent.pieces.iter().map(|piece| Piece { id: piece.id, end: before + piece.end }));
        let bytes = end_of(pieces) - before;
        self.shrank |= extent.shrank;
        self.failed = self.failed.take().or(extent.failed);
        match self.large.take() {
            Some(Large::Member(member)) => self.take_member(*member, bytes),
            Some(Large::Original) | None => Ok(()),
        }
    }

    /// Why the file cannot be kept at all.
    pub(super) fn take_failure(&mut self) -> Option<io::Error> {
        self.failed.take()
    }

    /// Ends the archive.
    pub(super) fn end(
        self,
        findings: &Findings,
        cut: Option<&io::Error>,
        sink: &mut impl TakeChunks,
    ) -> Result<Assembled> {
        self.finish(findings, cut, &mut BlockSink { block: &Arc::default(), fresh: &[], sink })
    }

    pub(super) fn finish(
        self,
        findings: &Findings,
        cut: Option<&io::Error>,
        sink: &mut impl PartSink,
    ) -> Result<Assembled> {
        let remarks = self.remarks(findings, cut);
        let mut pieces = self.contents;
        let skeleton = self.skeleton.finish(&self.finder, sink)?;
        let count = self.members.count();
        let mut table = self.members.finish()?;
        let skeleton_bytes = end_of(&skeleton);
        let original_bytes = end_of(&self.original);
        let archive_bytes = end_of(&pieces) + skeleton_bytes;
        let table_bytes = table.len() as u64;
        let footer = ArchiveFooter { skeleton_bytes, original_bytes, table_bytes, members: count, archive_bytes };
        table.extend_from_slice(&footer.to_bytes());
        let mut stream = SkeletonStream { open: table, pieces: Vec::new() };
        // As when it is pushed: what is over is cut at the end.
        stream.cut_if_due(&self.finder, sink)?;
        let table = stream.finish(&self.finder, sink)?;
        for part in [&skeleton, &self.original, &table] {
            let before = end_of(&pieces);
            pieces.extend(part.iter().map(|piece| Piece { id: piece.id, end: before + piece.end }));
        }
        let size = if matches!(self.form, ArchiveForm::TarIn(_)) { original_bytes } else { archive_bytes };
        Ok(Assembled { pieces, size, form: self.form, shrank: self.shrank, remarks })
    }

    fn remarks(&self, findings: &Findings, cut: Option<&io::Error>) -> Vec<String> {
        let mut remarks = Vec::new();
        let whole = self.members.count() - u64::from(self.cut_short.is_some());
        let read = format!("{whole} members could be read");
        if let Some(error) = cut {
            remarks.push(format!("could not be read further ({error}); kept as far as it could be; {read}"));
        }
        if let Some(at) = findings.no_header_at {
            remarks.push(format!("has no header at byte {at}, where one should be; kept as it is; {read}"));
        }
        match &self.cut_short {
            Some((path, missing)) => {
                let path = crate::spelling::quoted(path);
                remarks.push(format!("is cut short: {path} lacks {missing} bytes; kept as it is; {read}"));
            }
            None if findings.no_end && !self.shrank && cut.is_none() => {
                remarks.push(format!("has no end mark, so it may be cut short; kept as it is; {read}"));
            }
            None => {}
        }
        if findings.odd_records > 0 {
            let count = findings.odd_records;
            remarks.push(format!("has {count} extension records that cannot be understood; kept as it is; {read}"));
        }
        if findings.distant_times > 0 {
            let count = findings.distant_times;
            remarks.push(format!(
                "has {count} members with times before 1677 or after 2262; kept as it is; by name they have the nearest time"
            ));
        }
        remarks
    }
}

/// Bytes that come bit by bit, cut as if they were a file.
#[derive(Debug, Default)]
struct SkeletonStream {
    /// What is not cut yet.
    open: Vec<u8>,
    pieces: Vec<Piece>,
}

impl SkeletonStream {
    fn push(&mut self, place: Range<usize>, finder: &Finder, sink: &mut impl PartSink) -> Result<()> {
        self.open.extend_from_slice(sink.bytes(place));
        self.cut_if_due(finder, sink)
    }

    fn cut_if_due(&mut self, finder: &Finder, sink: &mut impl PartSink) -> Result<()> {
        // Tried only where a cut is due, so that nothing is looked at again and again.
        if self.open.len() > finder.profile().max_bytes() { self.cut(finder, sink, false) } else { Ok(()) }
    }

    fn cut(&mut self, finder: &Finder, sink: &mut impl PartSink, is_end: bool) -> Result<()> {
        let start = end_of(&self.pieces);
        let span = Span::new(&self.open, start, is_end);
        let mut at = start;
        while at < span.end() {
            let Some(end) = finder.next_cut(&span, at, at) else { break };
            let chunk = span.slice(at, end);
            let id = ChunkId::of(chunk);
            sink.take_bytes(&id, chunk, Lane::Skeleton)?;
            self.pieces.push(Piece { id, end });
            at = end;
        }
        self.open.drain(..(at - start) as usize);
        Ok(())
    }

    fn finish(mut self, finder: &Finder, sink: &mut impl PartSink) -> Result<Vec<Piece>> {
        self.cut(finder, sink, true)?;
        Ok(self.pieces)
    }
}
