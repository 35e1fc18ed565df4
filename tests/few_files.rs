//! Programs that may open few files: they work, or say that it is too few.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use std::process::{Command, Output};

use crate::support::{Sandbox, assert_same_tree, noise};

impl Sandbox {
    /// Runs the program with a limit on open files, the three standard ones among them.
    fn with_files(&self, limit: usize, arguments: &[&str]) -> Output {
        let script = format!("ulimit -n {limit}; exec \"$0\" \"$@\"");
        let program = self.command(arguments);
        let mut command = Command::new("sh");
        command.current_dir(self.path("")).args(["-c", &script]).arg(program.get_program()).args(arguments);
        command.env_remove("STORE_PATH").output().unwrap()
    }
}

/// A store of many packs, and trees of many files.
fn sandbox() -> Sandbox {
    let sandbox = Sandbox::new();
    for n in 0..30 {
        sandbox.write(format!("part/{n}"), noise(n, 40_000));
        sandbox.ok(["add", "part"]);
    }
    for n in 0..200 {
        sandbox.write(format!("tree/{}/{n}", n % 7), noise(100 + n, 20_000));
    }
    // In chunks of many packs.
    sandbox.write("tree/all", (0..30).flat_map(|n| noise(n, 40_000)).collect::<Vec<u8>>());
    sandbox
}

const COMMANDS: [&[&str]; 9] = [
    &["add", "tree", "--reread"],
    &["get", "tree", "-o", "copy"],
    &["get", "tree/all", "-o", "-"],
    &["verify", "--full"],
    &["ls", "-R"],
    &["dedup-stats"],
    &["gc", "--max-waste", "0%"],
    &["repair"],
    &["repair", "--index"],
];

#[test]
fn sixty_four_files_are_enough() {
    let sandbox = sandbox();
    for arguments in COMMANDS {
        let output = sandbox.with_files(64, arguments);
        let error = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(0), "{arguments:?}: {error}");
    }
    assert_same_tree(&sandbox.path("tree"), &sandbox.path("copy"));
    let first = sandbox.snapshots().pop().unwrap();
    assert_eq!(sandbox.with_files(64, &["rm", &first]).status.code(), Some(0));
    assert_eq!(sandbox.with_files(64, &["gc", "--max-waste", "0%"]).status.code(), Some(0));
    sandbox.ok(["verify", "--full"]);
}

#[test]
fn fewer_files_are_enough_or_said_to_be_too_few() {
    let sandbox = sandbox();
    sandbox.ok(["add", "tree"]);
    let mut too_few = 0;
    for limit in [32, 20, 16, 12, 10, 8, 6] {
        for arguments in COMMANDS {
            let output = sandbox.with_files(limit, arguments);
            let error = String::from_utf8_lossy(&output.stderr);
            let said = error.contains("Too many open files");
            match output.status.code() {
                Some(0) => {}
                Some(1 | 3) if said => too_few += 1,
                // Before the program is in charge.
                Some(127) if error.contains("shared librar") => too_few += 1,
                code => panic!("{limit} files, {arguments:?}: {code:?} {error}"),
            }
            let _ = std::fs::remove_dir_all(sandbox.path("copy"));
        }
        sandbox.ok(["verify", "--full"]);
    }
    assert!(too_few > 0, "fewer should be tried");
}
