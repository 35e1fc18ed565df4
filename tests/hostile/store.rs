//! Everything that is done with a store, done with a hostile one.
//!
//! Nothing panics; nothing is made or changed outside of the destination; and what is delivered as whole is what its ids
//! say, which is checked here chunk by chunk without asking the store.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::io::Write;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};

use seamstore::entry::ChunkId;
use seamstore::internals::format::recipe::Piece;
use seamstore::report::GetReport;
use seamstore::request::{Depth, GcRequest, GetRequest, RepairRequest, Selector, VerifyRequest};
use seamstore::{Control, Error, Store};

use super::arrow::Row;
use super::forged_store::{ForgedStore, OUTSIDE, build};
use super::script::Script;

/// No stream is taken further: sizes of terabytes are zeros that somebody asked for.
const STREAM_BYTES_MAX: usize = 4 << 20;

/// One, and the few that reading needs besides: a fuzzer shares its processor, and every hand-over waits for it.
const THREADS: usize = 1;

/// The target.
pub fn store(input: &[u8]) {
    let mut script = Script::new(input);
    let folder = super::folder();
    let base = folder.path();
    let outside = base.join(OUTSIDE);
    std::fs::create_dir(&outside).unwrap();
    std::fs::write(outside.join("precious"), "precious").unwrap();
    let forged = build(&mut script, &outside);
    let root = base.join("store");
    put(&root, &forged.objects);
    let before = tree_fingerprint(&outside);

    let store = Store::open(&root).unwrap();
    let first = get(&store, &forged, base, "first");
    let had = first.as_ref().map_or((0, 0), |report| (report.files, report.bytes));
    // Each takes its time: a script may leave some out.
    let left_out = script.byte();
    if left_out & 1 == 0 {
        read(&store, &forged);
    }
    let control = Control::default();
    let mut whole = false;
    if left_out & 2 == 0 {
        for depth in [Depth::Quick, Depth::Full] {
            let verified = store.verify(&VerifyRequest::default().depth(depth).threads(THREADS), &control);
            expected(&verified);
            whole = verified.is_ok_and(|verified| verified.is_whole());
            assert!(whole || !forged.honest);
        }
        if let (true, Ok(report)) = (whole, &first) {
            assert!(report.losses.iter().all(|loss| !loss.damaged), "verify calls it whole: {:?}", report.losses);
        }
    }
    if left_out & 4 == 0 {
        expected(&store.dedup_stats(&control));
    }
    let doing = script.byte() % 4;
    // What could be had is not lost by any of it; but gc believes directories, so that a store of lies may lose a copy.
    let again = |name, sure: bool| {
        let outcome = get(&store, &forged, base, name);
        if sure && store.snapshot_ids().unwrap() == [forged.snapshot] {
            let has = outcome.as_ref().map_or((0, 0), |report| (report.files, report.bytes));
            assert!(has >= had, "{has:?} of {had:?}: {outcome:?}");
        }
    };
    if doing & 1 == 1 {
        let request = GcRequest::default().max_waste(0.0).no_wait(doing == 3);
        expected(&store.gc(&request, &control, &|_| {}));
        again("second", whole);
    }
    if doing >= 2 {
        let request = RepairRequest::default().depth(Depth::Full).dry_run(false).threads(THREADS);
        expected(&store.repair(&request, &control));
        if !script.lies() {
            let _ = std::fs::remove_dir_all(root.join("index"));
        }
        again("third", doing == 2 || whole);
    }
    if forged.honest {
        // Files may be larger than the file system has them: no fault of the store's.
        let report = first.unwrap();
        assert!(report.losses.iter().all(|loss| !loss.damaged), "{:?}", report.losses);
    }
    assert_eq!(tree_fingerprint(&outside), before, "outside of the destination");
    let mut names: Vec<PathBuf> = std::fs::read_dir(base).unwrap().map(|entry| entry.unwrap().path()).collect();
    names.retain(|path| !["first", "second", "third", "store", OUTSIDE].iter().any(|name| path.ends_with(name)));
    assert!(names.is_empty(), "{names:?}");
}

fn put(root: &Path, objects: &BTreeMap<String, Vec<u8>>) {
    for (path, bytes) in objects {
        let path = root.join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, bytes).unwrap();
    }
}

/// A failure has a cause that is the store's or the request's.
fn expected<T: std::fmt::Debug>(outcome: &Result<T, Error>) {
    let known = matches!(
        outcome,
        Ok(_)
            | Err(Error::Damaged { .. }
                | Error::NotFound { .. }
                | Error::NoSnapshots
                | Error::NotInArchive(_)
                | Error::Refused { .. }
                | Error::Exists { .. }
                | Error::InTheWay { .. }
                | Error::FormatVersion { .. }
                | Error::Io { .. })
    );
    assert!(known, "{outcome:?}");
}

fn request(path: &[u8]) -> GetRequest {
    GetRequest::default()
        .path(OsStr::from_bytes(path))
        .snapshot(Selector::Latest)
        .threads(THREADS)
        .memory_bytes(32 << 20)
}

