//! How fast are small files read from a store, in random order, and what does it cost in space?
//!
//! ```text
//! cargo bench --bench reads -- FOLDER...
//! ```
//!
//! adds each folder to new stores, zstd and lz4, of frames of 16 KiB to 1 MiB, and prints a row for each. A folder that
//! is a store already is read as it is. Without a folder, it makes up a small one.
//!
//! Read are, by [`Reader::read`], the files of 5,000 to 8,999 bytes of the newest snapshot, each as often as any other,
//! in an order of chance: every chunk checked, no frame kept from one read to the next. The pages of the store are in
//! memory, since all of them were read once before. A figure is the median of five rounds, with the least and the most.
//! On a machine with other work, the figure by the time of the processor, of one thread, is nearer to the truth. The
//! times of single reads are of one thread.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::print_stdout, clippy::print_stderr, missing_docs)]

#[path = "../src/testing/random.rs"]
mod random;

use random::TestRng;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use seamstore::chunk::Profile;
use seamstore::request::{AddRequest, Codec, FrameSettings, Selector, Settings};
use seamstore::{Control, Reader, Store};

const SIZES: std::ops::Range<u64> = 5_000..9_000;
const ROUNDS: usize = 5;
const ROUND: Duration = Duration::from_millis(600);

fn main() {
    let folders: Vec<PathBuf> = std::env::args().skip(1).filter(|arg| arg != "--bench").map(PathBuf::from).collect();
    let work = tempfile::tempdir().unwrap();
    let folders = if folders.is_empty() { vec![made_up(work.path())] } else { folders };
    println!(
        "| data | codec | frame | stored | to 256 KiB | one thread, a second | of processor time | two threads | p50, us | p99, us |"
    );
    println!("| --- | --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |");
    for folder in folders {
        let name = folder.file_name().unwrap().to_string_lossy().into_owned();
        if folder.join("store.json").exists() {
            measure(&name, &Store::open(&folder).unwrap(), None);
            continue;
        }
        for codec in [Codec::Zstd, Codec::Lz4] {
            let mut at_256 = None;
            for frame_kib in [256, 16, 32, 64, 128, 512, 1024] {
                let root = work.path().join("store");
                let frames = FrameSettings::new(codec, FrameSettings::default().level(), frame_kib << 10).unwrap();
                let store = Store::init(&root, Settings::default().profile(Profile::default()).frames(frames)).unwrap();
                let request = AddRequest::default().paths(vec![folder.clone()]).memory_bytes(256 << 20).threads(2);
                store.add(&request, &Control::default()).unwrap();
                let stored = measure(&name, &store, at_256);
                at_256.get_or_insert(stored);
                drop(store);
                std::fs::remove_dir_all(&root).unwrap();
            }
        }
    }
}

/// Prints a row; returns the stored bytes.
fn measure(name: &str, store: &Store, at_256: Option<u64>) -> u64 {
    let stored = bytes_below(&store.location());
    let begun = Instant::now();
    let reader = store.reader(&Selector::Latest).unwrap();
    let open = begun.elapsed();
    let paths: Vec<&Path> = reader.paths().filter(|path| SIZES.contains(&reader.size(path).unwrap())).collect();
    assert!(!paths.is_empty(), "{name} has no file of {SIZES:?} bytes");
    let bytes: usize = paths.iter().map(|path| reader.read(path).unwrap().len()).sum();
    let one = Rounds::run(&reader, &paths, 1);
    let two = Rounds::run(&reader, &paths, 2);
    println!(
        "| {name} | {} | {} KiB | {:.1} MB | {:.3} | {} | {:.0} | {} | {:.1} | {:.1} |",
        store.settings().frames.codec(),
        store.settings().frames.frame_bytes() >> 10,
        stored as f64 / 1e6,
        stored as f64 / at_256.unwrap_or(stored) as f64,
        one.wall(),
        one.by_processor[ROUNDS / 2],
        two.wall(),
        one.microseconds(0.5),
        one.microseconds(0.99),
    );
    if at_256.is_none() {
        eprintln!(
            "{name}: {} files of {:.0} bytes on average, of {} files; opened in {} ms, {:.0} bytes of memory a file",
            paths.len(),
            bytes as f64 / paths.len() as f64,
            reader.len(),
            open.as_millis(),
            reader.table_bytes() as f64 / reader.len() as f64,
        );
    }
    stored
}

