//! `store add`: keep files and trees.

use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Serialize;

use super::init::{SettingsArgs, made};
use super::labels::LabelArgs;
use super::{Context, Exit, size, standard, time};
use crate::engine::Store;
use crate::engine::add::{AddReport, AddRequest, AddTotals, Archives, Problem, measure};
use crate::error::{Error, Result};
use crate::spelling::{Name, quoted};

/// Keep files and trees, as one snapshot.
///
/// A file whose size, times and inode are those of the last snapshot of the same paths is not read again. What cannot
/// be read is named and left out (exit code 3); the rest is kept.
///
/// A tar, known by its content, is kept byte for byte, its members as if they were files: PATH/MEMBER gets them, and they
/// share their bytes with others. A tar compressed with gzip, zstd, xz or bzip2 is kept as it is, and its members too; with
/// --drop-compressed only what is in it is kept, and `get` gives the tar. A tar that is damaged or cut short is named
/// (exit code 3).
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  store add linux-6.1 notes.txt
  store add --tag nightly /srv/models
  store add --label repository=pypi --label-rule '*.whl type=wheel' srv
  store add --detect-types srv
  mysqldump shop | store add - --name shop.sql
  tar -cf - srv | store add - --tar --name srv.tar")]
pub(super) struct Args {
    /// Files and directories; `-` reads standard input.
    #[arg(required = true, value_name = "PATH")]
    paths: Vec<PathBuf>,
    /// What standard input is called in the snapshot.
    #[arg(long, value_name = "NAME")]
    name: Option<PathBuf>,
    /// Read every file, even if its metadata says it is unchanged.
    #[arg(long)]
    reread: bool,
    /// At most about this much data in flight.
    #[arg(long, value_name = "SIZE", default_value = "256M", value_parser = size::parse)]
    memory: usize,
    /// Worker threads [default: one for each processor].
    #[arg(long, value_name = "N")]
    threads: Option<usize>,
    /// A word to find the snapshot by; may be given several times.
    #[arg(long, value_name = "WORD")]
    tag: Vec<String>,
    /// Take standard input for a tar. (Files are known by their content.)
    #[arg(long)]
    tar: bool,
    /// Keep tars as files like any other.
    #[arg(long, conflicts_with_all = ["tar", "keep_compressed", "drop_compressed"])]
    no_tar: bool,
    /// Keep a compressed tar beside what is in it, so that `get` gives the compressed file back. This is the default.
    #[arg(long, conflicts_with_all = ["tar", "drop_compressed"])]
    keep_compressed: bool,
    /// Of a compressed tar keep only the tar that is in it: `get` gives that, not the compressed file.
    #[arg(long, conflicts_with = "tar")]
    drop_compressed: bool,
    #[command(flatten)]
    labels: LabelArgs,
    #[command(flatten)]
    settings: SettingsArgs,
}

#[derive(Serialize)]
struct JsonReport<'a> {
    snapshot: Option<String>,
    #[serde(flatten)]
    totals: &'a AddTotals,
    seconds: f64,
    problems: Vec<JsonProblem<'a>>,
    notes: Vec<JsonProblem<'a>>,
    warnings: Vec<String>,
}

#[derive(Serialize)]
struct JsonProblem<'a> {
    #[serde(flatten)]
    path: Name,
    what: &'a str,
    kept: bool,
}

impl<'a> JsonProblem<'a> {
    fn of(problem: &'a Problem) -> Self {
        Self { path: Name(problem.path.as_os_str().as_bytes().to_vec()), what: &problem.what, kept: problem.kept }
    }
}

