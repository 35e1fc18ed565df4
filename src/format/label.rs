//! What does a user say of an entry? Labels: `key=value` words, kept in a snapshot beside the entry.
//!
//! Invariant: a [`Label`] that exists has a key and a value within the bounds below, and [`Labels`] have each key once, in
//! ascending order; so what a snapshot can hold is decided here, and once.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use crate::spelling::quoted;

/// A snapshot has at most this many keys: each is a column.
pub const LABEL_KEYS_MAX: usize = 64;
/// A key has at most this many bytes.
pub const LABEL_KEY_BYTES_MAX: usize = 64;
/// A value has at most this many bytes.
pub const LABEL_VALUE_BYTES_MAX: usize = 1024;

/// One `key=value`.
///
/// ```
/// use seamstore::entry::{Label, LabelFilter, Labels};
/// let labels: Labels = [Label::new("split", "train")?, "source=camera".parse()?].into_iter().collect();
/// assert_eq!(labels.get("split"), Some("train"));
/// let filter: LabelFilter = ["split=train".parse()?].into_iter().collect();
/// assert!(filter.takes(&labels));
/// # Ok::<(), seamstore::entry::NotALabel>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Label {
    key: Arc<str>,
    value: Arc<str>,
}

/// Why something is no label.
///
/// ```
/// use seamstore::entry::{Label, NotALabel};
/// assert!(matches!(Label::new("", "value"), Err(NotALabel::NoKey(_))));
/// ```
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum NotALabel {
    /// There is no `=`.
    #[error("a label is written key=value, {} has no `=`", quoted(.0))]
    NoValue(String),
    /// The key has no characters.
    #[error("a label is written key=value, {} has no key", quoted(.0))]
    NoKey(String),
    /// The key is too long.
    #[error("a label's key has at most {LABEL_KEY_BYTES_MAX} bytes, {} has {}", quoted(.key), key.len())]
    LongKey {
        /// The key.
        key: String,
    },
    /// The key has a character that no key has.
    #[error("a label's key has neither spaces nor control characters nor `=`, {} has {}", quoted(.key), quoted(&.found.to_string()))]
    KeyCharacter {
        /// The key.
        key: String,
        /// The character.
        found: char,
    },
    /// The value is too long.
    #[error("a label's value has at most {LABEL_VALUE_BYTES_MAX} bytes, that of {} has {bytes}", quoted(.key))]
    LongValue {
        /// The key.
        key: String,
        /// The value's bytes.
        bytes: usize,
    },
    /// The value has a control character.
    #[error("a label's value has no control characters, that of {} has {}", quoted(.key), quoted(&.found.to_string()))]
    ValueCharacter {
        /// The key.
        key: String,
        /// The character.
        found: char,
    },
}

impl Label {
    /// A label.
    ///
    /// A key has 1 to 64 bytes, without white space, control characters and `=`; a value has 0 to
    /// 1024 bytes, without control characters. Both are UTF-8.
    ///
    /// # Errors
    /// [`NotALabel`] says which of these is broken.
    pub fn new(key: impl Into<Arc<str>>, value: impl Into<Arc<str>>) -> Result<Self, NotALabel> {
        let (key, value) = (key.into(), value.into());
        check_key(&key)?;
        check_value(&key, &value)?;
        Ok(Self { key, value })
    }

    /// The key.
    #[must_use]
    pub fn key(&self) -> &str {
        &self.key
    }

    /// The value.
    #[must_use]
    pub fn value(&self) -> &str {
        &self.value
    }
}

/// `key=value`; the value may have further `=`.
impl FromStr for Label {
    type Err = NotALabel;

    fn from_str(text: &str) -> Result<Self, NotALabel> {
        match text.split_once('=') {
            None => Err(NotALabel::NoValue(text.to_owned())),
            Some(("", _)) => Err(NotALabel::NoKey(text.to_owned())),
            Some((key, value)) => Self::new(key, value),
        }
    }
}

