//! Has a zstd file something in it that the data it decompresses to does not have?
//!
//! Beside frames of data a file may have skippable frames (RFC 8878, section 3.1.2), which programs use for what they
//! like. Two sorts say nothing new, and can be made again: before each frame its length, by `pzstd`, and at the end a
//! table of all frames' lengths, by the seekable format. Anything else would be lost with the file.
//!
//! Frames are walked by their headers and those of their blocks; no data is read.

use std::io;

const FRAME: u32 = 0xfd2f_b528;
/// The lowest four bits of a skippable frame's magic are free.
const SKIPPABLE: u32 = 0x184d_2a50;
/// What `pzstd` writes before a frame of data, and what a table of the seekable format begins and ends with.
const LENGTH: u32 = 0x184d_2a50;
const SEEK_TABLE: u32 = 0x184d_2a5e;
const SEEK_TABLE_END: u32 = 0x8f92_eab1;

/// Whether bytes begin with a skippable frame.
pub(super) fn begins_skippable(head: &[u8]) -> bool {
    head.first_chunk::<4>().is_some_and(|magic| is_skippable(u32::from_le_bytes(*magic)))
}

fn is_skippable(magic: u32) -> bool {
    magic & !0xf == SKIPPABLE
}

/// Whether a zstd file has skippable frames whose content cannot be made again. `read_at` fills a buffer from an offset on;
/// fewer bytes only where the file ends. A file that is no sequence of frames has none: decompressing it will fail.
///
/// # Errors
/// What `read_at` answers.
pub fn has_own_content(mut read_at: impl FnMut(u64, &mut [u8]) -> io::Result<usize>) -> io::Result<bool> {
    let mut at = 0u64;
    // The length that the last skippable frame says the next frame has.
    let mut announced = None;
    loop {
        let Some(magic) = number(&mut read_at, at, 4)? else { return Ok(announced.is_some()) };
        let end = if is_skippable(magic) {
            if announced.is_some() {
                return Ok(true);
            }
            let Some(bytes) = number(&mut read_at, at + 4, 4)? else { return Ok(false) };
            let end = at + 8 + u64::from(bytes);
            let last = if bytes >= 4 { number(&mut read_at, end - 4, 4)? } else { None };
            match (magic, bytes, last) {
                (LENGTH, 4, Some(length)) => announced = Some(u64::from(length)),
                (SEEK_TABLE, _, Some(SEEK_TABLE_END)) => {}
                _ => return Ok(true),
            }
            Some(end)
        } else if magic == FRAME {
            let end = frame_end(&mut read_at, at)?;
            if announced.take().is_some_and(|length| end != Some(at + length)) {
                return Ok(true);
            }
            end
        } else {
            None
        };
        match end {
            Some(end) => at = end,
            None => return Ok(false),
        }
    }
}

/// Where the frame of data ends that begins at `at`. `None` if no frame begins there, or the file ends before.
fn frame_end(read_at: &mut impl FnMut(u64, &mut [u8]) -> io::Result<usize>, at: u64) -> io::Result<Option<u64>> {
    let Some(descriptor) = number(read_at, at + 4, 1)? else { return Ok(None) };
    let is_single = descriptor & 0x20 != 0;
    let size_bytes = match (descriptor >> 6, is_single) {
        (0, false) => 0,
        (0, true) => 1,
        (1, _) => 2,
        (2, _) => 4,
        _ => 8,
    };
    let dictionary_bytes = match descriptor & 3 {
        3 => 4,
        other => u64::from(other),
    };
    let mut at = at + 5 + u64::from(!is_single) + dictionary_bytes + size_bytes;
    loop {
        let Some(block) = number(read_at, at, 3)? else { return Ok(None) };
        // One byte stands for a block that repeats it.
        let bytes = if (block >> 1) & 3 == 1 { 1 } else { u64::from(block >> 3) };
        at += 3 + bytes;
        if block & 1 == 1 {
            let checksum_bytes = if descriptor & 4 != 0 { 4 } else { 0 };
            return Ok(Some(at + checksum_bytes));
        }
    }
}

/// A little-endian number of up to four bytes; `None` where the file ends before.
fn number(
    read_at: &mut impl FnMut(u64, &mut [u8]) -> io::Result<usize>,
    at: u64,
    bytes: usize,
) -> io::Result<Option<u32>> {
    let mut number = [0; 4];
    let Some(field) = number.get_mut(..bytes) else { return Ok(None) };
    let filled = read_at(at, field)?;
    Ok((filled == bytes).then_some(u32::from_le_bytes(number)))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn skippable(low: u8, content: &[u8]) -> Vec<u8> {
        let length = u32::try_from(content.len()).unwrap();
        [&[0x50 | low, 0x2a, 0x4d, 0x18][..], &length.to_le_bytes(), content].concat()
    }

    fn has(file: &[u8]) -> bool {
        has_own_content(|at, buffer| {
            let rest = usize::try_from(at).ok().and_then(|at| file.get(at..)).unwrap_or_default();
            let count = rest.len().min(buffer.len());
            buffer.get_mut(..count).unwrap().copy_from_slice(rest.get(..count).unwrap());
            Ok(count)
        })
        .unwrap()
    }

    #[test]
    fn lengths_and_seek_tables_are_nothing_new_and_all_else_is() {
        let data: Vec<u8> = (0..300_000u32).flat_map(|n| (n / 7).wrapping_mul(0x9e37_79b9).to_le_bytes()).collect();
        for frame in [zstd::bulk::compress(&data, 1).unwrap(), zstd::stream::encode_all(&data[..], 3).unwrap()] {
            let length = u32::try_from(frame.len()).unwrap().to_le_bytes();
            let table = skippable(0xe, &[&[7; 12][..], &SEEK_TABLE_END.to_le_bytes()].concat());
            assert!(!has(&frame));
            assert!(!has(&[skippable(0, &length), frame.clone(), skippable(0, &length), frame.clone()].concat()));
            assert!(!has(&[frame.clone(), frame.clone(), table.clone()].concat()));
            assert!(has(&[skippable(0, b"note"), frame.clone()].concat()));
            assert!(has(&[skippable(3, b"a note of any length"), frame.clone()].concat()));
            assert!(has(&[frame.clone(), skippable(0xe, b"no table")].concat()));
            assert!(has(&[frame.clone(), skippable(0, &length)].concat()), "no frame follows");
            assert!(has(&[skippable(0, &length), skippable(0, &length), frame.clone()].concat()));
        }
        assert!(!has(b""));
    }

    #[test]
    fn the_walk_ends_on_any_bytes_at_all() {
        let frame = zstd::bulk::compress(&[7; 5000], 1).unwrap();
        let file = [skippable(0, b"abcd"), frame.clone(), skippable(0xe, b""), frame].concat();
        for at in 0..file.len() {
            let mut damaged = file.clone();
            *damaged.get_mut(at).unwrap() ^= 0xff;
            has(&damaged);
            has(damaged.get(..at).unwrap());
        }
    }
}
