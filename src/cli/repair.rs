//! `store repair`: save what can be saved, and make again what can be made again.

use serde::Serialize;

use super::report::{Report, words_of};
use super::verify::{JsonDamage, JsonLost, json_damage, json_lost, lost_lines};
use super::{Context, Exit, size, time};
use crate::engine::ops::repair::{RepairReport, RepairRequest, RepairedPack, RepairedRecipes, RepairedSnapshot};
use crate::engine::ops::verify::Depth;
use crate::engine::{RebuiltIndex, Store};
use crate::error::{Result, chain};
use crate::pack::Lost;
use crate::spelling::Name;

/// Save what can be saved of what is damaged, and say what is lost.
///
/// Intact frames of damaged packs, also of packs without their end, become new packs; recipes that can be read become
/// new recipes files; rows of snapshots that can be read but not proved become snapshots with the tag `salvaged`; the
/// damaged files are moved to `quarantine` in the store, for you to look at and delete; the index
/// is made again. What is lost then comes back by adding the original files with `store add --reread`: that makes
/// damaged snapshots whole. Exit code 4 if anything is lost. Better not run beside an add, which could count on a chunk
/// that is found to be lost.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  store repair --dry-run       what would be done?
  store repair
  store repair --index         only make the index again, from packs and recipes")]
pub(super) struct Args {
    /// Only make the index again from packs and recipes.
    #[arg(long, conflicts_with_all = ["dry_run", "full"])]
    index: bool,
    /// Change nothing; say what would be done.
    #[arg(long)]
    dry_run: bool,
    /// Decode every chunk when looking for damage, as `store verify --full` does.
    #[arg(long)]
    full: bool,
    /// Worker threads [default: one for each processor].
    #[arg(long, value_name = "N")]
    threads: Option<usize>,
}

#[derive(Serialize)]
struct JsonIndex {
    chunks: u64,
    packs: u64,
    recipes: u64,
    recipes_files: u64,
    left_out: Vec<String>,
}

#[derive(Serialize)]
struct JsonReport<'a> {
    whole: bool,
    dry_run: bool,
    damages: Vec<JsonDamage<'a>>,
    packs: Vec<JsonPack<'a>>,
    recipes_files: Vec<JsonRecipes<'a>>,
    snapshots: Vec<JsonSnapshot>,
    quarantined: Vec<String>,
    index: Option<JsonIndex>,
    lost_files: u64,
    lost_bytes: u64,
    lost: Vec<JsonLost<'a>>,
}

#[derive(Serialize)]
struct JsonPack<'a> {
    pack: String,
    successor: Option<String>,
    frames: u64,
    chunks: u64,
    lost_chunks: Option<u64>,
    lost: Vec<JsonStretch<'a>>,
}

#[derive(Serialize)]
struct JsonStretch<'a> {
    offset: u64,
    bytes: u64,
    what: &'a str,
}

#[derive(Serialize)]
struct JsonRecipes<'a> {
    recipes_file: String,
    successor: Option<String>,
    recipes: u64,
    lost: &'a [String],
}

#[derive(Serialize)]
struct JsonSnapshot {
    snapshot: String,
    successor: Option<String>,
    rows: u64,
    lost_rows: Option<u64>,
    time_ns: Option<i64>,
    files: Option<u64>,
    roots: Vec<Name>,
}

pub(super) fn run(args: &Args, context: &Context) -> Result<Exit> {
    if let Some(aside) = Store::mend_config(&context.store, args.dry_run || args.index)? {
        context.report.note(&format!("store.json had one wrong byte and was mended; as it was, it is now {aside}"));
    }
    let store = context.open()?;
    if args.index {
        let rebuilt = store.rebuild_index()?;
        context.report.data(&json_index(&rebuilt), String::new)?;
        tell_index(&rebuilt, context.report);
        return Ok(if rebuilt.unreadable.is_empty() { Exit::Fine } else { Exit::Damaged });
    }
    let depth = if args.full { Depth::Full } else { Depth::Stored };
    let request = RepairRequest { depth, dry_run: args.dry_run, threads: super::threads(args.threads) };
    let totals = |_: &dyn Fn() -> bool| store.measure_verify(depth).ok();
    let report = context.report.progress(&context.control, totals, || store.repair(&request, &context.control))?;
    let json = JsonReport {
        whole: report.is_whole(),
        dry_run: args.dry_run,
        damages: report.damages.iter().map(json_damage).collect(),
        packs: report.packs.iter().map(json_pack).collect(),
        recipes_files: report.recipes.iter().map(json_recipes).collect(),
        snapshots: report.snapshots.iter().map(json_snapshot).collect(),
        quarantined: report.quarantined.clone(),
        index: report.index.as_ref().map(json_index),
        lost_files: report.lost_files,
        lost_bytes: report.lost_bytes,
        lost: report.lost.iter().map(json_lost).collect(),
    };
    context.report.data(&json, || text_of(&report))?;
    conclude(&report, args.dry_run, context.report);
    Ok(if report.is_whole() { Exit::Fine } else { Exit::Damaged })
}

