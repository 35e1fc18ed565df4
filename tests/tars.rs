//! Tars of every kind that is met: each comes back byte for byte, and what is in it can be read by name.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::support::{Sandbox, assert_same_tree, noise, skipped};

/// Makes tars of all formats and oddities that Python's tarfile knows, in the folder given.
const BY_PYTHON: &str = r#"
import io, os, sys, tarfile
out = sys.argv[1]
def add(tar, name, data=b"", **attributes):
    info = tarfile.TarInfo(name)
    info.size = len(data)
    info.mtime = 1700000000
    for key, value in attributes.items():
        setattr(info, key, value)
    tar.addfile(info, io.BytesIO(data))
formats = {"ustar": tarfile.USTAR_FORMAT, "gnu": tarfile.GNU_FORMAT, "pax": tarfile.PAX_FORMAT}
for word, format in formats.items():
    with tarfile.open(f"{out}/py-{word}.tar", "w", format=format) as tar:
        add(tar, "plain", b"plain bytes\n" * 50)
        add(tar, "empty")
        add(tar, "folder", type=tarfile.DIRTYPE, mode=0o755)
        add(tar, "folder/" + "n" * 90, b"in a folder" * 100)
        add(tar, "link", type=tarfile.SYMTYPE, linkname="plain")
        add(tar, "hard", type=tarfile.LNKTYPE, linkname="plain")
        add(tar, "pipe", type=tarfile.FIFOTYPE)
        add(tar, "device", type=tarfile.CHRTYPE, devmajor=4, devminor=65)
        add(tar, "odd", b"of a type that nobody knows", type=b"Q")
        if word != "ustar":
            add(tar, "d" * 120 + "/" + "f" * 180, b"a long name")
            add(tar, "longlink", type=tarfile.SYMTYPE, linkname="t" * 300)
            add(tar, "gr\u00fcn/\u732b", b"not ASCII")
            add(tar, "huge-uid", b"base 256", uid=1 << 40)
            add(tar, "before-1970", b"negative", mtime=-5)
        if word == "pax":
            add(tar, "fraction", b"of a second", mtime=1700000000.25)
with tarfile.open(f"{out}/py-global.tar", "w", format=tarfile.PAX_FORMAT, pax_headers={"comment": "for all", "mtime": "1600000000.5"}) as tar:
    add(tar, "one", b"1")
    add(tar, "two", b"2")
with tarfile.open(f"{out}/py-names.tar", "w", format=tarfile.GNU_FORMAT) as tar:
    add(tar, "twice", b"first of the name")
    add(tar, "other", b"other")
    add(tar, "twice", b"last of the name")
    add(tar, "twice-hard", type=tarfile.LNKTYPE, linkname="twice")
    add(tar, "../outside", b"outside")
    add(tar, "a/../../outside", b"outside")
    add(tar, "/absolute", b"absolute")
    add(tar, "./dotted/./name", b"dotted")
    add(tar, "dangling", type=tarfile.LNKTYPE, linkname="not-there")
    add(tar, "CASE", b"upper")
    add(tar, "case", b"lower")
    add(tar, "n" * 300, b"a part of 300 bytes")
def v7(name, data):
    block = bytearray(512)
    block[0:len(name)] = name
    block[100:108] = b"000644 \0"; block[108:116] = b"000000 \0"; block[116:124] = b"000000 \0"
    block[124:136] = b"%011o " % len(data); block[136:148] = b"%011o " % 0
    block[148:156] = b" " * 8
    block[148:156] = b"%06o\0 " % sum(block)
    return bytes(block) + data + b"\0" * (-len(data) % 512)
open(f"{out}/v7.tar", "wb").write(v7(b"folder/", b"") + v7(b"folder/seven", b"version seven" * 100) + b"\0" * 1024)
one = open(f"{out}/py-gnu.tar", "rb").read()
two = open(f"{out}/py-pax.tar", "rb").read()
open(f"{out}/concatenated.tar", "wb").write(one + two)
open(f"{out}/trailing.tar", "wb").write(one + b"these bytes are behind the end" * 100)
"#;

