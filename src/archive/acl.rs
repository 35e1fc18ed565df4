//! How is a POSIX access control list written in a tar, and how as the extended attribute that Linux keeps?
//!
//! In a tar it is text, a list of entries that commas or line ends separate: `user::rw-,user:1000:r--,group::r--,mask::r--,other::---`
//! (star, GNU tar, libarchive). What is written has ids alone, which both programs read on any machine. What is read may
//! have names, and libarchive and star put the id behind the permissions: `user:anna:r--:1000`.
//!
//! In the attribute (`linux/posix_acl_xattr.h`) all numbers are little-endian:
//!
//! | offset | size | what |
//! | --- | --- | --- |
//! | 0 | 4 | version, 2 |
//! | 4 + 8 n | 2 | tag of entry n |
//! | 6 + 8 n | 2 | permissions: 4 read, 2 write, 1 execute |
//! | 8 + 8 n | 4 | id; `u32::MAX` if the tag has none |
//!
//! Invariant: a list that is returned is one that the kernel takes; anything else is `None`.

use super::header::word;

/// The attribute of the list that decides about access.
pub(super) const ACCESS: &[u8] = b"system.posix_acl_access";
/// The attribute of the list that what is made in a directory gets.
pub(super) const DEFAULT: &[u8] = b"system.posix_acl_default";

const VERSION: u32 = 2;
const ENTRY_BYTES: usize = 8;
/// No list that a file system keeps is longer.
const ENTRIES_MAX: usize = (64 << 10) / ENTRY_BYTES;

const USER_OBJ: u16 = 1;
const USER: u16 = 2;
const GROUP_OBJ: u16 = 4;
const GROUP: u16 = 8;
const MASK: u16 = 0x10;
const OTHER: u16 = 0x20;

/// Whose name is it?
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Owner {
    /// A user's.
    User,
    /// A group's.
    Group,
}

/// Finds the id of a name. `None` if nobody has the name.
pub(super) type IdOfName = fn(Owner, &str) -> Option<u32>;

/// An entry of a list; ordered as the kernel demands it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Entry {
    tag: u16,
    id: u32,
    permissions: u16,
}

/// The attribute that a text stands for, of the list that decides about access. `Some(None)` for a list that says no more
/// than a file's mode; `None` for what is no list, or has a name whose id is not known.
pub(super) fn access(text: &[u8], id_of: &dyn Fn(Owner, &str) -> Option<u32>) -> Option<Option<Vec<u8>>> {
    let entries = entries_of(text, id_of)?;
    let says_more = entries.iter().any(|entry| matches!(entry.tag, USER | GROUP | MASK));
    Some(says_more.then(|| to_bytes(&entries)))
}

/// As [`access`], of the list for what is made in a directory: one without names says something too.
pub(super) fn default(text: &[u8], id_of: &dyn Fn(Owner, &str) -> Option<u32>) -> Option<Vec<u8>> {
    entries_of(text, id_of).map(|entries| to_bytes(&entries))
}

/// The entries of a text, in the kernel's order.
fn entries_of(text: &[u8], id_of: &dyn Fn(Owner, &str) -> Option<u32>) -> Option<Vec<Entry>> {
    let mut entries = Vec::new();
    for line in text.split(|byte| matches!(byte, b',' | b'\n' | 0)) {
        // A comment says which permissions the mask leaves.
        let line = line.split(|byte| *byte == b'#').next().unwrap_or_default().trim_ascii();
        if line.is_empty() {
            continue;
        }
        entries.push(entry_of(line, id_of)?);
        if entries.len() > ENTRIES_MAX {
            return None;
        }
    }
    let count = |entries: &[Entry], tag| entries.iter().filter(|entry| entry.tag == tag).count();
    let has_names = entries.iter().any(|entry| matches!(entry.tag, USER | GROUP));
    if has_names && count(&entries, MASK) == 0 {
        // As `setfacl` makes one: the union of what it limits.
        let limited = entries.iter().filter(|entry| matches!(entry.tag, USER | GROUP_OBJ | GROUP));
        let permissions = limited.fold(0, |all, entry| all | entry.permissions);
        entries.push(Entry { tag: MASK, id: u32::MAX, permissions });
    }
    entries.sort_unstable();
    let is_complete = [USER_OBJ, GROUP_OBJ, OTHER].into_iter().all(|tag| count(&entries, tag) == 1);
    let is_ambiguous = entries.windows(2).any(|pair| matches!(pair, [a, b] if (a.tag, a.id) == (b.tag, b.id)));
    (is_complete && !is_ambiguous).then_some(entries)
}

fn to_bytes(entries: &[Entry]) -> Vec<u8> {
    let mut bytes = VERSION.to_le_bytes().to_vec();
    for Entry { tag, id, permissions } in entries {
        bytes.extend_from_slice(&tag.to_le_bytes());
        bytes.extend_from_slice(&permissions.to_le_bytes());
        bytes.extend_from_slice(&id.to_le_bytes());
    }
    bytes
}

