#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use std::sync::Mutex;
use std::sync::atomic::AtomicU32;

use super::*;

const BLOCK: u64 = BLOCK_BYTES as u64;

/// Fails from some operation on, as if the process had been killed; the last write is torn.
#[derive(Debug)]
struct Mortal<'a> {
    file: &'a File,
    left: AtomicU32,
}

impl Mortal<'_> {
    fn step(&self) -> io::Result<()> {
        let left = self.left.load(Ordering::Relaxed);
        self.left.store(left.checked_sub(1).ok_or_else(|| io::Error::other("killed"))?, Ordering::Relaxed);
        Ok(())
    }
}

impl ChangeFile for Mortal<'_> {
    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        if let Err(e) = self.step() {
            self.file.write_all_at(&bytes[..bytes.len() / 2], offset)?;
            return Err(e);
        }
        self.file.write_all_at(bytes, offset)
    }

    fn set_len(&self, bytes: u64) -> io::Result<()> {
        self.step()?;
        self.file.set_len(bytes)
    }

    fn sync(&self) -> io::Result<()> {
        self.step()
    }

    fn file(&self) -> &File {
        self.file
    }
}

fn block(seed: u64) -> Vec<u8> {
    (0..BLOCK).map(|i| (i.wrapping_mul(seed) >> 3) as u8 ^ seed as u8).collect()
}

fn content(layers: &Layers) -> io::Result<Vec<u8>> {
    let mut all = vec![0; layers.len() as usize];
    layers.read(0, &mut all)?;
    Ok(all)
}

#[test]
fn it_reads_as_a_plain_file_would() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("index");
    let mut model: Vec<u8> = Vec::new();
    let mut state = 5u64;
    let mut random = move |below: u64| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) % below
    };
    let mut layers = Layers::open(&path, false).unwrap();
    for round in 0..600 {
        match random(10) {
            0 => {
                let bytes = random(80) * BLOCK;
                layers.set_len(bytes).unwrap();
                model.resize(bytes as usize, 0);
            }
            1 if round % 7 == 0 => {
                // Where nothing was written the base has holes, which are not for reading: fill them first.
                let all = content(&layers).unwrap();
                layers.write(0, &all).unwrap();
                assert_eq!(layers.persist().unwrap(), Persisted::Yes);
                layers = Layers::open(&path, false).unwrap();
                assert!(layers.has_base());
            }
            2 => {
                let data = block(random(1000))[..random(BLOCK) as usize].to_vec();
                let offset = random(model.len() as u64 + 1);
                let end = (offset as usize + data.len()).min(model.len());
                let data = &data[..end - offset as usize];
                if !data.is_empty() {
                    layers.write(offset, data).unwrap();
                    model[offset as usize..end].copy_from_slice(data);
                }
            }
            _ => {
                let blocks = model.len() as u64 / BLOCK;
                if blocks > 0 {
                    let start = random(blocks);
                    let count = 1 + random((blocks - start).min(40));
                    let data: Vec<u8> = (0..count).flat_map(|i| block(round * 100 + i)).collect();
                    layers.write(start * BLOCK, &data).unwrap();
                    model[(start * BLOCK) as usize..][..data.len()].copy_from_slice(&data);
                }
            }
        }
        assert_eq!(layers.len(), model.len() as u64);
        assert!(content(&layers).unwrap() == model, "round {round}");
    }
    assert!(layers.read(model.len() as u64, &mut [0]).is_err());
}

#[test]
fn a_process_killed_while_it_writes_the_base_leaves_the_old_the_new_or_none() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("index");
    let first = Layers::open(&path, false).unwrap();
    for number in 0..600 {
        first.write(number * BLOCK, &block(number)).unwrap();
    }
    let old = content(&first).unwrap();
    assert_eq!(first.persist().unwrap(), Persisted::Yes);
    let base = std::fs::read(&path).unwrap();
    let (mut olds, mut nones, mut news) = (0, 0, 0);
    for left in 0.. {
        std::fs::write(&path, &base).unwrap();
        let layers = Layers::open(&path, false).unwrap();
        for number in (0..700).filter(|number| number % 9 < 4) {
            layers.write(number * BLOCK, &block(1000 + number)).unwrap();
        }
        for number in 600..700 {
            layers.write(number * BLOCK, &block(number)).unwrap();
        }
        let new = content(&layers).unwrap();
        let file = OpenOptions::new().read(true).write(true).open(&path).unwrap();
        let generation = layers.base.as_ref().unwrap().header.generation;
        let written = layers.replace(&Mortal { file: &file, left: AtomicU32::new(left) }, generation, false);
        drop((layers, file));
        let after = Layers::open(&path, false).unwrap();
        if after.has_base() {
            let found = content(&after).unwrap();
            assert!(found == old || found == new, "{left}");
            if found == old { olds += 1 } else { news += 1 }
        } else {
            nones += 1;
            // What is not whole is nobody's: it may be replaced.
            after.write(0, &block(1)).unwrap();
            assert_eq!(after.persist().unwrap(), Persisted::Yes, "{left}");
            assert!(Layers::open(&path, false).unwrap().has_base());
        }
        if written.is_ok() {
            break;
        }
    }
    // The whole header is the last thing written before the last sync.
    assert!(olds == 0 && nones > 4 && news >= 1, "{olds} {nones} {news}");
}

