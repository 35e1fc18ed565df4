//! Words that a column repeats: each is stored once in a batch, and rows have its key.

use std::collections::HashMap;
use std::sync::Arc;

use arrow_array::{ArrayRef, StringArray};
use arrow_schema::DataType;

use super::{DICTIONARY_BYTES_MAX, DICTIONARY_MAX};

/// The type of a column of words, with keys of a type.
pub(super) fn words(key: DataType) -> DataType {
    DataType::Dictionary(Box::new(key), Box::new(DataType::Utf8))
}

/// Names met so far, each with the key that stands for it.
#[derive(Debug, Default)]
pub(super) struct StringDictionary {
    keys: HashMap<Arc<str>, i32>,
    list: Vec<Arc<str>>,
    bytes: usize,
}

impl StringDictionary {
    /// The key of a word, given to it now if it has none; `None` if there are too many.
    pub(super) fn key(&mut self, word: &str) -> Option<i32> {
        if let Some(key) = self.keys.get(word) {
            return Some(*key);
        }
        // An offset of four bytes each, and one more.
        let bytes = self.bytes.saturating_add(word.len());
        if self.list.len() >= DICTIONARY_MAX || bytes.saturating_add(4 * (self.list.len() + 2)) > DICTIONARY_BYTES_MAX {
            return None;
        }
        self.bytes = bytes;
        let key = i32::try_from(self.list.len()).ok()?;
        let word: Arc<str> = word.into();
        self.keys.insert(Arc::clone(&word), key);
        self.list.push(word);
        Some(key)
    }

    pub(super) fn values(&self) -> ArrayRef {
        Arc::new(StringArray::from_iter_values(&self.list))
    }
}
