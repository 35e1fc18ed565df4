//! Bytes that are not what was written, by accident or by intent: all are found, none costs memory or a panic.

use super::*;
use crate::format::directory::{ChunkEntry, DIRECTORY_HEADER_BYTES};
use crate::format::frame::{FRAME_CHUNKS_MAX, FRAME_MAGIC, FrameHeader, FrameView};
use crate::format::id::checksum;
use crate::format::pack::{PACK_HEADER_BYTES, PACK_TRAILER_BYTES, Trailer, header};
use crate::format::{CHUNK_BYTES_MAX, FRAME_RAW_BYTES_MAX};

#[test]
fn every_flipped_bit_of_a_pack_is_found_and_named() {
    for codec in [Codec::None, Codec::Zstd, Codec::Lz4] {
        let storage = MemoryStorage::new();
        let settings = FrameSettings::new(codec, 3, 16 << 10).unwrap();
        let frames = vec![vec![text(1, 90), text(2, 1)], vec![noise(3, 40), text(4, 200)]];
        let (pack, directory) = write_pack(&storage, settings, &frames);
        let name = ObjectName::Pack(pack);
        let whole = storage.bytes(&name).unwrap();
        let mut parts: Vec<u64> = directory.frames.iter().map(|frame| frame.offset).collect();
        parts.extend([0, directory.frames_end(), (whole.len() - PACK_TRAILER_BYTES) as u64]);
        let part_of = |at: u64| parts.iter().filter(|start| **start <= at).max();
        for at in 0..whole.len() {
            for bit in 0..8 {
                let mut bytes = whole.to_vec();
                bytes[at] ^= 1 << bit;
                storage.overwrite(&name, bytes);
                match read_pack(&storage, pack) {
                    Err(Error::Damaged { file, offset: Some(offset), .. }) => {
                        assert_eq!(file, name.path());
                        assert_eq!(part_of(offset), part_of(at as u64), "bit {bit} of byte {at}: {offset}");
                    }
                    other => panic!("bit {bit} of byte {at}: {other:?}"),
                }
            }
        }
    }
}

#[test]
fn a_pack_that_is_too_short_or_too_long_is_damaged() {
    let storage = MemoryStorage::new();
    let (pack, _) = write_pack(&storage, FrameSettings::default(), &some_frames());
    let name = ObjectName::Pack(pack);
    let whole = storage.bytes(&name).unwrap();
    for bytes in 0..whole.len() {
        storage.overwrite(&name, whole[..bytes].to_vec());
        assert!(matches!(read_pack(&storage, pack), Err(Error::Damaged { .. })), "{bytes} bytes");
        if bytes < PACK_HEADER_BYTES + PACK_TRAILER_BYTES {
            let read = read_directory(&storage, pack);
            assert!(
                matches!(read, Err(Error::Damaged { offset: None, .. })),
                "no byte of {bytes} is to blame: {read:?}"
            );
        }
    }
    let mut longer = whole.to_vec();
    longer.push(0);
    storage.overwrite(&name, longer);
    assert!(matches!(read_pack(&storage, pack), Err(Error::Damaged { .. })));
    storage.delete(&name).unwrap();
    assert!(matches!(read_directory(&storage, pack), Err(Error::NotFound { .. })));
}

#[test]
fn a_pack_found_present_is_relied_on_only_with_its_directory() {
    let storage = MemoryStorage::new();
    let write = || {
        let mut pack = PackWriter::begin(&storage).unwrap();
        let mut frame = Vec::new();
        FrameEncoder::new(FrameSettings::default()).unwrap().encode(b"abc", &[3], &mut frame).unwrap();
        pack.push_frame(&frame, &[ChunkId::of(b"abc")], &[3]).unwrap();
        pack.finish().map(|(id, _)| id)
    };
    let pack = write().unwrap();
    assert_eq!(write().unwrap(), pack);
    let name = ObjectName::Pack(pack);
    let whole = storage.bytes(&name).unwrap();
    storage.overwrite(&name, whole[..whole.len() - 1].to_vec());
    // From one that is cut off nothing can be read: the new one takes its place.
    assert_eq!(write().unwrap(), pack);
    assert_eq!(storage.bytes(&name).unwrap()[..], whole[..]);
    assert_eq!(read_pack(&storage, pack).unwrap(), [b"abc"]);
}