fn json_index(rebuilt: &RebuiltIndex) -> JsonIndex {
    let left_out = rebuilt.unreadable.iter().map(|(name, error)| format!("{name}: {}", chain(error)));
    JsonIndex {
        chunks: rebuilt.statistics.chunks,
        packs: rebuilt.statistics.packs,
        recipes: rebuilt.statistics.recipes,
        recipes_files: rebuilt.statistics.recipes_files,
        left_out: left_out.collect(),
    }
}

fn json_pack(repaired: &RepairedPack) -> JsonPack<'_> {
    JsonPack {
        pack: repaired.pack.to_hex(),
        successor: repaired.successor.map(|id| id.to_hex()),
        frames: repaired.frames,
        chunks: repaired.chunks,
        lost_chunks: repaired.lost_chunks,
        lost: repaired.lost.iter().map(json_stretch).collect(),
    }
}

fn json_stretch(lost: &Lost) -> JsonStretch<'_> {
    JsonStretch { offset: lost.bytes.start, bytes: lost.bytes.end - lost.bytes.start, what: &lost.why }
}

fn json_recipes(repaired: &RepairedRecipes) -> JsonRecipes<'_> {
    JsonRecipes {
        recipes_file: repaired.file.to_hex(),
        successor: repaired.successor.map(|id| id.to_hex()),
        recipes: repaired.recipes,
        lost: &repaired.lost,
    }
}

fn json_snapshot(repaired: &RepairedSnapshot) -> JsonSnapshot {
    let info = repaired.info.as_ref();
    JsonSnapshot {
        snapshot: repaired.id.to_hex(),
        successor: repaired.successor.map(|id| id.to_hex()),
        rows: repaired.rows,
        lost_rows: repaired.lost_rows(),
        time_ns: info.map(|info| info.time_ns),
        files: info.map(|info| info.counts.files),
        roots: info.map(|info| info.roots.iter().map(|root| Name(root.0.clone())).collect()).unwrap_or_default(),
    }
}

/// A line for each object that was damaged, and for each file that still loses bytes.
fn text_of(report: &RepairReport) -> String {
    let mut text = String::new();
    for RepairedPack { pack, frames, chunks, lost, lost_chunks, .. } in &report.packs {
        let lost_bytes: u64 = lost.iter().map(|lost| lost.bytes.end - lost.bytes.start).sum();
        let lost_chunks = lost_chunks.map_or("nobody knows how many".to_owned(), |chunks| chunks.to_string());
        text.push_str(&format!(
            "pack {pack}: saved {frames} frames with {chunks} chunks; lost {} with {lost_chunks} chunks\n",
            size::human(lost_bytes)
        ));
    }
    for RepairedRecipes { file, recipes, lost, .. } in &report.recipes {
        text.push_str(&format!(
            "recipes file {file}: saved {recipes} recipes; {} places could not be read\n",
            lost.len()
        ));
    }
    for snapshot in &report.snapshots {
        let RepairedSnapshot { id, rows, info, .. } = snapshot;
        let lost = snapshot.lost_rows().map_or("nobody knows how many".to_owned(), |rows| rows.to_string());
        let what = if snapshot.is_whole() {
            "all rows are what they were".to_owned()
        } else {
            format!("{rows} rows could be read, but not proved; {lost} could not")
        };
        text.push_str(&format!("snapshot {id}: {what}"));
        if let Some(info) = info {
            let roots = words_of(info.roots.iter().map(|root| root.0.as_slice()));
            text.push_str(&format!("; made {} of {roots}", time::utc(info.time_ns)));
        }
        text.push('\n');
    }
    text.push_str(&lost_lines(&report.lost, report.lost_files));
    text
}

fn conclude(report: &RepairReport, dry_run: bool, to: Report) {
    if report.damages.is_empty() {
        to.note("nothing is damaged");
    } else if dry_run {
        to.note(&format!("{} damaged places; nothing was changed", report.damages.len()));
    } else {
        to.note(&format!("damaged files are now in the store's `quarantine`: {}", report.quarantined.len()));
    }
    if let Some(index) = &report.index {
        tell_index(index, to);
    }
    if !report.is_whole() {
        let when = if dry_run { "after a repair, " } else { "" };
        to.hint(&format!("{when}`store add --reread` of the original files makes damaged snapshots whole again"));
    }
}

fn tell_index(rebuilt: &RebuiltIndex, to: Report) {
    for (name, error) in &rebuilt.unreadable {
        to.warning(&format!("{name} was left out: {}", chain(error)));
    }
    to.note(&format!(
        "index rebuilt: {} chunks in {} packs, {} recipes in {} files",
        rebuilt.statistics.chunks,
        rebuilt.statistics.packs,
        rebuilt.statistics.recipes,
        rebuilt.statistics.recipes_files
    ));
}
