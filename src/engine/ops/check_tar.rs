//! What is in a tar, what of it needs care, and what would it cost to add it? Read once, front to back; nothing is written.
//!
//! Memory: a piece of a member, and for each member its name, for each chunk its id.

use std::collections::{HashMap, HashSet};
use std::io::Read;
use std::ops::Range;

use serde::Serialize;

use crate::archive::{BLOCK_BYTES, Findings, Step, begins_tar};
use crate::chunk::{Chunker, Profile};
use crate::engine::Store;
use crate::engine::add::archive::framing;
use crate::engine::add::archive::source::Window;
use crate::engine::store::chunk_index::ChunkIndex;
use crate::engine::store::control::Control;
use crate::error::{Error, Result};
use crate::format::archive::{Member, MemberKind};
use crate::format::archive_form::ArchiveForm;
use crate::format::entry::EntryKind;
use crate::format::id::ChunkId;
use crate::ingest::{compression_of, unpack};
use crate::spelling::{Name, quoted};

/// Names of each sort that are shown at most.
const EXAMPLES_MAX: usize = 10;
/// A part of a name that is longer can be made on few file systems.
const PART_BYTES_MAX: usize = 255;

/// What was found in a tar. All sizes in bytes.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct TarCheck {
    /// Whether it begins with a tar's header.
    pub is_tar: bool,
    /// `tar`, or what the tar was in: `tar from gzip`.
    pub form: String,
    /// Bytes of the tar, decompressed.
    pub bytes: u64,
    /// Its members, those of one name each counted.
    pub members: u64,
    /// Members of each kind.
    pub kinds: Kinds,
    /// Bytes of what members hold.
    pub content_bytes: u64,
    /// Bytes of all else.
    pub skeleton_bytes: u64,
    /// Files by size, ascending.
    pub sizes: Vec<SizeBucket>,
    /// Names that need care.
    pub names: Names,
    /// What is not in order, in words.
    pub remarks: Vec<String>,
    /// What adding it would bring.
    pub dedup: Dedup,
}

/// Members of each kind.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Kinds {
    /// Regular files.
    pub files: u64,
    /// Those of them that are sparse.
    pub sparse: u64,
    /// Directories.
    pub directories: u64,
    /// Symbolic links.
    pub symlinks: u64,
    /// Further names of other members.
    pub hard_links: u64,
    /// Devices.
    pub devices: u64,
    /// Pipes.
    pub fifos: u64,
    /// Volume labels and the like.
    pub others: u64,
}

/// Files of a size.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct SizeBucket {
    /// Larger than half of this, and at most this large; 0 for empty files.
    pub up_to_bytes: u64,
    /// How many.
    pub files: u64,
    /// Their bytes.
    pub bytes: u64,
}

/// Names of a sort.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Sort {
    /// How many.
    pub count: u64,
    /// The first of them.
    pub examples: Vec<Name>,
}

/// Names that need care.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Names {
    /// That begin with `/`.
    pub absolute: Sort,
    /// With a `..` part: they stay in the archive, and cannot be read by name.
    pub parents: Sort,
    /// That are no UTF-8.
    pub not_utf8: Sort,
    /// That came before: the last one wins.
    pub duplicates: Sort,
    /// With a part of more than 255 bytes.
    pub long_parts: Sort,
    /// That differ from another only in upper and lower case.
    pub case_only: Sort,
}

/// What adding the tar would bring.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Dedup {
    /// Chunks of what members hold.
    pub chunks: u64,
    /// Bytes of those that the store has.
    pub known_bytes: u64,
    /// Bytes of those that came before in the tar.
    pub repeated_bytes: u64,
    /// Bytes of the others, before compression. Headers are not counted.
    pub new_bytes: u64,
}

impl Sort {
    fn push(&mut self, name: &[u8]) {
        self.count += 1;
        if self.examples.len() < EXAMPLES_MAX {
            self.examples.push(Name(name.to_vec()));
        }
    }
}

impl TarCheck {
    /// Whether a part of it is missing or cannot be understood.
    #[must_use]
    pub fn is_damaged(&self) -> bool {
        !self.is_tar || !self.remarks.is_empty()
    }
}

