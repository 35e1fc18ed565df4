//! `store ls`: what is in a snapshot.

use std::collections::{BTreeMap, HashSet};
use std::path::PathBuf;

use serde::Serialize;

use super::get::parse_selector;
use super::labels::{self, FilterArgs};
use super::report::line_of;
use super::{Context, Exit};
use crate::engine::read::resolve::Resolved;
use crate::engine::store::snapshots::Selector;
use crate::error::Result;
use crate::format::archive_form::ArchiveForm;
use crate::format::entry::{Content, Entry, EntryKind, EntryPath};
use crate::spelling::{Name, spelled};

/// List the entries of a snapshot.
///
/// A directory's entries are listed, or with -R all below it. With a slash behind its path, an archive's members are; they
/// have its labels. The size of an archive is that of what `get` gives: of the tar, if the file was compressed and not
/// kept; -l says so. Names are spelled (see `store --help`), and `get` takes them so; -0 gives them as they are. With --label,
/// entries are listed that have the label, and without -R also directories in which something has it.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  store ls
  store ls -l linux-6.1
  store ls -R --label type=wheel srv
  store ls -R0 linux-6.1 | sort -z | head -z
  store ls -l linux.tar/")]
pub(super) struct Args {
    /// The path, as stored or as it was given to add [default: what was added].
    path: Option<PathBuf>,
    /// Long: kind and mode, owner, size, time, path, labels.
    #[arg(long, short)]
    long: bool,
    /// Everything below, not only the next level.
    #[arg(long, short = 'R')]
    recursive: bool,
    /// Names as they are, each ended by a NUL byte.
    #[arg(long, short = '0', conflicts_with = "long")]
    null: bool,
    /// The snapshot, by the first digits of its id, or `latest` [default: the newest that has PATH].
    #[arg(long, value_name = "ID", value_parser = parse_selector)]
    snapshot: Option<Selector>,
    #[command(flatten)]
    labels: FilterArgs,
}

#[derive(Serialize)]
struct JsonEntry {
    #[serde(flatten)]
    path: Name,
    kind: &'static str,
    mode: u32,
    uid: u32,
    gid: u32,
    user: Option<String>,
    group: Option<String>,
    size: u64,
    mtime_ns: i64,
    #[serde(skip_serializing_if = "Option::is_none")]
    chunk: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    recipe: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    archive: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    link_target: Option<Name>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    labels: BTreeMap<String, String>,
}

#[derive(Serialize)]
struct JsonListing {
    snapshot: Option<String>,
    entries: Vec<JsonEntry>,
}

pub(super) fn run(args: &Args, context: &Context) -> Result<Exit> {
    let store = context.open()?;
    let path = args.path.clone().unwrap_or_default();
    let found = store.resolve_spelled(&path, &args.snapshot.clone().unwrap_or_default())?;
    context.control.pass_over(&found.passed_over);
    let mut names = Names { found: &found, others: None };
    let mut listed = Vec::new();
    let mut text = Vec::new();
    let mut above: Option<EntryPath> = None;
    let begin = &found.path;
    let filter = args.labels.filter();
    // An entry of the next level that waits for something in it that has the labels.
    let mut waiting: Option<Entry> = None;
    for entry in found.entries()? {
        let entry = entry?;
        let has_labels = filter.takes(&entry.labels);
        let is_shown = args.recursive || is_next_level(begin, &entry, &mut above);
        let entry = match (is_shown, has_labels) {
            (true, true) => {
                waiting = None;
                entry
            }
            (true, false) => {
                waiting = (!args.recursive).then_some(entry);
                continue;
            }
            (false, true) => match waiting.take_if(|waiting| entry.path.is_within(&waiting.path)) {
                Some(waiting) => waiting,
                None => continue,
            },
            (false, false) => continue,
        };
        if context.report.is_json() {
            listed.push(json_of(&entry));
        } else {
            append(&mut text, &entry, args, &mut names)?;
            // A large listing goes out as it is made.
            if text.len() > 1 << 16 {
                print(&text, args, context)?;
                text.clear();
            }
        }
    }
    if context.report.is_json() {
        let listing = JsonListing { snapshot: Some(found.snapshot.id().to_hex()), entries: listed };
        context.report.data(&listing, String::new)?;
    }
    print(&text, args, context)?;
    Ok(Exit::Fine)
}

/// Paths as they are listed, so that `get` takes each for the entry that it is listed for.
struct Names<'a> {
    found: &'a Resolved<'a>,
    /// Paths that could be another's spelling; looked for when the first path comes that is not spelled as it is.
    others: Option<HashSet<EntryPath>>,
}

impl Names<'_> {
    fn line_of(&mut self, path: &EntryPath) -> Result<String> {
        let line = line_of(path);
        if path.is_root() || line.as_bytes() == path.as_bytes() {
            return Ok(line);
        }
        let others = match &mut self.others {
            Some(others) => others,
            none => none.insert(self.found.paths_with_backslash()?),
        };
        let is_taken = EntryPath::new(line.as_bytes()).is_ok_and(|spelling| others.contains(&spelling));
        // With two slashes in front it is spelled, and no other path.
        Ok(if is_taken { format!("//{line}") } else { line })
    }
}

