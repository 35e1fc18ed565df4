//! Programs that are killed, and file systems that stop, at any moment of add, get, rm and gc: every snapshot that was
//! acknowledged is whole, `verify --full` passes, and nothing is left that a person must clear. Invariants 1, 2, 3, 7.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use std::collections::BTreeMap;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use crate::support::{Sandbox, assert_same_tree, noise, skipped};
use crate::system::{files_below, is_root};

/// What is cut short.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Work {
    Add,
    Get,
    Remove,
    Collect,
}

const ALL: [Work; 4] = [Work::Add, Work::Get, Work::Remove, Work::Collect];

/// How it is.
enum Blow<'v> {
    Kill,
    Shutdown(&'v Volume),
}

/// What happened to one kind of work.
#[derive(Debug, Default, Clone, Copy)]
struct Count {
    cut_short: usize,
    done: usize,
    /// So long it takes if it is let be.
    takes: Duration,
}

/// A store that is worked at.
struct Session<'b> {
    sandbox: &'b Sandbox,
    store: PathBuf,
    numbers: u64,
    trees: u64,
    /// Snapshots that were acknowledged, or seen later: their trees.
    kept: BTreeMap<String, String>,
    counts: [Count; 4],
}

impl<'b> Session<'b> {
    fn new(sandbox: &'b Sandbox, store: PathBuf, seed: u64) -> Self {
        let counts = [Count { takes: Duration::from_millis(30), ..Count::default() }; 4];
        let mut session = Self { sandbox, store, numbers: seed, trees: 0, kept: BTreeMap::new(), counts };
        for _ in 0..3 {
            let tree = session.next_tree();
            let begun = Instant::now();
            let added = session.json(&["add", &tree]);
            session.counts[Work::Add as usize].takes = begun.elapsed();
            session.keep(&added, tree);
        }
        session
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.numbers += 1;
        u64::from_le_bytes(noise(self.numbers << 20, 8).try_into().unwrap()) % bound
    }

    fn keep(&mut self, added: &serde_json::Value, tree: String) {
        self.kept.insert(added["snapshot"].as_str().unwrap().to_owned(), tree);
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = self.sandbox.command(["--json", "--store", self.store.to_str().unwrap()]);
        command.args(arguments);
        command
    }

