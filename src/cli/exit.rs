//! How a command fails: a message that names the fix, and an exit code that scripts can trust.

use std::io;
use std::process::ExitCode;

use lockstep_client::{
    BrokerError, ConnectError, ConsumeError, MoveError, PartitionError, PositionError, ProduceError,
    RequestError, TopicError,
};

/// Why a command did not do what it was asked for.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CliError {
    /// It could not be done.
    #[error("{0}")]
    Failed(String),
    /// It was asked for in a way that makes no sense.
    #[error("{0}")]
    Usage(String),
    /// It was done in part.
    #[error("{0}")]
    Partly(String),
    /// Standard input or output failed.
    #[error("standard input or output: {0}")]
    Io(#[from] io::Error),
}

impl CliError {
    /// The process's exit code.
    pub(crate) fn code(&self) -> ExitCode {
        match self {
            Self::Failed(_) | Self::Io(_) => ExitCode::from(1),
            Self::Usage(_) => ExitCode::from(2),
            Self::Partly(_) => ExitCode::from(3),
        }
    }

    /// Whether the reader of our output has simply gone.
    pub(crate) fn is_broken_pipe(&self) -> bool {
        matches!(self, Self::Io(error) if error.kind() == io::ErrorKind::BrokenPipe)
    }

    /// Says it on standard error.
    pub(crate) fn report(&self, json: bool) {
        if json {
            eprintln!("{}", serde_json::json!({ "error": self.to_string() }));
        } else {
            eprintln!("lockstep: {self}");
        }
    }
}

macro_rules! failed_from {
    ($($error:ty),+ $(,)?) => {$(
        impl From<$error> for CliError {
            fn from(error: $error) -> Self {
                Self::Failed(error.to_string())
            }
        }
    )+};
}

failed_from!(
    BrokerError,
    ConnectError,
    ConsumeError,
    MoveError,
    PartitionError,
    PositionError,
    ProduceError,
    RequestError,
    TopicError,
    crate::identity::IdentityError,
);