/// What is to be put into a tar, of every kind that needs no root.
fn odd_tree(sandbox: &Sandbox) -> PathBuf {
    sandbox.write("tree/a/one", noise(1, 40_000));
    sandbox.write("tree/a/two", noise(1, 40_000));
    sandbox.write("tree/empty", b"");
    sandbox.write(format!("tree/{}/{}", "d".repeat(90), "f".repeat(200)), b"long");
    sandbox.write("tree/large", noise(2, 5_000_000));
    symlink("a/one", sandbox.path("tree/link")).unwrap();
    symlink("t".repeat(200), sandbox.path("tree/longlink")).unwrap();
    fs::hard_link(sandbox.path("tree/a/one"), sandbox.path("tree/hard")).unwrap();
    let sparse = fs::File::create(sandbox.path("tree/sparse")).unwrap();
    for at in [0, 1 << 20, 3 << 20] {
        std::os::unix::fs::FileExt::write_all_at(&sparse, &noise(at, 5000), at).unwrap();
    }
    sparse.set_len(5 << 20).unwrap();
    let fifo = Command::new("mkfifo").arg(sandbox.path("tree/pipe")).status();
    assert!(fifo.unwrap().success());
    sandbox.path("tree")
}

fn run(command: &mut Command) -> bool {
    command.stderr(Stdio::null()).stdout(Stdio::null()).status().is_ok_and(|status| status.success())
}

/// Makes tars of the tree by every program that there is.
fn make_all(sandbox: &Sandbox) -> Vec<String> {
    let mut made = Vec::new();
    let formats: [(&str, &[&str]); 9] = [
        ("v7", &["--format=v7"]),
        ("oldgnu", &["--format=oldgnu"]),
        ("gnu", &["--format=gnu"]),
        ("ustar", &["--format=ustar"]),
        ("posix", &["--format=posix"]),
        ("sparse-old", &["--format=gnu", "--sparse"]),
        ("sparse-0.0", &["--format=posix", "--sparse", "--sparse-version=0.0"]),
        ("sparse-0.1", &["--format=posix", "--sparse", "--sparse-version=0.1"]),
        ("sparse-1.0", &["--format=posix", "--sparse", "--sparse-version=1.0"]),
    ];
    fs::create_dir_all(sandbox.path("tars")).unwrap();
    for (name, arguments) in formats {
        let tar = format!("tars/gnu-{name}.tar");
        let mut command = Command::new("tar");
        command.current_dir(sandbox.path("")).args(arguments).args(["-cf", &tar, "tree"]);
        // V7 and ustar cannot hold all of it; what they can is there.
        if !run(&mut command) && !sandbox.path(&tar).exists() {
            skipped(&format!("{tar}: tar cannot make it"));
            continue;
        }
        made.push(tar);
    }
    for format in ["ustar", "pax", "gnutar"] {
        let tar = format!("tars/bsd-{format}.tar");
        let mut command = Command::new("bsdtar");
        if run(command.current_dir(sandbox.path("")).args(["--format", format, "-cf", &tar, "tree"])) {
            made.push(tar);
        } else {
            skipped(&format!("{tar}: there is no bsdtar"));
        }
    }
    let python = Command::new("python3").args(["-c", BY_PYTHON]).arg(sandbox.path("tars")).output();
    match python {
        Ok(output) if output.status.success() => {
            let more = ["py-ustar", "py-gnu", "py-pax", "py-global", "py-names", "v7", "concatenated", "trailing"];
            made.extend(more.map(|name| format!("tars/{name}.tar")));
        }
        Ok(output) => panic!("{}", String::from_utf8_lossy(&output.stderr)),
        Err(_) => skipped("tars by Python: it is missing"),
    }
    made
}

