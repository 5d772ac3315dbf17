//! Errors of producers and consumers.

use std::sync::Arc;

use lockstep_protocol::{BatchError, ErrorCode};

use super::{PositionError, RequestError, advised, from_request_error};

/// Why records were not acknowledged.
#[derive(Debug, Clone, thiserror::Error)]
pub enum ProduceError {
    /// There is no such topic or partition.
    #[error("{}", advised(.message, "Create the topic, or correct the name or number"))]
    Unknown {
        /// What is missing.
        message: String,
    },
    /// A record or batch is too long. Nothing was sent, and later records are not affected.
    #[error("{what} of {bytes} bytes exceeds the limit of {limit}: make it smaller, or split it")]
    TooLarge {
        /// A record or a batch.
        what: &'static str,
        /// How long it is.
        bytes: u64,
        /// How long it may be.
        limit: u64,
    },
    /// A batch must have a record.
    #[error("a batch needs at least one record")]
    Empty,
    /// The next LSN is not the expected one. Nothing was written, and the partition goes on.
    #[error("the next LSN is {next_lsn}, not the expected one: read what was appended, then decide anew")]
    ConditionFailed {
        /// The next LSN.
        next_lsn: u64,
    },
    /// The partition is fenced by a greater epoch.
    #[error(
        "the partition is fenced at epoch {epoch}: stop writing, or take a greater epoch (lockstep partition fence)"
    )]
    Fenced {
        /// The epoch in force.
        epoch: u64,
    },
    /// The group's position is not the one that the batch's was to replace. Nothing was written.
    #[error("the group's position is {next_lsn}, not the expected one: somebody else processed that input")]
    PositionConflict {
        /// What it is; 0 if there is none.
        next_lsn: u64,
    },
    /// Another member of the group has taken over. Nothing was written.
    #[error("generation {generation} of the group has committed: stop this member")]
    GenerationFenced {
        /// The generation that committed last.
        generation: u64,
    },
    /// The batch was stored, too long ago for its LSNs to be remembered.
    #[error("the batch was stored before, but its LSNs are no longer remembered: treat it as stored")]
    StoredLongAgo,
    /// An earlier batch of the partition failed for good, so this one was not sent: the order would break.
    #[error(
        "not sent, because an earlier batch of the partition failed: mend that, then open a new producer. It failed so: {cause}"
    )]
    Poisoned {
        /// What became of the earlier batch.
        cause: Arc<ProduceError>,
    },
    /// The producer was closed.
    #[error("the producer is closed: open a new one")]
    Closed,
    /// Anything else.
    #[error(transparent)]
    Request(RequestError),
}

from_request_error! { ProduceError {
    ErrorCode::UnknownTopic | ErrorCode::UnknownPartition => |error| Self::Unknown { message: error.message },
    ErrorCode::ConditionFailed => |error| Self::ConditionFailed { next_lsn: error.detail },
    ErrorCode::Fenced => |error| Self::Fenced { epoch: error.detail },
    ErrorCode::PositionConflict => |error| Self::PositionConflict { next_lsn: error.detail },
    ErrorCode::GenerationFenced => |error| Self::GenerationFenced { generation: error.detail },
    ErrorCode::DuplicateTooOld => |_error| Self::StoredLongAgo,
} }

impl ProduceError {
    /// Whether sending the same records with a new producer may succeed.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::Request(error) => error.is_retryable(),
            Self::Poisoned { cause } => cause.is_retryable(),
            _ => false,
        }
    }
}

/// Why records could not be read.
#[derive(Debug, Clone, thiserror::Error)]
pub enum ConsumeError {
    /// There is no such topic or partition.
    #[error("{}", advised(.message, "Correct the topic or the partition number"))]
    Unknown {
        /// What is missing.
        message: String,
    },
    /// The records were removed by retention or a trim.
    #[error("LSN {from_lsn} of partition {partition} was removed: read on from {log_start}")]
    BelowLogStart {
        /// The partition.
        partition: u32,
        /// What was asked for.
        from_lsn: u64,
        /// The first LSN still kept.
        log_start: u64,
    },
    /// The LSN is beyond the end of the log.
    #[error(
        "LSN {from_lsn} of partition {partition} does not exist yet: the next one is {next_lsn}. Start there, or earlier"
    )]
    BeyondTail {
        /// The partition.
        partition: u32,
        /// What was asked for.
        from_lsn: u64,
        /// The next LSN to be written.
        next_lsn: u64,
    },
    /// The topic that was read is gone; the one of its name is another.
    #[error("topic {topic:?} was deleted and made anew: its LSNs begin anew, so open a new consumer")]
    MadeAnew {
        /// The topic.
        topic: String,
    },
    /// 0 is no LSN.
    #[error("LSN 0 does not exist: records are numbered from 1")]
    Zero,
    /// Records are missing or repeated between what was read and what came.
    #[error(
        "partition {partition}: expected LSN {expected}, got {found}. This must not happen: report it, with the broker's log"
    )]
    Gap {
        /// The partition.
        partition: u32,
        /// The LSN that follows the last one read.
        expected: u64,
        /// The LSN that came.
        found: u64,
    },
    /// A batch is damaged.
    #[error(
        "partition {partition}: the batch at LSN {lsn} is damaged: {error}. Read it from another broker, and verify this one's log"
    )]
    Damaged {
        /// The partition.
        partition: u32,
        /// The LSN expected there.
        lsn: u64,
        /// What is wrong.
        error: BatchError,
    },
    /// The position of the consumer's group could not be read or committed.
    #[error(transparent)]
    Commit(PositionError),
    /// The broker asked for holds no copy of the partition.
    #[error("broker {node} holds no copy of partition {partition}: choose one of {replicas:?}")]
    NotThere {
        /// The partition.
        partition: u32,
        /// The broker asked for.
        node: u64,
        /// The brokers that hold one.
        replicas: Vec<u64>,
    },
    /// Anything else.
    #[error(transparent)]
    Request(RequestError),
}

from_request_error! { ConsumeError {
    ErrorCode::UnknownTopic | ErrorCode::UnknownPartition => |error| Self::Unknown { message: error.message },
    ErrorCode::InvalidLsn => |_error| Self::Zero,
} }

impl ConsumeError {
    /// Whether reading on from the same place may succeed later.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::Request(error) => error.is_retryable(),
            Self::Commit(error) => error.is_retryable(),
            Self::BeyondTail { .. } => true,
            _ => false,
        }
    }
}
