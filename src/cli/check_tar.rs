//! `store check-tar`: what is in a tar, before it is added or unpacked.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use super::size::human;
use super::{Context, Exit, standard};
use crate::engine::Store;
use crate::engine::add::StopReader;
use crate::engine::ops::check_tar::{Sort, TarCheck, check_tar};
use crate::error::{Error, Result};
use crate::spelling::quoted;

/// Look through a tar without adding it: its members, names that need care, and what dedup would save.
///
/// A tar compressed with gzip, zstd, xz or bzip2 is looked into. What is not in order is said (exit code 3). Without a
/// store, or with an empty one, only what repeats in the tar itself is saved.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  tar -cf linux.tar linux-6.1 && store check-tar linux.tar
  tar -czf - linux-6.1 | store check-tar -")]
pub(super) struct Args {
    /// The tar; `-` is standard input.
    file: PathBuf,
}

pub(super) fn run(args: &Args, context: &Context) -> Result<Exit> {
    let input: Box<dyn Read + Send> = if args.file == Path::new("-") {
        standard::check_input()?;
        Box::new(StopReader::new(context.control.stop_flag()))
    } else {
        Box::new(File::open(&args.file).map_err(|source| Error::io("read", &args.file, source))?)
    };
    let store = match Store::open(&context.store) {
        Err(Error::NotAStore { .. }) => None,
        store => Some(store?),
    };
    let check =
        context.report.progress(&context.control, |_| None, || check_tar(input, store.as_ref(), &context.control))?;
    if context.control.is_stopped() {
        return Err(Error::Interrupted { kept: "nothing was changed".to_owned() });
    }
    context.report.data(&check, || text_of(&check))?;
    for remark in &check.remarks {
        context.report.warning(&format!("{} {remark}", quoted(&args.file)));
    }
    Ok(if check.is_damaged() { Exit::Skipped } else { Exit::Fine })
}

fn text_of(check: &TarCheck) -> String {
    let mut text = String::new();
    let mut line = |line: String| {
        text.push_str(&line);
        text.push('\n');
    };
    let kinds = &check.kinds;
    line(format!("{:<10} {:>10}   {} members", check.form, human(check.bytes), check.members));
    line(format!(
        "contents   {:>10}   headers and padding {}",
        human(check.content_bytes),
        human(check.skeleton_bytes)
    ));
    let counts = [
        ("files", kinds.files),
        ("of them sparse", kinds.sparse),
        ("directories", kinds.directories),
        ("symbolic links", kinds.symlinks),
        ("hard links", kinds.hard_links),
        ("devices", kinds.devices),
        ("pipes", kinds.fifos),
        ("others", kinds.others),
    ];
    let counts = counts.iter().filter(|(_, count)| *count > 0).map(|(word, count)| format!("{count} {word}"));
    line(format!("kinds      {}", counts.collect::<Vec<_>>().join(", ")));
    let dedup = &check.dedup;
    line(format!(
        "adding it  {:>10}   new before compression; {} are in the store, {} repeat in the tar",
        human(dedup.new_bytes),
        human(dedup.known_bytes),
        human(dedup.repeated_bytes)
    ));
    let names = &check.names;
    let sorts = [
        ("absolute", &names.absolute),
        ("with ..", &names.parents),
        ("not UTF-8", &names.not_utf8),
        ("met before", &names.duplicates),
        ("with a part over 255 bytes", &names.long_parts),
        ("differing only by case", &names.case_only),
    ];
    for (sort, Sort { count, examples }) in sorts.into_iter().filter(|(_, names)| names.count > 0) {
        let shown = examples.iter().map(|name| quoted(name).to_string()).collect::<Vec<_>>().join(" ");
        line(format!("names {sort}: {count}: {shown}"));
    }
    if !check.sizes.is_empty() {
        line("\nfiles up to      number      bytes".to_owned());
    }
    for bucket in &check.sizes {
        line(format!("{:>11}  {:>10} {:>10}", bucket.up_to_bytes, bucket.files, human(bucket.bytes)));
    }
    text
}
