//! A pax archive of a snapshot: members in path order, further names of a file as links to the first, and nothing in it
//! that is not in the snapshot. So the same entries make the same archive, wherever and whenever it is made.
//!
//! Memory: a window of what is written, the place of one file's chunks, and the first name of each file that has several.

use std::collections::HashMap;
use std::io::Write;
use std::path::Path;

use super::items::layout_of;
use super::{ExportReport, ExportRequest};
use crate::archive::{END_MARK, append_headers, padding};
use crate::engine::Store;
use crate::engine::read::resolve::Item;
use crate::engine::read::stream::{Output, Roll};
use crate::engine::store::control::Control;
use crate::error::{Error, Result};
use crate::format::entry::{EntryKind, EntryPath, Identity};

impl Store {
    /// Writes a pax archive of an entry, and all below it, to `output`. Members have the paths that they have in the
    /// snapshot.
    ///
    /// # Errors
    /// [`Error::NotFound`] if no snapshot has the path; [`Error::Damaged`] before the first byte that cannot be had: what
    /// was written until then is no whole archive.
    pub fn export_tar(
        &self,
        request: &ExportRequest,
        output: &mut dyn Write,
        name: &Path,
        control: &Control,
    ) -> Result<ExportReport> {
        let found = self.resolve(&request.path, &request.snapshot)?;
        control.pass_over(&found.passed_over);
        let chunk_index = self.chunk_index()?;
        let mut roll = Roll::new(&chunk_index, Output { writer: output, name }, control, request.threads);
        let mut report = ExportReport::default();
        let mut first_names: HashMap<_, EntryPath> = HashMap::new();
        let mut headers = Vec::new();
        let mut write = |item: Result<Item>| -> Result<()> {
            let Item { entry, mut member } = item?;
            if let Some(Err(Error::NotInArchive(why))) = &member {
                report.left_out.push((entry.path, why.clone()));
                return Ok(());
            }
            let is_linked = entry.kind != EntryKind::Directory && entry.identity.links > 1;
            // Some file systems give one inode number to several files.
            let Identity { device, inode, .. } = entry.identity;
            let identity = is_linked.then_some((device, inode, entry.kind, entry.size, entry.content));
            let first = identity.and_then(|identity| first_names.get(&identity));
            headers.clear();
            if !append_headers(&entry, first.map(EntryPath::as_bytes), &mut headers) {
                report.left_out.push((entry.path, "an archive cannot hold a socket".to_owned()));
                return Ok(());
            }
            let has_content = entry.kind == EntryKind::File && first.is_none();
            let layout = if has_content { Some(layout_of(member.take(), &entry, &chunk_index)?) } else { None };
            roll.write(&headers)?;
            if let Some(layout) = layout {
                roll.push(&layout, 0..layout.bytes())?;
                let zeros = END_MARK.get(..padding(layout.bytes())).unwrap_or_default();
                roll.write(zeros)?;
                report.bytes = report.bytes.saturating_add(entry.size);
            }
            report.entries += 1;
            control.count(1, 0);
            if let (Some(identity), true) = (identity, first.is_none()) {
                first_names.insert(identity, entry.path);
            }
            Ok(())
        };
        let written = found.items(&request.labels).and_then(|mut items| items.try_for_each(&mut write));
        self.unless_removed(found.snapshot.id(), written)?;
        roll.write(&END_MARK)?;
        let written = roll.finish();
        report.written_bytes = self.unless_removed(found.snapshot.id(), written)?;
        Ok(report)
    }
}
