//! The parts of the library, for this crate's own tests, benches and fuzz targets. Nothing in here is stable: it exists
//! with the cargo feature `internals` only.
#![allow(missing_docs, reason = "each room documents itself")]

use crate::Store;
use crate::catalog::snapshot::{ParentCursor, Snapshot};
use crate::chunk::Profile;
use crate::chunk::profile::Sizes;
use crate::entry::SnapshotId;
use crate::error::Result;
use crate::storage::Storage;

pub fn storage(store: &Store) -> &dyn Storage {
    store.storage()
}

pub fn open_snapshot(storage: &dyn Storage, id: SnapshotId) -> Result<Snapshot<'_>> {
    Snapshot::open(storage, id)
}

pub fn parent_cursor<'a, 's>(snapshot: &'a Snapshot<'s>) -> ParentCursor<'a, 's> {
    snapshot.parent_cursor()
}

pub fn sample_profiles() -> Vec<Profile> {
    Profile::samples()
}

pub fn sizes(profile: &Profile) -> Sizes {
    profile.sizes()
}

pub mod archive {
    pub use crate::archive::*;
}
pub mod arrays {
    pub use crate::arrays::*;
}
pub mod catalog {
    pub use crate::catalog::*;
}
pub mod chunk {
    pub use crate::chunk::*;
    pub mod adversarial {
        pub use crate::chunk::adversarial::*;
    }
    pub mod certify {
        pub use crate::chunk::certify::*;
    }
    pub mod check {
        pub use crate::chunk::check::*;
    }
    pub mod finder {
        pub use crate::chunk::finder::*;
    }
    pub mod hits {
        pub use crate::chunk::hits::*;
    }
    pub mod low {
        pub use crate::chunk::low::*;
    }
    pub mod profile {
        pub use crate::chunk::profile::*;
    }
    pub mod replay {
        pub use crate::chunk::replay::*;
    }
    pub mod rule {
        pub use crate::chunk::rule::*;
    }
    pub mod scan {
        pub use crate::chunk::scan::*;
    }
    pub mod script {
        pub use crate::chunk::script::*;
    }
    pub mod seams {
        pub use crate::chunk::seams::*;
    }
    pub mod stream {
        pub use crate::chunk::stream::*;
    }
}
pub mod engine {
    pub use crate::engine::*;
}
pub mod error {
    pub use crate::error::*;
}
pub mod format {
    pub use crate::format::*;
}
pub mod index {
    pub use crate::index::*;
}
pub mod ingest {
    pub use crate::ingest::*;
}
pub mod pack {
    pub use crate::pack::*;
}
pub mod restore {
    pub use crate::restore::*;
}
pub mod spelling {
    pub use crate::spelling::*;
}
pub mod storage {
    pub use crate::storage::*;
}
