//! A program that gives entries of its own: in any order, from many threads, all or nothing.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use std::io::{self, Read};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use seamstore::entry::{Entry, EntryKind, Label};
use seamstore::request::{AddRequest, GetRequest, Labelling, Selector, Settings, WriterOptions};
use seamstore::{Control, Error, Store, Writer};

use crate::compress_walk;
use crate::support::{Sandbox, assert_same_tree, noise};
use crate::system::files_below;

fn store(sandbox: &Sandbox) -> Store {
    Store::open_or_init(&sandbox.path(".store"), Settings::default()).unwrap()
}

fn options() -> WriterOptions {
    WriterOptions::default().memory_bytes(32 << 20).threads(2)
}

fn file(writer: &Writer, path: &str) -> Entry {
    writer.entry(path, EntryKind::File).unwrap()
}

fn read(store: &Store, path: &str) -> seamstore::Result<Vec<u8>> {
    let request = GetRequest::default().path(path).snapshot(Selector::Latest);
    let mut bytes = Vec::new();
    store.read(&request, None, &mut bytes, Path::new("memory"), &Control::default())?;
    Ok(bytes)
}

/// Gives a number of bytes of noise, then fails.
struct Failing(io::Take<&'static [u8]>, io::ErrorKind);

impl Read for Failing {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self.0.read(buffer)? {
            0 => Err(self.1.into()),
            read => Ok(read),
        }
    }
}

fn failing(bytes: u64) -> Failing {
    let noise: &'static [u8] = noise(99, 30_000_000).leak();
    Failing(noise.take(bytes), io::ErrorKind::ConnectionReset)
}

#[test]
fn entries_of_many_threads_in_any_order_come_out_in_that_of_a_snapshot() {
    let sandbox = Sandbox::new();
    let store = store(&sandbox);
    let done = Arc::new(AtomicU64::new(0));
    let seen = Arc::clone(&done);
    let control = Arc::new(Control::with_callback(move |entries, _| seen.store(entries, Ordering::Relaxed)));
    let writer = store.writer(options().control(Arc::clone(&control))).unwrap();
    // Long files too, several at once, whose parts take turns.
    let large: Vec<Vec<u8>> = (0..4).map(|n| noise(n, 21_000_000 + n as usize)).collect();
    std::thread::scope(|scope| {
        for (n, large) in large.iter().enumerate() {
            let writer = &writer;
            scope.spawn(move || {
                for small in (0..200).rev() {
                    let bytes = format!("{n} {small}").repeat(small).into_bytes();
                    writer.add_bytes(file(writer, &format!("d/{small}.{n}/e/small")), bytes).unwrap();
                }
                assert_eq!(
                    writer.add(file(writer, &format!("large {n}")), large.as_slice()).unwrap(),
                    large.len() as u64
                );
                let mut link = writer.entry(format!("d/link{n}"), EntryKind::Symlink).unwrap();
                link.link_target = b"e/small".to_vec();
                writer.add_entry(link).unwrap();
            });
        }
    });
    let mut given = writer.entry("d", EntryKind::Directory).unwrap();
    given.mode = 0o700;
    writer.add_entry(given).unwrap();
    let report = writer.finish().unwrap();
    assert_eq!(report.problems, []);
    // `d` was given, the 1600 below it were made.
    let totals = report.totals;
    assert_eq!((totals.files, totals.directories, totals.others), (804, 1601, 4));
    assert_eq!(done.load(Ordering::Relaxed), 804 + 1601 + 4);
    assert_eq!(control.entries(), done.load(Ordering::Relaxed));
    for (n, large) in large.iter().enumerate() {
        assert!(read(&store, &format!("large {n}")).unwrap() == *large);
        assert_eq!(read(&store, &format!("d/199.{n}/e/small")).unwrap(), format!("{n} 199").repeat(199).into_bytes());
        assert_eq!(read(&store, &format!("d/0.{n}/e/small")).unwrap(), b"");
    }
    let listing = sandbox.json(["ls", "-R"]);
    let paths: Vec<&str> = listing["entries"].as_array().unwrap().iter().map(|e| e["path"].as_str().unwrap()).collect();
    assert!(paths.windows(2).all(|w| w[0].split('/').lt(w[1].split('/'))));
    assert_eq!(listing["entries"][0]["mode"], 0o700);
    assert_eq!(listing["entries"][1]["mode"], 0o755);
    assert_eq!(sandbox.json(["verify"])["whole"], true);

    // The same bytes on disk are the same chunks: it is the same engine.
    sandbox.write("again", &large[2]);
    let request = AddRequest::default().paths(vec![sandbox.path("again")]);
    assert_eq!(store.add(&request, &Control::default()).unwrap().totals.new_bytes, 0);
}

