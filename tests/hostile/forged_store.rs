//! A store as an attacker makes it: every checksum fits, and little else need be true.

use std::collections::BTreeMap;
use std::path::Path;

use seamstore::entry::{ChunkId, PackId, RecipesFileId, SnapshotId};
use seamstore::internals::format::config::StoreConfig;
use seamstore::internals::format::name::ObjectName;
use seamstore::internals::format::recipe::{Piece, recipe_id};

use super::arrow::{RecipeRow, Row, Words, recipes_file, snapshot_file};
use super::catalog::lie;
use super::frame::{encoder, forged};
use super::pack::forge;
use super::script::Script;

/// Where the attacker would like something to be made or changed.
pub(super) const OUTSIDE: &str = "outside";

/// What was put into the store, and what it would be if everything in it were true.
pub(super) struct ForgedStore {
    /// Objects by their paths.
    pub(super) objects: BTreeMap<String, Vec<u8>>,
    /// The pieces of every recipe id that is the hash of some.
    pub(super) recipes: BTreeMap<[u8; 32], Vec<Piece>>,
    pub(super) rows: Vec<Row>,
    /// Nothing in it lies.
    pub(super) honest: bool,
    pub(super) snapshot: SnapshotId,
}

/// Some chunks, a pack or two of them, recipes, and a snapshot.
pub(super) fn build(script: &mut Script<'_>, outside: &Path) -> ForgedStore {
    let mut forged = ForgedStore {
        objects: BTreeMap::new(),
        recipes: BTreeMap::new(),
        rows: Vec::new(),
        honest: true,
        snapshot: SnapshotId([0; 32]),
    };
    let config = StoreConfig::new("0f".repeat(16), "gear-4096".into(), 16 << 10, "zstd".into(), 1);
    forged.objects.insert("store.json".to_owned(), config.to_bytes());

    let mut chunks: Vec<Vec<u8>> = (0..4 + script.below(4))
        .map(|n| {
            let length = 1 + n * 7 + script.below(4000);
            script.content(length)
        })
        .collect();
    // The id of no bytes, which no chunk has.
    chunks.push(Vec::new());
    let (packed, empty) = chunks.split_at(chunks.len() - 1);
    for pack in 0..=script.below(2) {
        forged.add_pack(script, packed, pack, empty);
    }
    let recipes = forged.recipe_rows(script, &chunks);
    let mut bytes = recipes_file(std::slice::from_ref(&recipes), script.byte() & 1 == 1);
    forged.damage(script, &mut bytes);
    forged.objects.insert(ObjectName::Recipes(RecipesFileId::of(&bytes)).path(), bytes);

    forged.rows = forged.rows(script, &chunks, &recipes, outside);
    let mut batches: Vec<Vec<Row>> = forged.rows.chunks(script.pick(&[100, 1, 3])).map(<[Row]>::to_vec).collect();
    if script.lies() {
        forged.honest = false;
        batches.reverse();
    }
    let mut bytes = snapshot_file(&batches, &Words::default(), script.byte() & 1 == 1);
    forged.damage(script, &mut bytes);
    forged.snapshot = SnapshotId::of(&bytes);
    forged.objects.insert(ObjectName::Snapshot(forged.snapshot).path(), bytes);
    forged
}

impl ForgedStore {
    fn damage(&mut self, script: &mut Script<'_>, bytes: &mut [u8]) {
        let before = bytes.to_vec();
        script.damage(bytes);
        self.honest &= before == bytes;
    }

    /// All chunks in frames of up to three, the second pack in another order.
    fn add_pack(&mut self, script: &mut Script<'_>, chunks: &[Vec<u8>], pack: usize, empty: &[Vec<u8>]) {
        let mut encoder = encoder(script);
        let mut order: Vec<&Vec<u8>> = chunks.iter().collect();
        if pack == 1 {
            order.reverse();
        }
        let mut frames = Vec::new();
        for group in order.chunks(1 + script.below(3)) {
            let mut list: Vec<(ChunkId, u32)> =
                group.iter().map(|chunk| (ChunkId::of(chunk), chunk.len() as u32)).collect();
            let mut frame = Vec::new();
            if script.lies() {
                self.honest = false;
                frame = forged(script);
                script.damage(&mut frame);
            } else {
                let lengths: Vec<u32> = group.iter().map(|chunk| chunk.len() as u32).collect();
                let raw: Vec<u8> = group.iter().flat_map(|chunk| chunk.iter().copied()).collect();
                encoder.encode(&raw, &lengths, &mut frame).unwrap();
            }
            if script.lies() {
                // The directory says of a chunk what is not so.
                self.honest = false;
                let at = script.below(list.len());
                match script.byte() % 4 {
                    0 => list[at].1 = script.number32(u64::from(list[at].1)),
                    1 => list[at].0 = ChunkId::of(&chunks[script.below(chunks.len())]),
                    2 => list[at].0 = ChunkId::of(&empty[0]),
                    _ => {
                        let twice = list[at];
                        list.push(twice);
                    }
                }
            }
            frames.push((frame, list));
        }
        let forged = forge(script, &frames);
        self.honest &= forged.honest;
        self.objects.insert(ObjectName::Pack(PackId(forged.id.0)).path(), forged.bytes);
    }

