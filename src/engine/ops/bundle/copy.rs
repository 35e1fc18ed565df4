//! How does an object go from one storage to another, so that no damage goes with it?
//!
//! Invariant: a caller that gets all bytes and no error has an object whose bytes are those that its name stands for. Of a
//! pack, every frame is checked before it is given; of a recipes file or a snapshot, the last bytes tell.

use crate::engine::store::control::Control;
use crate::error::{Error, Result};
use crate::format::config::StoreConfig;
use crate::format::directory::{Directory, FrameEntry};
use crate::format::frame::FrameView;
use crate::format::id::{CatalogHasher, PackId};
use crate::format::name::ObjectName;
use crate::format::pack::{Trailer, header};
use crate::pack::reader::{check_pack_header, read_directory, read_frame};
use crate::storage::Storage;

/// How much of a catalog file is read at once.
const PART_BYTES: u64 = 1 << 20;

/// Takes the bytes of an object, part by part.
pub(super) type Take<'a> = &'a mut dyn FnMut(&[u8]) -> Result<()>;

/// Gives all bytes of an object that is in `storage`, `bytes` of them.
///
/// # Errors
/// [`Error::Damaged`] if they are not those that its name stands for: what was given is worth nothing then.
pub(super) fn copy_object(
    storage: &dyn Storage,
    name: ObjectName,
    bytes: u64,
    control: &Control,
    take: Take<'_>,
) -> Result<()> {
    match name {
        ObjectName::Config => take(&read_config(storage)?),
        ObjectName::Pack(id) => copy_pack(storage, id, &read_directory(storage, id)?, control, take),
        ObjectName::Recipes(id) => copy_hashed(storage, name, bytes, CatalogHasher::recipes(), id.0, control, take),
        ObjectName::Snapshot(id) => copy_hashed(storage, name, bytes, CatalogHasher::snapshot(), id.0, control, take),
        ObjectName::PendingDeletes(_) => Ok(()),
    }
}

/// The bytes of a configuration that is one.
pub(super) fn read_config(storage: &dyn Storage) -> Result<Vec<u8>> {
    let bytes = storage.size(&ObjectName::Config)?.min(StoreConfig::BYTES_MAX);
    let mut config = vec![0; bytes as usize];
    storage.read_at(&ObjectName::Config, 0, &mut config)?;
    StoreConfig::parse(&config)?;
    Ok(config)
}

/// Gives a pack that has this directory.
pub(super) fn copy_pack(
    storage: &dyn Storage,
    pack: PackId,
    directory: &Directory,
    control: &Control,
    take: Take<'_>,
) -> Result<()> {
    check_pack_header(storage, &pack)?;
    take(&header())?;
    let mut stored = Vec::new();
    for frame in &directory.frames {
        check_stopped(control)?;
        read_checked(storage, pack, frame, &mut stored)?;
        take(&stored)?;
    }
    // The name is the hash of these bytes, and the trailer has been read with them.
    let encoded = directory.encode();
    take(&encoded)?;
    let trailer = Trailer { directory_offset: directory.frames_end(), directory_bytes: encoded.len() as u64, pack };
    take(&trailer.encode())
}

/// Reads all frames of a pack, and calls `damaged` with each that is not as it was written.
///
/// # Errors
/// That of `damaged`; the storage's.
pub(super) fn check_pack(
    storage: &dyn Storage,
    pack: PackId,
    directory: &Directory,
    control: &Control,
    damaged: &mut dyn FnMut(&FrameEntry, Error) -> Result<()>,
) -> Result<()> {
    let mut stored = Vec::new();
    for frame in &directory.frames {
        check_stopped(control)?;
        match read_checked(storage, pack, frame, &mut stored) {
            Err(error @ Error::Damaged { .. }) => damaged(frame, error)?,
            read => read?,
        }
    }
    Ok(())
}

fn read_checked(storage: &dyn Storage, pack: PackId, frame: &FrameEntry, stored: &mut Vec<u8>) -> Result<()> {
    read_frame(storage, &pack, frame, stored)?;
    let checked = FrameView::parse(stored).and_then(|view| view.check());
    checked.map_err(|flaw| flaw.in_object(&ObjectName::Pack(pack), frame.offset))
}

fn copy_hashed(
    storage: &dyn Storage,
    name: ObjectName,
    bytes: u64,
    mut hasher: CatalogHasher,
    expected: [u8; 32],
    control: &Control,
    take: Take<'_>,
) -> Result<()> {
    let mut buffer = vec![0; bytes.min(PART_BYTES) as usize];
    let mut at = 0;
    while at < bytes {
        check_stopped(control)?;
        let part = buffer.get_mut(..(bytes - at).min(PART_BYTES) as usize).unwrap_or_default();
        storage.read_at(&name, at, part)?;
        hasher.update(part);
        take(part)?;
        at += part.len() as u64;
    }
    let found = hasher.finish();
    if found == expected {
        return Ok(());
    }
    let found = crate::format::id::ChunkId(found);
    Err(Error::damaged_whole(name.path(), format!("the file is named after the hash of its bytes, which is {found}")))
}

/// Fails if the operation was stopped. The caller says what is kept.
pub(super) fn check_stopped(control: &Control) -> Result<()> {
    if control.is_stopped() { Err(Error::Interrupted { kept: String::new() }) } else { Ok(()) }
}
