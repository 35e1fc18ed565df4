//! A frame in bytes: a header, the lengths of its chunks, and its payload.
//!
//! The header alone says how long the frame is and how its chunks part, so a pack whose end is lost can still be read
//! from its front.
//!
//! ```text
//! offset  size  field
//!      0     4  magic: F5 'S' 'F' '1' (F5 is in no UTF-8 text)
//!      4     1  codec: 0 none, 1 zstd, 2 lz4 block
//!      5     1  filter: 0 none; 1, 2, 3 the byte shuffle of stride 2, 4, 8, not with codec none
//!      6     2  zero
//!      8     4  chunk count n, 1 to FRAME_CHUNKS_MAX
//!     12     4  raw bytes: the chunks together, at most FRAME_RAW_BYTES_MAX
//!     16     4  payload bytes p: equal to raw bytes for codec none, fewer for the others
//!     20    16  checksum: BLAKE3, first 16 bytes, over bytes 0..20, the chunk lengths and the payload
//!     36    4n  length of each chunk, 1 to CHUNK_BYTES_MAX; their sum is raw bytes
//!  36+4n     p  payload
//! ```

use std::fmt;
use std::str::FromStr;

use super::bytes::{array_at, u32_at};
use super::id::checksum;
use super::parse_error::ParseError;
use super::{CHUNK_BYTES_MAX, FRAME_RAW_BYTES_MAX};

/// How every frame begins.
pub const FRAME_MAGIC: [u8; 4] = [0xf5, b'S', b'F', b'1'];

/// Bytes of a frame before its chunk lengths.
pub const FRAME_HEADER_BYTES: usize = 36;

/// No frame holds more chunks. Chunks smaller than 64 bytes on average would end a 256 KiB frame before it is full;
/// in exchange the place of a chunk in its frame is found by adding up no more than this many lengths.
pub const FRAME_CHUNKS_MAX: usize = 4096;

/// No frame is longer in a pack: a payload is at most the raw bytes.
pub const FRAME_STORED_BYTES_MAX: usize = FRAME_HEADER_BYTES + 4 * FRAME_CHUNKS_MAX + FRAME_RAW_BYTES_MAX;

/// Where in a frame its checksum lies.
pub(crate) const CHECKSUM_AT: usize = 20;

/// How the payload of a frame is compressed.
///
/// ```
/// # use seamstore::{Control, Store, entry::*, report::*, request::*};
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let settings = Settings::default().frames(FrameSettings::new(Codec::Lz4, 0, 64 << 10)?);
/// let store = Store::in_memory(settings)?;
/// assert_eq!(store.settings().frames.codec(), Codec::Lz4);
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Codec {
    /// Not at all.
    None,
    /// One zstd frame, without dictionary or content checksum.
    Zstd,
    /// One lz4 block.
    Lz4,
}

impl Codec {
    /// The codec as a frame header has it.
    #[must_use]
    pub fn byte(self) -> u8 {
        match self {
            Self::None => 0,
            Self::Zstd => 1,
            Self::Lz4 => 2,
        }
    }

    /// The codec with that byte.
    #[must_use]
    pub fn from_byte(byte: u8) -> Option<Self> {
        [Self::None, Self::Zstd, Self::Lz4].into_iter().find(|codec| codec.byte() == byte)
    }
}

impl fmt::Display for Codec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::None => "none",
            Self::Zstd => "zstd",
            Self::Lz4 => "lz4",
        })
    }
}

/// The text names no codec.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no codec: zstd, lz4 or none expected")]
pub struct NotACodec(String);

impl FromStr for Codec {
    type Err = NotACodec;

    fn from_str(name: &str) -> Result<Self, NotACodec> {
        let named = [Self::None, Self::Zstd, Self::Lz4].into_iter().find(|codec| codec.to_string() == name);
        named.ok_or_else(|| NotACodec(name.to_owned()))
    }
}

/// How the bytes of a frame are laid out before they are compressed. With a byte shuffle of stride s, the bytes of the
/// chunks, taken together and s at a time, give first all their first bytes, then all their second bytes, and so on;
/// what is left at the end, fewer than s bytes, follows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Filter {
    /// As they are.
    None,
    /// Shuffled by 2.
    Shuffle2,
    /// Shuffled by 4.
    Shuffle4,
    /// Shuffled by 8.
    Shuffle8,
}

