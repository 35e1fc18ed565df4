//! Does a file system take two names for the same?
//!
//! Some fold names: upper and lower case (exFAT, FAT, NTFS, APFS, directories of ext4 with the attribute `+F`), composed
//! and decomposed Unicode, or dots and spaces at the end. No rule here says which names a file system folds. What is in
//! the way of a new name is looked up in the directory: if it is listed there as the new name is spelled, it is the same
//! name; if not, it is another name that the file system takes for the same, and replacing it would lose it in silence.
//!
//! Invariant: of two names that a file system folds into one, neither is restored in the place of the other.

use std::collections::HashSet;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

use rustix::fs::{AtFlags, Dir, FileType, Mode, mknodat, statat, unlinkat};
use rustix::io::{self, Errno};

use super::confined::Directory;
use crate::format::id::checksum;

/// What must not be at the end of a name on some file systems, which cut it off in silence.
const CUT_OFF: [u8; 2] = [b'.', b' '];

/// The names in a directory.
#[derive(Debug, Default)]
pub(super) struct Listing {
    /// Those that were there when a new name first met something there, by their checksums.
    names: Mutex<Option<HashSet<[u8; 16]>>>,
    /// Set when the directory turned out to tell upper from lower case.
    tells_case: AtomicBool,
}

impl Directory {
    /// Whether the directory has `name` as it is spelled here. To be asked when something is in the way of the name.
    ///
    /// The directory is listed once; a name that came later came from another process, and is not touched either. It is
    /// not listed for names that no file system folds which tells upper from lower case: those of ASCII letters, and
    /// without `~`, which is in the short names that FAT gives to files with long ones.
    ///
    /// # Errors
    /// The directory cannot be listed.
    pub(super) fn has_as_spelled(&self, name: &[u8]) -> io::Result<bool> {
        if name.is_ascii() && !name.contains(&b'~') && self.tells_case(name) {
            return Ok(true);
        }
        let mut names = self.listing.names.lock().unwrap_or_else(PoisonError::into_inner);
        if names.is_none() {
            let mut listed = HashSet::new();
            for entry in Dir::read_from(self.as_fd())? {
                listed.insert(checksum(&[entry?.file_name().to_bytes()]));
            }
            *names = Some(listed);
        }
        Ok(names.as_ref().is_some_and(|names| names.contains(&checksum(&[name]))))
    }

    /// Whether the directory is known to tell upper from lower case, or `name`, which is there, has neither.
    fn tells_case(&self, name: &[u8]) -> bool {
        let swapped: Vec<u8> =
            name.iter().map(|byte| if byte.is_ascii_alphabetic() { byte ^ 0x20 } else { *byte }).collect();
        if swapped == name || self.listing.tells_case.load(Ordering::Relaxed) {
            return true;
        }
        let tells = statat(self.as_fd(), swapped, AtFlags::SYMLINK_NOFOLLOW).is_err_and(|errno| errno == Errno::NOENT);
        self.listing.tells_case.fetch_or(tells, Ordering::Relaxed);
        tells
    }
}

/// Which characters at the end of a name each file system cuts off, by its device number.
#[derive(Debug, Default)]
pub(super) struct NameEnds(Mutex<Vec<(u64, u8, bool)>>);

impl NameEnds {
    /// Whether the file system of a directory keeps the last character of a name. It makes a file and removes it again
    /// the first time that a name ends with one that some file systems cut off.
    ///
    /// # Errors
    /// That file cannot be made.
    pub(super) fn are_kept(&self, directory: BorrowedFd<'_>, name: &[u8]) -> io::Result<bool> {
        let Some(last) = name.last().copied().filter(|last| CUT_OFF.contains(last)) else { return Ok(true) };
        let device = rustix::fs::fstat(directory)?.st_dev;
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, _, kept)) = known.iter().find(|(of, end, _)| (*of, *end) == (device, last)) {
            return Ok(*kept);
        }
        let plain = format!(".store-restore-{}.tmp", std::process::id()).into_bytes();
        let ended = [plain.as_slice(), &[last]].concat();
        let made = mknodat(directory, ended.as_slice(), FileType::RegularFile, Mode::RUSR | Mode::WUSR, 0);
        let kept = match made {
            // A refused name is reported when the file itself is made.
            Err(Errno::INVAL | Errno::ILSEQ) => return Ok(true),
            Err(errno) => return Err(errno),
            Ok(()) => statat(directory, plain.as_slice(), AtFlags::SYMLINK_NOFOLLOW).is_err(),
        };
        unlinkat(directory, ended.as_slice(), AtFlags::empty())?;
        known.push((device, last, kept));
        Ok(kept)
    }
}
