//! Which bytes are meant: 256-bit BLAKE3 ids, one type for each kind of thing, so that they cannot be swapped.
//!
//! Each kind but the chunk is hashed under a key derived from its own context string, so that no object of one kind can
//! pass for another.

use std::fmt;
use std::str::FromStr;

macro_rules! id_type {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub [u8; 32]);

        impl $name {
            /// The id as 64 lower-case hexadecimal digits.
            #[must_use]
            pub fn to_hex(self) -> String {
                blake3::Hash::from_bytes(self.0).to_hex().to_string()
            }

            /// The id's 32 bytes.
            #[must_use]
            pub fn as_bytes(&self) -> &[u8; 32] {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.to_hex())
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.to_hex()[..12])
            }
        }

        impl FromStr for $name {
            type Err = NotAnId;

            fn from_str(hex: &str) -> Result<Self, NotAnId> {
                let hash = blake3::Hash::from_hex(hex).map_err(|_| NotAnId)?;
                // One spelling only: an id is also a file name.
                if hash.to_hex().as_str() == hex { Ok(Self(*hash.as_bytes())) } else { Err(NotAnId) }
            }
        }
    };
}

/// The text is not 64 lower-case hexadecimal digits.
///
/// ```
/// use seamstore::entry::{ChunkId, NotAnId};
/// assert_eq!("12ab".parse::<ChunkId>(), Err(NotAnId));
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not an id: 64 lower-case hexadecimal digits expected")]
pub struct NotAnId;

id_type! {
    /// A chunk: the BLAKE3-256 of its bytes.
///
/// ```
/// use seamstore::entry::ChunkId;
/// let id = ChunkId::of(b"a chunk");
/// assert_eq!(id.to_hex().parse(), Ok(id));
/// ```
    ChunkId
}
id_type! {
    /// A pack: derived from its directory, which names its chunks and their places.
///
/// ```
/// use seamstore::entry::PackId;
/// let id: PackId = "00ff".repeat(16).parse()?;
/// assert_eq!(id.to_hex(), "00ff".repeat(16));
/// # Ok::<(), seamstore::entry::NotAnId>(())
/// ```
    PackId
}
id_type! {
    /// A file's content: derived from its list of (chunk id, length).
///
/// ```
/// use seamstore::entry::RecipeId;
/// let id: RecipeId = "00ff".repeat(16).parse()?;
/// assert_eq!(id.to_hex(), "00ff".repeat(16));
/// # Ok::<(), seamstore::entry::NotAnId>(())
/// ```
    RecipeId
}
id_type! {
    /// A catalog file of recipes: derived from all its bytes.
///
/// ```
/// use seamstore::entry::RecipesFileId;
/// let id: RecipesFileId = "00ff".repeat(16).parse()?;
/// assert_eq!(id.to_hex(), "00ff".repeat(16));
/// # Ok::<(), seamstore::entry::NotAnId>(())
/// ```
    RecipesFileId
}
id_type! {
    /// A snapshot: derived from all bytes of its catalog file.
///
/// ```
/// use seamstore::entry::SnapshotId;
/// let id: SnapshotId = "00ff".repeat(16).parse()?;
/// assert_eq!(id.to_hex(), "00ff".repeat(16));
/// # Ok::<(), seamstore::entry::NotAnId>(())
/// ```
    SnapshotId
}

id_type! {
    /// A record of what gc is about to delete: derived from all its bytes.
    PendingDeletesId
}

impl ChunkId {
    /// Stands for a hole in a sparse file, wherever a chunk id can stand. No chunk has it.
    pub const HOLE: Self = Self([0; 32]);

    /// The id of a chunk with these bytes.
    #[must_use]
    pub fn of(bytes: &[u8]) -> Self {
        Self(*blake3::hash(bytes).as_bytes())
    }
}

fn derived(context: &str, bytes: &[u8]) -> [u8; 32] {
    *blake3::Hasher::new_derive_key(context).update(bytes).finalize().as_bytes()
}

impl PackId {
    /// The id of the pack whose directory has these bytes.
    #[must_use]
    pub fn of_directory(bytes: &[u8]) -> Self {
        Self(derived("seamstore v1 pack directory", bytes))
    }
}

