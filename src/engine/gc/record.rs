//! What is condemned? The record that gc writes before it deletes, and every add reads once it has its lease.

use crate::engine::Store;
use crate::error::{Error, Result};
use crate::format::condemned::{CONDEMNED_BYTES_MAX, Condemned};
use crate::format::id::{ChunkId, CondemnedId};
use crate::format::name::{ObjectKind, ObjectName};
use crate::format::recipe::Piece;
use crate::storage::local::Lease;
use crate::storage::{Listed, Storage};

impl Store {
    /// Takes a lease: nothing is deleted that is not condemned by now, until the lease is dropped.
    pub(in crate::engine) fn lease(&self) -> Result<Lease> {
        self.folder()?.lease()
    }

    /// What is condemned. Whoever adds asks after it took its lease, and before it looks at what is stored.
    ///
    /// # Errors
    /// [`Error::Damaged`] for a record that is not what was written: what it condemned cannot be known.
    pub(in crate::engine) fn condemned(&self) -> Result<Condemned> {
        let mut all = Condemned::default();
        for record in self.storage().list(ObjectKind::Condemned)? {
            match read(self.storage(), &record) {
                Ok(condemned) => {
                    all.packs.extend(condemned.packs);
                    all.recipes.extend(condemned.recipes);
                }
                // Carried out since it was listed: what it condemned is deleted, or there to stay.
                Err(Error::NotFound { .. }) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(all)
    }
}

/// Reads a record that was listed.
pub(in crate::engine) fn read(storage: &dyn Storage, record: &Listed) -> Result<Condemned> {
    let name = record.name;
    if record.bytes > CONDEMNED_BYTES_MAX {
        let what = format!("expected at most {CONDEMNED_BYTES_MAX} bytes, found {}", record.bytes);
        return Err(Error::damaged(name.path(), 0, what));
    }
    let mut bytes = vec![0; record.bytes as usize];
    storage.read_at(&name, 0, &mut bytes)?;
    let found = ObjectName::Condemned(CondemnedId::of(&bytes));
    if found != name {
        let what = format!("expected bytes that hash to its name, found {found}; `store gc` removes it");
        return Err(Error::damaged(name.path(), 0, what));
    }
    Condemned::parse(&bytes).map_err(|flaw| flaw.in_object(&name, 0))
}

/// The piece of a recipe that nothing else names, for a recipes file that must not be given the name of a condemned
/// one; `None` where no recipes file is condemned. It is made from the record, which cannot list a file made from it.
pub(in crate::engine) fn filler(condemned: &Condemned) -> Option<Piece> {
    if condemned.recipes.is_empty() {
        return None;
    }
    let [a, b, c, d, e, f, ..] = CondemnedId::of(&condemned.encode()).0;
    Some(Piece { id: ChunkId::HOLE, end: u64::from_le_bytes([a, b, c, d, e, f, 1, 0]) })
}
