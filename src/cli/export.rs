//! `store export`: a snapshot, or a part of it, in the formats of other programs.

use std::io::{IsTerminal, Write};
use std::path::{Path, PathBuf};

use serde::Serialize;

use super::get::parse_selector;
use super::labels::FilterArgs;
use super::output::Output;
use super::standard::{STDOUT, StandardOutput};
use super::{Context, Exit, names, size};
use crate::engine::Store;
use crate::engine::ops::export::{ExportReport, ExportRequest, Hdf5Layout, Hdf5Options};
use crate::engine::store::snapshots::Selector;
use crate::error::{Error, Result};
use crate::restore::Compressed;
use crate::spelling::{Name, quoted};

/// Write a snapshot, or a tree or file of it, in the format of other programs.
///
/// With --tar: a pax archive, members in path order, with owners, times to the nanosecond, hard links and extended
/// attributes. The same entries make the same bytes. With --arrow: a directory of arrays that numpy maps, all files one
/// behind the other, and an Arrow table of what they are. With --hdf5: one HDF5 file, in one of three layouts. What is in
/// these: docs/exports.md. A failed export leaves nothing half.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  store export --tar linux-6.1 | tar -tf - | wc -l
  store export --tar --zstd linux-6.1 -o linux-6.1.tar.zst
  store export --tar --snapshot latest -o all.tar      everything in the newest snapshot
  store export --arrow arrays linux-6.1                arrays that numpy maps")]
pub(super) struct Args {
    #[command(flatten)]
    format: Format,
    /// The path, as stored or as it was given to add. Without one: the whole snapshot.
    path: Option<PathBuf>,
    /// Where to write the archive; `-` is standard output [default: standard output].
    #[arg(long, short, value_name = "OUT", conflicts_with_all = ["arrow", "hdf5"])]
    output: Option<PathBuf>,
    /// The snapshot to take it from, by the first digits of its id, or `latest` [default: the newest that has it].
    #[arg(long, value_name = "ID", value_parser = parse_selector)]
    snapshot: Option<Selector>,
    #[command(flatten)]
    labels: FilterArgs,
    /// Compress the archive with zstd.
    #[arg(long, value_name = "LEVEL", num_args = 0..=1, require_equals = true, default_missing_value = "3",
          value_parser = clap::value_parser!(i32).range(-7..=19), allow_negative_numbers = true,
          conflicts_with_all = ["arrow", "hdf5"])]
    zstd: Option<i32>,
    /// How an HDF5 file has it: an array for each path (compact), an array for each content (sha1), or all in one array
    /// (shredder).
    #[arg(long, value_enum, conflicts_with_all = ["tar", "arrow"])]
    layout: Option<LayoutArg>,
    /// Compress arrays in an HDF5 file with deflate, all but those of less than 64 KiB.
    #[arg(long, value_name = "LEVEL", value_parser = clap::value_parser!(u8).range(1..=9),
          conflicts_with_all = ["tar", "arrow"])]
    compress: Option<u8>,
    /// Replace the archive or the HDF5 file if it exists.
    #[arg(long, conflicts_with = "arrow")]
    force: bool,
    /// Worker threads [default: one for each processor].
    #[arg(long, value_name = "N")]
    threads: Option<usize>,
}

#[derive(Debug, clap::Args)]
#[group(required = true, multiple = false)]
struct Format {
    /// As a pax archive.
    #[arg(long)]
    tar: bool,
    /// As arrays, in a directory that is not there or is empty.
    #[arg(long, value_name = "DIR")]
    arrow: Option<PathBuf>,
    /// As an HDF5 file, in the layout --layout. (In programs built with the cargo feature hdf5.)
    #[arg(long, value_name = "FILE", requires = "layout")]
    hdf5: Option<PathBuf>,
}

#[derive(Debug, Clone, Copy, clap::ValueEnum)]
enum LayoutArg {
    Compact,
    Sha1,
    Shredder,
}

impl From<LayoutArg> for Hdf5Layout {
    fn from(layout: LayoutArg) -> Self {
        match layout {
            LayoutArg::Compact => Self::Compact,
            LayoutArg::Sha1 => Self::Sha1,
            LayoutArg::Shredder => Self::Shredder,
        }
    }
}

