//! Keeps a directory tree in a store, through a [`Writer`]: as a program does that has its entries from somewhere else than
//! `store add`, and from several threads at once.
//!
//! ```sh
//! cargo run --release --example compress_walk -- /path/to/store /path/to/tree
//! ```
//!
//! It prints a line of progress for every 10,000 entries, and what came of it at the end.

use std::error::Error;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::mpsc::{Receiver, sync_channel};

use seamstore::entry::Label;
use seamstore::report::AddReport;
use seamstore::request::{Labelling, Settings, WriterOptions};
use seamstore::{Control, Store, Writer};

/// Threads that read files. Workers that cut, hash and compress are the writer's own.
const READERS: usize = 4;

type Outcome<T> = Result<T, Box<dyn Error + Send + Sync>>;

/// Keeps all of `tree` in the store at `store`, which is made if there is none. Files that cannot be read are left out and
/// named in the report.
pub fn compress(store: &Path, tree: &Path, control: Arc<Control>) -> Outcome<AddReport> {
    let store = Store::open_or_init(store, Settings::default())?;
    // Every entry is labelled with where it comes from, packages with what they are, and logs by a rule.
    let labels = Labelling::default()
        .all([Label::new("source", tree.to_string_lossy())?])
        .rules(["*.log type=log".parse()?])
        .detect_types(true);
    let writer = store.writer(WriterOptions::default().labels(labels).control(control))?;
    // A bounded queue of paths, and threads that open and read them. Entries reach the writer in any order.
    let (paths, found) = sync_channel::<PathBuf>(1024);
    let found = Mutex::new(found);
    std::thread::scope(|scope| {
        let readers: Vec<_> = (0..READERS).map(|_| scope.spawn(|| give_all(&writer, tree, &found))).collect();
        walk(tree, &mut |path| paths.send(path).is_ok())?;
        drop(paths);
        readers.into_iter().try_for_each(|reader| reader.join().unwrap_or(Err("a reader panicked".into())))
    })?;
    // Without this line there would be no snapshot.
    Ok(writer.finish()?)
}

fn give_all(writer: &Writer, tree: &Path, found: &Mutex<Receiver<PathBuf>>) -> Outcome<()> {
    loop {
        let next = found.lock().map_err(|_| "another reader panicked")?.recv();
        let Ok(path) = next else { return Ok(()) };
        let name = path.strip_prefix(tree)?;
        let metadata = fs::symlink_metadata(&path)?;
        let mut entry = writer.entry_like(name, &metadata)?;
        if metadata.is_file() {
            // A file that cannot be read costs this file only: the report names it.
            match fs::File::open(&path) {
                Ok(file) => drop(writer.add(entry, file)),
                Err(error) => drop(writer.add(entry, Broken(error.kind()))),
            }
        } else {
            if metadata.is_symlink() {
                use std::os::unix::ffi::OsStrExt;
                entry.link_target = fs::read_link(&path)?.as_os_str().as_bytes().to_vec();
            }
            writer.add_entry(entry)?;
        }
    }
}

/// Calls `each` with the path of everything below `folder`, until it answers no.
fn walk(folder: &Path, each: &mut dyn FnMut(PathBuf) -> bool) -> Outcome<()> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        if !each(entry.path()) {
            return Ok(());
        }
        if entry.file_type()?.is_dir() {
            walk(&entry.path(), each)?;
        }
    }
    Ok(())
}

/// A file that could not be opened, so that it is reported as one that cannot be read.
struct Broken(std::io::ErrorKind);

impl std::io::Read for Broken {
    fn read(&mut self, _: &mut [u8]) -> std::io::Result<usize> {
        Err(self.0.into())
    }
}

#[allow(dead_code, reason = "the tests call `compress`")]
#[allow(clippy::print_stdout, clippy::print_stderr, reason = "an example talks to whoever runs it")]
fn main() -> Outcome<()> {
    let mut arguments = std::env::args_os().skip(1).map(PathBuf::from);
    let (Some(store), Some(tree)) = (arguments.next(), arguments.next()) else {
        return Err("usage: compress_walk STORE TREE".into());
    };
    let control = Control::with_callback(|entries, bytes| {
        if entries % 10_000 == 0 {
            eprintln!("{entries} entries, {} MB", bytes / 1_000_000);
        }
    });
    let report = compress(&store, &tree, Arc::new(control))?;
    for problem in &report.problems {
        eprintln!("{:?} {}", problem.path, problem.sentence());
    }
    let id = report.snapshot.map(|id| id.to_hex()).unwrap_or_default();
    let totals = report.totals;
    println!("{id}: {} files, {} bytes, {} of them new", totals.files, totals.logical_bytes, totals.new_bytes);
    Ok(())
}
