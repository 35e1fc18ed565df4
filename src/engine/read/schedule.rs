//! In which order do the frames of a window come, and which bytes wait for others, so that files are written in large
//! aligned blocks?
//!
//! A file is written block by block. A block whose bytes come from several frames is written when the last of them is there;
//! until then the others wait. So frames come in the order in which blocks need them. Files that are versions of each other
//! have most frames in common: those advance together, block by block.
//!
//! ```text
//! for each block, in order:                      files in path order; related large files in turns
//!     for each of its segments: its frame gets the next position, unless it has one
//! for each segment whose block is due long after its frame:
//!     its bytes are copied, not to keep the whole frame
//!     if that makes more copies than allowed: of those that wait longest the bytes are written alone, at once
//! ```
//!
//! Invariant: what waits has a bound, whatever the files are made of: the frames of [`Bounds::frame_bytes`], and copies of
//! [`Bounds::copied_bytes`].

use std::cmp::Reverse;
use std::collections::{BTreeMap, HashMap};
use std::ops::Range;

use super::plan::{Frames, ReadSegment};

/// A block of a file begins at a multiple of this, in bytes. Of larger writes Linux makes folios of 2 MiB in its page cache,
/// which it may have to search and to move memory for: 600 MB to ext4 take 0.13 to 0.19 s of system time in writes of 1 MiB,
/// and 0.13 to 1.3 s in writes of 4 MiB (two processors that others use, Linux 6.18).
pub(super) const BLOCK_BYTES: u64 = 3 << 19;

/// A large file advances together with an earlier one that shares the frames of at least one in this many of its segments.
const RELATED_SHARE: usize = 4;

/// How much may wait for other frames.
#[derive(Debug, Clone, Copy)]
pub(super) struct Bounds {
    /// A decoded frame waits while no more bytes than these are decoded after it.
    pub(super) frame_bytes: u64,
    /// At most this many bytes of copies wait.
    pub(super) copied_bytes: u64,
}

/// What is written together: the bytes of a block, but for those that are written alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Block {
    /// Which file it is of.
    pub(super) file: u32,
    /// How many segments it has.
    pub(super) segments: u32,
    /// The position of the last frame that it needs; `None` if its segments are written alone, each as it comes.
    pub(super) due: Option<u64>,
}

/// The order of a window.
#[derive(Debug, Default)]
pub(super) struct Schedule {
    /// By the number of the frame: how many bytes are decoded before it.
    positions: Vec<u64>,
    pub(super) blocks: Vec<Block>,
    /// Whether frames wait: see [`Bounds::frame_bytes`].
    frame_bytes: u64,
}

impl Schedule {
    /// Orders segments, which are by file and offset and lie within blocks, and whose destination is their file. It is their
    /// block afterwards.
    pub(super) fn new(segments: &mut [ReadSegment], frames: &Frames, bounds: Bounds) -> Self {
        let ranges = blocks_of(segments);
        let order = order_of(segments, &ranges);
        let positions = positions_of(segments, frames, &ranges, &order);
        let position = |frame: u32| positions.get(frame as usize).copied().unwrap_or_default();
        let dues: Vec<u64> = ranges
            .iter()
            .map(|range| {
                let own = segments.get(range.clone()).unwrap_or_default();
                own.iter().map(|segment| position(segment.frame)).max().unwrap_or_default()
            })
            .collect();
        let alone = alone_of(segments, &ranges, &dues, &position, bounds);
        let mut blocks = Vec::with_capacity(ranges.len());
        for (range, due) in ranges.into_iter().zip(dues) {
            let (mut together, mut apart) = (None, None);
            for n in range {
                let Some(segment) = segments.get_mut(n) else { break };
                let is_alone = alone.get(n).copied().unwrap_or_default();
                let block = if is_alone { &mut apart } else { &mut together };
                let number = *block.get_or_insert_with(|| {
                    let due = (!is_alone).then_some(due);
                    blocks.push(Block { file: segment.destination, segments: 0, due });
                    (blocks.len() - 1) as u32
                });
                segment.destination = number;
                if let Some(block) = blocks.get_mut(number as usize) {
                    block.segments += 1;
                }
            }
        }
        Self { positions, blocks, frame_bytes: bounds.frame_bytes }
    }