#[test]
fn rows_of_many_runs_are_merged_and_a_path_given_twice_is_found_wherever() {
    let sandbox = Sandbox::new();
    let store = store(&sandbox);
    for twice in [false, true] {
        let writer = store.writer(options()).unwrap();
        for n in 0..70_000_u64 {
            // Every number once, not in order.
            let n = n * 7919 % 70_000;
            writer.add_bytes(file(&writer, &format!("{}/{n}", n % 100)), vec![7]).unwrap();
        }
        if twice {
            writer.add_bytes(file(&writer, "0/0"), vec![8]).unwrap();
            let error = writer.finish().unwrap_err();
            let names_it =
                matches!(&error, Error::Refused { path, why } if path == Path::new("0/0") && why.contains("twice"));
            assert!(names_it, "{error:?}");
        } else {
            let totals = writer.finish().unwrap().totals;
            assert_eq!((totals.files, totals.directories, totals.new_chunks), (70_000, 100, 1));
        }
    }
    assert_eq!(store.snapshots().unwrap().len(), 1);
    let entries = sandbox.json(["ls", "-R"])["entries"].as_array().unwrap().len();
    assert_eq!(entries, 70_100);
}

#[test]
fn what_no_tree_has_is_named_and_nothing_is_committed() {
    let sandbox = Sandbox::new();
    let store = store(&sandbox);
    let link = |writer: &Writer| {
        let mut link = writer.entry("a", EntryKind::Symlink).unwrap();
        link.link_target = b"x".to_vec();
        link
    };
    let wrong_mode = |writer: &Writer| {
        let mut entry = file(writer, "a");
        entry.mode = 0o100_644;
        entry
    };
    type Give = fn(&Writer);
    let cases: [(Give, &str, &str); 3] = [
        (|w| w.add_bytes(file(w, "a"), vec![]).unwrap(), "a/b/c", "above it, was given as something else"),
        (|w| w.add_bytes(file(w, "a/b"), vec![]).unwrap(), "a/b/c", "above it, was given as something else"),
        (|w| w.add_bytes(file(w, "a/b/c"), vec![]).unwrap(), "a/b/c", "given twice"),
    ];
    for (give, path, why) in cases {
        let writer = store.writer(options()).unwrap();
        writer.add_bytes(file(&writer, "a/b/c"), b"c".to_vec()).unwrap();
        give(&writer);
        let error = writer.finish().unwrap_err();
        assert!(
            matches!(&error, Error::Refused { path: at, why: found } if at == Path::new(path) && found.contains(why)),
            "{error:?}"
        );
    }
    let writer = store.writer(options()).unwrap();
    // These are refused at once, and the writer goes on.
    for path in ["/a", "a/../b", "a//b", "./a", "a\0b"] {
        assert!(matches!(writer.entry(path, EntryKind::File), Err(Error::Refused { .. })), "{path:?}");
    }
    let refused =
        |outcome: seamstore::Result<()>| assert!(matches!(outcome, Err(Error::Refused { .. })), "{outcome:?}");
    refused(writer.add_bytes(file(&writer, ""), vec![]));
    refused(writer.add_bytes(link(&writer), vec![]));
    refused(writer.add_entry(file(&writer, "a")));
    refused(writer.add_entry(writer.entry("a", EntryKind::Symlink).unwrap()));
    refused(writer.add_bytes(wrong_mode(&writer), vec![]));
    writer.add_entry(link(&writer)).unwrap();
    assert_eq!(writer.finish().unwrap().totals.others, 1);
    assert_eq!(store.snapshots().unwrap().len(), 1);
}

