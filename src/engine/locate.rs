//! Where is this chunk? The index, kept true to the packs and recipes that are really there.

use std::path::Path;
use std::sync::Arc;

use crate::catalog::recipe::RecipesFile;
use crate::error::{Error, Result};
use crate::format::directory::Directory;
use crate::format::id::{ChunkId, PackId, RecipeId, RecipesFileId};
use crate::format::name::{ObjectKind, ObjectName};
use crate::format::recipe::Piece;
use crate::index::{Access, Index, LoadDirectory, Location};
use crate::pack::reader::read_directory;
use crate::storage::Storage;
