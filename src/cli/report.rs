//! The only file that prints. Data to standard output, everything else to standard error.
//!
//! Invariant: whatever text comes here, nothing that a terminal obeys leaves; names are spelled before (`format::spelling`).

use std::ffi::{OsStr, OsString};
use std::io::{self, IsTerminal, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde::Serialize;

use super::Exit;
use super::standard::{STDOUT, StandardError, StandardOutput};
use crate::engine::store::control::Control;
use crate::error::{Error, Result, chain};
use crate::format::entry::EntryPath;
use crate::spelling::{harmless, harmless_json, harmless_lines, is_odd, spelled};

/// Where and how to report.
#[derive(Debug, Clone, Copy)]
pub(super) struct Report {
    json: bool,
    quiet: bool,
}

impl Report {
    pub(super) fn new(json: bool, quiet: bool) -> Self {
        Self { json, quiet }
    }

    pub(super) fn is_json(self) -> bool {
        self.json
    }

    /// Data as JSON, if that was asked for, else as text made by `text`.
    pub(super) fn data<T: Serialize>(self, data: &T, text: impl FnOnce() -> String) -> Result<()> {
        let text = if self.json {
            // Reports are structs of strings, numbers and lists: they always serialise.
            let json = serde_json::to_string_pretty(data).unwrap_or_default() + "\n";
            harmless_json(&json).into_owned()
        } else {
            harmless_lines(&text()).into_owned()
        };
        self.raw(text.as_bytes())
    }

    /// Lines of text for standard output.
    pub(super) fn lines(self, text: &str) -> Result<()> {
        self.raw(harmless_lines(text).as_bytes())
    }

    /// Bytes of data, as they are: file names for other programs, contents of files.
    pub(super) fn raw(self, bytes: &[u8]) -> Result<()> {
        StandardOutput.write_all(bytes).map_err(|source| Error::io("write", STDOUT, source))
    }

    /// A line for people: not data, not an error.
    pub(super) fn note(self, line: &str) {
        if !self.quiet {
            say(&format!("{}\n", harmless(line)));
        }
    }

    /// Something that needs attention.
    pub(super) fn warning(self, line: &str) {
        say(&format!("warning: {}\n", harmless(line)));
    }

    /// What can be done about it.
    pub(super) fn hint(self, line: &str) {
        say(&format!("hint: {}\n", harmless(line)));
    }

    /// Prints the error with its causes, and what to do about it; returns the exit code.
    pub(super) fn error(self, error: &Error) -> Exit {
        say(&format!("error: {}\n", harmless(&chain(error))));
        if let Some(hint) = error.hint() {
            self.hint(&hint);
        }
        Exit::of(error)
    }

    /// Prints what the parser of the command line has to say: help and version are data, all else is an error.
    pub(super) fn help(self, said: &clap::Error) -> Exit {
        let is_error = said.use_stderr();
        let is_terminal = if is_error { io::stderr().is_terminal() } else { io::stdout().is_terminal() };
        let printed = match (is_terminal, is_error) {
            // With colours.
            (true, _) => said.print().map_err(|source| Error::io("write", STDOUT, source)),
            (false, true) => {
                say(&harmless_lines(&said.render().to_string()));
                Ok(())
            }
            (false, false) => self.raw(said.render().to_string().as_bytes()),
        };
        match printed {
            _ if is_error => Exit::Usage,
            Err(error) if !is_broken_pipe(&error) => self.error(&error),
            _ => Exit::Fine,
        }
    }

    /// Shows progress while `work` runs, if standard error is a terminal.
    pub(super) fn progress<T>(
        self,
        control: &Arc<Control>,
        totals: impl FnOnce(&dyn Fn() -> bool) -> Option<(u64, u64)> + Send,
        work: impl FnOnce() -> T,
    ) -> T {
        if self.quiet || self.json || !io::stderr().is_terminal() {
            return work();
        }
        let ended = AtomicBool::new(false);
        std::thread::scope(|scope| {
            let is_ended = || ended.load(Ordering::Relaxed);
            let known = Arc::new(std::sync::OnceLock::new());
            let for_counter = Arc::clone(&known);
            scope.spawn(move || {
                if let Some(totals) = totals(&is_ended) {
                    let _ = for_counter.set(totals);
                }
            });
            scope.spawn(move || {
                let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr());
                while !is_ended() {
                    show(&bar, control, known.get().copied());
                    std::thread::park_timeout(Duration::from_millis(100));
                }
                bar.finish_and_clear();
            });
            let result = work();
            ended.store(true, Ordering::Relaxed);
            result
        })
    }
}

/// Writes to standard error, in one write where the system takes it. Where that fails, the exit code still says it.
fn say(text: &str) {
    let _ = StandardError.write_all(text.as_bytes());
}

fn show(bar: &ProgressBar, control: &Control, totals: Option<(u64, u64)>) {
    let template = match totals {
        Some((files, bytes)) => {
            bar.set_length(bytes);
            format!(
                "{{bar:30}} {{msg}} of {files} files, {{bytes}} of {{total_bytes}}, {{bytes_per_sec}}, {{eta}} left"
            )
        }
        None => "{spinner} {msg} files, {bytes}, {bytes_per_sec}".to_owned(),
    };
    if let Ok(style) = ProgressStyle::with_template(&template) {
        bar.set_style(style);
    }
    bar.set_message(control.entries().to_string());
    bar.set_position(control.bytes());
}

/// Whether the reader of our output has gone away, which is its right.
pub(super) fn is_broken_pipe(error: &Error) -> bool {
    matches!(error, Error::Io { path, source, .. }
        if source.kind() == io::ErrorKind::BrokenPipe && path == OsStr::new(STDOUT))
}

/// An argument as the parser may quote it: spelled, if a terminal would obey it or it is not UTF-8.
pub(super) fn quotable(argument: OsString) -> OsString {
    let is_plain = argument.to_str().is_some_and(|text| !text.contains(is_odd));
    if is_plain { argument } else { spelled(argument.as_os_str()).to_string().into() }
}

/// A path in a snapshot as it is listed: spelled, and `.` for the root.
pub(super) fn line_of(path: &EntryPath) -> String {
    if path.is_root() { ".".to_owned() } else { spelled(path).to_string() }
}

/// Words with spaces between them, each spelled.
pub(super) fn words_of<'a>(words: impl IntoIterator<Item = &'a [u8]>) -> String {
    words.into_iter().map(|word| spelled(word).to_string()).collect::<Vec<_>>().join(" ")
}
