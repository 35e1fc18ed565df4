//! Files of the index: runs that lie, with every checksum right, or damaged.
//!
//! The runs are encoded here, from their description and not by the code under test. What must hold: nothing panics; a chunk
//! is only ever found where a pack's directory has it; and once the files are doubted, all there is is found.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;

use seamstore::Error;
use seamstore::entry::{ChunkId, PackId, RecipeId, RecipesFileId};
use seamstore::internals::format::directory::{ChunkEntry, Directory};
use seamstore::internals::index::{Index, IndexOptions, RecipeRow, StoreKey};

use super::script::Script;

const STORE: StoreKey = [9; 16];
/// Filter blocks of a group.
const GROUP_BLOCKS: u64 = 255;

fn id(number: u64) -> [u8; 32] {
    let mut id = *blake3::hash(&number.to_le_bytes()).as_bytes();
    // Some ids begin alike.
    if number.is_multiple_of(4) {
        id[..8].copy_from_slice(&[7; 8]);
    }
    id
}

/// What a store has, and the index is asked for.
struct ForgedStore {
    packs: BTreeMap<PackId, Arc<Directory>>,
    files: BTreeMap<RecipesFileId, Vec<(RecipeId, RecipeRow)>>,
}

impl ForgedStore {
    fn build(script: &mut Script<'_>) -> Self {
        let mut forged = Self { packs: BTreeMap::new(), files: BTreeMap::new() };
        for number in 0..1 + script.below(4) as u64 {
            let (from, count) = (script.below(300) as u64, 1 + script.below(900) as u64);
            let chunks = (from..from + count).map(|n| ChunkEntry { id: ChunkId(id(n)), length: 1 }).collect();
            forged.packs.insert(PackId(id(1 << 40 | number)), Arc::new(Directory { frames: Vec::new(), chunks }));
            let row = |n: u64| (RecipeId(id((1 << 20) + from + n)), RecipeRow { batch: number as u32, row: n as u32 });
            forged.files.insert(RecipesFileId(id(1 << 41 | number)), (0..count / 2).map(row).collect());
        }
        forged
    }

    /// Brings the index up to date, as often as it says that one of its files is damaged. Says what was added.
    fn reconcile(&self, index: &Index, files_max: usize) -> u64 {
        let packs: Vec<PackId> = self.packs.keys().copied().collect();
        let files: Vec<RecipesFileId> = self.files.keys().copied().collect();
        for _ in 0..=files_max {
            let load = |file: &RecipesFileId| Ok(self.files[file].clone());
            match index.reconcile(&packs, &files, &|pack| Ok(Arc::clone(&self.packs[pack])), &load) {
                Ok(done) => {
                    assert!(done.unreadable.is_empty());
                    return done.added;
                }
                Err(Error::Index { .. }) => {}
                Err(other) => panic!("{other}"),
            }
        }
        panic!("more files are damaged than there are");
    }

    fn ask<T>(&self, index: &Index, files_max: usize, question: impl Fn() -> Result<T, Error>) -> T {
        for _ in 0..=files_max {
            match question() {
                Ok(answer) => return answer,
                Err(Error::Index { .. }) => drop(self.reconcile(index, files_max)),
                Err(other) => panic!("{other}"),
            }
        }
        panic!("more files are damaged than there are");
    }

    /// Fails if an answer is wrong; says whether all there is was found.
    fn check(&self, index: &Index, files_max: usize) -> bool {
        let (mut chunks, mut recipes) = (BTreeSet::new(), BTreeMap::new());
        for directory in self.packs.values() {
            chunks.extend(directory.chunks.iter().map(|chunk| chunk.id));
        }
        for (file, rows) in &self.files {
            rows.iter().for_each(|(id, row)| recipes.entry(*id).or_insert_with(Vec::new).push((*file, *row)));
        }
        let load = |pack: &PackId| Ok(Arc::clone(&self.packs[pack]));
        let mut all = true;
        for asked in (0..1300).map(|n| ChunkId(id(n))) {
            match self.ask(index, files_max, || index.find(&asked, &load)) {
                Some(found) => {
                    assert_eq!(self.packs[&found.pack].chunks[found.chunk as usize].id, asked);
                    assert_eq!(found.directory.chunks[found.chunk as usize].id, asked);
                }
                None => all &= !chunks.contains(&asked),
            }
        }
        for (asked, places) in &recipes {
            // Candidates, of which some may be wrong: who reads a row compares its id.
            let found = self.ask(index, files_max, || index.find_recipe(asked));
            assert!(found.iter().all(|(file, _)| self.files.contains_key(file)));
            all &= places.iter().any(|place| found.contains(place));
        }
        all
    }
}