fn assert_same(a: &Path, b: &Path) {
    assert!(fs::read(a).unwrap() == fs::read(b).unwrap(), "{a:?} and {b:?} differ");
}

#[test]
fn tars_of_every_program_come_back_byte_for_byte() {
    let sandbox = Sandbox::new();
    odd_tree(&sandbox);
    let made = make_all(&sandbox);
    assert!(made.len() >= 9, "{made:?}");
    let output = sandbox.run(["add", "tars"]);
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    sandbox.ok(["get", "tars", "-o", "copy"]);
    for tar in &made {
        let copy = sandbox.path(tar.replace("tars/", "copy/"));
        assert_same(&sandbox.path(tar), &copy);
        let listed = sandbox.json(["ls", "-R", &format!("{tar}/")]);
        assert!(listed["entries"].as_array().unwrap().len() >= 2, "{tar}: {listed}");
    }
    let forms = sandbox.json(["ls", "-R", "tars"]);
    let is_archive = |entry: &&serde_json::Value| entry["archive"] == "tar";
    assert_eq!(forms["entries"].as_array().unwrap().iter().filter(is_archive).count(), made.len());
    sandbox.ok(["verify", "--full"]);
    // What GNU tar packed comes out of the store as it went in, sparse files expanded.
    for tar in
        made.iter().filter(|tar| ["gnu.", "posix", "sparse"].iter().any(|word| tar.contains(&format!("gnu-{word}"))))
    {
        let out = format!("out-{}", tar.replace('/', "-"));
        sandbox.ok(["get", &format!("{tar}/tree"), "-o", &out]);
        assert_same_files(&sandbox.path("tree"), &sandbox.path(&out));
    }
    // A range of an archive crosses headers and contents.
    let whole = fs::read(sandbox.path(&made[2])).unwrap();
    for (from, to) in [(0, 10), (500, 1500), (40_000, 43_000), (whole.len() - 5000, whole.len() + 10)] {
        let range = format!("{from}..{to}");
        sandbox.ok(["get", &made[2], "--range", &range, "-o", "part", "--force"]);
        assert!(fs::read(sandbox.path("part")).unwrap() == whole[from..to.min(whole.len())], "{range}");
    }
    sandbox.ok(["get", &format!("{}/tree/large", made[2]), "--range", "4000000..4000100", "-o", "part", "--force"]);
    assert!(fs::read(sandbox.path("part")).unwrap() == noise(2, 5_000_000)[4_000_000..4_000_100]);
}

/// Compares names, kinds, bytes and link targets: times of tars without fractions differ.
fn assert_same_files(a: &Path, b: &Path) {
    let listed = |root: &Path| -> BTreeMap<PathBuf, String> {
        let fingerprint = crate::support::tree_fingerprint(root);
        let kinds = fingerprint.into_iter().map(|(path, line)| {
            let mut words = line.split(' ');
            let mode = words.next().unwrap().to_owned();
            let rest: Vec<&str> = words.skip(2).collect();
            (path, format!("{mode} {}", rest.join(" ")))
        });
        kinds.collect()
    };
    let (a, b) = (listed(a), listed(b));
    for (path, line) in &a {
        assert_eq!(Some(line), b.get(path), "{path:?}");
    }
    assert_eq!(a.len(), b.len());
}

