//! `store dedup-stats`: what dedup and compression saved.

use std::collections::BTreeMap;

use serde::Serialize;

use super::size::{count, human};
use super::{Context, Exit, time};
use crate::engine::ops::stats::{DedupStats, GroupChunks, GroupStats};
use crate::error::Result;
use crate::format::label::check_key;
use crate::spelling::spelled;

/// Show what dedup and compression saved, and what each snapshot holds.
///
/// Exact: counted from the references of all recipes of all snapshots.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  store dedup-stats
  store dedup-stats --by label:type
  store dedup-stats --by label:type --by label:repository
  store --json dedup-stats | jq .total_ratio")]
pub(super) struct Args {
    /// What the files with each value of a label cost, in all snapshots; may be given several times, for each combination.
    #[arg(long, value_name = "label:KEY", value_parser = parse_by)]
    by: Vec<String>,
}

fn parse_by(text: &str) -> Result<String, String> {
    let key = text.strip_prefix("label:").ok_or("files are grouped by label:KEY")?;
    check_key(key).map_err(|error| error.to_string())?;
    Ok(key.to_owned())
}

pub(super) fn run(args: &Args, context: &Context) -> Result<Exit> {
    if !args.by.is_empty() {
        let stats = context.open()?.group_stats(&args.by, &context.control)?;
        context.report.data(&JsonGroups::new(&stats), || groups_text(&stats))?;
        return Ok(Exit::Fine);
    }
    let stats = context.open()?.dedup_stats(&context.control)?;
    context.report.data(&stats, || text_of(&stats))?;
    Ok(Exit::Fine)
}

#[derive(Serialize)]
struct JsonGroups<'a> {
    by: &'a [String],
    groups: Vec<JsonGroup<'a>>,
}

#[derive(Serialize)]
struct JsonGroup<'a> {
    labels: BTreeMap<&'a str, Option<&'a str>>,
    files: u64,
    logical_bytes: u64,
    own: &'a GroupChunks,
    shared: &'a GroupChunks,
}

impl<'a> JsonGroups<'a> {
    fn new(stats: &'a GroupStats) -> Self {
        let group = |group: &'a crate::engine::ops::stats::GroupPart| JsonGroup {
            labels: stats.by.iter().map(String::as_str).zip(group.values.iter().map(Option::as_deref)).collect(),
            files: group.files,
            logical_bytes: group.logical_bytes,
            own: &group.own,
            shared: &group.shared,
        };
        Self { by: &stats.by, groups: stats.groups.iter().map(group).collect() }
    }
}

fn groups_text(stats: &GroupStats) -> String {
    let mut text =
        "   files    logical    chunks   own (stored)           chunks   shared (stored)        labels\n".to_owned();
    for group in &stats.groups {
        let labels = stats.by.iter().zip(&group.values).map(|(key, value)| match value {
            Some(value) => format!("{}={}", spelled(key), spelled(value)),
            None => format!("{} (none)", spelled(key)),
        });
        text.push_str(&format!(
            "{:>8} {:>10} {:>9} {:>10} ({:>9}) {:>9} {:>10} ({:>9})  {}\n",
            group.files,
            human(group.logical_bytes),
            group.own.chunks,
            human(group.own.bytes),
            human(group.own.stored_bytes),
            group.shared.chunks,
            human(group.shared.bytes),
            human(group.shared.stored_bytes),
            labels.collect::<Vec<_>>().join(", "),
        ));
    }
    text
}

fn text_of(stats: &DedupStats) -> String {
    let mut text = String::new();
    let mut line = |line: String| {
        text.push_str(&line);
        text.push('\n');
    };
    line(format!(
        "logical  {:>10}   {} in {}",
        human(stats.logical_bytes),
        count(stats.files, "file"),
        count(stats.snapshots.len() as u64, "snapshot")
    ));
    line(format!(
        "unique   {:>10}   dedup {:.2}; {} chunks, {} on average",
        human(stats.unique_bytes),
        stats.dedup_ratio,
        stats.chunks,
        human(stats.chunk_bytes_mean)
    ));
    line(format!(
        "stored   {:>10}   compression {:.2}; {} frames in {} packs",
        human(stats.stored_bytes),
        stats.compression_ratio,
        stats.frames,
        stats.packs
    ));
    line(format!("total    {:>9.2}x", stats.total_ratio));
    line(format!(
        "records  {:>10}   {:.1} bytes a chunk (budget 90), {:.1} bytes an entry (budget 60); index {}",
        human(stats.metadata.pack_bytes + stats.metadata.recipe_bytes + stats.metadata.snapshot_bytes),
        stats.metadata.bytes_per_chunk,
        stats.metadata.bytes_per_entry,
        human(stats.metadata.index_bytes)
    ));
    if stats.unused_chunks > 0 {
        line(format!(
            "unused   {:>10}   {} that no snapshot has",
            human(stats.unused_bytes),
            count(stats.unused_chunks, "chunk")
        ));
    }
    line(String::new());
    line(
        "snapshot      made (UTC)              files    logical        new (stored)      freed by removal (stored)"
            .into(),
    );
    for snapshot in &stats.snapshots {
        line(format!(
            "{}  {}  {:>7} {:>10} {:>10} ({:>9}) {:>10} ({:>9})",
            snapshot.id.get(..12).unwrap_or_default(),
            time::utc(snapshot.time_ns),
            snapshot.files,
            human(snapshot.logical_bytes),
            human(snapshot.new_bytes),
            human(snapshot.new_stored_bytes),
            human(snapshot.freed_bytes),
            human(snapshot.freed_stored_bytes)
        ));
    }
    line(String::new());
    line("chunks up to      number      bytes".into());
    for bucket in &stats.chunk_histogram {
        line(format!("{:>12} {:>11} {:>10}", bucket.up_to_bytes, bucket.chunks, human(bucket.bytes)));
    }
    line(String::new());
    line("extension       files    logical     stored".into());
    for extension in &stats.extensions {
        let name = if extension.extension.is_empty() { "(none)" } else { &extension.extension };
        line(format!(
            "{:<12} {:>8} {:>10} {:>10}",
            spelled(name).to_string(),
            extension.files,
            human(extension.logical_bytes),
            human(extension.stored_bytes)
        ));
    }
    text
}
