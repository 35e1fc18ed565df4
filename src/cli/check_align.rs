//! `store check-align`: do parallel and serial chunking agree on these files?

use std::io::{Read, Write};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use serde::Serialize;

use super::{Context, Exit, standard};
use crate::chunk::check::{Check, Difference, Distances, Report, Seams, check};
use crate::chunk::{Profile, adversarial};
use crate::engine::add::StopReader;
use crate::error::{Error, Result};
use crate::spelling::{hex_unless_text, spelled};

const EXAMPLES: &str = "\
Examples:
  store check-align disk.img
  store check-align --profile all --segments 2,64,1000 --seed 7 models/
  store check-align --adversarial --profile all
  store check-align --adversarial --profile xet --write hard-inputs
  tar c src | store check-align --cuts -";

/// Check that parallel chunking cuts files exactly where serial chunking does.
///
/// Each file is chunked byte by byte, then by the scanner, as a stream, and in parallel in many ways. A seam is certified
/// when its worker could prove a cut of its own from its bytes, and replayed where it could not; the cuts are the same
/// either way. No store is needed. Exit code 4 if anything differs.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Args {
    /// Files, folders (all files in them), or - for standard input.
    #[arg(value_name = "FILE", required_unless_present = "adversarial")]
    files: Vec<PathBuf>,
    /// Check inputs made to defeat parallel chunking.
    #[arg(long)]
    adversarial: bool,
    /// Also write these inputs into this folder, for other programs to be tried on.
    #[arg(long, value_name = "DIR", requires = "adversarial")]
    write: Option<PathBuf>,
    /// The profile by its name, or all: one of each kind. Can be repeated.
    #[arg(long, value_name = "NAME", default_value = "default")]
    profile: Vec<String>,
    /// Split into this many equal segments.
    #[arg(long, value_name = "N,N,…", value_delimiter = ',', default_values_t = Check::default().segment_counts)]
    segments: Vec<usize>,
    /// And at this many lists of random seek points.
    #[arg(long, value_name = "N", default_value_t = Check::default().random_lists)]
    random_lists: usize,
    /// The seed of the random seek points.
    #[arg(long, default_value_t = Check::default().seed)]
    seed: u64,
    /// Print the cut points as well.
    #[arg(long)]
    cuts: bool,
}

/// The outcome for one file under one profile.
#[derive(Debug, Serialize)]
struct Checked {
    file: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    file_hex: Option<String>,
    identical: bool,
    #[serde(flatten)]
    report: Report,
}

/// The outcome for all of them.
#[derive(Debug, Default, Serialize)]
struct Outcome {
    identical: bool,
    checks: u64,
    different: u64,
    bytes: u64,
    lists: u64,
    seams: Seams,
    files: Vec<Checked>,
}

pub(super) fn run(args: &Args, context: &Context) -> Result<Exit> {
    let profiles = profiles(&args.profile)?;
    let mut run = Run { args, context, outcome: Outcome::default() };
    for profile in &profiles {
        if args.adversarial {
            for input in adversarial::inputs(profile) {
                if let Some(folder) = &args.write {
                    write(folder, profile, &input)?;
                }
                run.check(Path::new(&input.name), &input.bytes, profile)?;
            }
        }
    }
    for path in &args.files {
        run.visit(path, &profiles)?;
    }
    let mut outcome = run.outcome;
    outcome.identical = outcome.different == 0;
    let exit = if outcome.identical { Exit::Fine } else { Exit::Damaged };
    context.report.data(&outcome, || totals(&outcome))?;
    Ok(exit)
}

/// Writes an input as a file of its own; nothing that is there is replaced.
fn write(folder: &Path, profile: &Profile, input: &adversarial::Input) -> Result<()> {
    std::fs::create_dir_all(folder).map_err(|source| Error::io("create", folder, source))?;
    let path = folder.join(format!("{profile}, {}", input.name.replace('/', ":")));
    let written = std::fs::File::create_new(&path).and_then(|mut file| file.write_all(&input.bytes));
    written.map_err(|source| Error::io("write", &path, source))
}

fn profiles(names: &[String]) -> Result<Vec<Profile>> {
    let mut profiles = Vec::new();
    for name in names {
        if name == "all" {
            profiles.extend(Profile::samples());
        } else {
            profiles.push(name.parse().map_err(|error| Error::Usage(format!("--profile: {error}")))?);
        }
    }
    Ok(profiles)
}

struct Run<'a> {
    args: &'a Args,
    context: &'a Context,
    outcome: Outcome,
}

