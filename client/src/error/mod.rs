//! What can go wrong, one type per operation.
//!
//! Each type says with `is_retryable` whether the same call may succeed later; the client has by then spent
//! its own retry budget on it. Each message names the fix.

mod control;
mod partitions;
mod records;

use lockstep_protocol::{ErrorCode, ErrorOutcome};

use crate::retry::Failure;

pub use control::{BrokerError, MoveError, TopicError};
pub use partitions::{PartitionError, PositionError};
pub use records::{ConsumeError, ProduceError};

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

use from_request_error;

#[cfg(test)]
mod tests {
    use std::sync::Arc;

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
