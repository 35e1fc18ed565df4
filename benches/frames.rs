//! How fast are frames made and read, and how small do they get? One thread, codec by codec, on a file of yours:
//!
//! ```text
//! cargo bench --bench frames -- FILE [MEGABYTES]
//! ```
//!
//! Chunks are 16 KiB pieces here: a frame's cost hardly depends on where its chunks part.
#![allow(clippy::unwrap_used, clippy::print_stdout, missing_docs)]

use std::io::Read;
use std::time::Instant;

use seamstore::format::id::PackId;
use seamstore::pack::{Codec, FrameDecoder, FrameEncoder, FrameSettings};

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
        "{:>5} {:>5} {:>8} {:>12} {:>12} {:>8} {:>6}",
        "codec", "level", "frame", "encode MB/s", "decode MB/s", "stored", "raw"
    );
    for (codec, level, frame_kib) in [
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
    ] {
        let settings = FrameSettings::new(codec, level, frame_kib << 10).unwrap();
        let slow = if level > 9 {
            16
        } else if level > 3 {
            4
        } else {
            1
        };
        measure(settings, data.get(..data.len() / slow).unwrap());
    }
}

fn measure(settings: FrameSettings, data: &[u8]) {
    let mut encoder = FrameEncoder::new(settings).unwrap();
    let begun = Instant::now();
    let mut frames = Vec::new();
    for raw in data.chunks(settings.frame_bytes()) {
        let lengths: Vec<u32> = raw.chunks(16 << 10).map(|chunk| chunk.len() as u32).collect();
        let mut frame = Vec::new();
        encoder.encode(raw, &lengths, &mut frame).unwrap();
        frames.push(frame);
    }
    let encode = begun.elapsed().as_secs_f64();
    let stored: usize = frames.iter().map(Vec::len).sum();
    let raw_frames = frames.iter().filter(|frame| frame.get(4) == Some(&Codec::None.byte())).count();

    let mut decoder = FrameDecoder::new().unwrap();
    let mut out = Vec::new();
    let begun = Instant::now();
    for frame in &frames {
        decoder.decode(frame, &PackId([0; 32]), 0, &mut out).unwrap();
    }
    let decode = begun.elapsed().as_secs_f64();
    let megabytes = data.len() as f64 / 1e6;
    println!(
        "{:>5} {:>5} {:>4} KiB {:>12.0} {:>12.0} {:>7.1}% {:>5.1}%",
        settings.codec().to_string(),
        settings.level(),
        settings.frame_bytes() >> 10,
        megabytes / encode,
        megabytes / decode,
        100.0 * stored as f64 / data.len() as f64,
        100.0 * raw_frames as f64 / frames.len() as f64,
    );
}
