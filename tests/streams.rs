//! Standard streams that are non-blocking, closed or full: nothing is lost in silence.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::process::{Child, Stdio};

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::support::{Sandbox, noise};

/// A pipe whose ends do not block.
fn pipe() -> (OwnedFd, OwnedFd) {
    let (reader, writer) = std::io::pipe().unwrap();
    let (reader, writer) = (OwnedFd::from(reader), OwnedFd::from(writer));
    for end in [&reader, &writer] {
        rustix::io::ioctl_fionbio(end, true).unwrap();
    }
    (reader, writer)
}

/// Waits until a pipe takes no more, or the process that fills it has ended.
fn wait_until_full(pipe: &OwnedFd, child: &mut Child) {
    let now = Timespec { tv_sec: 0, tv_nsec: 0 };
    while child.try_wait().unwrap().is_none() {
        if poll(&mut [PollFd::new(pipe, PollFlags::OUT)], Some(&now)).unwrap() == 0 {
            return;
        }
        std::thread::yield_now();
    }
}

/// All that comes out of a pipe that does not block.
fn read_all(pipe: OwnedFd) -> Vec<u8> {
    let mut bytes = Vec::new();
    rustix::io::ioctl_fionbio(&pipe, false).unwrap();
    File::from(pipe).read_to_end(&mut bytes).unwrap();
    bytes
}

#[test]
fn standard_output_that_does_not_block_gets_all_data() {
    let sandbox = Sandbox::new();
    sandbox.write("big", noise(1, 3_000_000));
    for n in 0..3000 {
        sandbox.write(format!("many/{n:0100}"), b"");
    }
    sandbox.ok(["add", "big", "many"]);
    for arguments in [
        &["get", "big", "-o", "-"][..],
        &["export", "--tar", "big"],
        &["export", "--tar", "--zstd", "big"],
        &["bundle", "export", "-"],
        &["ls", "-R"],
        &["--json", "ls", "-R"],
    ] {
        let (reader, writer) = pipe();
        let writer_again = writer.try_clone().unwrap();
        let mut child = sandbox.command(arguments).stdout(writer).stderr(Stdio::piped()).spawn().unwrap();
        wait_until_full(&writer_again, &mut child);
        drop(writer_again);
        let bytes = read_all(reader);
        let ended = child.wait_with_output().unwrap();
        assert!(ended.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&ended.stderr));
        let is_bundle = arguments[0] == "bundle";
        assert!(is_bundle && bytes.len() > 3_000_000 || bytes == sandbox.run(arguments).stdout, "{arguments:?}");
    }
}

#[test]
fn standard_error_that_does_not_block_gets_every_warning() {
    const FILES: usize = 2000;
    let sandbox = Sandbox::new();
    for n in 0..FILES {
        sandbox.write(format!("tree/{n:060}"), b"x");
        std::fs::create_dir_all(sandbox.path(format!("out/{n:060}"))).unwrap();
    }
    sandbox.ok(["add", "tree"]);
    let (reader, writer) = pipe();
    let writer_again = writer.try_clone().unwrap();
    let mut child = sandbox.command(["get", "tree", "-o", "out", "--force"]).stderr(writer).spawn().unwrap();
    wait_until_full(&writer_again, &mut child);
    drop(writer_again);
    let said = String::from_utf8(read_all(reader)).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(3));
    assert_eq!(said.lines().filter(|line| line.contains("was not restored")).count(), FILES);
    assert!(said.lines().last().unwrap().starts_with("restored 0 files"));
}

/// Waits until a thread of a process waits in `poll`, or the process has ended.
#[cfg(target_arch = "x86_64")]
fn wait_until_polling(child: &mut Child) {
    let polls = ["7 ", "271 "];
    while child.try_wait().unwrap().is_none() {
        let Ok(tasks) = std::fs::read_dir(format!("/proc/{}/task", child.id())) else { return };
        let calls = tasks.filter_map(|task| std::fs::read_to_string(task.ok()?.path().join("syscall")).ok());
        if calls.into_iter().any(|call| polls.iter().any(|poll| call.starts_with(poll))) {
            return;
        }
        std::thread::yield_now();
    }
}

