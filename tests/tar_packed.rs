//! Compressed tars as other programs make them: of several streams, with frames that say nothing, with bytes behind the end.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use std::fs;
use std::io::Write;
use std::process::{Command, Stdio};

use crate::support::{Sandbox, skipped};

/// What a compressed file is to the store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kept {
    /// An archive, whose tar can stand for it.
    Tar,
    /// An archive, but something is in the file that its tar does not have.
    Both,
    /// A file like any other, which is named if it begins as an archive.
    File { named: bool },
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

fn bzip2(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = bzip2::write::BzEncoder::new(Vec::new(), bzip2::Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

fn zstd_of(bytes: &[u8]) -> Vec<u8> {
    zstd::bulk::compress(bytes, 1).unwrap()
}

fn skippable(magic: u8, content: &[u8]) -> Vec<u8> {
    let length = u32::try_from(content.len()).unwrap();
    [&[magic, 0x2a, 0x4d, 0x18][..], &length.to_le_bytes(), content].concat()
}

/// A frame as `pzstd` writes it: its length, in a frame of its own, before it.
fn announced(bytes: &[u8]) -> Vec<u8> {
    let frame = zstd_of(bytes);
    [skippable(0x50, &u32::try_from(frame.len()).unwrap().to_le_bytes()), frame].concat()
}

/// What a program makes of the tar, where it is installed.
fn by_program(sandbox: &Sandbox, words: &[&str]) -> Option<Vec<u8>> {
    let mut command = Command::new(words[0]);
    command.args(&words[1..]).arg("two.tar").current_dir(sandbox.path(""));
    match command.stdin(Stdio::null()).stderr(Stdio::null()).output() {
        Ok(output) if output.status.success() => Some(output.stdout),
        _ => {
            skipped(&format!("tars compressed by {}: it is not installed", words[0]));
            None
        }
    }
}

#[test]
fn compressed_files_of_several_streams_are_archives_and_nothing_of_any_is_lost() {
    let sandbox = Sandbox::new();
    sandbox.write("two/numbers", (0..60_000u32).flat_map(|n| (n / 9).to_le_bytes()).collect::<Vec<u8>>());
    sandbox.write("two/small", b"small");
    let tar = Command::new("tar").current_dir(sandbox.path("")).args(["--sort=name", "-cf", "two.tar", "two"]).status();
    assert!(tar.unwrap().success());
    let whole = fs::read(sandbox.path("two.tar")).unwrap();
    let (a, b) = whole.split_at(whole.len() / 2);
    let garbage = b"bytes behind the end".to_vec();
    // A frame that says which dictionary it needs, by a number of one byte behind its descriptor.
    let mut with_dictionary = zstd_of(&whole);
    assert_eq!(with_dictionary[4] & 0x23, 0x20, "no window, no dictionary yet");
    with_dictionary[4] |= 1;
    with_dictionary.insert(5, 77);
    let seek_table = [vec![7; 12], 0x8f92_eab1_u32.to_le_bytes().to_vec()].concat();
    let named = Kept::File { named: true };
    let quiet = Kept::File { named: false };
    let mut files = vec![
        ("two-members.gz", [gzip(a), gzip(b)].concat(), Kept::Tar),
        ("zeros-behind.gz", [gzip(&whole), vec![0; 1000]].concat(), Kept::Tar),
        ("garbage.gz", [gzip(&whole), garbage.clone()].concat(), named),
        ("two-streams.bz2", [bzip2(a), bzip2(b)].concat(), Kept::Tar),
        ("garbage.bz2", [bzip2(&whole), garbage.clone()].concat(), named),
        ("two-frames.zst", [zstd_of(a), zstd_of(b)].concat(), Kept::Tar),
        ("no-content-size.zst", zstd::stream::encode_all(&whole[..], 1).unwrap(), Kept::Tar),
        ("pzstd.zst", [announced(a), announced(b)].concat(), Kept::Tar),
        ("seekable.zst", [zstd_of(a), zstd_of(b), skippable(0x5e, &seek_table)].concat(), Kept::Tar),
        ("note-first.zst", [skippable(0x50, b"abcd"), zstd_of(&whole)].concat(), Kept::Both),
        ("note-between.zst", [zstd_of(a), skippable(0x53, b"a note"), zstd_of(b)].concat(), Kept::Both),
        ("note-last.zst", [zstd_of(&whole), skippable(0x5f, b"")].concat(), Kept::Both),
        ("garbage.zst", [zstd_of(&whole), garbage.clone()].concat(), named),
        ("note-alone.zst", skippable(0x50, b"abcd"), quiet),
        ("dictionary.zst", with_dictionary, quiet),
        ("text.gz", gzip(b"no tar"), quiet),
    ];
    // The program's xz writes none; where it is, all that xz allows is tried.
    if let Some(xz) = by_program(&sandbox, &["xz", "-0", "-c"]) {
        files.push(("two-streams.xz", [xz.clone(), vec![0; 8], xz.clone(), vec![0; 4]].concat(), Kept::Tar));
        files.push(("odd-padding.xz", [xz.clone(), vec![0; 7]].concat(), named));
        files.push(("garbage.xz", [xz, garbage].concat(), named));
    }
    let programs: [(&str, &[&str], Kept); 8] = [
        ("pigz.gz", &["pigz", "-c", "-b", "128"], Kept::Tar),
        ("bgzip.gz", &["bgzip", "-c"], Kept::Tar),
        ("pbzip2.bz2", &["pbzip2", "-c", "-b1"], Kept::Tar),
        ("lbzip2.bz2", &["lbzip2", "-c"], Kept::Tar),
        ("program.zst", &["pzstd", "-q", "-c", "-p", "2"], Kept::Tar),
        ("blocks.xz", &["xz", "-c", "-T2", "--block-size=65536"], Kept::Tar),
        ("old.lzma", &["xz", "-c", "--format=lzma"], quiet),
        ("frame.lz4", &["lz4", "-q", "-c"], quiet),
    ];
    for (name, words, kept) in programs {
        files.extend(by_program(&sandbox, words).map(|bytes| (name, bytes, kept)));
    }
    for (name, bytes, _) in &files {
        sandbox.write(format!("packed/{name}"), bytes);
    }
    for (how, drops) in [("--keep-compressed", false), ("--drop-compressed", true)] {
        let bench_store = |words: &[&str]| sandbox.run(["--store", how.trim_start_matches('-')].iter().chain(words));
        let output = bench_store(&["--json", "add", "packed", how]);
        assert_eq!(output.status.code(), Some(3));
        let report: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        let problems = report["problems"].to_string();
        let copy = format!("copy{how}");
        assert_eq!(bench_store(&["get", "packed", "-o", &copy]).status.code(), Some(0));
        for (name, bytes, kept) in &files {
            let back = fs::read(sandbox.path(&copy).join(name)).unwrap();
            if drops && *kept == Kept::Tar {
                assert!(
                    back == whole || name.ends_with("streams.xz") && back == [&whole[..], &whole].concat(),
                    "{name}"
                );
            } else {
                assert!(back == *bytes, "{name} comes back as it was");
            }
            let small = bench_store(&["get", &format!("packed/{name}/two/small"), "-o", "-"]);
            assert_eq!(small.status.code(), Some(i32::from(matches!(kept, Kept::File { .. }))), "{name}");
            assert_eq!(problems.contains(name), *kept == named, "{name}: {problems}");
        }
        assert_eq!(bench_store(&["verify", "--full"]).status.code(), Some(0));
    }
}
