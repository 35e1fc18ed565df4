//! Which labels does an entry get? Those of the whole add, those of the rules that match its path, and what it is known as.
//!
//! Of two labels with one key the more particular counts, from the least: the type that a package is detected to have
//! (`type=wheel`), the labels of the whole add, the rules that match, a later rule before an earlier one, and what an entry
//! was given for itself ([`Writer`]). Nothing is taken over from another snapshot.
//!
//! [`Writer`]: crate::Writer

use std::collections::BTreeSet;
use std::path::Path;
use std::str::FromStr;
use std::sync::Arc;

use globset::{Glob, GlobBuilder, GlobSet, GlobSetBuilder};

use crate::error::{Error, Result};
use crate::format::entry::{Entry, EntryKind, EntryPath};
use crate::format::label::{LABEL_KEYS_MAX, Label, LabelFilter, Labels, NotALabel};
use crate::ingest::Package;
use crate::spelling::quoted;

/// The key of the label that a detected package has.
pub const TYPE_KEY: &str = "type";

/// A glob has at most this many bytes.
const GLOB_BYTES_MAX: usize = 4 << 10;

/// Which labels entries get.
///
/// ```
/// use seamstore::request::{LabelRule, Labelling, NotARule};
/// let rule: LabelRule = "*.log type=log".parse()?;
/// assert_eq!((rule.glob(), rule.label().value()), ("*.log", "log"));
/// assert!(matches!("*.log".parse::<LabelRule>(), Err(NotARule::NoLabel(_))));
/// let labels = Labelling::default().rules([rule]).detect_types(true);
/// # let _ = labels;
/// # Ok::<(), NotARule>(())
/// ```
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Labelling {
    pub(crate) all: Vec<Label>,
    pub(crate) rules: Vec<LabelRule>,
    pub(crate) detect_types: bool,
}

impl Labelling {
    /// Labels of every entry. Of two with one key, the later counts.
    #[must_use]
    pub fn all(mut self, all: impl IntoIterator<Item = Label>) -> Self {
        self.all = all.into_iter().collect();
        self
    }

    /// Labels by path. Later rules win.
    #[must_use]
    pub fn rules(mut self, rules: impl IntoIterator<Item = LabelRule>) -> Self {
        self.rules = rules.into_iter().collect();
        self
    }

    /// Whether files that name and first bytes show to be packages get a label `type`: `wheel`, `crate`, `npm`, `jar`,
    /// `deb` or `rpm`. The snapshot then has that column, even if no file is a package.
    #[must_use]
    pub fn detect_types(mut self, detect_types: bool) -> Self {
        self.detect_types = detect_types;
        self
    }
}

/// A label for the entries whose paths match a glob.
///
/// In the glob, `*` stands for any characters but `/`, `?` for one of them, `**/` for any directories, `[a-z]` for one of
/// several characters, `{a,b}` for either, and `\` takes a character's meaning away. One without `/` is matched
/// against an entry's name, one with `/` against its whole path in the snapshot.
///
/// ```
/// use seamstore::request::{LabelRule, Labelling, NotARule};
/// let rule: LabelRule = "*.log type=log".parse()?;
/// assert_eq!((rule.glob(), rule.label().value()), ("*.log", "log"));
/// assert!(matches!("*.log".parse::<LabelRule>(), Err(NotARule::NoLabel(_))));
/// let labels = Labelling::default().rules([rule]).detect_types(true);
/// # let _ = labels;
/// # Ok::<(), NotARule>(())
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct LabelRule {
    glob: Glob,
    label: Label,
}

