//! Why a broker did not start.

use crate::cluster::ClusterError;
use crate::config::ConfigError;
use crate::identity::IdentityError;

/// Why a broker did not start. Each message names the fix.
#[derive(Debug, thiserror::Error)]
pub enum ServerError {
    /// The configuration cannot be used.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The data directory cannot be used.
    #[error(transparent)]
    Directory(#[from] IdentityError),
    /// An address cannot be listened on.
    #[error(
        "cannot listen on {address} (listen.{listener}): {source}; stop whoever has the port, or set \
         listen.{listener} to another one"
    )]
    Listen {
        /// Which of the listeners.
        listener: &'static str,
        /// The address.
        address: String,
        /// What the operating system said.
        source: std::io::Error,
    },
    /// The cluster cannot be joined.
    #[error("cannot join the cluster of {seeds}: {why}")]
    Join {
        /// The brokers that were asked.
        seeds: String,
        /// Why not, and what to do.
        why: String,
    },
    /// The metadata log cannot be opened.
    #[error(transparent)]
    Cluster(#[from] ClusterError),
    /// The operating system refused what every process needs.
    #[error("cannot start threads or handle signals: {0}; raise the limits of this user")]
    Runtime(std::io::Error),
}
