//! Runs the program in folders of its own, makes trees, and compares them down to the last attribute.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::missing_panics_doc)]

#[path = "../src/testing/random.rs"]
pub(crate) mod random;
#[path = "../src/testing/skip.rs"]
mod skip;

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

pub(crate) use self::random::noise;
pub(crate) use self::skip::skipped;

/// A folder with a store in it, gone when dropped.
pub(crate) struct Sandbox {
    folder: tempfile::TempDir,
}

impl Sandbox {
    pub(crate) fn new() -> Self {
        Self { folder: tempfile::tempdir().unwrap() }
    }

    pub(crate) fn path(&self, name: impl AsRef<Path>) -> PathBuf {
        self.folder.path().join(name)
    }

    /// The program with arguments, to be run in the folder.
    pub(crate) fn command<S: AsRef<OsStr>>(&self, arguments: impl IntoIterator<Item = S>) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_store"));
        command.current_dir(self.folder.path()).args(arguments).stdin(Stdio::null()).env_remove("STORE_PATH");
        command
    }

    /// As [`Sandbox::command`], of a program that takes signals, also where the tests run in the background of a script
    /// or under `nohup`, which ignore some, and every program that they start after them.
    pub(crate) fn interruptible<S: AsRef<OsStr>>(&self, arguments: impl IntoIterator<Item = S>) -> Command {
        let mut command = Command::new("env");
        command.args(["--default-signal=HUP,INT,TERM", env!("CARGO_BIN_EXE_store")]).args(arguments);
        command.current_dir(self.folder.path()).stdin(Stdio::null()).env_remove("STORE_PATH");
        command
    }

    /// A line of bash, to be run in the folder; the program is `"$0"`.
    pub(crate) fn shell(&self, line: &str) -> Command {
        let mut command = Command::new("bash");
        command.args(["-c", line, env!("CARGO_BIN_EXE_store")]).current_dir(self.folder.path());
        command.stdin(Stdio::null()).env_remove("STORE_PATH");
        command
    }

    /// Runs it and returns what came out, whatever the exit code.
    pub(crate) fn run<S: AsRef<OsStr>>(&self, arguments: impl IntoIterator<Item = S>) -> Output {
        self.command(arguments).output().unwrap()
    }

    /// Runs it and expects an exit code; returns standard output.
    pub(crate) fn expect<S: AsRef<OsStr>>(&self, code: i32, arguments: impl IntoIterator<Item = S>) -> String {
        let output = self.run(arguments);
        let error = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(code), "stderr: {error}");
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    pub(crate) fn ok<S: AsRef<OsStr>>(&self, arguments: impl IntoIterator<Item = S>) -> String {
        self.expect(0, arguments)
    }

    /// What it says on standard error when it fails with this code.
    pub(crate) fn error<S: AsRef<OsStr>>(&self, code: i32, arguments: impl IntoIterator<Item = S>) -> String {
        let output = self.run(arguments);
        assert_eq!(output.status.code(), Some(code), "stderr: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8_lossy(&output.stderr).into_owned()
    }

    pub(crate) fn json<S: AsRef<OsStr>>(&self, arguments: impl IntoIterator<Item = S>) -> serde_json::Value {
        let mut all = vec![OsStr::new("--json").to_owned()];
        all.extend(arguments.into_iter().map(|a| a.as_ref().to_owned()));
        serde_json::from_str(&self.ok(all)).unwrap()
    }

    pub(crate) fn write(&self, name: impl AsRef<Path>, bytes: impl AsRef<[u8]>) -> PathBuf {
        let path = self.path(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, bytes).unwrap();
        path
    }

    /// Adds a tree; the id of its snapshot.
    pub(crate) fn add_tree(&self, name: &str) -> String {
        self.json(["add", name])["snapshot"].as_str().unwrap().to_owned()
    }

    /// The ids of all snapshots, the newest first.
    pub(crate) fn snapshots(&self) -> Vec<String> {
        let listed = self.json(["snapshots"]);
        listed.as_array().unwrap().iter().map(|one| one["id"].as_str().unwrap().to_owned()).collect()
    }

    /// Fails unless a tree comes out of a snapshot as the original is.
    pub(crate) fn assert_tree(&self, snapshot: &str, name: &str, original: &Path) {
        let copy = format!("copy-{snapshot}");
        self.ok(["get", "--snapshot", snapshot, name, "-o", &copy]);
        assert_same_tree(original, &self.path(&copy));
        std::fs::remove_dir_all(self.path(&copy)).unwrap();
    }

    /// Files of leases that are there.
    pub(crate) fn leases(&self) -> usize {
        std::fs::read_dir(self.path(".store/leases")).map_or(0, Iterator::count)
    }

    /// Pending-delete lists.
    pub(crate) fn records(&self) -> usize {
        std::fs::read_dir(self.path(".store/condemned")).map_or(0, Iterator::count)
    }
}

/// Everything of a tree that a restore must bring back, by path.
pub(crate) fn tree_fingerprint(root: &Path) -> BTreeMap<PathBuf, String> {
    let mut fingerprint = BTreeMap::new();
    let mut links: BTreeMap<(u64, u64), PathBuf> = BTreeMap::new();
    let mut todo = vec![root.to_owned()];
    let mut paths = Vec::new();
    while let Some(path) = todo.pop() {
        if path.symlink_metadata().unwrap().is_dir() {
            todo.extend(std::fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
        }
        paths.push(path);
    }
    paths.sort();
    for path in paths {
        let stat = path.symlink_metadata().unwrap();
        let kind = stat.file_type();
        let mut line =
            format!("{:o} {}:{} {}.{:09}", stat.mode(), stat.uid(), stat.gid(), stat.mtime(), stat.mtime_nsec());
        if kind.is_file() {
            let bytes = std::fs::read(&path).unwrap();
            line += &format!(" {} bytes {}", bytes.len(), blake3_hex(&bytes));
        } else if kind.is_symlink() {
            line += &format!(" -> {:?}", std::fs::read_link(&path).unwrap());
        } else if kind.is_char_device() || kind.is_block_device() {
            line += &format!(" device {}", stat.rdev());
        }
        let relative = path.strip_prefix(root).unwrap().to_owned();
        if !kind.is_dir() && stat.nlink() > 1 {
            let first = links.entry((stat.dev(), stat.ino())).or_insert_with(|| relative.clone());
            line += &format!(" linked to {first:?}");
        }
        fingerprint.insert(relative, line);
    }
    fingerprint
}

fn blake3_hex(bytes: &[u8]) -> String {
    seamstore::entry::ChunkId::of(bytes).to_hex()
}

/// Fails with the first entry that differs.
pub(crate) fn assert_same_tree(a: &Path, b: &Path) {
    let (a, b) = (tree_fingerprint(a), tree_fingerprint(b));
    for (path, line) in &a {
        assert_eq!(Some(line), b.get(path), "{path:?}");
    }
    for path in b.keys() {
        assert!(a.contains_key(path), "{path:?} should not be there");
    }
}
