//! An HDF5 file of a snapshot, in one of three layouts. What is in each: `docs/exports.md`.
//!
//! Memory: a batch of small files, or the windows of a large one; a plan as of a restore; and the first name of each file
//! that has several.

mod compact;
mod in_order;
mod raw;
mod sha1;
mod shredder;

use std::fs::File;
use std::path::Path;

use super::items::{Role, Row, Rows};
use super::{ExportReport, ExportRequest, Hdf5Layout, Hdf5Options};
use crate::arrays::hdf5::Hdf5;
use crate::engine::Store;
use crate::engine::read::layout::Layout;
use crate::engine::read::payload::Target;
use crate::engine::read::resolve::Item;
use crate::engine::read::resolve::Resolved;
use crate::engine::read::stream::{Output, stream};
use crate::engine::store::chunk_index::ChunkIndex;
use crate::engine::store::control::Control;
use crate::error::{Error, Result};
use crate::restore::AtomicFile;

impl Store {
    /// Writes the files of an entry, and of all below it, as an HDF5 file.
    ///
    /// # Errors
    /// [`Error::NotFound`] if no snapshot has the path; [`Error::Exists`] if `output` is there and not to be replaced;
    /// [`Error::Damaged`] if any content cannot be had, [`Error::Io`], [`Error::Interrupted`]: `output` is then as it was.
    pub fn export_hdf5(
        &self,
        request: &ExportRequest,
        options: &Hdf5Options,
        output: &Path,
        control: &Control,
    ) -> Result<ExportReport> {
        let found = self.resolve(&request.path, &request.snapshot)?;
        control.pass_over(&found.passed_over);
        let chunk_index = self.chunk_index()?;
        let (unfinished, file) = AtomicFile::file(output, options.overwrite)?;
        let temporary = unfinished.path();
        let export = Export {
            request,
            options,
            found: &found,
            chunk_index: &chunk_index,
            control,
            file: &file,
            temporary,
            output,
        };
        let written = match options.layout {
            Hdf5Layout::Compact => compact::write(&export),
            Hdf5Layout::Sha1 => sha1::write(&export),
            Hdf5Layout::Shredder => shredder::write(&export),
        };
        let written = written.map_err(|error| match error {
            Error::Interrupted { .. } => interrupted(),
            other => other,
        });
        let mut report = self.unless_removed(found.snapshot.id(), written)?;
        let failed = |source| Error::io("write", output, source);
        file.sync_all().map_err(failed)?;
        report.written_bytes = file.metadata().map_err(failed)?.len();
        unfinished.finish()?;
        Ok(report)
    }
}

/// What one export works with.
struct Export<'a, 's> {
    request: &'a ExportRequest,
    options: &'a Hdf5Options,
    found: &'a Resolved<'s>,
    chunk_index: &'a ChunkIndex<'s>,
    control: &'a Control,
    file: &'a File,
    temporary: &'a Path,
    /// What the file will be called, for messages.
    output: &'a Path,
}

/// How many names there are, how many bytes these have, and the contents.
#[derive(Debug, Default, Clone, Copy)]
struct Totals {
    count: u64,
    name_bytes: u64,
    bytes: u64,
}

impl<'a, 's> Export<'a, 's> {
    fn rows(&self) -> Result<Rows<Box<dyn Iterator<Item = Result<Item>> + '_>>> {
        self.found.items(&self.request.labels).map(Rows::new)
    }

    fn container(&self) -> Result<Hdf5> {
        Hdf5::create(self.temporary, self.file, self.output, self.options.layout.word())
    }

    fn target(&self, base: u64) -> Target<'a, 's> {
        let Self { chunk_index, control, file, output, .. } = *self;
        Target { chunk_index, control, threads: self.request.threads, file, name: output, base }
    }

    /// A pass over the snapshot that counts items, and further names too if they are to have places of their own.
    fn totals(&self, with_further_names: bool) -> Result<Totals> {
        let mut totals = Totals::default();
        let mut rows = self.rows()?;
        for row in rows.by_ref() {
            let Row { entry, role } = row?;
            if matches!(role, Role::Item(..)) || with_further_names && matches!(role, Role::Again(..)) {
                totals.count += 1;
                totals.name_bytes += entry.path.as_bytes().len() as u64;
            }
            self.check_stopped()?;
        }
        totals.bytes = rows.end().offset;
        Ok(totals)
    }

    fn check_stopped(&self) -> Result<()> {
        if self.control.is_stopped() { Err(interrupted()) } else { Ok(()) }
    }

    /// Writes all of a large file.
    fn stream(&self, layout: &Layout, writer: &mut dyn std::io::Write) -> Result<()> {
        let output = Output { writer, name: self.output };
        stream(self.chunk_index, layout, 0..layout.bytes(), output, self.control, self.request.threads)
    }

    fn failed(&self, source: std::io::Error) -> Error {
        Error::io("write", self.output, source)
    }
}

fn interrupted() -> Error {
    Error::Interrupted { kept: "nothing was exported".to_owned() }
}
