//! Is this a compressed file, and what is in it? The one door to what decompresses files that were not made here.

use std::io::{self, BufRead, BufReader, Read};

use super::skippable::begins_skippable;
use crate::format::archive_form::Compression;

/// How compressed files begin.
const MAGICS: [(&[u8], Compression); 4] = [
    (b"\x1f\x8b\x08", Compression::Gzip),
    (b"\x28\xb5\x2f\xfd", Compression::Zstd),
    (b"\xfd7zXZ\0", Compression::Xz),
    (b"BZh", Compression::Bzip2),
];

/// A window that a zstd file may ask for, as a power of two: what `zstd --long` makes, 128 MiB.
const ZSTD_WINDOW_MAX: u32 = 27;
/// The memory that an xz file may ask for, in KiB: its largest preset asks for 65 MiB.
const XZ_MEMORY_KIB_MAX: u32 = 128 << 10;

/// How the file is compressed that begins with these bytes, if it is. What begins with a skippable frame may be zstd or
/// LZ4; reading it shows.
#[must_use]
pub fn compression_of(head: &[u8]) -> Option<Compression> {
    let known = MAGICS.iter().find(|(magic, _)| head.starts_with(magic)).map(|(_, compression)| *compression);
    known.or_else(|| begins_skippable(head).then_some(Compression::Zstd))
}

/// What is in a compressed file. Several compressed streams one after the other are one.
///
/// # Errors
/// There is no memory for it. Reading says when the file is damaged, or asks for more memory than its compression's
/// largest preset.
pub fn unpack<'r>(compression: Compression, packed: impl Read + Send + 'r) -> io::Result<Box<dyn Read + Send + 'r>> {
    let packed = BufReader::with_capacity(128 << 10, packed);
    Ok(match compression {
        Compression::Gzip => Box::new(Gzip { packed: Some(packed), open: None }),
        Compression::Zstd => {
            let mut decoder = zstd::stream::read::Decoder::with_buffer(packed)?;
            decoder.window_log_max(ZSTD_WINDOW_MAX)?;
            Box::new(decoder)
        }
        Compression::Xz => Box::new(lzma_rust2::XzReader::new_mem_limit(packed, true, XZ_MEMORY_KIB_MAX)),
        Compression::Bzip2 => Box::new(bzip2::bufread::MultiBzDecoder::new(packed)),
    })
}

/// Members of a gzip file one after the other, and zeros behind them, which tapes leave and `gzip` passes over.
struct Gzip<R: BufRead> {
    packed: Option<R>,
    open: Option<flate2::bufread::GzDecoder<R>>,
}

impl<R: BufRead> Read for Gzip<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            if let Some(open) = &mut self.open {
                let read = open.read(buffer)?;
                if read > 0 || buffer.is_empty() {
                    return Ok(read);
                }
                self.packed = self.open.take().map(flate2::bufread::GzDecoder::into_inner);
            }
            let Some(packed) = &mut self.packed else { return Ok(0) };
            loop {
                let rest = packed.fill_buf()?;
                let zeros = rest.iter().take_while(|b| **b == 0).count();
                let is_end = rest.is_empty();
                let is_over = zeros < rest.len();
                packed.consume(zeros);
                if is_end {
                    return Ok(0);
                }
                if is_over {
                    break;
                }
            }
            self.open = self.packed.take().map(flate2::bufread::GzDecoder::new);
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing)]

    use std::io::Write;

    use super::*;

    fn packed(compression: Compression, bytes: &[u8]) -> Vec<u8> {
        match compression {
            Compression::Gzip => {
                let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
                encoder.write_all(bytes).unwrap();
                encoder.finish().unwrap()
            }
            Compression::Zstd => zstd::bulk::compress(bytes, 1).unwrap(),
            Compression::Bzip2 => {
                let mut encoder = bzip2::write::BzEncoder::new(Vec::new(), bzip2::Compression::fast());
                encoder.write_all(bytes).unwrap();
                encoder.finish().unwrap()
            }
            Compression::Xz => unreachable!("its files are made by python in tests/tars.rs"),
        }
    }

    #[test]
    fn several_streams_are_one_and_damage_is_said() {
        for compression in [Compression::Gzip, Compression::Zstd, Compression::Bzip2] {
            let bytes: Vec<u8> = (0..100_000u32).flat_map(|n| (n / 7).to_le_bytes()).collect();
            let one = packed(compression, &bytes);
            assert_eq!(compression_of(&one), Some(compression));
            let two = [one.clone(), packed(compression, b"and more")].concat();
            let mut read = Vec::new();
            unpack(compression, two.as_slice()).unwrap().read_to_end(&mut read).unwrap();
            assert_eq!(read, [bytes.clone(), b"and more".to_vec()].concat());
            let cut = &one[..one.len() / 2];
            assert!(unpack(compression, cut).unwrap().read_to_end(&mut Vec::new()).is_err(), "{compression:?}");
        }
        let padded = [packed(Compression::Gzip, b"tape"), vec![0; 1000]].concat();
        let mut read = Vec::new();
        unpack(Compression::Gzip, padded.as_slice()).unwrap().read_to_end(&mut read).unwrap();
        assert_eq!(read, b"tape");
        assert_eq!(compression_of(b"plain"), None);
    }
}
