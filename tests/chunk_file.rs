//! A file read and worked on by many workers gives the serial chunks, each worked on once.

#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use std::io;

use seamstore::chunk::{Profile, cut_points};
use seamstore::entry::ChunkId;
use seamstore::internals::chunk::seams::{ReadAt, chunk_file};
use seamstore::internals::sample_profiles;

use crate::chunk_data::split_mix;

#[test]
fn every_profile_gives_the_serial_chunks_and_their_hashes() {
    let mut random = split_mix(41, 6_000_001);
    random.extend(vec![0; 3_000_000]);
    random.extend(split_mix(42, 2_000_000));
    for profile in sample_profiles() {
        for bytes in [&random[..], &random[..70_000], &[7], &[]] {
            let chunks = chunk_file(bytes, bytes.len() as u64, &profile, ChunkId::of).unwrap();
            let mut start = 0;
            let expected: Vec<(u64, ChunkId)> = cut_points(bytes, &profile)
                .into_iter()
                .map(|end| (end, ChunkId::of(&bytes[std::mem::replace(&mut start, end as usize)..end as usize])))
                .collect();
            let found: Vec<(u64, ChunkId)> = chunks.into_iter().map(|chunk| (chunk.end, chunk.made)).collect();
            assert!(found == expected, "{profile}, {} bytes", bytes.len());
        }
    }
}

/// Shorter than it says.
struct Shrunk(Vec<u8>);

impl ReadAt for Shrunk {
    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        self.0[..].read_exact_at(buffer, offset)
    }
}

#[test]
fn a_file_that_shrank_is_an_error() {
    let shrunk = Shrunk(split_mix(43, 5_000_000));
    let error = chunk_file(&shrunk, 5_000_001, &Profile::xet(), |chunk| chunk.len()).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof);
}
