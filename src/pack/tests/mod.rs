//! Packs end to end: written, read back, damaged, cut off.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

mod damage;
mod filters;
mod salvage;

use std::sync::Arc;

use proptest::prelude::*;

use super::frame::{Codec, FrameEncoder, FrameSettings};
use super::reader::{self, read_directory, read_frame};
use super::{FrameDecoder, PackWriter};
use crate::error::Error;
use crate::format::directory::Directory;
use crate::format::id::{ChunkId, PackId};
use crate::format::name::{ObjectKind, ObjectName};
use crate::storage::{MemoryStorage, Storage};

/// Bytes that look like text: they compress, and no two chunks of them are alike.
fn text(seed: u64, bytes: usize) -> Vec<u8> {
    let mut out = Vec::with_capacity(bytes + 32);
    let mut n = seed;
    while out.len() < bytes {
        n = n.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        out.extend_from_slice(format!("line {} of the file\n", n >> 40).as_bytes());
    }
    out.truncate(bytes);
    out
}

/// Bytes that do not compress.
fn noise(seed: u64, bytes: usize) -> Vec<u8> {
    let mut out = vec![0; bytes];
    blake3::Hasher::new().update(&seed.to_le_bytes()).finalize_xof().fill(&mut out);
    out
}

/// Chunks of one frame.
type Chunks = Vec<Vec<u8>>;

fn write_pack(storage: &dyn Storage, settings: FrameSettings, frames: &[Chunks]) -> (PackId, Arc<Directory>) {
    let mut encoder = FrameEncoder::new(settings).unwrap();
    let mut pack = PackWriter::begin(storage).unwrap();
    for chunks in frames {
        let lengths: Vec<u32> = chunks.iter().map(|chunk| chunk.len() as u32).collect();
        let ids: Vec<ChunkId> = chunks.iter().map(|chunk| ChunkId::of(chunk)).collect();
        let mut encoded = Vec::new();
        encoder.encode(&chunks.concat(), &lengths, &mut encoded).unwrap();
        pack.push_frame(&encoded, &ids, &lengths).unwrap();
    }
    let bytes = pack.bytes();
    let (id, directory) = pack.finish().unwrap();
    assert_eq!(storage.size(&ObjectName::Pack(id)).unwrap(), bytes);
    (id, directory)
}

/// Every chunk of a pack, as its directory places them, each checked against its id.
fn read_pack(storage: &dyn Storage, pack: PackId) -> Result<Vec<Vec<u8>>, Error> {
    reader::check_pack_header(storage, &pack)?;
    let directory = read_directory(storage, pack)?;
    let mut decoder = FrameDecoder::new()?;
    let (mut stored, mut raw) = (Vec::new(), Vec::new());
    let mut chunks = Vec::new();
    for frame in &directory.frames {
        read_frame(storage, &pack, frame, &mut stored)?;
        decoder.decode(&stored, &pack, frame.offset, &mut raw)?;
        for ordinal in frame.chunks() {
            let place = directory.place(ordinal).unwrap();
            let chunk = raw[place.start as usize..][..place.length as usize].to_vec();
            assert_eq!(ChunkId::of(&chunk), directory.chunks[ordinal as usize].id);
            chunks.push(chunk);
        }
    }
    Ok(chunks)
}

fn some_frames() -> Vec<Chunks> {
    vec![
        vec![text(1, 5000), text(2, 1), text(3, 700)],
        vec![noise(4, 300)],
        vec![text(5, 64), noise(6, 65), text(7, 9000)],
    ]
}

#[test]
fn every_codec_and_level_gives_the_chunks_back() {
    let frames = some_frames();
    for codec in [Codec::None, Codec::Zstd, Codec::Lz4] {
        for level in FrameSettings::LEVELS {
            let storage = MemoryStorage::new();
            let settings = FrameSettings::new(codec, level, 64 << 10).unwrap();
            let (pack, directory) = write_pack(&storage, settings, &frames);
            assert_eq!(read_directory(&storage, pack).unwrap(), *directory);
            assert_eq!(read_pack(&storage, pack).unwrap(), frames.concat());
            if codec != Codec::Zstd {
                break;
            }
        }
    }
}

#[test]
fn what_does_not_shrink_is_stored_raw() {
    let storage = MemoryStorage::new();
    let frames = vec![vec![text(1, 50_000)], vec![noise(2, 50_000)], vec![vec![b'x'; 50_000]]];
    for (codec, expected) in [(Codec::Zstd, [1, 0, 1]), (Codec::Lz4, [2, 0, 2]), (Codec::None, [0, 0, 0])] {
        let settings = FrameSettings::new(codec, 3, 64 << 10).unwrap();
        let (pack, directory) = write_pack(&storage, settings, &frames);
        let bytes = storage.bytes(&ObjectName::Pack(pack)).unwrap();
        let codecs: Vec<u8> = directory.frames.iter().map(|frame| bytes[frame.offset as usize + 4]).collect();
        assert_eq!(codecs, expected, "{codec}");
    }
}