    fn json(&self, arguments: &[&str]) -> serde_json::Value {
        let output = self.command(arguments).output().unwrap();
        let error = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(0), "{arguments:?}: {error}");
        serde_json::from_slice(&output.stdout).unwrap()
    }

    /// A tree that shares contents with those before and after, so that adds find what collections are to delete.
    fn next_tree(&mut self) -> String {
        self.trees += 1;
        let tree = format!("tree-{}", self.trees);
        for file in 0..3 {
            let shared = self.below(6);
            self.sandbox.write(format!("{tree}/shared-{file}"), noise(1000 + shared, 500_000));
        }
        self.sandbox.write(format!("{tree}/own"), noise(2000 + self.trees, 150_000));
        self.sandbox.write(format!("{tree}/small"), self.trees.to_string());
        tree
    }

    /// One piece of work, cut short at some moment; then everything is looked at.
    fn round(&mut self, blow: &Blow<'_>) {
        let work = match self.below(20) {
            _ if self.kept.len() > 6 => Work::Remove,
            0..7 => Work::Add,
            7..11 => Work::Get,
            11..15 if self.kept.len() > 2 => Work::Remove,
            _ => Work::Collect,
        };
        let any = self.below(self.kept.len() as u64) as usize;
        let (id, kept_tree) = self.kept.iter().nth(any).map(|(id, tree)| (id.clone(), tree.clone())).unwrap();
        let tree = if work == Work::Add { self.next_tree() } else { kept_tree };
        let percent = self.below(20).to_string() + "%";
        let arguments: Vec<&str> = match work {
            Work::Add => vec!["add", &tree],
            Work::Get => vec!["get", "--snapshot", &id, &tree, "-o", "copy"],
            Work::Remove => vec!["rm", &id],
            Work::Collect => vec!["gc", "--max-waste", &percent],
        };
        let before = self.objects();
        let done = self.cut_short(work, &arguments, blow);
        let story = format!("{arguments:?}, {}", if done.is_some() { "done" } else { "cut short" });
        let listed = self.json(&["snapshots"]);
        let listed: Vec<&str> = listed.as_array().unwrap().iter().map(|one| one["id"].as_str().unwrap()).collect();
        match (work, &done) {
            (Work::Add, Some(report)) => self.keep(report, tree.clone()),
            // It may have come to its commit, and not to say so.
            (Work::Add, None) => {
                let new = listed.iter().find(|id| !self.kept.contains_key(**id));
                self.kept.extend(new.map(|id| ((*id).to_owned(), tree.clone())));
            }
            (Work::Remove, Some(_)) => {
                assert!(!listed.contains(&&*id), "{story}: it is there again");
                self.kept.remove(&id);
            }
            (Work::Remove, None) if !listed.contains(&&*id) => drop(self.kept.remove(&id)),
            (Work::Get, _) => {
                assert!(self.objects() == before, "{story}: a get writes nothing but the index");
                let copy = self.sandbox.path("copy");
                if done.is_none() {
                    self.json(&["get", "--snapshot", &id, &tree, "-o", "copy", "--force"]);
                }
                assert_same_tree(&self.sandbox.path(&tree), &copy);
                std::fs::remove_dir_all(copy).unwrap();
            }
            _ => {}
        }
        self.examine(&listed, &story);
        if self.below(5) == 0 {
            let report = self.json(&["gc", "--no-wait"]);
            assert_eq!((report["leases"].as_u64(), report["pending_deletes"].as_u64()), (Some(0), Some(0)), "{story}");
            self.examine(&listed, &format!("{story}, then gc"));
        }
    }

    /// The objects that are there.
    fn objects(&self) -> Vec<PathBuf> {
        ["packs", "recipes", "snapshots"].iter().flat_map(|folder| files_below(&self.store.join(folder))).collect()
    }

    /// Runs the program until it is done or its time has come; what it said if it was done.
    fn cut_short(&mut self, work: Work, arguments: &[&str], blow: &Blow<'_>) -> Option<serde_json::Value> {
        let share = self.below(110) as u32;
        let after = self.counts[work as usize].takes * share / 100;
        let begun = Instant::now();
        let mut child = self.command(arguments).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        while begun.elapsed() < after && child.try_wait().unwrap().is_none() {
            std::thread::park_timeout(Duration::from_micros(200));
        }
        let done_before = child.try_wait().unwrap().is_some();
        match blow {
            Blow::Kill => drop(child.kill()),
            Blow::Shutdown(volume) => volume.shutdown(),
        }
        let output = child.wait_with_output().unwrap();
        if let Blow::Shutdown(volume) = blow {
            volume.mount_again();
        }
        let count = &mut self.counts[work as usize];
        // Others use the machine, too.
        count.takes = if done_before { begun.elapsed() } else { count.takes + count.takes / 16 };
        let report = acknowledged(&output, blow, arguments);
        *(if report.is_some() { &mut count.done } else { &mut count.cut_short }) += 1;
        report
    }

    fn examine(&self, listed: &[&str], story: &str) {
        for id in self.kept.keys() {
            assert!(listed.contains(&&**id), "{story}: snapshot {id} is gone");
        }
        assert_eq!(listed.len(), self.kept.len(), "{story}: snapshots that nobody added");
        let verified = self.command(&["verify", "--full"]).output().unwrap();
        assert_eq!(verified.status.code(), Some(0), "{story}: {}", String::from_utf8_lossy(&verified.stdout));
        for (id, tree) in &self.kept {
            self.json(&["get", "--snapshot", id, tree, "-o", "whole"]);
            assert_same_tree(&self.sandbox.path(tree), &self.sandbox.path("whole"));
            std::fs::remove_dir_all(self.sandbox.path("whole")).unwrap();
        }
    }

    fn cut_short_in_all(&self) -> usize {
        self.counts.iter().map(|count| count.cut_short).sum()
    }

    /// After everything: the store is like one that nothing happened to.
    fn end(&self) {
        self.json(&["gc", "--max-waste", "0%"]);
        // Whatever was left of the index, it is right, or made again.
        let _ = std::fs::remove_dir_all(self.store.join("index"));
        let again = self.json(&["add", "--reread", self.kept.values().next().unwrap()]);
        assert_eq!(again["new_bytes"], 0);
        let stats = self.json(&["dedup-stats"]);
        assert_eq!(stats["unused_chunks"], 0);
        let left = |folder: &str| std::fs::read_dir(self.store.join(folder)).map_or(0, Iterator::count);
        assert_eq!(["tmp", "leases", "condemned"].map(left), [0; 3]);
    }

    #[expect(clippy::print_stderr, reason = "tests report to the person who runs them")]
    fn report(&self, name: &str) {
        let counts = ALL.map(|work| (work, self.counts[work as usize].cut_short, self.counts[work as usize].done));
        eprintln!("{name}: {} cut short; (work, cut short, done): {counts:?}", self.cut_short_in_all());
    }
}

