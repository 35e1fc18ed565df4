//! `store snapshots`: what was added, and when.

use std::time::{SystemTime, UNIX_EPOCH};

use serde::Serialize;

use super::report::words_of;
use super::{Context, Exit, size, time};
use crate::catalog::snapshot::{Counts, SnapshotInfo};
use crate::engine::{SnapshotList, SnapshotSummary, UnreadableSnapshot};
use crate::error::Result;
use crate::spelling::{Name, spelled};

/// List the snapshots, the newest first.
///
/// A snapshot is newer than those that were there when it was added, also if a clock was wrong. One that cannot be read is
/// named, and the others are listed (exit code 4, or 1 if the system does not let it be read).
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  store snapshots\n  store --json snapshots | jq -r '.[0].id'")]
pub(super) struct Args {}

#[derive(Serialize)]
#[serde(untagged)]
enum JsonSnapshot<'a> {
    Readable(Box<JsonInfo<'a>>),
    Unreadable { id: String, unreadable: &'a str },
}

#[derive(Serialize)]
struct JsonInfo<'a> {
    id: String,
    time_ns: i64,
    #[serde(skip_serializing_if = "Option::is_none")]
    order_ns: Option<i64>,
    took_ms: u64,
    host: &'a str,
    program: &'a str,
    parent: Option<String>,
    tags: &'a [String],
    roots: Vec<Name>,
    skipped: u64,
    new_bytes: u64,
    stored_bytes: u64,
    new_chunks: u64,
    counts: &'a Counts,
    #[serde(skip_serializing_if = "<[String]>::is_empty")]
    label_keys: &'a [String],
}

pub(super) fn run(_: &Args, context: &Context) -> Result<Exit> {
    let list = context.open()?.snapshot_list()?;
    context.control.pass_over(&list.unreadable);
    let readable = list.snapshots.iter().map(|summary| JsonSnapshot::Readable(Box::new(json_of(summary))));
    let unreadable = list
        .unreadable
        .iter()
        .map(|UnreadableSnapshot { id, what, .. }| JsonSnapshot::Unreadable { id: id.to_hex(), unreadable: what });
    let json: Vec<_> = readable.chain(unreadable).collect();
    context.report.data(&json, || list.snapshots.iter().map(line_of).collect())?;
    warn_of_future(&list, context);
    Ok(Exit::Fine)
}

fn json_of(SnapshotSummary { id, info }: &SnapshotSummary) -> JsonInfo<'_> {
    JsonInfo {
        id: id.to_hex(),
        time_ns: info.time_ns,
        order_ns: info.order_ns,
        took_ms: info.took_ms,
        host: &info.host,
        program: &info.program,
        parent: info.parent.map(|id| id.to_hex()),
        tags: &info.tags,
        roots: info.roots.iter().map(|root| Name(root.0.clone())).collect(),
        skipped: info.skipped,
        new_bytes: info.new_bytes,
        stored_bytes: info.stored_bytes,
        new_chunks: info.new_chunks,
        counts: &info.counts,
        label_keys: &info.label_keys,
    }
}

fn line_of(SnapshotSummary { id, info }: &SnapshotSummary) -> String {
    let SnapshotInfo { host, counts, tags, label_keys, roots, time_ns, .. } = info;
    let words = |words: &[String]| words_of(words.iter().map(String::as_bytes));
    let tags = if tags.is_empty() { String::new() } else { format!(" [{}]", words(tags)) };
    let keys: Vec<_> = label_keys.iter().map(|key| spelled(key).to_string()).collect();
    let keys = if keys.is_empty() { String::new() } else { format!(" (labels: {})", keys.join(", ")) };
    format!(
        "{}  {}  {}  {:>7} files {:>10}  {}{tags}{keys}\n",
        id.to_hex().get(..12).unwrap_or_default(),
        time::utc(*time_ns),
        spelled(host),
        counts.files,
        size::human(counts.logical_bytes),
        words_of(roots.iter().map(|root| root.0.as_slice())),
    )
}

fn warn_of_future(list: &SnapshotList, context: &Context) {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let now_ns = i64::try_from(now.as_nanos()).unwrap_or(i64::MAX);
    if let Some(later) = list.later_than(now_ns) {
        context.report.warning(&time::in_the_future(later.id, later.info.time_ns));
    }
}
