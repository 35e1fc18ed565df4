//! Which extended attributes do pax records stand for, and which records are written for attributes?
//!
//! | record | written by | what its value is |
//! | --- | --- | --- |
//! | `SCHILY.xattr.NAME` | star, GNU tar, libarchive | the attribute's bytes |
//! | `LIBARCHIVE.xattr.NAME` | libarchive | the same in base 64 |
//! | `SCHILY.acl.access`, `SCHILY.acl.default` | star, GNU tar, libarchive | an access control list as text ([`super::acl`]) |
//! | `RHT.security.selinux` | GNU tar | `security.selinux`, without the zero at its end |
//!
//! A key ends at its first `=`, so names are escaped: GNU tar escapes `%` and `=`, libarchive all that is not printable
//! ASCII, both as `%` and two hexadecimal digits.

use super::acl::{self, IdOfName, Owner};
use crate::format::archive::Member;
use crate::format::entry::Xattr;

const SCHILY: &[u8] = b"SCHILY.xattr.";
const LIBARCHIVE: &[u8] = b"LIBARCHIVE.xattr.";
const ACL_ACCESS: &[u8] = b"SCHILY.acl.access";
const ACL_DEFAULT: &[u8] = b"SCHILY.acl.default";
const SELINUX: &[u8] = b"RHT.security.selinux";
const SELINUX_XATTR: &[u8] = b"security.selinux";

/// The attributes that records stand for, ascending by name, and whether all of them could be understood. Of several
/// records of an attribute the last one counts, and one that has the attribute's own bytes before all others.
pub(super) fn of_records<'a>(
    records: impl Iterator<Item = &'a (Vec<u8>, Vec<u8>)>,
    member: &Member,
    ids: Option<IdOfName>,
) -> (Vec<Xattr>, bool) {
    // Whose name a member itself has with its number; and root is 0 everywhere.
    let id_of = |owner: Owner, name: &str| {
        let (own_name, own_id) = match owner {
            Owner::User => (&member.user, member.uid),
            Owner::Group => (&member.group, member.gid),
        };
        match own_name.as_deref() {
            Some(own_name) if own_name == name => Some(own_id),
            _ if name == "root" => Some(0),
            _ => ids.and_then(|ids| ids(owner, name)),
        }
    };
    let mut understood = true;
    let mut found: Vec<(bool, Xattr)> = Vec::new();
    for (key, value) in records {
        let (is_exact, name, value) = if let Some(name) = key.strip_prefix(SCHILY) {
            (true, unescaped(name), Some(value.clone()))
        } else if let Some(name) = key.strip_prefix(LIBARCHIVE) {
            let value = of_base_64(value);
            understood &= value.is_some();
            (false, unescaped(name), value)
        } else if key == ACL_ACCESS || key == ACL_DEFAULT {
            let is_access = key == ACL_ACCESS;
            let list = match value.as_slice() {
                b"" => Some(None),
                text if is_access => acl::access(text, &id_of),
                text => acl::default(text, &id_of).map(Some),
            };
            understood &= list.is_some();
            (false, if is_access { acl::ACCESS } else { acl::DEFAULT }.to_vec(), list.flatten())
        } else if key == SELINUX && !value.is_empty() {
            (false, SELINUX_XATTR.to_vec(), Some([value.as_slice(), b"\0"].concat()))
        } else {
            continue;
        };
        let Some(value) = value else { continue };
        if !name.is_empty() && !name.contains(&0) {
            found.push((is_exact, Xattr { name, value }));
        }
    }
    // The last one of a name wins; sorting keeps the order of equals.
    found.reverse();
    found.sort_by(|(a_exact, a), (b_exact, b)| a.name.cmp(&b.name).then(b_exact.cmp(a_exact)));
    found.dedup_by(|(_, a), (_, b)| a.name == b.name);
    (found.into_iter().map(|(_, xattr)| xattr).collect(), understood)
}

