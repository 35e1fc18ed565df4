//! Whichever operation of the disk fails: is that said, with the file's name; is the store whole; does the same command
//! succeed once the disk does?
//!
//! Every command runs once for each operation it asks of the disk and each way in which that can go wrong. A run that
//! then asks for ever is stopped by the disk.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use rustix::io::Errno;

use super::stage::{self, Due, NEXT, Stage, Step};
use crate::error::{Error, Result, chain};
use crate::format::id::SnapshotId;
use crate::testing::disk::{Asked, Fault, FaultyDisk, Op};
use crate::testing::folder::copy_tree;

/// What is asked of a store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Command {
    Add,
    Get,
    Remove,
    Collect,
    Repair,
}

/// What came of it.
enum Outcome {
    Done,
    /// All but this was done, and this was said.
    Partly(String),
}

/// A store on which a command has something to do, to be copied.
struct Prepared {
    stage: Stage,
    command: Command,
    store: PathBuf,
    due: Due,
    /// A snapshot to get, or to remove.
    snapshot: SnapshotId,
    tree: usize,
}

impl Prepared {
    fn new(command: Command) -> Self {
        let stage = Stage::new();
        let disk = super::RecordingDisk::new(&stage.recorded());
        let mut promises = Vec::new();
        stage.play(&disk, &[Step::Init, Step::Add(0), Step::Add(1)], &mut promises);
        match command {
            Command::Collect => stage.play(&disk, &[Step::Remove(0)], &mut promises),
            Command::Repair => stage.play(&disk, &[Step::Damage], &mut promises),
            Command::Add | Command::Get | Command::Remove => {}
        }
        let mut due = Due::after(&promises, disk.len());
        let tree = if command == Command::Remove { 0 } else { 1 };
        let store = stage.recorded().join("store");
        let snapshot = if command == Command::Repair {
            // It cannot be read as it is.
            *due.snapshots.first().unwrap()
        } else {
            stage.snapshots_of(&stage::open(Arc::new(FaultyDisk::unsynced()), &store).unwrap(), tree)[0]
        };
        if command == Command::Remove {
            due.snapshots.remove(&snapshot);
        }
        Self { stage, command, store, due, snapshot, tree }
    }

    fn run(&self, disk: &FaultyDisk, folder: &Path) -> Result<Outcome> {
        let store = stage::open(Arc::new(disk.clone()), &folder.join("store"))?;
        match self.command {
            Command::Add => self.stage.add(&store, NEXT).map(|_| Outcome::Done),
            Command::Get => {
                let losses = self.stage.get(&store, self.snapshot, self.tree, &folder.join("copies"))?;
                Ok(if losses.is_empty() { Outcome::Done } else { Outcome::Partly(losses.join("\n")) })
            }
            Command::Remove => store.remove(&[self.snapshot.to_hex()]).map(|_| Outcome::Done),
            Command::Collect => {
                let damaged = self.stage.collect(&store)?.damaged;
                let said: Vec<String> = damaged.iter().map(|(name, what)| format!("{}: {what}", name.path())).collect();
                Ok(if said.is_empty() { Outcome::Done } else { Outcome::Partly(said.join("\n")) })
            }
            Command::Repair => {
                let report = self.stage.repair(&store)?;
                let damages = report.damages.iter().map(|damage| format!("{}: {}", damage.object.path(), damage.what));
                let unreadable = report.index.iter().flat_map(|index| &index.unreadable);
                let unreadable = unreadable.map(|(name, error)| format!("{}: {}", name.path(), chain(error)));
                let said: Vec<String> = damages.chain(unreadable).collect();
                Ok(if report.is_whole() { Outcome::Done } else { Outcome::Partly(said.join("\n")) })
            }
        }
    }

