//! `store bundle`: a store in one file, there and back.

use std::io::IsTerminal;
use std::path::{Path, PathBuf};

use serde::Serialize;

use super::get::parse_selector;
use super::init::made;
use super::standard::{STDOUT, StandardOutput};
use super::{Context, Exit, size};
use crate::engine::Store;
use crate::engine::ops::bundle::{BundleExport, BundleExportReport, BundleImportReport};
use crate::engine::store::snapshots::Selector;
use crate::error::{Error, Result};
use crate::spelling::quoted;

/// Put snapshots into one file, which can be read in place, or take them out of one.
///
/// A bundle is a store that is one file: `store --store FILE` reads it with `get`, `ls`, `snapshots`, `export`,
/// `dedup-stats` and `verify`. It is changed only by exporting into it again, which appends.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  store bundle export all.bundle
  store --store all.bundle get linux-6.1/README -o -
  store --store copy bundle import all.bundle")]
pub(super) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    Export(ExportArgs),
    Import(ImportArgs),
}

/// Write snapshots, and all they need, into a bundle.
///
/// Into one that is there, which must be of the same store, only what is missing is appended; whatever ends that early
/// leaves the bundle as it was. Everything is checked on its way.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  store bundle export all.bundle                all snapshots
  store bundle export new.bundle latest         the newest
  store bundle export - | ssh host 'cat > all.bundle'")]
struct ExportArgs {
    /// The bundle; `-` is standard output.
    file: PathBuf,
    /// Snapshots, by the first digits of their ids, or `latest` [default: all].
    #[arg(value_name = "SNAPSHOT", value_parser = parse_selector)]
    snapshots: Vec<Selector>,
}

/// Take the snapshots of a bundle over into the store.
///
/// A store that is not there is made, with the settings of the one that the bundle is of. What the store has is not taken
/// again. Everything is checked on its way, and a snapshot is taken only when all it needs is there.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  store bundle import all.bundle
  store --store /srv/copy bundle import all.bundle")]
struct ImportArgs {
    /// The bundle.
    file: PathBuf,
}

#[derive(Serialize)]
struct JsonExport {
    generation: u64,
    bytes: u64,
    added_bytes: u64,
    snapshots: u64,
    new_snapshots: u64,
    packs: u64,
    recipes_files: u64,
    rewritten: u64,
    waste_bytes: u64,
    seconds: f64,
}

#[derive(Serialize)]
struct JsonImport {
    snapshots: u64,
    new_snapshots: u64,
    packs: u64,
    recipes_files: u64,
    added_bytes: u64,
    made_store: bool,
    other_profile: bool,
    damaged: Vec<JsonDamaged>,
    seconds: f64,
}

#[derive(Serialize)]
struct JsonDamaged {
    object: String,
    what: String,
}

pub(super) fn run(args: &Args, context: &Context) -> Result<Exit> {
    match &args.command {
        Command::Export(args) => export(args, context),
        Command::Import(args) => import(args, context),
    }
}

fn export(args: &ExportArgs, context: &Context) -> Result<Exit> {
    let begun = std::time::Instant::now();
    let store = context.open()?;
    let request = BundleExport { snapshots: args.snapshots.clone() };
    let control = &context.control;
    if args.file == Path::new("-") {
        let mut out = StandardOutput;
        if std::io::stdout().is_terminal() {
            return Err(Error::Usage("a bundle is not for a terminal: name a file".to_owned()));
        }
        let name = Path::new(STDOUT);
        let work = || store.export_bundle_to(&request, &mut out, name, control);
        let report = context.report.progress(control, |_| None, work)?;
        context.report.note(&exported(&report, name, begun.elapsed().as_secs_f64()));
        return Ok(Exit::Fine);
    }
    if let Ok(bundle) = Store::open(&args.file) {
        context.warn_of_flaws(&bundle);
    }
    let work = || store.export_bundle(&request, &args.file, control);
    let report = context.report.progress(control, |_| None, work)?;
    let seconds = begun.elapsed().as_secs_f64();
    if context.report.is_json() {
        let BundleExportReport { generation, bytes, added_bytes, snapshots, new_snapshots, .. } = report;
        let BundleExportReport { packs, recipes_files, rewritten, waste_bytes, .. } = report;
        let json = JsonExport {
            generation,
            bytes,
            added_bytes,
            snapshots,
            new_snapshots,
            packs,
            recipes_files,
            rewritten,
            waste_bytes,
            seconds,
        };
        context.report.data(&json, String::new)?;
    } else {
        context.report.note(&exported(&report, &args.file, seconds));
    }
    Ok(Exit::Fine)
}

fn exported(report: &BundleExportReport, file: &Path, seconds: f64) -> String {
    let BundleExportReport { generation, bytes, added_bytes, snapshots, new_snapshots, .. } = report;
    format!(
        "{new_snapshots} of {snapshots} snapshots were new to {}: {} written; it has {} in {generation} \
         generation{}; {seconds:.2} s",
        quoted(file),
        size::human(*added_bytes),
        size::human(*bytes),
        if *generation == 1 { "" } else { "s" },
    )
}

fn import(args: &ImportArgs, context: &Context) -> Result<Exit> {
    let begun = std::time::Instant::now();
    let work = || Store::import_bundle(&context.store, &args.file, &context.control);
    let report = context.report.progress(&context.control, |_| None, work)?;
    let BundleImportReport { snapshots, new_snapshots, packs, recipes_files, added_bytes, .. } = report;
    let BundleImportReport { made_store, other_profile, damaged, .. } = report;
    if made_store {
        context.report.note(&made(&Store::open(&context.store)?));
    }
    for (name, what) in &damaged {
        context.report.warning(&format!("{name} was passed over: {what}"));
    }
    if other_profile {
        context.report.warning(
            "the bundle's files are cut by another rule than this store's: what is added here will \
                                share little with them",
        );
    }
    let seconds = begun.elapsed().as_secs_f64();
    if context.report.is_json() {
        let json = JsonImport {
            snapshots,
            new_snapshots,
            packs,
            recipes_files,
            added_bytes,
            made_store,
            other_profile,
            damaged: damaged
                .iter()
                .map(|(name, what)| JsonDamaged { object: name.path(), what: what.clone() })
                .collect(),
            seconds,
        };
        context.report.data(&json, String::new)?;
    } else {
        let made = if made_store { "made a store; " } else { "" };
        context.report.note(&format!(
            "{made}{new_snapshots} of {snapshots} snapshots were new: {} written; {seconds:.2} s",
            size::human(added_bytes)
        ));
    }
    Ok(if damaged.is_empty() { Exit::Fine } else { Exit::Damaged })
}
