//! `store snapshots`: what was added, and when.

use super::{Context, Exit, size, time};
use crate::error::Result;

/// List the snapshots, the newest first.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  store snapshots\n  store --json snapshots | jq -r '.[0].id'")]
pub(super) struct Args {}

pub(super) fn run(_: &Args, context: &Context) -> Result<Exit> {
    let snapshots = context.open()?.snapshots()?;
    context.report.data(&snapshots, || {
        let mut text = String::new();
        for info in &snapshots {
            let id = info.id.map(|id| id.to_hex()).unwrap_or_default();
            let roots: Vec<_> = info.roots.iter().map(|root| String::from_utf8_lossy(root).into_owned()).collect();
            let tags = if info.tags.is_empty() { String::new() } else { format!(" [{}]", info.tags.join(" ")) };
            text.push_str(&format!(
                "{}  {}  {}  {:>7} files {:>10}  {}{tags}\n",
                id.get(..12).unwrap_or_default(),
                time::utc(info.time_ns),
                info.host,
                info.totals.files,
                size::human(info.totals.logical_bytes),
                roots.join(" ").escape_debug(),
            ));
        }
        text
    })?;
    Ok(Exit::Fine)
}