#[test]
fn frames_that_changed_places_are_found() {
    let storage = MemoryStorage::new();
    let settings = FrameSettings::new(Codec::None, 3, 16 << 10).unwrap();
    let (pack, directory) = write_pack(&storage, settings, &[vec![noise(1, 100)], vec![noise(2, 100)]]);
    let name = ObjectName::Pack(pack);
    let mut bytes = storage.bytes(&name).unwrap().to_vec();
    let [first, second] = [0, 1].map(|n| directory.frames[n].offset as usize);
    let (front, back) = bytes.split_at_mut(second);
    front[first..].swap_with_slice(&mut back[..second - first]);
    storage.overwrite(&name, bytes);
    assert!(matches!(read_pack(&storage, pack), Err(Error::Damaged { .. })));
}

/// A frame as an attacker makes it: any fields, and a checksum that fits. The zeros after the filter are its upper bytes.
fn forged(codec: u8, filter: u32, count: u32, raw_bytes: u32, lengths: &[u32], payload: &[u8]) -> Vec<u8> {
    let mut front = FRAME_MAGIC.to_vec();
    front.extend((u32::from(codec) | filter << 8).to_le_bytes());
    for field in [count, raw_bytes, payload.len() as u32] {
        front.extend(field.to_le_bytes());
    }
    let rest = [lengths.iter().flat_map(|length| length.to_le_bytes()).collect(), payload.to_vec()].concat();
    let sum = checksum(&[&front, &rest]);
    [front, sum.to_vec(), rest].concat()
}

fn decode(frame: &[u8]) -> (Result<Vec<u32>, Error>, Vec<u8>) {
    let mut out = Vec::new();
    let lengths = FrameDecoder::new().unwrap().decode(frame, &PackId([7; 32]), 1000, &mut out);
    (lengths.map(|view| view.lengths().collect()), out)
}

#[test]
fn a_forged_frame_that_keeps_the_bounds_is_taken() {
    // So the refusals in the next test are not those of the forger's mistakes.
    let (lengths, out) = decode(&forged(0, 0, 2, 5, &[2, 3], b"abcde"));
    assert_eq!((lengths.unwrap(), out), (vec![2, 3], b"abcde".to_vec()));
}

#[test]
fn a_frame_that_breaks_a_bound_is_refused() {
    let max = CHUNK_BYTES_MAX as u32;
    for (what, frame) in [
        ("codec", forged(3, 0, 2, 5, &[2, 3], b"abcde")),
        ("a filter without a codec", forged(0, 1, 2, 5, &[2, 3], b"abcde")),
        ("an unknown filter", forged(1, 4, 2, 5, &[2, 3], b"abcd")),
        ("zeros", forged(0, 1 << 8, 2, 5, &[2, 3], b"abcde")),
        ("no chunks", forged(0, 0, 0, 5, &[], b"abcde")),
        ("no bytes", forged(0, 0, 0, 0, &[], b"")),
        ("more chunks than bytes", forged(0, 0, 3, 2, &[1, 1, 0], b"ab")),
        ("a chunk of no bytes", forged(0, 0, 2, 5, &[0, 5], b"abcde")),
        ("a chunk too long", forged(0, 0, 1, max + 1, &[max + 1], &vec![0; CHUNK_BYTES_MAX + 1])),
        ("lengths that add up to less", forged(0, 0, 2, 5, &[2, 2], b"abcde")),
        ("lengths that overflow", forged(0, 0, 3, 5, &[max, max, u32::MAX], b"abcde")),
        ("a billion chunks", forged(0, 0, 1_000_000_000, 5, &[2, 3], b"abcde")),
        ("too many chunks", forged(0, 0, 4097, 4097, &[1; FRAME_CHUNKS_MAX + 1], &[0; 4097])),
        ("4 GB of chunks", forged(1, 0, 2, u32::MAX, &[2, 3], b"abcde")),
        ("8 MiB and a byte", forged(1, 0, 3, FRAME_RAW_BYTES_MAX as u32 + 1, &[max, max, 1], b"abcde")),
        ("raw but not its size", forged(0, 0, 2, 5, &[2, 3], b"abcd")),
        ("compressed to more", forged(1, 0, 2, 5, &[2, 3], b"abcde")),
        ("no payload", forged(1, 0, 2, 5, &[2, 3], b"")),
        ("an invalid zstd payload", forged(1, 0, 2, 5, &[2, 3], b"abcd")),
        ("an invalid lz4 payload", forged(2, 0, 2, 5, &[2, 3], b"\xffbcd")),
    ] {
        let (result, out) = decode(&frame);
        match result {
            Err(Error::Damaged { offset, .. }) => assert!(offset >= Some(1000), "{what}"),
            other => panic!("{what}: {other:?}"),
        }
        assert!(out.capacity() <= 64, "{what}: {} bytes were allocated", out.capacity());
    }
}

