//! The cluster and its brokers.

use serde::{Deserialize, Serialize};

/// The cluster at a glance.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClusterView {
    /// The cluster's id, 32 hexadecimal digits.
    pub cluster: String,
    /// The broker that answers.
    pub broker: u64,
    /// The version of its program.
    pub version: String,
    /// The broker that leads the metadata, if known: it takes what creates and deletes.
    pub metadata_leader: Option<u64>,
    /// The term of that leader.
    pub metadata_term: u64,
    /// How many brokers the cluster has.
    pub brokers: usize,
    /// How many topics.
    pub topics: usize,
    /// How many partitions they have together.
    pub partitions: usize,
    /// How many of the partitions here know no leader.
    pub leaderless_partitions: usize,
}

/// One broker.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BrokerView {
    /// Its id.
    pub id: u64,
    /// Where clients connect.
    pub native: String,
    /// Where other brokers connect.
    pub peer: String,
    /// The admin interface.
    pub http: String,
    /// What fails together with it, if that was configured.
    pub rack: Option<String>,
    /// Whether it gives its replicas to others and gets no new ones.
    pub draining: bool,
    /// How many partitions it holds a replica of, or is to hold one.
    pub replicas: usize,
    /// Whether it holds a replica of the metadata that votes, or is to hold one.
    pub metadata: bool,
    /// Whether it answered just now (the broker that answers always does).
    pub reachable: bool,
}
