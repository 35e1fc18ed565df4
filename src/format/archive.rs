//! How is an archive kept? Its parts one after the other, and what a row of its table says.
//!
//! The recipe of an archive lists a **stored stream**, which is not the archive itself but what it is put together from:
//!
//! ```text
//! contents    what its members hold, in archive order, each cut into chunks as a file of its own
//! skeleton    everything else of the archive, in order: headers, extension records, padding, end mark, odd bytes
//! original    the compressed file that the archive came from, if it was to be kept
//! table       an Arrow file: a row for each member, in archive order
//! footer      the lengths of these parts
//! ```
//!
//! The archive is, for each row of the table, `skeleton` bytes of the skeleton and then `content` bytes of the contents;
//! and at the end what is left of the skeleton.
//!
//! The footer, 48 bytes, little-endian:
//!
//! | offset | size | what |
//! | --- | --- | --- |
//! | 0 | 8 | magic `SEAMTAR1` |
//! | 8 | 8 | bytes of the skeleton |
//! | 16 | 8 | bytes of the original; 0 if it was not kept |
//! | 24 | 8 | bytes of the table |
//! | 32 | 8 | members |
//! | 40 | 8 | bytes of the archive |
//!
//! No checksum: it is part of a chunk, whose id is one.

use std::ops::Range;
use std::sync::Arc;

use super::entry::{EntryKind, EntryPath, Xattr};

/// The bytes of a footer.
pub const FOOTER_BYTES: usize = 48;

const MAGIC: [u8; 8] = *b"SEAMTAR1";

/// No table is longer: the bound on what is read of one into memory.
pub const TABLE_BYTES_MAX: u64 = 8 << 30;

/// The lengths of an archive's parts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ArchiveFooter {
    /// Bytes of the skeleton.
    pub skeleton_bytes: u64,
    /// Bytes of the compressed file; 0 if it was not kept.
    pub original_bytes: u64,
    /// Bytes of the table.
    pub table_bytes: u64,
    /// Rows of the table.
    pub members: u64,
    /// Bytes of the archive.
    pub archive_bytes: u64,
}

/// Where the parts of an archive lie in its stored stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ArchiveParts {
    /// What its members hold.
    pub contents: Range<u64>,
    /// Everything else of the archive.
    pub skeleton: Range<u64>,
    /// The compressed file; empty if it was not kept.
    pub original: Range<u64>,
    /// The table.
    pub table: Range<u64>,
}

impl ArchiveFooter {
    /// As it is stored.
    #[must_use]
    pub fn to_bytes(self) -> [u8; FOOTER_BYTES] {
        let mut bytes = [0; FOOTER_BYTES];
        let numbers = [self.skeleton_bytes, self.original_bytes, self.table_bytes, self.members, self.archive_bytes];
        let fields = std::iter::once(MAGIC).chain(numbers.map(u64::to_le_bytes));
        for (place, field) in bytes.chunks_exact_mut(8).zip(fields) {
            place.copy_from_slice(&field);
        }
        bytes
    }

    /// Reads what was stored.
    ///
    /// # Errors
    /// Says what is wrong with it.
    pub fn parse(bytes: &[u8]) -> Result<Self, String> {
        let mut fields = bytes.chunks_exact(8).filter_map(|field| field.try_into().ok());
        let magic: [u8; 8] = fields.next().unwrap_or_default();
        if bytes.len() != FOOTER_BYTES || magic != MAGIC {
            return Err(format!("an archive's record ends with {magic:02x?}, not {MAGIC:02x?}"));
        }
        let mut number = || fields.next().map_or(0, u64::from_le_bytes);
        Ok(Self {
            skeleton_bytes: number(),
            original_bytes: number(),
            table_bytes: number(),
            members: number(),
            archive_bytes: number(),
        })
    }

    /// Where the parts lie in a stored stream of this length.
    ///
    /// # Errors
    /// Says which lengths do not fit.
    pub fn parts(&self, stored_bytes: u64) -> Result<ArchiveParts, String> {
        let lay = || {
            let table_end = stored_bytes.checked_sub(FOOTER_BYTES as u64)?;
            let table = table_end.checked_sub(self.table_bytes)?;
            let original = table.checked_sub(self.original_bytes)?;
            let skeleton = original.checked_sub(self.skeleton_bytes)?;
            let parts = ArchiveParts {
                contents: 0..skeleton,
                skeleton: skeleton..original,
                original: original..table,
                table: table..table_end,
            };
            (self.table_bytes <= TABLE_BYTES_MAX && original == self.archive_bytes).then_some(parts)
        };
        lay().ok_or_else(|| format!("an archive's record of {stored_bytes} bytes does not have the parts {self:?}"))
    }
}

