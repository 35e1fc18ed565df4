//! How do the bytes of a base lie on disk, and how is a damaged one known?
//!
//! Invariant: a block is handed out only with the checksum it was written with, for its number.
//!
//! ```text
//! offset            size   base file, fixed-width little-endian integers
//! 0                    8   magic "SEAMIDX1"
//! 8                    8   generation: counts the times the base was replaced, in part or whole
//! 16                   8   bytes of the database
//! 24                   8   1: whole; 0: being written
//! 32                   8   checksum of the 32 bytes before it
//! 40                4056   zero
//! 4096 + 4104 b     4096   block b of the database
//! 8192 + 4104 b        8   its checksum
//! ```
//! The top is a file of the same form, without the first 4096 bytes filled in.

use std::cell::RefCell;
use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt;

use crate::storage::disk::ChangeFile;

const MAGIC: [u8; 8] = *b"SEAMIDX1";
pub(super) const HEADER_BYTES: u64 = 4096;
pub(super) const BLOCK_BYTES: usize = 4096;
const SUM_BYTES: usize = 8;
pub(super) const STORED_BYTES: usize = BLOCK_BYTES + SUM_BYTES;

/// What the base says of itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Header {
    pub(super) generation: u64,
    pub(super) bytes: u64,
    pub(super) whole: bool,
}

impl Header {
    const BYTES: usize = 40;

    pub(super) fn read(file: &File) -> io::Result<Option<Self>> {
        let mut bytes = [0; Self::BYTES];
        match file.read_exact_at(&mut bytes, 0) {
            Ok(()) => {}
            Err(e) if e.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
            Err(e) => return Err(e),
        }
        let [magic, generation, length, whole, sum] = words(&bytes);
        let expected = checksum(bytes.get(..32).unwrap_or_default(), u64::MAX);
        if magic != u64::from_le_bytes(MAGIC) || sum != expected || whole > 1 {
            return Ok(None);
        }
        Ok(Some(Self { generation, bytes: length, whole: whole == 1 }))
    }

    pub(super) fn write(&self, file: &dyn ChangeFile) -> io::Result<()> {
        let mut bytes = Vec::with_capacity(Self::BYTES);
        bytes.extend_from_slice(&MAGIC);
        for word in [self.generation, self.bytes, u64::from(self.whole)] {
            bytes.extend_from_slice(&word.to_le_bytes());
        }
        bytes.extend_from_slice(&checksum(&bytes, u64::MAX).to_le_bytes());
        file.write_at(&bytes, 0)
    }
}

fn words<const N: usize>(bytes: &[u8]) -> [u64; N] {
    let mut words = [0; N];
    for (word, bytes) in words.iter_mut().zip(bytes.as_chunks::<8>().0) {
        *word = u64::from_le_bytes(*bytes);
    }
    words
}

pub(super) fn physical(block: u64) -> u64 {
    HEADER_BYTES + block * STORED_BYTES as u64
}

pub(super) fn damaged(what: impl Into<String>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what.into())
}

thread_local! {
    static SCRATCH: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// Fills `out` from the given blocks, `skip` bytes into the first.
pub(super) fn read_blocks(file: &File, blocks: Range<u64>, skip: usize, out: &mut [u8]) -> io::Result<()> {
    SCRATCH.with_borrow_mut(|scratch| {
        scratch.resize((blocks.end - blocks.start) as usize * STORED_BYTES, 0);
        file.read_exact_at(scratch, physical(blocks.start))?;
        let mut out = out;
        let mut skip = skip;
        for (stored, number) in scratch.chunks_exact(STORED_BYTES).zip(blocks) {
            let (bytes, sum) = stored.split_at(BLOCK_BYTES);
            let [sum] = words(sum);
            if checksum(bytes, number) != sum {
                return Err(damaged(format!("block {number}, byte {}: wrong checksum", physical(number))));
            }
            let bytes = bytes.get(skip..).unwrap_or_default();
            let take = bytes.len().min(out.len());
            let (part, rest) = std::mem::take(&mut out).split_at_mut(take);
            part.copy_from_slice(bytes.get(..take).unwrap_or_default());
            out = rest;
            skip = 0;
        }
        Ok(())
    })
}

pub(super) fn write_blocks(file: &File, blocks: Range<u64>, data: &[u8]) -> io::Result<()> {
    SCRATCH.with_borrow_mut(|scratch| {
        scratch.clear();
        for (bytes, number) in data.chunks_exact(BLOCK_BYTES).zip(blocks.clone()) {
            scratch.extend_from_slice(bytes);
            scratch.extend_from_slice(&checksum(bytes, number).to_le_bytes());
        }
        file.write_all_at(scratch, physical(blocks.start))
    })
}

/// Notices any change within one 8-byte word for certain, any other but once in 2^64: four lanes, each step of which is
/// a bijection of its state. It guards against damage, not against people. The number is in it, so that a block in
/// another's place is noticed.
fn checksum(bytes: &[u8], number: u64) -> u64 {
    const FACTORS: [u64; 4] =
        [0x9e37_79b9_7f4a_7c15, 0xc2b2_ae3d_27d4_eb4f, 0x1656_67b1_9e37_79f9, 0xd6e8_feb8_6659_fd93];
    let mut lanes = FACTORS.map(|factor| factor ^ number.wrapping_mul(FACTORS[1]));
    for stripe in bytes.as_chunks::<32>().0 {
        for ((lane, word), factor) in lanes.iter_mut().zip(stripe.as_chunks::<8>().0).zip(FACTORS) {
            *lane = (*lane ^ u64::from_le_bytes(*word)).wrapping_mul(factor).rotate_left(29);
        }
    }
    let mut sum = bytes.len() as u64;
    for lane in lanes {
        sum = (sum.rotate_left(23) ^ lane).wrapping_mul(FACTORS[0]);
        sum ^= sum >> 32;
    }
    sum
}
