//! What only the system can arrange: small disks, read-only disks, another user, stopped and killed processes.
#![allow(clippy::unwrap_used, clippy::missing_panics_doc)]

use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

use crate::support::{Sandbox, skipped};

/// A user who owns nothing.
const NOBODY: u32 = 65534;

pub(crate) fn is_root() -> bool {
    rustix::process::getuid().is_root()
}

/// Something mounted in a sandbox, unmounted when dropped.
pub(crate) struct Mount {
    path: PathBuf,
}

impl Mount {
    /// A file system in memory with room for `bytes`; `None`, said aloud, where it cannot be had.
    pub(crate) fn small(path: PathBuf, bytes: usize) -> Option<Self> {
        Self::with(path, &format!("size={bytes}"))
    }

    /// A file system in memory with these options; `None`, said aloud, where it cannot be mounted.
    pub(crate) fn with(path: PathBuf, options: &str) -> Option<Self> {
        std::fs::create_dir_all(&path).unwrap();
        Self::mounted(path, &["-t", "tmpfs", "-o", options, "tmpfs"])
    }

    /// A RAM disk, which reports no free space and keeps no extended attributes of users.
    pub(crate) fn ram(path: PathBuf) -> Option<Self> {
        std::fs::create_dir_all(&path).unwrap();
        Self::mounted(path, &["-t", "ramfs", "ramfs"])
    }

    /// The same directory once more, read-only.
    pub(crate) fn read_only(of: &Path, path: PathBuf) -> Option<Self> {
        std::fs::create_dir_all(&path).unwrap();
        Self::mounted(path, &["-o", "bind,ro", of.to_str().unwrap()])
    }

    fn mounted(path: PathBuf, arguments: &[&str]) -> Option<Self> {
        let mounted = is_root()
            && Command::new("mount").args(arguments).arg(&path).output().is_ok_and(|out| out.status.success());
        if !mounted {
            skipped("mounting takes root and a system that lets it");
            return None;
        }
        Some(Self { path })
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.path).status();
    }
}

impl Sandbox {
    /// The program, to be run as a user without rights: who runs the tests, or if that is root, nobody. What that user
    /// is to write to must be given to it with [`give_to_nobody`].
    pub(crate) fn unprivileged<S: AsRef<std::ffi::OsStr>>(&self, arguments: impl IntoIterator<Item = S>) -> Command {
        let plain = self.command(arguments);
        if !is_root() {
            return plain;
        }
        // Where the program was built need not be open to everybody.
        let program = self.path("program of nobody");
        if !program.exists() {
            std::fs::copy(plain.get_program(), &program).unwrap();
            std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).unwrap();
            std::fs::set_permissions(self.path(""), std::fs::Permissions::from_mode(0o755)).unwrap();
        }
        let mut command = Command::new(program);
        command.current_dir(self.path("")).args(plain.get_args()).env_remove("STORE_PATH").env_remove("HOME");
        command.stdin(std::process::Stdio::null()).uid(NOBODY).gid(NOBODY);
        command
    }
}

/// Makes a tree belong to the user [`Sandbox::unprivileged`] runs programs as.
pub(crate) fn give_to_nobody(path: &Path) {
    if !is_root() {
        return;
    }
    for path in entries_below(path) {
        std::os::unix::fs::lchown(path, Some(NOBODY), Some(NOBODY)).unwrap();
    }
}

/// A directory and everything below it, sorted.
pub(crate) fn entries_below(root: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut todo = vec![root.to_owned()];
    while let Some(path) = todo.pop() {
        if path.symlink_metadata().unwrap().is_dir() {
            todo.extend(std::fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
        }
        found.push(path);
    }
    found.sort();
    found
}

/// The regular files below a directory, sorted.
pub(crate) fn files_below(root: &Path) -> Vec<PathBuf> {
    if !root.exists() {
        return Vec::new();
    }
    entries_below(root).into_iter().filter(|path| path.symlink_metadata().unwrap().is_file()).collect()
}

/// Sends a signal to a process of ours.
pub(crate) fn signal(child: &Child, signal: Signal) {
    kill_process(Pid::from_child(child), signal).unwrap();
}

/// Waits until something holds; `false` if the process ended before. However busy the machine is: there is no time limit.
pub(crate) fn wait_until(child: &mut Child, mut holds: impl FnMut() -> bool) -> bool {
    loop {
        if holds() {
            return true;
        }
        if child.try_wait().unwrap().is_some() {
            return holds();
        }
        std::thread::park_timeout(Duration::from_millis(1));
    }
}

/// How many bytes of data a store has been given so far, finished packs and half-written ones.
pub(crate) fn bytes_in(store: &Path) -> u64 {
    let walk = |folder: &str| -> u64 {
        // Files come and go while we look.
        let mut todo = vec![store.join(folder)];
        let mut bytes = 0;
        while let Some(path) = todo.pop() {
            match std::fs::read_dir(&path) {
                Ok(entries) => todo.extend(entries.filter_map(|entry| Some(entry.ok()?.path()))),
                Err(_) => bytes += path.symlink_metadata().map_or(0, |stat| stat.len()),
            }
        }
        bytes
    };
    walk("packs") + walk("tmp")
}
