//! The command line: parse, check, run, report, exit. One file per subcommand; `report` alone prints.

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
mod names;
mod output;
mod repair;
mod report;
mod rm;
mod signals;
mod size;
mod snapshots;
mod standard;
mod stats;
mod time;
mod verify;

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use clap::{Parser, Subcommand};

pub use exit::Exit;
pub use standard::ClosedStreams;

use self::report::Report;
use self::signals::Signals;
use crate::engine::store::control::Control;
use crate::engine::{Store, UnreadableSnapshot};
use crate::error::{Error, Result};
use crate::spelling::quoted;

const AFTER_HELP: &str = "\
Examples:
  store add linux-6.1                 keep a tree; the store is ./.store, made on first use
  store get linux-6.1 -o copy         restore it as `copy`
  store get linux-6.1/README -o -     print one file of it
  store dedup-stats                   see what dedup and compression saved

Names are printed with \\\\ for a backslash, \\n, \\t, \\r, and \\xNN for other bytes that are not
plain text. A path can be given in the same way.

Exit codes: 0 fine, 1 error, 2 wrong usage, 3 done, but not in full: each file is named, 4 stored
data is damaged; 129, 130, 143 stopped by SIGHUP, SIGINT (Ctrl-C), SIGTERM.";

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
            let at = format!("bundle {} at byte {}", quoted(&store.location()), flaw.offset);
            self.report.warning(&format!("{at}: {}", flaw.what));
        }
    }
}

/// Runs the program: arguments from the command line, data to standard output, everything else to standard error.
#[must_use]
pub fn main(closed: ClosedStreams) -> ExitCode {
    standard::set_closed(closed);
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            // Once more, with arguments that can be printed: the error quotes them.
            let spelled = Cli::try_parse_from(std::env::args_os().map(report::quotable)).err();
            return Report::new(false, false).help(&spelled.unwrap_or(error)).into();
        }
    };
    allow_open_files();
    let report = Report::new(cli.json, cli.quiet);
    let context = Context { store: cli.store, report, control: Arc::new(Control::default()) };
    let signals = match Signals::catch(&context.control) {
        Ok(signals) => signals,
        Err(error) => return context.report.error(&error).into(),
    };
    let outcome = run(cli.command, &context);
    let passed_over = names_unreadable(&context);
    match outcome {
        Ok(exit) => exit.or(passed_over).into(),
        Err(error) if report::is_broken_pipe(&error) => Exit::Fine.into(),
        Err(error) => {
            let exit = context.report.error(&error);
            let signal = signals.received().filter(|_| matches!(error, Error::Interrupted { .. }));
            signal.map_or_else(|| exit.into(), signals::exit_code)
        }
    }
}

fn run(command: Command, context: &Context) -> Result<Exit> {
    match command {
        Command::Init(args) => init::run(&args, context),
        Command::Add(args) => add::run(&args, context),
        Command::Get(args) => get::run(&args, context),
        Command::Export(args) => export::run(&args, context),
        Command::Bundle(args) => bundle::run(&args, context),
        Command::Ls(args) => list::run(&args, context),
        Command::Snapshots(args) => snapshots::run(&args, context),
        Command::DedupStats(args) => stats::run(&args, context),
        Command::CheckAlign(args) => check_align::run(&args, context),
        Command::CheckTar(args) => check_tar::run(&args, context),
        Command::Hash(args) => hash::run(&args, context),
        Command::Verify(args) => verify::run(&args, context),
        Command::Repair(args) => repair::run(&args, context),
        Command::Rm(args) => rm::run(&args, context),
        Command::Gc(args) => gc::run(&args, context),
    }
}

/// Names the snapshots that could not be read and without which the work was done; says what that makes of the exit code.
fn names_unreadable(context: &Context) -> Exit {
    let unreadable = context.control.passed_over();
    for UnreadableSnapshot { id, what, .. } in &unreadable {
        context.report.warning(&format!("snapshot {id} cannot be read, the rest was done without it: {what}"));
    }
    match unreadable.as_slice() {
        [] => Exit::Fine,
        some if some.iter().any(|one| one.damaged) => {
            context.report.hint("`store verify` names what is lost, `store repair` saves what can be saved");
            Exit::Damaged
        }
        _ => Exit::Error,
    }
}

/// Lets the process have as many files open as it may ask for: files whose chunks are scattered are restored together.
fn allow_open_files() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
    // With the limit as it is, everything works too.
    let _ = setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum });
}

/// The number of worker threads to use.
fn threads(asked: Option<usize>) -> usize {
    asked.unwrap_or_else(|| std::thread::available_parallelism().map_or(1, usize::from)).max(1)
}
