//! What does a tar's header block say? V7, ustar, GNU and star; nothing beyond the block.
//!
//! Numbers are octal digits, or in base 256 where the first byte has its high bit set (GNU). A block is a header if its
//! checksum is right, taken over unsigned bytes or, as old programs did, over signed ones.

use std::sync::Arc;

use crate::format::archive::{Member, MemberKind};
use crate::format::entry::EntryKind;

/// Block size of a tar, in bytes.
pub const BLOCK_BYTES: usize = 512;

/// A header block.
pub(super) type Block = [u8; BLOCK_BYTES];

/// Whether bytes begin with a tar's first header. One of V7 has no magic, so every field of it must be in order: a table
/// of numbers may by chance have a checksum where a header has it.
#[must_use]
pub fn begins_tar(bytes: &[u8]) -> bool {
    let Some(block) = bytes.first_chunk::<BLOCK_BYTES>() else { return false };
    let Some(header) = Header::parse(block) else { return false };
    let is_number = |(offset, length)| octal(field(block, offset, length)).is_some();
    let name = field(block, 0, 100);
    let is_padded = name.iter().skip_while(|b| **b != 0).all(|b| *b == 0);
    let is_v7 =
        is_padded && name.first() != Some(&0) && [(100, 8), (108, 8), (116, 8), (136, 12)].into_iter().all(is_number);
    header.is_ustar() || header.is_gnu() || is_v7
}

/// A block that is a header.
#[derive(Debug, Clone, Copy)]
pub(super) struct Header<'a> {
    block: &'a Block,
    pub(super) size: u64,
}

impl<'a> Header<'a> {
    /// Parses a header block; `None` if the block is not a header.
    pub(super) fn parse(block: &'a Block) -> Option<Self> {
        let said = octal(field(block, 148, 8))?;
        let is_sum = said == unsigned_sum(block) || i64::try_from(said).is_ok_and(|said| said == signed_sum(block));
        // Zeros have the sum of the eight spaces that the field counts as, and no name.
        if !is_sum || block.iter().all(|b| *b == 0) {
            return None;
        }
        Some(Self { block, size: number(field(block, 124, 12)).and_then(|size| u64::try_from(size).ok())? })
    }

    /// What kind of header it is.
    pub(super) fn kind(&self) -> u8 {
        self.block.get(156).copied().unwrap_or_default()
    }

    fn is_ustar(&self) -> bool {
        field(self.block, 257, 6) == b"ustar\0"
    }

    pub(super) fn is_gnu(&self) -> bool {
        field(self.block, 257, 8) == b"ustar  \0"
    }

    fn name(&self) -> Vec<u8> {
        let name = text(field(self.block, 0, 100));
        // star has times at the end of the prefix, and its name at the end of the block.
        let prefix_bytes = if field(self.block, 508, 4) == b"tar\0" { 131 } else { 155 };
        let prefix = text(field(self.block, 345, prefix_bytes));
        if !self.is_ustar() || prefix.is_empty() {
            return name.to_vec();
        }
        [prefix, b"/", name].concat()
    }

    /// The member that this header alone tells of.
    pub(super) fn member(&self) -> Member {
        let path = self.name();
        let whole = |offset, length| nearest(field(self.block, offset, length));
        let small = |offset, length| u32::try_from(whole(offset, length)).unwrap_or(u32::MAX);
        let is_posix = self.is_ustar() || self.is_gnu();
        let named = |offset| if is_posix { word(text(field(self.block, offset, 32))) } else { None };
        let kind = self.member_kind();
        let is_device = matches!(kind, MemberKind::Entry(EntryKind::CharDevice | EntryKind::BlockDevice));
        Member {
            path,
            kind,
            // The format's mode may carry the file type too.
            mode: (whole(100, 8) & 0o7777) as u32,
            uid: small(108, 8),
            gid: small(116, 8),
            user: named(265),
            group: named(297),
            mtime_ns: 0,
            size: 0,
            skeleton_bytes: 0,
            content_bytes: 0,
            missing_bytes: 0,
            link_target: text(field(self.block, 157, 100)).to_vec(),
            rdev: if is_device { device(whole(329, 8), whole(337, 8)) } else { 0 },
            sparse: Vec::new(),
            xattrs: Vec::new(),
        }
    }

    fn member_kind(&self) -> MemberKind {
        MemberKind::Entry(match self.kind() {
            b'1' => return MemberKind::HardLink,
            b'2' => EntryKind::Symlink,
            b'3' => EntryKind::CharDevice,
            b'4' => EntryKind::BlockDevice,
            b'5' | b'D' => EntryKind::Directory,
            b'6' => EntryKind::Fifo,
            // Volume labels, and parts of files that began in another volume.
            b'V' | b'M' | b'N' => return MemberKind::Other,
            // Whatever is not known is to be taken for a file, as the standard has it.
            _ => EntryKind::File,
        })
    }