/// Notes what is done to a file, and does not do it.
#[derive(Debug)]
struct Recorder {
    done: Mutex<Vec<Done>>,
    file: File,
}

#[derive(Debug)]
enum Done {
    Write(Vec<u8>, u64),
    SetLen(u64),
    Sync,
}

impl Recorder {
    fn note(&self, done: Done) -> io::Result<()> {
        self.done.lock().unwrap().push(done);
        Ok(())
    }
}

impl ChangeFile for Recorder {
    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.note(Done::Write(bytes.to_vec(), offset))
    }

    fn set_len(&self, bytes: u64) -> io::Result<()> {
        self.note(Done::SetLen(bytes))
    }

    fn sync(&self) -> io::Result<()> {
        self.note(Done::Sync)
    }

    fn file(&self) -> &File {
        &self.file
    }
}

/// What was synced is there; of the rest, any part, in any order, or torn.
#[test]
fn power_lost_while_the_base_is_written_leaves_the_old_the_new_or_none() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("index");
    let first = Layers::open(&path, false).unwrap();
    for number in 0..60 {
        first.write(number * BLOCK, &block(number)).unwrap();
    }
    let old = content(&first).unwrap();
    assert_eq!(first.persist().unwrap(), Persisted::Yes);
    drop(first);
    let base = std::fs::read(&path).unwrap();
    let layers = Layers::open(&path, false).unwrap();
    for number in (0..70).filter(|number| number % 9 < 4 || *number > 59) {
        layers.write(number * BLOCK, &block(1000 + number)).unwrap();
    }
    let new = content(&layers).unwrap();
    let recorder = Recorder { done: Mutex::default(), file: File::open(&path).unwrap() };
    layers.replace(&recorder, 1, false).unwrap();
    drop(layers);
    let done = recorder.done.into_inner().unwrap();
    let mut state = 11u64;
    let mut random = move |below: u64| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) % below
    };
    let (mut olds, mut nones, mut news) = (0, 0, 0);
    for end in 0..=done.len() {
        let synced = done[..end].iter().rposition(|op| matches!(op, Done::Sync)).unwrap_or(0);
        for _ in 0..12 {
            let mut kept: Vec<(&Done, bool)> = done[..synced].iter().map(|op| (op, false)).collect();
            let mut rest: Vec<_> = done[synced..end].iter().filter(|_| random(3) > 0).collect();
            for i in (1..rest.len()).rev() {
                rest.swap(i, random(i as u64 + 1) as usize);
            }
            kept.extend(rest.into_iter().map(|op| (op, random(4) == 0)));
            std::fs::write(&path, &base).unwrap();
            let file = OpenOptions::new().read(true).write(true).open(&path).unwrap();
            for (op, torn) in kept {
                match op {
                    Done::Write(bytes, offset) if torn => {
                        let part = (bytes.len() / 512).max(1) * 512 / 2;
                        file.write_all_at(&bytes[..part.min(bytes.len())], *offset).unwrap();
                    }
                    Done::Write(bytes, offset) => file.write_all_at(bytes, *offset).unwrap(),
                    Done::SetLen(bytes) => file.set_len(*bytes).unwrap(),
                    Done::Sync => {}
                }
            }
            let after = Layers::open(&path, false).unwrap();
            if after.has_base() {
                let found = content(&after).unwrap();
                assert!(found == old || found == new, "{end}");
                if found == old { olds += 1 } else { news += 1 }
            } else {
                nones += 1;
            }
        }
    }
    assert!(olds > 0 && nones > 100 && news > 0, "{olds} {nones} {news}");
}

#[test]
fn a_block_in_anothers_place_is_noticed() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("index");
    let layers = Layers::open(&path, false).unwrap();
    for number in 0..4 {
        layers.write(number * BLOCK, &block(number)).unwrap();
    }
    layers.persist().unwrap();
    drop(layers);
    let mut bytes = std::fs::read(&path).unwrap();
    let (second, third) = (physical(1) as usize, physical(2) as usize);
    let (front, back) = bytes.split_at_mut(third);
    front[second..].swap_with_slice(&mut back[..STORED_BYTES]);
    std::fs::write(&path, &bytes).unwrap();
    let layers = Layers::open(&path, false).unwrap();
    let mut out = block(9);
    layers.read(0, &mut out).unwrap();
    assert_eq!(out, block(0));
    assert_eq!(layers.read(BLOCK, &mut out).unwrap_err().kind(), io::ErrorKind::InvalidData);
}
