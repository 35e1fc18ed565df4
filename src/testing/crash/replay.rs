//! What may be on the disk after the power went? All that was synced, and of the rest anything.
//!
//! - Bytes of a file are there once the file was synced after they were written. Before, each 512 or 4096 bytes of a
//!   write may be there or not; where they are not, there is what was there before, zeros, or rubbish; the file may
//!   be shorter.
//! - A name is there, or gone, once its directory was synced after it was given or taken. Before, each may be or not,
//!   in any order: the two halves of a rename as well.

use crate::testing::random::TestRng;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use super::recording::{Effect, Node, Operation};
use crate::format::id::ChunkId;

/// What happens to what was not synced.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Unsynced {
    /// It is there: the process was killed, the system went on.
    Kept,
    /// None of it is there.
    Lost,
    /// Some of it is, by this seed.
    Some(u64),
}

/// What is on a disk.
#[derive(Debug, Default)]
pub(super) struct Image {
    directories: BTreeSet<PathBuf>,
    files: BTreeMap<PathBuf, Vec<u8>>,
}

impl Image {
    /// The disk after these operations and then a loss of power. Also says how many effects were not synced.
    pub(super) fn after(operations: &[Operation], unsynced: Unsynced) -> (Self, usize) {
        let effects: Vec<&Effect> = operations.iter().flat_map(|operation| &operation.effects).collect();
        let durable = durable(&effects);
        let mut random = TestRng(match unsynced {
            Unsynced::Some(seed) => seed,
            _ => 0,
        });
        let mut contents: BTreeMap<usize, Vec<u8>> = BTreeMap::new();
        let mut names: BTreeMap<&Path, Node> = BTreeMap::new();
        let mut at_risk = 0;
        for (effect, durable) in effects.iter().zip(durable) {
            let changes = !matches!(effect, Effect::SyncFile(_) | Effect::SyncDirectory(_));
            at_risk += usize::from(!durable && changes);
            let whole = match unsynced {
                _ if durable => true,
                Unsynced::Kept => true,
                Unsynced::Lost => false,
                Unsynced::Some(_) => random.below(2) == 0,
            };
            match effect {
                Effect::Name(path, Some(node)) if whole => drop(names.insert(path, *node)),
                Effect::Name(path, None) if whole => drop(names.remove(path.as_path())),
                Effect::SetLen(file, bytes) if whole => contents.entry(*file).or_default().resize(*bytes as usize, 0),
                Effect::Write(file, offset, bytes) => {
                    let content = contents.entry(*file).or_default();
                    if whole {
                        write(content, *offset as usize, bytes);
                    } else if matches!(unsynced, Unsynced::Some(_)) {
                        tear(content, *offset as usize, bytes, &mut random);
                    }
                }
                _ => {}
            }
        }
        (Self::of(&names, &contents), at_risk)
    }

    /// What can be reached by names from the root.
    fn of(names: &BTreeMap<&Path, Node>, contents: &BTreeMap<usize, Vec<u8>>) -> Self {
        let mut image = Self::default();
        // A directory comes before what is in it.
        for (path, node) in names {
            let Some(parent) = path.parent() else { continue };
            if !parent.as_os_str().is_empty() && !image.directories.contains(parent) {
                continue;
            }
            match node {
                Node::Directory => drop(image.directories.insert((*path).to_owned())),
                Node::File(file) => {
                    let content = contents.get(file).cloned().unwrap_or_default();
                    image.files.insert((*path).to_owned(), content);
                }
            }
        }
        image
    }

    /// The same for two images that are the same.
    pub(super) fn digest(&self) -> ChunkId {
        let mut all = Vec::new();
        for path in &self.directories {
            all.extend_from_slice(path.as_os_str().as_encoded_bytes());
            all.push(0);
        }
        for (path, content) in &self.files {
            all.extend_from_slice(path.as_os_str().as_encoded_bytes());
            all.push(1);
            all.extend_from_slice(&ChunkId::of(content).0);
        }
        ChunkId::of(&all)
    }

    /// Puts it into a folder that is there.
    pub(super) fn make(&self, folder: &Path) {
        for path in &self.directories {
            fs::create_dir(folder.join(path)).unwrap();
        }
        for (path, content) in &self.files {
            fs::write(folder.join(path), content).unwrap();
        }
    }
}

/// Which effects a later sync made durable.
fn durable(effects: &[&Effect]) -> Vec<bool> {
    let mut files = BTreeSet::new();
    let mut folders: BTreeSet<&Path> = BTreeSet::new();
    let mut durable = vec![false; effects.len()];
    for (durable, effect) in durable.iter_mut().zip(effects).rev() {
        *durable = match effect {
            Effect::SyncFile(file) => {
                files.insert(*file);
                true
            }
            Effect::SyncDirectory(path) => {
                folders.insert(path);
                true
            }
            Effect::Write(file, ..) | Effect::SetLen(file, _) => files.contains(file),
            Effect::Name(path, _) => path.parent().is_some_and(|parent| folders.contains(parent)),
        };
    }
    durable
}

fn write(content: &mut Vec<u8>, offset: usize, bytes: &[u8]) {
    let end = offset + bytes.len();
    if content.len() < end {
        content.resize(end, 0);
    }
    content[offset..end].copy_from_slice(bytes);
}

/// A write of which some sectors came to the disk.
fn tear(content: &mut Vec<u8>, offset: usize, bytes: &[u8], random: &mut TestRng) {
    let sector = [512, 4096][random.below(2) as usize];
    let rubbish = random.below(3) == 0;
    // None at all, the first ones, or any.
    let (first, any) = match random.below(3) {
        0 => (0, false),
        1 => (random.below(bytes.len() as u64 / sector as u64 + 1) as usize, false),
        _ => (0, true),
    };
    let mut at = 0;
    for number in 0.. {
        if at >= bytes.len() {
            break;
        }
        // Sectors are those of the file.
        let end = ((offset + at) / sector * sector + sector - offset).min(bytes.len());
        if number < first || any && random.below(2) == 0 {
            write(content, offset + at, &bytes[at..end]);
        } else if rubbish && offset + end <= content.len() {
            let junk: Vec<u8> = (at..end).map(|_| random.below(256) as u8).collect();
            write(content, offset + at, &junk);
        }
        at = end;
    }
    if random.below(4) == 0 && content.len() < offset + bytes.len() {
        // Its length came, its bytes did not.
        content.resize(offset + bytes.len(), 0);
    }
}
