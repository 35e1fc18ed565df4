//! What do look-ups cost, and an index itself, at a given number of chunks?
//!
//! `cargo bench --bench index -- 10000000` builds an index of ten million chunks (in packs of 4096) in a temporary
//! folder, and prints a table. Without a number it takes a million. The ids are made up, and so are the pack
//! directories: where one is loaded, the time to make it up is taken off. Times are of the processor, so that other
//! work on the machine shows little, except where they are said to be by the clock.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::print_stdout, missing_docs)]

use std::cell::Cell;
use std::os::unix::fs::MetadataExt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use seamstore::entry::{ChunkId, PackId};
use seamstore::internals::format::directory::{ChunkEntry, Directory};
use seamstore::internals::index::{Index, IndexOptions, Kept};

const CHUNKS_PER_PACK: u64 = 4096;
const ASKED: u64 = 2_000_000;

fn main() {
    let chunks = std::env::args().skip(1).find_map(|arg| arg.parse().ok()).unwrap_or(1_000_000);
    let folder = tempfile::tempdir().unwrap();
    Bench { packs: u64::div_ceil(chunks, CHUNKS_PER_PACK), loading: Cell::default(), loads: Cell::new(0) }
        .run(&folder.path().join("index"));
}

/// Processor time of this thread.
fn now() -> Duration {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    Duration::new(now.tv_sec as u64, now.tv_nsec as u32)
}

struct Bench {
    packs: u64,
    /// Time spent in making up directories that were asked for.
    loading: Cell<Duration>,
    loads: Cell<u64>,
}

impl Bench {
    fn run(&self, path: &std::path::Path) {
        let chunks = self.packs * CHUNKS_PER_PACK;
        println!("{chunks} chunks in {} packs", self.packs);
        let directory_cache_bytes = IndexOptions::default().directory_cache_bytes;
        let options = IndexOptions { folder: Some(path.to_owned()), keep: true, ..IndexOptions::default() };
        let index = Index::open(&options);
        let start = now();
        let mut slowest = Duration::ZERO;
        let mut making = Duration::ZERO;
        for number in 0..self.packs {
            let start = now();
            let directory = directory(number);
            making += now() - start;
            let start = now();
            index.add_pack(pack(number), directory).unwrap();
            slowest = slowest.max(now() - start);
        }
        let added = (now() - start) - making;
        let (start, clock) = (now(), Instant::now());
        assert_eq!(index.close(), Kept::Yes);
        println!(
            "build            {:8.2} s, {:.0} ns a chunk; slowest add of a pack {:.0} ms; close {:.2} s, {:.2} by the clock",
            added.as_secs_f64(),
            added.as_secs_f64() * 1e9 / chunks as f64,
            slowest.as_secs_f64() * 1e3,
            (now() - start).as_secs_f64(),
            clock.elapsed().as_secs_f64(),
        );
        let files: Vec<u64> =
            std::fs::read_dir(path).unwrap().map(|file| file.unwrap().metadata().unwrap().blocks() * 512).collect();
        println!(
            "files            {:8.2} bytes a chunk on disk, in {} files",
            files.iter().sum::<u64>() as f64 / chunks as f64,
            files.len(),
        );

        let (rss_before, _) = memory();
        let (start, clock) = (now(), Instant::now());
        let index = Index::open(&options);
        println!(
            "open             {:8.2} ms, {:.2} by the clock",
            (now() - start).as_secs_f64() * 1e3,
            clock.elapsed().as_secs_f64() * 1e3,
        );
        let listed: Vec<PackId> = (0..self.packs).map(pack).collect();
        let start = now();
        let load = |pack: &PackId| -> seamstore::Result<Arc<Directory>> {
            let start = now();
            let made = directory(number_of(pack));
            self.loading.set(self.loading.get() + (now() - start));
            self.loads.set(self.loads.get() + 1);
            Ok(made)
        };
        let done = index.reconcile(&listed, &[], &load, &|_| Ok(Vec::new())).unwrap();
        assert_eq!((done.added, done.dropped), (0, 0));
        println!("reconcile        {:8.2} ms", (now() - start).as_secs_f64() * 1e3);

        let new = |n: u64| id(1 << 50 | n);
        self.measure("new, first 10000", &index, &load, (0..10_000).map(new), false);
        self.measure("new, filters cold", &index, &load, (10_000..ASKED).map(new), false);
        self.measure("new", &index, &load, (ASKED..2 * ASKED).map(new), false);
        let recent = (self.packs.saturating_sub(64) * CHUNKS_PER_PACK)..chunks;
        self.measure("recent, cold", &index, &load, recent.clone().map(id), true);
        self.measure("recent", &index, &load, recent.map(id), true);
        let hit = (self.packs - 1) * CHUNKS_PER_PACK..chunks;
        let again = (0..100).flat_map(|_| hit.clone());
        self.measure("same pack", &index, &load, again.map(id), true);
        // Old packs in an order of their own, their chunks in theirs.
        let packs = (0..ASKED / CHUNKS_PER_PACK).map(|n| mix(n) % self.packs);
        let in_order = packs.flat_map(|pack| pack * CHUNKS_PER_PACK..(pack + 1) * CHUNKS_PER_PACK);
        self.measure("old, in order", &index, &load, in_order.map(id), true);
        let mut ids: Vec<_> = (0..20_000).map(|n| id(mix(n) % chunks)).collect();
        self.measure("old, any order", &index, &load, ids.iter().copied(), true);
        ids.sort_unstable();
        self.measure("old, sorted", &index, &load, ids.into_iter(), true);
        let half = (0..ASKED / 2).flat_map(|n| [new(n << 3), id(n / 2 % chunks)]);
        self.measure("new and old by turns", &index, &load, half, true);

        let counts = index.statistics();
        let (rss, peak) = memory();
        println!("{counts:?}");
        println!(
            "memory           {:8.2} bytes a chunk of filter; resident {} MB ({rss_before} before opening), peak {peak} MB; directories {} MB",
            counts.filter_bytes as f64 / chunks as f64,
            rss,
            directory_cache_bytes >> 20,
        );
        let (start, clock) = (now(), Instant::now());
        for number in self.packs..self.packs + 3 {
            index.add_pack(pack(number), directory(number)).unwrap();
        }
        assert_eq!(index.close(), Kept::Yes);
        println!(
            "add 3 packs      {:8.2} ms with closing, {:.2} by the clock",
            (now() - start).as_secs_f64() * 1e3,
            clock.elapsed().as_secs_f64() * 1e3,
        );
    }

