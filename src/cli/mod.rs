//! The command line: parse, check, run, report, exit. One file per subcommand; [`report`] alone prints.

mod add;
mod bundle;
mod check_align;
mod check_tar;
mod exit;
mod export;
mod gc;
mod get;
mod hash;
mod init;
mod labels;
mod list;
mod output;
mod repair;
mod report;
mod rm;
mod size;
mod snapshots;
mod stats;
mod time;
mod verify;

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use clap::{Parser, Subcommand};

pub use exit::Exit;

use self::report::Report;
use crate::engine::Store;
use crate::engine::control::Control;
use crate::error::Result;

const AFTER_HELP: &str = "\
Examples:
  store add linux-6.1                 keep a tree; the store is ./.store, made on first use
  store get linux-6.1 -o copy         restore it as `copy`
  store get linux-6.1/README -o -     print one file of it
  store dedup-stats                   see what dedup and compression saved

Exit codes: 0 fine, 1 error, 2 wrong usage, 3 done, but some files were skipped, 4 stored data is damaged.";

/// Keeps many versions of big data in little space.
#[derive(Debug, Parser)]
#[command(name = "store", version, after_help = AFTER_HELP, max_term_width = 110)]
struct Cli {
    /// The store.
    #[arg(long, global = true, env = "STORE_PATH", default_value = ".store", value_name = "PATH")]
    store: PathBuf,
    /// Report as JSON on standard output (see docs/json.md).
    #[arg(long, global = true)]
    json: bool,
    /// Say nothing but errors.
    #[arg(long, short, global = true)]
    quiet: bool,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Init(init::Args),
    Add(add::Args),
    Get(get::Args),
    Export(export::Args),
    Bundle(bundle::Args),
    Ls(list::Args),
    Snapshots(snapshots::Args),
    DedupStats(stats::Args),
    CheckAlign(check_align::Args),
    CheckTar(check_tar::Args),
    Hash(hash::Args),
    Verify(verify::Args),
    Repair(repair::Args),
    Rm(rm::Args),
    Gc(gc::Args),
}

/// What every subcommand is given.
struct Context {
    store: PathBuf,
    report: Report,
    control: Arc<Control>,
}

impl Context {
    fn open(&self) -> Result<Store> {
        let store = Store::open(&self.store)?;
        self.warn_of_flaws(&store);
        Ok(store)
    }

    /// Says what is wrong with a bundle that can be read all the same.
    fn warn_of_flaws(&self, store: &Store) {
        for flaw in store.bundle_flaws() {
            self.report.warning(&format!("bundle {:?} at byte {}: {}", store.location(), flaw.offset, flaw.what));
        }
    }
}

/// Runs the program: arguments from the command line, data to standard output, everything else to standard error.
#[must_use]
pub fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            // Help and version go to standard output and are no error.
            let _ = error.print();
            return if error.use_stderr() { Exit::Usage.into() } else { Exit::Fine.into() };
        }
    };
    allow_open_files();
    let report = Report::new(cli.json, cli.quiet);
    let control = Arc::new(Control::default());
    let context = Context { store: cli.store, report, control };
    let outcome = catch_signals(&context.control).and_then(|()| match cli.command {
        Command::Init(args) => init::run(&args, &context),
        Command::Add(args) => add::run(&args, &context),
        Command::Get(args) => get::run(&args, &context),
        Command::Export(args) => export::run(&args, &context),
        Command::Bundle(args) => bundle::run(&args, &context),
        Command::Ls(args) => list::run(&args, &context),
        Command::Snapshots(args) => snapshots::run(&args, &context),
        Command::DedupStats(args) => stats::run(&args, &context),
        Command::CheckAlign(args) => check_align::run(&args, &context),
        Command::CheckTar(args) => check_tar::run(&args, &context),
        Command::Hash(args) => hash::run(&args, &context),
        Command::Verify(args) => verify::run(&args, &context),
        Command::Repair(args) => repair::run(&args, &context),
        Command::Rm(args) => rm::run(&args, &context),
        Command::Gc(args) => gc::run(&args, &context),
    });
    match outcome {
        Ok(exit) => exit.into(),
        Err(error) if report::is_broken_pipe(&error) => Exit::Fine.into(),
        Err(error) => {
            context.report.error(&error);
            Exit::of(&error).into()
        }
    }
}

/// Lets the process have as many files open as it may ask for: files whose chunks are scattered are restored together.
fn allow_open_files() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
    // With the limit as it is, everything works too.
    let _ = setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum });
}

/// The first Ctrl-C (or SIGTERM) asks the work to stop cleanly, the second ends the process.
fn catch_signals(control: &Control) -> Result<()> {
    for signal in [signal_hook::consts::SIGINT, signal_hook::consts::SIGTERM] {
        let flag = control.stop_flag();
        signal_hook::flag::register_conditional_default(signal, Arc::clone(&flag))
            .and_then(|_| signal_hook::flag::register(signal, flag))
            .map_err(|source| crate::Error::io("catch signals for", "this process", source))?;
    }
    Ok(())
}

/// The number of worker threads to use.
fn threads(asked: Option<usize>) -> usize {
    asked.unwrap_or_else(|| std::thread::available_parallelism().map_or(1, usize::from)).max(1)
}
