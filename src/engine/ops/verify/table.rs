//! Which chunks and which recipes are there? Tables of what was found, sorted, made in parts where all would not fit.
//!
//! A part is what a share of the ids falls into; a caller goes through the parts one after the other. The first 16
//! bytes of an id stand for it: to find two chunks that share them takes 2^64 tries.

use crate::format::id::ChunkId;
use rayon::slice::ParallelSliceMut;

/// A table of chunks takes no more memory: 16 million chunks, 262 GB at 16 KiB each. (So little in tests that it takes
/// several.)
const CHUNK_TABLE_BYTES_MAX: u64 = if cfg!(test) { 500 } else { 384 << 20 };
/// A table of recipes takes no more: 3 million files of more than one chunk.
const RECIPE_TABLE_BYTES_MAX: u64 = if cfg!(test) { 100 } else { 128 << 20 };

/// The first 16 bytes of an id.
pub(super) type Key = (u64, u64);

/// The key of an id.
pub(super) fn key_of(id: &[u8; 32]) -> Key {
    let word = |at: usize| id.get(at..).and_then(<[u8]>::first_chunk).map_or(0, |bytes| u64::from_be_bytes(*bytes));
    (word(0), word(8))
}

/// One of several shares of all ids.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct IdPartition {
    pub(super) number: u64,
    pub(super) of: u64,
}

impl IdPartition {
    pub(super) fn has(self, key: Key) -> bool {
        self.of <= 1 || key.0 % self.of == self.number
    }

    pub(super) fn is_first(self) -> bool {
        self.number == 0
    }

    pub(super) fn is_last(self) -> bool {
        self.number + 1 >= self.of
    }

    fn all(of: u64) -> impl Iterator<Item = Self> {
        (0..of).map(move |number| Self { number, of })
    }

    /// The parts for this number of chunks.
    pub(super) fn of_chunks(chunks: u64) -> impl Iterator<Item = Self> {
        Self::all((chunks * size_of::<Chunk>() as u64).div_ceil(CHUNK_TABLE_BYTES_MAX).max(1))
    }

    /// The parts for this number of recipes.
    pub(super) fn of_recipes(recipes: u64) -> impl Iterator<Item = Self> {
        Self::all((recipes * size_of::<Recipe>() as u64).div_ceil(RECIPE_TABLE_BYTES_MAX).max(1))
    }
}

/// The damage that something lies in, by its place in the list; small, because there are many.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Cause(u32);

impl Cause {
    /// It is intact.
    pub(super) const NONE: Self = Self(0);
    /// It is nowhere.
    pub(super) const ABSENT: Self = Self(u32::MAX);

    pub(super) fn of(damage: Option<usize>) -> Self {
        damage.map_or(Self::NONE, |place| Self(u32::try_from(place + 1).unwrap_or(u32::MAX).min(u32::MAX - 1)))
    }

    pub(super) fn damage(self) -> Option<usize> {
        if self == Self::ABSENT { None } else { self.0.checked_sub(1).map(|place| place as usize) }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Chunk {
    high: u64,
    low: u64,
    length: u32,
    cause: Cause,
}

/// The chunks of a part: which can be had, and what the others lie in.
#[derive(Debug, Default)]
pub(super) struct ChunkTable(Vec<Chunk>);

impl ChunkTable {
    pub(super) fn push(&mut self, key: Key, length: u32, cause: Cause) {
        self.0.push(Chunk { high: key.0, low: key.1, length, cause });
    }

    /// Makes room.
    pub(super) fn reserve(&mut self, chunks: usize) {
        self.0.reserve(chunks);
    }

    /// Makes it ready to be asked. Of several copies of a chunk, an intact one counts.
    pub(super) fn sort(&mut self) {
        self.0.par_sort_unstable();
        self.0.dedup_by_key(|chunk| (chunk.high, chunk.low, chunk.length));
    }

    /// What a chunk of that length lies in.
    pub(super) fn cause_of(&self, id: &ChunkId, length: u64) -> Cause {
        let key = key_of(&id.0);
        let first = self.0.partition_point(|chunk| (chunk.high, chunk.low) < key);
        let same = self.0.get(first..).unwrap_or_default().iter().take_while(|chunk| (chunk.high, chunk.low) == key);
        same.filter(|chunk| u64::from(chunk.length) == length).map(|chunk| chunk.cause).min().unwrap_or(Cause::ABSENT)
    }
}

/// A recipe that can be read, and what of its content is lost.
#[derive(Debug, Clone, Copy)]
pub(super) struct Recipe {
    pub(super) key: Key,
    pub(super) size: u64,
    pub(super) lost_bytes: u64,
    /// The first damage met; [`Cause::NONE`] while nothing is lost.
    pub(super) cause: Cause,
}

/// The recipes of a part.
#[derive(Debug, Default)]
pub(super) struct RecipeTable(Vec<Recipe>);

impl RecipeTable {
    pub(super) fn extend(&mut self, recipes: Vec<Recipe>) {
        self.0.extend(recipes);
    }

    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    pub(super) fn sort(&mut self) {
        self.0.par_sort_unstable_by_key(|recipe| recipe.key);
        self.0.dedup_by_key(|recipe| recipe.key);
    }

    pub(super) fn find(&self, key: Key) -> Option<&Recipe> {
        self.0.get(self.place(key)?)
    }

    /// More of a recipe's content is lost.
    pub(super) fn lose(&mut self, key: Key, bytes: u64, cause: Cause) {
        let Some(recipe) = self.place(key).and_then(|place| self.0.get_mut(place)) else { return };
        recipe.lost_bytes = recipe.lost_bytes.saturating_add(bytes);
        if recipe.cause == Cause::NONE {
            recipe.cause = cause;
        }
    }

    fn place(&self, key: Key) -> Option<usize> {
        self.0.binary_search_by_key(&key, |recipe| recipe.key).ok()
    }
}