#[test]
fn a_file_that_cannot_be_read_is_left_out_and_the_rest_is_kept() {
    let sandbox = Sandbox::new();
    let store = store(&sandbox);
    let writer = store.writer(options()).unwrap();
    writer.add_bytes(file(&writer, "before"), b"before".to_vec()).unwrap();
    // At once, within a short file, within a long one's first part, and within its third.
    for bytes in [0, 100_000, 5_000_000, 20_000_000] {
        let error = writer.add(file(&writer, &format!("bad/{bytes}")), failing(bytes)).unwrap_err();
        let is_the_readers =
            matches!(&error, Error::Io { source, .. } if source.kind() == io::ErrorKind::ConnectionReset);
        assert!(is_the_readers, "{error:?}");
    }
    // Another may have the path.
    writer.add_bytes(file(&writer, "bad/0"), b"good".to_vec()).unwrap();
    // The thread that gives may panic.
    let panicking = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        struct Panicking(u64);
        impl Read for Panicking {
            fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
                self.0 += buffer.len() as u64;
                assert!(self.0 < 20_000_000, "on purpose");
                Ok(buffer.len())
            }
        }
        writer.add(file(&writer, "bad/panic"), Panicking(0))
    }));
    assert!(panicking.is_err());
    let report = writer.finish().unwrap();
    let mut named: Vec<_> = report.problems.iter().map(|p| (p.path.to_str().unwrap().to_owned(), p.kept)).collect();
    named.sort();
    let all = ["bad/0", "bad/100000", "bad/20000000", "bad/5000000", "bad/panic"];
    assert_eq!(named, all.map(|path| (path.to_owned(), false)));
    assert_eq!(store.snapshots().unwrap()[0].info.skipped, 5);
    assert_eq!(report.totals.files, 2);
    assert_eq!(sandbox.ok(["ls", "-R"]), "bad\nbad/0\nbefore\n");
    assert_eq!(read(&store, "bad/0").unwrap(), b"good");
    assert_eq!(sandbox.json(["verify"])["whole"], true);
}

#[test]
fn a_writer_that_is_dropped_leaves_nothing_but_packs() {
    let sandbox = Sandbox::new();
    let store = store(&sandbox);
    for bytes in [0, 1000, 100_000_000] {
        let control = Arc::new(Control::default());
        let writer = store.writer(options().control(Arc::clone(&control))).unwrap();
        if bytes > 0 {
            writer.add(file(&writer, "a"), noise(1, bytes).as_slice()).unwrap();
        }
        drop(writer);
        // The writer's thread had the other one, and ends only when all others have.
        assert_eq!(Arc::strong_count(&control), 1);
        assert_eq!(files_below(&sandbox.path(".store/tmp")).len(), 0);
        assert_eq!(store.snapshots().unwrap(), []);
    }
    assert_eq!(sandbox.json(["verify"])["whole"], true);
    sandbox.ok(["gc"]);
    assert_eq!(files_below(&sandbox.path(".store/packs")).len(), 0);
}

#[test]
fn a_writer_that_is_stopped_says_so_and_keeps_what_it_packed() {
    let sandbox = Sandbox::new();
    let store = store(&sandbox);
    let control = Arc::new(Control::default());
    let writer = store.writer(options().control(Arc::clone(&control))).unwrap();
    let bytes = noise(1, 9_000_000);
    writer.add(file(&writer, "a"), bytes.as_slice()).unwrap();
    control.stop();
    let refused = writer.add(file(&writer, "b"), b"b".as_slice());
    assert!(matches!(refused, Err(Error::Interrupted { .. } | Error::Io { .. })), "{refused:?}");
    assert!(matches!(writer.finish(), Err(Error::Interrupted { .. })));
    assert_eq!(store.snapshots().unwrap(), []);

    let writer = store.writer(options()).unwrap();
    writer.add(file(&writer, "a"), bytes.as_slice()).unwrap();
    let again = writer.finish().unwrap().totals;
    assert!(again.new_bytes <= bytes.len() as u64, "{again:?}");
    assert!(read(&store, "a").unwrap() == bytes);
}

