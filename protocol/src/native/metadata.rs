//! Metadata: which brokers there are, and who leads which partition.
//!
//! Any broker answers, from what it knows; a stale answer costs one
//! [`NotLeader`](crate::ErrorCode::NotLeader) with a hint.

use crate::outcome::Outcome;
use crate::wire::wire_fields;

/// Asks for topics and brokers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MetadataRequest {
    /// The topics; `None` for all.
    pub topics: Option<Vec<String>>,
    /// Whether named topics that are missing are created, if the cluster allows it.
    pub create_missing: bool,
}

wire_fields!(MetadataRequest { topics, create_missing });

/// The cluster as the answering broker sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MetadataResponse {
    /// All brokers, by id.
    pub nodes: Vec<NodeInfo>,
    /// The broker that leads the metadata shard, if known.
    pub controller: Option<u64>,
    /// One answer for each name asked for, in that order; or all topics, by name.
    pub topics: Vec<Outcome<TopicMetadata>>,
}

wire_fields!(MetadataResponse { nodes, controller, topics });

/// A broker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeInfo {
    /// Its id.
    pub id: u64,
    /// Where it speaks this protocol, `host:port`.
    pub address: String,
    /// Where it serves health, metrics and administration over HTTP, `host:port`.
    pub http_address: String,
}

wire_fields!(NodeInfo { id, address, http_address });

/// A topic.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TopicMetadata {
    /// Its name.
    pub name: String,
    /// Its id; never used again, even for a later topic of the same name.
    pub id: u32,
    /// Its partitions, 0 first.
    pub partitions: Vec<PartitionMetadata>,
    /// Its settings.
    pub config: TopicConfig,
}

wire_fields!(TopicMetadata { name, id, partitions, config });

/// A partition and the brokers that hold it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PartitionMetadata {
    /// Its number in the topic, from 0.
    pub partition: u32,
    /// The shard that serves it.
    pub shard: u64,
    /// The node that leads it, if known.
    pub leader: Option<u64>,
    /// The latest term the answering broker knows of.
    pub term: u64,
    /// The nodes that hold a replica; the first is preferred as its leader.
    pub replicas: Vec<u64>,
    /// The nodes that shall hold one instead, while it moves.
    pub moving_to: Option<Vec<u64>>,
}

wire_fields!(PartitionMetadata { partition, shard, leader, term, replicas, moving_to });

/// A topic's settings; the default keeps everything for ever within the broker's limits.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TopicConfig {
    /// Bytes to keep per partition; `None` for no limit.
    pub retention_bytes: Option<u64>,
    /// Milliseconds to keep a record for, by the leader's time; `None` for ever.
    pub retention_ms: Option<u64>,
    /// Longest batch in bytes; `None` for the broker's limit.
    pub max_batch_bytes: Option<u32>,
    /// Skip the walk over each record of a batch. That LSNs are without gaps then depends on the producers.
    pub trust_producers: bool,
}

wire_fields!(TopicConfig { retention_bytes, retention_ms, max_batch_bytes, trust_producers });
