//! Why a load has no figures.

use lockstep_client::{ConnectError, ConsumeError, PartitionError, ProduceError, TopicError};

use crate::plan::PlanError;

/// Why a load has no figures.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// The plan makes no sense.
    #[error("{0}")]
    Plan(#[from] PlanError),
    /// No broker answers.
    #[error("{0}")]
    Connect(#[from] ConnectError),
    /// The topic cannot be made, found or removed.
    #[error("{0}")]
    Topic(#[from] TopicError),
    /// A partition does not say where it ends.
    #[error("{0}")]
    Partition(#[from] PartitionError),
    /// A record was not stored.
    #[error("a record was not stored: {0}")]
    Produce(#[from] ProduceError),
    /// A record could not be read.
    #[error("a record could not be read: {0}")]
    Consume(#[from] ConsumeError),
    /// A promise was broken: the run counts as nothing.
    #[error("violation: {0}; the run counts as nothing")]
    Violation(String),
    /// There is no telling whether a promise was broken.
    #[error(
        "no replica of partition {partition} can be read, so the run cannot be checked and has no figures; start its brokers"
    )]
    Unread {
        /// The partition.
        partition: u32,
    },
    /// Somebody ended it before anything was measured.
    #[error("stopped before anything was measured")]
    Stopped,
    /// The operating system refuses what is needed.
    #[error("{what}: {error}")]
    System {
        /// What was tried.
        what: &'static str,
        /// Its answer.
        error: std::io::Error,
    },
    /// A task of the load died.
    #[error("a task of the load died: {0}")]
    Task(#[from] tokio::task::JoinError),
}

impl LoadError {
    /// For `map_err`: what was tried when the operating system refused.
    pub(crate) fn system<E: Into<std::io::Error>>(what: &'static str) -> impl Fn(E) -> Self {
        move |error| Self::System { what, error: error.into() }
    }
}