fn entry_of(line: &[u8], id_of: &dyn Fn(Owner, &str) -> Option<u32>) -> Option<Entry> {
    let mut fields: Vec<&[u8]> = line.split(|byte| *byte == b':').collect();
    let kind = *fields.first()?;
    // `mask:rw-` and `other:r--` do without the field of a name.
    if matches!(kind, b"mask" | b"m" | b"other" | b"o") && fields.len() == 2 {
        fields.insert(1, b"");
    }
    let [_, name, permissions, rest @ ..] = fields.as_slice() else { return None };
    let owner = match kind {
        b"user" | b"u" => Some(Owner::User),
        b"group" | b"g" => Some(Owner::Group),
        _ => None,
    };
    let permissions = permissions_of(permissions)?;
    if name.is_empty() {
        let tag = match kind {
            b"mask" | b"m" => MASK,
            b"other" | b"o" => OTHER,
            _ => match owner? {
                Owner::User => USER_OBJ,
                Owner::Group => GROUP_OBJ,
            },
        };
        return Some(Entry { tag, id: u32::MAX, permissions });
    }
    let owner = owner?;
    let tag = if owner == Owner::User { USER } else { GROUP };
    let number = |field: &[u8]| std::str::from_utf8(field).ok()?.parse::<u32>().ok();
    let id = match rest.first().and_then(|field| number(field)).or_else(|| number(name)) {
        Some(id) => id,
        None => id_of(owner, &word(name)?)?,
    };
    (id != u32::MAX).then_some(Entry { tag, id, permissions })
}

fn permissions_of(field: &[u8]) -> Option<u16> {
    field.iter().try_fold(0, |all, letter| match letter {
        b'r' => Some(all | 4),
        b'w' => Some(all | 2),
        b'x' => Some(all | 1),
        b'-' => Some(all),
        _ => None,
    })
}

/// The text of an attribute. `None` if it is no list.
pub(super) fn to_text(attribute: &[u8]) -> Option<String> {
    let (version, entries) = attribute.split_first_chunk::<4>()?;
    if u32::from_le_bytes(*version) != VERSION || entries.is_empty() || !entries.len().is_multiple_of(ENTRY_BYTES) {
        return None;
    }
    let texts = entries.chunks_exact(ENTRY_BYTES).map(|entry| {
        let (tag, rest) = entry.split_first_chunk::<2>()?;
        let (permissions, id) = rest.split_first_chunk::<2>()?;
        let id = u32::from_le_bytes(*id.first_chunk::<4>()?);
        let permissions = u16::from_le_bytes(*permissions);
        let letter = |bit, letter| if permissions & bit != 0 { letter } else { '-' };
        let who = match u16::from_le_bytes(*tag) {
            USER_OBJ => "user:".to_owned(),
            USER => format!("user:{id}"),
            GROUP_OBJ => "group:".to_owned(),
            GROUP => format!("group:{id}"),
            MASK => "mask:".to_owned(),
            OTHER => "other:".to_owned(),
            _ => return None,
        };
        Some(format!("{who}:{}{}{}", letter(4, 'r'), letter(2, 'w'), letter(1, 'x')))
    });
    texts.collect::<Option<Vec<_>>>().map(|texts| texts.join(","))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn nobody(_: Owner, _: &str) -> Option<u32> {
        None
    }

    /// The text that comes of a text, by way of the attribute.
    fn again(text: &str) -> Option<Option<String>> {
        access(text.as_bytes(), &|owner, name| match (owner, name) {
            (Owner::User, "anna") => Some(1000),
            (Owner::Group, "staff") => Some(50),
            _ => None,
        })
        .map(|list| list.map(|list| to_text(&list).unwrap()))
    }

    #[test]
    fn lists_of_every_program_are_read() {
        let wanted = Some(Some("user::rw-,user:1000:r--,group::r--,group:50:rwx,mask::rwx,other::---".to_owned()));
        for text in [
            "user::rw-,user:1000:r--,group::r--,group:50:rwx,mask::rwx,other::---",
            "user::rw-\nuser:anna:r--\ngroup::r--\ngroup:staff:rwx\nmask::rwx\nother::---\n",
            "user::rw-,group::r--,mask::rwx,other::---,user:whoever:r--:1000,group:some:rwx:50",
            "u::rw-,u:anna:r--,g::r--,g:staff:rwx #effective:r-x,m:rwx,o:---",
            "user::rw-,user:anna:r--,group::r--,group:staff:rwx,other::---",
        ] {
            assert_eq!(again(text), wanted, "{text}");
        }
    }

    #[test]
    fn a_list_that_says_no_more_than_a_mode_is_no_attribute_but_of_new_files_in_a_directory() {
        let text = b"user::rw-,group::r--,other::r--";
        assert_eq!(access(text, &nobody), Some(None));
        let default = default(text, &nobody).unwrap();
        assert_eq!(to_text(&default).unwrap().as_bytes(), text);
    }

    #[test]
    fn what_is_no_list_is_refused() {
        for text in [
            "",
            "user::rw-",
            "user::rw-,group::r--,other::r--,user:nobody-has-this:rwx,mask::rwx",
            "user::rw-,user::rw-,group::r--,other::r--",
            "user::rw-,user:7:rw-,user:7:r--,group::r--,other::r--",
            "user::rq-,group::r--,other::r--",
            "user::rw-,group::r--,other::r--,mask:x:rwx",
            "user::rw-,group::r--,other::r--,user:4294967295:rwx",
            "nonsense",
            ":::",
        ] {
            assert_eq!(access(text.as_bytes(), &nobody), None, "{text}");
        }
        for length in 0..60 {
            let bytes: Vec<u8> = [2, 0, 0, 0].into_iter().chain((4..length).map(|at| at * 3)).collect();
            to_text(&bytes);
        }
        assert_eq!(to_text(&[2, 0, 0, 0]), None);
        assert_eq!(to_text(&[3, 0, 0, 0, 1, 0, 7, 0, 0, 0, 0, 0]), None);
    }
}
