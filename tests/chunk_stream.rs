//! A stream is cut where the file would be, whatever the reads, and its errors come through.

#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use std::io::{self, Read};

use proptest::prelude::*;
use seamstore::chunk::{Chunker, Profile, cut_points};
use seamstore::internals::sample_profiles;

use crate::chunk_cuts::{mixed_bytes, small_profile};
use crate::chunk_data::split_mix;

/// Gives its bytes in pieces of the given sizes, over and over; a size of 0 is an interrupted read.
struct Pieces<'a> {
    bytes: &'a [u8],
    sizes: Vec<usize>,
    at: usize,
    /// Fail once, when this many bytes are left.
    fail_at: Option<usize>,
}

impl Read for Pieces<'_> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        if self.fail_at.is_some_and(|left| self.bytes.len() <= left) {
            self.fail_at = None;
            return Err(io::Error::other("the disk is on fire"));
        }
        let size = self.sizes[self.at % self.sizes.len()];
        self.at += 1;
        if size == 0 {
            return Err(io::ErrorKind::Interrupted.into());
        }
        let (now, later) = self.bytes.split_at(size.min(out.len()).min(self.bytes.len()));
        out[..now.len()].copy_from_slice(now);
        self.bytes = later;
        Ok(now.len())
    }
}

fn pieces<'a>(bytes: &'a [u8], sizes: &[usize]) -> Pieces<'a> {
    Pieces { bytes, sizes: sizes.to_vec(), at: 0, fail_at: None }
}

#[test]
fn read_sizes_do_not_move_cuts_in_any_profile() {
    let bytes = split_mix(21, 9_000_001);
    for profile in sample_profiles() {
        let expected = cut_points(&bytes, &profile);
        for sizes in [&[usize::MAX][..], &[1 << 16], &[4095], &[0, 100_003, 1, 0, 0, 70_000]] {
            assert_eq!(Chunker::new(pieces(&bytes, sizes), &profile).cut_points().unwrap(), expected, "{profile}");
        }
    }
}

#[test]
fn an_error_is_passed_on_and_chunking_can_go_on_after_it() {
    let bytes = split_mix(22, 3_000_000);
    let profile = Profile::default();
    let mut chunker = Chunker::new(Pieces { fail_at: Some(1_000_000), ..pieces(&bytes, &[70_001]) }, &profile);
    let (mut cuts, mut errors, mut joined) = (Vec::new(), 0, Vec::new());
    loop {
        match chunker.next_chunk() {
            Ok(Some(chunk)) => {
                cuts.push(chunk.end());
                joined.extend_from_slice(chunk.bytes);
            }
            Ok(None) => break,
            Err(error) => {
                assert_eq!(error.to_string(), "the disk is on fire");
                errors += 1;
            }
        }
    }
    assert_eq!(errors, 1);
    assert_eq!(cuts, cut_points(&bytes, &profile));
    assert!(joined == bytes, "the chunks joined are the stream");
}

#[test]
fn an_empty_stream_has_no_chunk_and_stays_ended() {
    let mut chunker = Chunker::new(io::empty(), &Profile::default());
    assert_eq!(chunker.next_chunk().unwrap(), None);
    assert_eq!(chunker.next_chunk().unwrap(), None);
}

proptest! {
    #[test]
    fn any_stream_is_cut_as_the_file(
        bytes in mixed_bytes(),
        profile in small_profile(),
        sizes in prop::collection::vec(0usize..5000, 1..8),
    ) {
        prop_assume!(sizes.iter().any(|size| *size > 0));
        prop_assert_eq!(Chunker::new(pieces(&bytes, &sizes), &profile).cut_points().unwrap(), cut_points(&bytes, &profile));
    }
}
