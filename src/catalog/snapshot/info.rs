//! What is known of a snapshot as a whole: JSON in the file's metadata, under `seamstore:info`.

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::error::{Error, Result};
use crate::format::id::{SnapshotId, checksum};

/// What a snapshot says of itself. As JSON, its fields have the names they have here.
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
/// let (info, counts) = (snapshot.info(), snapshot.info().counts);
/// assert_eq!((counts.files, counts.directories, counts.logical_bytes), (1, 1, 11));
/// assert!(info.tags.is_empty() && info.program.starts_with("seamstore "));
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[non_exhaustive]
pub struct SnapshotInfo {
    /// When the add began: nanoseconds since 1970 UTC.
    pub time_ns: i64,
    /// How long it took, in milliseconds.
    pub took_ms: u64,
    /// The host it ran on.
    pub host: String,
    /// Who wrote it: `seamstore 0.1.0`.
    pub program: String,
    /// The snapshot that unchanged files were recognised by.
    #[serde(with = "id_as_hex")]
    pub parent: Option<SnapshotId>,
    /// What the user calls it.
    pub tags: Vec<String>,
    /// The paths that were added, as they were given.
    pub roots: Vec<Root>,
    /// Files that could not be read, or changed while they were read, and are missing here or not as they were.
    pub skipped: u64,
    /// Bytes in chunks that this snapshot was the first to store.
    pub new_bytes: u64,
    /// What these take in packs.
    pub stored_bytes: u64,
    /// How many chunks these are.
    pub new_chunks: u64,
    /// What the rows add up to.
    pub counts: Counts,
    /// Where it stands among snapshots, if not at `time_ns`: later than every snapshot that was there, although the clock
    /// was not. Left out of the JSON where the clock was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub order_ns: Option<i64>,
    /// The keys of labels that entries may have, ascending. Left out of the JSON where there is none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub label_keys: Vec<String>,
}

/// What the rows of a snapshot add up to.
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
/// let (info, counts) = (snapshot.info(), snapshot.info().counts);
/// assert_eq!((counts.files, counts.directories, counts.logical_bytes), (1, 1, 11));
/// assert!(info.tags.is_empty() && info.program.starts_with("seamstore "));
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Counts {
    /// All entries.
    pub entries: u64,
    /// Regular files, each hard link one.
    pub files: u64,
    /// Directories.
    pub directories: u64,
    /// Everything else.
    pub others: u64,
    /// Bytes in files, each hard link counted, holes included.
    pub logical_bytes: u64,
}

/// A path as it was given: bytes. As JSON a string, or where it is not UTF-8
/// `{"lossy": "caf\ufffd", "hex": "636166e9"}`.
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
/// // A writer is not given paths on disk.
/// assert_eq!(snapshot.info().roots, [Root(b"".to_vec())][1..]);
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Default, Hash)]
pub struct Root(pub Vec<u8>);

#[derive(Serialize, Deserialize)]
#[serde(untagged)]
enum RootForm {
    Text(String),
    Bytes { lossy: String, hex: String },
}

impl Serialize for Root {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let form = match std::str::from_utf8(&self.0) {
            Ok(text) => RootForm::Text(text.to_owned()),
            Err(_) => RootForm::Bytes {
                lossy: String::from_utf8_lossy(&self.0).into_owned(),
                hex: self.0.iter().map(|b| format!("{b:02x}")).collect(),
            },
        };
        form.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Root {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match RootForm::deserialize(deserializer)? {
            RootForm::Text(text) => Ok(Self(text.into_bytes())),
            RootForm::Bytes { hex, .. } => from_hex(&hex).map(Self).ok_or_else(|| serde::de::Error::custom("not hex")),
        }
    }
}

fn from_hex(hex: &str) -> Option<Vec<u8>> {
    let digit = |b: u8| char::from(b).to_digit(16).and_then(|d| u8::try_from(d).ok());
    let pair = |pair: &[u8]| match pair {
        [high, low] => Some(digit(*high)? << 4 | digit(*low)?),
        _ => None,
    };
    hex.as_bytes().chunks(2).map(pair).collect()
}

mod id_as_hex {
    use super::{Deserialize, Deserializer, Serialize, Serializer, SnapshotId};

    pub(super) fn serialize<S: Serializer>(id: &Option<SnapshotId>, serializer: S) -> Result<S::Ok, S::Error> {
        id.map(|id| id.to_hex()).serialize(serializer)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<SnapshotId>, D::Error> {
        let hex: Option<String> = Option::deserialize(deserializer)?;
        hex.map(|hex| hex.parse().map_err(serde::de::Error::custom)).transpose()
    }
}

impl SnapshotInfo {
    pub(super) fn to_json(&self) -> Result<String> {
        serde_json::to_string(self).map_err(|e| Error::io("encode", "snapshot", e))
    }

    /// Reads the JSON of a snapshot's metadata. Fields that later versions add are passed over.
    pub(super) fn from_json(json: &str, check: &str) -> Result<Self, String> {
        if check_of(json) != check {
            return Err("the totals do not have the checksum that stands beside them".into());
        }
        serde_json::from_str(json).map_err(|e| format!("the totals are not what they should be: {e}"))
    }
}

/// The totals' own checksum: they are read from the footer alone, without hashing all rows before.
pub(super) fn check_of(json: &str) -> String {
    checksum(&[json.as_bytes()]).iter().map(|b| format!("{b:02x}")).collect()
}