#[test]
fn a_store_that_cannot_be_written_ends_the_writer_with_its_reason() {
    let sandbox = Sandbox::new();
    let store = store(&sandbox);
    assert!(matches!(store.writer(options().memory_bytes(1 << 20)), Err(Error::Usage(_))));
    let writer = store.writer(options()).unwrap();
    writer.add_bytes(file(&writer, "first"), b"first".to_vec()).unwrap();
    // Where temporary files should be, there is a file now.
    std::fs::remove_dir_all(sandbox.path(".store/tmp")).unwrap();
    sandbox.write(".store/tmp", b"in the way");
    let mut failed = None;
    for n in 0..200 {
        if let Err(error) = writer.add_bytes(file(&writer, &format!("{n}")), noise(n, 3_000_000)) {
            failed = Some(error);
            break;
        }
    }
    assert!(matches!(&failed, Some(Error::Io { .. })), "{failed:?}");
    let error = writer.finish().unwrap_err();
    assert!(matches!(&error, Error::Io { .. }), "{error:?}");
    std::fs::remove_file(sandbox.path(".store/tmp")).unwrap();
    assert_eq!(store.snapshots().unwrap(), []);
}

#[test]
fn an_entrys_own_labels_count_most() {
    let sandbox = Sandbox::new();
    let store = store(&sandbox);
    let label = |text: &str| text.parse::<Label>().unwrap();
    let labels = Labelling::default()
        .all(vec![label("source=api")])
        .rules(vec!["*.whl type=python".parse().unwrap()])
        .detect_types(true);
    let writer = store.writer(options().labels(labels)).unwrap();
    let own = |path: &str, own: &[&str]| {
        let mut entry = file(&writer, path);
        entry.labels = own.iter().map(|text| label(text)).collect();
        entry
    };
    writer.add_bytes(own("d/a.jar", &[]), b"PK\x03\x04".to_vec()).unwrap();
    writer.add(own("d/long.jar", &[]), [b"PK\x03\x04".as_slice(), &noise(1, 5_000_000)].concat().as_slice()).unwrap();
    writer.add_bytes(own("d/a.whl", &["source=own", "own=1"]), b"PK\x03\x04".to_vec()).unwrap();
    let many: Vec<String> = (0..64).map(|n| format!("k{n}=v")).collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    let refused = writer.add_bytes(own("many", &many), vec![]);
    assert!(matches!(&refused, Err(Error::Refused { why, .. }) if why.contains("64 keys")), "{refused:?}");
    writer.finish().unwrap();
    let listing = sandbox.json(["ls", "-R"]);
    let found: Vec<String> = listing["entries"].as_array().unwrap().iter().map(|e| e["labels"].to_string()).collect();
    let expected = [
        r#"{"source":"api"}"#,
        r#"{"source":"api","type":"jar"}"#,
        r#"{"own":"1","source":"own","type":"python"}"#,
        r#"{"source":"api","type":"jar"}"#,
    ];
    assert_eq!(found, expected);
}

#[test]
fn the_example_keeps_a_tree_as_it_is() {
    let sandbox = Sandbox::new();
    for n in 0..300 {
        sandbox.write(format!("tree/{}/{n}", n % 7), noise(n, (n * n) as usize));
    }
    sandbox.write("tree/large", noise(1, 9_000_000));
    sandbox.write("tree/a.log", b"log");
    std::os::unix::fs::symlink("../large", sandbox.path("tree/0/link")).unwrap();
    std::fs::hard_link(sandbox.path("tree/large"), sandbox.path("tree/1/linked")).unwrap();
    std::fs::create_dir(sandbox.path("tree/empty")).unwrap();
    let report = compress_walk::compress(&sandbox.path(".store"), &sandbox.path("tree"), Arc::default()).unwrap();
    assert_eq!(report.problems, []);
    sandbox.ok(["get", "-o", "copy"]);
    // The tree's own directory was not given.
    std::fs::set_permissions(sandbox.path("copy"), std::fs::metadata(sandbox.path("tree")).unwrap().permissions())
        .unwrap();
    let time = std::fs::metadata(sandbox.path("tree")).unwrap().modified().unwrap();
    std::fs::File::open(sandbox.path("copy")).unwrap().set_modified(time).unwrap();
    assert_same_tree(&sandbox.path("tree"), &sandbox.path("copy"));
    assert_eq!(sandbox.ok(["ls", "-R", "--label", "type=log"]), "a.log\n");
}
