//! How fast are hits found and chunks cut, against the `gearhash` and `fastcdc` crates?
//!
//! `cargo bench --bench scan` prints everything; `cargo bench --bench scan -- quick` takes a tenth of the time. Each
//! line is one run on the same buffers: the contenders take turns, a figure is the median of its turns, and a ratio is
//! the median of the turns' ratios, so a machine that slows down for a while slows all of them. The answers of all
//! contenders for the same rule are compared before anything is timed.
#![allow(missing_docs, clippy::print_stdout, clippy::unwrap_used, clippy::indexing_slicing)]

#[path = "../src/testing/random.rs"]
mod random;

use random::noise;
use std::hint::black_box;
use std::time::{Duration, Instant};

use gearhash::{DEFAULT_TABLE, Hasher};
use seamstore::internals::chunk::scan::{Hit, HitKind, Masks, Scanner, WINDOW};

const KIB: usize = 1 << 10;
const MIB: usize = 1 << 20;

/// A chunking rule, as far as scanning knows it.
struct Rule {
    name: &'static str,
    masks: Masks,
    min: usize,
    normal: usize,
    max: usize,
}

impl Rule {
    fn new(name: &'static str, [strict, loose]: [u64; 2], [min, normal, max]: [usize; 3]) -> Self {
        Self { name, masks: Masks::new(strict, loose).unwrap(), min, normal, max }
    }
}

/// The top `bits` bits of the low 32.
fn low(bits: u32) -> u64 {
    ((1 << bits) - 1) << (32 - bits)
}

fn rules() -> [Rule; 5] {
    const XET: u64 = 0xFFFF_0000_0000_0000;
    [
        Rule::new("default", [low(15), low(11)], [8 * KIB, 14 * KIB, 64 * KIB]),
        Rule::new("avg 4 KiB", [low(13), low(9)], [2 * KIB, 7 * KIB / 2, 16 * KIB]),
        Rule::new("avg 64 KiB", [low(17), low(13)], [32 * KIB, 56 * KIB, 256 * KIB]),
        Rule::new("avg 1 MiB", [low(21), low(17)], [512 * KIB, 896 * KIB, 4 * MIB]),
        Rule::new("xet", [XET, XET], [8 * KIB, 8 * KIB, 128 * KIB]),
    ]
}

/// All hits of a buffer as one number, so that answers compare and nothing is optimized away.
fn fold(sum: u64, hit: Hit) -> u64 {
    sum.rotate_left(5) ^ (2 * hit.end as u64 + u64::from(hit.kind == HitKind::Strict))
}

fn scan_ours(scanner: &Scanner, data: &[u8]) -> u64 {
    let mut sum = 0;
    scanner.hits(data, WINDOW, data.len() + 1, |hit| sum = fold(sum, hit));
    sum
}

fn scan_gearhash(masks: Masks, data: &[u8]) -> u64 {
    let mut hasher = Hasher::new(&DEFAULT_TABLE);
    let mut end = WINDOW - 1;
    hasher.update(&data[..end]);
    let mut sum = 0;
    while let Some(taken) = hasher.next_match(&data[end..], masks.loose()) {
        end += taken;
        let kind = if hasher.is_match(masks.strict()) { HitKind::Strict } else { HitKind::Loose };
        sum = fold(sum, Hit { end, kind });
    }
    sum
}

/// Cuts a buffer; the sum of the squared lengths of its chunks, with their number.
fn cut(data: &[u8], mut next: impl FnMut(usize) -> usize) -> (u64, u64) {
    let (mut start, mut chunks, mut sum) = (0, 0, 0_u64);
    while start < data.len() {
        let end = next(start);
        sum = sum.wrapping_add(((end - start) as u64).pow(2));
        chunks += 1;
        start = end;
    }
    (sum, chunks)
}

fn cut_ours(rule: &Rule, scanner: &Scanner, data: &[u8]) -> (u64, u64) {
    cut(data, |start| {
        let end = data.len().min(start + rule.max);
        scanner.first_cut(data, start + rule.min, start + rule.normal, end).unwrap_or(end)
    })
}

fn cut_gearhash(rule: &Rule, data: &[u8]) -> (u64, u64) {
    cut(data, |start| {
        let end = data.len().min(start + rule.max);
        let min = start + rule.min - 1;
        if min + 1 >= end {
            return end;
        }
        let normal = (start + rule.normal - 1).min(end - 1);
        let mut hasher = Hasher::new(&DEFAULT_TABLE);
        hasher.update(&data[min + 1 - WINDOW..min]);
        let strict = hasher.next_match(&data[min..normal], rule.masks.strict());
        strict.map(|taken| min + taken).unwrap_or_else(|| {
            hasher.next_match(&data[normal..end - 1], rule.masks.loose()).map_or(end, |taken| normal + taken)
        })
    })
}

