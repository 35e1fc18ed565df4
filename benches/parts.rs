//! Has a change made anything slower? Every part on generated data, with criterion, which remembers the last run.
//!
//! ```text
//! cargo bench --bench parts              all
//! cargo bench --bench parts -- add       those with `add` in their name
//! ```
//!
//! The data are made up: words drawn at random, which compress about as text does, and random bytes. What real data cost
//! is measured by `benches/compare.sh` and by the other benches.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, missing_docs)]

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use seamstore::chunk::{Profile, cut_points};
use seamstore::entry::{ChunkId, PackId};
use seamstore::internals::chunk::adversarial::{random, split_mix};
use seamstore::internals::chunk::seams::chunk_file;
use seamstore::internals::format::directory::{ChunkEntry, Directory};
use seamstore::internals::index::{Index, IndexOptions};
use seamstore::internals::pack::frame::{Codec, FrameDecoder, FrameEncoder, FrameSettings};
use seamstore::request::{AddRequest, GetRequest, Selector, Settings};
use seamstore::{Control, Store};

const MIB: usize = 1 << 20;

criterion_main!(benches);
criterion_group! {
    name = benches;
    config = Criterion::default().sample_size(10).measurement_time(Duration::from_secs(3));
    targets = chunk, frame, index, add_and_get
}

/// Words drawn at random from a few thousand, the first ones often.
fn text(bytes: usize) -> Vec<u8> {
    let mut state = 1;
    let letters = |n: u64, state: &mut u64| (0..n).map(|_| b'a' + (split_mix(state) % 26) as u8).collect::<Vec<u8>>();
    let words: Vec<Vec<u8>> = (0..4096).map(|_| letters(2 + split_mix(&mut state) % 9, &mut state)).collect();
    let mut text = Vec::with_capacity(bytes + 16);
    while text.len() < bytes {
        let drawn = split_mix(&mut state);
        text.extend_from_slice(&words[(drawn & 4095 & (drawn >> 12)) as usize]);
        text.push(if drawn >> 60 == 0 { b'\n' } else { b' ' });
    }
    text.truncate(bytes);
    text
}

fn chunk(c: &mut Criterion) {
    let data = random(1, 64 * MIB);
    let mut group = c.benchmark_group("chunk");
    group.throughput(Throughput::Bytes(data.len() as u64));
    for profile in [Profile::default(), Profile::xet()] {
        group.bench_function(format!("cut points, {profile}"), |b| b.iter(|| cut_points(&data, &profile)));
        for threads in [1, 2] {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            let work = || chunk_file(data.as_slice(), data.len() as u64, &profile, ChunkId::of).unwrap();
            group.bench_function(format!("cut points and ids, {profile}, {threads} threads"), |b| {
                b.iter(|| pool.install(work));
            });
        }
    }
}

fn frame(c: &mut Criterion) {
    let mut group = c.benchmark_group("frame");
    for (name, data) in [("text", text(256 << 10)), ("random", random(2, 256 << 10))] {
        let lengths = vec![16 << 10; 16];
        group.throughput(Throughput::Bytes(data.len() as u64));
        for codec in [Codec::Zstd, Codec::Lz4] {
            let settings = FrameSettings::new(codec, 3, 256 << 10).unwrap();
            let (mut encoder, mut decoder) = (FrameEncoder::new(settings).unwrap(), FrameDecoder::new().unwrap());
            let (mut frame, mut out) = (Vec::new(), Vec::new());
            group.bench_function(format!("encode {name}, {codec}"), |b| {
                b.iter(|| {
                    frame.clear();
                    encoder.encode(&data, &lengths, &mut frame).unwrap();
                });
            });
            group.bench_function(format!("decode {name}, {codec}"), |b| {
                b.iter(|| decoder.decode(&frame, &PackId([0; 32]), 0, &mut out).map(|_| ()).unwrap());
            });
        }
    }
}

