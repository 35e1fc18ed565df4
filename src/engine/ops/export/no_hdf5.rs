//! Without the cargo feature `hdf5`: an export to HDF5 says how to build with it.

use std::path::Path;

use super::{ExportReport, ExportRequest, Hdf5Options};
use crate::engine::Store;
use crate::engine::store::control::Control;
use crate::error::{Error, Result};

impl Store {
    /// Writes an HDF5 file if the cargo feature `hdf5` is on; this build does not have it.
    ///
    /// # Errors
    /// [`Error::Usage`], always.
    pub fn export_hdf5(&self, _: &ExportRequest, _: &Hdf5Options, _: &Path, _: &Control) -> Result<ExportReport> {
        let how = "`cargo build --release --features hdf5`, with the package libhdf5-dev installed";
        Err(Error::Usage(format!("this program was built without HDF5; build it with {how}")))
    }
}
