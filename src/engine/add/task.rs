//! What do the threads of an add say to each other? Every message between them, and nothing else.
//!
//! ```text
//!  coordinating thread ── Task, in the order of the walk ──▶ workers ── Event::TaskResult, in any order ──▶ coordinating thread
//!                      ── Urgent (copy, encode, step) ─────▶ workers ── ToPack::Frame ──▶ packer ── Event::Packed ──▶ …
//!                      ── Vec<Row>, in the order of the walk ──────────▶ committer ── Event::Catalog ──▶ …
//! ```

use std::io;
use std::ops::Range;
use std::sync::Arc;

use super::archive::{ArchiveAssembler, TarSplitter};
use super::budget::MemoryPermit;
use super::committer::Catalog;
use super::frame::Frame;
use super::origin::Origin;
use super::pool::Buffer;
use super::report::Problem;
use super::segment::Scanned;
use super::walker::Walker;
use crate::archive::Findings;
use crate::engine::store::commit::PacksDurable;
use crate::error::Error;
use crate::format::archive::Member;
use crate::format::archive_form::ArchiveForm;
use crate::format::directory::Directory;
use crate::format::entry::Entry;
use crate::format::id::{ChunkId, RecipeId};
use crate::format::recipe::Piece;
use crate::ingest::WalkedEntry;

// ---- what workers do -----------------------------------------------------------------------------------------------

/// Which task: results are taken in this order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct TaskNumber {
    /// Whether it belongs to a file that turned out to be large when its place in the walk had come.
    pub(super) is_inner: bool,
    pub(super) sequence: u64,
}

/// Something to read, cut, hash and look up.
#[derive(Debug)]
pub(super) enum Task {
    /// Some small files and other entries.
    Batch(Batch),
    /// A part of a big file or stream.
    Segment(Segment),
    /// A part of an archive.
    Archive(ArchiveBatch),
}

/// A [`Task`] that is done.
#[derive(Debug)]
pub(super) enum TaskResult {
    Batch(BatchDone),
    Segment(Box<SegmentDone>),
    Archive(Box<ArchiveDone>),
}

/// What workers do first: it frees memory, or finds more to do.
#[derive(Debug)]
pub(super) enum Urgent<'a, 's> {
    Copy(Copy),
    Encode(NewFrame),
    Walk(Box<Walker<'a, 's>>),
    Split(Box<TarSplitter>, bool),
    /// Results of an archive to be put together, in order.
    Assemble(Option<Box<ArchiveAssembler>>, Vec<TaskResult>),
}

/// What the coordinating thread receives.
#[derive(Debug)]
pub(super) enum Event<'a, 's> {
    /// A task is done.
    TaskResult(TaskNumber, TaskResult),
    /// The walk went on. It comes back unless it is over.
    Walked(Option<Box<Walker<'a, 's>>>, Vec<Planned>),
    /// An archive was stepped through. It comes back unless it is over.
    Split { splitter: Option<Box<TarSplitter>>, tasks: Vec<Task>, is_inner: bool },
    /// A stretch of an archive is put together.
    Assembled(ArchiveStretch),
    /// Chunks are copied, and the memory that they were in may be free.
    Copied,
    /// A frame is in its pack, and its memory free.
    Written,
    /// A pack is durable and in the index.
    Packed(FinishedPack),
    /// Everything sent before the flush is durable.
    Flushed(PacksDurable),
    /// All rows are taken.
    Catalog(Box<Catalog>),
    /// The add cannot go on.
    Fatal(Error),
}

// ---- small files ---------------------------------------------------------------------------------------------------

/// What is to be said of one entry.
pub(super) type Problems = Vec<Problem>;

/// What the walk found to do next.
#[derive(Debug)]
pub(super) enum Planned {
    /// Entries to read, and how many bytes they hold in memory.
    Batch(Vec<Item>, usize),
    /// Entries of which nothing is to be read.
    Done(BatchDone),
    /// A file too large for a batch.
    Big(Box<WalkedEntry>),
    /// Standard input comes here.
    Stdin,
}

/// Some entries, in snapshot order.
#[derive(Debug)]
pub(super) struct Batch {
    pub(super) items: Vec<Item>,
    pub(super) held: MemoryPermit,
}

