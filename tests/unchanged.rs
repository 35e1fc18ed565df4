//! No file that changed is taken for unchanged, whatever its times say.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use std::process::{Command, Stdio};
use std::time::Duration;

use crate::loop_mount::LoopMount;
use crate::support::{Sandbox, skipped};

fn restored(sandbox: &Sandbox, path: &str) -> Vec<u8> {
    let output = sandbox.run(["get", path, "-o", "-"]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    output.stdout
}

/// Rewrites a file right after an add, several times. Whether that comes within one tick of the file system's clock is up
/// to the machine; where it does, only a reread tells.
fn rewrite_after_adds(sandbox: &Sandbox, set_back: &[bool]) {
    // As a file that was written, and as one that was unpacked, so that only the change time tells.
    for is_set_back in set_back {
        for round in 0..4_u8 {
            let name = format!("disk/file {is_set_back} {round}");
            let write = |bytes: &[u8]| {
                let path = sandbox.write(&name, bytes);
                if *is_set_back {
                    let time = std::time::UNIX_EPOCH + Duration::from_secs(1_000_000_000);
                    std::fs::File::open(path).unwrap().set_modified(time).unwrap();
                }
            };
            write(b"AAAA");
            // Longer than the kernel's tick.
            std::thread::sleep(Duration::from_millis(100));
            sandbox.ok(["add", &name]);
            write(b"BBBB");
            sandbox.ok(["add", &name]);
            assert_eq!(restored(sandbox, &name), b"BBBB", "{name}");
        }
    }
}

#[test]
fn a_file_rewritten_in_the_second_of_the_add_is_read_again_where_clocks_count_seconds() {
    let sandbox = Sandbox::new();
    let Some(_image) = LoopMount::new(&sandbox, "disk", &["mkfs.ext4", "-q", "-I", "128"], &["mount"]) else { return };
    rewrite_after_adds(&sandbox, &[false, true]);
}

#[test]
fn a_file_rewritten_in_the_second_of_the_add_is_read_again_on_fat() {
    let sandbox = Sandbox::new();
    let Some(_image) = LoopMount::new(&sandbox, "disk", &["mkfs.vfat"], &["mount"]) else { return };
    // It has no change time of its own.
    rewrite_after_adds(&sandbox, &[false]);
}

#[test]
fn a_file_rewritten_right_after_an_add_is_read_again() {
    rewrite_after_adds(&Sandbox::new(), &[false, true]);
}

#[test]
fn a_file_that_is_written_through_a_mapping_is_read_again() {
    let sandbox = Sandbox::new();
    // The second store moves no time: the page is dirty.
    let script = r#"
import mmap, os, subprocess, sys, time
f = os.open("mapped", os.O_RDWR | os.O_CREAT); os.write(f, b"1" * 65536); os.fsync(f)
m = mmap.mmap(f, 65536); m[0:1] = b"2"; time.sleep(.1)
subprocess.run([sys.argv[1], "add", "mapped"], check=True)
m[0:1] = b"3"; m.close(); os.close(f)
"#;
    let mut command = sandbox.command(["add"]);
    let program = command.get_program().to_owned();
    command = Command::new("python3");
    command.args(["-c", script]).arg(program).current_dir(sandbox.path("")).env_remove("STORE_PATH");
    let Ok(status) = command.stderr(Stdio::null()).status() else { return skipped("it takes python3") };
    assert!(status.success());
    sandbox.ok(["add", "mapped"]);
    assert_eq!(restored(&sandbox, "mapped")[..2], *b"31");
}
