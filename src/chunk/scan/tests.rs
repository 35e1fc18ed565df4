//! One suite, every kernel. The oracle here shares no code with any of them, `scalar` included.
//!
//! A kernel that this CPU lacks is reported as skipped.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use super::*;
use crate::testing::random::TestRng;
use crate::testing::skip::skipped;

#[test]
fn the_generator_is_pinned() {
    let bytes = TestRng(0).bytes(1_000_000);
    assert_eq!((bytes[0], bytes[127], bytes[111_111]), (175, 132, 118));
}

/// The top `bits` bits of the low 32.
fn low_run(bits: u32) -> u64 {
    ((1 << bits) - 1) << (32 - bits)
}

/// The top `bits` bits of all 64.
fn high_run(bits: u32) -> u64 {
    ((1 << bits) - 1) << (64 - bits)
}

fn default_masks() -> Masks {
    Masks::new(low_run(15), low_run(11)).unwrap()
}

fn xet_masks() -> Masks {
    Masks::new(high_run(16), high_run(16)).unwrap()
}

/// A table that is not gearhash's, whole 64-bit values.
fn other_table() -> &'static Table {
    let mut random = TestRng(77);
    Box::leak(Box::new(std::array::from_fn(|_| random.next())))
}

/// Masks of every shape a kernel may treat apart, rare and dense.
fn many_masks() -> Vec<Masks> {
    let mut all = vec![default_masks(), xet_masks()];
    for (strict, loose) in [(9, 5), (12, 8), (17, 13), (21, 17), (32, 31), (4, 4), (2, 1), (32, 1), (8, 7)] {
        all.push(Masks::new(low_run(strict), low_run(loose)).unwrap());
        all.push(Masks::new(high_run(strict), high_run(loose)).unwrap());
    }
    let mut random = TestRng(5);
    for _ in 0..8 {
        let loose = random.next() & random.next() & random.next();
        all.push(Masks::new(loose | (random.next() & random.next()), loose).unwrap());
    }
    // One bit at either end of the word, a run that stops short of bit 31, and a run in the middle.
    for mask in [1, 1 << 63, 0x7FE0_0000, 0x0000_0FF0_0000_0000, u64::MAX] {
        all.push(Masks::new(mask, mask).unwrap());
    }
    all
}

/// Runs `check` with each kernel this CPU has.
fn with_every_kernel(masks: Masks, table: &'static Table, check: impl Fn(&Scanner)) {
    for kernel in Kernel::ALL {
        match Scanner::with_kernel(masks, table, kernel) {
            Ok(scanner) => {
                assert_eq!(scanner.kernel(), kernel);
                check(&scanner);
            }
            Err(why) => skipped(&why.to_string()),
        }
    }
}

/// The definition, with nothing carried from one end to the next.
fn hash_of(data: &[u8], end: usize, table: &Table) -> u64 {
    data[end.saturating_sub(WINDOW)..end].iter().fold(0u64, |h, &b| (h << 1).wrapping_add(table[usize::from(b)]))
}

fn expected(data: &[u8], masks: Masks, table: &Table) -> Vec<Hit> {
    expected_within(data, masks, table, 1, data.len() + 1)
}

fn expected_within(data: &[u8], masks: Masks, table: &Table, from: usize, to: usize) -> Vec<Hit> {
    let mut hits = Vec::new();
    for end in from..to {
        let hash = hash_of(data, end, table);
        if hash & masks.loose() == 0 {
            let kind = if hash & masks.strict() == 0 { HitKind::Strict } else { HitKind::Loose };
            hits.push(Hit { end, kind });
        }
    }
    hits
}

fn found(scanner: &Scanner, data: &[u8], from: usize, to: usize) -> Vec<Hit> {
    let mut hits = Vec::new();
    scanner.hits(data, from, to, |hit| hits.push(hit));
    hits
}

/// Every question of one range, against all hits of the slice.
fn check_range(scanner: &Scanner, data: &[u8], all: &[Hit], from: usize, normal: usize, to: usize) {
    let what = || format!("{} of {} bytes, {from}..{normal}..{to}", scanner.kernel(), data.len());
    let within: Vec<Hit> = all.iter().copied().filter(|hit| from <= hit.end && hit.end < to).collect();
    assert_eq!(found(scanner, data, from, to), within, "hits, {}", what());
    let strict = |hit: &&Hit| hit.kind == HitKind::Strict;
    let first = within.iter().find(strict).map(|hit| hit.end);
    assert_eq!(scanner.first_strict(data, from, to), first, "first strict, {}", what());
    let first = within.first().map(|hit| hit.end);
    assert_eq!(scanner.first_loose(data, from, to), first, "first loose, {}", what());
    let first = within.iter().find(|hit| hit.end >= normal || strict(hit)).map(|hit| hit.end);
    assert_eq!(scanner.first_cut(data, from, normal, to), first, "first cut, {}", what());
}