impl Filter {
    /// Every filter, in the order of their bytes.
    pub const ALL: [Self; 4] = [Self::None, Self::Shuffle2, Self::Shuffle4, Self::Shuffle8];

    /// The filter as a frame header has it.
    #[must_use]
    pub fn byte(self) -> u8 {
        match self {
            Self::None => 0,
            Self::Shuffle2 => 1,
            Self::Shuffle4 => 2,
            Self::Shuffle8 => 3,
        }
    }

    /// The filter with that byte.
    #[must_use]
    pub fn from_byte(byte: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|filter| filter.byte() == byte)
    }

    /// How many bytes an element has: 1 for no filter.
    #[must_use]
    pub fn stride(self) -> usize {
        1 << self.byte()
    }
}

impl fmt::Display for Filter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::None => f.write_str("no filter"),
            Self::Shuffle2 | Self::Shuffle4 | Self::Shuffle8 => write!(f, "shuffle by {}", self.stride()),
        }
    }
}

/// The fixed part of a frame, its fields within their bounds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FrameHeader {
    /// How the payload is compressed.
    pub codec: Codec,
    /// How the chunks were laid out before that; [`Filter::None`] with [`Codec::None`].
    pub filter: Filter,
    /// How many chunks the frame holds, at least 1.
    pub chunk_count: u32,
    /// Bytes of the chunks together.
    pub raw_bytes: u32,
    /// Bytes of the payload.
    pub payload_bytes: u32,
    /// Over everything else in the frame.
    pub checksum: [u8; 16],
}

impl FrameHeader {
    /// Reads the header at the front of `bytes`; what follows it is not looked at.
    ///
    /// # Errors
    /// The first field that is not what it may be.
    pub fn parse(bytes: &[u8]) -> Result<Self, ParseError> {
        let cut_off = || ParseError::new(0, format!("a frame header has 36 bytes, found {}", bytes.len()));
        let magic: [u8; 4] = array_at(bytes, 0).ok_or_else(cut_off)?;
        if magic != FRAME_MAGIC {
            return Err(ParseError::new(0, format!("expected a frame ({FRAME_MAGIC:02x?}), found {magic:02x?}")));
        }
        let [codec, filter, zero @ ..]: [u8; 4] = array_at(bytes, 4).ok_or_else(cut_off)?;
        let codec = Codec::from_byte(codec)
            .ok_or_else(|| ParseError::new(4, format!("expected codec 0, 1 or 2, found {codec}")))?;
        let filter = Filter::from_byte(filter)
            .ok_or_else(|| ParseError::new(5, format!("expected filter 0, 1, 2 or 3, found {filter}")))?;
        if codec == Codec::None && filter != Filter::None {
            return Err(ParseError::new(5, format!("expected no filter with codec none, found {filter}")));
        }
        if zero != [0; 2] {
            return Err(ParseError::new(6, format!("expected two zeros, found {zero:02x?}")));
        }
        let chunk_count = u32_at(bytes, 8).ok_or_else(cut_off)?;
        if !(1..=FRAME_CHUNKS_MAX as u32).contains(&chunk_count) {
            return Err(ParseError::new(8, format!("expected 1 to {FRAME_CHUNKS_MAX} chunks, found {chunk_count}")));
        }
        let raw_bytes = u32_at(bytes, 12).ok_or_else(cut_off)?;
        if !(chunk_count..=FRAME_RAW_BYTES_MAX as u32).contains(&raw_bytes) {
            return Err(ParseError::new(
                12,
                format!("expected {chunk_count} to {FRAME_RAW_BYTES_MAX} bytes of chunks, found {raw_bytes}"),
            ));
        }
        let payload_bytes = u32_at(bytes, 16).ok_or_else(cut_off)?;
        let payload_fits = match codec {
            Codec::None => payload_bytes == raw_bytes,
            Codec::Zstd | Codec::Lz4 => (1..raw_bytes).contains(&payload_bytes),
        };
        if !payload_fits {
            return Err(ParseError::new(
                16,
                format!("a payload of {payload_bytes} bytes does not go with {raw_bytes} raw bytes and codec {codec}"),
            ));
        }
        let checksum = array_at(bytes, CHECKSUM_AT).ok_or_else(cut_off)?;
        Ok(Self { codec, filter, chunk_count, raw_bytes, payload_bytes, checksum })
    }