/// Why something is no rule.
///
/// ```
/// use seamstore::request::{LabelRule, Labelling, NotARule};
/// let rule: LabelRule = "*.log type=log".parse()?;
/// assert_eq!((rule.glob(), rule.label().value()), ("*.log", "log"));
/// assert!(matches!("*.log".parse::<LabelRule>(), Err(NotARule::NoLabel(_))));
/// let labels = Labelling::default().rules([rule]).detect_types(true);
/// # let _ = labels;
/// # Ok::<(), NotARule>(())
/// ```
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum NotARule {
    /// The rule does not say where the glob ends and the label begins.
    #[error(
        "a rule is written 'GLOB key=value', with one space between; {} has none (a space of the glob itself is `\\ `)",
        quoted(.0)
    )]
    NoLabel(String),
    /// There is no glob.
    #[error("a rule is written 'GLOB key=value', {} has no glob", quoted(.0))]
    NoGlob(String),
    /// The text is not a valid label.
    #[error("{0}")]
    Label(#[from] NotALabel),
    /// The text is not a valid glob, or too long.
    #[error("{} is not a glob: {why}", quoted(.glob))]
    Glob {
        /// What was to be one.
        glob: String,
        /// Why it is not valid.
        why: String,
    },
}

impl LabelRule {
    /// A rule.
    ///
    /// # Errors
    /// [`NotARule::Glob`].
    pub fn new(glob: &str, label: Label) -> Result<Self, NotARule> {
        let bad = |why: String| NotARule::Glob { glob: glob.to_owned(), why };
        if glob.is_empty() {
            return Err(NotARule::NoGlob(format!(" {label}")));
        }
        if glob.len() > GLOB_BYTES_MAX {
            return Err(bad(format!("it has {} bytes, more than {GLOB_BYTES_MAX}", glob.len())));
        }
        let built = GlobBuilder::new(glob).literal_separator(true).backslash_escape(true).build();
        Ok(Self { glob: built.map_err(|error| bad(error.kind().to_string()))?, label })
    }

    /// The glob, as it was given.
    #[must_use]
    pub fn glob(&self) -> &str {
        self.glob.glob()
    }

    /// The label.
    #[must_use]
    pub fn label(&self) -> &Label {
        &self.label
    }
}

/// `GLOB key=value`: they part at the first space that no `\` stands before.
impl FromStr for LabelRule {
    type Err = NotARule;

    fn from_str(text: &str) -> Result<Self, NotARule> {
        let mut escaped = false;
        let space = text.find(|c| {
            let found = c == ' ' && !escaped;
            escaped = c == '\\' && !escaped;
            found
        });
        match space.and_then(|at| text.split_at_checked(at)) {
            None => Err(NotARule::NoLabel(text.to_owned())),
            Some(("", _)) => Err(NotARule::NoGlob(text.to_owned())),
            Some((glob, label)) => Self::new(glob, label.trim_start_matches(' ').parse()?),
        }
    }
}

/// A [`Labelling`] made ready.
#[derive(Debug)]
pub(in crate::engine) struct Labeller {
    all: Labels,
    rules: Vec<Label>,
    /// Rules by name and by path, each with the places of its globs among all rules.
    by_name: (GlobSet, Vec<usize>),
    by_path: (GlobSet, Vec<usize>),
    detects: bool,
    keys: Vec<Arc<str>>,
}

impl Labeller {
    pub(in crate::engine) fn new(labelling: &Labelling) -> Result<Self> {
        let Labelling { all, rules, detect_types } = labelling;
        let set = |has_slash: bool| -> Result<(GlobSet, Vec<usize>)> {
            let mut globs = GlobSetBuilder::new();
            let mut places = Vec::new();
            for (place, rule) in rules.iter().enumerate().filter(|(_, rule)| rule.glob().contains('/') == has_slash) {
                globs.add(rule.glob.clone());
                places.push(place);
            }
            let globs =
                globs.build().map_err(|error| Error::Usage(format!("the label rules are too much: {error}")))?;
            Ok((globs, places))
        };
        let labels = all.iter().chain(rules.iter().map(LabelRule::label));
        let keys: BTreeSet<&str> = labels.map(Label::key).chain(detect_types.then_some(TYPE_KEY)).collect();
        if keys.len() > LABEL_KEYS_MAX {
            let count = keys.len();
            return Err(Error::Usage(format!("labels of {count} keys; a snapshot has {LABEL_KEYS_MAX} at most")));
        }
        Ok(Self {
            all: all.iter().cloned().collect(),
            rules: rules.iter().map(|rule| rule.label.clone()).collect(),
            by_name: set(false)?,
            by_path: set(true)?,
            detects: *detect_types,
            keys: keys.into_iter().map(Arc::from).collect(),
        })
    }

