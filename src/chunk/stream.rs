//! How is a stream of unknown length chunked? Read by read, into one buffer that a chunk never outgrows.
//!
//! **Invariant:** the chunks are those of [`rule`](super::rule) for the whole stream, however the reader splits it. To
//! this end no chunk is looked for before the buffer holds one byte more than the longest, or the stream has ended.

use std::io::{self, Read};

use super::finder::{Finder, Span};
use super::profile::Profile;

/// How much is read at least at a time, so that small profiles do not read in small pieces.
const READ_BYTES: usize = 1 << 20;

/// Splits what a reader gives into chunks. It holds at most four times the longest chunk and 1 MiB.
///
/// ```
/// use seamstore::chunk::{Chunker, Profile, cut_points};
/// let data = vec![7; 100_000];
/// let cuts = Chunker::new(data.as_slice(), &Profile::default()).cut_points()?;
/// assert_eq!(cuts, cut_points(&data, &Profile::default()));
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Debug)]
pub struct Chunker<R> {
    reader: R,
    finder: Finder,
    buffer: Vec<u8>,
    /// `buffer[start..filled]` is read and not yet given out.
    start: usize,
    filled: usize,
    /// Offset of `buffer[start]` in the stream.
    offset: u64,
    ended: bool,
}

/// One chunk of a stream.
///
/// ```
/// use seamstore::chunk::{Chunker, Profile};
/// let profile = Profile::default();
/// let mut chunker = Chunker::new([7; 100_000].as_slice(), &profile);
/// let chunk = chunker.next_chunk()?.expect("there are bytes");
/// assert_eq!((chunk.offset, chunk.end(), chunk.bytes.len()), (0, 65_536, 65_536));
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Chunk<'a> {
    /// Where it begins in the stream.
    pub offset: u64,
    /// Its bytes; at least one.
    pub bytes: &'a [u8],
}

impl Chunk<'_> {
    /// Where it ends: its cut point.
    #[must_use]
    pub const fn end(&self) -> u64 {
        self.offset + self.bytes.len() as u64
    }
}

impl<R: Read> Chunker<R> {
    /// Nothing is read yet.
    pub fn new(reader: R, profile: &Profile) -> Self {
        Self { reader, finder: Finder::new(*profile), buffer: Vec::new(), start: 0, filled: 0, offset: 0, ended: false }
    }

    /// The next chunk, `None` at the end of the stream.
    ///
    /// # Errors
    /// [`io::Error`]: what the reader returned; an interrupted read is tried again. After an error the chunker may be called again: it
    /// goes on reading where it was.
    pub fn next_chunk(&mut self) -> io::Result<Option<Chunk<'_>>> {
        self.fill()?;
        let bytes = self.buffer.get(self.start..self.filled).unwrap_or_default();
        if bytes.is_empty() {
            return Ok(None);
        }
        let offset = self.offset;
        let span = Span::new(bytes, offset, self.ended);
        // The buffer holds a longest chunk and a byte, or all there is: the end is known.
        let end = self.finder.next_cut(&span, offset, offset).unwrap_or(span.end());
        let chunk = Chunk { offset, bytes: span.slice(offset, end) };
        self.start += chunk.bytes.len();
        self.offset = end;
        Ok(Some(chunk))
    }

    /// The cut points of the rest of the stream.
    ///
    /// # Errors
    /// As [`next_chunk`](Self::next_chunk).
    pub fn cut_points(mut self) -> io::Result<Vec<u64>> {
        let mut cuts = Vec::new();
        while let Some(chunk) = self.next_chunk()? {
            cuts.push(chunk.end());
        }
        Ok(cuts)
    }

    /// The reader, at wherever reading has come to.
    pub fn into_inner(self) -> R {
        self.reader
    }

    /// Reads until a longest chunk and one byte more are there, or the stream ends.
    fn fill(&mut self) -> io::Result<()> {
        let wanted = self.finder.profile().max_bytes() + 1;
        while !self.ended && self.filled - self.start < wanted {
            if self.buffer.len() - self.start < wanted {
                self.make_room(wanted);
            }
            let room = self.buffer.get_mut(self.filled..).unwrap_or_default();
            match self.reader.read(room) {
                Ok(0) => self.ended = true,
                // A reader that claims more than it was given room for is broken; take it at what fits.
                Ok(count) => self.filled += count.min(room.len()),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Moves what is not yet given out to the buffer's front, which leaves at least as much room as was moved.
    fn make_room(&mut self, wanted: usize) {
        self.buffer.copy_within(self.start..self.filled, 0);
        self.filled -= self.start;
        self.start = 0;
        self.buffer.resize((4 * (wanted - 1)).max(wanted + READ_BYTES), 0);
    }
}