    /// Bytes of the whole frame: header, chunk lengths and payload; at most [`FRAME_STORED_BYTES_MAX`].
    #[must_use]
    pub fn stored_bytes(&self) -> usize {
        self.payload_at() + self.payload_bytes as usize
    }

    fn payload_at(&self) -> usize {
        FRAME_HEADER_BYTES + 4 * self.chunk_count as usize
    }
}

/// One whole frame: a header within its bounds, chunk lengths that add up, and as many payload bytes as it says.
#[derive(Debug, Clone, Copy)]
pub struct FrameView<'a> {
    header: FrameHeader,
    bytes: &'a [u8],
}

impl<'a> FrameView<'a> {
    /// Reads the frame that `bytes` are, all of them. The checksum is not compared: see [`Self::check`].
    ///
    /// # Errors
    /// The first thing that breaks the layout.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, ParseError> {
        let header = FrameHeader::parse(bytes)?;
        if header.stored_bytes() != bytes.len() {
            let what = format!("the header tells of a frame of {} bytes, found {}", header.stored_bytes(), bytes.len());
            return Err(ParseError::new(0, what));
        }
        let frame = Self { header, bytes };
        let mut sum = 0;
        for (n, length) in frame.lengths().enumerate() {
            if !(1..=CHUNK_BYTES_MAX as u32).contains(&length) {
                let what = format!("expected a chunk length of 1 to {CHUNK_BYTES_MAX}, found {length}");
                return Err(ParseError::new(FRAME_HEADER_BYTES + 4 * n, what));
            }
            sum += u64::from(length);
        }
        if sum != u64::from(header.raw_bytes) {
            let what = format!("expected chunk lengths that add up to {}, found {sum}", header.raw_bytes);
            return Err(ParseError::new(FRAME_HEADER_BYTES, what));
        }
        Ok(frame)
    }

    /// Compares the checksum.
    ///
    /// # Errors
    /// The frame's bytes are not those that were written.
    pub fn check(&self) -> Result<(), ParseError> {
        let found = checksum(&[
            self.bytes.get(..CHECKSUM_AT).unwrap_or_default(),
            self.bytes.get(FRAME_HEADER_BYTES..).unwrap_or_default(),
        ]);
        if found == self.header.checksum {
            return Ok(());
        }
        let what = format!("expected a frame with checksum {}, found {}", hex(&self.header.checksum), hex(&found));
        Err(ParseError::new(0, what))
    }

    /// The header.
    #[must_use]
    pub fn header(&self) -> &FrameHeader {
        &self.header
    }

    /// The length of each chunk, in bytes, in order.
    pub fn lengths(&self) -> impl ExactSizeIterator<Item = u32> + use<'a> {
        let table = self.bytes.get(FRAME_HEADER_BYTES..self.header.payload_at()).unwrap_or_default();
        table.as_chunks().0.iter().map(|length| u32::from_le_bytes(*length))
    }

    /// The chunks, laid out by the header's filter and compressed by its codec.
    #[must_use]
    pub fn payload(&self) -> &'a [u8] {
        self.bytes.get(self.header.payload_at()..).unwrap_or_default()
    }
}

/// Appends a frame to `out`. The caller keeps the bounds in the table above; a frame that breaks them is refused when
/// it is read.
pub fn append_frame(codec: Codec, filter: Filter, lengths: &[u32], raw_bytes: u32, payload: &[u8], out: &mut Vec<u8>) {
    let mut front = [0; CHECKSUM_AT];
    for (field, value) in front.as_chunks_mut::<4>().0.iter_mut().zip([
        FRAME_MAGIC,
        [codec.byte(), filter.byte(), 0, 0],
        (lengths.len() as u32).to_le_bytes(),
        raw_bytes.to_le_bytes(),
        (payload.len() as u32).to_le_bytes(),
    ]) {
        *field = value;
    }
    out.reserve(FRAME_HEADER_BYTES + 4 * lengths.len() + payload.len());
    out.extend_from_slice(&front);
    let checksum_at = out.len();
    out.extend_from_slice(&[0; 16]);
    let covered_at = out.len();
    for length in lengths {
        out.extend_from_slice(&length.to_le_bytes());
    }
    out.extend_from_slice(payload);
    let sum = checksum(&[&front, out.get(covered_at..).unwrap_or_default()]);
    if let Some(field) = out.get_mut(checksum_at..covered_at) {
        field.copy_from_slice(&sum);
    }
}

/// Bytes as lower-case hexadecimal digits.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
