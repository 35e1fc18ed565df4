//! How do the contents of many files come to lie one behind the other in one file? As files of a tree do: frames are
//! decoded once in a window, in pack order, and their bytes are written where they belong, from several threads.
//!
//! Invariant: nothing is said to be in place before all of it is, and one content that cannot be had ends it all: of
//! arrays with a gap nobody could tell where it is.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use crossbeam_channel::{Sender, bounded};

use super::fetch::{FrameSink, ended_by, fetch};
use super::frame::FrameBytes;
use super::plan::{Plan, ReadSegment};
use crate::engine::read::layout::Layout;
use crate::engine::store::chunk_index::ChunkIndex;
use crate::engine::store::control::Control;
use crate::error::{Error, Result};
use crate::format::entry::EntryPath;
use crate::format::id::{ChunkId, ContentHasher};

/// A window is full when its plan occupies this much memory. Two are in memory at once.
const WINDOW_BYTES: usize = 64 << 20;

/// What is read back at once.
const READ_BYTES: u64 = 1 << 20;

/// Where contents go, and with what.
#[derive(Clone, Copy)]
pub(in crate::engine) struct Target<'a, 's> {
    pub(in crate::engine) chunk_index: &'a ChunkIndex<'s>,
    pub(in crate::engine) control: &'a Control,
    pub(in crate::engine) threads: usize,
    /// To be written and read.
    pub(in crate::engine) file: &'a File,
    /// What it is called in errors.
    pub(in crate::engine) name: &'a Path,
    /// Where in it the contents begin.
    pub(in crate::engine) base: u64,
}

/// A content, and where it goes.
pub(in crate::engine) struct Placed {
    /// Which it is, for the destination of hashes.
    pub(in crate::engine) item: u64,
    /// Counted from [`Target::base`].
    pub(in crate::engine) offset: u64,
    /// Whose it is, for messages.
    pub(in crate::engine) path: EntryPath,
    pub(in crate::engine) layout: Layout,
}

/// Called with the item and the BLAKE3 of each content that is in place, by several threads.
pub(in crate::engine) type Hashed<'a> = &'a (dyn Fn(u64, [u8; 32]) -> Result<()> + Sync);

