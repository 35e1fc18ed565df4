//! Which layouts are kept of files that are not in the table? Those of the files read last.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::engine::read::layout::Layout;
use crate::error::Result;

/// The layouts of this many files are kept.
const RECENT_FILES: usize = 16;
/// No more than these runs together, unless one layout alone is longer: 56 bytes each.
const RECENT_RUNS: usize = 1 << 20;

/// The layouts of the files that were looked up last.
#[derive(Debug, Default)]
pub(super) struct RecentLayouts {
    /// By row, the one used last at the end.
    layouts: Mutex<Vec<(u32, Arc<Layout>)>>,
}

impl RecentLayouts {
    /// The layout of a row: kept, or found by `find`.
    pub(super) fn get(&self, row: u32, find: impl FnOnce() -> Result<Layout>) -> Result<Arc<Layout>> {
        let mut layouts = self.lock();
        let layout = match layouts.iter().position(|(known, _)| *known == row) {
            Some(at) => layouts.remove(at).1,
            None => {
                drop(layouts);
                let found = Arc::new(find()?);
                layouts = self.lock();
                layouts.retain(|(known, _)| *known != row);
                found
            }
        };
        layouts.push((row, Arc::clone(&layout)));
        let too_long = |layouts: &Vec<(u32, Arc<Layout>)>| {
            layouts.len() > RECENT_FILES || layouts.iter().map(|(_, layout)| layout.runs()).sum::<usize>() > RECENT_RUNS
        };
        while layouts.len() > 1 && too_long(&layouts) {
            layouts.remove(0);
        }
        Ok(layout)
    }

    fn lock(&self) -> MutexGuard<'_, Vec<(u32, Arc<Layout>)>> {
        self.layouts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
