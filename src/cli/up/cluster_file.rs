//! `cluster.json`: the cluster as other programs may read it.

use std::io;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::node::LocalNode;
use crate::checked_file::{self, CheckedFileError};
use crate::identity::ClusterId;

/// The file's name in the cluster's directory.
pub(crate) const CLUSTER_FILE: &str = "cluster.json";

/// What the file says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ClusterFile {
    /// The cluster's id.
    pub(crate) cluster: ClusterId,
    /// Whether every data directory has been formatted; until then formatting goes on where it was cut off.
    pub(crate) formed: bool,
    /// The process that runs the cluster, if one does.
    pub(crate) pid: Option<u32>,
    /// The brokers, by id.
    pub(crate) nodes: Vec<NodeEntry>,
}

/// One broker.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct NodeEntry {
    pub(crate) id: u64,
    /// Its process, while there is one.
    pub(crate) pid: Option<u32>,
    pub(crate) native: String,
    pub(crate) peer: String,
    pub(crate) http: String,
    pub(crate) state: NodeState,
    /// How often it was started again since `up` began.
    pub(crate) restarts: u32,
}

/// What a broker is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum NodeState {
    /// Its process runs, but it is not ready.
    Starting,
    /// It serves.
    Ready,
    /// It died, and will be started again.
    Restarting,
    /// It stays down: its data is gone.
    Down,
    /// It was stopped.
    Stopped,
}

impl ClusterFile {
    /// A cluster whose brokers have not been started.
    pub(crate) fn new(cluster: ClusterId, nodes: &[LocalNode]) -> Self {
        let entry = |node: &LocalNode| NodeEntry {
            id: node.id,
            pid: None,
            native: node.native.clone(),
            peer: node.peer.clone(),
            http: node.http.clone(),
            state: NodeState::Stopped,
            restarts: 0,
        };
        Self { cluster, formed: false, pid: None, nodes: nodes.iter().map(entry).collect() }
    }

    /// The first node's first port.
    pub(crate) fn port_base(&self) -> Option<u16> {
        self.nodes.first()?.native.rsplit_once(':')?.1.parse().ok()
    }

    /// Reads the file; `None` if there is none.
    pub(crate) fn read(directory: &Path) -> Result<Option<Self>, CheckedFileError> {
        checked_file::read(directory, CLUSTER_FILE)
    }

    /// Replaces the file whole, durably.
    pub(crate) fn write(&self, directory: &Path) -> io::Result<()> {
        checked_file::write(directory, CLUSTER_FILE, self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_file_reads_back_as_written() {
        let directory = tempfile::tempdir().unwrap();
        assert_eq!(ClusterFile::read(directory.path()).unwrap(), None);
        let nodes = LocalNode::all(directory.path(), 3, 7400).unwrap();
        let mut file = ClusterFile::new(ClusterId([9; 16]), &nodes);
        file.nodes[1].pid = Some(42);
        file.nodes[1].state = NodeState::Ready;
        file.write(directory.path()).unwrap();
        assert_eq!(file.port_base(), Some(7400));
        assert_eq!(ClusterFile::read(directory.path()).unwrap(), Some(file));
    }
}
