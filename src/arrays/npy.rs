//! One array in one file, as numpy's `load` opens it (NPY format version 1.0): a header that says type and shape, then
//! the elements.
//!
//! The header always has [`HEADER_BYTES`] bytes, whatever it says. So it can be written last, when the number of elements
//! is known, and elements are aligned to a cache line in a mapped file.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use crate::error::{Error, Result};

/// Where the elements begin. numpy asks for a multiple of 64.
pub const HEADER_BYTES: u64 = 128;

/// What an array's elements are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shape {
    /// Bytes: how many.
    Bytes(u64),
    /// Unsigned numbers of 64 bits: how many.
    Numbers(u64),
    /// Rows of 32 bytes: how many.
    Hashes(u64),
}

/// The header of an array: always [`HEADER_BYTES`] bytes.
#[must_use]
pub fn header(shape: Shape) -> Vec<u8> {
    let (kind, shape) = match shape {
        Shape::Bytes(count) => ("|u1", format!("({count},)")),
        Shape::Numbers(count) => ("<u8", format!("({count},)")),
        Shape::Hashes(count) => ("|u1", format!("({count}, 32)")),
    };
    let mut header = b"\x93NUMPY\x01\x00".to_vec();
    let said = HEADER_BYTES as u16 - 10;
    header.extend_from_slice(&said.to_le_bytes());
    // Of 20 digits at most: it always fits.
    header.extend_from_slice(format!("{{'descr': '{kind}', 'fortran_order': False, 'shape': {shape}, }}").as_bytes());
    header.resize(HEADER_BYTES as usize - 1, b' ');
    header.push(b'\n');
    header
}

/// An array whose elements come one after the other, and whose length is known at their end.
#[derive(Debug)]
pub struct Column {
    path: PathBuf,
    file: BufWriter<File>,
    count: u64,
}

impl Column {
    /// Begins an array in a file that must not exist.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn create(path: PathBuf) -> Result<Self> {
        let file = create(&path)?;
        let mut column = Self { file: BufWriter::with_capacity(256 << 10, file), path, count: 0 };
        column.write(&[0; HEADER_BYTES as usize])?;
        Ok(column)
    }

    /// Appends a number.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn push(&mut self, number: u64) -> Result<()> {
        self.count += 1;
        self.write(&number.to_le_bytes())
    }

    /// Appends bytes.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn extend(&mut self, bytes: &[u8]) -> Result<()> {
        self.count += bytes.len() as u64;
        self.write(bytes)
    }

    /// How many elements there are.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.count
    }

    fn write(&mut self, bytes: &[u8]) -> Result<()> {
        self.file.write_all(bytes).map_err(|source| Error::io("write", &self.path, source))
    }

    /// Ends an array of numbers, or one of bytes, as `shape` has it, and makes it durable.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn finish(self, shape: impl FnOnce(u64) -> Shape) -> Result<()> {
        let Self { path, file, count } = self;
        let file = file.into_inner().map_err(|error| Error::io("write", &path, error.into_error()))?;
        finish(&file, &path, shape(count))
    }
}

/// A new file, to be read and written.
///
/// # Errors
/// [`Error::Io`].
pub fn create(path: &Path) -> Result<File> {
    let opened = File::options().read(true).write(true).create_new(true).open(path);
    opened.map_err(|source| Error::io("create", path, source))
}

/// Writes the header of an array whose elements were put in place in any order, and makes it durable. What was not written
/// reads as zeros.
///
/// # Errors
/// [`Error::Io`].
pub fn finish(file: &File, path: &Path, shape: Shape) -> Result<()> {
    let bytes = match shape {
        Shape::Bytes(count) => Some(count),
        Shape::Numbers(count) => count.checked_mul(8),
        Shape::Hashes(count) => count.checked_mul(32),
    };
    let whole = bytes.and_then(|bytes| bytes.checked_add(HEADER_BYTES)).unwrap_or(u64::MAX);
    let written =
        file.set_len(whole).and_then(|()| file.write_all_at(&header(shape), 0)).and_then(|()| file.sync_all());
    written.map_err(|source| Error::io("write", path, source))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing)]

    use super::*;

    #[test]
    fn headers_are_what_numpy_reads() {
        for (shape, said) in [
            (Shape::Bytes(0), "{'descr': '|u1', 'fortran_order': False, 'shape': (0,), }"),
            (Shape::Numbers(7), "{'descr': '<u8', 'fortran_order': False, 'shape': (7,), }"),
            (
                Shape::Hashes(u64::MAX),
                "{'descr': '|u1', 'fortran_order': False, 'shape': (18446744073709551615, 32), }",
            ),
        ] {
            let header = header(shape);
            assert_eq!(header.len() as u64, HEADER_BYTES);
            assert_eq!(&header[..8], b"\x93NUMPY\x01\x00");
            assert_eq!(u16::from_le_bytes([header[8], header[9]]) as usize, header.len() - 10);
            let text = std::str::from_utf8(&header[10..]).unwrap();
            assert_eq!(text.trim_end(), said);
            assert!(text.ends_with(" \n"));
        }
    }

    #[test]
    fn a_column_has_its_header_in_front() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("numbers.npy");
        let mut column = Column::create(path.clone()).unwrap();
        for number in 0..100_000 {
            column.push(number << 20).unwrap();
        }
        assert_eq!(column.count(), 100_000);
        column.finish(Shape::Numbers).unwrap();
        let bytes = std::fs::read(&path).unwrap();
        assert_eq!(bytes[..128], header(Shape::Numbers(100_000)));
        assert_eq!(bytes.len(), 128 + 800_000);
        assert_eq!(bytes[128 + 8 * 99_999..], (99_999u64 << 20).to_le_bytes());
        assert!(matches!(Column::create(path), Err(Error::Io { .. })), "what exists is not written over");
    }

    #[test]
    fn what_was_not_written_is_zeros() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("bytes.npy");
        let file = create(&path).unwrap();
        file.write_all_at(b"xyz", HEADER_BYTES + 5).unwrap();
        finish(&file, &path, Shape::Bytes(10)).unwrap();
        assert_eq!(std::fs::read(&path).unwrap()[128..], *b"\0\0\0\0\0xyz\0\0");
    }
}
