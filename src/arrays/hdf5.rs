//! How do arrays get into an HDF5 file? The one door to the `hdf5-metno` crate, that is to the system's libhdf5.
//!
//! Small arrays are written by the library; of large ones it only sets the place aside, and says where that is: their
//! bytes are written past it, from many threads, as to any file. So the library is asked for what it alone knows, the
//! structure, and never for what it would do one thread at a time.
//!
//! Files are of the format of HDF5 1.8 and later, without times: the same arrays make the same bytes.

use std::cell::RefCell;
use std::fmt::Display;
use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};

use hdf5_metno::Group;
use hdf5_metno::dataset::DatasetBuilder;
use hdf5_metno::file::LibraryVersion;
use hdf5_metno::plist::dataset_create::{AllocTime, FillTime, Layout};
use hdf5_metno::plist::link_create::CharEncoding;
use hdf5_metno::types::VarLenUnicode;

use crate::error::{Error, Result};

/// An array of more bytes does not fit into an object's header, whose messages have 64 KiB at most, 4 bytes of them taken.
pub const COMPACT_BYTES_MAX: u64 = (1 << 16) - 1 - 4;

/// The part of a compressed array that is compressed together, and has to be read together.
const CHUNK_BYTES: usize = 1 << 20;

/// What an array's elements are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Elements {
    /// Bytes: how many.
    Bytes(u64),
    /// Unsigned numbers of 64 bits: how many.
    Numbers(u64),
    /// Rows of bytes: how many, and the length of each.
    Rows(u64, usize),
}

/// An HDF5 file being made.
#[derive(Debug)]
pub struct Hdf5 {
    file: hdf5_metno::File,
    /// The group that was last made something in, and its name: most often the next thing goes there, too.
    last_group: RefCell<Option<(String, Group)>>,
    place: FilePath,
}

/// Where a file is, and what it is called in errors.
#[derive(Debug, Clone)]
struct FilePath {
    path: PathBuf,
    shown: PathBuf,
}

impl Hdf5 {
    /// Begins a file in place of one that is there, and that `opened` has open; `layout` is what it says of itself.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn create(path: &Path, opened: &File, shown: &Path, layout: &str) -> Result<Self> {
        // The library takes names of UTF-8 only; the system has another for every open file.
        let path = match path.to_str() {
            Some(_) => path.to_owned(),
            None => PathBuf::from(format!("/proc/self/fd/{}", opened.as_raw_fd())),
        };
        let mut options = hdf5_metno::File::with_options();
        options.with_fapl(|access| access.libver_bounds(LibraryVersion::V18, LibraryVersion::latest()));
        options.with_fcpl(|create| create.obj_track_times(false));
        let place = FilePath { path, shown: shown.to_owned() };
        let file = options.create(&place.path).map_err(|error| place.failed(error))?;
        let this = Self { file, last_group: RefCell::default(), place };
        let text: VarLenUnicode = layout.parse().map_err(|error| this.failed(error))?;
        let attribute = this.file.new_attr::<VarLenUnicode>().create("seamstore:layout");
        attribute.and_then(|attribute| attribute.write_scalar(&text)).map_err(|error| this.failed(error))?;
        Ok(this)
    }

    /// Makes an array whose bytes are to be written into the file itself, from where this says.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn reserve(&self, link: &str, elements: Elements) -> Result<u64> {
        let (group, link) = self.group_of(link)?;
        let builder = self.builder(&group).layout(Layout::Contiguous);
        let builder = builder.alloc_time(Some(AllocTime::Early)).fill_time(FillTime::Never);
        let dataset = match elements {
            Elements::Bytes(count) => builder.empty::<u8>().shape((length(count),)).create(link),
            Elements::Numbers(count) => builder.empty::<u64>().shape((length(count),)).create(link),
            Elements::Rows(count, bytes) => builder.empty::<u8>().shape((length(count), bytes)).create(link),
        };
        let dataset = dataset.map_err(|error| self.failed(error))?;
        let is_empty = matches!(elements, Elements::Bytes(0) | Elements::Numbers(0) | Elements::Rows(0, _));
        match dataset.offset() {
            Some(offset) => Ok(offset),
            None if is_empty => Ok(0),
            None => Err(self.failed(format!("no place was set aside for {link:?}"))),
        }
    }

    /// Makes an array of these bytes, in its header if they fit.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn put(&self, link: &str, bytes: &[u8]) -> Result<()> {
        let layout = if bytes.len() as u64 <= COMPACT_BYTES_MAX { Layout::Compact } else { Layout::Contiguous };
        let (group, link) = self.group_of(link)?;
        let created = self.builder(&group).layout(layout).with_data(bytes).create(link);
        created.map(drop).map_err(|error| self.failed(error))
    }

    /// Makes an array of bytes to be written front to back, compressed with deflate if `level` says so.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn stream(&self, link: &str, bytes: u64, level: Option<u8>) -> Result<Stream> {
        let (group, link) = self.group_of(link)?;
        let builder = self.builder(&group);
        let builder = match level {
            Some(level) => builder.chunk((CHUNK_BYTES.min(length(bytes)).max(1),)).deflate(level),
            None => builder.layout(Layout::Contiguous).fill_time(FillTime::Never),
        };
        let dataset = builder.empty::<u8>().shape((length(bytes),)).create(link);
        let dataset = dataset.map_err(|error| self.failed(error))?;
        Ok(Stream { dataset, place: self.place.clone(), at: 0, buffer: Vec::new() })
    }

    /// Gives an array a further name.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn link_again(&self, first: &str, link: &str) -> Result<()> {
        self.group_of(link)?;
        self.file.link_hard(first, link).map_err(|error| self.failed(error))
    }

    /// Says of an array which path it is of, byte for byte.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn tell_path(&self, link: &str, path: &[u8]) -> Result<()> {
        let written = self.file.dataset(link).and_then(|dataset| {
            let builder = dataset.new_attr_builder();
            builder.empty::<u8>().shape((path.len(),)).create("path").and_then(|attribute| attribute.write_raw(path))
        });
        written.map_err(|error| self.failed(error))
    }

    /// Whether there is something of this name.
    #[must_use]
    pub fn has(&self, link: &str) -> bool {
        self.file.link_exists(link)
    }

    /// Gives an array another name.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn rename(&self, link: &str, to: &str) -> Result<()> {
        self.file.relink(link, to).map_err(|error| self.failed(error))
    }

    /// Takes an array out again.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn remove(&self, link: &str) -> Result<()> {
        self.file.unlink(link).map_err(|error| self.failed(error))
    }

    /// Ends what the library writes. Nothing is durable by that.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn finish(self) -> Result<()> {
        let Self { file, last_group, place } = self;
        drop(last_group);
        file.flush().and_then(|()| file.close()).map_err(|error| place.failed(error))
    }

    fn builder(&self, group: &Group) -> DatasetBuilder {
        let builder = group.new_dataset_builder().obj_track_times(false).char_encoding(CharEncoding::Utf8);
        // By default the library would make an empty array chunked.
        builder.no_chunk()
    }

    /// The group of a name, made if it is not there, and the rest of the name. The library would make groups by itself, but
    /// these would tell when.
    fn group_of<'l>(&self, link: &'l str) -> Result<(Group, &'l str)> {
        let Some((name, rest)) = link.rsplit_once('/') else {
            return self.file.group("/").map(|group| (group, link)).map_err(|error| self.failed(error));
        };
        if let Some((_, group)) = self.last_group.borrow().as_ref().filter(|(last, _)| last == name) {
            return Ok((group.clone(), rest));
        }
        let ends = name.match_indices('/').map(|(end, _)| end).chain([name.len()]);
        for part in ends.filter_map(|end| name.get(..end)) {
            if !self.has(part) {
                let builder = self.file.create_group_builder().obj_track_times(false);
                builder.char_encoding(CharEncoding::Utf8).create(part).map_err(|error| self.failed(error))?;
            }
        }
        let group = self.file.group(name).map_err(|error| self.failed(error))?;
        self.last_group.replace(Some((name.to_owned(), group.clone())));
        Ok((group, rest))
    }

    fn failed(&self, error: impl Display) -> Error {
        self.place.failed(error)
    }
}

