//! Why a use case failed: one error per operation, and what they share.

use lockstep_protocol::BatchError;

use crate::cluster::{MetadataError, ReadFault};
use crate::engine::{AppendError, ShardId};

/// Why this broker does not serve a partition.
#[derive(Clone, Debug, thiserror::Error)]
pub enum LocateError {
    /// There is no such topic, as far as this broker knows.
    #[error("there is no topic {0:?}; create it, or correct the name")]
    UnknownTopic(String),
    /// The topic has no such partition.
    #[error("topic {topic:?} has partitions 0 to {last}, not {partition}", last = partitions.saturating_sub(1))]
    UnknownPartition {
        /// The topic.
        topic: String,
        /// The partition asked for.
        partition: u32,
        /// How many it has.
        partitions: u32,
    },
    /// Other brokers hold the partition.
    #[error("this broker holds no replica of the partition; ask broker {node}")]
    NotReplica {
        /// One that does.
        node: u64,
    },
    /// The replica is still being opened.
    #[error("this broker is still opening its replica (shard {shard}); try again shortly")]
    Opening {
        /// Its shard.
        shard: ShardId,
    },
    /// The replica takes no part.
    #[error("this broker's replica takes no part: {0}")]
    Faulty(String),
}

/// Why a batch was not appended, or why it cannot be said whether it was.
#[derive(Clone, Debug, thiserror::Error)]
pub enum ProduceError {
    /// The partition is not served here.
    #[error(transparent)]
    Locate(#[from] LocateError),
    /// The batch breaks a rule; nothing was appended.
    #[error(transparent)]
    Invalid(#[from] BatchError),
    /// The replica refused it.
    #[error(transparent)]
    Append(#[from] AppendError),
    /// The time was up before the commit was known; the batch may be stored.
    #[error(
        "not committed within {waited_ms} ms; retry with the same producer id and sequence, or allow more time"
    )]
    TimedOut {
        /// How long was waited, in milliseconds.
        waited_ms: u64,
    },
}

/// Why nothing was read.
#[derive(Clone, Debug, thiserror::Error)]
pub enum FetchError {
    /// The partition is not served here.
    #[error(transparent)]
    Locate(#[from] LocateError),
    /// 0 is no LSN.
    #[error("0 is no LSN; records are numbered from 1")]
    InvalidLsn,
    /// The LSN is beyond the next one to be written.
    #[error("LSN {asked} is beyond the end of the log; the next LSN is {next_lsn}")]
    BeyondTail {
        /// The LSN asked for.
        asked: u64,
        /// The next one to be written, as far as this replica knows.
        next_lsn: u64,
    },
    /// The records are gone, or cannot be read here.
    #[error(transparent)]
    Read(#[from] ReadFault),
    /// The partition was deleted, or the broker is stopping.
    #[error("the partition was closed: its topic was deleted, or the broker is stopping")]
    Closed,
}

/// Why a partition's state was not changed or told.
#[derive(Clone, Debug, thiserror::Error)]
pub enum ControlError {
    /// The partition is not served here.
    #[error(transparent)]
    Locate(#[from] LocateError),
    /// The replica refused it.
    #[error(transparent)]
    Append(#[from] AppendError),
    /// The replica cannot be read.
    #[error(transparent)]
    Read(#[from] ReadFault),
    /// Its time was up.
    #[error("no answer within {waited_ms} ms; the change may have been made: look, then try again")]
    TimedOut {
        /// How long was waited, in milliseconds.
        waited_ms: u64,
    },
}

/// Why topics were not created, deleted or told.
pub type TopicError = MetadataError;
