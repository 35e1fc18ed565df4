//! `store dedup-stats`: what dedup and compression saved.

use super::size::human;
use super::{Context, Exit, time};
use crate::engine::stats::DedupStats;
use crate::error::Result;

/// Show what dedup and compression saved, and what each snapshot holds.
///
/// Exact: counted from the references of all recipes of all snapshots.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  store dedup-stats\n  store --json dedup-stats | jq .total_ratio")]
pub(super) struct Args {}

pub(super) fn run(_: &Args, context: &Context) -> Result<Exit> {
    let stats = context.open()?.dedup_stats(&context.control)?;
    context.report.data(&stats, || text_of(&stats))?;
    Ok(Exit::Fine)
}

fn text_of(stats: &DedupStats) -> String {
    let mut text = String::new();
    let mut line = |line: String| {
        text.push_str(&line);
        text.push('\n');
    };
    line(format!(
        "logical  {:>10}   {} files in {} snapshots",
        human(stats.logical_bytes),
        stats.files,
        stats.snapshots.len()
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
            "unused   {:>10}   {} chunks that no snapshot has",
            human(stats.unused_bytes),
            stats.unused_chunks
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
            name.escape_debug().to_string(),
            extension.files,
            human(extension.logical_bytes),
            human(extension.stored_bytes)
        ));
    }
    text
}