/// Looks through a tar, compressed or not. Without a store, all chunks are new, cut as in one of default settings.
///
/// # Errors
/// The input cannot be read; the store's index cannot; [`Error::Interrupted`].
pub fn check_tar(mut input: Box<dyn Read + Send>, store: Option<&Store>, control: &Control) -> Result<TarCheck> {
    let unreadable = |source| Error::io("read", "the tar", source);
    let mut head = vec![0; BLOCK_BYTES];
    let filled = read_up_to(&mut *input, &mut head).map_err(unreadable)?;
    head.truncate(filled);
    let compression = compression_of(&head);
    let whole: Box<dyn Read + Send> = Box::new(std::io::Cursor::new(head).chain(input));
    let (form, reader) = match compression {
        None => (ArchiveForm::Tar, whole),
        Some(compression) => (ArchiveForm::TarFrom(compression), unpack(compression, whole).map_err(unreadable)?),
    };
    let chunk_index = store.map(Store::chunk_index).transpose()?;
    let profile = store.map_or_else(Profile::default, |store| store.settings().profile);
    let check = TarCheck { form: form.word().to_owned(), ..TarCheck::default() };
    let looking = Looking { check, chunk_index, profile, control, seen: HashSet::new(), names: HashMap::new() };
    looking.run(&mut Window::new(reader))
}

struct Looking<'a, 's> {
    check: TarCheck,
    chunk_index: Option<ChunkIndex<'s>>,
    profile: Profile,
    control: &'a Control,
    seen: HashSet<ChunkId>,
    /// Names in lower case, each as it was met first.
    names: HashMap<Vec<u8>, Vec<u8>>,
}

impl Looking<'_, '_> {
    fn run(mut self, window: &mut Window) -> Result<TarCheck> {
        let unreadable = |source| Error::io("read", "the tar", source);
        let mut head = [0; BLOCK_BYTES];
        let filled = window.read_at(0, &mut head).map_err(unreadable)?;
        self.check.is_tar = begins_tar(head.get(..filled).unwrap_or_default());
        let mut framing = framing();
        let mut at = 0;
        let mut cut_short = None;
        while let Some(step) = framing.next(window).map_err(unreadable)? {
            if self.control.is_stopped() {
                return Err(Error::Interrupted { kept: "nothing was changed".to_owned() });
            }
            let (skeleton_end, member) = match step {
                Step::Skeleton => (framing.position(), None),
                Step::Member(member, content_at) => (content_at, Some(member)),
                Step::Rest => (u64::MAX, None),
            };
            let passed = pass_over(window, at..skeleton_end);
            at += passed;
            self.check.skeleton_bytes += passed;
            let Some(member) = member else { continue };
            let bytes = self.take_content(window, member.content_bytes).map_err(unreadable)?;
            at += bytes;
            if bytes < member.content_bytes {
                cut_short.get_or_insert((member.path.clone(), member.content_bytes - bytes));
            }
            self.take_member(&member);
        }
        self.check.bytes = at;
        self.check.remarks = remarks(framing.findings(), cut_short, window.take_error());
        if !self.check.is_tar {
            self.check.remarks.insert(0, "is no tar: it does not begin with a header".to_owned());
        }
        Ok(self.check)
    }

    /// Cuts and hashes a content; says how many bytes of it there were.
    fn take_content(&mut self, window: &mut Window, bytes: u64) -> std::io::Result<u64> {
        let mut taken = 0;
        let mut chunker = Chunker::new(window.take(bytes), &self.profile);
        while let Some(chunk) = chunker.next_chunk()? {
            let length = chunk.bytes.len() as u64;
            let id = ChunkId::of(chunk.bytes);
            taken += length;
            let dedup = &mut self.check.dedup;
            dedup.chunks += 1;
            if !self.seen.insert(id) {
                dedup.repeated_bytes += length;
            } else if self.chunk_index.as_ref().is_some_and(|chunk_index| chunk_index.contains(&id).unwrap_or_default())
            {
                dedup.known_bytes += length;
            } else {
                dedup.new_bytes += length;
            }
        }
        self.control.count(1, taken);
        self.check.content_bytes += taken;
        Ok(taken)
    }

