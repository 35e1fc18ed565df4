//! Entries to write: strange ones, ordinary ones, and proptest's.

use proptest::prelude::*;

use super::TestRng;
use crate::format::entry::{Content, Entry, EntryKind, EntryPath, Identity, Xattr};
use crate::format::id::{ChunkId, RecipeId};
use crate::format::label::Labels;

pub(super) fn path(bytes: impl AsRef<[u8]>) -> EntryPath {
    EntryPath::new(bytes.as_ref()).unwrap()
}

pub(super) fn entry(at: impl AsRef<[u8]>, kind: EntryKind) -> Entry {
    Entry {
        path: path(at),
        kind,
        mode: 0o644,
        uid: 0,
        gid: 0,
        user: None,
        group: None,
        mtime_ns: 0,
        size: 0,
        content: Content::Empty,
        link_target: if kind == EntryKind::Symlink { b"target".to_vec() } else { Vec::new() },
        rdev: 0,
        identity: Identity::default(),
        xattrs: Vec::new(),
        labels: Labels::default(),
    }
}

pub(super) fn file(at: impl AsRef<[u8]>, size: u64) -> Entry {
    let content = if size == 0 { Content::Empty } else { Content::Chunk(ChunkId([7; 32])) };
    Entry { size, content, ..entry(at, EntryKind::File) }
}

/// One of everything, in order.
pub(super) fn strange_entries() -> Vec<Entry> {
    let xattr = |name: &[u8], value: &[u8]| Xattr { name: name.to_vec(), value: value.to_vec() };
    let mut all = vec![
        Entry { mode: 0o7777, mtime_ns: i64::MIN, user: Some("root".into()), ..entry("", EntryKind::Directory) },
        Entry { uid: u32::MAX, gid: u32::MAX, mtime_ns: i64::MAX, ..file("a", 0) },
        Entry { content: Content::Recipe(RecipeId([9; 32])), ..file("a\nb", u64::MAX) },
        entry("d", EntryKind::Directory),
        file("d/e", 1),
        file("d\x01", 1),
        file("d.c", 1),
        entry(b"\xff\xfe", EntryKind::Symlink),
        Entry { rdev: u64::MAX, ..entry(b"\xff\xff/c", EntryKind::CharDevice) },
        Entry { rdev: 1, ..entry(b"\xff\xff/d", EntryKind::BlockDevice) },
        Entry { user: Some("".into()), group: Some("root".into()), ..entry(b"\xff\xff/p", EntryKind::Fifo) },
        Entry {
            xattrs: vec![xattr(b"system.posix_acl_access", b"\x02\0\0\0"), xattr(b"user.\xff", b"")],
            identity: Identity { device: u64::MAX, inode: u64::MAX, links: u64::MAX, ctime_ns: i64::MIN },
            ..entry(b"\xff\xff/s", EntryKind::Socket)
        },
    ];
    all.sort_by(|a, b| a.path.cmp(&b.path));
    all
}

/// A source tree as it is found on disks: names with common beginnings, a time and an inode of its own for each file,
/// one owner.
pub(super) fn tree(files: u64) -> Vec<Entry> {
    let mut numbers = TestRng(1);
    let words =
        ["drivers", "net", "include", "asm", "kernel", "amd", "display", "core", "test", "media", "sound", "fs"];
    let word = |numbers: &mut TestRng| words[usize::try_from(numbers.below(12)).unwrap()];
    let mut all = std::collections::BTreeMap::new();
    let mut inode = 1 << 20;
    while (all.len() as u64) < files {
        let depth = 1 + numbers.below(4);
        let folder: Vec<_> = (0..depth).map(|_| word(&mut numbers)).collect();
        let folder = format!("linux-6.6/{}", folder.join("/"));
        for _ in 0..1 + numbers.below(24) {
            let name = format!("{folder}/{}_{}{}.c", word(&mut numbers), word(&mut numbers), numbers.below(1000));
            inode += 1 + numbers.below(3);
            let magnitude = 6 + numbers.below(12);
            let size = 1 + numbers.below(1 << magnitude);
            let id = numbers.id();
            let written = 1_700_000_000_000_000_000 + i64::try_from(inode).unwrap() * 40_000;
            let mut entry = file(&name, size);
            entry.content = if size > 14 << 10 { Content::Recipe(RecipeId(id)) } else { Content::Chunk(ChunkId(id)) };
            entry.user = Some("builder".into());
            entry.group = Some("users".into());
            // Written once each, to the nanosecond.
            entry.mtime_ns = written + i64::try_from(numbers.below(1 << 30)).unwrap();
            // A kernel's clock ticks every 4 ms.
            let ctime_ns = written / 4_000_000 * 4_000_000;
            entry.identity = Identity { device: 66_306, inode, links: 1, ctime_ns };
            all.insert(entry.path.clone(), entry);
        }
    }
    all.into_values().collect()
}