/// Names for other programs go out as they are.
fn print(text: &[u8], args: &Args, context: &Context) -> Result<()> {
    if args.null { context.report.raw(text) } else { context.report.lines(&String::from_utf8_lossy(text)) }
}

/// Whether an entry is one level below `begin`, or is `begin` and no directory, or is where a given tree begins.
fn is_next_level(begin: &EntryPath, entry: &Entry, above: &mut Option<EntryPath>) -> bool {
    if entry.path == *begin {
        return entry.kind != EntryKind::Directory;
    }
    let is_child = entry.path.parent().as_ref() == Some(begin);
    // Trees given as a/b have no row for a: they are shown whole where they begin.
    let is_below_shown = above.as_ref().is_some_and(|above| entry.path.is_within(above));
    if is_child || !is_below_shown {
        *above = Some(entry.path.clone());
        return true;
    }
    false
}

fn kind_name(kind: EntryKind) -> &'static str {
    match kind {
        EntryKind::File => "file",
        EntryKind::Directory => "directory",
        EntryKind::Symlink => "symlink",
        EntryKind::Fifo => "fifo",
        EntryKind::CharDevice => "char device",
        EntryKind::BlockDevice => "block device",
        EntryKind::Socket => "socket",
    }
}

fn json_of(entry: &Entry) -> JsonEntry {
    let (chunk, recipe) = match entry.content {
        Content::Empty => (None, None),
        Content::Chunk(id) => (Some(id.to_hex()), None),
        Content::Recipe(id) | Content::Archive(id, _) => (None, Some(id.to_hex())),
    };
    JsonEntry {
        path: Name(entry.path.as_bytes().to_vec()),
        kind: kind_name(entry.kind),
        mode: entry.mode,
        uid: entry.uid,
        gid: entry.gid,
        user: entry.user.as_deref().map(str::to_owned),
        group: entry.group.as_deref().map(str::to_owned),
        size: entry.size,
        mtime_ns: entry.mtime_ns,
        chunk,
        recipe,
        archive: form_of(entry).map(ArchiveForm::word),
        link_target: (entry.kind == EntryKind::Symlink).then(|| Name(entry.link_target.clone())),
        labels: entry.labels.iter().map(|label| (label.key().to_owned(), label.value().to_owned())).collect(),
    }
}

/// The form of an archive.
fn form_of(entry: &Entry) -> Option<ArchiveForm> {
    match entry.content {
        Content::Archive(_, form) => Some(form),
        _ => None,
    }
}

fn append(text: &mut Vec<u8>, entry: &Entry, args: &Args, names: &mut Names<'_>) -> Result<()> {
    if args.null {
        text.extend_from_slice(entry.path.as_bytes());
        text.push(0);
        return Ok(());
    }
    let path = names.line_of(&entry.path)?;
    if !args.long {
        text.extend_from_slice(path.as_bytes());
        text.push(b'\n');
        return Ok(());
    }
    let owner = entry.user.as_deref().map_or_else(|| entry.uid.to_string(), |name| spelled(name).to_string());
    let group = entry.group.as_deref().map_or_else(|| entry.gid.to_string(), |name| spelled(name).to_string());
    let is_link = entry.kind == EntryKind::Symlink;
    let target = if is_link { format!(" -> {}", spelled(&entry.link_target)) } else { String::new() };
    let form = form_of(entry).map_or_else(String::new, |form| format!(" ({})", form.word()));
    let labels =
        if entry.labels.is_empty() { String::new() } else { format!("  [{}]", labels::line_of(&entry.labels)) };
    let line = format!(
        "{} {owner:<8} {group:<8} {:>12} {} {path}{target}{form}{labels}\n",
        mode_of(entry),
        entry.size,
        super::time::utc(entry.mtime_ns),
    );
    text.extend_from_slice(line.as_bytes());
    Ok(())
}

/// Kind and permissions as `ls -l` writes them.
fn mode_of(entry: &Entry) -> String {
    let kind = match entry.kind {
        EntryKind::File => '-',
        EntryKind::Directory => 'd',
        EntryKind::Symlink => 'l',
        EntryKind::Fifo => 'p',
        EntryKind::CharDevice => 'c',
        EntryKind::BlockDevice => 'b',
        EntryKind::Socket => 's',
    };
    let mut text = String::from(kind);
    for (shift, special, letter) in [(6, 0o4000, 's'), (3, 0o2000, 's'), (0, 0o1000, 't')] {
        let bits = entry.mode >> shift;
        text.push(if bits & 4 != 0 { 'r' } else { '-' });
        text.push(if bits & 2 != 0 { 'w' } else { '-' });
        text.push(match (bits & 1 != 0, entry.mode & special != 0) {
            (true, false) => 'x',
            (false, false) => '-',
            (true, true) => letter,
            (false, true) => letter.to_ascii_uppercase(),
        });
    }
    text
}