#[test]
fn names_lead_to_members_and_never_out_of_the_destination() {
    let sandbox = Sandbox::new();
    fs::create_dir(sandbox.path("tars")).unwrap();
    let python = Command::new("python3").args(["-c", BY_PYTHON]).arg(sandbox.path("tars")).output();
    if !python.is_ok_and(|output| output.status.success()) {
        skipped("names of members: there is no Python");
        return;
    }
    sandbox.ok(["add", "tars"]);
    let read = |name: &str| sandbox.ok(["get", &format!("tars/py-names.tar/{name}"), "-o", "-"]);
    assert_eq!(read("twice"), "last of the name");
    assert_eq!(read("twice-hard"), "last of the name");
    assert_eq!(read("absolute"), "absolute");
    assert_eq!(read("dotted/name"), "dotted");
    let error = sandbox.error(1, ["get", "tars/py-names.tar/dangling", "-o", "-"]);
    assert!(error.contains("has no file of that name"), "{error}");
    sandbox.error(1, ["get", "tars/py-names.tar/not-there", "-o", "-"]);
    let output = sandbox.run(["get", "tars/py-names.tar/", "-o", "out/inner"]);
    assert_eq!(output.status.code(), Some(1), "there is no folder `out`");
    fs::create_dir(sandbox.path("out")).unwrap();
    // The link to nothing, and the name that no file system takes, are named.
    sandbox.expect(3, ["get", "tars/py-names.tar/", "-o", "out/inner"]);
    let names: Vec<_> = fs::read_dir(sandbox.path("out")).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(names, ["inner"], "nothing is beside it");
    assert!(!sandbox.path("out/inner/outside").exists());
    assert_eq!(fs::read(sandbox.path("out/inner/absolute")).unwrap(), b"absolute");
    assert_eq!(fs::read(sandbox.path("out/inner/twice")).unwrap(), b"last of the name");
    // V7 knows folders by their slash; base 256 and fractions are read.
    assert_eq!(sandbox.ok(["get", "tars/v7.tar/folder/seven", "-o", "-"]), "version seven".repeat(100));
    let listed = sandbox.json(["ls", "-R", "tars/py-pax.tar/"]);
    let time = |name: &str| {
        let entries = listed["entries"].as_array().unwrap();
        entries.iter().find(|entry| entry["path"] == format!("tars/py-pax.tar/{name}")).unwrap()["mtime_ns"].clone()
    };
    assert_eq!(time("fraction"), 1_700_000_000_250_000_000i64);
    assert_eq!(time("before-1970"), -5_000_000_000i64);
    let check = sandbox.json(["check-tar", "tars/py-names.tar"]);
    let count = |sort: &str| check["names"][sort]["count"].clone();
    assert_eq!((count("absolute"), count("parents"), count("duplicates")), (1.into(), 2.into(), 1.into()));
    assert_eq!((count("long_parts"), count("case_only"), count("not_utf8")), (1.into(), 1.into(), 0.into()));
    assert_eq!(check["dedup"]["new_bytes"], 0, "the store has all of it: {check}");
    let check = sandbox.json(["--store", "none", "check-tar", "tars/concatenated.tar"]);
    assert!(check["dedup"]["repeated_bytes"].as_u64().unwrap() > 0, "{check}");
    assert_eq!(check["kinds"]["hard_links"], 2);
}

/// A tar of a small and a large member, by GNU tar.
fn two_members(sandbox: &Sandbox, large_bytes: usize) -> Vec<u8> {
    sandbox.write("two/small", noise(7, 3000));
    sandbox.write("two/zlarge", noise(8, large_bytes));
    let mut command = Command::new("tar");
    assert!(run(command.current_dir(sandbox.path("")).args(["--sort=name", "-cf", "two.tar", "two"])));
    fs::read(sandbox.path("two.tar")).unwrap()
}