    /// Lets the operation after `well` others meet a fault; `false` if there were fewer.
    fn store_under_test(
        self: &Arc<Self>,
        fault: Fault,
        among: fn(Op) -> bool,
        well: usize,
        counts: &Mutex<Counts>,
    ) -> bool {
        let case = format!("{:?}, {fault:?} after {well}", self.command);
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().join("store");
        copy_tree(&self.store, &root);
        let disk = FaultyDisk::unsynced();
        disk.fault(fault, well, among);
        let result = self.run(&disk, folder.path());
        let Some(asked) = disk.struck() else {
            assert!(matches!(result, Ok(Outcome::Done)), "{case}: nothing went wrong: {:?}", result.err());
            return false;
        };
        let case = format!("{case}: {asked:?}");
        counts.lock().unwrap().note(&result);
        self.judge(fault, &asked, &result, &case);
        never_trusted_again(&disk.since_struck(), &asked, fault, &case);
        self.assert_got(&result, &folder.path().join("copies"), &case);
        self.assert_goes_on(folder.path(), &case);
        true
    }

    /// What is said must name the file; what must not be passed over is said.
    fn judge(&self, fault: Fault, asked: &Asked, result: &Result<Outcome>, case: &str) {
        let carried_on = fault == Fault::Short || fault == Fault::Fails(Errno::INTR);
        // Files kept open for reading are closed then, and it is asked again.
        let may_be_helped = fault == Fault::Fails(Errno::MFILE);
        let said = match result {
            Ok(Outcome::Done) => {
                // A change that failed is passed over only where nothing depends on it.
                let is_index = asked.path.components().any(|part| part.as_os_str() == "index");
                let is_tidying = matches!(asked.op, Op::Sweep | Op::Remove);
                // What a lease says is for messages.
                let is_message = asked.op == Op::Write && asked.path.extension().is_some_and(|end| end == "lease");
                let is_nothing = !asked.op.changes() || is_index || is_tidying || is_message;
                // A gc frees what it can without room; a gc or repair that has no room for gc.lock drops the index.
                let needs_no_room =
                    fault == Fault::Fails(Errno::NOSPC) && (self.command == Command::Collect || asked.op == Op::Hold);
                assert!(carried_on || may_be_helped || is_nothing || needs_no_room, "{case}: it was not said");
                return;
            }
            Ok(Outcome::Partly(said)) => said.clone(),
            Err(error) => chain(error),
        };
        assert!(!carried_on, "{case}: {said}");
        if self.command == Command::Repair && result.is_ok() && !asked.op.changes() {
            // It ends with a verification: what seems lost because a read failed is reported by file and snapshot.
            return;
        }
        let names = [Some(&asked.path), asked.from.as_ref()];
        let mut names = names.iter().flatten().filter_map(|path| Some(path.file_name()?.to_string_lossy()));
        assert!(names.any(|name| said.contains(&*name)), "{case}: {said:?} does not name it");
        if let (Fault::Fails(errno), Err(Error::Io { source, .. })) = (fault, result) {
            assert_eq!(source.raw_os_error(), Some(errno.raw_os_error()), "{case}: {said}");
        }
    }

    /// What a get brought is right, all of it if nothing was said to be lost.
    fn assert_got(&self, result: &Result<Outcome>, copies: &Path, case: &str) {
        if self.command != Command::Get || !copies.exists() {
            return;
        }
        let (got, expected) = (stage::tree_fingerprint(copies), self.stage.tree_fingerprint(self.tree));
        for (path, content) in &got {
            assert!(expected.get(path) == Some(content), "{case}: {path:?} came out wrong");
        }
        assert!(!matches!(result, Ok(Outcome::Done)) || got.len() == expected.len(), "{case}: something is missing");
        std::fs::remove_dir_all(copies).unwrap();
    }

    /// On a disk that works the store is whole, and the same command succeeds.
    fn assert_goes_on(&self, folder: &Path, case: &str) {
        let store = stage::open(Arc::new(FaultyDisk::unsynced()), &folder.join("store")).unwrap();
        let copies = folder.join("copies");
        if self.command == Command::Repair {
            assert!(self.stage.repair(&store).unwrap().is_whole(), "{case}");
        }
        stage::assert_whole(&store, case);
        match self.run(&FaultyDisk::unsynced(), folder) {
            Ok(Outcome::Done) => {}
            // It was removed, only not for good yet.
            Err(Error::NotFound { .. }) if self.command == Command::Remove => {}
            Ok(Outcome::Partly(said)) => panic!("{case}: again: {said}"),
            Err(error) => panic!("{case}: again: {error:?}"),
        }
        let _ = std::fs::remove_dir_all(&copies);
        self.stage.collect(&store).unwrap();
        stage::assert_whole(&store, case);
        self.stage.compare_all(&store, &self.due, &copies, case);
        stage::assert_tidy(&store.location(), case);
    }
}