/// Hands over the records of an entry's attributes, each as key and value. Access control lists and SELinux labels are
/// written twice: GNU tar takes them as attributes only if all attributes are asked for, libarchive does not at all.
pub(super) fn to_records(xattrs: &[Xattr], mut record: impl FnMut(&[u8], &[u8])) {
    for Xattr { name, value } in xattrs {
        record(&[SCHILY, escaped(name).as_slice()].concat(), value);
        let text = match name.as_slice() {
            acl::ACCESS => acl::to_text(value).map(|text| (ACL_ACCESS, text.into_bytes())),
            acl::DEFAULT => acl::to_text(value).map(|text| (ACL_DEFAULT, text.into_bytes())),
            SELINUX_XATTR => Some((SELINUX, value.strip_suffix(b"\0").unwrap_or(value).to_vec())),
            _ => None,
        };
        if let Some((key, text)) = text {
            record(key, &text);
        }
    }
}

/// An attribute's name as GNU tar writes it.
fn escaped(name: &[u8]) -> Vec<u8> {
    let escape = |byte: &u8| match byte {
        b'%' => b"%25".to_vec(),
        b'=' => b"%3D".to_vec(),
        other => vec![*other],
    };
    name.iter().flat_map(escape).collect()
}

fn unescaped(name: &[u8]) -> Vec<u8> {
    let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    let mut plain = Vec::with_capacity(name.len());
    let mut rest = name;
    while let Some((first, others)) = rest.split_first() {
        let escape = others.first_chunk::<2>().filter(|_| *first == b'%');
        let escape = escape.and_then(|[high, low]| Some(digit(*high)? << 4 | digit(*low)?));
        plain.push(escape.unwrap_or(*first));
        rest = rest.get(if escape.is_some() { 3 } else { 1 }..).unwrap_or_default();
    }
    plain
}

/// Bytes from base 64 (RFC 4648, section 4), with or without padding.
fn of_base_64(text: &[u8]) -> Option<Vec<u8>> {
    let text = text.strip_suffix(b"=").unwrap_or(text);
    let text = text.strip_suffix(b"=").unwrap_or(text);
    let mut bytes = Vec::with_capacity(text.len() / 4 * 3 + 2);
    for quartet in text.chunks(4) {
        let mut bits = 0u32;
        for letter in quartet {
            let value = match letter {
                b'A'..=b'Z' => letter - b'A',
                b'a'..=b'z' => letter - b'a' + 26,
                b'0'..=b'9' => letter - b'0' + 52,
                b'+' => 62,
                b'/' => 63,
                _ => return None,
            };
            bits = bits << 6 | u32::from(value);
        }
        bits <<= 6 * (4 - quartet.len());
        let count = match quartet.len() {
            4 => 3,
            3 => 2,
            2 => 1,
            _ => return None,
        };
        bytes.extend(bits.to_be_bytes().into_iter().skip(1).take(count));
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_as_each_program_escapes_them() {
        for name in [&b"user.a=b%"[..], b"user.caf\xe9", b"user.100%25"] {
            assert_eq!(unescaped(&escaped(name)), name);
        }
        assert_eq!(unescaped(b"user.caf%C3%A9%2"), b"user.caf\xc3\xa9%2");
        assert_eq!(unescaped(b"user.%zz"), b"user.%zz");
    }

    #[test]
    fn base_64_is_read_with_and_without_padding() {
        for (text, bytes) in [("", &b""[..]), ("Zg", b"f"), ("Zm8=", b"fo"), ("Zm9v", b"foo"), ("+/8A", b"\xfb\xff\0")]
        {
            assert_eq!(of_base_64(text.as_bytes()).as_deref(), Some(bytes), "{text}");
        }
        assert_eq!(of_base_64(b"Z"), None);
        assert_eq!(of_base_64(b"Zm9*"), None);
    }
}