fn any_content() -> impl Strategy<Value = (u64, Content)> {
    prop_oneof![
        Just((0, Content::Empty)),
        (1..u64::MAX, any::<[u8; 32]>()).prop_map(|(n, id)| (n, Content::Chunk(ChunkId(id)))),
        (1..u64::MAX, any::<[u8; 32]>()).prop_map(|(n, id)| (n, Content::Recipe(RecipeId(id)))),
    ]
}

fn any_xattrs() -> impl Strategy<Value = Vec<Xattr>> {
    let name = prop::collection::vec(1u8.., 1..9);
    let value = prop::collection::vec(any::<u8>(), 0..40);
    prop::collection::btree_map(name, value, 0..3)
        .prop_map(|map| map.into_iter().map(|(name, value)| Xattr { name, value }).collect())
}

fn any_entry() -> impl Strategy<Value = Entry> {
    use EntryKind::{BlockDevice, CharDevice, Directory, Fifo, File, Socket, Symlink};
    let kind = prop::sample::select(vec![File, File, File, Directory, Symlink, Fifo, CharDevice, BlockDevice, Socket]);
    let name = || prop::option::of("[a-z]{0,3}".prop_map(|s| std::sync::Arc::<str>::from(s.as_str())));
    let numbers = (0..=0o7777u32, any::<u32>(), any::<u32>(), any::<i64>(), any::<u64>());
    let identity = (any::<u64>(), any::<u64>(), any::<u64>(), any::<i64>());
    let target = prop::collection::vec(1u8.., 1..20);
    (kind, numbers, identity, name(), name(), any_content(), target, any_xattrs()).prop_map(
        |(
            kind,
            (mode, uid, gid, mtime_ns, rdev),
            (device, inode, links, ctime_ns),
            user,
            group,
            (size, c),
            t,
            xattrs,
        )| {
            let (size, content) = if kind == File { (size, c) } else { (0, Content::Empty) };
            let link_target = if kind == Symlink { t } else { Vec::new() };
            let rdev = if matches!(kind, CharDevice | BlockDevice) { rdev } else { 0 };
            let identity = Identity { device, inode, links, ctime_ns };
            let path = EntryPath::default();
            Entry {
                path,
                kind,
                mode,
                uid,
                gid,
                user,
                group,
                mtime_ns,
                size,
                content,
                link_target,
                rdev,
                identity,
                xattrs,
                labels: Labels::default(),
            }
        },
    )
}

/// Up to `n` entries with paths of few letters, so that there are directories with many neighbours, in order.
pub(super) fn any_entries(n: usize) -> impl Strategy<Value = Vec<Entry>> {
    let part = prop::sample::select(vec![&b"a"[..], b"b", b"a\x01", b"a.", b"\xff", b"\n", b"ab", b"..."]);
    let path = prop::collection::vec(part, 0..5).prop_map(|parts| path(parts.join(&b'/')));
    prop::collection::btree_map(path, any_entry(), 0..n)
        .prop_map(|map| map.into_iter().map(|(path, entry)| Entry { path, ..entry }).collect())
}
