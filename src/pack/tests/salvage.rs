//! What comes out of packs that are cut off, overwritten or made to mislead.

use std::collections::BTreeSet;
use std::ops::Range;

use super::super::salvage::{Lost, Salvage, WINDOW_BYTES, salvage};
use super::*;
use crate::format::frame::{FRAME_MAGIC, Filter, append_frame};
use crate::format::pack::header;
use crate::storage::{Listed, ObjectWriter, Put};

/// The salvaged frames (offset, ids) of a pack and the report. Every frame is checked to be what a writer takes.
fn salvaged(storage: &dyn Storage, pack: PackId) -> (Vec<(u64, Vec<ChunkId>)>, Salvage) {
    let mut found = Vec::new();
    let elsewhere = MemoryStorage::new();
    let mut again = PackWriter::begin(&elsewhere).unwrap();
    let report = salvage(storage, pack, &mut |frame| {
        found.push((frame.offset, frame.ids.to_vec()));
        again.push_frame(frame.encoded, frame.ids, frame.lengths)
    })
    .unwrap();
    assert_eq!(report.frames, found.len() as u64);
    assert_eq!(report.chunks, found.iter().map(|(_, ids)| ids.len() as u64).sum::<u64>());
    (found, report)
}

fn expected(directory: &Directory) -> Vec<(u64, Vec<ChunkId>)> {
    let ids = |frame| directory.chunks_of(frame).iter().map(|chunk| chunk.id).collect();
    directory.frames.iter().map(|frame| (frame.offset, ids(frame))).collect()
}

#[test]
fn a_whole_pack_comes_out_whole() {
    let storage = MemoryStorage::new();
    let (pack, directory) = write_pack(&storage, FrameSettings::default(), &some_frames());
    let (found, report) = salvaged(&storage, pack);
    assert_eq!(found, expected(&directory));
    assert_eq!((report.lost, report.lost_chunks), (vec![], Some(vec![])));
}

#[test]
fn a_pack_cut_off_anywhere_gives_the_frames_before_the_cut() {
    let storage = MemoryStorage::new();
    let (pack, directory) = write_pack(&storage, FrameSettings::default(), &some_frames());
    let name = ObjectName::Pack(pack);
    let whole = storage.bytes(&name).unwrap();
    for bytes in 0..whole.len() {
        storage.overwrite(&name, whole[..bytes].to_vec());
        let (found, report) = salvaged(&storage, pack);
        let kept = directory.frames.iter().filter(|frame| frame.end() <= bytes as u64).count();
        assert_eq!(found, expected(&directory)[..kept], "{bytes} bytes");
        assert!(!report.lost.is_empty());
        let last = report.lost.last().unwrap();
        assert!(last.bytes.end == bytes as u64, "{bytes} bytes: {last:?}");
    }
}

#[test]
fn one_damaged_frame_costs_that_frame_only_and_with_the_directory_its_damaged_chunks_only() {
    let storage = MemoryStorage::new();
    let (pack, directory) = write_pack(&storage, FrameSettings::default(), &some_frames());
    let name = ObjectName::Pack(pack);
    let whole = storage.bytes(&name).unwrap();
    let mut outcomes = BTreeSet::new();
    for (n, frame) in directory.frames.iter().enumerate() {
        for at in frame.offset..frame.end() {
            for keeps_end in [true, false] {
                let mut bytes = whole.to_vec();
                bytes[at as usize] ^= 0x10;
                if !keeps_end {
                    bytes.truncate(directory.frames_end() as usize);
                }
                storage.overwrite(&name, bytes);
                let (found, report) = salvaged(&storage, pack);
                let mut others = expected(&directory);
                let (_, own) = others.remove(n);
                let (rescued, intact): (Vec<_>, Vec<_>) =
                    found.into_iter().partition(|(offset, _)| *offset == frame.offset);
                assert_eq!(intact, others, "byte {at}");
                assert_eq!(report.lost[0].bytes, frame.offset..frame.end());
                let saved: Vec<ChunkId> = rescued.into_iter().flat_map(|(_, ids)| ids).collect();
                let lost: Vec<ChunkId> = own.into_iter().filter(|id| !saved.contains(id)).collect();
                assert!(keeps_end || saved.is_empty());
                outcomes.insert((saved.is_empty(), lost.is_empty()));
                assert_eq!(report.lost_chunks, keeps_end.then_some(lost));
            }
        }
    }
    // All is lost, all is saved, and some of each.
    assert_eq!(outcomes.len(), 3);
}

#[test]
fn a_damaged_header_or_directory_costs_no_frame() {
    let storage = MemoryStorage::new();
    let (pack, directory) = write_pack(&storage, FrameSettings::default(), &some_frames());
    let name = ObjectName::Pack(pack);
    let whole = storage.bytes(&name).unwrap();
    let frames_end = directory.frames_end();
    for (at, lost) in [(3, 0..16), (frames_end as usize + 9, frames_end..whole.len() as u64)] {
        let mut bytes = whole.to_vec();
        bytes[at] ^= 1;
        storage.overwrite(&name, bytes);
        let (found, report) = salvaged(&storage, pack);
        assert_eq!(found, expected(&directory));
        assert_eq!(report.lost.iter().map(|lost| lost.bytes.clone()).collect::<Vec<_>>(), [lost]);
    }
}

