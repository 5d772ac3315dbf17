//! Topics as the metadata knows them.

use serde::{Deserialize, Serialize};

use crate::engine::ShardId;

/// A topic's settings; the default keeps everything for ever within the broker's limits.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct TopicSettings {
    /// Bytes to keep per partition; `None` for the broker's default.
    pub retention_bytes: Option<u64>,
    /// Milliseconds to keep a record for, by the leader's time; `None` for the broker's default.
    pub retention_ms: Option<u64>,
    /// Longest batch in bytes; `None` for the broker's limit.
    pub max_batch_bytes: Option<u32>,
    /// Skip the walk over each record of a batch: that LSNs are without gaps then depends on the producers.
    pub trust_producers: bool,
}

/// A topic.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Topic {
    /// Its id; never used again, even for a later topic of the same name.
    pub id: u32,
    /// Its name.
    pub name: String,
    /// Its partitions, 0 first.
    pub partitions: Vec<Placement>,
    /// Its settings.
    pub settings: TopicSettings,
}

/// Where a partition lives.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Placement {
    /// The shard that serves it.
    pub shard: ShardId,
    /// The brokers that hold a replica; the first one is preferred as its leader.
    pub replicas: Vec<u64>,
    /// The brokers that shall hold one instead, while it moves.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub moving_to: Option<Vec<u64>>,
}

impl Placement {
    /// Every broker that holds a replica or is to hold one, those of now first.
    pub fn hosts(&self) -> impl Iterator<Item = u64> {
        let new = self.moving_to.iter().flatten().filter(|broker| !self.replicas.contains(broker));
        self.replicas.iter().chain(new).copied()
    }

    /// Where its replicas are to be in the end.
    pub fn goal(&self) -> &[u64] {
        self.moving_to.as_deref().unwrap_or(&self.replicas)
    }
}