/// Puts contents in their places; hashes them if somebody wants to know. Holes are not written.
///
/// # Errors
/// What `contents` or `hashed` answer; [`Error::Damaged`] if one cannot be had; [`Error::Io`];
/// [`Error::Interrupted`].
pub(in crate::engine) fn place_contents(
    target: Target<'_, '_>,
    contents: impl Iterator<Item = Result<Placed>>,
    hashed: Option<Hashed<'_>>,
) -> Result<()> {
    let (windows, to_fetch) = bounded::<Window>(0);
    let (planned, fetched) = std::thread::scope(|scope| {
        let fetching = scope.spawn(move || {
            for window in to_fetch {
                window.fetch(target, hashed)?;
            }
            Ok(())
        });
        let planned = plan(target, contents, &windows);
        drop(windows);
        (planned, fetching.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
    });
    // Where a fetch failed, the plan was given up.
    fetched?;
    planned
}

fn plan(
    target: Target<'_, '_>,
    contents: impl Iterator<Item = Result<Placed>>,
    windows: &Sender<Window>,
) -> Result<()> {
    let mut window = Window::default();
    for content in contents {
        window.push(target, content?)?;
        // A window that nobody takes: the fetch has failed, and says why itself.
        if window.memory_bytes >= WINDOW_BYTES && windows.send(std::mem::take(&mut window)).is_err() {
            return Ok(());
        }
        target.check_stopped()?;
    }
    let _ = windows.send(window);
    Ok(())
}

impl Target<'_, '_> {
    fn check_stopped(&self) -> Result<()> {
        match self.control.is_stopped() {
            true => Err(Error::Interrupted { kept: "nothing was exported".to_owned() }),
            false => Ok(()),
        }
    }
}

/// Contents to be put in place, and what of which frame goes into them.
#[derive(Default)]
struct Window {
    items: Vec<Item>,
    plan: Plan,
    memory_bytes: usize,
}

struct Item {
    item: u64,
    /// Where it begins in the file.
    start: u64,
    bytes: u64,
    path: EntryPath,
    /// The chunk that it is, if it is one.
    chunk: Option<ChunkId>,
    /// Wants not served yet.
    remaining: AtomicU32,
}

impl Window {
    fn push(&mut self, target: Target<'_, '_>, content: Placed) -> Result<()> {
        let Placed { item, offset, path, layout } = content;
        let before = self.plan.segments.len();
        let too_long = || Error::io("write", target.name, std::io::Error::from(std::io::ErrorKind::FileTooLarge));
        let start = target.base.checked_add(offset).ok_or_else(too_long)?;
        start.checked_add(layout.bytes()).ok_or_else(too_long)?;
        for part in layout.parts(0..layout.bytes()) {
            let planned = self.plan.want_part(target.chunk_index, &part, self.items.len() as u32, start + part.offset);
            planned.map_err(|error| match error {
                Error::Damaged { .. } => ended_by(&error, Some(&path)),
                other => other,
            })?;
        }
        let segments = self.plan.segments.get(before..).unwrap_or_default();
        self.memory_bytes += size_of::<Item>() + path.as_bytes().len() + size_of_val(segments);
        let remaining = AtomicU32::new(segments.len() as u32);
        self.items.push(Item { item, start, bytes: layout.bytes(), path, chunk: layout.only_chunk(), remaining });
        Ok(())
    }

    fn fetch(mut self, target: Target<'_, '_>, hashed: Option<Hashed<'_>>) -> Result<()> {
        let writer = Writer { items: &self.items, target, hashed };
        // Those of nothing but holes have nothing to wait for.
        let mut empty = self.items.iter().filter(|item| item.remaining.load(Ordering::Relaxed) == 0);
        empty.try_for_each(|item| writer.finish(item, &[], &FrameBytes::default()))?;
        fetch(target.chunk_index, &mut self.plan, target.threads, &|| target.control.is_stopped(), &writer)?;
        target.check_stopped()
    }
}

struct Writer<'a, 's> {
    items: &'a [Item],
    target: Target<'a, 's>,
    hashed: Option<Hashed<'a>>,
}

impl Writer<'_, '_> {
    /// An item is in place with these segments; they may be all of it.
    fn finish(&self, item: &Item, last: &[ReadSegment], frame: &FrameBytes) -> Result<()> {
        self.target.control.count(1, item.bytes);
        let Some(hashed) = self.hashed else { return Ok(()) };
        let hash = match item.chunk {
            Some(id) => id.0,
            None => match joined(last, frame).filter(|_| last.is_sorted_by(ReadSegment::is_followed_by)) {
                Some((offset, bytes)) if offset == item.start && bytes.len() as u64 == item.bytes => {
                    ContentHasher::default().update(bytes).finish()
                }
                _ => self.read_back(item)?,
            },
        };
        hashed(item.item, hash)
    }

    /// The hash of an item that came in pieces, as it lies in the file; most often the system still has it in memory.
    fn read_back(&self, item: &Item) -> Result<[u8; 32]> {
        let mut hasher = ContentHasher::default();
        let mut buffer = vec![0; item.bytes.min(READ_BYTES) as usize];
        let mut done = 0;
        while done < item.bytes {
            self.target.check_stopped()?;
            let next = (item.bytes - done).min(READ_BYTES);
            let part = buffer.get_mut(..next as usize).unwrap_or_default();
            self.read_part(part, item.start + done)?;
            hasher.update(part);
            done += next;
        }
        Ok(hasher.finish())
    }

    /// What lies at `at`: zeros past the end of the file, which need not have its length yet.
    fn read_part(&self, mut part: &mut [u8], mut at: u64) -> Result<()> {
        while !part.is_empty() {
            match self.target.file.read_at(part, at) {
                Ok(0) => {
                    part.fill(0);
                    return Ok(());
                }
                Ok(read) => {
                    part = part.get_mut(read..).unwrap_or_default();
                    at += read as u64;
                }
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                Err(source) => return Err(Error::io("read back", self.target.name, source)),
            }
        }
        Ok(())
    }
}

impl FrameSink for Writer<'_, '_> {
    fn deliver(&self, segments: &[ReadSegment], frame: &Arc<FrameBytes>) -> Result<()> {
        // Files that lie one behind the other in a frame go out in one write.
        for run in segments.chunk_by(ReadSegment::is_followed_by) {
            let Some((offset, bytes)) = joined(run, frame) else { continue };
            let written = self.target.file.write_all_at(bytes, offset);
            written.map_err(|source| Error::io("write", self.target.name, source))?;
        }
        for own in segments.chunk_by(|a, b| a.destination == b.destination) {
            let item = own.first().and_then(|segment| self.items.get(segment.destination as usize));
            let Some(item) = item else { continue };
            if item.remaining.fetch_sub(own.len() as u32, Ordering::AcqRel) == own.len() as u32 {
                self.finish(item, own, frame)?;
            }
        }
        Ok(())
    }

    fn fail(&self, segment: &ReadSegment, why: &Error) -> Result<()> {
        let item = self.items.get(segment.destination as usize);
        Err(ended_by(why, item.map(|item| &item.path)))
    }
}

/// The bytes of segments that follow each other in the frame and in the destination, and where they go.
fn joined<'a>(segments: &[ReadSegment], frame: &'a FrameBytes) -> Option<(u64, &'a [u8])> {
    let (first, last) = (segments.first()?, segments.last()?);
    Some((first.offset, frame.get(first.part().start..last.part().end)?))
}
