//! Packs end to end: written, read back, damaged, cut off.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use std::sync::Arc;

use super::*;
use crate::error::Error;
use crate::format::directory::Directory;
use crate::format::id::{ChunkId, PackId};
use crate::format::name::ObjectName;
use crate::storage::{MemoryStorage, Storage};

/// Bytes that look like text: they compress, and no two chunks of them are alike.
pub(super) fn text(seed: u64, bytes: usize) -> Vec<u8> {
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
pub(super) fn noise(seed: u64, bytes: usize) -> Vec<u8> {
    let mut out = vec![0; bytes];
    blake3::Hasher::new().update(&seed.to_le_bytes()).finalize_xof().fill(&mut out);
    out
}

/// Chunks of one frame.
pub(super) type Chunks = Vec<Vec<u8>>;

pub(super) fn write_pack(
    storage: &dyn Storage,
    settings: FrameSettings,
    frames: &[Chunks],
) -> (PackId, Arc<Directory>) {
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
pub(super) fn read_pack(storage: &dyn Storage, pack: PackId) -> Result<Vec<Vec<u8>>, Error> {
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
