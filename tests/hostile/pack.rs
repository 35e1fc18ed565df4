//! Packs: directories that lie, trailers that point elsewhere, and what is salvaged of damaged ones.

use seamstore::Error;
use seamstore::entry::{ChunkId, PackId};
use seamstore::internals::format::directory::{ChunkEntry, Directory};
use seamstore::internals::format::frame::FrameView;
use seamstore::internals::format::name::ObjectName;
use seamstore::internals::format::pack::{PACK_HEADER_BYTES, PACK_TRAILER_BYTES, Trailer, header};
use seamstore::internals::pack::reader::{read_directory, read_frame};
use seamstore::internals::pack::{FrameDecoder, salvage};
use seamstore::internals::storage::MemoryStorage;

use super::frame::{chunks, encoder, forged};
use super::script::Script;

/// Any pack, by its bytes and its name; and whether it is all it should be.
pub(super) struct ForgedPack {
    pub(super) id: PackId,
    pub(super) bytes: Vec<u8>,
    pub(super) honest: bool,
}

/// A frame, and what a directory is to say of its chunks.
pub(super) type Listed = (Vec<u8>, Vec<(ChunkId, u32)>);

/// A pack of frames with their chunks' lengths and ids, in which the script may change the directory, under the name
/// that goes with that, and whatever is not in the directory.
pub(super) fn forge(script: &mut Script<'_>, frames: &[Listed]) -> ForgedPack {
    let mut directory = Directory::default();
    let mut bytes = header().to_vec();
    for (frame, list) in frames {
        let entries = list.iter().map(|(id, length)| ChunkEntry { id: *id, length: *length });
        let sum = frame.get(20..36).and_then(|sum| sum.try_into().ok()).unwrap_or_default();
        directory.push(frame.len() as u32, sum, entries);
        bytes.extend_from_slice(frame);
    }
    let honest_directory = directory.encode();
    let mut encoded = honest_directory.clone();
    script.damage(&mut encoded);
    let id = PackId::of_directory(&encoded);
    let directory_offset = script.number(bytes.len() as u64);
    let directory_bytes = script.number(encoded.len() as u64);
    let trailer = Trailer { directory_offset, directory_bytes, pack: id };
    let end = bytes.len();
    let before = bytes.clone();
    script.damage(&mut bytes[..end]);
    let mut honest = encoded == honest_directory && before == bytes;
    honest &= directory_offset == end as u64 && directory_bytes == encoded.len() as u64;
    bytes.extend(encoded);
    bytes.extend(trailer.encode());
    if script.lies() {
        let kept = script.number(bytes.len() as u64) as usize;
        honest &= kept >= bytes.len();
        bytes.truncate(kept);
    }
    ForgedPack { id, bytes, honest }
}

/// Frames of a script, with what a directory would say of them.
fn frames(script: &mut Script<'_>) -> (Vec<Listed>, bool) {
    let mut encoder = encoder(script);
    let mut honest = true;
    let frames = (0..=script.below(4)).map(|_| {
        if script.lies() {
            honest = false;
            let frame = forged(script);
            let list = FrameView::parse(&frame).map(|view| view.lengths().collect::<Vec<_>>()).unwrap_or_default();
            return (frame, list.into_iter().map(|length| (ChunkId::of(&length.to_le_bytes()), length)).collect());
        }
        let chunks = chunks(script, 4, 2000);
        let lengths: Vec<u32> = chunks.iter().map(|chunk| chunk.len() as u32).collect();
        let mut frame = Vec::new();
        encoder.encode(&chunks.concat(), &lengths, &mut frame).unwrap();
        (frame, chunks.iter().map(|chunk| (ChunkId::of(chunk), chunk.len() as u32)).collect())
    });
    let frames = frames.collect();
    (frames, honest)
}

/// The target.
pub fn pack(input: &[u8]) {
    let mut script = Script::new(input);
    if script.byte() == 255 {
        // Bytes as they are, named as their trailer would have it.
        let bytes = script.rest().to_vec();
        if let Ok(parsed) = Directory::parse(&bytes) {
            assert_eq!(parsed.encode(), bytes);
        }
        let name = bytes.len().checked_sub(PACK_TRAILER_BYTES).and_then(|at| bytes[at + 16..at + 48].try_into().ok());
        return look_at(&ForgedPack { id: PackId(name.unwrap_or([0; 32])), bytes, honest: false });
    }
    let (frames, honest) = frames(&mut script);
    let mut pack = forge(&mut script, &frames);
    pack.honest &= honest;
    look_at(&pack);
}

fn look_at(pack: &ForgedPack) {
    let storage = MemoryStorage::new();
    let name = ObjectName::Pack(pack.id);
    storage.overwrite(&name, pack.bytes.clone());
    let directory = match read_directory(&storage, pack.id) {
        Ok(directory) => Some(directory),
        Err(Error::Damaged { file, .. }) => {
            assert!(file == name.path() && !pack.honest);
            None
        }
        Err(other) => panic!("{other}"),
    };
    if let Some(directory) = &directory {
        assert_eq!(PackId::of_directory(&directory.encode()), pack.id);
        let mut at = PACK_HEADER_BYTES as u64;
        let (mut decoder, mut stored, mut raw) = (FrameDecoder::new().unwrap(), Vec::new(), Vec::new());
        for (ordinal, frame) in directory.frames.iter().enumerate() {
            assert_eq!(frame.offset, at);
            at = frame.end();
            assert!(at <= pack.bytes.len() as u64);
            for chunk in frame.chunks() {
                let place = directory.place(chunk).unwrap();
                assert!(place.frame as usize == ordinal && place.start + place.length <= frame.raw_bytes);
            }
            let read = read_frame(&storage, &pack.id, frame, &mut stored)
                .and_then(|()| decoder.decode(&stored, &pack.id, frame.offset, &mut raw).map(|_| ()));
            assert!(!pack.honest || read.is_ok());
            assert!(matches!(read, Ok(()) | Err(Error::Damaged { .. })), "{read:?}");
        }
    }
    check_salvage(&storage, pack, directory.as_ref());
}

/// What is salvaged decodes to chunks of the ids that are reported, in order, and an honest pack is salvaged whole.
fn check_salvage(storage: &MemoryStorage, pack: &ForgedPack, directory: Option<&Directory>) {
    let mut last = None;
    let mut found = 0;
    let (mut decoder, mut raw) = (FrameDecoder::new().unwrap(), Vec::new());
    let salvaged = salvage(storage, pack.id, &mut |frame| {
        assert!(last.is_none_or(|last| frame.offset > last));
        last = Some(frame.offset);
        decoder.decode(frame.encoded, &pack.id, frame.offset, &mut raw).unwrap();
        let mut rest = raw.as_slice();
        for (id, length) in frame.ids.iter().zip(frame.lengths) {
            let (chunk, after) = rest.split_at(*length as usize);
            assert_eq!(ChunkId::of(chunk), *id);
            rest = after;
        }
        assert!(rest.is_empty() && frame.ids.len() == frame.lengths.len());
        found += frame.ids.len();
        Ok(())
    });
    let salvaged = salvaged.unwrap();
    assert_eq!(salvaged.chunks as usize, found);
    assert!(salvaged.lost.windows(2).all(|pair| pair[0].bytes.start <= pair[1].bytes.start));
    if pack.honest {
        assert!(salvaged.lost.is_empty(), "{:?}", salvaged.lost);
        assert_eq!(Some(found), directory.map(|directory| directory.chunks.len()));
    }
}