    /// The keys that labels of entries may have, ascending; but for those that entries are given for themselves.
    pub(in crate::engine) fn keys(&self) -> &[Arc<str>] {
        &self.keys
    }

    /// What package an entry may be by its name, if that is to be detected.
    pub(in crate::engine) fn candidate(&self, entry: &Entry) -> Option<Package> {
        let is_asked = self.detects && entry.kind == EntryKind::File && entry.size > 0;
        if is_asked { Package::by_name(entry.path.name()) } else { None }
    }

    /// All labels of an entry; those that it has are its own.
    pub(in crate::engine) fn labels_of(&self, path: &EntryPath, package: Option<Package>, own: &Labels) -> Labels {
        let mut matches = Vec::new();
        for ((globs, places), path) in [(&self.by_name, name_of(path)), (&self.by_path, path.as_path())] {
            if !globs.is_empty() {
                matches.extend(globs.matches(path).into_iter().filter_map(|at| places.get(at).copied()));
            }
        }
        matches.sort_unstable();
        if matches.is_empty() && package.is_none() {
            match (self.all.is_empty(), own.is_empty()) {
                (_, true) => return self.all.clone(),
                (true, _) => return own.clone(),
                _ => {}
            }
        }
        let detected = package.and_then(|package| Label::new(TYPE_KEY, package.word()).ok());
        let by_rule = matches.iter().filter_map(|place| self.rules.get(*place));
        detected.iter().chain(&self.all).chain(by_rule).chain(own).cloned().collect()
    }
}

fn name_of(path: &EntryPath) -> &Path {
    path.as_path().file_name().map_or(Path::new(""), Path::new)
}

/// Entries in snapshot order, less those that a filter does not take: of directories, those that lead to something that
/// it takes, and of anything else, what it takes.
pub fn filtered<'f, I, T>(entries: I, filter: &'f LabelFilter) -> Filtered<'f, I::IntoIter, T>
where
    I: IntoIterator<Item = Result<T>>,
    T: AsRef<Entry>,
{
    Filtered { entries: entries.into_iter(), filter, above: Vec::new(), next: Vec::new() }
}

/// See [`filtered`].
#[derive(Debug)]
pub struct Filtered<'f, I, T> {
    entries: I,
    filter: &'f LabelFilter,
    /// Directories down to where the iteration is that nothing was taken of yet.
    above: Vec<T>,
    /// What is handed out next, last first.
    next: Vec<T>,
}

impl<I: Iterator<Item = Result<T>>, T: AsRef<Entry>> Iterator for Filtered<'_, I, T> {
    type Item = Result<T>;

    fn next(&mut self) -> Option<Result<T>> {
        loop {
            if let Some(entry) = self.next.pop() {
                return Some(Ok(entry));
            }
            let item = match self.entries.next()? {
                Ok(item) => item,
                Err(error) => return Some(Err(error)),
            };
            if self.filter.is_empty() {
                return Some(Ok(item));
            }
            let entry: &Entry = item.as_ref();
            while self.above.last().is_some_and(|above| !entry.path.is_within(&above.as_ref().path)) {
                self.above.pop();
            }
            if entry.kind == EntryKind::Directory {
                self.above.push(item);
            } else if self.filter.takes(&entry.labels) {
                self.next.push(item);
                self.next.extend(self.above.drain(..).rev());
            }
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing)]
mod tests {
    use super::*;

    fn path(text: &str) -> EntryPath {
        EntryPath::new(text).unwrap()
    }

    fn rules(list: &[&str]) -> Labelling {
        Labelling { rules: list.iter().map(|text| text.parse().unwrap()).collect(), ..Labelling::default() }
    }

