//! Which bytes of a tar are whose? From header to header, without looking at what members hold.
//!
//! A damaged tar is read as far as it can be: where a header is missing, the next block that is a header is looked
//! for, and what lies between is skeleton. After an end mark more archives may follow, as in a file made with `cat`;
//! anything else that follows is skeleton to the end.

use std::io;

use super::acl::IdOfName;
use super::header::{BLOCK_BYTES, Block, Header, text};
use super::pax::{RECORD_BYTES_MAX, Records, Sparse};
use super::sparse::{self, Front};
use crate::format::archive::{Member, MemberKind, SparseRun};
use crate::format::entry::EntryKind;

/// So much is looked through at once for the next header, or for the end of an end mark: ever more while it goes on.
const SEARCH_BYTES: (usize, usize) = (4 * BLOCK_BYTES, 64 << 10);

/// Where a tar's bytes come from.
pub trait Input {
    /// Fills `buffer` with the bytes from `offset` on; fewer only where the input ends. Never asked for what lies before
    /// the last step's end.
    ///
    /// # Errors
    /// What the system answers.
    fn read_at(&mut self, offset: u64, buffer: &mut [u8]) -> io::Result<usize>;
}

impl Input for &[u8] {
    fn read_at(&mut self, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        let rest = usize::try_from(offset).ok().and_then(|offset| self.get(offset..)).unwrap_or_default();
        let count = rest.len().min(buffer.len());
        if let (Some(to), Some(from)) = (buffer.get_mut(..count), rest.get(..count)) {
            to.copy_from_slice(from);
        }
        Ok(count)
    }
}

/// A step through a tar.
#[derive(Debug)]
pub enum Step {
    /// Everything up to [`Framing::position`] is skeleton.
    Skeleton,
    /// A member, and where its content of [`Member::content_bytes`] begins: it ends at [`Framing::position`], if the tar
    /// does not end before. What lies between the last step's end and the content is skeleton.
    Member(Box<Member>, u64),
    /// The rest of the input, however long, is skeleton, and this the last step.
    Rest,
}

/// What is to be said of a tar that is not in order.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Findings {
    /// Where a header should have been and was none: the first such place.
    pub no_header_at: Option<u64>,
    /// Members whose extension records could not be understood.
    pub odd_records: u64,
    /// Members whose time is before 1677 or after 2262, and was replaced by the nearest that can be kept.
    pub distant_times: u64,
    /// Whether there was no end mark.
    pub no_end: bool,
}

/// What records before a header say of its member.
#[derive(Debug, Default)]
struct Ahead {
    records: Records,
    path: Option<Vec<u8>>,
    link_target: Option<Vec<u8>>,
}

/// Steps through a tar.
#[derive(Debug, Default)]
pub struct Framing {
    at: u64,
    globals: Records,
    ahead: Ahead,
    /// Whether the last block was a block of zeros.
    ended: bool,
    is_over: bool,
    findings: Findings,
    /// Finds the ids of the names in access control lists.
    ids: Option<IdOfName>,
    /// Memory to search in, and how much of it the next search takes.
    search: Vec<u8>,
    search_bytes: usize,
}

/// What a block is.
enum BlockKind {
    Header,
    Zeros,
    Other,
    /// The input ends here; the number of bytes that are left.
    End(usize),
}

impl Framing {
    /// At the beginning.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// With a function that finds the id of a user's or group's name, for access control lists that have names alone.
    #[must_use]
    pub fn with_ids(self, ids: IdOfName) -> Self {
        Self { ids: Some(ids), ..self }
    }

    /// How far the steps have led.
    #[must_use]
    pub fn position(&self) -> u64 {
        self.at
    }

    /// What was found not to be in order so far.
    #[must_use]
    pub fn findings(&self) -> &Findings {
        &self.findings
    }

