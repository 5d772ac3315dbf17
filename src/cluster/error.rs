//! Why a change of the metadata was not made.

use super::Refusal;
use crate::engine::AppendError;

/// Why a change of the metadata was not made, or why it cannot be said whether it was.
#[derive(Clone, Debug, thiserror::Error)]
pub enum MetadataError {
    /// Another broker decides; nothing was changed.
    #[error("this broker does not lead the metadata; {}", match leader { Some(leader) => format!("broker {leader} does"), None => "no leader is known: try again shortly".into() })]
    NotLeader {
        /// Who does, if known.
        leader: Option<u64>,
        /// The term this is about.
        term: u64,
    },
    /// The metadata does not allow it; nothing was changed.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// Leadership was lost before the commit was known.
    #[error(
        "leadership changed before the commit was known; look whether the change was made, then try again"
    )]
    OutcomeUnknown,
    /// The time was up before the outcome was known.
    #[error("the time was up before the outcome was known; look whether the change was made, then try again")]
    TimedOut,
    /// The metadata log takes nothing here.
    #[error("the metadata log: {0}")]
    Log(AppendError),
    /// The broker that leads the metadata was asked and could not do it.
    #[error("broker {broker} was asked to change the metadata and could not: {why}")]
    Elsewhere {
        /// The broker.
        broker: u64,
        /// Why, for people.
        why: String,
    },
    /// This broker does not, or not yet, keep up with the metadata log.
    #[error("this broker is not in step with the metadata log: {0}")]
    Stuck(String),
}

impl From<AppendError> for MetadataError {
    fn from(error: AppendError) -> MetadataError {
        match error {
            AppendError::NotLeader { leader, term } => MetadataError::NotLeader { leader, term },
            AppendError::OutcomeUnknown => MetadataError::OutcomeUnknown,
            other => MetadataError::Log(other),
        }
    }
}