    /// The position of a frame, by which frames are served.
    pub(super) fn position(&self, frame: u32) -> u64 {
        self.positions.get(frame as usize).copied().unwrap_or_default()
    }

    /// Whether a block waits too long for all of a frame to be kept.
    pub(super) fn is_copied(&self, block: &Block, frame: u32) -> bool {
        block.due.is_some_and(|due| due - self.position(frame).min(due) > self.frame_bytes)
    }

    /// The turns of frames, each of which serves a group of segments: those that wait for others have turns of their own.
    pub(super) fn turns(&self, segments: &[ReadSegment], groups: &[Range<usize>], length: usize) -> Vec<Range<usize>> {
        let mut turns = Vec::new();
        let (mut start, mut waiting) = (0, 0u64);
        for (n, group) in groups.iter().enumerate() {
            let own = segments.get(group.clone()).unwrap_or_default();
            let waits = |segment: &&ReadSegment| {
                let block = self.blocks.get(segment.destination as usize);
                block.and_then(|block| block.due).is_some_and(|due| due > self.position(segment.frame))
            };
            waiting += own.iter().filter(waits).map(|segment| u64::from(segment.part_bytes)).sum::<u64>();
            if n + 1 - start >= length || waiting > WAITING_BYTES_MAX {
                turns.push(start..n + 1);
                (start, waiting) = (n + 1, 0);
            }
        }
        if start < groups.len() {
            turns.push(start..groups.len());
        }
        turns
    }
}

/// A turn ends with the frame that makes more bytes wait than these.
const WAITING_BYTES_MAX: u64 = 1 << 20;

/// The segments of each block.
fn blocks_of(segments: &[ReadSegment]) -> Vec<Range<usize>> {
    let mut start = 0;
    let key = |segment: &ReadSegment| (segment.destination, segment.offset / BLOCK_BYTES);
    let blocks = segments.chunk_by(|a, b| key(a) == key(b)).map(|block| {
        let range = start..start + block.len();
        start = range.end;
        range
    });
    blocks.collect()
}

/// What comes next in a window.
enum Next {
    /// The only block of a file.
    Block(usize),
    /// Files of several blocks that advance together.
    Group(usize),
}

/// The blocks in the order in which they are to be written: by file, and in turns of files that are versions of each other.
fn order_of(segments: &[ReadSegment], blocks: &[Range<usize>]) -> Vec<usize> {
    let file_of = |block: &Range<usize>| segments.get(block.start).map(|segment| segment.destination);
    let mut sequence = Vec::new();
    // Of each group the files, as ranges of blocks; and which group was the first to need a frame.
    let mut groups: Vec<Vec<Range<usize>>> = Vec::new();
    let mut first_need: HashMap<u32, usize> = HashMap::new();
    let mut start = 0;
    for file in blocks.chunk_by(|a, b| file_of(a) == file_of(b)) {
        let range = start..start + file.len();
        start = range.end;
        let [first, .., last] = file else {
            sequence.push(Next::Block(range.start));
            continue;
        };
        let own = segments.get(first.start..last.end).unwrap_or_default();
        let mut shared: HashMap<usize, usize> = HashMap::new();
        for segment in own {
            if let Some(group) = first_need.get(&segment.frame) {
                *shared.entry(*group).or_default() += 1;
            }
        }
        let related = shared.into_iter().max_by_key(|(group, count)| (*count, Reverse(*group)));
        let group = match related.filter(|(_, count)| count * RELATED_SHARE >= own.len()) {
            Some((group, _)) => group,
            None => {
                groups.push(Vec::new());
                sequence.push(Next::Group(groups.len() - 1));
                groups.len() - 1
            }
        };
        for segment in own {
            first_need.entry(segment.frame).or_insert(group);
        }
        groups.get_mut(group).into_iter().for_each(|group| group.push(range.clone()));
    }
    let mut order = Vec::with_capacity(blocks.len());
    for next in sequence {
        match next {
            Next::Block(block) => order.push(block),
            Next::Group(group) => {
                let mut files = groups.get_mut(group).map(std::mem::take).unwrap_or_default();
                while !files.is_empty() {
                    files.iter_mut().for_each(|file| order.extend(file.next()));
                    files.retain(|file| !file.is_empty());
                }
            }
        }
    }
    order
}

