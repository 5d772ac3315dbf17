//! What can go wrong, one type per operation.
//!
//! Each type says with `is_retryable` whether the same call may succeed later; the client has by then spent
//! its own retry budget on it. Each message names the fix.

use std::sync::Arc;

use lockstep_protocol::{BatchError, ErrorCode, ErrorOutcome};

use crate::retry::Failure;

/// Why no broker could be reached.
#[derive(Debug, Clone, thiserror::Error)]
pub enum ConnectError {
    /// No address was given.
    #[error("no broker address was given: name at least one as host:port, several separated by commas")]
    NoAddress,
    /// An address is not one.
    #[error("{address:?} is no broker address: write it as host:port")]
    InvalidAddress {
        /// What was given.
        address: String,
    },
    /// None of the brokers answered.
    #[error(
        "no broker answered at {addresses}: start the cluster (lockstep up), or correct the addresses; last: {last}"
    )]
    Unreachable {
        /// All addresses tried.
        addresses: String,
        /// What the last attempt met.
        last: String,
    },
    /// A broker answered and refused the handshake.
    #[error("the broker at {address} refused the handshake: {error}")]
    Refused {
        /// Which broker.
        address: String,
        /// Its answer.
        error: ErrorOutcome,
    },
}

impl ConnectError {
    /// Whether connecting again may succeed.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::NoAddress | Self::InvalidAddress { .. } => false,
            Self::Unreachable { .. } => true,
            Self::Refused { error, .. } => error.code.retryable(),
        }
    }
}

/// Why a request has no answer: what is common to all operations.
#[derive(Debug, Clone, thiserror::Error)]
pub enum RequestError {
    /// A broker refused it, and repeating it is of no use.
    #[error("{}", refusal(.error))]
    Refused {
        /// The refusal.
        error: ErrorOutcome,
    },
    /// Every attempt failed until the retry budget was spent.
    #[error(
        "gave up after {attempts} attempts: {last}. Check that a majority of the brokers runs, or raise the retry budget"
    )]
    BudgetSpent {
        /// Attempts made.
        attempts: u32,
        /// What the last one met.
        last: String,
    },
    /// It may or may not have been carried out, and repeating it could do harm.
    #[error("the outcome is unknown: {last}. Read back before you repeat it")]
    OutcomeUnknown {
        /// What happened.
        last: String,
    },
    /// A broker's answer is not what the protocol says.
    #[error("a broker's answer makes no sense: {why}. Use a client of the broker's version")]
    Garbled {
        /// What is wrong with it.
        why: String,
    },
}

impl RequestError {
    /// Whether the same request may succeed later.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::Refused { error } => error.code.retryable(),
            Self::BudgetSpent { .. } => true,
            Self::OutcomeUnknown { .. } | Self::Garbled { .. } => false,
        }
    }

    /// The broker's code, if a broker refused it.
    #[must_use]
    pub fn code(&self) -> Option<ErrorCode> {
        match self {
            Self::Refused { error } => Some(error.code),
            _ => None,
        }
    }

    /// The final error after a failure that is not tried again.
    pub(crate) fn gave_up(failure: Failure) -> Self {
        match failure {
            Failure::Garbled(why) => Self::Garbled { why },
            open if open.leaves_outcome_open() => Self::OutcomeUnknown { last: describe(&open) },
            Failure::Refused(error) => Self::Refused { error },
            other => Self::BudgetSpent { attempts: 1, last: describe(&other) },
        }
    }

    /// The final error when the budget is spent.
    pub(crate) fn budget_spent(attempts: u32, last: &Failure) -> Self {
        Self::BudgetSpent { attempts, last: describe(last) }
    }
}

/// A failure in words.
pub(crate) fn describe(failure: &Failure) -> String {
    match failure {
        // Another sentence follows.
        Failure::Refused(error) => error.to_string().trim_end_matches('.').to_owned(),
        Failure::Unreachable => "the broker cannot be reached".to_owned(),
        Failure::ConnectionLost => "the connection was lost before the answer came".to_owned(),
        Failure::TimedOut => "no answer within the time limit".to_owned(),
        Failure::NoRoute => "the partition has no leader at the moment".to_owned(),
        Failure::Garbled(why) => why.clone(),
    }
}

/// A broker's refusal with what to do about it, without a full stop.
fn refusal(error: &ErrorOutcome) -> String {
    format!("{}: {}", error.code.name(), advised(&error.message, error.code.fix()))
}

/// A broker's words and `fix`, unless the words have a second clause: brokers say what to do there. Without a
/// full stop.
fn advised(message: &str, fix: &str) -> String {
    let message = message.trim_end_matches('.');
    if message.contains("; ") || message.contains(". ") {
        message.to_owned()
    } else {
        format!("{message}. {}", fix.trim_end_matches('.'))
    }
}

/// Gives an operation's error the variants every one of them has, from a refusal's code.
macro_rules! from_request_error {
    ($error:ident { $($code:pat => |$outcome:ident| $variant:expr,)* }) => {
        impl From<RequestError> for $error {
            fn from(error: RequestError) -> Self {
                match error {
                    $(RequestError::Refused { error: $outcome } if matches!($outcome.code, $code) => $variant,)*
                    other => Self::Request(other),
                }
            }
        }
    };
}

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

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(code: ErrorCode, message: &str) -> RequestError {
        RequestError::Refused { error: ErrorOutcome::new(code, message) }
    }

    #[test]
    fn a_fix_is_said_once_whether_or_not_the_broker_says_it() {
        let exists = "topic \"a\" exists already; use it, or choose another name";
        assert_eq!(TopicError::from(refused(ErrorCode::TopicExists, exists)).to_string(), exists);
        let bare = TopicError::from(refused(ErrorCode::TopicExists, "topic \"a\" exists already"));
        assert_eq!(
            bare.to_string(),
            "topic \"a\" exists already. Use the existing topic, or choose another name"
        );
        let of_code = RequestError::Refused { error: ErrorCode::UnknownProducer.into() }.to_string();
        assert_eq!(of_code.matches("Ask for a new producer id").count(), 1, "{of_code}");
    }

    #[test]
    fn an_unknown_topic_is_not_called_a_partition() {
        let message = "there is no topic \"a\"; create it, or correct the name";
        let unknown = || refused(ErrorCode::UnknownTopic, message);
        assert_eq!(ProduceError::from(unknown()).to_string(), message);
        assert_eq!(ConsumeError::from(unknown()).to_string(), message);
        assert_eq!(PartitionError::from(unknown()).to_string(), message);
    }

    #[test]
    fn no_sentence_ends_in_two_full_stops() {
        let final_words = ErrorCode::ALL.iter().map(|code| RequestError::Refused { error: (*code).into() });
        let spent = ErrorCode::ALL.iter().map(|code| {
            RequestError::budget_spent(1, &Failure::Refused(ErrorOutcome::new(*code, "No leader.")))
        });
        for error in final_words.chain(spent) {
            let poisoned = ProduceError::Poisoned { cause: Arc::new(ProduceError::from(error)) }.to_string();
            assert!(!poisoned.contains(".. ") && !poisoned.ends_with(".."), "{poisoned}");
        }
    }
}