    fn take_member(&mut self, member: &Member) {
        let check = &mut self.check;
        check.members += 1;
        let kinds = &mut check.kinds;
        let count = match member.kind {
            MemberKind::HardLink => &mut kinds.hard_links,
            MemberKind::Other => &mut kinds.others,
            MemberKind::Entry(kind) => match kind {
                EntryKind::File => &mut kinds.files,
                EntryKind::Directory => &mut kinds.directories,
                EntryKind::Symlink => &mut kinds.symlinks,
                EntryKind::CharDevice | EntryKind::BlockDevice => &mut kinds.devices,
                EntryKind::Fifo => &mut kinds.fifos,
                EntryKind::Socket => &mut kinds.others,
            },
        };
        *count += 1;
        kinds.sparse += u64::from(!member.sparse.is_empty());
        if member.kind == MemberKind::Entry(EntryKind::File) {
            count_size(&mut check.sizes, member.size);
        }
        if member.kind != MemberKind::Other {
            self.take_name(member);
        }
    }

    fn take_name(&mut self, member: &Member) {
        let (name, names) = (&member.path, &mut self.check.names);
        let parts = || name.split(|byte| *byte == b'/');
        if name.starts_with(b"/") {
            names.absolute.push(name);
        }
        if parts().any(|part| part == b"..") {
            names.parents.push(name);
        }
        if std::str::from_utf8(name).is_err() {
            names.not_utf8.push(name);
        }
        if parts().any(|part| part.len() > PART_BYTES_MAX) {
            names.long_parts.push(name);
        }
        let Some(path) = member.entry_path() else { return };
        let plain = path.as_bytes().to_vec();
        let lower = String::from_utf8(plain.clone())
            .map_or_else(|_| plain.to_ascii_lowercase(), |text| text.to_lowercase().into_bytes());
        match self.names.get(&lower) {
            Some(first) if *first == plain => names.duplicates.push(name),
            Some(_) => names.case_only.push(name),
            None => drop(self.names.insert(lower, plain)),
        }
    }
}

/// Leaves bytes behind; says how many there were.
fn pass_over(window: &mut Window, range: Range<u64>) -> u64 {
    let mut at = range.start;
    let mut bytes = Vec::new();
    while at < range.end {
        bytes.clear();
        window.take_to(range.end.min(at + (1 << 20)), &mut bytes);
        at += bytes.len() as u64;
        if bytes.is_empty() {
            break;
        }
    }
    at - range.start
}

fn count_size(sizes: &mut Vec<SizeBucket>, size: u64) {
    let up_to_bytes = if size == 0 { 0 } else { size.checked_next_power_of_two().unwrap_or(u64::MAX) };
    let place = sizes.partition_point(|bucket| bucket.up_to_bytes < up_to_bytes);
    if sizes.get(place).is_none_or(|bucket| bucket.up_to_bytes != up_to_bytes) {
        sizes.insert(place, SizeBucket { up_to_bytes, ..SizeBucket::default() });
    }
    if let Some(bucket) = sizes.get_mut(place) {
        bucket.files += 1;
        bucket.bytes = bucket.bytes.saturating_add(size);
    }
}

fn remarks(findings: &Findings, cut_short: Option<(Vec<u8>, u64)>, error: Option<std::io::Error>) -> Vec<String> {
    let mut remarks = Vec::new();
    let is_cut = cut_short.is_some() || error.is_some();
    if let Some(error) = error {
        remarks.push(format!("cannot be read further: {error}"));
    }
    if let Some(at) = findings.no_header_at {
        remarks.push(format!("has no header at byte {at}, where one should be"));
    }
    if let Some((path, missing)) = cut_short {
        remarks.push(format!("is cut short: {} lacks {missing} bytes", quoted(&path)));
    }
    if findings.no_end && !is_cut {
        remarks.push("has no end mark, so it may be cut short".to_owned());
    }
    if findings.odd_records > 0 {
        remarks.push(format!("has {} extension records that cannot be understood", findings.odd_records));
    }
    if findings.distant_times > 0 {
        remarks.push(format!("has {} members with times before 1677 or after 2262", findings.distant_times));
    }
    remarks
}

fn read_up_to(input: &mut dyn Read, buffer: &mut [u8]) -> std::io::Result<usize> {
    let mut filled = 0;
    while let Some(room) = buffer.get_mut(filled..).filter(|room| !room.is_empty()) {
        match input.read(room) {
            Ok(0) => break,
            Ok(read) => filled += read,
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}
