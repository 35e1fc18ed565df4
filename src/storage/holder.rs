//! Who holds a lease? What the lease says, for messages. Nothing depends on it: it may be missing, cut off or nonsense.

use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

/// Who has a lease, as far as the lease says.
///
/// ```
/// # use seamstore::{Control, Store, entry::*, report::*, request::*};
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let store = Store::in_memory(Settings::default())?;
/// # let writer = store.writer(WriterOptions::default().threads(1))?;
/// # writer.add_bytes(writer.entry("notes/first.txt", EntryKind::File)?, b"found again".to_vec())?;
/// # let added = writer.finish()?;
/// # let control = Control::default();
/// let request = GcRequest::default().dry_run(true).max_waste(0.0);
/// let report = store.gc(&request, &control, &|holders: &[Holder]| {
///     for holder in holders {
///         eprintln!("waiting for process {:?} of {:?}", holder.process, holder.host);
///     }
/// })?;
/// assert_eq!((report.snapshots, report.freed_bytes()), (1, 0));
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Holder {
    /// The lease.
    pub lease: PathBuf,
    /// The name of the host.
    pub host: Option<String>,
    /// The id of the process there.
    pub process: Option<u32>,
    /// When it was taken, in nanoseconds since 1970 by that host's clock.
    pub since_ns: Option<i64>,
}

/// What a lease of this process says: host, process and time, each on a line.
pub(super) fn this_process() -> String {
    let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    format!("{host}\n{}\n{}\n", std::process::id(), since.as_nanos())
}

impl Holder {
    /// Someone who is not known.
    pub(super) fn unknown(lease: PathBuf) -> Self {
        Self { lease, host: None, process: None, since_ns: None }
    }

    /// Takes from the bytes of a lease what makes sense.
    pub(super) fn parse(lease: &Path, bytes: &[u8]) -> Self {
        let text = std::str::from_utf8(bytes).unwrap_or_default();
        // A line without its end was not written whole.
        let mut lines = text.split_inclusive('\n').filter_map(|line| line.strip_suffix('\n'));
        let is_name = |name: &&str| !name.is_empty() && name.chars().all(|c| c.is_ascii_graphic());
        Self {
            lease: lease.to_owned(),
            host: lines.next().filter(is_name).map(str::to_owned),
            process: lines.next().and_then(|line| line.parse().ok()),
            since_ns: lines.next().and_then(|line| line.parse().ok()),
        }
    }
}
