//! Frames: any bytes, forged ones whose checksum fits, and honest ones there and back.

use seamstore::Error;
use seamstore::internals::format::FRAME_RAW_BYTES_MAX;
use seamstore::internals::format::frame::{
    FRAME_HEADER_BYTES, FRAME_MAGIC, FRAME_STORED_BYTES_MAX, FrameHeader, FrameView,
};
use seamstore::internals::format::id::{PackId, checksum};
use seamstore::internals::pack::frame::{Codec, FrameDecoder, FrameEncoder, FrameSettings};

use super::script::Script;

/// Where the pack is said to be that frames come from.
const AT: u64 = 1000;

/// The target.
pub fn frame(input: &[u8]) {
    let mut script = Script::new(input);
    match script.byte() % 4 {
        0 => round_trip(&mut script),
        1 => decode_all(script.rest(), &mut Script::new(&[])),
        2 => decode_all(&sealed(script.rest().to_vec()), &mut Script::new(&[])),
        _ => {
            let frame = forged(&mut script);
            decode_all(&frame, &mut script);
        }
    }
}

/// Makes bytes begin as a frame and have its checksum.
fn sealed(mut bytes: Vec<u8>) -> Vec<u8> {
    if bytes.len() >= FRAME_HEADER_BYTES {
        bytes[..4].copy_from_slice(&FRAME_MAGIC);
        let sum = checksum(&[&bytes[..20], &bytes[FRAME_HEADER_BYTES..]]);
        bytes[20..FRAME_HEADER_BYTES].copy_from_slice(&sum);
    }
    bytes
}

/// Chunks of a script.
pub(super) fn chunks(script: &mut Script<'_>, count_max: usize, bytes_max: usize) -> Vec<Vec<u8>> {
    (0..=script.below(count_max))
        .map(|_| {
            let length = 1 + script.below(bytes_max);
            script.content(length)
        })
        .collect()
}

/// An encoder of settings that the script names.
pub(super) fn encoder(script: &mut Script<'_>) -> FrameEncoder {
    let codec = script.pick(&[Codec::Zstd, Codec::None, Codec::Lz4]);
    let level = script.pick(&[1, -7, -1, 3, 6]);
    FrameEncoder::new(FrameSettings::new(codec, level, 16 << 10).unwrap()).unwrap()
}

/// A frame of which any field may lie, with a checksum that fits.
pub(super) fn forged(script: &mut Script<'_>) -> Vec<u8> {
    let chunks = chunks(script, 4, 3000);
    let raw = chunks.concat();
    let lengths: Vec<u32> = chunks.iter().map(|chunk| script.number32(chunk.len() as u64)).collect();
    let codec = script.byte() % 5;
    let mut payload = match codec {
        1 => zstd::bulk::compress(&raw, 1).unwrap(),
        2 => lz4_flex::block::compress(&raw),
        _ => raw.clone(),
    };
    script.damage(&mut payload);
    let filter = if script.lies() { script.number32(1) } else { 0 };
    let mut bytes = FRAME_MAGIC.to_vec();
    bytes.extend((u32::from(codec) | filter << 8).to_le_bytes());
    for honest in [lengths.len(), raw.len(), payload.len()] {
        bytes.extend(script.number32(honest as u64).to_le_bytes());
    }
    bytes.extend([0; 16]);
    bytes.extend(lengths.iter().flat_map(|length| length.to_le_bytes()));
    bytes.extend(payload);
    sealed(bytes)
}

/// Decodes in every way. What comes out is as long as the header says, and what is allocated is no more.
fn decode_all(frame: &[u8], script: &mut Script<'_>) {
    let header = FrameHeader::parse(frame);
    let raw_bytes = header.as_ref().map_or(0, |header| header.raw_bytes as usize);
    if let Ok(header) = &header {
        assert!(header.stored_bytes() <= FRAME_STORED_BYTES_MAX && raw_bytes <= FRAME_RAW_BYTES_MAX);
    }
    let mut outs = Vec::new();
    for mut decoder in [FrameDecoder::new().unwrap(), FrameDecoder::for_checked_chunks().unwrap()] {
        let mut out = Vec::new();
        match decoder.decode(frame, &PackId([7; 32]), AT, &mut out) {
            Ok(view) => {
                assert_eq!(out.len(), raw_bytes);
                assert_eq!(view.lengths().map(|length| length as usize).sum::<usize>(), raw_bytes);
                outs.push(out.clone());
            }
            Err(Error::Damaged { offset: Some(offset), .. }) => {
                assert!((AT..=AT + frame.len() as u64).contains(&offset))
            }
            Err(other) => panic!("{other}"),
        }
        assert!(out.capacity() <= 64.max(2 * raw_bytes), "{} bytes for {raw_bytes}", out.capacity());
        let end = script.number(raw_bytes as u64 / 2) as usize;
        if decoder.decode_front(frame, &PackId([7; 32]), AT, end, &mut out).is_ok() {
            assert!(out.len() >= end.min(raw_bytes) && out.len() <= raw_bytes, "{} of {end}", out.len());
        }
    }
    if let [checked, other] = outs.as_slice() {
        assert!(checked == other && FrameView::parse(frame).unwrap().check().is_ok());
    }
}

/// What is encoded comes back; changed anywhere, it does not pass.
fn round_trip(script: &mut Script<'_>) {
    let mut encoder = encoder(script);
    let chunks = chunks(script, 12, 20_000);
    let lengths: Vec<u32> = chunks.iter().map(|chunk| chunk.len() as u32).collect();
    let raw = chunks.concat();
    let mut frame = Vec::new();
    encoder.encode(&raw, &lengths, &mut frame).unwrap();
    let mut again = Vec::new();
    encoder.encode(&raw, &lengths, &mut again).unwrap();
    assert!(frame == again, "the same chunks give the same frame");
    let mut out = Vec::new();
    let mut decoder = FrameDecoder::new().unwrap();
    let view = decoder.decode(&frame, &PackId([7; 32]), AT, &mut out).unwrap();
    assert!(out == raw && view.lengths().eq(lengths.iter().copied()));
    let mut damaged = frame.clone();
    script.damage(&mut damaged);
    if damaged != frame {
        let result = decoder.decode(&damaged, &PackId([7; 32]), AT, &mut out);
        assert!(matches!(result, Err(Error::Damaged { .. })), "{result:?}");
        // Without the checksum it may decode, to what ids tell from the right bytes.
        decode_all(&damaged, script);
        decode_all(&sealed(damaged), script);
    }
}
