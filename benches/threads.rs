//! Which thread does how much of an add, and how many cores can it use?
//!
//! `cargo bench --bench threads -- PATH…` adds each path to an empty store, and then once more, all of it read again and
//! known, and prints the share of each thread in all processor time. Whatever runs on one thread limits the speed-up by
//! Amdahl's law: with a share `s`, `n` cores make it at most `1 / (s + (1 - s) / n)` times as fast. Workers share
//! everything that is not decided in order, so the largest share of any other thread counts. Three kinds of work go from
//! worker to worker, one stretch after another, and are counted among the workers' here: the walk, the way from header
//! to header in a tar, and putting a tar together.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::print_stdout, missing_docs)]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use seamstore::request::{AddRequest, Settings};
use seamstore::{Control, Store};

/// Threads live as long as the add: what one did since it was last looked at is lost.
const INTERVAL: Duration = Duration::from_millis(5);
const COORDINATOR: &str = "coordinator";

fn main() {
    let paths: Vec<PathBuf> =
        std::env::args().skip(1).filter(|argument| argument != "--bench").map(PathBuf::from).collect();
    if paths.is_empty() {
        println!("usage: cargo bench --bench threads -- PATH...");
    }
    for path in paths {
        let folder = tempfile::tempdir_in(std::env::temp_dir()).unwrap();
        let root = folder.path().join("store");
        drop(Store::init(&root, Settings::default()).unwrap());
        for what in ["new", "known"] {
            println!("{}, {what}:", path.display());
            report(&add(&root, &path));
        }
    }
}

/// What the threads of one name used, in nanoseconds of processor time.
#[derive(Default)]
struct Used {
    threads: u64,
    sum: u64,
    /// By one of them.
    most: u64,
}

/// By the name of the thread; workers under one name.
fn add(root: &Path, path: &Path) -> BTreeMap<String, Used> {
    let is_over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let adding = std::thread::Builder::new().name(COORDINATOR.to_owned());
        let adding = adding.spawn_scoped(scope, || {
            let request = AddRequest::default().paths(vec![path.to_owned()]).reread(true);
            Store::open(root).unwrap().add(&request, &Control::default()).unwrap();
            is_over.store(true, Ordering::Release);
        });
        adding.unwrap();
        let mut seen = BTreeMap::new();
        while !is_over.load(Ordering::Acquire) {
            look(&mut seen);
            std::thread::sleep(INTERVAL);
        }
        let mut by_name: BTreeMap<String, Used> = BTreeMap::new();
        for (name, ns) in seen.into_values() {
            let name = if name.starts_with("add-worker") { "workers".to_owned() } else { name };
            let used = by_name.entry(name).or_default();
            used.threads += 1;
            used.sum += ns;
            used.most = used.most.max(ns);
        }
        by_name
    })
}

/// Notes what each thread of the add has used so far.
fn look(seen: &mut BTreeMap<String, (String, u64)>) {
    for task in std::fs::read_dir("/proc/self/task").unwrap().flatten() {
        let read = |file: &str| std::fs::read_to_string(task.path().join(file)).unwrap_or_default();
        let name = read("comm").trim().to_owned();
        let used = read("schedstat").split(' ').next().and_then(|ns| ns.parse().ok());
        if let Some(ns) =
            used.filter(|_| name == COORDINATOR || name.starts_with("add-") || name.starts_with("catalog-"))
        {
            seen.insert(task.file_name().to_string_lossy().into_owned(), (name, ns));
        }
    }
}

fn report(by_name: &BTreeMap<String, Used>) {
    let all: u64 = by_name.values().map(|used| used.sum).sum();
    let share = |ns: u64| ns as f64 / all.max(1) as f64;
    for (name, Used { threads, sum, most }) in by_name {
        let seconds = *sum as f64 / 1e9;
        let (sum, most) = (100.0 * share(*sum), 100.0 * share(*most));
        println!("  {name:16} {threads:3} threads {seconds:8.2} s {sum:6.1} %, one of them at most {most:.1} %");
    }
    let others = by_name.iter().filter(|(name, _)| *name != "workers");
    let serial = others.map(|(_, used)| share(used.most)).fold(0.0, f64::max);
    let speed_up = |cores: f64| 1.0 / (serial + (1.0 - serial) / cores);
    println!(
        "  the largest share of one thread beside the workers, {:.1} %, allows {:.1} times on 16 cores and {:.1} times on 64",
        100.0 * serial,
        speed_up(16.0),
        speed_up(64.0)
    );
}
