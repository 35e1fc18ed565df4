//! A pack in bytes: header, frames, directory, trailer, with nothing between them and nothing after.
//!
//! ```text
//! offset      size  field
//!      0         8  magic: F5 "seampk" 0A
//!      8         4  format version
//!     12         4  zero
//!     16         …  frames, one after another (see `format::frame`)
//!      d         b  directory (see `format::directory`)
//!    d+b        64  trailer
//! ```
//!
//! The trailer:
//!
//! ```text
//! offset  size  field
//!      0     8  directory offset d, in bytes from the start of the pack
//!      8     8  directory bytes b, at most DIRECTORY_BYTES_MAX
//!     16    32  hash of the directory: the pack's id
//!     48     4  format version
//!     52     4  zero
//!     56     8  magic: "seamend" F5
//! ```
//!
//! Every byte is accounted for: header and trailer are compared as wholes with what they must be, the directory with
//! the pack's name, and the frames with the checksums in the directory. So any changed byte is found.

use super::FORMAT_VERSION;
use super::bytes::{array_at, u32_at, u64_at};
use super::directory::{DIRECTORY_BYTES_MAX, DIRECTORY_HEADER_BYTES, FIRST_FRAME_OFFSET};
use super::frame::hex;
use super::id::PackId;
use super::parse_error::ParseError;

/// Bytes of a pack before its first frame.
pub const PACK_HEADER_BYTES: usize = FIRST_FRAME_OFFSET as usize;
/// Bytes of a pack after its directory.
pub const PACK_TRAILER_BYTES: usize = 64;

const HEADER_MAGIC: [u8; 8] = *b"\xf5seampk\n";
const TRAILER_MAGIC: [u8; 8] = *b"seamend\xf5";

/// How every pack begins.
#[must_use]
pub fn header() -> [u8; PACK_HEADER_BYTES] {
    let mut bytes = [0; PACK_HEADER_BYTES];
    bytes[..8].copy_from_slice(&HEADER_MAGIC);
    bytes[8..12].copy_from_slice(&FORMAT_VERSION.to_le_bytes());
    bytes
}

/// Compares the front of a pack with what it must be.
///
/// # Errors
/// Any other bytes.
pub fn check_header(bytes: &[u8]) -> Result<(), ParseError> {
    let expected = header();
    let found = bytes.get(..PACK_HEADER_BYTES).unwrap_or(bytes);
    if found == expected {
        return Ok(());
    }
    let differs = expected.iter().zip(found).position(|(a, b)| a != b).unwrap_or(found.len());
    Err(ParseError::new(differs, format!("expected a pack that begins {}, found {}", hex(&expected), hex(found))))
}

/// The fixed end of a pack.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Trailer {
    /// Where the directory begins, in bytes from the start of the pack.
    pub directory_offset: u64,
    /// Bytes of the directory.
    pub directory_bytes: u64,
    /// The hash of the directory.
    pub pack: PackId,
}

impl Trailer {
    /// The trailer in bytes.
    #[must_use]
    pub fn encode(&self) -> [u8; PACK_TRAILER_BYTES] {
        let mut bytes = [0; PACK_TRAILER_BYTES];
        bytes[0..8].copy_from_slice(&self.directory_offset.to_le_bytes());
        bytes[8..16].copy_from_slice(&self.directory_bytes.to_le_bytes());
        bytes[16..48].copy_from_slice(self.pack.as_bytes());
        bytes[48..52].copy_from_slice(&FORMAT_VERSION.to_le_bytes());
        bytes[56..64].copy_from_slice(&TRAILER_MAGIC);
        bytes
    }

    /// Reads the trailer of a pack of `pack_bytes` from its last 64 bytes. The directory it tells of lies within the
    /// pack, after the header, and ends where the trailer begins.
    ///
    /// # Errors
    /// The first field that is not what it may be.
    pub fn parse(bytes: &[u8], pack_bytes: u64) -> Result<Self, ParseError> {
        let cut_off = || ParseError::new(0, format!("a trailer has {PACK_TRAILER_BYTES} bytes, found {}", bytes.len()));
        let magic: [u8; 8] = array_at(bytes, 56).ok_or_else(cut_off)?;
        if magic != TRAILER_MAGIC {
            let what = format!("expected a pack that ends {}, found {}", hex(&TRAILER_MAGIC), hex(&magic));
            return Err(ParseError::new(56, what));
        }
        let version = u32_at(bytes, 48).ok_or_else(cut_off)?;
        let zero = u32_at(bytes, 52).ok_or_else(cut_off)?;
        if version != FORMAT_VERSION || zero != 0 {
            let what = format!("expected format version {FORMAT_VERSION} and zero, found {version} and {zero}");
            return Err(ParseError::new(48, what));
        }
        let directory_offset = u64_at(bytes, 0).ok_or_else(cut_off)?;
        let directory_bytes = u64_at(bytes, 8).ok_or_else(cut_off)?;
        let end =
            directory_offset.checked_add(directory_bytes).and_then(|end| end.checked_add(PACK_TRAILER_BYTES as u64));
        let within = directory_offset >= PACK_HEADER_BYTES as u64 && end == Some(pack_bytes);
        let sized = (DIRECTORY_HEADER_BYTES as u64..=DIRECTORY_BYTES_MAX as u64).contains(&directory_bytes);
        if !within || !sized {
            let what = format!(
                "a directory of {directory_bytes} bytes at {directory_offset} does not fit a pack of {pack_bytes} bytes"
            );
            return Err(ParseError::new(0, what));
        }
        let pack = PackId(array_at(bytes, 16).ok_or_else(cut_off)?);
        Ok(Self { directory_offset, directory_bytes, pack })
    }
}