    /// The next step.
    ///
    /// # Errors
    /// What the input answers.
    pub fn next(&mut self, input: &mut dyn Input) -> io::Result<Option<Step>> {
        if self.is_over {
            return Ok(None);
        }
        // What fills up the last content to a block.
        let at = self.at.checked_next_multiple_of(BLOCK_BYTES as u64).unwrap_or(u64::MAX);
        let mut block: Block = [0; BLOCK_BYTES];
        match look(input, at, &mut block)? {
            BlockKind::End(left) => {
                self.is_over = true;
                self.findings.no_end |= !self.ended;
                // Less than a block: of a header that was cut off, or behind the end.
                if left > 0 && !self.ended {
                    self.findings.no_header_at.get_or_insert(at);
                }
                Ok(Some(Step::Rest))
            }
            BlockKind::Header => {
                self.ended = false;
                self.at = at;
                self.header(&block, input)
            }
            BlockKind::Zeros => {
                self.ended = true;
                self.at = self.skip(at, input, |found| matches!(found, BlockKind::Zeros))?;
                Ok(Some(Step::Skeleton))
            }
            BlockKind::Other if self.ended => {
                self.is_over = true;
                Ok(Some(Step::Rest))
            }
            BlockKind::Other => {
                self.findings.no_header_at.get_or_insert(at);
                self.ahead = Ahead::default();
                self.at = self.skip(at, input, |found| matches!(found, BlockKind::Other))?;
                Ok(Some(Step::Skeleton))
            }
        }
    }

    /// The end of the blocks of a kind from `at` on, as far as one look goes: there is at least one.
    fn skip(&mut self, at: u64, input: &mut dyn Input, is_meant: impl Fn(&BlockKind) -> bool) -> io::Result<u64> {
        let wanted = self.search_bytes.clamp(SEARCH_BYTES.0, SEARCH_BYTES.1);
        self.search.resize(wanted, 0);
        let filled = input.read_at(at, &mut self.search)?;
        let (blocks, _) = self.search.get(..filled).unwrap_or_default().as_chunks::<BLOCK_BYTES>();
        let meant = blocks.iter().take_while(|block| is_meant(&kind_of(block))).count();
        self.search_bytes = if meant * BLOCK_BYTES == wanted { 2 * wanted } else { 0 };
        Ok(at.saturating_add((meant.max(1) * BLOCK_BYTES) as u64))
    }

    fn header(&mut self, block: &Block, input: &mut dyn Input) -> io::Result<Option<Step>> {
        let Some(header) = Header::parse(block) else { return Ok(Some(Step::Skeleton)) };
        self.at = self.at.saturating_add(BLOCK_BYTES as u64);
        match header.kind() {
            kind @ (b'L' | b'K' | b'x' | b'X' | b'g') => {
                let is_long = header.size > RECORD_BYTES_MAX;
                let record = if is_long { None } else { read(input, self.at, header.size)? };
                self.at = self.at.saturating_add(header.size);
                match record {
                    Some(record) => self.record(kind, &record),
                    None => self.findings.odd_records += 1,
                }
                Ok(Some(Step::Skeleton))
            }
            _ => self.member(&header, input).map(Some),
        }
    }

    fn record(&mut self, kind: u8, record: &[u8]) {
        let understood = match kind {
            b'L' => {
                self.ahead.path = Some(text(record).to_vec());
                true
            }
            b'K' => {
                self.ahead.link_target = Some(text(record).to_vec());
                true
            }
            b'g' => self.globals.extend(record),
            _ => self.ahead.records.extend(record),
        };
        self.findings.odd_records += u64::from(!understood);
    }

