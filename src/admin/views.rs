//! The JSON of the admin interface. Field names are part of the interface: add, never rename.

use serde::{Deserialize, Serialize};

/// The cluster at a glance.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClusterView {
    /// The cluster's id, 32 hexadecimal digits.
    pub cluster: String,
    /// The node that answers.
    pub node: u64,
    /// The version of its program.
    pub version: String,
    /// The node that leads the metadata, if known: it takes what creates and deletes.
    pub metadata_leader: Option<u64>,
    /// The term of that leader.
    pub metadata_term: u64,
    /// How many nodes the cluster has.
    pub nodes: usize,
    /// How many topics.
    pub topics: usize,
    /// How many partitions they have together.
    pub partitions: usize,
    /// How many of the partitions here know no leader.
    pub leaderless_partitions: usize,
}

/// One node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeView {
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
    /// Whether it answered just now (the node that answers always does).
    pub reachable: bool,
}

/// A topic in the list.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TopicSummary {
    /// Its name.
    pub name: String,
    /// Its number; never used again.
    pub id: u32,
    /// How many partitions it has.
    pub partitions: usize,
}

/// A topic.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TopicView {
    /// Its name.
    pub name: String,
    /// Its number; never used again.
    pub id: u32,
    /// Its settings.
    pub config: TopicSettings,
    /// Its partitions, 0 first.
    pub partitions: Vec<TopicPartition>,
}

/// A partition of a topic, as the answering node knows it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TopicPartition {
    /// Its number in the topic.
    pub partition: u32,
    /// Its shard.
    pub shard: u64,
    /// The nodes that hold a replica.
    pub replicas: Vec<u64>,
    /// The node that leads it, if known.
    pub leader: Option<u64>,
    /// The term of that leader; 0 if this node has no replica.
    pub term: u64,
}

/// A topic's settings; what is not set follows the broker's configuration.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TopicSettings {
    /// Bytes kept per partition.
    pub retention_bytes: Option<u64>,
    /// Milliseconds a record is kept.
    pub retention_ms: Option<u64>,
    /// The largest batch, in bytes.
    pub max_batch_bytes: Option<u32>,
    /// Whether batches are taken without a walk over their records.
    pub trust_producers: bool,
}

/// What POST /v1/topics takes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NewTopic {
    /// Its name: 1 to 249 of a-z, A-Z, 0-9, `.`, `_` and `-`.
    pub name: String,
    /// How many partitions; the broker's default if left out.
    #[serde(default)]
    pub partitions: Option<u32>,
    /// How many replicas each has; the broker's default if left out.
    #[serde(default)]
    pub replication: Option<u32>,
    /// Its settings.
    #[serde(default)]
    pub config: TopicSettings,
}

/// What PATCH /v1/topics/{topic} takes. What is left out stays as it is; a setting that is null gets its default back.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TopicChange {
    /// How many partitions it shall have in all; never fewer than now.
    pub partitions: Option<u32>,
    /// What shall become of its settings.
    pub config: SettingsChange,
}

/// What shall become of a topic's settings.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SettingsChange {
    /// Bytes kept per partition.
    #[serde(deserialize_with = "named")]
    pub retention_bytes: Option<Option<u64>>,
    /// Milliseconds a record is kept.
    #[serde(deserialize_with = "named")]
    pub retention_ms: Option<Option<u64>>,
    /// The largest batch, in bytes.
    #[serde(deserialize_with = "named")]
    pub max_batch_bytes: Option<Option<u32>>,
    /// Whether batches are taken without a walk over their records.
    pub trust_producers: Option<bool>,
}

/// A field that is there, be it null; one that is not is left to its default.
fn named<'de, D, T>(deserializer: D) -> Result<Option<Option<T>>, D::Error>
where
    D: serde::Deserializer<'de>,
    T: Deserialize<'de>,
{
    Option::deserialize(deserializer).map(Some)
}

/// A partition and the Raft state of each replica.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PartitionView {
    /// The topic.
    pub topic: String,
    /// The partition's number in it.
    pub partition: u32,
    /// Its shard.
    pub shard: u64,
    /// The node that leads it, if known.
    pub leader: Option<u64>,
    /// The greatest term a replica reported.
    pub term: u64,
    /// All replicas, by node.
    pub replicas: Vec<ReplicaView>,
}

/// One replica, as it answered, or why it did not.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReplicaView {
    /// Its node.
    pub node: u64,
    /// Entries behind the leader's last, as the leader knows it; if no leader answered, behind the last index any
    /// replica reported. None if neither is known.
    pub lag_entries: Option<u64>,
    /// Its state, if it answered.
    pub state: Option<ReplicaState>,
    /// Why it did not.
    pub unreachable: Option<String>,
}

/// The Raft and log state of one replica, as it says itself.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReplicaState {
    /// Its node.
    pub node: u64,
    /// Its shard.
    pub shard: u64,
    /// `leader`, `follower`, `candidate`, or `none` if it is faulty or failed.
    pub role: String,
    /// `ok`, `recovering`, `full`, `faulty` or `failed`.
    pub health: String,
    /// What is wrong, if anything.
    pub reason: Option<String>,
    /// Its term.
    pub term: u64,
    /// The leader it knows.
    pub leader: Option<u64>,
    /// Nodes that vote.
    pub voters: Vec<u64>,
    /// Nodes that only follow.
    pub learners: Vec<u64>,
    /// First Raft index kept.
    pub first_index: u64,
    /// Last Raft index in its log.
    pub last_index: u64,
    /// Last committed Raft index it knows.
    pub commit_index: u64,
    /// Through this Raft index its syncs have returned.
    pub synced_index: u64,
    /// First LSN kept.
    pub log_start: u64,
    /// Last committed LSN it knows.
    pub high_watermark: u64,
    /// Last LSN in its log, committed or not.
    pub last_lsn: u64,
    /// Bytes of log.
    pub log_bytes: u64,
    /// The fencing epoch.
    pub fence: u64,
    /// Idempotent producers remembered.
    pub producers: usize,
    /// On the leader: how far the others are.
    pub progress: Vec<ReplicaProgressView>,
}

/// How far a follower is, as the leader knows it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReplicaProgressView {
    /// The follower's node.
    pub node: u64,
    /// Through this Raft index it has acknowledged.
    pub matched_index: u64,
    /// The next Raft index it is sent.
    pub next_index: u64,
    /// Entries it is behind.
    pub lag_entries: u64,
    /// `probe`, `replicate` or `snapshot`.
    pub state: String,
    /// Whether it was heard of lately.
    pub recently_active: bool,
}

/// What transfer takes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Transfer {
    /// The node that shall lead.
    pub to: u64,
}

/// What trim takes and answers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LogStart {
    /// The first LSN that is kept.
    pub log_start: u64,
}
