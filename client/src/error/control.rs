//! Errors about topics, brokers and moves: what the cluster itself is asked for.

use lockstep_protocol::{ErrorCode, ErrorOutcome};

use super::{RequestError, advised, from_request_error, refusal};

/// Why a topic could not be created, deleted, listed or described.
#[derive(Debug, Clone, thiserror::Error)]
pub enum TopicError {
    /// There is a topic of this name already.
    #[error("{}", advised(.message, "Use the existing topic, or choose another name"))]
    Exists {
        /// The broker's words.
        message: String,
    },
    /// There is no topic of this name.
    #[error("{}", advised(.message, "Create it (lockstep topic create), or correct the name"))]
    Unknown {
        /// The broker's words.
        message: String,
    },
    /// The name, the counts or the settings are not allowed.
    #[error("the topic is not allowed: {}", refusal(.error))]
    Invalid {
        /// The refusal.
        error: ErrorOutcome,
    },
    /// Anything else.
    #[error(transparent)]
    Request(RequestError),
}

from_request_error! { TopicError {
    ErrorCode::TopicExists => |error| Self::Exists { message: error.message },
    ErrorCode::UnknownTopic => |error| Self::Unknown { message: error.message },
    ErrorCode::InvalidTopicName
        | ErrorCode::InvalidPartitionCount
        | ErrorCode::InvalidReplicationFactor
        | ErrorCode::InvalidConfig
        | ErrorCode::TooManyTopics => |error| Self::Invalid { error },
} }

impl TopicError {
    /// Whether the same call may succeed later.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        matches!(self, Self::Request(error) if error.is_retryable())
    }
}

/// Why a broker could not join, be found or be removed.
#[derive(Debug, Clone, thiserror::Error)]
pub enum BrokerError {
    /// There is no broker of this id.
    #[error("{}", advised(.message, "Use an id that `lockstep broker list` shows"))]
    Unknown {
        /// The broker's words.
        message: String,
    },
    /// It still holds replicas.
    #[error("{}", advised(.message, "Drain it first, then remove it"))]
    InUse {
        /// The broker's words.
        message: String,
    },
    /// Without it, some partition would have too few brokers for its replicas.
    #[error("{}", advised(.message, "Add a broker first"))]
    TooFewBrokers {
        /// The broker's words.
        message: String,
    },
    /// Its directory, id or address belongs to another.
    #[error("{}", advised(.message, "Give each broker an empty directory and addresses of its own"))]
    Conflict {
        /// The broker's words.
        message: String,
    },
    /// Anything else.
    #[error(transparent)]
    Request(RequestError),
}

from_request_error! { BrokerError {
    ErrorCode::UnknownBroker => |error| Self::Unknown { message: error.message },
    ErrorCode::BrokerInUse => |error| Self::InUse { message: error.message },
    ErrorCode::TooFewBrokers => |error| Self::TooFewBrokers { message: error.message },
    ErrorCode::BrokerConflict => |error| Self::Conflict { message: error.message },
} }

impl BrokerError {
    /// Whether the same call may succeed later.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        matches!(self, Self::Request(error) if error.is_retryable())
    }
}

/// Why replicas could not be moved.
#[derive(Debug, Clone, thiserror::Error)]
pub enum MoveError {
    /// There is no such topic, partition or broker.
    #[error("{}", advised(.message, "Correct the name or the number"))]
    Unknown {
        /// The broker's words.
        message: String,
    },
    /// These brokers cannot hold the replicas.
    #[error("{}", advised(.message, "Name each broker once, at least one, and none that is draining"))]
    InvalidReplicas {
        /// The broker's words.
        message: String,
    },
    /// The partition moves elsewhere already.
    #[error("{}", advised(.message, "Wait until it has moved, or cancel that move"))]
    UnderWay {
        /// The broker's words.
        message: String,
    },
    /// Anything else.
    #[error(transparent)]
    Request(RequestError),
}

from_request_error! { MoveError {
    ErrorCode::UnknownTopic
        | ErrorCode::UnknownPartition
        | ErrorCode::UnknownBroker => |error| Self::Unknown { message: error.message },
    ErrorCode::InvalidReplicas => |error| Self::InvalidReplicas { message: error.message },
    ErrorCode::MovingAlready => |error| Self::UnderWay { message: error.message },
} }

impl MoveError {
    /// Whether the same call may succeed later.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        matches!(self, Self::Request(error) if error.is_retryable())
    }
}
