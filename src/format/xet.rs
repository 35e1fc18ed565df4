//! Which ids does Hugging Face Xet give chunks and files? Two keyed BLAKE3 hashes and a tree (public Xet protocol,
//! `draft-denis-xet`).
//!
//! A chunk's hash is its BLAKE3 under one key. A file's hash is made from the hashes and lengths of its chunks, as
//! leaves of a tree that is merged level by level until one node is left:
//!
//! - A group is the next one or two nodes when no more than two remain. Otherwise it ends after the first node, from the
//!   third on, whose hash has its last little-endian `u64` divisible by 4, at the latest after the ninth or the last.
//! - A group's node is the BLAKE3, under another key, of a line `{hash} : {length}\n` for each node of the group; its
//!   length is their sum. A level of one node is the root.
//! - The file hash is the BLAKE3 of the root under a key of zeros. An empty file's is zero.
//!
//! **Invariant:** a hash is written as four little-endian `u64` in hexadecimal, which is not the order of its bytes.

use std::fmt;

const CHUNK_KEY: [u8; 32] = [
    102, 151, 245, 119, 91, 149, 80, 222, 49, 53, 203, 172, 165, 151, 24, 28, 157, 228, 33, 16, 155, 235, 43, 88, 180,
    208, 176, 75, 147, 173, 242, 41,
];

const NODE_KEY: [u8; 32] = [
    1, 126, 197, 199, 165, 71, 41, 150, 253, 148, 102, 102, 180, 138, 2, 230, 93, 221, 83, 111, 55, 199, 109, 210, 248,
    99, 82, 230, 74, 83, 113, 63,
];

const FILE_KEY: [u8; 32] = [0; 32];

/// A group has at least this many nodes where that many remain.
const GROUP_MIN: usize = 3;

/// A group has at most this many nodes.
const GROUP_MAX: usize = 9;

/// A group ends after a node whose last `u64` is divisible by this.
const BRANCH: u64 = 4;

/// A Xet hash of a chunk, a node or a file.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct XetHash(pub [u8; 32]);

impl XetHash {
    /// The hash of a chunk with these bytes.
    #[must_use]
    pub fn of_chunk(bytes: &[u8]) -> Self {
        Self::keyed(&CHUNK_KEY, bytes)
    }

    fn keyed(key: &[u8; 32], bytes: &[u8]) -> Self {
        Self(*blake3::keyed_hash(key, bytes).as_bytes())
    }

    fn words(&self) -> [u64; 4] {
        let mut words = [0; 4];
        for (word, bytes) in words.iter_mut().zip(self.0.as_chunks::<8>().0) {
            *word = u64::from_le_bytes(*bytes);
        }
        words
    }

    fn ends_group(&self) -> bool {
        let [_, _, _, last] = self.words();
        last.is_multiple_of(BRANCH)
    }
}

impl fmt::Display for XetHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.words().iter().try_for_each(|word| write!(f, "{word:016x}"))
    }
}

impl fmt::Debug for XetHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

/// A chunk, or a group of them: what it hashes to and how many bytes it stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct XetNode {
    /// Its hash.
    pub hash: XetHash,
    /// Its length in bytes.
    pub length: u64,
}

/// The hash of a file with these chunks, in file order.
#[must_use]
pub fn file_hash(chunks: &[XetNode]) -> XetHash {
    let mut level = chunks.to_vec();
    while level.len() > 1 {
        level = merged(&level);
    }
    level.first().map_or_else(XetHash::default, |root| XetHash::keyed(&FILE_KEY, &root.hash.0))
}

/// The level above this one. Shorter than it, if that has two nodes or more.
fn merged(mut level: &[XetNode]) -> Vec<XetNode> {
    let mut above = Vec::with_capacity(level.len() / GROUP_MIN + 1);
    while !level.is_empty() {
        let (group, rest) = level.split_at(group_length(level));
        above.push(node_of(group));
        level = rest;
    }
    above
}

fn group_length(nodes: &[XetNode]) -> usize {
    let end = nodes.len().min(GROUP_MAX);
    let ending = nodes.iter().take(end).skip(GROUP_MIN - 1).position(|node| node.hash.ends_group());
    ending.map_or(end, |at| at + GROUP_MIN)
}

fn node_of(group: &[XetNode]) -> XetNode {
    use fmt::Write;
    let mut lines = String::new();
    for node in group {
        // Writing to a string does not fail.
        let _ = writeln!(lines, "{} : {}", node.hash, node.length);
    }
    XetNode { hash: XetHash::keyed(&NODE_KEY, lines.as_bytes()), length: group.iter().map(|node| node.length).sum() }
}