#[test]
fn a_bomb_is_refused_in_the_memory_that_its_header_tells_of() {
    let zeros = vec![0; 64 << 20];
    let bombs = [(1, zstd_of(&zeros)), (2, lz4_flex::block::compress(&zeros))];
    for (codec, payload) in bombs {
        let raw_bytes = payload.len() as u32 + 1;
        let (result, out) = decode(&forged(codec, 0, 1, raw_bytes, &[raw_bytes], &payload));
        assert!(matches!(result, Err(Error::Damaged { .. })), "{result:?}");
        assert!(out.capacity() <= 2 * raw_bytes as usize);
        // And one that decodes to less than it says.
        let payload = if codec == 1 { zstd_of(&zeros[..100]) } else { lz4_flex::block::compress(&zeros[..100]) };
        let (result, _) = decode(&forged(codec, 0, 1, 101, &[101], &payload));
        assert!(matches!(result, Err(Error::Damaged { .. })), "{result:?}");
    }
}

fn zstd_of(bytes: &[u8]) -> Vec<u8> {
    zstd::bulk::compress(bytes, 3).unwrap()
}

/// A pack with a directory as an attacker makes it, under the name that goes with it.
fn forged_pack(storage: &MemoryStorage, frames: &[u8], directory: &[u8]) -> PackId {
    let pack = PackId::of_directory(directory);
    let directory_offset = (PACK_HEADER_BYTES + frames.len()) as u64;
    let trailer = Trailer { directory_offset, directory_bytes: directory.len() as u64, pack };
    let bytes = [&header()[..], frames, directory, &trailer.encode()].concat();
    storage.overwrite(&ObjectName::Pack(pack), bytes);
    pack
}

#[test]
fn a_directory_that_lies_is_refused() {
    let storage = MemoryStorage::new();
    // Frames are not read here: zeros of the right number do.
    let read = |frames: u32, directory: &[u8]| {
        read_directory(&storage, forged_pack(&storage, &vec![0; frames as usize], directory))
    };
    let directory = |stored_bytes, lengths: &[u32]| {
        let mut directory = Directory::default();
        let chunks = lengths.iter().map(|length| ChunkEntry { id: ChunkId::of(b"any"), length: *length });
        directory.push(stored_bytes, [7; 16], chunks);
        directory.encode()
    };
    // Two chunks of 2 and 3 bytes, in a frame of 36 + 8 + 1 to 5 bytes.
    let honest = directory(49, &[2, 3]);
    read(49, &honest).unwrap();
    read(45, &directory(45, &[2, 3])).unwrap();
    let patched = |at: usize, patch: &[u8]| {
        let mut bytes = honest.clone();
        bytes[at..at + patch.len()].copy_from_slice(patch);
        bytes
    };
    let max = CHUNK_BYTES_MAX as u32;
    for (what, frames, directory) in [
        ("a billion frames", 49, patched(0, &1_000_000_000_u32.to_le_bytes())),
        ("a billion chunks", 49, patched(4, &1_000_000_000_u32.to_le_bytes())),
        ("most of both", 49, [[0xff; 8].to_vec(), vec![0; 100]].concat()),
        ("no frame for the chunks", 0, [&[0, 0, 0, 0, 2, 0, 0, 0], &honest[32..]].concat()),
        ("a frame of more chunks than there are", 49, patched(12, &[3])),
        ("a frame of no chunks", 49, patched(12, &[0])),
        ("a frame of some of the chunks", 42, patched(8, &[42, 0, 0, 0, 1])),
        ("a frame of too many chunks", 36 + 5 * 4097, directory(36 + 5 * 4097, &[1; FRAME_CHUNKS_MAX + 1])),
        ("a frame shorter than its header", 44, directory(44, &[2, 3])),
        ("a frame longer than its chunks", 50, directory(50, &[2, 3])),
        ("frames that end before the directory", 50, honest.clone()),
        ("frames that reach into the directory", 48, honest.clone()),
        ("a chunk of no bytes", 49, directory(49, &[0, 5])),
        ("a chunk too long", 49, directory(49, &[2, max + 1])),
        ("a frame too large", 60, directory(60, &[max, max, 1])),
        ("a hole", 49, patched(DIRECTORY_HEADER_BYTES + 24, &[0; 32])),
        ("a directory cut off", 49, honest[..honest.len() - 1].to_vec()),
        ("a directory and more", 49, [&honest[..], &[0]].concat()),
        ("seven bytes", 49, honest[..7].to_vec()),
        ("nothing", 49, Vec::new()),
    ] {
        let result = read(frames, &directory);
        assert!(matches!(result, Err(Error::Damaged { .. })), "{what}: {result:?}");
    }
}

