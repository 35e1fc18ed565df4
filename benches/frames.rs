//! How fast are frames made and read, and how small do they get? One thread, its processor time, the best of three
//! rounds, codec by codec, on a file of yours:
//!
//! ```text
//! cargo bench --bench frames -- FILE [MEGABYTES]
//! ```
//!
//! Chunks are 16 KiB pieces here: a frame's cost hardly depends on where its chunks part.
#![allow(clippy::unwrap_used, clippy::print_stdout, missing_docs)]

use std::io::Read;

use seamstore::entry::PackId;
use seamstore::internals::format::frame::FrameHeader;
use seamstore::internals::pack::frame::{Codec, Filter, FrameDecoder, FrameEncoder, FrameSettings};

fn main() {
    let mut arguments = std::env::args().skip(1).filter(|argument| argument != "--bench");
    let file = arguments.next();
    let megabytes: u64 = arguments.next().map_or(128, |n| n.parse().unwrap());
    let mut data = Vec::new();
    match &file {
        Some(file) => {
            std::fs::File::open(file).unwrap().take(megabytes << 20).read_to_end(&mut data).unwrap();
        }
        None => {
            data.resize(16 << 20, 0);
            blake3::Hasher::new().finalize_xof().fill(&mut data);
        }
    }
    println!("{}, {} MB", file.as_deref().unwrap_or("random bytes (name a FILE for others)"), data.len() >> 20);
    println!(
        "{:>5} {:>5} {:>8} {:>12} {:>12} {:>8} {:>6} {:>8}",
        "codec", "level", "frame", "encode MB/s", "decode MB/s", "stored", "raw", "shuffled"
    );
    let settings = [
        (Codec::None, 3, 256),
        (Codec::Lz4, 3, 256),
        (Codec::Zstd, -5, 256),
        (Codec::Zstd, 1, 256),
        (Codec::Zstd, 3, 16),
        (Codec::Zstd, 3, 64),
        (Codec::Zstd, 3, 256),
        (Codec::Zstd, 3, 1024),
        (Codec::Zstd, 3, 4096),
        (Codec::Zstd, 9, 256),
        (Codec::Zstd, 19, 256),
    ];
    let mut rows: Vec<Row> = settings.map(|(codec, level, frame_kib)| Row::new(codec, level, frame_kib)).into();
    // In rounds, so that no row has all the bad luck of a busy machine.
    for _ in 0..ROUNDS {
        for row in &mut rows {
            row.measure(&data);
        }
    }
    for row in rows {
        row.print();
    }
}

const ROUNDS: usize = 3;

/// One kind of frames, and the best of all rounds.
struct Row {
    settings: FrameSettings,
    encode: f64,
    decode: f64,
    raw_bytes: usize,
    stored_bytes: usize,
    frames: usize,
    raw: usize,
    shuffled: usize,
}

impl Row {
    fn new(codec: Codec, level: i32, frame_kib: usize) -> Self {
        let settings = FrameSettings::new(codec, level, frame_kib << 10).unwrap();
        let (encode, decode) = (f64::INFINITY, f64::INFINITY);
        Self { settings, encode, decode, raw_bytes: 0, stored_bytes: 0, frames: 0, raw: 0, shuffled: 0 }
    }

    fn measure(&mut self, data: &[u8]) {
        let slow = match self.settings.level() {
            10.. => 16,
            4.. => 4,
            _ => 1,
        };
        let data = data.get(..data.len() / slow).unwrap();
        let mut encoder = FrameEncoder::new(self.settings).unwrap();
        let mut all = Vec::with_capacity(data.len() * 9 / 8);
        let mut ends = Vec::new();
        let mut lengths = Vec::new();
        let begun = cpu_seconds();
        for raw in data.chunks(self.settings.frame_bytes()) {
            lengths.clear();
            lengths.extend(raw.chunks(16 << 10).map(|chunk| chunk.len() as u32));
            encoder.encode(raw, &lengths, &mut all).unwrap();
            ends.push(all.len());
        }
        self.encode = self.encode.min(cpu_seconds() - begun);

        let begins = [0].iter().chain(&ends);
        let frames: Vec<&[u8]> = begins.zip(&ends).map(|(begin, end)| all.get(*begin..*end).unwrap()).collect();
        let mut decoder = FrameDecoder::new().unwrap();
        let mut out = Vec::new();
        let begun = cpu_seconds();
        for frame in &frames {
            decoder.decode(frame, &PackId([0; 32]), 0, &mut out).unwrap();
        }
        self.decode = self.decode.min(cpu_seconds() - begun);

        let header = |frame: &&[u8]| FrameHeader::parse(frame).unwrap();
        self.raw = frames.iter().filter(|frame| header(frame).codec == Codec::None).count();
        self.shuffled = frames.iter().filter(|frame| header(frame).filter != Filter::None).count();
        (self.raw_bytes, self.stored_bytes, self.frames) = (data.len(), all.len(), frames.len());
    }

    fn print(&self) {
        let megabytes = self.raw_bytes as f64 / 1e6;
        println!(
            "{:>5} {:>5} {:>4} KiB {:>12.0} {:>12.0} {:>7.1}% {:>5.1}% {:>7.1}%",
            self.settings.codec().to_string(),
            self.settings.level(),
            self.settings.frame_bytes() >> 10,
            megabytes / self.encode,
            megabytes / self.decode,
            100.0 * self.stored_bytes as f64 / self.raw_bytes as f64,
            100.0 * self.raw as f64 / self.frames as f64,
            100.0 * self.shuffled as f64 / self.frames as f64,
        );
    }
}

/// Of this thread: what others take on the machine is not counted, what they take of its caches is.
fn cpu_seconds() -> f64 {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    time.tv_sec as f64 + time.tv_nsec as f64 / 1e9
}