/// A pack or recipes file, and the prefix and value of each of its entries.
type Source = ([u8; 32], Vec<(u64, Vec<u8>)>);

/// A run of these sources, each with its (prefix, value) pairs, in which the script may change everything. Says whether
/// it did.
fn forge(script: &mut Script<'_>, kind: u8, sources: &[Source]) -> (Vec<u8>, bool) {
    let entry_bytes = 12 + 8 * usize::from(kind);
    let per_page = 4080 / entry_bytes;
    let blocks = [1u64, 3, 256, 600][script.below(4)];
    let tag = script.word();
    let mut honest = true;
    let mut entries: Vec<(u64, u32, Vec<u8>)> = Vec::new();
    for (number, (_, pairs)) in sources.iter().enumerate() {
        entries.extend(pairs.iter().map(|(prefix, value)| (*prefix, number as u32, value.clone())));
    }
    entries.sort();
    entries.dedup();
    if script.lies() {
        honest = false;
        let lies = 1 + script.below(8);
        for _ in 0..lies {
            if entries.is_empty() {
                break;
            }
            let (at, other) = (script.below(entries.len().min(65_536)), script.below(entries.len().min(65_536)));
            match script.byte() % 5 {
                0 => entries[at].0 = script.number(entries[at].0),
                1 => entries[at].1 = script.number32(u64::from(entries[at].1)),
                2 => entries.swap(at, other),
                3 => entries[at] = entries[other].clone(),
                _ => drop(entries.remove(at)),
            }
        }
    }
    let mut groups: Vec<Vec<&(u64, u32, Vec<u8>)>> = vec![Vec::new(); blocks.div_ceil(GROUP_BLOCKS) as usize];
    for entry in &entries {
        let block = ((u128::from(entry.0) * u128::from(blocks)) >> 64) as u64;
        groups[(block / GROUP_BLOCKS) as usize].push(entry);
    }
    let seal = |page: Vec<u8>, file: &mut Vec<u8>| {
        let offset = file.len() as u64;
        let start = file.len();
        file.extend(page);
        file.extend(tag.wrapping_add(offset).to_le_bytes());
        let sum = blake3::hash(&file[start..]);
        file.extend(&sum.as_bytes()[..8]);
    };
    let (mut file, mut sizes) = (Vec::new(), Vec::new());
    for (number, group) in groups.iter().enumerate() {
        let mut fences: Vec<u64> = Vec::new();
        for page in group.chunks(per_page) {
            fences.push(page[0].0);
            let bytes = page.iter().flat_map(|(prefix, source, value)| {
                [&prefix.to_le_bytes()[..], &source.to_le_bytes()[..], value].concat()
            });
            seal(bytes.collect(), &mut file);
        }
        if script.lies() && !fences.is_empty() {
            honest = false;
            let at = script.below(fences.len());
            fences[at] = script.number(fences[at]);
        }
        // A filter that lets everything pass, or nothing.
        let fill = if script.lies() { 0 } else { 0xff };
        honest &= fill == 0xff;
        let mut page = vec![fill; 64 * (blocks - number as u64 * GROUP_BLOCKS).min(GROUP_BLOCKS) as usize];
        page.extend(fences.into_iter().flat_map(u64::to_le_bytes));
        seal(page, &mut file);
        let size = script.number32(group.len() as u64);
        honest &= size as usize == group.len();
        sizes.push(size);
    }
    let mut tables: Vec<u8> = sizes.iter().flat_map(|size| size.to_le_bytes()).collect();
    for (id, pairs) in sources {
        tables.extend(id);
        let count = script.number32(pairs.len() as u64);
        honest &= count as usize == pairs.len();
        tables.extend(count.to_le_bytes());
    }
    let mut footer = b"SEAMRUN1".to_vec();
    footer.extend([kind, 8, 0, 0]);
    let numbers =
        [script.number(sources.len() as u64) & 0xffff_ffff, script.number(entries.len() as u64), script.number(blocks)];
    honest &= numbers == [sources.len() as u64, entries.len() as u64, blocks];
    footer.extend((numbers[0] as u32).to_le_bytes());
    footer.extend(STORE);
    [tag, numbers[1], numbers[2], 0].iter().for_each(|number| footer.extend(number.to_le_bytes()));
    footer.extend(&blake3::hash(&tables).as_bytes()[..16]);
    let sum = blake3::hash(&footer);
    footer.extend(&sum.as_bytes()[..16]);
    file.extend(tables);
    file.extend(footer);
    let before = file.clone();
    script.damage(&mut file);
    (file.clone(), honest && file == before)
}

