//! How much slower is an add to a store of many chunks than to an empty one?
//!
//! `cargo bench --bench ingest -- 100000000 FILE` makes a store whose packs claim so many chunks (their directories are
//! there; in the place of frames they have holes), lets it make its index, and then adds the same new files to it and to
//! an empty store, by turns. The files are FILE (up to 1 GiB of it) with all its bytes changed, each time otherwise, so
//! that they are new and compress alike. Without FILE they are the words of `text`. Times of the clock and of processors.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::print_stdout, missing_docs)]

use std::io::Read;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use seamstore::Control;
use seamstore::entry::{ChunkId, PackId};
use seamstore::internals::format::directory::{ChunkEntry, Directory};
use seamstore::internals::format::name::ObjectName;
use seamstore::internals::format::pack::{Trailer, header};
use seamstore::request::AddRequest;
use seamstore::{Store, request::Settings};

const CHUNKS_PER_FRAME: u64 = 17;
const FRAMES_PER_PACK: u64 = 1000;
const ROUNDS: u8 = 5;
const FILE_BYTES_MAX: u64 = 1 << 30;

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|argument| argument != "--bench").collect();
    let chunks: u64 = arguments.first().map_or(1_000_000, |argument| argument.parse().unwrap());
    let source = arguments.get(1).map_or_else(text, |path| {
        let mut bytes = Vec::new();
        std::fs::File::open(path).unwrap().take(FILE_BYTES_MAX).read_to_end(&mut bytes).unwrap();
        bytes
    });
    let folder = tempfile::tempdir().unwrap();
    let big = folder.path().join("big");
    drop(Store::init(&big, Settings::default()).unwrap());
    let packs = chunks.div_ceil(CHUNKS_PER_FRAME * FRAMES_PER_PACK);
    for number in 0..packs {
        make_pack(&big, number);
    }
    let begun = Instant::now();
    let index = Store::open(&big).unwrap().rebuild_index().unwrap().statistics;
    println!("{packs} packs; index made from them in {:.1} s: {index:?}", begun.elapsed().as_secs_f64());

    let mut ratios = Vec::new();
    for round in 1..=ROUNDS {
        let file = folder.path().join(format!("file {round}"));
        std::fs::write(&file, source.iter().map(|byte| byte ^ round).collect::<Vec<u8>>()).unwrap();
        let empty = folder.path().join(format!("empty {round}"));
        drop(Store::init(&empty, Settings::default()).unwrap());
        let [to_empty, to_big] = if round % 2 == 0 {
            [&empty, &big].map(|root| add(root, &file))
        } else {
            let [to_big, to_empty] = [&big, &empty].map(|root| add(root, &file));
            [to_empty, to_big]
        };
        let ratio = |of: fn(&Cost) -> Duration| of(&to_big).as_secs_f64() / of(&to_empty).as_secs_f64();
        ratios.push((ratio(|cost| cost.clock), ratio(|cost| cost.processors)));
        println!("round {round}: empty {to_empty:?}, big {to_big:?}");
    }
    let median = |of: fn(&(f64, f64)) -> f64| {
        let mut all: Vec<f64> = ratios.iter().map(of).collect();
        all.sort_by(f64::total_cmp);
        all[all.len() / 2]
    };
    println!("big against empty, medians: clock {:.3}, processors {:.3}", median(|r| r.0), median(|r| r.1));
}

#[derive(Debug)]
struct Cost {
    clock: Duration,
    processors: Duration,
}

/// What one add costs, from opening the store to the snapshot and the index on the disk.
fn add(root: &Path, file: &Path) -> Cost {
    let (clock, before) = (Instant::now(), processors());
    let request = AddRequest::default().paths(vec![PathBuf::from(file)]).reread(true).threads(2);
    let report = Store::open(root).unwrap().add(&request, &Control::default()).unwrap();
    assert!(report.totals.new_bytes * 10 > report.totals.logical_bytes * 6, "{report:?}");
    Cost { clock: clock.elapsed(), processors: processors() - before }
}

/// Processor time of this process.
fn processors() -> Duration {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    Duration::new(now.tv_sec as u64, now.tv_nsec as u32)
}

/// A pack that has no frames where its directory says that they are.
fn make_pack(root: &Path, number: u64) {
    let mut directory = Directory::default();
    for frame in 0..FRAMES_PER_PACK {
        let first = (number * FRAMES_PER_PACK + frame) * CHUNKS_PER_FRAME;
        let chunks = (first..first + CHUNKS_PER_FRAME).map(|n| ChunkEntry { id: id(n), length: 15_000 });
        directory.push(60_000, [0; 16], chunks);
    }
    let encoded = directory.encode();
    let pack = PackId::of_directory(&encoded);
    let trailer = Trailer { directory_offset: directory.frames_end(), directory_bytes: encoded.len() as u64, pack };
    let path = root.join(ObjectName::Pack(pack).path());
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    let file = std::fs::File::create_new(path).unwrap();
    file.write_all_at(&header(), 0).unwrap();
    file.write_all_at(&[encoded, trailer.encode().to_vec()].concat(), directory.frames_end()).unwrap();
}

fn id(number: u64) -> ChunkId {
    ChunkId::of(&number.to_le_bytes())
}

/// 256 MiB of lines.
fn text() -> Vec<u8> {
    let mut state = 1_u64;
    let mut bytes = Vec::new();
    while bytes.len() < 256 << 20 {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        let (word, indent) = (state >> 52, (state >> 40) as usize % 9);
        bytes.extend(format!("{:indent$}name_{word} = value_{};\n", "", state >> 48).into_bytes());
    }
    bytes
}