    fn labels(labelling: &Labelling, at: &str, package: Option<Package>, own: &[&str]) -> String {
        let own: Labels = own.iter().map(|text| text.parse::<Label>().unwrap()).collect();
        let found = Labeller::new(labelling).unwrap().labels_of(&path(at), package, &own);
        found.iter().map(Label::to_string).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn a_glob_without_a_slash_is_for_names_and_one_with_for_paths() {
        let cases = [
            ("*.whl", "pypi/a/b.whl", true),
            ("*.whl", "b.whl", true),
            ("*.whl", "b.whl/c", false),
            ("pypi/*.whl", "pypi/b.whl", true),
            ("pypi/*.whl", "pypi/a/b.whl", false),
            ("pypi/*.whl", "other/pypi/b.whl", false),
            ("pypi/**/*.whl", "pypi/b.whl", true),
            ("pypi/**/*.whl", "pypi/a/c/b.whl", true),
            ("pypi/**", "pypi/a/c", true),
            ("pypi/**", "pypi", false),
            ("**/test/**", "a/test/b/c", true),
            ("{a,b}?", "x/b1", true),
            ("[0-9]*", "x/1a", true),
            ("[0-9]*", "x/a1", false),
            ("my\\ file", "x/my file", true),
            ("\\*", "x/*", true),
            ("\\*", "x/y", false),
        ];
        for (glob, at, matches) in cases {
            let labelling = rules(&[&format!("{glob} k=v")]);
            assert_eq!(labels(&labelling, at, None, &[]), if matches { "k=v" } else { "" }, "{glob} {at}");
        }
    }

    #[test]
    fn names_that_are_no_utf8_are_matched_by_their_bytes() {
        let labeller = Labeller::new(&rules(&["*.whl k=v"])).unwrap();
        let path = EntryPath::new(b"a/\xff\xfe.whl".to_vec()).unwrap();
        assert_eq!(labeller.labels_of(&path, None, &Labels::default()).get("k"), Some("v"));
    }

    #[test]
    fn the_more_particular_label_counts() {
        let mut labelling = rules(&["*.whl a=rule", "x/** a=path", "* a=last b=1", "*.x none=1"]);
        labelling.rules[2] = "*.w* a=last".parse().unwrap();
        labelling.all = vec!["a=all".parse().unwrap(), "c=all".parse().unwrap(), "c=later".parse().unwrap()];
        assert_eq!(labels(&labelling, "y/z", None, &[]), "a=all c=later");
        assert_eq!(labels(&labelling, "x/z", None, &[]), "a=path c=later");
        assert_eq!(labels(&labelling, "x/z.whl", None, &[]), "a=last c=later");
        assert_eq!(labels(&labelling, "x/z.whl", Some(Package::Wheel), &[]), "a=last c=later type=wheel");
        assert_eq!(labels(&labelling, "x/z.whl", None, &["a=own", "d=own"]), "a=own c=later d=own");
        labelling.rules.push("*.whl type=python".parse().unwrap());
        assert_eq!(labels(&labelling, "x/z.whl", Some(Package::Wheel), &[]), "a=last c=later type=python");
        // What comes out goes in and stays: a row may be labelled twice.
        assert_eq!(
            labels(&labelling, "x/z.whl", None, &["a=last", "c=later", "type=python"]),
            "a=last c=later type=python"
        );
    }

    #[test]
    fn what_is_no_rule_is_refused_with_its_reason() {
        for (text, why) in [
            ("*.whl", "has none"),
            ("my\\ dir/*", "has none"),
            ("", "has none"),
            (" type=wheel", "has no glob"),
            ("*.whl wheel", "has no `=`"),
            ("my dir/* type=wheel", "has \" \""),
            ("a dir* =x", "has \" \""),
            ("[a type=wheel", "not a glob: unclosed"),
            ("{a type=wheel", "not a glob: unclosed"),
        ] {
            let error = text.parse::<LabelRule>().unwrap_err().to_string();
            assert!(error.contains(why), "{text:?}: {error}");
        }
        let long = format!("{} a=b", "x".repeat(GLOB_BYTES_MAX + 1)).parse::<LabelRule>().unwrap_err().to_string();
        assert!(long.contains("bytes, more than"), "{long}");
        let many: Vec<String> = (0..=LABEL_KEYS_MAX).map(|n| format!("* k{n}=v")).collect();
        let many = rules(&many.iter().map(String::as_str).collect::<Vec<_>>());
        assert!(matches!(Labeller::new(&many), Err(Error::Usage(why)) if why.contains("65 keys")));
    }
}