    /// The modification time in nanoseconds since 1970, before it is reduced to the range of an `i64`.
    pub(super) fn mtime_ns(&self) -> i128 {
        i128::from(nearest(field(self.block, 136, 12))) * 1_000_000_000
    }

    /// Whether the member's size is that of its content for certain. Links, devices, directories and pipes have none as a
    /// rule, but some programs give them the size of a file without its bytes, and others with them.
    pub(super) fn has_content(&self) -> bool {
        !matches!(self.kind(), b'1'..=b'6')
    }

    /// Whether a name that ends with `/` makes the member a directory: V7 marks directories in no other way. That is so
    /// of the whole name, which extension records may give, never of the part of it that fits into the header.
    pub(super) fn is_directory_by_name(&self) -> bool {
        matches!(self.kind(), 0 | b'0')
    }

    /// GNU's old sparse form: runs in the header itself, whether more blocks of them follow, and the file's size.
    pub(super) fn sparse(&self) -> (&'a [u8], bool, u64) {
        let size = number(field(self.block, 483, 12)).and_then(|size| u64::try_from(size).ok());
        (field(self.block, 386, 96), field(self.block, 482, 1) == [1], size.unwrap_or_default())
    }
}

/// A part of a block.
fn field(block: &Block, offset: usize, length: usize) -> &[u8] {
    block.get(offset..offset + length).unwrap_or_default()
}

/// A field's text, which ends where it is full or at a zero.
pub(super) fn text(field: &[u8]) -> &[u8] {
    field.split(|b| *b == 0).next().unwrap_or_default()
}

/// A name, if it is one.
pub(super) fn word(text: &[u8]) -> Option<Arc<str>> {
    std::str::from_utf8(text).ok().filter(|text| !text.is_empty()).map(Arc::from)
}

/// A number: in base 256, two's complement, or octal. An empty field is 0.
pub(super) fn number(field: &[u8]) -> Option<i64> {
    match field.first() {
        // The high bit marks the base; the bits below it are of the number.
        Some(first) if first & 0x80 != 0 => {
            let begin = i64::from(first & 0x7f);
            let begin = if first & 0x40 != 0 { begin - 0x80 } else { begin };
            let rest = field.get(1..).unwrap_or_default();
            rest.iter().try_fold(begin, |value: i64, byte| value.checked_mul(256)?.checked_add(i64::from(*byte)))
        }
        _ => octal(field).and_then(|value| i64::try_from(value).ok()),
    }
}

/// A number, or the nearest that an `i64` has; 0 for what is no number.
fn nearest(field: &[u8]) -> i64 {
    let is_base_256 = field.first().is_some_and(|first| first & 0x80 != 0);
    let is_negative = field.first().is_some_and(|first| first & 0x40 != 0);
    number(field).unwrap_or(match (is_base_256, is_negative) {
        (false, _) => 0,
        (true, false) => i64::MAX,
        (true, true) => i64::MIN,
    })
}

/// Octal digits, with spaces before them and a space or a zero behind.
fn octal(field: &[u8]) -> Option<u64> {
    let is_blank = |b: &u8| *b == b' ' || *b == 0;
    let begin = field.iter().position(|b| *b != b' ').unwrap_or(field.len());
    let digits = field.get(begin..).unwrap_or_default();
    let end = digits.iter().position(is_blank).unwrap_or(digits.len());
    let digits = digits.get(..end).unwrap_or_default();
    digits.iter().try_fold(0u64, |value, digit| match digit {
        b'0'..=b'7' => value.checked_mul(8)?.checked_add(u64::from(digit - b'0')),
        _ => None,
    })
}

/// The sum of a block's bytes, its own checksum taken for spaces.
fn unsigned_sum(block: &Block) -> u64 {
    let sum = |bytes: &[u8]| bytes.iter().map(|byte| u32::from(*byte)).sum::<u32>();
    u64::from(sum(block) + 8 * u32::from(b' ') - sum(field(block, 148, 8)))
}

/// The same as some old programs took it.
fn signed_sum(block: &Block) -> i64 {
    let sum = |bytes: &[u8]| bytes.iter().map(|byte| i64::from(byte.cast_signed())).sum::<i64>();
    sum(block) + 8 * i64::from(b' ') - sum(field(block, 148, 8))
}

/// A device number from its parts, as Linux has it.
fn device(major: i64, minor: i64) -> u64 {
    let (major, minor) = (major.unsigned_abs(), minor.unsigned_abs());
    ((major & 0xffff_f000) << 32) | ((major & 0xfff) << 8) | ((minor & 0xffff_ff00) << 12) | (minor & 0xff)
}
