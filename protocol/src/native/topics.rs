//! Topics: create, alter, delete, list, describe. Any broker passes changes on to the metadata leader.

use crate::native::metadata::{TopicConfig, TopicMetadata};
use crate::wire::wire_fields;

/// Creates a topic.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CreateTopicRequest {
    /// Its name: 1 to 249 of `a-z A-Z 0-9 . _ -`, neither `.` nor `..`.
    pub name: String,
    /// How many partitions, at least 1.
    pub partitions: u32,
    /// Replicas per partition; 0 for the cluster's default.
    pub replication: u32,
    /// Its settings.
    pub config: TopicConfig,
    /// How long to wait for the partitions to have leaders, in milliseconds.
    pub timeout_ms: u32,
}

wire_fields!(CreateTopicRequest { name, partitions, replication, config, timeout_ms });

/// The topic exists, durably.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CreateTopicResponse {
    /// The topic as it was created.
    pub topic: TopicMetadata,
}

wire_fields!(CreateTopicResponse { topic });

/// Deletes a topic and its records.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeleteTopicRequest {
    /// Its name.
    pub name: String,
}

wire_fields!(DeleteTopicRequest { name });

/// The topic is gone, durably; its files go in the background.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeleteTopicResponse {}

wire_fields!(DeleteTopicResponse {});

/// Asks for the names of all topics.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListTopicsRequest {}

wire_fields!(ListTopicsRequest {});

/// All topics, by name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListTopicsResponse {
    /// One line per topic.
    pub topics: Vec<TopicSummary>,
}

wire_fields!(ListTopicsResponse { topics });

/// A topic in a list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TopicSummary {
    /// Its name.
    pub name: String,
    /// How many partitions it has.
    pub partitions: u32,
}

wire_fields!(TopicSummary { name, partitions });

/// Asks for all about one topic.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DescribeTopicRequest {
    /// Its name.
    pub name: String,
}

wire_fields!(DescribeTopicRequest { name });

/// A topic, and how full its partitions are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DescribeTopicResponse {
    /// The topic.
    pub topic: TopicMetadata,
    /// What the answering broker holds of each of its partitions, 0 first; none for partitions it does not
    /// hold.
    pub partitions: Vec<PartitionStatus>,
}

wire_fields!(DescribeTopicResponse { topic, partitions });

/// How full a partition is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PartitionStatus {
    /// Its number in the topic.
    pub partition: u32,
    /// First LSN still kept.
    pub log_start: u64,
    /// Last committed LSN; 0 if nothing was ever written.
    pub high_watermark: u64,
    /// Bytes on this broker's disk.
    pub bytes: u64,
}

wire_fields!(PartitionStatus { partition, log_start, high_watermark, bytes });

/// Changes a topic. What is absent stays as it is; of a setting, a value that is absent within gives it its default.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AlterTopicRequest {
    /// Its name.
    pub name: String,
    /// How many partitions it shall have in all, at least as many as now.
    pub partitions: Option<u32>,
    /// Bytes to keep per partition.
    pub retention_bytes: Option<Option<u64>>,
    /// Milliseconds to keep a record for.
    pub retention_ms: Option<Option<u64>>,
    /// Longest batch in bytes.
    pub max_batch_bytes: Option<Option<u32>>,
    /// Whether the walk over each record of a batch is skipped.
    pub trust_producers: Option<bool>,
    /// How long to wait for new partitions to have leaders, in milliseconds.
    pub timeout_ms: u32,
}

wire_fields!(AlterTopicRequest {
    name,
    partitions,
    retention_bytes,
    retention_ms,
    max_batch_bytes,
    trust_producers,
    timeout_ms
});

/// The topic is changed, durably.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AlterTopicResponse {
    /// The topic as it is now.
    pub topic: TopicMetadata,
}

wire_fields!(AlterTopicResponse { topic });