/// The whole slice, and ranges around and across its ends.
fn check_slice(scanner: &Scanner, data: &[u8], table: &Table, masks: Masks, random: &mut TestRng) {
    let all = expected(data, masks, table);
    let len = data.len();
    check_range(scanner, data, &all, 0, len / 2, usize::MAX);
    check_range(scanner, data, &all, 1, 1, len + 1);
    check_range(scanner, data, &all, 1, len, len);
    for _ in 0..6 {
        let mut ends = [random.index(len + 3), random.index(len + 3), random.index(len + 3)];
        check_range(scanner, data, &all, ends[0], ends[1].max(ends[0]), ends[2]);
        ends.sort_unstable();
        check_range(scanner, data, &all, ends[0], ends[1], ends[2]);
    }
}

#[test]
fn short_slices_of_every_length() {
    for masks in [Masks::new(low_run(8), low_run(5)).unwrap(), Masks::new(high_run(6), high_run(4)).unwrap()] {
        with_every_kernel(masks, &gearhash::DEFAULT_TABLE, |scanner| {
            let mut random = TestRng(1);
            for len in 0..300 {
                let data = random.bytes(len);
                check_slice(scanner, &data, &gearhash::DEFAULT_TABLE, masks, &mut random);
            }
        });
    }
}

#[test]
fn lengths_around_powers_of_two() {
    for masks in [default_masks(), xet_masks(), Masks::new(low_run(8), low_run(6)).unwrap()] {
        with_every_kernel(masks, &gearhash::DEFAULT_TABLE, |scanner| {
            let mut random = TestRng(2);
            for len in [512usize, 1024, 2048, 4096, 8192, 12288] {
                for len in [len - 65, len - 33, len - 1, len, len + 1, len + 31, len + 63, len + 64, len + 129] {
                    let data = random.bytes(len);
                    check_slice(scanner, &data, &gearhash::DEFAULT_TABLE, masks, &mut random);
                }
            }
        });
    }
}

#[test]
fn every_shape_of_mask_under_two_tables() {
    for table in [&gearhash::DEFAULT_TABLE, other_table()] {
        for masks in many_masks() {
            with_every_kernel(masks, table, |scanner| {
                let mut random = TestRng(3);
                for len in [700, 5000, 9001] {
                    let data = random.bytes(len);
                    check_slice(scanner, &data, table, masks, &mut random);
                }
            });
        }
    }
}

#[test]
fn every_alignment_of_the_first_byte() {
    let masks = Masks::new(low_run(10), low_run(7)).unwrap();
    let data = TestRng(4).bytes(10_000);
    with_every_kernel(masks, &gearhash::DEFAULT_TABLE, |scanner| {
        let mut random = TestRng(5);
        for start in 0..70 {
            check_slice(scanner, &data[start..], &gearhash::DEFAULT_TABLE, masks, &mut random);
        }
    });
}

/// A window whose hash is a hit of this kind.
fn window_that_hits(masks: Masks, kind: HitKind, table: &Table) -> Vec<u8> {
    let mut random = TestRng(6);
    loop {
        let window = random.bytes(WINDOW);
        if masks.kind(hash_of(&window, WINDOW, table)) == Some(kind) {
            return window;
        }
    }
}