#[test]
fn a_frame_takes_the_most_chunks_and_bytes_there_may_be_and_no_more() {
    use crate::format::frame::FRAME_CHUNKS_MAX;
    use crate::format::{CHUNK_BYTES_MAX, FRAME_RAW_BYTES_MAX};
    let mut encoder = FrameEncoder::new(FrameSettings::default()).unwrap();
    let mut decoder = FrameDecoder::new().unwrap();
    let (mut frame, mut out) = (Vec::new(), Vec::new());
    let raw = text(1, FRAME_RAW_BYTES_MAX);
    for lengths in [vec![1; FRAME_CHUNKS_MAX], vec![CHUNK_BYTES_MAX as u32; 2]] {
        let bytes = lengths.iter().sum::<u32>() as usize;
        frame.clear();
        encoder.encode(&raw[..bytes], &lengths, &mut frame).unwrap();
        let view = decoder.decode(&frame, &PackId([0; 32]), 0, &mut out).unwrap();
        assert_eq!(view.lengths().collect::<Vec<_>>(), lengths);
        assert!(out == raw[..bytes]);
    }
    for lengths in [vec![], vec![0], vec![1; FRAME_CHUNKS_MAX + 1], vec![CHUNK_BYTES_MAX as u32 + 1]] {
        let bytes = lengths.iter().sum::<u32>() as usize;
        frame.clear();
        let refused = encoder.encode(&raw[..bytes], &lengths, &mut frame);
        assert!(matches!(refused, Err(Error::Usage(_))), "{} chunks", lengths.len());
        assert!(frame.is_empty());
    }
    assert!(matches!(encoder.encode(&raw[..10], &[9], &mut frame), Err(Error::Usage(_))));
}

#[test]
fn settings_are_kept_within_bounds() {
    assert!(FrameSettings::new(Codec::Lz4, -7, 16 << 10).is_ok());
    assert!(FrameSettings::new(Codec::Zstd, 19, 4 << 20).is_ok());
    for (level, bytes) in [(-8, 16 << 10), (20, 16 << 10), (3, (16 << 10) - 1), (3, (4 << 20) + 1)] {
        assert!(matches!(FrameSettings::new(Codec::Zstd, level, bytes), Err(Error::Usage(_))), "{level} {bytes}");
    }
}

#[test]
fn a_pack_takes_only_frames_with_their_own_chunks() {
    let storage = MemoryStorage::new();
    let mut pack = PackWriter::begin(&storage).unwrap();
    let mut frame = Vec::new();
    FrameEncoder::new(FrameSettings::default()).unwrap().encode(b"abcd", &[1, 3], &mut frame).unwrap();
    let ids = [ChunkId::of(b"a"), ChunkId::of(b"bcd")];
    for (frame, ids, lengths) in
        [(&frame[..], &ids[..1], &[4][..]), (&frame, &ids, &[3, 1]), (&frame[1..], &ids, &[1, 3]), (&[], &[], &[])]
    {
        assert!(matches!(pack.push_frame(frame, ids, lengths), Err(Error::Internal(_))));
    }
    assert!(pack.is_empty());
    pack.push_frame(&frame, &ids, &[1, 3]).unwrap();
    let (pack, _) = pack.finish().unwrap();
    assert_eq!(read_pack(&storage, pack).unwrap(), [b"a".to_vec(), b"bcd".to_vec()]);
}

#[test]
fn a_pack_dropped_unfinished_is_nowhere_and_an_empty_one_reads_back() {
    let storage = MemoryStorage::new();
    drop(PackWriter::begin(&storage).unwrap());
    assert_eq!(storage.list(ObjectKind::Pack).unwrap(), []);
    let (pack, _) = PackWriter::begin(&storage).unwrap().finish().unwrap();
    assert_eq!(read_pack(&storage, pack).unwrap(), Vec::<Vec<u8>>::new());
}

#[test]
fn a_directory_longer_than_the_first_read_is_read_whole() {
    let storage = MemoryStorage::new();
    let frames: Vec<Chunks> = (0..3).map(|f| (0..1000).map(|c| noise(f * 1000 + c, 20)).collect()).collect();
    let (pack, directory) = write_pack(&storage, FrameSettings::default(), &frames);
    assert!(directory.encoded_bytes() > 64 << 10);
    assert_eq!(read_directory(&storage, pack).unwrap(), *directory);
    assert_eq!(read_pack(&storage, pack).unwrap(), frames.concat());
}

#[test]
fn the_bytes_of_a_pack_are_pinned() {
    // Raw frames, because what a codec makes of bytes may change with its version. A change here is a change of format.
    let storage = MemoryStorage::new();
    let settings = FrameSettings::new(Codec::None, 3, 16 << 10).unwrap();
    let frames = [vec![b"seam".to_vec(), b"store".to_vec()], vec![vec![0xf5; 300]]];
    let (pack, _) = write_pack(&storage, settings, &frames);
    let bytes = storage.bytes(&ObjectName::Pack(pack)).unwrap();
    assert_eq!(bytes.len(), 16 + (36 + 8 + 9) + (36 + 4 + 300) + (8 + 2 * 24 + 3 * 36) + 64);
    assert_eq!(pack.to_hex(), "e204e6c07f1d14488c4ce7df71c5ebbd55692563639e4689bd7430bdc28d099b");
    assert_eq!(
        blake3::hash(&bytes).to_hex().as_str(),
        "320ba74657f1c1b799b1fa6a16ff7efeee63bcca7201210787f7bfbbc3d9a9e8"
    );
}

/// Frames of chunks of any length, text and noise.
fn frames() -> impl Strategy<Value = Vec<Chunks>> {
    let chunk = (any::<u64>(), 1..2000_usize, any::<bool>())
        .prop_map(|(seed, bytes, is_text)| if is_text { text(seed, bytes) } else { noise(seed, bytes) });
    prop::collection::vec(prop::collection::vec(chunk, 1..20), 0..12)
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn writing_then_reading_is_the_identity(frames in frames(), codec in 0..3_u8) {
        let storage = MemoryStorage::new();
        let settings = FrameSettings::new(Codec::from_byte(codec).unwrap(), 1, 16 << 10).unwrap();
        let (pack, directory) = write_pack(&storage, settings, &frames);
        prop_assert_eq!(read_directory(&storage, pack).unwrap(), (*directory).clone());
        prop_assert_eq!(read_pack(&storage, pack).unwrap(), frames.concat());
        prop_assert_eq!(directory.frames.len(), frames.len());
    }
}
