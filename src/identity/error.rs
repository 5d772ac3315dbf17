//! Why a data directory was refused.

use std::path::PathBuf;

use super::{ClusterId, DirectoryId};

/// A data directory that cannot be used, or a peer whose directory is not the one known. Each message names
/// the fix.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    /// There is no formatted directory at the path, or a file of it is gone.
    #[error(
        "{path} is not a data directory of this node: {file} is missing. If the node is new, run `lockstep format`. \
         If it had data here, put the disk back: formatting would make it forget its votes"
    )]
    Missing {
        /// The directory.
        path: PathBuf,
        /// The file that should be in it.
        file: &'static str,
    },
    /// The directory is to be formatted, but something is in it.
    #[error("{path} holds {found:?} already; give an empty or new directory")]
    NotEmpty {
        /// The directory.
        path: PathBuf,
        /// One thing in it.
        found: String,
    },
    /// The directory belongs to another node.
    #[error("{path} belongs to node {found}, this is node {expected}; correct `node` or `data`")]
    ForeignNode {
        /// The directory.
        path: PathBuf,
        /// The node it belongs to.
        found: u64,
        /// The node that was started on it.
        expected: u64,
    },
    /// The directory belongs to another cluster.
    #[error("{path} belongs to cluster {found}, not to {expected}; correct `cluster` or `data`")]
    ForeignCluster {
        /// The directory.
        path: PathBuf,
        /// The cluster it belongs to.
        found: ClusterId,
        /// The cluster the configuration names.
        expected: ClusterId,
    },
    /// Another process works on the directory.
    #[error("{path} is in use by another broker; stop that one, or give this one a directory of its own")]
    Locked {
        /// The directory.
        path: PathBuf,
    },
    /// The broker that held the directory is about to end, and has let it go.
    #[error("{path} is not this broker's any more: it is stopping; start it again")]
    Released {
        /// The directory.
        path: PathBuf,
    },
    /// The directory can be read but not written.
    #[error("{path} cannot be written ({source}); make it writable for this user, or correct `data`")]
    ReadOnly {
        /// The directory.
        path: PathBuf,
        /// What the operating system said.
        source: std::io::Error,
    },
    /// A file of the directory does not hold what it should.
    #[error(
        "{path} is damaged: {problem}; restore it as it last was, or let this node join as a new one with a new id"
    )]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        problem: String,
    },
    /// The directory was made by a later version.
    #[error("{path} has format version {found}, this broker knows up to {known}; use a newer broker")]
    Version {
        /// The file.
        path: PathBuf,
        /// The version it has.
        found: u32,
        /// The latest version this broker knows.
        known: u32,
    },
    /// A peer came with another directory than the one known.
    #[error(
        "node {node} came with data directory {found}, but {known} is the one known: its disk was replaced or \
         emptied, and its votes with it. Bring the old directory back, or let it join as a new node with a new id"
    )]
    ForeignDirectory {
        /// The peer.
        node: u64,
        /// The directory id it came with.
        found: DirectoryId,
        /// The directory id it was first seen with.
        known: DirectoryId,
    },
    /// The operating system refused an operation.
    #[error("{path}: {source}; check the disk and the permissions")]
    Io {
        /// The file or directory.
        path: PathBuf,
        /// What the operating system said.
        source: std::io::Error,
    },
}

impl IdentityError {
    /// Sorts an IO error: missing permission and read-only file systems have a fix of their own.
    pub(super) fn from_io(path: &std::path::Path, source: std::io::Error) -> IdentityError {
        let path = path.to_owned();
        match source.kind() {
            std::io::ErrorKind::PermissionDenied | std::io::ErrorKind::ReadOnlyFilesystem => {
                IdentityError::ReadOnly { path, source }
            }
            _ => IdentityError::Io { path, source },
        }
    }
}
