//! Errors about a partition's log and the positions kept in it.

use lockstep_protocol::ErrorCode;

use super::{RequestError, advised, from_request_error};

/// Why a partition could not be asked, trimmed or fenced.
#[derive(Debug, Clone, thiserror::Error)]
pub enum PartitionError {
    /// There is no such topic or partition.
    #[error("{}", advised(.message, "Correct the topic or the partition number"))]
    Unknown {
        /// The broker's words.
        message: String,
    },
    /// The LSN is out of range.
    #[error("the LSN is out of range: {message}; the limit is {limit}")]
    OutOfRange {
        /// The broker's words.
        message: String,
        /// Log start or next LSN, whichever was passed.
        limit: u64,
    },
    /// The partition has a greater fencing epoch.
    #[error("the partition is fenced at epoch {epoch}: use a greater one, or stop writing")]
    Fenced {
        /// The epoch in force.
        epoch: u64,
    },
    /// Anything else.
    #[error(transparent)]
    Request(RequestError),
}

from_request_error! { PartitionError {
    ErrorCode::UnknownTopic | ErrorCode::UnknownPartition => |error| Self::Unknown { message: error.message },
    ErrorCode::InvalidLsn | ErrorCode::LsnBelowLogStart | ErrorCode::LsnBeyondTail =>
        |error| Self::OutOfRange { limit: error.detail, message: error.message },
    ErrorCode::Fenced => |error| Self::Fenced { epoch: error.detail },
} }

impl PartitionError {
    /// Whether the same call may succeed later.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        matches!(self, Self::Request(error) if error.is_retryable())
    }
}

/// Why a group's position was not committed, told or deleted.
#[derive(Debug, Clone, thiserror::Error)]
pub enum PositionError {
    /// There is no such topic or partition.
    #[error("{}", advised(.message, "Correct the topic or the partition number"))]
    Unknown {
        /// The broker's words.
        message: String,
    },
    /// The group's name, the LSN or the metadata is not allowed.
    #[error("{}", advised(.message, "Correct what it names"))]
    Invalid {
        /// The broker's words.
        message: String,
    },
    /// The position is not the expected one.
    #[error("the group's position is {next_lsn}, not the expected one: read it again, then decide anew")]
    Conflict {
        /// What it is; 0 if there is none.
        next_lsn: u64,
    },
    /// Another member has taken over.
    #[error("generation {generation} of the group has committed: stop this member, or take over anew")]
    Fenced {
        /// The generation that committed last.
        generation: u64,
    },
    /// Anything else.
    #[error(transparent)]
    Request(RequestError),
}

from_request_error! { PositionError {
    ErrorCode::UnknownTopic | ErrorCode::UnknownPartition => |error| Self::Unknown { message: error.message },
    ErrorCode::InvalidPosition => |error| Self::Invalid { message: error.message },
    ErrorCode::PositionConflict => |error| Self::Conflict { next_lsn: error.detail },
    ErrorCode::GenerationFenced => |error| Self::Fenced { generation: error.detail },
} }

impl PositionError {
    /// Whether the same call may succeed later.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        matches!(self, Self::Request(error) if error.is_retryable())
    }

    /// What a partition that was asked for its ends said.
    pub(crate) fn of_partition(error: PartitionError) -> Self {
        match error {
            PartitionError::Unknown { message } => Self::Unknown { message },
            PartitionError::Request(error) => Self::Request(error),
            other => Self::Invalid { message: other.to_string() },
        }
    }
}