impl RecipesFileId {
    /// The id of the recipes file with these bytes.
    #[must_use]
    pub fn of(bytes: &[u8]) -> Self {
        Self(CatalogHasher::recipes().update(bytes).finish())
    }
}

impl SnapshotId {
    /// The id of the snapshot file with these bytes.
    #[must_use]
    pub fn of(bytes: &[u8]) -> Self {
        Self(CatalogHasher::snapshot().update(bytes).finish())
    }
}

impl PendingDeletesId {
    /// The id of the record with these bytes.
    #[must_use]
    pub fn of(bytes: &[u8]) -> Self {
        Self(derived("seamstore v1 condemned record", bytes))
    }
}

/// The plain BLAKE3 of bytes that come one after the other: what any other program makes of them, too.
#[derive(Debug, Default)]
pub struct ByteHasher(blake3::Hasher);

impl ByteHasher {
    /// Takes the next bytes.
    pub fn update(&mut self, bytes: &[u8]) -> &mut Self {
        self.0.update(bytes);
        self
    }

    /// The hash of all that was taken.
    #[must_use]
    pub fn finish(&self) -> [u8; 32] {
        *self.0.finalize().as_bytes()
    }
}

/// Hashes a catalog file while it is written front to back.
#[derive(Debug)]
pub struct CatalogHasher(blake3::Hasher);

impl CatalogHasher {
    /// For a recipes file.
    #[must_use]
    pub fn recipes() -> Self {
        Self(blake3::Hasher::new_derive_key("seamstore v1 recipes file"))
    }

    /// For a snapshot file.
    #[must_use]
    pub fn snapshot() -> Self {
        Self(blake3::Hasher::new_derive_key("seamstore v1 snapshot file"))
    }

    /// Takes the next bytes of the file.
    pub fn update(&mut self, bytes: &[u8]) -> &mut Self {
        self.0.update(bytes);
        self
    }

    /// The 32 bytes of the id.
    #[must_use]
    pub fn finish(&self) -> [u8; 32] {
        *self.0.finalize().as_bytes()
    }
}

/// Hashes a recipe: its (chunk id, length) list, in file order.
///
/// Pieces are gathered before they are hashed: BLAKE3 hashes 16 KiB at once several times as fast as 40 bytes at a time.
#[derive(Debug)]
pub struct RecipeHasher {
    hasher: blake3::Hasher,
    gathered: Vec<u8>,
}

/// Bytes that are hashed at once.
const GATHERED_BYTES: usize = 16 << 10;

impl Default for RecipeHasher {
    fn default() -> Self {
        Self { hasher: blake3::Hasher::new_derive_key("seamstore v1 recipe"), gathered: Vec::new() }
    }
}

impl RecipeHasher {
    /// Takes the next chunk (or hole) and its length in bytes.
    pub fn push(&mut self, id: &ChunkId, length: u64) {
        self.gathered.extend_from_slice(&id.0);
        self.gathered.extend_from_slice(&length.to_le_bytes());
        if self.gathered.len() >= GATHERED_BYTES {
            self.hasher.update(&self.gathered);
            self.gathered.clear();
        }
    }

    /// The recipe's id.
    #[must_use]
    pub fn finish(mut self) -> RecipeId {
        RecipeId(*self.hasher.update(&self.gathered).finalize().as_bytes())
    }
}

/// Hashes a content as it comes: the BLAKE3 of its bytes. That of a content of one chunk is the chunk's id.
#[derive(Debug, Clone, Default)]
pub struct ContentHasher(blake3::Hasher);

impl ContentHasher {
    /// Takes the next bytes.
    pub fn update(&mut self, bytes: &[u8]) -> &mut Self {
        self.0.update(bytes);
        self
    }

    /// The 32 bytes of the hash.
    #[must_use]
    pub fn finish(&self) -> [u8; 32] {
        *self.0.finalize().as_bytes()
    }
}

/// The first 16 bytes of the BLAKE3 of some bytes: what frames carry to notice damage. Trust comes from chunk ids.
#[must_use]
pub fn checksum(parts: &[&[u8]]) -> [u8; 16] {
    let mut hasher = blake3::Hasher::new();
    for part in parts {
        hasher.update(part);
    }
    let mut out = [0; 16];
    hasher.finalize_xof().fill(&mut out);
    out
}
