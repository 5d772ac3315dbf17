//! Why a comparison cannot go on.

use std::io;
use std::path::{Path, PathBuf};

/// Why a comparison cannot go on.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PeersError {
    /// It was asked for in a way that makes no sense.
    #[error("{0}")]
    Usage(String),
    /// Something is not to be had on this machine.
    #[error("{0}")]
    Missing(String),
    /// A file cannot be used.
    #[error("{}: {error}", path.display())]
    File {
        /// Which one.
        path: PathBuf,
        /// Why not.
        error: io::Error,
    },
    /// A command failed.
    #[error("{command} failed: {said}")]
    Command {
        /// Which one.
        command: String,
        /// The end of what it said.
        said: String,
    },
    /// The machine's limits cannot be measured.
    #[error("{0}")]
    Limits(#[from] lockstep_load::LoadError),
    /// A case took longer than anything in it may take.
    #[error("{command} was still running after {seconds} seconds")]
    TooLong {
        /// What was run.
        command: String,
        /// How long it had.
        seconds: u64,
    },
    /// A promise was broken.
    #[error("VIOLATION: {0}")]
    Violation(String),
    /// Somebody pressed Ctrl-C, or asked this process to end.
    #[error("interrupted")]
    Interrupted,
}

impl PeersError {
    /// For `map_err`: which file could not be used.
    pub(crate) fn io(path: &Path) -> impl Fn(io::Error) -> Self + '_ {
        move |error| Self::File { path: path.to_owned(), error }
    }
}