#[derive(Serialize)]
struct JsonReport {
    entries: u64,
    others: u64,
    bytes: u64,
    written_bytes: u64,
    left_out: Vec<JsonLeftOut>,
}

#[derive(Serialize)]
struct JsonLeftOut {
    #[serde(flatten)]
    path: Name,
    what: String,
}

pub(super) fn run(args: &Args, context: &Context) -> Result<Exit> {
    let store = context.open()?;
    let (path, snapshot) = names::resolve(&store, args.path.as_deref(), args.snapshot.as_ref(), context)?;
    let request = ExportRequest { path, snapshot, threads: super::threads(args.threads), labels: args.labels.filter() };
    let report = match (&args.format, args.layout) {
        (Format { arrow: Some(folder), .. }, _) => {
            let work = || store.export_arrays(&request, folder, &context.control);
            let report = context.report.progress(&context.control, |_| None, work)?;
            let others = "in index.arrow only";
            tell(&report, Words { entries: "files", others }, folder, context)?;
            report
        }
        (Format { hdf5: Some(file), .. }, Some(layout)) => {
            let options = Hdf5Options { layout: layout.into(), compress: args.compress, overwrite: args.force };
            let work = || store.export_hdf5(&request, &options, file, &context.control);
            let report = context.report.progress(&context.control, |_| None, work)?;
            tell(&report, Words { entries: "files", others: "not in it" }, file, context)?;
            report
        }
        _ => to_tar(args, &store, &request, context)?,
    };
    for (path, what) in &report.left_out {
        context.report.warning(&format!("{} was left out: {what}", quoted(path)));
    }
    Ok(if report.left_out.is_empty() { Exit::Fine } else { Exit::Skipped })
}

fn to_tar(args: &Args, store: &Store, request: &ExportRequest, context: &Context) -> Result<ExportReport> {
    let Some(output) = args.output.as_deref().filter(|output| *output != Path::new("-")) else {
        let out = StandardOutput;
        if std::io::stdout().is_terminal() {
            return Err(Error::Usage("an archive is not for a terminal: name a file with -o OUT".to_owned()));
        }
        return export(args, store, request, out, Path::new(STDOUT), context);
    };
    let mut file = Output::create(output, args.force)?;
    let report = export(args, store, request, &mut file, output, context)?;
    file.finish()?;
    tell(&report, Words { entries: "entries", others: "" }, output, context)?;
    Ok(report)
}

fn export(
    args: &Args,
    store: &Store,
    request: &ExportRequest,
    mut out: impl Write,
    name: &Path,
    context: &Context,
) -> Result<ExportReport> {
    let control = &context.control;
    let failed = |source| Error::io("write", name, source);
    context.report.progress(
        control,
        |_| None,
        || match args.zstd {
            None => store.export_tar(request, &mut out, name, control),
            Some(level) => {
                let mut out = Compressed::zstd(out, level).map_err(failed)?;
                let report = store.export_tar(request, &mut out, name, control)?;
                out.finish().map_err(failed)?;
                Ok(report)
            }
        },
    )
}

/// What is counted is called.
struct Words {
    entries: &'static str,
    others: &'static str,
}

fn tell(report: &ExportReport, words: Words, output: &Path, context: &Context) -> Result<()> {
    if !context.report.is_json() {
        let ExportReport { entries, others, bytes, .. } = report;
        let others = match others {
            0 => String::new(),
            others => format!("; others: {others}, {}", words.others),
        };
        context.report.note(&format!(
            "{entries} {}, {} to {}{others}",
            words.entries,
            size::human(*bytes),
            quoted(output)
        ));
        return Ok(());
    }
    let left_out = report
        .left_out
        .iter()
        .map(|(path, what)| JsonLeftOut { path: Name(path.as_bytes().to_vec()), what: what.clone() });
    let json = JsonReport {
        entries: report.entries,
        others: report.others,
        bytes: report.bytes,
        written_bytes: report.written_bytes,
        left_out: left_out.collect(),
    };
    context.report.data(&json, String::new)
}