#[test]
fn a_pack_inside_a_pack_does_not_mislead_the_walk() {
    let storage = MemoryStorage::new();
    let settings = FrameSettings::new(Codec::None, 3, 16 << 10).unwrap();
    let (inner, _) = write_pack(&storage, settings, &some_frames());
    let inner = storage.bytes(&ObjectName::Pack(inner)).unwrap().to_vec();
    let (pack, directory) = write_pack(&storage, settings, &[vec![inner], vec![noise(9, 10)]]);
    let name = ObjectName::Pack(pack);
    let cut = storage.bytes(&name).unwrap()[..directory.frames_end() as usize].to_vec();
    storage.overwrite(&name, cut);
    assert_eq!(salvaged(&storage, pack).0, expected(&directory));
}

#[test]
fn salvage_ends_soon_when_every_byte_looks_like_a_frame() {
    // Headers one after another, each telling of an 8 MiB frame: terabytes to hash, if nothing stopped it.
    let mut fake = FRAME_MAGIC.to_vec();
    fake.extend([0; 4]);
    for field in [2_u32, 8 << 20, 8 << 20] {
        fake.extend(field.to_le_bytes());
    }
    fake.extend([0xee; 16]);
    fake.extend([0, 0, 64, 0, 0, 0, 64, 0]);
    let mut bytes = header().to_vec();
    while bytes.len() < 24 << 20 {
        bytes.extend_from_slice(&fake);
    }
    let storage = MemoryStorage::new();
    let pack = PackId([5; 32]);
    storage.overwrite(&ObjectName::Pack(pack), bytes);
    let (found, report) = salvaged(&storage, pack);
    assert_eq!(found, []);
    assert!(matches!(&report.lost[..], [Lost { bytes, .. }, _] if *bytes == (16..report.lost[1].bytes.end)));
}

#[test]
fn sectors_that_cannot_be_read_cost_the_frames_they_are_in() {
    let storage = MemoryStorage::new();
    let frames: Vec<Chunks> = (0..40).map(|n| vec![noise(n, 3000)]).collect();
    let (pack, directory) = write_pack(&storage, FrameSettings::default(), &frames);
    let (found, report) = salvaged(&BadSector(storage, 50_000..50_001), pack);
    let hit = directory.frames.iter().filter(|frame| frame.offset < 53_248 && frame.end() > 49_152).count();
    assert!(found.len() >= 40 - hit - 1 && found.len() < 40, "{} frames", found.len());
    assert_eq!(report.lost_chunks.unwrap().len(), 40 - found.len());
}

#[test]
fn frames_after_a_long_stretch_of_nothing_are_found() {
    let storage = MemoryStorage::new();
    let pack = PackId([6; 32]);
    // Where the first window ends, so that it may end within the magic, and further on.
    let window_end = 16 + WINDOW_BYTES;
    for at in (window_end - 5..window_end + 2).chain([window_end + 12_345]) {
        let mut bytes = header().to_vec();
        bytes.resize(at, 0xf5);
        append_frame(Codec::None, Filter::None, &[3], 3, b"abc", &mut bytes);
        storage.overwrite(&ObjectName::Pack(pack), bytes);
        assert_eq!(salvaged(&storage, pack).0, [(at as u64, vec![ChunkId::of(b"abc")])]);
    }
}

/// Fails to read some bytes.
#[derive(Debug)]
struct BadSector(MemoryStorage, Range<u64>);

impl Storage for BadSector {
    fn describe(&self, name: &ObjectName) -> String {
        self.0.describe(name)
    }
    fn put_if_absent(&self, name: &ObjectName, bytes: &[u8]) -> Result<Put, Error> {
        self.0.put_if_absent(name, bytes)
    }
    fn writer(&self) -> Result<Box<dyn ObjectWriter>, Error> {
        self.0.writer()
    }
    fn size(&self, name: &ObjectName) -> Result<u64, Error> {
        self.0.size(name)
    }
    fn read_at(&self, name: &ObjectName, offset: u64, buffer: &mut [u8]) -> Result<(), Error> {
        if offset < self.1.end && offset + buffer.len() as u64 > self.1.start {
            return Err(Error::io("read", "a bad sector", std::io::Error::other("unreadable")));
        }
        self.0.read_at(name, offset, buffer)
    }
    fn list(&self, kind: ObjectKind) -> Result<Vec<Listed>, Error> {
        self.0.list(kind)
    }
    fn delete(&self, name: &ObjectName) -> Result<(), Error> {
        self.0.delete(name)
    }
}
