//! `store hash`: what other systems would call these files.

use std::fs::File;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use serde::Serialize;

use super::{Context, Exit};
use crate::chunk::Profile;
use crate::chunk::seams::chunk_file;
use crate::error::{Error, Result};
use crate::format::spelling::{hex_unless_text, quoted, spelled};
use crate::format::xet::{XetHash, XetNode, file_hash};

/// Print the hash under which Hugging Face Xet keeps a file, and its size.
///
/// The same as `hf_xet.hash_files` prints. Files are chunked and hashed in parallel; no store is needed.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  store hash --xet model.safetensors\n  store --json hash --xet *.safetensors")]
pub(super) struct Args {
    /// As Xet does it; so far the only way.
    #[arg(long, required = true)]
    xet: bool,
    /// Files that can be read from any offset.
    #[arg(value_name = "FILE", required = true)]
    files: Vec<PathBuf>,
}

#[derive(Debug, Serialize)]
struct Hashed {
    /// U+FFFD stands for what is not UTF-8; then `file_hex` has the bytes.
    file: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    file_hex: Option<String>,
    hash: String,
    size: u64,
}

pub(super) fn run(args: &Args, context: &Context) -> Result<Exit> {
    debug_assert!(args.xet, "the argument is required");
    let mut all = Vec::new();
    for path in &args.files {
        let hashed = hash(path)?;
        if context.report.is_json() {
            all.push(hashed);
        } else {
            let line = format!("{} {:>12}  {}\n", hashed.hash, hashed.size, spelled(&path));
            context.report.raw(line.as_bytes())?;
        }
    }
    if context.report.is_json() {
        context.report.data(&all, String::new)?;
    }
    Ok(Exit::Fine)
}

fn hash(path: &Path) -> Result<Hashed> {
    let failed = |source| Error::io("read", path, source);
    let file = File::open(path).map_err(failed)?;
    let about = file.metadata().map_err(failed)?;
    if !about.is_file() {
        return Err(Error::Usage(format!(
            "{} is not a regular file; only these can be hashed in parallel",
            quoted(path)
        )));
    }
    let chunks = chunk_file(&file, about.len(), &Profile::xet(), XetHash::of_chunk).map_err(failed)?;
    let mut start = 0;
    let nodes: Vec<XetNode> = chunks
        .into_iter()
        .map(|chunk| XetNode { hash: chunk.made, length: chunk.end - std::mem::replace(&mut start, chunk.end) })
        .collect();
    Ok(Hashed {
        file: path.to_string_lossy().into_owned(),
        file_hex: hex_unless_text(path.as_os_str().as_bytes()),
        hash: file_hash(&nodes).to_string(),
        size: about.len(),
    })
}
