//! What can be got wrong in the bucket protocol? Each mistake is built into the model, and the search must find it.

/// One departure from the protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Mistake {
    None,

    // Leases.
    /// C1: gc takes an old lease for ended and decides nothing about its end.
    LeaseExpires,
    /// A writer whose lease put timed out takes the next slot without reading who holds this one.
    SlotGap,
    /// A writer takes a slot of a generation though it has not read `condemned` of it.
    JumpAhead,
    /// A heartbeat is a plain put to the key of the lease.
    BeatOnLeaseKey,
    /// gc waits for the leases that it lists and closes no lane.
    NoClose,
    /// gc closes one lane of two.
    OneLane,

    // The commit.
    /// C2: the put of the snapshot is the commit, and the end of the lease is another put.
    SnapshotIsTheCommit,
    /// The commit is a plain put: it lands on top of a revocation.
    CommitOverwrites,
    /// A writer whose commit timed out deletes what it had put.
    GiveUpDeletes,
    /// A commit names the writer's own segments, but not those of others that it relies on.
    ForeignSegmentUnnamed,

    // What a writer may rely on.
    /// A GET of `condemned` that answers 404 counts as an empty list; or the writer read its list before it had its lease.
    StaleCondemned,
    /// A GET of `delete` that answers 404 after `done` was read counts as an empty list.
    StaleDelete,
    /// A segment of a closed generation counts although no ledger names it.
    LateSegment,
    /// A cache counts without a look at the ledger.
    CacheTrusted,
    /// A merge relies on whatever its parts need.
    MergeTrusts,

    // Names.
    /// C3: a pack's name comes from its contents alone.
    ContentNames,
    /// A copy is given the name that its contents had before.
    KeptName,

    // gc.
    /// C4: a gc whose list lost the race goes on with its own list.
    OwnCondemned,
    /// A gc whose decision about deletes lost the race goes on with its own.
    OwnDelete,
    /// gc deletes by what it marked before it closed the lanes.
    NoSecondMark,
    /// gc takes the ends of a generation from a listing.
    ListedEnds,
    /// gc takes the ends for the new ledger from a listing, which lags behind by those of writer 1.
    ListedLedger,
    /// gc counts on copies that neither an end nor `condemned` names.
    TrustsUnnamedCopies,
    /// gc names a copy that it put before the generation before was done.
    ReusesCopy,
    /// gc counts on packs that an earlier list deletes.
    ForgetsDeletes,
    /// gc begins a generation before the one before is done.
    CondemnsBeforeDone,
    /// gc writes `done` before its deletes are acknowledged.
    DoneBeforeDeletes,

    // Removals.
    /// A removal deletes the snapshot's object instead of committing.
    RemovalDeletes,
    /// The ledger does not subtract removed snapshots.
    RemovalsIgnored,
    /// A removal takes away a snapshot of a later generation than its own lease.
    RemovesYounger,

    // Readers.
    /// A reader reports damage at the first 404.
    ReaderGivesUp,
    /// A reader that met a 404 loads the newest `done` and nothing behind it.
    ReaderLoadsOnlyDone,
}
