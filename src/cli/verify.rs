//! `store verify`: is everything in the store that should be?

use std::time::Instant;

use serde::Serialize;

use super::report::line_of;
use super::{Context, Exit, size};
use crate::engine::ops::verify::{Damage, Depth, LostFile, VerifyReport, VerifyRequest};
use crate::error::Result;
use crate::spelling::Name;
use crate::storage::bundle::BundleFlaw;

/// Look for damage, and name the files and snapshots that lose bytes by it.
///
/// Without an option every stored byte is read and compared with a checksum. The index is not asked: it is a cache.
/// Nothing is changed. Exit code 4 if anything is damaged or lost.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  store verify                 every stored byte
  store verify --quick         all but the frames: is everything there, and as long as it should be?
  store verify --full          every chunk decoded, too
  store --json verify | jq .damages")]
pub(super) struct Args {
    /// Leave the frames out: sizes, directories, recipes and snapshots, and that all they name is there.
    #[arg(long, conflicts_with = "full")]
    quick: bool,
    /// Decode every chunk and compare it with its id, which finds what was written wrongly, too.
    #[arg(long)]
    full: bool,
    /// Worker threads [default: one for each processor].
    #[arg(long, value_name = "N")]
    threads: Option<usize>,
}

/// The files that lose bytes, as `verify` and `repair` show them.
#[derive(Serialize)]
pub(super) struct JsonLost<'a> {
    snapshot: String,
    #[serde(flatten)]
    path: Name,
    size: u64,
    lost_bytes: u64,
    damage: Option<usize>,
    what: &'a str,
}

#[derive(Serialize)]
pub(super) struct JsonDamage<'a> {
    object: String,
    offset: Option<u64>,
    bytes: u64,
    chunks: u64,
    what: &'a str,
}

#[derive(Serialize)]
struct JsonFlaw<'a> {
    offset: u64,
    what: &'a str,
}

#[derive(Serialize)]
struct JsonReport<'a> {
    whole: bool,
    depth: &'static str,
    packs: u64,
    frames: u64,
    chunks: u64,
    recipes_files: u64,
    recipes: u64,
    snapshots: u64,
    files: u64,
    logical_bytes: u64,
    read_bytes: u64,
    seconds: f64,
    damages: Vec<JsonDamage<'a>>,
    bundle_damages: Vec<JsonFlaw<'a>>,
    lost_files: u64,
    lost_bytes: u64,
    lost: Vec<JsonLost<'a>>,
    lost_snapshots: Vec<String>,
}

pub(super) fn run(args: &Args, context: &Context) -> Result<Exit> {
    let depth = match args {
        Args { quick: true, .. } => Depth::Quick,
        Args { full: true, .. } => Depth::Full,
        _ => Depth::Stored,
    };
    let store = context.open()?;
    let begun = Instant::now();
    let request = VerifyRequest { depth, threads: super::threads(args.threads) };
    let totals = |_: &dyn Fn() -> bool| store.measure_verify(depth).ok();
    let report = context.report.progress(&context.control, totals, || store.verify(&request, &context.control))?;
    let seconds = begun.elapsed().as_secs_f64();
    let json = JsonReport {
        whole: report.is_whole(),
        depth: depth.name(),
        packs: report.packs,
        frames: report.frames,
        chunks: report.chunks,
        recipes_files: report.recipes_files,
        recipes: report.recipes,
        snapshots: report.snapshots,
        files: report.files,
        logical_bytes: report.logical_bytes,
        read_bytes: report.read_bytes,
        seconds,
        damages: report.damages.iter().map(json_damage).collect(),
        bundle_damages: report.bundle_damages.iter().map(json_flaw).collect(),
        lost_files: report.lost_files,
        lost_bytes: report.lost_bytes,
        lost: report.lost.iter().map(json_lost).collect(),
        lost_snapshots: report.lost_snapshots.iter().map(|id| id.to_hex()).collect(),
    };
    context.report.data(&json, || text_of(&report))?;
    context.report.note(&summary(&report, seconds));
    if report.is_whole() {
        return Ok(Exit::Fine);
    }
    context.report.hint(match store.is_bundle() {
        true => "a bundle is not repaired: export it anew from its store, or import it, which takes what is whole",
        false => {
            "`store repair` saves what can be saved; then `store add --reread` of the original files heals the rest"
        }
    });
    Ok(Exit::Damaged)
}

fn json_flaw(BundleFlaw { offset, what }: &BundleFlaw) -> JsonFlaw<'_> {
    JsonFlaw { offset: *offset, what }
}

pub(super) fn json_damage(damage: &Damage) -> JsonDamage<'_> {
    let Damage { object, offset, bytes, chunks, what } = damage;
    JsonDamage { object: object.path(), offset: *offset, bytes: *bytes, chunks: *chunks, what }
}

pub(super) fn json_lost(lost: &LostFile) -> JsonLost<'_> {
    JsonLost {
        snapshot: lost.snapshot.to_hex(),
        path: Name(lost.path.as_bytes().to_vec()),
        size: lost.size,
        lost_bytes: lost.lost_bytes,
        damage: lost.damage,
        what: &lost.what,
    }
}

fn text_of(report: &VerifyReport) -> String {
    let mut text = String::new();
    for damage in &report.damages {
        let Damage { object, offset, bytes, chunks, what } = damage;
        let extent = match (bytes, chunks) {
            (0, _) => String::new(),
            (bytes, 0) => format!(" ({})", size::count(*bytes, "byte")),
            (bytes, chunks) => format!(" ({} with {})", size::count(*bytes, "byte"), size::count(*chunks, "chunk")),
        };
        let place = offset.map_or_else(String::new, |offset| format!(" at byte {offset}"));
        text.push_str(&format!("damaged: {object}{place}{extent}: {what}\n"));
    }
    for BundleFlaw { offset, what } in &report.bundle_damages {
        text.push_str(&format!("damaged: the bundle at byte {offset}: {what}\n"));
    }
    for id in &report.lost_snapshots {
        text.push_str(&format!("lost: snapshot {id}\n"));
    }
    text.push_str(&lost_lines(&report.lost, report.lost_files));
    text
}

/// A line for each file that loses bytes.
pub(super) fn lost_lines(lost: &[LostFile], lost_files: u64) -> String {
    let mut text = String::new();
    for file in lost {
        let LostFile { snapshot, path, size, lost_bytes, what, .. } = file;
        let short = snapshot.to_hex();
        let short = short.get(..12).unwrap_or_default();
        text.push_str(&format!("lost: {} of snapshot {short}: {lost_bytes} of {size} bytes: {what}\n", line_of(path)));
    }
    let unnamed = lost_files - (lost.len() as u64).min(lost_files);
    if unnamed > 0 {
        text.push_str(&format!("lost: {} more\n", size::count(unnamed, "file")));
    }
    text
}

fn summary(report: &VerifyReport, seconds: f64) -> String {
    let found = if report.is_whole() {
        "all whole".to_owned()
    } else {
        format!(
            "{}; {} lost {}",
            size::count((report.damages.len() + report.bundle_damages.len()) as u64, "damaged place"),
            size::count(report.lost_files, "file"),
            size::human(report.lost_bytes)
        )
    };
    format!(
        "{found}: {} in {}, {}; read {} in {seconds:.2} s ({:.0} MB/s of logical data)",
        size::count(report.files, "file"),
        size::count(report.snapshots, "snapshot"),
        size::human(report.logical_bytes),
        size::human(report.read_bytes),
        report.logical_bytes as f64 / 1e6 / seconds.max(1e-6)
    )
}