/// Invariant 9: what could not be synced gets no name, and is not synced again.
fn never_trusted_again(since: &[Asked], failed: &Asked, fault: Fault, case: &str) {
    if !failed.op.is_sync() || fault == Fault::Fails(Errno::MFILE) {
        return;
    }
    let relied = since.iter().find(|later| {
        let is_same = later.path == failed.path || later.from.as_ref() == Some(&failed.path);
        is_same && (later.op.is_sync() || matches!(later.op, Op::RenameNew | Op::RenameOver | Op::Link))
    });
    assert!(relied.is_none(), "{case}: then {relied:?}");
}

/// What was tried.
#[derive(Debug, Default, Clone, Copy)]
struct Counts {
    trials: usize,
    /// It went well all the same.
    done: usize,
    /// A part was not done, and named.
    partly: usize,
    failed: usize,
}

impl Counts {
    fn note(&mut self, result: &Result<Outcome>) {
        self.trials += 1;
        match result {
            Ok(Outcome::Done) => self.done += 1,
            Ok(Outcome::Partly(_)) => self.partly += 1,
            Err(_) => self.failed += 1,
        }
    }
}

/// Which operations.
type Among = fn(Op) -> bool;

/// What can go wrong, and with which operations.
const FAULTS: &[(Fault, Among)] = &[
    (Fault::Fails(Errno::IO), Op::any),
    (Fault::Fails(Errno::NOSPC), Op::takes_space),
    (Fault::Fails(Errno::MFILE), Op::opens),
    (Fault::Fails(Errno::INTR), Op::moves_bytes),
    (Fault::Short, Op::moves_bytes),
];

#[expect(clippy::print_stderr, reason = "tests report to the person who runs them")]
fn sweep(command: Command, stride: usize, least: usize) {
    let prepared = Arc::new(Prepared::new(command));
    for (fault, among) in FAULTS {
        let (next, ended) = (AtomicUsize::new(0), AtomicUsize::new(usize::MAX));
        let counts = Mutex::default();
        std::thread::scope(|scope| {
            for _ in 0..2 {
                scope.spawn(|| {
                    loop {
                        let well = next.fetch_add(stride, Ordering::Relaxed);
                        if well >= ended.load(Ordering::Relaxed) {
                            break;
                        }
                        if !prepared.store_under_test(*fault, *among, well, &counts) {
                            ended.fetch_min(well, Ordering::Relaxed);
                        }
                    }
                });
            }
        });
        let counts = counts.into_inner().unwrap();
        eprintln!("{command:?}, {fault:?}: {counts:?}");
        assert!(*fault != Fault::Fails(Errno::IO) || counts.trials >= least, "{counts:?}");
    }
}

#[test]
fn whichever_operation_of_an_add_fails() {
    sweep(Command::Add, 1, 50);
}

#[test]
fn whichever_operation_of_a_get_fails() {
    sweep(Command::Get, 1, 15);
}

#[test]
fn whichever_operation_of_an_rm_fails() {
    sweep(Command::Remove, 1, 5);
}

#[test]
fn many_an_operation_of_a_gc_fails() {
    sweep(Command::Collect, 3, 30);
}

#[test]
#[ignore = "takes a minute: every one"]
fn whichever_operation_of_a_gc_fails() {
    sweep(Command::Collect, 1, 100);
}

#[test]
fn many_an_operation_of_a_repair_fails() {
    sweep(Command::Repair, 13, 20);
}

#[test]
#[ignore = "takes minutes: every one"]
fn whichever_operation_of_a_repair_fails() {
    sweep(Command::Repair, 1, 200);
}
