//! The only place where the parts meet: a store, and what can be done with it.
//!
//! Four rooms; imports point down only:
//!
//! ```text
//! ops     gc, verify, repair, bundles, exports, statistics: what uses several of the rooms below
//! add     source → assembler → sink → committer: how bytes come in
//! read    resolve → plan → fetch → verify → deliver: how bytes come out
//! store   the handle, its index, its snapshots, the order of a commit
//! ```

pub mod add;
pub mod ops;
pub mod read;
pub mod store;

pub use store::{
    ChunkIndex, NewStore, RebuiltIndex, Settings, SnapshotList, SnapshotSummary, Store, UnreadableSnapshot,
};
