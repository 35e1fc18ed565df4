//! What do pax records say of the member that follows? `LENGTH KEY=VALUE\n`, after POSIX.1-2001.

use super::acl::IdOfName;
use super::header::{text, word};
use super::{sparse, xattrs};
use crate::format::archive::{Member, SparseRun};

/// No extended header is longer, nor all that hold at once: a longer one is skeleton, and what it would say is lost.
pub(super) const RECORD_BYTES_MAX: u64 = 16 << 20;

/// Keys and values that hold for one member, or from here on. Later ones win; an empty value takes one back.
#[derive(Debug, Clone, Default)]
pub(super) struct Records {
    list: Vec<(Vec<u8>, Vec<u8>)>,
    /// Bytes of the headers that they came in.
    bytes: u64,
}

/// How the map of a sparse file is written.
#[derive(Debug)]
pub(super) enum Sparse {
    /// In the records themselves.
    Known(Vec<SparseRun>),
    /// In front of the content.
    InFront,
}

impl Records {
    /// Takes the records of an extended header. Says whether all of it was records, and there was room for them.
    pub(super) fn extend(&mut self, mut bytes: &[u8]) -> bool {
        self.bytes = self.bytes.saturating_add(bytes.len() as u64);
        if self.bytes > RECORD_BYTES_MAX {
            return false;
        }
        while !bytes.is_empty() {
            let Some((record, rest)) = split_record(bytes) else {
                // Some writers fill up with zeros.
                return bytes.iter().all(|b| *b == 0);
            };
            let Some(equals) = record.iter().position(|b| *b == b'=') else { return false };
            let (key, value) = record.split_at(equals);
            let value = value.get(1..).unwrap_or_default();
            self.list.push((key.to_vec(), value.to_vec()));
            bytes = rest;
        }
        true
    }

    /// The records that hold for one member: its own, and those that hold for all where it has none.
    pub(super) fn over<'a>(&'a self, globals: &'a Self) -> Both<'a> {
        Both { own: self, globals }
    }
}

/// A member's own records and those that hold for all.
#[derive(Debug, Clone, Copy)]
pub(super) struct Both<'a> {
    own: &'a Records,
    globals: &'a Records,
}

impl Both<'_> {
    fn get(&self, key: &str) -> Option<&[u8]> {
        let find = |records: &'_ Records| records.list.iter().rposition(|(known, _)| known == key.as_bytes());
        let found = match find(self.own) {
            Some(at) => self.own.list.get(at),
            None => find(self.globals).and_then(|at| self.globals.list.get(at)),
        };
        found.map(|(_, value)| value.as_slice()).filter(|value| !value.is_empty())
    }

    fn number(&self, key: &str) -> Option<u64> {
        std::str::from_utf8(self.get(key)?).ok()?.trim().parse().ok()
    }

    /// How many bytes follow the header.
    pub(super) fn size(&self) -> Option<u64> {
        self.number("size")
    }

    /// The modification time in nanoseconds since 1970, before it is reduced to the range of an `i64`.
    pub(super) fn mtime_ns(&self) -> Option<i128> {
        time(self.get("mtime")?)
    }

    /// Replaces what the header says of a member by what the records say, all but the time. Says whether all that it
    /// says of attributes could be understood.
    pub(super) fn apply(&self, member: &mut Member, ids: Option<IdOfName>) -> bool {
        if let Some(path) = self.get("GNU.sparse.name").or_else(|| self.get("path")) {
            member.path = path.to_vec();
        }
        if let Some(target) = self.get("linkpath") {
            member.link_target = target.to_vec();
        }
        let small = |number: u64| u32::try_from(number).unwrap_or(u32::MAX);
        member.uid = self.number("uid").map_or(member.uid, small);
        member.gid = self.number("gid").map_or(member.gid, small);
        member.user = self.get("uname").map_or_else(|| member.user.clone(), word);
        member.group = self.get("gname").map_or_else(|| member.group.clone(), word);
        let all = self.globals.list.iter().chain(&self.own.list);
        let (attributes, understood) = xattrs::of_records(all, member, ids);
        member.xattrs = attributes;
        understood
    }

    /// The size of a sparse file, if the member is one in GNU's pax forms, and its map.
    pub(super) fn sparse(&self) -> Option<(u64, Sparse)> {
        if self.get("GNU.sparse.major") == Some(b"1") && self.get("GNU.sparse.minor") == Some(b"0") {
            return Some((self.number("GNU.sparse.realsize")?, Sparse::InFront));
        }
        let size = self.number("GNU.sparse.size")?;
        if let Some(map) = self.get("GNU.sparse.map") {
            let numbers = map.split(|b| *b == b',').map(sparse::decimal).collect::<Option<Vec<_>>>()?;
            return Some((size, Sparse::Known(sparse::runs(&numbers)?)));
        }
        let numbers = self
            .own
            .list
            .iter()
            .filter(|(key, _)| matches!(key.as_slice(), b"GNU.sparse.offset" | b"GNU.sparse.numbytes"));
        let numbers = numbers.map(|(_, value)| sparse::decimal(value)).collect::<Option<Vec<_>>>()?;
        Some((size, Sparse::Known(sparse::runs(&numbers)?)))
    }
}