#[test]
fn damaged_and_cut_tars_are_kept_as_they_are_and_named() {
    let sandbox = Sandbox::new();
    let whole = two_members(&sandbox, 30_000);
    let end = 512 * (1 + 1 + 6 + 1 + 59);
    fs::create_dir(sandbox.path("damaged")).unwrap();
    let mut cut = 0;
    // Cut anywhere.
    for length in (600..whole.len()).step_by(997).chain([512, 1024, 1536, end, end - 1000]) {
        sandbox.write(format!("damaged/cut-{length}.tar"), &whole[..length]);
        cut += usize::from(length < end + 512);
    }
    let output = sandbox.run(["--json", "add", "damaged"]);
    assert_eq!(output.status.code(), Some(3));
    let report: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let problems = report["problems"].as_array().unwrap();
    let named = problems.iter().map(|problem| problem["path"].as_str().unwrap());
    assert_eq!(named.collect::<std::collections::BTreeSet<_>>().len(), cut, "{problems:#?}");
    assert!(problems.iter().all(|problem| problem["kept"] == true), "{problems:#?}");
    // Any byte changed.
    for n in 0..200usize {
        let mut bytes = whole.clone();
        let at = (n * 7919) % bytes.len();
        bytes[at] ^= 1 << (n % 8);
        if n.is_multiple_of(3) {
            let header = [0, 512, 4096][n % 9 / 3] + (n * 13) % 512;
            bytes[header] ^= 0x11;
        }
        sandbox.write(format!("damaged/changed-{n}.tar"), bytes);
    }
    let code = sandbox.run(["add", "damaged"]).status.code();
    assert_eq!(code, Some(3));
    sandbox.ok(["get", "damaged", "-o", "copy"]);
    assert_same_tree(&sandbox.path("damaged"), &sandbox.path("copy"));
    sandbox.ok(["verify", "--full"]);
    // What was cut off is said when it is asked for; what is before it can be had.
    let error = sandbox.error(1, ["get", &format!("damaged/cut-{}.tar/two/zlarge", end - 1000), "-o", "-"]);
    assert!(error.contains("not whole"), "{error}");
    sandbox.ok(["get", &format!("damaged/cut-{}.tar/two/small", end - 1000), "-o", "small"]);
    assert_same(&sandbox.path("two/small"), &sandbox.path("small"));
}