/// One hit wandering through every place of a range longer than the widest tile: every lane, row and tail.
#[test]
fn one_hit_at_every_place() {
    let table = &gearhash::DEFAULT_TABLE;
    for masks in [default_masks(), xet_masks()] {
        let mut kinds = vec![HitKind::Strict];
        kinds.extend((masks.strict() != masks.loose()).then_some(HitKind::Loose));
        for kind in kinds {
            let window = window_that_hits(masks, kind, table);
            with_every_kernel(masks, table, |scanner| {
                let len = 8_900;
                assert_eq!(expected(&vec![0; len], masks, table), []);
                // The lanes are what has places to get wrong; the others need not visit all.
                let step = if scanner.kernel() == Kernel::Avx512 { 1 } else { 13 };
                for end in (WINDOW + 1..=len).step_by(step) {
                    let mut data = vec![0; len];
                    data[end - WINDOW..end].copy_from_slice(&window);
                    // Zeros alone never hit, so hits lie in the window or where it is still remembered.
                    let all = expected_within(&data, masks, table, end - WINDOW, len.min(end + WINDOW) + 1);
                    assert!(all.contains(&Hit { end, kind }));
                    assert_eq!(found(scanner, &data, 1, len + 1), all, "hit at {end}");
                    for (from, to) in [(end, end + 1), (end, len + 1), (WINDOW, end + 1), (WINDOW, end), (end + 1, len)]
                    {
                        let normal = from.midpoint(to);
                        let ends = |least: usize, kind: HitKind| {
                            all.iter()
                                .find(|hit| hit.end >= least && hit.end < to && hit.kind <= kind)
                                .map(|hit| hit.end)
                        };
                        assert_eq!(scanner.first_strict(&data, from, to), ends(from, HitKind::Strict));
                        assert_eq!(scanner.first_loose(&data, from, to), ends(from, HitKind::Loose));
                        let cut = ends(from, HitKind::Strict).filter(|&cut| cut < normal);
                        let cut = cut.or(ends(normal, HitKind::Loose));
                        assert_eq!(scanner.first_cut(&data, from, normal, to), cut, "{from}..{normal}..{to}");
                    }
                }
            });
        }
    }
}

#[test]
fn constant_bytes_of_every_value() {
    for masks in [default_masks(), xet_masks(), Masks::new(low_run(3), low_run(2)).unwrap()] {
        with_every_kernel(masks, &gearhash::DEFAULT_TABLE, |scanner| {
            let mut random = TestRng(7);
            for byte in 0..=255 {
                let data = vec![byte; 5000];
                check_slice(scanner, &data, &gearhash::DEFAULT_TABLE, masks, &mut random);
            }
        });
    }
}

/// A hit every few bytes, with the real masks: short periods can do it.
#[test]
fn short_periods_that_hit_in_each() {
    let table = &gearhash::DEFAULT_TABLE;
    for masks in [default_masks(), xet_masks()] {
        let mut random = TestRng(8);
        for period in [2, 3, 4, 5, 7, 8, 13, 31, 33] {
            let data = loop {
                let unit = random.bytes(period);
                let data: Vec<u8> = unit.iter().copied().cycle().take(WINDOW + period).collect();
                let hits = |end| masks.kind(hash_of(&data, end, table)).is_some();
                if (WINDOW + 1..=WINDOW + period).any(hits) {
                    break unit.into_iter().cycle().take(9000).collect::<Vec<u8>>();
                }
                if period == 2 && random.index(1 << 18) == 0 {
                    // No unit of two bytes may hit at all; what is left to check is that none is found.
                    break data;
                }
            };
            with_every_kernel(masks, table, |scanner| {
                check_slice(scanner, &data, table, masks, &mut TestRng(9));
            });
        }
    }
}

/// Kernels may go about dense stretches in another way, for a while: through one, out of it and into the next.
#[test]
fn dense_and_sparse_by_turns() {
    let table = &gearhash::DEFAULT_TABLE;
    let masks = Masks::new(low_run(13), low_run(10)).unwrap();
    let unit = window_that_hits(masks, HitKind::Loose, table);
    let unit = &unit[WINDOW - 32..];
    let mut random = TestRng(10);
    let mut data = Vec::new();
    for (dense, sparse) in [(10_000, 5_000), (30_000, 100), (50_000, 20_000)] {
        data.extend(unit.iter().cycle().take(dense));
        data.extend(random.bytes(sparse));
    }
    assert!(expected(&data, masks, table).len() > 90_000 / 32);
    with_every_kernel(masks, table, |scanner| {
        check_slice(scanner, &data, table, masks, &mut TestRng(11));
    });
    // A hit at every second position and denser.
    for masks in [Masks::new(low_run(2), low_run(1)).unwrap(), Masks::new(high_run(3), high_run(1)).unwrap()] {
        with_every_kernel(masks, table, |scanner| {
            check_slice(scanner, &data[..60_000], table, masks, &mut TestRng(12));
        });
    }
}

#[test]
fn masks_are_validated() {
    assert_eq!(Masks::new(3, 0), Err(BadMasks::Empty));
    assert_eq!(Masks::new(1, 3), Err(BadMasks::StrictLacksLoose { strict: 1, loose: 3 }));
    assert!(Masks::new(3, 1).is_ok());
}

#[test]
fn kernels_have_names() {
    for kernel in Kernel::ALL {
        let named = Kernel::from_name(kernel.name());
        assert_eq!(named.is_ok(), kernel.is_available());
        assert_eq!(named.unwrap_or(kernel), kernel);
    }
    assert_eq!(Kernel::from_name("sse9"), Err(KernelUnavailable::Unknown { name: "sse9".into() }));
}
