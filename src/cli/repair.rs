//! `store repair`: make again what can be made again.

use super::{Context, Exit};
use crate::error::{Error, Result, chain};

/// Rebuild what can be rebuilt.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  store repair --index")]
pub(super) struct Args {
    /// Make the index again from packs and recipes.
    #[arg(long)]
    index: bool,
}

pub(super) fn run(args: &Args, context: &Context) -> Result<Exit> {
    if !args.index {
        return Err(Error::Usage("say what to repair: --index".to_owned()));
    }
    let rebuilt = context.open()?.rebuild_index()?;
    for (name, error) in &rebuilt.unreadable {
        context.report.warning(&format!("{name} was left out: {}", chain(error)));
    }
    context.report.note(&format!(
        "index rebuilt: {} chunks in {} packs, {} recipes in {} files",
        rebuilt.statistics.chunks,
        rebuilt.statistics.packs,
        rebuilt.statistics.recipes,
        rebuilt.statistics.recipes_files
    ));
    Ok(if rebuilt.unreadable.is_empty() { Exit::Fine } else { Exit::Damaged })
}