#[test]
fn large_tars_are_read_in_parallel_in_order_and_cut() {
    let sandbox = Sandbox::new();
    let whole = two_members(&sandbox, 20_000_000);
    sandbox.write("large/whole.tar", &whole);
    sandbox.write("large/in-member.tar", &whole[..15_000_000]);
    sandbox.write("large/at-segment.tar", &whole[..4608 + (8 << 20)]);
    sandbox.write("large/odd.tar", [&whole[..], b"odd bytes"].concat());
    let mut damaged = whole.clone();
    damaged[4096] ^= 1;
    sandbox.write("large/no-header.tar", &damaged);
    for threads in ["1", "4"] {
        let store = format!("store-{threads}");
        let output = sandbox.run(["--store", &store, "add", "large", "--threads", threads]);
        assert_eq!(output.status.code(), Some(3), "{}", String::from_utf8_lossy(&output.stderr));
        let listed = String::from_utf8_lossy(&output.stderr).matches("warning:").count();
        assert_eq!(listed, 3, "{}", String::from_utf8_lossy(&output.stderr));
        sandbox.ok(["--store", &store, "get", "large", "-o", &format!("copy-{threads}")]);
        assert_same_tree(&sandbox.path("large"), &sandbox.path(format!("copy-{threads}")));
    }
    let packs = |store: &str| {
        let mut found = crate::system::entries_below(&sandbox.path(store).join("packs"));
        found.retain(|path| path.is_file());
        found.iter().map(|path| path.file_name().unwrap().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(packs("store-1"), packs("store-4"), "whatever the number of threads");
    // The same through a pipe.
    for name in ["whole", "in-member", "at-segment", "odd", "no-header"] {
        let mut child = sandbox
            .command(["--store", "store-1", "add", "-", "--tar", "--name", &format!("{name}-piped")])
            .stdin(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let bytes = fs::read(sandbox.path(format!("large/{name}.tar"))).unwrap();
        child.stdin.take().unwrap().write_all(&bytes).unwrap();
        let code = child.wait().unwrap().code();
        assert_eq!(code, Some(if ["whole", "odd"].contains(&name) { 0 } else { 3 }), "{name}");
        sandbox.ok(["--store", "store-1", "get", &format!("{name}-piped"), "-o", name]);
        assert_same(&sandbox.path(format!("large/{name}.tar")), &sandbox.path(name));
    }
    assert_eq!(packs("store-1"), packs("store-4"), "what is piped in is cut as what is in a file: nothing was new");
}

/// Compresses by crates of the project, and xz by Python.
fn compressed(sandbox: &Sandbox, bytes: &[u8]) -> BTreeMap<&'static str, Vec<u8>> {
    let mut all = BTreeMap::new();
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gzip.write_all(bytes).unwrap();
    all.insert("gz", gzip.finish().unwrap());
    let mut bzip2 = bzip2::write::BzEncoder::new(Vec::new(), bzip2::Compression::fast());
    bzip2.write_all(bytes).unwrap();
    all.insert("bz2", bzip2.finish().unwrap());
    all.insert("zst", zstd::bulk::compress(bytes, 1).unwrap());
    sandbox.write("to-be-xz", bytes);
    let script = "import lzma; open('xz', 'wb').write(lzma.compress(open('to-be-xz', 'rb').read(), preset=0))";
    if run(Command::new("python3").current_dir(sandbox.path("")).args(["-c", script])) {
        all.insert("xz", fs::read(sandbox.path("xz")).unwrap());
    } else {
        skipped("xz: there is no Python");
    }
    all
}

#[test]
fn compressed_tars_give_the_tar_or_if_kept_themselves() {
    for large_bytes in [30_000, 9_000_000] {
        let sandbox = Sandbox::new();
        // Numbers shrink: the large one is small when it is compressed, and is met among small files.
        sandbox.write("two/numbers", (0..2_500_000u32).flat_map(|n| (n / 1000).to_le_bytes()).collect::<Vec<u8>>());
        let whole = two_members(&sandbox, large_bytes);
        let all = compressed(&sandbox, &whole);
        for (suffix, bytes) in &all {
            sandbox.write(format!("packed/two.tar.{suffix}"), bytes);
        }
        sandbox.write("packed/no-tar.gz", &compressed(&sandbox, b"only text")["gz"]);
        let cut = &all["gz"][..all["gz"].len() - 100];
        sandbox.write("packed/cut.tar.gz", cut);
        let output = sandbox.run(["add", "packed", "--drop-compressed"]);
        let error = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(3), "{error}");
        assert_eq!(error.matches("warning:").count(), 1, "{error}");
        sandbox.ok(["get", "packed", "-o", "copy"]);
        for suffix in all.keys() {
            assert!(fs::read(sandbox.path(format!("copy/two.tar.{suffix}"))).unwrap() == whole, "{suffix}");
            sandbox.ok(["get", &format!("packed/two.tar.{suffix}/two/small"), "-o", "small", "--force"]);
            assert_same(&sandbox.path("two/small"), &sandbox.path("small"));
        }
        // What holds no tar, or is damaged, is the file that it was.
        assert_same(&sandbox.path("packed/no-tar.gz"), &sandbox.path("copy/no-tar.gz"));
        assert!(fs::read(sandbox.path("copy/cut.tar.gz")).unwrap() == cut);
        let listed = sandbox.ok(["ls", "-l", "packed"]);
        assert!(listed.contains("two.tar.gz (tar from gzip)"), "{listed}");
        // All of them are one tar.
        let stats = sandbox.json(["dedup-stats"]);
        let bound = whole.len() as u64 + 2 * cut.len() as u64 + 400_000;
        assert!(stats["unique_bytes"].as_u64().unwrap() < bound, "{stats}");
        // Asked to be kept, they are, though they have not changed.
        // (The damaged one is read again, and named, only where its times are too new to prove anything.)
        let output = sandbox.run(["add", "packed", "--keep-compressed"]);
        assert!(matches!(output.status.code(), Some(0 | 3)), "{output:?}");
        sandbox.ok(["get", "packed", "-o", "kept"]);
        for (suffix, bytes) in &all {
            assert!(fs::read(sandbox.path(format!("kept/two.tar.{suffix}"))).unwrap() == *bytes, "{suffix}");
            sandbox.ok(["get", &format!("packed/two.tar.{suffix}/two/small"), "-o", "small", "--force"]);
            assert_same(&sandbox.path("two/small"), &sandbox.path("small"));
        }
        sandbox.ok(["verify", "--full"]);
    }
}

#[test]
fn an_unchanged_archive_is_not_read_again_and_opaque_stays_opaque() {
    let sandbox = Sandbox::new();
    let whole = two_members(&sandbox, 100_000);
    sandbox.write("packed/two.tar", &whole);
    sandbox.write("packed/two.tar.gz", &compressed(&sandbox, &whole)["gz"]);
    // Times that are older than the first snapshot.
    let touch = ["-d", "2020-01-01", "packed/two.tar", "packed/two.tar.gz"];
    assert!(run(Command::new("touch").current_dir(sandbox.path("")).args(touch)));
    sandbox.ok(["add", "packed"]);
    // The change time, too, must be older than the parent, by what the file system's clock can tell apart. The age is that of
    // the last add, so a slow machine changes nothing.
    let touched = std::time::Instant::now();
    let mut is_parent_older = false;
    loop {
        let is_older = touched.elapsed() > std::time::Duration::from_secs(5);
        let unchanged = sandbox.json(["add", "packed"])["unchanged_files"].as_u64().unwrap();
        if unchanged == 2 {
            break;
        }
        assert!(!is_parent_older, "{unchanged} files are unchanged");
        is_parent_older = is_older;
    }
    let opaque = sandbox.json(["add", "packed", "--no-tar"]);
    assert_eq!(opaque["unchanged_files"], 0);
    sandbox.ok(["get", "packed/two.tar.gz", "-o", "copy.gz"]);
    assert_same(&sandbox.path("packed/two.tar.gz"), &sandbox.path("copy.gz"));
    sandbox.error(1, ["get", "--snapshot", "latest", "packed/two.tar/two/small", "-o", "-"]);
    // Removing the snapshots of archives frees what only these had, and nothing else.
    let snapshots = sandbox.json(["snapshots"]);
    let ids: Vec<_> = snapshots.as_array().unwrap().iter().skip(1).map(|of| of["id"].as_str().unwrap()).collect();
    sandbox.ok(["rm"].iter().copied().chain(ids));
    sandbox.ok(["gc"]);
    sandbox.ok(["verify", "--full"]);
    sandbox.ok(["get", "packed", "-o", "copy"]);
    assert_same_tree(&sandbox.path("packed"), &sandbox.path("copy"));
}

#[test]
fn a_stream_that_is_no_tar_is_kept_all_the_same() {
    let sandbox = Sandbox::new();
    let bytes = noise(3, 3_000_000);
    let mut child = sandbox
        .command(["add", "-", "--tar", "--name", "noise"])
        .stdin(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(&bytes).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(3));
    sandbox.ok(["get", "noise", "-o", "copy"]);
    assert!(fs::read(sandbox.path("copy")).unwrap() == bytes);
    sandbox.error(2, ["add", "-", "--tar", "--keep-compressed", "--name", "x"]);
    // And a tar that is to be a file like any other is one, of any size.
    for bytes in [10_000, 6_000_000] {
        two_members(&sandbox, bytes);
        sandbox.ok(["add", "two.tar", "--no-tar"]);
        let listed = sandbox.json(["ls", "--snapshot", "latest", "two.tar"]);
        assert!(listed["entries"][0]["archive"].is_null(), "{listed}");
    }
}

#[test]
fn an_exported_tar_is_the_tree_and_always_the_same() {
    let sandbox = Sandbox::new();
    odd_tree(&sandbox);
    sandbox.write("tree/gr\u{fc}n", b"not ASCII");
    let _ = rustix::fs::lsetxattr(sandbox.path("tree/empty"), "user.note", b"kept\0", rustix::fs::XattrFlags::empty());
    sandbox.ok(["add", "tree"]);
    sandbox.ok(["export", "--tar", "tree", "-o", "a.tar"]);
    sandbox.ok(["export", "--tar", "--zstd=1", "tree", "-o", "a.tar.zst"]);
    sandbox.error(1, ["export", "--tar", "tree", "-o", "a.tar"]);
    let piped = sandbox.run(["export", "--tar", "tree"]);
    assert!(piped.stdout == fs::read(sandbox.path("a.tar")).unwrap());
    assert!(zstd::stream::decode_all(fs::File::open(sandbox.path("a.tar.zst")).unwrap()).unwrap() == piped.stdout);
    fs::create_dir(sandbox.path("out")).unwrap();
    let untar = ["--xattrs", "--xattrs-include=*", "-xpf", "../a.tar"];
    assert!(run(Command::new("tar").current_dir(sandbox.path("out")).args(untar)));
    assert_same_tree(&sandbox.path("tree"), &sandbox.path("out/tree"));
    // And in again: of 10 MB nothing is new but headers, table, and what in the tar is zeros and in the tree holes.
    let report = sandbox.json(["add", "a.tar"]);
    assert!(report["new_bytes"].as_u64().unwrap() < 400_000, "{report}");
    sandbox.ok(["get", "a.tar/tree", "-o", "again"]);
    assert_same_tree(&sandbox.path("tree"), &sandbox.path("again"));
    let check = sandbox.json(["check-tar", "a.tar.zst"]);
    assert_eq!((check["form"].as_str(), check["remarks"].as_array().unwrap().len()), (Some("tar from zstd"), 0));
    let member = sandbox.json(["ls", "-R", "a.tar/"]);
    assert!(member["entries"].as_array().unwrap().len() >= 10);
    sandbox.ok(["export", "--tar", "a.tar/tree/a", "-o", "inner.tar"]);
    assert!(fs::metadata(sandbox.path("inner.tar")).unwrap().len() > 80_000);
}

#[test]
fn a_reader_has_members_and_archives() {
    use seamstore::Store;
    use seamstore::request::Selector;
    let sandbox = Sandbox::new();
    odd_tree(&sandbox);
    let mut made = Vec::new();
    for (name, arguments) in [("plain", &["--format=posix"][..]), ("sparse", &["--format=posix", "--sparse"][..])] {
        let tar = format!("{name}.tar");
        let mut command = Command::new("tar");
        assert!(run(command.current_dir(sandbox.path("")).args(arguments).args(["-cf", &tar, "tree"])));
        made.push(tar);
    }
    sandbox.ok(["add", "plain.tar", "sparse.tar", "tree"]);
    let store = Store::open(&sandbox.path(".store")).unwrap();
    let reader = store.reader(&Selector::Latest).unwrap();
    let names = ["a/one", "a/two", "hard", "large", "sparse", "empty"];
    for tar in &made {
        let whole = fs::read(sandbox.path(tar)).unwrap();
        assert!(reader.read(tar).unwrap() == whole);
        assert!(reader.read_range(tar, 700..100_000).unwrap() == whole[700..100_000]);
        let paths: Vec<_> = names.iter().map(|name| format!("{tar}/tree/{name}")).collect();
        for (name, read) in names.iter().zip(reader.read_many(&paths)) {
            let wanted = fs::read(sandbox.path("tree").join(name)).unwrap();
            assert!(read.unwrap() == wanted, "{tar} {name}");
            assert_eq!(reader.size(format!("{tar}/tree/{name}")), Some(wanted.len() as u64));
            let part = reader.read_range(format!("{tar}/tree/{name}"), 10..3000).unwrap();
            assert!(part == wanted[10.min(wanted.len())..3000.min(wanted.len())], "{tar} {name}");
        }
        assert!(reader.read(format!("{tar}/tree/pipe")).is_err());
    }
    let paths: Vec<_> = reader.paths().collect();
    assert!(paths.iter().any(|path| path == &Path::new("sparse.tar/tree/a/one")));
}