/// The first record, without its length and end, and what comes after it.
fn split_record(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let space = bytes.iter().take(20).position(|b| *b == b' ')?;
    let length = usize::try_from(sparse::decimal(bytes.get(..space)?)?).ok()?;
    let (record, rest) = bytes.split_at_checked(length)?;
    Some((record.get(space + 1..)?.strip_suffix(b"\n")?, rest))
}

/// Seconds since 1970 with a fraction, as nanoseconds, rounded down.
fn time(value: &[u8]) -> Option<i128> {
    let value = std::str::from_utf8(text(value)).ok()?.trim();
    let (sign, digits) = match value.strip_prefix('-') {
        Some(digits) => (-1i128, digits),
        None => (1, value),
    };
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
    if !whole.chars().chain(fraction.chars()).all(|c| c.is_ascii_digit()) || whole.is_empty() {
        return None;
    }
    let whole: i128 = whole.get(..whole.len().min(30))?.parse().ok()?;
    let nanoseconds = fraction.chars().chain("000000000".chars()).take(9);
    let nanoseconds = nanoseconds.fold(0i128, |sum, c| sum * 10 + i128::from(c.to_digit(10).unwrap_or_default()));
    let is_cut = sign < 0 && fraction.chars().skip(9).any(|c| c != '0');
    // A whole part of more than 28 digits would not fit; any of more than 10 is out of range anyway.
    Some(sign * (whole.saturating_mul(1_000_000_000).saturating_add(nanoseconds)) - i128::from(is_cut))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_have_fractions_and_signs() {
        assert_eq!(time(b"1700000000.123456789"), Some(1_700_000_000_123_456_789));
        assert_eq!(time(b"1.5"), Some(1_500_000_000));
        assert_eq!(time(b"-1.5"), Some(-1_500_000_000));
        assert_eq!(time(b"-0.0000000001"), Some(-1));
        assert_eq!(time(b"99999999999999999999"), Some(99_999_999_999_999_999_999_000_000_000));
        assert_eq!(time(b"-99999999999999999999"), Some(-99_999_999_999_999_999_999_000_000_000));
        assert!(time(&[b'9'; 60]).is_some_and(|time| time > i128::from(i64::MAX)));
        assert_eq!(time(b"soon"), None);
        assert_eq!(time(b""), None);
    }

    #[test]
    fn a_record_has_the_length_it_says() {
        assert_eq!(split_record(b"11 path=ab\nrest"), Some((&b"path=ab"[..], &b"rest"[..])));
        assert_eq!(split_record(b"12 path=ab\n"), None);
        assert_eq!(split_record(b"10 path=ab\n"), None);
        assert_eq!(split_record(b"2 \n"), None);
        assert_eq!(split_record(b"99999999999999999999 a=b\n"), None);
        let mut records = Records::default();
        assert!(records.extend(b"11 path=ab\n11 path=cd\n\0\0\0"));
        assert!(!records.extend(b"nonsense"));
        let none = Records::default();
        assert_eq!(records.over(&none).get("path"), Some(&b"cd"[..]));
        assert!(records.extend(b"8 path=\n"));
        assert_eq!(records.over(&none).get("path"), None);
    }
}