pub(super) fn run(args: &Args, context: &Context) -> Result<Exit> {
    let (streams, paths): (Vec<_>, Vec<_>) = args.paths.iter().cloned().partition(|path| path == Path::new("-"));
    let stdin_name = match (streams.len(), &args.name) {
        (0, None) => None,
        (0, Some(_)) => return Err(Error::Usage("--name names standard input: give `-` as a path too".to_owned())),
        (1, Some(name)) => Some(name.clone()),
        (1, None) => return Err(Error::Usage("say with --name what standard input is to be called".to_owned())),
        _ => return Err(Error::Usage("standard input can be given once only".to_owned())),
    };
    // Before a store is made for them.
    for path in &paths {
        path.symlink_metadata().map_err(|source| Error::io("read", path, source))?;
    }
    if stdin_name.is_some() {
        standard::check_input()?;
    }
    let (store, new) = Store::open_or_begin(&context.store, args.settings.settings()?)?;
    args.settings.check(&store)?;
    if new.is_some() {
        context.report.note(&made(&store));
    }
    let request = AddRequest {
        paths: paths.clone(),
        stdin_name,
        reread: args.reread,
        memory_bytes: args.memory,
        threads: super::threads(args.threads),
        tags: args.tag.clone(),
        labels: args.labels.labelling(),
        archives: Archives { recognise: !args.no_tar, stdin_is_tar: args.tar, keep_compressed: !args.drop_compressed },
    };
    let totals = |is_ended: &dyn Fn() -> bool| measure(&paths, is_ended);
    let added = context.report.progress(&context.control, totals, || store.add(&request, &context.control));
    let report = match (added, new) {
        (Err(error), Some(new)) => {
            store.unmake(&new);
            return Err(error);
        }
        (added, _) => added?,
    };
    for note in &report.notes {
        context.report.note(&format!("note: {} {}", quoted(&note.path), note.sentence()));
    }
    for problem in &report.problems {
        context.report.warning(&format!("{} {}", quoted(&problem.path), problem.sentence()));
    }
    let warnings = warnings(&report);
    warnings.iter().for_each(|warning| context.report.warning(warning));
    if context.report.is_json() {
        let json = JsonReport {
            snapshot: report.snapshot.map(|id| id.to_hex()),
            totals: &report.totals,
            seconds: report.duration.as_secs_f64(),
            problems: report.problems.iter().map(JsonProblem::of).collect(),
            notes: report.notes.iter().map(JsonProblem::of).collect(),
            warnings,
        };
        context.report.data(&json, String::new)?;
    } else {
        context.report.note(&summary(&report));
    }
    Ok(if report.problems.is_empty() { Exit::Fine } else { Exit::Skipped })
}

/// What is wrong with the store or the clock, and does not keep the snapshot from being whole.
fn warnings(report: &AddReport) -> Vec<String> {
    let clock = report.clock.map(|clock| time::in_the_future(clock.snapshot, clock.time_ns));
    let unreadable = report.unreadable.iter().map(|unreadable| {
        format!(
            "snapshot {} cannot be read, and was not used to find unchanged files: {}",
            unreadable.id, unreadable.what
        )
    });
    clock.into_iter().chain(unreadable).collect()
}

fn summary(report: &AddReport) -> String {
    let totals = &report.totals;
    let seconds = report.duration.max(Duration::from_micros(1)).as_secs_f64();
    let id = report.snapshot.map(|id| id.to_hex()).unwrap_or_default();
    let ratio = totals.logical_bytes as f64 / totals.stored_bytes.max(1) as f64;
    let mut text = format!(
        "snapshot {}: {}, {}; new {}, stored {} (ratio {ratio:.2}); {seconds:.2} s, {:.0} MB/s",
        id.get(..12).unwrap_or_default(),
        size::count(totals.files, "file"),
        size::human(totals.logical_bytes),
        size::human(totals.new_bytes),
        size::human(totals.stored_bytes),
        totals.logical_bytes as f64 / 1e6 / seconds,
    );
    if totals.unchanged_files > 0 {
        text.push_str(&format!("; {} unchanged", size::count(totals.unchanged_files, "file")));
    }
    match report.problems.len() {
        0 => {}
        1 => text.push_str("; 1 problem, named above"),
        several => text.push_str(&format!("; {several} problems, named above")),
    }
    text
}