    fn measure(
        &self,
        what: &str,
        index: &Index,
        load: &dyn Fn(&PackId) -> seamstore::Result<Arc<Directory>>,
        ids: impl Iterator<Item = ChunkId>,
        known: bool,
    ) {
        let ids: Vec<ChunkId> = ids.collect();
        self.loading.set(Duration::ZERO);
        self.loads.set(0);
        let start = now();
        let found = ids.iter().filter(|id| index.find(id, load).unwrap().is_some()).count();
        let time = (now() - start) - self.loading.get();
        assert!(!known && found == 0 || known && found >= ids.len() / 2);
        let each = time.as_secs_f64() / ids.len() as f64;
        println!(
            "{what:22} {:8.1} ns, {:7.2} million a second; {} loads of {:.0} us beside",
            each * 1e9,
            1e-6 / each,
            self.loads.get(),
            self.loading.get().as_secs_f64() * 1e6 / self.loads.get().max(1) as f64,
        );
    }
}

fn mix(n: u64) -> u64 {
    let mut z = n.wrapping_add(0x9e37_79b9_7f4a_7c15).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

fn id(number: u64) -> ChunkId {
    let mut bytes = [0; 32];
    for (i, word) in bytes.chunks_exact_mut(8).enumerate() {
        word.copy_from_slice(&mix(number << 2 | i as u64).to_le_bytes());
    }
    ChunkId(bytes)
}

fn pack(number: u64) -> PackId {
    let mut bytes = id(1 << 60 | number).0;
    bytes[24..].copy_from_slice(&number.to_le_bytes());
    PackId(bytes)
}

fn number_of(pack: &PackId) -> u64 {
    u64::from_le_bytes(pack.0[24..].try_into().unwrap())
}

fn directory(pack: u64) -> Arc<Directory> {
    let chunks = pack * CHUNKS_PER_PACK..(pack + 1) * CHUNKS_PER_PACK;
    Arc::new(Directory {
        frames: Vec::new(),
        chunks: chunks.map(|n| ChunkEntry { id: id(n), length: 16384 }).collect(),
    })
}

/// Megabytes resident now, and at most so far.
fn memory() -> (u64, u64) {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let field = |name: &str| {
        let line = status.lines().find(|line| line.starts_with(name)).unwrap();
        line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() >> 10
    };
    (field("VmRSS:"), field("VmHWM:"))
}