    fn recipe_rows(&mut self, script: &mut Script<'_>, chunks: &[Vec<u8>]) -> Vec<RecipeRow> {
        let mut rows = Vec::new();
        for n in 0..2 + script.below(4) {
            let mut end = 0_u64;
            let mut pieces = Vec::new();
            let mut push = |id: ChunkId, length: u64, pieces: &mut Vec<Piece>| {
                end = end.saturating_add(length);
                pieces.push(Piece { id, end });
            };
            // Terabytes of one chunk: of as many pieces as time allows here; the sizes are what matters.
            let repeats = if script.lies() { 1 + script.below(700) } else { 1 };
            for k in 0..1 + n % 3 + script.below(3) {
                let place = (n + k + script.below(chunks.len())) % chunks.len();
                let chunk = &chunks[place];
                if chunk.is_empty() {
                    let hole = script.pick(&[1 << 20, 1, 1 << 40, 1 << 50, 1 << 62, 65_536]);
                    push(ChunkId::HOLE, hole, &mut pieces);
                    continue;
                }
                let length = script.number(chunk.len() as u64);
                self.honest &= length == chunk.len() as u64;
                let id = if script.lies() { ChunkId::of(b"") } else { ChunkId::of(chunk) };
                self.honest &= id == ChunkId::of(chunk);
                (0..repeats).for_each(|_| push(id, length.max(1), &mut pieces));
            }
            let mut row = RecipeRow { id: recipe_id(&pieces).0, size: end, pieces };
            self.recipes.insert(row.id, row.pieces.clone());
            if script.lies() {
                self.honest = false;
                row.size = script.number(row.size);
                row.id[0] ^= script.byte() & 1;
            }
            rows.push(row);
        }
        rows
    }

    /// Rows of names that get in each other's way.
    fn rows(&mut self, script: &mut Script<'_>, chunks: &[Vec<u8>], recipes: &[RecipeRow], outside: &Path) -> Vec<Row> {
        let outside = outside.as_os_str().as_encoded_bytes();
        let mut names: Vec<Vec<u8>> =
            [&b"a"[..], b"a/b", b"a/b/c", b"a/d", b"b", b"c", b"l", b"l/precious", b"m", b"n"]
                .map(<[u8]>::to_vec)
                .to_vec();
        if script.lies() {
            self.honest = false;
            let at = script.below(names.len());
            names[at] = match script.byte() % 4 {
                0 => [outside, b"/new"].concat(),
                1 => b"../outside/new".to_vec(),
                2 => names[(at + 1) % names.len()].clone(),
                _ => [&b"d/".repeat(script.pick(&[3, 300, 9000, 40_000]))[..], b"d"].concat(),
            };
        }
        let mut rows: Vec<Row> = Vec::new();
        for name in names {
            if script.byte() % 5 == 4 {
                continue;
            }
            let parent = rows.iter().rev().find(|row| name.starts_with(&[&row.path[..], b"/"].concat()));
            // Honest is a directory above, and a file below.
            let has_children = [&b"a"[..], b"a/b", b"l"].contains(&&name[..]);
            let mut row = Row { path: name, mode: 0o755, owner: Some(0), ..Row::default() };
            self.honest &= parent.is_none_or(|parent| parent.kind == 1);
            match if has_children && !script.lies() { 1 } else { script.byte() % 8 } {
                1 => row.kind = 1,
                2 => {
                    row.kind = 2;
                    row.target = Some(script.pick(&[b"../outside", outside, b"a", b".", b"/", b"l"]).to_vec());
                }
                3 => row.kind = 3,
                0 | 4 => {
                    let chunk = &chunks[script.below(chunks.len())];
                    row.size = chunk.len() as u64;
                    row.chunk = (row.size > 0).then(|| ChunkId::of(chunk).0);
                }
                _ => {
                    let recipe = &recipes[script.below(recipes.len())];
                    (row.size, row.recipe) = (recipe.size, Some(recipe.id));
                }
            }
            if script.lies() {
                // Another name of what was already there, whatever that was.
                row.identity = (1 + u64::from(script.byte() & 1), 2);
            }
            if script.lies() {
                self.honest = false;
                lie(script, &mut row);
            }
            rows.push(row);
        }
        rows
    }
}
