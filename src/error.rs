//! What went wrong, where, and what to do about it.
//!
//! One error type for the whole crate: a kind the caller can match on, the place (file, offset, path), and the source
//! underneath. `Display` leaves the source out, because the program prints the whole chain once, then [`Error::hint`].

use std::io;
use std::path::{Path, PathBuf};

use crate::spelling::quoted;

/// The result of everything here that can fail.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why an operation did not do what was asked.
///
/// ```
/// use seamstore::{Error, Store};
/// let error = Store::open("no/such/store".as_ref()).unwrap_err();
/// assert!(matches!(error, Error::NotAStore { .. }));
/// assert!(error.hint().is_some_and(|hint| hint.contains("--store PATH")));
/// ```
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The operating system refused or failed an operation on a file.
    #[error("cannot {action} {}", quoted(.path))]
    Io {
        /// What was tried, as an infinitive: `read`, `create`, `sync`.
        action: &'static str,
        /// The file or directory it was tried on.
        path: PathBuf,
        /// What the system answered.
        source: io::Error,
    },
    /// Stored bytes are not what was written.
    #[error("{file} is damaged{}: {what}", at_byte(.offset))]
    Damaged {
        /// The damaged object, by its path in the store; or the kind of objects that should have had what is lost.
        file: String,
        /// Where in it, in bytes from its start; `None` where no place is to blame.
        offset: Option<u64>,
        /// What was expected there and what was found.
        what: String,
    },
    /// A bundle's own records, which locate its objects, are not what was written.
    #[error("bundle {} is damaged at byte {offset}: {what}", quoted(.path))]
    BundleDamaged {
        /// The bundle.
        path: PathBuf,
        /// Where in it, in bytes from its start.
        offset: u64,
        /// What was expected there and what was found.
        what: String,
    },
    /// The operation changes a store, and this one is a bundle.
    #[error("{} is a bundle, and cannot be changed in place", quoted(.path))]
    ReadOnly {
        /// The bundle.
        path: PathBuf,
    },
    /// The path holds no store.
    #[error("{} is not a store: {why}", quoted(.path))]
    NotAStore {
        /// The path that was given.
        path: PathBuf,
        /// What is missing or in the way.
        why: String,
    },
    /// The store was written by a version with another format.
    #[error("{file} has format version {found}, this program reads version {supported}")]
    FormatVersion {
        /// The object whose version does not fit.
        file: String,
        /// Its version.
        found: u64,
        /// The version this program reads.
        supported: u64,
    },
    /// There is nothing by that name.
    #[error("{what} not found")]
    NotFound {
        /// What was looked for: `snapshot 12ab`, `path "a/b"`.
        what: String,
        /// Names near to it, best first.
        near: Vec<String>,
    },
    /// A snapshot was asked for, and the store has none.
    #[error("the store has no snapshots yet")]
    NoSnapshots,
    /// Something is in the way and must not be overwritten.
    #[error("{} exists", quoted(.path))]
    Exists {
        /// What is in the way.
        path: PathBuf,
    },
    /// Something is in the way of a file to restore that not even `--force` replaces.
    #[error("{} cannot be restored: {why}", quoted(.path))]
    InTheWay {
        /// Where the file would be.
        path: PathBuf,
        /// What is in the way.
        why: String,
    },
    /// The file system accepted metadata of a restored file and did not keep it.
    #[error("{} is restored, but its file system keeps {what}", quoted(.path))]
    NotKept {
        /// The restored file.
        path: PathBuf,
        /// What was kept instead of what: `the mode 0640 as 0777`.
        what: String,
    },
    /// The request does not make sense.
    #[error("{0}")]
    Usage(String),
    /// The program broke one of its own rules.
    #[error("{0}; this is an error in the program")]
    Internal(String),
    /// An archive does not have all that its member is. Nothing in the store is damaged: the archive was added so.
    #[error("{0}")]
    NotInArchive(String),
    /// Another process has the store, or a part of it, to itself.
    #[error("{} is in use by another process", quoted(.path))]
    Locked {
        /// The file that is locked.
        path: PathBuf,
    },
    /// A lease was ended by a gc before its holder was done: nothing that the holder was making became visible.
    #[error("a gc revoked the lease {lease}; no snapshot was made")]
    Revoked {
        /// The lease.
        lease: String,
    },
    /// The index, which is a cache, is not usable; it can be rebuilt.
    #[error("the index {} cannot be used: {why}", quoted(.path))]
    Index {
        /// The index file.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// Another process removed a snapshot that was being read, and a gc freed what it needed.
    #[error("snapshot {snapshot} was removed while it was being read")]
    Removed {
        /// Its id.
        snapshot: String,
    },
    /// The user stopped the work.
    #[error("interrupted: {kept}")]
    Interrupted {
        /// What is kept of the work done so far.
        kept: String,
    },
    /// An entry would leave the destination of a restore, or breaks a rule that all entries keep.
    #[error("refusing {}: {why}", quoted(.path))]
    Refused {
        /// The path in question.
        path: PathBuf,
        /// Why it is refused.
        why: String,
    },
}