/// One entry of a batch.
#[derive(Debug)]
pub(super) enum Item {
    /// Known from the parent snapshot.
    Unchanged(Box<Entry>),
    /// Complete as it is.
    Row(Box<Entry>),
    /// To be completed, and read if it is a file.
    Read(Box<WalkedEntry>),
    /// A file and its bytes.
    InMemory(Box<Entry>, Buffer),
    /// The entry could not be read.
    Failed(Problem),
}

/// A [`Batch`], read, cut, hashed and looked up.
#[derive(Debug)]
pub(super) struct BatchDone {
    pub(super) block: Arc<Block>,
    /// Chunks that the index does not have, in order.
    pub(super) fresh: Vec<FreshChunk>,
    /// Usually one.
    pub(super) groups: Vec<Group>,
}

/// Rows that follow each other, and what comes after them.
#[derive(Debug)]
pub(super) struct Group {
    pub(super) rows: Vec<Row>,
    /// Where the fresh chunks of these rows end.
    pub(super) fresh_end: usize,
    pub(super) later: Option<Later>,
}

/// A file that turned out to be too large for a batch.
#[derive(Debug)]
pub(super) enum Later {
    /// A compressed archive with much in it.
    Archive(Box<WalkedEntry>),
    /// A file whose file system does not know its size.
    Unsized(Box<WalkedEntry>),
}

/// Bytes that chunks lie in, shared by all that still copy some of them.
#[derive(Debug, Default)]
pub(super) struct Block {
    pub(super) bytes: Buffer,
    pub(super) _held: Option<MemoryPermit>,
}

/// A chunk that the index does not have.
#[derive(Debug, Clone, Copy)]
pub(super) struct FreshChunk {
    pub(super) id: ChunkId,
    /// Where it lies in its block.
    pub(super) start: u32,
    pub(super) length: u32,
    pub(super) lane: Lane,
}

/// Which frames a chunk goes into: what is alike shrinks best beside its like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Lane {
    /// With the bytes of files.
    Contents = 0,
    /// With the headers of archives.
    Skeleton = 1,
}

// ---- large files ---------------------------------------------------------------------------------------------------

/// A part of a file, to be read and cut by a worker.
#[derive(Debug)]
pub(super) struct Segment {
    pub(super) origin: Arc<Origin>,
    /// Where its extent begins in the file.
    pub(super) extent_start: u64,
    /// Where it lies in the file.
    pub(super) range: Range<u64>,
    /// Its bytes with their warm-up, where they had to be read in order.
    pub(super) bytes: Option<Buffer>,
    /// Whether its extent ends with it.
    pub(super) ends_extent: bool,
    /// Whether the file ends with it.
    pub(super) is_last: bool,
    pub(super) held: Option<MemoryPermit>,
}

/// A segment, read, cut, hashed and looked up.
#[derive(Debug)]
pub(super) struct SegmentDone {
    pub(super) origin: Arc<Origin>,
    pub(super) extent_start: u64,
    pub(super) range: Range<u64>,
    pub(super) found: io::Result<Scanned>,
    pub(super) is_last: bool,
    pub(super) held: Option<MemoryPermit>,
}

// ---- archives ------------------------------------------------------------------------------------------------------

/// A part of an archive, from one header or content on to another.
#[derive(Debug)]
pub(super) struct ArchiveBatch {
    pub(super) origin: Arc<Origin>,
    pub(super) form: ArchiveForm,
    /// Where it lies in the archive.
    pub(super) range: Range<u64>,
    /// Its bytes, where they had to be read in order.
    pub(super) bytes: Option<Buffer>,
    pub(super) parts: Vec<TarPart>,
    /// Set on the last one.
    pub(super) ending: Option<Ending>,
    pub(super) held: Option<MemoryPermit>,
}

/// A part of an [`ArchiveBatch`]; the parts follow each other.
#[derive(Debug)]
pub(super) enum TarPart {
    /// Length of a part of the skeleton.
    Skeleton(u64),
    /// A member and the length of its content.
    Content(Box<Member>, u64),
    /// A member whose content follows in segments.
    Follows(Box<Member>),
    /// The compressed file follows in segments.
    Original,
}

