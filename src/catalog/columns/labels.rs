//! Labels as columns: for each key of a snapshot a column `label:KEY` behind all others, in the order of keys.
//!
//! Each is a dictionary of words, null where an entry has no such label. A snapshot without labels has no such column,
//! and is byte for byte what it was before there were labels.

use std::sync::Arc;

use arrow_array::builder::Int32Builder;
use arrow_array::{Array, ArrayRef, Int32Array, RecordBatch, StringArray};
use arrow_schema::Field;

use super::column;
use super::dictionary::{StringDictionary, words};
use crate::format::label::{LABEL_KEYS_MAX, Label, Labels, check_key};

/// What the name of a label's column begins with.
const PREFIX: &str = "label:";

pub(super) fn field(key: &str) -> Field {
    Field::new(format!("{PREFIX}{key}"), words(arrow_schema::DataType::Int32), true)
}

/// The keys of the label columns that a file's columns end with. That they are of the right type, and all others what they
/// must be, is for the caller to see.
pub(super) fn keys_of(fields: &arrow_schema::Fields) -> Result<Vec<Arc<str>>, String> {
    let key_of = |field: &Arc<Field>| {
        let key = field.name().strip_prefix(PREFIX).filter(|key| check_key(key).is_ok());
        key.map(Arc::from).ok_or_else(|| format!("column {:?} is not a column of a snapshot", field.name()))
    };
    let keys: Vec<Arc<str>> =
        fields.iter().skip_while(|field| !field.name().starts_with(PREFIX)).map(key_of).collect::<Result<_, _>>()?;
    check_keys(&keys)?;
    Ok(keys)
}

/// Whether a snapshot can have labels of these keys.
pub(in crate::catalog) fn check_keys(keys: &[Arc<str>]) -> Result<(), String> {
    if keys.len() > LABEL_KEYS_MAX {
        return Err(format!("labels of {} keys, a snapshot has {LABEL_KEYS_MAX} at most", keys.len()));
    }
    keys.iter().try_for_each(|key| check_key(key)).map_err(|error| error.to_string())?;
    if !keys.is_sorted_by(|a, b| a < b) {
        return Err("the keys of labels do not ascend".to_owned());
    }
    Ok(())
}

/// Labels of the rows gathered for the next batch.
#[derive(Debug, Default)]
pub(super) struct LabelRows {
    keys: Vec<Arc<str>>,
    words: Vec<StringDictionary>,
    columns: Vec<Int32Builder>,
}

impl LabelRows {
    pub(super) fn new(keys: Vec<Arc<str>>) -> Self {
        let words = keys.iter().map(|_| StringDictionary::default()).collect();
        let columns = keys.iter().map(|_| Int32Builder::new()).collect();
        Self { keys, words, columns }
    }

    pub(super) fn keys(&self) -> &[Arc<str>] {
        &self.keys
    }

    /// The dictionary keys of an entry's labels, for [`Self::push`].
    ///
    /// # Errors
    /// Why not all of them can be kept.
    pub(super) fn words_of(&mut self, labels: &Labels) -> Result<Vec<Option<i32>>, String> {
        let has_column = |label: &Label| self.keys.iter().any(|key| **key == *label.key());
        if let Some(label) = labels.iter().find(|label| !has_column(label)) {
            return Err(format!("the snapshot was begun without labels of {:?}", label.key()));
        }
        let word = |(key, words): (&Arc<str>, &mut StringDictionary)| match labels.get(key) {
            None => Ok(None),
            Some(value) => match words.key(value) {
                Some(word) => Ok(Some(word)),
                None => Err(format!("the snapshot has too many different values of label {key:?}")),
            },
        };
        self.keys.iter().zip(&mut self.words).map(word).collect()
    }

    pub(super) fn push(&mut self, words: &[Option<i32>]) {
        for (column, word) in self.columns.iter_mut().zip(words) {
            column.append_option(*word);
        }
    }

    /// The gathered rows; none are left.
    pub(super) fn take(&mut self) -> impl Iterator<Item = ArrayRef> + '_ {
        self.columns.iter_mut().map(|column| Arc::new(column.finish()) as ArrayRef)
    }

    pub(super) fn dictionaries(&self) -> impl Iterator<Item = ArrayRef> + '_ {
        self.words.iter().map(StringDictionary::values)
    }
}

/// What the dictionary keys of each label's column stand for.
#[derive(Debug, Default)]
pub(super) struct LabelNames(Vec<Vec<Label>>);

impl LabelNames {
    pub(super) fn new(keys: &[Arc<str>], dictionaries: &[StringArray]) -> Result<Self, String> {
        if keys.len() != dictionaries.len() {
            return Err(format!("{} dictionaries for labels of {} keys", dictionaries.len(), keys.len()));
        }
        let labels = |(key, words): (&Arc<str>, &StringArray)| {
            let label = |word: Option<&str>| {
                Label::new(Arc::clone(key), word.unwrap_or_default()).map_err(|error| error.to_string())
            };
            words.iter().map(label).collect::<Result<Vec<_>, _>>()
        };
        keys.iter().zip(dictionaries).map(labels).collect::<Result<_, _>>().map(Self)
    }
}

/// The label columns of a decoded batch.
#[derive(Debug)]
pub(super) struct LabelBatch(Vec<Int32Array>);

impl LabelBatch {
    /// The last `count` columns.
    pub(super) fn new(batch: &RecordBatch, count: usize) -> Result<Self, String> {
        let first = batch.num_columns().saturating_sub(count);
        (first..batch.num_columns()).map(|place| column(batch, place)).collect::<Result<_, _>>().map(Self)
    }

    pub(super) fn labels(&self, row: usize, names: &LabelNames) -> Result<Labels, String> {
        let mut found = Vec::new();
        for (column, labels) in self.0.iter().zip(&names.0) {
            if row >= column.len() || column.is_null(row) {
                continue;
            }
            let key = column.value(row);
            let label = usize::try_from(key).ok().and_then(|key| labels.get(key));
            found.push(label.cloned().ok_or_else(|| format!("label {key} has no value"))?);
        }
        Ok(Labels::of_ascending(found))
    }
}
