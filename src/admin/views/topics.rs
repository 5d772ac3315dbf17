//! Topics.

use serde::{Deserialize, Serialize};

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

/// A partition of a topic, as the answering broker knows it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TopicPartition {
    /// Its number in the topic.
    pub partition: u32,
    /// Its shard.
    pub shard: u64,
    /// The brokers that hold a replica, the preferred leader first.
    pub replicas: Vec<u64>,
    /// The brokers that shall hold one instead, while it moves.
    pub moving_to: Option<Vec<u64>>,
    /// The broker that leads it, if known.
    pub leader: Option<u64>,
    /// The term of that leader; 0 if this broker has no replica.
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