#[cfg(target_arch = "x86_64")]
#[test]
fn standard_input_that_does_not_block_is_read_to_its_end() {
    let sandbox = Sandbox::new();
    sandbox.write("in/file", noise(2, 200_000));
    let tar =
        std::process::Command::new("tar").args(["-cf", "-", "in"]).current_dir(sandbox.path("")).output().unwrap();
    assert!(tar.status.success());
    for arguments in [
        &["add", "-", "--name", "x"][..],
        &["add", "-", "--name", "y", "--tar"],
        &["check-tar", "-"],
        &["check-align", "-"],
    ] {
        let (reader, writer) = pipe();
        let mut child =
            sandbox.command(arguments).stdin(reader).stderr(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
        // Nothing is there to be read yet.
        wait_until_polling(&mut child);
        rustix::io::ioctl_fionbio(&writer, false).unwrap();
        // A program that has ended reads no more, and says why.
        let _ = File::from(writer).write_all(&tar.stdout);
        let ended = child.wait_with_output().unwrap();
        assert!(ended.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&ended.stderr));
    }
    assert!(sandbox.run(["get", "x", "-o", "-"]).stdout == tar.stdout);
    assert!(sandbox.run(["get", "y/in/file", "-o", "-"]).stdout == noise(2, 200_000));
}

#[test]
fn a_closed_standard_stream_is_an_error_where_it_is_used() {
    let sandbox = Sandbox::new();
    sandbox.write("file", b"data");
    sandbox.ok(["add", "file"]);
    for line in ["get file -o -", "ls", "--json snapshots", "dedup-stats", "export --tar file", "--help", "--version"] {
        let output = sandbox.shell(&format!("exec \"$0\" {line} >&-")).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{line}: {said}");
        assert!(said.contains("standard output") && said.contains("Bad file descriptor"), "{line}: {said}");
    }
    for line in ["add - --name x", "check-tar -", "check-align -"] {
        let output = sandbox.shell(&format!("exec \"$0\" {line} <&-")).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{line}: {said}");
        assert!(said.contains("standard input") && said.contains("Bad file descriptor"), "{line}: {said}");
    }
    assert_eq!(sandbox.snapshots().len(), 1);
    // Where it is not used it may be closed, and /dev/null is a file like any other.
    for line in ["add file >&-", "get file -o a <&- >&-", "get file -o - 1<>/dev/null", "add - --name n 0<>/dev/null"] {
        let output = sandbox.shell(&format!("exec \"$0\" {line}")).output().unwrap();
        assert!(output.status.success(), "{line}: {}", String::from_utf8_lossy(&output.stderr));
    }
}

#[test]
fn a_full_standard_output_fails_every_command_that_prints() {
    let sandbox = Sandbox::new();
    sandbox.write("file", noise(3, 10_000));
    sandbox.ok(["add", "file"]);
    let tar = ["-cf", "a.tar", "file"];
    assert!(std::process::Command::new("tar").args(tar).current_dir(sandbox.path("")).status().unwrap().success());
    for line in [
        "get file -o -",
        "get file --range 1.. -o -",
        "ls",
        "ls -R0",
        "ls -l",
        "--json ls",
        "snapshots",
        "dedup-stats",
        "--json dedup-stats",
        "verify",
        "--json verify",
        "check-tar a.tar",
        "check-align file",
        "hash --xet file",
        "export --tar",
        "export --tar --zstd",
        "bundle export -",
        "--json add file",
        "--json gc",
        "--json get file -o copy --force",
        "--help",
        "get --help",
        "help ls",
        "--version",
    ] {
        let output = sandbox.shell(&format!("exec \"$0\" {line} >/dev/full")).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        let prints = sandbox.shell(&format!("exec \"$0\" {line}")).output().unwrap();
        if prints.stdout.is_empty() {
            assert!(["verify"].contains(&line), "{line} prints nothing");
            continue;
        }
        assert_eq!(output.status.code(), Some(1), "{line}: {said}");
        assert!(said.contains("standard output") && said.contains("No space left"), "{line}: {said}");
    }
}
