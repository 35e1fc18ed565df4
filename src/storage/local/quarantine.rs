//! Where does what is damaged go? Out of the way, but not away: into `quarantine/`, under a name of its own.
//!
//! Invariant: an object is durable there before it may be removed from where it was. Nothing in this program reads the
//! folder or removes it; it is the user's, to look at and to delete.

use std::io;
use std::path::PathBuf;

use super::LocalStorage;
use crate::error::{Error, Result};
use crate::format::name::ObjectName;

/// The folder below the root.
const QUARANTINE: &str = "quarantine";

/// So often can one object be damaged and healed.
const COPIES_MAX: u32 = 10_000;

impl LocalStorage {
    /// Keeps an object's file in the quarantine, too, durably; says where, below the root. It is a second name of the same
    /// file, so it takes no space and no reading, which may be what fails. Only where a file system has no hard links
    /// does the object lose its name by this.
    ///
    /// # Errors
    /// [`Error::NotFound`] if there is no such object; [`Error::Io`].
    pub fn set_aside(&self, name: &ObjectName) -> Result<PathBuf> {
        let inner = &self.inner;
        let from = inner.path(name);
        let folder = inner.root.join(QUARANTINE);
        inner.check_lost()?;
        inner.make_durable(&folder)?;
        let base = match name {
            ObjectName::Recipes(id) => format!("{id}.recipes.arrow"),
            ObjectName::Snapshot(id) => format!("{id}.snapshot.arrow"),
            ObjectName::Pack(id) => format!("{id}.pack"),
            other => other.path().replace('/', "."),
        };
        for copy in 0..COPIES_MAX {
            let file = if copy == 0 { base.clone() } else { format!("{base}.{copy}") };
            let to = folder.join(&file);
            let linked = match inner.disk.link_new(&from, &to) {
                Err(e) if has_no_links(&e) => inner.disk.rename_new(&from, &to),
                linked => linked,
            };
            match linked {
                Ok(()) => {
                    inner.sync_parent(&to)?;
                    return Ok(PathBuf::from(QUARANTINE).join(file));
                }
                Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {}
                Err(e) => return Err(inner.read_error("set aside", name, e)),
            }
        }
        Err(Error::io("set aside", from, io::Error::other("the quarantine is full of it")))
    }
}

fn has_no_links(error: &io::Error) -> bool {
    use rustix::io::Errno;
    let none = [Errno::PERM, Errno::OPNOTSUPP, Errno::NOSYS, Errno::MLINK, Errno::XDEV];
    none.iter().any(|errno| error.raw_os_error() == Some(errno.raw_os_error()))
}
