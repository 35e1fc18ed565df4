//! The only file that prints. Data to standard output, everything else to standard error.

use std::ffi::OsStr;
use std::io::{self, IsTerminal, Write};
use std::os::unix::ffi::OsStrExt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde::Serialize;

use super::Exit;
use super::standard::{STDOUT, StandardError, StandardOutput};
use crate::engine::control::Control;
use crate::error::{Error, Result, chain};
use crate::format::entry::EntryPath;

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
        let bytes = if self.json {
            // Reports are structs of strings, numbers and lists: they always serialise.
            let mut bytes = serde_json::to_vec_pretty(data).unwrap_or_default();
            bytes.push(b'\n');
            bytes
        } else {
            text().into_bytes()
        };
        self.raw(&bytes)
    }

    /// Bytes of data.
    pub(super) fn raw(self, bytes: &[u8]) -> Result<()> {
        StandardOutput.write_all(bytes).map_err(|source| Error::io("write", STDOUT, source))
    }

    /// A line for people: not data, not an error.
    pub(super) fn note(self, line: &str) {
        if !self.quiet {
            say(&format!("{line}\n"));
        }
    }

    /// Something that needs attention.
    pub(super) fn warning(self, line: &str) {
        say(&format!("warning: {line}\n"));
    }

    /// What can be done about it.
    pub(super) fn hint(self, line: &str) {
        say(&format!("hint: {line}\n"));
    }

    /// The error with its causes, and what to do about it.
    pub(super) fn error(self, error: &Error) {
        say(&format!("error: {}\n", chain(error)));
        if let Some(hint) = error.hint() {
            self.hint(&hint);
        }
    }

    /// Prints what the parser of the command line has to say: help and version are data, all else is an error.
    pub(super) fn help(self, said: &clap::Error) -> Exit {
        let is_error = said.use_stderr();
        let is_terminal = if is_error { io::stderr().is_terminal() } else { io::stdout().is_terminal() };
        let printed = match (is_terminal, is_error) {
            // With colours.
            (true, _) => said.print().map_err(|source| Error::io("write", STDOUT, source)),
            (false, true) => {
                say(&said.render().to_string());
                Ok(())
            }
            (false, false) => self.raw(said.render().to_string().as_bytes()),
        };
        match printed {
            _ if is_error => Exit::Usage,
            Err(error) if !is_broken_pipe(&error) => {
                self.error(&error);
                Exit::of(&error)
            }
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

/// A path on one line: control characters and bytes that are no UTF-8 escaped.
pub(super) fn line_of(path: &EntryPath) -> String {
    if path.is_root() {
        return ".".to_owned();
    }
    let mut line = String::new();
    for chunk in path.as_bytes().utf8_chunks() {
        for c in chunk.valid().chars() {
            if c.is_control() || c == '\\' { line.extend(c.escape_default()) } else { line.push(c) }
        }
        for byte in chunk.invalid() {
            line.push_str(&format!("\\x{byte:02x}"));
        }
    }
    line
}

/// A path for JSON: text, and where it is no UTF-8 its bytes in hexadecimal digits.
#[derive(Debug, Serialize)]
pub(super) struct JsonPath {
    path: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    path_hex: Option<String>,
}

impl JsonPath {
    pub(super) fn new(bytes: &[u8]) -> Self {
        let text = OsStr::from_bytes(bytes).to_str();
        let path_hex = text.is_none().then(|| bytes.iter().map(|b| format!("{b:02x}")).collect());
        Self { path: String::from_utf8_lossy(bytes).into_owned(), path_hex }
    }
}
