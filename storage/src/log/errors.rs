//! What each operation of a log can answer instead of doing it. Each message names the fix.

use crate::checkpoint::MAX_CHECKPOINT_BYTES;
use crate::entry::EntryError;
use crate::group::LogFailed;
use crate::segment::SegmentHeaderError;
use std::io;

/// Why [`Log::create`](crate::Log::create) made nothing.
#[derive(Debug, thiserror::Error)]
pub enum CreateError {
    /// Something is there already; it stays as it is.
    #[error("{directory} already holds a log: recover it, or choose another directory")]
    Exists {
        /// The directory asked for.
        directory: String,
    },
    /// The checkpoint does not fit the format.
    #[error(transparent)]
    Checkpoint(#[from] CheckpointTooLong),
    /// The disk refused.
    #[error("creating a log in {directory}: {error}; check permissions and space, and try again")]
    Io {
        /// The directory asked for.
        directory: String,
        /// What the disk said.
        error: io::Error,
    },
}

/// A checkpoint above the format's maximum.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a checkpoint of {bytes} bytes is above the maximum of {MAX_CHECKPOINT_BYTES}: keep fewer producers")]
pub struct CheckpointTooLong {
    /// Its encoded length.
    pub bytes: usize,
}

/// Why an entry was not appended. The log is as before.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AppendError {
    /// Indexes are consecutive.
    #[error("entry {found} does not follow: the next index is {expected}; truncate first if it replaces one")]
    Index {
        /// The only index that can come next.
        expected: u64,
        /// The entry's.
        found: u64,
    },
    /// Terms never decrease.
    #[error("entry of term {found} after term {last}: it comes from a deposed leader, drop it")]
    Term {
        /// The last entry's term.
        last: u64,
        /// The entry's.
        found: u64,
    },
    /// LSNs are dense.
    #[error(
        "entry begins with LSN {found} and the next LSN is {expected}: the sender's log differs, compare chains"
    )]
    Lsn {
        /// The only LSN that can come next.
        expected: u64,
        /// The envelope's.
        found: u64,
    },
    /// Envelope or body break the format.
    #[error(transparent)]
    Entry(#[from] EntryError),
    /// [`Log::needs_roll`](crate::Log::needs_roll) says so: after a truncation or an unclean recovery.
    #[error("the log goes on in a new segment only: roll it first")]
    RollFirst,
    /// The log has failed before.
    #[error(transparent)]
    Failed(#[from] LogFailed),
}

/// Why a truncation was refused. The log is as before.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TruncateError {
    /// Committed entries stay.
    #[error(
        "truncation at {from} would remove committed entries through {commit}: stop this replica, its peers diverge"
    )]
    BelowCommit {
        /// First index to go.
        from: u64,
        /// The committed index.
        commit: u64,
    },
    /// There is nothing there.
    #[error("truncation at {from} is beyond the last entry {last}: nothing to remove")]
    BeyondEnd {
        /// First index to go.
        from: u64,
        /// The last index.
        last: u64,
    },
    /// The log has failed before.
    #[error(transparent)]
    Failed(#[from] LogFailed),
}

/// Why a roll or an install was refused. The log is as before.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RollError {
    /// The state handed in is too big.
    #[error(transparent)]
    Checkpoint(#[from] CheckpointTooLong),
    /// A snapshot must lie ahead of what is committed.
    #[error("a snapshot at {index} is behind the committed index {commit}: replicate entries instead")]
    Behind {
        /// The snapshot's index.
        index: u64,
        /// The committed index.
        commit: u64,
    },
    /// The log has failed before.
    #[error(transparent)]
    Failed(#[from] LogFailed),
}

/// Why memory cannot answer for a range of entries.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EntriesError {
    /// Before the first index kept.
    #[error("entry {index} is gone, the log begins at {first}: send a snapshot")]
    Compacted {
        /// The index asked for.
        index: u64,
        /// The first there is.
        first: u64,
    },
    /// On disk alone.
    #[error("entry {index} is on disk only: read it through a LogReader")]
    NotCached {
        /// The index asked for.
        index: u64,
    },
    /// Beyond the last.
    #[error("entry {index} does not exist yet, the last is {last}: ask for less")]
    OutOfRange {
        /// The index asked for.
        index: u64,
        /// The last there is.
        last: u64,
    },
}

/// Bytes on disk that are not what this log once synced. Nothing is changed or deleted.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{file} at byte {position} is damaged ({why}): expected entry {index}, and entries through {synced_index} were synced; \
     keep the files, the broker fills in from its peers what is missing"
)]
pub struct Damage {
    /// The file, relative to the data directory.
    pub file: String,
    /// Where in it, in bytes.
    pub position: u64,
    /// The Raft index expected there.
    pub index: u64,
    /// The highest index known to have been synced.
    pub synced_index: u64,
    /// What is wrong.
    pub why: &'static str,
}

/// Why [`Log::recover`](crate::Log::recover) has no log to offer.
#[derive(Debug, thiserror::Error)]
pub enum RecoveryError {
    /// No log has been created there.
    #[error("no log in {directory}: create it, or check the path of the data directory")]
    NotFound {
        /// The directory asked for.
        directory: String,
    },
    /// The files belong to another shard.
    #[error(
        "{directory} holds the log of shard {found}, not of shard {expected}: give each its own directory"
    )]
    Foreign {
        /// The directory asked for.
        directory: String,
        /// The shard asked for.
        expected: u64,
        /// The shard found.
        found: u64,
    },
    /// Synced bytes are damaged or missing: the replica is faulty, and must neither vote nor acknowledge.
    #[error(transparent)]
    Faulty(#[from] Damage),
    /// Neither copy of the vote is whole: the replica must not vote as if it never had.
    #[error(
        "{file} holds no whole vote: keep it, the broker votes again once its peers have told it of their terms"
    )]
    VoteLost {
        /// The vote file.
        file: String,
    },
    /// A header that cannot be read.
    #[error("{file}: {error}")]
    Header {
        /// The segment.
        file: String,
        /// What is wrong.
        error: SegmentHeaderError,
    },
    /// A frame that is whole and of no known format: another version of the broker wrote it. Nothing is changed.
    #[error("{file} at byte {position}: {error}")]
    UnknownEntry {
        /// The segment.
        file: String,
        /// Where in it, in bytes.
        position: u64,
        /// What is not known.
        error: EntryError,
    },
    /// The disk is there and cannot read what it holds. Perhaps it can the next time; if not, that is damage.
    #[error(
        "reading {file}: {error}; check the disk, the broker tries again and then fetches from its peers"
    )]
    Unreadable {
        /// The file.
        file: String,
        /// The log ends in it, so that nobody knows where.
        holds_end: bool,
        /// What the disk said.
        error: io::Error,
    },
    /// The disk did not answer.
    #[error("recovering {directory}: {error}; check the disk and the directory's permissions")]
    Io {
        /// The directory asked for.
        directory: String,
        /// What the disk said.
        error: io::Error,
    },
}
