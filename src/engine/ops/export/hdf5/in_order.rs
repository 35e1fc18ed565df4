//! Contents one after the other, in the order of items: small ones in memory, read many at once; large ones by where they
//! are.

use std::io::Write;
use std::ops::Range;

use super::Export;
use crate::arrays::hdf5::Stream;
use crate::engine::ops::export::ExportReport;
use crate::engine::ops::export::items::{Role, Row, layout_of};
use crate::engine::read::batch::Batch;
use crate::engine::read::layout::Layout;
use crate::error::Result;
use crate::format::entry::{Entry, EntryPath};

/// A batch is read when it has this many bytes, or files.
const BATCH_BYTES: usize = 16 << 20;
const BATCH_FILES: usize = 8 << 10;

/// Passes bytes on, and tells of them.
pub(super) struct TeeWriter<'a, F> {
    pub(super) to: &'a mut Stream,
    pub(super) tell: F,
}

impl<F: FnMut(&[u8])> Write for TeeWriter<'_, F> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        let written = self.to.write(bytes)?;
        (self.tell)(bytes.get(..written).unwrap_or_default());
        Ok(written)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.to.flush()
    }
}

/// What takes items. Everything comes in the order of rows.
pub(super) trait Receive {
    /// Largest small file, in bytes: small files fit into memory.
    const SMALL_BYTES_MAX: u64;
    /// Whether a further name of a file is taken as if it were a file.
    const AGAIN_IS_ITEM: bool = false;

    fn small(&mut self, entry: &Entry, bytes: &[u8]) -> Result<()>;

    fn large(&mut self, entry: &Entry, layout: &Layout) -> Result<()>;

    /// A further name of a file; whether it is kept.
    fn again(&mut self, _: &Entry, _: &EntryPath) -> Result<bool> {
        Ok(false)
    }
}

enum Queued {
    Small(Entry, Range<usize>),
    Again(Entry, EntryPath),
}

/// Hands all items on.
pub(super) fn each_item<R: Receive>(export: &Export<'_, '_>, destination: &mut R) -> Result<ExportReport> {
    let mut report = ExportReport::default();
    let (mut queue, mut batch) = (Vec::new(), Batch::default());
    for row in export.rows()? {
        let Row { entry, role } = row?;
        let member = match role {
            Role::Item(_, member) => member,
            Role::Again(_, _, member) if R::AGAIN_IS_ITEM => member,
            Role::Again(_, first, _) => {
                queue.push(Queued::Again(entry, first));
                continue;
            }
            Role::Other => {
                report.others += 1;
                continue;
            }
            Role::LeftOut(why) => {
                report.left_out.push((entry.path, why));
                continue;
            }
        };
        report.entries += 1;
        report.bytes = report.bytes.saturating_add(entry.size);
        let layout = layout_of(member, &entry, export.chunk_index)?;
        if entry.size <= R::SMALL_BYTES_MAX {
            let place = batch.push(export.chunk_index, &layout)?;
            queue.push(Queued::Small(entry, place));
            if batch.len() >= BATCH_BYTES || queue.len() >= BATCH_FILES {
                hand_on(export, std::mem::take(&mut queue), std::mem::take(&mut batch), destination, &mut report)?;
            }
        } else {
            hand_on(export, std::mem::take(&mut queue), std::mem::take(&mut batch), destination, &mut report)?;
            destination.large(&entry, &layout)?;
            export.control.count(1, 0);
        }
    }
    hand_on(export, queue, batch, destination, &mut report)?;
    Ok(report)
}

fn hand_on<R: Receive>(
    export: &Export<'_, '_>,
    queue: Vec<Queued>,
    batch: Batch,
    destination: &mut R,
    report: &mut ExportReport,
) -> Result<()> {
    let bytes = batch.read(export.chunk_index, export.control, export.request.threads)?;
    for queued in queue {
        export.check_stopped()?;
        match queued {
            Queued::Small(entry, place) => {
                destination.small(&entry, bytes.get(place).unwrap_or_default())?;
                export.control.count(1, entry.size);
            }
            Queued::Again(entry, first) => match destination.again(&entry, &first)? {
                true => report.entries += 1,
                false => report.others += 1,
            },
        }
    }
    export.check_stopped()
}
