//! Partitions: their replicas, and what changes them.

use serde::{Deserialize, Serialize};

/// A partition and the Raft state of each replica.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PartitionView {
    /// The topic.
    pub topic: String,
    /// The partition's number in it.
    pub partition: u32,
    /// Its shard.
    pub shard: u64,
    /// The broker that leads it, if known.
    pub leader: Option<u64>,
    /// The greatest term a replica reported.
    pub term: u64,
    /// All replicas, by broker.
    pub replicas: Vec<ReplicaView>,
}

/// One replica, as it answered, or why it did not.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReplicaView {
    /// Its broker.
    pub broker: u64,
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
    /// Its broker.
    pub broker: u64,
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
    /// Brokers that vote.
    pub voters: Vec<u64>,
    /// Brokers that only follow.
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
    /// The follower's broker.
    pub broker: u64,
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
    /// The broker that shall lead.
    pub to: u64,
}

/// What trim takes and answers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LogStart {
    /// The first LSN that is kept.
    pub log_start: u64,
}
