//! What a snapshot says of one path: the record that ingest makes, the catalog keeps and restore follows.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use super::archive_form::ArchiveForm;
use super::id::{ChunkId, RecipeId};
use super::label::Labels;
use crate::spelling::{NameBytes, quoted};

/// No entry's path is longer, in bytes: four times what Linux takes at once. What is made for a path is made for each of
/// its ancestors, so a path that were as long as memory would take the square of that.
pub const PATH_BYTES_MAX: usize = 16 << 10;

/// A path in a snapshot: bytes, relative, parts joined by single `/`, no `.` or `..` part, no NUL.
/// The empty path is the root itself (`store add .`).
///
/// Paths are ordered part by part, that is by bytes with `/` before every other byte: a directory is followed at once
/// by all that is in it. This is the order of a depth-first walk, and the order of the rows of a snapshot.
///
/// ```
/// use seamstore::entry::{EntryPath, NotAnEntryPath};
/// let path = EntryPath::new("notes/first.txt")?;
/// assert!(path.is_within(&EntryPath::new("notes")?));
/// assert_eq!(EntryPath::new("../outside"), Err(NotAnEntryPath));
/// # Ok::<(), NotAnEntryPath>(())
/// ```
#[derive(PartialEq, Eq, Hash, Default)]
pub struct EntryPath(Vec<u8>);

impl Clone for EntryPath {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }

    /// Uses the memory that is there.
    fn clone_from(&mut self, source: &Self) {
        self.0.clone_from(&source.0);
    }
}

impl Ord for EntryPath {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        // NUL is in no path, so it is free to stand for the separator.
        let key = |b: &u8| if *b == b'/' { 0 } else { *b };
        // Neighbours in a tree share most of their paths.
        let (words, _) = self.0.as_chunks::<8>();
        let (other_words, _) = other.0.as_chunks::<8>();
        let shared = 8 * words.iter().zip(other_words).take_while(|(word, other)| word == other).count();
        let rest = |bytes| <[u8]>::get(bytes, shared..).unwrap_or_default().iter().map(key);
        rest(&self.0).cmp(rest(&other.0))
    }
}

impl PartialOrd for EntryPath {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

/// Why some bytes are no [`EntryPath`].
///
/// ```
/// use seamstore::entry::{EntryPath, NotAnEntryPath};
/// let path = EntryPath::new("notes/first.txt")?;
/// assert!(path.is_within(&EntryPath::new("notes")?));
/// assert_eq!(EntryPath::new("../outside"), Err(NotAnEntryPath));
/// # Ok::<(), NotAnEntryPath>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a path in a snapshot is relative, without empty, `.` or `..` parts and without NUL")]
pub struct NotAnEntryPath;

impl NameBytes for EntryPath {
    fn name_bytes(&self) -> &[u8] {
        self.as_bytes()
    }
}

impl EntryPath {
    /// Takes bytes that already have the form of an entry path.
    ///
    /// # Errors
    /// [`NotAnEntryPath`] if they have not: nothing is normalised here, so what a hostile snapshot says is refused.
    pub fn new(bytes: impl Into<Vec<u8>>) -> Result<Self, NotAnEntryPath> {
        let bytes = bytes.into();
        let part_ok = |part: &[u8]| !part.is_empty() && part != b"." && part != b"..";
        if bytes.contains(&0) || !(bytes.is_empty() || bytes.split(|b| *b == b'/').all(part_ok)) {
            return Err(NotAnEntryPath);
        }
        Ok(Self(bytes))
    }

    /// The path under which something given on a command line is stored: leading `/`, `.` and `..` parts go away.
    ///
    /// `/etc/hosts` is stored as `etc/hosts`, `../a/./b` as `a/b`, `.` as the root. Inner `..` parts take their parent.
    #[must_use]
    pub fn from_given(given: &Path) -> Self {
        let mut parts: Vec<&OsStr> = Vec::new();
        for component in given.components() {
            match component {
                std::path::Component::Normal(part) => parts.push(part),
                std::path::Component::ParentDir => {
                    parts.pop();
                }
                _ => {}
            }
        }
        let mut bytes = Vec::new();
        for part in parts {
            if !bytes.is_empty() {
                bytes.push(b'/');
            }
            bytes.extend_from_slice(part.as_bytes());
        }
        Self(bytes)
    }

    /// This path with one more part.
    ///
    /// # Errors
    /// [`NotAnEntryPath`] if `name` is not a single part.
    pub fn join(&self, name: &[u8]) -> Result<Self, NotAnEntryPath> {
        if name.is_empty() || name == b"." || name == b".." || name.contains(&b'/') || name.contains(&0) {
            return Err(NotAnEntryPath);
        }
        let mut bytes = Vec::with_capacity(self.0.len() + 1 + name.len());
        bytes.extend_from_slice(&self.0);
        if !bytes.is_empty() {
            bytes.push(b'/');
        }
        bytes.extend_from_slice(name);
        Ok(Self(bytes))
    }

