//! Why the rig itself could not go on. What brokers do wrong is no error but a finding.

use std::io;
use std::path::{Path, PathBuf};

/// Why a scenario ended before its verdict.
#[derive(Debug, thiserror::Error)]
pub enum RigError {
    /// A file or directory of the rig's own.
    #[error("{path}: {source}; choose another place with --dir")]
    File {
        /// Which.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A program of the machine.
    #[error("`{command}` failed: {said}. Run it by hand to see more")]
    Command {
        /// How it was called.
        command: String,
        /// What it said, or why it did not run.
        said: String,
    },
    /// A broker that ended by itself.
    #[error("broker {node} ended by itself: {said}")]
    BrokerEnded {
        /// Which.
        node: u64,
        /// The end of its log.
        said: String,
    },
    /// A request of the rig's own that the cluster refused for good.
    #[error("the cluster refused {what}: {said}")]
    Refused {
        /// What was asked.
        what: &'static str,
        /// What it said.
        said: String,
    },
    /// Ctrl-C.
    #[error("interrupted")]
    Interrupted,
}

impl RigError {
    /// An error about a file.
    pub fn file(path: &Path) -> impl FnOnce(io::Error) -> Self + use<> {
        let path = path.to_owned();
        move |source| Self::File { path, source }
    }
}