/// How an archive ends.
#[derive(Debug)]
pub(super) enum Ending {
    /// All of it was handed out.
    Whole(Findings),
    /// Reading it failed on the way.
    Cut(Findings, io::Error),
    /// The file cannot be read.
    Failed(io::Error),
    /// It is not what it seemed to be; the file follows as it is, in segments.
    Opaque(io::Error),
}

/// An [`ArchiveBatch`], read, cut, hashed and looked up.
#[derive(Debug)]
pub(super) struct ArchiveDone {
    pub(super) origin: Arc<Origin>,
    pub(super) form: ArchiveForm,
    pub(super) block: Arc<Block>,
    /// Chunks of contents that the index does not have, in order.
    pub(super) fresh: Vec<FreshChunk>,
    /// The pieces of all contents; their ends count from the first content's begin.
    pub(super) pieces: Vec<Piece>,
    pub(super) parts: Vec<PartDone>,
    pub(super) ending: Option<Ending>,
    /// Why the bytes could not be read.
    pub(super) failed: Option<io::Error>,
    /// Whether the file has become shorter.
    pub(super) shrank: bool,
}

/// A part, its bytes by their place in the block.
#[derive(Debug)]
pub(super) enum PartDone {
    Skeleton(Range<usize>),
    /// A member, and where its pieces and fresh chunks end.
    Content {
        member: Box<Member>,
        pieces_end: usize,
        fresh_end: usize,
    },
    Follows(Box<Member>),
    Original,
}

/// What came of some results of an archive.
#[derive(Debug)]
pub(super) struct ArchiveStretch {
    /// `None` if the archive has ended.
    pub(super) assembler: Option<Box<ArchiveAssembler>>,
    /// How many results were taken.
    pub(super) results: u64,
    /// Chunks in stream order.
    pub(super) chunks: Vec<TakenChunks>,
    pub(super) row: Option<Row>,
}

/// Some chunks of one block, which the index did not have.
#[derive(Debug)]
pub(super) struct TakenChunks {
    pub(super) block: Arc<Block>,
    pub(super) fresh: Vec<FreshChunk>,
}

// ---- frames and packs ----------------------------------------------------------------------------------------------

/// Chunks of one block to be copied into frames.
#[derive(Debug)]
pub(super) struct Copy {
    pub(super) block: Arc<Block>,
    pub(super) parts: Vec<CopyPart>,
}

/// Bytes of a block that lie next to each other in a frame too.
#[derive(Debug)]
pub(super) struct CopyPart {
    pub(super) frame: Arc<Frame>,
    /// Where they go in the frame.
    pub(super) at: usize,
    /// Where they lie in the block.
    pub(super) from: Range<usize>,
}

/// New chunks that are one frame.
#[derive(Debug)]
pub(super) struct NewFrame {
    /// Its place in the stream.
    pub(super) sequence: u64,
    /// The chunks one after the other; for the packer, the frame as it is stored: header, lengths and payload.
    pub(super) bytes: Buffer,
    pub(super) ids: Vec<ChunkId>,
    pub(super) lengths: Vec<u32>,
    pub(super) held: MemoryPermit,
}

/// What the packer is asked to do.
#[derive(Debug)]
pub(super) enum ToPack {
    Frame(NewFrame),
    /// Finish the open pack once all frames before this place in the stream are in.
    Flush {
        before: u64,
    },
}

/// A pack that is durable and in the index.
#[derive(Debug)]
pub(super) struct FinishedPack {
    pub(super) directory: Arc<Directory>,
    pub(super) bytes: u64,
}

// ---- catalog -------------------------------------------------------------------------------------------------------

/// What came of one entry, in the order of the walk.
#[derive(Debug)]
pub(super) enum Row {
    /// An entry of the snapshot.
    Entry { entry: Box<Entry>, content: RowContent, problems: Problems },
    /// No row, but something to be said.
    Problem(Problem),
}

/// What is still to be done for the content of an entry.
#[derive(Debug)]
pub(super) enum RowContent {
    /// Nothing.
    Known,
    /// Nothing: it was taken from the parent snapshot.
    Unchanged,
    /// The index does not have its recipe.
    New(RecipeId, Vec<Piece>),
    /// It is these pieces, of a file or of an archive.
    Pieces(Vec<Piece>, Option<ArchiveForm>),
}