/// How many bytes are decoded before each frame, when frames come as the blocks need them.
fn positions_of(segments: &[ReadSegment], frames: &Frames, blocks: &[Range<usize>], order: &[usize]) -> Vec<u64> {
    const UNKNOWN: u64 = u64::MAX;
    let mut positions = vec![UNKNOWN; frames.len()];
    let mut decoded = 0;
    for block in order.iter().filter_map(|block| blocks.get(*block)) {
        for segment in segments.get(block.clone()).unwrap_or_default() {
            if let Some(position) = positions.get_mut(segment.frame as usize).filter(|known| **known == UNKNOWN) {
                *position = decoded;
                decoded += frames.get(segment.frame).map_or(1, |(_, frame)| u64::from(frame.raw_bytes).max(1));
            }
        }
    }
    positions
}

/// Which segments are written alone, so that the copies that wait stay within their bound: of all that wait at a time, those
/// of the blocks that are due last.
fn alone_of(
    segments: &[ReadSegment],
    blocks: &[Range<usize>],
    dues: &[u64],
    position: &dyn Fn(u32) -> u64,
    bounds: Bounds,
) -> Vec<bool> {
    let mut copied: Vec<Copied> = Vec::new();
    for (block, due) in blocks.iter().zip(dues) {
        for n in block.clone() {
            let Some(ReadSegment { frame, start, part_start, part_bytes, .. }) = segments.get(n) else { continue };
            let from = position(*frame);
            if due - from > bounds.frame_bytes {
                copied.push(Copied { from, part: (start + part_start, *part_bytes), due: *due, segment: n });
            }
        }
    }
    if copied.is_empty() {
        return Vec::new();
    }
    let mut alone = vec![false; segments.len()];
    copied.sort_unstable();
    // What waits, by when it is due: the copies that many segments share once.
    let mut waiting: BTreeMap<u64, Vec<&[Copied]>> = BTreeMap::new();
    let bytes_of = |copy: &[Copied]| copy.first().map_or(0, |first| u64::from(first.part.1));
    let mut bytes = 0;
    for copy in copied.chunk_by(|a, b| (a.from, a.part) == (b.from, b.part)) {
        let (Some(first), Some(last)) = (copy.first(), copy.last()) else { continue };
        while let Some(entry) = waiting.first_entry().filter(|entry| *entry.key() < first.from) {
            bytes -= entry.remove().into_iter().map(bytes_of).sum::<u64>();
        }
        waiting.entry(last.due).or_default().push(copy);
        bytes += bytes_of(copy);
        while bytes > bounds.copied_bytes {
            let Some((_, last)) = waiting.pop_last() else { break };
            for copy in last {
                bytes -= bytes_of(copy);
                for Copied { segment, .. } in copy {
                    alone.get_mut(*segment).into_iter().for_each(|alone| *alone = true);
                }
            }
        }
    }
    alone
}