/// The target.
pub fn index(input: &[u8]) {
    let mut script = Script::new(input);
    let folder = super::folder();
    let path = folder.path().join("index");
    std::fs::create_dir(&path).unwrap();
    let forged = ForgedStore::build(&mut script);
    let mut honest = true;
    let prefix = |id: &[u8; 32]| u64::from_be_bytes(id[..8].try_into().unwrap());
    let mut covered = BTreeSet::new();
    let runs = 1 + script.below(4);
    for number in 0..runs {
        let (mut packs, mut files): (Vec<Source>, Vec<Source>) = Default::default();
        for (pack, directory) in &forged.packs {
            if number == 0 || script.byte() & 1 == 1 {
                packs.push((pack.0, directory.chunks.iter().map(|c| (prefix(&c.id.0), Vec::new())).collect()));
                covered.insert(pack.0);
            }
        }
        for (file, rows) in &forged.files {
            if number == 0 || script.byte() & 1 == 1 {
                let value = |row: &RecipeRow| [row.batch.to_le_bytes(), row.row.to_le_bytes()].concat();
                files.push((file.0, rows.iter().map(|(id, row)| (prefix(&id.0), value(row))).collect()));
                covered.insert(file.0);
            }
        }
        if script.lies() {
            // A pack that is not in the store.
            packs.push((id(script.word()), vec![(prefix(&id(5)), Vec::new())]));
        }
        for (kind, sources, end) in [(0, &packs, "chunks"), (1, &files, "recipes")] {
            let (bytes, is_honest) = forge(&mut script, kind, sources);
            honest &= is_honest;
            std::fs::write(path.join(format!("{number:016x}.{end}")), bytes).unwrap();
        }
    }
    let files_max = 2 * runs + 2;
    let keep = script.byte() & 1 == 0;
    let options = |path: &Path| IndexOptions {
        folder: Some(path.to_owned()),
        store: STORE,
        keep,
        scratch: folder.path().to_owned(),
        // So that directories do not answer in place of the runs.
        directory_cache_bytes: 0,
        ..IndexOptions::default()
    };
    let opened = Index::open(&options(&path));
    let added = forged.reconcile(&opened, files_max);
    let all = forged.check(&opened, files_max);
    if honest {
        assert!(all && added as usize == forged.packs.len() + forged.files.len() - covered.len());
    }
    if script.byte() & 1 == 0 {
        // Merges what is there with something new.
        let new =
            Arc::new(Directory { frames: Vec::new(), chunks: vec![ChunkEntry { id: ChunkId(id(1)), length: 1 }] });
        let _ = opened.add_pack(PackId(id(1 << 50)), new);
        opened.close();
    } else {
        drop(opened);
    }
    let again = Index::open(&options(&path));
    forged.reconcile(&again, files_max);
    let all = forged.check(&again, files_max);
    assert!(all || !honest);
    again.distrust();
    forged.reconcile(&again, files_max);
    assert!(forged.check(&again, files_max), "the store itself has it");
    assert!(!again.distrust());
}