impl FilePath {
    fn failed(&self, error: impl Display) -> Error {
        Error::io("write", &self.shown, self.io_error(error))
    }

    /// The library tells what the system answered in words, and not always; that a disk is full should be known.
    fn io_error(&self, error: impl Display) -> io::Error {
        let text = error.to_string();
        let number = text.split_once("errno = ").map(|(_, rest)| rest.split(|c: char| !c.is_ascii_digit()).next());
        let is_full = || rustix::fs::statvfs(&self.path).is_ok_and(|disk| disk.f_blocks > 0 && disk.f_bavail == 0);
        match number.flatten().and_then(|digits| digits.parse().ok()) {
            Some(number) => io::Error::from_raw_os_error(number),
            None if is_full() => io::Error::from(rustix::io::Errno::NOSPC),
            None => io::Error::other(text),
        }
    }
}

/// An array being written front to back. [`Stream::finish`] ends it.
#[derive(Debug)]
pub struct Stream {
    dataset: hdf5_metno::Dataset,
    place: FilePath,
    at: usize,
    /// Less than a chunk that is not written yet, so that every chunk is written, and compressed, once.
    buffer: Vec<u8>,
}

impl Stream {
    /// Writes what is left.
    ///
    /// # Errors
    /// What the library says.
    pub fn finish(mut self) -> io::Result<()> {
        let rest = std::mem::take(&mut self.buffer);
        self.emit(&rest)
    }

    fn emit(&mut self, bytes: &[u8]) -> io::Result<()> {
        if bytes.is_empty() {
            return Ok(());
        }
        let end = self.at.saturating_add(bytes.len());
        self.dataset.write_slice(bytes, (self.at..end,)).map_err(|error| self.place.io_error(error))?;
        self.at = end;
        Ok(())
    }
}

impl io::Write for Stream {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let room = CHUNK_BYTES.saturating_sub(self.buffer.len()).min(bytes.len());
        self.buffer.extend_from_slice(bytes.get(..room).unwrap_or_default());
        if self.buffer.len() >= CHUNK_BYTES {
            let mut chunk = std::mem::take(&mut self.buffer);
            self.emit(&chunk)?;
            chunk.clear();
            self.buffer = chunk;
        }
        Ok(room)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn length(count: u64) -> usize {
    usize::try_from(count).unwrap_or(usize::MAX)
}