impl fmt::Display for Label {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}={}", self.key, self.value)
    }
}

/// Whether this can be a label's key.
///
/// # Errors
/// [`NotALabel`] says why not.
pub fn check_key(key: &str) -> Result<(), NotALabel> {
    let owned = || key.to_owned();
    if key.is_empty() {
        return Err(NotALabel::NoKey(owned()));
    }
    if key.len() > LABEL_KEY_BYTES_MAX {
        return Err(NotALabel::LongKey { key: owned() });
    }
    match key.chars().find(|c| c.is_whitespace() || c.is_control() || *c == '=') {
        Some(found) => Err(NotALabel::KeyCharacter { key: owned(), found }),
        None => Ok(()),
    }
}

/// Whether this can be the value of a key.
///
/// # Errors
/// [`NotALabel`] says why not.
pub fn check_value(key: &str, value: &str) -> Result<(), NotALabel> {
    if value.len() > LABEL_VALUE_BYTES_MAX {
        return Err(NotALabel::LongValue { key: key.to_owned(), bytes: value.len() });
    }
    match value.chars().find(|c| c.is_control()) {
        Some(found) => Err(NotALabel::ValueCharacter { key: key.to_owned(), found }),
        None => Ok(()),
    }
}

/// The labels of one entry, ascending by key. Clones share them.
///
/// ```
/// use seamstore::entry::{Label, LabelFilter, Labels};
/// let labels: Labels = [Label::new("split", "train")?, "source=camera".parse()?].into_iter().collect();
/// assert_eq!(labels.get("split"), Some("train"));
/// let filter: LabelFilter = ["split=train".parse()?].into_iter().collect();
/// assert!(filter.takes(&labels));
/// # Ok::<(), seamstore::entry::NotALabel>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct Labels(Option<Arc<[Label]>>);

impl Labels {
    /// The value of a key.
    #[must_use]
    pub fn get(&self, key: &str) -> Option<&str> {
        let labels = self.as_slice();
        let place = labels.binary_search_by(|label| (*label.key).cmp(key)).ok()?;
        labels.get(place).map(Label::value)
    }

    /// Labels whose keys ascend.
    pub(crate) fn of_ascending(labels: Vec<Label>) -> Self {
        debug_assert!(labels.is_sorted_by(|a, b| a.key < b.key));
        Self((!labels.is_empty()).then(|| labels.into()))
    }

    /// All of them, ascending by key.
    pub fn iter(&self) -> std::slice::Iter<'_, Label> {
        self.as_slice().iter()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.as_slice().is_empty()
    }

    fn as_slice(&self) -> &[Label] {
        self.0.as_deref().unwrap_or_default()
    }
}

impl<'a> IntoIterator for &'a Labels {
    type Item = &'a Label;
    type IntoIter = std::slice::Iter<'a, Label>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

/// Of two labels with one key, the later counts.
impl FromIterator<Label> for Labels {
    fn from_iter<I: IntoIterator<Item = Label>>(labels: I) -> Self {
        let by_key: BTreeMap<Arc<str>, Label> =
            labels.into_iter().map(|label| (Arc::clone(&label.key), label)).collect();
        Self((!by_key.is_empty()).then(|| by_key.into_values().collect()))
    }
}

/// Which entries are wanted, by label: for every key named here, one of the values named for it.
///
/// ```
/// use seamstore::entry::{Label, LabelFilter, Labels};
/// let labels: Labels = [Label::new("split", "train")?, "source=camera".parse()?].into_iter().collect();
/// assert_eq!(labels.get("split"), Some("train"));
/// let filter: LabelFilter = ["split=train".parse()?].into_iter().collect();
/// assert!(filter.takes(&labels));
/// # Ok::<(), seamstore::entry::NotALabel>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct LabelFilter(BTreeMap<Arc<str>, Vec<Arc<str>>>);

impl LabelFilter {
    /// Whether an entry with these labels is wanted. Where nothing is named, every entry is.
    #[must_use]
    pub fn takes(&self, labels: &Labels) -> bool {
        self.0
            .iter()
            .all(|(key, values)| labels.get(key).is_some_and(|found| values.iter().any(|value| **value == *found)))
    }