/// The crate's own rule with the same minimum and maximum, and the average it would be asked for. It makes fewer and
/// longer chunks; both numbers are printed.
fn cut_fastcdc(rule: &Rule, data: &[u8]) -> (u64, u64) {
    let average = if rule.normal == rule.min { 8 * rule.min } else { 2 * rule.min };
    let chunker = fastcdc::v2020::FastCDC::new(data, rule.min, average, rule.max);
    chunker.fold((0, 0), |(sum, chunks), chunk| (sum + (chunk.length as u64).pow(2), chunks + 1))
}

/// Times the contenders in turns; GB/s of each, and how many times as fast as each the first is.
fn race(bytes: usize, budget: Duration, contenders: &mut [&mut dyn FnMut()]) -> (Vec<f64>, Vec<f64>) {
    // Small buffers are repeated until a turn is long enough for the clock.
    let once = Instant::now();
    contenders[0]();
    let repeats = (Duration::from_micros(300).as_nanos() / once.elapsed().as_nanos().max(1)).max(1);
    let mut turns: Vec<Vec<f64>> = Vec::new();
    let begun = Instant::now();
    while turns.len() < 9 || begun.elapsed() < budget {
        let turn = contenders.iter_mut().map(|contender| {
            let start = Instant::now();
            (0..repeats).for_each(|_| contender());
            start.elapsed().as_secs_f64() / repeats as f64
        });
        turns.push(turn.collect());
    }
    let median = |figure: &dyn Fn(&Vec<f64>) -> f64| {
        let mut figures: Vec<f64> = turns.iter().map(figure).collect();
        figures.sort_by(f64::total_cmp);
        figures[figures.len() / 2]
    };
    let speeds = (0..contenders.len()).map(|i| bytes as f64 / 1e9 / median(&|turn| turn[i]));
    let ratios = (1..contenders.len()).map(|i| median(&|turn| turn[i] / turn[0]));
    (speeds.collect(), ratios.collect())
}

fn size(bytes: usize) -> String {
    if bytes < MIB { format!("{} KiB", bytes / KIB) } else { format!("{} MiB", bytes / MIB) }
}

fn main() {
    let quick = std::env::args().any(|argument| argument == "quick");
    let budget = Duration::from_millis(if quick { 60 } else { 600 });
    let data = noise(0, 64 * MIB);
    let sizes = [4 * KIB, 8 * KIB, 16 * KIB, 64 * KIB, 256 * KIB, MIB, 64 * MIB];
    let mut least = f64::MAX;

    println!("all hits of a buffer, GB/s: {:>28} {:>9} {:>7}", "seamstore", "gearhash", "ratio");
    for rule in rules() {
        let scanner = Scanner::new(rule.masks, &DEFAULT_TABLE);
        for len in sizes {
            let data = &data[..len];
            assert_eq!(scan_ours(&scanner, data), scan_gearhash(rule.masks, data), "{}, {len}", rule.name);
            let (speed, ratio) = race(
                len,
                budget,
                &mut [&mut || _ = black_box(scan_ours(&scanner, black_box(data))), &mut || {
                    _ = black_box(scan_gearhash(rule.masks, black_box(data)))
                }],
            );
            let (name, kernel) = (rule.name, scanner.kernel().name());
            println!("{name:11} {:>8} {kernel:>18} {:15.2} {:9.2} {:7.2}", size(len), speed[0], speed[1], ratio[0]);
            least = least.min(ratio[0]);
        }
    }

    println!(
        "\nchunks of a buffer, minimum skipped, GB/s: {:>13} {:>9} {:>9} {:>9} {:>9}",
        "seamstore", "gearhash", "ratio", "fastcdc", "ratio"
    );
    for rule in rules() {
        let scanner = Scanner::new(rule.masks, &DEFAULT_TABLE);
        for len in sizes {
            let data = &data[..len];
            if len <= rule.min {
                continue;
            }
            let cuts = cut_ours(&rule, &scanner, data);
            assert_eq!(cuts, cut_gearhash(&rule, data), "{}, {len}", rule.name);
            let (speed, ratio) = race(
                len,
                budget,
                &mut [
                    &mut || _ = black_box(cut_ours(&rule, &scanner, black_box(data))),
                    &mut || _ = black_box(cut_gearhash(&rule, black_box(data))),
                    &mut || _ = black_box(cut_fastcdc(&rule, black_box(data))),
                ],
            );
            let (name, kernel) = (rule.name, scanner.kernel().name());
            println!(
                "{name:11} {:>8} {kernel:>18} {:15.2} {:9.2} {:9.2} {:9.2} {:9.2}   chunks {:>6} / {}",
                size(len),
                speed[0],
                speed[1],
                ratio[0],
                speed[2],
                ratio[1],
                cuts.1,
                cut_fastcdc(&rule, data).1,
            );
            least = least.min(ratio[0]);
        }
    }
    println!("\nleast ratio against gearhash: {least:.2}");
}
