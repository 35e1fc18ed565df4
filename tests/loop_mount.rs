//! File systems in files: other kinds than the one that the tests run on.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::support::{Sandbox, skipped};
use crate::system::is_root;

/// A file system in a file, mounted by a loop device; unmounted and detached when dropped.
pub(crate) struct LoopMount {
    device: String,
    path: PathBuf,
}

impl LoopMount {
    /// `None`, reported, where that cannot be done here.
    pub(crate) fn new(sandbox: &Sandbox, name: &str, make: &[&str], mount: &[&str]) -> Option<Self> {
        let image = sandbox.path(format!("{name}.image"));
        std::fs::File::create(&image).unwrap().set_len(64 << 20).unwrap();
        let run = |words: &[&str], more: &[&Path]| {
            let output = Command::new(words[0]).args(&words[1..]).args(more).output().ok();
            output.filter(|output| output.status.success())
        };
        let path = sandbox.path(name);
        std::fs::create_dir(&path).unwrap();
        let made = if is_root() { run(make, &[&image]) } else { None };
        let device = made.and_then(|_| run(&["losetup", "-f", "--show"], &[&image]));
        let Some(device) = device.map(|output| String::from_utf8(output.stdout).unwrap().trim().to_owned()) else {
            skipped(&format!("{} or a loop device is not available", make[0]));
            return None;
        };
        let mounted = Self { device, path: path.clone() };
        if run(mount, &[Path::new(&mounted.device), &path]).is_none() {
            skipped(&format!("{} is not available", mount[0]));
            return None;
        }
        Some(mounted)
    }

    /// exFAT through FUSE, in `disk`.
    pub(crate) fn exfat(sandbox: &Sandbox) -> Option<Self> {
        Self::new(sandbox, "disk", &["mkfs.exfat"], &["mount.exfat-fuse"])
    }
}

impl Drop for LoopMount {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(&self.path).output();
        let _ = Command::new("losetup").arg("-d").arg(&self.device).output();
    }
}