impl Error {
    /// An I/O error with the file it happened on.
    pub(crate) fn io(action: &'static str, path: impl AsRef<Path>, source: impl Into<io::Error>) -> Self {
        Self::Io { action, path: path.as_ref().to_owned(), source: source.into() }
    }

    /// Damage at a byte of a stored object.
    pub(crate) fn damaged(file: impl Into<String>, offset: u64, what: impl Into<String>) -> Self {
        Self::Damaged { file: file.into(), offset: Some(offset), what: what.into() }
    }

    /// Damage that has no place: an object as a whole, or something that no object has.
    pub(crate) fn damaged_whole(file: impl Into<String>, what: impl Into<String>) -> Self {
        Self::Damaged { file: file.into(), offset: None, what: what.into() }
    }

    /// Something that is not there, with no near names.
    pub(crate) fn not_found(what: impl Into<String>) -> Self {
        Self::NotFound { what: what.into(), near: Vec::new() }
    }

    /// Whether a disk has no room left: no bytes, no files, or no more of either for this user.
    #[must_use]
    pub(crate) fn is_out_of_space(&self) -> bool {
        use io::ErrorKind::{QuotaExceeded, StorageFull};
        matches!(self, Self::Io { source, .. } if matches!(source.kind(), StorageFull | QuotaExceeded))
    }

    /// What the user can do about it, in one line, where there is something to do.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Damaged { file, .. } if file == "store.json" => Some(
                "`store repair` corrects a single changed byte; otherwise put a copy of the file back, or the store.json of a \
                 new store with the same settings"
                    .into(),
            ),
            Self::Damaged { .. } => Some(
                "what does not depend on it can still be restored; `store verify` names what is lost, `store repair` \
                 saves what can be saved, and `store add --reread` of the original files then replaces the rest"
                    .into(),
            ),
            Self::BundleDamaged { .. } => {
                Some("use an undamaged copy of it, or export it again from the store that it came from".into())
            }
            Self::NoSnapshots => Some("add files with `store add PATH`".into()),
            Self::Internal(_) => Some("please report it, with the command and the whole output".into()),
            Self::ReadOnly { path } => {
                let path = quoted(path);
                Some(format!(
                    "make a store of it with `store --store NEW bundle import {path}`, change that store, and append to \
                     the bundle with `store --store NEW bundle export {path}`"
                ))
            }
            Self::NotAStore { .. } => {
                Some("name a store with --store PATH or STORE_PATH, or make one with `store init`".into())
            }
            Self::FormatVersion { .. } => Some("use a version of this program that reads this format".into()),
            Self::NotInArchive(_) => Some("the archive itself comes back as it was added: get it by its own path".into()),
            Self::NotFound { near, .. } if !near.is_empty() => Some(format!("did you mean {}?", near.join(", "))),
            Self::Exists { .. } => Some("choose another place; `get` replaces what exists with --force".into()),
            Self::Locked { .. } => Some("wait for the other process to finish, then try again".into()),
            Self::Revoked { .. } => Some("run the same command again".into()),
            Self::Index { .. } => Some("run `store repair --index` to rebuild it from the packs".into()),
            Self::Io { action: "lock", source, .. } if source.kind() == io::ErrorKind::Unsupported => Some(
                "this file system has no locks, without which gc cannot see whether an add is at work; copy the store to one                  that has, and run gc there"
                    .into(),
            ),
            Self::Io { source, .. } => match source.kind() {
                io::ErrorKind::StorageFull => Some("free some space and run the same command again".into()),
                io::ErrorKind::QuotaExceeded => {
                    Some("free some space, or ask for a larger quota, and run the same command again".into())
                }
                io::ErrorKind::ReadOnlyFilesystem => Some("mount it so that it can be written, or choose another place".into()),
                io::ErrorKind::PermissionDenied => {
                    Some("check the permissions of that path, or run as its owner".into())
                }
                _ => None,
            },
            _ => None,
        }
    }
}

/// The place of damage, for messages.
fn at_byte(offset: &Option<u64>) -> String {
    offset.map_or_else(String::new, |offset| format!(" at byte {offset}"))
}

/// Clones an I/O error ([`io::Error`] is not `Clone`).
pub(crate) fn same_error(error: &io::Error) -> io::Error {
    let code = error.raw_os_error();
    code.map_or_else(|| io::Error::new(error.kind(), error.to_string()), io::Error::from_raw_os_error)
}

/// The error and all that lies under it, on one line.
#[must_use]
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut line = error.to_string();
    let mut next = error.source();
    while let Some(source) = next {
        line.push_str(": ");
        line.push_str(&source.to_string());
        next = source.source();
    }
    line
}
