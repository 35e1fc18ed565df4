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
//! memory, since all of them were read once before. A figure is the median of five rounds, with the least and the most;
//! the times of single reads are of one thread.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::print_stdout, missing_docs)]

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use seamstore::pack::{Codec, FrameSettings};
use seamstore::{AddRequest, Control, Profile, Reader, Selector, Settings, Store};

const SIZES: std::ops::Range<u64> = 5_000..9_000;
const ROUNDS: usize = 5;
const ROUND: Duration = Duration::from_millis(600);

fn main() {
    let folders: Vec<PathBuf> = std::env::args().skip(1).filter(|arg| arg != "--bench").map(PathBuf::from).collect();
    let work = tempfile::tempdir().unwrap();
    let folders = if folders.is_empty() { vec![made_up(work.path())] } else { folders };
    println!(
        "{:14} {:5} {:>8} {:>12} {:>6}  {:>9} {:^15}  {:>9} {:^15}  {:>6} {:>6}  {:>6} {:>7}",
        "data",
        "codec",
        "frame",
        "stored",
        "to256K",
        "1 thread",
        "reads/s",
        "2 threads",
        "reads/s",
        "p50 us",
        "p99 us",
        "open",
        "B/file"
    );
    for folder in folders {
        let name = folder.file_name().unwrap().to_string_lossy().into_owned();
        if folder.join("store.json").exists() {
            measure(&name, &Store::open(&folder).unwrap(), None);
            continue;
        }
        for codec in if std::env::var("SIZES").is_ok() { vec![Codec::Zstd] } else { vec![Codec::Zstd, Codec::Lz4] } {
            let sizes: Vec<usize> = std::env::var("SIZES")
                .map_or(vec![256, 16, 32, 64, 128, 512, 1024], |s| s.split(',').map(|n| n.parse().unwrap()).collect());
            let mut at_256 = None;
            for frame_kib in sizes {
                let root = work.path().join("store");
                let frames = FrameSettings::new(codec, 3, frame_kib << 10).unwrap();
                let store = Store::init(&root, Settings { profile: Profile::default(), frames }).unwrap();
                let request = AddRequest {
                    paths: vec![folder.clone()],
                    stdin_name: None,
                    reread: false,
                    memory_bytes: 256 << 20,
                    threads: 2,
                    tags: Vec::new(),
                };
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
    let stored = bytes_below(store.root());
    let begun = Instant::now();
    let reader = store.reader(&Selector::Latest).unwrap();
    let open = begun.elapsed();
    let paths: Vec<&Path> = reader.paths().filter(|path| SIZES.contains(&reader.size(path).unwrap())).collect();
    assert!(!paths.is_empty(), "{name} has no file of {SIZES:?} bytes");
    let bytes: usize = paths.iter().map(|path| reader.read(path).unwrap().len()).sum();
    let one = (0..ROUNDS).map(|round| run(&reader, &paths, 1, round)).collect();
    let two = (0..ROUNDS).map(|round| run(&reader, &paths, 2, round)).collect();
    let (one, mut times) = summary(one);
    let (two, _) = summary(two);
    times.sort_unstable();
    let quantile = |q: f64| f64::from(times[((times.len() - 1) as f64 * q) as usize]) / 1e3;
    println!(
        "{name:14} {:5} {:>4} KiB {:>12} {:>6.3}  {:>9.0} {:>7.0}-{:<7.0}  {:>9.0} {:>7.0}-{:<7.0}  {:>6.1} {:>6.1}  {:>3} ms {:>7.0}",
        store.settings().frames.codec().to_string(),
        store.settings().frames.frame_bytes() >> 10,
        stored,
        stored as f64 / at_256.unwrap_or(stored) as f64,
        one[ROUNDS / 2],
        one[0],
        one[ROUNDS - 1],
        two[ROUNDS / 2],
        two[0],
        two[ROUNDS - 1],
        quantile(0.5),
        quantile(0.99),
        open.as_millis(),
        reader.table_bytes() as f64 / reader.len() as f64,
    );
    if at_256.is_none() {
        println!(
            "# {} files of {:.0} bytes on average, of {} files",
            paths.len(),
            bytes as f64 / paths.len() as f64,
            reader.len()
        );
    }
    stored
}

/// Reads for a while; says how many reads a second that is, and how many nanoseconds each took.
fn run(reader: &Reader<'_>, paths: &[&Path], threads: u64, round: usize) -> (f64, Vec<u32>) {
    let begun = Instant::now();
    let work = |seed: u64| {
        let mut times = Vec::with_capacity(1 << 18);
        let mut state = seed;
        let mut before = Instant::now();
        while begun.elapsed() < ROUND {
            for _ in 0..64 {
                let path = paths[(random(&mut state) % paths.len() as u64) as usize];
                std::hint::black_box(reader.read(path).unwrap());
                let now = Instant::now();
                times.push((now - before).as_nanos() as u32);
                before = now;
            }
        }
        times
    };
    let times: Vec<u32> = std::thread::scope(|scope| {
        let others: Vec<_> = (1..threads).map(|n| scope.spawn(move || work(n << 32 | round as u64))).collect();
        let mut times = work(round as u64);
        times.extend(others.into_iter().flat_map(|other| other.join().unwrap()));
        times
    });
    (times.len() as f64 / begun.elapsed().as_secs_f64(), times)
}

/// The speeds, ascending, and all times.
fn summary(rounds: Vec<(f64, Vec<u32>)>) -> (Vec<f64>, Vec<u32>) {
    let (mut speeds, times): (Vec<f64>, Vec<Vec<u32>>) = rounds.into_iter().unzip();
    speeds.sort_unstable_by(f64::total_cmp);
    (speeds, times.concat())
}

/// SplitMix64.
fn random(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut z = *state;
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// Bytes of all files of a store but its index.
fn bytes_below(folder: &Path) -> u64 {
    let entries = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap());
    let bytes = entries.map(|entry| match entry.metadata().unwrap() {
        metadata if metadata.is_dir() => bytes_below(&entry.path()),
        metadata if entry.file_name() != "index.redb" => metadata.len(),
        _ => 0,
    });
    bytes.sum()
}

/// A folder of text-like files.
fn made_up(work: &Path) -> PathBuf {
    let folder = work.join("made-up");
    std::fs::create_dir(&folder).unwrap();
    let mut state = 1;
    for n in 0..2_000 {
        let size = 3_000 + random(&mut state) % 8_000;
        let mut text = String::new();
        while (text.len() as u64) < size {
            text += &format!("entry_{:x} = {};\n", random(&mut state) % 0x4000, random(&mut state) % 512);
        }
        std::fs::write(folder.join(format!("{n}.txt")), text).unwrap();
    }
    folder
}
