//! Storage of one shard: a single log that is Raft's and the data's at once, so that a record's bytes are written
//! to disk exactly once.
//!
//! Invariants, each kept by the module it names:
//! 1. LSNs are exactly 1..n, and indexes follow one another ([`log`]).
//! 2. What [`Log::synced_index`] covers survives any crash; what a durable truncation removed never returns
//!    ([`log`], [`recovery`]).
//! 3. Damage below what was synced is reported, never cut off ([`recovery`]).
//! 4. Every byte read from disk is verified ([`reader`]).
//! 5. Nothing here reads a clock or a random source, or touches a disk but through [`io::Disk`]. (Only
//!    [`lock`] calls the operating system itself.)
//!
//! Every byte on disk is drawn in `docs/storage-format.md`.

mod cache;
mod checkpoint;
mod codec;
mod cut;
mod entry;
mod envelope;
pub mod frame;
mod group;
mod index;
pub mod inspect;
pub mod io;
pub mod lock;
pub mod log;
mod pool;
pub mod reader;
pub mod recovery;
pub mod salvage;
mod scan;
pub mod segment;
mod tail;
pub mod vote;

pub use cache::Cache;
pub use checkpoint::{Checkpoint, MAX_CHECKPOINT_BYTES};
pub use entry::{Entry, EntryError, EntryKind, MAX_BODY_BYTES, MAX_SYSTEM_BODY_BYTES};
pub use envelope::{BODY_PREFIX_BYTES, ENVELOPE_BYTES, Envelope, EnvelopeError, EnvelopeKind};
pub use frame::Nonce;
pub use group::{GroupOutcome, GroupStats, LogFailed, WriteGroup};
pub use inspect::{Finding, Summary, inspect};
pub use log::{
    AppendError, CheckpointTooLong, CreateError, Damage, EntriesError, Log, LogOptions, RecoveryError,
    RollError, RollState, Synced, Tip, TruncateError,
};
pub use pool::{POOL_DIRECTORY, SegmentPool};
pub use reader::{
    CachedRead, ChainedEntry, LogReader, ReadBatch, ReadError, ReadFiles, ScrubCursor, Scrubbed,
};
pub use recovery::{Recovered, RecoveryReport, Replay};
pub use salvage::{Hole, Patch, PatchError, Survey, SurveyError};
pub use vote::Vote;
