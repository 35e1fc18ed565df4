//! `store hash`: what other systems would call these files.

use std::fs::File;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use serde::Serialize;

use super::{Context, Exit};
use crate::chunk::seams::{ChunkEnd, chunk_file};
use crate::chunk::{Chunker, Profile};
use crate::error::{Error, Result};
use crate::format::xet::{XetHash, XetNode, file_hash};
use crate::spelling::{hex_unless_text, quoted, spelled};

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
    let nodes = match in_parallel(&file, about.len()) {
        // Its size is not what its file system states.
        Ok(None) => in_order(&file),
        Ok(Some(nodes)) => Ok(nodes),
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => in_order(&file),
        Err(error) => Err(error),
    };
    let nodes = nodes.map_err(failed)?;
    let size = nodes.iter().map(|node| node.length).sum();
    Ok(Hashed {
        file: path.to_string_lossy().into_owned(),
        file_hex: hex_unless_text(path.as_os_str().as_bytes()),
        hash: file_hash(&nodes).to_string(),
        size,
    })
}

/// The chunks of the first `length` bytes of a file; `None` if it has more.
fn in_parallel(file: &File, length: u64) -> io::Result<Option<Vec<XetNode>>> {
    if file.read_at(&mut [0], length)? > 0 {
        return Ok(None);
    }
    let chunks = chunk_file(file, length, &Profile::xet(), XetHash::of_chunk)?;
    let mut start = 0;
    let node = |chunk: ChunkEnd<XetHash>| XetNode {
        hash: chunk.made,
        length: chunk.end - std::mem::replace(&mut start, chunk.end),
    };
    Ok(Some(chunks.into_iter().map(node).collect()))
}

/// The chunks of a file that is read to its end, whatever its size is said to be.
fn in_order(file: &File) -> io::Result<Vec<XetNode>> {
    let mut nodes = Vec::new();
    let mut chunker = Chunker::new(file, &Profile::xet());
    while let Some(chunk) = chunker.next_chunk()? {
        nodes.push(XetNode { hash: XetHash::of_chunk(chunk.bytes), length: chunk.bytes.len() as u64 });
    }
    Ok(nodes)
}
