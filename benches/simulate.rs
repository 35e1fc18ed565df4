//! How far does parallel chunking scale past the cores of this machine? Each segment's work is really done and timed (best
//! of three), on one thread; then the times are dealt to 2 to 256 imagined workers, first come first served.
//!
//! ```sh
//! cargo bench --bench simulate -- linux-A.tar
//! ```
//!
//! The speedup is against the serial chunking and hashing of the same bytes, timed segment by segment in the same way, so
//! that what a short segment gains by lying in a cache is gained by both.
//!
//! Counted: scanning, certifying, hashing (BLAKE3), stitching (one worker, while all others wait), and hashing of seam
//! chunks. Not counted: that workers share memory and its bandwidth, and reading.

#![allow(clippy::print_stdout, clippy::unwrap_used, clippy::indexing_slicing)]

use std::time::{Duration, Instant};

use seamstore::entry::ChunkId;
use seamstore::internals::chunk::finder::{Finder, Span};
use seamstore::internals::chunk::seams::{Stitcher, scan_segment, spans_at};
use seamstore::internals::chunk::{Profile, adversarial, cut_points};

const WORKERS: [usize; 9] = [1, 2, 4, 8, 16, 32, 64, 128, 256];

/// As the program cuts a file into segments: four for each worker, 1 to 16 MiB.
fn segment_count(length: usize, workers: usize) -> usize {
    length.div_ceil((length / (4 * workers)).clamp(1 << 20, 16 << 20)).max(1)
}

/// What the workers spend, the longest-queued job going to whoever is free first.
fn makespan(jobs: &[Duration], workers: usize) -> Duration {
    let mut free_at = vec![Duration::ZERO; workers];
    for job in jobs {
        *free_at.iter_mut().min().unwrap() += *job;
    }
    free_at.into_iter().max().unwrap_or_default()
}

/// The best of three, so that whatever else runs on this machine does not count.
fn timed<T>(mut work: impl FnMut() -> T) -> (Duration, T) {
    let mut once = || {
        let begin = Instant::now();
        let made = work();
        (begin.elapsed(), made)
    };
    let first = once();
    (1..3).map(|_| once()).fold(first, |best, next| if next.0 < best.0 { next } else { best })
}

fn simulate(name: &str, data: &[u8], profile: Profile) {
    let finder = Finder::new(profile);
    let serial = cut_points(data, &profile);
    let span = Span::whole(data);
    let chunk_and_hash = |span: &Span<'_>, mut at: u64| {
        while at < span.end() {
            let cut = finder.next_cut(span, at, at).unwrap_or(span.end());
            std::hint::black_box(ChunkId::of(span.slice(at, cut)));
            at = cut;
        }
    };
    let (whole, ()) = timed(|| chunk_and_hash(&span, 0));
    println!(
        "\n{name}, {profile}: {} bytes, {} chunks; serial chunking and hashing {:.0} ms, {:.2} GB/s\n",
        data.len(),
        serial.len(),
        whole.as_secs_f64() * 1e3,
        data.len() as f64 / whole.as_secs_f64() / 1e9,
    );
    println!("| workers | segments | certified | seam bytes | hits kept | stitch ms | total ms | speedup | of ideal |");
    println!("| ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |");
    for workers in WORKERS {
        let count = segment_count(data.len(), workers);
        let seeks: Vec<usize> = (1..count).map(|i| i * (data.len() / count)).collect();
        let spans = spans_at(data, &seeks);
        let alone: Duration = spans.iter().map(|(start, span)| timed(|| chunk_and_hash(span, *start)).0).sum();
        let mut jobs = Vec::new();
        let scanned: Vec<_> = spans
            .iter()
            .map(|(start, span)| {
                let (time, segment) = timed(|| {
                    scan_segment(&finder, span, *start, |_, chunk| {
                        std::hint::black_box(ChunkId::of(chunk));
                    })
                });
                jobs.push(time);
                segment
            })
            .collect();
        let (stitch, (cuts, seams)) = timed(|| {
            let mut stitcher = Stitcher::new(finder.clone());
            let (mut cuts, mut seams) = (Vec::with_capacity(serial.len()), Vec::new());
            for (segment, (_, span)) in scanned.iter().zip(&spans) {
                let (begin, mut from) = (cuts.len(), stitcher.last_cut());
                stitcher.push(segment, span, &mut cuts);
                for cut in &cuts[begin..] {
                    seams.push(from..*cut);
                    from = *cut;
                }
                cuts.extend_from_slice(segment.cuts());
            }
            (cuts, seams)
        });
        assert!(cuts == serial, "parallel cuts differ");
        let seam_bytes: u64 = seams.iter().map(|seam| seam.end - seam.start).sum();
        let seam_jobs: Vec<Duration> = seams
            .iter()
            .map(|seam| timed(|| std::hint::black_box(ChunkId::of(span.slice(seam.start, seam.end)))).0)
            .collect();
        let total = makespan(&jobs, workers) + stitch + makespan(&seam_jobs, workers);
        let speedup = alone.as_secs_f64() / total.as_secs_f64();
        println!(
            "| {workers} | {count} | {} | {:.2} % | {} B | {:.2} | {:.1} | {speedup:.2} | {:.0} % |",
            scanned.iter().filter(|segment| segment.certified().is_some()).count(),
            100.0 * seam_bytes as f64 / data.len() as f64,
            scanned.iter().map(|segment| segment.hits().packed_bytes()).sum::<usize>(),
            stitch.as_secs_f64() * 1e3,
            total.as_secs_f64() * 1e3,
            100.0 * speedup / workers as f64,
        );
    }
}

fn main() {
    let files: Vec<String> = std::env::args().skip(1).filter(|argument| !argument.starts_with("--")).collect();
    let profiles = [Profile::default(), Profile::xet()];
    for file in &files {
        let data = std::fs::read(file).unwrap();
        for profile in profiles {
            simulate(file.rsplit('/').next().unwrap_or(file), &data, profile);
        }
    }
    if files.is_empty() {
        simulate("random", &adversarial::random(1, 1 << 28), profiles[0]);
    }
    simulate("zeros", &vec![0; 1 << 28], profiles[0]);
}