/// What rounds of reading came to. Reads a second are ascending.
#[derive(Default)]
struct Rounds {
    by_clock: Vec<f64>,
    by_processor: Vec<f64>,
    /// Of each read, in nanoseconds, ascending.
    times: Vec<u32>,
}

impl Rounds {
    fn run(reader: &Reader<'_>, paths: &[&Path], threads: u64) -> Self {
        let mut rounds = Self::default();
        for round in 0..ROUNDS as u64 {
            let begun = Instant::now();
            let work = |seed: u64| {
                let processor = processor_time();
                let mut times = Vec::with_capacity(1 << 18);
                let mut state = TestRng(seed);
                let mut before = Instant::now();
                while begun.elapsed() < ROUND {
                    for _ in 0..64 {
                        let path = paths[(state.next() % paths.len() as u64) as usize];
                        std::hint::black_box(reader.read(path).unwrap());
                        let now = Instant::now();
                        times.push((now - before).as_nanos() as u32);
                        before = now;
                    }
                }
                (times, processor_time() - processor)
            };
            let work = &work;
            let done: Vec<(Vec<u32>, Duration)> = std::thread::scope(|scope| {
                let others: Vec<_> = (0..threads).map(|n| scope.spawn(move || work(n << 32 | round))).collect();
                others.into_iter().map(|other| other.join().unwrap()).collect()
            });
            let wall = begun.elapsed();
            let reads: usize = done.iter().map(|(times, _)| times.len()).sum();
            let processor: Duration = done.iter().map(|(_, time)| *time).sum();
            rounds.by_clock.push(reads as f64 / wall.as_secs_f64());
            rounds.by_processor.push(reads as f64 / processor.as_secs_f64());
            rounds.times.extend(done.into_iter().flat_map(|(times, _)| times));
        }
        rounds.by_clock.sort_unstable_by(f64::total_cmp);
        rounds.by_processor.sort_unstable_by(f64::total_cmp);
        rounds.times.sort_unstable();
        rounds
    }

    /// The median, the least and the most.
    fn wall(&self) -> String {
        let [least, median, most] = [0, ROUNDS / 2, ROUNDS - 1].map(|n| self.by_clock[n]);
        format!("{median:.0} ({least:.0} to {most:.0})")
    }

    fn microseconds(&self, quantile: f64) -> f64 {
        f64::from(self.times[((self.times.len() - 1) as f64 * quantile) as usize]) / 1e3
    }
}

/// Processor time of this thread.
fn processor_time() -> Duration {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    Duration::new(now.tv_sec as u64, now.tv_nsec as u32)
}

/// Bytes of all files of a store but its index.
fn bytes_below(folder: &Path) -> u64 {
    let entries = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap());
    let bytes = entries.map(|entry| match entry.metadata().unwrap() {
        metadata if metadata.is_dir() => bytes_below(&entry.path()),
        metadata if entry.file_name() != "index" => metadata.len(),
        _ => 0,
    });
    bytes.sum()
}

/// A folder of text-like files.
fn made_up(work: &Path) -> PathBuf {
    let folder = work.join("made-up");
    std::fs::create_dir(&folder).unwrap();
    let mut state = TestRng(1);
    for n in 0..2_000 {
        let size = 3_000 + state.next() % 8_000;
        let mut text = String::new();
        while (text.len() as u64) < size {
            text += &format!("entry_{:x} = {};\n", state.next() % 0x4000, state.next() % 512);
        }
        std::fs::write(folder.join(format!("{n}.txt")), text).unwrap();
    }
    folder
}