/// What kind of thing a member of an archive is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum MemberKind {
    /// What a snapshot knows too.
    Entry(EntryKind),
    /// Another name of a member that came before.
    HardLink,
    /// What only archives know: a volume label, a part of a file of several volumes. It has no name to be read by.
    Other,
}

/// Some bytes of a sparse file that are not a hole.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct SparseRun {
    /// Where they lie in the file.
    pub offset: u64,
    /// How many.
    pub length: u64,
}

/// A member of an archive: a row of its table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    /// Its name, as the archive has it.
    pub path: Vec<u8>,
    /// What it is.
    pub kind: MemberKind,
    /// Permission bits with set-id and sticky bits.
    pub mode: u32,
    /// Numeric owner; `u32::MAX` for one that is larger.
    pub uid: u32,
    /// Numeric group, likewise.
    pub gid: u32,
    /// The owner's name.
    pub user: Option<Arc<str>>,
    /// The group's name.
    pub group: Option<Arc<str>>,
    /// Modification time, nanoseconds since 1970 UTC, saturated at the ends of `i64`.
    pub mtime_ns: i64,
    /// Bytes of the file; of a sparse file with its holes.
    pub size: u64,
    /// Bytes of the skeleton that come before its content.
    pub skeleton_bytes: u64,
    /// Bytes of its content in the archive.
    pub content_bytes: u64,
    /// Bytes of its content that should be there too: the archive was cut short.
    pub missing_bytes: u64,
    /// What a symbolic link points at, or the name that a hard link shares its file with.
    pub link_target: Vec<u8>,
    /// Device number of a device.
    pub rdev: u64,
    /// Where the content of a sparse file belongs; empty for one that is not sparse.
    pub sparse: Vec<SparseRun>,
    /// Extended attributes, ascending by name.
    pub xattrs: Vec<Xattr>,
}

impl Member {
    /// The path below the archive's under which a member is found: without leading `/`, without `.` parts. `None` for a
    /// name that leads out of the archive, or that no path can have.
    #[must_use]
    pub fn entry_path(&self) -> Option<EntryPath> {
        clean(&self.path)
    }

    /// The same of what a hard link names.
    #[must_use]
    pub fn target_path(&self) -> Option<EntryPath> {
        clean(&self.link_target)
    }
}

fn clean(name: &[u8]) -> Option<EntryPath> {
    let parts: Vec<&[u8]> = name.split(|b| *b == b'/').filter(|part| !part.is_empty() && *part != b".").collect();
    EntryPath::new(parts.join(&b'/')).ok()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing)]

    use super::*;

    #[test]
    fn a_footer_is_read_back_and_its_lengths_are_bounded() {
        let footer = ArchiveFooter {
            skeleton_bytes: 1024,
            original_bytes: 7,
            table_bytes: 300,
            members: 2,
            archive_bytes: 5000 + 1024,
        };
        let bytes = footer.to_bytes();
        assert_eq!(ArchiveFooter::parse(&bytes), Ok(footer));
        let stored = 5000 + 1024 + 7 + 300 + FOOTER_BYTES as u64;
        let parts = footer.parts(stored).unwrap();
        assert_eq!((parts.contents, parts.skeleton), (0..5000, 5000..6024));
        assert_eq!((parts.original, parts.table), (6024..6031, 6031..6331));
        assert!(footer.parts(stored - 1).is_err(), "the archive's length tells");
        assert!(footer.parts(10).is_err());
        assert!(ArchiveFooter { table_bytes: u64::MAX, ..footer }.parts(stored).is_err());
        let mut other = bytes;
        other[0] ^= 1;
        assert!(ArchiveFooter::parse(&other).is_err());
        assert!(ArchiveFooter::parse(&bytes[..40]).is_err());
    }

    #[test]
    fn names_are_cleaned_or_refused() {
        let cleaned =
            |name: &str| clean(name.as_bytes()).map(|path| String::from_utf8(path.as_bytes().to_vec()).unwrap());
        assert_eq!(cleaned("./a//b/./c/"), Some("a/b/c".to_owned()));
        assert_eq!(cleaned("/etc/passwd"), Some("etc/passwd".to_owned()));
        assert_eq!(cleaned("./"), Some(String::new()));
        assert_eq!(cleaned("a/../b"), None);
        assert_eq!(cleaned("../b"), None);
        assert_eq!(cleaned("a\0b"), None);
    }
}