impl Run<'_> {
    /// Checks a file, or all files in a folder. Links and what is neither are passed over, unless they are named.
    fn visit(&mut self, path: &Path, profiles: &[Profile]) -> Result<()> {
        if path.is_dir() {
            let entries = std::fs::read_dir(path).and_then(Iterator::collect::<std::io::Result<Vec<_>>>);
            let mut entries = entries.map_err(|source| Error::io("read", path, source))?;
            entries.sort_by_key(std::fs::DirEntry::file_name);
            for entry in entries {
                let kind = entry.file_type().map_err(|source| Error::io("read", entry.path(), source))?;
                if kind.is_dir() || kind.is_file() {
                    self.visit(&entry.path(), profiles)?;
                }
            }
            return Ok(());
        }
        let bytes = if path == Path::new("-") {
            let mut bytes = Vec::new();
            standard::check_input()?;
            let read = StopReader::new(self.context.control.stop_flag()).read_to_end(&mut bytes);
            if self.context.control.is_stopped() {
                return Err(Error::Interrupted { kept: "nothing was changed".to_owned() });
            }
            read.map(|_| bytes)
        } else {
            std::fs::read(path)
        };
        let bytes = bytes.map_err(|source| Error::io("read", path, source))?;
        profiles.iter().try_for_each(|profile| self.check(path, &bytes, profile))
    }

    fn check(&mut self, name: &Path, bytes: &[u8], profile: &Profile) -> Result<()> {
        let request = Check {
            segment_counts: self.args.segments.clone(),
            random_lists: self.args.random_lists,
            seed: self.args.seed,
        };
        let mut report = check(bytes, profile, &request);
        let outcome = &mut self.outcome;
        outcome.checks += 1;
        outcome.different += u64::from(report.difference.is_some());
        outcome.bytes += report.bytes;
        outcome.lists += report.lists;
        outcome.seams += &report.seams;
        if !self.args.cuts {
            report.cuts.clear();
        }
        let checked = Checked {
            file: name.to_string_lossy().into_owned(),
            file_hex: hex_unless_text(name.as_os_str().as_bytes()),
            identical: report.difference.is_none(),
            report,
        };
        if self.context.report.is_json() {
            outcome.files.push(checked);
            return Ok(());
        }
        self.context.report.lines(&line(name, &checked))
    }
}

/// What the report says of one file.
fn line(name: &Path, checked: &Checked) -> String {
    let Report { profile, bytes, chunks, lists, seams, difference, cuts } = &checked.report;
    let mut text = format!(
        "{}: {profile}, {bytes} bytes, {chunks} chunks, {} segments in {lists} lists, {} certified{}, {} replayed: {}\n",
        spelled(name),
        seams.segments,
        seams.certified,
        distances(&seams.live_set),
        seams.replayed,
        if checked.identical { "identical" } else { "DIFFERENT" },
    );
    if let Some(difference) = difference {
        text += &describe(difference);
    }
    for cut in cuts {
        text += &format!("{cut}\n");
    }
    text
}

fn distances(distances: &Distances) -> String {
    match distances.summary() {
        None => String::new(),
        Some(found) => format!(" (after {} bytes on average, p99 {}, worst {})", found.mean, found.p99, found.worst),
    }
}

fn describe(difference: &Difference) -> String {
    let list = |cuts: &[u64]| cuts.iter().map(u64::to_string).collect::<Vec<_>>().join(" ");
    format!(
        "  {} chunking, seek points {:?}, differs after {} equal cuts\n  serial  … {} …\n  {:8}… {} …\n",
        difference.way,
        difference.seeks,
        difference.agreeing,
        list(&difference.serial),
        difference.way,
        list(&difference.other),
    )
}

/// What the report says of all files together.
fn totals(outcome: &Outcome) -> String {
    let seams = &outcome.seams;
    let mut text = format!(
        "{} checks of {} bytes, {} lists of segments: {}\n{} seams: {} certified, {} replayed; at most {} bytes of \
         hits kept for one\n",
        outcome.checks,
        outcome.bytes,
        outcome.lists,
        if outcome.identical { "all identical".to_owned() } else { format!("{} DIFFERENT", outcome.different) },
        seams.segments,
        seams.certified,
        seams.replayed,
        seams.hits_bytes_max,
    );
    text += "certified after (bytes)        mean        p99      worst   never\n";
    for (name, distances) in
        [("live set", &seams.live_set), ("one gap", &seams.one_gap), ("two gaps (Low)", &seams.two_gaps)]
    {
        if let Some(found) = distances.summary() {
            text += &format!(
                "{name:<22} {:>12} {:>10} {:>10} {:>7}\n",
                found.mean, found.p99, found.worst, distances.never
            );
        }
    }
    text
}
