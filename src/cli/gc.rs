//! `store gc`: free what no snapshot needs.

use serde::Serialize;

use super::size::human;
use super::time::utc;
use super::{Context, Exit};
use crate::engine::ops::gc::{GcReport, GcRequest};
use crate::error::Result;
use crate::format::name::ObjectName;
use crate::storage::Holder;

/// Free the space of what no snapshot needs any more.
///
/// Runs beside adds and gets. It waits for adds that began before it before it deletes; where it is ended in the middle,
/// the next gc goes on.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  store gc --dry-run             say what would be freed
  store gc
  store gc --max-waste 0%        leave nothing that nobody needs, whatever it costs to copy the rest")]
pub(super) struct Args {
    /// Change nothing; say exactly what would be freed.
    #[arg(long)]
    dry_run: bool,
    /// Rewrite packs of which more than this is needed by nobody.
    #[arg(long, value_name = "PERCENT", default_value = "20%", value_parser = parse_percent)]
    max_waste: f64,
    /// Where adds are running, leave the deleting to the next gc.
    #[arg(long)]
    no_wait: bool,
}

/// A report as JSON.
#[derive(Serialize)]
pub(super) struct JsonGc {
    dry_run: bool,
    freed_bytes: u64,
    snapshots: u64,
    packs: u64,
    pack_bytes: u64,
    new_packs: u64,
    new_pack_bytes: u64,
    recipes_files: u64,
    recipes_bytes: u64,
    new_recipes_files: u64,
    new_recipes_bytes: u64,
    spared: u64,
    pending_deletes: u64,
    leases: u64,
    waste_bytes: u64,
    lost_chunks: u64,
    damaged: Vec<JsonDamaged>,
}

#[derive(Serialize)]
struct JsonDamaged {
    file: String,
    what: String,
}

impl JsonGc {
    pub(super) fn new(report: &GcReport, dry_run: bool) -> Self {
        let damaged = |(name, what): &(ObjectName, String)| JsonDamaged { file: name.path(), what: what.clone() };
        Self {
            dry_run,
            freed_bytes: report.freed_bytes(),
            snapshots: report.snapshots,
            packs: report.packs,
            pack_bytes: report.pack_bytes,
            new_packs: report.new_packs,
            new_pack_bytes: report.new_pack_bytes,
            recipes_files: report.recipes_files,
            recipes_bytes: report.recipes_bytes,
            new_recipes_files: report.new_recipes_files,
            new_recipes_bytes: report.new_recipes_bytes,
            spared: report.spared,
            pending_deletes: report.pending_deletes,
            leases: report.leases,
            waste_bytes: report.waste_bytes,
            lost_chunks: report.lost_chunks,
            damaged: report.damaged.iter().map(damaged).collect(),
        }
    }
}

/// Reads `20`, `20%` or `20 %` as a share of 1.
pub(super) fn parse_percent(text: &str) -> Result<f64, String> {
    let number = text.strip_suffix('%').unwrap_or(text).trim();
    let percent: f64 = number.parse().map_err(|_| "a share is a percentage, like 20%".to_owned())?;
    if (0.0..=100.0).contains(&percent) { Ok(percent / 100.0) } else { Err("a share is 0% to 100%".to_owned()) }
}

pub(super) fn run(args: &Args, context: &Context) -> Result<Exit> {
    let request =
        GcRequest { dry_run: args.dry_run, max_waste: args.max_waste, no_wait: args.no_wait, ..GcRequest::default() };
    let waiting = |adds: &[Holder]| context.report.note(&waiting_for(adds));
    let report = context.open()?.gc(&request, &context.control, &waiting)?;
    for (name, what) in &report.damaged {
        context.report.warning(&format!("{name}: {what}"));
    }
    if report.lost_chunks > 0 {
        let chunks = report.lost_chunks;
        context.report.warning(&format!("{chunks} chunks that snapshots need are in no pack that can be read"));
    }
    if context.report.is_json() {
        context.report.data(&JsonGc::new(&report, args.dry_run), String::new)?;
    } else {
        context.report.note(&summary(&report, args.dry_run));
    }
    Ok(if report.damaged.is_empty() && report.lost_chunks == 0 { Exit::Fine } else { Exit::Damaged })
}

/// The most adds that are named; of more, the number is enough.
const NAMED_MAX: usize = 4;

/// Which adds gc waits for, in a line.
fn waiting_for(adds: &[Holder]) -> String {
    let mut text = format!("waiting for {} add{} to end", adds.len(), if adds.len() == 1 { "" } else { "s" });
    for (n, add) in adds.iter().take(NAMED_MAX).enumerate() {
        text.push_str(if n == 0 { ": " } else { ", " });
        text.push_str(&add.process.map_or_else(|| "a process".to_owned(), |id| format!("process {id}")));
        if let Some(host) = &add.host {
            text.push_str(&format!(" on {host}"));
        }
        if let Some(since) = add.since_ns {
            text.push_str(&format!(" since {} UTC", utc(since)));
        }
    }
    if adds.len() > NAMED_MAX {
        text.push_str(&format!(", and {} more", adds.len() - NAMED_MAX));
    }
    text
}

/// What happened, or would, in a line.
pub(super) fn summary(report: &GcReport, dry_run: bool) -> String {
    if report.pending_deletes > 0 {
        return format!(
            "{} packs and recipes files wait for {} adds to end: run gc again",
            report.pending_deletes, report.leases
        );
    }
    let mut text = format!(
        "{} {}: {} packs deleted ({}), {} written ({}); {} recipes files deleted ({}), {} written ({})",
        if dry_run { "would free" } else { "freed" },
        human(report.freed_bytes()),
        report.packs,
        human(report.pack_bytes),
        report.new_packs,
        human(report.new_pack_bytes),
        report.recipes_files,
        human(report.recipes_bytes),
        report.new_recipes_files,
        human(report.new_recipes_bytes),
    );
    if report.spared > 0 {
        text.push_str(&format!("; {} spared, an add came to need them", report.spared));
    }
    if report.waste_bytes > 0 {
        text.push_str(&format!("; {} of chunks that nobody needs left in packs", human(report.waste_bytes)));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_percentages_and_refuses_nonsense() {
        assert_eq!(parse_percent("20%"), Ok(0.2));
        assert_eq!(parse_percent("20 %"), Ok(0.2));
        assert_eq!(parse_percent("0"), Ok(0.0));
        assert_eq!(parse_percent("12.5"), Ok(0.125));
        for nonsense in ["", "%", "many", "101", "-1", "NaN", "inf"] {
            assert!(parse_percent(nonsense).is_err(), "{nonsense}");
        }
    }
}