#[test]
fn a_trailer_that_points_elsewhere_is_refused() {
    let storage = MemoryStorage::new();
    let (pack, directory) = write_pack(&storage, FrameSettings::default(), &some_frames());
    let name = ObjectName::Pack(pack);
    let whole = storage.bytes(&name).unwrap();
    let (offset, bytes) = (directory.frames_end(), directory.encoded_bytes() as u64);
    for (directory_offset, directory_bytes) in [
        (u64::MAX, bytes),
        (offset, u64::MAX),
        (u64::MAX - 63, 64 + whole.len() as u64),
        (0, offset + bytes),
        (offset + 1, bytes),
    ] {
        let trailer = Trailer { directory_offset, directory_bytes, pack }.encode();
        let kept = &whole[..whole.len() - PACK_TRAILER_BYTES];
        storage.overwrite(&name, [kept, &trailer].concat());
        let result = read_directory(&storage, pack);
        assert!(matches!(result, Err(Error::Damaged { .. })), "{directory_offset} {directory_bytes}: {result:?}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, cases: 2000, ..ProptestConfig::default() })]

    #[test]
    fn any_bytes_are_a_layout_or_refused(mut bytes in prop::collection::vec(any::<u8>(), 0..200), small: bool) {
        if small {
            // Small fields get further.
            for (n, byte) in bytes.iter_mut().enumerate() {
                if n % 4 != 0 { *byte = 0 } else { *byte %= 8 }
            }
        }
        if let Ok(directory) = Directory::parse(&bytes) {
            prop_assert_eq!(directory.encode(), bytes.clone());
        }
        if let Some(front) = bytes.get_mut(..4) {
            front.copy_from_slice(&FRAME_MAGIC);
        }
        if let Ok(header) = FrameHeader::parse(&bytes) {
            prop_assert!(header.stored_bytes() <= crate::format::frame::FRAME_STORED_BYTES_MAX);
        }
        let _ = FrameView::parse(&bytes);
        let _ = Trailer::parse(&bytes, 1000);
    }

    #[test]
    fn a_place_is_what_counting_gives(counts in prop::collection::vec(1..40_u32, 0..20)) {
        let mut directory = Directory::default();
        let mut expected = Vec::new();
        for (frame, count) in counts.iter().enumerate() {
            let lengths: Vec<u32> = (0..*count).map(|n| 1 + n * 7 % 100).collect();
            let mut start = 0;
            for length in &lengths {
                expected.push((frame as u32, start, *length));
                start += length;
            }
            let chunks = lengths.iter().map(|length| ChunkEntry { id: ChunkId([1; 32]), length: *length });
            directory.push(1, [0; 16], chunks);
        }
        for (ordinal, (frame, start, length)) in expected.iter().enumerate() {
            let place = directory.place(ordinal as u32).unwrap();
            prop_assert_eq!((place.frame, place.start, place.length), (*frame, *start, *length));
            prop_assert_eq!(directory.frame_of(ordinal as u32), Some(*frame));
        }
        prop_assert_eq!(directory.place(expected.len() as u32), None);
        prop_assert_eq!(directory.place(u32::MAX), None);
    }
}
