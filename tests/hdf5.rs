//! Exports to HDF5 that fail leave nothing. What one that succeeds holds, `tests/catalog/check_hdf5.py` reads with h5py.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use crate::support::Sandbox;

#[cfg(not(feature = "hdf5"))]
#[test]
fn without_the_library_it_says_how_to_build_it() {
    let sandbox = Sandbox::new();
    sandbox.write("file", b"file");
    sandbox.ok(["add", "file"]);
    let error = sandbox.error(2, ["export", "--hdf5", "x.h5", "--layout", "sha1"]);
    assert!(error.contains("cargo build --release --features hdf5"), "{error}");
    assert_eq!(std::fs::read_dir(sandbox.path("")).unwrap().count(), 2);
}

#[test]
fn what_makes_no_sense_is_refused() {
    let sandbox = Sandbox::new();
    sandbox.write("file", b"file");
    sandbox.ok(["add", "file"]);
    for odd in [
        &["--hdf5", "x.h5"][..],
        &["--hdf5", "x.h5", "--layout", "other"],
        &["--hdf5", "x.h5", "--layout", "sha1", "--compress", "0"],
        &["--hdf5", "x.h5", "--layout", "sha1", "--tar"],
        &["--hdf5", "x.h5", "--layout", "sha1", "-o", "y"],
        &["--arrow", "x", "--layout", "sha1"],
        &["--tar", "--compress", "3"],
    ] {
        sandbox.error(2, [&["export"], odd].concat());
    }
    assert_eq!(std::fs::read_dir(sandbox.path("")).unwrap().count(), 2);
}

#[cfg(feature = "hdf5")]
mod with_the_library {
    use std::path::Path;
    use std::process::Stdio;

    use rustix::process::Signal;

    use crate::support::{Sandbox, noise};
    use crate::system::{Mount, files_below, signal, wait_until};

    /// Every way an HDF5 file is written.
    const WAYS: [&[&str]; 6] = [
        &["--layout", "compact"],
        &["--layout", "sha1"],
        &["--layout", "shredder"],
        &["--layout", "compact", "--compress", "1"],
        &["--layout", "sha1", "--compress", "1"],
        &["--layout", "shredder", "--compress", "1"],
    ];

    fn export<'a>(file: &'a str, way: &[&'a str]) -> Vec<&'a str> {
        [&["export", "--hdf5", file], way, &["tree"]].concat()
    }

    fn names(folder: &Path) -> Vec<String> {
        let mut names: Vec<String> =
            std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    #[test]
    fn a_damaged_chunk_leaves_no_file() {
        let sandbox = Sandbox::new();
        for n in 0..200 {
            sandbox.write(format!("tree/small/{n}"), noise(n, 20_000));
        }
        sandbox.write("tree/large", noise(1000, 8_000_000));
        sandbox.ok(["add", "tree"]);
        let original =
            files_below(&sandbox.path(".store/packs")).into_iter().max_by_key(|p| p.metadata().unwrap().len());
        let pack = original.unwrap();
        let whole = std::fs::read(&pack).unwrap();
        // In the large file, and in a small one.
        for at in [whole.len() / 4, whole.len() - 1_000_000] {
            let mut bytes = whole.clone();
            bytes[at] ^= 1;
            std::fs::write(&pack, bytes).unwrap();
            sandbox.write("there.h5", b"what was there");
            for way in WAYS {
                let error = sandbox.error(4, export("x.h5", way));
                let name = pack.file_name().unwrap().to_str().unwrap();
                assert!(error.contains(name) && error.contains("is damaged at byte"), "{way:?}: {error}");
                sandbox.error(4, [export("there.h5", way), vec!["--force"]].concat());
                assert_eq!(std::fs::read(sandbox.path("there.h5")).unwrap(), b"what was there");
                assert_eq!(names(&sandbox.path("")), [".store", "there.h5", "tree"], "{way:?}");
            }
        }
    }

    #[test]
    fn what_is_there_is_left_alone() {
        let sandbox = Sandbox::new();
        sandbox.write("tree/a", b"a");
        sandbox.write("there.h5", b"mine");
        std::fs::create_dir(sandbox.path("folder")).unwrap();
        sandbox.ok(["add", "tree"]);
        for way in WAYS {
            assert!(sandbox.error(1, export("there.h5", way)).contains("exists"));
            assert!(sandbox.error(1, [export("folder", way), vec!["--force"]].concat()).contains("exists"));
            assert_eq!(std::fs::read(sandbox.path("there.h5")).unwrap(), b"mine");
        }
        sandbox.ok([export("there.h5", WAYS[0]), vec!["--force"]].concat());
        assert!(std::fs::read(sandbox.path("there.h5")).unwrap().starts_with(b"\x89HDF\r\n"));
        assert_eq!(names(&sandbox.path("")), [".store", "folder", "there.h5", "tree"]);
    }

    #[test]
    fn a_full_disk_leaves_no_file() {
        let sandbox = Sandbox::new();
        let Some(_disk) = Mount::small(sandbox.path("disk"), 6 << 20) else { return };
        for n in 0..300 {
            sandbox.write(format!("tree/small/{n}"), noise(n, 30_000));
        }
        sandbox.write("tree/large", noise(1000, 8_000_000));
        sandbox.ok(["add", "tree"]);
        for way in WAYS {
            let error = sandbox.error(1, export("disk/x.h5", way));
            assert!(error.contains("No space left on device") && error.contains("hint: free some"), "{way:?}: {error}");
            assert_eq!(names(&sandbox.path("disk")), Vec::<String>::new(), "{way:?}");
        }
        for way in WAYS {
            sandbox.ok([&["export", "--hdf5", "disk/x.h5"], way, &["tree/small/7", "--force"]].concat());
        }
    }

    #[test]
    fn an_interrupted_export_leaves_no_file() {
        let sandbox = Sandbox::new();
        sandbox.write("tree/big", noise(1, 60_000_000));
        for n in 0..500 {
            sandbox.write(format!("tree/{n}"), noise(n, 60_000));
        }
        sandbox.ok(["add", "tree"]);
        for way in WAYS {
            let mut exporting = sandbox.interruptible(export("x.h5", way)).stderr(Stdio::piped()).spawn().unwrap();
            let begun = || names(&sandbox.path("")).iter().any(|name| name.starts_with(".store-export"));
            assert!(wait_until(&mut exporting, begun), "{way:?}");
            signal(&exporting, Signal::INT);
            let output = exporting.wait_with_output().unwrap();
            let error = String::from_utf8_lossy(&output.stderr);
            assert_eq!(output.status.code(), Some(130), "{way:?}: {error}");
            assert!(error.contains("interrupted: nothing was exported"), "{way:?}: {error}");
            assert_eq!(names(&sandbox.path("")), [".store", "tree"], "{way:?}");
        }
    }
}