/// What was said by a program that succeeded. One that did not was killed, or says why.
fn acknowledged(output: &Output, blow: &Blow<'_>, arguments: &[&str]) -> Option<serde_json::Value> {
    if output.status.success() {
        return Some(serde_json::from_slice(&output.stdout).unwrap_or_default());
    }
    let error = String::from_utf8_lossy(&output.stderr);
    match blow {
        Blow::Kill => assert_eq!(output.status.signal(), Some(9), "{arguments:?}: {error}"),
        Blow::Shutdown(_) => assert!(
            output.status.code().is_some_and(|code| (1..=4).contains(&code)) && !error.is_empty(),
            "{arguments:?}: {:?} {error}",
            output.status
        ),
    }
    None
}

fn kill_until(kills: usize, rounds_max: usize, seed: u64) {
    let sandbox = Sandbox::new();
    let mut session = Session::new(&sandbox, sandbox.path(".store"), seed);
    let mut rounds = 0;
    let is_enough = |session: &Session<'_>| {
        session.cut_short_in_all() >= kills && session.counts.iter().all(|count| count.cut_short > kills / 20)
    };
    while !is_enough(&session) && rounds < rounds_max {
        session.round(&Blow::Kill);
        rounds += 1;
    }
    session.end();
    session.report("kill -9");
    assert!(is_enough(&session), "not enough was killed in {rounds} rounds");
}

#[test]
fn killed_at_any_moment_it_loses_nothing() {
    kill_until(30, 150, 1);
}

#[test]
#[ignore = "takes minutes: the same, many more times"]
fn killed_at_any_moment_many_times() {
    kill_until(400, 1500, 2);
}

/// A file system in a file.
struct Volume {
    image: PathBuf,
    mounted: PathBuf,
}

impl Volume {
    /// `None`, said aloud, where it cannot be had.
    fn new(sandbox: &Sandbox, kind: &str) -> Option<Self> {
        let (image, mounted) = (sandbox.path("image"), sandbox.path("mounted"));
        std::fs::create_dir(&mounted).unwrap();
        std::fs::File::create_new(&image).unwrap().set_len(320 << 20).unwrap();
        let has = |program: &str, arguments: &[&str]| {
            Command::new(program).args(arguments).output().is_ok_and(|output| output.status.success())
        };
        let path = image.to_str().unwrap();
        let made = match kind {
            "xfs" => has("mkfs.xfs", &["-q", path]),
            _ => has("mkfs.ext4", &["-q", "-F", path]),
        };
        let volume = Self { image, mounted };
        if !(is_root() && made && has("xfs_io", &["-V"]) && volume.mount()) {
            skipped(&format!("shutting down {kind} takes root, loop devices, mkfs.{kind} and xfs_io"));
            return None;
        }
        Some(volume)
    }

    fn mount(&self) -> bool {
        let mut mount = Command::new("mount");
        mount.args(["-o", "loop"]).args([&self.image, &self.mounted]);
        mount.output().is_ok_and(|output| output.status.success())
    }

    /// The file system stops at once, as if power were lost: what it has not written to its disk is gone.
    fn shutdown(&self) {
        let output = Command::new("xfs_io").args(["-x", "-c", "shutdown"]).arg(&self.mounted).output().unwrap();
        assert!(output.status.success(), "{output:?}");
    }

    fn mount_again(&self) {
        assert!(unmount(&self.mounted, &[]) && self.mount(), "{:?} cannot be mounted again", self.mounted);
    }
}

fn unmount(path: &Path, flags: &[&str]) -> bool {
    Command::new("umount").args(flags).arg(path).output().is_ok_and(|output| output.status.success())
}

impl Drop for Volume {
    fn drop(&mut self) {
        let _ = unmount(&self.mounted, &["-l"]);
    }
}

fn shut_down(kind: &str, rounds: usize, seed: u64) {
    let sandbox = Sandbox::new();
    let Some(volume) = Volume::new(&sandbox, kind) else { return };
    let mut session = Session::new(&sandbox, volume.mounted.join("store"), seed);
    for _ in 0..rounds {
        session.round(&Blow::Shutdown(&volume));
    }
    session.end();
    session.report(&format!("{kind} shut down"));
    assert!(session.cut_short_in_all() > 0);
}

#[test]
fn a_file_system_that_stops_loses_nothing_that_was_acknowledged() {
    for kind in ["xfs", "ext4"] {
        shut_down(kind, 6, 3);
    }
}

#[test]
#[ignore = "takes minutes: the same, many more times"]
fn a_file_system_that_stops_many_times() {
    for kind in ["xfs", "ext4"] {
        shut_down(kind, 60, 4);
    }
}
