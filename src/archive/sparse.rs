//! Where does the content of a sparse member belong? The four maps that GNU tar has written.
//!
//! A map that does not ascend, or does not add up to the content, is not a map: the member is then kept, but has no file.

use super::header::number;
use crate::format::archive::SparseRun;

/// An offset and a length in a header or in a block of its own: 24 bytes.
const RUN_BYTES: usize = 24;
/// Entries in a block.
const RUNS_IN_BLOCK: usize = 21;

/// No map is longer.
pub(super) const RUNS_MAX: usize = 1 << 20;

/// Decimal digits and nothing else.
pub(super) fn decimal(digits: &[u8]) -> Option<u64> {
    if digits.is_empty() {
        return None;
    }
    digits.iter().try_fold(0u64, |value, digit| match digit {
        b'0'..=b'9' => value.checked_mul(10)?.checked_add(u64::from(digit - b'0')),
        _ => None,
    })
}

/// Offsets and lengths in turn.
pub(super) fn runs(numbers: &[u64]) -> Option<Vec<SparseRun>> {
    let pairs = numbers.chunks(2).map(|pair| match pair {
        [offset, length] => Some(SparseRun { offset: *offset, length: *length }),
        _ => None,
    });
    pairs.collect()
}

/// The runs of an old header, or of a block that goes on with it. `None` if one of them is no run.
pub(super) fn old_runs(bytes: &[u8]) -> Option<Vec<SparseRun>> {
    let mut runs = Vec::new();
    for run in bytes.chunks_exact(RUN_BYTES).take(RUNS_IN_BLOCK) {
        let (offset, length) = run.split_at(RUN_BYTES / 2);
        // What is not needed is left empty.
        if run.first() == Some(&0) {
            break;
        }
        let value = |field| number(field).and_then(|value| u64::try_from(value).ok());
        runs.push(SparseRun { offset: value(offset)?, length: value(length)? });
    }
    Some(runs)
}

/// The numbers of a map in front of a content, as far as they go: how many runs there are, then these. `None` for what
/// is no map; the bytes it takes, once it is whole.
pub(super) fn front_map(bytes: &[u8]) -> Option<Front> {
    let mut numbers = Vec::new();
    let mut at = 0;
    let mut wanted = 1;
    while numbers.len() < wanted {
        let rest = bytes.get(at..).unwrap_or_default();
        let Some(end) = rest.iter().take(24).position(|b| *b == b'\n') else {
            return (rest.len() < 24).then_some(Front::AtomicFile);
        };
        let value = decimal(rest.get(..end)?)?;
        if numbers.is_empty() {
            let count = usize::try_from(value).ok().filter(|count| *count <= RUNS_MAX)?;
            wanted = 1 + 2 * count;
        }
        numbers.push(value);
        at += end + 1;
    }
    Some(Front::Whole { runs: runs(numbers.get(1..)?)?, bytes: at })
}

/// A map in front of a content.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Front {
    /// There is more of it.
    AtomicFile,
    /// All of it, and how long it is.
    Whole { runs: Vec<SparseRun>, bytes: usize },
}

/// Whether a map ascends within a file of this size, and its runs are the content.
pub(super) fn fits(runs: &[SparseRun], size: u64, content_bytes: u64) -> bool {
    let mut at = 0;
    let mut bytes = 0u64;
    for run in runs {
        let Some(end) = run.offset.checked_add(run.length) else { return false };
        if run.offset < at || end > size {
            return false;
        }
        at = end;
        bytes += run.length;
    }
    bytes == content_bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(offset: u64, length: u64) -> SparseRun {
        SparseRun { offset, length }
    }

    #[test]
    fn maps_are_read_and_judged() {
        assert_eq!(runs(&[0, 5, 10, 5]), Some(vec![run(0, 5), run(10, 5)]));
        assert_eq!(runs(&[0, 5, 10]), None);
        assert!(fits(&[run(0, 5), run(10, 5), run(20, 0)], 20, 10));
        assert!(!fits(&[run(0, 5), run(4, 5)], 20, 10), "it overlaps");
        assert!(!fits(&[run(0, 5)], 4, 5), "it is longer than the file");
        assert!(!fits(&[run(0, 5)], 5, 6), "it is shorter than the content");
        assert!(!fits(&[run(u64::MAX, 2)], 5, 2));
    }

    #[test]
    fn a_map_in_front_says_how_long_it_is() {
        assert_eq!(front_map(b"1\n0\n5\nDATA"), Some(Front::Whole { runs: vec![run(0, 5)], bytes: 6 }));
        assert_eq!(front_map(b"2\n0\n5\n1"), Some(Front::AtomicFile));
        assert_eq!(front_map(b"0\n"), Some(Front::Whole { runs: vec![], bytes: 2 }));
        assert_eq!(front_map(b"x\n"), None);
        assert_eq!(front_map(b"99999999999\n"), None);
        assert_eq!(front_map(&[b'1'; 30]), None);
    }
}