/// A segment whose bytes are copied, in the order in which copies are made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Copied {
    /// The position of its frame.
    from: u64,
    /// Where its bytes begin in the frame, and how many there are: who wants the same shares one copy.
    part: (u32, u32),
    due: u64,
    segment: usize,
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing)]

    use super::*;
    use crate::format::id::ChunkId;

    const MIB: u64 = 1 << 20;

    /// Bytes of a frame that go to a place in a file.
    fn segment(frame: u32, file: u32, offset: u64, part_bytes: u32) -> ReadSegment {
        let id = ChunkId([0; 32]);
        ReadSegment { id, frame, start: 0, length: part_bytes, part_start: 0, part_bytes, destination: file, offset }
    }

    /// Frames in the order in which they come.
    fn frames_in_order(schedule: &Schedule, frames: u32) -> Vec<u32> {
        let mut order: Vec<u32> = (0..frames).collect();
        order.sort_by_key(|frame| schedule.position(*frame));
        order
    }

    fn generous() -> Bounds {
        Bounds { frame_bytes: 8 * MIB, copied_bytes: 8 * MIB }
    }

    #[test]
    fn frames_come_as_blocks_need_them_and_each_block_knows_its_last() {
        // Three small files; the second begins in the frame of the first and ends in another.
        let mut segments =
            [segment(4, 0, 0, 100), segment(4, 1, 0, 100), segment(2, 1, 100, 100), segment(0, 2, 0, 100)];
        let schedule = Schedule::new(&mut segments, &Frames::of(&[1000; 5]), generous());
        assert_eq!([4, 2, 0].map(|frame| schedule.position(frame)), [0, 1000, 2000]);
        let block = |file, segments, due| Block { file, segments, due: Some(due) };
        assert_eq!(schedule.blocks, [block(0, 1, 0), block(1, 2, 1000), block(2, 1, 2000)]);
        assert_eq!(segments.map(|segment| segment.destination), [0, 1, 1, 2]);
    }

    #[test]
    fn versions_of_a_large_file_advance_together_and_others_one_after_the_other() {
        // Two files of eleven blocks that have every frame in common but one; and one that has none of them.
        let half = BLOCK_BYTES / 2;
        let mut segments = Vec::new();
        for file in 0..2 {
            for n in 0..16 {
                let frame = if n == 9 { 16 + file } else { n };
                segments.push(segment(frame, file, u64::from(n) * half, half as u32));
            }
        }
        segments.extend((0..8).map(|n| segment(18 + n, 2, u64::from(n) * half, half as u32)));
        let schedule = Schedule::new(&mut segments, &Frames::of(&[half as u32; 26]), generous());
        let mut expected: Vec<u32> = (0..10).collect();
        expected[9] = 16;
        expected.push(17);
        expected.extend(10..16);
        expected.extend(18..26);
        let order: Vec<u32> = frames_in_order(&schedule, 26).into_iter().filter(|frame| *frame != 9).collect();
        assert_eq!(order, expected);
        assert_eq!(schedule.blocks.len(), 8 + 8 + 4);
        assert!(schedule.blocks.iter().all(|block| block.due.is_some()));
    }

    #[test]
    fn what_waits_long_is_copied_and_more_than_may_be_copied_is_written_alone() {
        // Every block needs a small part of the first frame; so the parts for the last blocks wait longest.
        let blocks = 40;
        let mut segments = Vec::new();
        for block in 0..blocks {
            segments.push(segment(0, 0, u64::from(block) * BLOCK_BYTES, 100_000));
            // The same bytes are not shared with any other block.
            let first = segments.len() - 1;
            segments[first].start = block * 100_000;
            segments.push(segment(1 + block, 0, u64::from(block) * BLOCK_BYTES + 100_000, (1 << 20) - 100_000));
        }
        let frames = Frames::of(&[4 << 20; 41]);
        let bounds = Bounds { frame_bytes: 9 * MIB, copied_bytes: 1_000_000 };
        let schedule = Schedule::new(&mut segments, &frames, bounds);
        // The first blocks keep the frame, ten have copies, and the rest is written when the frame comes.
        let parts: Vec<&Block> =
            segments.iter().filter(|s| s.frame == 0).map(|s| &schedule.blocks[s.destination as usize]).collect();
        let kept = parts.iter().take_while(|block| !schedule.is_copied(block, 0)).count();
        assert_eq!(kept, 2);
        assert!(parts[kept..kept + 10].iter().all(|block| schedule.is_copied(block, 0)));
        assert!(parts[kept + 10..].iter().all(|block| block.due.is_none()));
        // Nothing that is due at once waits, or is written in parts without need.
        for segment in segments.iter().filter(|segment| segment.frame > 0) {
            let block = &schedule.blocks[segment.destination as usize];
            assert_eq!(block.due, Some(schedule.position(segment.frame)));
        }
    }

    #[test]
    fn frames_of_which_much_waits_have_a_turn_of_their_own() {
        // Ten frames of small files, ten of which most goes to a block that is complete with the last of them.
        let small = (0..10).map(|n| segment(n, n, 0, 1 << 20));
        let third = BLOCK_BYTES / 3 + 1;
        let large = (0..3).map(|n| segment(10 + n, 10, u64::from(n) * third, third as u32));
        let mut segments: Vec<ReadSegment> = small.chain(large).collect();
        let schedule = Schedule::new(&mut segments, &Frames::of(&[1 << 20; 13]), generous());
        let groups: Vec<Range<usize>> = (0..13).map(|n| n..n + 1).collect();
        assert_eq!(schedule.turns(&segments, &groups, 16), [0..12, 12..13]);
        assert_eq!(schedule.turns(&segments, &groups, 4), [0..4, 4..8, 8..12, 12..13]);
    }
}
