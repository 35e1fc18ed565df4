//! How do a file's bytes come out in order? In windows: the frames of a window are decoded in parallel, then its bytes
//! are handed on front to back.

use std::io::Write;
use std::ops::Range;
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use super::fetch::{Deliver, bytes_of, fetch};
use super::plan::{Plan, Want};
use crate::engine::control::Control;
use crate::engine::layout::Layout;
use crate::engine::locate::Locator;
use crate::error::{Error, Result};

/// The bytes of a window.
const WINDOW_BYTES: u64 = 16 << 20;

/// Where the bytes go, and what that is called in errors.
pub(super) struct Output<'a> {
    pub(super) writer: &'a mut dyn Write,
    pub(super) name: &'a Path,
}

/// Writes the bytes `range` of a file to `output`.
pub(super) fn stream(
    locator: &Locator<'_>,
    layout: &Layout,
    range: Range<u64>,
    output: Output<'_>,
    control: &Control,
    threads: usize,
) -> Result<()> {
    let Output { writer, name } = output;
    let mut at = range.start;
    let mut buffer = Vec::new();
    while at < range.end {
        let window = at..range.end.min(at + WINDOW_BYTES);
        read_window(locator, layout, window.clone(), &mut buffer, threads, &|| control.is_stopped())?;
        if control.is_stopped() {
            return Err(Error::Interrupted { kept: format!("{} bytes were written", at - range.start) });
        }
        writer.write_all(&buffer).map_err(|source| Error::io("write", name, source))?;
        control.count(0, buffer.len() as u64);
        at = window.end;
    }
    writer.flush().map_err(|source| Error::io("write", name, source))
}

/// All bytes of a file that fits into memory.
pub(super) fn collect(locator: &Locator<'_>, layout: &Layout) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    read_window(locator, layout, 0..layout.bytes(), &mut bytes, 1, &|| false)?;
    Ok(bytes)
}

/// Replaces `buffer` by a range of a file, each of its frames decoded once.
fn read_window(
    locator: &Locator<'_>,
    layout: &Layout,
    window: Range<u64>,
    buffer: &mut Vec<u8>,
    threads: usize,
    is_stopped: &(dyn Fn() -> bool + Sync),
) -> Result<()> {
    let mut plan = Plan::default();
    for part in layout.parts(window.clone()) {
        plan.want_part(locator, &part, 0, part.offset - window.start)?;
    }
    buffer.clear();
    buffer.resize((window.end - window.start) as usize, 0);
    let receiver = Buffer { bytes: Mutex::new(buffer) };
    fetch(locator, &mut plan, threads, is_stopped, &receiver)
}

struct Buffer<'a> {
    bytes: Mutex<&'a mut Vec<u8>>,
}

impl Deliver for Buffer<'_> {
    fn deliver(&self, wants: &[Want], frame: &[u8]) -> Result<()> {
        let mut buffer = self.bytes.lock().unwrap_or_else(PoisonError::into_inner);
        for want in wants {
            let start = want.offset as usize;
            if let Some(place) = buffer.get_mut(start..start + want.length as usize) {
                place.copy_from_slice(bytes_of(want, frame));
            }
        }
        Ok(())
    }

    fn fail(&self, _: &Want, why: &Error) -> Result<()> {
        // A stream with a gap is worth nothing: it ends before the damage.
        Err(match why {
            Error::Damaged { file, offset, what } => Error::damaged(file.clone(), *offset, what.clone()),
            other => Error::damaged("a pack", 0, crate::error::chain(other)),
        })
    }
}
