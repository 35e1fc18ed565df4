//! `store get`: files, trees and byte ranges, out again.

use std::ops::Range;
use std::path::{Path, PathBuf};

use serde::Serialize;

use super::labels::FilterArgs;
use super::output::Output;
use super::standard::{STDOUT, StandardOutput};
use super::{Context, Exit, names, size};
use crate::engine::read::get::GetRequest;
use crate::engine::read::report::GetReport;
use crate::engine::store::snapshots::Selector;
use crate::error::{Error, Result};
use crate::format::entry::EntryPath;
use crate::spelling::{Name, quoted};

/// Restore a file or a tree, or print a file.
///
/// PATH may lead into an archive: `data.tar/a/b` is a member, `data.tar/` all that is in it. Every chunk is checked
/// against its id before any of its bytes leave the store. Nothing that exists is overwritten without --force, and a
/// directory in the place of a file not even with it. What the file system of OUT cannot hold (a name, a link, an owner, a
/// mode, an attribute) is named, the rest is restored, and the exit code is 3. With --label, files are taken that have the
/// label, and of directories those that lead to them.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  store get linux-6.1 -o copy               `copy` becomes equal to the tree
  store get linux-6.1/README -o -           print it
  store get disk.img --range 1024..2048 -o part
  store get linux.tar/linux-6.1/README -o -   print one member of an archive
  store get --snapshot latest -o all        everything in the newest snapshot
  store get srv --label type=wheel -o wheels    its wheels, and the directories they are in")]
pub(super) struct Args {
    /// The path, as stored or as it was given to add. Without one: the whole snapshot, to -o OUT.
    path: Option<PathBuf>,
    /// The name of the result itself; `-` is standard output [default: the last part of PATH].
    #[arg(long, short, value_name = "OUT")]
    output: Option<PathBuf>,
    /// The snapshot to take it from, by the first digits of its id, or `latest` [default: the newest that has it].
    #[arg(long, value_name = "ID", value_parser = parse_selector)]
    snapshot: Option<Selector>,
    /// Only the bytes A up to, not including, B of a file.
    #[arg(long, value_name = "A..B", value_parser = parse_range)]
    range: Option<Range<u64>>,
    /// Replace files and links that exist, and fill directories that exist.
    #[arg(long)]
    force: bool,
    #[command(flatten)]
    labels: FilterArgs,
    /// At most about this much memory for plans and data.
    #[arg(long, value_name = "SIZE", default_value = "256M", value_parser = size::parse)]
    memory: usize,
    /// Worker threads [default: one for each processor].
    #[arg(long, value_name = "N")]
    threads: Option<usize>,
}

#[derive(Serialize)]
struct JsonReport {
    files: u64,
    directories: u64,
    others: u64,
    bytes: u64,
    lost: Vec<JsonLoss>,
    warnings: Vec<String>,
    notes: Vec<String>,
}

#[derive(Serialize)]
struct JsonLoss {
    #[serde(flatten)]
    path: Name,
    what: String,
    damaged: bool,
}

pub(super) fn parse_selector(text: &str) -> Result<Selector, String> {
    if text == "latest" {
        return Ok(Selector::Latest);
    }
    let is_hex = text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
    if text.is_empty() || text.len() > 64 || !is_hex {
        return Err("a snapshot is `latest` or the first hexadecimal digits of its id".to_owned());
    }
    Ok(Selector::Id(text.to_owned()))
}

fn parse_range(text: &str) -> Result<Range<u64>, String> {
    let (start, end) = text.split_once("..").ok_or("a range is written A..B")?;
    let number = |text: &str, absent: u64| match text {
        "" => Ok(absent),
        text => text.parse().map_err(|_| format!("{} is not a number of bytes", quoted(text))),
    };
    let range = number(start, 0)?..number(end, u64::MAX)?;
    if range.start > range.end {
        return Err("the range ends before it begins".to_owned());
    }
    Ok(range)
}

pub(super) fn run(args: &Args, context: &Context) -> Result<Exit> {
    if args.output.is_none() && EntryPath::from_given(args.path.as_deref().unwrap_or(Path::new(""))).is_root() {
        return Err(Error::Usage("name the result with -o OUT".to_owned()));
    }
    let store = context.open()?;
    let (path, snapshot) = names::resolve(&store, args.path.as_deref(), args.snapshot.as_ref(), context)?;
    let output = match &args.output {
        Some(output) => output.clone(),
        None => {
            let stored = EntryPath::from_given(&path);
            Path::new(stored.as_path().file_name().unwrap_or_default()).to_owned()
        }
    };
    let request = GetRequest {
        path,
        snapshot,
        overwrite: args.force,
        threads: super::threads(args.threads),
        memory_bytes: args.memory,
        labels: args.labels.filter(),
    };
    if output == Path::new("-") {
        let mut out = StandardOutput;
        store.read(&request, args.range.clone(), &mut out, Path::new(STDOUT), &context.control)?;
        return Ok(Exit::Fine);
    }
    if let Some(range) = &args.range {
        let mut file = Output::create(&output, args.force)?;
        let bytes = store.read(&request, Some(range.clone()), &mut file, &output, &context.control)?;
        file.finish()?;
        context.report.note(&format!("{} to {}", size::count(bytes, "byte"), quoted(&output)));
        return Ok(Exit::Fine);
    }
    let begun = std::time::Instant::now();
    let report =
        context.report.progress(&context.control, |_| None, || store.get(&request, &output, &context.control))?;
    tell(&report, &output, begun.elapsed().as_secs_f64(), context)?;
    Ok(if report.losses.iter().any(|loss| loss.damaged) {
        Exit::Damaged
    } else if report.losses.is_empty() && report.warnings.is_empty() {
        Exit::Fine
    } else {
        Exit::Skipped
    })
}

fn tell(report: &GetReport, output: &Path, seconds: f64, context: &Context) -> Result<()> {
    for warning in &report.warnings {
        context.report.warning(warning);
    }
    for loss in &report.losses {
        let what = if loss.path.is_root() { quoted(output).to_string() } else { quoted(&loss.path).to_string() };
        context.report.warning(&format!("{what} was not restored: {}", loss.what));
    }
    for note in &report.notes {
        context.report.note(note);
    }
    if context.report.is_json() {
        let losses = report.losses.iter().map(|loss| JsonLoss {
            path: Name(loss.path.as_bytes().to_vec()),
            what: loss.what.clone(),
            damaged: loss.damaged,
        });
        let json = JsonReport {
            files: report.files,
            directories: report.directories,
            others: report.others,
            bytes: report.bytes,
            lost: losses.collect(),
            warnings: report.warnings.clone(),
            notes: report.notes.clone(),
        };
        return context.report.data(&json, String::new);
    }
    context.report.note(&format!(
        "restored {}, {}; {seconds:.2} s, {:.0} MB/s",
        size::count(report.files, "file"),
        size::human(report.bytes),
        report.bytes as f64 / 1e6 / seconds.max(1e-6)
    ));
    Ok(())
}
