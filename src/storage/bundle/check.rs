//! Is every byte of a bundle what it should be, or at least known to be none of an object?
//!
//! Header, heads, objects, zeros between them, indexes and footers of all generations lie one behind the other without a
//! gap. So a byte is in an object, and the object's name says whether it is right; or it is checked here.

use super::find::{FoundRecord, Walk, read_index};
use super::{BundleFlaw, BundleStorage};
use crate::error::Result;
use crate::format::bundle::{BUNDLE_HEADER_BYTES, HEAD_BYTES, ObjectPlace, aligned};
use crate::format::id::ByteHasher;
use crate::storage::Storage;

/// How much of an object is hashed at once.
const PART_BYTES: usize = 1 << 20;

impl BundleStorage {
    /// What is not as it was written, of all but the bytes of objects; and, if `with_objects`, objects whose hash is not the
    /// one in the index.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn check(&self, with_objects: bool) -> Result<Vec<BundleFlaw>> {
        let (file, found) = (&self.inner.file, self.found());
        let mut flaws = found.flaws.clone();
        let mut places: Vec<&ObjectPlace> = self.places().collect();
        places.sort_by_key(|place| place.offset);
        let mut walk = Walk { file, bundle: found.bundle, at: BUNDLE_HEADER_BYTES };
        for place in places {
            self.check_between(&mut walk, place.offset - HEAD_BYTES, &mut flaws)?;
            match walk.step()? {
                Some(Ok(FoundRecord::Object(ObjectPlace { name, offset, bytes, .. })))
                    if (name, offset, bytes) == (place.name, place.offset, place.bytes) => {}
                Some(Err(flaw)) => flaws.push(flaw.into()),
                _ => flaws.push(BundleFlaw {
                    offset: place.offset - HEAD_BYTES,
                    what: format!("expected the head of {}, found another one", place.name),
                }),
            }
            self.check_zeros(place.offset + place.bytes, &mut flaws)?;
            walk.at = place.end();
            if with_objects {
                flaws.extend(self.check_hash(place)?);
            }
        }
        self.check_between(&mut walk, found.end, &mut flaws)?;
        flaws.sort_by_key(|flaw| flaw.offset);
        flaws.dedup_by_key(|flaw| flaw.offset);
        Ok(flaws)
    }

    /// Looks at the indexes and footers between two objects, or behind the last.
    fn check_between(&self, walk: &mut Walk<'_>, end: u64, flaws: &mut Vec<BundleFlaw>) -> Result<()> {
        while walk.at < end {
            let at = walk.at;
            match walk.step()? {
                Some(Ok(FoundRecord::Index { offset, bytes, hash })) => {
                    if read_index(walk.file, offset, bytes, hash)?.is_none() {
                        let what = "expected an index with the hash that its head says, found other bytes".to_owned();
                        flaws.push(BundleFlaw { offset, what });
                    }
                    self.check_zeros(offset + bytes, flaws)?;
                }
                Some(Ok(FoundRecord::Footer(_))) => {}
                Some(Ok(FoundRecord::Object(place))) => {
                    let what = format!("expected an index or a footer, found {}, which the index lacks", place.name);
                    flaws.push(BundleFlaw { offset: at, what });
                }
                Some(Err(flaw)) => {
                    flaws.push(flaw.into());
                    break;
                }
                None => break,
            }
        }
        walk.at = end;
        Ok(())
    }

    fn check_zeros(&self, from: u64, flaws: &mut Vec<BundleFlaw>) -> Result<()> {
        let bytes = self.inner.file.read(from, aligned(from).unwrap_or(from) - from)?;
        if let Some(at) = bytes.iter().position(|byte| *byte != 0) {
            let what = format!("expected zeros behind a record, found {:#04x}", bytes.get(at).copied().unwrap_or(0));
            flaws.push(BundleFlaw { offset: from + at as u64, what });
        }
        Ok(())
    }

    fn check_hash(&self, place: &ObjectPlace) -> Result<Option<BundleFlaw>> {
        let Some(expected) = place.hash else { return Ok(None) };
        let mut hasher = ByteHasher::default();
        let mut buffer = vec![0; PART_BYTES];
        let mut at = 0;
        while at < place.bytes {
            let part = usize::try_from(place.bytes - at).unwrap_or(PART_BYTES).min(PART_BYTES);
            let part = buffer.get_mut(..part).unwrap_or_default();
            self.read_at(&place.name, at, part)?;
            hasher.update(part);
            at += part.len() as u64;
        }
        let what = || format!("expected the bytes of {} to have the hash in the index, found others", place.name);
        Ok((hasher.finish() != expected).then(|| BundleFlaw { offset: place.offset, what: what() }))
    }
}