    /// Whether every entry is wanted.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl FromIterator<Label> for LabelFilter {
    fn from_iter<I: IntoIterator<Item = Label>>(labels: I) -> Self {
        let mut filter = Self::default();
        for Label { key, value } in labels {
            filter.0.entry(key).or_default().push(value);
        }
        filter
    }
}

/// As they are given: `type=wheel, type=crate`.
impl fmt::Display for LabelFilter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut separator = "";
        for (key, values) in &self.0 {
            for value in values {
                write!(f, "{separator}{key}={value}")?;
                separator = ", ";
            }
        }
        Ok(())
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing)]
mod tests {
    use super::*;

    fn labels(list: &[&str]) -> Labels {
        list.iter().map(|text| text.parse::<Label>().unwrap()).collect()
    }

    #[test]
    fn what_is_no_label_is_refused_with_its_reason() {
        let long_key = "k".repeat(LABEL_KEY_BYTES_MAX + 1);
        let long_value = "v".repeat(LABEL_VALUE_BYTES_MAX + 1);
        for (text, why) in [
            ("wheel".to_owned(), "has no `=`"),
            (String::new(), "has no `=`"),
            ("=wheel".to_owned(), "has no key"),
            ("my type=wheel".to_owned(), r#"has " ""#),
            ("ty\u{7f}pe=wheel".to_owned(), r#"has "\x7f""#),
            ("type=a\nb".to_owned(), r#"has "\n""#),
            ("type=a\u{85}b".to_owned(), "control characters"),
            (format!("{long_key}=v"), "at most 64 bytes"),
            (format!("key={long_value}"), "at most 1024 bytes"),
        ] {
            let error = text.parse::<Label>().unwrap_err().to_string();
            assert!(error.contains(why), "{text:?}: {error}");
        }
        let longest = format!("{}={}", "k".repeat(LABEL_KEY_BYTES_MAX), "v".repeat(LABEL_VALUE_BYTES_MAX));
        for text in ["type=wheel", "a=", "a==b", "größe=sehr groß", &longest] {
            assert_eq!(text.parse::<Label>().unwrap().to_string(), text);
        }
    }

    #[test]
    fn the_last_value_of_a_key_counts_and_keys_ascend() {
        let found = labels(&["b=1", "a=2", "b=3"]);
        assert_eq!(found.iter().map(Label::to_string).collect::<Vec<_>>(), ["a=2", "b=3"]);
        assert_eq!((found.get("a"), found.get("b"), found.get("c")), (Some("2"), Some("3"), None));
        assert_eq!(labels(&[]), Labels::default());
    }

    #[test]
    fn a_filter_takes_one_value_of_each_key() {
        let filter = |list: &[&str]| list.iter().map(|text| text.parse::<Label>().unwrap()).collect::<LabelFilter>();
        let wheel = labels(&["type=wheel", "repository=pypi"]);
        assert!(filter(&[]).takes(&wheel) && filter(&[]).takes(&labels(&[])));
        assert!(filter(&["type=wheel"]).takes(&wheel));
        assert!(filter(&["type=crate", "type=wheel"]).takes(&wheel));
        assert!(filter(&["type=wheel", "repository=pypi"]).takes(&wheel));
        assert!(!filter(&["type=wheel", "repository=npm"]).takes(&wheel));
        assert!(!filter(&["type="]).takes(&wheel) && !filter(&["other=x"]).takes(&wheel));
        assert!(!filter(&["type=wheel"]).takes(&labels(&[])));
    }
}
