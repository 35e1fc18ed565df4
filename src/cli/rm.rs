//! `store rm`: remove snapshots.

use serde::Serialize;

use super::gc::{JsonGc, parse_percent, summary};
use super::size::human;
use super::{Context, Exit};
use crate::error::Result;

/// Remove snapshots. Their space is freed by the next `store gc`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  store rm 5a6f430eef18
  store rm 5a6f 97eeb6 --dry-run     say what this and a gc would free
  store rm 5a6f430eef18 && store gc")]
pub(super) struct Args {
    /// Snapshots, by their ids or the first digits of them. If one of them is not there, none is removed.
    #[arg(required = true, value_name = "SNAPSHOT", value_parser = parse_prefix)]
    snapshots: Vec<String>,
    /// Remove nothing; say exactly what a gc afterwards would free.
    #[arg(long)]
    dry_run: bool,
    /// For --dry-run: as for `store gc`.
    #[arg(long, value_name = "PERCENT", default_value = "20%", value_parser = parse_percent)]
    max_waste: f64,
}

#[derive(Serialize)]
struct JsonReport {
    dry_run: bool,
    removed: Vec<String>,
    bytes: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    gc: Option<JsonGc>,
}

fn parse_prefix(text: &str) -> Result<String, String> {
    let is_hex = text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
    if text.is_empty() || text.len() > 64 || !is_hex {
        return Err("a snapshot is given by the first hexadecimal digits of its id".to_owned());
    }
    Ok(text.to_owned())
}

pub(super) fn run(args: &Args, context: &Context) -> Result<Exit> {
    let store = context.open()?;
    let report = if args.dry_run {
        store.rehearse_remove(&args.snapshots, args.max_waste, &context.control)?
    } else {
        store.remove(&args.snapshots)?
    };
    if context.report.is_json() {
        let json = JsonReport {
            dry_run: args.dry_run,
            removed: report.snapshots.iter().map(|id| id.to_hex()).collect(),
            bytes: report.bytes,
            gc: report.gc.as_ref().map(|gc| JsonGc::new(gc, true)),
        };
        context.report.data(&json, String::new)?;
        return Ok(Exit::Fine);
    }
    let (count, bytes) = (report.snapshots.len(), human(report.bytes));
    let s = if count == 1 { "" } else { "s" };
    match &report.gc {
        Some(gc) => {
            context
                .report
                .note(&format!("would remove {count} snapshot{s} ({bytes}); a gc afterwards {}", summary(gc, true)));
        }
        None => {
            context.report.note(&format!("removed {count} snapshot{s} ({bytes}); `store gc` frees what only they held"))
        }
    }
    Ok(Exit::Fine)
}
