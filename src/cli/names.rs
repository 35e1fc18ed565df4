//! Which stored path does a path on the command line stand for? Itself, or what it is spelled for in a listing.

use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use super::Context;
use crate::engine::Store;
use crate::engine::store::snapshots::Selector;
use crate::error::Result;

/// The path and the snapshot that are meant. Only a path with a backslash can be a spelling of another; of any other, nothing
/// is looked up here.
pub(super) fn resolve(
    store: &Store,
    given: Option<&Path>,
    selector: Option<&Selector>,
    context: &Context,
) -> Result<(PathBuf, Selector)> {
    let given = given.unwrap_or(Path::new(""));
    let selector = selector.cloned().unwrap_or_default();
    if !given.as_os_str().as_bytes().contains(&b'\\') {
        return Ok((given.to_owned(), selector));
    }
    let found = store.resolve_spelled(given, &selector)?;
    context.control.pass_over(&found.passed_over);
    let mut path = found.path.as_path().to_owned();
    if given.as_os_str().as_bytes().ends_with(b"/") {
        // With a slash at its end it stands for what is in an archive.
        path.push("");
    }
    Ok((path, Selector::Id(found.snapshot.id().to_hex())))
}
