//! Where a stored object lies: the names of everything in a store, below its root.
//!
//! ```text
//! store.json
//! packs/xx/<pack id>.pack        xx: the first two digits of the id
//! recipes/<recipes file id>.arrow
//! snapshots/<snapshot id>.arrow
//! condemned/<id>.list            while gc waits to delete what it lists
//! ```
//! `index/`, `tmp/`, `leases/` and `gc.lock` are no objects: a cache, what is being written, who is adding, and who
//! collects.

use super::id::{PackId, PendingDeletesId, RecipesFileId, SnapshotId};

/// The name of an immutable object.
///
/// ```
/// use seamstore::entry::{ObjectKind, ObjectName};
/// let name = ObjectName::from_path("store.json").expect("it is the configuration");
/// assert_eq!((name, name.kind()), (ObjectName::Config, None));
/// assert_ne!(ObjectKind::Pack, ObjectKind::Recipes);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ObjectName {
    /// The store's identity and settings.
    Config,
    /// A pack.
    Pack(PackId),
    /// A catalog file of recipes.
    Recipes(RecipesFileId),
    /// A catalog file of one snapshot.
    Snapshot(SnapshotId),
    /// What gc is about to delete.
    PendingDeletes(PendingDeletesId),
}

/// A kind of object, for listing.
///
/// ```
/// use seamstore::entry::{ObjectKind, ObjectName};
/// let name = ObjectName::from_path("store.json").expect("it is the configuration");
/// assert_eq!((name, name.kind()), (ObjectName::Config, None));
/// assert_ne!(ObjectKind::Pack, ObjectKind::Recipes);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ObjectKind {
    /// Packs.
    Pack,
    /// Recipes files.
    Recipes,
    /// Snapshots.
    Snapshot,
    /// Records of what gc is about to delete.
    PendingDeletes,
}

impl ObjectName {
    /// The path below the store's root, with `/` between its parts.
    #[must_use]
    pub fn path(&self) -> String {
        match self {
            Self::Config => "store.json".to_owned(),
            Self::Pack(id) => {
                let hex = id.to_hex();
                format!("packs/{}/{hex}.pack", &hex[..2])
            }
            Self::Recipes(id) => format!("recipes/{id}.arrow"),
            Self::Snapshot(id) => format!("snapshots/{id}.arrow"),
            Self::PendingDeletes(id) => format!("condemned/{id}.list"),
        }
    }

    /// The pack, if it is one.
    #[must_use]
    pub fn pack(self) -> Option<PackId> {
        match self {
            Self::Pack(id) => Some(id),
            _ => None,
        }
    }

    /// The recipes file, if it is one.
    #[must_use]
    pub fn recipes(self) -> Option<RecipesFileId> {
        match self {
            Self::Recipes(id) => Some(id),
            _ => None,
        }
    }

    /// The snapshot, if it is one.
    #[must_use]
    pub fn snapshot(self) -> Option<SnapshotId> {
        match self {
            Self::Snapshot(id) => Some(id),
            _ => None,
        }
    }

    /// The kind of object, `None` for the one that is not listed.
    #[must_use]
    pub fn kind(&self) -> Option<ObjectKind> {
        match self {
            Self::Config => None,
            Self::Pack(_) => Some(ObjectKind::Pack),
            Self::Recipes(_) => Some(ObjectKind::Recipes),
            Self::Snapshot(_) => Some(ObjectKind::Snapshot),
            Self::PendingDeletes(_) => Some(ObjectKind::PendingDeletes),
        }
    }

    /// The object that a path below the store's root names, if it names one.
    #[must_use]
    pub fn from_path(path: &str) -> Option<Self> {
        if path == "store.json" {
            return Some(Self::Config);
        }
        let (folder, rest) = path.split_once('/')?;
        match folder {
            "packs" => {
                let (prefix, file) = rest.split_once('/')?;
                let id = file.strip_suffix(".pack")?;
                if id.get(..2)? != prefix {
                    return None;
                }
                Some(Self::Pack(id.parse().ok()?))
            }
            "recipes" => Some(Self::Recipes(rest.strip_suffix(".arrow")?.parse().ok()?)),
            "snapshots" => Some(Self::Snapshot(rest.strip_suffix(".arrow")?.parse().ok()?)),
            "condemned" => Some(Self::PendingDeletes(rest.strip_suffix(".list")?.parse().ok()?)),
            _ => None,
        }
    }
}

impl std::fmt::Display for ObjectName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.path())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_reads_back_and_strangers_do_not() {
        for name in [
            ObjectName::Config,
            ObjectName::Pack(PackId([0xab; 32])),
            ObjectName::Recipes(RecipesFileId([1; 32])),
            ObjectName::Snapshot(SnapshotId([2; 32])),
            ObjectName::PendingDeletes(PendingDeletesId([3; 32])),
        ] {
            assert_eq!(ObjectName::from_path(&name.path()), Some(name));
        }
        let hex = PackId([0xab; 32]).to_hex();
        for stranger in [
            format!("packs/cd/{hex}.pack"),
            format!("packs/ab/{}.pack", hex.to_uppercase()),
            format!("packs/ab/{hex}.pack.tmp"),
            format!("recipes/{hex}"),
            "index/0123456789abcdef.chunks".to_owned(),
            "snapshots/../store.json".to_owned(),
        ] {
            assert_eq!(ObjectName::from_path(&stranger), None, "{stranger}");
        }
    }
}