fn index(c: &mut Criterion) {
    const PACKS: u64 = 64;
    const CHUNKS: u64 = 4096;
    let id = |pack: u64, chunk: u64| ChunkId::of(&[pack.to_le_bytes(), chunk.to_le_bytes()].concat());
    let directory = |pack: u64| {
        let chunks = (0..CHUNKS).map(|chunk| ChunkEntry { id: id(pack, chunk), length: 1 }).collect();
        Arc::new(Directory { chunks, ..Directory::default() })
    };
    let pack_of = |pack: u64| PackId(*id(pack, u64::MAX).as_bytes());
    let folder = tempfile::tempdir().unwrap();
    let index =
        Index::open(&IndexOptions { folder: Some(folder.path().join("index")), keep: true, ..IndexOptions::default() });
    let directories: Vec<_> = (0..PACKS).map(directory).collect();
    for (pack, directory) in (0..).zip(&directories) {
        index.add_pack(pack_of(pack), Arc::clone(directory)).unwrap();
    }
    let load = |wanted: &PackId| Ok((0..PACKS).find(|p| pack_of(*p) == *wanted).map(directory).unwrap());
    let known: Vec<ChunkId> = (0..CHUNKS).map(|chunk| id(7, chunk)).collect();
    let unknown: Vec<ChunkId> = (0..CHUNKS).map(|chunk| id(PACKS, chunk)).collect();
    let mut group = c.benchmark_group("index");
    group.throughput(Throughput::Elements(CHUNKS));
    for (name, ids) in [("known chunks", &known), ("new chunks", &unknown)] {
        group.bench_function(format!("look up {name}"), |b| {
            b.iter(|| ids.iter().filter(|id| index.find(id, &load).unwrap().is_some()).count());
        });
    }
}

fn add_and_get(c: &mut Criterion) {
    let folder = tempfile::tempdir().unwrap();
    let text = text(64 * MIB);
    let big = folder.path().join("big");
    std::fs::write(&big, &text).unwrap();
    let tree = folder.path().join("tree");
    for (at, part) in text.chunks(16 << 10).take(2048).enumerate() {
        let below = tree.join(format!("{}", at / 64));
        std::fs::create_dir_all(&below).unwrap();
        std::fs::write(below.join(format!("{at}")), part).unwrap();
    }
    for (name, path, bytes) in [("one file", &big, 64 * MIB), ("2048 files", &tree, 32 * MIB)] {
        let mut group = c.benchmark_group(name);
        group.throughput(Throughput::Bytes(bytes as u64));
        for threads in [1, 2] {
            let fresh = || {
                let at = tempfile::tempdir_in(folder.path()).unwrap();
                let store = Store::open_or_init(&at.path().join("store"), Settings::default()).unwrap();
                (at, store)
            };
            group.bench_function(format!("add new, {threads} threads"), |b| {
                b.iter_batched(fresh, |(at, store)| (add(&store, path, false, threads), at), BatchSize::PerIteration);
            });
            let (_kept, store) = fresh();
            add(&store, path, false, threads);
            group.bench_function(format!("add known, {threads} threads"), |b| {
                b.iter(|| add(&store, path, true, threads));
            });
            group.bench_function(format!("add unchanged, {threads} threads"), |b| {
                b.iter(|| add(&store, path, false, threads));
            });
            let place = || tempfile::tempdir_in(folder.path()).unwrap();
            group.bench_function(format!("get, {threads} threads"), |b| {
                b.iter_batched(
                    place,
                    |to| (get(&store, path, &to.path().join("copy"), threads), to),
                    BatchSize::PerIteration,
                );
            });
        }
    }
}

fn add(store: &Store, path: &Path, reread: bool, threads: usize) {
    let paths: Vec<PathBuf> = vec![path.to_owned()];
    let request = AddRequest::default().paths(paths).reread(reread).memory_bytes(256 * MIB).threads(threads);
    store.add(&request, &Control::default()).unwrap();
}

fn get(store: &Store, path: &Path, to: &Path, threads: usize) {
    let (path, snapshot) = (path.to_owned(), Selector::Latest);
    let request = GetRequest::default().path(path).snapshot(snapshot).threads(threads).memory_bytes(256 * MIB);
    store.get(&request, to, &Control::default()).unwrap();
}
