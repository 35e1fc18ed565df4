//! Who holds a lease? What the lease says, for messages. Nothing depends on it: it may be missing, cut off or nonsense.

use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

/// Who has a lease, as far as the lease says.
#[derive(Debug, Clone, PartialEq, Eq)]
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