    /// The bytes.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// The path in the system's terms, relative.
    #[must_use]
    pub fn as_path(&self) -> &Path {
        Path::new(OsStr::from_bytes(&self.0))
    }

    /// Whether this is the root.
    #[must_use]
    pub fn is_root(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether `self` is `ancestor` or lies below it.
    #[must_use]
    pub fn is_within(&self, ancestor: &Self) -> bool {
        self.below(ancestor).is_some()
    }

    /// What is left of this path below `ancestor`: empty for `ancestor` itself, `None` if it lies elsewhere.
    #[must_use]
    pub fn below(&self, ancestor: &Self) -> Option<Self> {
        if ancestor.is_root() {
            return Some(self.clone());
        }
        match self.0.strip_prefix(ancestor.as_bytes())? {
            [] => Some(Self::default()),
            [b'/', rest @ ..] => Some(Self(rest.to_vec())),
            _ => None,
        }
    }

    /// The path at which `path` is, if it is counted from this one.
    #[must_use]
    pub fn below_this(&self, path: &Self) -> Self {
        match (self.is_root(), path.is_root()) {
            (true, _) => path.clone(),
            (_, true) => self.clone(),
            _ => Self([self.as_bytes(), b"/", path.as_bytes()].concat()),
        }
    }

    /// The parent, `None` for the root.
    #[must_use]
    pub fn parent(&self) -> Option<Self> {
        if self.is_root() {
            return None;
        }
        let cut = self.0.iter().rposition(|b| *b == b'/').unwrap_or(0);
        Some(Self(self.0.get(..cut).unwrap_or_default().to_vec()))
    }

    /// The last part; empty for the root.
    #[must_use]
    pub fn name(&self) -> &[u8] {
        self.0.rsplit(|b| *b == b'/').next().unwrap_or_default()
    }
}

/// As it is spelled, in double quotes: the spelling that listings use.
impl std::fmt::Debug for EntryPath {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", quoted(self))
    }
}

/// What kind of thing an entry is.
///
/// ```
/// # use seamstore::{Control, Store, entry::*, report::*, request::*};
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let store = Store::in_memory(Settings::default())?;
/// # let writer = store.writer(WriterOptions::default().threads(1))?;
/// # writer.add_bytes(writer.entry("notes/first.txt", EntryKind::File)?, b"found again".to_vec())?;
/// # let added = writer.finish()?;
/// # let control = Control::default();
/// let snapshot = store.snapshot(&Selector::Latest)?;
/// let folder = snapshot.find(&EntryPath::new("notes")?)?.expect("it leads to a file");
/// assert_eq!(folder.kind, EntryKind::Directory);
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum EntryKind {
    /// A regular file.
    File = 0,
    /// A directory.
    Directory = 1,
    /// A symbolic link.
    Symlink = 2,
    /// A named pipe.
    Fifo = 3,
    /// A character device.
    CharDevice = 4,
    /// A block device.
    BlockDevice = 5,
    /// A Unix socket; kept as an entry, restored as one.
    Socket = 6,
}

/// Where a file's bytes are.
///
/// ```
/// # use seamstore::{Control, Store, entry::*, report::*, request::*};
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let store = Store::in_memory(Settings::default())?;
/// # let writer = store.writer(WriterOptions::default().threads(1))?;
/// # writer.add_bytes(writer.entry("notes/first.txt", EntryKind::File)?, b"found again".to_vec())?;
/// # let added = writer.finish()?;
/// # let control = Control::default();
/// let entry = store.snapshot(&Selector::Latest)?.find(&EntryPath::new("notes/first.txt")?)?.expect("it was added");
/// assert_eq!(entry.content, Content::Chunk(ChunkId::of(b"found again")));
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Content {
    /// No bytes: an empty file, or not a file.
    Empty,
    /// The file is this one chunk; it needs no recipe.
    Chunk(ChunkId),
    /// The file is listed in this recipe.
    Recipe(RecipeId),
    /// The file is an archive, put together from what is listed in this recipe.
    Archive(RecipeId, ArchiveForm),
}

/// One extended attribute.
///
/// ```
/// # use seamstore::{Control, Store, entry::*, report::*, request::*};
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let store = Store::in_memory(Settings::default())?;
/// # let writer = store.writer(WriterOptions::default().threads(1))?;
/// # writer.add_bytes(writer.entry("notes/first.txt", EntryKind::File)?, b"found again".to_vec())?;
/// # let added = writer.finish()?;
/// # let control = Control::default();
/// let writer = store.writer(WriterOptions::default())?;
/// let mut entry = writer.entry("notes/second.txt", EntryKind::File)?;
/// entry.mode = 0o600;
/// entry.xattrs = vec![Xattr { name: b"user.source".to_vec(), value: b"the example".to_vec() }];
/// writer.add_bytes(entry, b"more".to_vec())?;
/// writer.finish()?;
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Xattr {
    /// Its full name, namespace included: `user.comment`.
    pub name: Vec<u8>,
    /// Its value.
    pub value: Vec<u8>,
}

/// Which file on which device an entry was, and when its inode last changed: how an unchanged file is known, and how
/// hard links are found. All zero where unknown (standard input).
///
/// ```
/// # use seamstore::{Control, Store, entry::*, report::*, request::*};
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let store = Store::in_memory(Settings::default())?;
/// # let writer = store.writer(WriterOptions::default().threads(1))?;
/// # writer.add_bytes(writer.entry("notes/first.txt", EntryKind::File)?, b"found again".to_vec())?;
/// # let added = writer.finish()?;
/// # let control = Control::default();
/// let entry = store.snapshot(&Selector::Latest)?.find(&EntryPath::new("notes/first.txt")?)?.expect("it was added");
/// // What a program gave is on no disk.
/// assert_eq!(entry.identity, Identity::default());
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[non_exhaustive]
pub struct Identity {
    /// The device number of the file system.
    pub device: u64,
    /// The inode number there.
    pub inode: u64,
    /// The number of hard links.
    pub links: u64,
    /// Inode change time, nanoseconds since 1970 UTC, saturated at the ends of `i64`.
    pub ctime_ns: i64,
}

impl AsRef<Entry> for Entry {
    fn as_ref(&self) -> &Self {
        self
    }
}

/// One row of a snapshot.
///
/// ```
/// # use seamstore::{Control, Store, entry::*, report::*, request::*};
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let store = Store::in_memory(Settings::default())?;
/// # let writer = store.writer(WriterOptions::default().threads(1))?;
/// # writer.add_bytes(writer.entry("notes/first.txt", EntryKind::File)?, b"found again".to_vec())?;
/// # let added = writer.finish()?;
/// # let control = Control::default();
/// let writer = store.writer(WriterOptions::default())?;
/// let mut entry = writer.entry("notes/second.txt", EntryKind::File)?;
/// entry.mode = 0o600;
/// entry.xattrs = vec![Xattr { name: b"user.source".to_vec(), value: b"the example".to_vec() }];
/// writer.add_bytes(entry, b"more".to_vec())?;
/// writer.finish()?;
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Entry {
    /// Where it is in the snapshot.
    pub path: EntryPath,
    /// What it is.
    pub kind: EntryKind,
    /// Permission bits with set-id and sticky bits (`0o7777` at most; no file type).
    pub mode: u32,
    /// Numeric owner.
    pub uid: u32,
    /// Numeric group.
    pub gid: u32,
    /// The owner's name, where the system knew it.
    pub user: Option<std::sync::Arc<str>>,
    /// The group's name, where the system knew it.
    pub group: Option<std::sync::Arc<str>>,
    /// Modification time, nanoseconds since 1970 UTC, saturated at the ends of `i64`.
    pub mtime_ns: i64,
    /// Bytes in the file; 0 for anything else.
    pub size: u64,
    /// Where the bytes are.
    pub content: Content,
    /// What a symbolic link points at; empty for anything else.
    pub link_target: Vec<u8>,
    /// Device number (`st_rdev`) of a device; 0 for anything else.
    pub rdev: u64,
    /// Identity on the system it was read from.
    pub identity: Identity,
    /// Extended attributes, ascending by name.
    pub xattrs: Vec<Xattr>,
    /// What the add that made the snapshot says of it. Nothing of a restored file tells of these.
    pub labels: Labels,
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_ordered_part_by_part_however_much_they_share() {
        let tails = [
            "",
            "a",
            "a/b",
            "a.b",
            "a b",
            "b",
            "a/b/c",
            "ab",
            "\u{1}",
            "a\u{1}",
            "12345678",
            "12345678/9",
            "1234567/8",
        ];
        let fronts = ["", "1234567", "12345678", "123456789", "12345678/", "1234567/"];
        let texts = fronts.iter().flat_map(|front| tails.iter().map(move |tail| format!("{front}{tail}")));
        let paths: Vec<EntryPath> = texts.filter_map(|text| EntryPath::new(text).ok()).collect();
        assert!(paths.len() > 50);
        for a in &paths {
            for b in &paths {
                let parts = |path: &EntryPath| path.0.split(|b| *b == b'/').map(<[u8]>::to_vec).collect::<Vec<_>>();
                let by_parts = match (a.is_root(), b.is_root()) {
                    (false, false) => parts(a).cmp(&parts(b)),
                    (is_root, other) => other.cmp(&is_root),
                };
                assert_eq!(a.cmp(b), by_parts, "{a:?} {b:?}");
            }
        }
    }
}