/// Restores everything, and compares each file that is there with what its row says.
fn get(store: &Store, forged: &ForgedStore, base: &Path, name: &str) -> Result<GetReport, Error> {
    let destination = base.join(name);
    let outcome = store.get(&request(b""), &destination, &Control::default());
    expected(&outcome);
    let mut files = 0;
    for row in forged.rows.iter().filter(|row| row.kind == 0) {
        let Ok(path) = seamstore::entry::EntryPath::new(row.path.clone()) else { continue };
        let path = destination.join(path.as_path());
        // Not through links: what they lead to is not the restore's.
        let real = path.parent().and_then(|parent| parent.canonicalize().ok());
        let Some(real) = real.filter(|real| real.starts_with(&destination)) else { continue };
        let Ok(found) = path.symlink_metadata() else { continue };
        assert!(real.starts_with(&destination));
        let twins = forged.rows.iter().filter(|other| other.path == row.path).count();
        if found.is_file() && twins == 1 {
            files += 1;
            check_file(&path, row, forged);
        }
    }
    if let Ok(report) = &outcome {
        assert!(report.files <= files || forged.rows.len() as u64 > files, "{report:?}");
    }
    outcome
}

/// The pieces that a row says its file has; `None` if it says nothing that could be true.
fn pieces_of(row: &Row, forged: &ForgedStore) -> Option<Vec<Piece>> {
    match (row.chunk, row.recipe) {
        (None, None) => Some(Vec::new()),
        (Some(id), None) => Some(vec![Piece { id: ChunkId(id), end: row.size }]),
        (None, Some(id)) => forged.recipes.get(&id).cloned(),
        (Some(_), Some(_)) => None,
    }
}

fn check_file(path: &Path, row: &Row, forged: &ForgedStore) {
    let file = std::fs::File::open(path).unwrap();
    let stat = file.metadata().unwrap();
    let pieces = pieces_of(row, forged).unwrap_or_else(|| panic!("{row:?} cannot be had"));
    assert_eq!(stat.len(), row.size, "{row:?}");
    let mut start = 0;
    let mut stored = 0;
    for piece in &pieces {
        let length = piece.end - start;
        if !piece.is_hole() {
            stored += length;
            assert!(length <= 4 << 20, "{row:?}");
            let mut bytes = vec![0; length as usize];
            file.read_exact_at(&mut bytes, start).unwrap();
            assert_eq!(ChunkId::of(&bytes), piece.id, "{row:?}");
        }
        start = piece.end;
    }
    assert_eq!(start, row.size, "{row:?}");
    // Holes take no space, whatever their size.
    assert!(stat.blocks() * 512 <= stored + (pieces.len() as u64 + 1) * 8192, "{} blocks, {row:?}", stat.blocks());
}

/// Takes as many bytes as it has room for, then is a pipe that was closed.
struct Room(Vec<u8>);

impl Write for Room {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        let left = STREAM_BYTES_MAX - self.0.len();
        if left == 0 {
            return Err(std::io::ErrorKind::BrokenPipe.into());
        }
        self.0.extend_from_slice(&bytes[..left.min(bytes.len())]);
        Ok(left.min(bytes.len()))
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// Streams and reads every file.
fn read(store: &Store, forged: &ForgedStore) {
    let reader = store.reader(&Selector::Latest);
    expected(&reader);
    for row in forged.rows.iter().filter(|row| row.kind == 0) {
        if forged.rows.iter().filter(|other| other.path == row.path).count() != 1 {
            continue;
        }
        let pieces = pieces_of(row, forged);
        let mut room = Room(Vec::new());
        let streamed = store.read(&request(&row.path), None, &mut room, "room".as_ref(), &Control::default());
        let known = matches!(streamed, Err(Error::Usage(_)));
        assert!(
            known || {
                expected(&streamed);
                true
            }
        );
        let whole = streamed.is_ok();
        check_front(&room.0, row, pieces.as_deref(), whole);
        let Ok(reader) = &reader else { continue };
        let end = row.size.min(1 << 20);
        for range in [0..end, end / 2..end, row.size.saturating_sub(100)..row.size] {
            let part = reader.read_range(OsStr::from_bytes(&row.path), range.clone());
            if range.start == 0
                && let Ok(part) = &part
            {
                assert_eq!(part.len() as u64, end.min(row.size));
                check_front(part, row, pieces.as_deref(), end == row.size);
            }
        }
        let paths = [OsStr::from_bytes(&row.path)];
        for bytes in reader.read_many(&paths).into_iter().chain([reader.read(paths[0])]).flatten() {
            check_front(&bytes, row, pieces.as_deref(), true);
        }
    }
}

/// Bytes that are the front of a file, as far as whole chunks go.
fn check_front(bytes: &[u8], row: &Row, pieces: Option<&[Piece]>, whole: bool) {
    if whole {
        assert_eq!(bytes.len() as u64, row.size, "{row:?}");
    }
    if bytes.is_empty() {
        return;
    }
    let pieces = pieces.unwrap_or_else(|| panic!("{row:?} cannot be had"));
    let mut start = 0;
    for piece in pieces {
        let Some(part) = bytes.get(start as usize..).filter(|part| !part.is_empty()) else { return };
        let length = (piece.end - start).min(part.len() as u64);
        if piece.is_hole() {
            assert!(part[..length as usize].iter().all(|byte| *byte == 0), "{row:?}");
        } else if length == piece.end - start {
            assert_eq!(ChunkId::of(&part[..length as usize]), piece.id, "{row:?}");
        }
        start = piece.end;
    }
}

/// What is in a folder: names, bytes, modes, times.
fn tree_fingerprint(folder: &Path) -> Vec<(PathBuf, Vec<u8>, u32, i64, i64)> {
    let entries = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let mut seen: Vec<_> = std::iter::once(folder.to_owned())
        .chain(entries)
        .map(|path| {
            let stat = path.symlink_metadata().unwrap();
            let bytes = if stat.is_file() { std::fs::read(&path).unwrap() } else { Vec::new() };
            (path, bytes, stat.mode(), stat.mtime(), stat.mtime_nsec())
        })
        .collect();
    seen.sort();
    seen
}