    fn member(&mut self, header: &Header<'_>, input: &mut dyn Input) -> io::Result<Step> {
        let ahead = std::mem::take(&mut self.ahead);
        let mut member = Box::new(header.member());
        let records = ahead.records.over(&self.globals);
        if let Some(path) = ahead.path {
            member.path = path;
        }
        if let Some(target) = ahead.link_target {
            member.link_target = target;
        }
        let understood = records.apply(&mut member, self.ids);
        self.findings.odd_records += u64::from(!understood);
        let mtime_ns = records.mtime_ns().unwrap_or_else(|| header.mtime_ns());
        member.mtime_ns = i64::try_from(mtime_ns).unwrap_or(if mtime_ns < 0 { i64::MIN } else { i64::MAX });
        self.findings.distant_times += u64::from(i128::from(member.mtime_ns) != mtime_ns);
        if header.is_directory_by_name() && member.path.ends_with(b"/") {
            member.kind = MemberKind::Entry(EntryKind::Directory);
        }
        let mut content_bytes = records.size().unwrap_or(header.size);
        // GNU tar's links never have content; of others it shows by what follows.
        let is_bare_link = header.is_gnu() && member.kind == MemberKind::HardLink;
        if content_bytes > 0 && !header.has_content() && (is_bare_link || self.is_bare(input)?) {
            content_bytes = 0;
        }
        let map = match (header.kind(), records.sparse()) {
            (b'S', _) => {
                let (runs, goes_on, size) = header.sparse();
                Some((size, self.old_map(runs, goes_on, input)?))
            }
            (_, Some((size, Sparse::Known(runs)))) => Some((size, Some(runs))),
            (_, Some((size, Sparse::InFront))) => {
                let before = self.at;
                let map = self.front_map(content_bytes, input)?;
                content_bytes -= self.at - before;
                Some((size, map))
            }
            (_, None) => None,
        };
        member.content_bytes = content_bytes;
        let is_file = member.kind == MemberKind::Entry(EntryKind::File);
        member.size = if is_file { content_bytes } else { 0 };
        if let Some((size, map)) = map {
            match map.filter(|map| is_file && sparse::fits(map, size, content_bytes)) {
                Some(map) => (member.size, member.sparse) = (size, map),
                None => {
                    // What it holds is known; where that belongs is not.
                    (member.kind, member.size) = (MemberKind::Other, 0);
                    self.findings.odd_records += 1;
                }
            }
        }
        if !matches!(member.kind, MemberKind::HardLink | MemberKind::Entry(EntryKind::Symlink)) {
            member.link_target.clear();
        }
        let content_at = self.at;
        self.at = self.at.saturating_add(content_bytes);
        Ok(Step::Member(member, content_at))
    }

    /// Whether another header, or an end mark, follows at once.
    fn is_bare(&self, input: &mut dyn Input) -> io::Result<bool> {
        let found = look(input, self.at, &mut [0; BLOCK_BYTES])?;
        Ok(!matches!(found, BlockKind::Other))
    }

    /// The map of an old sparse member, which may go on in further blocks; `None` if it is not a map.
    fn old_map(
        &mut self,
        first: &[u8],
        mut goes_on: bool,
        input: &mut dyn Input,
    ) -> io::Result<Option<Vec<SparseRun>>> {
        let mut map = sparse::old_runs(first);
        let mut block: Block = [0; BLOCK_BYTES];
        while goes_on {
            if input.read_at(self.at, &mut block)? < BLOCK_BYTES {
                return Ok(None);
            }
            self.at = self.at.saturating_add(BLOCK_BYTES as u64);
            goes_on = block.get(504) == Some(&1);
            let more = sparse::old_runs(&block);
            map = map.zip(more).map(|(mut map, more)| {
                map.extend(more);
                map
            });
            if map.as_ref().is_some_and(|map| map.len() > sparse::RUNS_MAX) {
                map = None;
            }
        }
        Ok(map)
    }

    /// The map in front of a content. Advances past the map; does not move if there is no map.
    fn front_map(&mut self, content_bytes: u64, input: &mut dyn Input) -> io::Result<Option<Vec<SparseRun>>> {
        let mut wanted = BLOCK_BYTES as u64;
        while wanted <= content_bytes.min(RECORD_BYTES_MAX) {
            let Some(bytes) = read(input, self.at, wanted)? else { return Ok(None) };
            match sparse::front_map(&bytes) {
                Some(Front::Whole { runs, bytes }) => {
                    self.at = self.at.saturating_add(bytes.next_multiple_of(BLOCK_BYTES) as u64);
                    return Ok(Some(runs));
                }
                Some(Front::AtomicFile) => wanted *= 2,
                None => return Ok(None),
            }
        }
        Ok(None)
    }
}

fn kind_of(block: &Block) -> BlockKind {
    if block.iter().all(|b| *b == 0) {
        BlockKind::Zeros
    } else if Header::parse(block).is_some() {
        BlockKind::Header
    } else {
        BlockKind::Other
    }
}

fn look(input: &mut dyn Input, at: u64, block: &mut Block) -> io::Result<BlockKind> {
    let filled = input.read_at(at, block)?;
    Ok(if filled < BLOCK_BYTES { BlockKind::End(filled) } else { kind_of(block) })
}

/// Reads a number of bytes, which the caller has bounded; `None` if there are fewer.
fn read(input: &mut dyn Input, at: u64, bytes: u64) -> io::Result<Option<Vec<u8>>> {
    let mut buffer = vec![0; usize::try_from(bytes).unwrap_or_default()];
    let filled = input.read_at(at, &mut buffer)?;
    Ok((filled == buffer.len()).then_some(buffer))
}
