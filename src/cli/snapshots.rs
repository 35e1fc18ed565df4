//! `store snapshots`: what was added, and when.

use super::{Context, Exit, size, time};
use crate::catalog::snapshot::SnapshotInfo;
use crate::engine::SnapshotSummary;
use crate::error::Result;

/// List the snapshots, the newest first.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  store snapshots\n  store --json snapshots | jq -r '.[0].id'")]
pub(super) struct Args {}

#[derive(serde::Serialize)]
struct JsonSnapshot<'a> {
    id: String,
    #[serde(flatten)]
    info: &'a SnapshotInfo,
}

pub(super) fn run(_: &Args, context: &Context) -> Result<Exit> {
    let snapshots = context.open()?.snapshots()?;
    let json: Vec<_> =
        snapshots.iter().map(|summary| JsonSnapshot { id: summary.id.to_hex(), info: &summary.info }).collect();
    context.report.data(&json, || {
        let mut text = String::new();
        for SnapshotSummary { id, info } in &snapshots {
            let id = id.to_hex();
            let roots: Vec<_> = info.roots.iter().map(|root| String::from_utf8_lossy(&root.0).into_owned()).collect();
            let tags = if info.tags.is_empty() { String::new() } else { format!(" [{}]", info.tags.join(" ")) };
            let keys = info.label_keys.join(", ");
            let keys = if keys.is_empty() { String::new() } else { format!(" (labels: {keys})") };
            text.push_str(&format!(
                "{}  {}  {}  {:>7} files {:>10}  {}{tags}{keys}\n",
                id.get(..12).unwrap_or_default(),
                time::utc(info.time_ns),
                info.host,
                info.counts.files,
                size::human(info.counts.logical_bytes),
                roots.join(" ").escape_debug(),
            ));
        }
        text
    })?;
    Ok(Exit::Fine)
}
